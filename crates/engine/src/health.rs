//! Whether replicas answer.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use domain::deployment::Deployment;
use domain::{ReplicaId, Timestamp};
use futures::future::{Either, select};
use http_body_util::Empty;
use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::{Home, Shared, lock, steps};

/// What a check knows of a replica's present life; a restart of the app is another life.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Mark {
    Asking,
    Healthy,
}

/// The results of the checks.
#[derive(Default)]
pub(crate) struct Board {
    marks: Mutex<HashMap<ReplicaId, (u32, Mark, CancellationToken)>>,
}

/// What an app must do to count as healthy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    /// Answer `GET` of this path with 200 (`contracts/railway.md` 3.8).
    Ok(String),
    /// Say anything to `GET /` (`contracts/galaxy.md` 3.11).
    Word,
    /// Accept a connection.
    Connection,
}

/// Which check a deployment asks for.
#[derive(Clone, Debug)]
pub(crate) struct Check {
    pub(crate) port: u16,
    /// Whom the app runs as. Replicas share the machine's ports, so somebody else could listen where this one was told to.
    pub(crate) owner: Option<u32>,
    pub(crate) sign: Sign,
    /// When the deployment gives up, if a path is asked.
    pub(crate) until: Option<Timestamp>,
    /// An app that never listens counts as healthy once it has run so long; `None` when requests will be sent to it.
    pub(crate) grace: Option<Duration>,
}

impl Board {
    pub(crate) fn is_healthy(&self, replica: ReplicaId, life: u32) -> bool {
        lock(&self.marks).get(&replica).is_some_and(|(seen, mark, _)| *seen == life && *mark == Mark::Healthy)
    }

    /// Takes over what the store says after a restart of the control plane: traffic goes on while nothing speaks against it.
    pub(crate) fn adopt(&self, replica: ReplicaId, life: u32) {
        lock(&self.marks).entry(replica).or_insert((life, Mark::Healthy, CancellationToken::new()));
    }

    pub(crate) fn forget(&self, replica: ReplicaId) {
        if let Some((_, _, cancel)) = lock(&self.marks).remove(&replica) {
            cancel.cancel();
        }
    }

    /// Begins a check of this life unless there is one.
    pub(crate) fn ask(&self, shared: &Arc<Shared>, deployment: &Deployment, replica: ReplicaId, life: u32, check: Check) {
        let cancel = shared.shutdown.child_token();
        {
            let mut marks = lock(&self.marks);
            match marks.get(&replica) {
                Some((seen, _, _)) if *seen == life => return,
                Some((_, _, earlier)) => earlier.cancel(),
                None => {}
            }
            marks.insert(replica, (life, Mark::Asking, cancel.clone()));
        }
        let (shared, deployment) = (shared.clone(), deployment.clone());
        let tracker = shared.tracker.clone();
        tracker.spawn(async move {
            tokio::select! {
                () = cancel.cancelled() => {}
                () = until_healthy(&shared, &deployment, &check) => {
                    answer(&shared, (deployment.workspace_id, deployment.instance_id), replica, life);
                }
            }
        });
    }
}

fn answer(shared: &Shared, (workspace, instance): Home, replica: ReplicaId, life: u32) {
    if let Some((seen, mark, _)) = lock(&shared.health.marks).get_mut(&replica)
        && *seen == life
    {
        *mark = Mark::Healthy;
    }
    shared.look(workspace, instance);
}

/// The first attempt that fails is told after so long, the next after twice as long, and so on up to [`RARELY`].
const OFTEN: Duration = Duration::from_secs(1);
const RARELY: Duration = Duration::from_secs(30);

/// An app that has said nothing for so long is asked anew, and has twice as long then: who compiles at the first request is not given up
/// for it. How long that may go on is the deployment's own limit.
const FIRST_WORD: Duration = Duration::from_secs(5);
const LATEST_WORD: Duration = Duration::from_secs(60);

/// A port gives no sign when someone begins to listen on it, so it is asked again and again, ever less often.
async fn until_healthy(shared: &Shared, deployment: &Deployment, check: &Check) {
    let begun = tokio::time::Instant::now();
    let mut pause = Duration::from_millis(5);
    let mut word = FIRST_WORD;
    let (mut told, mut tell_at, mut tell_pause) = (0, begun + OFTEN, OFTEN);
    // Who is deployed and must answer, is told once where.
    let mut must_listen = check.until.is_some() && check.grace.is_none();
    loop {
        let asked = tokio::time::Instant::now();
        let strange = check.owner.is_some_and(|own| runtime::port_owner(check.port, own).is_some_and(|found| found != own));
        let failure = match &check.sign {
            _ if strange => Some("another user listens on its port".to_owned()),
            Sign::Ok(path) => answers_ok(check.port, path).await.err(),
            Sign::Word => (!speaks(check.port, word).await).then(String::new),
            Sign::Connection => connect(check.port).await.is_none().then(String::new),
        };
        let patient = check.grace.is_some_and(|grace| begun.elapsed() >= grace) && !strange && !matches!(check.sign, Sign::Ok(_));
        let Some(failure) = failure.filter(|_| !patient) else { return };
        if asked.elapsed() >= word {
            word = (word * 2).min(LATEST_WORD);
        }
        if let (Some(until), Sign::Ok(_)) = (check.until, &check.sign)
            && tokio::time::Instant::now() >= tell_at
        {
            (told, tell_pause) = (told + 1, (tell_pause * 2).min(RARELY));
            tell_at += tell_pause;
            steps::tell_attempt(shared, deployment, told, &failure, until).await;
        }
        if must_listen && begun.elapsed() >= shared.config.watch.silence {
            must_listen = false;
            if connect(check.port).await.is_none() {
                steps::tell_silence(shared, deployment, check.port).await;
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 3 / 2).min(Duration::from_millis(500));
    }
}

async fn connect(port: u16) -> Option<TcpStream> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    tokio::time::timeout(Duration::from_secs(2), TcpStream::connect(address)).await.ok()?.ok()
}

/// `GET path` with the Host that apps know from the contract (`contracts/railway.md` 3.8), wanting 200; otherwise what came instead.
async fn answers_ok(port: u16, path: &str) -> Result<(), String> {
    let ask = get(port, path, "healthcheck.railway.app", "Orrery-Healthcheck/1");
    match tokio::time::timeout(Duration::from_secs(5), ask).await {
        Ok(Some(status)) if status == 200 => Ok(()),
        Ok(Some(status)) if status != 503 => Err(format!("status {}", status.as_u16())),
        Ok(_) => Err("service unavailable".to_owned()),
        Err(_) => Err("no answer within 5 seconds".to_owned()),
    }
}

/// What is asked of an app that need not answer 200. The connection ends with the answer, so that the app does not wait for more.
const ASK: &[u8] = b"GET / HTTP/1.1\r\nhost: localhost\r\nuser-agent: Galaxybot/1.0 (Orrery)\r\nconnection: close\r\n\r\n";
/// What is left of an answer is taken for so long, and so much of it: an app that is hung up on complains in its log.
const REST: (Duration, u64) = (Duration::from_millis(500), 64 << 10);

/// Whether an app of this machine says anything to `GET /` in time: an answer of any status, words that are no HTTP, or that it hangs up,
/// as do apps that speak something else. Silence alone is what a hung app has in common with none.
pub(crate) async fn speaks(port: u16, limit: Duration) -> bool {
    let first = async {
        let mut stream = connect(port).await?;
        // Whoever hangs up while being asked has been there.
        if stream.write_all(ASK).await.is_ok() && matches!(stream.read(&mut [0; 1]).await, Ok(1)) {
            return Some(Some(stream));
        }
        Some(None)
    };
    let Ok(Some(speaker)) = tokio::time::timeout(limit, first).await else { return false };
    if let Some(stream) = speaker {
        // Nobody waits for it.
        tokio::spawn(async move { tokio::time::timeout(REST.0, tokio::io::copy(&mut stream.take(REST.1), &mut tokio::io::sink())).await });
    }
    true
}

/// The status of the answer to `GET path` from an app of this machine; `None` when there is no well-formed one.
async fn get(port: u16, path: &str, host: &str, agent: &str) -> Option<StatusCode> {
    let stream = connect(port).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
    let request = hyper::Request::get(path).header("host", host).header("user-agent", agent).body(Empty::<Bytes>::new()).ok()?;
    let response = match select(pin!(sender.send_request(request)), pin!(connection)).await {
        Either::Left((response, _)) => response,
        // The app has closed after its answer, which is still to be taken.
        Either::Right((_, response)) => response.await,
    };
    Some(response.ok()?.status())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_app_may_close_after_an_answer_without_a_body() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let app = tokio::spawn(async move {
            for answer in ["HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n", "hello\r\n\r\n"] {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut buffer = [0; 4096];
                let count = stream.read(&mut buffer).await.unwrap();
                assert!(String::from_utf8_lossy(&buffer[..count]).starts_with("GET /up HTTP/1.1\r\nhost: here\r\n"));
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        assert_eq!(get(port, "/up", "here", "Test/1").await, Some(StatusCode::NO_CONTENT));
        assert_eq!(get(port, "/up", "here", "Test/1").await, None, "that was no answer");
        app.await.unwrap();
    }

    #[tokio::test]
    async fn whoever_says_anything_is_there_and_whoever_is_silent_is_not() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let app = tokio::spawn(async move {
            for answer in ["HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n", "220 mail.example.com\r\n", ""] {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
            listener
        });
        for what in ["an error", "no HTTP", "the end of the connection"] {
            assert!(speaks(port, FIRST_WORD).await, "{what}");
        }
        let silent = app.await.unwrap();
        assert!(!speaks(port, Duration::from_millis(50)).await, "the kernel has taken the connection, and nobody answers");
        drop(silent);
        // Bound, so that nobody else listens there.
        let held = tokio::net::TcpSocket::new_v4().unwrap();
        held.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        assert!(!speaks(held.local_addr().unwrap().port(), FIRST_WORD).await, "nobody listens");
    }
}
