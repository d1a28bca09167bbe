//! Commits are whole, guarded, and named when they conflict.

use std::collections::{BTreeMap, BTreeSet};

use domain::account::{Plan, Workspace};
use domain::delivery::DeliveryState;
use domain::deployment::{DeploymentStatus, EventStep};
use domain::project::{Domain, Environment, Project, Service};
use domain::trigger::TriggerRun;
use domain::*;
use store::{Change, ChangeKind, Constraint, NewUser, StoreError};

use crate::fixture::*;
use crate::messages::{attempt, message, trigger};

fn conflict<T: std::fmt::Debug>(result: Result<T, StoreError>) -> Constraint {
    match result {
        Err(StoreError::Conflict { constraint }) => constraint,
        other => panic!("{other:?}"),
    }
}

both! {
    async fn a_commit_that_fails_leaves_nothing(fixture: Fixture) {
        let tree = fixture.tree("owner").await;
        let generation = fixture.store.generation();
        let fresh = project(tree.tenant, "fresh");
        let changes = vec![
            Change::ProjectInsert(fresh.clone()),
            Change::EnvironmentInsert(environment(&fresh, "production")),
            Change::ServiceDelete(tree.service.id),
            Change::ProjectDelete(ProjectId::generate()),
        ];
        assert!(matches!(fixture.store.commit(tree.tenant, changes).await, Err(StoreError::Stale)));
        assert!(fixture.store.project(fresh.id).await.unwrap().is_none());
        assert!(fixture.store.service(tree.service.id).await.unwrap().is_some());
        assert_eq!(fixture.store.generation(), generation);
        let committed = fixture.store.commit(tree.tenant, vec![Change::ProjectInsert(fresh.clone())]).await.unwrap();
        assert!(committed.generation > generation);
        assert!(fixture.store.project(fresh.id).await.unwrap().is_some());
    }

    async fn a_commit_is_told_once_it_is_done(fixture: Fixture) {
        let (tree, other) = (fixture.tree("owner").await, fixture.tree("other").await);
        let mut commits = fixture.store.commits(ChangeKind::State);
        let fresh = Change::ProjectInsert(project(tree.tenant, "fresh"));
        let fails = vec![fresh.clone(), Change::ProjectDelete(ProjectId::generate())];
        assert!(matches!(fixture.store.commit(tree.tenant, fails).await, Err(StoreError::Stale)));
        assert!(commits.try_recv().is_err(), "what has failed is told");
        fixture.store.commit(tree.tenant, vec![fresh]).await.unwrap();
        assert_eq!(commits.try_recv().unwrap(), tree.tenant.workspace());
        fixture.store.commit(other.tenant, vec![Change::ProjectInsert(project(other.tenant, "theirs"))]).await.unwrap();
        assert_eq!(commits.try_recv().unwrap(), other.tenant.workspace());
        assert!(commits.try_recv().is_err(), "one commit is told twice");
    }

    async fn what_happens_all_the_time_is_told_to_those_who_asked_for_it(fixture: Fixture) {
        let tree = fixture.tree("owner").await;
        let (store, workspace) = (&fixture.store, tree.tenant.workspace());
        let kinds = [ChangeKind::State, ChangeKind::Flow, ChangeKind::Triggers, ChangeKind::Deliveries];
        let mut listening = kinds.map(|kind| (kind, store.commits(kind)));
        let mut heard = || {
            let of = |(kind, commits): &mut (ChangeKind, tokio::sync::broadcast::Receiver<WorkspaceId>)| {
                let told: Vec<WorkspaceId> = std::iter::from_fn(|| commits.try_recv().ok()).collect();
                assert!(told.iter().all(|one| *one == workspace) && told.len() < 2, "{kind:?}: {told:?}");
                (!told.is_empty()).then_some(*kind)
            };
            listening.iter_mut().filter_map(of).collect::<Vec<_>>()
        };
        let (watch, message) = (trigger(&tree), message(tree.tenant, "app"));
        let run = TriggerRun { trigger_id: watch.id, number: 1, at: now(), outcome: "executed".into(), log: vec![] };
        let claim = Change::TriggerClaim { id: watch.id, runs: 0, next: later(60) };
        let done = Change::DeliveryDone { attempt: attempt(&message, 1), state: DeliveryState::Delivered, at: later(1), next: later(1) };
        for (change, told) in [
            (Change::TriggerInsert(watch), vec![ChangeKind::State, ChangeKind::Triggers]),
            (claim, vec![]),
            (Change::TriggerRunInsert(run), vec![ChangeKind::Triggers]),
            (Change::DeliveryInsert(message.clone()), vec![ChangeKind::State, ChangeKind::Deliveries]),
            (Change::DeliveryClaim { id: message.id, attempts: 0, at: now(), until: later(60) }, vec![]),
            (done, vec![ChangeKind::Deliveries]),
        ] {
            let which = format!("{change:?}");
            store.commit(tree.tenant, vec![change]).await.unwrap();
            assert_eq!(heard(), told, "{which}");
        }
    }

    async fn nobody_takes_back_what_was_changed_since_they_looked(fixture: Fixture) {
        let tree = fixture.tree("owner").await;
        let (store, tenant) = (&fixture.store, tree.tenant);
        let gone = Project { deleted_at: Some(later(1)), updated_at: later(1), ..tree.project.clone() };
        let renamed = Project { name: "renamed".into(), updated_at: later(2), ..tree.project.clone() };
        store.commit(tenant, vec![Change::ProjectUpdate(gone, now())]).await.unwrap();
        let late = store.commit(tenant, vec![Change::ProjectUpdate(renamed, now())]).await;
        assert!(matches!(late, Err(StoreError::Stale)), "a renaming takes back that the project is deleted: {late:?}");

        let before = store.workspace(tenant.workspace()).await.unwrap().unwrap().open(tenant).unwrap();
        let upgraded = Workspace { plan: Plan::Professional, updated_at: later(3), ..before.clone() };
        let named = Workspace { name: "renamed".into(), updated_at: later(4), ..before.clone() };
        store.commit(tenant, vec![Change::WorkspaceUpdate(upgraded.clone(), before.updated_at)]).await.unwrap();
        let late = store.commit(tenant, vec![Change::WorkspaceUpdate(named, before.updated_at)]).await;
        assert!(matches!(late, Err(StoreError::Stale)), "a renaming takes the plan back: {late:?}");
        assert_eq!(store.workspace(tenant.workspace()).await.unwrap().unwrap().open(tenant).unwrap(), upgraded);
    }

    async fn of_the_last_two_environments_one_stays(fixture: Fixture) {
        let tree = fixture.tree("owner").await;
        let (store, tenant) = (&fixture.store, tree.tenant);
        for round in 0..5 {
            let (one, two) = (environment(&tree.project, &format!("one-{round}")), environment(&tree.project, &format!("two-{round}")));
            let all = store.environments_of(tenant, &[tree.project.id]).await.unwrap();
            store.commit(tenant, vec![Change::EnvironmentInsert(one.clone()), Change::EnvironmentInsert(two.clone())]).await.unwrap();
            for old in all {
                store.commit(tenant, vec![Change::EnvironmentDelete(old.id)]).await.unwrap();
            }
            let (a, b) = tokio::join!(
                store.commit(tenant, vec![Change::EnvironmentDelete(one.id)]),
                store.commit(tenant, vec![Change::EnvironmentDelete(two.id)]),
            );
            let refused = [a, b].into_iter().filter(|done| matches!(done, Err(StoreError::Stale))).count();
            assert_eq!((refused, store.environments_of(tenant, &[tree.project.id]).await.unwrap().len()), (1, 1));
        }
    }

    async fn a_state_changes_once(fixture: Fixture) {
        let tree = fixture.tree("owner").await;
        let id = tree.deployment.id;
        let to = |to, reason: Option<&str>| Change::DeploymentMove {
            id, from: DeploymentStatus::Building, to, reason: reason.map(str::to_owned), at: later(1),
        };
        // Two decide at once: one of them is late.
        let (a, b) = tokio::join!(
            fixture.store.commit(tree.tenant, vec![to(DeploymentStatus::Deploying, None)]),
            fixture.store.commit(tree.tenant, vec![to(DeploymentStatus::Failed, Some("no"))]),
        );
        assert!(a.is_ok() != b.is_ok(), "{a:?} {b:?}");
        assert!(matches!(a.and(b), Err(StoreError::Stale)));
        let found = fixture.store.deployments_by_id(tree.tenant, &[id]).await.unwrap().remove(0);
        assert_eq!(found.status_at, later(1));
        assert_eq!(found.status == DeploymentStatus::Failed, found.status_reason.is_some());
        let restart = |from| vec![Change::DeploymentRestart { id, from, at: later(2) }];
        assert!(matches!(fixture.store.commit(tree.tenant, restart(DeploymentStatus::Success)).await, Err(StoreError::Stale)));
        let stop = |of| vec![Change::DeploymentStopped { id, stopped: true, of, at: later(2) }];
        assert!(matches!(fixture.store.commit(tree.tenant, stop(Some((DeploymentStatus::Success, 0)))).await, Err(StoreError::Stale)));
        fixture.store.commit(tree.tenant, stop(Some((found.status, 0)))).await.unwrap();
        fixture.store.commit(tree.tenant, stop(None)).await.unwrap();
        fixture.store.commit(tree.tenant, restart(found.status)).await.unwrap();
        let found = fixture.store.deployments_by_id(tree.tenant, &[id]).await.unwrap().remove(0);
        // What has been seen of the generation before does not stop this one.
        assert!(matches!(fixture.store.commit(tree.tenant, stop(Some((found.status, 0)))).await, Err(StoreError::Stale)));
        assert_eq!((found.generation, found.stopped, found.status, found.status_reason), (1, false, DeploymentStatus::Deploying, None));
    }

    async fn the_newest_open_step_is_the_one_that_ends(fixture: Fixture) {
        let tree = fixture.tree("owner").await;
        let again = event(&tree.deployment, EventStep::BuildImage);
        let end = |error: &str| Change::EventComplete {
            deployment: tree.deployment.id, step: EventStep::BuildImage, at: later(5), error: Some(error.into()), detail: None,
        };
        fixture.store.commit(tree.tenant, vec![Change::EventInsert(again.clone()), end("second")]).await.unwrap();
        let events = fixture.store.deployment_events(tree.tenant, tree.deployment.id).await.unwrap();
        assert_eq!(events[0], tree.event);
        assert_eq!((events[1].id, events[1].error.as_deref(), events[1].completed_at), (again.id, Some("second"), Some(later(5))));
        fixture.store.commit(tree.tenant, vec![end("first")]).await.unwrap();
        assert!(matches!(fixture.store.commit(tree.tenant, vec![end("none")]).await, Err(StoreError::Stale)));
    }

    async fn of_commits_that_have_read_the_same_of_an_environment_one_goes_through(fixture: Fixture) {
        let tree = fixture.tree("owner").await;
        let (store, id) = (&fixture.store, tree.environment.id);
        let seen = store.environment_revision(tree.tenant, id).await.unwrap().unwrap();
        let written = |name: &str| {
            let row = variable(&tree.environment, None, name, "value");
            store.commit(tree.tenant, vec![Change::EnvironmentRevise(id, seen), Change::VariableSet(row)])
        };
        let (one, two, three) = tokio::join!(written("ONE"), written("TWO"), written("THREE"));
        let results = [one, two, three];
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "{results:?}");
        assert!(results.iter().all(|result| matches!(result, Ok(_) | Err(StoreError::Stale))), "{results:?}");
        let shared = store.variables(tree.tenant, id).await.unwrap().into_iter().filter(|row| row.service_id.is_none());
        assert_eq!(shared.count(), 1, "a commit that was refused has left its variable behind");
        assert_eq!(store.environment_revision(tree.tenant, id).await.unwrap(), Some(seen + 1));
        assert_eq!(store.environment_revision(tree.tenant, EnvironmentId::generate()).await.unwrap(), None);
    }

    async fn what_is_taken_is_named(fixture: Fixture) {
        let (tree, other) = (fixture.tree("owner").await, fixture.tree("other").await);
        let store = &fixture.store;
        let commit = |change| store.commit(tree.tenant, vec![change]);
        let same = environment(&tree.project, "PRODUCTION");
        assert_eq!(conflict(commit(Change::EnvironmentInsert(same)).await), Constraint::EnvironmentName);
        assert_eq!(conflict(commit(Change::ServiceInsert(service(&tree.project, "Web"))).await), Constraint::ServiceName);
        let second = service(&tree.project, "Ärger");
        commit(Change::ServiceInsert(second.clone())).await.unwrap();
        let same = Service { name: "äRGER".into(), ..tree.service.clone() };
        assert_eq!(conflict(commit(Change::ServiceUpdate(same)).await), Constraint::ServiceName);
        // A name may change its own case, and another project may use it.
        commit(Change::ServiceUpdate(Service { name: "WEB".into(), ..tree.service.clone() })).await.unwrap();
        commit(Change::EnvironmentProtect(tree.environment.id, true, now())).await.unwrap();
        commit(Change::EnvironmentUpdate(Environment { name: "Production".into(), ..tree.environment.clone() })).await.unwrap();
        let renamed = store.environment(tree.environment.id).await.unwrap().unwrap().open(tree.tenant).unwrap();
        assert_eq!((renamed.name.as_str(), renamed.is_protected), ("Production", true), "a renaming leaves the protection alone");
        assert_eq!(conflict(commit(Change::InstanceInsert(instance(&tree.environment, &tree.service))).await), Constraint::Instance);
        let domain = Domain { id: DomainId::generate(), domain: other.domain.domain.clone(), ..tree.domain.clone() };
        assert_eq!(conflict(commit(Change::DomainInsert(domain)).await), Constraint::Domain);
        assert_eq!(conflict(commit(Change::ProjectInsert(tree.project.clone())).await), Constraint::Identity);
        let key = [9; 32];
        store.api_key_create(api_key(domain::key::KeyKind::Account, tree.user.id), key).await.unwrap();
        let again = store.api_key_create(api_key(domain::key::KeyKind::Account, tree.user.id), key).await;
        assert_eq!(conflict(again), Constraint::Secret);
        let fresh = user("fresh");
        let twice = workspace("twice", Some(tree.user.id));
        assert_eq!(conflict(store.workspace_create(twice, tree.user.id).await), Constraint::PersonalWorkspace);
        assert_eq!(conflict(store.workspace_create(workspace("owner", None), tree.user.id).await), Constraint::WorkspaceUsername);
        let taken = domain::account::User { email: tree.user.email.clone(), ..fresh.clone() };
        let taken = NewUser { workspace: workspace("fresh", Some(taken.id)), user: taken, password_hash: None };
        assert_eq!(conflict(store.user_create(taken).await), Constraint::UserEmail);
        assert!(store.workspace_by_username("fresh").await.unwrap().is_none(), "half an account was made");
    }

    async fn two_hundred_commits_at_once_stand_alone(fixture: Fixture) {
        let (tenant, _) = fixture.tenant("busy").await;
        let home = project(tenant, "home");
        let place = environment(&home, "production");
        fixture.store.commit(tenant, vec![Change::ProjectInsert(home.clone()), Change::EnvironmentInsert(place.clone())]).await.unwrap();
        let generation = fixture.store.generation();
        let tasks: Vec<_> = (0..200)
            .map(|i| {
                let (store, home, place) = (fixture.store.clone(), home.clone(), place.clone());
                tokio::spawn(async move {
                    let service = service(&home, &format!("s{i}"));
                    let instance = instance(&place, &service);
                    let mut changes = vec![Change::ServiceInsert(service), Change::InstanceInsert(instance.clone())];
                    if i % 10 == 0 {
                        // It fails at its end, after it has taken a number, amid commits that succeed.
                        changes.push(Change::ProjectDelete(ProjectId::generate()));
                    }
                    (i, instance.id, store.commit(tenant, changes).await)
                })
            })
            .collect();
        let mut numbers = BTreeSet::new();
        for task in tasks {
            match task.await.unwrap() {
                (i, _, Err(StoreError::Stale)) if i % 10 == 0 => {}
                (i, id, Ok(committed)) if i % 10 != 0 => {
                    numbers.insert(committed.numbers[&id]);
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(numbers.len(), 180, "a number was given out twice");
        assert_eq!(fixture.store.generation(), generation + 180);
        let instances = fixture.store.instances_of_environments(tenant, &[place.id]).await.unwrap();
        assert_eq!(instances.iter().map(|instance| instance.number).collect::<BTreeSet<_>>(), numbers);
    }

    async fn deleting_a_project_takes_everything_below(fixture: Fixture) {
        let (tree, other) = (fixture.tree("owner").await, fixture.tree("other").await);
        fixture.store.commit(tree.tenant, vec![Change::ProjectDelete(tree.project.id)]).await.unwrap();
        let store = &fixture.store;
        assert!(store.instance(tree.instance.id).await.unwrap().is_none());
        assert!(store.replica(tree.replica.id).await.unwrap().is_none());
        assert!(store.domain_by_name(&tree.domain.domain).await.unwrap().is_none());
        assert!(store.api_key(tree.key.id).await.unwrap().is_none());
        assert_eq!(store.deployment_variables(tree.tenant, tree.deployment.id).await.unwrap(), BTreeMap::new());
        assert_eq!(store.activities(tree.tenant, Some(tree.project.id), 10).await.unwrap(), std::slice::from_ref(&tree.activity));
        assert!(store.replica(other.replica.id).await.unwrap().is_some());
    }

    async fn text_that_postgresql_cannot_hold_is_refused(fixture: Fixture) {
        let (tenant, _) = fixture.tenant("owner").await;
        let result = fixture.store.commit(tenant, vec![Change::ProjectInsert(project(tenant, "a\0b"))]).await;
        assert!(matches!(result, Err(StoreError::BadText)), "{result:?}");
    }
}
