use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::{Stream, StreamExt};
use telemetry::Replay;

use super::*;

const REPLAY: Replay = Replay { limit: 100_000, after: None, before: None };

/// Collects until so many lines have come.
async fn take(stream: impl Stream<Item = Vec<LogLine>>, count: usize) -> Vec<LogLine> {
    let mut stream = pin!(stream);
    let mut lines = vec![];
    while lines.len() < count {
        lines.extend(stream.next().await.expect("the stream ended early"));
    }
    lines.retain(|line| line.message != "the end");
    lines
}

/// Four writers, one deployment each; every line says whose it is and which.
async fn write(store: &Telemetry, sources: &[LogSource], rounds: usize) {
    let writers = sources.iter().enumerate().map(|(writer, source)| {
        let (store, source) = (store.clone(), source.clone());
        tokio::spawn(async move {
            for round in 0..rounds {
                let lines = (0..8).map(|i| line(&source, MIDNIGHT, &format!("{writer} {}", round * 8 + i))).collect();
                store.append(lines).await.unwrap();
            }
        })
    });
    for writer in futures::future::join_all(writers).await {
        writer.unwrap();
    }
}

fn assert_whole(lines: &[LogLine], rounds: usize) {
    for writer in 0..4 {
        let own: Vec<&LogLine> = lines.iter().filter(|line| line.message.starts_with(&format!("{writer} "))).collect();
        let numbers: Vec<usize> = own.iter().map(|line| line.message[2..].parse().unwrap()).collect();
        assert_eq!(numbers, (0..rounds * 8).collect::<Vec<_>>(), "lines of writer {writer}");
        assert!(own.windows(2).all(|pair| pair[0].nanos < pair[1].nanos));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn followers_miss_nothing_and_see_nothing_twice() {
    const ROUNDS: usize = 150;
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let first = deploy_source();
    // Four streams of one environment.
    let sources: Vec<LogSource> = (0..4)
        .map(|_| LogSource { deployment_id: DeploymentId::generate(), replica_id: Some(ReplicaId::generate()), ..first.clone() })
        .collect();
    let scope = LogScope::Environment { tenant: Tenant::system(first.workspace_id), environment: first.environment_id };

    let total = 4 * ROUNDS * 8;
    let eager: Vec<_> = (0..3).map(|_| tokio::spawn(take(store.follow(scope, Filter::default(), REPLAY), total))).collect();
    let writing = tokio::spawn({
        let (store, sources) = (store.clone(), sources.clone());
        async move { write(&store, &sources, ROUNDS).await }
    });
    // This one takes its replay in the middle of the writing and the rest only when all is written: it has to catch up from disk.
    let mut slow = Box::pin(store.follow(scope, Filter::default(), REPLAY));
    let mut early = slow.next().await.unwrap();
    // These come all along the writing.
    let mut late = vec![];
    let mut pace = Box::pin(store.follow(scope, Filter::default(), Replay { limit: 0, ..REPLAY }));
    while late.len() < 40 {
        // Lines that come together are one item: there may be fewer of those than followers.
        let _ = tokio::time::timeout(Duration::from_millis(20), pace.next()).await;
        late.push(tokio::spawn(take(store.follow(scope, Filter::default(), REPLAY), total)));
    }
    writing.await.unwrap();
    store.append(vec![line(&sources[0], MIDNIGHT, "the end")]).await.unwrap();

    while early.last().is_none_or(|line| line.message != "the end") {
        early.extend(slow.next().await.unwrap());
    }
    assert_whole(&early, ROUNDS);
    for follower in eager.into_iter().chain(late) {
        assert_whole(&follower.await.unwrap(), ROUNDS);
    }
    // Nothing follows: the next thing that a follower hears is the end.
    drop(store);
    assert_eq!(slow.next().await, None);
}

#[tokio::test]
async fn the_replay_is_the_first_item_even_when_empty() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let source = deploy_source();
    let mut stream =
        Box::pin(store.follow(deployment(&source), Filter::parse("x").unwrap(), Replay { limit: 2, after: None, before: None }));
    assert_eq!(stream.next().await, Some(vec![]));
    store.append(["x1", "y1", "x2", "x3"].iter().map(|text| line(&source, MIDNIGHT, text)).collect()).await.unwrap();
    assert_eq!(messages(&stream.next().await.unwrap()), ["x1", "x2", "x3"]);

    let replay = Replay { limit: 2, after: None, before: None };
    let mut again = Box::pin(store.follow(deployment(&source), Filter::parse("x").unwrap(), replay));
    assert_eq!(messages(&again.next().await.unwrap()), ["x2", "x3"]);
    let mut ranged = Box::pin(store.follow(
        deployment(&source),
        Filter::default(),
        Replay { after: Some(MIDNIGHT), before: Some(MIDNIGHT + 3), limit: 9 },
    ));
    assert_eq!(messages(&ranged.next().await.unwrap()), ["y1", "x2"]);
}

#[tokio::test]
async fn a_follower_hears_of_its_own_tenant_only() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mine = deploy_source();
    let theirs = LogSource { workspace_id: WorkspaceId::generate(), ..mine.clone() };
    let mut stream = Box::pin(store.follow(deployment(&mine), Filter::default(), REPLAY));
    assert_eq!(stream.next().await, Some(vec![]));
    store.append(vec![line(&theirs, MIDNIGHT, "theirs"), line(&mine, MIDNIGHT, "mine")]).await.unwrap();
    assert_eq!(messages(&stream.next().await.unwrap()), ["mine"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_followers_share_a_stream() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let source = deploy_source();
    let ready = Arc::new(AtomicUsize::new(0));
    let all_ready = Arc::new(tokio::sync::Notify::new());
    let followers: Vec<_> = (0..1000)
        .map(|_| {
            let (ready, all_ready) = (Arc::clone(&ready), Arc::clone(&all_ready));
            let mut stream = Box::pin(store.follow(deployment(&source), Filter::default(), REPLAY));
            tokio::spawn(async move {
                assert_eq!(stream.next().await, Some(vec![]));
                if ready.fetch_add(1, Ordering::SeqCst) == 999 {
                    all_ready.notify_one();
                }
                take(stream, 200).await
            })
        })
        .collect();
    all_ready.notified().await;
    for round in 0..20 {
        store.append((0..10).map(|i| line(&source, MIDNIGHT, &format!("{}", round * 10 + i))).collect()).await.unwrap();
    }
    let expected: Vec<String> = (0..200).map(|number| number.to_string()).collect();
    for follower in followers {
        assert_eq!(messages(&follower.await.unwrap()), expected);
    }
}
