//! Every statement, explained by SQLite: none may walk through a table.

use rusqlite::Connection;

use crate::executor::Sql;
use crate::{MasterKey, Store, StoreConfig};

/// Statements that look at everything on purpose, and why that is right.
const WHOLE: &[(&str, &str)] = &[
    ("ANY_USER", "stops at the first row"),
    ("USERS", "is the operator's list of everyone"),
    ("SYSTEM_MEMBERSHIPS", "is the other half of the operator's list of everyone"),
    ("SYSTEM_SECOND_FACTORS", "is a part of the same list"),
    ("SYSTEM_ROUTES", "is the whole routing table"),
    ("SYSTEM_DOMAINS_UNVERIFIED", "walks a partial index that holds nothing else"),
    ("SYSTEM_CERTIFICATE_STAMPS", "is compared with what the edge has"),
    ("SYSTEM_CERTIFICATES", "is all that the edge needs for TLS"),
    ("SYSTEM_CERTIFICATES_DUE", "looks at what is due, which an index holds in this order, and gives each workspace its turn"),
    ("SYSTEM_TCP_ROUTES", "is the other half of the routing table"),
    ("SYSTEM_TCP_PORTS", "is bounded by the number of ports"),
    ("SYSTEM_VOLUME_FILES_KEPT", "is what is compared with the folders on disk"),
    ("SYSTEM_VOLUME_INSTANCES", "is what is compared with the folders on disk"),
    ("SYSTEM_BACKUPS", "is what is compared with the folders on disk"),
    ("SYSTEM_BACKUPS_UNDER_WAY", "walks a partial index that holds nothing else"),
    ("SYSTEM_BACKUP_SCHEDULES", "looks at every schedule once in ten minutes"),
    ("SYSTEM_RUN_TENANTS", "stops at the first row, then steps from one workspace to the next"),
    ("SYSTEM_PLAIN_WORKFLOWS", "walks a partial index of what is not sealed yet, which holds nothing else"),
    ("SYSTEM_PLAIN_GRAPHS", "walks a partial index of the same kind"),
    ("SYSTEM_PLAIN_RUNS", "walks a partial index of the same kind"),
    ("SYSTEM_PLAIN_NODE_RUNS", "walks a partial index of the same kind"),
    ("SYSTEM_PLAIN_TRIGGERS", "walks a partial index of the same kind"),
    ("SYSTEM_INSTANCES_WITH_WORK", "walks the partial index of open deployments, which holds nothing else"),
    ("SYSTEM_LIVE_REPLICAS", "walks the partial index of live replicas, which holds nothing else"),
    ("SYSTEM_WATCHED_REPLICAS", "walks the same index once in fifteen seconds"),
    ("SYSTEM_REPLICAS_PURGE", "keeps the table short, once in ten minutes"),
    ("SYSTEM_EXECUTIONS_PURGE", "keeps the table short, once in ten minutes"),
    ("SYSTEM_ACTIVITIES_PENDING", "walks the partial index of entries without notifications, which holds nothing else"),
    ("SYSTEM_DELIVERY_NEXT", "stops at the first row of the partial index of pending messages"),
    ("SYSTEM_FLOW_TRIGGER_NEXT", "stops at the first row of the partial index of triggers with a time"),
    ("SYSTEM_TRIGGER_NEXT", "stops at the first row of the partial index of enabled triggers"),
    ("SYSTEM_SERVICES", "is what is compared with the folders on disk"),
    ("SYSTEM_IN_USE", "both of its kind run once in ten minutes and look at the whole history"),
];

/// Statements whose answer grows with the workspace, that look at a few members or keys, or that stop after as many rows as they were asked for.
const WORKSPACE_WIDE: &[&str] = &[
    "DOMAINS_OF_WORKSPACE",
    "INSTANCES_OF_WORKSPACES",
    "ACTIVITIES",
    "API_KEYS_OF_WORKSPACES",
    "API_KEYS_REVOKE",
    "FLOW_FILE_INSERT",
    "FLOW_KEY_INSERT",
    "MEMBERS_OF_WORKSPACES",
    "MEMBER_REMOVE",
    "MEMBER_SET",
    "NOTIFICATION_RULES",
    "PROJECT_COUNT",
    "TRIGGERS_OF_EVENTS",
    "USAGE_OF_WORKSPACES",
];

fn all() -> impl Iterator<Item = &'static Sql> {
    [
        crate::account::ALL,
        crate::activity::ALL,
        crate::api_key::ALL,
        crate::delivery::ALL,
        crate::backup::ALL,
        crate::certificate::ALL,
        crate::deployment::ALL,
        crate::deployment_event::ALL,
        crate::domain_name::ALL,
        crate::environment::ALL,
        crate::environment_patch::ALL,
        crate::execution::ALL,
        crate::idempotency::ALL,
        crate::flow_file::ALL,
        crate::instance::ALL,
        crate::invite::ALL,
        crate::kept::ALL,
        crate::node_run::ALL,
        crate::notification::ALL,
        crate::oauth::ALL,
        crate::project::ALL,
        crate::replica::ALL,
        crate::run::ALL,
        crate::second_factor::ALL,
        crate::service::ALL,
        crate::session::ALL,
        crate::system::ALL,
        crate::trigger::ALL,
        crate::tcp_proxy::ALL,
        crate::usage::ALL,
        crate::variable::ALL,
        crate::vault::ALL,
        crate::volume::ALL,
        crate::version::ALL,
        crate::workflow::ALL,
        crate::workspace::ALL,
    ]
    .into_iter()
    .flatten()
    .copied()
}

fn plan(connection: &Connection, sql: &Sql) -> Vec<String> {
    let mut prepared = connection
        .prepare(&format!("EXPLAIN QUERY PLAN {}", sql.for_sqlite().text))
        .unwrap_or_else(|error| panic!("{}: {error}", sql.name));
    let mut rows = prepared.raw_query();
    let mut steps = vec![];
    while let Some(row) = rows.next().expect("a plan") {
        steps.push(row.get::<_, String>(3).expect("a step"));
    }
    steps
}

#[tokio::test]
async fn no_statement_walks_through_a_table() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("orrery.db");
    let config = StoreConfig { url: format!("sqlite://{}", path.display()), master_key: MasterKey::from_bytes([1; 32]) };
    let store = Store::open(config).await.expect("a store");
    let connection = Connection::open(&path).expect("a connection");
    rusqlite::vtab::array::load_module(&connection).expect("lists");
    for sql in all() {
        let kind = if sql.name.ends_with("_IN_USE") { "SYSTEM_IN_USE" } else { sql.name };
        if WHOLE.iter().any(|(name, _)| *name == kind) {
            continue;
        }
        for step in plan(&connection, sql) {
            let harmless = ["SCAN rarray", "SCAN step", "SCAN CONSTANT ROW"].iter().any(|prefix| step.starts_with(prefix));
            assert!(!step.starts_with("SCAN") || harmless, "{} does {step:?}:\n{}", sql.name, sql.text);
            // A workspace has one row there.
            let single = step.contains("sqlite_autoindex_flow_accounts_1");
            let wide = step.ends_with("(workspace_id=?)") && !single && !WORKSPACE_WIDE.contains(&sql.name);
            assert!(!wide, "{} does {step:?}, so that its cost grows with the workspace:\n{}", sql.name, sql.text);
            let sorts = step.contains("TEMP B-TREE FOR ORDER BY") && sql.text.contains("LIMIT $limit");
            assert!(!sorts, "{} sorts a page, so that its cost grows with the list:\n{}", sql.name, sql.text);
        }
    }
    store.close().await;
}
