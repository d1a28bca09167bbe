//! Counts of requests: added up across control planes, kept by day.

use domain::ApiKeyId;
use domain::key::{ApiKey, KeyKind};
use domain::rate::{Day, DayUsage, Kept, Subject};
use store::{Change, KEEP_DAYS, UsageAdd};
use uuid::Uuid;

use crate::fixture::*;

const DAY: u32 = 20_717;

fn add(subject: Subject, hour: u32, minute: u32, count: u32) -> UsageAdd {
    let allowed = Kept { day: Day(DAY), in_day: count, hour, in_hour: count, minute, in_minute: count };
    UsageAdd { subject, allowed, refused: 1 }
}

both! {
    async fn counts_add_up(fixture: Fixture) {
        let (key, other) = (ApiKeyId::generate(), Subject(Uuid::now_v7()));
        let subject = Subject(key.0);
        let second = open(&fixture.url, KEY).await.unwrap();
        assert_eq!(fixture.store.usage_kept(subject, Day(DAY)).await.unwrap(), None);
        fixture.store.usage_add(&[add(subject, 5, 300, 3), add(other, 5, 300, 100)]).await.unwrap();
        let totals = second.usage_add(&[add(other, 5, 301, 1), add(subject, 5, 301, 4)]).await.unwrap();
        let expected = Kept { day: Day(DAY), in_day: 7, hour: 5, in_hour: 7, minute: 301, in_minute: 4 };
        assert_eq!(totals[1], expected);
        assert_eq!(totals[0].in_day, 101);
        // A control plane whose clock is behind does not take the others back to its hour.
        let late = fixture.store.usage_add(&[add(subject, 4, 299, 2)]).await.unwrap();
        assert_eq!(late, [Kept { in_day: 9, ..expected }]);
        assert_eq!(second.usage_kept(subject, Day(DAY)).await.unwrap(), Some(late[0]));
        assert_eq!(second.usage_kept(subject, Day(DAY + 1)).await.unwrap(), None);
        second.close().await;
    }

    async fn usage_is_listed_by_day_and_forgotten_after_a_year(fixture: Fixture) {
        let key = ApiKeyId::generate();
        let store = &fixture.store;
        let on = |day: u32, count: u32| {
            let allowed = Kept { day: Day(day), in_day: count, ..Kept::default() };
            UsageAdd { subject: Subject(key.0), allowed, refused: 2 }
        };
        store.usage_add(&[on(DAY, 1), on(DAY + 1, 2), on(DAY + 3, 4)]).await.unwrap();
        store.usage_add(&[add(Subject(Uuid::now_v7()), 0, 0, 50)]).await.unwrap();
        let day = |day: u32, allowed: u64| DayUsage { day: Day(day), allowed, refused: 2 };
        assert_eq!(store.api_key_usage(key, Day(DAY + 1), Day(DAY + 3)).await.unwrap(), [day(DAY + 1, 2), day(DAY + 3, 4)]);
        assert_eq!(store.usage_purge(Day(DAY + KEEP_DAYS)).await.unwrap(), 0);
        store.usage_purge(Day(DAY + KEEP_DAYS + 2)).await.unwrap();
        assert_eq!(store.api_key_usage(key, Day(0), Day(u32::MAX)).await.unwrap(), [day(DAY + 3, 4)]);
    }
    async fn the_keys_of_a_workspace_are_counted_together(fixture: Fixture) {
        let store = &fixture.store;
        let ((ada, ada_user), (eve, eve_user)) = (fixture.tenant("ada").await, fixture.tenant("eve").await);
        let mut subjects = vec![];
        for (tenant, user) in [(ada, ada_user.id), (ada, ada_user.id), (eve, eve_user.id)] {
            let key = ApiKey { workspace_id: Some(tenant.workspace()), ..api_key(KeyKind::Workspace, user) };
            subjects.push(Subject(key.id.0));
            store.commit(tenant, vec![Change::ApiKeyInsert { key, hash: hash() }]).await.unwrap();
        }
        let day = |allowed: u64, refused: u64| DayUsage { day: Day(DAY), allowed, refused };
        assert!(store.usage_of_workspaces(&[ada], Day(DAY)).await.unwrap().is_empty());
        let nobody = Subject(Uuid::now_v7());
        store.usage_add(&[add(subjects[0], 5, 300, 3), add(subjects[1], 5, 300, 4), add(subjects[2], 5, 300, 50), add(nobody, 5, 300, 9)]).await.unwrap();
        assert_eq!(store.usage_of_workspaces(&[ada], Day(DAY)).await.unwrap(), [(ada.workspace(), day(7, 2))]);
        let mut both = [(ada.workspace(), day(7, 2)), (eve.workspace(), day(50, 1))];
        both.sort_by_key(|(workspace, _)| *workspace);
        assert_eq!(store.usage_of_workspaces(&[ada, eve], Day(DAY)).await.unwrap(), both);
        assert!(store.usage_of_workspaces(&[ada], Day(DAY + 1)).await.unwrap().is_empty());
    }
}
