//! Messages that leave the server reach a receiver, are tried again, and are signed.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::delivery::{Delivery, DeliveryAttempt, DeliveryState, Target};
use domain::notification_rule::{Notice, NoticeEvent};
use domain::volume::VolumeInstance;
use domain::{Code, DeliveryId, NotificationRuleId, Timestamp, VolumeInstanceId};
use hmac::{Hmac, KeyInit as _, Mac as _};
use ops::notification_rule::{NotificationRuleCreate, notification_rule_create, notification_rule_delete, notification_rule_deliveries};
use ops::volume::{VolumeCreate, VolumePlace, volume_create};
use ops::webhook::webhook_test;
use serde_json::{Value, json};
use sha2::Sha256;
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

/// Takes one request with a JSON body and answers with the status: its head and its body.
async fn taken(listener: &TcpListener, status: &str) -> (String, String) {
    let request = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let (mut text, mut buffer) = (String::new(), [0; 4096]);
        loop {
            let count = stream.read(&mut buffer).await.unwrap();
            assert!(count > 0, "it ended early: {text}");
            text.push_str(&String::from_utf8_lossy(&buffer[..count]));
            if let Some((head, body)) = text.split_once("\r\n\r\n")
                && serde_json::from_str::<Value>(body).is_ok()
            {
                stream.write_all(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").as_bytes()).await.unwrap();
                return (head.to_owned(), body.to_owned());
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), request).await.expect("a message")
}

fn header<'a>(head: &'a str, name: &str) -> &'a str {
    let mut lines = head.lines().filter_map(|line| line.split_once(':'));
    lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).unwrap_or_else(|| panic!("no {name}: {head}")).1.trim()
}

/// What a receiver does that holds the secret.
fn signed(head: &str, body: &str, key: &[u8]) -> bool {
    let text = format!("{}.{}.{body}", header(head, "svix-id"), header(head, "svix-timestamp"));
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(text.as_bytes());
    header(head, "svix-signature") == format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

/// Waits until the messages of a rule are as they should be.
async fn until_sent(app: &App, rule: NotificationRuleId, are: impl Fn(&[(Delivery, Vec<DeliveryAttempt>)]) -> bool) {
    let looking = async {
        loop {
            let found = notification_rule_deliveries(&app.ctx(), rule).await.unwrap();
            if are(&found) {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), looking).await.expect("messages as they should be");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_tells_of_a_deployment_once_also_when_the_engine_was_killed_after_a_500() {
    let mut test = TestApp::started().await;
    let app = test.app("told").await;
    let other = test.app_of(&app.ctx(), "other").await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let wanted = NotificationRuleCreate {
        workspace: app.tenant.workspace(),
        project: Some(app.project),
        channels: vec![json!({"type": "webhook", "url": url, "secret": "whsec_c2VjcmV0LW9mLW1pbmU="})],
        event_types: vec!["Deployment.deployed".into(), "Deployment.removed".into()],
        severities: vec![],
        ephemeral_environments: None,
    };
    let rule = notification_rule_create(&app.ctx(), wanted).await.unwrap().id;
    // Nobody wants to hear of the other project.
    test.live(&other).await;
    let id = test.live(&app).await;

    let (head, body) = taken(&listener, "500 No").await;
    assert!(head.starts_with("POST /hook ") && signed(&head, &body, b"secret-of-mine"), "{head}");
    assert!(!signed(&head, &body, b"secret-of-yours"));
    let payload: Value = serde_json::from_str(&body).unwrap();
    let (details, resource) = (&payload["details"], &payload["resource"]);
    assert_eq!((&payload["type"], &payload["severity"]), (&json!("Deployment.deployed"), &json!("INFO")), "{payload}");
    assert_eq!((&details["id"], &details["status"]), (&json!(id), &json!("SUCCESS")), "{payload}");
    assert_eq!(resource["deployment"], json!({"id": id}));
    assert_eq!(resource["service"], json!({"id": app.service, "name": "told"}));
    assert_eq!(resource["project"], json!({"id": app.project, "name": "told"}));
    assert_eq!(resource["environment"], json!({"id": app.environment, "name": "production", "isEphemeral": false}));
    assert!(payload["timestamp"].as_str().unwrap().parse::<Timestamp>().is_ok());

    until_sent(&app, rule, |all| all.len() == 1 && all[0].1.len() == 1).await;
    test.kill_engine().await;
    test.start_engine();
    let (again, same) = taken(&listener, "204 Taken").await;
    assert!(same == body && header(&again, "svix-id") == header(&head, "svix-id") && signed(&again, &same, b"secret-of-mine"), "{again}");
    until_sent(&app, rule, |all| all.len() == 1 && all[0].0.state == DeliveryState::Delivered).await;

    ops::deployment::deployment_remove(&app.ctx(), id).await.unwrap();
    let (_, body) = taken(&listener, "200 OK").await;
    let payload: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&payload["type"], &payload["details"]["id"]), (&json!("Deployment.removed"), &json!(id)), "{payload}");
    until_sent(&app, rule, |all| all.len() == 2 && all.iter().all(|(one, _)| one.state == DeliveryState::Delivered)).await;
    notification_rule_delete(&app.ctx(), rule).await.unwrap();
    assert_eq!(notification_rule_deliveries(&app.ctx(), rule).await.unwrap_err().code, Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_tells_when_a_volume_is_full() {
    let mut test = TestApp::new().await;
    let app = test.app("full").await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let wanted = NotificationRuleCreate {
        workspace: app.tenant.workspace(),
        project: Some(app.project),
        channels: vec![json!({"type": "webhook", "url": url})],
        event_types: vec!["Volume.full".into(), "Volume.nearlyFull".into()],
        severities: vec![],
        ephemeral_environments: None,
    };
    let rule = notification_rule_create(&app.ctx(), wanted).await.unwrap().id;
    let place = VolumePlace::Environment(app.environment);
    let create = VolumeCreate { project: app.project, place, service: Some(app.service), mount_path: "/data".into() };
    let volume = volume_create(&app.ctx(), create).await.unwrap().row.id;
    let made = test.ops.store.volume_instances_of_volumes(app.tenant, &[volume]).await.unwrap().remove(0);
    // One that is soon full.
    let small = VolumeInstance { id: VolumeInstanceId::generate(), size_mb: 1, ..made.clone() };
    test.ops.store.commit(app.tenant, vec![Change::VolumeInstanceDelete(made.id)]).await.unwrap();
    test.ops.store.commit(app.tenant, vec![Change::VolumeInstanceInsert(small.clone())]).await.unwrap();
    test.start_engine();
    let id = test.live(&app).await;
    let steps = [(900, "Volume.nearlyFull", "WARNING"), (2_000, "Volume.full", "CRITICAL")];
    for (at, (kilobytes, event, severity)) in steps.into_iter().enumerate() {
        // What volumes hold is looked at when the engine starts.
        test.stop_engine().await;
        let data = test.dir().join("volumes").join(small.id.to_string()).join("data");
        let mut file = std::fs::File::create(data.join("rows")).unwrap();
        file.write_all(&vec![7; kilobytes * 1_000]).unwrap();
        file.sync_all().unwrap();
        // Some file systems set more aside for one that is still open.
        drop(file);
        test.start_engine();
        let (_, body) = taken(&listener, "200 OK").await;
        let payload: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((&payload["type"], &payload["severity"]), (&json!(event), &json!(severity)), "{payload}");
        assert_eq!(payload["details"]["id"], json!(id), "{payload}");
        assert!(payload["details"]["reason"].as_str().unwrap().contains("of its 1 MB"), "{payload}");
        let is_done = |(one, _): &(Delivery, Vec<DeliveryAttempt>)| one.state == DeliveryState::Delivered;
        until_sent(&app, rule, |all| all.len() == at + 1 && all.iter().all(is_done)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slack_and_discord_get_a_text_and_others_the_whole() {
    let test = TestApp::new().await;
    let app = test.app("shop").await;
    let id = test.deploy(&app, |_| {}).await;
    let deployment = test.deployment(&app, id).await;
    let store = &test.ops.store;
    let (workspace, project) =
        (store.workspace(app.tenant.workspace()).await.unwrap().unwrap(), store.project(app.project).await.unwrap().unwrap());
    let (environment, service) =
        (store.environment(app.environment).await.unwrap().unwrap(), store.service(app.service).await.unwrap().unwrap());
    let notice = Notice {
        event: NoticeEvent::Failed,
        at: Timestamp::UNIX_EPOCH,
        reason: Some("it did not answer"),
        workspace: &workspace.open(app.tenant).unwrap(),
        project: &project.open(app.tenant).unwrap(),
        environment: &environment.open(app.tenant).unwrap(),
        service: &service.open(app.tenant).unwrap(),
        deployment: &deployment,
    };
    let text = "shop could not be deployed (shop, production): it did not answer";
    assert_eq!(notice.body("https://hooks.slack.com/services/T/B/x"), json!({"text": text}));
    assert_eq!(notice.body("https://discord.com/api/webhooks/1/x"), json!({"content": text}));
    let whole = notice.body("https://example.com/hook");
    assert_eq!((&whole["type"], &whole["severity"]), (&json!("Deployment.failed"), &json!("WARNING")));
    assert_eq!((&whole["details"]["reason"], &whole["timestamp"]), (&json!("it did not answer"), &json!("1970-01-01T00:00:00.000Z")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_is_tried_out_once_and_not_at_a_neighbour() {
    let test = TestApp::started().await;
    let app = test.app("tried").await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let ctx = app.ctx();
    let (status, (head, body)) = tokio::join!(webhook_test(&ctx, &url, r#"{"hello":1}"#), taken(&listener, "418 Teapot"));
    assert_eq!((status.unwrap(), body.as_str()), (418, r#"{"hello":1}"#));
    assert!(head.starts_with("POST /hook "), "{head}");
    let error = webhook_test(&ctx, "http://10.0.0.1/", "{}").await.unwrap_err();
    assert!(error.code == Code::BadUserInput && error.public.contains("outgoing_allow"), "{}", error.public);
}
