//! Keys: who gets in where, and what the others are told.

use std::sync::Arc;

use domain::account::Plan;
use domain::key::{ApiKey, KeyKind, KeyLimits};
use domain::{ApiKeyId, Code, Role, Tenant, Timestamp};
use ops::auth::{Presented, Surface, authenticate};
use ops::project::ProjectCreate;
use ops::{OpCtx, Ops, Principal, Settings, new_secret};
use secrecy::SecretString;
use store::{Change, MasterKey, Store, StoreConfig};
use telemetry::{Telemetry, TelemetryConfig};

struct World {
    ops: Arc<Ops>,
    _dir: tempfile::TempDir,
}

impl World {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", dir.path().join("orrery.db").display());
        let store = Store::open(StoreConfig { url, master_key: MasterKey::from_bytes([7; 32]) }).await.unwrap();
        let logs = TelemetryConfig { dir: dir.path().join("telemetry"), retain_days: 1, retain_bytes: 1_000_000 };
        let settings = Settings {
            base_domain: "localhost".into(),
            edge_port: Some(8081),
            dashboard_url: "http://localhost:8080".into(),
            region: "local".into(),
            blobs: dir.path().join("blobs"),
            max_upload_bytes: 1_000_000,
        };
        Self { ops: Arc::new(Ops::new(store, Telemetry::open(logs).unwrap(), settings)), _dir: dir }
    }

    async fn person(&self, email: &str, operator: bool) -> OpCtx {
        let now = Timestamp::now();
        let user = ops::first_run::user_create(&self.ops.store, email, "Person", operator, None, now).await.unwrap();
        let (_, token) = ops::first_run::account_token(&self.ops.store, user.id, "test", now).await.unwrap();
        let principal = authenticate(&self.ops, Surface::Railway, Presented::Bearer(token), now, None).await.unwrap();
        OpCtx { ops: self.ops.clone(), principal, request_id: "test".into(), address: None, now }
    }

    /// A key of each kind that belongs to the person's own workspace.
    async fn key(&self, ctx: &OpCtx, kind: KeyKind, expires_at: Option<Timestamp>) -> SecretString {
        let person = ctx.user().unwrap();
        let workspace = person.home().unwrap().id;
        if kind == KeyKind::Project {
            let project = ops::project::project_create(ctx, ProjectCreate::default()).await.unwrap();
            let environment = self.ops.store.environments_of(project.tenant, &[project.row.id]).await.unwrap().remove(0);
            return ops::token::project_token_create(ctx, project.row.id, environment.id, "ci").await.unwrap().1;
        }
        let (secret, hash, display) = new_secret(kind);
        let own = matches!(kind, KeyKind::Account | KeyKind::OAuthAccess | KeyKind::OAuthRefresh);
        let key = ApiKey {
            id: ApiKeyId::generate(),
            kind,
            user_id: person.user.id,
            workspace_id: (!own).then_some(workspace),
            project: None,
            label: "made by hand".into(),
            display,
            limits: KeyLimits::OF_PLAN,
            expires_at,
            revoked_at: None,
            last_used_at: None,
            last_used_address: None,
            created_at: ctx.now,
        };
        self.ops.store.commit(Tenant::system(workspace), vec![Change::ApiKeyInsert { key, hash }]).await.unwrap();
        secret
    }
}

fn sent(kind: KeyKind, secret: &SecretString) -> Presented {
    match kind {
        KeyKind::Project => Presented::ProjectToken(secret.clone()),
        KeyKind::Galaxy => Presented::GalaxyKey(secret.clone()),
        _ => Presented::Bearer(secret.clone()),
    }
}

#[tokio::test]
async fn each_kind_opens_its_surfaces_and_the_others_name_what_they_need() {
    use KeyKind::*;
    use Surface::*;
    let world = World::start().await;
    let ann = world.person("ann@example.com", true).await;
    let table = [
        (Account, [true, true, true]),
        (Workspace, [true, true, true]),
        (Project, [true, false, false]),
        (KeyKind::Galaxy, [false, true, false]),
        (KeyKind::Flow, [false, false, true]),
        (OAuthAccess, [true, true, true]),
        (OAuthRefresh, [false, false, false]),
    ];
    for (kind, opens) in table {
        let secret = world.key(&ann, kind, None).await;
        for (surface, opens) in Surface::ALL.into_iter().zip(opens) {
            let answer = authenticate(&world.ops, surface, sent(kind, &secret), ann.now, None).await;
            match answer {
                Ok(principal) => {
                    assert!(opens, "{kind:?} opened {surface:?}");
                    assert_eq!(principal.limited().map(|(_, _, plan)| plan), Some(Plan::Professional), "{kind:?}");
                }
                Err(error) => {
                    assert!(!opens, "{kind:?} on {surface:?}: {}", error.public);
                    assert_eq!(error.code, Code::Unauthenticated);
                    let needed = match surface {
                        Railway => "`Project-Access-Token`",
                        Surface::Galaxy => "`galaxy-api-key`",
                        Surface::Flow => "`gx_…`",
                    };
                    assert!(error.public.contains(kind.label()) && error.public.contains(needed), "{}", error.public);
                    let words = if surface == Surface::Flow { "Invalid or expired API key." } else { "Not Authorized" };
                    assert!(error.public.starts_with(words), "{}", error.public);
                }
            }
        }
    }
}

#[tokio::test]
async fn a_key_in_the_wrong_header_is_told_the_right_one() {
    let world = World::start().await;
    let ann = world.person("ann@example.com", true).await;
    let (project, galaxy) = (world.key(&ann, KeyKind::Project, None).await, world.key(&ann, KeyKind::Galaxy, None).await);
    let account = world.key(&ann, KeyKind::Account, None).await;
    for (surface, presented, header) in [
        (Surface::Railway, Presented::Bearer(project.clone()), "the header `Project-Access-Token`"),
        (Surface::Railway, Presented::ProjectToken(account.clone()), "send it as `Authorization: Bearer`"),
        (Surface::Galaxy, Presented::Bearer(galaxy.clone()), "the header `galaxy-api-key`"),
        (Surface::Galaxy, Presented::GalaxyKey(account.clone()), "send it as `Authorization: Bearer`"),
    ] {
        let error = authenticate(&world.ops, surface, presented, ann.now, None).await.unwrap_err();
        assert!(error.public.starts_with("Not Authorized") && error.public.contains(header), "{}", error.public);
        assert!(!error.public.to_lowercase().contains("project token not found"), "{}", error.public);
    }
}

#[tokio::test]
async fn a_key_works_to_the_second_before_its_end() {
    let world = World::start().await;
    let ann = world.person("ann@example.com", true).await;
    let second = std::time::Duration::from_secs(1);
    let end = ann.now + second * 30;
    for kind in [KeyKind::Account, KeyKind::Workspace, KeyKind::Galaxy, KeyKind::Flow] {
        let secret = world.key(&ann, kind, Some(end)).await;
        let surface = Surface::ALL.into_iter().rfind(|surface| surface.takes(kind)).unwrap();
        for (at, works) in [(end - second, true), (end, false), (end + second, false)] {
            let answer = authenticate(&world.ops, surface, sent(kind, &secret), at, None).await;
            assert_eq!(answer.is_ok(), works, "{kind:?} at {at}");
        }
    }
}

#[tokio::test]
async fn galaxy_is_for_professional_accounts() {
    let world = World::start().await;
    let (ann, bob) = (world.person("ann@example.com", true).await, world.person("bob@example.com", false).await);
    for kind in [KeyKind::Account, KeyKind::Workspace, KeyKind::Galaxy] {
        let secret = world.key(&bob, kind, None).await;
        let error = authenticate(&world.ops, Surface::Galaxy, sent(kind, &secret), bob.now, None).await.unwrap_err();
        assert_eq!(error.code, Code::PlanLimit, "{kind:?}");
        assert!(error.public.contains("orrery plan set bob professional"), "{}", error.public);
    }
    // A member of a Professional workspace reaches that one, and not their own.
    let shared = ann.user().unwrap().home().unwrap().id;
    let bobs = bob.user().unwrap();
    let change = Change::MemberSet { user: bobs.user.id, role: Role::Viewer };
    world.ops.store.commit(Tenant::system(shared), vec![change]).await.unwrap();
    let secret = world.key(&bob, KeyKind::Account, None).await;
    let principal = authenticate(&world.ops, Surface::Galaxy, Presented::Bearer(secret), bob.now, None).await.unwrap();
    let Principal::User(person) = principal else { panic!() };
    assert_eq!(person.memberships.iter().map(|m| m.workspace.id).collect::<Vec<_>>(), [shared]);
    assert_eq!(person.grants.0.len(), 1);
}
