//! The limiter alone, for the benchmarks.
//!
//! `limiter memory KEYS`: prints the bytes of resident memory for each key that has asked. `limiter redis://ADDRESS SECONDS`: prints the
//! decisions a second of 64 callers about 1,000 keys.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use domain::account::{Plan, Workspace};
use domain::key::{ApiKey, KeyKind};
use domain::{Grants, Timestamp, UserId, WorkspaceId};
use ops::auth::{Presented, Surface, authenticate};
use ops::limit::{Fallback, LimitRules, Limiter, Shared};
use ops::{KeyPrincipal, Ops, Principal, Settings, first_run};
use store::{MasterKey, Store, StoreConfig};
use telemetry::{Telemetry, TelemetryConfig};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let [place, amount] = &std::env::args().skip(1).collect::<Vec<_>>()[..] else { panic!("limiter memory KEYS | redis://… SECONDS") };
    let amount: usize = amount.parse().expect("a number");
    let folder = tempfile::tempdir().expect("a folder");
    let url = format!("sqlite://{}", folder.path().join("orrery.db").display());
    let store = Store::open(StoreConfig { url, master_key: MasterKey::from_bytes([7; 32]) }).await.expect("the store opens");
    let figure = match place.as_str() {
        "memory" => memory(store, folder.path(), amount).await,
        redis => decisions(store, redis, Duration::from_secs(amount as u64)).await,
    };
    writeln!(std::io::stdout(), "{figure}").expect("somebody reads it");
}

fn key() -> Principal {
    let now = Timestamp::now();
    let workspace = Workspace {
        id: WorkspaceId::generate(),
        name: "a".into(),
        username: "a".into(),
        personal_of: None,
        plan: Plan::Professional,
        created_at: now,
        updated_at: now,
    };
    let (key, ..) = ops::new_key(KeyKind::Workspace, UserId::generate(), String::new(), now);
    let key = ApiKey { workspace_id: Some(workspace.id), ..key };
    Principal::Key(Arc::new(KeyPrincipal { key, workspace, grants: Grants(vec![]) }))
}

fn rules() -> LimitRules {
    let plenty = "1000000000/second,1000000000/hour".parse().expect("limits");
    LimitRules { professional: plenty, operator: plenty, ..LimitRules::default() }
}

/// Keys of accounts, each recognised and counted once: what the limiter and what authentication remember of them.
async fn memory(store: Store, folder: &Path, keys: usize) -> usize {
    let now = Timestamp::now();
    let telemetry = TelemetryConfig { dir: folder.join("telemetry"), retain_days: 1, retain_bytes: 1 << 20 };
    let mut ops = Ops::new(store, Telemetry::open(telemetry).expect("the logs open"), Settings::local(folder));
    ops.limits = Limiter::new(rules());
    let ops = Arc::new(ops);
    let user = first_run::user_create(&ops.store, "bench@localhost", "Bench", true, None, now).await.expect("a user").id;
    let mut secrets = vec![];
    for first in (0..keys).step_by(1000) {
        let mut made = tokio::task::JoinSet::new();
        for at in first..keys.min(first + 1000) {
            let ops = ops.clone();
            made.spawn(async move { first_run::account_token(&ops.store, user, &format!("key {at}"), now).await });
        }
        secrets.extend(made.join_all().await.into_iter().map(|made| made.expect("a key").1));
    }
    let before = resident();
    for secret in &secrets {
        let presented = Presented::Bearer(secret.clone());
        let principal = authenticate(&ops, Surface::Railway, presented, now, Some("127.0.0.1")).await.expect("the key is known");
        ops.limits.take(&ops.store, &principal, now).await.expect("a decision");
    }
    assert_eq!(ops.limits.remembered(), keys);
    resident().saturating_sub(before) / keys
}

/// Bytes of this process that are in memory.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").expect("a Linux machine");
    text.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).expect("a count of pages") * 4096
}

async fn decisions(store: Store, address: &str, long: Duration) -> usize {
    let limiter = Arc::new(Limiter::with_shared(rules(), Shared::open(address).expect("an address"), Fallback::Refuse));
    let keys: Arc<Vec<Principal>> = Arc::new((0..1000).map(|_| key()).collect());
    let (store, next, begun) = (Arc::new(store), Arc::new(AtomicUsize::new(0)), Instant::now());
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let (limiter, keys, store, next) = (limiter.clone(), keys.clone(), store.clone(), next.clone());
        callers.spawn(async move {
            while begun.elapsed() < long {
                let at = next.fetch_add(1, Ordering::Relaxed) % keys.len();
                limiter.take(&store, &keys[at], Timestamp::now()).await.expect("a decision");
            }
        });
    }
    callers.join_all().await;
    next.load(Ordering::Relaxed) / long.as_secs() as usize
}
