//! `railway up`: what is taken, what is refused, and that a refusal leaves nothing behind.

mod server;

use server::{LIMIT, Person, Reply, Server, upload_head};
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;

async fn up(server: &Server, person: &Person, token: &str, body: &[u8]) -> Reply {
    let head = upload_head(server, person, token, &format!("Content-Length: {}", body.len()));
    server.raw(&[head.as_bytes(), body].concat()).await
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn an_upload_is_kept_by_its_hash_and_becomes_a_deployment() {
    let server = Server::start().await;
    let ada = server.person("ada@example.com", None).await;
    let archive = vec![0x1f; 300_000];

    let reply = up(&server, &ada, &ada.token, &archive).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let answer = reply.json();
    for field in ["deploymentId", "url", "logsUrl", "deploymentDomain"] {
        assert!(answer[field].is_string(), "{field}: {answer}");
    }
    let logs = answer["logsUrl"].as_str().unwrap();
    let id = answer["deploymentId"].as_str().unwrap();
    let (before, query) = logs.split_once('?').unwrap();
    assert!(before.contains(&format!("/project/{}/service/", ada.project)), "{logs}");
    assert_eq!(query, format!("id={id}&environmentId={}", ada.environment));
    assert_eq!(std::fs::read(server.blobs().join(hex(&archive))).unwrap(), archive);

    // The same archive again, to the service that the first one made.
    let service = before.rsplit('/').next().unwrap();
    let path = format!("/project/{}/environment/{}/up?serviceId={service}&message=second%20try", ada.project, ada.environment);
    let again = server.call("POST", &path, &[("Authorization", &format!("Bearer {}", ada.token))], &archive).await;
    assert_eq!(again.status, 200, "{}", again.text());
    assert!(again.json()["logsUrl"].as_str().unwrap().starts_with(before));
    assert_ne!(again.json()["deploymentId"], answer["deploymentId"]);
    assert_eq!(server.stored().into_iter().collect::<Vec<_>>(), [hex(&archive)]);

    // The link that the client prints leads somewhere, for its owner.
    let page = server.get(logs.strip_prefix(&server.origin()).unwrap(), Some(&server.browser(&ada).await)).await;
    assert_eq!(page.status, 200);
    assert!(page.text().contains(id) && page.text().contains("INITIALIZING"), "{}", page.text());
    let eve = server.person("eve@example.com", None).await;
    let page = server.get(logs.strip_prefix(&server.origin()).unwrap(), Some(&server.browser(&eve).await)).await;
    assert_eq!(page.status, 404);
    assert!(!page.text().contains("INITIALIZING"));
    server.end().await;
}

#[tokio::test]
async fn an_upload_that_is_sent_again_is_one_deployment() {
    let server = Server::start().await;
    let ada = server.person("ada@example.com", None).await;
    let bearer = format!("Bearer {}", ada.token);
    let path = format!("/project/{}/environment/{}/up?serviceId=", ada.project, ada.environment);
    let send = async |name: &str, archive: &str| {
        let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/gzip"), ("Idempotency-Key", name)];
        let reply = server.call("POST", &path, &headers, archive.as_bytes()).await;
        (reply.status, reply.header("idempotency-replayed").is_some(), reply.json())
    };
    let (status, replayed, first) = send("deploy-1", "one").await;
    assert_eq!((status, replayed), (200, false), "{first}");
    assert_eq!(send("deploy-1", "one").await, (200, true, first.clone()));
    let (status, _, other) = send("deploy-1", "two").await;
    assert!(status == 400 && other["message"].as_str().unwrap().contains("another request"), "{other}");
    assert_eq!(server.stored().into_iter().collect::<Vec<_>>(), [hex(b"one")], "the other archive was not kept");
    let (status, replayed, second) = send("deploy-2", "one").await;
    assert_eq!((status, replayed), (200, false), "{second}");
    assert_ne!(second["deploymentId"], first["deploymentId"]);
    // What was refused was not done: its name is free.
    assert_eq!(send("deploy-3", "").await.0, 400);
    assert_eq!(send("deploy-3", "one").await.0, 200);
    server.end().await;
}

#[tokio::test]
async fn a_refused_upload_leaves_nothing_behind() {
    let server = Server::start().await;
    let ada = server.person("ada@example.com", None).await;
    let eve = server.person("eve@example.com", None).await;
    assert_eq!(up(&server, &ada, &ada.token, b"kept").await.status, 200);
    let before = server.stored();
    let bearer = |token: &str| format!("Bearer {token}");
    let (project, environment) = (ada.project.to_string(), ada.environment.to_string());
    let nobody = uuid::Uuid::now_v7().to_string();

    let mine = &bearer(&ada.token)[..];
    let theirs = &bearer(&eve.token)[..];
    let to = |project: &str, environment: &str, query: &str| format!("/project/{project}/environment/{environment}/up?serviceId={query}");
    let here = to(&project, &environment, "");
    let cases = [
        ("no credential", here.clone(), "", "x", 401, "Not Authorized"),
        ("a damaged token", here.clone(), "Bearer orr_x", "x", 401, "Not Authorized"),
        ("a stranger", here.clone(), theirs, "x", 400, "not found"),
        ("an unknown project", to(&nobody, &environment, ""), mine, "x", 400, "not found"),
        ("an unknown environment", to(&project, &nobody, ""), mine, "x", 400, "Environment not found"),
        ("an unknown service", to(&project, &environment, &nobody), mine, "x", 400, "Service not found"),
        ("another's environment", to(&project, &eve.environment.to_string(), ""), mine, "x", 400, "not found"),
        ("no ids", to("..", "%00", ""), mine, "x", 400, "not found"),
        ("two services", to(&project, &environment, &format!("&serviceId={nobody}")), mine, "x", 400, "more than once"),
        ("an empty archive", here.clone(), mine, "", 400, "empty"),
    ];
    for (what, path, authorization, body, status, message) in cases {
        let mut headers = vec![];
        if !authorization.is_empty() {
            headers.push(("Authorization", authorization));
        }
        let reply = server.call("POST", &path, &headers, body.as_bytes()).await;
        assert_eq!(reply.status, status, "{what}: {}", reply.text());
        let answer = reply.json();
        assert!(answer["message"].as_str().unwrap().contains(message), "{what}: {answer}");
        assert_eq!(answer["requestId"].as_str(), reply.header("x-request-id"), "{what}");
        assert_eq!(server.stored(), before, "{what}");
    }
    server.end().await;
}

#[tokio::test]
async fn an_archive_that_is_too_large_is_refused_before_and_while_it_is_read() {
    let server = Server::start().await;
    let ada = server.person("ada@example.com", None).await;
    let limit = LIMIT.to_string();

    // Announced: the answer comes although not one byte of the body is ever sent.
    let mut stream = server.connect().await;
    stream.write_all(upload_head(&server, &ada, &ada.token, "Content-Length: 2147483648").as_bytes()).await.unwrap();
    let reply = Reply::read(&mut stream).await;
    assert_eq!(reply.status, 413);
    assert!(reply.text().contains(&limit), "{}", reply.text());

    // A client that asks first is not told to go on.
    let mut stream = server.connect().await;
    let framing = "Content-Length: 2147483648\r\nExpect: 100-continue";
    stream.write_all(upload_head(&server, &ada, &ada.token, framing).as_bytes()).await.unwrap();
    assert_eq!(Reply::read(&mut stream).await.status, 413);

    // A client that sends everything before it looks can still read the answer.
    let mut stream = server.connect().await;
    let body = vec![1; 8 * LIMIT as usize];
    stream.write_all(upload_head(&server, &ada, &ada.token, &format!("Content-Length: {}", body.len())).as_bytes()).await.unwrap();
    stream.write_all(&body).await.unwrap();
    assert_eq!(Reply::read(&mut stream).await.status, 413);

    // Not announced: counted while it comes.
    let mut stream = server.connect().await;
    stream.write_all(upload_head(&server, &ada, &ada.token, "Transfer-Encoding: chunked").as_bytes()).await.unwrap();
    let chunk = [format!("{:x}\r\n", 1 << 16).as_bytes(), &vec![1; 1 << 16], b"\r\n"].concat();
    for _ in 0..64 {
        stream.write_all(&chunk).await.unwrap();
    }
    let reply = Reply::read(&mut stream).await;
    assert_eq!(reply.status, 413);
    assert!(reply.text().contains(&limit), "{}", reply.text());

    // Exactly the limit is taken.
    assert!(server.stored().is_empty(), "{:?}", server.stored());
    assert_eq!(up(&server, &ada, &ada.token, &vec![1; LIMIT as usize]).await.status, 200);
    server.end().await;
}

/// Waits for what another task will do; the test's own time limit is the nextest one.
async fn until(mut condition: impl FnMut() -> bool) {
    while !condition() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn an_upload_that_breaks_off_or_is_overtaken_leaves_nothing_behind() {
    let server = Server::start().await;
    let ada = server.person("ada@example.com", None).await;
    let head = upload_head(&server, &ada, &ada.token, "Content-Length: 1000");

    let mut stream = server.connect().await;
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&[1; 500]).await.unwrap();
    until(|| server.stored().len() == 1).await;
    drop(stream);
    until(|| server.stored().is_empty()).await;

    // The project goes away between the check and the deployment.
    let mut stream = server.connect().await;
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&[1; 500]).await.unwrap();
    until(|| server.stored().len() == 1).await;
    ops::project::project_delete(&server.ctx(&ada.token).await, ada.project).await.unwrap();
    stream.write_all(&[1; 500]).await.unwrap();
    let reply = Reply::read(&mut stream).await;
    assert_eq!(reply.status, 400, "{}", reply.text());
    assert!(server.stored().is_empty(), "{:?}", server.stored());
    server.end().await;
}

#[tokio::test]
async fn what_a_killed_process_left_is_swept_and_an_upload_under_way_is_not() {
    let server = Server::start().await;
    let ada = server.person("ada@example.com", None).await;
    let mut stream = server.connect().await;
    stream.write_all(upload_head(&server, &ada, &ada.token, "Content-Length: 1000").as_bytes()).await.unwrap();
    stream.write_all(&[1; 500]).await.unwrap();
    until(|| server.stored().len() == 1).await;
    let under_way = server.stored();
    std::fs::write(server.blobs().join("tmp-orphan"), b"half").unwrap();

    drop(api::ApiState::new(server.ops.clone()));
    assert_eq!(server.stored(), under_way);
    stream.write_all(&[1; 500]).await.unwrap();
    assert_eq!(Reply::read(&mut stream).await.status, 200);
    server.end().await;
}

#[tokio::test]
async fn an_upload_under_way_is_finished_when_the_server_stops() {
    let server = Server::start().await;
    let ada = server.person("ada@example.com", None).await;
    let mut stream = server.connect().await;
    stream.write_all(upload_head(&server, &ada, &ada.token, "Content-Length: 1000").as_bytes()).await.unwrap();
    stream.write_all(&[1; 500]).await.unwrap();
    until(|| server.stored().len() == 1).await;
    server.stop.cancel();
    stream.write_all(&[1; 500]).await.unwrap();
    assert_eq!(Reply::read(&mut stream).await.status, 200);
    server.end().await;
}
