//! What is deployed in a protected environment waits for an admin, whichever way it came.

use domain::deployment::{Deployment, DeploymentEvent, DeploymentStatus, EventStep};
use domain::log::filter::Filter;
use domain::notification_rule::NoticeEvent;
use domain::page::PageRequest;
use domain::{Code, DeploymentId, Role, SnapshotId, Timestamp};
use ops::approval::deployment_approve;
use ops::auth::{Presented, Surface, authenticate};
use ops::deployment::{self as verbs, Blob, Deployed, Upload};
use ops::environment::{environment_get, environment_protect, environment_rename};
use ops::environment_patch::{self as patches, Commit};
use ops::plugin::{PluginCreate, plugin_create};
use ops::service::{InstancePatch, service_instance_update};
use ops::variable::{Upsert, variable_collection_upsert};
use ops::volume::{VolumeCreate, VolumePlace, volume_create, volume_delete};
use ops::{OpCtx, Opened};
use serde_json::json;
use store::{Change, DeploymentQuery};
use telemetry::{LogQuery, LogScope};

use crate::world::{World, world};

/// An app that runs in a protected environment, its owner, and a member of the same workspace.
struct Protected {
    world: World,
    owner: OpCtx,
    member: OpCtx,
    live: Opened<Deployed>,
}

async fn protected() -> Protected {
    let world = world().await;
    let (owner, other) = (world.person("owner@example.com").await, world.person("member@example.com").await);
    let live = world.uploaded(&owner, "app").await;
    world.goes_live(&live).await;
    let joins = Change::MemberSet { user: other.user().unwrap().user.id, role: Role::Member };
    world.ops.store.commit(live.tenant, vec![joins]).await.unwrap();
    let member = world.again(&other).await;
    let protected = Protected { world, owner, member, live };
    environment_protect(&protected.owner, protected.app().environment_id, true).await.unwrap();
    protected
}

impl Protected {
    fn app(&self) -> &Deployment {
        &self.live.row.deployment
    }

    /// An upload to the app.
    async fn upload(&self, who: &OpCtx) -> Deployment {
        let app = self.app();
        let blob = Blob { sha256: "cd".repeat(32), bytes: 10 };
        let upload =
            Upload { project: app.project_id, environment: app.environment_id, service: Some(app.service_id), blob, message: None };
        verbs::deployment_create(who, upload).await.unwrap().row.deployment
    }

    async fn set(&self, who: &OpCtx, value: &str) {
        let app = self.app();
        let who = OpCtx { now: Timestamp::now(), ..who.clone() };
        let values = [("MODE".to_owned(), value.to_owned())].into();
        variable_collection_upsert(&who, app.project_id, app.environment_id, Some(app.service_id), values, Upsert::default())
            .await
            .unwrap();
    }

    /// All deployments of the environment, newest first.
    async fn all(&self) -> Vec<Deployment> {
        let query = DeploymentQuery { environment: Some(self.app().environment_id), ..DeploymentQuery::default() };
        let page = PageRequest { first: Some(100), ..PageRequest::default() };
        self.world.ops.store.deployments(self.live.tenant, &query, &page).await.unwrap().items
    }

    async fn read(&self, id: DeploymentId) -> Deployment {
        self.world.ops.store.deployment(id).await.unwrap().unwrap().open(self.live.tenant).unwrap()
    }

    async fn step(&self, id: DeploymentId) -> DeploymentEvent {
        let events = self.world.ops.store.deployment_events(self.live.tenant, id).await.unwrap();
        events.into_iter().find(|event| event.step == EventStep::WaitForDependencies).expect("a step that tells of the approval")
    }

    fn build_log(&self, snapshot: SnapshotId) -> Vec<String> {
        let scope = LogScope::Snapshot { tenant: self.live.tenant, snapshot };
        let query = LogQuery { scope, filter: Filter::default(), after: None, before: None, limit: 100, newest: false };
        self.world.ops.telemetry.query(&query).unwrap().into_iter().map(|line| line.message).collect()
    }
}

#[tokio::test]
async fn every_way_to_deploy_waits_and_what_runs_is_left_alone() {
    let protected = protected().await;
    let (app, member) = (protected.app(), &protected.member);
    let (project, environment, service) = (app.project_id, app.environment_id, app.service_id);
    protected.upload(member).await;
    assert_eq!(verbs::deployment_redeploy(member, app.id).await.unwrap().row.status, DeploymentStatus::NeedsApproval);
    verbs::deployment_rollback(member, app.id).await.unwrap();
    verbs::service_instance_redeploy(member, environment, service).await.unwrap().unwrap();
    protected.set(member, "new").await;
    let now = OpCtx { now: Timestamp::now(), ..member.clone() };
    let patch = json!({"services": {service.to_string(): {"deploy": {"startCommand": "./run"}}}});
    patches::environment_patch_commit(&now, environment, patch, Commit::default()).await.unwrap();
    let database = PluginCreate { name: "redis".into(), project, environment: Some(environment), friendly_name: None };
    plugin_create(&now, database).await.unwrap();
    let (_, secret) = ops::token::project_token_create(&protected.owner, project, environment, "ci").await.unwrap();
    let principal =
        authenticate(&protected.world.ops, Surface::Railway, Presented::ProjectToken(secret), Timestamp::now(), None).await.unwrap();
    protected.upload(&OpCtx { principal, ..member.clone() }).await;
    ops::app::container_type_set(&now, &domain::galaxy::app_id(app.instance_id), "compact").await.unwrap();

    let all = protected.all().await;
    assert_eq!(all.len(), 10, "{all:#?}");
    let waiting = all.iter().filter(|row| row.status == DeploymentStatus::NeedsApproval).count();
    assert_eq!((waiting, protected.read(app.id).await.status), (9, DeploymentStatus::Success), "{all:#?}");

    // What makes no deployment goes on as everywhere.
    let scale = InstancePatch { replicas: Some(2), ..InstancePatch::default() };
    service_instance_update(&OpCtx { now: Timestamp::now(), ..member.clone() }, service, Some(environment), scale).await.unwrap();
    verbs::deployment_restart(member, app.id).await.unwrap();
    assert_eq!(protected.read(app.id).await.status, DeploymentStatus::Deploying);
    assert_eq!(protected.all().await.len(), 10);
    // Nobody asks admins for a permission that they could give.
    assert_eq!(protected.upload(&protected.owner).await.status, DeploymentStatus::Initializing);
}

#[tokio::test]
async fn an_admin_lets_it_go_on_and_the_log_names_both() {
    let protected = protected().await;
    let made = protected.upload(&protected.member).await;
    assert_eq!(made.status, DeploymentStatus::NeedsApproval);
    let step = protected.step(made.id).await;
    assert!(step.detail.unwrap().ends_with("asked for by Person") && step.completed_at.is_none());
    assert!(protected.build_log(made.snapshot_id)[0].contains("waits for the approval of an admin"));
    let refused = deployment_approve(&protected.member, made.id).await.unwrap_err();
    assert_eq!(refused.code, Code::Forbidden);
    assert_eq!(environment_protect(&protected.member, made.environment_id, false).await.unwrap_err().code, Code::Forbidden);

    // What waits goes on waiting when the protection is taken away, and a new name takes nothing away.
    let renamed = environment_rename(&protected.owner, made.environment_id, "live").await.unwrap();
    assert!(renamed.row.is_protected);
    assert!(environment_get(&protected.owner, made.environment_id).await.unwrap().row.is_protected);
    environment_protect(&protected.owner, made.environment_id, false).await.unwrap();
    assert_eq!(protected.read(made.id).await.status, DeploymentStatus::NeedsApproval);
    deployment_approve(&protected.owner, made.id).await.unwrap();
    let approved = protected.read(made.id).await;
    assert_eq!((approved.status, approved.status_reason), (DeploymentStatus::Initializing, None));
    let step = protected.step(made.id).await;
    assert_eq!(step.detail.as_deref(), Some("asked for by Person, approved by Person"));
    assert!(step.completed_at.is_some() && step.error.is_none());
    assert_eq!(protected.build_log(made.snapshot_id).last().map(String::as_str), Some("Approved by Person"));
    let log = protected.world.ops.store.activities(protected.live.tenant, Some(made.project_id), 100).await.unwrap();
    let entry = log.iter().find(|entry| entry.verb == "deployment_approve").unwrap();
    assert_eq!((&entry.actor, entry.subject.as_str()), (&protected.owner.actor(), made.id.to_string().as_str()));
    let told: Vec<_> =
        log.iter().filter(|entry| entry.verb == "environment_protect").map(|entry| entry.data["protected"].clone()).collect();
    assert_eq!(told, [json!(false), json!(true)]);
    // What rules tell of, so that an admin hears of it before it is approved.
    let asked: Vec<_> = log.iter().filter(|entry| NoticeEvent::of(entry) == Some(NoticeEvent::NeedsApproval)).collect();
    assert_eq!(asked.len(), 1, "{log:#?}");
    assert_eq!((asked[0].subject.clone(), asked[0].instance_id), (made.id.to_string(), Some(made.instance_id)));
    assert_eq!((&asked[0].data["reason"], asked[0].actor == protected.member.actor()), (&json!("asked for by Person"), true));
    assert_eq!(deployment_approve(&protected.owner, made.id).await.unwrap_err().code, Code::Conflict, "it was approved before");
}

#[tokio::test]
async fn deployments_are_let_go_in_the_order_in_which_they_were_asked_for() {
    let protected = protected().await;
    let (older, newer) = (protected.upload(&protected.member).await, protected.upload(&protected.member).await);
    deployment_approve(&protected.owner, newer.id).await.unwrap();
    let older = protected.read(older.id).await;
    assert_eq!(older.status, DeploymentStatus::Failed);
    assert_eq!(older.status_reason.as_deref(), Some("Not approved: Person approved a newer deployment of this service"));
    assert_eq!(protected.step(older.id).await.error, older.status_reason);

    let late = protected.upload(&protected.member).await;
    protected.upload(&protected.owner).await;
    let error = deployment_approve(&protected.owner, late.id).await.unwrap_err();
    assert!(error.code == Code::Conflict && error.public.contains("newer deployment"), "{}", error.public);
    assert_eq!(protected.read(late.id).await.status, DeploymentStatus::NeedsApproval);
}

#[tokio::test]
async fn what_was_not_approved_comes_back_only_by_its_name() {
    let protected = protected().await;
    let made = protected.upload(&protected.member).await;
    // An admin who changes a variable deploys what serves; a member's change waits on top of what waits.
    protected.set(&protected.owner, "admin").await;
    assert_eq!(protected.all().await[0].snapshot_id, protected.app().snapshot_id);
    let newer = protected.upload(&protected.member).await;
    protected.set(&protected.member, "member").await;
    let on_top = protected.all().await[0].clone();
    assert_eq!((on_top.snapshot_id, on_top.status), (newer.snapshot_id, DeploymentStatus::NeedsApproval));

    for id in [made.id, newer.id] {
        verbs::deployment_cancel(&protected.member, id).await.unwrap();
    }
    verbs::deployment_remove(&protected.member, on_top.id).await.unwrap();
    let canceled = protected.read(made.id).await;
    assert_eq!(canceled.status, DeploymentStatus::Failed);
    assert_eq!(canceled.status_reason.as_deref(), Some("Not approved: canceled by Person"));
    assert_eq!(protected.step(made.id).await.error, canceled.status_reason);
    let open = protected.world.ops.store.deployment_events(protected.live.tenant, made.id).await.unwrap();
    assert!(open.iter().all(|event| event.completed_at.is_some()), "{open:?}");
    assert_eq!(deployment_approve(&protected.owner, made.id).await.unwrap_err().code, Code::Conflict);

    // However many wait or were refused, what served is found behind them.
    for number in 0..12 {
        let more = protected.upload(&protected.member).await;
        if number % 2 == 0 {
            verbs::deployment_cancel(&protected.owner, more.id).await.unwrap();
        }
    }
    let (environment, service) = (made.environment_id, made.service_id);
    let again = verbs::service_instance_redeploy(&protected.owner, environment, service).await.unwrap().unwrap();
    assert_eq!(protected.read(again).await.snapshot_id, protected.app().snapshot_id, "refused source was deployed");
    let named = verbs::deployment_redeploy(&protected.owner, made.id).await.unwrap().row;
    assert_eq!((named.snapshot_id, named.status), (made.snapshot_id, DeploymentStatus::Initializing));
}

#[tokio::test]
async fn starting_an_app_does_not_bring_back_what_was_not_approved() {
    let protected = protected().await;
    let (app, app_id) = (protected.app(), domain::galaxy::app_id(protected.app().instance_id));
    let newer = protected.upload(&protected.owner).await;
    let newer = protected.live.with(Deployed { deployment: newer, ..protected.live.row.clone() });
    protected.world.goes_live(&newer).await;
    // What was built before, asked for by a member: it has an artifact, and waits.
    let back = verbs::deployment_rollback(&protected.member, app.id).await.unwrap().row;
    verbs::deployment_cancel(&protected.owner, back.id).await.unwrap();
    // However many were refused, what was built is found behind them.
    for _ in 0..20 {
        let more = protected.upload(&protected.member).await;
        verbs::deployment_cancel(&protected.owner, more.id).await.unwrap();
    }
    for serving in [app.id, newer.row.deployment.id] {
        verbs::deployment_remove(&protected.owner, serving).await.unwrap();
    }
    let now = OpCtx { now: Timestamp::now(), ..protected.owner.clone() };
    ops::app::app_start(&now, &app_id).await.unwrap();
    let started = protected.all().await[0].clone();
    assert_eq!((started.snapshot_id, started.status), (newer.row.deployment.snapshot_id, DeploymentStatus::Deploying));
}

#[tokio::test]
async fn a_volume_is_not_taken_from_what_serves_by_somebody_whose_deployments_wait() {
    let protected = protected().await;
    let app = protected.app();
    let place = VolumePlace::Environment(app.environment_id);
    let wanted = VolumeCreate { project: app.project_id, place, service: Some(app.service_id), mount_path: "/data".into() };
    let volume = volume_create(&protected.owner, wanted).await.unwrap().row.id;
    let error = volume_delete(&protected.member, volume).await.unwrap_err();
    assert!(error.code == Code::Forbidden && error.public.contains("protected"), "{}", error.public);
    let mounts = json!({"services": {app.service_id.to_string(): {"volumeMounts": {volume.to_string(): null}}}});
    let commit = async |who: &OpCtx| patches::environment_patch_commit_staged(who, app.environment_id, Commit::default()).await;
    let direct = patches::environment_patch_commit(&protected.member, app.environment_id, mounts.clone(), Commit::default()).await;
    assert_eq!(direct.unwrap_err().code, Code::Forbidden);
    // They can stage it for an admin, who commits it.
    patches::environment_stage_changes(&protected.member, app.environment_id, mounts, false).await.unwrap();
    let error = commit(&protected.member).await.unwrap_err();
    assert!(error.code == Code::Forbidden && error.public.contains("Ask an admin"), "{}", error.public);
    commit(&protected.owner).await.unwrap();
    volume_delete(&protected.owner, volume).await.unwrap();
}
