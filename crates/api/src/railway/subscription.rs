//! What can be watched.
//!
//! A resolver here runs twice or more (see [`Ctx::event`]): once to open the stream, then for each event to answer with it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use domain::deployment::DeploymentStatus;
use domain::log::LogLine;
use domain::log::filter::Filter;
use domain::{DeploymentId, EnvironmentId, WorkspaceId};
use futures::{Stream, StreamExt};
use juniper::{GraphQLObject, ID, graphql_object};
use ops::{OpCtx, Opened};
use store::ChangeKind;
use telemetry::{LogScope, Replay};

use super::deployment::{Deployment, DeploymentEvent};
use super::enums::WorkspaceChangeKind;
use super::execution::DeploymentInstanceExecution;
use super::http_log::HttpLog;
use super::inputs::{DeploymentInstanceExecutionInput, id};
use super::log::{Log, Window, following};
use crate::graphql::{Ctx, Events, Fault, Scalar};

/// How long a build log stays open after its deployment is decided. Its last lines may still be on their way, and clients take the log's
/// end for the end of the deployment, so the status must have reached them before (`contracts/railway.md` 3.4).
const LINGER: Duration = Duration::from_secs(5);

/// What streams carry.
pub(crate) enum Event {
    Deployment(Box<Opened<domain::deployment::Deployment>>),
    Step(Box<domain::deployment::DeploymentEvent>),
    Run(Box<DeploymentInstanceExecution>),
    Logs(Vec<LogLine>),
    Workspace(WorkspaceId, ChangeKind),
}

fn wrong_event() -> Fault {
    Fault(ops::Error::internal("an event of another subscription", std::io::Error::other("wrong event")))
}

fn logs(event: Event) -> Result<Vec<Log>, Fault> {
    match event {
        Event::Logs(lines) => Ok(lines.into_iter().map(Log).collect()),
        _ => Err(wrong_event()),
    }
}

fn follow(ctx: &OpCtx, scope: LogScope, (filter, replay): (Filter, Replay)) -> Events {
    let batches = ctx.ops.telemetry.follow(scope, filter, replay);
    batches.filter(|lines| std::future::ready(!lines.is_empty())).map(Event::Logs).boxed()
}

/// Resolves a while after the deployment is decided, or gone.
async fn decided(watched: impl Stream<Item = domain::deployment::Deployment>) {
    let mut watched = std::pin::pin!(watched);
    while let Some(row) = watched.next().await {
        if row.status.is_final() || matches!(row.status, DeploymentStatus::Success | DeploymentStatus::Crashed | DeploymentStatus::Removing)
        {
            break;
        }
    }
    tokio::time::sleep(LINGER).await;
}

/// How long a watcher gets to open the build log before it learns of a success.
const FIRST_LOOK: Duration = Duration::from_millis(800);

/// The command-line client opens the build log when the first event tells it the snapshot, and leaves as soon as it sees a success. A
/// deployment of a small site is over by then, and its build log would never be seen: so the success of a moment ago is told in two
/// steps, as a slower deployment would tell it. One that is deleted has failed, unless it was decided before: the end of the build log alone
/// would be taken for a success.
fn paced(watched: impl Stream<Item = domain::deployment::Deployment> + Send) -> impl Stream<Item = domain::deployment::Deployment> + Send {
    async_stream::stream! {
        let mut watched = std::pin::pin!(watched);
        let tell_after = tokio::time::Instant::now() + FIRST_LOOK;
        let mut told = None;
        while let Some(row) = watched.next().await {
            let fresh = domain::Timestamp::now().duration_since(row.status_at).as_secs() < 30;
            if row.status == DeploymentStatus::Success && fresh {
                if told.is_none() {
                    yield domain::deployment::Deployment { status: DeploymentStatus::Deploying, ..row.clone() };
                }
                tokio::time::sleep_until(tell_after).await;
            }
            told = Some(row.clone());
            yield row;
        }
        if let Some(row) = told {
            let status = if row.status.is_pending() { DeploymentStatus::Failed } else { DeploymentStatus::Removed };
            yield domain::deployment::Deployment { status, status_reason: Some("it was deleted".into()), ..row };
        }
    }
}

/// That a workspace has changed.
#[derive(GraphQLObject)]
#[graphql(context = Ctx, scalar = Scalar)]
pub(crate) struct WorkspaceChange {
    /// What of it.
    kind: WorkspaceChangeKind,
    workspace_id: ID,
}

/// What is wanted; state alone where nothing is said.
fn wanted(kinds: Option<Vec<WorkspaceChangeKind>>) -> BTreeSet<ChangeKind> {
    let wanted: BTreeSet<ChangeKind> = kinds.unwrap_or_default().into_iter().map(ChangeKind::from).collect();
    if wanted.is_empty() { BTreeSet::from([ChangeKind::State]) } else { wanted }
}

/// The root of subscriptions.
pub struct Subscription;

#[graphql_object(context = Ctx, scalar = Scalar)]
impl Subscription {
    /// The log of the build that made a deployment's artifact: the lines so far, then each new one.
    fn build_logs(ctx: &Ctx, deployment_id: String, filter: Option<String>, limit: Option<i32>) -> Result<Vec<Log>, Fault> {
        let deployment = id("Deployment", &deployment_id, DeploymentId)?;
        logs(ctx.event(|| async {
            let wanted = following(filter.as_deref(), &Window { before_limit: limit, ..Window::default() })?;
            let scope = ops::logs::build_logs(&ctx.op, deployment).await?;
            let watched = ops::deployment::deployment_watch(&ctx.op, deployment).await?;
            Ok(follow(&ctx.op, scope, wanted).take_until(decided(watched)).boxed())
        })?)
    }
    /// A deployment: as it is now, and after each change.
    fn deployment(ctx: &Ctx, id: String) -> Result<Deployment, Fault> {
        let deployment = super::inputs::id("Deployment", &id, DeploymentId)?;
        let event = ctx.event(|| async {
            let found = ops::deployment::deployment_get(&ctx.op, deployment).await?;
            let watched = ops::deployment::deployment_watch(&ctx.op, deployment).await?;
            // The stream ends when the row is gone; clients take an end for a success, so it stays open.
            let events = paced(watched).map(move |row| Event::Deployment(Box::new(found.with(row)))).chain(futures::stream::pending());
            Ok(events.boxed())
        })?;
        match event {
            Event::Deployment(opened) => Ok(Deployment::new(ctx, *opened)),
            _ => Err(wrong_event()),
        }
    }
    /// The steps of a deployment: those so far, then each new one and each that ends.
    fn deployment_events(ctx: &Ctx, id: String) -> Result<DeploymentEvent, Fault> {
        let deployment = super::inputs::id("Deployment", &id, DeploymentId)?;
        let event = ctx.event(|| async {
            let watched = ops::deployment::deployment_events_watch(&ctx.op, deployment).await?;
            Ok(watched.map(|row| Event::Step(Box::new(row))).boxed())
        })?;
        match event {
            Event::Step(row) => Ok(DeploymentEvent(*row)),
            _ => Err(wrong_event()),
        }
    }
    /// The runs of a deployment with a schedule: the newest so far, then each new one and each that changes.
    fn deployment_instance_executions(ctx: &Ctx, input: DeploymentInstanceExecutionInput) -> Result<DeploymentInstanceExecution, Fault> {
        let deployment = id("Deployment", &input.deployment_id, DeploymentId)?;
        let event = ctx.event(|| async {
            let found = Arc::new(ops::deployment::deployment_get(&ctx.op, deployment).await?.row);
            let watched = ops::execution::deployment_instance_executions_watch(&ctx.op, deployment).await?;
            let run = move |row| Event::Run(Box::new(DeploymentInstanceExecution::new(row, found.clone())));
            Ok(watched.map(run).boxed())
        })?;
        match event {
            Event::Run(run) => Ok(*run),
            _ => Err(wrong_event()),
        }
    }
    /// The log of a deployment's app: the lines so far, then each new one.
    fn deployment_logs(ctx: &Ctx, deployment_id: String, filter: Option<String>, limit: Option<i32>) -> Result<Vec<Log>, Fault> {
        let deployment = id("Deployment", &deployment_id, DeploymentId)?;
        logs(ctx.event(|| async {
            let wanted = following(filter.as_deref(), &Window { before_limit: limit, ..Window::default() })?;
            let scope = ops::logs::deployment_logs(&ctx.op, deployment).await?;
            Ok(follow(&ctx.op, scope, wanted))
        })?)
    }
    /// The log of everything in an environment: the lines so far, then each new one.
    #[expect(clippy::too_many_arguments, reason = "they are the schema's")]
    fn environment_logs(
        ctx: &Ctx,
        after_date: Option<String>,
        after_limit: Option<i32>,
        anchor_date: Option<String>,
        before_date: Option<String>,
        before_limit: Option<i32>,
        environment_id: String,
        filter: Option<String>,
    ) -> Result<Vec<Log>, Fault> {
        let environment = id("Environment", &environment_id, EnvironmentId)?;
        logs(ctx.event(|| async {
            let window = Window { after_date, after_limit, anchor_date, before_date, before_limit };
            let wanted = following(filter.as_deref(), &window)?;
            let scope = ops::logs::environment_logs(&ctx.op, environment).await?;
            Ok(follow(&ctx.op, scope, wanted))
        })?)
    }
    /// Requests to a deployment: those so far, or since the anchor, then each new one.
    #[expect(clippy::too_many_arguments, reason = "they are the schema's")]
    fn http_logs(
        ctx: &Ctx,
        after_date: Option<String>,
        after_limit: Option<i32>,
        anchor_date: Option<String>,
        before_date: Option<String>,
        before_limit: Option<i32>,
        deployment_id: String,
        filter: Option<String>,
    ) -> Result<Vec<HttpLog>, Fault> {
        let deployment = id("Deployment", &deployment_id, DeploymentId)?;
        let event = ctx.event(|| async {
            let window = Window { after_date, after_limit, anchor_date, before_date, before_limit };
            let wanted = following(filter.as_deref(), &window)?;
            let scope = ops::logs::http_logs(&ctx.op, deployment).await?;
            Ok(follow(&ctx.op, scope, wanted))
        })?;
        match event {
            Event::Logs(lines) => Ok(lines.into_iter().map(HttpLog::new).collect()),
            _ => Err(wrong_event()),
        }
    }
    /// What of a workspace is not what it was, of `STATE` without kinds: each once now, and after each change. Who shows it asks again.
    fn workspace_changes(ctx: &Ctx, kinds: Option<Vec<WorkspaceChangeKind>>, workspace_id: String) -> Result<WorkspaceChange, Fault> {
        let workspace = id("Workspace", &workspace_id, WorkspaceId)?;
        let event = ctx.event(|| async {
            let mut watched = vec![];
            for kind in wanted(kinds) {
                let changes = ops::workspace::workspace_watch(&ctx.op, workspace, kind).await?;
                watched.push(changes.map(move |()| Event::Workspace(workspace, kind)).boxed());
            }
            Ok(futures::stream::select_all(watched).boxed())
        })?;
        match event {
            Event::Workspace(id, kind) => Ok(WorkspaceChange { kind: kind.into(), workspace_id: ID::from(id.to_string()) }),
            _ => Err(wrong_event()),
        }
    }
}
