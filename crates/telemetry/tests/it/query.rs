use std::sync::OnceLock;

use proptest::prelude::*;
use telemetry::TelemetryError;

use super::*;

#[tokio::test]
async fn replicas_of_a_deployment_never_share_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let first = deploy_source();
    let second = LogSource { replica_id: Some(ReplicaId::generate()), ..first.clone() };
    let store = open(dir.path());
    for round in 0..50 {
        let at = MIDNIGHT + round % 7;
        let (one, two) = (store.append(vec![line(&first, at, "a"), line(&first, at, "b")]), store.append(vec![line(&second, at, "c")]));
        let (one, two) = tokio::join!(one, two);
        one.and(two).unwrap();
    }
    drop(store);
    // A new process continues where the old one stopped.
    let store = open(dir.path());
    store.append(vec![line(&second, 0, "last")]).await.unwrap();
    let lines = store.query(&all(deployment(&first))).unwrap();
    assert_eq!((lines.len(), times_grow(&lines), lines[150].message.as_str()), (151, true, "last"));
}

#[tokio::test]
async fn what_was_stored_comes_back_whole() {
    let dir = tempfile::tempdir().unwrap();
    let source = deploy_source();
    let build = LogSource { kind: LogKind::Build, replica_id: None, ..source.clone() };
    let odd = LogLine {
        severity: Severity::Warn,
        attributes: vec![("a".into(), "\"ä\\u0000\"".into()), ("b".into(), "{\"c\":[1]}".into())],
        ..line(&source, MIDNIGHT, "nul \0, emoji 🦀, and\ttab")
    };
    let built = line(&build, MIDNIGHT, "");
    let store = open(dir.path());
    store.append(vec![odd.clone(), built.clone()]).await.unwrap();
    assert_eq!(store.query(&all(deployment(&source))).unwrap(), [odd]);
    let snapshot = LogScope::Snapshot { tenant: Tenant::system(source.workspace_id), snapshot: source.snapshot_id };
    assert_eq!(store.query(&all(snapshot)).unwrap(), [built]);
}

#[tokio::test]
async fn a_query_spans_days() {
    let dir = tempfile::tempdir().unwrap();
    let source = deploy_source();
    let store = open(dir.path());
    // Steps of six hours: four days.
    let lines = (0..16).map(|step| line(&source, MIDNIGHT + step * DAY / 4, &step.to_string())).collect();
    store.append(lines).await.unwrap();
    let files = || std::fs::read_dir(dir.path().join("logs")).unwrap().flatten().map(|entry| entry.file_name().into_string().unwrap());
    let mut databases: Vec<String> = files().filter(|name| name.ends_with(".db")).collect();
    databases.sort();
    assert_eq!(databases, ["2026-11-21.db", "2026-11-22.db", "2026-11-23.db", "2026-11-24.db"]);

    let ask = |after: i64, before: i64, limit: usize, newest: bool| {
        let range = (Some(MIDNIGHT + after * DAY / 4), Some(MIDNIGHT + before * DAY / 4));
        let found = store.query(&LogQuery { after: range.0, before: range.1, limit, newest, ..all(deployment(&source)) }).unwrap();
        found.iter().map(|line| line.message.parse().unwrap()).collect::<Vec<i32>>()
    };
    assert_eq!(ask(2, 9, 100, true), [3, 4, 5, 6, 7, 8], "both ends are left out");
    assert_eq!(ask(2, 9, 3, true), [6, 7, 8]);
    assert_eq!(ask(2, 9, 3, false), [3, 4, 5]);
    assert_eq!(ask(-1, 16, 6, true), [10, 11, 12, 13, 14, 15]);
    assert_eq!(ask(3, 4, 100, true), [] as [i32; 0]);
    assert_eq!(ask(9, 2, 100, true), [] as [i32; 0]);
    assert_eq!(ask(-1, 16, 0, true), [] as [i32; 0]);
}

#[tokio::test]
async fn a_tenant_sees_its_own_lines_only() {
    let dir = tempfile::tempdir().unwrap();
    let mine = deploy_source();
    // The same ids under another workspace: not even those may lead there.
    let theirs = LogSource { workspace_id: WorkspaceId::generate(), ..mine.clone() };
    let store = open(dir.path());
    store.append(vec![line(&mine, MIDNIGHT, "mine"), line(&theirs, MIDNIGHT, "theirs")]).await.unwrap();
    for (source, message) in [(&mine, "mine"), (&theirs, "theirs")] {
        let tenant = Tenant::system(source.workspace_id);
        let environment = LogScope::Environment { tenant, environment: source.environment_id };
        for scope in [deployment(source), environment] {
            assert_eq!(messages(&store.query(&all(scope)).unwrap()), [message]);
            let asks_for_all = LogQuery { filter: Filter::parse("-nothing OR theirs OR mine").unwrap(), ..all(scope) };
            assert_eq!(messages(&store.query(&asks_for_all).unwrap()), [message]);
        }
    }
    let stranger = LogScope::Deployment { tenant: Tenant::system(WorkspaceId::generate()), deployment: mine.deployment_id };
    assert!(store.query(&all(stranger)).unwrap().is_empty());
}

#[tokio::test]
async fn the_request_for_a_build_log_gets_build_lines_only() {
    let dir = tempfile::tempdir().unwrap();
    let app = deploy_source();
    let build = LogSource { kind: LogKind::Build, replica_id: None, ..app.clone() };
    let store = open(dir.path());
    store.append(vec![line(&build, MIDNIGHT, "built"), line(&app, MIDNIGHT + 1, "runs")]).await.unwrap();
    let filter = Filter::parse(&format!("(@snapshot:{0} OR @replica:{0})", app.snapshot_id)).unwrap();
    let environment = LogScope::Environment { tenant: Tenant::system(app.workspace_id), environment: app.environment_id };
    assert_eq!(messages(&store.query(&LogQuery { filter, ..all(environment) }).unwrap()), ["built"]);
}

#[tokio::test]
async fn a_second_writer_is_refused_and_a_second_reader_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let source = deploy_source();
    let first = open(dir.path());
    first.append(vec![line(&source, MIDNIGHT, "one")]).await.unwrap();
    let second = open(dir.path());
    assert_eq!(messages(&second.query(&all(deployment(&source))).unwrap()), ["one"]);
    let refused = second.append(vec![line(&source, MIDNIGHT, "two")]).await;
    assert!(matches!(refused, Err(TelemetryError::InUse { .. })), "{refused:?}");
    drop(first);
    second.append(vec![line(&source, MIDNIGHT, "two")]).await.unwrap();
}

#[tokio::test]
async fn a_damaged_file_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let source = deploy_source();
    let logs = dir.path().join("logs");
    std::fs::create_dir(&logs).unwrap();
    std::fs::write(logs.join("2026-11-21.db"), "this is no database".repeat(100)).unwrap();
    std::fs::write(logs.join("2026-11-22.db"), "").unwrap();
    let store = open(dir.path());
    store.append(vec![line(&source, MIDNIGHT, "one"), line(&source, MIDNIGHT + DAY, "two")]).await.unwrap();
    assert_eq!(messages(&store.query(&all(deployment(&source))).unwrap()), ["one", "two"]);
    assert!(logs.join("2026-11-21.db.damaged").exists());
}

/// A small world: two workspaces, environments, several streams.
fn sources() -> &'static [LogSource] {
    static SOURCES: OnceLock<Vec<LogSource>> = OnceLock::new();
    SOURCES.get_or_init(|| {
        let first = deploy_source();
        let replica = LogSource { replica_id: Some(ReplicaId::generate()), ..first.clone() };
        let build = LogSource { kind: LogKind::Build, replica_id: None, ..first.clone() };
        let neighbour = LogSource {
            service_id: ServiceId::generate(),
            deployment_id: DeploymentId::generate(),
            snapshot_id: SnapshotId::generate(),
            replica_id: Some(ReplicaId::generate()),
            ..first.clone()
        };
        let stranger = LogSource { workspace_id: WorkspaceId::generate(), ..first.clone() };
        vec![first, replica, build, neighbour, stranger]
    })
}

fn any_line() -> impl Strategy<Value = LogLine> {
    let severity = prop_oneof![Just(Severity::Debug), Just(Severity::Info), Just(Severity::Warn), Just(Severity::Error)];
    (0..5usize, severity, 0..3 * 96i64, "[abc]{0,3}", proptest::option::of(0..5i32)).prop_map(|(source, severity, step, message, n)| {
        LogLine {
            nanos: MIDNIGHT + step * DAY / 96,
            source: sources()[source].clone(),
            severity,
            message,
            attributes: n.map(|n| ("n".to_owned(), n.to_string())).into_iter().collect(),
        }
    })
}

fn any_filter() -> impl Strategy<Value = String> {
    let first = &sources()[0];
    let leaf = prop_oneof![
        "[abc]{1,2}",
        Just("@level:error".to_owned()),
        Just("@level:info".to_owned()),
        Just("@n:1..3".to_owned()),
        Just(format!("@snapshot:{}", first.snapshot_id)),
        Just(format!("replica:{}", sources()[1].replica_id.unwrap())),
        Just(format!("@service:{}", first.service_id)),
        Just(format!("@deployment:{}", first.deployment_id)),
    ];
    let tree = leaf.prop_recursive(4, 16, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a} {b}")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} OR {b})")),
            inner.prop_map(|a| format!("-({a})")),
        ]
    });
    prop_oneof![1 => Just(String::new()), 4 => tree]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_query_finds_what_reading_everything_would_find(
        batches in proptest::collection::vec(proptest::collection::vec(any_line(), 1..40), 1..6),
        asked in proptest::collection::vec((any_filter(), 0..3usize, any::<bool>(), 1..60usize, proptest::option::of(0..288i64), proptest::option::of(0..288i64)), 1..20),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for batch in batches {
            runtime.block_on(store.append(batch)).unwrap();
        }
        let first = &sources()[0];
        let tenants = [first.workspace_id, sources()[4].workspace_id].map(Tenant::system);
        let scopes = |tenant: Tenant| [
            LogScope::Environment { tenant, environment: first.environment_id },
            LogScope::Deployment { tenant, deployment: first.deployment_id },
            LogScope::Snapshot { tenant, snapshot: first.snapshot_id },
        ];
        let everything: Vec<LogLine> = tenants.iter().flat_map(|tenant| store.query(&all(scopes(*tenant)[0])).unwrap()).collect();
        for (text, scope, newest, limit, after, before) in asked {
            let filter = Filter::parse(&text).unwrap();
            for scope in tenants.map(|tenant| scopes(tenant)[scope]) {
                let step = |step: i64| MIDNIGHT + step * DAY / 96;
                let query = LogQuery { scope, filter: filter.clone(), after: after.map(step), before: before.map(step), limit, newest };
                let in_range = |line: &&LogLine| query.after.is_none_or(|after| line.nanos > after) && query.before.is_none_or(|before| line.nanos < before);
                let mut expected: Vec<LogLine> =
                    everything.iter().filter(|line| scope.contains(&line.source) && filter.matches(line)).filter(in_range).cloned().collect();
                // Streams are independent: lines of two of them may bear the same time, and then their order is free.
                let found = store.query(&query).unwrap();
                expected.sort_by_key(|line| line.nanos);
                let cut = expected.len().saturating_sub(limit);
                let expected = if newest { expected.split_off(cut) } else { expected.into_iter().take(limit).collect() };
                let times = |lines: &[LogLine]| lines.iter().map(|line| line.nanos).collect::<Vec<_>>();
                prop_assert_eq!(times(&found), times(&expected), "{}", text);
                for line in &found {
                    prop_assert!(everything.contains(line) && scope.contains(&line.source) && filter.matches(line));
                }
            }
        }
    }
}
