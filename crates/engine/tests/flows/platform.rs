//! Nodes that use the platform, with the rights of whoever started them.

use domain::activity::Actor;
use domain::deployment::DeploymentStatus;
use domain::workflow::run::RunStatus;
use ops::run::node_run_start;

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
