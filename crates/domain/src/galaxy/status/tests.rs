use jiff::Timestamp;

use super::*;
use crate::activity::Actor;
use crate::deployment::DeployReason;
use crate::rollout::{ASLEEP, SCALED_DOWN, STOPPED};
use crate::spec::InstanceSpec;
use crate::*;

fn deployment(status: DeploymentStatus) -> Deployment {
    let now = Timestamp::UNIX_EPOCH;
    Deployment {
        id: DeploymentId::generate(),
        workspace_id: WorkspaceId::generate(),
        project_id: ProjectId::generate(),
        environment_id: EnvironmentId::generate(),
        service_id: ServiceId::generate(),
        instance_id: InstanceId::generate(),
        snapshot_id: SnapshotId::generate(),
        status,
        status_reason: None,
        status_at: now,
        generation: 0,
        stopped: false,
        reason: DeployReason::Deploy,
        spec: InstanceSpec::default(),
        waits_for: vec![],
        source_blob: None,
        artifact: Some("a".into()),
        run: None,
        message: None,
        creator: Actor::System { part: "test".into() },
        created_at: now,
        updated_at: now,
    }
}

fn replica(of: &Deployment, index: u32, status: ReplicaStatus, reason: Option<&str>) -> Replica {
    Replica {
        id: ReplicaId::generate(),
        workspace_id: of.workspace_id,
        deployment_id: of.id,
        generation: of.generation,
        index,
        status,
        port: 0,
        exit_code: None,
        reason: reason.map(str::to_owned),
        restarts: 0,
        created_at: Timestamp::UNIX_EPOCH,
        updated_at: Timestamp::UNIX_EPOCH,
        unhealthy_since: None,
    }
}

use DeploymentStatus as D;
use ReplicaStatus as R;

type Row = (u32, ReplicaStatus, Option<&'static str>);

#[test]
fn an_app_that_runs_by_a_schedule_is_not_unavailable_in_between() {
    let mut it = deployment(D::Success);
    assert_eq!(app_status(std::slice::from_ref(&it), Some(&it), &[], 1), AppStatus::Updating);
    it.spec.deploy.cron_schedule = Some("0 3 * * *".into());
    assert_eq!(app_status(std::slice::from_ref(&it), Some(&it), &[], 1), AppStatus::Running);
    it.stopped = true;
    assert_eq!(app_status(std::slice::from_ref(&it), Some(&it), &[], 1), AppStatus::Stopped);
}

#[test]
fn an_app_is_updating_while_it_is_scaled_and_not_when_a_container_is_replaced() {
    let killed = Some(crate::galaxy::KILLED);
    let cases: [(&str, u32, &[Row], AppStatus); 15] = [
        ("all run", 1, &[(0, R::Running, None)], AppStatus::Running),
        ("more are wanted", 3, &[(0, R::Running, None)], AppStatus::Updating),
        ("one comes", 2, &[(0, R::Running, None), (1, R::Initializing, None)], AppStatus::Updating),
        ("comes again", 2, &[(0, R::Running, None), (1, R::Removed, Some(SCALED_DOWN)), (1, R::Created, None)], AppStatus::Updating),
        ("all came", 2, &[(0, R::Running, None), (1, R::Running, None)], AppStatus::Running),
        ("fewer are wanted", 1, &[(0, R::Running, None), (1, R::Running, None)], AppStatus::Updating),
        ("one leaves", 1, &[(0, R::Running, None), (1, R::Removing, Some(SCALED_DOWN))], AppStatus::Updating),
        ("one has left", 1, &[(0, R::Running, None), (1, R::Removed, Some(SCALED_DOWN))], AppStatus::Running),
        ("one was killed", 2, &[(0, R::Running, None), (1, R::Removed, killed), (1, R::Initializing, None)], AppStatus::Running),
        ("the only one was killed", 1, &[(0, R::Removing, killed)], AppStatus::Unavailable),
        ("and comes back", 1, &[(0, R::Removed, killed), (0, R::Initializing, None)], AppStatus::Unavailable),
        ("one restarts", 2, &[(0, R::Running, None), (1, R::Restarting, None)], AppStatus::Updating),
        ("woken, and not there yet", 1, &[(0, R::Removed, Some(ASLEEP))], AppStatus::Starting),
        ("woken", 1, &[(0, R::Removed, Some(ASLEEP)), (0, R::Initializing, None)], AppStatus::Starting),
        ("started again", 1, &[(0, R::Removed, Some(STOPPED)), (0, R::Created, None)], AppStatus::Starting),
    ];
    for (what, wanted, rows, expected) in cases {
        let serving = deployment(D::Success);
        let mut rows: Vec<Replica> = rows.iter().map(|(index, status, reason)| replica(&serving, *index, *status, *reason)).collect();
        let mut expected = expected;
        if what == "one restarts" {
            rows[1].restarts = 1;
            expected = AppStatus::Running;
        }
        assert_eq!(app_status(std::slice::from_ref(&serving), Some(&serving), &rows, wanted), expected, "{what}");
    }
}

#[test]
fn who_runs_and_answers_nobody_is_unhealthy() {
    let serving = deployment(D::Success);
    let up = replica(&serving, 0, R::Running, None);
    let silent = |index| Replica { unhealthy_since: Some(Timestamp::UNIX_EPOCH), ..replica(&serving, index, R::Running, None) };
    assert_eq!((container_status(&up), container_status(&silent(0))), (ContainerStatus::Running, ContainerStatus::Unhealthy));
    let state = |rows: &[Replica]| app_status(std::slice::from_ref(&serving), Some(&serving), rows, rows.len() as u32);
    assert_eq!(state(&[up, silent(1)]), AppStatus::Running);
    assert_eq!(state(&[silent(0), silent(1)]), AppStatus::Unavailable);
}

#[test]
fn rollouts_and_ends_have_states_of_their_own() {
    let (old, new) = (deployment(D::Success), deployment(D::Deploying));
    let serving = replica(&old, 0, R::Running, None);
    let both = [old.clone(), new.clone()];
    assert_eq!(app_status(&both, Some(&new), std::slice::from_ref(&serving), 1), AppStatus::Updating);
    assert_eq!(app_status(std::slice::from_ref(&new), Some(&new), &[], 1), AppStatus::Starting);
    assert_eq!(app_status(&[], None, &[], 1), AppStatus::Stopped);
    for (status, expected) in
        [(D::Failed, AppStatus::StartingFailed), (D::Crashed, AppStatus::Unavailable), (D::Removed, AppStatus::Stopped)]
    {
        assert_eq!(app_status(&[], Some(&deployment(status)), &[], 1), expected);
    }
    // While a new version is built the old one runs.
    let building = deployment(D::Building);
    assert_eq!(app_status(&[old.clone(), building.clone()], Some(&building), std::slice::from_ref(&serving), 1), AppStatus::Running);
    let stopped = Deployment { stopped: true, ..old };
    let ends = replica(&stopped, 0, R::Removing, Some(STOPPED));
    assert_eq!(app_status(std::slice::from_ref(&stopped), Some(&stopped), &[ends], 1), AppStatus::Stopping);
    let asleep = deployment(D::Sleeping);
    let ends = replica(&asleep, 0, R::Removing, Some(ASLEEP));
    assert_eq!(app_status(std::slice::from_ref(&asleep), Some(&asleep), &[ends], 1), AppStatus::Stopping);
    assert_eq!(app_status(std::slice::from_ref(&asleep), Some(&asleep), &[], 1), AppStatus::Stopped);
    assert_eq!(app_status(std::slice::from_ref(&stopped), Some(&stopped), &[], 1), AppStatus::Stopped);
}

#[test]
fn versions_tell_their_build_and_their_rollout() {
    let unbuilt = |status| Deployment { artifact: None, ..deployment(status) };
    let failed_once = Deployment { status_reason: Some("the disk is full".into()), ..unbuilt(D::Building) };
    for (row, build, rollout) in [
        (unbuilt(D::Building), "building", None),
        (failed_once, "failed-temporarily", None),
        (unbuilt(D::Failed), "failed-permanently", None),
        (unbuilt(D::Removed), "missing", Some("aborted")),
        (deployment(D::Deploying), "success", Some("deploying")),
        (deployment(D::Success), "success", Some("success")),
        (deployment(D::Failed), "success", Some("failed")),
    ] {
        let (found, then) = version_status(&row);
        assert_eq!((found.as_str(), then.map(RolloutStatus::as_str)), (build, rollout), "{:?}", row.status);
    }
}
