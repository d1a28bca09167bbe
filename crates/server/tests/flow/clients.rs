//! Programs that other people wrote against the API as it is published: a fuzzer of OpenAPI documents, and the reference client of MCP.

use std::path::PathBuf;
use std::process::Command;

use super::*;

/// A Python with one package of PyPI, made once into a cache outside the checkout. Each test has its own.
fn python(package: &str) -> PathBuf {
    let cache = std::env::var_os("ORRERY_CACHE").map(PathBuf::from).or_else(|| Some(std::env::home_dir()?.join(".cache/orrery")));
    let folder = cache.unwrap_or_default().join("python").join(package);
    let complete = folder.join("complete");
    if !complete.exists() {
        // Absent, or cut off in the middle.
        let _ = std::fs::remove_dir_all(&folder);
        run(Command::new("python3").args(["-m", "venv"]).arg(&folder));
        run(Command::new(folder.join("bin/python")).args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", package]));
        std::fs::write(complete, "").unwrap();
    }
    folder.join("bin/python")
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
}

/// What every answer must be.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,\
                      negative_data_rejection,ignored_auth,use_after_free";

/// Schemathesis sends what the document allows and what it does not. No answer is a fault of the server's, and each is one that the document
/// describes.
#[test]
fn no_answer_lies_outside_of_the_document() {
    let python = python("schemathesis==4.32.5");
    let server = Server::start_unlimited();
    let address = format!("http://127.0.0.1:{}/api", server.api);
    let mut command = Command::new(python);
    command
        .args(["-m", "schemathesis.cli", "run", &format!("{address}/v1/openapi.json"), "--url", &address])
        .args(["--header", &format!("Authorization: Bearer {}", server.token)])
        .args(["--checks", CHECKS])
        .args(["--phases", "coverage,fuzzing,stateful", "--max-examples", "12", "--seed", "1", "--no-shrink"])
        .args(["--suppress-health-check", "all", "--warnings", "off", "--request-timeout", "40", "--workers", "2", "--no-color"])
        .current_dir(server.dir.path());
    let output = harness::finish_within(command, "schemathesis", Duration::from_secs(1_000));
    assert_eq!(output.status, 0, "{}{}", output.stdout, output.stderr);
    // The server lives.
    good(&server, "GET", "/v1/credits/balance", Value::Null);
}

/// Builds, runs, polls and reads, as the contract's typical client does, through the reference client of MCP.
const CLIENT: &str = r#"
import asyncio, json, sys
from mcp import Client
from mcp.client.streamable_http import create_mcp_http_client, streamable_http_client

URL, TOKEN = sys.argv[1:]

async def main():
    headers = {"Authorization": "Bearer " + TOKEN}
    async with create_mcp_http_client(headers=headers) as http:
        async with Client(streamable_http_client(URL, http_client=http)) as client:
            names = {tool.name for tool in (await client.list_tools()).tools}
            async def call(tool, /, **arguments):
                assert tool in names, tool
                result = await client.call_tool(tool, arguments)
                assert not result.is_error, (tool, result)
                return result.structured_content
            made = await call("create_workflow", name="greet", requestFields=[{"name": "who", "type": "text", "value": ""}])
            node = await call("add_node", workflowId=made["workflowId"], nodeType="text_template", inputs={"template": "Hello {{ who }}"})
            for source, out, target, into in [
                (made["requestNodeId"], "field_who", node["nodeId"], "in:who"),
                (node["nodeId"], "out:result", made["responseNodeId"], "result"),
            ]:
                await call("connect_nodes", workflowId=made["workflowId"], sourceNodeId=source, sourceHandle=out, targetNodeId=target, targetHandle=into)
            started = await call("start_run", workflowId=made["workflowId"], values={made["requestNodeId"]: {"who": "Ada"}})
            for _ in range(3000):
                run = await call("get_run", runId=started["runId"])
                if run["status"] in ("COMPLETED", "FAILED", "CANCELED"):
                    break
                await asyncio.sleep(0.1)
            refused = await client.call_tool("get_run", {"runId": "00000000-0000-7000-8000-000000000000"})
            print(json.dumps({"tools": len(names), "status": run["status"], "output": run["output"], "refused": refused.is_error}))

asyncio.run(main())
"#;

#[test]
fn the_reference_client_of_mcp_builds_and_runs_a_workflow() {
    let python = python("mcp==2.3.0");
    let server = Server::start();
    let script = server.dir.path().join("client.py");
    std::fs::write(&script, CLIENT).unwrap();
    let mut command = Command::new(python);
    command.arg(&script).args([&format!("http://127.0.0.1:{}/api/mcp", server.api), &server.token]);
    let output = harness::finish(command, "the client of MCP");
    assert_eq!(output.status, 0, "{}{}", output.stdout, output.stderr);
    let told: Value = serde_json::from_str(output.stdout.trim()).unwrap_or_else(|error| panic!("{error}: {}", output.stdout));
    assert_eq!((&told["status"], &told["refused"]), (&json!("COMPLETED"), &json!(true)));
    assert_eq!(told["output"], json!({"text_template": "Hello Ada"}));
    assert!(told["tools"].as_u64().unwrap() >= 21, "{told}");
}
