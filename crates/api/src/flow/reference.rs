//! `/docs/api`: the document as a page, without scripts and without anything from elsewhere.

use std::fmt::Write as _;
use std::sync::LazyLock;

use axum::http::StatusCode;
use axum::response::Response;
use serde_json::Value;

use super::openapi::document;
use crate::http::{Html, Page, escape};

static BODY: LazyLock<String> = LazyLock::new(|| render(document()));

/// The reference page.
pub(crate) async fn page() -> Response {
    Page::new("Flow API", Html(BODY.clone())).answer(StatusCode::OK)
}

fn render(document: &Value) -> String {
    let mut out = String::from(
        "<p>Send <code>Authorization: Bearer gx_…</code>. The paths are served below <code>/api</code> and at the root; the same tools are \
         at <code>/api/mcp</code> for assistants. There are no <code>search_tools</code>, <code>execute_tool</code> and \
         <code>get_generations</code>: use <code>list_models</code>, <code>run_model</code> and <code>GET /v1/media-library</code>. \
         <a href=\"/api/v1/openapi.json\">OpenAPI document</a></p>\
         <p>Every answer says how the key stands: <code>X-RateLimit-Limit</code>, <code>X-RateLimit-Remaining</code> and \
         <code>X-RateLimit-Reset</code> (milliseconds since 1970) of its tightest window, <code>RateLimit-Policy</code> and \
         <code>RateLimit</code> of all. Beyond a limit the status is 429, and <code>Retry-After</code> says for how many seconds. A POST \
         with an <code>Idempotency-Key</code> can be sent again for a day without being executed twice.</p>",
    );
    let operations = document["paths"].as_object().into_iter().flatten();
    for (path, methods) in operations {
        for (method, operation) in methods.as_object().into_iter().flatten() {
            // Writing to a text cannot fail.
            let _ = write!(out, "<section><h2><code>{} {}</code></h2>", escape(method.to_uppercase()), escape(path));
            let about = operation["description"].as_str().or_else(|| operation["summary"].as_str()).unwrap_or_default();
            let _ = write!(out, "<p>{}</p>", escape(about));
            let schemas = &document["components"]["schemas"];
            let query: Vec<&Value> = operation["parameters"].as_array().into_iter().flatten().filter(|one| one["in"] == "query").collect();
            if !query.is_empty() {
                out.push_str("<p>Query</p><dl>");
                query.iter().for_each(|one| entry(&mut out, one["name"].as_str().unwrap_or_default(), one));
                out.push_str("</dl>");
            }
            fields(&mut out, "Body", &operation["requestBody"]["content"]["application/json"]["schema"], schemas);
            for status in ["200", "202"] {
                fields(&mut out, "Answer", &operation["responses"][status]["content"]["application/json"]["schema"], schemas);
            }
            out.push_str("</section>");
        }
    }
    out
}

/// The fields of an object's schema.
fn fields(out: &mut String, title: &str, schema: &Value, schemas: &Value) {
    let named = schema["$ref"].as_str().or_else(|| schema["items"]["$ref"].as_str()).and_then(|path| path.rsplit('/').next());
    let Some(properties) = named.and_then(|name| schemas[name]["properties"].as_object()) else { return };
    let _ = write!(out, "<p>{}</p><dl>", escape(title));
    properties.iter().for_each(|(name, field)| entry(out, name, field));
    out.push_str("</dl>");
}

fn entry(out: &mut String, name: &str, field: &Value) {
    let kind = match &field["type"] {
        Value::String(kind) => kind.clone(),
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" or "),
        _ => field["schema"]["type"].as_str().unwrap_or_default().to_owned(),
    };
    let about = field["description"].as_str().unwrap_or_default();
    let _ = write!(out, "<dt><code>{}</code> {}</dt><dd>{}</dd>", escape(name), escape(kind), escape(about));
}
