//! The floor of the benchmarks: an axum handler that takes a JSON body by POST and answers a constant.

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::post;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let port = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(0u16);
    let answer = |body: axum::body::Bytes| async move {
        let parsed: Result<serde_json::Value, _> = serde_json::from_slice(&body);
        let text = if parsed.is_ok() { r#"{"data":{"me":{"id":"1","name":"Admin","email":"admin@localhost"}}}"# } else { "{}" };
        ([(CONTENT_TYPE, "application/json")], text)
    };
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.expect("the port is free");
    axum::serve(listener, Router::new().route("/graphql/v2", post(answer))).await.expect("the server runs until it is killed");
}
