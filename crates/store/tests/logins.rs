//! Logins: what may be used once is used once, however many try.

use domain::account::{DeviceGrant, Invite, Session};
use domain::key::{ApiKey, KeyKind};
use domain::{Role, SessionId, Tenant, UserId};
use futures::future::join_all;
use store::{AccountChange, Change, OAuthCode, RefreshUse, Store, StoreError};
use uuid::Uuid;

use crate::fixture::*;

/// How many of thirty simultaneous attempts got something.
async fn race<T, F: Future<Output = Option<T>> + Send + 'static>(store: &Store, attempt: impl Fn(Store) -> F) -> usize
where
    T: Send + 'static,
{
    let tasks = (0..30).map(|_| tokio::spawn(attempt(store.clone())));
    join_all(tasks).await.into_iter().filter(|result| result.as_ref().unwrap().is_some()).count()
}

/// The tokens of a login's next step.
async fn tokens(store: &Store, user: UserId, family: Uuid) -> ([u8; 32], [u8; 32]) {
    let key = |kind, life| ApiKey { expires_at: Some(later(life)), ..api_key(kind, user) };
    let (access, refresh) = (hash(), hash());
    store.oauth_tokens_create(family, key(KeyKind::OAuthAccess, 3600), access, key(KeyKind::OAuthRefresh, 86_400), refresh).await.unwrap();
    (access, refresh)
}

async fn revoked(store: &Store, hash: [u8; 32]) -> bool {
    store.api_key_by_hash(hash).await.unwrap().unwrap().revoked_at.is_some()
}

both! {
    async fn links_codes_and_grants_are_used_once(fixture: Fixture) {
        let (tenant, user) = fixture.tenant("owner").await;
        let store = &fixture.store;
        let change = async |change| store.commit(tenant, vec![Change::Account(change)]).await;
        let (link, code, device) = (hash(), hash(), hash());
        store.login_link_create(link, user.id, later(60)).await.unwrap();
        let of_login = OAuthCode { user_id: user.id, redirect_uri: "http://127.0.0.1:1/callback".into(), challenge: "challenge".into() };
        change(AccountChange::CodeInsert { code: of_login, hash: code, expires_at: later(60) }).await.unwrap();
        store.device_create(device, "ABCD-EFGH", later(60)).await.unwrap();
        assert_eq!(store.device_exchange(device, now()).await.unwrap(), Some(DeviceGrant::Pending));
        change(AccountChange::DeviceApprove { user: user.id, user_code: "ABCD-EFGH".into(), at: now() }).await.unwrap();
        assert!(!store.device_deny("ABCD-EFGH", now()).await.unwrap(), "an answer was changed");
        assert_eq!(store.login_link_use(link, later(61)).await.unwrap(), None, "too late");
        assert_eq!(race(store, move |store| async move { store.login_link_use(link, now()).await.unwrap() }).await, 1);
        assert_eq!(race(store, move |store| async move { store.oauth_code_use(code, now()).await.unwrap() }).await, 1);
        let exchanged = race(store, move |store| async move {
            store.device_exchange(device, now()).await.unwrap().filter(|grant| matches!(grant, DeviceGrant::Approved(_)))
        });
        assert_eq!(exchanged.await, 1);
        assert_eq!(store.device_exchange(device, now()).await.unwrap(), None);
        assert_eq!(store.device_by_user_code("ABCD-EFGH", now()).await.unwrap(), None);
    }

    async fn a_device_login_ends_as_it_was_answered(fixture: Fixture) {
        let (tenant, user) = fixture.tenant("owner").await;
        let store = &fixture.store;
        let change = async |change| store.commit(tenant, vec![Change::Account(change)]).await;
        let (denied, late, code) = (hash(), hash(), hash());
        store.device_create(denied, "NO", later(60)).await.unwrap();
        store.device_create(late, "LATE", later(60)).await.unwrap();
        assert!(matches!(store.device_create(hash(), "NO", later(60)).await, Err(StoreError::Conflict { .. })));
        assert_eq!(store.device_by_user_code("NO", now()).await.unwrap(), Some(DeviceGrant::Pending));
        assert!(store.device_deny("NO", now()).await.unwrap());
        let yes = |user_code: &str, at| AccountChange::DeviceApprove { user: user.id, user_code: user_code.into(), at };
        assert!(matches!(change(yes("NO", now())).await, Err(StoreError::Stale)), "an answer was changed");
        assert_eq!(store.device_exchange(denied, now()).await.unwrap(), Some(DeviceGrant::Denied));
        assert!(matches!(change(yes("LATE", later(61))).await, Err(StoreError::Stale)));
        assert_eq!(store.device_exchange(late, later(61)).await.unwrap(), Some(DeviceGrant::Expired));
        let of_login = OAuthCode { user_id: user.id, redirect_uri: "u".into(), challenge: "c".into() };
        change(AccountChange::CodeInsert { code: of_login.clone(), hash: code, expires_at: later(60) }).await.unwrap();
        assert_eq!(store.oauth_code_use(code, now()).await.unwrap(), Some(of_login));
        // What is long over is cleared out by what begins later.
        store.device_create(hash(), "NEXT", later(60 + 3 * 86_400)).await.unwrap();
        assert_eq!(store.device_exchange(late, now()).await.unwrap(), None);
    }

    async fn a_lost_answer_does_not_end_the_login(fixture: Fixture) {
        let (_, user) = fixture.tenant("owner").await;
        let store = &fixture.store;
        let family = Uuid::now_v7();
        let fresh = RefreshUse::Fresh { user_id: user.id, family };
        let (_, refresh) = tokens(store, user.id, family).await;
        assert_eq!(store.oauth_refresh_use(refresh, now()).await.unwrap(), fresh);
        let (lost, next) = tokens(store, user.id, family).await;
        assert_eq!(store.oauth_refresh_use(refresh, later(29)).await.unwrap(), fresh, "the same token, asked again");
        let (access, another) = tokens(store, user.id, family).await;
        assert!(!revoked(store, lost).await && !revoked(store, access).await);
        assert_eq!(store.oauth_refresh_use(another, later(29)).await.unwrap(), fresh);
        assert_eq!(store.oauth_refresh_use(refresh, later(29)).await.unwrap(), RefreshUse::Reused, "somebody has gone on from there");
        assert!(revoked(store, access).await);
        assert_eq!(store.oauth_refresh_use(next, later(29)).await.unwrap(), RefreshUse::Unknown);
    }

    async fn a_refresh_token_used_twice_ends_the_login(fixture: Fixture) {
        let (_, user) = fixture.tenant("owner").await;
        let store = &fixture.store;
        let (family, bystander) = (Uuid::now_v7(), Uuid::now_v7());
        let (other_access, _) = tokens(store, user.id, bystander).await;
        let (first_access, first_refresh) = tokens(store, user.id, family).await;
        assert_eq!(store.oauth_refresh_use(first_refresh, now()).await.unwrap(), RefreshUse::Fresh { user_id: user.id, family });
        let (access, refresh) = tokens(store, user.id, family).await;
        assert!(!revoked(store, access).await && !revoked(store, first_access).await);
        assert_eq!(store.oauth_refresh_use(first_refresh, later(31)).await.unwrap(), RefreshUse::Reused);
        assert!(revoked(store, access).await && revoked(store, first_access).await);
        assert_eq!(store.oauth_refresh_use(refresh, later(32)).await.unwrap(), RefreshUse::Unknown);
        // Whoever was refreshing at that moment gets tokens that are dead already.
        let (late, _) = tokens(store, user.id, family).await;
        assert!(revoked(store, late).await);
        assert!(!revoked(store, other_access).await, "another login was ended");
        assert_eq!(store.oauth_refresh_use(hash(), now()).await.unwrap(), RefreshUse::Unknown);
    }

    async fn many_refreshes_at_once_leave_the_login_alone(fixture: Fixture) {
        let (_, user) = fixture.tenant("owner").await;
        let family = Uuid::now_v7();
        let (access, refresh) = tokens(&fixture.store, user.id, family).await;
        let fresh = race(&fixture.store, move |store| async move {
            Some(store.oauth_refresh_use(refresh, now()).await.unwrap()).filter(|used| matches!(used, RefreshUse::Fresh { .. }))
        });
        assert_eq!(fresh.await, 30);
        assert!(!revoked(&fixture.store, access).await);
        let expired = tokens(&fixture.store, user.id, Uuid::now_v7()).await.1;
        assert_eq!(fixture.store.oauth_refresh_use(expired, later(86_401)).await.unwrap(), RefreshUse::Unknown);
    }

    async fn logins_of_command_lines_are_listed_and_end(fixture: Fixture) {
        let (tenant, user) = fixture.tenant("owner").await;
        let (_, stranger) = fixture.tenant("stranger").await;
        let store = &fixture.store;
        let change = async |change| store.commit(tenant, vec![Change::Account(change)]).await;
        let (one, two, other) = (Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7());
        let (first, _) = tokens(store, user.id, one).await;
        let (second, _) = tokens(store, user.id, two).await;
        let (theirs, _) = tokens(store, stranger.id, other).await;
        let key = store.api_key_by_hash(first).await.unwrap().unwrap();
        store.api_key_touch(key.id, later(9), Some("10.0.0.7")).await.unwrap();
        let mut listed = store.client_logins(user.id, now()).await.unwrap();
        listed.sort_by_key(|login| login.id != SessionId(one));
        let seen: Vec<_> = listed.iter().map(|login| (login.id.0, login.used_at, login.address.as_deref())).collect();
        assert_eq!(seen, [(one, later(9), Some("10.0.0.7")), (two, now(), None)]);
        assert!(listed.iter().all(|login| login.created_at == now() && login.expires_at == later(86_400)));
        assert!(store.client_logins(user.id, later(86_401)).await.unwrap().is_empty());

        let end = |user| AccountChange::ClientLoginEnd { user, id: SessionId(one), at: later(10) };
        assert!(matches!(change(end(stranger.id)).await, Err(StoreError::Stale)), "somebody else's");
        change(end(user.id)).await.unwrap();
        assert!(matches!(change(end(user.id)).await, Err(StoreError::Stale)), "it has ended");
        assert!(revoked(store, first).await && !revoked(store, second).await);

        let (device, code) = (hash(), hash());
        store.device_create(device, "ABCD-EFGH", later(60)).await.unwrap();
        change(AccountChange::DeviceApprove { user: user.id, user_code: "ABCD-EFGH".into(), at: now() }).await.unwrap();
        let of_login = OAuthCode { user_id: user.id, redirect_uri: "u".into(), challenge: "c".into() };
        change(AccountChange::CodeInsert { code: of_login, hash: code, expires_at: later(60) }).await.unwrap();
        let stays = SessionId::generate();
        change(AccountChange::PasswordSet { user: user.id, hash: "$argon2".into(), stays, at: later(11) }).await.unwrap();
        assert!(revoked(store, second).await && store.client_logins(user.id, now()).await.unwrap().is_empty());
        assert_eq!(store.device_exchange(device, now()).await.unwrap(), None, "an approved login was fetched afterwards");
        assert_eq!(store.oauth_code_use(code, now()).await.unwrap(), None);
        assert!(!revoked(store, theirs).await, "another person's login was ended");
    }

    async fn spent_refresh_tokens_go_when_they_are_long_over(fixture: Fixture) {
        let (_, user) = fixture.tenant("owner").await;
        let store = &fixture.store;
        let family = Uuid::now_v7();
        let (_, old) = tokens(store, user.id, family).await;
        let next = hash();
        // The login goes on for as long as it is refreshed.
        for (day, refresh) in [(0, hash()), (4, next)] {
            let times = (later(day * 86_400), Some(later((day + 10) * 86_400)));
            let key = |kind| ApiKey { created_at: times.0, expires_at: times.1, ..api_key(kind, user.id) };
            store.oauth_tokens_create(family, key(KeyKind::OAuthAccess), hash(), key(KeyKind::OAuthRefresh), refresh).await.unwrap();
        }
        assert!(store.api_key_by_hash(old).await.unwrap().is_none(), "a token that is three days over is still kept");
        assert!(store.api_key_by_hash(next).await.unwrap().is_some());
    }

    async fn codes_and_the_logins_that_wait_for_them_are_used_once(fixture: Fixture) {
        let (tenant, user) = fixture.tenant("owner").await;
        let (_, other) = fixture.tenant("other").await;
        let store = &fixture.store;
        let change = async |change| store.commit(tenant, vec![Change::Account(change)]).await;
        assert!(store.second_factor_propose(user.id, b"abandoned", now()).await.unwrap());
        assert!(store.second_factor_propose(user.id, b"a secret", later(1)).await.unwrap());
        assert!(!store.second_factor_step(user.id, 9).await.unwrap(), "a code of what is only proposed");
        let codes = [hash(), hash()];
        let verify = |proposed| {
            let (user, hashes) = (user.id, codes.to_vec());
            AccountChange::SecondFactorVerify { user, proposed, step: 10, hashes, at: later(2) }
        };
        let abandoned = change(verify(now())).await;
        assert!(matches!(abandoned, Err(StoreError::Stale)) && !store.has_recovery_codes(user.id).await.unwrap());
        change(verify(later(1))).await.unwrap();
        assert!(!store.second_factor_propose(user.id, b"another", later(3)).await.unwrap(), "a verified one was replaced");
        let factor = store.second_factor(user.id).await.unwrap().unwrap();
        assert_eq!((&factor.secret[..], factor.verified_at), (&b"a secret"[..], Some(later(2))));
        assert!(store.second_factor_propose(other.id, b"only proposed", later(3)).await.unwrap());
        assert_eq!(store.system_second_factors().await.unwrap(), [user.id]);
        let places = store.system_memberships().await.unwrap();
        let names: Vec<_> = places.iter().map(|(id, place)| (*id, place.workspace.username.as_str())).collect();
        assert_eq!(names, [(user.id, "owner"), (other.id, "other")]);

        let id = user.id;
        let stepped = race(store, move |store| async move { store.second_factor_step(id, 11).await.unwrap().then_some(()) });
        assert_eq!(stepped.await, 1);
        assert!(!store.second_factor_step(id, 10).await.unwrap(), "older than one that was used");
        assert!(!store.recovery_code_use(other.id, codes[0]).await.unwrap(), "somebody else's");
        let recovered = race(store, move |store| async move { store.recovery_code_use(id, codes[0]).await.unwrap().then_some(()) });
        assert_eq!(recovered.await, 1);
        assert!(store.has_recovery_codes(id).await.unwrap());

        let (waiting, another) = (hash(), hash());
        store.pending_login_create(waiting, id, now(), later(60)).await.unwrap();
        store.pending_login_create(another, id, now(), later(60)).await.unwrap();
        assert_eq!(store.pending_login(waiting, later(61)).await.unwrap(), None);
        assert_eq!(store.pending_login(waiting, now()).await.unwrap(), Some(id));
        let entered = race(store, move |store| async move { store.pending_login_use(waiting, now()).await.unwrap().then_some(()) });
        assert_eq!(entered.await, 1);

        let fresh = hash();
        change(AccountChange::RecoveryCodesSet { user: id, hashes: vec![fresh] }).await.unwrap();
        assert!(!store.recovery_code_use(id, codes[1]).await.unwrap(), "an earlier code works on");
        assert!(store.recovery_code_use(id, fresh).await.unwrap());
        change(AccountChange::RecoveryCodesSet { user: id, hashes: vec![hash()] }).await.unwrap();

        let end = AccountChange::SecondFactorDelete { user: id };
        change(end.clone()).await.unwrap();
        assert!(matches!(change(end).await, Err(StoreError::Stale)), "there was one no more");
        assert!(store.second_factor(id).await.unwrap().is_none() && !store.has_recovery_codes(id).await.unwrap());
        assert_eq!(store.pending_login(another, now()).await.unwrap(), None);
    }

    async fn keys_and_sessions_end(fixture: Fixture) {
        let (tenant, user) = fixture.tenant("owner").await;
        let (_, stranger) = fixture.tenant("stranger").await;
        let store = &fixture.store;
        assert!(!store.is_empty().await.unwrap());
        let (secret, cookie) = (hash(), hash());
        let key = api_key(KeyKind::Account, user.id);
        store.api_key_create(key.clone(), secret).await.unwrap();
        assert_eq!(store.api_key_by_hash(secret).await.unwrap(), Some(key.clone()));
        store.api_key_touch(key.id, later(1), Some("10.0.0.1")).await.unwrap();
        let revoke = async |at| store.commit(tenant, vec![Change::ApiKeyRevoke { id: key.id, at }]).await;
        revoke(later(2)).await.unwrap();
        assert!(matches!(revoke(later(3)).await, Err(StoreError::Stale)), "revoked once");
        let found = store.api_keys_of_user(user.id, &[KeyKind::Account, KeyKind::Galaxy]).await.unwrap().remove(0);
        assert_eq!((found.last_used_at, found.revoked_at), (Some(later(1)), Some(later(2))));
        assert!(store.api_keys_of_user(user.id, &[KeyKind::Galaxy]).await.unwrap().is_empty());
        let session = Session {
            id: SessionId::generate(),
            user_id: user.id,
            created_at: now(),
            expires_at: later(60),
            address: Some("10.0.0.1".into()),
            agent: Some("Mozilla/5.0 (X11; Linux x86_64)".into()),
        };
        let change = async |change| store.commit(tenant, vec![Change::Account(change)]).await;
        change(AccountChange::SessionInsert { session: session.clone(), hash: cookie }).await.unwrap();
        assert_eq!(store.session_by_hash(cookie, now()).await.unwrap(), Some(session.clone()));
        assert_eq!(store.session_by_hash(cookie, later(60)).await.unwrap(), None);
        store.session_confirm(stranger.id, session.id, later(3)).await.unwrap();
        assert_eq!(store.session_confirmed_at(user.id, session.id).await.unwrap(), None);
        store.session_confirm(user.id, session.id, later(4)).await.unwrap();
        assert_eq!(store.session_confirmed_at(user.id, session.id).await.unwrap(), Some(later(4)));
        let ends = |user| AccountChange::SessionDelete { user, id: session.id };
        assert!(matches!(change(ends(stranger.id)).await, Err(StoreError::Stale)));
        change(ends(user.id)).await.unwrap();
        assert!(store.sessions(user.id).await.unwrap().is_empty());
        let password = |user| AccountChange::PasswordSet { user, hash: "$argon2".into(), stays: session.id, at: now() };
        change(password(user.id)).await.unwrap();
        assert_eq!(store.user_password_hash(user.id).await.unwrap().as_deref(), Some("$argon2"));
        assert!(matches!(change(password(UserId::generate())).await, Err(StoreError::Stale)));
    }

    async fn invitations_and_keys_end_with_whoever_made_them(fixture: Fixture) {
        let (tenant, owner) = fixture.tenant("owner").await;
        let (elsewhere, gone) = fixture.tenant("gone").await;
        let store = &fixture.store;
        let invite = |tenant: Tenant, made_by, hash| {
            let invite = Invite { workspace_id: tenant.workspace(), made_by, role: Role::Admin, expires_at: later(60) };
            Change::InviteInsert { invite, hash, at: now() }
        };
        let [stays, ends, other] = [hash(), hash(), hash()];
        store.commit(tenant, vec![Change::MemberSet { user: gone.id, role: Role::Admin }]).await.unwrap();
        store.commit(tenant, vec![invite(tenant, owner.id, stays), invite(tenant, gone.id, ends)]).await.unwrap();
        store.commit(elsewhere, vec![invite(elsewhere, gone.id, other)]).await.unwrap();
        assert_eq!(store.invites_made_by(tenant, gone.id, now()).await.unwrap().len(), 1);
        assert!(store.invite_by_hash(ends, now()).await.unwrap().is_some());
        store.commit(tenant, vec![Change::MemberSet { user: gone.id, role: Role::Member }]).await.unwrap();
        let worthless = store.invite_by_hash(ends, now()).await.unwrap().is_none();
        assert!(worthless, "it was made in the moment in which its maker lost the right to");
        store.commit(tenant, vec![Change::MemberSet { user: gone.id, role: Role::Admin }]).await.unwrap();
        let mut keys = vec![];
        let made = [
            (KeyKind::Workspace, tenant, gone.id),
            (KeyKind::Flow, tenant, gone.id),
            (KeyKind::Workspace, tenant, owner.id),
            (KeyKind::Workspace, elsewhere, gone.id),
        ];
        for (kind, place, user) in made {
            let secret = hash();
            let key = ApiKey { workspace_id: Some(place.workspace()), ..api_key(kind, user) };
            store.api_key_create(key, secret).await.unwrap();
            keys.push(secret);
        }
        let revoke = AccountChange::KeysRevoke { user: gone.id, kinds: vec![KeyKind::Workspace, KeyKind::Galaxy], at: now() };
        let changes = vec![Change::Account(AccountChange::InvitesDelete { user: gone.id }), Change::Account(revoke)];
        store.commit(tenant, changes).await.unwrap();
        let mut open = vec![];
        for link in [stays, ends, other] {
            open.push(store.invite_by_hash(link, now()).await.unwrap().is_some());
        }
        assert_eq!(open, [true, false, true]);
        let mut ended = vec![];
        for key in keys {
            ended.push(revoked(store, key).await);
        }
        assert_eq!(ended, [true, false, false, false]);
    }
}
