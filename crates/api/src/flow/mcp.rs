//! The same as tools for assistants: MCP over Streamable HTTP, without sessions (`contracts/flow.md` 3).

mod platform;
mod results;
mod tools;

use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::header::ORIGIN;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use ops::OpCtx;
use rmcp::ErrorData;
use rmcp::handler::server::ServerHandler;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, Implementation, ListToolsResult, PaginatedRequestParams,
    ServerCapabilities, ServerConfig, Tool,
};
use rmcp::service::{RequestContext, RoleServer};
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use serde_json::{Map, Value, json};

use super::answer::{Caller, Refused};
use super::openapi;
use crate::http::{Shared, require_same_origin};

/// The largest request.
const BODY: usize = 8 << 20;

/// The tools, asked by whom the request's key stands for.
#[derive(Clone)]
pub(crate) struct Tools;

/// The service behind `/api/mcp`. Every request stands for itself: `tools/call` needs no `initialize`.
pub(crate) fn service() -> StreamableHttpService<Tools, NeverSessionManager> {
    // `admit` checks origins and keys; the host is whatever a proxy in front of the server calls it.
    let config = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(false)
        .with_json_response(true)
        .with_max_request_body_bytes(BODY)
        .disable_allowed_hosts();
    StreamableHttpService::new(|| Ok(Tools), Arc::new(NeverSessionManager::default()), config)
}

/// Lets in whoever brings a key, and remembers who it is. A page of another origin is refused whatever it brings, as MCP asks of servers:
/// assistants that are no pages name no origin.
pub(crate) async fn admit(State(state): State<Shared>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    if parts.headers.contains_key(ORIGIN)
        && let Err(foreign) = require_same_origin(&state, &parts.headers)
    {
        return Refused::from(foreign).into_response();
    }
    match Caller::from_request_parts(&mut parts, &state).await {
        Ok(Caller(ctx)) => {
            parts.extensions.insert(ctx);
            next.run(Request::from_parts(parts, body)).await
        }
        Err(refused) => refused.into_response(),
    }
}

/// What a tool does, and what it takes: name, type as [`schema_of`] knows it, whether it must be there, meaning.
pub(super) struct ToolSpec {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    pub(super) takes: &'static [(&'static str, &'static str, bool, &'static str)],
}

/// An argument's type as JSON Schema. An array says what it holds: clients that hand tools on to OpenAI or Gemini refuse one that does not.
fn schema_of(kind: &str, about: &str) -> Value {
    let mut schema = match kind {
        "text[]" => json!({"type": "array", "items": {"type": "string"}}),
        "field[]" => fields(json!({})),
        "changed_field[]" => fields(json!({"id": {"type": "string", "description": "Of a field that stays, so that its edges stay"}})),
        kind => json!({"type": kind}),
    };
    schema["description"] = about.into();
    schema
}

/// Fields of a Request node, with further properties of each.
fn fields(mut properties: Value) -> Value {
    properties["name"] = json!({"type": "string", "description": "What people call it"});
    properties["type"] = json!({"type": "string", "enum": openapi::schemas()["FieldType"]["enum"]});
    properties["value"] = json!({"description": "What counts when nothing is given"});
    json!({"type": "array", "items": {"type": "object", "properties": properties, "required": ["name", "type"]}})
}

impl ToolSpec {
    fn tool(&self) -> Tool {
        let field =
            |(name, kind, _, about): &(&'static str, &'static str, bool, &'static str)| ((*name).to_owned(), schema_of(kind, about));
        let required: Vec<&str> = self.takes.iter().filter(|(_, _, required, _)| *required).map(|(name, ..)| *name).collect();
        let properties: Map<String, Value> = self.takes.iter().map(field).collect();
        let schema = [
            ("type".to_owned(), json!("object")),
            ("properties".to_owned(), Value::Object(properties)),
            ("required".to_owned(), json!(required)),
        ];
        Tool::new(self.name, self.about, Arc::new(Map::from_iter(schema)))
    }
}

fn all() -> impl Iterator<Item = &'static ToolSpec> {
    tools::TOOLS.iter().chain(&platform::TOOLS)
}

impl ServerHandler for Tools {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new("orrery", env!("CARGO_PKG_VERSION")))
            .with_instructions(
                "Build workflows with create_workflow, add_node and connect_nodes; run them with start_run and wait with get_run_status.",
            )
    }

    async fn list_tools(&self, _: Option<PaginatedRequestParams>, _: RequestContext<RoleServer>) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(all().map(ToolSpec::tool).collect()))
    }

    async fn call_tool(&self, request: CallToolRequestParams, context: RequestContext<RoleServer>) -> Result<CallToolResponse, ErrorData> {
        let parts = context.extensions.get::<http::request::Parts>();
        let ctx = parts.and_then(|parts| parts.extensions.get::<OpCtx>()).cloned();
        let ctx = ctx.ok_or_else(|| ErrorData::internal_error("the request came without its caller", None))?;
        let Some(spec) = all().find(|spec| spec.name == request.name) else {
            return Err(ErrorData::invalid_params(format!("There is no tool {:?}: see tools/list", request.name), None));
        };
        Ok(call(&ctx, spec, request.arguments.unwrap_or_default()).await.into())
    }
}

/// Calls a tool. What it refuses is for the assistant to read.
async fn call(ctx: &OpCtx, spec: &ToolSpec, given: Map<String, Value>) -> CallToolResult {
    let missing = spec.takes.iter().find(|(name, _, required, _)| *required && given.get(*name).is_none_or(Value::is_null));
    if let Some((name, kind, _, about)) = missing {
        return CallToolResult::error(vec![ContentBlock::text(format!("{name} is missing ({kind}): {about}"))]);
    }
    if let Some(name) = given.keys().find(|name| spec.takes.iter().all(|(known, ..)| known != name)) {
        let known: Vec<&str> = spec.takes.iter().map(|(name, ..)| *name).collect();
        return CallToolResult::error(vec![ContentBlock::text(format!(
            "{name:?} is no argument of {}: it takes {}",
            spec.name,
            known.join(", ")
        ))]);
    }
    let platform = platform::TOOLS.iter().any(|known| known.name == spec.name);
    let outcome = if platform { platform::call(ctx, spec.name, given).await } else { tools::call(ctx, spec.name, given).await };
    match outcome {
        Ok(value) => {
            let pretty = serde_json::to_string_pretty(&value).unwrap_or_default();
            // Clients look for this line.
            let line = value.get("runId").and_then(Value::as_str).map(|id| format!("Run ID: {id}\n"));
            let mut result = CallToolResult::success(vec![ContentBlock::text(line.unwrap_or_default() + &pretty)]);
            result.structured_content = Some(if value.is_object() { value } else { json!({"items": value}) });
            result
        }
        Err(refused) => {
            refused.log(&ctx.request_id);
            CallToolResult::error(vec![ContentBlock::text(refused.text())])
        }
    }
}
