//! Keys: who gets in where, and what the others are told.

use std::sync::Arc;
use std::time::Duration;

use domain::account::Plan;
use domain::key::{ApiKey, KeyKind, KeyLimits};
use domain::page::PageRequest;
use domain::{ApiKeyId, Code, Role, Tenant, Timestamp};
use ops::api_key::{ApiKeyCreate, ApiKeyPatch, api_key_create, api_key_revoke, api_key_update, api_keys};
use ops::auth::{Presented, Surface, authenticate, refusals_keep};
use ops::limit::{LimitRules, Limiter};
use ops::project::ProjectCreate;
use ops::{OpCtx, Ops, Principal, Settings, new_key};
use secrecy::{ExposeSecret as _, SecretString};
use store::{Change, MasterKey, Store, StoreConfig};
use telemetry::{Telemetry, TelemetryConfig};

#[path = "../../store/tests/postgres/mod.rs"]
#[allow(dead_code, reason = "this test needs one server and one database")]
mod throw_away;

struct World {
    ops: Arc<Ops>,
    _dir: tempfile::TempDir,
}

impl World {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", dir.path().join("orrery.db").display());
        Self::over(&url, dir).await
    }

    /// A control plane over a database.
    async fn over(url: &str, dir: tempfile::TempDir) -> Self {
        let url = url.to_owned();
        let store = Store::open(StoreConfig { url, master_key: MasterKey::from_bytes([7; 32]) }).await.unwrap();
        let logs = TelemetryConfig { dir: dir.path().join("telemetry"), retain_days: 1, retain_bytes: 1_000_000 };
        let settings = Settings::local(dir.path());
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
            let wanted = ApiKeyCreate { environment: Some(environment.id), expires_at, ..wanted(kind, Some("ci")) };
            return ops::api_key::api_key_create(ctx, wanted).await.unwrap().1;
        }
        if matches!(kind, KeyKind::Flow | KeyKind::Workspace) || (kind == KeyKind::Galaxy && person.user.operator) {
            let label = Some(format!("key {}", ApiKeyId::generate()));
            let wanted = ApiKeyCreate { workspace: Some(workspace), expires_at, ..wanted(kind, label.as_deref()) };
            return ops::api_key::api_key_create(ctx, wanted).await.unwrap().1;
        }
        let own = matches!(kind, KeyKind::Account | KeyKind::OAuthAccess | KeyKind::OAuthRefresh);
        let (key, secret, hash) = new_key(kind, person.user.id, "made by hand".into(), ctx.now);
        let key = ApiKey { workspace_id: (!own).then_some(workspace), expires_at, ..key };
        self.ops.store.commit(Tenant::system(workspace), vec![Change::ApiKeyInsert { key, hash }]).await.unwrap();
        secret
    }
}

fn wanted(kind: KeyKind, label: Option<&str>) -> ApiKeyCreate {
    let label = label.map(str::to_owned);
    ApiKeyCreate { kind, label, workspace: None, environment: None, limits: KeyLimits::OF_PLAN, expires_at: None }
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
    let second = Duration::from_secs(1);
    let end = ann.now + second * 30;
    for kind in [KeyKind::Account, KeyKind::Workspace, KeyKind::Project, KeyKind::Galaxy, KeyKind::Flow] {
        let secret = world.key(&ann, kind, Some(end)).await;
        let surface = Surface::ALL.into_iter().rfind(|surface| surface.takes(kind)).unwrap();
        for (at, works) in [(end - second, true), (end, false), (end + second, false)] {
            let answer = authenticate(&world.ops, surface, sent(kind, &secret), at, None).await;
            assert_eq!(answer.is_ok(), works, "{kind:?} at {at}");
        }
    }
}

#[tokio::test]
async fn a_mistyped_key_is_refused_without_a_look_into_the_store() {
    let world = World::start().await;
    let ann = world.person("ann@example.com", true).await;
    for kind in [KeyKind::Account, KeyKind::Workspace, KeyKind::Project, KeyKind::Galaxy, KeyKind::Flow] {
        let secret = world.key(&ann, kind, None).await.expose_secret().to_owned();
        let surface = Surface::ALL.into_iter().rfind(|surface| surface.takes(kind)).unwrap();
        let before = world.ops.store.statements();
        for place in (4..secret.len()).step_by(3) {
            let mut typed = secret.clone();
            let other = if typed.as_bytes()[place] == b'a' { "b" } else { "a" };
            typed.replace_range(place..=place, other);
            let presented = sent(kind, &SecretString::from(typed));
            let error = authenticate(&world.ops, surface, presented, ann.now, None).await.unwrap_err();
            assert_eq!(error.code, Code::Unauthenticated, "{kind:?}: {}", error.public);
        }
        assert_eq!(world.ops.store.statements(), before, "{kind:?}");
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

async fn verbs(ctx: &OpCtx) -> Vec<String> {
    let home = ctx.user().unwrap().home().unwrap().id;
    let log = ops::activity::activities(ctx, home, None, &PageRequest::default()).await.unwrap();
    log.row.items.into_iter().map(|entry| entry.verb).rev().collect()
}

#[tokio::test]
async fn flow_keys_have_places_labels_and_ranges() {
    let world = World::start().await;
    let ann = world.person("ann@example.com", false).await;
    let create = async |label: &str, limits| api_key_create(&ann, ApiKeyCreate { limits, ..wanted(KeyKind::Flow, Some(label)) }).await;
    let (first, secret) = create("Production", KeyLimits::OF_PLAN).await.unwrap();
    assert_eq!((first.limits, first.workspace_id), (KeyLimits::FLOW, Some(ann.user().unwrap().home().unwrap().id)));
    let taken = create(" Production ", KeyLimits::OF_PLAN).await.unwrap_err();
    assert!(taken.code == Code::AlreadyExists && taken.public.contains("Production"), "{}", taken.public);
    for (minute, day, words) in [
        (Some(0), None, "1 to 10000"),
        (Some(10_001), None, "1 to 10000"),
        (None, Some(0), "1 to 100000"),
        (None, Some(100_001), "1 to 100000"),
    ] {
        let limits = KeyLimits { minute, day, ..KeyLimits::OF_PLAN };
        for error in [
            create("bounded", limits).await.unwrap_err(),
            api_key_update(&ann, first.id, ApiKeyPatch { limits: Some(limits), label: None }).await.unwrap_err(),
        ] {
            assert!(error.code == Code::BadUserInput && error.public.contains(words), "{}", error.public);
        }
    }
    let widest = KeyLimits { minute: Some(10_000), day: Some(100_000), ..KeyLimits::OF_PLAN };
    create("bounded", widest).await.unwrap();
    let past = ApiKeyCreate { expires_at: Some(ann.now), ..wanted(KeyKind::Flow, Some("past")) };
    assert_eq!(api_key_create(&ann, past).await.unwrap_err().code, Code::BadUserInput);
    // An expired key keeps its place until it is revoked.
    let soon = ApiKeyCreate { expires_at: Some(ann.now + Duration::from_secs(1)), ..wanted(KeyKind::Flow, Some("soon")) };
    let (soon, _) = api_key_create(&ann, soon).await.unwrap();
    for n in 0..7 {
        create(&format!("key {n}"), KeyLimits::OF_PLAN).await.unwrap();
    }
    let late = OpCtx { now: ann.now + Duration::from_secs(5), ..ann.clone() };
    let eleventh = api_key_create(&late, wanted(KeyKind::Flow, Some("eleventh"))).await.unwrap_err();
    assert!(eleventh.code == Code::PlanLimit && eleventh.public.contains("at most 10"), "{}", eleventh.public);
    assert!(api_keys(&late, None).await.unwrap().iter().any(|key| key.id == soon.id && key.is_expired(late.now)));
    api_key_revoke(&late, soon.id).await.unwrap();
    api_key_create(&late, wanted(KeyKind::Flow, Some("soon"))).await.unwrap();

    let flow = || authenticate(&world.ops, Surface::Flow, Presented::Bearer(secret.clone()), late.now, None);
    assert_eq!(flow().await.unwrap().limited().unwrap().1, KeyLimits::FLOW);
    let renamed = ApiKeyPatch { label: Some("Staging".into()), limits: Some(KeyLimits { minute: Some(5), ..KeyLimits::OF_PLAN }) };
    let changed = api_key_update(&late, first.id, renamed).await.unwrap();
    assert_eq!((changed.label.as_str(), changed.limits), ("Staging", KeyLimits { minute: Some(5), ..KeyLimits::FLOW }));
    assert_eq!(flow().await.unwrap().limited().unwrap().1.minute, Some(5), "from the next request on");
    let twice = api_key_update(&late, first.id, ApiKeyPatch { label: Some("key 3".into()), limits: None }).await.unwrap_err();
    assert_eq!(twice.code, Code::AlreadyExists);
    api_key_revoke(&late, first.id).await.unwrap();
    let refused = flow().await.unwrap_err();
    assert_eq!((refused.code, refused.public.as_str()), (Code::Unauthenticated, "Invalid or expired API key."));
    assert_eq!(api_key_update(&late, first.id, ApiKeyPatch::default()).await.unwrap_err().code, Code::Conflict);
    let log = verbs(&ann).await;
    assert_eq!(log.iter().filter(|verb| *verb == "api_key_create").count(), 11);
    assert_eq!(log[log.len() - 3..], ["api_key_update", "api_key_revoke", "api_key_refused"]);
}

#[tokio::test]
async fn a_new_galaxy_key_takes_the_place_of_the_old_one() {
    let world = World::start().await;
    let (ann, bob) = (world.person("ann@example.com", true).await, world.person("bob@example.com", false).await);
    let refused = api_key_create(&bob, wanted(KeyKind::Galaxy, None)).await.unwrap_err();
    assert!(refused.code == Code::PlanLimit && refused.public.contains("Professional"), "{}", refused.public);
    let (_, old) = api_key_create(&ann, wanted(KeyKind::Galaxy, None)).await.unwrap();
    let present = |secret: &SecretString| authenticate(&world.ops, Surface::Galaxy, Presented::GalaxyKey(secret.clone()), ann.now, None);
    assert!(present(&old).await.is_ok());
    let (key, new) = api_key_create(&ann, wanted(KeyKind::Galaxy, None)).await.unwrap();
    assert!(present(&new).await.is_ok());
    assert!(present(&old).await.unwrap_err().public.contains("was revoked"));
    let galaxy: Vec<_> = api_keys(&ann, None).await.unwrap().into_iter().filter(|key| key.kind == KeyKind::Galaxy).collect();
    assert_eq!(galaxy.iter().map(|key| key.id).collect::<Vec<_>>(), [key.id]);
    // An operator puts the other account on the plan.
    let home = bob.user().unwrap().home().unwrap().id;
    let not_theirs = ops::account::workspace_plan_set(&bob, home, Plan::Professional).await.unwrap_err();
    assert_eq!(not_theirs.code, Code::Forbidden);
    ops::account::workspace_plan_set(&ann, home, Plan::Professional).await.unwrap();
    let (_, secret) = api_key_create(&bob, wanted(KeyKind::Galaxy, None)).await.unwrap();
    assert!(present(&secret).await.is_ok());
    ops::account::workspace_plan_set(&ann, home, Plan::Free).await.unwrap();
    assert_eq!(present(&secret).await.unwrap_err().code, Code::PlanLimit);
    assert_eq!(verbs(&bob).await.iter().filter(|verb| *verb == "workspace_plan_set").count(), 2);
}

#[tokio::test]
async fn a_keys_own_limits_go_below_the_plan_and_above_it_for_operators() {
    let world = World::start().await;
    let (ann, bob) = (world.person("ann@example.com", true).await, world.person("bob@example.com", false).await);
    let hour = |count| KeyLimits { hour: Some(count), ..KeyLimits::OF_PLAN };
    let create = async |ctx: &OpCtx, limits| api_key_create(ctx, ApiKeyCreate { limits, ..wanted(KeyKind::Account, Some("ci")) }).await;
    assert_eq!(create(&bob, hour(100)).await.unwrap().0.limits, hour(100));
    assert_eq!(create(&bob, hour(1_001)).await.unwrap_err().code, Code::PlanLimit);
    assert_eq!(create(&ann, hour(100_000)).await.unwrap().0.limits, hour(100_000));

    // The operator's settings count, not what a plan allows elsewhere; and what was granted does not stand in the way of a new label.
    let (mut key, _) = create(&bob, hour(900)).await.unwrap();
    let rules = LimitRules { hobby: "500/hour".parse().unwrap(), ..LimitRules::default() };
    let World { ops, .. } = world;
    drop((ann, bob.clone()));
    let principal = bob.principal.clone();
    drop(bob);
    let mut ops = Arc::into_inner(ops).expect("nobody else holds it");
    ops.limits = Limiter::new(rules);
    let bob = OpCtx { ops: Arc::new(ops), principal, request_id: "test".into(), address: None, now: Timestamp::now() };
    assert_eq!(create(&bob, hour(501)).await.unwrap_err().code, Code::PlanLimit);
    let patch = |label: &str, limits| ApiKeyPatch { label: Some(label.into()), limits: Some(limits) };
    key = api_key_update(&bob, key.id, patch("renamed", hour(900))).await.unwrap();
    assert_eq!((key.label.as_str(), key.limits), ("renamed", hour(900)));
    assert_eq!(api_key_update(&bob, key.id, patch("more", hour(901))).await.unwrap_err().code, Code::PlanLimit);
}

#[tokio::test]
async fn a_key_that_moves_within_one_network_is_noted_once() {
    let world = World::start().await;
    let ann = world.person("ann@example.com", true).await;
    let (_, secret) = api_key_create(&ann, wanted(KeyKind::Flow, Some("ci"))).await.unwrap();
    for address in ["2001:db8::1", "2001:db8::2", "2001:db8::ffff:1", "2001:db8:0:1::1"] {
        authenticate(&world.ops, Surface::Flow, Presented::Bearer(secret.clone()), ann.now, Some(address)).await.unwrap();
    }
    assert_eq!(verbs(&ann).await.iter().filter(|verb| *verb == "api_key_new_address").count(), 2);
}

#[tokio::test]
async fn uses_and_refusals_of_keys_are_in_the_audit_log() {
    let world = World::start().await;
    let ann = world.person("ann@example.com", true).await;
    let (key, secret) = api_key_create(&ann, wanted(KeyKind::Flow, Some("ci"))).await.unwrap();
    let use_from = async |address: &'static str, now| {
        authenticate(&world.ops, Surface::Flow, Presented::Bearer(secret.clone()), now, Some(address)).await
    };
    let count = async |verb: &str| verbs(&ann).await.iter().filter(|known| *known == verb).count();
    for (address, times) in [("10.0.0.1", 1), ("10.0.0.1", 1), ("10.0.0.2", 2), ("10.0.0.1", 2)] {
        use_from(address, ann.now).await.unwrap();
        assert_eq!(count("api_key_new_address").await, times, "{address}");
    }
    let found = api_keys(&ann, None).await.unwrap().into_iter().find(|one| one.id == key.id).unwrap();
    assert_eq!((found.last_used_at.is_some(), found.last_used_address.as_deref()), (true, Some("10.0.0.2")));
    let minute = Duration::from_secs(60);
    use_from("10.0.0.1", ann.now + minute).await.unwrap();
    let found = api_keys(&ann, None).await.unwrap().into_iter().find(|one| one.id == key.id).unwrap();
    assert_eq!(found.last_used_address.as_deref(), Some("10.0.0.1"));
    api_key_revoke(&ann, key.id).await.unwrap();
    for n in 0..20 {
        assert!(use_from("10.0.0.9", ann.now + minute * 2 + Duration::from_secs(n)).await.is_err());
    }
    assert_eq!(count("api_key_refused").await, 1, "once an hour");
    refusals_keep(&world.ops, ann.now + minute * 3).await;
    assert!(use_from("10.0.0.9", ann.now + minute * 90).await.is_err());
    let home = ann.user().unwrap().home().unwrap().id;
    let log = ops::activity::activities(&ann, home, None, &PageRequest::default()).await.unwrap().row.items;
    let times: Vec<_> = log.iter().filter(|entry| entry.verb == "api_key_refused").map(|entry| entry.data["times"].as_u64()).collect();
    assert_eq!(times, [Some(1), Some(20)], "each tells of its hour, newest first");
    assert_eq!(count("api_key_new_address").await, 2, "a refused key is not used");
}

#[tokio::test]
async fn refusals_that_follow_are_counted_in_the_entry_of_the_first_for_an_hour() {
    let world = World::start().await;
    let ann = world.person("ann@example.com", true).await;
    let (key, secret) = api_key_create(&ann, wanted(KeyKind::Flow, Some("ci"))).await.unwrap();
    api_key_revoke(&ann, key.id).await.unwrap();
    let refuse = async |now| {
        let answer = authenticate(&world.ops, Surface::Flow, Presented::Bearer(secret.clone()), now, Some("10.0.0.9")).await;
        assert!(answer.is_err());
    };
    let times = async || {
        let home = ann.user().unwrap().home().unwrap().id;
        let log = ops::activity::activities(&ann, home, None, &PageRequest::default()).await.unwrap().row.items;
        let refused = log.into_iter().filter(|entry| entry.verb == "api_key_refused" && entry.address.as_deref() == Some("10.0.0.9"));
        refused.map(|entry| entry.data["times"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    let minute = Duration::from_secs(60);
    for second in 0..5 {
        refuse(ann.now + Duration::from_secs(second)).await;
    }
    assert_eq!(times().await, [1]);
    // As often as counts are kept: a server that is killed then forgets nothing.
    refusals_keep(&world.ops, ann.now + Duration::from_secs(5)).await;
    assert_eq!(times().await, [5]);
    refuse(ann.now + minute * 59).await;
    refusals_keep(&world.ops, ann.now + minute * 61).await;
    assert_eq!(times().await, [6]);
    refuse(ann.now + minute * 62).await;
    refuse(ann.now + minute * 63).await;
    assert_eq!(times().await, [1, 6], "newest first");
    for _ in 0..2 {
        refusals_keep(&world.ops, ann.now + minute * 63).await;
        assert_eq!(times().await, [2, 6]);
    }
}

#[tokio::test]
async fn nobody_manages_keys_of_others() {
    let world = World::start().await;
    let (ann, bob) = (world.person("ann@example.com", true).await, world.person("bob@example.com", false).await);
    for kind in [KeyKind::Account, KeyKind::Flow, KeyKind::Galaxy] {
        let (key, _) = api_key_create(&ann, wanted(kind, Some("hers"))).await.unwrap();
        assert_eq!(api_key_revoke(&bob, key.id).await.unwrap_err().code, Code::NotFound);
        assert_eq!(api_key_update(&bob, key.id, ApiKeyPatch::default()).await.unwrap_err().code, Code::NotFound);
        assert_eq!(ops::api_key::api_key_usage(&bob, key.id, None, None).await.unwrap_err().code, Code::NotFound);
        assert!(api_keys(&bob, None).await.unwrap().iter().all(|one| one.id != key.id));
    }
    let hers = ann.user().unwrap().home().unwrap().id;
    assert_eq!(api_keys(&bob, Some(hers)).await.unwrap_err().code, Code::NotFound);
    let theft = ApiKeyCreate { workspace: Some(hers), ..wanted(KeyKind::Flow, Some("mine")) };
    assert_eq!(api_key_create(&bob, theft).await.unwrap_err().code, Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_control_plane_refuses_a_revoked_key_at_once() {
    let postgres = throw_away::Postgres::shared();
    let folder = tempfile::tempdir().unwrap();
    let databases = [postgres.database().await, format!("sqlite://{}", folder.path().join("orrery.db").display())];
    for url in databases {
        let (one, other) = (World::over(&url, tempfile::tempdir().unwrap()).await, World::over(&url, tempfile::tempdir().unwrap()).await);
        let ann = one.person("ann@example.com", true).await;
        for kind in [KeyKind::Account, KeyKind::Workspace, KeyKind::Galaxy, KeyKind::Flow] {
            let workspace = ann.user().unwrap().home().unwrap().id;
            let wanted = ApiKeyCreate { workspace: Some(workspace), ..wanted(kind, Some("ci")) };
            let (key, secret) = api_key_create(&ann, wanted).await.unwrap();
            let surface = Surface::ALL.into_iter().rfind(|surface| surface.takes(kind)).unwrap();
            let there = || authenticate(&other.ops, surface, sent(kind, &secret), ann.now, Some("10.0.0.1"));
            for _ in 0..3 {
                there().await.unwrap();
            }
            api_key_revoke(&ann, key.id).await.unwrap();
            assert_eq!(there().await.unwrap_err().code, Code::Unauthenticated, "{kind:?}");
        }
    }
}
