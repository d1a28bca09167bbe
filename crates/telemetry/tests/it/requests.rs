use std::io::Write;

use domain::log::AccessLine;
use telemetry::Replay;

use super::*;

fn access(source: &LogSource, nanos: i64, path: &str, status: u16) -> AccessLine {
    AccessLine {
        timestamp: jiff::Timestamp::from_nanosecond(i128::from(nanos)).unwrap(),
        request_id: format!("r-{nanos}"),
        method: "GET".into(),
        path: path.into(),
        host: "a.localhost".into(),
        status,
        total_duration: 12,
        upstream_rq_duration: 11,
        client_ua: "curl".into(),
        src_ip: "127.0.0.1".parse().unwrap(),
        tx_bytes: 5,
        rx_bytes: 0,
        upstream_address: "127.0.0.1:20000".into(),
        upstream_proto: "HTTP/1.1".into(),
        downstream_proto: "HTTP/1.1".into(),
        upstream_errors: String::new(),
        response_details: String::new(),
        workspace_id: source.workspace_id,
        project_id: source.project_id,
        environment_id: source.environment_id,
        service_id: source.service_id,
        deployment_id: Some(source.deployment_id),
        replica_id: source.replica_id,
    }
}

fn append(spool: &Path, segment: usize, lines: &[AccessLine]) {
    std::fs::create_dir_all(spool).unwrap();
    let path = spool.join(format!("{segment:06}.log"));
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
    for line in lines {
        writeln!(file, "{}", serde_json::to_string(line).unwrap()).unwrap();
    }
}

fn requests(source: &LogSource) -> LogScope {
    LogScope::Requests { tenant: Tenant::system(source.workspace_id), deployment: source.deployment_id }
}

#[tokio::test]
async fn requests_are_brought_in_once_and_found_by_their_fields() {
    let dir = tempfile::tempdir().unwrap();
    let (store, spool, source) = (open(dir.path()), dir.path().join("log"), deploy_source());
    append(&spool, 1, &[access(&source, MIDNIGHT, "/a", 200), access(&source, MIDNIGHT + 1, "/b", 404)]);
    assert_eq!(store.ingest_requests("local", &spool).await.unwrap().lines, 2);
    let mut followed = std::pin::pin!(store.follow(requests(&source), Filter::default(), Replay { limit: 10, after: None, before: None }));
    use futures::StreamExt;
    assert_eq!(messages(&followed.next().await.unwrap()), ["GET /a 200", "GET /b 404"]);
    append(&spool, 2, &[access(&source, MIDNIGHT + 2, "/c", 500)]);
    std::fs::OpenOptions::new().append(true).open(spool.join("000002.log")).unwrap().write_all(b"garbage\n").unwrap();
    assert_eq!(store.ingest_requests("local", &spool).await.unwrap().unreadable, 1);
    assert_eq!(messages(&followed.next().await.unwrap()), ["GET /c 500"]);
    assert!(!spool.join("000001.log").exists(), "a segment that is done with goes");
    let store = open(dir.path());
    let find = |filter: &str| {
        let query = LogQuery { filter: Filter::parse(filter).unwrap(), ..all(requests(&source)) };
        store.query(&query).unwrap().iter().map(|line| line.message.clone()).collect::<Vec<_>>()
    };
    assert_eq!(find("").len(), 3);
    assert_eq!(find("@httpStatus:>=400"), ["GET /b 404", "GET /c 500"]);
    assert_eq!(find("@path:/b"), ["GET /b 404"]);
    assert_eq!(find("@method:GET -@httpStatus:200..299 @totalDuration:>10 @edgeRegion:local").len(), 2);
    assert_eq!(find("@requestId:r-1").len(), 0);
    // They are no lines of the app, and no other tenant's.
    assert!(store.query(&all(deployment(&source))).unwrap().is_empty());
    let stranger = LogScope::Requests { tenant: Tenant::system(WorkspaceId::generate()), deployment: source.deployment_id };
    assert!(store.query(&all(stranger)).unwrap().is_empty());
}

#[tokio::test]
async fn a_flood_of_requests_is_cut_and_does_not_stop_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let (store, spool, source, quiet) = (open(dir.path()), dir.path().join("log"), deploy_source(), deploy_source());
    let flood: Vec<_> = (0..5_000).map(|number| access(&source, MIDNIGHT + number, "/", 200)).collect();
    append(&spool, 1, &flood);
    append(&spool, 1, &[access(&quiet, MIDNIGHT + 9_000, "/quiet", 200)]);
    store.ingest_requests("local", &spool).await.unwrap();
    append(&spool, 1, &[access(&source, MIDNIGHT + 1_000_000_000, "/next-second", 200)]);
    store.ingest_requests("local", &spool).await.unwrap();
    let kept = store.query(&all(requests(&source))).unwrap();
    assert!((501..600).contains(&kept.len()), "{}", kept.len());
    assert_eq!(kept.last().unwrap().message, "GET /next-second 200");
    assert_eq!(messages(&store.query(&all(requests(&quiet))).unwrap()), ["GET /quiet 200"]);
}

#[tokio::test]
async fn requests_that_have_no_log_do_not_stop_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let (store, spool, source) = (open(dir.path()), dir.path().join("log"), deploy_source());
    // More than is read at once.
    let nowhere = |number: i64| AccessLine { deployment_id: None, ..access(&source, MIDNIGHT + number, "/nowhere", 404) };
    append(&spool, 1, &(0..1_000).map(nowhere).collect::<Vec<_>>());
    append(&spool, 1, &[access(&source, MIDNIGHT + 1_000, "/here", 200)]);
    assert_eq!(store.ingest_requests("local", &spool).await.unwrap().lines, 1);
    append(&spool, 2, &(2_000..3_000).map(nowhere).collect::<Vec<_>>());
    append(&spool, 3, &[access(&source, MIDNIGHT + 3_000, "/after", 200)]);
    assert_eq!(store.ingest_requests("local", &spool).await.unwrap().lines, 1);
    assert_eq!(messages(&store.query(&all(requests(&source))).unwrap()), ["GET /here 200", "GET /after 200"]);
    assert!(!spool.join("000001.log").exists() && !spool.join("000002.log").exists());
}
