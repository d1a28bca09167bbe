//! The audit log.

use domain::activity::Activity;
use domain::{ActivityId, InstanceId, ProjectId, Tenant, WorkspaceId};

use crate::executor::{BadCell, Record, Statement, json};
use crate::{Store, StoreError};

macro_rules! select {
    () => {
        "SELECT id, workspace_id, project_id, instance_id, actor, verb, subject, data, address, created_at FROM activities "
    };
    ($table:literal, $from:literal) => {
        concat!(
            "SELECT ",
            $table,
            "id, ",
            $table,
            "workspace_id, ",
            $table,
            "project_id, ",
            $table,
            "instance_id, ",
            $table,
            "actor, ",
            $table,
            "verb, ",
            $table,
            "subject, ",
            $table,
            "data, ",
            $table,
            "address, ",
            $table,
            "created_at FROM ",
            $from
        )
    };
}

statements! {
    ACTIVITIES = concat!(select!(), "WHERE workspace_id = $workspace ORDER BY id DESC LIMIT $limit");
    ACTIVITIES_OF_PROJECT =
        concat!(select!(), "WHERE project_id = $project AND workspace_id = $workspace ORDER BY id DESC LIMIT $limit");
    /// One step down the index for each row of each instance, however long its history is.
    ACTIVITIES_OF_INSTANCES = concat!(
        "WITH RECURSIVE step (instance_id, id, place) AS (\
         SELECT instances.id, (SELECT newest.id FROM activities AS newest WHERE newest.workspace_id = $workspace \
         AND newest.instance_id = instances.id ORDER BY newest.id DESC LIMIT 1), CAST(1 AS BIGINT) \
         FROM instances WHERE instances.id IN ($instances) AND instances.workspace_id = $workspace \
         UNION ALL \
         SELECT step.instance_id, (SELECT older.id FROM activities AS older WHERE older.workspace_id = $workspace \
         AND older.instance_id = step.instance_id AND older.id < step.id ORDER BY older.id DESC LIMIT 1), step.place + 1 \
         FROM step WHERE step.id IS NOT NULL AND step.place < $limit) ",
        select!("activities.", "step JOIN activities ON activities.id = step.id")
    );
    SYSTEM_ACTIVITIES_PENDING = concat!(select!(), "WHERE pending ORDER BY id LIMIT $limit");
    ACTIVITIES_NOTICED = "UPDATE activities SET pending = $no WHERE id IN ($ids) AND pending AND workspace_id = $workspace";
    ACTIVITY_INSERT =
        "INSERT INTO activities (id, workspace_id, project_id, instance_id, actor, verb, subject, data, address, created_at, pending) \
         VALUES ($id, $workspace, $project, $instance, $actor, $verb, $subject, $data, $address, $created, $pending)";
}

fn row(r: &mut Record) -> Result<Activity, BadCell> {
    Ok(Activity {
        id: r.id(ActivityId)?,
        workspace_id: r.id(WorkspaceId)?,
        project_id: r.maybe_id(ProjectId)?,
        instance_id: r.maybe_id(InstanceId)?,
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

    /// What happened to each of the instances lately, newest first, at most `limit` entries of each.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn activities_of_instances(&self, tenant: Tenant, instances: &[InstanceId], limit: u32) -> Result<Vec<Activity>, StoreError> {
        let params = params![workspace = tenant, instances = instances, limit = limit];
        self.batch(&ACTIVITIES_OF_INSTANCES, &params, row, |row| std::cmp::Reverse(row.id)).await
    }

    /// Entries of all workspaces that notifications have still to be made of, oldest first.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn system_activities_pending(&self, limit: u32) -> Result<Vec<Activity>, StoreError> {
        self.list(&SYSTEM_ACTIVITIES_PENDING, &params![limit = limit], row).await
    }
}

/// Entries that somebody else has taken care of meanwhile are no surprise as long as one is left; otherwise the commit is stale.
pub(crate) fn activities_noticed(tenant: Tenant, ids: &[ActivityId]) -> Statement {
    Statement::touch(&ACTIVITIES_NOTICED, params![ids = ids, no = false, workspace = tenant])
}

pub(crate) fn activity_insert(activity: &Activity) -> Statement {
    let Activity { id, workspace_id, project_id, instance_id, actor, verb, subject, data, address, created_at } = activity;
    let params = params![
        id = *id,
        workspace = *workspace_id,
        project = *project_id,
        instance = *instance_id,
        actor = json(actor),
        verb = verb,
        subject = subject,
        data = json(data),
        address = address.as_ref(),
        created = *created_at,
        // Notifications are about apps.
        pending = instance_id.is_some()
    ];
    Statement::touch(&ACTIVITY_INSERT, params)
}
