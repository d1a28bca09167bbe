//! Keys: as many of a kind as there may be, however many are made at once; and requests that are sent again.

use domain::key::{ApiKey, KeyKind};
use domain::{ApiKeyId, Role, Tenant, UserId};
use futures::future::join_all;
use store::{AccountChange, Begun, Change, Constraint, KeptAnswer, Store, StoreError};
use uuid::Uuid;

use crate::fixture::*;

async fn insert(store: &Store, tenant: Tenant, user: UserId, kind: KeyKind, label: &str) -> Result<ApiKeyId, StoreError> {
    let key = ApiKey { workspace_id: Some(tenant.workspace()), label: label.to_owned(), ..api_key(kind, user) };
    store.commit(tenant, vec![Change::ApiKeyInsert { key: key.clone(), hash: hash() }]).await.map(|_| key.id)
}

fn living(keys: &[ApiKey], kind: KeyKind) -> usize {
    keys.iter().filter(|key| key.kind == kind && key.revoked_at.is_none()).count()
}

both! {
    async fn an_account_has_ten_flow_keys_at_the_most(fixture: Fixture) {
        let (tenant, user) = fixture.tenant("owner").await;
        let made = (0..30).map(|n| {
            let store = fixture.store.clone();
            tokio::spawn(async move {
                // Two that take the same place tell each other; whoever loses looks again.
                loop {
                    match insert(&store, tenant, user.id, KeyKind::Flow, &format!("key {n}")).await {
                        Err(StoreError::Conflict { constraint: Constraint::KeyPlace }) => {}
                        other => return other,
                    }
                }
            })
        });
        let made: Vec<_> = join_all(made).await.into_iter().map(Result::unwrap).collect();
        assert_eq!(made.iter().filter(|one| one.is_ok()).count(), 10);
        assert!(made.iter().all(|one| matches!(one, Ok(_) | Err(StoreError::Stale))), "{made:?}");
        let id = *made.iter().flatten().next().unwrap();
        fixture.store.commit(tenant, vec![Change::ApiKeyRevoke { id, at: now() }]).await.unwrap();
        insert(&fixture.store, tenant, user.id, KeyKind::Flow, "in its place").await.unwrap();
        let (other, stranger) = fixture.tenant("other").await;
        insert(&fixture.store, other, stranger.id, KeyKind::Flow, "key 1").await.unwrap();
        assert_eq!(living(&fixture.store.api_keys_of_workspaces(&[tenant]).await.unwrap(), KeyKind::Flow), 10);
    }

    async fn a_key_gives_no_more_than_its_maker_has(fixture: Fixture) {
        let (tenant, _) = fixture.tenant("owner").await;
        let (_, maker) = fixture.tenant("maker").await;
        let store = &fixture.store;
        let makes = async |label: &str| {
            let mut made = vec![];
            for kind in [KeyKind::Workspace, KeyKind::Flow] {
                made.push(match insert(store, tenant, maker.id, kind, label).await {
                    Ok(_) => true,
                    Err(StoreError::Stale) => false,
                    Err(other) => panic!("{kind:?} {label}: {other}"),
                });
            }
            made
        };
        assert_eq!(makes("a stranger's").await, [false, false]);
        for (role, made) in [(Role::Admin, [true, true]), (Role::Member, [false, true]), (Role::Deployer, [false, false])] {
            store.commit(tenant, vec![Change::MemberSet { user: maker.id, role }]).await.unwrap();
            assert_eq!(makes(role.as_str()).await, made, "{role:?}");
        }
        store.commit(tenant, vec![Change::MemberRemove { user: maker.id }]).await.unwrap();
        assert_eq!(makes("too late").await, [false, false]);
    }

    async fn a_key_that_is_made_while_its_maker_goes_ends_with_them(fixture: Fixture) {
        let (tenant, _) = fixture.tenant("owner").await;
        let (_, maker) = fixture.tenant("maker").await;
        let (store, user) = (&fixture.store, maker.id);
        for n in 0..20 {
            store.commit(tenant, vec![Change::MemberSet { user, role: Role::Admin }]).await.unwrap();
            let revoke = AccountChange::KeysRevoke { user, kinds: KeyKind::ALL.to_vec(), at: now() };
            let goes = vec![Change::MemberRemove { user }, Change::Account(revoke)];
            let label = format!("key {n}");
            let (made, gone) = tokio::join!(insert(store, tenant, user, KeyKind::Workspace, &label), store.commit(tenant, goes));
            gone.unwrap();
            assert!(matches!(made, Ok(_) | Err(StoreError::Stale)), "{made:?}");
        }
        assert_eq!(living(&store.api_keys_of_workspaces(&[tenant]).await.unwrap(), KeyKind::Workspace), 0);
    }

    async fn labels_and_galaxy_keys_are_unique_while_they_live(fixture: Fixture) {
        let (tenant, user) = fixture.tenant("owner").await;
        let store = &fixture.store;
        for (kind, rule) in [(KeyKind::Flow, Constraint::KeyLabel), (KeyKind::Galaxy, Constraint::GalaxyKey)] {
            let first = insert(store, tenant, user.id, kind, "CI").await.unwrap();
            let second = insert(store, tenant, user.id, kind, "CI").await;
            assert!(matches!(second, Err(StoreError::Conflict { constraint }) if constraint == rule), "{second:?}");
            store.commit(tenant, vec![Change::ApiKeyRevoke { id: first, at: now() }]).await.unwrap();
            insert(store, tenant, user.id, kind, "CI").await.unwrap();
        }
        let other = insert(store, tenant, user.id, KeyKind::Flow, "other").await.unwrap();
        let key = store.api_key(other).await.unwrap().unwrap();
        let renamed = store.commit(tenant, vec![Change::ApiKeyUpdate(ApiKey { label: "CI".into(), ..key })]).await;
        assert!(matches!(renamed, Err(StoreError::Conflict { constraint: Constraint::KeyLabel })), "{renamed:?}");
        for _ in 0..2 {
            insert(store, tenant, user.id, KeyKind::Workspace, "CI").await.unwrap();
        }
    }

    async fn an_address_is_new_once(fixture: Fixture) {
        let (tenant, user) = fixture.tenant("owner").await;
        let store = &fixture.store;
        let key = insert(store, tenant, user.id, KeyKind::Flow, "CI").await.unwrap();
        assert!(store.api_key_address(key, "10.0.0.1", now()).await.unwrap());
        assert!(!store.api_key_address(key, "10.0.0.1", later(60)).await.unwrap());
        for n in 0..150 {
            assert!(store.api_key_address(key, &format!("10.1.0.{n}"), later(100 + n)).await.unwrap());
        }
        assert!(store.api_key_address(key, "10.0.0.1", later(300)).await.unwrap(), "the oldest are forgotten");
        assert!(!store.api_key_address(key, "10.1.0.149", later(300)).await.unwrap());
    }

    async fn a_workspace_keeps_an_owner(fixture: Fixture) {
        let (tenant, first) = fixture.tenant("first").await;
        let (_, second) = fixture.tenant("second").await;
        let change = async |change| fixture.store.commit(tenant, vec![change]).await;
        let remove = |user| Change::MemberRemove { user };
        let set = |user, role| Change::MemberSet { user, role };
        for last in [remove(first.id), set(first.id, Role::Admin)] {
            assert!(matches!(change(last).await, Err(StoreError::Stale)));
        }
        change(set(first.id, Role::Owner)).await.unwrap();
        change(set(second.id, Role::Viewer)).await.unwrap();
        change(set(second.id, Role::Owner)).await.unwrap();
        // Each removes the other.
        let race = [first.id, second.id].map(|user| {
            let store = fixture.store.clone();
            tokio::spawn(async move { store.commit(tenant, vec![Change::MemberRemove { user }]).await.is_ok() })
        });
        let gone = join_all(race).await.into_iter().filter(|gone| *gone.as_ref().unwrap()).count();
        assert_eq!((gone, fixture.store.members(tenant).await.unwrap().len()), (1, 1));
    }

    async fn a_repeated_request_gets_the_first_answer(fixture: Fixture) {
        let store = &fixture.store;
        let (owner, stranger, what) = (Uuid::now_v7(), Uuid::now_v7(), hash());
        let Begun::First(mark) = store.idempotency_begin(owner, "a", what, now()).await.unwrap() else { panic!() };
        assert_eq!(store.idempotency_begin(owner, "a", what, later(1)).await.unwrap(), Begun::Running);
        assert_eq!(store.idempotency_begin(owner, "a", hash(), later(1)).await.unwrap(), Begun::Other);
        assert!(matches!(store.idempotency_begin(stranger, "a", what, now()).await.unwrap(), Begun::First(_)));
        let answer = KeptAnswer { status: 201, content_type: Some("application/json".into()), body: b"canary-3c1d".to_vec() };
        store.idempotency_finish(owner, "a", mark, &answer).await.unwrap();
        let again = async |seconds| store.idempotency_begin(owner, "a", what, later(seconds)).await.unwrap();
        assert_eq!(again(86_400).await, Begun::Answered(answer.clone()));
        store.idempotency_abandon(owner, "a", mark).await.unwrap();
        assert_eq!(again(86_400).await, Begun::Answered(answer), "an answer is not taken back");
        assert_eq!(store.idempotency_begin(owner, "a", hash(), later(1)).await.unwrap(), Begun::Other);
        assert!(matches!(again(26 * 3_600).await, Begun::First(_)), "and is not kept for ever");
    }

    async fn a_request_that_was_not_executed_or_lost_begins_anew(fixture: Fixture) {
        let store = &fixture.store;
        let (owner, what) = (Uuid::now_v7(), hash());
        let Begun::First(mark) = store.idempotency_begin(owner, "a", what, now()).await.unwrap() else { panic!() };
        store.idempotency_abandon(owner, "a", mark).await.unwrap();
        let Begun::First(lost) = store.idempotency_begin(owner, "a", hash(), now()).await.unwrap() else { panic!() };
        let Begun::First(mark) = store.idempotency_begin(owner, "a", what, later(300)).await.unwrap() else { panic!() };
        let answer = |status| KeptAnswer { status, content_type: None, body: vec![] };
        store.idempotency_finish(owner, "a", mark, &answer(200)).await.unwrap();
        store.idempotency_finish(owner, "a", lost, &answer(500)).await.unwrap();
        assert_eq!(store.idempotency_begin(owner, "a", what, later(301)).await.unwrap(), Begun::Answered(answer(200)));
        let races = (0..20).map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.idempotency_begin(owner, "b", what, now()).await.unwrap() })
        });
        let first = join_all(races).await.into_iter().filter(|begun| matches!(begun, Ok(Begun::First(_)))).count();
        assert_eq!(first, 1);
    }
}
