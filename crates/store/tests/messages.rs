//! Messages that leave the server: claimed once, told of, sent again.

use std::collections::BTreeMap;

use domain::activity::Activity;
use domain::delivery::{Delivery, DeliveryAttempt, DeliveryState, RULE_DELIVERIES, Target};
use domain::notification::{NotificationSettings, Slack};
use domain::notification_rule::{Channel, ChannelConfig, NoticeSeverity, NotificationRule, RuleSpec};
use domain::trigger::{Action, Comparator, Metric, Operator, Rule, Trigger, TriggerRun, TriggerSpec};
use domain::*;
use store::{Change, NotificationChange, StoreError};

use crate::fixture::*;

pub(crate) fn message(tenant: Tenant, subject: &str) -> Delivery {
    Delivery {
        id: DeliveryId::generate(),
        workspace_id: tenant.workspace(),
        kind: "notification".into(),
        subject: subject.into(),
        target: Target::Webhook {
            url: "https://hooks.example.com/canary-in-the-address".into(),
            headers: BTreeMap::from([("x-token".into(), "t".into())]),
            secret: Some("whsec_c2VjcmV0".into()),
        },
        body: r#"{"text":"it scaled"}"#.into(),
        state: DeliveryState::Pending,
        attempts: 0,
        tries: 0,
        next_at: now(),
        created_at: now(),
        updated_at: now(),
    }
}

pub(crate) fn attempt(delivery: &Delivery, number: u32) -> DeliveryAttempt {
    DeliveryAttempt { delivery_id: delivery.id, number, at: now(), millis: 12, status: Some(500), error: Some("no".into()) }
}

/// Does what no version of the store does.
pub(crate) async fn spoil(fixture: &Fixture, statement: &str) {
    match fixture.kind {
        Kind::Sqlite => rusqlite::Connection::open(fixture.dir.path().join("orrery.db")).unwrap().execute_batch(statement).unwrap(),
        Kind::Postgres => {
            let (client, connection) = tokio_postgres::connect(&fixture.url, tokio_postgres::NoTls).await.unwrap();
            tokio::spawn(connection);
            client.batch_execute(statement).await.unwrap();
        }
    }
}

both! {
    async fn a_message_is_claimed_by_one_and_its_attempts_are_kept(fixture: Fixture) {
        let (tenant, _) = fixture.tenant("owner").await;
        let (other, _) = fixture.tenant("other").await;
        let store = &fixture.store;
        let one = message(tenant, "app");
        store.commit(tenant, vec![Change::DeliveryInsert(one.clone())]).await.unwrap();
        assert_eq!(store.deliveries(tenant, "notification", "app", 10).await.unwrap(), std::slice::from_ref(&one));
        assert!(store.deliveries(other, "notification", "app", 10).await.unwrap().is_empty());
        assert!(store.system_deliveries_due(later(-1), &[], 10).await.unwrap().is_empty());
        assert!(store.system_deliveries_due(now(), &[tenant.workspace()], 10).await.unwrap().is_empty());
        assert_eq!(store.system_deliveries_due(now(), &[other.workspace()], 10).await.unwrap(), std::slice::from_ref(&one));

        let claim = || Change::DeliveryClaim { id: one.id, attempts: 0, at: now(), until: later(60) };
        assert!(matches!(store.commit(other, vec![claim()]).await, Err(StoreError::Stale)));
        store.commit(tenant, vec![claim()]).await.unwrap();
        assert!(matches!(store.commit(tenant, vec![claim()]).await, Err(StoreError::Stale)));
        assert!(store.system_deliveries_due(now(), &[], 10).await.unwrap().is_empty());
        assert_eq!(store.system_delivery_next().await.unwrap(), Some(later(60)));

        let done = |state| Change::DeliveryDone { attempt: attempt(&one, 1), state, at: later(1), next: later(5) };
        assert!(matches!(store.commit(other, vec![done(DeliveryState::Failed)]).await, Err(StoreError::Stale)));
        store.commit(tenant, vec![done(DeliveryState::Failed)]).await.unwrap();
        assert_eq!(store.delivery_attempts(tenant, &[one.id]).await.unwrap(), [attempt(&one, 1)]);
        assert!(store.delivery_attempts(other, &[one.id]).await.unwrap().is_empty());
        let after = store.delivery(one.id).await.unwrap().unwrap().open(tenant).unwrap();
        assert_eq!((after.state, after.attempts, after.tries), (DeliveryState::Failed, 1, 1));
        assert_eq!(store.system_delivery_next().await.unwrap(), None);

        assert!(matches!(store.commit(other, vec![Change::DeliveryReplay { id: one.id, at: later(9) }]).await, Err(StoreError::Stale)));
        store.commit(tenant, vec![Change::DeliveryReplay { id: one.id, at: later(9) }]).await.unwrap();
        let again = store.system_deliveries_due(later(9), &[], 10).await.unwrap().remove(0);
        assert_eq!((again.attempts, again.tries), (1, 0));
        assert!(again.target == one.target);

        let two = message(tenant, "app");
        store.commit(tenant, vec![Change::DeliveryInsert(two.clone())]).await.unwrap();
        let listed = store.deliveries_with_attempts(tenant, "notification", "app", 10).await.unwrap();
        assert_eq!(listed, [(two, vec![]), (again, vec![attempt(&one, 1)])]);
    }

    async fn what_cannot_be_read_holds_up_nothing_else(fixture: Fixture) {
        let tree = fixture.tree("owner").await;
        let (store, tenant) = (&fixture.store, tree.tenant);
        let (bad, good) = (Delivery { body: "bad".into(), ..message(tenant, "app") }, Delivery { next_at: later(1), ..message(tenant, "app") });
        let (dull, keen) = (trigger(&tree), Trigger { next_at: later(1), ..trigger(&tree) });
        let inserts = vec![
            Change::DeliveryInsert(bad.clone()),
            Change::DeliveryInsert(good.clone()),
            Change::TriggerInsert(dull.clone()),
            Change::TriggerInsert(keen.clone()),
        ];
        store.commit(tenant, inserts).await.unwrap();
        // A secret is sealed for its own row, so another row's cannot be opened.
        spoil(&fixture, "UPDATE deliveries SET sealed_target = (SELECT sealed_target FROM deliveries WHERE body <> 'bad') WHERE body = 'bad'").await;
        let first = "(SELECT next_at FROM triggers ORDER BY next_at LIMIT 1)";
        spoil(&fixture, &format!("UPDATE triggers SET spec = '7' WHERE next_at = {first}")).await;
        // Only one has room: the bad one comes first, and not again.
        assert!(store.system_deliveries_due(later(9), &[], 1).await.unwrap().is_empty());
        assert_eq!(store.system_deliveries_due(later(9), &[], 1).await.unwrap(), [good]);
        assert!(store.system_triggers_due(later(9), 1).await.unwrap().is_empty());
        assert_eq!(store.system_triggers_due(later(9), 1).await.unwrap(), [keen]);
    }

    async fn an_entry_that_cannot_be_read_keeps_nobody_from_being_told_of_the_next(fixture: Fixture) {
        let (tree, other) = (fixture.tree("owner").await, fixture.tree("other").await);
        let store = &fixture.store;
        let next = Activity { id: ActivityId::generate(), verb: "deployment_failed".into(), ..tree.activity.clone() };
        store.commit(tree.tenant, vec![Change::Activity(next.clone())]).await.unwrap();
        spoil(&fixture, &format!("UPDATE activities SET actor = '7' WHERE subject = '{}' AND verb = 'project_create'", tree.project.id)).await;
        assert!(store.system_activities_pending(1).await.unwrap().is_empty());
        assert_eq!(store.system_activities_pending(9).await.unwrap(), [other.activity, next.clone()]);
        store.commit(tree.tenant, vec![Change::ActivitiesNoticed(vec![next.id])]).await.unwrap();
    }

    async fn messages_that_are_done_go_and_pending_ones_stay(fixture: Fixture) {
        let (tenant, _) = fixture.tenant("owner").await;
        let store = &fixture.store;
        let (pending, over) = (message(tenant, "a"), Delivery { state: DeliveryState::Delivered, ..message(tenant, "a") });
        store.commit(tenant, vec![Change::DeliveryInsert(pending.clone()), Change::DeliveryInsert(over)]).await.unwrap();
        store.system_deliveries_purge(later(1)).await.unwrap();
        assert_eq!(store.deliveries(tenant, "notification", "a", 10).await.unwrap(), [pending]);
    }

    async fn entries_about_apps_wait_for_their_notifications(fixture: Fixture) {
        let tree = fixture.tree("owner").await;
        let (other, _) = fixture.tenant("other").await;
        let store = &fixture.store;
        assert_eq!(store.system_activities_pending(10).await.unwrap(), std::slice::from_ref(&tree.activity));
        let ids = vec![tree.activity.id];
        assert!(matches!(store.commit(other, vec![Change::ActivitiesNoticed(ids.clone())]).await, Err(StoreError::Stale)));
        store.commit(tree.tenant, vec![Change::ActivitiesNoticed(ids.clone())]).await.unwrap();
        assert!(store.system_activities_pending(10).await.unwrap().is_empty());
        assert!(matches!(store.commit(tree.tenant, vec![Change::ActivitiesNoticed(ids)]).await, Err(StoreError::Stale)));
        // Who has read one of them before somebody else told of it makes no message about any.
        let next = Activity { id: ActivityId::generate(), ..tree.activity.clone() };
        store.commit(tree.tenant, vec![Change::Activity(next.clone())]).await.unwrap();
        let both = Change::ActivitiesNoticed(vec![tree.activity.id, next.id]);
        assert!(matches!(store.commit(tree.tenant, vec![both]).await, Err(StoreError::Stale)));
        store.commit(tree.tenant, vec![Change::ActivitiesNoticed(vec![next.id])]).await.unwrap();
        let mine = store.activities_of_instances(tree.tenant, &[tree.instance.id], 5).await.unwrap();
        assert!(mine.contains(&tree.activity) && mine.contains(&next), "{mine:#?}");
        assert!(store.activities_of_instances(other, &[tree.instance.id], 5).await.unwrap().is_empty());
    }
}

pub(crate) fn trigger(tree: &Tree) -> Trigger {
    let rule = Rule { metric: Metric::Cpu, comparator: Comparator::Above, value: 20.5 };
    let spec = TriggerSpec {
        name: "busy".into(),
        action: Action::Add,
        min: 1,
        max: 3,
        step: 1,
        operator: Operator::Or,
        rules: vec![rule],
        days_of_week: vec![1, 2],
        utc_offset: -3,
        start_hour: 1,
        end_hour: 2,
        series: "5s".into(),
        samples: 2,
        run_every: 60,
    };
    let (id, workspace_id, instance_id) = (TriggerId::generate(), tree.tenant.workspace(), tree.instance.id);
    Trigger { id, workspace_id, instance_id, enabled: true, spec, runs: 0, next_at: now(), created_at: now(), updated_at: now() }
}

both! {
    async fn a_trigger_is_claimed_by_one_run_at_a_time(fixture: Fixture) {
        let (tree, thief) = (fixture.tree("owner").await, fixture.tree("thief").await);
        let store = &fixture.store;
        let one = trigger(&tree);
        let foreign = Trigger { workspace_id: thief.tenant.workspace(), ..one.clone() };
        assert!(matches!(store.commit(thief.tenant, vec![Change::TriggerInsert(foreign)]).await, Err(StoreError::Stale)));
        store.commit(tree.tenant, vec![Change::TriggerInsert(one.clone())]).await.unwrap();
        let mine = store.triggers_of_instances(tree.tenant, &[tree.instance.id]).await.unwrap();
        assert_eq!(mine, std::slice::from_ref(&one));
        assert!(store.triggers_of_instances(thief.tenant, &[tree.instance.id]).await.unwrap().is_empty());
        assert_eq!(store.system_triggers_due(now(), 10).await.unwrap(), std::slice::from_ref(&one));
        assert_eq!(store.system_trigger_next().await.unwrap(), Some(now()));

        let claim = || Change::TriggerClaim { id: one.id, runs: 0, next: later(60) };
        store.commit(tree.tenant, vec![claim()]).await.unwrap();
        assert!(matches!(store.commit(tree.tenant, vec![claim()]).await, Err(StoreError::Stale)));
        assert!(store.system_triggers_due(later(59), 10).await.unwrap().is_empty());
        let run = TriggerRun { trigger_id: one.id, number: 1, at: now(), outcome: "executed".into(), log: vec!["why".into()] };
        assert!(matches!(store.commit(thief.tenant, vec![Change::TriggerRunInsert(run.clone())]).await, Err(StoreError::Stale)));
        store.commit(tree.tenant, vec![Change::TriggerRunInsert(run.clone())]).await.unwrap();
        assert_eq!(store.trigger_runs(tree.tenant, one.id, 10).await.unwrap(), [run]);

        let off = Trigger { enabled: false, ..one.clone() };
        assert!(matches!(store.commit(thief.tenant, vec![Change::TriggerDelete(one.id)]).await, Err(StoreError::Stale)));
        store.commit(tree.tenant, vec![Change::TriggerUpdate(off)]).await.unwrap();
        assert!(store.system_triggers_due(later(999), 10).await.unwrap().is_empty());
        store.system_trigger_runs_purge(later(1)).await.unwrap();
        assert!(store.trigger_runs(tree.tenant, one.id, 10).await.unwrap().is_empty());
        store.commit(tree.tenant, vec![Change::InstanceDelete(tree.instance.id)]).await.unwrap();
        assert!(store.trigger(one.id).await.unwrap().is_none());
    }

    async fn an_app_overrides_the_settings_of_its_account(fixture: Fixture) {
        let (tree, thief) = (fixture.tree("owner").await, fixture.tree("thief").await);
        let store = &fixture.store;
        let slack = |url: &str| Slack { enabled: true, url: url.into(), ..Slack::default() };
        let settings = |url: &str| NotificationSettings { slack: Some(slack(url)), mail: None };
        let set = |instance, url: &str| {
            Change::Notification(NotificationChange::SettingsSet { instance, settings: settings(url), at: now() })
        };
        let mine = Some(tree.instance.id);
        assert!(matches!(store.commit(thief.tenant, vec![set(mine, "stolen")]).await, Err(StoreError::Stale)));
        store.commit(tree.tenant, vec![set(None, "account"), set(mine, "app")]).await.unwrap();
        assert!(matches!(store.commit(thief.tenant, vec![set(mine, "stolen")]).await, Err(StoreError::Stale)));
        store.commit(tree.tenant, vec![set(mine, "canary-app")]).await.unwrap();
        let found = store.notification_settings(tree.tenant, &[tree.instance.id]).await.unwrap();
        assert_eq!(found.len(), 2);
        assert!(found.contains(&(None, settings("account"))) && found.contains(&(mine, settings("canary-app"))));
        assert!(store.notification_settings(thief.tenant, &[tree.instance.id]).await.unwrap().is_empty());
        store.commit(tree.tenant, vec![Change::Notification(NotificationChange::SettingsDelete { instance: mine })]).await.unwrap();
        let found = store.notification_settings(tree.tenant, &[tree.instance.id]).await.unwrap();
        assert_eq!(found, [(None, settings("account"))]);
    }

    async fn a_rule_is_its_workspaces_and_goes_with_its_project_and_its_maker(fixture: Fixture) {
        let (tree, thief) = (fixture.tree("owner").await, fixture.tree("thief").await);
        let (store, tenant) = (&fixture.store, tree.tenant);
        let (_, guest) = fixture.tenant("guest").await;
        store.commit(tenant, vec![Change::MemberSet { user: guest.id, role: Role::Member }]).await.unwrap();
        let of_project = rule(&tree, Some(tree.project.id), None);
        let of_guest = rule(&tree, None, Some(guest.id));
        let of_owner = rule(&tree, None, Some(tree.user.id));
        let insert = |rule: &NotificationRule| Change::Notification(NotificationChange::RuleInsert(rule.clone()));
        store.commit(tenant, vec![insert(&of_project), insert(&of_guest), insert(&of_owner)]).await.unwrap();
        assert!(store.notification_rules(tenant).await.unwrap() == [of_project.clone(), of_guest.clone(), of_owner.clone()]);
        assert!(store.notification_rules(thief.tenant).await.unwrap().is_empty());
        let found = store.notification_rule(of_guest.id).await.unwrap().unwrap();
        assert!(found.clone().open(thief.tenant).is_none() && found.open(tenant).unwrap() == of_guest);

        // Neither another's project nor a person who is not a member can be named.
        let mine = thief.tenant.workspace();
        for foreign in [
            NotificationRule { id: NotificationRuleId::generate(), workspace_id: mine, ..of_project.clone() },
            NotificationRule { id: NotificationRuleId::generate(), workspace_id: mine, ..of_guest.clone() },
        ] {
            assert!(matches!(store.commit(thief.tenant, vec![insert(&foreign)]).await, Err(StoreError::Stale)));
        }
        let changed = NotificationRule { spec: RuleSpec::default(), updated_at: later(1), ..of_owner.clone() };
        let update = |rule: &NotificationRule, seen| Change::Notification(NotificationChange::RuleUpdate { rule: rule.clone(), seen });
        let stolen = NotificationRule { workspace_id: mine, ..changed.clone() };
        assert!(matches!(store.commit(thief.tenant, vec![update(&stolen, now())]).await, Err(StoreError::Stale)));
        assert!(matches!(store.commit(tenant, vec![update(&changed, later(9))]).await, Err(StoreError::Stale)));
        store.commit(tenant, vec![update(&changed, now())]).await.unwrap();
        assert!(store.notification_rules(tenant).await.unwrap().contains(&changed));

        // What waits to be sent goes with its rule, and nothing else does.
        let subject = of_owner.id.to_string();
        let waiting = Delivery { kind: RULE_DELIVERIES.into(), ..message(tenant, &subject) };
        let other = Delivery { kind: RULE_DELIVERIES.into(), ..message(tenant, &of_guest.id.to_string()) };
        store.commit(tenant, vec![Change::DeliveryInsert(waiting), Change::DeliveryInsert(other.clone())]).await.unwrap();
        let delete = || Change::Notification(NotificationChange::RuleDelete(of_owner.id));
        assert!(matches!(store.commit(thief.tenant, vec![delete()]).await, Err(StoreError::Stale)));
        store.commit(tenant, vec![delete()]).await.unwrap();
        assert!(matches!(store.commit(tenant, vec![delete()]).await, Err(StoreError::Stale)));
        assert_eq!(store.system_deliveries_due(now(), &[], 10).await.unwrap(), std::slice::from_ref(&other));

        // So it is for those of a member who may have none any more, and for nobody else's.
        let ended = rule(&tree, None, Some(tree.user.id));
        let waiting = Delivery { kind: RULE_DELIVERIES.into(), ..message(tenant, &ended.id.to_string()) };
        store.commit(tenant, vec![insert(&ended), Change::DeliveryInsert(waiting)]).await.unwrap();
        let end = || Change::Notification(NotificationChange::RulesDelete { user: tree.user.id, found: vec![ended.id] });
        store.commit(thief.tenant, vec![end()]).await.unwrap();
        assert_eq!(store.system_deliveries_due(now(), &[], 10).await.unwrap().len(), 2);
        store.commit(tenant, vec![end()]).await.unwrap();
        assert_eq!(store.system_deliveries_due(now(), &[], 10).await.unwrap(), std::slice::from_ref(&other));

        // Who read the rules just before has nobody to tell any more, and neither has another workspace by them.
        let of = |tenant: Tenant, rule: &NotificationRule| {
            let late = Delivery { kind: RULE_DELIVERIES.into(), ..message(tenant, &rule.id.to_string()) };
            vec![Change::DeliveryInsert(late)]
        };
        store.commit(tenant, of(tenant, &ended)).await.unwrap();
        store.commit(thief.tenant, of(thief.tenant, &of_guest)).await.unwrap();
        assert_eq!(store.system_deliveries_due(now(), &[], 10).await.unwrap(), [other]);
        assert!(store.notification_rules(tenant).await.unwrap() == [of_project.clone(), of_guest.clone()]);

        store.commit(tenant, vec![Change::MemberRemove { user: guest.id }]).await.unwrap();
        assert!(store.notification_rules(tenant).await.unwrap() == [of_project]);
        store.commit(tenant, vec![Change::ProjectDelete(tree.project.id)]).await.unwrap();
        assert!(store.notification_rules(tenant).await.unwrap().is_empty());
    }
}

fn rule(tree: &Tree, project_id: Option<ProjectId>, created_by: Option<UserId>) -> NotificationRule {
    let spec = RuleSpec {
        event_types: vec!["Deployment.failed".into()],
        severities: vec![NoticeSeverity::Warning],
        ephemeral_environments: Some(false),
    };
    let config = |config| Channel { id: NotificationChannelId::generate(), config, created_at: now(), updated_at: now() };
    let webhook = ChannelConfig::Webhook { url: "https://hooks.example.com/canary".into(), secret: Some("whsec_c2VjcmV0".into()) };
    let channels = vec![config(webhook), config(ChannelConfig::Email { to: vec!["ops@example.com".into()] })];
    let (id, workspace_id) = (NotificationRuleId::generate(), tree.tenant.workspace());
    NotificationRule { id, workspace_id, project_id, created_by, spec, channels, created_at: now(), updated_at: now() }
}
