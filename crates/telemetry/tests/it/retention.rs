use super::*;

fn at(nanos: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_nanosecond(i128::from(nanos)).unwrap()
}

fn databases(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir.join("logs")).unwrap().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().into_string().unwrap()).filter(|name| name != "lock").collect();
    names.retain(|name| !name.ends_with("-shm") && !name.ends_with("-wal"));
    names.sort();
    names
}

#[tokio::test]
async fn old_days_go() {
    let dir = tempfile::tempdir().unwrap();
    let store = Telemetry::open(TelemetryConfig { dir: dir.path().to_owned(), retain_days: 2, retain_bytes: u64::MAX }).unwrap();
    let source = deploy_source();
    store.append((0..5).map(|day| line(&source, MIDNIGHT + day * DAY, &day.to_string())).collect()).await.unwrap();
    std::fs::write(dir.path().join("logs/2026-11-20.db.damaged"), "old").unwrap();
    assert_eq!(store.query(&all(deployment(&source))).unwrap().len(), 5);

    let purged = store.purge(at(MIDNIGHT + 4 * DAY + DAY / 2)).unwrap();
    assert_eq!(purged.files, 2);
    assert_eq!(databases(dir.path()), ["2026-11-23.db", "2026-11-24.db", "2026-11-25.db"]);
    assert_eq!(messages(&store.query(&all(deployment(&source))).unwrap()), ["2", "3", "4"]);
    // The store goes on, also on a day that was deleted.
    let other = deploy_source();
    store.append(vec![line(&source, MIDNIGHT, "late"), line(&other, MIDNIGHT, "very late")]).await.unwrap();
    assert_eq!(messages(&store.query(&all(deployment(&source))).unwrap()), ["2", "3", "4", "late"]);
    assert_eq!(messages(&store.query(&all(deployment(&other))).unwrap()), ["very late"]);
}

#[tokio::test]
async fn a_busy_day_stays_within_the_budget() {
    const BUDGET: u64 = 40 << 20;
    let dir = tempfile::tempdir().unwrap();
    let store = Telemetry::open(TelemetryConfig { dir: dir.path().to_owned(), retain_days: 30, retain_bytes: BUDGET }).unwrap();
    let source = deploy_source();
    let text = "x".repeat(2000);
    let left =
        || -> u64 { std::fs::read_dir(dir.path().join("logs")).unwrap().flatten().map(|entry| entry.metadata().unwrap().len()).sum() };
    for round in 0..300 {
        store.append((0..100).map(|i| line(&source, MIDNIGHT + round * 100 + i, &text)).collect()).await.unwrap();
        // Before anybody has asked: who writes fast does not wait for the clock.
        assert!(left() <= BUDGET, "{} bytes are left", left());
    }
    store.append(vec![line(&source, MIDNIGHT, "last")]).await.unwrap();
    assert!(databases(dir.path()).len() > 10, "the day is in parts: {:?}", databases(dir.path()));
    assert!(left() <= BUDGET && left() > BUDGET / 2, "{} bytes are left", left());
    let newest = LogQuery { limit: 5000, newest: true, ..all(deployment(&source)) };
    let before = store.query(&newest).unwrap();
    store.purge(at(MIDNIGHT)).unwrap();
    assert!(left() <= BUDGET && left() > BUDGET / 2, "{} bytes are left", left());
    assert_eq!(store.query(&newest).unwrap(), before, "the newest lines stay");
    assert!(times_grow(&before));
    assert_eq!(store.purge(at(MIDNIGHT)).unwrap().files, 0);
}
