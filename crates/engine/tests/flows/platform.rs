//! Nodes that use the platform, with the rights of whoever started them.

use std::sync::{Arc, Mutex};

use domain::ServiceId;
use domain::activity::Actor;
use domain::deployment::DeploymentStatus;
use domain::variable::Variable;
use domain::workflow::run::RunStatus;
use ops::run::node_run_start;
use store::Change;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_run_reaches_no_further_than_the_key_that_started_it() {
    let mut app = TestApp::new().await;
    let shop = app.app("shop").await;
    let ctx = today(&app, &shop.ctx()).await;
    let ops::Principal::User(person) = &ctx.principal else { panic!("a person") };
    let ops::Via::Key(key, _) = person.via else { panic!("a key") };
    let read = json!({"environment_id": shop.environment.to_string(), "service_id": shop.service.to_string()});
    let run = node_run_start(&now(&ctx), "read_metrics", None, map(read), None, RunSource::Api).await.expect("a run");
    ops::token::api_token_delete(&now(&ctx), key).await.expect("it is revoked");
    app.start_engine();
    let view = ended(&app, &shop.ctx(), run).await;
    assert_eq!(view.run.status, RunStatus::Failed);
    assert!(view.run.error.as_deref().is_some_and(|error| error.contains("was revoked or has expired")), "{:?}", view.run.error);
}

/// A node by itself, to its end.
async fn performed(app: &TestApp, ctx: &OpCtx, kind: &str, input: Value) -> RunView {
    let run = node_run_start(&now(ctx), kind, None, map(input), None, RunSource::Api).await.expect("a run");
    ended(app, ctx, run).await
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_use_the_platform_with_their_owners_rights() {
    let app = TestApp::started().await;
    let shop = app.app("shop").await;
    let ctx = shop.ctx();
    let first = app.live(&shop).await;
    let with = |more: Value| {
        let mut input = map(of(&shop));
        input.extend(map(more));
        Value::Object(input)
    };
    let good = async |kind: &str, input: Value| {
        let view = performed(&app, &ctx, kind, input).await;
        assert_eq!(view.run.status, RunStatus::Completed, "{kind}: {:?}", view.run.error);
        output(&view, kind).clone()
    };
    good("scale", with(json!({"replicas": 2}))).await;
    app.until_routed(&shop, first, 2).await;
    good("restart", of(&shop)).await;
    app.until_status(&shop, first, DeploymentStatus::Success).await;
    assert!(good("read_logs", of(&shop)).await["items"].is_array());
    assert!(good("read_metrics", with(json!({"minutes": 5}))).await["cpu"].is_number());
    let second = good("redeploy", json!({"deployment_id": first.to_string()})).await["deployment_id"].clone();
    let second = second.as_str().and_then(|text| text.parse().ok()).expect("a deployment");
    app.until_status(&shop, second, DeploymentStatus::Success).await;
    let third = good("rollback", json!({"deployment_id": first.to_string()})).await["deployment_id"].clone();
    app.until_status(&shop, third.as_str().and_then(|text| text.parse().ok()).expect("a deployment"), DeploymentStatus::Success).await;
    let fourth = good("deploy", of(&shop)).await["deployment_id"].clone();
    assert!(fourth.is_string() && fourth != third);
    good("set_variable", with(json!({"name": "COLOUR", "value": "green", "skip_deploys": true}))).await;
    let view = ops::variable::View::Raw;
    let variables =
        ops::variable::variables(&shop.ctx(), shop.project, shop.environment, Some(shop.service), view).await.expect("variables");
    assert_eq!(variables["COLOUR"].as_deref(), Some("green"));
    let made = good("create_environment", json!({"project_id": shop.project.to_string(), "name": "staging"})).await;
    assert!(made["environment_id"].is_string(), "{made}");
    let log = app.ops.store.activities(shop.tenant, Some(shop.project), 100).await.expect("the store");
    let by_run = |verb: &str| {
        let entry = log.iter().find(|entry| entry.verb == verb).unwrap_or_else(|| panic!("no {verb}: {log:#?}"));
        matches!(entry.actor, Actor::User { run: Some(_), .. })
    };
    assert!(by_run("environment_create") && !by_run("service_create"), "the log tells a person from a run that acts for them");

    let stranger = app.person("eve@example.com").await;
    for (kind, input) in [
        ("scale", with(json!({"replicas": 1}))),
        ("deploy", of(&shop)),
        ("rollback", json!({"deployment_id": first.to_string()})),
        ("set_variable", with(json!({"name": "A", "value": "b"}))),
        ("read_logs", json!({"deployment_id": first.to_string()})),
        ("read_metrics", of(&shop)),
        ("sql_query", with(json!({"query": "SELECT 1"}))),
    ] {
        let view = performed(&app, &stranger, kind, input).await;
        let error = view.run.error.unwrap_or_default();
        assert!(view.run.status == RunStatus::Failed && error.contains("not found"), "{kind}: {error}");
    }
    let view = performed(&app, &ctx, "sql_query", with(json!({"query": "SELECT 1"}))).await;
    assert!(view.run.error.is_some_and(|error| error.contains("neither DATABASE_URL nor MYSQL_URL")));
    // A machine's other ports are nobody's to ask, whatever a variable says.
    good("set_variable", with(json!({"name": "DATABASE_URL", "value": "postgres://u:canary@127.0.0.1:5432/x", "skip_deploys": true})))
        .await;
    let view = performed(&app, &ctx, "sql_query", with(json!({"query": "SELECT 1"}))).await;
    let error = view.run.error.unwrap_or_default();
    assert!(error.contains("does not lead to a database") && !error.contains("canary"), "{error}");
}

/// A server that answers with what it was sent, and keeps it.
async fn echo() -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("its address"));
    let heard: Arc<Mutex<Vec<String>>> = Arc::default();
    let kept = heard.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut said: Vec<u8> = vec![];
            while !is_whole(&said) && stream.read_buf(&mut said).await.is_ok_and(|count| count > 0) {}
            let said = String::from_utf8_lossy(&said).into_owned();
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{said}", said.len());
            kept.lock().expect("no panic").push(said);
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (url, heard)
}

/// Whether a request has come with all of its body.
fn is_whole(said: &[u8]) -> bool {
    let text = String::from_utf8_lossy(said);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse::<usize>().ok());
    body.len() >= length.unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_refers_to_variables_and_nothing_keeps_their_values() {
    let app = TestApp::started().await;
    let shop = app.app("shop").await;
    let ctx = shop.ctx();
    let set = async |service_id: Option<ServiceId>, name: &str, value: &str, is_sealed: bool| {
        let row = Variable {
            workspace_id: shop.tenant.workspace(),
            project_id: shop.project,
            environment_id: shop.environment,
            service_id,
            name: name.to_owned(),
            value: value.to_owned(),
            is_sealed,
            updated_at: Timestamp::now(),
        };
        app.ops.store.commit(shop.tenant, vec![Change::VariableSet(row)]).await.expect("a variable");
    };
    set(None, "TOKEN", "canary-token", false).await;
    set(None, "SEALED", "canary-sealed", true).await;
    set(None, "DOOR_PASSWORD", "hush-7", false).await;
    set(Some(shop.service), "HOOK", "canary-path/${{shared.TOKEN}}", false).await;
    let (url, heard) = echo().await;
    let newest = || heard.lock().expect("no panic").last().cloned().unwrap_or_default();

    let flow = workflow(&ctx).await;
    let (request, response) = (flow.graph.nodes[0].id.clone(), flow.graph.nodes[1].id.clone());
    let hook = [url.as_str(), "${{shop.HOOK}}"].concat();
    let told = json!({
        "environment_id": shop.environment.to_string(),
        "url": hook,
        "method": "POST",
        "headers": {"authorization": "Bearer ${{ shared.TOKEN }}", "x-door": "${{shared.DOOR_PASSWORD}}"},
    });
    let node = add(&ctx, &flow, "http_request", told).await;
    connect(&ctx, &flow, (&request, "field_name"), (&node, "in:body")).await;
    connect(&ctx, &flow, (&node, "out:body"), (&response, "result")).await;
    // What a caller says is text, whatever it looks like.
    let run = start(&ctx, &flow, json!({(&request): {"name": "I say ${{shared.TOKEN}}"}})).await;
    let view = ended(&app, &ctx, run).await;
    assert_eq!(view.run.status, RunStatus::Completed, "{view:#?}");
    let said = newest();
    assert!(said.starts_with("POST /canary-path/canary-token ") && said.contains("authorization: Bearer canary-token"), "{said}");
    assert!(said.ends_with("I say ${{shared.TOKEN}}"), "{said}");
    assert!(said.contains("x-door: hush-7"), "{said}");
    let kept = format!("{view:?}");
    assert!(kept.contains("x-door: •••") && !kept.contains("hush-7"), "a short password is one too: {kept}");
    assert!(kept.contains("Bearer ${{ shared.TOKEN }}") && kept.contains("Bearer •••") && !kept.contains("canary"), "{kept}");

    let overriding = RunStart {
        workflow: domain::cuid(flow.id.0),
        values: Map::new(),
        input_overrides: map(json!({(&node): {"headers": {"authorization": "Mine ${{shared.TOKEN}}"}}})),
        node_overrides: vec![],
        webhook: None,
        source: RunSource::Api,
    };
    let run = run_start(&now(&ctx), overriding).await.expect("a run");
    assert_eq!(ended(&app, &ctx, run).await.run.status, RunStatus::Completed);
    assert!(newest().contains("authorization: Mine ${{shared.TOKEN}}"), "{}", newest());

    let message = |text: &str| json!({"environment_id": shop.environment.to_string(), "url": url, "text": text});
    let view = performed(&app, &ctx, "notify", message("it is ${{shared.TOKEN}}")).await;
    assert!(view.run.status == RunStatus::Completed && newest().contains("it is canary-token"), "{view:#?}");
    performed(&app, &ctx, "notify", json!({"url": url, "text": "it is ${{shared.TOKEN}}"})).await;
    assert!(newest().contains("it is ${{shared.TOKEN}}"), "no environment was named: {}", newest());
    let stranger = app.person("eve@example.com").await;
    for (who, text, why) in [
        (&ctx, "${{shared.SEALED}}", "a sealed one"),
        (&ctx, "${{shop.NONE}}", "${{shop.NONE}} is no variable"),
        (&ctx, "${{TOKEN}}", "does not say whose variable"),
        (&stranger, "${{shared.TOKEN}}", "not found"),
    ] {
        let view = performed(&app, who, "notify", message(text)).await;
        let error = view.run.error.unwrap_or_default();
        assert!(view.run.status == RunStatus::Failed && error.contains(why) && !error.contains("canary"), "{text}: {error}");
    }
}
