//! Volumes, their backups, and TCP ports: what they hold, and which rows the database refuses.

use std::collections::BTreeMap;

use domain::project::{Instance, Service};
use domain::spec::InstanceSpec;
use domain::tcp_proxy::{ProxyKind, TcpProxy};
use domain::volume::{Backup, BackupKind, BackupState, Volume, VolumeInstance, VolumeState};
use domain::*;
use store::{Change, Constraint, StoreError};

use crate::fixture::*;

fn volume(tree: &Tree, name: &str) -> Volume {
    Volume {
        id: VolumeId::generate(),
        workspace_id: tree.tenant.workspace(),
        project_id: tree.project.id,
        name: name.to_owned(),
        created_at: now(),
        updated_at: now(),
        deleted_at: None,
    }
}

fn mounted(tree: &Tree, volume: &Volume, service: Option<ServiceId>) -> VolumeInstance {
    VolumeInstance {
        id: VolumeInstanceId::generate(),
        workspace_id: tree.tenant.workspace(),
        project_id: tree.project.id,
        environment_id: tree.environment.id,
        volume_id: volume.id,
        service_id: service,
        mount_path: "/data".into(),
        size_mb: 50_000,
        used_bytes: 7,
        state: VolumeState::Ready,
        restoring: None,
        created_at: now(),
        updated_at: now(),
    }
}

fn backup(of: &VolumeInstance) -> Backup {
    Backup {
        id: BackupId::generate(),
        workspace_id: of.workspace_id,
        project_id: of.project_id,
        environment_id: of.environment_id,
        volume_instance_id: of.id,
        name: Some("before the move".into()),
        creator_id: Some(UserId::generate()),
        kind: Some(BackupKind::Weekly),
        state: BackupState::Creating,
        reason: None,
        locked: false,
        used_bytes: 0,
        expires_at: Some(later(60)),
        created_at: now(),
    }
}

pub(crate) fn proxy(tree: &Tree, kind: ProxyKind, port: u16) -> TcpProxy {
    TcpProxy {
        id: TcpProxyId::generate(),
        workspace_id: tree.tenant.workspace(),
        project_id: tree.project.id,
        environment_id: tree.environment.id,
        service_id: tree.service.id,
        kind,
        application_port: 5432,
        proxy_port: port,
        created_at: now(),
        updated_at: now(),
    }
}

fn scaled(instance: &Instance, replicas: u32) -> Change {
    let mut spec = InstanceSpec::default();
    spec.deploy.regions = BTreeMap::from([("local".to_owned(), replicas)]);
    Change::InstanceUpdate { row: Instance { spec, ..instance.clone() }, seen: instance.updated_at }
}

fn conflict(result: Result<store::Committed, StoreError>) -> Constraint {
    match result {
        Err(StoreError::Conflict { constraint }) => constraint,
        other => panic!("{other:?}"),
    }
}

both! {
    async fn the_files_of_what_goes_with_its_environment_are_kept(fixture: Fixture) {
        let tree = fixture.tree("owner").await;
        let (store, tenant) = (&fixture.store, tree.tenant);
        let row = volume(&tree, "data");
        let at = mounted(&tree, &row, None);
        let copy = backup(&at);
        let made = vec![
            Change::VolumeInsert(row.clone()),
            Change::VolumeInstanceInsert(at.clone()),
            Change::BackupInsert(copy.clone()),
        ];
        store.commit(tenant, made).await.unwrap();
        store.commit(tenant, vec![Change::EnvironmentInsert(environment(&tree.project, "another"))]).await.unwrap();
        let keep = Change::VolumeFilesKeep { id: at.id, at: now() };
        let (stranger, _) = fixture.tenant("stranger").await;
        assert!(matches!(store.commit(stranger, vec![keep.clone()]).await, Err(StoreError::Stale)));
        store.commit(tenant, vec![keep, Change::EnvironmentDelete(tree.environment.id)]).await.unwrap();
        assert!(store.system_volume_instances().await.unwrap().is_empty());
        let mut kept = store.system_volume_files_kept(later(2 * 86_400)).await.unwrap();
        kept.sort_unstable();
        let mut all = [at.id.0, copy.id.0];
        all.sort_unstable();
        assert_eq!(kept, all);
        assert!(store.system_volume_files_kept(later(2 * 86_400 + 60)).await.unwrap().is_empty(), "48 hours of grace");
    }

    async fn a_volume_is_attached_moved_and_deleted(fixture: Fixture) {
        let tree = fixture.tree("owner").await;
        let (store, tenant) = (&fixture.store, tree.tenant);
        let row = volume(&tree, "data");
        let at = mounted(&tree, &row, Some(tree.service.id));
        store.commit(tenant, vec![Change::VolumeInsert(row.clone()), Change::VolumeInstanceInsert(at.clone())]).await.unwrap();
        assert_eq!(store.volumes_of_projects(tenant, &[tree.project.id]).await.unwrap(), std::slice::from_ref(&row));
        assert_eq!(store.volume_instances_of_environments(tenant, &[tree.environment.id]).await.unwrap(), std::slice::from_ref(&at));
        let held = store.volume_instance_of_service(tenant, tree.environment.id, tree.service.id).await.unwrap();
        assert_eq!(held, Some(at.clone()));

        let moved = Change::VolumeInstanceMountPath { id: at.id, mount_path: "/other".into(), at: later(1) };
        store.commit(tenant, vec![moved, Change::VolumeDetach(at.id), Change::VolumeInstanceUsed { id: at.id, used_bytes: 9 }]).await.unwrap();
        let free = store.volume_instance(at.id).await.unwrap().unwrap().open(tenant).unwrap();
        assert_eq!((free.service_id, free.mount_path.as_str(), free.used_bytes), (None, "/other", 9));
        store.commit(tenant, vec![Change::VolumeAttach { id: at.id, service: tree.service.id }]).await.unwrap();

        // The service goes; the files stay.
        store.commit(tenant, vec![Change::ServiceDelete(tree.service.id)]).await.unwrap();
        assert_eq!(store.volume_instance(at.id).await.unwrap().unwrap().open(tenant).unwrap().service_id, None);
        let gone = Volume { deleted_at: Some(later(5)), ..row.clone() };
        store.commit(tenant, vec![Change::VolumeUpdate(gone)]).await.unwrap();
        // Somebody renames it who had read it before.
        store.commit(tenant, vec![Change::VolumeUpdate(Volume { name: "late".into(), ..row.clone() })]).await.unwrap();
        let day = 86_400;
        assert!(store.system_volumes_to_purge(later(2 * day)).await.unwrap().is_empty(), "48 hours of grace");
        assert_eq!(store.system_volumes_to_purge(later(2 * day + 60)).await.unwrap(), [(tenant.workspace(), row.id)]);
        store.commit(tenant, vec![Change::VolumeDelete(row.id)]).await.unwrap();
        assert!(store.system_volume_instances().await.unwrap().is_empty());
    }

    async fn one_volume_of_a_service_and_none_of_several_replicas(fixture: Fixture) {
        let tree = fixture.tree("owner").await;
        let (store, tenant) = (&fixture.store, tree.tenant);
        let rows = [volume(&tree, "one"), volume(&tree, "two")];
        let first = mounted(&tree, &rows[0], Some(tree.service.id));
        let mut changes: Vec<Change> = rows.iter().cloned().map(Change::VolumeInsert).collect();
        changes.push(Change::VolumeInstanceInsert(first.clone()));
        store.commit(tenant, changes).await.unwrap();

        let second = Change::VolumeInstanceInsert(mounted(&tree, &rows[1], Some(tree.service.id)));
        assert_eq!(conflict(store.commit(tenant, vec![second]).await), Constraint::VolumeMount);
        let again = Change::VolumeInstanceInsert(mounted(&tree, &rows[0], None));
        assert_eq!(conflict(store.commit(tenant, vec![again]).await), Constraint::VolumeInstance);
        let same = Change::VolumeInsert(volume(&tree, "ONE"));
        assert_eq!(conflict(store.commit(tenant, vec![same.clone()]).await), Constraint::VolumeName);

        // Whichever comes first, the other one is refused.
        let up = store.commit(tenant, vec![scaled(&tree.instance, 2)]).await;
        assert!(matches!(up, Err(StoreError::Stale)), "{up:?}");
        store.commit(tenant, vec![Change::VolumeDetach(first.id), scaled(&tree.instance, 2)]).await.unwrap();
        let attach = || Change::VolumeAttach { id: first.id, service: tree.service.id };
        let refused = store.commit(tenant, vec![attach()]).await;
        assert!(matches!(refused, Err(StoreError::Stale)), "{refused:?}");
        store.commit(tenant, vec![scaled(&tree.instance, 1), attach()]).await.unwrap();

        // A deleted volume's name is free.
        store.commit(tenant, vec![Change::VolumeUpdate(Volume { deleted_at: Some(now()), ..rows[0].clone() }), same]).await.unwrap();
    }

    async fn backups_are_made_kept_and_expire(fixture: Fixture) {
        let tree = fixture.tree("owner").await;
        let (store, tenant) = (&fixture.store, tree.tenant);
        let row = volume(&tree, "data");
        let at = mounted(&tree, &row, None);
        let made = backup(&at);
        let changes = vec![Change::VolumeInsert(row), Change::VolumeInstanceInsert(at.clone()), Change::BackupInsert(made.clone())];
        store.commit(tenant, changes).await.unwrap();
        assert_eq!(store.backups_of(tenant, &[at.id]).await.unwrap(), std::slice::from_ref(&made));
        assert_eq!(store.system_backups_under_way().await.unwrap(), std::slice::from_ref(&made));
        let second = backup(&at);
        let refused = store.commit(tenant, vec![Change::BackupInsert(second.clone())]).await;
        assert_eq!(conflict(refused), Constraint::Backup, "one at a time");
        let end = || Change::BackupEnd { id: made.id, state: BackupState::Ready, used_bytes: 5, reason: None };
        store.commit(tenant, vec![end()]).await.unwrap();
        assert!(matches!(store.commit(tenant, vec![end()]).await, Err(StoreError::Stale)), "it has ended already");
        assert!(store.system_backups_under_way().await.unwrap().is_empty());
        assert_eq!(store.system_backups_expired(later(61)).await.unwrap().len(), 1);
        store.commit(tenant, vec![Change::BackupLock(made.id)]).await.unwrap();
        assert!(store.system_backups_expired(later(61)).await.unwrap().is_empty(), "locked ones stay");
        let failed = Change::BackupEnd { id: second.id, state: BackupState::Failed, used_bytes: 0, reason: Some("no room".into()) };
        store.commit(tenant, vec![Change::BackupInsert(second.clone()), failed]).await.unwrap();
        assert!(store.system_backups_failed(now()).await.unwrap().is_empty());
        assert_eq!(store.system_backups_failed(later(1)).await.unwrap().len(), 1);
        store.commit(tenant, vec![Change::BackupDelete(second.id)]).await.unwrap();

        let (from, to) = (VolumeState::Ready, VolumeState::Restoring);
        let restore = || Change::VolumeInstanceMove { id: at.id, from, to, restoring: Some(made.id), at: now() };
        store.commit(tenant, vec![restore()]).await.unwrap();
        assert!(matches!(store.commit(tenant, vec![restore()]).await, Err(StoreError::Stale)), "one at a time");

        let told = |reason: Option<&str>| Change::BackupRestored { id: made.id, reason: reason.map(str::to_owned) };
        store.commit(tenant, vec![told(Some("no room"))]).await.unwrap();
        assert_eq!(store.backups_of(tenant, &[at.id]).await.unwrap()[0].reason.as_deref(), Some("no room"));
        store.commit(tenant, vec![told(None)]).await.unwrap();
        assert_eq!(store.backups_of(tenant, &[at.id]).await.unwrap()[0].reason, None);

        let kinds = vec![(BackupKind::Daily, now()), (BackupKind::Monthly, later(1))];
        store.commit(tenant, vec![Change::BackupSchedulesSet { instance: at.clone(), kinds }]).await.unwrap();
        assert_eq!(store.backup_schedules(tenant, &[at.id]).await.unwrap().len(), 2);
        store.commit(tenant, vec![Change::BackupSchedulesSet { instance: at.clone(), kinds: vec![] }]).await.unwrap();
        assert!(store.system_backup_schedules().await.unwrap().is_empty());
        store.commit(tenant, vec![Change::VolumeInstanceDelete(at.id)]).await.unwrap();
        assert!(store.system_backups().await.unwrap().is_empty());
    }

    async fn a_port_leads_to_one_service(fixture: Fixture) {
        let tree = fixture.tree("owner").await;
        let (store, tenant) = (&fixture.store, tree.tenant);
        let row = proxy(&tree, ProxyKind::Public, 30_001);
        store.commit(tenant, vec![Change::TcpProxyInsert(row.clone())]).await.unwrap();
        assert_eq!(store.tcp_proxies_of_environments(tenant, &[tree.environment.id]).await.unwrap(), std::slice::from_ref(&row));
        assert_eq!(store.system_tcp_routes().await.unwrap(), [(tree.instance.id, row.clone())]);
        let insert = |kind, port| vec![Change::TcpProxyInsert(proxy(&tree, kind, port))];
        assert_eq!(conflict(store.commit(tenant, insert(ProxyKind::Private, 30_001)).await), Constraint::TcpPort);
        assert_eq!(conflict(store.commit(tenant, insert(ProxyKind::Public, 30_002)).await), Constraint::TcpProxy);
        store.commit(tenant, insert(ProxyKind::Private, 30_002)).await.unwrap();
        assert_eq!(store.system_tcp_ports().await.unwrap().len(), 2);
        store.commit(tenant, vec![Change::TcpProxyDelete(row.id)]).await.unwrap();
        store.commit(tenant, vec![Change::InstanceDelete(tree.instance.id)]).await.unwrap();
        assert!(store.system_tcp_ports().await.unwrap().is_empty());
    }

    async fn another_tenant_reaches_no_volume(fixture: Fixture) {
        let (victim, thief) = (fixture.tree("victim").await, fixture.tree("thief").await);
        let store = &fixture.store;
        let row = volume(&victim, "data");
        let at = mounted(&victim, &row, Some(victim.service.id));
        let (kept, port) = (backup(&at), proxy(&victim, ProxyKind::Public, 30_001));
        let changes = vec![
            Change::VolumeInsert(row.clone()),
            Change::VolumeInstanceInsert(at.clone()),
            Change::BackupInsert(kept.clone()),
            Change::TcpProxyInsert(port.clone()),
        ];
        store.commit(victim.tenant, changes).await.unwrap();
        let mine = thief.tenant.workspace();
        let stolen = Service { workspace_id: mine, ..service(&thief.project, "stolen") };
        let attacks = vec![
            Change::VolumeUpdate(Volume { workspace_id: mine, name: "stolen".into(), ..row.clone() }),
            Change::VolumeDelete(row.id),
            Change::VolumeInstanceInsert(VolumeInstance {
                id: VolumeInstanceId::generate(),
                workspace_id: mine,
                project_id: thief.project.id,
                environment_id: thief.environment.id,
                service_id: None,
                ..at.clone()
            }),
            Change::VolumeInstanceMountPath { id: at.id, mount_path: "/stolen".into(), at: now() },
            Change::VolumeInstanceMove {
                id: at.id,
                from: VolumeState::Ready,
                to: VolumeState::Restoring,
                restoring: Some(kept.id),
                at: now(),
            },
            Change::VolumeInstanceDelete(at.id),
            Change::VolumeAttach { id: at.id, service: stolen.id },
            Change::BackupInsert(Backup { id: BackupId::generate(), workspace_id: mine, state: BackupState::Ready, ..kept.clone() }),
            Change::BackupEnd { id: kept.id, state: BackupState::Failed, used_bytes: 0, reason: None },
            Change::BackupLock(kept.id),
            Change::BackupDelete(kept.id),
            Change::BackupSchedulesSet {
                instance: VolumeInstance { workspace_id: mine, ..at.clone() },
                kinds: vec![(BackupKind::Daily, now())],
            },
            Change::TcpProxyInsert(TcpProxy { id: TcpProxyId::generate(), workspace_id: mine, kind: ProxyKind::Private, proxy_port: 30_002, ..port.clone() }),
            Change::TcpProxyDelete(port.id),
        ];
        for attack in attacks {
            let what = format!("{attack:?}");
            let result = store.commit(thief.tenant, vec![attack]).await;
            assert!(matches!(result, Err(StoreError::Stale | StoreError::ForeignTenant)), "{what}: {result:?}");
        }
        // These find nothing, which is no error for them.
        let told = Change::BackupRestored { id: kept.id, reason: Some("stolen".into()) };
        store.commit(thief.tenant, vec![Change::VolumeDetach(at.id), Change::VolumeInstanceUsed { id: at.id, used_bytes: 1 }, told]).await.unwrap();
        assert_eq!(store.backups_of(victim.tenant, &[at.id]).await.unwrap(), std::slice::from_ref(&kept));
        let seen = store.volume_instances_of_volumes(victim.tenant, &[row.id]).await.unwrap();
        assert_eq!(seen, std::slice::from_ref(&at));
        assert!(store.volume_instances_of_volumes(thief.tenant, &[row.id]).await.unwrap().is_empty());
        assert!(store.backups_of(thief.tenant, &[at.id]).await.unwrap().is_empty());
        assert!(store.tcp_proxies_of_environments(thief.tenant, &[victim.environment.id]).await.unwrap().is_empty());
        assert!(store.volume(row.id).await.unwrap().unwrap().open(thief.tenant).is_none());
        assert!(store.backup(kept.id).await.unwrap().unwrap().open(thief.tenant).is_none());
        assert!(store.tcp_proxy(port.id).await.unwrap().unwrap().open(thief.tenant).is_none());
    }
}
