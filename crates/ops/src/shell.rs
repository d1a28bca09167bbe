//! Shells into containers: who may open one, how many there may be, and the way from whoever serves the socket to whoever starts programs.
//!
//! A shell is no desired state, so it is not in the store: it is a conversation that lives as long as both of its ends. What is written down
//! is that it was opened and when it ended, never what was said.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use domain::deployment::{Replica, ReplicaStatus};
use domain::project::Instance;
use domain::shell::{ShellEnd, ShellInput, ShellSpec, ShellStream};
use domain::{Code, DeploymentId, InstanceId, Permission, Place, ProjectId, ReplicaId, Tenant, Timestamp, WorkspaceId};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};

use crate::service::instance_place;
use crate::{Error, OpCtx, app, deployment};

/// Shells that may be open in one container.
const OF_CONTAINER: usize = 4;
/// Shells that may be open in one workspace.
const OF_WORKSPACE: usize = 16;
/// Pieces that wait to be taken, in each direction. Whoever is not read has to wait.
const PIECES: usize = 16;

/// The shells of a process.
#[derive(Default)]
pub struct Shells {
    /// Where the engine takes them from, while one runs in this process.
    door: Mutex<Option<mpsc::Sender<ShellRequest>>>,
    open: Arc<Mutex<Vec<(WorkspaceId, ReplicaId)>>>,
}

/// A program that is to be started beside a replica's app.
pub struct ShellRequest {
    /// Beside which.
    pub replica: ReplicaId,
    /// What runs.
    pub spec: ShellSpec,
    /// What the person sends; its end means that they have gone.
    pub input: mpsc::Receiver<ShellInput>,
    /// What they see. It is let go of before the end is told.
    pub output: mpsc::Sender<(ShellStream, Vec<u8>)>,
    /// How it ended, or in words for the person why it could not begin.
    pub ended: oneshot::Sender<Result<ShellEnd, Error>>,
}

/// The person's side of a shell.
pub struct ShellSession {
    /// What they send.
    pub input: mpsc::Sender<ShellInput>,
    /// What they see; it ends with the program.
    pub output: mpsc::Receiver<(ShellStream, Vec<u8>)>,
    /// How it ended, or why it could not begin.
    pub ended: oneshot::Receiver<Result<ShellEnd, Error>>,
}

/// A place among the shells that may be open, given back when it is dropped.
struct Seat {
    open: Arc<Mutex<Vec<(WorkspaceId, ReplicaId)>>>,
    taken: (WorkspaceId, ReplicaId),
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut open = lock(&self.open);
        if let Some(at) = open.iter().position(|one| *one == self.taken) {
            open.swap_remove(at);
        }
    }
}

impl Shells {
    /// The requests from now on; whoever asked for them before gets no more.
    pub fn requests(&self) -> mpsc::Receiver<ShellRequest> {
        let (sender, receiver) = mpsc::channel(OF_WORKSPACE);
        *lock(&self.door) = Some(sender);
        receiver
    }

    fn room(&self, workspace: WorkspaceId, replica: ReplicaId) -> Result<MutexGuard<'_, Vec<(WorkspaceId, ReplicaId)>>, Error> {
        let open = lock(&self.open);
        if open.iter().filter(|(_, other)| *other == replica).count() >= OF_CONTAINER {
            return Err(Error::conflict(format!("{OF_CONTAINER} shells are open in this container already: close one first")));
        }
        if open.iter().filter(|(other, _)| *other == workspace).count() >= OF_WORKSPACE {
            return Err(Error::conflict(format!("{OF_WORKSPACE} shells are open in this workspace already: close one first")));
        }
        Ok(open)
    }

    fn take(&self, workspace: WorkspaceId, replica: ReplicaId) -> Result<Seat, Error> {
        let taken = (workspace, replica);
        self.room(workspace, replica)?.push(taken);
        Ok(Seat { open: self.open.clone(), taken })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is guarded is whole between any two of its methods.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A shell that somebody may open.
pub struct Shell {
    tenant: Tenant,
    about: (ProjectId, InstanceId),
    replica: ReplicaId,
    since: Timestamp,
    _seat: Seat,
}

/// Whether a shell would be opened: [`container_shell`] without opening one.
///
/// # Errors
/// As [`container_shell`].
pub async fn container_shell_check(ctx: &OpCtx, target: &str) -> Result<(), Error> {
    let (tenant, _, replica) = find(ctx, target).await?;
    ctx.ops.shells.room(tenant.workspace(), replica).map(drop)
}

/// Opens a shell into a container, which its id names, or that of a service in an environment, of whose running containers one is chosen.
///
/// Whoever is in a container sees its variables, sealed ones too, and so this needs the right to read secrets.
///
/// # Errors
/// Not found, not allowed, nothing runs, or too many are open.
pub async fn container_shell(ctx: &OpCtx, target: &str) -> Result<Shell, Error> {
    let (tenant, about, replica) = find(ctx, target).await?;
    let seat = ctx.ops.shells.take(tenant.workspace(), replica)?;
    ctx.commit(tenant, vec![ctx.activity_about(tenant, about, "container_shell", replica, json!({}))]).await?;
    Ok(Shell { tenant, about, replica, since: ctx.now, _seat: seat })
}

impl Shell {
    /// Has the program started. What goes wrong with that comes as its end.
    ///
    /// # Errors
    /// The program cannot be one, or no engine runs in this process.
    pub async fn begin(&self, ctx: &OpCtx, spec: ShellSpec) -> Result<ShellSession, Error> {
        spec.check().map_err(Error::bad_input)?;
        let (input, from_person) = mpsc::channel(PIECES);
        let (to_person, output) = mpsc::channel(PIECES);
        let (told, ended) = oneshot::channel();
        let request = ShellRequest { replica: self.replica, spec, input: from_person, output: to_person, ended: told };
        let door = lock(&ctx.ops.shells.door).clone();
        let absent =
            || Error::new(Code::Unavailable, "No shell can be opened here: this server runs the API alone. Ask one that runs apps");
        door.ok_or_else(absent)?.send(request).await.map_err(|_| absent())?;
        Ok(ShellSession { input, output, ended })
    }
}

/// Writes down that a shell has ended.
///
/// # Errors
/// The store does not answer.
pub async fn container_shell_end(ctx: &OpCtx, shell: Shell) -> Result<(), Error> {
    let seconds = ctx.now.duration_since(shell.since).as_secs();
    let data = json!({"seconds": seconds});
    let activity = ctx.activity_about(shell.tenant, shell.about, "container_shell_end", shell.replica, data);
    ctx.commit(shell.tenant, vec![activity]).await
}

async fn find(ctx: &OpCtx, target: &str) -> Result<(Tenant, (ProjectId, InstanceId), ReplicaId), Error> {
    let absent = || Error::not_found("Container");
    if let Some(sealed) = ctx.ops.store.replica(target.parse::<ReplicaId>().map_err(|_| absent())?).await? {
        // Where a container is, its deployment knows.
        let mut of: Option<DeploymentId> = None;
        sealed.place(|replica| {
            of = Some(replica.deployment_id);
            Place::Workspace
        });
        let deployment = deployment::deployment_for(ctx, of.ok_or_else(absent)?, Permission::ReadSecrets).await;
        // Not found is said in the same words, whatever it is that cannot be seen.
        let deployment = deployment.map_err(|error| if error.code == Code::NotFound { absent() } else { error })?;
        let replica = sealed.open(deployment.tenant).ok_or_else(absent)?;
        if replica.status != ReplicaStatus::Running {
            return Err(Error::conflict("This container does not run just now: try again when it does, or choose another"));
        }
        return Ok((deployment.tenant, (deployment.row.project_id, deployment.row.instance_id), replica.id));
    }
    let instance = ctx.ops.store.instance(target.parse().map_err(|_| absent())?).await?;
    let opened = ctx.open(instance, "Container", instance_place, Permission::ReadSecrets)?;
    let replica = running(ctx, &opened).await?;
    Ok((opened.tenant, (opened.row.project_id, opened.row.id), replica.id))
}

/// A container of the newest deployment that has one.
async fn running(ctx: &OpCtx, opened: &crate::Opened<Instance>) -> Result<Replica, Error> {
    let (deployments, replicas) = app::live_of(ctx, opened).await?;
    let running: Vec<Replica> = replicas.into_iter().filter(|replica| replica.status == ReplicaStatus::Running).collect();
    let newest = deployments.iter().rev().find_map(|deployment| running.iter().find(|replica| replica.deployment_id == deployment.id));
    newest.cloned().ok_or_else(|| Error::conflict("None of its containers runs just now: deploy it, or wait until one is healthy"))
}
