//! Messages that leave the server reach a receiver, are tried again, and are signed.

use std::collections::BTreeMap;

use domain::delivery::{Delivery, DeliveryState, Target};
use domain::{DeliveryId, Timestamp};
use store::Change;
use testkit::{App, TestApp};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

fn message(app: &App, url: String) -> Delivery {
    let now = Timestamp::now();
    Delivery {
        id: DeliveryId::generate(),
        workspace_id: app.tenant.workspace(),
        kind: "test".into(),
        subject: "it".into(),
        target: Target::Webhook { url, headers: BTreeMap::from([("x-mine".into(), "yes".into())]), secret: Some("whsec_c2VjcmV0".into()) },
        body: "{\"n\":1}".into(),
        state: DeliveryState::Pending,
        attempts: 0,
        tries: 0,
        next_at: now,
        created_at: now,
        updated_at: now,
    }
}

/// Takes one request and answers with the status.
async fn take(listener: &TcpListener, status: &str) -> String {
    let (mut stream, _) = listener.accept().await.unwrap();
    let (mut text, mut buffer) = (String::new(), [0; 4096]);
    while !text.ends_with("{\"n\":1}") {
        let count = stream.read(&mut buffer).await.unwrap();
        text.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    stream.write_all(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").as_bytes()).await.unwrap();
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_tried_until_it_is_taken_and_every_attempt_is_kept() {
    let test = TestApp::started().await;
    let app = test.app("post").await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let delivery = message(&app, format!("http://{}/hook", listener.local_addr().unwrap()));
    test.ops.store.commit(app.tenant, vec![Change::DeliveryInsert(delivery.clone())]).await.unwrap();
    test.ops.signals.ring();

    let first = take(&listener, "500 No").await.to_ascii_lowercase();
    assert!(
        first.starts_with("post /hook ") && first.contains("x-mine: yes") && first.contains("content-type: application/json"),
        "{first}"
    );
    assert!(first.contains("svix-signature: v1,") && first.contains(&format!("svix-id: msg_{}", delivery.id)), "{first}");
    let second = take(&listener, "204 Taken").await;
    assert!(second.ends_with("{\"n\":1}"), "{second}");

    let store = &test.ops.store;
    let attempts = loop {
        let attempts = store.delivery_attempts(app.tenant, &[delivery.id]).await.unwrap();
        if attempts.len() == 2 {
            break attempts;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(attempts.iter().map(|attempt| attempt.status).collect::<Vec<_>>(), [Some(500), Some(204)]);
    assert!(attempts[0].error.as_deref().is_some_and(|error| error.contains("500")) && attempts[1].error.is_none());
    let after = store.delivery(delivery.id).await.unwrap().unwrap().open(app.tenant).unwrap();
    assert_eq!((after.state, after.attempts), (DeliveryState::Delivered, 2));
}
