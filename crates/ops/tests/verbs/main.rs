//! The verbs over a real database: what they leave behind, and what they refuse.

mod approvals;
mod environments;
mod members;
#[path = "../../../store/tests/postgres/mod.rs"]
#[allow(dead_code, reason = "these tests need one server and few databases")]
mod throw_away;
mod world;

use domain::certificate::{Certificate, CertificateFailure, FailureKind};
use domain::deployment::{DeployReason, DeploymentStatus};
use domain::page::PageRequest;
use domain::{Code, Role, Tenant, Timestamp};
use ops::OpCtx;
use ops::app::{AppPatch, app_settings_set, container_count_set};
use ops::auth::{Presented, Surface, authenticate};
use ops::deployment::{Blob, Upload};
use ops::environment_patch::Commit;
use ops::service::{InstancePatch, ServiceCreate};
use ops::variable::{Upsert, View};
use serde_json::json;
use store::{CertificateChange, Change};

use crate::world::{world, world_with};

#[tokio::test]
async fn an_upload_makes_service_domain_and_deployment() {
    let world = world().await;
    let ctx = world.person("a@example.com").await;
    let deployed = world.uploaded(&ctx, "Hello World").await;
    assert_eq!(deployed.row.service.name, "Hello World");
    assert_eq!(deployed.row.domain.as_ref().unwrap().domain, "hello-world-production.localhost");
    let variables = world.ops.store.deployment_variables(deployed.tenant, deployed.row.deployment.id).await.unwrap();
    assert_eq!(variables["RAILWAY_SERVICE_NAME"], "Hello World");
    assert_eq!(variables["RAILWAY_PUBLIC_DOMAIN"], "hello-world-production.localhost");
    assert!(world.dir.path().exists());
}

#[tokio::test]
async fn the_same_name_in_two_workspaces_gives_two_domains() {
    let world = world().await;
    let (a, b) = (world.person("a@example.com").await, world.person("b@example.com").await);
    let first = world.uploaded(&a, "shop").await;
    let second = world.uploaded(&b, "shop").await;
    assert_ne!(first.row.domain.unwrap().domain, second.row.domain.unwrap().domain);
}

#[tokio::test]
async fn another_size_keeps_the_upload_that_is_being_built() {
    let world = world().await;
    let ctx = world.person("a@example.com").await;
    let first = world.uploaded(&ctx, "app").await;
    world.goes_live(&first).await;
    let d = &first.row.deployment;
    let upload = Upload {
        project: d.project_id,
        environment: d.environment_id,
        service: Some(d.service_id),
        blob: Blob { sha256: "cd".repeat(32), bytes: 10 },
        message: None,
    };
    let second = ops::deployment::deployment_create(&ctx, upload).await.unwrap();
    let id = domain::galaxy::app_id(d.instance_id);
    ops::app::container_type_set(&ctx, &id, "compact").await.unwrap();
    let live = world.ops.store.deployments_live(first.tenant, &[d.instance_id]).await.unwrap();
    let newest = live.last().unwrap();
    assert_ne!(newest.id, second.row.deployment.id);
    assert_eq!(newest.source_blob, second.row.deployment.source_blob);
    assert_eq!((newest.status, newest.spec.deploy.limits.memory_bytes), (DeploymentStatus::Initializing, Some(512 << 20)));
}

#[tokio::test]
async fn two_who_change_settings_at_once_both_find_theirs() {
    let world = world().await;
    let ctx = world.person("a@example.com").await;
    let deployed = world.uploaded(&ctx, "app").await;
    let instance = deployed.row.deployment.instance_id;
    let id = domain::galaxy::app_id(instance);
    for count in 2..8 {
        let sticky = count % 2 == 0;
        let (one, two) = (OpCtx { now: Timestamp::now(), ..ctx.clone() }, OpCtx { now: Timestamp::now(), ..ctx.clone() });
        let patch = AppPatch { sticky: Some(sticky), ..AppPatch::default() };
        let (scaled, set) = tokio::join!(container_count_set(&one, &id, count), app_settings_set(&two, &id, patch));
        let (scaled, set) = (scaled.unwrap(), set.unwrap());
        let found = world.ops.store.instance(instance).await.unwrap().unwrap().open(scaled.tenant).unwrap();
        assert_eq!((found.spec.deploy.replicas(), found.spec.deploy.sticky), (count.unsigned_abs(), sticky));
        assert_eq!(set.row.instance.spec.deploy.sticky, sticky);
    }
}

#[tokio::test]
async fn a_project_that_is_renamed_while_it_is_deleted_stays_deleted() {
    use ops::project::{project_create, project_get, project_schedule_delete, project_update};
    let world = world().await;
    let ctx = world.person("a@example.com").await;
    for round in 0..6 {
        let project = project_create(&ctx, ops::project::ProjectCreate::default()).await.unwrap().row.id;
        let (one, two) = (OpCtx { now: Timestamp::now(), ..ctx.clone() }, OpCtx { now: Timestamp::now(), ..ctx.clone() });
        let (rename, delete) = (project_update(&one, project, Some("renamed".into()), None), project_schedule_delete(&two, project));
        // Whichever begins first.
        let (renamed, deleted) = if round % 2 == 0 {
            tokio::join!(rename, delete)
        } else {
            let (deleted, renamed) = tokio::join!(delete, rename);
            (renamed, deleted)
        };
        deleted.unwrap();
        assert!(renamed.err().is_none_or(|error| error.code == Code::Conflict), "renamed first, or refused");
        assert!(project_get(&ctx, project).await.unwrap().row.deleted_at.is_some(), "round {round}: the deletion was taken back");
    }
}

#[tokio::test]
async fn of_the_last_two_environments_one_stays() {
    use ops::environment::{EnvironmentCreate, environment_create, environment_delete};
    let world = world().await;
    let ctx = world.person("a@example.com").await;
    let project = ops::project::project_create(&ctx, ops::project::ProjectCreate::default()).await.unwrap();
    let first = world.ops.store.environments_of(project.tenant, &[project.row.id]).await.unwrap().remove(0).id;
    let input = EnvironmentCreate { project: project.row.id, name: "staging".into(), source: None, ephemeral: false, skip_deploys: true };
    let second = environment_create(&ctx, input).await.unwrap().row.id;
    let (one, two) = tokio::join!(environment_delete(&ctx, first), environment_delete(&ctx, second));
    let refused: Vec<_> = [one, two].into_iter().filter_map(Result::err).map(|error| (error.code, error.public)).collect();
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert!(refused[0].0 == Code::Conflict && refused[0].1.contains("only environment"), "{refused:?}");
    assert_eq!(world.ops.store.environments_of(project.tenant, &[project.row.id]).await.unwrap().len(), 1);
}

#[tokio::test]
async fn the_limit_of_containers_holds_for_every_way_to_scale() {
    let world = world().await;
    let ctx = world.person("a@example.com").await;
    let mut apps = vec![];
    for name in ["first", "second", "third"] {
        apps.push(world.uploaded(&ctx, name).await.row.deployment);
    }
    let scale = async |app: usize, replicas: u32| {
        let patch = InstancePatch { replicas: Some(replicas), ..InstancePatch::default() };
        ops::service::service_instance_update(&ctx, apps[app].service_id, Some(apps[app].environment_id), patch).await
    };
    assert_eq!(ops::app::AppSettings::default().container_limit, 100);
    scale(0, 50).await.unwrap();
    scale(1, 48).await.unwrap();
    assert_eq!(scale(2, 3).await.unwrap_err().code, Code::PlanLimit);
    let service = apps[2].service_id.to_string();
    let patch = json!({"services": {service: {"deploy": {"multiRegionConfig": {"local": {"numReplicas": 3}}}}}});
    let patched = ops::environment_patch::environment_patch_commit(&ctx, apps[2].environment_id, patch, Commit::default()).await;
    assert_eq!(patched.unwrap_err().code, Code::PlanLimit);
    scale(2, 2).await.unwrap();
    // What leaves room for others is never refused.
    scale(0, 1).await.unwrap();
    // Two at the same time do not both find the last room.
    let room = async |app: usize| {
        let ctx = OpCtx { now: Timestamp::now(), ..ctx.clone() };
        container_count_set(&ctx, &domain::galaxy::app_id(apps[app].instance_id), 50).await.err().map(|error| error.code)
    };
    let (one, two) = tokio::join!(room(0), room(2));
    assert!([(None, Some(Code::PlanLimit)), (Some(Code::PlanLimit), None)].contains(&(one, two)), "{one:?} {two:?}");
}

#[tokio::test]
async fn variables_of_a_running_service_deploy_once_and_not_when_told_so() {
    let world = world().await;
    let ctx = world.person("a@example.com").await;
    let deployed = world.uploaded(&ctx, "app").await;
    world.goes_live(&deployed).await;
    let d = &deployed.row.deployment;
    let set = async |values: &[(&str, &str)], how| {
        let values = values.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        ops::variable::variable_collection_upsert(&ctx, d.project_id, d.environment_id, Some(d.service_id), values, how).await
    };
    set(&[("LATER", "1")], Upsert { skip_deploys: true, ..Upsert::default() }).await.unwrap();
    assert_eq!(world.statuses(&deployed).await.len(), 1);
    set(&[("A", "${{B}}!"), ("B", "two")], Upsert::default()).await.unwrap();
    let statuses = world.statuses(&deployed).await;
    assert_eq!(statuses, [(DeploymentStatus::Success, DeployReason::Deploy), (DeploymentStatus::Deploying, DeployReason::Redeploy)]);

    let read = async |view| {
        ops::variable::variables(&ctx, d.project_id, d.environment_id, Some(d.service_id), view)
            .await
            .unwrap()
            .remove("A")
            .unwrap()
            .unwrap()
    };
    assert_eq!(read(View::Raw).await, "${{B}}!");
    assert_eq!(read(View::ForDeployment).await, "two!");
    let bad = set(&[("GOOD", "1"), ("NOT GOOD", "2")], Upsert::default()).await.unwrap_err();
    assert_eq!(bad.code, Code::BadUserInput);
    let all = ops::variable::variables(&ctx, d.project_id, d.environment_id, Some(d.service_id), View::Raw).await.unwrap();
    assert!(!all.contains_key("GOOD"), "a refused collection leaves nothing behind");
}

#[tokio::test]
async fn a_rollback_takes_settings_and_variables_along() {
    let world = world().await;
    let ctx = world.person("a@example.com").await;
    let deployed = world.uploaded(&ctx, "app").await;
    world.goes_live(&deployed).await;
    let d = &deployed.row.deployment;
    let values = [("MODE".to_owned(), "new".to_owned())].into();
    ops::variable::variable_collection_upsert(&ctx, d.project_id, d.environment_id, Some(d.service_id), values, Upsert::default())
        .await
        .unwrap();
    let back = ops::deployment::deployment_rollback(&ctx, d.id).await.unwrap();
    assert_eq!((back.row.reason, back.row.status), (DeployReason::Rollback, DeploymentStatus::Deploying));
    assert_eq!(back.row.artifact, Some(d.id.to_string()));
    let variables = world.ops.store.deployment_variables(back.tenant, back.row.id).await.unwrap();
    assert!(!variables.contains_key("MODE"));

    std::fs::remove_dir_all(world.ops.settings.artifacts.join(d.id.to_string())).unwrap();
    let gone = ops::deployment::deployment_rollback(&ctx, d.id).await.unwrap_err();
    assert_eq!(gone.code, Code::Conflict);
    assert!(gone.public.contains("deploy its source again"), "{}", gone.public);
}

#[tokio::test]
async fn what_another_tenant_owns_looks_absent_and_weak_roles_are_refused() {
    let world = world().await;
    let (owner, stranger) = (world.person("a@example.com").await, world.person("b@example.com").await);
    let deployed = world.uploaded(&owner, "app").await;
    let d = &deployed.row.deployment;
    let foreign = ops::project::project_get(&stranger, d.project_id).await.unwrap_err();
    let absent = ops::project::project_get(&stranger, domain::ProjectId::generate()).await.unwrap_err();
    assert_eq!((foreign.code, foreign.public), (absent.code, absent.public));

    for (role, may_read, may_deploy, may_write) in
        [(Role::Viewer, true, false, false), (Role::Deployer, true, true, false), (Role::Member, true, true, true)]
    {
        let user = stranger.user().unwrap().user.id;
        let tenant = Tenant::system(deployed.tenant.workspace());
        world.ops.store.commit(tenant, vec![Change::MemberSet { user, role }]).await.unwrap();
        let member = world.again(&stranger).await;
        let page = PageRequest::default();
        let filter = ops::deployment::DeploymentFilter { project: Some(d.project_id), ..Default::default() };
        assert_eq!(ops::deployment::deployments(&member, filter, &page).await.is_ok(), may_read);
        let upload = ops::deployment::deployment_upload_check(&member, d.project_id, d.environment_id, Some(d.service_id)).await;
        assert_eq!(upload.is_ok(), may_deploy, "{role:?}");
        let create = ServiceCreate {
            project: d.project_id,
            environment: None,
            name: Some(format!("{role:?}")),
            icon: None,
            source: None,
            variables: Default::default(),
        };
        assert_eq!(ops::service::service_create(&member, create).await.is_ok(), may_write, "{role:?}");
        let secrets = ops::variable::variables(&member, d.project_id, d.environment_id, Some(d.service_id), View::Raw).await;
        assert_eq!(secrets.is_ok(), may_write, "{role:?} and secrets");
        let deleted = ops::project::project_delete(&member, d.project_id).await.unwrap_err();
        assert_eq!(deleted.code, Code::Forbidden);
    }
}

#[tokio::test]
async fn settings_out_of_range_are_refused_and_nothing_changes() {
    let world = world().await;
    let ctx = world.person("a@example.com").await;
    let deployed = world.uploaded(&ctx, "app").await;
    let d = &deployed.row.deployment;
    for patch in [
        InstancePatch { healthcheck_path: Some("health".into()), ..InstancePatch::default() },
        InstancePatch { replicas: Some(100_000), ..InstancePatch::default() },
        InstancePatch { draining_seconds: Some(100_000), ..InstancePatch::default() },
    ] {
        let refused = ops::service::service_instance_update(&ctx, d.service_id, Some(d.environment_id), patch).await.unwrap_err();
        assert_eq!(refused.code, Code::BadUserInput);
    }
    let instance = ops::service::service_instance_get(&ctx, d.environment_id, d.service_id).await.unwrap();
    assert_eq!(instance.row.spec, domain::spec::InstanceSpec::default());
}

#[tokio::test]
async fn settings_of_meteor_are_no_larger_when_they_come_as_a_variable() {
    let world = world().await;
    let ctx = world.person("a@example.com").await;
    let deployed = world.uploaded(&ctx, "app").await;
    let d = &deployed.row.deployment;
    let set = async |name: &str, bytes: usize| {
        let values = [(name.to_owned(), "x".repeat(bytes))].into();
        let how = Upsert::default();
        ops::variable::variable_collection_upsert(&ctx, d.project_id, d.environment_id, Some(d.service_id), values, how).await
    };
    let refused = set("METEOR_SETTINGS", 33 << 10).await.unwrap_err();
    assert!(
        refused.code == Code::BadUserInput && refused.public.contains("METEOR_SETTINGS is larger than 32768 bytes"),
        "{}",
        refused.public
    );
    set("METEOR_SETTINGS", 32 << 10).await.unwrap();
    set("OTHER", 33 << 10).await.unwrap();
}

#[tokio::test]
async fn project_tokens_see_their_environment_only() {
    let world = world().await;
    let ctx = world.person("a@example.com").await;
    let deployed = world.uploaded(&ctx, "app").await;
    let d = &deployed.row.deployment;
    let staging = ops::environment::EnvironmentCreate {
        project: d.project_id,
        name: "staging".into(),
        source: Some(d.environment_id),
        ephemeral: false,
        skip_deploys: true,
    };
    let staging = ops::environment::environment_create(&ctx, staging).await.unwrap();
    let (_, secret) = ops::token::project_token_create(&ctx, d.project_id, d.environment_id, "ci").await.unwrap();
    let principal = authenticate(&world.ops, Surface::Railway, Presented::ProjectToken(secret.clone()), ctx.now, None).await.unwrap();
    let ci = OpCtx { principal, ..ctx.clone() };
    assert!(ops::deployment::deployment_get(&ci, d.id).await.is_ok());
    assert_eq!(ops::environment::environment_get(&ci, staging.row.id).await.unwrap_err().code, Code::NotFound);
    assert!(ops::project::project_update(&ci, d.project_id, Some("mine".into()), None).await.is_err());
    assert!(ci.user().unwrap_err().public.contains("project token was sent"));
    let misplaced = authenticate(&world.ops, Surface::Railway, Presented::Bearer(secret), ctx.now, None).await.unwrap_err();
    assert!(misplaced.public.contains("Project-Access-Token"), "{}", misplaced.public);
}

#[tokio::test]
async fn nobody_takes_the_servers_own_names() {
    use ops::domain_name::{CustomDomainCreate, DomainPatch, Within, custom_domain_create, domain_unavailable, domain_update};
    let world = world_with(|settings| {
        settings.base_domain = "apps.test".into();
        settings.dashboard_url = "https://Panel.apps.test:8443".into();
        settings.regions = vec![("paris".into(), "https://paris.example.com".into())];
    })
    .await;
    let ctx = world.person("a@example.com").await;
    let app = world.uploaded(&ctx, "app").await.row;
    let (service, domain) = (&app.deployment, app.domain.unwrap());
    let renamed = async |name: &str| {
        let within = Within { kind: domain.kind, environment: service.environment_id, service: None };
        let patch = DomainPatch { name: Some(name.into()), target_port: None };
        domain_update(&ctx, domain.id, within, patch).await.map(|domain| domain.domain).map_err(|error| error.code)
    };
    let attached = async |name: &str| {
        let (project, environment, service) = (service.project_id, service.environment_id, service.service_id);
        let input = CustomDomainCreate { project, environment, service, domain: name.into(), target_port: None };
        custom_domain_create(&ctx, input).await.map(|domain| domain.domain).map_err(|error| error.code)
    };
    for name in ["panel", "PANEL.apps.test"] {
        assert_eq!(renamed(name).await, Err(Code::BadUserInput), "{name}");
        assert!(domain_unavailable(&ctx, domain.kind, name).await.unwrap().is_some(), "{name}");
    }
    assert_eq!(attached("Paris.example.com.").await, Err(Code::BadUserInput));
    assert_eq!(renamed("panels").await, Ok("panels.apps.test".into()));
    assert_eq!(attached("www.example.com").await, Ok("www.example.com".into()));
}

#[tokio::test]
async fn a_name_is_of_whoever_proves_it() {
    let world = world_with(|settings| settings.verify_domains = true).await;
    let (first, second) = (world.person("a@example.com").await, world.person("b@example.com").await);
    let (theirs, mine) = (world.uploaded(&first, "theirs").await, world.uploaded(&second, "mine").await);
    let claim = async |ctx: &OpCtx, app: &domain::deployment::Deployment, hours: u64| {
        let input = ops::domain_name::CustomDomainCreate {
            project: app.project_id,
            environment: app.environment_id,
            service: app.service_id,
            domain: "www.example.com".into(),
            target_port: None,
        };
        let then = OpCtx { now: ctx.now + std::time::Duration::from_secs(hours * 3_600), ..ctx.clone() };
        ops::domain_name::custom_domain_create(&then, input).await
    };
    let (theirs, mine) = (&theirs.row.deployment, &mine.row.deployment);
    let squatted = claim(&first, theirs, 0).await.unwrap();
    assert_eq!(claim(&second, mine, 0).await.unwrap_err().code, Code::AlreadyExists, "nobody has an hour to prove it");
    assert_eq!(claim(&first, theirs, 2).await.unwrap_err().code, Code::AlreadyExists, "one's own claim stands in the way for a week");
    let claimed = claim(&second, mine, 2).await.unwrap();
    assert_ne!(claimed.verification_token, squatted.verification_token);
    let again = claim(&first, theirs, 4).await.unwrap();
    assert_eq!(again.verification_token, squatted.verification_token, "a token that was published proves later claims, too");

    let proved = Change::DomainChecked { id: again.id, value: None, verified: true, at: first.now };
    world.ops.store.commit(Tenant::system(again.workspace_id), vec![proved]).await.unwrap();
    assert_eq!(claim(&second, mine, 10_000).await.unwrap_err().code, Code::AlreadyExists, "a proved name gives way");
    let home = second.user().unwrap().home().unwrap().id;
    let log = ops::activity::activities(&second, home, None, &PageRequest::default()).await.unwrap().row.items;
    assert!(log.iter().any(|entry| entry.verb == "domain_lapse" && entry.data["domain"] == "www.example.com"), "nobody tells them");
}

#[tokio::test]
async fn a_claim_gives_way_only_to_one_that_comes_about() {
    let world = world_with(|settings| settings.verify_domains = true).await;
    let (first, second) = (world.person("a@example.com").await, world.person("b@example.com").await);
    let (theirs, mine) = (world.uploaded(&first, "theirs").await, world.uploaded(&second, "mine").await);
    let (theirs, mine) = (&theirs.row.deployment, &mine.row.deployment);
    let later = |ctx: &OpCtx| OpCtx { now: ctx.now + std::time::Duration::from_secs(2 * 3_600), ..ctx.clone() };
    let claim = async |ctx: &OpCtx, domain: &str| {
        let input = ops::domain_name::CustomDomainCreate {
            project: theirs.project_id,
            environment: theirs.environment_id,
            service: theirs.service_id,
            domain: domain.into(),
            target_port: None,
        };
        ops::domain_name::custom_domain_create(ctx, input).await.unwrap().id
    };
    let (old, fresh) = (claim(&first, "www.example.com").await, claim(&later(&first), "shop.example.com").await);
    let held = async || {
        let all = ops::domain_name::domains(&first, theirs.project_id, theirs.environment_id, theirs.service_id).await.unwrap().row;
        [old, fresh].map(|id| all.iter().any(|domain| domain.id == id))
    };
    let service = mine.service_id.to_string();
    let wants = async |domains: serde_json::Value| {
        let patch = json!({"services": {&service: {"networking": {"customDomains": domains}}}});
        ops::environment_patch::environment_patch_commit(&later(&second), mine.environment_id, patch, Commit::default()).await.map(drop)
    };
    let both = wants(json!({"www.example.com": {"port": 80}, "shop.example.com": {"port": 80}})).await.unwrap_err();
    assert_eq!(both.code, Code::AlreadyExists, "{}", both.public);
    assert_eq!(held().await, [true, true], "a claim was taken away for nothing");
    wants(json!({"www.example.com": {"port": 80}})).await.unwrap();
    assert_eq!(held().await, [false, true]);
}

#[tokio::test]
async fn a_project_that_is_being_deleted_comes_back_with_what_ran_in_it() {
    use ops::project::{
        project_delete, project_get, project_schedule_delete, project_schedule_delete_cancel, project_schedule_delete_force,
    };

    let world = world().await;
    let ctx = world.person("a@example.com").await;
    let app = world.uploaded(&ctx, "shop").await;
    world.goes_live(&app).await;
    let (project, environment) = (app.row.deployment.project_id, app.row.deployment.environment_id);
    let rename = async || ops::project::project_update(&ctx, project, Some("store".into()), None).await;
    let is_going = async || project_get(&ctx, project).await.unwrap().row.deleted_at.is_some();
    let first = (DeploymentStatus::Removing, DeployReason::Deploy);

    project_schedule_delete(&ctx, project).await.unwrap();
    assert_eq!((is_going().await, world.statuses(&app).await), (true, vec![first]));
    let refused = rename().await.unwrap_err();
    assert!(refused.code == Code::Conflict && refused.public.contains("projectScheduleDeleteCancel"), "{}", refused.public);
    let d = &app.row.deployment;
    let upload =
        Upload { project, environment, service: Some(d.service_id), blob: Blob { sha256: "cd".repeat(32), bytes: 10 }, message: None };
    let values = [("A".to_owned(), "b".to_owned())].into();
    let service = d.service_id.to_string();
    let patch = json!({"services": {service: {"variables": {"A": {"value": "b"}}}}});
    for refused in [
        ops::deployment::deployment_redeploy(&ctx, d.id).await.err(),
        ops::deployment::deployment_rollback(&ctx, d.id).await.err(),
        ops::deployment::service_instance_redeploy(&ctx, environment, d.service_id).await.err(),
        ops::deployment::deployment_create(&ctx, upload).await.err(),
        ops::app::app_start(&ctx, &domain::galaxy::app_id(d.instance_id)).await.err(),
        ops::variable::variable_collection_upsert(&ctx, project, environment, Some(d.service_id), values, Upsert::default()).await.err(),
        ops::environment_patch::environment_patch_commit(&ctx, environment, patch, Commit::default()).await.err(),
        ops::domain_name::service_domain_create(&ctx, environment, d.service_id, None).await.err(),
    ] {
        let refused = refused.expect("something was put to work in a project that is being deleted");
        assert!(refused.code == Code::Conflict && refused.public.contains("projectScheduleDeleteCancel"), "{}", refused.public);
    }
    assert_eq!(world.statuses(&app).await, [first], "nothing of it starts again by itself");
    project_schedule_delete_cancel(&ctx, project).await.unwrap();
    assert!(!is_going().await);
    assert_eq!(world.statuses(&app).await, [first, (DeploymentStatus::Deploying, DeployReason::Redeploy)]);
    rename().await.unwrap();
    project_schedule_delete_cancel(&ctx, project).await.expect("there is nothing to take back");
    assert_eq!(world.statuses(&app).await.len(), 2);

    // Nobody has approved that it runs again.
    ops::environment::environment_protect(&ctx, environment, true).await.unwrap();
    project_schedule_delete(&ctx, project).await.unwrap();
    project_schedule_delete_cancel(&ctx, project).await.unwrap();
    assert_eq!(world.statuses(&app).await, [first, (DeploymentStatus::Removing, DeployReason::Redeploy)]);

    assert_eq!(project_schedule_delete_force(&ctx, project).await.unwrap_err().code, Code::Conflict, "it is to stay");
    project_schedule_delete(&ctx, project).await.unwrap();
    project_schedule_delete_force(&ctx, project).await.unwrap();
    assert_eq!(project_get(&ctx, project).await.unwrap_err().code, Code::NotFound);
    assert_eq!(project_delete(&ctx, project).await.unwrap_err().code, Code::NotFound);
}

#[tokio::test]
async fn a_certificate_that_is_being_ordered_is_not_ordered_again() {
    let world = world_with(|settings| settings.orders_certificates = true).await;
    let ctx = world.person("a@example.com").await;
    let app = world.uploaded(&ctx, "shop").await;
    let input = ops::domain_name::CustomDomainCreate {
        project: app.row.deployment.project_id,
        environment: app.row.deployment.environment_id,
        service: app.row.deployment.service_id,
        domain: "www.example.com".into(),
        target_port: None,
    };
    let id = ops::domain_name::custom_domain_create(&ctx, input).await.unwrap().id;
    let failure = CertificateFailure { kind: FailureKind::Dns, message: "no such name".into(), at: ctx.now };
    let until = ctx.now + std::time::Duration::from_secs(300);
    let note = async |ordering_until: Option<Timestamp>| {
        let state = Certificate { failure: Some(failure.clone()), ordering_until, ..Certificate::default() };
        let change = CertificateChange::Note { domain: id, state, due: until, seen: None };
        world.ops.store.commit(app.tenant, vec![Change::Certificate(change)]).await.unwrap();
    };
    note(Some(until)).await;
    let refused = ops::certificate::custom_domain_issue_certificate(&ctx, id).await.unwrap_err();
    assert!(refused.code == Code::Conflict && refused.public.contains("being ordered"), "{}", refused.public);
    note(None).await;
    ops::certificate::custom_domain_issue_certificate(&ctx, id).await.unwrap();
    let due = world.ops.store.system_certificates_due(ctx.now, false, 10).await.unwrap();
    assert!(due.iter().any(|(domain, _)| domain.id == id), "it is ordered now");
    note(Some(until)).await;
    let later = OpCtx { now: until, ..ctx };
    ops::certificate::custom_domain_issue_certificate(&later, id).await.expect("an order that was lost stands in nobody's way");
}
