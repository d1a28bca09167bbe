//! The steps of deployments.

use domain::deployment::{DeploymentEvent, EventStep};
use domain::{DeploymentId, EventId, Tenant, Timestamp};

use crate::executor::{BadCell, Record, Statement};
use crate::{Store, StoreError};

statements! {
    DEPLOYMENT_EVENTS =
        "SELECT id, deployment_id, step, created_at, completed_at, error, detail FROM deployment_events \
         WHERE deployment_id = $deployment AND workspace_id = $workspace ORDER BY id";
    EVENT_INSERT =
        "INSERT INTO deployment_events (id, workspace_id, deployment_id, step, created_at, completed_at, error, detail) \
         VALUES ($id, $workspace, $deployment, $step, $created, $completed, $error, $detail)";
    EVENT_COMPLETE =
        "UPDATE deployment_events SET completed_at = $at, error = $error, detail = COALESCE($detail, detail) \
         WHERE workspace_id = $workspace AND id = (SELECT newest.id FROM deployment_events AS newest \
         WHERE newest.workspace_id = $workspace AND newest.deployment_id = $deployment AND newest.step = $step AND newest.completed_at IS NULL \
         ORDER BY newest.id DESC LIMIT 1)";
}

fn row(r: &mut Record) -> Result<DeploymentEvent, BadCell> {
    Ok(DeploymentEvent {
        id: r.id(EventId)?,
        deployment_id: r.id(DeploymentId)?,
        step: r.word(EventStep::parse)?,
        created_at: r.time()?,
        completed_at: r.maybe_time()?,
        error: r.maybe_text()?,
        detail: r.maybe_text()?,
    })
}

impl Store {
    /// The steps of a deployment, oldest first.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn deployment_events(&self, tenant: Tenant, deployment: DeploymentId) -> Result<Vec<DeploymentEvent>, StoreError> {
        self.list(&DEPLOYMENT_EVENTS, &params![workspace = tenant, deployment = deployment], row).await
    }
}

pub(crate) fn event_insert(tenant: Tenant, event: &DeploymentEvent) -> Statement {
    let DeploymentEvent { id, deployment_id, step, created_at, completed_at, error, detail } = event;
    let params = params![
        id = *id,
        workspace = tenant,
        deployment = *deployment_id,
        step = step.as_str(),
        created = *created_at,
        completed = *completed_at,
        error = error.as_ref(),
        detail = detail.as_ref()
    ];
    Statement::touch(&EVENT_INSERT, params)
}

pub(crate) fn event_complete(
    tenant: Tenant,
    deployment: DeploymentId,
    step: EventStep,
    at: Timestamp,
    error: Option<String>,
    detail: Option<String>,
) -> Statement {
    let params = params![workspace = tenant, deployment = deployment, step = step.as_str(), at = at, error = error, detail = detail];
    Statement::touch(&EVENT_COMPLETE, params)
}
