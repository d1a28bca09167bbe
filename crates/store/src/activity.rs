//! The audit log.

use domain::activity::Activity;
use domain::page::{Page, PageRequest};
use domain::{ActivityId, InstanceId, ProjectId, Tenant, WorkspaceId};

use crate::executor::{BadCell, Record, Statement, json};
use crate::{Store, StoreError, page};

macro_rules! columns {
    () => {
        "id, workspace_id, project_id, instance_id, actor, verb, subject, data, address, created_at FROM activities "
    };
}

macro_rules! select {
    () => {
        concat!("SELECT ", columns!())
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

macro_rules! page_of {
    ($place:literal, $order:literal) => {
        concat!(select!(), "WHERE ", $place, " AND id > $above AND id < $below ORDER BY id ", $order, " LIMIT $limit")
    };
}

statements! {
    ACTIVITY = concat!(select!(), "WHERE id = $id AND workspace_id = $workspace");
    ACTIVITIES_PAGE = page_of!("workspace_id = $workspace", "DESC");
    ACTIVITIES_PAGE_FROM_END = page_of!("workspace_id = $workspace", "ASC");
    ACTIVITIES_PAGE_OF_PROJECT = page_of!("workspace_id = $workspace AND project_id = $project", "DESC");
    ACTIVITIES_PAGE_OF_PROJECT_FROM_END = page_of!("workspace_id = $workspace AND project_id = $project", "ASC");
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
    SYSTEM_ACTIVITIES_PENDING = concat!("SELECT id, ", columns!(), "WHERE pending ORDER BY id LIMIT $limit");
    SYSTEM_ACTIVITY_GIVE_UP = "UPDATE activities SET pending = $no WHERE id = $id";
    ACTIVITIES_NOTICED = "UPDATE activities SET pending = $no WHERE id IN ($ids) AND pending AND workspace_id = $workspace";
    ACTIVITY_UPDATE = "UPDATE activities SET data = $data WHERE id = $id AND workspace_id = $workspace";
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
    /// An entry.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn activity(&self, tenant: Tenant, id: ActivityId) -> Result<Option<Activity>, StoreError> {
        self.one(&ACTIVITY, &params![workspace = tenant, id = id], row).await
    }

    /// A page of what happened in the workspace, or in one project of it, newest first.
    ///
    /// # Errors
    /// [`StoreError::BadCursor`].
    pub async fn activities_page(
        &self,
        tenant: Tenant,
        project: Option<ProjectId>,
        request: &PageRequest,
    ) -> Result<Page<Activity>, StoreError> {
        let range = page::range(request)?;
        let sql = match (project.is_some(), range.oldest_first) {
            (false, false) => &ACTIVITIES_PAGE,
            (false, true) => &ACTIVITIES_PAGE_FROM_END,
            (true, false) => &ACTIVITIES_PAGE_OF_PROJECT,
            (true, true) => &ACTIVITIES_PAGE_OF_PROJECT_FROM_END,
        };
        let params = params![workspace = tenant, project = project, above = range.above, below = range.below, limit = range.limit];
        Ok(page::page(request, &range, self.list(sql, &params, row).await?))
    }

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

    /// Entries of all workspaces that notifications have still to be made of, oldest first. Of one that cannot be read none are made: no
    /// other waits behind it.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn system_activities_pending(&self, limit: u32) -> Result<Vec<Activity>, StoreError> {
        let read = |r: &mut Record| {
            let id = r.id(ActivityId)?;
            Ok(row(r).map_err(|bad| (id, bad.0)))
        };
        let mut pending = vec![];
        for found in self.list(&SYSTEM_ACTIVITIES_PENDING, &params![limit = limit], read).await? {
            match found {
                Ok(activity) => pending.push(activity),
                Err((id, error)) => {
                    tracing::error!(error, activity = %id, "an entry of the audit log cannot be read: nobody is told of it");
                    self.write_one(&SYSTEM_ACTIVITY_GIVE_UP, params![id = id, no = false]).await?;
                }
            }
        }
        Ok(pending)
    }
}

/// When somebody else has taken care of one of them meanwhile, the commit is stale: with it come the messages about all of them.
pub(crate) fn activities_noticed(tenant: Tenant, ids: &[ActivityId]) -> Statement {
    Statement::exactly(&ACTIVITIES_NOTICED, params![ids = ids, no = false, workspace = tenant], ids.len() as u64)
}

pub(crate) fn activity_update(tenant: Tenant, id: ActivityId, data: &serde_json::Value) -> Statement {
    Statement::touch(&ACTIVITY_UPDATE, params![id = id, workspace = tenant, data = json(data)])
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
