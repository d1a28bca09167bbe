//! How often one address may try something. In memory, bounded, and never one queue for everybody.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use domain::network::visitor;
use domain::rate::{self, State};
use domain::{Code, Timestamp};
use ops::Error;

use super::Arrival;

/// So many keys a window remembers: about 2 MB when full.
const KEYS: usize = 20_000;

/// The window's length in seconds.
const SECONDS: i64 = 600;

/// Failures from everywhere after which an account gets one try per address and window.
const SIEGE: u32 = 60;

/// Requests without a credential, and with one that does not work, of one address in a window.
const STRANGER: u32 = 6_000;
const FAILED: u32 = 1_000;

/// An address as far as one visitor controls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Source(IpAddr);

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        Self(visitor(address))
    }
}

#[derive(Clone, Copy)]
struct Slot {
    start: Timestamp,
    used: u32,
}

/// Counts per key in fixed windows.
struct Window<K> {
    slots: Mutex<HashMap<K, Slot>>,
}

impl<K> Default for Window<K> {
    fn default() -> Self {
        Self { slots: Mutex::default() }
    }
}

impl<K: Hash + Eq + Clone> Window<K> {
    /// Takes one of `limit`; how many seconds to wait when none is left.
    fn take(&self, key: K, limit: u32, now: Timestamp) -> Result<(), i64> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= KEYS && !slots.contains_key(&key) {
            make_room(&mut slots, now);
        }
        let slot = slots.entry(key).or_insert(Slot { start: now, used: 0 });
        if age(slot, now) >= SECONDS {
            *slot = Slot { start: now, used: 0 };
        }
        if slot.used >= limit {
            return Err((SECONDS - age(slot, now)).max(1));
        }
        slot.used += 1;
        Ok(())
    }

    /// As [`Window::take`], with how the key stands afterwards.
    fn count(&self, key: K, name: &'static str, limit: u32, now: Timestamp) -> State {
        let refused = self.take(key.clone(), limit, now).is_err();
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = slots.get(&key).copied().unwrap_or(Slot { start: now, used: limit });
        let ends = slot.start.as_millisecond() + SECONDS * 1000;
        let seconds = u32::try_from(SECONDS).unwrap_or(u32::MAX);
        State::of(rate::Window { name, seconds, limit, used: slot.used, ends }, now, refused)
    }

    /// Takes back what [`Window::take`] counted.
    fn give_back(&self, key: &K) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.get_mut(key) {
            slot.used = slot.used.saturating_sub(1);
        }
    }

    fn used(&self, key: &K, now: Timestamp) -> u32 {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.get(key).filter(|slot| age(slot, now) < SECONDS).map_or(0, |slot| slot.used)
    }
}

fn age(slot: &Slot, now: Timestamp) -> i64 {
    now.duration_since(slot.start).as_secs()
}

/// Forgets what is over, and the older half when that is not enough.
fn make_room<K: Hash + Eq + Clone>(slots: &mut HashMap<K, Slot>, now: Timestamp) {
    slots.retain(|_, slot| age(slot, now) < SECONDS);
    if slots.len() < KEYS / 2 {
        return;
    }
    let mut starts: Vec<Timestamp> = slots.values().map(|slot| slot.start).collect();
    let middle = starts.len() / 2;
    let (_, median, _) = starts.select_nth_unstable(middle);
    let median = *median;
    slots.retain(|_, slot| slot.start > median);
}

/// The limits of doors that strangers can knock at.
#[derive(Default)]
pub(crate) struct Limits {
    device_starts: Window<Source>,
    user_codes: Window<Source>,
    exchanges: Window<Source>,
    logins: Window<Source>,
    logins_of: Window<(Source, u64)>,
    failures_of: Window<u64>,
    strangers: Window<Source>,
    credentials: Window<Source>,
    hasher: RandomState,
}

fn wait(seconds: i64) -> Error {
    Error::new(Code::RateLimited, format!("Too many attempts: try again in {seconds} seconds"))
}

impl Limits {
    /// A request of an API without a credential; `free` when it is not to be refused.
    pub(crate) fn stranger(&self, arrival: &Arrival, free: bool) -> State {
        let mut state = self.strangers.count(arrival.address.into(), "anonymous", STRANGER, arrival.now);
        state.refused &= !free;
        state
    }

    /// A credential that does not work.
    pub(crate) fn failed_credential(&self, arrival: &Arrival) -> State {
        self.credentials.count(arrival.address.into(), "failed-authentication", FAILED, arrival.now)
    }

    /// A device login begins.
    pub(crate) fn device_start(&self, address: IpAddr, now: Timestamp) -> Result<(), Error> {
        self.device_starts.take(address.into(), 60, now).map_err(wait)
    }

    /// Somebody types a user code. Counted as a failure until [`Limits::code_was_right`].
    pub(crate) fn user_code(&self, address: IpAddr, now: Timestamp) -> Result<(), Error> {
        self.user_codes.take(address.into(), 40, now).map_err(wait)
    }

    /// The code that was counted last exists.
    pub(crate) fn code_was_right(&self, address: IpAddr) {
        self.user_codes.give_back(&address.into());
    }

    /// A client asks for tokens; a device login polls every two seconds.
    pub(crate) fn exchange(&self, address: IpAddr, now: Timestamp) -> Result<(), Error> {
        self.exchanges.take(address.into(), 3000, now).map_err(wait)
    }

    /// A login link is used. Counted as a failure until [`Limits::link_was_right`].
    pub(crate) fn link(&self, address: IpAddr, now: Timestamp) -> Result<(), Error> {
        self.logins.take(address.into(), 30, now).map_err(wait)
    }

    /// The link that was counted last worked.
    pub(crate) fn link_was_right(&self, address: IpAddr) {
        self.logins.give_back(&address.into());
    }

    /// A password is tried. Counted as a failure until [`LoginAttempt::succeeded`].
    ///
    /// An account under attack from many addresses is not closed: every address keeps one try per window, so its owner's right
    /// password works at once while a guesser gets no further than one guess per address.
    pub(crate) fn login(&self, address: IpAddr, email: &str, now: Timestamp) -> Result<LoginAttempt<'_>, Error> {
        let (source, account) = (Source::from(address), self.account(email));
        let tries = if self.failures_of.used(&account, now) >= SIEGE { 1 } else { 8 };
        self.logins.take(source, 30, now).map_err(wait)?;
        self.logins_of.take((source, account), tries, now).map_err(wait)?;
        // Only a count: it refuses nobody by itself.
        let _ = self.failures_of.take(account, u32::MAX, now);
        Ok(LoginAttempt { limits: self, source, account })
    }

    /// The code that followed a right password was right, too: the password's attempt is not held against anyone.
    pub(crate) fn login_was_right(&self, address: IpAddr, email: &str) {
        LoginAttempt { limits: self, source: Source::from(address), account: self.account(email) }.succeeded();
    }

    fn account(&self, email: &str) -> u64 {
        self.hasher.hash_one(email.trim().to_ascii_lowercase())
    }
}

/// A try that has been counted.
pub(crate) struct LoginAttempt<'a> {
    limits: &'a Limits,
    source: Source,
    account: u64,
}

impl LoginAttempt<'_> {
    /// The password was right: nothing is held against anyone.
    pub(crate) fn succeeded(self) {
        self.limits.logins.give_back(&self.source);
        self.limits.logins_of.give_back(&(self.source, self.account));
        self.limits.failures_of.give_back(&self.account);
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    fn address(n: u32) -> IpAddr {
        IpAddr::V4(n.into())
    }

    #[test]
    fn a_stranger_cannot_lock_an_account_out() {
        let limits = Limits::default();
        let now = Timestamp::UNIX_EPOCH;
        for n in 0..500 {
            for _ in 0..20 {
                drop(limits.login(address(n), "ada@example.com", now));
            }
        }
        let guesses = |n| (0..20).filter(|_| limits.login(address(n), "ada@example.com", now).is_ok()).count();
        assert_eq!(guesses(9_999), 1, "a guesser gets one guess from each further address");
        limits.login(address(8_888), "ada@example.com", now).expect("the owner comes from anywhere").succeeded();
        limits.login(address(8_888), "ada@example.com", now).expect("a right password is not counted");
        assert!(limits.login(address(3), "bob@example.com", now).is_ok(), "other accounts are not touched");
        let later = now + SignedDuration::from_secs(SECONDS);
        assert_eq!((0..20).filter(|_| limits.login(address(3), "ada@example.com", later).is_ok()).count(), 8);
    }

    #[test]
    fn a_login_that_needed_a_code_is_counted_until_the_code_was_right() {
        let limits = Limits::default();
        let now = Timestamp::UNIX_EPOCH;
        for _ in 0..100 {
            limits.login(address(1), "ada@example.com", now).expect("whoever has codes comes in as often as they like");
            limits.login_was_right(address(1), "Ada@example.com");
        }
        let waiting = (0..20).filter(|_| limits.login(address(1), "ada@example.com", now).is_ok()).count();
        assert_eq!(waiting, 8, "whoever has the password alone leaves few logins that wait");
    }

    #[test]
    fn a_flood_of_addresses_takes_bounded_memory() {
        let window = Window::<u32>::default();
        for n in 0..100_000 {
            let at = Timestamp::UNIX_EPOCH + SignedDuration::from_millis(i64::from(n));
            assert!(window.take(n, 1, at).is_ok());
        }
        assert!(window.slots.lock().unwrap().len() <= KEYS);
    }

    #[test]
    fn neighbours_in_one_network_count_as_one() {
        let limits = Limits::default();
        let at = |n: u64| IpAddr::V6(std::net::Ipv6Addr::from_bits((0x2001_0db8_u128 << 96) | u128::from(n)));
        let allowed = (0..100).filter(|n| limits.user_code(at(*n), Timestamp::UNIX_EPOCH).is_ok()).count();
        assert_eq!(allowed, 40);
    }
}
