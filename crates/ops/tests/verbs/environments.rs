//! Environments, their documents and their variables.

use std::collections::{BTreeMap, BTreeSet};

use domain::deployment::{DeployReason, Deployment, DeploymentStatus};
use domain::page::PageRequest;
use domain::spec::{InSource, InstanceSpec, RestartPolicy, RunPlan};
use domain::tcp_proxy::{ProxyKind, TcpProxy};
use domain::volume::{BackupKind, VolumeInstance};
use domain::{Code, DeploymentId, EnvironmentId, ServiceId, Timestamp, VolumeId};
use ops::auth::{Presented, Surface, authenticate};
use ops::deployment::{Deployed, deployment_redeploy};
use ops::environment::EnvironmentCreate;
use ops::environment_patch::{self as patches, Commit};
use ops::execution::{deployment_instance_execution_create, deployment_instance_executions};
use ops::service::{InstancePatch, ServiceCreate, service_instance_update};
use ops::template::{TemplateDeploy, template_deploy};
use ops::variable::{Upsert, View, variable_collection_upsert, variables};
use ops::volume::{VolumeCreate, VolumePlace};
use ops::{OpCtx, Opened};
use serde_json::{Value, json};
use store::Change;

use crate::throw_away::Postgres;
use crate::world::{World, world, world_over};

/// A service `app` that runs in `production`.
struct Live {
    world: World,
    ctx: OpCtx,
    deployed: Opened<Deployed>,
}

async fn live() -> Live {
    live_in(world().await).await
}

async fn live_in(world: World) -> Live {
    let ctx = world.person("a@example.com").await;
    let deployed = world.uploaded(&ctx, "app").await;
    world.goes_live(&deployed).await;
    Live { world, ctx, deployed }
}

impl Live {
    fn deployment(&self) -> &Deployment {
        &self.deployed.row.deployment
    }

    async fn commit(&self, patch: Value) -> Result<(), ops::Error> {
        patches::environment_patch_commit(&self.ctx, self.deployment().environment_id, patch, Commit::default()).await.map(drop)
    }

    /// A patch of the one service.
    async fn patch(&self, patch: Value) -> Result<(), ops::Error> {
        let service = self.deployment().service_id.to_string();
        self.commit(json!({"services": {service: patch}})).await
    }

    async fn set(&self, values: &[(&str, &str)]) -> Result<(), ops::Error> {
        let d = self.deployment();
        let values = values.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        variable_collection_upsert(&self.ctx, d.project_id, d.environment_id, Some(d.service_id), values, Upsert::default()).await
    }

    async fn read(&self, view: View) -> BTreeMap<String, Option<String>> {
        let d = self.deployment();
        variables(&self.ctx, d.project_id, d.environment_id, Some(d.service_id), view).await.unwrap()
    }

    async fn document(&self, environment: EnvironmentId) -> Value {
        ops::environment::environment_config(&self.ctx, environment, true).await.unwrap()
    }

    async fn newest(&self) -> Deployment {
        self.world.ops.store.deployments_live(self.deployed.tenant, &[self.deployment().instance_id]).await.unwrap().pop().unwrap()
    }

    async fn frozen(&self, id: DeploymentId) -> BTreeMap<String, String> {
        self.world.ops.store.deployment_variables(self.deployed.tenant, id).await.unwrap()
    }

    async fn environment(&self, name: &str, source: Option<EnvironmentId>) -> EnvironmentId {
        let input =
            EnvironmentCreate { project: self.deployment().project_id, name: name.into(), source, ephemeral: false, skip_deploys: false };
        ops::environment::environment_create(&self.ctx, input).await.unwrap().row.id
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_many_write_at_once_is_all_in_the_newest_deployment() {
    let postgres = Postgres::shared();
    let folder = tempfile::tempdir().unwrap();
    let databases = [format!("sqlite://{}", folder.path().join("shared.db").display()), postgres.database().await];
    for url in databases {
        let live = live_in(world_over(url).await).await;
        let d = live.deployment();
        let write = |name: String, value: String| {
            let (ctx, d) = (OpCtx { now: Timestamp::now(), ..live.ctx.clone() }, d.clone());
            tokio::spawn(async move {
                let values = [(name, value)].into();
                variable_collection_upsert(&ctx, d.project_id, d.environment_id, Some(d.service_id), values, Upsert::default()).await
            })
        };
        let writes: Vec<_> = (0..10).map(|n| write(format!("KEY_{n}"), format!("value {n}"))).collect();
        for one in writes {
            one.await.unwrap().unwrap();
        }
        let store = &live.world.ops.store;
        let newest = store.deployments_latest(live.deployed.tenant, &[d.instance_id]).await.unwrap().remove(0);
        let frozen = store.deployment_variables(live.deployed.tenant, newest.id).await.unwrap();
        for n in 0..10 {
            assert_eq!(frozen.get(&format!("KEY_{n}")), Some(&format!("value {n}")), "{:?}", frozen.keys());
        }
        // Neither of the two leads back to itself as long as the other is not there.
        for n in 0..5 {
            let (a, b) = (format!("A_{n}"), format!("B_{n}"));
            let (to_a, to_b) = (format!("${{{{{a}}}}}"), format!("${{{{{b}}}}}"));
            let (one, two) = (write(a, to_b), write(b, to_a));
            let written = [one.await.unwrap(), two.await.unwrap()];
            assert_eq!(written.iter().filter(|result| result.is_ok()).count(), 1, "{written:?}");
        }
    }
}

#[tokio::test]
async fn a_volume_goes_while_variables_are_written() {
    let live = live().await;
    let d = live.deployment();
    for round in 0..6 {
        let (place, service) = (VolumePlace::Environment(d.environment_id), Some(d.service_id));
        let input = VolumeCreate { project: d.project_id, place, service, mount_path: "/data".into() };
        let volume = ops::volume::volume_create(&live.ctx, input).await.unwrap().row.id;
        let name = format!("KEY_{round}");
        let pair = [(name.as_str(), "value")];
        let (gone, written) = tokio::join!(ops::volume::volume_delete(&live.ctx, volume), live.set(&pair));
        gone.unwrap();
        written.unwrap();
        let store = &live.world.ops.store;
        let newest = store.deployments_latest(live.deployed.tenant, &[d.instance_id]).await.unwrap().remove(0);
        let frozen = store.deployment_variables(live.deployed.tenant, newest.id).await.unwrap();
        assert!(frozen.contains_key(&name) && !frozen.contains_key("RAILWAY_VOLUME_NAME"), "round {round}: {:?}", frozen.keys());
    }
}

#[tokio::test]
async fn a_patch_applies_whole_or_not_at_all() {
    let live = live().await;
    let service = live.deployment().service_id.to_string();
    let before = live.document(live.deployment().environment_id).await;
    for (bad, word) in [
        (json!({"services": {&service: {"deploy": {"startCommand": "run", "healthcheckPath": "nope"}}}}), "healthcheckPath"),
        (json!({"sharedVariables": {"GOOD": {"value": "1"}, "NOT GOOD": {"value": "1"}}}), "NOT GOOD"),
        (json!({"services": {&service: {"variables": {"A": {"value": "1"}}}, "nobody": {}}}), "nobody"),
        (json!({"sharedVariables": {"GOOD": {"value": "1"}}, "somethingNew": {"x": 1}}), "somethingNew"),
        (
            json!({"services": {&service: {"variables": {"A": {"value": "${{shared.B}}"}}}}, "sharedVariables": {"B": {"value": "${{app.A}}"}}}),
            "circle",
        ),
    ] {
        let refused = live.commit(bad.clone()).await.unwrap_err();
        assert!(refused.public.contains(word), "{bad}: {}", refused.public);
        assert_eq!(live.document(live.deployment().environment_id).await, before);
    }
    assert_eq!(live.world.statuses(&live.deployed).await.len(), 1, "nothing was deployed");
    live.patch(json!({"deploy": {"startCommand": "run"}, "variables": {"A": {"value": "1"}}})).await.unwrap();
    let newest = live.newest().await;
    assert_eq!((newest.reason, newest.status), (DeployReason::Redeploy, DeploymentStatus::Initializing));
    assert_eq!(newest.artifact, None, "what starts is a part of what was built");
    assert_eq!(newest.spec.deploy.start_command.as_deref(), Some("run"));
    assert_eq!(live.frozen(newest.id).await["A"], "1");
    assert_eq!(live.world.statuses(&live.deployed).await.len(), 2, "one patch is one deployment");
}

#[tokio::test]
async fn only_what_needs_it_is_deployed_and_a_build_setting_builds() {
    let live = live().await;
    live.patch(json!({"deploy": {"multiRegionConfig": {"local": {"numReplicas": 3}}}})).await.unwrap();
    live.patch(json!({"deploy": {"sleepApplication": true}})).await.unwrap();
    live.patch(json!({"networking": {"customDomains": {"www.example.com": {"port": 80}}}})).await.unwrap();
    live.patch(json!({})).await.unwrap();
    assert_eq!(live.world.statuses(&live.deployed).await.len(), 1);
    let instance =
        ops::service::service_instance_get(&live.ctx, live.deployment().environment_id, live.deployment().service_id).await.unwrap();
    assert_eq!(instance.row.spec.deploy.replicas(), 3);
    live.patch(json!({"build": {"buildCommand": "make"}})).await.unwrap();
    let newest = live.newest().await;
    assert_eq!((newest.status, newest.artifact), (DeploymentStatus::Initializing, None));
    let document = live.document(live.deployment().environment_id).await;
    let service = &document["services"][live.deployment().service_id.to_string()];
    assert_eq!(service["networking"]["customDomains"], json!({"www.example.com": {"port": 80}}));
    live.patch(json!({"networking": {"customDomains": {"www.example.com": null}}})).await.unwrap();
    assert!(!live.document(live.deployment().environment_id).await.to_string().contains("www.example.com"));
}

#[tokio::test]
async fn staged_changes_wait_and_are_committed_together() {
    let live = live().await;
    let (environment, service) = (live.deployment().environment_id, live.deployment().service_id.to_string());
    let none = patches::environment_staged_changes(&live.ctx, environment).await.unwrap();
    assert_eq!((none.row.patch, none.row.changes), (json!({}), 0));
    let stage = |patch: Value, merge| patches::environment_stage_changes(&live.ctx, environment, patch, merge);
    stage(json!({"services": {&service: {"deploy": {"startCommand": "first"}}}}), false).await.unwrap();
    stage(json!({"sharedVariables": {"KEY": {"value": "v", "isSealed": true}}}), true).await.unwrap();
    let refused = stage(json!({"services": {&service: {"deploy": {"cronSchedule": "nope"}}}}), true).await.unwrap_err();
    assert_eq!(refused.code, Code::BadUserInput);
    let staged = patches::environment_staged_changes(&live.ctx, environment).await.unwrap();
    assert_eq!(staged.row.changes, 3);
    let shown = patches::environment_patch_document(&live.ctx, &staged, true).await.unwrap();
    assert_eq!(shown["sharedVariables"]["KEY"], json!({"isSealed": true}));
    assert_eq!(live.world.statuses(&live.deployed).await.len(), 1);
    let counts = live.world.ops.store.staged_counts(live.deployed.tenant, &[environment]).await.unwrap();
    assert_eq!(counts[0].changes, 3);

    let how = Commit { message: Some("go".into()), skip_deploys: false };
    let made = patches::environment_patch_commit_staged(&live.ctx, environment, how).await.unwrap();
    assert!(made.applied_at.is_some());
    let newest = live.newest().await;
    assert_eq!(newest.spec.deploy.start_command.as_deref(), Some("first"));
    assert_eq!(live.frozen(newest.id).await["KEY"], "v");
    let again = patches::environment_patch_commit_staged(&live.ctx, environment, Commit::default()).await.unwrap_err();
    assert_eq!(again.code, Code::Conflict);
    let history = patches::environment_patches(&live.ctx, environment, &Default::default()).await.unwrap();
    assert_eq!(history.row.items.iter().map(|patch| patch.message.as_deref()).collect::<Vec<_>>(), [Some("go")]);
    // What only takes something away is kept as well.
    stage(json!({"sharedVariables": {"KEY": null}}), false).await.unwrap();
    patches::environment_patch_commit_staged(&live.ctx, environment, Commit::default()).await.unwrap();
    assert!(!live.frozen(live.newest().await.id).await.contains_key("KEY"));
    stage(json!({"sharedVariables": {"A": {"value": "1"}}}), false).await.unwrap();
    stage(json!({}), false).await.unwrap();
    assert!(live.world.ops.store.staged_counts(live.deployed.tenant, &[environment]).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_document_of_one_environment_makes_another() {
    let live = live().await;
    live.set(&[("GREETING", "from ${{RAILWAY_ENVIRONMENT_NAME}}")]).await.unwrap();
    live.patch(json!({"deploy": {"multiRegionConfig": {"local": {"numReplicas": 2}}}})).await.unwrap();
    let mut document = live.document(live.deployment().environment_id).await;
    document["services"].as_object_mut().unwrap().values_mut().for_each(|service| service["isCreated"] = json!(true));
    let other = live.environment("staging", None).await;
    patches::environment_patch_commit(&live.ctx, other, document.clone(), Commit::default()).await.unwrap();
    let copy = live.document(other).await;
    let service = live.deployment().service_id.to_string();
    for key in ["deploy", "build", "source", "variables"] {
        assert_eq!(copy["services"][&service][key], document["services"][&service][key]);
    }
    assert_eq!(copy["services"][&service]["networking"]["serviceDomains"], json!({"app-staging.localhost": {}}));
    let instance = ops::service::service_instance_get(&live.ctx, other, live.deployment().service_id).await.unwrap();
    let made = live.world.ops.store.deployments_live(live.deployed.tenant, &[instance.row.id]).await.unwrap().pop().unwrap();
    assert_eq!(made.artifact, live.deployment().artifact.clone().or(made.artifact.clone()));
    assert!(made.artifact.is_some(), "what runs in the one runs in the other");
    let frozen = live.frozen(made.id).await;
    assert_eq!(frozen["GREETING"], "from staging");
    assert_eq!(frozen["RAILWAY_PUBLIC_DOMAIN"], "app-staging.localhost");

    let taken_out = json!({"services": {service: {"isDeleted": true}}});
    patches::environment_patch_commit(&live.ctx, other, taken_out, Commit::default()).await.unwrap();
    assert_eq!(live.document(other).await["services"], json!({}));
    assert!(ops::service::service_get(&live.ctx, live.deployment().service_id).await.is_ok());
}

impl Live {
    /// A database of the project, as `railway add --database` makes it, with how it is deployed.
    async fn database(&self, code: &str) -> ServiceId {
        let deploy = ops::template::TemplateDeploy {
            project: Some(self.deployment().project_id),
            environment: Some(self.deployment().environment_id),
            template: code.into(),
            config: None,
        };
        ops::template::template_deploy(&self.ctx, deploy).await.unwrap().services[0].id
    }

    /// The public and the private port of a service, and its volume instance.
    async fn attached(&self, environment: EnvironmentId, service: ServiceId) -> (Vec<TcpProxy>, Option<VolumeInstance>) {
        let (store, tenant) = (&self.world.ops.store, self.deployed.tenant);
        let mut proxies = store.tcp_proxies_of_environments(tenant, &[environment]).await.unwrap();
        proxies.retain(|row| row.service_id == service);
        proxies.sort_by_key(|row| row.kind);
        (proxies, store.volume_instance_of_service(tenant, environment, service).await.unwrap())
    }
}

#[tokio::test]
async fn a_database_that_is_copied_by_its_document_has_a_volume_and_ports_of_its_own() {
    let live = live().await;
    let production = live.deployment().environment_id;
    let redis = live.database("redis").await;
    let (ports, volume) = live.attached(production, redis).await;
    let volume = volume.unwrap();
    ops::backup::volume_instance_backup_schedule_update(&live.ctx, volume.id, vec![BackupKind::Daily]).await.unwrap();
    let mut document = live.document(production).await;
    let entry = &document["services"][redis.to_string()];
    let mount = json!({volume.volume_id.to_string(): {"mountPath": volume.mount_path, "backupSchedules": ["DAILY"]}});
    assert_eq!((&entry["volumeMounts"], &entry["networking"]["tcpProxies"]), (&mount, &json!({"6379": {}})));
    assert_eq!(document["volumes"], json!({volume.volume_id.to_string(): {"sizeMB": 50_000, "region": "local"}}));

    for part in ["services", "volumes"] {
        document[part].as_object_mut().unwrap().values_mut().for_each(|entry| entry["isCreated"] = json!(true));
    }
    let other = live.environment("staging", None).await;
    patches::environment_patch_commit(&live.ctx, other, document.clone(), Commit::default()).await.unwrap();
    let (own_ports, own) = live.attached(other, redis).await;
    let own = own.unwrap();
    assert_eq!((own.volume_id, &own.mount_path), (volume.volume_id, &volume.mount_path));
    assert_ne!(own.id, volume.id);
    assert_eq!(
        own_ports.iter().map(|row| (row.kind, row.application_port)).collect::<Vec<_>>(),
        [(ProxyKind::Public, 6379), (ProxyKind::Private, 6379)]
    );
    assert!(own_ports.iter().all(|row| ports.iter().all(|other| other.proxy_port != row.proxy_port)));
    let again = live.document(other).await;
    assert_eq!(
        (&again["volumes"], &again["services"][redis.to_string()]["volumeMounts"]),
        (&json!({volume.volume_id.to_string(): {"sizeMB": 50_000, "region": "local"}}), &mount)
    );
    let read = variables(&live.ctx, live.deployment().project_id, other, Some(redis), View::ForDeployment).await.unwrap();
    let private = own_ports[1].proxy_port.to_string();
    assert!(read["REDIS_URL"].as_ref().unwrap().ends_with(&format!(":{private}")), "{read:?}");

    // What is sent back unchanged changes nothing, and what goes takes all of it along.
    patches::environment_patch_commit(&live.ctx, other, again, Commit::default()).await.unwrap();
    assert_eq!(live.attached(other, redis).await, (own_ports, Some(own)));
    let gone = json!({"services": {redis.to_string(): null}});
    patches::environment_patch_commit(&live.ctx, other, gone, Commit::default()).await.unwrap();
    assert_eq!(live.attached(other, redis).await, (vec![], None));
    assert_eq!(live.document(other).await["volumes"], json!({}));
    assert!(live.attached(production, redis).await.1.is_some(), "the other environment keeps its own");
}

#[tokio::test]
async fn volumes_and_ports_are_patched_and_what_cannot_be_is_explained() {
    let live = live().await;
    let (here, app) = (live.deployment().environment_id, live.deployment().service_id);
    live.patch(json!({"networking": {"tcpProxies": {"5432": {}}}})).await.unwrap();
    assert_eq!(live.attached(here, app).await.0[0].application_port, 5432);
    let second = live.patch(json!({"networking": {"tcpProxies": {"5433": {}}}})).await.unwrap_err();
    assert!(second.code == Code::Conflict && second.public.contains("5432"), "{}", second.public);
    live.patch(json!({"networking": {"tcpProxies": {"5432": null, "5433": {}}}})).await.unwrap();
    assert_eq!(live.attached(here, app).await.0.iter().map(|row| row.application_port).collect::<Vec<_>>(), [5433]);

    let redis = live.database("redis").await;
    let volume = live.attached(here, redis).await.1.unwrap().volume_id.to_string();
    let both = json!({"services": {app.to_string(): {"volumeMounts": {&volume: {"mountPath": "/data"}}}}});
    let before = live.world.statuses(&live.deployed).await.len();
    live.commit(both).await.unwrap();
    let (_, moved) = live.attached(here, app).await;
    assert_eq!(moved.unwrap().mount_path, "/data");
    assert_eq!(live.attached(here, redis).await.1, None);
    assert_eq!(live.world.statuses(&live.deployed).await.len(), before + 1, "the app starts anew with its volume");
    assert_eq!(live.frozen(live.newest().await.id).await["RAILWAY_VOLUME_MOUNT_PATH"], "/data");

    let scaled = live.patch(json!({"deploy": {"numReplicas": 2}})).await.unwrap_err();
    assert_eq!(scaled.code, Code::Conflict);
    let nothing = VolumeId::generate().to_string();
    for (bad, word) in [
        (json!({"volumes": {&volume: {"sizeMB": 7}}}), "50000"),
        (json!({"volumes": {&nothing: {"isCreated": true}}}), nothing.as_str()),
        (json!({"services": {app.to_string(): {"volumeMounts": {&volume: {"mountPath": "/etc"}}}}}), "/etc"),
    ] {
        let refused = live.commit(bad.clone()).await.unwrap_err();
        assert!(refused.public.contains(word), "{bad}: {}", refused.public);
    }
    live.patch(json!({"volumeMounts": {&volume: null}})).await.unwrap();
    assert_eq!(live.attached(here, app).await.1, None);
    live.commit(json!({"volumes": {&volume: null}})).await.unwrap();
    assert_eq!(live.document(here).await["volumes"], json!({}));
}

#[tokio::test]
async fn a_copied_service_keeps_the_settings_that_clients_do_not_know() {
    let live = live().await;
    live.patch(json!({"deploy": {"sticky": true, "unhealthyReplacement": false}})).await.unwrap();
    let mut document = live.document(live.deployment().environment_id).await;
    let service = live.deployment().service_id;
    let entry = &mut document["services"][service.to_string()];
    assert_eq!((&entry["deploy"]["sticky"], &entry["deploy"]["unhealthyReplacement"]), (&json!(true), &json!(false)));
    entry["isCreated"] = json!(true);
    for key in ["sticky", "unhealthyReplacement"] {
        entry["deploy"].as_object_mut().unwrap().remove(key);
    }
    let other = live.environment("staging", None).await;
    patches::environment_patch_commit(&live.ctx, other, document, Commit::default()).await.unwrap();
    let deploy = ops::service::service_instance_get(&live.ctx, other, service).await.unwrap().row.spec.deploy;
    assert!(deploy.sticky && !deploy.unhealthy_replacement);
}

#[tokio::test]
async fn a_copied_environment_has_its_own_names_and_keeps_sealed_variables() {
    let live = live().await;
    live.patch(json!({"variables": {"KEY": {"value": "hush", "isSealed": true}, "WHERE": {"value": "${{RAILWAY_ENVIRONMENT_NAME}}"}}}))
        .await
        .unwrap();
    let other = live.environment("qa", Some(live.deployment().environment_id)).await;
    let instance = ops::service::service_instance_get(&live.ctx, other, live.deployment().service_id).await.unwrap();
    let made = live.world.ops.store.deployments_live(live.deployed.tenant, &[instance.row.id]).await.unwrap().pop().unwrap();
    let frozen = live.frozen(made.id).await;
    assert_eq!((frozen["KEY"].as_str(), frozen["WHERE"].as_str()), ("hush", "qa"));
    assert_eq!(frozen["RAILWAY_PUBLIC_DOMAIN"], "app-qa.localhost");
}

#[tokio::test]
async fn volumes_go_with_the_last_environment_that_has_them() {
    let live = live().await;
    let (project, production) = (live.deployment().project_id, live.deployment().environment_id);
    let other = live.environment("other", None).await;
    let create = |place| {
        let input = VolumeCreate { project, place, service: None, mount_path: "/data".into() };
        ops::volume::volume_create(&live.ctx, input)
    };
    let only = create(VolumePlace::Environment(other)).await.unwrap().row.id;
    let both = create(VolumePlace::Everywhere).await.unwrap().row.id;
    ops::environment::environment_delete(&live.ctx, other).await.unwrap();
    let volumes = live.world.ops.store.volumes_of_projects(live.deployed.tenant, &[project]).await.unwrap();
    let is_deleted = |id| volumes.iter().find(|volume| volume.id == id).unwrap().deleted_at.is_some();
    assert!(is_deleted(only) && !is_deleted(both));
    let left = live.world.ops.store.volume_instances_of_volumes(live.deployed.tenant, &[only, both]).await.unwrap();
    assert_eq!(left.iter().map(|row| (row.volume_id, row.environment_id)).collect::<Vec<_>>(), [(both, production)]);
}

#[tokio::test]
async fn a_patch_takes_a_volume_out_of_its_own_environment_only() {
    let live = live().await;
    let (project, production) = (live.deployment().project_id, live.deployment().environment_id);
    let staging = live.environment("staging", None).await;
    let input = VolumeCreate { project, place: VolumePlace::Everywhere, service: None, mount_path: "/data".into() };
    let volume = ops::volume::volume_create(&live.ctx, input).await.unwrap().row.id;
    let patch = json!({"volumes": {volume.to_string(): null}});
    let left = async || {
        let store = &live.world.ops.store;
        let rows = store.volume_instances_of_volumes(live.deployed.tenant, &[volume]).await.unwrap();
        let deleted = store.volumes_by_id(live.deployed.tenant, &[volume]).await.unwrap()[0].deleted_at.is_some();
        (rows.into_iter().map(|row| row.environment_id).collect::<Vec<_>>(), deleted)
    };
    patches::environment_patch_commit(&live.ctx, staging, patch.clone(), Commit::default()).await.unwrap();
    assert_eq!(left().await, (vec![production], false), "nothing uses it in production, and it is there");
    patches::environment_patch_commit(&live.ctx, production, patch, Commit::default()).await.unwrap();
    assert!(left().await.1, "that was the last place");
}

#[tokio::test]
async fn a_patch_reads_as_often_for_many_volumes_and_services_as_for_one() {
    let live = live().await;
    let (project, production) = (live.deployment().project_id, live.deployment().environment_id);
    let staging = live.environment("staging", None).await;
    let mut volumes = serde_json::Map::new();
    for _ in 0..5 {
        let place = VolumePlace::Environment(production);
        let input = VolumeCreate { project, place, service: None, mount_path: "/data".into() };
        let volume = ops::volume::volume_create(&live.ctx, input).await.unwrap().row.id;
        volumes.insert(volume.to_string(), json!({"isCreated": true}));
    }
    let mut services = serde_json::Map::from_iter([(live.deployment().service_id.to_string(), json!({"isCreated": true}))]);
    let one = json!({"volumes": volumes.clone().into_iter().take(1).collect::<serde_json::Map<_, _>>(), "services": services.clone()});
    for name in ["api", "worker"] {
        let create = ops::service::ServiceCreate {
            project,
            environment: Some(production),
            name: Some(name.into()),
            icon: None,
            source: None,
            variables: BTreeMap::new(),
        };
        let made = ops::service::service_create(&live.ctx, create).await.unwrap().row.id;
        // It is in every lasting environment, and the patch is to add it.
        ops::service::service_delete(&live.ctx, made, Some(staging)).await.unwrap();
        services.insert(made.to_string(), json!({"isCreated": true}));
    }
    let mut statements = vec![];
    // What is staged takes the place of what was staged before, from the second time on.
    for patch in [one.clone(), one, json!({"volumes": volumes, "services": services})] {
        let before = live.world.ops.store.statements();
        patches::environment_stage_changes(&live.ctx, staging, patch, false).await.unwrap();
        statements.push(live.world.ops.store.statements() - before);
    }
    assert_eq!(statements[1], statements[2]);
}

#[tokio::test]
async fn what_a_client_completes_of_a_template_is_checked() {
    let live = live().await;
    let deploy = |services: Value| {
        let (project, environment) = (Some(live.deployment().project_id), Some(live.deployment().environment_id));
        let config = Some(json!({"services": services}));
        template_deploy(&live.ctx, TemplateDeploy { project, environment, template: "redis".into(), config })
    };
    let redis = |more: Value| {
        let mut service = json!({
            "source": {"image": "redis:8"},
            "volumeMounts": {"x": {"mountPath": "/data"}},
            "networking": {"serviceDomains": {"<hasDomain>": {}}},
        });
        domain::config::merge(&mut service, &more);
        service
    };
    for (bad, word) in [
        (json!({"deploy": {"healthcheckPath": "nope"}}), "healthcheckPath"),
        (json!({"variables": {"HUGE": {"value": "${{secret(65536)}}${{secret(1)}}"}}}), "HUGE"),
        (json!({"variables": {"A": {"value": "${{B}}"}, "B": {"value": "${{A}}"}}}), "circle"),
    ] {
        let refused = deploy(json!({"a": redis(bad.clone())})).await.unwrap_err();
        assert!(refused.public.contains(word), "{bad}: {}", refused.public);
    }
    let alike = json!({"a": redis(json!({"name": "My App"})), "b": redis(json!({"name": "my-app"}))});
    let made = deploy(alike).await.unwrap();
    let names: Vec<&str> = made.services.iter().map(|service| service.name.as_str()).collect();
    assert!(names[0] == "My App" && names[1].starts_with("my-app-"), "domains and volumes are called alike otherwise: {names:?}");
}

#[tokio::test]
async fn sealed_variables_come_out_nowhere() {
    let live = live().await;
    let seal = json!({"variables": {"KEY": {"value": "hush-3d1", "isSealed": true}, "URL": {"value": "x://${{KEY}}@y"}}});
    live.patch(seal).await.unwrap();
    live.commit(json!({"sharedVariables": {"SHARED": {"value": "hush-77", "isSealed": true}}})).await.unwrap();
    for view in [View::Raw, View::Rendered, View::ForDeployment] {
        let read = live.read(view).await;
        assert!(!format!("{read:?}").contains("hush"), "{view:?}: {read:?}");
    }
    let read = live.read(View::ForDeployment).await;
    assert_eq!((&read["KEY"], &read["SHARED"], read["URL"].as_deref()), (&None, &None, Some("x://@y")));
    assert!(!live.document(live.deployment().environment_id).await.to_string().contains("hush"));
    assert_eq!(live.frozen(live.newest().await.id).await["URL"], "x://hush-3d1@y", "the app gets it");
    let unsealed = live.patch(json!({"variables": {"KEY": {"value": "other", "isSealed": false}}})).await.unwrap_err();
    assert!(unsealed.public.contains("sealed"));
    live.set(&[("KEY", "other")]).await.unwrap();
    assert!(!live.read(View::Raw).await.contains_key("KEY"), "a new value is sealed as the old one was");

    // What the history holds of it: written before it was sealed, and after that by patches that do not say so.
    live.patch(json!({"variables": {"LATE": {"value": "hush-late"}, "TEXT": "hush-text", "KEY": {"value": "hush-new"}}})).await.unwrap();
    live.patch(json!({"variables": {"LATE": {"isSealed": true}, "TEXT": {"isSealed": true}, "OPEN": {"value": "told"}}})).await.unwrap();
    live.patch(json!({"variables": {"TEXT": "hush-last", "KEY": null}})).await.unwrap();
    let history = patches::environment_patches(&live.ctx, live.deployment().environment_id, &Default::default()).await.unwrap();
    let mut told = String::new();
    for row in history.row.items {
        let patch = Opened { tenant: history.tenant, row };
        told.push_str(&patches::environment_patch_document(&live.ctx, &patch, true).await.unwrap().to_string());
    }
    assert!(told.contains("told") && !told.contains("hush"), "{told}");
}

#[tokio::test]
async fn circles_are_refused_by_name_and_generators_run_once() {
    let live = live().await;
    live.set(&[("A", "${{B}}")]).await.unwrap();
    let refused = live.set(&[("B", "x${{app.A}}")]).await.unwrap_err();
    assert!(refused.public.contains("app.B -> app.A -> app.B"), "{}", refused.public);
    let many: Vec<(String, String)> = (0..1_000).map(|at| (format!("V{at}"), format!("${{{{V{}}}}}", at + 1))).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let refused = live.set(&many).await.unwrap_err();
    assert!(refused.public.contains("1000 variables"), "with the one that is there they are too many: {}", refused.public);
    let refused = live.set(&[("HUGE", "${{secret(65536)}}".repeat(3_600).as_str())]).await.unwrap_err();
    assert!(refused.public.contains("HUGE"), "{}", refused.public);
    live.set(&[("SECRET", "p-${{secret(12, \"ab\")}}")]).await.unwrap();
    let first = live.read(View::Raw).await["SECRET"].clone().unwrap();
    assert!(first.len() == 14 && first[2..].chars().all(|c| c == 'a' || c == 'b'), "{first}");
    assert_eq!(live.read(View::ForDeployment).await["SECRET"].as_ref(), Some(&first));
    live.patch(json!({"variables": {"PORT_NUMBER": {"generator": "randomInt(5, 5)"}}})).await.unwrap();
    assert_eq!(live.read(View::Raw).await["PORT_NUMBER"].as_deref(), Some("5"));
}

#[tokio::test]
async fn whoever_refers_to_another_service_is_deployed_with_it_and_waits_for_it() {
    let live = live().await;
    let d = live.deployment();
    let api = ops::service::ServiceCreate {
        project: d.project_id,
        environment: None,
        name: Some("api".into()),
        icon: None,
        source: None,
        variables: [("HOST".to_owned(), "old".to_owned())].into(),
    };
    let api = ops::service::service_create(&live.ctx, api).await.unwrap();
    let blob = ops::deployment::Blob { sha256: "cd".repeat(32), bytes: 1 };
    let upload =
        ops::deployment::Upload { project: d.project_id, environment: d.environment_id, service: Some(api.row.id), blob, message: None };
    let deployed = ops::deployment::deployment_create(&live.ctx, upload).await.unwrap();
    live.world.goes_live(&deployed).await;
    live.set(&[("URL", "http://${{api.HOST}}")]).await.unwrap();
    let first = live.newest().await;
    let moved =
        Change::DeploymentMove { id: first.id, from: first.status, to: DeploymentStatus::Success, reason: None, at: Timestamp::now() };
    live.world.ops.store.commit(live.deployed.tenant, vec![moved]).await.unwrap();

    live.commit(json!({"services": {api.row.id.to_string(): {"variables": {"HOST": {"value": "new"}}}}})).await.unwrap();
    let (web, api) = (live.newest().await, {
        let instance = deployed.row.deployment.instance_id;
        live.world.ops.store.deployments_live(live.deployed.tenant, &[instance]).await.unwrap().pop().unwrap()
    });
    assert_ne!(web.id, first.id);
    assert_eq!(live.frozen(web.id).await["URL"], "http://new");
    assert_eq!((web.waits_for, api.waits_for), (vec![api.id], vec![]));
}

#[tokio::test]
async fn what_a_template_makes_starts_in_the_order_of_its_references() {
    let live = live().await;
    let (project, environment) = (Some(live.deployment().project_id), Some(live.deployment().environment_id));
    let order = TemplateDeploy { project, environment, template: "visitor-counter".into(), config: None };
    let made = template_deploy(&live.ctx, order).await.unwrap();
    let mut rows = vec![];
    for service in made.services {
        let instance = ops::service::service_instance_get(&live.ctx, live.deployment().environment_id, service.id).await.unwrap();
        let row = live.world.ops.store.deployments_live(live.deployed.tenant, &[instance.row.id]).await.unwrap().remove(0);
        rows.push((service.name, row));
    }
    rows.sort_by(|one, other| one.0.cmp(&other.0));
    let [(redis, database), (counter, web)] = &rows[..] else { panic!("two services: {rows:?}") };
    assert_eq!((redis.as_str(), counter.as_str()), ("Redis", "counter"));
    assert_eq!((web.waits_for.clone(), database.waits_for.clone()), (vec![database.id], vec![]));
}

#[tokio::test]
async fn variables_that_speak_to_the_platform_are_obeyed() {
    let live = live().await;
    live.set(&[("RAILWAY_DEPLOYMENT_DRAINING_SECONDS", "40"), ("RAILWAY_HEALTHCHECK_TIMEOUT_SEC", "soon")]).await.unwrap();
    let spec = live.newest().await.spec.deploy;
    assert_eq!((spec.draining_seconds, spec.healthcheck_timeout), (40, None));
}

#[tokio::test]
async fn deployment_instance_execution_create_needs_a_schedule_and_that_nothing_runs() {
    let live = live().await;
    let (ctx, d) = (&live.ctx, live.deployment());
    let run = async || deployment_instance_execution_create(ctx, d.instance_id).await;
    let always = run().await.unwrap_err();
    assert!(always.code == Code::Conflict && always.public.contains("cronSchedule"), "{always:?}");
    live.patch(json!({"deploy": {"cronSchedule": "0 3 * * *"}})).await.unwrap();
    let next = live.newest().await;
    assert_eq!(next.spec.deploy.cron_schedule.as_deref(), Some("0 3 * * *"));
    let succeed = |of: &Deployment| {
        vec![Change::DeploymentMove { id: of.id, from: of.status, to: DeploymentStatus::Success, reason: None, at: Timestamp::now() }]
    };
    live.world.ops.store.commit(live.deployed.tenant, succeed(&next)).await.unwrap();
    let made = run().await.unwrap();
    assert_eq!((made.deployment_id, made.due_at), (next.id, None));
    let again = run().await.unwrap_err();
    assert!(again.code == Code::AlreadyExists && again.public.contains("under way"), "{again:?}");
    let listed = deployment_instance_executions(ctx, d.environment_id, d.service_id, &PageRequest::default()).await.unwrap();
    assert_eq!(listed.row.items.iter().map(|row| row.id).collect::<Vec<_>>(), [made.id]);
    let stranger = live.world.person("stranger@example.com").await;
    let hidden = deployment_instance_execution_create(&stranger, d.instance_id).await.unwrap_err();
    assert_eq!(hidden.code, Code::NotFound);
}

#[tokio::test]
async fn a_schedule_that_is_taken_away_is_gone_and_one_in_the_source_stays() {
    let live = live().await;
    let (ctx, d) = (&live.ctx, live.deployment());
    let set = async |schedule: &str| {
        let patch = InstancePatch { cron_schedule: Some(schedule.to_owned()), ..InstancePatch::default() };
        service_instance_update(ctx, d.service_id, Some(d.environment_id), patch).await.unwrap();
        deployment_redeploy(ctx, live.newest().await.id).await.unwrap().row
    };
    assert_eq!(set("0 3 * * *").await.spec.deploy.cron_schedule.as_deref(), Some("0 3 * * *"));
    let without = set("").await;
    assert_eq!(without.spec.deploy.cron_schedule, None);
    let mut spec = without.spec.clone();
    (spec.deploy.cron_schedule, spec.deploy.cron_in_source) = (Some("0 4 * * *".to_owned()), true);
    let (run, at) = (RunPlan::Static { root: ".".into(), spa: false }, Timestamp::now());
    let built = Change::DeploymentBuilt { id: without.id, artifact: without.id.to_string(), run, spec, at };
    live.world.ops.store.commit(live.deployed.tenant, vec![built]).await.unwrap();
    let kept = deployment_redeploy(ctx, without.id).await.unwrap().row;
    assert_eq!(kept.spec.deploy.cron_schedule.as_deref(), Some("0 4 * * *"));
}

/// As the builder records it.
async fn built(live: &Live, id: DeploymentId, spec: InstanceSpec) {
    let (run, at) = (RunPlan::Static { root: ".".into(), spa: false }, Timestamp::now());
    let built = Change::DeploymentBuilt { id, artifact: id.to_string(), run, spec, at };
    live.world.ops.store.commit(live.deployed.tenant, vec![built]).await.unwrap();
}

#[tokio::test]
async fn what_the_source_said_goes_with_every_deployment_of_what_it_made() {
    let live = live().await;
    let said = InSource {
        start_command: Some("serve".into()),
        restart_policy_type: Some(RestartPolicy::Never),
        restart_policy_max_retries: Some(2),
        regions: Some([("local".to_owned(), 3)].into()),
        draining_seconds: Some(7),
        ..InSource::default()
    };
    let mut spec = live.deployment().spec.clone();
    said.apply(&mut spec.deploy);
    built(&live, live.deployment().id, spec).await;
    let has_it = |of: &Deployment| {
        let deploy = &of.spec.deploy;
        assert_eq!((deploy.restart_policy_type, deploy.restart_policy_max_retries), (RestartPolicy::Never, 2));
        assert_eq!((deploy.replicas(), deploy.draining_seconds, deploy.start_command.as_deref()), (3, 7, Some("serve")));
        assert_eq!(of.status, DeploymentStatus::Deploying, "nothing is built again");
    };
    live.set(&[("A", "1"), ("RAILWAY_DEPLOYMENT_DRAINING_SECONDS", "40")]).await.unwrap();
    has_it(&live.newest().await);
    let patch =
        json!({"deploy": {"startCommand": "other", "restartPolicyType": "ALWAYS", "restartPolicyMaxRetries": 5, "overlapSeconds": 4}});
    live.patch(patch).await.unwrap();
    let newest = live.newest().await;
    has_it(&newest);
    assert_eq!(newest.spec.deploy.overlap_seconds, 4, "what the source leaves open is a setting");
    has_it(&deployment_redeploy(&live.ctx, newest.id).await.unwrap().row);
}

#[tokio::test]
async fn a_start_command_that_is_taken_back_builds_the_source_without_it() {
    let live = live().await;
    live.patch(json!({"deploy": {"startCommand": "run"}})).await.unwrap();
    let with = live.newest().await;
    let mut spec = with.spec.clone();
    InSource::default().apply(&mut spec.deploy);
    built(&live, with.id, spec).await;
    live.patch(json!({"deploy": {"startCommand": null}})).await.unwrap();
    let without = live.newest().await;
    assert_eq!((without.artifact, without.status), (None, DeploymentStatus::Initializing));
    assert_eq!(without.spec.deploy.start_command, None);
}

#[tokio::test]
async fn services_whose_names_make_the_same_label_are_copied_with_domains_of_their_own() {
    let live = live().await;
    let d = live.deployment();
    let mut services = vec![];
    for name in ["日本", "中文", "My App", "my-app"] {
        let service = ServiceCreate {
            project: d.project_id,
            environment: None,
            name: Some(name.into()),
            icon: None,
            source: None,
            variables: BTreeMap::new(),
        };
        let service = ops::service::service_create(&live.ctx, service).await.unwrap().row.id;
        ops::domain_name::service_domain_create(&live.ctx, d.environment_id, service, None).await.unwrap();
        services.push(service);
    }
    let mut document = live.document(d.environment_id).await;
    document["services"].as_object_mut().unwrap().values_mut().for_each(|entry| entry["isCreated"] = json!(true));
    let copied = live.environment("staging", Some(d.environment_id)).await;
    let patched = live.environment("preview", None).await;
    patches::environment_patch_commit(&live.ctx, patched, document, Commit::default()).await.unwrap();
    for environment in [copied, patched] {
        let domains = live.world.ops.store.domains_of_environments(live.deployed.tenant, &[environment]).await.unwrap();
        assert!(services.iter().all(|service| domains.iter().any(|domain| domain.service_id == *service)), "{domains:?}");
    }
    let again = EnvironmentCreate {
        project: d.project_id,
        name: "staging".into(),
        source: Some(d.environment_id),
        ephemeral: false,
        skip_deploys: false,
    };
    let taken = ops::environment::environment_create(&live.ctx, again).await.unwrap_err();
    assert_eq!(
        (taken.code, taken.public.as_str()),
        (Code::AlreadyExists, "An environment named \"staging\" already exists in this project")
    );
}

#[tokio::test]
async fn a_service_is_made_in_every_lasting_environment_and_by_a_token_of_one_in_that_one() {
    let live = live().await;
    let (project, production) = (live.deployment().project_id, live.deployment().environment_id);
    let staging = live.environment("staging", None).await;
    let preview = EnvironmentCreate { project, name: "pr-1".into(), source: None, ephemeral: true, skip_deploys: true };
    let preview = ops::environment::environment_create(&live.ctx, preview).await.unwrap().row.id;
    let (_, secret) = ops::token::project_token_create(&live.ctx, project, staging, "ci").await.unwrap();
    let principal = authenticate(&live.world.ops, Surface::Railway, Presented::ProjectToken(secret), Timestamp::now(), None).await.unwrap();
    let token = OpCtx { principal, ..live.ctx.clone() };
    for (ctx, name, environment, wanted) in [
        (&live.ctx, "in-all", None, vec![production, staging]),
        (&live.ctx, "from-staging", Some(staging), vec![production, staging]),
        (&live.ctx, "in-preview", Some(preview), vec![preview]),
        (&token, "by-token", Some(staging), vec![staging]),
    ] {
        let create = ServiceCreate { project, environment, name: Some(name.into()), icon: None, source: None, variables: BTreeMap::new() };
        let made = ops::service::service_create(ctx, create).await.unwrap();
        let instances = live.world.ops.store.instances_of_services(made.tenant, &[made.row.id]).await.unwrap();
        let there: BTreeSet<EnvironmentId> = instances.into_iter().map(|instance| instance.environment_id).collect();
        assert_eq!(there, wanted.into_iter().collect::<BTreeSet<_>>(), "{name}");
    }
    // Who reaches one environment makes nothing where it does not see.
    let create = ServiceCreate {
        project,
        environment: Some(production),
        name: Some("elsewhere".into()),
        icon: None,
        source: None,
        variables: BTreeMap::new(),
    };
    assert_eq!(ops::service::service_create(&token, create).await.unwrap_err().code, Code::NotFound);
}

#[tokio::test]
async fn service_domains_are_labels_that_dns_takes() {
    let live = live().await;
    let d = live.deployment();
    let service = ServiceCreate {
        project: d.project_id,
        environment: None,
        name: Some("s".repeat(64)),
        icon: None,
        source: None,
        variables: BTreeMap::new(),
    };
    let service = ops::service::service_create(&live.ctx, service).await.unwrap().row.id;
    let first = live.environment(&"e".repeat(64), Some(d.environment_id)).await;
    let second = live.environment(&format!("{}f", "e".repeat(63)), Some(d.environment_id)).await;
    let mut labels = vec![];
    for environment in [first, second] {
        let made = ops::domain_name::service_domain_create(&live.ctx, environment, service, None).await.unwrap();
        let label = made.domain.strip_suffix(".localhost").unwrap().to_owned();
        assert!(domain::name::is_label(&label), "{label}");
        labels.push((label, made.id));
    }
    assert_ne!(labels[0].0, labels[1].0);
    let within = ops::domain_name::Within { kind: domain::project::DomainKind::Service, environment: first, service: Some(service) };
    let rename = async |name: String| {
        let patch = ops::domain_name::DomainPatch { name: Some(name), target_port: None };
        ops::domain_name::domain_update(&live.ctx, labels[0].1, within, patch).await
    };
    assert_eq!(rename("x".repeat(63)).await.unwrap().domain, format!("{}.localhost", "x".repeat(63)));
    assert_eq!(rename("x".repeat(64)).await.unwrap_err().code, Code::BadUserInput);
}
