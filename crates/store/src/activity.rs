//! The audit log.

use domain::activity::Activity;
use domain::{ActivityId, ProjectId, Tenant, WorkspaceId};

use crate::executor::{BadCell, Record, Statement, json};
use crate::{Store, StoreError};

macro_rules! select {
    () => {
        "SELECT id, workspace_id, project_id, actor, verb, subject, data, address, created_at FROM activities "
    };
}

statements! {
    ACTIVITIES = concat!(select!(), "WHERE workspace_id = $workspace ORDER BY id DESC LIMIT $limit");
    ACTIVITIES_OF_PROJECT =
        concat!(select!(), "WHERE project_id = $project AND workspace_id = $workspace ORDER BY id DESC LIMIT $limit");
    ACTIVITY_INSERT =
        "INSERT INTO activities (id, workspace_id, project_id, actor, verb, subject, data, address, created_at) \
         VALUES ($id, $workspace, $project, $actor, $verb, $subject, $data, $address, $created)";
}

fn row(r: &mut Record) -> Result<Activity, BadCell> {
    Ok(Activity {
        id: r.id(ActivityId)?,
        workspace_id: r.id(WorkspaceId)?,
        project_id: r.maybe_id(ProjectId)?,
        actor: r.json()?,
        verb: r.text()?,
        subject: r.text()?,
        data: r.json()?,
        address: r.maybe_text()?,
        created_at: r.time()?,
    })
}

impl Store {
    /// What happened in the workspace, or in one project of it, newest first.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn activities(&self, tenant: Tenant, project: Option<ProjectId>, limit: u32) -> Result<Vec<Activity>, StoreError> {
        let sql = if project.is_some() { &ACTIVITIES_OF_PROJECT } else { &ACTIVITIES };
        self.list(sql, &params![workspace = tenant, project = project, limit = limit], row).await
    }
}

pub(crate) fn activity_insert(activity: &Activity) -> Statement {
    let Activity { id, workspace_id, project_id, actor, verb, subject, data, address, created_at } = activity;
    let params = params![
        id = *id,
        workspace = *workspace_id,
        project = *project_id,
        actor = json(actor),
        verb = verb,
        subject = subject,
        data = json(data),
        address = address.as_ref(),
        created = *created_at
    ];
    Statement::touch(&ACTIVITY_INSERT, params)
}
