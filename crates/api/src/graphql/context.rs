//! The circumstances of one execution: who asks, what has been loaded already, and how a resolver waits.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context as TaskContext, Poll, Waker};

use domain::rate::State;
use futures::Stream;
use ops::{OpCtx, Principal};

use super::Fault;
use super::lock;
use crate::galaxy;
use crate::railway::{Event, Loader};

/// The events of a subscription: each is executed against the subscription's selection by itself.
pub(crate) type Events = Pin<Box<dyn Stream<Item = Event> + Send>>;

/// The largest number of rows that one request may read.
const MAX_ROWS: u64 = 100_000;

/// What resolvers see.
pub struct Ctx {
    /// Who asks, when and from where.
    pub op: OpCtx,
    pub(crate) loader: Loader,
    pub(crate) galaxy: galaxy::Loader,
    /// What the operation was charged, and how whoever asks stands after that; `None` when nothing limits them.
    pub(crate) budget: Option<(u64, State)>,
    /// The document has lists of the shape of 2022, which have no pages.
    pub(crate) plain_lists: bool,
    rows: AtomicU64,
    stage: Mutex<Stage>,
}

/// Where a subscription stands during an execution; plain queries stay [`Stage::Plain`].
enum Stage {
    Plain,
    /// The resolver is to open the stream of events.
    Opening,
    /// It did.
    Opened(Events),
    /// The resolver is to answer with this event.
    Answering(Option<Event>),
}

impl juniper::Context for Ctx {}

impl Ctx {
    fn new(op: OpCtx) -> Self {
        Self {
            op,
            loader: Loader::default(),
            galaxy: galaxy::Loader::default(),
            budget: None,
            plain_lists: false,
            rows: AtomicU64::new(0),
            stage: Mutex::new(Stage::Plain),
        }
    }

    /// For a query or a mutation that was charged this.
    pub(crate) fn charged(op: OpCtx, cost: u64, budget: Option<State>) -> Self {
        Self { budget: budget.map(|state| (cost, state)), ..Self::new(op) }
    }

    /// For a document that has, or has not, lists without pages.
    pub(crate) fn with_plain_lists(self, plain_lists: bool) -> Self {
        Self { plain_lists, ..self }
    }

    /// For finding out what a subscription listens to.
    pub(crate) fn opening(op: OpCtx) -> Self {
        Self { stage: Mutex::new(Stage::Opening), ..Self::new(op) }
    }

    /// For one event of a subscription.
    pub(crate) fn answering(op: OpCtx, event: Event) -> Self {
        Self { stage: Mutex::new(Stage::Answering(Some(event))), ..Self::new(op) }
    }

    /// The stream that [`Ctx::event`] opened.
    pub(crate) fn opened(self) -> Option<Events> {
        match self.stage.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
            Stage::Opened(events) => Some(events),
            _ => None,
        }
    }

    /// The one resolver body of subscription fields: opens the stream in the first execution and hands out the event in the later ones.
    pub(crate) fn event<F>(&self, open: impl FnOnce() -> F) -> Result<Event, Fault>
    where
        F: Future<Output = Result<Events, ops::Error>>,
    {
        let opening = match &mut *lock(&self.stage) {
            Stage::Answering(event) => event.take().map(Ok),
            Stage::Opening => Some(Err(())),
            Stage::Plain | Stage::Opened(_) => None,
        };
        match opening {
            Some(Ok(event)) => Ok(event),
            Some(Err(())) => {
                let events = self.wait(open())?;
                *lock(&self.stage) = Stage::Opened(events);
                Err(Fault::bad_input("subscribed"))
            }
            None => Err(Fault::bad_input("a subscription has exactly one root field, once")),
        }
    }

    /// Runs a verb to its end. Reads of the embedded database are over at the first poll; everything else blocks, which is why the
    /// engine runs such executions on a thread for blocking work.
    pub(crate) fn wait<T>(&self, work: impl Future<Output = Result<T, ops::Error>>) -> Result<T, Fault> {
        let mut work = pin!(work);
        let first = work.as_mut().poll(&mut TaskContext::from_waker(Waker::noop()));
        let result = match first {
            Poll::Ready(result) => result,
            Poll::Pending => block(work),
        };
        result.map_err(|error| {
            error.log(&self.op.request_id);
            Fault(error)
        })
    }

    /// The same for a read of the store.
    pub(crate) fn read<T>(&self, work: impl Future<Output = Result<T, store::StoreError>>) -> Result<T, Fault> {
        self.wait(async { work.await.map_err(ops::Error::from) })
    }

    /// Counts rows that were read for this request.
    pub(crate) fn charge(&self, rows: usize) -> Result<(), Fault> {
        let before = self.rows.fetch_add(rows as u64, Ordering::Relaxed);
        if before + rows as u64 > MAX_ROWS {
            return Err(Fault::too_complex(format!("The operation reads more than {MAX_ROWS} rows: ask for smaller pages")));
        }
        Ok(())
    }

    /// Refuses anonymous requests.
    pub(crate) fn signed_in(&self) -> Result<(), Fault> {
        if matches!(self.op.principal, Principal::Anonymous) { Err(Fault(super::unauthenticated())) } else { Ok(()) }
    }
}

/// Waits on a thread that may block.
fn block<F: Future>(work: Pin<&mut F>) -> F::Output {
    use tokio::runtime::{Handle, RuntimeFlavor};
    match Handle::try_current() {
        // On a worker of the runtime this hands its other tasks to another thread first; on a blocking thread it costs nothing.
        Ok(handle) if handle.runtime_flavor() == RuntimeFlavor::MultiThread => tokio::task::block_in_place(|| handle.block_on(work)),
        // What is waited for is done by the store's own threads.
        _ => futures::executor::block_on(work),
    }
}
