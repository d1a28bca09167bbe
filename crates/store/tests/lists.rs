//! What was written comes back, in order and in pages.

use std::collections::BTreeMap;

use domain::activity::Actor;
use domain::certificate::{Certificate, CertificateFacts, CertificateKey, CertificateSource};
use domain::deployment::{DeployReason, Deployment, DeploymentStatus, Execution, ExecutionStatus, Replica, ReplicaStatus};
use domain::page::{Page, PageRequest};
use domain::project::{Domain, EnvironmentPatch, Instance, PatchStatus, Project};
use domain::tcp_proxy::ProxyKind;
use domain::*;
use jiff::SignedDuration;
use store::{CertificateChange, Change, Committed, Constraint, DeploymentQuery, StoreError};

use crate::fixture::*;
use crate::volumes::proxy;

/// Inserts deployments of the instance in this order.
async fn history(fixture: &Fixture, tree: &Tree, statuses: &[DeploymentStatus]) -> Vec<Deployment> {
    let rows: Vec<Deployment> = statuses.iter().map(|status| deployment(&tree.instance, *status)).collect();
    let insert = |deployment: &Deployment| Change::DeploymentInsert { deployment: deployment.clone(), variables: BTreeMap::new() };
    fixture.store.commit(tree.tenant, rows.iter().map(insert).collect()).await.unwrap();
    rows
}

both! {
    async fn rows_come_back_as_they_were(fixture: Fixture) {
        let tree = fixture.tree("owner").await;
        let store = &fixture.store;
        let tenant = tree.tenant;
        assert_eq!(store.projects_by_id(tenant, &[tree.project.id]).await.unwrap(), std::slice::from_ref(&tree.project));
        assert_eq!(store.environments_of(tenant, &[tree.project.id]).await.unwrap(), std::slice::from_ref(&tree.environment));
        assert_eq!(store.services_of(tenant, &[tree.project.id]).await.unwrap(), std::slice::from_ref(&tree.service));
        let found = store.instances_of_services(tenant, &[tree.service.id]).await.unwrap().remove(0);
        assert_eq!(found, Instance { number: found.number, ..tree.instance.clone() });
        assert!(found.number > 0);
        assert_eq!(store.domains_of_environments(tenant, &[tree.environment.id]).await.unwrap(), std::slice::from_ref(&tree.domain));
        assert_eq!(store.deployments_by_id(tenant, &[tree.deployment.id]).await.unwrap(), std::slice::from_ref(&tree.deployment));
        assert_eq!(store.deployment_events(tenant, tree.deployment.id).await.unwrap(), std::slice::from_ref(&tree.event));
        assert_eq!(store.replicas_of(tenant, &[tree.deployment.id]).await.unwrap(), std::slice::from_ref(&tree.replica));
        assert_eq!(store.api_keys_of_project(tenant, tree.project.id).await.unwrap(), std::slice::from_ref(&tree.key));
        assert_eq!(store.activities(tenant, None, 10).await.unwrap(), std::slice::from_ref(&tree.activity));
        let variables = store.variables(tenant, tree.environment.id).await.unwrap();
        assert!(variables == [tree.variable.clone()]);
        assert_eq!(store.deployment_variables(tenant, tree.deployment.id).await.unwrap()["A"], "b");
        // A custom domain is routed once it is verified, and is verified once.
        assert!(store.system_routes().await.unwrap().is_empty());
        assert!(store.system_domains_unverified().await.unwrap().contains(&tree.domain));
        let value = Some("apps.example.com".to_owned());
        let checked = |verified, at| Change::DomainChecked { id: tree.domain.id, value: value.clone(), verified, at };
        store.commit(tree.tenant, vec![checked(false, later(1)), checked(true, later(2))]).await.unwrap();
        assert!(matches!(store.commit(tree.tenant, vec![checked(false, later(3))]).await, Err(StoreError::Stale)));
        let proved = Domain { dns_value: value.clone(), dns_checked_at: Some(later(2)), verified_at: Some(later(2)), ..tree.domain.clone() };
        assert_eq!(store.system_routes().await.unwrap(), [(proved, "web".to_owned(), tree.instance.id)]);
        assert!(!store.system_domains_unverified().await.unwrap().iter().any(|domain| domain.id == tree.domain.id));
        assert_eq!(store.memberships(tree.user.id).await.unwrap()[0].role, Role::Owner);
        assert_eq!(store.members(tenant).await.unwrap()[0].user, tree.user);
        let ended = Replica { status: ReplicaStatus::Crashed, exit_code: Some(-9), reason: Some("killed".into()), ..tree.replica.clone() };
        store.commit(tenant, vec![Change::ReplicaUpdate(ended.clone())]).await.unwrap();
        assert_eq!(store.replicas_of(tenant, &[tree.deployment.id]).await.unwrap(), [ended]);
    }

    async fn certificates_are_due_claimed_once_and_go_with_their_domain(fixture: Fixture) {
        let tree = fixture.tree("owner").await;
        let (store, domain) = (&fixture.store, tree.domain.id);
        let due = |at: Timestamp| async move {
            let all = store.system_certificates_due(at, true, 100).await.unwrap();
            all.into_iter().find(|(row, _)| row.id == domain).map(|(_, since)| since)
        };
        let commit = |change: Change| store.commit(tree.tenant, vec![change]);
        assert_eq!(due(now()).await, None, "its owner has not proved it");
        commit(Change::DomainChecked { id: domain, value: None, verified: true, at: now() }).await.unwrap();
        assert_eq!(due(now()).await, Some(Timestamp::UNIX_EPOCH));
        let claim = |name: &str, seen, until| {
            let state = Certificate { ordering_until: Some(until), ..Certificate::default() };
            Change::Certificate(CertificateChange::Claim { domain, name: name.to_owned(), state, seen, until })
        };
        let name = tree.domain.domain.as_str();
        let stale = commit(claim("before.example.com", Timestamp::UNIX_EPOCH, later(10))).await;
        assert!(matches!(stale, Err(StoreError::Stale)), "none is ordered for a name that it had before");
        commit(claim(name, Timestamp::UNIX_EPOCH, later(10))).await.unwrap();
        assert!(matches!(commit(claim(name, Timestamp::UNIX_EPOCH, later(20))).await, Err(StoreError::Stale)), "two engines order once");
        assert_eq!((due(now()).await, due(later(10)).await), (None, Some(later(10))));
        let claimed = store.domain(domain).await.unwrap().unwrap().open(tree.tenant).unwrap();
        assert_eq!(claimed.certificate.ordering_until, Some(later(10)), "and everybody sees that it is being ordered");

        let facts = CertificateFacts {
            source: CertificateSource::Acme,
            names: vec![tree.domain.domain.clone()],
            issuer: "somebody".into(),
            key: CertificateKey::Ecdsa,
            fingerprint: "00".into(),
            issued_at: now(),
            expires_at: later(60),
        };
        let state = Certificate { used: Some(facts), failures: 2, ..Certificate::default() };
        let set = |key: &str, seen| {
            let (chain, key, state) = ("chain".to_owned(), key.to_owned(), state.clone());
            Change::Certificate(CertificateChange::Set { domain, chain, key, state, due: later(30), seen, at: now() })
        };
        commit(set("first", None)).await.unwrap();
        assert!(matches!(commit(set("late", Some(later(10)))).await, Err(StoreError::Stale)), "the owner's own came between");
        let (certificates, unreadable) = store.system_certificates(now()).await.unwrap();
        let own = certificates.iter().find(|one| one.host == tree.domain.domain).unwrap();
        assert_eq!((own.chain.as_str(), own.key.as_str(), unreadable.len()), ("chain", "first", 0));
        assert!(store.system_certificate_stamps(now()).await.unwrap().contains(&(domain, own.host.clone(), now())));
        assert!(store.system_certificate_stamps(later(60)).await.unwrap().is_empty(), "it has run out");
        assert!(store.system_certificates(later(60)).await.unwrap().0.is_empty());
        commit(Change::DomainHttps { id: domain, force: true, at: now() }).await.unwrap();
        let read = store.domain(domain).await.unwrap().unwrap().open(tree.tenant).unwrap();
        assert_eq!((read.certificate, read.force_https), (state.clone(), true));

        commit(Change::Certificate(CertificateChange::Delete(domain))).await.unwrap();
        assert_eq!(due(now()).await, Some(Timestamp::UNIX_EPOCH));
        commit(set("again", None)).await.unwrap();
        commit(Change::DomainDelete(domain)).await.unwrap();
        assert!(store.system_certificate_stamps(now()).await.unwrap().iter().all(|(id, _, _)| *id != domain));

        let account = "https://authority.test/directory";
        assert!(store.acme_account(account).await.unwrap().is_none());
        store.acme_account_insert(account, b"first", now()).await.unwrap();
        store.acme_account_insert(account, b"second", now()).await.unwrap();
        assert_eq!(**store.acme_account(account).await.unwrap().unwrap(), *b"first");
        store.acme_account_delete(account).await.unwrap();
        assert!(store.acme_account(account).await.unwrap().is_none());
    }

    async fn certificates_are_due_in_turns_of_the_workspaces(fixture: Fixture) {
        let (greedy, modest) = (fixture.tree("greedy").await, fixture.tree("modest").await);
        let store = &fixture.store;
        let named = |n: u32| Domain {
            id: DomainId::generate(),
            domain: format!("www{n}.example.com"),
            verified_at: Some(now()),
            ..greedy.domain.clone()
        };
        store.commit(greedy.tenant, (0..30).map(|n| Change::DomainInsert(named(n))).collect()).await.unwrap();
        let domain = modest.domain.id;
        let renewed = CertificateChange::Note { domain, state: Certificate::default(), due: now(), seen: None };
        let proved = Change::DomainChecked { id: domain, value: None, verified: true, at: now() };
        store.commit(modest.tenant, vec![proved, Change::Certificate(renewed)]).await.unwrap();
        let few = store.system_certificates_due(later(1), true, 10).await.unwrap();
        assert!(few.len() == 10 && few[..2].iter().any(|(row, _)| row.id == domain), "new domains of one do not hide another's renewal");
        let all = store.system_certificates_due(later(1), true, 1_000).await.unwrap();
        assert_eq!(all.iter().filter(|(row, _)| row.workspace_id == greedy.tenant.workspace()).count(), 20);
    }

    async fn changes_of_an_environment_are_kept_sealed_and_trimmed(fixture: Fixture) {
        let tree = fixture.tree("owner").await;
        let store = &fixture.store;
        let patch = |status, n: i64| EnvironmentPatch {
            id: EnvironmentPatchId::generate(),
            workspace_id: tree.tenant.workspace(),
            project_id: tree.project.id,
            environment_id: tree.environment.id,
            status,
            message: Some(format!("{n}")),
            patch: serde_json::json!({"sharedVariables": {"A": {"value": "canary-patch"}}}),
            changes: 1,
            author: Actor::System { part: "test".into() },
            applied_at: Some(later(n)),
            created_at: now(),
            updated_at: now(),
        };
        let staged = patch(PatchStatus::Staged, 0);
        store.commit(tree.tenant, vec![Change::EnvironmentPatchInsert(staged.clone())]).await.unwrap();
        assert!(store.environment_patch_staged(tree.tenant, tree.environment.id).await.unwrap() == Some(staged.clone()));
        assert_eq!(store.staged_counts(tree.tenant, &[tree.environment.id]).await.unwrap()[0].changes, 1);
        let second = vec![Change::EnvironmentPatchInsert(patch(PatchStatus::Staged, 1))];
        assert!(matches!(store.commit(tree.tenant, second).await, Err(StoreError::Conflict { .. })), "one is staged at a time");
        let stranger = fixture.tree("other").await;
        assert!(store.environment_patch_staged(stranger.tenant, tree.environment.id).await.unwrap().is_none());
        assert!(matches!(store.commit(stranger.tenant, vec![Change::EnvironmentPatchDelete(staged.id)]).await, Err(StoreError::Stale)));
        store.commit(tree.tenant, vec![Change::EnvironmentPatchDelete(staged.id)]).await.unwrap();
        let all: Vec<EnvironmentPatch> = (0..103).map(|n| patch(PatchStatus::Committed, n)).collect();
        store.commit(tree.tenant, all.iter().cloned().map(Change::EnvironmentPatchInsert).collect()).await.unwrap();
        let request = PageRequest { last: Some(2), ..PageRequest::default() };
        let oldest = store.environment_patches(tree.tenant, tree.environment.id, &request).await.unwrap();
        assert!(oldest.items == [all[3].clone(), all[2].clone()] && oldest.has_previous);
        assert!(store.environment_patch(all[102].id).await.unwrap().unwrap().open(tree.tenant) == Some(all[102].clone()));
        assert!(store.environment_patch(all[0].id).await.unwrap().is_none());
    }

    async fn pages_cover_a_thousand_projects(fixture: Fixture) {
        let (tenant, _) = fixture.tenant("owner").await;
        let (other, _) = fixture.tenant("other").await;
        fixture.store.commit(other, vec![Change::ProjectInsert(project(other, "not mine"))]).await.unwrap();
        let all: Vec<Project> = (0..1000).map(|i| project(tenant, &format!("p{i}"))).collect();
        for part in all.chunks(100) {
            fixture.store.commit(tenant, part.iter().cloned().map(Change::ProjectInsert).collect()).await.unwrap();
        }
        let gone = Project { deleted_at: Some(now()), ..all[500].clone() };
        fixture.store.commit(tenant, vec![Change::ProjectUpdate(gone.clone(), gone.updated_at)]).await.unwrap();
        let mut newest_first: Vec<ProjectId> = all.iter().rev().map(|project| project.id).filter(|id| *id != gone.id).collect();
        let page = |request: PageRequest| {
            let store = fixture.store.clone();
            async move { store.projects(tenant, &request, false).await.unwrap() }
        };
        for forwards in [true, false] {
            let mut seen = vec![];
            let mut cursor: Option<String> = None;
            loop {
                let request = if forwards {
                    PageRequest { first: Some(77), after: cursor.clone(), ..Default::default() }
                } else {
                    PageRequest { last: Some(77), before: cursor.clone(), ..Default::default() }
                };
                let Page { items, has_next, has_previous } = page(request).await;
                let (more, back) = if forwards { (has_next, has_previous) } else { (has_previous, has_next) };
                assert_eq!(back, cursor.is_some());
                let edge = if forwards { items.last() } else { items.first() };
                cursor = edge.map(|project| project.id.to_string());
                let ids = items.iter().map(|project| project.id);
                if forwards { seen.extend(ids) } else { seen.extend(ids.rev()) }
                if !more {
                    break;
                }
            }
            assert!(seen == newest_first, "a gap or an overlap among {} rows", seen.len());
            newest_first.reverse();
        }
        assert_eq!(fixture.store.projects(tenant, &PageRequest::default(), true).await.unwrap().items.len(), 1000);
        assert_eq!(fixture.store.project_count(tenant).await.unwrap(), 999);
        let none = page(PageRequest { first: Some(0), ..Default::default() }).await;
        assert_eq!((none.items.len(), none.has_next), (0, true));
        let bad = PageRequest { after: Some("Robert'); --".into()), ..Default::default() };
        assert!(matches!(fixture.store.projects(tenant, &bad, false).await, Err(StoreError::BadCursor(_))));
        // One statement serves a list of any length.
        let ids: Vec<ProjectId> = all.iter().map(|project| project.id).collect();
        let before = fixture.store.statements();
        assert_eq!(fixture.store.projects_by_id(tenant, &ids).await.unwrap(), {
            let mut all = all.clone();
            all[500] = gone;
            all
        });
        assert_eq!(fixture.store.projects_by_id(tenant, &[]).await.unwrap(), []);
        assert_eq!(fixture.store.statements(), before + 2);
    }

    async fn deployments_are_found_by_place_and_state(fixture: Fixture) {
        use DeploymentStatus::*;
        let tree = fixture.tree("owner").await;
        let store = &fixture.store;
        let rows = history(&fixture, &tree, &[Failed, Removed, Success, Crashed, Skipped]).await;
        let ids = |rows: &[Deployment]| rows.iter().map(|row| row.id).collect::<Vec<_>>();
        let first = &tree.deployment;
        let live = store.deployments_live(tree.tenant, &[tree.instance.id]).await.unwrap();
        assert_eq!(ids(&live), [first.id, rows[2].id, rows[3].id]);
        let latest = store.deployments_latest(tree.tenant, &[tree.instance.id, InstanceId::generate()]).await.unwrap();
        assert_eq!(ids(&latest), [rows[4].id]);
        let (services, elsewhere) = ([tree.service.id], Some(EnvironmentId::generate()));
        for environment in [None, Some(tree.environment.id)] {
            let each = store.deployments_of_services(tree.tenant, &services, environment, 2).await.unwrap();
            assert_eq!(ids(&each), [rows[4].id, rows[3].id]);
            let all = store.deployments_of_services_all(tree.tenant, &services, environment, 100).await.unwrap();
            assert_eq!(ids(&all), [rows[4].id, rows[3].id, rows[2].id, rows[1].id, rows[0].id, first.id]);
            assert_eq!(store.deployments_of_services_all(tree.tenant, &services, environment, 3).await.unwrap().len(), 3);
        }
        assert_eq!(store.deployments_of_services(tree.tenant, &services, elsewhere, 2).await.unwrap(), []);
        assert_eq!(store.deployments_of_services_all(tree.tenant, &services, elsewhere, 2).await.unwrap(), []);
        let scopes = [
            DeploymentQuery::default(),
            DeploymentQuery { project: Some(tree.project.id), ..Default::default() },
            DeploymentQuery { environment: Some(tree.environment.id), ..Default::default() },
            DeploymentQuery { service: Some(tree.service.id), ..Default::default() },
            DeploymentQuery { environment: Some(tree.environment.id), service: Some(tree.service.id), ..Default::default() },
        ];
        for scope in scopes {
            let found = store.deployments(tree.tenant, &scope, &PageRequest { first: Some(2), ..Default::default() }).await.unwrap();
            assert_eq!((ids(&found.items), found.has_next), (vec![rows[4].id, rows[3].id], true), "{scope:?}");
            let found = store.deployments(tree.tenant, &scope, &PageRequest { last: Some(2), ..Default::default() }).await.unwrap();
            assert_eq!((ids(&found.items), found.has_previous), (vec![rows[0].id, first.id], true), "{scope:?}");
            let picked = DeploymentQuery { statuses_in: vec![Success, Crashed], statuses_not_in: vec![Crashed], ..scope.clone() };
            assert_eq!(ids(&store.deployments(tree.tenant, &picked, &PageRequest::default()).await.unwrap().items), [rows[2].id]);
            let elsewhere = DeploymentQuery { project: Some(ProjectId::generate()), ..scope };
            assert!(store.deployments(tree.tenant, &elsewhere, &PageRequest::default()).await.unwrap().items.is_empty());
        }
    }

    async fn the_engine_sees_what_is_open_across_workspaces(fixture: Fixture) {
        use DeploymentStatus::*;
        let (busy, idle) = (fixture.tree("busy").await, fixture.tree("idle").await);
        let store = &fixture.store;
        let done = Change::DeploymentMove { id: idle.deployment.id, from: Building, to: Failed, reason: None, at: now() };
        let gone = Replica { status: ReplicaStatus::Removed, ..idle.replica.clone() };
        store.commit(idle.tenant, vec![done, Change::ReplicaUpdate(gone)]).await.unwrap();
        assert_eq!(store.system_instances_with_work().await.unwrap(), [(busy.tenant.workspace(), busy.instance.id)]);
        assert_eq!(store.system_live_replicas().await.unwrap(), std::slice::from_ref(&busy.replica));
        let services = store.system_services().await.unwrap();
        assert!(services.len() == 2 && [&busy, &idle].iter().all(|tree| services.contains(&tree.service.id)), "{services:?}");
        // Of twelve that were removed, the ten newest can be rolled back to; what is live always counts.
        let again = |number: usize| Deployment {
            reason: DeployReason::Redeploy,
            artifact: Some(format!("a{number}")),
            source_blob: Some(format!("b{number}")),
            ..deployment(&busy.instance, Removed)
        };
        let failed = Deployment { artifact: Some("failed".into()), reason: DeployReason::Redeploy, ..deployment(&busy.instance, Failed) };
        let insert = |deployment| Change::DeploymentInsert { deployment, variables: BTreeMap::new() };
        store.commit(busy.tenant, (0..12).map(again).chain([failed]).map(insert).collect()).await.unwrap();
        let mut artifacts = store.system_artifacts_in_use().await.unwrap();
        artifacts.sort();
        assert_eq!(artifacts, ["a10", "a11", "a2", "a3", "a4", "a5", "a6", "a7", "a8", "a9", "artifact"]);
        assert_eq!(store.system_blobs_in_use().await.unwrap().len(), 11);
        // Of its twelve versions, the ten newest can be restored: none of the deployments that followed takes them away.
        let versions = (0..11).map(|number| Deployment {
            artifact: Some(format!("v{number}")),
            ..deployment(&busy.instance, if number == 5 { Failed } else { Removed })
        });
        store.commit(busy.tenant, versions.chain((12..24).map(again)).map(insert).collect()).await.unwrap();
        let artifacts = store.system_artifacts_in_use().await.unwrap();
        let kept = |name: &str| artifacts.iter().any(|artifact| artifact == name);
        let lost: Vec<usize> = (1..11).filter(|number| !kept(&format!("v{number}"))).collect();
        assert_eq!(lost, [0; 0], "versions that can be restored: {artifacts:?}");
        assert!(kept("artifact") && !kept("v0") && !kept("a13") && kept("a14"), "{artifacts:?}");
        let deleted = Project { deleted_at: Some(now()), ..idle.project.clone() };
        store.commit(idle.tenant, vec![Change::ProjectUpdate(deleted, now())]).await.unwrap();
        let hours = |hours| now() + SignedDuration::from_hours(hours);
        assert!(store.system_projects_to_purge(hours(47)).await.unwrap().is_empty());
        assert_eq!(store.system_projects_to_purge(hours(49)).await.unwrap(), [(idle.tenant.workspace(), idle.project.id)]);
    }

    async fn settings_are_changed_only_as_they_were_read(fixture: Fixture) {
        let tree = fixture.tree("owner").await;
        let (store, tenant, read) = (&fixture.store, tree.tenant, &tree.instance);
        let set = |read: &Instance, sticky: bool, at: Timestamp| {
            let mut row = Instance { updated_at: at, ..read.clone() };
            row.spec.deploy.sticky = sticky;
            (row.clone(), Change::InstanceUpdate { row, seen: read.updated_at })
        };
        let (first, change) = set(read, true, later(1));
        store.commit(tenant, vec![change]).await.unwrap();
        let (_, late) = set(read, false, later(2));
        assert!(matches!(store.commit(tenant, vec![late]).await, Err(StoreError::Stale)));
        let found = store.instance(read.id).await.unwrap().unwrap().open(tenant).unwrap();
        assert_eq!((&found.spec, found.updated_at), (&first.spec, later(1)));
        let (_, again) = set(&found, false, later(3));
        store.commit(tenant, vec![again]).await.unwrap();
    }

    async fn a_replica_that_was_told_to_end_is_not_taken_back(fixture: Fixture) {
        let tree = fixture.tree("owner").await;
        let (store, tenant, row) = (&fixture.store, tree.tenant, &tree.replica);
        let end = |reason: &str| Change::ReplicaEnd { id: row.id, reason: reason.into(), at: later(1) };
        store.commit(tenant, vec![end("killed")]).await.unwrap();
        let ending = Replica { status: ReplicaStatus::Removing, reason: Some("killed".into()), updated_at: later(1), ..row.clone() };
        // Who has read the row before sees a container that restarts, fails or is to be replaced.
        for status in [ReplicaStatus::Running, ReplicaStatus::Restarting, ReplicaStatus::Crashed, ReplicaStatus::Exited] {
            let late = store.commit(tenant, vec![Change::ReplicaUpdate(Replica { status, ..row.clone() })]).await;
            assert!(matches!(late, Err(StoreError::Stale)), "{late:?}");
        }
        assert!(matches!(store.commit(tenant, vec![end("unhealthy")]).await, Err(StoreError::Stale)));
        assert_eq!(store.replicas_of(tenant, &[row.deployment_id]).await.unwrap(), std::slice::from_ref(&ending));
        let gone = Replica { status: ReplicaStatus::Removed, ..ending };
        store.commit(tenant, vec![Change::ReplicaUpdate(gone.clone())]).await.unwrap();
        assert!(matches!(store.commit(tenant, vec![end("killed")]).await, Err(StoreError::Stale)));
        assert_eq!(store.replicas_of(tenant, &[row.deployment_id]).await.unwrap(), [gone]);
    }

    async fn who_answers_nobody_is_marked_while_it_runs(fixture: Fixture) {
        let tree = fixture.tree("owner").await;
        let (store, tenant, row) = (&fixture.store, tree.tenant, &tree.replica);
        let mark = |since| store.commit(tenant, vec![Change::ReplicaHealth(row.id, since)]);
        let update = |row: Replica| store.commit(tenant, vec![Change::ReplicaUpdate(row)]);
        let found = || async { store.replicas_of(tenant, &[row.deployment_id]).await.unwrap().remove(0) };
        mark(Some(later(1))).await.unwrap();
        assert_eq!(found().await, Replica { unhealthy_since: Some(later(1)), ..row.clone() });
        // Who writes down something else need not know of it.
        update(Replica { restarts: 3, ..row.clone() }).await.unwrap();
        assert_eq!((found().await.unhealthy_since, found().await.restarts), (Some(later(1)), 3));
        mark(None).await.unwrap();
        assert!(found().await.answers());
        // Its next life begins without a mark, and is not marked before it runs.
        mark(Some(later(2))).await.unwrap();
        update(Replica { status: ReplicaStatus::Restarting, ..row.clone() }).await.unwrap();
        assert!(found().await.answers());
        assert!(matches!(mark(Some(later(3))).await, Err(StoreError::Stale)));
    }

    async fn a_service_has_one_run_at_a_time_and_one_for_each_time(fixture: Fixture) {
        let (tree, other) = (fixture.tree("owner").await, fixture.tree("other").await);
        let (store, tenant, instance) = (&fixture.store, tree.tenant, tree.instance.id);
        let run = |due_at: Option<Timestamp>| Execution {
            id: ReplicaId::generate(),
            workspace_id: tenant.workspace(),
            instance_id: instance,
            deployment_id: tree.deployment.id,
            due_at,
            status: ExecutionStatus::Created,
            exit_code: None,
            reason: None,
            created_at: now(),
            updated_at: now(),
            completed_at: None,
        };
        let insert = async |row: &Execution| store.commit(tenant, vec![Change::ExecutionInsert(row.clone())]).await;
        let taken = |result: Result<Committed, StoreError>| matches!(result, Err(StoreError::Conflict { constraint: Constraint::Execution }));
        let first = run(Some(now()));
        let refused = |result: Result<Committed, StoreError>| matches!(result, Err(StoreError::Stale));
        assert!(refused(insert(&first).await), "it is not deployed yet");
        let moved = async |from, to| {
            let id = tree.deployment.id;
            store.commit(tenant, vec![Change::DeploymentMove { id, from, to, reason: None, at: now() }]).await.unwrap();
        };
        moved(DeploymentStatus::Building, DeploymentStatus::Success).await;
        insert(&first).await.unwrap();
        assert_eq!(store.execution_open(tenant, instance).await.unwrap(), Some(first.clone()));
        assert!(taken(insert(&run(None)).await), "one at a time");
        let skipped = Execution { status: ExecutionStatus::Skipped, completed_at: Some(later(300)), ..run(Some(later(300))) };
        insert(&skipped).await.unwrap();
        assert!(taken(insert(&Execution { id: ReplicaId::generate(), ..skipped.clone() }).await), "each time once");
        assert_eq!(store.execution_last_due(tenant, instance).await.unwrap(), Some(later(300)));

        let (exit_code, reason, completed_at) = (Some(3), Some("exited with status 3".to_owned()), Some(later(301)));
        let status = ExecutionStatus::Crashed;
        let ended = Execution { status, exit_code, reason, updated_at: later(301), completed_at, ..first };
        store.commit(tenant, vec![Change::ExecutionUpdate(ended.clone())]).await.unwrap();
        let again = store.commit(tenant, vec![Change::ExecutionUpdate(ended.clone())]).await;
        assert!(matches!(again, Err(StoreError::Stale)), "it has ended");
        let asked = run(None);
        insert(&asked).await.unwrap();
        let page = |first| PageRequest { first: Some(first), ..PageRequest::default() };
        let newest = store.executions(tenant, instance, &page(2)).await.unwrap();
        assert_eq!((newest.items, newest.has_next), (vec![asked.clone(), skipped], true));
        assert_eq!(store.executions(tenant, instance, &page(9)).await.unwrap().items[2], ended);

        assert!(store.executions(other.tenant, instance, &page(9)).await.unwrap().items.is_empty());
        assert_eq!(store.execution_open(other.tenant, instance).await.unwrap(), None);
        assert_eq!(store.execution_last_due(other.tenant, instance).await.unwrap(), None);
        let foreign = Execution { workspace_id: other.tenant.workspace(), ..run(None) };
        let foreign = store.commit(other.tenant, vec![Change::ExecutionInsert(foreign)]).await;
        assert!(matches!(foreign, Err(StoreError::Stale | StoreError::Conflict { .. })), "{foreign:?}");
        store.system_executions_purge(1).await.unwrap();
        assert_eq!(store.executions(tenant, instance, &page(9)).await.unwrap().items, std::slice::from_ref(&asked));

        store.commit(tenant, vec![Change::ExecutionUpdate(Execution { completed_at, ..asked })]).await.unwrap();
        moved(DeploymentStatus::Success, DeploymentStatus::Removing).await;
        assert!(refused(insert(&run(None)).await), "nothing would look for it once its deployment is removed");
    }

    async fn replicas_that_are_gone_are_deleted_but_for_the_newest(fixture: Fixture) {
        let tree = fixture.tree("owner").await;
        let (store, tenant) = (&fixture.store, tree.tenant);
        let gone = |index, generation, at| Replica {
            status: ReplicaStatus::Removed,
            generation,
            updated_at: later(at),
            ..replica(&tree.deployment, index)
        };
        // Of the first place one runs, so that one of those that are gone is among the newest two.
        let first: Vec<Replica> = (0..4).map(|_| gone(0, 0, 0)).collect();
        let running = replica(&tree.deployment, 0);
        let (elsewhere, earlier, late) = ([gone(1, 0, 0), gone(1, 0, 0)], gone(0, 1, 0), gone(2, 0, 60));
        let newer = [replica(&tree.deployment, 2), replica(&tree.deployment, 2)];
        let all = first.iter().chain([&running]).chain(&elsewhere).chain([&earlier, &late]).chain(&newer);
        store.commit(tenant, all.cloned().map(Change::ReplicaInsert).collect()).await.unwrap();
        store.system_replicas_purge(later(30)).await.unwrap();
        let ids = |rows: Vec<Replica>| rows.iter().map(|row| row.id).collect::<Vec<_>>();
        let kept = [&first[3], &running, &elsewhere[0], &elsewhere[1], &earlier, &late, &newer[0], &newer[1]];
        let kept: Vec<ReplicaId> = std::iter::once(&tree.replica).chain(kept).map(|row| row.id).collect();
        assert_eq!(ids(store.replicas_of(tenant, &[tree.deployment.id]).await.unwrap()), kept);
        let present = [&tree.replica, &running, &newer[0], &newer[1]].map(|row| row.id);
        assert_eq!(ids(store.replicas_present(tenant, &[tree.deployment.id]).await.unwrap()), present);
    }

    async fn only_what_serves_a_domain_is_watched(fixture: Fixture) {
        use DeploymentStatus::*;
        let (app, database, stopped, late) =
            (fixture.tree("app").await, fixture.tree("database").await, fixture.tree("stopped").await, fixture.tree("late").await);
        let other = fixture.tree("other").await;
        let store = &fixture.store;
        for tree in [&app, &database, &stopped, &other] {
            let live = Change::DeploymentMove { id: tree.deployment.id, from: Building, to: Success, reason: None, at: now() };
            store.commit(tree.tenant, vec![live]).await.unwrap();
        }
        store.commit(database.tenant, vec![Change::DomainDelete(database.domain.id)]).await.unwrap();
        // What speaks something else behind a port of its own need not answer HTTP.
        store.commit(other.tenant, vec![Change::TcpProxyInsert(proxy(&other, ProxyKind::Public, 30_007))]).await.unwrap();
        let stop = Change::DeploymentStopped { id: stopped.deployment.id, stopped: true, of: None, at: now() };
        store.commit(stopped.tenant, vec![stop]).await.unwrap();
        assert_eq!(store.replicas_of(late.tenant, &[late.deployment.id]).await.unwrap(), std::slice::from_ref(&late.replica));
        let watched = store.system_watched_replicas().await.unwrap();
        let [(replica, instance)] = watched.as_slice() else { panic!("{watched:#?}") };
        assert_eq!((replica, instance.id, &instance.spec), (&app.replica, app.instance.id, &app.instance.spec));
        // Who was found silent before is not forgotten for it.
        store.commit(other.tenant, vec![Change::ReplicaHealth(other.replica.id, Some(now()))]).await.unwrap();
        let watched: Vec<_> = store.system_watched_replicas().await.unwrap().into_iter().map(|(row, _)| (row.id, row.answers())).collect();
        assert_eq!(watched, [(app.replica.id, true), (other.replica.id, false)]);
    }

    async fn variables_are_set_replaced_and_cleared(fixture: Fixture) {
        let tree = fixture.tree("owner").await;
        let (store, place, web) = (&fixture.store, &tree.environment, Some(tree.service.id));
        let set = |service, name: &str, value: &str| Change::VariableSet(variable(place, service, name, value));
        let changes = vec![set(None, "TOKEN", "shared"), set(web, "TOKEN", "two\nlines=\"ü\""), set(web, "EMPTY", "")];
        store.commit(tree.tenant, changes).await.unwrap();
        let read = || async {
            let rows = store.variables(tree.tenant, place.id).await.unwrap();
            rows.into_iter().map(|row| ((row.service_id.is_some(), row.name), row.value)).collect::<BTreeMap<_, _>>()
        };
        let found = read().await;
        assert_eq!(found[&(false, "TOKEN".into())], "shared");
        assert_eq!(found[&(true, "TOKEN".into())], "two\nlines=\"ü\"");
        assert_eq!((found.len(), found[&(true, "EMPTY".into())].as_str()), (3, ""));
        let delete = || vec![Change::VariableDelete { environment: place.id, service: None, name: "TOKEN".into() }];
        store.commit(tree.tenant, delete()).await.unwrap();
        assert!(matches!(store.commit(tree.tenant, delete()).await, Err(StoreError::Stale)));
        for _ in 0..2 {
            store.commit(tree.tenant, vec![Change::VariablesClear { environment: place.id, service: web }]).await.unwrap();
        }
        assert!(read().await.is_empty());
    }
}
