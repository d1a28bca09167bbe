//! Workflows, runs, files and triggers.

use std::sync::Arc;

use domain::page::PageRequest;
use domain::workflow::run::{FlowFile, FlowTrigger, Made, NodeRun, PlatformEvent, Run, RunSource, RunStatus, Start, Subject, Webhook};
use domain::workflow::{Graph, Workflow};
use domain::*;
use serde_json::{Map, json};
use store::{Change, ChangeKind, NodeTurn, RunChange, RunQuery, StoreError, WorkflowChange};
use uuid::Uuid;

use crate::fixture::*;
use crate::messages::spoil;
use crate::secrets::{CANARY, holds, on_disk};

fn workflow(tenant: Tenant, user: UserId, name: &str) -> Workflow {
    Workflow {
        id: WorkflowId::generate(),
        workspace_id: tenant.workspace(),
        user_id: user,
        name: name.to_owned(),
        description: String::new(),
        graph: Graph::scaffold(1, vec![]),
        version: 0,
        created_at: now(),
        updated_at: now(),
    }
}

fn run(of: &Workflow) -> Run {
    Run {
        id: RunId::generate(),
        workspace_id: of.workspace_id,
        user_id: of.user_id,
        key_id: None,
        subject: Subject::Workflow { id: of.id, name: of.name.clone() },
        graph_id: GraphId(Uuid::nil()),
        values: Map::from_iter([("node_1_request".to_owned(), json!({"field": "\u{0}"}))]),
        source: RunSource::Api,
        status: RunStatus::Queued,
        error: None,
        node_count: 0,
        single_node: None,
        estimated: 5,
        credits: 0,
        created_at: now(),
        started_at: None,
        finished_at: None,
    }
}

fn node_run(run: &Run, status: RunStatus) -> NodeRun {
    NodeRun {
        id: NodeRunId::generate(),
        workspace_id: run.workspace_id,
        run_id: run.id,
        node_id: "node_1_x".into(),
        node_type: "merge".into(),
        status,
        attempts: 1,
        failures: 0,
        input: Some(json!({"items": [1]})),
        output: None,
        logs: vec!["one".into()],
        error: None,
        credits: 0,
        started_at: Some(now()),
        finished_at: None,
    }
}

fn keep() -> Change {
    Change::Workflow(WorkflowChange::GraphKeep {
        id: GraphId(Uuid::nil()),
        body: Arc::from(serde_json::to_string(&Graph::scaffold(1, vec![])).unwrap()),
        at: now(),
    })
}

fn insert(run: &Run) -> Change {
    Change::Run(RunChange::Insert { run: run.clone(), webhook: None })
}

/// A workflow, its trigger and a run of it, with a secret wherever there is room for one.
struct Secretive {
    flow: Workflow,
    graph: Graph,
    trigger: FlowTrigger,
    run: Run,
    node: NodeRun,
}

impl Secretive {
    fn new(tenant: Tenant, user: UserId) -> Self {
        let mut flow = workflow(tenant, user, "mine");
        let inputs = Map::from_iter([("headers".to_owned(), json!({"authorization": CANARY}))]);
        flow.graph.nodes[0].data.inputs = inputs.clone();
        let trigger = FlowTrigger {
            id: FlowTriggerId::generate(),
            workspace_id: tenant.workspace(),
            workflow_id: flow.id,
            user_id: user,
            start: Start::Schedule { cron: "* * * * *".into(), timezone: None, values: inputs.clone() },
            enabled: true,
            next_at: None,
            last_at: None,
            created_at: now(),
        };
        let run = Run { values: inputs.clone(), ..run(&flow) };
        let seen = Some(serde_json::Value::Object(inputs));
        let node = NodeRun { input: seen.clone(), output: seen, logs: vec![CANARY.into()], ..node_run(&run, RunStatus::Completed) };
        Self { graph: flow.graph.clone(), flow, trigger, run, node }
    }

    fn changes(&self) -> Vec<Change> {
        let body = Arc::from(serde_json::to_string(&self.graph).unwrap());
        vec![
            Change::Workflow(WorkflowChange::Insert(self.flow.clone())),
            Change::Workflow(WorkflowChange::TriggerInsert { trigger: self.trigger.clone(), hash: None }),
            Change::Workflow(WorkflowChange::GraphKeep { id: self.run.graph_id, body, at: now() }),
            insert(&self.run),
            Change::Run(RunChange::Node(self.node.clone())),
        ]
    }

    async fn assert_read(&self, fixture: &Fixture, tenant: Tenant) {
        let store = &fixture.store;
        assert_eq!(store.workflow(self.flow.id).await.unwrap().unwrap().open(tenant).unwrap(), self.flow);
        assert_eq!(store.flow_trigger(self.trigger.id).await.unwrap().unwrap().open(tenant).unwrap(), self.trigger);
        assert_eq!(store.flow_triggers_of(tenant, self.flow.id).await.unwrap(), std::slice::from_ref(&self.trigger));
        assert_eq!(store.graph(tenant, self.run.graph_id).await.unwrap().as_ref(), Some(&self.graph));
        assert_eq!(store.run(self.run.id).await.unwrap().unwrap().open(tenant).unwrap(), self.run);
        assert_eq!(store.node_runs_of(tenant, &[self.run.id]).await.unwrap()[&self.run.id], std::slice::from_ref(&self.node));
    }
}

both! {
    async fn what_a_workflow_holds_is_sealed(fixture: Fixture) {
        let (ada, user) = fixture.tenant("ada").await;
        let all = Secretive::new(ada, user.id);
        fixture.store.commit(ada, all.changes()).await.unwrap();
        fixture.store.commit(ada, vec![Change::Workflow(WorkflowChange::Update(all.flow.clone()))]).await.unwrap();
        fixture.store.commit(ada, vec![Change::Run(RunChange::Node(all.node.clone()))]).await.unwrap();
        let all = Secretive { flow: Workflow { version: 1, ..all.flow }, ..all };
        all.assert_read(&fixture, ada).await;
        let disk = on_disk(&fixture).await;
        let hex: String = CANARY.bytes().map(|byte| format!("{byte:02x}")).collect();
        assert!(holds(&disk, b"node_1_x"), "the rows are not where this test looks");
        assert!(!holds(&disk, CANARY.as_bytes()) && !holds(&disk, hex.as_bytes()));
        assert_eq!(fixture.store.system_seal_plain(10).await.unwrap(), 0, "nothing is left to seal");
    }

    async fn what_was_written_plainly_is_read_and_sealed(fixture: Fixture) {
        let (ada, user) = fixture.tenant("ada").await;
        let all = Secretive::new(ada, user.id);
        fixture.store.commit(ada, all.changes()).await.unwrap();
        // As the version before has left it.
        let text = |value: serde_json::Result<serde_json::Value>| value.unwrap().to_string();
        let of = (serde_json::to_value(&all.graph), serde_json::to_value(&all.run.values), serde_json::to_value(&all.node.input));
        let (graph, input, data) = (text(of.0), text(of.1), text(of.2));
        for statement in [
            format!("UPDATE workflows SET graph = '{graph}', sealed_graph = NULL"),
            format!("UPDATE flow_graphs SET body = '{graph}', sealed_body = NULL"),
            format!("UPDATE runs SET input = '{input}', sealed_input = NULL"),
            format!("UPDATE node_runs SET input = '{data}', output = '{data}', logs = '[\"{CANARY}\"]', sealed_data = NULL"),
            format!("UPDATE flow_triggers SET spec = '{}', sealed_spec = NULL", text(serde_json::to_value(&all.trigger.start))),
        ] {
            spoil(&fixture, &statement).await;
        }
        all.assert_read(&fixture, ada).await;
        let bytes = fixture.store.node_runs_bytes(ada, &[all.run.id]).await.unwrap();
        assert!(bytes > 60, "{bytes}");
        assert_eq!(fixture.store.system_seal_plain(10).await.unwrap(), 5);
        all.assert_read(&fixture, ada).await;
        assert_eq!(fixture.store.system_seal_plain(10).await.unwrap(), 0);
        // Nothing reads it now but through the vault.
        spoil(&fixture, "UPDATE workflows SET sealed_graph = NULL").await;
        assert!(matches!(fixture.store.workflow(all.flow.id).await, Err(StoreError::Corrupt(_))));
    }

    async fn a_workflow_is_changed_by_who_has_seen_its_last_version(fixture: Fixture) {
        let (tenant, user) = fixture.tenant("ada").await;
        let first = workflow(tenant, user.id, "50%_of");
        let second = workflow(tenant, user.id, "other");
        let inserts = vec![Change::Workflow(WorkflowChange::Insert(first.clone())), Change::Workflow(WorkflowChange::Insert(second.clone()))];
        fixture.store.commit(tenant, inserts).await.unwrap();
        let renamed = Workflow { name: "renamed".into(), ..first.clone() };
        fixture.store.commit(tenant, vec![Change::Workflow(WorkflowChange::Update(renamed.clone()))]).await.unwrap();
        let stale = fixture.store.commit(tenant, vec![Change::Workflow(WorkflowChange::Update(first.clone()))]).await;
        assert!(matches!(stale, Err(StoreError::Stale)), "{stale:?}");
        let found = fixture.store.workflow(first.id).await.unwrap().unwrap().open(tenant).unwrap();
        assert_eq!(found, Workflow { version: 1, ..renamed });
        let all = |search: Option<&'static str>| {
            let store = &fixture.store;
            async move { store.workflows(tenant, search, &PageRequest::default()).await.unwrap().items.into_iter().map(|row| row.name).collect::<Vec<_>>() }
        };
        assert_eq!(all(None).await, ["other", "renamed"]);
        assert_eq!(all(Some("NAME")).await, ["renamed"]);
        assert!(all(Some("%")).await.is_empty(), "a pattern is no pattern");
        // PostgreSQL knows as many letters as the locale that its owner has chosen; that of these tests knows those of ASCII.
        if fixture.kind == Kind::Sqlite {
            let third = workflow(tenant, user.id, "Ärger mit ΣΊΣΥΦΟΣ");
            fixture.store.commit(tenant, vec![Change::Workflow(WorkflowChange::Insert(third))]).await.unwrap();
            for search in ["ÄRGER", "ärger", "σίσυφοσ", "ΣΊΣΥΦΟΣ"] {
                assert_eq!(all(Some(search)).await, ["Ärger mit ΣΊΣΥΦΟΣ"], "{search}");
            }
        }
        let (stranger, _) = fixture.tenant("eve").await;
        let theft = fixture.store.commit(stranger, vec![Change::Workflow(WorkflowChange::Delete(first.id))]).await;
        assert!(matches!(theft, Err(StoreError::Stale)), "{theft:?}");
        fixture.store.commit(tenant, vec![Change::Workflow(WorkflowChange::Delete(first.id))]).await.unwrap();
        assert!(fixture.store.workflow(first.id).await.unwrap().is_none());
    }

    async fn runs_are_held_by_one_and_fairly_shared(fixture: Fixture) {
        let ((ada, user), (eve, other)) = (fixture.tenant("ada").await, fixture.tenant("eve").await);
        let store = &fixture.store;
        let (mine, theirs) = (workflow(ada, user.id, "mine"), workflow(eve, other.id, "theirs"));
        let runs: Vec<Run> = (0..5).map(|_| run(&mine)).collect();
        let mut changes = vec![Change::Workflow(WorkflowChange::Insert(mine)), keep()];
        changes.extend(runs.iter().map(insert));
        store.commit(ada, changes).await.unwrap();
        let single = run(&theirs);
        store.commit(eve, vec![Change::Workflow(WorkflowChange::Insert(theirs)), keep(), insert(&single)]).await.unwrap();

        let mut tenants = store.system_run_tenants().await.unwrap();
        tenants.sort();
        let mut expected = vec![(ada.workspace(), now()), (eve.workspace(), now())];
        expected.sort();
        assert_eq!(tenants, expected);
        let (one, two) = (Uuid::new_v4(), Uuid::new_v4());
        let shares = [(ada.workspace(), 2), (eve.workspace(), 2)];
        let (mut steps, mut state) = (store.commits(ChangeKind::Flow), store.commits(ChangeKind::State));
        let taken = store.system_runs_claim(&shares, 9, one, later(10), now()).await.unwrap();
        let mut told = [steps.try_recv().unwrap(), steps.try_recv().unwrap()];
        told.sort();
        let mut whose = [ada.workspace(), eve.workspace()];
        whose.sort();
        assert_eq!(told, whose, "those who look at a run see it begin");
        let mut ids: Vec<RunId> = taken.iter().map(|run| run.id).collect();
        ids.sort();
        assert_eq!(ids, [runs[0].id, runs[1].id, single.id], "the oldest of each");
        assert!(taken.iter().all(|run| run.status == RunStatus::Running && run.started_at == Some(now())));
        let claim = async |most| store.system_runs_claim(&[(ada.workspace(), 9)], most, two, later(10), now()).await.unwrap().len();
        assert_eq!([claim(2).await, claim(4).await, claim(9).await], [0, 2, 1], "only so many at once, whoever holds them");

        let hold = |holder| Change::Run(RunChange::Hold { id: runs[0].id, holder, until: later(20) });
        assert!(matches!(store.commit(ada, vec![hold(two)]).await, Err(StoreError::Stale)), "another's run");
        store.commit(ada, vec![hold(one)]).await.unwrap();
        let mut steps = store.commits(ChangeKind::Flow);
        store.commit(ada, vec![hold(one)]).await.unwrap();
        assert!(steps.try_recv().is_err(), "a hold that is put off is told");
        store.commit(ada, vec![Change::Run(RunChange::Node(node_run(&runs[0], RunStatus::Running)))]).await.unwrap();
        assert_eq!(steps.try_recv().unwrap(), ada.workspace());
        assert!(state.try_recv().is_err(), "a step of a run has every page ask again");
        assert_eq!(store.system_runs_expire(later(15)).await.unwrap(), 5);
        let again = store.system_runs_claim(&shares, 9, two, later(30), later(15)).await.unwrap();
        assert!(again.iter().all(|run| run.id != runs[0].id) && again.len() == 3);
        let all: Vec<RunId> = runs.iter().map(|run| run.id).collect();
        assert_eq!(store.system_runs_renew(one, &all, later(40)).await.unwrap(), [runs[0].id]);
        assert_eq!(store.system_runs_renew(two, &[again[0].id], later(40)).await.unwrap(), [again[0].id]);
        assert_eq!(store.system_runs_expire(later(35)).await.unwrap(), 2, "what nobody has under way is not held for ever");

        let reserve = |allowance| Change::Run(RunChange::Reserve { credits: 5, allowance });
        store.commit(ada, vec![reserve(9)]).await.unwrap();
        assert!(matches!(store.commit(ada, vec![reserve(9)]).await, Err(StoreError::Stale)), "the same is not spent twice");
        store.commit(ada, vec![reserve(10)]).await.unwrap();
        assert_eq!(store.flow_credits(ada).await.unwrap(), 10);
        store.commit(ada, vec![Change::Run(RunChange::Cancel { id: runs[4].id, at: later(20) })]).await.unwrap();
        assert_eq!(store.flow_credits(ada).await.unwrap(), 5, "a run that has cost nothing gives all of it back");
        let end = |holder| RunChange::End { id: runs[0].id, holder, status: RunStatus::Completed, error: None, credits: 7, at: later(16) };
        store.commit(ada, vec![Change::Run(end(one))]).await.unwrap();
        let over = store.run(runs[0].id).await.unwrap().unwrap().open(ada).unwrap();
        assert_eq!((over.status, over.finished_at), (RunStatus::Completed, Some(later(16))));
        assert_eq!((over.estimated, over.credits, store.flow_credits(ada).await.unwrap(), store.flow_credits(eve).await.unwrap()), (5, 7, 7, 0));
        assert_eq!(store.flow_secret(ada, "first").await.unwrap(), "first");
        assert_eq!(store.flow_secret(ada, "second").await.unwrap(), "first", "it stays");
        let cancel = Change::Run(RunChange::Cancel { id: runs[0].id, at: now() });
        assert!(matches!(store.commit(ada, vec![cancel]).await, Err(StoreError::Stale)), "it is over");
        assert_eq!(store.system_runs_forget(later(17), 10).await.unwrap(), 1);
        assert_eq!(store.system_graphs_forget(later(17)).await.unwrap(), 0, "others use it");
    }

    async fn a_node_has_only_so_many_turns_whoever_holds_its_runs(fixture: Fixture) {
        let (ada, user) = fixture.tenant("ada").await;
        let store = &fixture.store;
        let flow = workflow(ada, user.id, "mine");
        let id = flow.id;
        let runs: Vec<Run> = (0..3).map(|_| run(&flow)).collect();
        let rows: Vec<NodeRun> = runs.iter().map(|run| node_run(run, RunStatus::Queued)).collect();
        let put = |at: usize, status| Change::Run(RunChange::Node(NodeRun { status, ..rows[at].clone() }));
        let mut changes = vec![Change::Workflow(WorkflowChange::Insert(flow)), keep()];
        changes.extend(runs.iter().map(insert));
        changes.extend((0..3).map(|at| put(at, RunStatus::Queued)));
        store.commit(ada, changes).await.unwrap();
        let (one, two) = (Uuid::new_v4(), Uuid::new_v4());
        assert_eq!(store.system_runs_claim(&[(ada.workspace(), 1)], 9, one, later(10), now()).await.unwrap().len(), 1);
        assert_eq!(store.system_runs_claim(&[(ada.workspace(), 2)], 9, two, later(10), now()).await.unwrap().len(), 2);
        let take = async |at: usize, holder: Uuid, most: u32| {
            let turn = NodeTurn { run: runs[at].id, node: "node_1_x", workflow: id, holder, most };
            store.node_turn_take(ada, turn).await.unwrap()
        };
        assert!(!take(0, two, 1).await, "another holds the run");
        assert!(take(0, one, 1).await && !take(1, two, 1).await, "the other has a turn");
        assert!(take(1, two, 2).await && !take(2, two, 2).await, "both have one");
        store.commit(ada, vec![put(0, RunStatus::Completed)]).await.unwrap();
        assert!(take(2, two, 2).await, "one is over");
        let (stranger, _) = fixture.tenant("eve").await;
        store.commit(ada, vec![put(1, RunStatus::Queued)]).await.unwrap();
        let turn = NodeTurn { run: runs[1].id, node: "node_1_x", workflow: id, holder: two, most: 9 };
        assert!(!store.node_turn_take(stranger, turn).await.unwrap());
        // Whoever has died has no turn.
        assert_eq!(store.system_runs_expire(later(20)).await.unwrap(), 3);
        assert_eq!(store.system_runs_claim(&[(ada.workspace(), 1)], 9, one, later(40), later(20)).await.unwrap()[0].id, runs[0].id);
        store.commit(ada, vec![put(0, RunStatus::Queued)]).await.unwrap();
        assert!(take(0, one, 1).await, "nobody holds the others any more");
    }

    async fn a_parked_run_waits_for_its_time(fixture: Fixture) {
        let (ada, user) = fixture.tenant("ada").await;
        let flow = workflow(ada, user.id, "mine");
        let run = run(&flow);
        fixture.store.commit(ada, vec![Change::Workflow(WorkflowChange::Insert(flow)), keep(), insert(&run)]).await.unwrap();
        let me = Uuid::new_v4();
        let claim = async |at| fixture.store.system_runs_claim(&[(ada.workspace(), 5)], 5, me, at, at).await.unwrap().len();
        assert_eq!(claim(now()).await, 1);
        let park = RunChange::Park { id: run.id, holder: me, until: later(100) };
        fixture.store.commit(ada, vec![Change::Run(RunChange::Node(node_run(&run, RunStatus::Running))), Change::Run(park)]).await.unwrap();
        assert_eq!(fixture.store.system_run_tenants().await.unwrap(), [(ada.workspace(), later(100))]);
        assert_eq!((claim(later(99)).await, claim(later(100)).await), (0, 1));
        let nodes = fixture.store.node_runs_of(ada, &[run.id]).await.unwrap();
        assert_eq!(nodes[&run.id][0].input, Some(json!({"items": [1]})));
        let bytes = fixture.store.node_runs_bytes(ada, &[run.id]).await.unwrap();
        assert!((13..99).contains(&bytes), "{bytes}");
        assert_eq!(fixture.store.node_runs_over(ada, run.id).await.unwrap(), (0, 0));
        fixture.store.commit(ada, vec![Change::Run(RunChange::Cancel { id: run.id, at: later(101) })]).await.unwrap();
        let nodes = fixture.store.node_runs_of(ada, &[run.id]).await.unwrap();
        assert_eq!(nodes[&run.id][0].status, RunStatus::Canceled);
        let page = fixture.store.runs(ada, RunQuery { status: Some(RunStatus::Canceled), ..RunQuery::default() }, 10, None).await.unwrap();
        assert_eq!((page.items.len(), page.items[0].values.clone()), (1, Map::new()), "a list leaves out what was given");
        let found = fixture.store.run(run.id).await.unwrap().unwrap().open(ada).unwrap();
        assert_eq!((found.id, found.values), (page.items[0].id, run.values));
    }

    async fn the_newest_run_of_each_workflow_is_found_at_once(fixture: Fixture) {
        let (ada, user) = fixture.tenant("ada").await;
        let (eve, other) = fixture.tenant("eve").await;
        let flows = [workflow(ada, user.id, "often"), workflow(ada, user.id, "never"), workflow(ada, user.id, "once")];
        let foreign = workflow(eve, other.id, "foreign");
        let runs = [run(&flows[0]), run(&flows[2]), run(&flows[0])];
        let mut changes: Vec<Change> = flows.iter().map(|flow| Change::Workflow(WorkflowChange::Insert(flow.clone()))).collect();
        changes.push(keep());
        changes.extend(runs.iter().map(insert));
        let template = Run { subject: Subject::Template { slug: "fetch-json".into() }, ..run(&flows[0]) };
        changes.push(insert(&template));
        fixture.store.commit(ada, changes).await.unwrap();
        let theirs = vec![Change::Workflow(WorkflowChange::Insert(foreign.clone())), keep(), insert(&run(&foreign))];
        fixture.store.commit(eve, theirs).await.unwrap();
        let wanted: Vec<WorkflowId> = flows.iter().chain([&foreign]).map(|flow| flow.id).collect();
        let found = fixture.store.runs_last_of(ada, &wanted).await.unwrap();
        assert_eq!(found.iter().map(|run| run.id).collect::<Vec<_>>(), [runs[1].id, runs[2].id]);
        for (slug, status, expected) in [("fetch-json", None, 1), ("fetch-json", Some(RunStatus::Failed), 0), ("fetch", None, 0)] {
            let query = RunQuery { template: Some(slug.into()), status, ..RunQuery::default() };
            assert_eq!(fixture.store.runs(ada, query, 10, None).await.unwrap().items.len(), expected, "{slug}");
        }
    }

    async fn triggers_go_with_their_workflow_and_files_expire_with_it(fixture: Fixture) {
        let (ada, user) = fixture.tenant("ada").await;
        let flow = workflow(ada, user.id, "mine");
        let trigger = FlowTrigger {
            id: FlowTriggerId::generate(),
            workspace_id: ada.workspace(),
            workflow_id: flow.id,
            user_id: user.id,
            start: Start::Event { event: PlatformEvent::DeploymentFailed },
            enabled: true,
            next_at: Some(now()),
            last_at: None,
            created_at: now(),
        };
        let file = FlowFile {
            id: UploadId::generate(),
            workspace_id: ada.workspace(),
            made: None,
            filename: "a.png".into(),
            content_type: "image/png".into(),
            bytes: 3,
            created_at: now(),
            expires_at: later(5),
        };
        let changes = vec![
            Change::Workflow(WorkflowChange::Insert(flow.clone())),
            Change::Workflow(WorkflowChange::TriggerInsert { trigger: trigger.clone(), hash: Some([3; 32]) }),
            Change::Workflow(WorkflowChange::FileInsert { file: file.clone(), most: 10 }),
        ];
        let store = &fixture.store;
        store.commit(ada, changes).await.unwrap();
        assert_eq!(store.flow_trigger_by_hash([3; 32]).await.unwrap(), Some(trigger.clone()));
        assert_eq!(store.system_flow_triggers_due(now(), 5).await.unwrap(), std::slice::from_ref(&trigger));
        let moved = || Change::Workflow(WorkflowChange::TriggerMove { id: trigger.id, was: now(), next: Some(later(60)), last: Some(now()) });
        store.commit(ada, vec![moved()]).await.unwrap();
        assert!(matches!(store.commit(ada, vec![moved()]).await, Err(StoreError::Stale)), "one of two moves it");
        assert_eq!(store.system_flow_trigger_next().await.unwrap(), Some(later(60)));
        let events = |tenant: Tenant| async move { store.flow_triggers_of_events(tenant).await.unwrap().len() };
        assert_eq!(events(ada).await, 1);
        let change = |change: WorkflowChange| async move { store.commit(ada, vec![Change::Workflow(change)]).await };
        let fired = || change(WorkflowChange::TriggerFired { id: trigger.id, at: later(1) });
        fired().await.unwrap();
        change(WorkflowChange::TriggerRotate { id: trigger.id, hash: [4; 32] }).await.unwrap();
        assert!(store.flow_trigger_by_hash([3; 32]).await.unwrap().is_none(), "the old secret is void");
        change(WorkflowChange::TriggerSwitch { id: trigger.id, enabled: false, next: None }).await.unwrap();
        assert!(matches!(fired().await, Err(StoreError::Stale)), "it is switched off");
        assert_eq!((events(ada).await, store.system_flow_trigger_next().await.unwrap()), (0, None));
        let found = store.flow_trigger_by_hash([4; 32]).await.unwrap().unwrap();
        assert_eq!((found.last_at, found.enabled), (Some(later(1)), false));
        let (eve, _) = fixture.tenant("eve").await;
        let theft = store.commit(eve, vec![Change::Workflow(WorkflowChange::TriggerRotate { id: trigger.id, hash: [5; 32] })]).await;
        assert!(matches!(theft, Err(StoreError::Stale)), "{theft:?}");
        assert_eq!(store.flow_files(ada, None, 10, None).await.unwrap().items, std::slice::from_ref(&file));
        let another = |bytes| {
            let file = FlowFile { id: UploadId::generate(), bytes, ..file.clone() };
            Change::Workflow(WorkflowChange::FileInsert { file, most: 10 })
        };
        assert!(matches!(store.commit(ada, vec![another(8)]).await, Err(StoreError::Stale)), "no room");
        let theirs = FlowFile { id: UploadId::generate(), workspace_id: eve.workspace(), bytes: 8, expires_at: later(50), ..file.clone() };
        store.commit(eve, vec![Change::Workflow(WorkflowChange::FileInsert { file: theirs, most: 10 })]).await.unwrap();
        assert_eq!(store.system_flow_files_expired(later(6), 10).await.unwrap(), [file.id]);
        store.system_flow_files_delete(&[file.id]).await.unwrap();
        assert!(store.flow_file(file.id).await.unwrap().is_none());
        let by = Made { workflow: Some(flow.id), run: RunId::generate(), node_id: "n".into(), node_type: "t".into(), node_label: "l".into() };
        let made = FlowFile { id: UploadId::generate(), made: Some(by), expires_at: later(50), ..file };
        store.commit(ada, vec![Change::Workflow(WorkflowChange::FileInsert { file: made.clone(), most: 10 })]).await.unwrap();
        assert!(store.system_flow_files_expired(later(6), 10).await.unwrap().is_empty());
        store.commit(ada, vec![Change::Workflow(WorkflowChange::Delete(flow.id))]).await.unwrap();
        assert_eq!(store.system_flow_files_expired(later(6), 10).await.unwrap(), [made.id], "its bytes are still there");
        assert_eq!(store.system_flow_files_known(&[made.id, file.id]).await.unwrap(), [made.id]);
        assert!(store.flow_trigger(trigger.id).await.unwrap().is_none());
    }

    async fn what_cannot_be_read_holds_up_no_other_run_and_no_other_trigger(fixture: Fixture) {
        let (ada, user) = fixture.tenant("ada").await;
        let store = &fixture.store;
        let flow = workflow(ada, user.id, "mine");
        let (lost, good) = (run(&flow), run(&flow));
        let trigger = |start: Start, next_at| FlowTrigger {
            id: FlowTriggerId::generate(),
            workspace_id: ada.workspace(),
            workflow_id: flow.id,
            user_id: user.id,
            start,
            enabled: true,
            next_at,
            last_at: None,
            created_at: now(),
        };
        let event = || trigger(Start::Event { event: PlatformEvent::DeploymentFailed }, None);
        let schedule = |at| trigger(Start::Schedule { cron: "* * * * *".into(), timezone: None, values: Map::new() }, Some(at));
        let (deaf, keen, stopped, due) = (event(), event(), schedule(now()), schedule(later(1)));
        let mut changes = vec![Change::Workflow(WorkflowChange::Insert(flow.clone())), keep(), insert(&lost), insert(&good)];
        changes.push(Change::Run(RunChange::Reserve { credits: 10, allowance: 10 }));
        for trigger in [&deaf, &keen, &stopped, &due] {
            changes.push(Change::Workflow(WorkflowChange::TriggerInsert { trigger: trigger.clone(), hash: None }));
        }
        store.commit(ada, changes).await.unwrap();
        spoil(&fixture, "UPDATE runs SET input = '7' WHERE id = (SELECT id FROM runs ORDER BY id LIMIT 1)").await;
        for kind in ["event", "schedule"] {
            let first = format!("(SELECT id FROM flow_triggers WHERE kind = '{kind}' ORDER BY id LIMIT 1)");
            spoil(&fixture, &format!("UPDATE flow_triggers SET spec = '7' WHERE id = {first}")).await;
        }
        assert_eq!(store.flow_triggers_of_events(ada).await.unwrap(), [keen]);
        // Only one has room: the bad one comes first, and not again.
        assert!(store.system_flow_triggers_due(later(9), 1).await.unwrap().is_empty());
        assert_eq!(store.system_flow_triggers_due(later(9), 1).await.unwrap(), [due]);
        let claim = async || store.system_runs_claim(&[(ada.workspace(), 1)], 9, Uuid::new_v4(), later(60), later(9)).await.unwrap();
        assert!(claim().await.is_empty());
        assert_eq!(claim().await.into_iter().map(|run| run.id).collect::<Vec<_>>(), [good.id]);
        assert_eq!(store.flow_credits(ada).await.unwrap(), 5, "what it would have cost is given back");
        assert_eq!(store.system_runs_forget(later(99), 9).await.unwrap(), 1, "it is over");
    }

    async fn a_webhook_is_sealed(fixture: Fixture) {
        let (ada, user) = fixture.tenant("ada").await;
        let flow = workflow(ada, user.id, "mine");
        let run = run(&flow);
        let headers = Map::from_iter([("x-token".to_owned(), json!("canary"))]);
        let webhook = Webhook { url: "https://example.com".into(), events: None, metadata: json!(null), headers };
        let change = RunChange::Insert { run: run.clone(), webhook: Some(webhook.clone()) };
        fixture.store.commit(ada, vec![Change::Workflow(WorkflowChange::Insert(flow)), keep(), Change::Run(change)]).await.unwrap();
        assert_eq!(fixture.store.run_webhook(ada, run.id).await.unwrap(), Some(webhook));
        if fixture.kind == Kind::Sqlite {
            let files = std::fs::read_dir(fixture.dir.path()).unwrap().flatten();
            let leaked = files.map(|file| std::fs::read(file.path()).unwrap()).any(|bytes| bytes.windows(6).any(|six| six == b"canary"));
            assert!(!leaked);
        }
    }
}
