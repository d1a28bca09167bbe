//! Which room may use which room and which outside library.

use cargo_metadata::{DependencyKind, Metadata};

use super::Finding;

/// Per room, the rooms that it may use. Tests may use `testkit` and any room that the room's own users use.
const ROOMS: [(&str, &[&str]); 12] = [
    ("domain", &[]),
    ("store", &["domain"]),
    ("runtime", &["domain"]),
    // Only its sandbox: a build is confined by the same code as a replica.
    ("builder", &["domain", "runtime"]),
    ("edge", &["domain"]),
    ("telemetry", &["domain"]),
    ("ops", &["domain", "store", "telemetry"]),
    ("engine", &["domain", "ops", "store", "builder", "runtime", "telemetry"]),
    ("api", &["domain", "ops", "store", "telemetry"]),
    ("server", &["domain", "store", "runtime", "builder", "edge", "telemetry", "ops", "engine", "api"]),
    ("testkit", &["domain", "store", "runtime", "builder", "edge", "telemetry", "ops", "engine", "api"]),
    ("xtask", &[]),
];

/// Libraries that only some rooms may name outside of tests.
const RESERVED: [(&[&str], &[&str], &str); 8] = [
    // telemetry keeps log files of its own, one database per day.
    (&["rusqlite"], &["store", "telemetry"], "SQL belongs to `store`, log files to `telemetry`"),
    (&["deadpool-postgres", "postgres", "refinery", "sqlx", "diesel"], &["store"], "SQL belongs to `store`"),
    // engine asks databases of users for their workflows, with statements that they wrote; its own belongs to `store`.
    (&["tokio-postgres", "mysql_async"], &["store", "engine"], "SQL belongs to `store`"),
    (&["redis"], &["ops"], "counts that control planes share belong to `ops::limit`"),
    (&["axum", "tower-http"], &["api", "server"], "HTTP is served by `api` and `server`; `edge` speaks bare hyper"),
    // engine asks health checks and talks to the edge's socket: a client, which `names` holds it to.
    (&["hyper", "hyper-util"], &["api", "edge", "engine", "server"], "HTTP is spoken by `api`, `edge`, `engine` and `server`"),
    (&["bollard", "libcontainer"], &["runtime", "builder"], "containers belong to `runtime` and `builder`"),
    (&["anyhow"], &["server", "xtask", "testkit"], "other rooms have closed error enums"),
];

/// All that `domain` may use: values and pure functions over them.
const DOMAIN: [&str; 10] = ["croner", "jiff", "serde", "serde_json", "sha2", "subtle", "thiserror", "uuid", "indexmap", "rand"];

/// Libraries for tests of mocks.
const MOCKING: [&str; 8] = ["mockall", "mockall_double", "mockito", "wiremock", "httpmock", "faux", "unimock", "double"];

pub(super) fn check(metadata: &Metadata) -> Vec<Finding> {
    let mut findings = vec![];
    for package in metadata.workspace_packages() {
        let room = package.manifest_path.parent().and_then(|folder| folder.file_name()).unwrap_or("");
        let mut refuse = |text: String| findings.push(Finding::new(room, text));
        let Some((_, may_use)) = ROOMS.iter().find(|(name, _)| *name == room) else {
            refuse("is a new room: give it a line in xtask/src/tidy/edges.rs and docs/ARCHITECTURE.md".to_owned());
            continue;
        };
        for dependency in &package.dependencies {
            let name = dependency.name.as_str();
            if MOCKING.contains(&name) {
                refuse(format!("uses {name}: test the real thing or a simulator that ships"));
            }
            if dependency.kind == DependencyKind::Development {
                continue;
            }
            if let Some(other) = dependency.path.as_ref().and_then(|path| path.file_name()) {
                if !may_use.contains(&other) {
                    refuse(format!("must not know {other}: see the arrows in docs/ARCHITECTURE.md"));
                }
                continue;
            }
            for (_, owners, why) in RESERVED.iter().filter(|(names, owners, _)| names.contains(&name) && !owners.contains(&room)) {
                refuse(format!("must not use {name} (only {} may): {why}", owners.join(", ")));
            }
            if room == "domain" && !DOMAIN.contains(&name) {
                refuse(format!("must not use {name}: `domain` has values and pure functions only"));
            }
        }
    }
    findings
}
