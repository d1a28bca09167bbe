//! Secrets are never plain on disk, and the master key is what opens them.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;

use domain::deployment::DeploymentStatus;
use domain::notification_rule::{Channel, ChannelConfig, NotificationRule, RuleSpec};
use domain::{NotificationChannelId, NotificationRuleId};
use store::{CertificateChange, Change, MasterKey, NotificationChange, StoreError};

use crate::fixture::*;

pub(crate) const CANARY: &str = "canary-5f1b9c0d";

pub(crate) fn holds(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// Everything that the database has on disk.
pub(crate) async fn on_disk(fixture: &Fixture) -> Vec<u8> {
    let mut all = vec![];
    match fixture.kind {
        Kind::Sqlite => {
            for entry in std::fs::read_dir(fixture.dir.path()).unwrap() {
                let path = entry.unwrap().path();
                assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o077, 0, "{} is open to others", path.display());
                all.extend(std::fs::read(path).unwrap());
            }
        }
        Kind::Postgres => {
            let (client, connection) = tokio_postgres::connect(&fixture.url, tokio_postgres::NoTls).await.unwrap();
            tokio::spawn(connection);
            let tables = [
                "variables",
                "deployment_variables",
                "data_keys",
                "instances",
                "deployments",
                "second_factors",
                "certificates",
                "acme_accounts",
                "notification_rules",
                "workflows",
                "flow_graphs",
                "runs",
                "node_runs",
                "flow_triggers",
            ];
            for table in tables {
                let query = format!("SELECT t::text FROM {table} t");
                for row in client.query(&query, &[]).await.unwrap() {
                    all.extend(row.get::<_, String>(0).into_bytes());
                }
            }
        }
    }
    all
}

both! {
    async fn no_secret_is_plain_on_disk(fixture: Fixture) {
        let tree = fixture.tree("owner").await;
        let frozen = deployment(&tree.instance, DeploymentStatus::Success);
        let changes = vec![
            Change::VariableSet(variable(&tree.environment, None, "VISIBLE_NAME", CANARY)),
            Change::DeploymentInsert { deployment: frozen.clone(), variables: BTreeMap::from([("NAME".into(), CANARY.into())]) },
            Change::Certificate(CertificateChange::Set {
                domain: tree.domain.id,
                chain: "chain".into(),
                key: CANARY.into(),
                state: Default::default(),
                due: now(),
                seen: None,
                at: now(),
            }),
            Change::Notification(NotificationChange::RuleInsert(NotificationRule {
                id: NotificationRuleId::generate(),
                workspace_id: tree.tenant.workspace(),
                project_id: None,
                created_by: None,
                spec: RuleSpec::default(),
                channels: vec![Channel {
                    id: NotificationChannelId::generate(),
                    config: ChannelConfig::Webhook { url: format!("https://x.test/{CANARY}"), secret: Some(CANARY.into()) },
                    created_at: now(),
                    updated_at: now(),
                }],
                created_at: now(),
                updated_at: now(),
            })),
        ];
        fixture.store.commit(tree.tenant, changes).await.unwrap();
        let (_, person) = fixture.tenant("person").await;
        fixture.store.second_factor_propose(person.id, CANARY.as_bytes(), now()).await.unwrap();
        fixture.store.acme_account_insert("https://authority.test/", CANARY.as_bytes(), now()).await.unwrap();
        let disk = on_disk(&fixture).await;
        assert!(holds(&disk, b"VISIBLE_NAME"), "the rows are not where this test looks");
        let hex: String = CANARY.bytes().map(|byte| format!("{byte:02x}")).collect();
        assert!(!holds(&disk, CANARY.as_bytes()) && !holds(&disk, hex.as_bytes()));
        assert_eq!(fixture.store.deployment_variables(tree.tenant, frozen.id).await.unwrap()["NAME"], CANARY);
        assert_eq!(**fixture.store.acme_account("https://authority.test/").await.unwrap().unwrap(), *CANARY.as_bytes());
    }

    async fn a_wrong_master_key_is_told_at_once(fixture: Fixture) {
        let tree = fixture.tree("owner").await;
        let error = open(&fixture.url, [8; 32]).await.unwrap_err();
        assert!(matches!(error, StoreError::WrongMasterKey), "{error}");
        let right = open(&fixture.url, KEY).await.unwrap();
        assert!(right.variables(tree.tenant, tree.environment.id).await.unwrap() == [tree.variable.clone()]);
    }
}

#[tokio::test]
async fn a_sealed_value_opens_only_where_it_was_put() {
    let fixture = Fixture::new(Kind::Sqlite).await;
    let tree = fixture.tree("owner").await;
    let set = |name: &str, value: &str| Change::VariableSet(variable(&tree.environment, None, name, value));
    fixture.store.commit(tree.tenant, vec![set("PUBLIC", "a"), set("SECRET", "b")]).await.unwrap();
    let file = rusqlite::Connection::open(fixture.dir.path().join("orrery.db")).unwrap();
    let swap = "UPDATE variables SET sealed_value = (SELECT sealed_value FROM variables WHERE name = 'SECRET') WHERE name = 'PUBLIC'";
    assert_eq!(file.execute(swap, []).unwrap(), 1);
    let result = fixture.store.variables(tree.tenant, tree.environment.id).await;
    assert!(matches!(result, Err(StoreError::Corrupt(_))));
}

#[test]
fn the_master_key_is_made_once_and_kept_private() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("master.key");
    let made: Vec<String> = std::thread::scope(|scope| {
        let load = || {
            MasterKey::load_or_create(&path).unwrap();
            std::fs::read_to_string(&path).unwrap()
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(load)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(made.iter().all(|text| *text == made[0] && text.trim().len() == 64));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "a draft was left behind");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
    let error = MasterKey::load_or_create(&path).unwrap_err();
    assert!(error.to_string().contains("chmod 600"), "{error}");
}

#[test]
fn master_keys_are_read_in_every_usual_form() {
    for text in
        ["07".repeat(32), "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=".into(), " BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc\n".into()]
    {
        assert!(MasterKey::parse(&text).is_ok(), "{text}");
    }
    for text in ["", "07", &"zz".repeat(32), "hunter2", &"07".repeat(31), &"é".repeat(32)] {
        let error = MasterKey::parse(text).unwrap_err();
        assert!(text.is_empty() || !error.to_string().contains(text));
    }
    assert!(!format!("{:?}", MasterKey::from_bytes([7; 32])).contains('7'));
}
