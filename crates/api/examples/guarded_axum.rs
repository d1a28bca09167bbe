//! The handler of `bare_axum` behind what guards an API: the key is looked up and the request is counted. The difference between the two
//! is the price of authentication and limits.
//!
//! `guarded_axum PORT FOLDER KEYS ASKING`: makes KEYS keys in a store in FOLDER, and writes the first ASKING of them, a line each, to the
//! file `tokens` there.

use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{FromRequest, Request, State};
use axum::http::StatusCode;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use domain::Timestamp;
use domain::key::KeyKind;
use ops::auth::{Presented, Surface, authenticate};
use ops::limit::{LimitRules, Limiter};
use ops::{Ops, Settings};
use secrecy::{ExposeSecret, SecretString};
use store::{MasterKey, Store, StoreConfig};
use telemetry::{Telemetry, TelemetryConfig};

/// High enough for any machine, so that requests are counted and none is refused.
const PLENTY: &str = "1000000000/second,1000000000/minute,1000000000/hour,1000000000/day";

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let [port, folder, keys, asking] = &std::env::args().skip(1).collect::<Vec<_>>()[..] else {
        panic!("guarded_axum PORT FOLDER KEYS ASKING");
    };
    let number = |text: &str| text.parse::<usize>().expect("a number");
    let ops = open(Path::new(folder)).await;
    make_keys(&ops, Path::new(folder), number(keys), number(asking)).await;
    let listener = tokio::net::TcpListener::bind(format!("127.0.0.1:{port}")).await.expect("the port is free");
    let router = Router::new().route("/graphql/v2", post(answer)).with_state(ops);
    axum::serve(listener, router).await.expect("the server runs until it is killed");
}

async fn open(folder: &Path) -> Arc<Ops> {
    let url = format!("sqlite://{}", folder.join("orrery.db").display());
    let store = Store::open(StoreConfig { url, master_key: MasterKey::from_bytes([7; 32]) }).await.expect("the store opens");
    let telemetry = TelemetryConfig { dir: folder.join("telemetry"), retain_days: 1, retain_bytes: 1 << 20 };
    let settings = Settings::local(folder);
    let mut ops = Ops::new(store, Telemetry::open(telemetry).expect("the logs open"), settings);
    let plenty = PLENTY.parse().expect("limits");
    ops.limits = Limiter::new(LimitRules { free: plenty, hobby: plenty, professional: plenty, operator: plenty, ..LimitRules::default() });
    Arc::new(ops)
}

async fn make_keys(ops: &Arc<Ops>, folder: &Path, keys: usize, asking: usize) {
    let now = Timestamp::now();
    let user = ops::first_run::user_create(&ops.store, "bench@localhost", "Bench", true, None, now).await.expect("a user").id;
    let mut tokens = String::new();
    for first in (0..keys).step_by(1000) {
        let mut made = tokio::task::JoinSet::new();
        for at in first..keys.min(first + 1000) {
            let (key, token, hash) = ops::new_key(KeyKind::Account, user, format!("key {at}"), now);
            if at < asking {
                tokens.push_str(token.expose_secret());
                tokens.push('\n');
            }
            let ops = ops.clone();
            made.spawn(async move { ops.store.api_key_create(key, hash).await });
        }
        for inserted in made.join_all().await {
            inserted.expect("a key");
        }
    }
    std::fs::write(folder.join("tokens"), tokens).expect("the file is written");
}

async fn answer(State(ops): State<Arc<Ops>>, request: Request) -> Response {
    let token = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let presented = token.map_or(Presented::None, |token| Presented::Bearer(SecretString::from(token)));
    let now = Timestamp::now();
    let Ok(principal) = authenticate(&ops, Surface::Railway, presented, now, Some("127.0.0.1")).await else {
        return StatusCode::UNAUTHORIZED.into_response();
    };
    match ops.limits.take(&ops.store, &principal, now).await {
        Ok(Some(state)) if !state.refused => {}
        _ => return StatusCode::TOO_MANY_REQUESTS.into_response(),
    }
    let Ok(body) = Bytes::from_request(request, &()).await else { return StatusCode::BAD_REQUEST.into_response() };
    let parsed: Result<serde_json::Value, _> = serde_json::from_slice(&body);
    let text = if parsed.is_ok() { r#"{"data":{"me":{"id":"1","name":"Admin","email":"admin@localhost"}}}"# } else { "{}" };
    ([(CONTENT_TYPE, "application/json")], text).into_response()
}
