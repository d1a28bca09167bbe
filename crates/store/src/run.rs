//! Runs. What is over goes thirty days after its end ([`Store::system_runs_forget`]).

use std::collections::BTreeSet;

use domain::page::{Page, PageRequest};
use domain::workflow::run::{NodeRun, Run, RunSource, RunStatus, Subject, Webhook};
use domain::{ApiKeyId, GraphId, RunId, Sealed, Tenant, Timestamp, UserId, WorkflowId, WorkspaceId};
use serde_json::Map;
use uuid::Uuid;

use crate::executor::{BadCell, Record, Statement};
use crate::kept::{Kept, input_place, seal};
use crate::vault::Vault;
use crate::{ChangeKind, Store, StoreError, node_run, page};

macro_rules! columns {
    () => {
        columns!("runs.input, runs.sealed_input")
    };
    ($input:literal) => {
        concat!(
            "runs.id, runs.workspace_id, runs.user_id, runs.key_id, runs.workflow_id, runs.name, runs.sub_model, runs.graph_id, ",
            $input,
            ", runs.source, runs.status, runs.error, runs.node_count, runs.single_node, runs.estimated, \
             runs.credits, runs.created_at, runs.started_at, runs.finished_at"
        )
    };
}

macro_rules! page_of {
    ($which:literal, $order:literal) => {
        concat!(
            "SELECT ",
            columns!("'{}', NULL"),
            " FROM runs WHERE workspace_id = $workspace AND id > $above AND id < $below",
            $which,
            " ORDER BY id ",
            $order,
            " LIMIT $limit"
        )
    };
}

statements! {
    RUN = concat!("SELECT ", columns!(), " FROM runs WHERE id = $id");
    RUNS_BY_ID = concat!("SELECT ", columns!("'{}', NULL"), " FROM runs WHERE id IN ($ids) AND workspace_id = $workspace");
    RUNS = page_of!("", "DESC");
    RUNS_OF_WORKFLOW = page_of!(" AND workflow_id = $workflow", "DESC");
    RUNS_OF_STATUS = page_of!(" AND status = $status", "DESC");
    RUNS_OF_WORKFLOW_AND_STATUS = page_of!(" AND workflow_id = $workflow AND status = $status", "DESC");
    RUNS_NAMED = page_of!(" AND LOWER(name) LIKE $search ESCAPE '\\'", "DESC");
    RUNS_OF_WORKFLOW_NAMED = page_of!(" AND workflow_id = $workflow AND LOWER(name) LIKE $search ESCAPE '\\'", "DESC");
    RUNS_OF_STATUS_NAMED = page_of!(" AND status = $status AND LOWER(name) LIKE $search ESCAPE '\\'", "DESC");
    RUNS_OF_WORKFLOW_AND_STATUS_NAMED =
        page_of!(" AND workflow_id = $workflow AND status = $status AND LOWER(name) LIKE $search ESCAPE '\\'", "DESC");
    RUNS_OF_TEMPLATE = page_of!(" AND workflow_id IS NULL AND name = $name AND LOWER(name) LIKE $search ESCAPE '\\'", "DESC");
    RUNS_OF_TEMPLATE_AND_STATUS =
        page_of!(" AND workflow_id IS NULL AND name = $name AND status = $status AND LOWER(name) LIKE $search ESCAPE '\\'", "DESC");
    /// A step of the index for each workflow, however many runs it has.
    RUNS_LAST_OF_WORKFLOWS = concat!(
        "SELECT ",
        columns!("'{}', NULL"),
        " FROM runs WHERE workspace_id = $workspace AND id IN (SELECT \
         (SELECT latest.id FROM runs AS latest WHERE latest.workflow_id = workflows.id AND latest.workspace_id = $workspace \
         ORDER BY latest.id DESC LIMIT 1) FROM workflows WHERE workflows.id IN ($workflows) AND workflows.workspace_id = $workspace)"
    );
    RUN_INSERT =
        "INSERT INTO runs (id, workspace_id, user_id, key_id, workflow_id, name, sub_model, graph_id, input, sealed_input, source, \
         sealed_webhook, status, error, node_count, single_node, estimated, credits, ready_at, holder, held_until, created_at, started_at, finished_at) \
         VALUES ($id, $workspace, $user, $key, $workflow, $name, $sub_model, $graph, '', $input, $source, $webhook, \
         $status, NULL, $node_count, $single_node, $estimated, 0, $created, NULL, NULL, $created, NULL, NULL)";
    RUN_WEBHOOK = "SELECT sealed_webhook FROM runs WHERE id = $id AND workspace_id = $workspace AND sealed_webhook IS NOT NULL";
    /// Workspaces that have runs waiting, and since or until when: two steps of the index each, however many runs wait.
    SYSTEM_RUN_TENANTS =
        "WITH RECURSIVE step(workspace_id) AS ( \
         SELECT * FROM (SELECT workspace_id FROM runs WHERE ready_at IS NOT NULL ORDER BY workspace_id LIMIT 1) AS head \
         UNION ALL \
         SELECT (SELECT runs.workspace_id FROM runs WHERE runs.ready_at IS NOT NULL AND runs.workspace_id > step.workspace_id \
         ORDER BY runs.workspace_id LIMIT 1) FROM step WHERE step.workspace_id IS NOT NULL) \
         SELECT step.workspace_id, (SELECT runs.ready_at FROM runs WHERE runs.workspace_id = step.workspace_id \
         AND runs.ready_at IS NOT NULL ORDER BY runs.ready_at LIMIT 1) FROM step WHERE step.workspace_id IS NOT NULL";
    /// What others hold counts as well. Those are few, and the index of what is held is the one to count in: hence the expression around the
    /// workspace, which no index has. Two that claim at once begin with the same rows, of which one gets each.
    SYSTEM_RUNS_CLAIM = concat!(
        "UPDATE runs SET ready_at = NULL, holder = $holder, held_until = $until, status = 'RUNNING', \
         started_at = COALESCE(started_at, $now) \
         WHERE ready_at IS NOT NULL AND workspace_id = $workspace AND id IN \
         (SELECT waiting.id FROM runs AS waiting WHERE waiting.workspace_id = $workspace AND waiting.ready_at <= $now \
         ORDER BY waiting.ready_at, waiting.id LIMIT \
         (SELECT CASE WHEN COUNT(*) >= $most THEN 0 WHEN $most - COUNT(*) < $limit THEN $most - COUNT(*) ELSE $limit END \
         FROM runs AS held WHERE held.holder IS NOT NULL AND COALESCE(held.workspace_id, held.holder) = $workspace)) \
         RETURNING runs.id, runs.workspace_id, ",
        columns!()
    );
    SYSTEM_RUN_GIVE_UP =
        "UPDATE runs SET status = 'FAILED', error = 'this run cannot be read any more: the operator finds the reason in the log', \
         finished_at = $at, ready_at = NULL, holder = NULL, held_until = NULL WHERE id = $id AND finished_at IS NULL";
    SYSTEM_RUNS_RENEW = "UPDATE runs SET held_until = $until WHERE holder = $holder AND id IN ($ids) RETURNING id";
    SYSTEM_RUNS_RELEASE =
        "UPDATE runs SET ready_at = $now, holder = NULL, held_until = NULL WHERE holder = $holder";
    SYSTEM_RUNS_EXPIRE =
        "UPDATE runs SET ready_at = $now, holder = NULL, held_until = NULL WHERE holder IS NOT NULL AND held_until < $now";
    RUN_HOLD = "UPDATE runs SET held_until = $until WHERE id = $id AND workspace_id = $workspace AND holder = $holder";
    RUN_PARK =
        "UPDATE runs SET ready_at = $at, holder = NULL, held_until = NULL WHERE id = $id AND workspace_id = $workspace AND holder = $holder";
    RUN_END =
        "UPDATE runs SET status = $status, error = $error, credits = $credits, finished_at = $at, ready_at = NULL, holder = NULL, held_until = NULL \
         WHERE id = $id AND workspace_id = $workspace AND holder = $holder";
    RUN_CANCEL =
        "UPDATE runs SET status = 'CANCELED', finished_at = $at, ready_at = NULL, holder = NULL, held_until = NULL, credits = \
         (SELECT CAST(COALESCE(SUM(node_runs.credits), 0) AS BIGINT) FROM node_runs \
         WHERE node_runs.run_id = $id AND node_runs.workspace_id = $workspace) \
         WHERE id = $id AND workspace_id = $workspace AND status IN ('QUEUED', 'RUNNING')";
    SYSTEM_RUNS_FORGET =
        "DELETE FROM runs WHERE id IN (SELECT old.id FROM runs AS old WHERE old.finished_at < $over ORDER BY old.finished_at LIMIT $limit)";
    /// What a run may cost counts from its start on, so that several starts at once cannot spend the same.
    FLOW_CREDITS_RESERVE =
        "INSERT INTO flow_accounts (workspace_id, credits, sealed_secret) VALUES ($workspace, $credits, NULL) \
         ON CONFLICT (workspace_id) DO UPDATE SET credits = flow_accounts.credits + excluded.credits \
         WHERE flow_accounts.credits + excluded.credits <= $allowance";
    /// What it has cost takes the place of what it might have.
    FLOW_CREDITS_SETTLE =
        "INSERT INTO flow_accounts (workspace_id, credits, sealed_secret) \
         SELECT runs.workspace_id, runs.credits - runs.estimated, NULL FROM runs \
         WHERE runs.id = $id AND runs.workspace_id = $workspace AND runs.credits <> runs.estimated \
         ON CONFLICT (workspace_id) DO UPDATE SET credits = flow_accounts.credits + excluded.credits";
    /// The same for the runs of a workflow that goes with them.
    FLOW_CREDITS_LET_GO =
        "UPDATE flow_accounts SET credits = credits \
         - (SELECT CAST(COALESCE(SUM(runs.estimated), 0) AS BIGINT) FROM runs \
         WHERE runs.workflow_id = $workflow AND runs.workspace_id = $workspace AND runs.finished_at IS NULL) \
         + (SELECT CAST(COALESCE(SUM(node_runs.credits), 0) AS BIGINT) FROM runs JOIN node_runs ON node_runs.run_id = runs.id \
         WHERE runs.workflow_id = $workflow AND runs.workspace_id = $workspace AND runs.finished_at IS NULL) \
         WHERE workspace_id = $workspace";
    FLOW_CREDITS_OF_WORKSPACES = "SELECT workspace_id, credits FROM flow_accounts WHERE workspace_id IN ($workspaces)";
    FLOW_SECRET = "SELECT sealed_secret FROM flow_accounts WHERE workspace_id = $workspace AND sealed_secret IS NOT NULL";
    /// The first secret stands.
    FLOW_SECRET_KEEP =
        "INSERT INTO flow_accounts (workspace_id, credits, sealed_secret) VALUES ($workspace, 0, $secret) \
         ON CONFLICT (workspace_id) DO UPDATE SET sealed_secret = COALESCE(flow_accounts.sealed_secret, excluded.sealed_secret)";
}

/// Which runs are wanted. What is not said does not narrow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunQuery {
    /// Of one workflow.
    pub workflow: Option<WorkflowId>,
    /// Of one template, by its slug; wins over the workflow.
    pub template: Option<String>,
    /// In one status.
    pub status: Option<RunStatus>,
    /// What ran has this in its name.
    pub search: Option<String>,
}

/// A change of a run, as [`crate::Change::Run`] carries it.
#[derive(Clone, Debug)]
pub enum RunChange {
    /// A new run, whose turn comes from its creation on, and whom it tells.
    Insert {
        /// The run.
        run: Run,
        /// Whom it tells.
        webhook: Option<Webhook>,
    },
    /// What a run may cost is set aside, if the account has it; otherwise the commit fails.
    Reserve {
        /// In microcredits.
        credits: i64,
        /// What all runs of the account may use together.
        allowance: i64,
    },
    /// The run is still held by `holder`; otherwise the commit fails.
    Hold {
        /// Which.
        id: RunId,
        /// By whom.
        holder: Uuid,
        /// Until when.
        until: Timestamp,
    },
    /// Its holder lets go of it until a time.
    Park {
        /// Which.
        id: RunId,
        /// By whom.
        holder: Uuid,
        /// Until when.
        until: Timestamp,
    },
    /// Its holder has brought it to its end.
    End {
        /// Which.
        id: RunId,
        /// By whom.
        holder: Uuid,
        /// How it ended.
        status: RunStatus,
        /// Why it failed.
        error: Option<String>,
        /// What its nodes have used, in microcredits.
        credits: i64,
        /// When.
        at: Timestamp,
    },
    /// Somebody stops it, if it is not over.
    Cancel {
        /// Which.
        id: RunId,
        /// When.
        at: Timestamp,
    },
    /// What is known of a node, new or anew.
    Node(NodeRun),
}

/// Before the slug of a template, where a direct run has the key of its type, in which it cannot stand.
const TEMPLATE: &str = "template/";

/// A run before what it was given is opened.
fn row(r: &mut Record) -> Result<(Run, Kept), BadCell> {
    let (id, workspace_id, user_id, key_id) = (r.id(RunId)?, r.id(WorkspaceId)?, r.id(UserId)?, r.maybe_id(ApiKeyId)?);
    let (workflow, name, sub_model) = (r.maybe_id(WorkflowId)?, r.text()?, r.maybe_text()?);
    let subject = match workflow {
        Some(id) => Subject::Workflow { id, name },
        None => match name.strip_prefix(TEMPLATE) {
            Some(slug) => Subject::Template { slug: slug.to_owned() },
            None => Subject::Node { kind: name, sub_model },
        },
    };
    let (graph_id, input) = (r.id(GraphId)?, Kept::read(r)?);
    let run = Run {
        id,
        workspace_id,
        user_id,
        key_id,
        subject,
        graph_id,
        values: Map::new(),
        source: r.word(RunSource::parse)?,
        status: r.word(RunStatus::parse)?,
        error: r.maybe_text()?,
        node_count: r.number()?,
        single_node: r.maybe_text()?,
        estimated: r.number()?,
        credits: r.number()?,
        created_at: r.time()?,
        started_at: r.maybe_time()?,
        finished_at: r.maybe_time()?,
    };
    Ok((run, input))
}

/// A run as lists have it.
fn bare(r: &mut Record) -> Result<Run, BadCell> {
    Ok(row(r)?.0)
}

fn opened(vault: &Vault, (run, input): (Run, Kept)) -> Result<Run, BadCell> {
    Ok(Run { values: input.open(vault, &input_place(run.id))?, ..run })
}

fn place(id: RunId) -> String {
    format!("runs.sealed_webhook/{id}")
}

impl Store {
    /// A run.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when what it was given does not decrypt.
    pub async fn run(&self, id: RunId) -> Result<Option<Sealed<Run>>, StoreError> {
        let Some(found) = self.one(&RUN, &params![id = id], row).await? else { return Ok(None) };
        let run = opened(&self.inner.vault, found).map_err(|bad| bad.in_statement(RUN.name))?;
        Ok(Some(Sealed::new(run.workspace_id, run)))
    }

    /// Those of the runs that are the workspace's, oldest first, without what they were given.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn runs_by_id(&self, tenant: Tenant, ids: &[RunId]) -> Result<Vec<Run>, StoreError> {
        self.batch(&RUNS_BY_ID, &params![workspace = tenant, ids = ids], bare, |row| row.id).await
    }

    /// The newest run of each of the workspace's workflows that has one, oldest first, without what they were given.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn runs_last_of(&self, tenant: Tenant, workflows: &[WorkflowId]) -> Result<Vec<Run>, StoreError> {
        self.batch(&RUNS_LAST_OF_WORKFLOWS, &params![workspace = tenant, workflows = workflows], bare, |row| row.id).await
    }

    /// Runs of the workspace, newest first, without what they were given. A run's cursor is its id.
    ///
    /// # Errors
    /// [`StoreError::BadCursor`].
    pub async fn runs(&self, tenant: Tenant, query: RunQuery, first: u32, after: Option<String>) -> Result<Page<Run>, StoreError> {
        let request = PageRequest { first: Some(first), after, ..PageRequest::default() };
        let range = page::range(&request)?;
        let search = query.search.as_deref().map(page::containing);
        let name = query.template.map(|slug| format!("{TEMPLATE}{slug}"));
        let sql = match (query.workflow.is_some(), query.status.is_some(), search.is_some()) {
            (_, false, _) if name.is_some() => &RUNS_OF_TEMPLATE,
            (_, true, _) if name.is_some() => &RUNS_OF_TEMPLATE_AND_STATUS,
            (false, false, false) => &RUNS,
            (true, false, false) => &RUNS_OF_WORKFLOW,
            (false, true, false) => &RUNS_OF_STATUS,
            (true, true, false) => &RUNS_OF_WORKFLOW_AND_STATUS,
            (false, false, true) => &RUNS_NAMED,
            (true, false, true) => &RUNS_OF_WORKFLOW_NAMED,
            (false, true, true) => &RUNS_OF_STATUS_NAMED,
            (true, true, true) => &RUNS_OF_WORKFLOW_AND_STATUS_NAMED,
        };
        let params = params![
            workspace = tenant,
            workflow = query.workflow,
            status = query.status.map(RunStatus::as_str),
            search = search.or_else(|| name.is_some().then(|| page::containing(""))),
            name = name,
            above = range.above,
            below = range.below,
            limit = range.limit
        ];
        let rows = self.list(sql, &params, bare).await?;
        Ok(page::page(&request, &range, rows))
    }

    /// Whom a run tells.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when it does not decrypt.
    pub async fn run_webhook(&self, tenant: Tenant, id: RunId) -> Result<Option<Webhook>, StoreError> {
        let sealed = self.one(&RUN_WEBHOOK, &params![workspace = tenant, id = id], Record::bytes).await?;
        let Some(sealed) = sealed else { return Ok(None) };
        let plain = self.inner.vault.unseal(&place(id), &sealed)?;
        serde_json::from_slice(&plain).map(Some).map_err(|_| StoreError::Corrupt(format!("{}: not a webhook", place(id))))
    }

    /// What the workspace's runs have used, and those under way may use, in microcredits.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn flow_credits(&self, tenant: Tenant) -> Result<i64, StoreError> {
        Ok(self.flow_credits_of_workspaces(&[tenant]).await?.first().map_or(0, |(_, credits)| *credits))
    }

    /// The same of several workspaces; those that have used nothing are left out.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn flow_credits_of_workspaces(&self, tenants: &[Tenant]) -> Result<Vec<(WorkspaceId, i64)>, StoreError> {
        let read = |r: &mut Record| Ok((r.id(WorkspaceId)?, r.number()?));
        self.list(&FLOW_CREDITS_OF_WORKSPACES, &params![workspaces = tenants], read).await
    }

    /// The secret that the workspace's webhooks are signed with. `fresh` becomes it when there is none.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when it does not decrypt.
    pub async fn flow_secret(&self, tenant: Tenant, fresh: &str) -> Result<String, StoreError> {
        let place = format!("flow_accounts.sealed_secret/{}", tenant.workspace());
        let params = params![workspace = tenant];
        let mut sealed = self.one(&FLOW_SECRET, &params, Record::bytes).await?;
        if sealed.is_none() {
            let secret = self.inner.vault.seal(&place, fresh.as_bytes())?;
            self.write_one(&FLOW_SECRET_KEEP, params![workspace = tenant, secret = secret]).await?;
            // Another may have been first; its secret stands.
            sealed = self.one(&FLOW_SECRET, &params, Record::bytes).await?;
        }
        let missing = || StoreError::Corrupt(format!("{place}: missing"));
        let plain = self.inner.vault.unseal(&place, &sealed.ok_or_else(missing)?)?;
        String::from_utf8(plain.to_vec()).map_err(|_| missing())
    }

    /// The workspaces that have runs waiting, each with the time at which the first of them has its turn; that may be past.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn system_run_tenants(&self) -> Result<Vec<(WorkspaceId, Timestamp)>, StoreError> {
        self.list(&SYSTEM_RUN_TENANTS, &[], |r| Ok((r.id(WorkspaceId)?, r.time()?))).await
    }

    /// Takes at most so many waiting runs of each workspace, those that have waited longest, as long as the workspace has no more than `most`
    /// under way, whoever holds them. One that cannot be read has failed: no other waits behind it.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn system_runs_claim(
        &self,
        shares: &[(WorkspaceId, u32)],
        most: u32,
        holder: Uuid,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<Vec<Run>, StoreError> {
        let claim = |(workspace, limit): &(WorkspaceId, u32)| {
            let params = params![workspace = *workspace, limit = *limit, most = most, holder = holder, until = until, now = now];
            Statement::any(&SYSTEM_RUNS_CLAIM, params)
        };
        let outcomes = self.write(shares.iter().map(claim).collect()).await?;
        let mut taken = vec![];
        for mut record in outcomes.into_iter().flat_map(|outcome| outcome.rows) {
            let whose = record.id(RunId).and_then(|id| Ok((id, record.id(WorkspaceId)?)));
            let (id, workspace) = whose.map_err(|bad| bad.in_statement(SYSTEM_RUNS_CLAIM.name))?;
            match row(&mut record).and_then(|found| opened(&self.inner.vault, found)) {
                Ok(run) => taken.push(run),
                Err(BadCell(error)) => {
                    tracing::error!(error, run = %id, "a run cannot be read and is given up");
                    let settle = params![id = id, workspace = workspace];
                    let given_up = Statement::any(&SYSTEM_RUN_GIVE_UP, params![id = id, at = now]);
                    self.write(vec![given_up, Statement::any(&FLOW_CREDITS_SETTLE, settle)]).await?;
                }
            }
        }
        // No commit does this, and none tells of it.
        let theirs: BTreeSet<WorkspaceId> = taken.iter().map(|run| run.workspace_id).collect();
        for workspace in theirs {
            self.tell(ChangeKind::Flow, workspace);
        }
        Ok(taken)
    }

    /// Puts off the end of a holder's holds of these runs: what it has under way, so that others that bear its name run out. Those of
    /// the runs that it still holds.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn system_runs_renew(&self, holder: Uuid, ids: &[RunId], until: Timestamp) -> Result<Vec<RunId>, StoreError> {
        let params = params![holder = holder, ids = ids, until = until];
        let outcomes = self.write(vec![Statement::any(&SYSTEM_RUNS_RENEW, params)]).await?;
        let rows = outcomes.into_iter().flat_map(|outcome| outcome.rows);
        rows.map(|mut record| record.id(RunId).map_err(|bad| bad.in_statement(SYSTEM_RUNS_RENEW.name))).collect()
    }

    /// Gives back every run of a holder: what an engine does with those that an earlier process of its own has left. How many.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn system_runs_release(&self, holder: Uuid, now: Timestamp) -> Result<u64, StoreError> {
        self.write_one(&SYSTEM_RUNS_RELEASE, params![holder = holder, now = now]).await
    }

    /// Gives back every run whose holder has not been heard of. How many.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn system_runs_expire(&self, now: Timestamp) -> Result<u64, StoreError> {
        self.write_one(&SYSTEM_RUNS_EXPIRE, params![now = now]).await
    }

    /// Deletes at most so many runs that ended before `over`. How many.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn system_runs_forget(&self, over: Timestamp, limit: u32) -> Result<u64, StoreError> {
        self.write_one(&SYSTEM_RUNS_FORGET, params![over = over, limit = limit]).await
    }
}

fn insert(vault: &Vault, run: &Run, webhook: Option<&Webhook>) -> Result<Statement, StoreError> {
    let Run { id, workspace_id, user_id, key_id, subject, graph_id, values, source, status, node_count, single_node, created_at, .. } = run;
    let (workflow, name, sub_model) = match subject {
        Subject::Workflow { id, name } => (Some(*id), name.clone(), None),
        Subject::Template { slug } => (None, format!("{TEMPLATE}{slug}"), None),
        Subject::Node { kind, sub_model } => (None, kind.clone(), sub_model.as_ref()),
    };
    let params = params![
        id = *id,
        workspace = *workspace_id,
        user = *user_id,
        key = *key_id,
        workflow = workflow,
        name = name,
        sub_model = sub_model,
        graph = *graph_id,
        input = seal(vault, &input_place(*id), values)?,
        source = source.as_str(),
        webhook = webhook.map(|webhook| seal(vault, &place(*id), webhook)).transpose()?,
        status = status.as_str(),
        node_count = *node_count,
        single_node = single_node.as_ref(),
        estimated = run.estimated,
        created = *created_at
    ];
    Ok(Statement::touch(&RUN_INSERT, params))
}

fn settle(tenant: Tenant, id: RunId) -> Statement {
    Statement::any(&FLOW_CREDITS_SETTLE, params![workspace = tenant, id = id])
}

/// Settles what the runs of a workflow that is about to go have set aside.
pub(crate) fn let_go(tenant: Tenant, workflow: WorkflowId) -> Statement {
    Statement::any(&FLOW_CREDITS_LET_GO, params![workspace = tenant, workflow = workflow])
}

pub(crate) fn statements(vault: &Vault, tenant: Tenant, change: &RunChange) -> Result<Vec<Statement>, StoreError> {
    let one = match change {
        RunChange::Insert { run, webhook } => insert(vault, run, webhook.as_ref())?,
        RunChange::Reserve { credits, allowance } => {
            Statement::touch(&FLOW_CREDITS_RESERVE, params![workspace = tenant, credits = *credits, allowance = *allowance])
        }
        RunChange::Hold { id, holder, until } => {
            Statement::touch(&RUN_HOLD, params![id = *id, workspace = tenant, holder = *holder, until = *until])
        }
        RunChange::Park { id, holder, until } => {
            Statement::touch(&RUN_PARK, params![id = *id, workspace = tenant, holder = *holder, at = *until])
        }
        RunChange::End { id, holder, status, error, credits, at } => {
            let params = params![
                id = *id,
                workspace = tenant,
                holder = *holder,
                status = status.as_str(),
                error = error.as_ref(),
                credits = *credits,
                at = *at
            ];
            return Ok(vec![Statement::touch(&RUN_END, params), settle(tenant, *id)]);
        }
        RunChange::Cancel { id, at } => {
            let params = params![id = *id, workspace = tenant, at = *at];
            let nodes = node_run::node_runs_cancel(tenant, *id, *at);
            return Ok(vec![Statement::touch(&RUN_CANCEL, params), nodes, settle(tenant, *id)]);
        }
        RunChange::Node(row) => node_run::node_run_put(vault, row)?,
    };
    Ok(vec![one])
}

impl RunChange {
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Insert { .. } => "RunInsert",
            Self::Reserve { .. } => "RunReserve",
            Self::Hold { .. } => "RunHold",
            Self::Park { .. } => "RunPark",
            Self::End { .. } => "RunEnd",
            Self::Cancel { .. } => "RunCancel",
            Self::Node(_) => "NodeRunPut",
        }
    }

    pub(crate) fn names_workspace(&self) -> Option<WorkspaceId> {
        match self {
            Self::Insert { run, .. } => Some(run.workspace_id),
            Self::Node(row) => Some(row.workspace_id),
            // The statements look for the run in the tenant's workspace.
            Self::Reserve { .. } | Self::Hold { .. } | Self::Park { .. } | Self::End { .. } | Self::Cancel { .. } => None,
        }
    }
}
