use std::collections::BTreeSet;

use domain::metric::{INTERVAL, MetricSource, Traffic, TrafficEntry, TrafficSlot, Usage};
use telemetry::metrics::{Measured, MetricScope, MetricTag, MetricWindow, Resolution, Series};

use super::*;

/// 2026-11-21, 00:00 UTC, in seconds.
const START: i64 = MIDNIGHT / 1_000_000_000;

fn replica_of(instance: MetricSource) -> MetricSource {
    MetricSource { replica: Some((DeploymentId::generate(), ReplicaId::generate())), ..instance }
}

fn instance() -> MetricSource {
    MetricSource {
        workspace_id: WorkspaceId::generate(),
        project_id: ProjectId::generate(),
        environment_id: EnvironmentId::generate(),
        service_id: ServiceId::generate(),
        replica: None,
    }
}

fn usage(cpu: f64, memory: f64) -> Usage {
    Usage { cpu, cpu_limit: 2.0, memory, memory_limit: 1000.0, disk: 0.0, ephemeral_disk: 7.0, connections: 3.0, backups: 5.0 }
}

fn now(at: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_second(at).unwrap()
}

fn entry(source: MetricSource, status: u16, micros: &[u64]) -> TrafficEntry {
    let mut traffic = Traffic::default();
    micros.iter().for_each(|micros| traffic.count(*micros, 10, 100));
    TrafficEntry { source, status, traffic }
}

/// Measures two replicas from `from` to `to`: the first uses `cpu` cores, the second half of it.
fn measure(store: &Telemetry, replicas: [MetricSource; 2], from: i64, to: i64, cpu: f64) {
    for at in (from..to).step_by(INTERVAL as usize) {
        let used = vec![(replicas[0], usage(cpu, 100.0)), (replicas[1], usage(cpu / 2.0, 50.0))];
        store.metrics().record(Measured { at, usage: used, traffic: vec![] }).unwrap();
    }
}

#[test]
fn a_series_has_exactly_as_many_points_as_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let whole = instance();
    let replicas = [replica_of(whole), replica_of(whole)];
    let tenant = Tenant::system(whole.workspace_id);
    measure(&store, replicas, START, START + 60, 1.0);
    let wanted = [Series::Instance(whole.environment_id, whole.service_id), Series::Replica(replicas[1].replica.unwrap().1)];
    let ask = |tenant, at| store.metrics().series(tenant, &wanted, Resolution::FiveSeconds, 20, now(at)).unwrap();
    let found = ask(tenant, START + 61);
    assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), [20, 20]);
    for series in &found {
        assert_eq!(series[0].at, START + 55, "the newest interval comes first");
        assert!(series.windows(2).all(|pair| pair[0].at == pair[1].at + INTERVAL));
        assert_eq!(series.iter().filter(|point| point.measured).count(), 12);
        assert!(series.iter().all(|point| point.usage.cpu_limit > 0.0), "a share can be made of every point");
    }
    assert_eq!((found[0][0].usage.cpu, found[0][0].usage.memory, found[0][0].usage.connections), (1.5, 150.0, 6.0));
    assert_eq!((found[1][0].usage.cpu, found[1][0].usage.cpu_limit), (0.5, 2.0));
    // Nothing runs any more: the series goes on without measurements.
    let later = ask(tenant, START + 121);
    assert_eq!((later[0][0].at, later[0][0].measured, later[0].len()), (START + 115, false, 20));
    assert!(later[0].iter().any(|point| point.measured));
    // Another tenant's question finds nothing.
    assert!(ask(Tenant::system(WorkspaceId::generate()), START + 61).iter().flatten().all(|point| !point.measured));
    assert_eq!(store.metrics().series(tenant, &wanted, Resolution::OneDay, 0, now(START)).unwrap(), [vec![], vec![]]);
}

#[test]
fn coarse_series_are_averages_and_have_their_present_point() {
    let dir = tempfile::tempdir().unwrap();
    let whole = instance();
    let replicas = [replica_of(whole), replica_of(whole)];
    let tenant = Tenant::system(whole.workspace_id);
    let wanted = [Series::Instance(whole.environment_id, whole.service_id)];
    let end = START + 2 * 3600 + 1800 + 60;
    {
        let store = open(dir.path());
        measure(&store, replicas, START, START + 1800, 1.0);
        measure(&store, replicas, START + 1800, START + 3600, 3.0);
        // A restart in between changes nothing.
        drop(store);
        let store = open(dir.path());
        measure(&store, replicas, START + 3600, end, 2.0);
        let traffic = vec![TrafficSlot { at: end - 5, entries: vec![entry(replicas[0], 200, &[1000])] }];
        store.metrics().record(Measured { at: end, usage: vec![], traffic }).unwrap();
    }
    let store = open(dir.path());
    let ask = |resolution, limit| store.metrics().series(tenant, &wanted, resolution, limit, now(end + 2)).unwrap().remove(0);
    let hours = ask(Resolution::OneHour, 4);
    // Averages of averages are only nearly whole.
    let rounded = |value: f64| (value * 1e6).round() / 1e6;
    let seen: Vec<_> = hours.iter().map(|point| (point.at - START, point.measured, rounded(point.usage.cpu))).collect();
    assert_eq!(seen, [(7200, true, 3.0), (3600, true, 3.0), (0, true, 3.0), (-3600, false, 0.0)]);
    assert_eq!(hours[0].network_tx, 100.0);
    let days = ask(Resolution::OneDay, 2);
    let today = (days[0].at, rounded(days[0].usage.cpu), rounded(days[0].usage.memory), days[1].measured);
    assert_eq!(today, (START, 3.0, 150.0, false));
    let minutes = ask(Resolution::ThreeMinutes, 480);
    assert_eq!((minutes.len(), minutes.iter().filter(|point| point.measured).count()), (480, 51));
    assert_eq!(rounded(minutes[50].usage.cpu), 1.5);
}

#[test]
fn a_range_is_added_up_by_what_it_is_grouped_by() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let one = instance();
    let two = MetricSource { service_id: ServiceId::generate(), ..one };
    let tenant = Tenant::system(one.workspace_id);
    let (a, b, c) = (replica_of(one), replica_of(one), replica_of(two));
    for at in (START..START + 120).step_by(INTERVAL as usize) {
        let used = vec![(a, usage(1.0, 1.0)), (b, usage(2.0, 1.0)), (c, usage(4.0, 1.0))];
        store.metrics().record(Measured { at, usage: used, traffic: vec![] }).unwrap();
    }
    let window = MetricWindow { from: START, to: START + 120, step: 60 };
    let cpu = |group: &[MetricTag]| -> Vec<Vec<f64>> {
        let group: BTreeSet<_> = group.iter().copied().collect();
        let mut found = store.metrics().range(MetricScope::Project(tenant, one.project_id), window, &group).unwrap();
        found.sort_by(|x, y| x.1[0].usage.cpu.total_cmp(&y.1[0].usage.cpu));
        found.iter().map(|(_, points)| points.iter().map(|point| point.usage.cpu).collect()).collect()
    };
    assert_eq!(cpu(&[]), [[7.0, 7.0]]);
    assert_eq!(cpu(&[MetricTag::Service]), [[3.0, 3.0], [4.0, 4.0]]);
    assert_eq!(cpu(&[MetricTag::Replica, MetricTag::Service]), [[1.0, 1.0], [2.0, 2.0], [4.0, 4.0]]);
    let group = BTreeSet::from([MetricTag::Service]);
    let found = store.metrics().range(MetricScope::Instance(tenant, one.environment_id, one.service_id), window, &group).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].0.service, found[0].0.project), (Some(one.service_id), None), "only the tags that were asked for");
    let found = store.metrics().range(MetricScope::Deployment(tenant, a.replica.unwrap().0), window, &BTreeSet::new()).unwrap();
    assert_eq!(found[0].1[0].usage.cpu, 1.0);
}

#[test]
fn what_was_used_is_added_up_over_the_time_that_was_measured() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (one, stranger) = (instance(), instance());
    let two = MetricSource { project_id: ProjectId::generate(), ..one };
    let tenant = Tenant::system(one.workspace_id);
    // One core for ten minutes of an hour, by a replica that was replaced half way.
    measure(&store, [replica_of(one), replica_of(stranger)], START, START + 300, 1.0);
    measure(&store, [replica_of(one), replica_of(two)], START + 300, START + 600, 1.0);
    let traffic = vec![TrafficSlot { at: START + 595, entries: vec![entry(replica_of(one), 200, &[1000, 1000])] }];
    store.metrics().record(Measured { at: START + 3600, usage: vec![], traffic }).unwrap();
    let window = MetricWindow { from: START, to: START + 7200, step: 3600 };
    let totals = |group: BTreeSet<MetricTag>| store.metrics().totals(MetricScope::Workspace(tenant), window, &group).unwrap();
    let by_project = totals(BTreeSet::from([MetricTag::Project]));
    let used = |project| by_project.iter().find(|(tags, _)| tags.project == Some(project)).map(|(_, total)| *total).unwrap();
    let rounded = |value: f64| (value * 1e6).round() / 1e6;
    assert_eq!((rounded(used(one.project_id).usage.cpu), rounded(used(two.project_id).usage.cpu)), (600.0, 150.0));
    assert_eq!((rounded(used(one.project_id).usage.memory), used(one.project_id).network_tx), (60_000.0, 200.0));
    assert_eq!(by_project.len(), 2, "another workspace's use is in it");
    let all = totals(BTreeSet::new());
    assert_eq!(all.into_values().map(|total| rounded(total.usage.cpu)).collect::<Vec<_>>(), [750.0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_question_about_too_much_is_refused_and_a_narrower_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let whole = instance();
    let tenant = Tenant::system(whole.workspace_id);
    let other = MetricSource { service_id: ServiceId::generate(), ..whole };
    let few = [replica_of(other), replica_of(other)];
    let many: Vec<MetricSource> = (0..500).map(|_| replica_of(whole)).collect();
    for hour in 0..7 {
        let used = many.iter().chain(&few).map(|replica| (*replica, usage(1.0, 1.0))).collect();
        store.metrics().record(Measured { at: START + hour * 3600, usage: used, traffic: vec![] }).unwrap();
    }
    let window = MetricWindow { from: START, to: START + 7 * 3600, step: 5 };
    let group = BTreeSet::from([MetricTag::Replica]);
    let error = store.metrics().range(MetricScope::Workspace(tenant), window, &group).unwrap_err();
    assert!(matches!(error, telemetry::TelemetryError::TooMany { .. }), "{error}");
    let service = MetricScope::Service(tenant, other.service_id);
    assert_eq!(store.metrics().range(service, window, &group).unwrap().len(), 2);
    let apart = store.metrics().range(MetricScope::Workspace(tenant), window, &BTreeSet::from([MetricTag::Service])).unwrap();
    assert_eq!(apart.len(), 2, "services as a whole are few");
    // Many series at once are those that were asked for, each in its place.
    let name = |replica: &MetricSource| Series::Replica(replica.replica.unwrap().1);
    let wanted = [name(&few[1]), Series::Instance(whole.environment_id, other.service_id), name(&many[0]), name(&few[1])];
    let series = store.metrics().series(tenant, &wanted, Resolution::FiveSeconds, 1, now(START + 6 * 3600 + 5)).unwrap();
    assert_eq!(series.iter().map(|points| points[0].usage.cpu).collect::<Vec<_>>(), [1.0, 2.0, 1.0, 1.0]);
}

#[test]
fn traffic_is_counted_once_however_often_it_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let whole = instance();
    let replicas = [replica_of(whole), replica_of(whole)];
    let entries = vec![entry(replicas[0], 200, &[1_000; 90]), entry(replicas[1], 200, &[100_000; 10]), entry(whole, 503, &[500])];
    let slot = TrafficSlot { at: START, entries };
    for _ in 0..2 {
        store.metrics().record(Measured { at: START + 5, usage: vec![], traffic: vec![slot.clone()] }).unwrap();
    }
    let scope = MetricScope::Instance(Tenant::system(whole.workspace_id), whole.environment_id, whole.service_id);
    let window = MetricWindow { from: START, to: START + 3600, step: 3600 };
    let found = store.metrics().traffic(scope, window).unwrap();
    let seen: Vec<_> = found.iter().map(|point| (point.at, point.status, point.traffic.requests, point.traffic.tx_bytes)).collect();
    assert_eq!(seen, [(START, 200, 100, 10_000), (START, 503, 1, 100)]);
    let quantile = |q| found[0].traffic.durations.quantile(q).unwrap() / 1_000.0;
    assert!((0.9..=1.1).contains(&quantile(0.5)) && (90.0..=110.0).contains(&quantile(0.95)), "{} {}", quantile(0.5), quantile(0.95));
}

#[test]
fn old_files_go_and_each_window_is_still_covered() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let whole = instance();
    let replica = replica_of(whole);
    let day = 86_400;
    // An hour of measurements at the beginning of each of some days.
    for start in (0..12).map(|number| START + number * day) {
        for at in (start..start + 3600).step_by(60) {
            store.metrics().record(Measured { at, usage: vec![(replica, usage(1.0, 1.0))], traffic: vec![] }).unwrap();
        }
    }
    let end = START + 11 * day + 3600;
    assert!(store.purge(now(end)).unwrap().files > 0);
    let ask = |resolution, limit| {
        let wanted = [Series::Replica(replica.replica.unwrap().1)];
        store.metrics().series(Tenant::system(whole.workspace_id), &wanted, resolution, limit, now(end)).unwrap().remove(0)
    };
    let measured = |resolution, limit| ask(resolution, limit).iter().filter(|point| point.measured).count();
    assert_eq!(measured(Resolution::FiveSeconds, 720), 60);
    assert_eq!(measured(Resolution::ThreeMinutes, 480), 20, "a day");
    assert_eq!(measured(Resolution::OneHour, 720), 12, "30 days");
    assert_eq!(measured(Resolution::OneDay, 30), 12);
    let names: Vec<_> = std::fs::read_dir(dir.path().join("metrics")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    let of = |kind: &str| {
        names.iter().filter(|name| name.to_string_lossy().starts_with(kind) && name.to_string_lossy().ends_with(".db")).count()
    };
    assert_eq!((of("5s"), of("3m") <= 9), (1, true), "{names:?}");
}

#[test]
fn another_process_reads_and_does_not_write() {
    let dir = tempfile::tempdir().unwrap();
    let (writer, reader) = (open(dir.path()), open(dir.path()));
    let whole = instance();
    let replica = replica_of(whole);
    let measured = |at| Measured { at, usage: vec![(replica, usage(1.0, 1.0))], traffic: vec![] };
    writer.metrics().record(measured(START)).unwrap();
    let wanted = [Series::Instance(whole.environment_id, whole.service_id)];
    let tenant = Tenant::system(whole.workspace_id);
    let seen = || reader.metrics().series(tenant, &wanted, Resolution::FiveSeconds, 1, now(START + 6)).unwrap()[0][0].measured;
    assert!(seen());
    let refused = reader.metrics().record(measured(START + 5)).unwrap_err();
    assert!(refused.to_string().contains("another process"), "{refused}");
}

#[test]
fn a_file_from_before_backups_were_measured_is_read_and_written_to() {
    let dir = tempfile::tempdir().unwrap();
    let whole = instance();
    let replica = replica_of(whole);
    let measured = |at| Measured { at, usage: vec![(replica, usage(1.0, 1.0))], traffic: vec![] };
    open(dir.path()).metrics().record(measured(START)).unwrap();
    for entry in std::fs::read_dir(dir.path().join("metrics")).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.extension().is_some_and(|extension| extension == "db") {
            let file = rusqlite::Connection::open(entry).unwrap();
            file.execute_batch("ALTER TABLE usage DROP COLUMN backups; PRAGMA user_version = 1;").unwrap();
        }
    }
    let wanted = [Series::Instance(whole.environment_id, whole.service_id)];
    let seen = |store: &Telemetry, count: usize, at| {
        let series = store.metrics().series(Tenant::system(whole.workspace_id), &wanted, Resolution::FiveSeconds, count, now(at)).unwrap();
        series[0].iter().map(|point| (point.usage.ephemeral_disk, point.usage.backups)).collect::<Vec<_>>()
    };
    let store = open(dir.path());
    assert_eq!(seen(&store, 1, START + 6), [(7.0, 0.0)]);
    store.metrics().record(measured(START + 5)).unwrap();
    assert_eq!(seen(&store, 2, START + 11), [(7.0, 5.0), (7.0, 0.0)], "the newest interval comes first");
}
