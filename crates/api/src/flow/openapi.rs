//! The document that describes this surface, made from the code that serves it.

use std::sync::LazyLock;

use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::header::CACHE_CONTROL;
use axum::response::Response;
use serde_json::{Value, json};
use utoipa::OpenApi;

use super::answer::Problem;
use super::{catalogue, files, hooks, runs, templates, triggers, workflows};
use crate::http;

#[derive(OpenApi)]
#[openapi(
    info(title = "Orrery Flow", description = "Workflows: build them, run them, read what they gave."),
    components(schemas(Problem)),
    paths(
        runs::start,
        runs::get,
        runs::list,
        runs::batch,
        runs::cancel,
        workflows::list,
        workflows::get,
        workflows::create,
        workflows::update,
        workflows::delete,
        workflows::quick_create,
        workflows::add_node,
        workflows::update_node,
        workflows::delete_node,
        workflows::connect,
        workflows::disconnect,
        templates::system,
        catalogue::estimate_workflow,
        catalogue::run,
        catalogue::run_get,
        catalogue::estimate_nodes,
        catalogue::list,
        catalogue::search,
        catalogue::schema,
        catalogue::pricing,
        catalogue::catalog,
        catalogue::balance,
        files::upload,
        files::library,
        files::media,
        files::content,
        hooks::secret,
        hooks::deliveries,
        hooks::replay,
        triggers::list,
        triggers::create,
        triggers::update,
        triggers::rotate,
        triggers::delete,
        triggers::call
    )
)]
struct Document;

static DOCUMENT: LazyLock<Value> = LazyLock::new(|| {
    let mut document = serde_json::to_value(Document::openapi()).unwrap_or_default();
    document["info"]["version"] = env!("CARGO_PKG_VERSION").into();
    document["servers"] = json!([{"url": "/api"}]);
    document["components"]["securitySchemes"] =
        json!({"key": {"type": "http", "scheme": "bearer", "description": "A key that begins with gx_"}});
    document["security"] = json!([{"key": []}]);
    document["components"]["headers"] = headers();
    document["components"]["parameters"] = json!({"IdempotencyKey": {
        "name": "Idempotency-Key",
        "in": "header",
        "required": false,
        "description": "1 to 255 visible ASCII characters that name this request, such as a UUID. Sent again with the same content within a \
                        day, it is not executed again: the first answer comes with the header Idempotency-Replayed. With other content it is refused.",
        "schema": {"type": "string"},
    }});
    for operations in document["paths"].as_object_mut().into_iter().flat_map(|paths| paths.values_mut()) {
        for (method, operation) in operations.as_object_mut().into_iter().flatten() {
            for (status, words) in problems(method) {
                let content = json!({"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}});
                operation["responses"][status] = json!({"description": words, "content": content});
            }
            describe_headers(method, operation);
        }
    }
    document
});

/// Headers of every answer, with their meaning.
const HEADERS: [(&str, &str, &str); 5] = [
    ("X-RateLimit-Limit", "integer", "Requests of the tightest window of the key"),
    ("X-RateLimit-Remaining", "integer", "Requests that are left in it"),
    ("X-RateLimit-Reset", "integer", "When it ends, in milliseconds since 1970; the GraphQL APIs of this server say seconds"),
    ("RateLimit-Policy", "string", "Every window: its name, its requests (q), its seconds (w), as the IETF's draft has it"),
    ("RateLimit", "string", "For every window what is left (r) and in how many seconds it ends (t)"),
];
/// That of the answer beyond a limit.
const RETRY_AFTER: &str = "Retry-After";

fn headers() -> Value {
    let wait = (RETRY_AFTER, "integer", "Whole seconds after which a request is accepted again");
    let one = |(name, kind, words): (&str, &str, &str)| (name.to_owned(), json!({"description": words, "schema": {"type": kind}}));
    Value::Object(HEADERS.into_iter().chain([wait]).map(one).collect())
}

/// What each answer of an operation carries, and what its request may.
fn describe_headers(method: &str, operation: &mut Value) {
    let named = |name: &str| json!({"$ref": format!("#/components/headers/{name}")});
    for (status, response) in operation["responses"].as_object_mut().into_iter().flatten() {
        for (name, ..) in HEADERS {
            response["headers"][name] = named(name);
        }
        if status == "429" {
            response["headers"][RETRY_AFTER] = named(RETRY_AFTER);
        }
    }
    let anybodys = operation["security"] == json!([{}]);
    if method == "post" && !anybodys && operation["requestBody"].is_object() {
        let key = json!({"$ref": "#/components/parameters/IdempotencyKey"});
        match operation["parameters"].as_array_mut() {
            Some(parameters) => parameters.push(key),
            None => operation["parameters"] = json!([key]),
        }
    }
}

/// What any request may be refused with.
fn problems(method: &str) -> Vec<(&'static str, &'static str)> {
    let mut all = vec![
        ("400", "Invalid input"),
        ("401", "The key is wrong, expired or revoked"),
        ("403", "The key does not reach this, or the credits are used up"),
        ("404", "Not found"),
        ("429", "Too many requests"),
        ("503", "Try again in a moment"),
        ("504", "It took too long"),
    ];
    if method != "get" {
        all.push(("409", "The present state does not allow it"));
        all.push(("413", "Too large"));
    }
    all
}

/// All of it.
pub(super) fn document() -> &'static Value {
    &DOCUMENT
}

/// The schemas by their names.
pub(super) fn schemas() -> &'static Value {
    &DOCUMENT["components"]["schemas"]
}

/// The document, as a text for `surface/`.
#[must_use]
pub fn openapi() -> String {
    serde_json::to_string_pretty(&*DOCUMENT).unwrap_or_default() + "\n"
}

/// The document.
pub(super) async fn serve() -> Response {
    let mut response = http::json(StatusCode::OK, &DOCUMENT);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
    response
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// A path without the names of its parts, which differ between router and document.
    fn shape(path: &str) -> String {
        path.split('/').map(|part| if part.starts_with('{') { "{}" } else { part }).collect::<Vec<_>>().join("/")
    }

    #[test]
    fn what_is_routed_is_described() {
        // A router cannot be asked for its routes.
        let routes = include_str!("mod.rs").lines().filter_map(|line| line.trim().strip_prefix(".route(\"")?.split_once("\", "));
        let all = ["get", "post", "patch", "delete"];
        let mut routed: BTreeSet<(String, &str)> = BTreeSet::new();
        for (path, handlers) in routes {
            let methods: Vec<&str> = all.into_iter().filter(|method| handlers.contains(&format!("{method}("))).collect();
            assert!(!methods.is_empty(), "{path}: {handlers}");
            routed.extend(methods.into_iter().map(|method| (shape(&format!("/v1{path}")), method)));
        }
        // The document does not describe itself.
        assert!(routed.remove(&("/v1/openapi.json".to_owned(), "get")));
        let described: BTreeSet<(String, &str)> = document()["paths"]
            .as_object()
            .into_iter()
            .flatten()
            .flat_map(|(path, operations)| {
                operations.as_object().into_iter().flatten().map(move |(method, _)| (shape(path), method.as_str()))
            })
            .collect();
        assert_eq!(routed, described);
    }
}
