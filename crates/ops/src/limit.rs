//! How often a key may ask: counted here for every surface, in memory, or in Redis when several control planes share the counts.
//!
//! The counts of a day, an hour and a minute survive a restart. [`Limiter::keep`] adds what is new to the store, again and again, and
//! learns there what other control planes have counted; a key that is not in memory begins with what the store knows of it.

mod meters;
mod shared;

use domain::account::Plan;
use domain::key::{KeyKind, KeyLimits};
use domain::rate::{Day, Limits, State, Subject};
use domain::{Code, Timestamp};
use store::{Store, StoreError, UsageAdd};

use crate::{Error, Principal, UserPrincipal, Via};
use meters::Meters;
pub use shared::{BadAddress, Shared};

/// Subjects whose counts are written in one transaction.
const GROUP: usize = 500;

/// What each plan allows, and a signed-in browser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitRules {
    /// Plan Free.
    pub free: Limits,
    /// Plan Hobby.
    pub hobby: Limits,
    /// Plan Professional.
    pub professional: Limits,
    /// Keys that act for an operator's account, whatever its plan: a script of the command-line client must not stop at one's own server.
    pub operator: Limits,
    /// A session: it is not a key, and what it does costs none of its person's keys anything.
    pub session: Limits,
    /// What the GraphQL operations of one credential may cost in a minute, in fields that they resolve. `None` is no limit.
    pub cost: Option<u32>,
}

/// Several times what a command-line client asks that is started again as soon as it ends.
const OPERATOR: Limits = Limits([Some(500), None, Some(100_000), None]);

/// About ten seconds of one core's work.
const COST: u32 = 20_000_000;

impl Default for LimitRules {
    fn default() -> Self {
        Self {
            free: Limits::of_plan(Plan::Free),
            hobby: Limits::of_plan(Plan::Hobby),
            professional: Limits::of_plan(Plan::Professional),
            operator: OPERATOR,
            session: Limits([Some(200), None, None, None]),
            cost: Some(COST),
        }
    }
}

/// What happens while Redis does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// This control plane counts by itself: with several of them a key may get a multiple of its limit meanwhile.
    Local,
    /// Requests with a key are refused.
    Refuse,
}

/// Counts requests and refuses those beyond a limit.
pub struct Limiter {
    rules: LimitRules,
    meters: Meters,
    shared: Option<(Shared, Fallback)>,
}

/// Who is counted for a request, and how.
#[derive(Clone, Copy, Debug)]
struct Counted {
    subject: Subject,
    limits: Limits,
    /// Counts that are kept and shared: those of keys.
    lasting: bool,
}

impl Default for Limiter {
    fn default() -> Self {
        Self::new(LimitRules::default())
    }
}

impl Limiter {
    /// Counts in this process.
    #[must_use]
    pub fn new(rules: LimitRules) -> Self {
        Self { rules, meters: Meters::default(), shared: None }
    }

    /// Counts in Redis.
    #[must_use]
    pub fn with_shared(rules: LimitRules, shared: Shared, fallback: Fallback) -> Self {
        Self { shared: Some((shared, fallback)), ..Self::new(rules) }
    }

    /// Counts a request of the principal, unless it is refused: then [`State::refused`] is set and nothing has been counted. `None` for
    /// nobody, who is limited by address elsewhere.
    ///
    /// # Errors
    /// The store does not answer, or Redis does not and the operator wants no fallback.
    pub async fn take(&self, store: &Store, principal: &Principal, now: Timestamp) -> Result<Option<State>, Error> {
        let Some(counted) = self.counted(principal) else { return Ok(None) };
        let Some((shared, fallback)) = self.shared.as_ref().filter(|_| counted.lasting && counted.limits != Limits::NONE) else {
            // Mostly the subject is known, and nothing has to be waited for.
            if let Some(state) = self.meters.take(&counted, now) {
                return Ok(Some(state));
            }
            return Box::pin(self.take_here(store, &counted, now)).await.map(Some);
        };
        Box::pin(self.take_shared(shared, *fallback, store, &counted, now)).await
    }

    async fn take_shared(
        &self,
        shared: &Shared,
        fallback: Fallback,
        store: &Store,
        counted: &Counted,
        now: Timestamp,
    ) -> Result<Option<State>, Error> {
        let known = self.used(store, counted, now).await?;
        match (shared.take(counted.subject, &counted.limits, known, now).await, fallback) {
            (Some(state), _) => {
                self.meters.note(counted, &state, now);
                Ok(Some(state))
            }
            (None, Fallback::Local) => self.take_here(store, counted, now).await.map(Some),
            (None, Fallback::Refuse) => {
                Err(Error::new(Code::Unavailable, "Requests cannot be counted at present, so none is accepted: try again in a moment"))
            }
        }
    }

    async fn take_here(&self, store: &Store, counted: &Counted, now: Timestamp) -> Result<State, Error> {
        loop {
            if let Some(state) = self.meters.take(counted, now) {
                return Ok(state);
            }
            self.begin(store, counted, now).await?;
        }
    }

    async fn used(&self, store: &Store, counted: &Counted, now: Timestamp) -> Result<[u32; 4], Error> {
        loop {
            if let Some(used) = self.meters.used(counted.subject, now) {
                return Ok(used);
            }
            self.begin(store, counted, now).await?;
        }
    }

    /// Charges the principal what an operation may cost at the most, unless that goes beyond what its minute allows. Each control plane
    /// counts by itself: it is its own work that is limited. `None` when there is no limit, and for nobody.
    pub fn charge(&self, principal: &Principal, cost: u64, now: Timestamp) -> Option<State> {
        let (counted, limit) = self.counted(principal).zip(self.rules.cost)?;
        let cost = u32::try_from(cost).unwrap_or(u32::MAX);
        self.meters.budget(counted.subject, |budget| budget.charge(cost, limit, now))
    }

    /// Gives back what an operation was charged at a moment and has not used.
    pub fn refund(&self, principal: &Principal, cost: u64, charged: Timestamp) {
        let Some(counted) = self.counted(principal).filter(|_| cost > 0 && self.rules.cost.is_some()) else { return };
        let cost = u32::try_from(cost).unwrap_or(u32::MAX);
        // A subject that was forgotten meanwhile owes nothing.
        let _ = self.meters.budget(counted.subject, |budget| budget.refund(cost, charged));
    }

    /// How the principal stands, without counting anything. `None` for nobody.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn look(&self, store: &Store, principal: &Principal, now: Timestamp) -> Result<Option<State>, Error> {
        let Some(counted) = self.counted(principal) else { return Ok(None) };
        Ok(Some(State::new(counted.limits, self.used(store, &counted, now).await?, now, false)))
    }

    /// Writes what has been counted since the last time, learns what others have counted, and forgets who has not asked for a while.
    ///
    /// # Errors
    /// The store does not answer; the counts are written the next time.
    pub async fn keep(&self, store: &Store, now: Timestamp) -> Result<(), StoreError> {
        let news = self.meters.news();
        let mut written = Ok(());
        for group in news.chunks(GROUP) {
            written = if written.is_ok() { self.write(store, group).await } else { written };
            if written.is_err() {
                self.meters.give_back(group);
            }
        }
        written?;
        self.meters.forget_idle(now);
        if self.meters.is_new_day(now) {
            store.usage_purge(Day::of(now)).await?;
        }
        Ok(())
    }

    /// Subjects whose counts are in memory at present.
    #[must_use]
    pub fn remembered(&self) -> usize {
        self.meters.len()
    }

    async fn write(&self, store: &Store, group: &[UsageAdd]) -> Result<(), StoreError> {
        let totals = store.usage_add(group).await?;
        for (add, total) in group.iter().zip(totals) {
            self.meters.learn(add.subject, &total);
        }
        Ok(())
    }

    /// Takes the subject into memory, with what the store knows of it.
    async fn begin(&self, store: &Store, counted: &Counted, now: Timestamp) -> Result<(), Error> {
        let kept = if counted.lasting { store.usage_kept(counted.subject, Day::of(now)).await? } else { None };
        self.meters.begin(counted.subject, &kept.unwrap_or_default(), now);
        Ok(())
    }

    fn counted(&self, principal: &Principal) -> Option<Counted> {
        let lasting = |subject, limits| Some(Counted { subject: Subject(subject), limits, lasting: true });
        match principal {
            Principal::Anonymous | Principal::System(_) => None,
            Principal::User(person) => match person.via {
                Via::Session(id) => Some(Counted { subject: Subject(id.0), limits: self.rules.session, lasting: false }),
                Via::Absent | Via::Server => None,
                // A login has a new token every hour: they count together.
                Via::Key(_, KeyKind::OAuthAccess | KeyKind::OAuthRefresh) => lasting(person.user.id.0, self.of_account(person)),
                Via::Key(id, _) => lasting(id.0, self.of_account(person).with(own(person.limits))),
            },
            Principal::Key(key) => {
                // GalaxyAI's keys have the limits that their owner sets, and no others (`contracts/flow.md` 2.1).
                let plan = if key.key.kind == KeyKind::Flow { Limits::NONE } else { self.of_plan(key.workspace.plan) };
                lasting(key.key.id.0, plan.with(own(key.key.limits)))
            }
        }
    }

    fn of_account(&self, person: &UserPrincipal) -> Limits {
        if person.user.operator {
            return self.rules.operator;
        }
        self.of_plan(person.home().map_or(Plan::Free, |home| home.plan))
    }

    /// What a plan allows on this server.
    pub(crate) fn of_plan(&self, plan: Plan) -> Limits {
        match plan {
            Plan::Free => self.rules.free,
            Plan::Hobby => self.rules.hobby,
            Plan::Professional => self.rules.professional,
        }
    }
}

/// What whoever went beyond a limit is told.
#[must_use]
pub fn refusal(state: &State) -> Error {
    let Some(window) = state.tightest() else { return Error::new(Code::RateLimited, "Rate limit exceeded: try again later") };
    let wait = state.wait(window);
    let plural = if wait == 1 { "" } else { "s" };
    let text = format!(
        "Rate limit exceeded: {} requests in {} seconds are used up; try again in {wait} second{plural}",
        window.limit, window.seconds
    );
    Error::new(Code::RateLimited, text)
}

fn own(limits: KeyLimits) -> Limits {
    Limits([limits.second, limits.minute, limits.hour, limits.day])
}
