//! The simulator answers as an app would and fails as it is told to.

mod support;

use std::time::Duration;

use domain::ReplicaId;
use domain::shell::ShellSpec;
use runtime::sim::{Ending, Script, SimDriver};
use runtime::{Driver, DriverError, ObservedPhase};
use support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn get(port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n").await?;
    let mut answer = vec![0; 4096];
    let length = stream.read(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
}

#[tokio::test]
async fn a_played_replica_answers_until_it_ends() {
    let (place, driver) = (Place::new(), SimDriver::new());
    let start = async |script: Script| -> ReplicaId {
        let spec = place.spec("");
        let id = spec.replica_id;
        driver.script_next(script);
        driver.start(spec).await.expect("a start");
        id
    };
    let id = start(Script::default()).await;
    let port = wait(&driver, id, |seen| seen.phase == ObservedPhase::Running).await.port;
    assert!(get(port).await.expect("an answer").ends_with(&id.to_string()));
    driver.answer(id, 503);
    assert!(get(port).await.expect("an answer").starts_with("HTTP/1.1 503"));
    driver.stop(id, Duration::from_secs(600)).await.expect("a stop");
    wait(&driver, id, |seen| seen.phase == ObservedPhase::Stopped).await;
    wait(&driver, id, |_| std::net::TcpStream::connect(("127.0.0.1", port)).is_err()).await;
    driver.forget(id).await.expect("it has ended");

    let never = start(Script { listens_after: Some(Duration::from_secs(3600)), ..Script::default() }).await;
    let port = wait(&driver, never, |_| true).await.port;
    assert!(get(port).await.is_err());
    let late = start(Script { listens_after: Some(Duration::from_millis(100)), ..Script::default() }).await;
    let port = wait(&driver, late, |_| true).await.port;
    wait(&driver, late, |_| std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()).await;

    let crashes = start(Script { ending: Some((Duration::ZERO, Ending::Crash(3))), ..Script::default() }).await;
    assert_eq!(crash_reason(&wait(&driver, crashes, |seen| seen.phase.is_over()).await), "exited with status 3");
    driver.lose(late);
    wait(&driver, late, |seen| seen.phase == ObservedPhase::Lost).await;

    driver.script_next(Script { refuse_start: Some("no room".into()), ..Script::default() });
    assert!(matches!(driver.start(place.spec("")).await, Err(DriverError::Simulated(reason)) if reason == "no room"));
    assert!(matches!(driver.shell(crashes, ShellSpec::default()).await, Err(DriverError::Simulated(_))));
}
