//! Followers: a replay from disk, then what is stored from then on.
//!
//! A follower joins its topic first and notes the last stored line second. Whatever was stored by then comes from disk, whatever comes
//! later is announced: nothing is missed and nothing comes twice. Announcements are shared and few are kept; a follower that has fallen
//! behind reads the missing part from disk.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use domain::log::LogLine;
use domain::log::filter::Filter;
use futures_core::Stream;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

use crate::scope::Topic;
use crate::{LogQuery, LogScope, Replay, Shared, TelemetryError, read};

/// How many announcements wait for a slow follower before it has to read from disk.
const KEPT: usize = 32;
/// How many lines one announcement holds at most.
const ANNOUNCED: usize = 128;
/// How much text one announcement holds, save for its last line.
const ANNOUNCED_BYTES: usize = 64 << 10;
/// How many lines a follower is handed at once, where more are at hand.
const HANDED: usize = 512;

/// A stored line with its place in the order of storing.
pub(crate) struct Stored {
    pub(crate) seq: i64,
    pub(crate) line: LogLine,
}

type Batch = Arc<Vec<Stored>>;

/// Who waits for which topic.
#[derive(Default)]
pub(crate) struct Hubs(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    hubs: HashMap<Topic, broadcast::Sender<Batch>>,
    closed: bool,
}

impl Hubs {
    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Announces lines that are on disk. Costs nothing when nobody follows.
    pub(crate) fn announce(&self, stored: Vec<Stored>) {
        let Waiting { hubs, .. } = &*self.lock();
        if hubs.is_empty() {
            return;
        }
        let mut rest = stored.into_iter().peekable();
        while let Some(first) = rest.next() {
            let source = first.line.source.clone();
            let mut bytes = first.line.message.len();
            let mut batch = vec![first];
            while let Some(next) = rest.next_if(|next| bytes < ANNOUNCED_BYTES && batch.len() < ANNOUNCED && next.line.source == source) {
                bytes += next.line.message.len();
                batch.push(next);
            }
            let batch = Arc::new(batch);
            for hub in Topic::of_source(&source).iter().filter_map(|topic| hubs.get(topic)) {
                // Fails only when the last follower is leaving right now.
                drop(hub.send(Arc::clone(&batch)));
            }
        }
    }

    /// Ends every follower, also those that have not begun.
    pub(crate) fn close(&self) {
        *self.lock() = Waiting { hubs: HashMap::new(), closed: true };
    }
}

/// A place among the followers of a topic; given back on drop.
struct Seat {
    shared: Arc<Shared>,
    topic: Topic,
    /// Taken on drop only.
    announcements: Option<broadcast::Receiver<Batch>>,
}

impl Seat {
    fn take(shared: &Arc<Shared>, topic: Topic) -> Self {
        let mut waiting = shared.hubs.lock();
        let announcements = if waiting.closed {
            broadcast::channel(1).1
        } else {
            waiting.hubs.entry(topic).or_insert_with(|| broadcast::channel(KEPT).0).subscribe()
        };
        drop(waiting);
        Self { shared: Arc::clone(shared), topic, announcements: Some(announcements) }
    }

    fn announcements(&mut self) -> &mut broadcast::Receiver<Batch> {
        self.announcements.as_mut().expect("announcements are taken only when the seat is dropped")
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let hubs = &mut self.shared.hubs.lock().hubs;
        drop(self.announcements.take());
        if hubs.get(&self.topic).is_some_and(|hub| hub.receiver_count() == 0) {
            hubs.remove(&self.topic);
        }
    }
}

/// What a follower heard.
struct Heard {
    lines: Vec<LogLine>,
    /// Announcements were dropped behind these lines; the disk has them.
    fell_behind: bool,
    /// There will be no more.
    ended: bool,
}

pub(crate) fn follow(
    shared: Arc<Shared>,
    scope: LogScope,
    filter: Filter,
    replay: Replay,
) -> impl Stream<Item = Vec<LogLine>> + Send + 'static {
    let filter = Arc::new(filter);
    async_stream::stream! {
        let mut seat = Seat::take(&shared, Topic::of(&scope));
        let mut cursor = shared.last_stored.load(Ordering::Acquire);
        match replayed(&shared, scope, &filter, replay, cursor).await {
            Ok(lines) => yield lines,
            Err(error) => {
                tracing::error!(%error, "old log lines could not be read for a follower");
                return;
            }
        }
        loop {
            let heard = hear(seat.announcements(), &filter, &mut cursor).await;
            if !heard.lines.is_empty() {
                yield heard.lines;
            }
            if heard.ended {
                return;
            }
            let upto = if heard.fell_behind { shared.last_stored.load(Ordering::Acquire) } else { cursor };
            while cursor < upto {
                match missed(&shared, scope, &filter, cursor, upto).await {
                    Ok((lines, next)) => {
                        cursor = next;
                        if !lines.is_empty() {
                            yield lines;
                        }
                    }
                    Err(error) => {
                        // Ending is honest: the client connects again, while a silent gap would stay.
                        tracing::error!(%error, "missed log lines could not be read for a follower");
                        return;
                    }
                }
            }
        }
    }
}

/// Waits for announcements and takes what is at hand. `cursor` follows the lines that were seen.
async fn hear(announcements: &mut broadcast::Receiver<Batch>, filter: &Filter, cursor: &mut i64) -> Heard {
    let mut heard = Heard { lines: vec![], fell_behind: false, ended: false };
    let mut next = match announcements.recv().await {
        Ok(batch) => Ok(batch),
        Err(RecvError::Lagged(missed)) => Err(TryRecvError::Lagged(missed)),
        Err(RecvError::Closed) => Err(TryRecvError::Closed),
    };
    loop {
        match next {
            Ok(batch) => {
                let fresh = batch.iter().filter(|stored| stored.seq > *cursor && filter.matches(&stored.line));
                heard.lines.extend(fresh.map(|stored| stored.line.clone()));
                *cursor = (*cursor).max(batch.last().map_or(0, |stored| stored.seq));
            }
            Err(TryRecvError::Empty) => return heard,
            Err(TryRecvError::Lagged(_)) => return Heard { fell_behind: true, ..heard },
            Err(TryRecvError::Closed) => return Heard { ended: true, ..heard },
        }
        if heard.lines.len() >= HANDED {
            return heard;
        }
        next = announcements.try_recv();
    }
}

async fn replayed(
    shared: &Arc<Shared>,
    scope: LogScope,
    filter: &Arc<Filter>,
    replay: Replay,
    last_seq: i64,
) -> Result<Vec<LogLine>, TelemetryError> {
    let Replay { limit, after, before } = replay;
    let query = LogQuery { scope, filter: Filter::clone(filter), after, before, limit, newest: true };
    let heavy = filter.reads_lines();
    let shared = Arc::clone(shared);
    // A replay that gave up is shorter than it could be; the follower is after what comes.
    let scan = move || read::scan(&shared, &query, last_seq, read::EXAMINE_LIMIT).map(|scan| scan.lines);
    if heavy { aside(scan).await } else { scan() }
}

async fn missed(
    shared: &Arc<Shared>,
    scope: LogScope,
    filter: &Arc<Filter>,
    cursor: i64,
    upto: i64,
) -> Result<(Vec<LogLine>, i64), TelemetryError> {
    let (shared, filter) = (Arc::clone(shared), Arc::clone(filter));
    aside(move || read::catch_up(&shared, Topic::of(&scope), &filter, cursor, upto)).await
}

/// Reading that may take long does not hold up the other tasks of its thread.
async fn aside<T: Send + 'static>(read: impl FnOnce() -> Result<T, TelemetryError> + Send + 'static) -> Result<T, TelemetryError> {
    tokio::task::spawn_blocking(read).await.unwrap_or(Err(TelemetryError::Stopped))
}
