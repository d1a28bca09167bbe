//! Counts that several control planes share, in Redis or Valkey.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use domain::Timestamp;
use domain::rate::{Limits, State, Subject};
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, RedisError, Script};

/// How long an answer is waited for, and a connection.
const PATIENCE: Duration = Duration::from_millis(250);
/// Milliseconds that a silent Redis is left alone: requests do not each wait for it.
const REST: i64 = 1_000;

/// One subject is one value of eight numbers: the present windows, and how often each was used. Read, decide and write are one script, which
/// Redis runs alone. What the caller knows of the counts stands in for what Redis has lost. The spans are those of `domain::rate::Span`.
static TAKE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local raw = redis.call('GET', KEYS[1])
local old = {}
if raw then old = {struct.unpack('>I4I4I4I4I4I4I4I4', raw)} end
local now = tonumber(ARGV[1])
local spans = {1, 60, 3600, 86400}
local index, used, refused, life = {}, {}, 0, 1
for i = 1, 4 do
    index[i] = math.floor(now / spans[i])
    used[i] = 0
    if raw and (old[i] == index[i] or old[i] == index[i] + 1) then
        index[i] = old[i]
        used[i] = old[4 + i]
    end
    used[i] = math.max(used[i], tonumber(ARGV[5 + i]))
    local limit = tonumber(ARGV[1 + i])
    if limit > 0 then
        life = spans[i]
        if used[i] >= limit then refused = 1 end
    end
end
if refused == 0 then
    for i = 1, 4 do used[i] = used[i] + 1 end
    local value = struct.pack('>I4I4I4I4I4I4I4I4', index[1], index[2], index[3], index[4], used[1], used[2], used[3], used[4])
    redis.call('SET', KEYS[1], value, 'EX', life + 1)
end
return {refused, used[1], used[2], used[3], used[4]}
",
    )
});

/// The address of Redis cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("this is no address of a Redis server: write redis://HOST:PORT/NUMBER, with :PASSWORD@ in front of the host when it needs one")]
pub struct BadAddress;

/// A connection to the shared counts. It is made with the first request, and again whenever it breaks.
pub struct Shared {
    connection: ConnectionManager,
    /// Until when it is left alone, in milliseconds since 1970.
    rests_until: AtomicI64,
    silent: AtomicBool,
}

impl Shared {
    /// For `redis://…`; whether anything answers there shows later. To be called inside of the async runtime.
    ///
    /// # Errors
    /// It is not such an address.
    pub fn open(address: &str) -> Result<Self, BadAddress> {
        Self::patient(address, PATIENCE)
    }

    /// The same with another patience than requests have: for how long an answer is waited for, and a connection.
    ///
    /// # Errors
    /// As for [`Shared::open`].
    pub fn patient(address: &str, patience: Duration) -> Result<Self, BadAddress> {
        // The library's error may repeat the address, which may hold a password.
        let client = Client::open(address).map_err(|_| BadAddress)?;
        let config = ConnectionManagerConfig::new()
            .set_number_of_retries(0)
            .set_response_timeout(Some(patience))
            .set_connection_timeout(Some(patience));
        let connection = ConnectionManager::new_lazy_with_config(client, config).map_err(|_| BadAddress)?;
        Ok(Self { connection, rests_until: AtomicI64::new(0), silent: AtomicBool::new(false) })
    }

    /// Whether a server answers at the address, waiting for it on this thread. For `orrery doctor`.
    ///
    /// # Errors
    /// What it says instead.
    pub fn probe(address: &str) -> Result<(), String> {
        let ask = || -> Result<(), RedisError> {
            let mut connection = Client::open(address)?.get_connection_with_timeout(Duration::from_secs(3))?;
            redis::cmd("PING").query(&mut connection)
        };
        Client::open(address).map_err(|_| BadAddress.to_string())?;
        ask().map_err(|error| error.to_string())
    }

    /// Counts a request, or refuses it. `None` when Redis does not answer.
    pub(super) async fn take(&self, subject: Subject, limits: &Limits, known: [u32; 4], now: Timestamp) -> Option<State> {
        let ms = now.as_millisecond();
        if ms < self.rests_until.load(Ordering::Relaxed) {
            return None;
        }
        match self.ask(subject, limits, known, now).await {
            Ok((refused, a, b, c, d)) => {
                if self.silent.swap(false, Ordering::Relaxed) {
                    tracing::info!("the shared rate limits answer again: requests are counted there");
                }
                Some(State::new(*limits, [a, b, c, d], now, refused == 1))
            }
            Err(error) => {
                self.rests_until.store(ms + REST, Ordering::Relaxed);
                if !self.silent.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, "the shared rate limits do not answer: until they do, the setting limits_fallback decides");
                }
                None
            }
        }
    }

    async fn ask(
        &self,
        subject: Subject,
        limits: &Limits,
        known: [u32; 4],
        now: Timestamp,
    ) -> Result<(u8, u32, u32, u32, u32), RedisError> {
        let mut invocation = TAKE.key(format!("orrery:limit:{}", subject.0.simple()));
        invocation.arg(now.as_second());
        for limit in limits.0 {
            invocation.arg(limit.unwrap_or_default());
        }
        for used in known {
            invocation.arg(used);
        }
        invocation.invoke_async(&mut self.connection.clone()).await
    }
}
