use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use domain::log::SpoolLine;
use rand::RngExt;
use telemetry::{Ingested, Replay};

use super::*;

fn spool_line(number: usize) -> String {
    let line = SpoolLine { nanos: MIDNIGHT + number as i64, error: false, message: number.to_string() };
    serde_json::to_string(&line).unwrap() + "\n"
}

fn segment(dir: &Path, number: usize) -> PathBuf {
    dir.join(format!("{number:06}.log"))
}

fn write_segment(dir: &Path, number: usize, lines: std::ops::Range<usize>) {
    std::fs::create_dir_all(dir).unwrap();
    std::fs::write(segment(dir, number), lines.map(spool_line).collect::<String>()).unwrap();
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to.join(entry.file_name()));
        } else {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

fn numbers(store: &Telemetry, source: &LogSource) -> Vec<usize> {
    let lines = store.query(&all(deployment(source))).unwrap();
    assert!(times_grow(&lines));
    lines.iter().map(|line| line.message.parse().unwrap()).collect()
}

#[tokio::test]
async fn lines_are_taken_apart_and_damage_is_shown() {
    let dir = tempfile::tempdir().unwrap();
    let (store, spool, source) = (open(dir.path()), dir.path().join("spool"), deploy_source());
    assert_eq!(store.ingest(&source, &spool).await.unwrap(), Ingested::default(), "no folder yet");
    std::fs::create_dir(&spool).unwrap();
    let text = format!(
        "{}{}garbage\n\u{fffd}\n{}{{\"n\":99",
        spool_line(0),
        "{\"n\":1795219200000000001,\"e\":true,\"m\":\"{\\\"level\\\":\\\"warn\\\",\\\"msg\\\":\\\"slow\\\",\\\"ms\\\":12}\"}\n",
        "{\"n\":1795219200000000002,\"e\":true,\"m\":\"plain\"}\n",
    );
    std::fs::write(segment(&spool, 1), &text).unwrap();
    assert_eq!(store.ingest(&source, &spool).await.unwrap(), Ingested { lines: 3, unreadable: 2 });
    let lines = store.query(&all(deployment(&source))).unwrap();
    let seen: Vec<_> = lines.iter().map(|line| (line.severity, line.message.as_str())).collect();
    assert_eq!(
        seen,
        [
            (Severity::Info, "0"),
            (Severity::Warn, "slow"),
            (Severity::Warn, "2 lines of this log were damaged and could not be read"),
            (Severity::Error, "plain"),
        ]
    );
    assert_eq!(lines[1].attributes, [("ms".to_owned(), "12".to_owned())]);
    assert!(times_grow(&lines));
    // The last line is completed later.
    std::fs::write(segment(&spool, 1), text.clone() + ",\"m\":\"tail\"}\n").unwrap();
    assert_eq!(store.ingest(&source, &spool).await.unwrap(), Ingested { lines: 1, unreadable: 0 });
    // A segment that ends in the middle of a line and has a successor will not be completed.
    std::fs::write(segment(&spool, 1), text + ",\"m\":\"tail\"}\n{\"n\":100,\"m\":\"x").unwrap();
    write_segment(&spool, 2, 200..201);
    assert_eq!(store.ingest(&source, &spool).await.unwrap(), Ingested { lines: 1, unreadable: 1 });
    let lines = store.query(&all(deployment(&source))).unwrap();
    assert_eq!(messages(&lines)[4..], ["tail", "1 line of this log was damaged and could not be read", "200"]);
    assert!(!segment(&spool, 1).exists() && segment(&spool, 2).exists());
}

#[tokio::test]
async fn segments_that_a_full_spool_dropped_leave_a_notice() {
    let dir = tempfile::tempdir().unwrap();
    let (store, spool, source) = (open(dir.path()), dir.path().join("spool"), deploy_source());
    write_segment(&spool, 0, 0..2);
    store.ingest(&source, &spool).await.unwrap();
    write_segment(&spool, 1, 2..3);
    store.ingest(&source, &spool).await.unwrap();
    // An empty segment is no loss.
    write_segment(&spool, 2, 0..0);
    write_segment(&spool, 3, 3..4);
    store.ingest(&source, &spool).await.unwrap();
    std::fs::remove_file(segment(&spool, 3)).unwrap();
    write_segment(&spool, 5, 50..51);
    write_segment(&spool, 6, 51..52);
    assert_eq!(store.ingest(&source, &spool).await.unwrap(), Ingested { lines: 2, unreadable: 0 });
    let lines = store.query(&all(deployment(&source))).unwrap();
    assert_eq!(messages(&lines), ["0", "1", "2", "3", "older lines of this log were dropped: they were not read in time", "50", "51"]);
    assert!(times_grow(&lines));
}

/// After every step that leaves a trace on disk, the state is copied and a new process starts from the copy.
#[tokio::test]
async fn a_crash_between_any_two_steps_loses_and_repeats_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, source) = (dir.path().join("spool"), deploy_source());
    let mut written = 0;
    let (mut states, mut spools) = (vec![], vec![]);
    {
        let store = open(dir.path());
        for number in 1..=6 {
            write_segment(&spool, number, written..written + 500);
            written += 500;
            // A copy of the spool before each ingest: with a later state of the store it is a crash before the segments were deleted.
            let kept = tempfile::tempdir().unwrap();
            copy(&spool, kept.path());
            spools.push(kept);
            store.ingest(&source, &spool).await.unwrap();
            let state = tempfile::tempdir().unwrap();
            copy(dir.path(), state.path());
            states.push(state);
        }
    }
    for (number, state) in states.iter().enumerate() {
        for kept in [None, Some(&spools[number])] {
            let crashed = tempfile::tempdir().unwrap();
            copy(state.path(), crashed.path());
            let spool = crashed.path().join("spool");
            if let Some(kept) = kept {
                copy(kept.path(), &spool);
            }
            // The replica goes on: first in the segment of that time, then in a new one.
            let so_far = (number + 1) * 500;
            let current = segment(&spool, number + 1);
            let mut file = std::fs::File::options().append(true).open(&current).unwrap();
            file.write_all((so_far..so_far + 10).map(spool_line).collect::<String>().as_bytes()).unwrap();
            write_segment(&spool, number + 2, so_far + 10..so_far + 20);
            let store = open(crashed.path());
            // The position names the folder that it is of; a moved one is the same spool for this test.
            store.ingest(&source, &spool).await.unwrap();
            assert_eq!(numbers(&store, &source), (0..so_far + 20).collect::<Vec<_>>(), "state {number}");
            assert!(!current.exists());
        }
    }
}

/// The part of the next test that is killed: ingests again and again and says so.
#[test]
fn child() {
    let Some(dir) = std::env::var_os("TELEMETRY_TEST_DIR").map(PathBuf::from) else { return };
    let source: LogSource = serde_json::from_str(&std::env::var("TELEMETRY_TEST_SOURCE").unwrap()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let store = open(&dir);
    runtime.block_on(async {
        loop {
            let ingested = store.ingest(&source, &dir.join("spool")).await.unwrap();
            if ingested.lines > 0 {
                println!("ingested");
            }
        }
    });
}

#[test]
fn kill_nine_at_any_moment_loses_and_repeats_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, source) = (dir.path().join("spool"), deploy_source());
    std::fs::create_dir(&spool).unwrap();
    let mut random = rand::rng();
    let (mut written, mut current) = (0, 1);
    for _ in 0..25 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "ingest::child", "--nocapture"])
            .env("TELEMETRY_TEST_DIR", dir.path())
            .env("TELEMETRY_TEST_SOURCE", serde_json::to_string(&source).unwrap())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // It is at work; from here on it races with what is written, in pieces that need not end with a line.
        let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut pending = String::new();
        for round in 0..random.random_range(2..30) {
            if random.random_ratio(1, 4) && pending.is_empty() {
                current += 1;
            }
            let count = random.random_range(1..400);
            pending.extend((written..written + count).map(spool_line));
            written += count;
            let mut cut = random.random_range(0..=pending.len());
            if random.random_ratio(1, 2) {
                cut = pending.len();
            }
            let mut file = std::fs::File::options().create(true).append(true).open(segment(&spool, current)).unwrap();
            file.write_all(pending.drain(..cut).as_str().as_bytes()).unwrap();
            if round == 0 {
                file.write_all(std::mem::take(&mut pending).as_bytes()).unwrap();
                output.find(|line| line.as_ref().is_ok_and(|line| line.contains("ingested"))).unwrap().unwrap();
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        std::fs::File::options().create(true).append(true).open(segment(&spool, current)).unwrap().write_all(pending.as_bytes()).unwrap();
    }
    write_segment(&spool, current + 1, written..written + 1);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let store = open(dir.path());
    runtime.block_on(store.ingest(&source, &spool)).unwrap();
    assert_eq!(numbers(&store, &source), (0..=written).collect::<Vec<_>>());
    assert_eq!(std::fs::read_dir(&spool).unwrap().count(), 1, "finished segments are deleted");
}

#[tokio::test]
async fn a_quiet_replica_is_not_read_again_after_retention() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, source) = (dir.path().join("spool"), deploy_source());
    write_segment(&spool, 1, 0..10);
    let store = open(dir.path());
    store.ingest(&source, &spool).await.unwrap();
    store.purge(jiff::Timestamp::from_nanosecond(i128::from(MIDNIGHT + 40 * DAY)).unwrap()).unwrap();
    assert_eq!(numbers(&store, &source), [] as [usize; 0]);
    drop(store);
    let store = open(dir.path());
    assert_eq!(store.ingest(&source, &spool).await.unwrap(), Ingested::default());
    // Once more, with the position where retention has put it.
    store.purge(jiff::Timestamp::from_nanosecond(i128::from(MIDNIGHT + 90 * DAY)).unwrap()).unwrap();
    drop(store);
    assert_eq!(open(dir.path()).ingest(&source, &spool).await.unwrap(), Ingested::default());
}

#[tokio::test]
async fn a_spool_that_spans_days_is_followed_in_order() {
    use futures::StreamExt;
    let dir = tempfile::tempdir().unwrap();
    let (store, spool, source) = (open(dir.path()), dir.path().join("spool"), deploy_source());
    let mut stream = Box::pin(store.follow(deployment(&source), Filter::default(), Replay { limit: 10, after: None, before: None }));
    assert_eq!(stream.next().await, Some(vec![]));
    std::fs::create_dir(&spool).unwrap();
    let text = |number: i64| format!("{{\"n\":{},\"m\":\"{number}\"}}\n", MIDNIGHT + number * DAY / 2);
    std::fs::write(segment(&spool, 7), (0..6).map(text).collect::<String>()).unwrap();
    store.ingest(&source, &spool).await.unwrap();
    let mut seen = vec![];
    while seen.len() < 6 {
        seen.extend(stream.next().await.unwrap());
    }
    assert_eq!(numbers(&store, &source), [0, 1, 2, 3, 4, 5]);
    assert_eq!(store.query(&all(deployment(&source))).unwrap(), seen);
}
