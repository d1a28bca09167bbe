//! How often keys may ask: exactly so often, whoever counts, and also after a restart.

#[path = "../../store/tests/postgres/mod.rs"]
#[allow(dead_code, reason = "these tests need one server and its databases")]
mod postgres;
mod redis;

use std::sync::Arc;
use std::time::Duration;

use domain::account::{Plan, User, Workspace};
use domain::key::{ApiKey, KeyKind, KeyLimits};
use domain::rate::{Day, DayUsage, State};
use domain::{ApiKeyId, Code, Grants, SessionId, Timestamp, UserId, WorkspaceId};
use jiff::SignedDuration;
use ops::limit::{Fallback, LimitRules, Limiter, Shared};
use ops::{KeyPrincipal, Principal, UserPrincipal, Via};
use store::{MasterKey, Store, StoreConfig};

use crate::postgres::Postgres;
use crate::redis::Redis;

async fn open(url: &str) -> Store {
    Store::open(StoreConfig { url: url.to_owned(), master_key: MasterKey::from_bytes([7; 32]) }).await.unwrap()
}

async fn sqlite() -> (Store, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    (open(&format!("sqlite://{}", dir.path().join("orrery.db").display())).await, dir)
}

/// Ten seconds into a day.
fn morning() -> Timestamp {
    Timestamp::from_second(20_717 * 86_400 + 10).unwrap()
}

fn after(seconds: i64) -> Timestamp {
    morning() + SignedDuration::from_secs(seconds)
}

fn account(plan: Plan) -> Workspace {
    let (created_at, updated_at) = (morning(), morning());
    Workspace { id: WorkspaceId::generate(), name: "a".into(), username: "a".into(), personal_of: None, plan, created_at, updated_at }
}

fn key(kind: KeyKind, limits: KeyLimits) -> Principal {
    let workspace = account(Plan::Professional);
    let (key, ..) = ops::new_key(kind, UserId::generate(), "test".into(), morning());
    let key = ApiKey { workspace_id: Some(workspace.id), limits, ..key };
    Principal::Key(Arc::new(KeyPrincipal { key, workspace, grants: Grants(vec![]) }))
}

fn id(principal: &Principal) -> ApiKeyId {
    match principal {
        Principal::Key(key) => key.key.id,
        _ => panic!("no key of its own"),
    }
}

/// A person who came in by one of their keys, or with a session.
fn person(id: UserId, via: Via, limits: KeyLimits) -> Principal {
    let user = User { id, email: "a@example.com".into(), name: "A".into(), operator: false, created_at: morning() };
    Principal::User(Arc::new(UserPrincipal { user, memberships: vec![], grants: Grants(vec![]), via, limits, run: None }))
}

fn per_minute(count: u32) -> KeyLimits {
    KeyLimits { minute: Some(count), ..KeyLimits::OF_PLAN }
}

async fn take(limiter: &Limiter, store: &Store, who: &Principal, now: Timestamp) -> State {
    limiter.take(store, who, now).await.unwrap().expect("keys have limits")
}

/// How many of so many requests at once are let through.
async fn at_once(limiters: &[Arc<Limiter>], store: &Store, who: &Principal, count: usize, now: Timestamp) -> usize {
    let tasks: Vec<_> = (0..count)
        .map(|n| {
            let (limiter, store, who) = (limiters[n % limiters.len()].clone(), store.clone(), who.clone());
            tokio::spawn(async move { !take(&limiter, &store, &who, now).await.refused })
        })
        .collect();
    let mut passed = 0;
    for task in tasks {
        passed += usize::from(task.await.unwrap());
    }
    passed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_hundred_at_once_sixty_pass() {
    let (store, _dir) = sqlite().await;
    let limiter = [Arc::new(Limiter::default())];
    let who = key(KeyKind::Flow, KeyLimits::FLOW);
    assert_eq!(at_once(&limiter, &store, &who, 200, morning()).await, 60);
    assert_eq!(at_once(&limiter, &store, &who, 200, after(60)).await, 60, "the refused ones have cost nothing");
    assert_eq!(
        at_once(&limiter, &store, &key(KeyKind::Flow, KeyLimits::FLOW), 200, after(60)).await,
        60,
        "another key has limits of its own"
    );
    let state = limiter[0].look(&store, &who, after(60)).await.unwrap().unwrap();
    let windows: Vec<_> = state.windows().map(|window| (window.name, window.used, window.remaining())).collect();
    assert_eq!(windows, [("minute", 60, 0), ("day", 120, 880)]);
}

#[tokio::test]
async fn a_key_has_the_limits_of_its_plan_unless_it_has_its_own() {
    let (store, _dir) = sqlite().await;
    let limiter = Limiter::default();
    let windows = async |who: &Principal| {
        let state = limiter.look(&store, who, morning()).await.unwrap().unwrap();
        state.windows().map(|window| format!("{}/{}", window.limit, window.name)).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(windows(&key(KeyKind::Workspace, KeyLimits::OF_PLAN)).await, "50/second 10000/hour");
    assert_eq!(windows(&key(KeyKind::Workspace, per_minute(5))).await, "50/second 5/minute 10000/hour");
    assert_eq!(windows(&key(KeyKind::Galaxy, KeyLimits::OF_PLAN)).await, "50/second 10000/hour");
    assert_eq!(windows(&key(KeyKind::Flow, KeyLimits::FLOW)).await, "60/minute 1000/day", "its owner's limits and no others");
    let account = Via::Key(ApiKeyId::generate(), KeyKind::Account);
    assert_eq!(windows(&person(UserId::generate(), account, KeyLimits::OF_PLAN)).await, "1000/day", "no workspace is the plan Free");
    let mut operator = person(UserId::generate(), account, KeyLimits::OF_PLAN);
    if let Principal::User(person) = &mut operator {
        Arc::get_mut(person).unwrap().user.operator = true;
    }
    assert_eq!(windows(&operator).await, "500/second 100000/hour", "one's own server");
    assert!(limiter.take(&store, &Principal::Anonymous, morning()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_session_eats_no_limit_and_a_new_token_gives_none() {
    let (store, _dir) = sqlite().await;
    let rules = LimitRules { free: "3/day".parse().unwrap(), ..LimitRules::default() };
    let limiter = Limiter::new(rules);
    let who = UserId::generate();
    let token = || person(who, Via::Key(ApiKeyId::generate(), KeyKind::OAuthAccess), KeyLimits::OF_PLAN);
    let browser = person(who, Via::Session(SessionId::generate()), KeyLimits::OF_PLAN);
    for _ in 0..100 {
        assert!(!take(&limiter, &store, &browser, morning()).await.refused);
    }
    for round in 0..5 {
        assert_eq!(take(&limiter, &store, &token(), morning()).await.refused, round >= 3, "tokens of one person's logins count together");
    }
    let own = person(who, Via::Key(ApiKeyId::generate(), KeyKind::Account), KeyLimits::OF_PLAN);
    assert!(!take(&limiter, &store, &own, morning()).await.refused);
}

#[tokio::test]
async fn a_restart_gives_nothing_back() {
    let (store, _dir) = sqlite().await;
    let who = key(KeyKind::Flow, KeyLimits { minute: Some(10), hour: Some(100), day: Some(1_000), second: None });
    let first = Limiter::default();
    for _ in 0..12 {
        take(&first, &store, &who, morning()).await;
    }
    first.keep(&store, morning()).await.unwrap();
    first.keep(&store, morning()).await.unwrap();
    let second = Limiter::default();
    assert!(take(&second, &store, &who, after(1)).await.refused, "in the same minute");
    let state = take(&second, &store, &who, after(60)).await;
    let used: Vec<_> = state.windows().map(|window| (window.name, window.used)).collect();
    assert_eq!(used, [("minute", 1), ("hour", 11), ("day", 11)]);
    second.keep(&store, after(60)).await.unwrap();
    let today = Day::of(morning());
    assert_eq!(store.api_key_usage(id(&who), today, today).await.unwrap(), [DayUsage { day: today, allowed: 11, refused: 3 }]);
}

#[tokio::test]
async fn what_was_counted_before_midnight_belongs_there() {
    let (store, _dir) = sqlite().await;
    let limiter = Limiter::default();
    let who = key(KeyKind::Flow, per_minute(100));
    let tomorrow = after(86_400 - 10);
    for (count, now) in [(3, tomorrow - SignedDuration::from_millis(1)), (2, tomorrow)] {
        for _ in 0..count {
            take(&limiter, &store, &who, now).await;
        }
    }
    limiter.keep(&store, tomorrow).await.unwrap();
    let (first, last) = (Day::of(morning()), Day::of(tomorrow));
    let days = store.api_key_usage(id(&who), first, last).await.unwrap();
    assert_eq!(days, [DayUsage { day: first, allowed: 3, refused: 0 }, DayUsage { day: last, allowed: 2, refused: 0 }]);
}

#[tokio::test]
async fn counts_wait_for_a_store_that_fails() {
    let (store, dir) = sqlite().await;
    let limiter = Limiter::default();
    let who = key(KeyKind::Flow, per_minute(100));
    for _ in 0..7 {
        take(&limiter, &store, &who, morning()).await;
    }
    store.clone().close().await;
    assert!(limiter.keep(&store, morning()).await.is_err());
    assert!(!take(&limiter, &store, &who, morning()).await.refused, "what is in memory goes on");
    let store = open(&format!("sqlite://{}", dir.path().join("orrery.db").display())).await;
    limiter.keep(&store, morning()).await.unwrap();
    let today = Day::of(morning());
    assert_eq!(store.api_key_usage(id(&who), today, today).await.unwrap()[0].allowed, 8);
}

#[tokio::test]
async fn idle_keys_leave_memory_and_keep_their_counts() {
    let (store, _dir) = sqlite().await;
    let limiter = Limiter::default();
    let who = key(KeyKind::Flow, KeyLimits { day: Some(5), ..KeyLimits::OF_PLAN });
    for _ in 0..4 {
        take(&limiter, &store, &who, morning()).await;
    }
    assert_eq!(limiter.remembered(), 1);
    for _ in 0..64 {
        limiter.keep(&store, after(600)).await.unwrap();
    }
    assert_eq!(limiter.remembered(), 0);
    assert!(!take(&limiter, &store, &who, after(600)).await.refused);
    assert!(take(&limiter, &store, &who, after(600)).await.refused);
}

#[tokio::test]
async fn control_planes_on_one_postgresql_learn_of_each_other() {
    let server = Postgres::shared();
    let url = server.database().await;
    let (first, second) = (open(&url).await, open(&url).await);
    let (here, there) = (Limiter::default(), Limiter::default());
    let who = key(KeyKind::Flow, KeyLimits { day: Some(100), ..KeyLimits::OF_PLAN });
    for _ in 0..10 {
        assert!(!take(&there, &second, &who, morning()).await.refused);
    }
    there.keep(&second, morning()).await.unwrap();
    for _ in 0..40 {
        assert!(!take(&here, &first, &who, morning()).await.refused);
    }
    here.keep(&first, morning()).await.unwrap();
    take(&there, &second, &who, morning()).await;
    there.keep(&second, morning()).await.unwrap();
    let state = take(&there, &second, &who, morning()).await;
    assert_eq!(state.tightest().unwrap().used, 52, "ten and one here, forty there, and this one");
    first.close().await;
    second.close().await;
}

/// Patient: on a busy machine an answer may take longer than a request waits for it, and whoever gives up counts by itself.
async fn shared(redis: &Redis, fallback: Fallback) -> Arc<Limiter> {
    let shared = Shared::patient(&redis.address(), Duration::from_secs(60)).unwrap();
    Arc::new(Limiter::with_shared(LimitRules::default(), shared, fallback))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn control_planes_on_one_redis_let_sixty_pass_together() {
    let (store, _dir) = sqlite().await;
    let redis = Redis::start();
    let both = [shared(&redis, Fallback::Local).await, shared(&redis, Fallback::Local).await];
    let who = key(KeyKind::Flow, KeyLimits::FLOW);
    assert_eq!(at_once(&both, &store, &who, 200, morning()).await, 60);
    assert_eq!(at_once(&both, &store, &who, 200, after(60)).await, 60);
    let state = take(&both[1], &store, &who, after(60)).await;
    assert!(state.refused);
    let used: Vec<_> = state.windows().map(|window| (window.name, window.used)).collect();
    assert_eq!(used, [("minute", 60), ("day", 120)]);
    assert_eq!(at_once(&both, &store, &key(KeyKind::Flow, per_minute(3)), 9, morning()).await, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_silent_redis_is_what_the_operator_wants_it_to_be() {
    let (store, _dir) = sqlite().await;
    let mut redis = Redis::start();
    let (local, strict) = (shared(&redis, Fallback::Local).await, shared(&redis, Fallback::Refuse).await);
    let who = key(KeyKind::Flow, per_minute(10));
    for _ in 0..6 {
        assert!(!take(&local, &store, &who, morning()).await.refused);
    }
    assert!(Shared::probe(&redis.address()).is_ok());
    redis.kill();
    assert!(Shared::probe(&redis.address()).is_err());
    assert_eq!(at_once(std::slice::from_ref(&local), &store, &who, 20, after(1)).await, 4, "it goes on from what it has seen");
    let refused = strict.take(&store, &who, after(1)).await.unwrap_err();
    assert_eq!(refused.code, Code::Unavailable);

    // A Redis that has forgotten everything gives nothing back.
    redis.start_again();
    let mut seconds = 2;
    while strict.take(&store, &key(KeyKind::Flow, per_minute(10)), after(seconds)).await.is_err() {
        seconds += 2;
        assert!(seconds < 40, "Redis is back and is not found");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(take(&local, &store, &who, after(seconds)).await.refused);
}

#[tokio::test]
async fn an_address_of_redis_is_checked_and_never_repeated() {
    for bad in ["", "memory", "http://:canary@host", "redis://:canary@host:notaport"] {
        let error = Shared::open(bad).err().unwrap_or_else(|| panic!("{bad}")).to_string();
        assert!(!error.contains("canary") && error.contains("redis://"), "{error}");
    }
}
