//! The core of the daily loop with PostgreSQL as the store.

mod harness;
#[path = "../../store/tests/postgres/mod.rs"]
#[allow(dead_code, reason = "this test needs one server and one database")]
mod throw_away;

use harness::{Server, python, until, write};
use throw_away::Postgres;

const HOST: &str = "hello-production.localhost";

#[tokio::test]
async fn the_daily_loop_runs_on_postgresql() {
    let postgres = Postgres::shared();
    let url = postgres.database().await;
    tokio::task::spawn_blocking(move || daily_loop(&url)).await.unwrap();
    drop(postgres);
}

fn daily_loop(url: &str) {
    let mut server = Server::start_with(&[("ORRERY_DATABASE", url)]);
    let app = server.dir.path().join("hello");
    let code = python::app("import os\ndef answer(path):\n    return os.environ.get('WORD', 'nothing')\n");
    write(&app, &[("main.py", &code), ("Procfile", "web: python3 main.py\n")]);
    server.json(&app, &["init", "--name", "hello", "--json"]);
    let up = server.ok(&app, &["up", "--ci"]);
    assert!(up.contains("Deploy complete"), "{up}");
    assert_eq!(server.visit(HOST, "/").body, "nothing");
    server.ok(&app, &["service", "link", "hello"]);
    server.json(&app, &["variable", "set", "WORD=first", "--json"]);
    server.visit_until(HOST, "/", |answer| answer.body == "first");
    server.json(&app, &["variable", "set", "WORD=second", "--skip-deploys", "--json"]);
    until("a deployment at rest", || {
        let listed = server.json(&app, &["deployment", "list", "--json"]);
        if listed[0]["status"] == "SUCCESS" { Ok(()) } else { Err(listed[0].to_string()) }
    });
    server.json(&app, &["redeploy", "-y", "--json"]);
    server.visit_until(HOST, "/", |answer| answer.body == "second");

    let replicas = until("the end of the replicas that were replaced", || {
        let found = server.processes("shim");
        if found.len() == 1 { Ok(found) } else { Err(format!("{found:?}")) }
    });
    server.sigkill();
    assert_eq!(server.visit(HOST, "/").body, "second", "the app goes on without the control plane");
    server.start_again();
    until("the same projects after a restart", || {
        let listed = server.graphql("{ projects { edges { node { name } } } }");
        if listed.to_string().contains("hello") { Ok(()) } else { Err(listed.to_string()) }
    });
    assert_eq!(server.visit(HOST, "/").body, "second");
    assert_eq!(server.processes("shim"), replicas, "the replicas were adopted");
    assert!(server.orrery(&["token", "list"]).stdout.contains("first start"));
    assert!(!server.data().join("orrery.db").exists(), "nothing is kept in SQLite beside it");
}
