//! A thread that takes requests: its listeners, its connections, its view of the table.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::SyncSender;
use std::task::Poll;
use std::time::{Duration, Instant};

use http::HeaderValue;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access::Record;
use crate::asleep::Wanted;
use crate::pool::Pool;
use crate::routes::{LiveTable, Loads};
use crate::tally::Tally;
use crate::tls::Certificates;
use crate::watch::{Due, Watch, Watched};
use crate::{Limits, listen, proxy};

/// How large the headers of a request may be, and how much of a body waits in memory.
const BUFFER: usize = 64 * 1024;
/// Lines of the request log go to the writer so often, or when there are so many.
const LOG_EVERY: Duration = Duration::from_millis(50);
const LOG_BATCH: usize = 1024;
const SWEEP_EVERY: Duration = Duration::from_secs(5);

/// What all threads share.
pub(crate) struct Shared {
    pub(crate) limits: Limits,
    pub(crate) loads: Loads,
    pub(crate) tally: Tally,
    pub(crate) requests: AtomicU64,
    /// Lines of the request log that were dropped because the disk was too slow.
    pub(crate) unlogged: AtomicU64,
    pub(crate) connections: AtomicUsize,
    pub(crate) max_connections: usize,
    pub(crate) wanted: Wanted,
    pub(crate) certificates: Arc<Certificates>,
    /// `None`: this edge does not speak TLS.
    pub(crate) tls: Option<TlsAcceptor>,
    /// Where clients find TLS, if anywhere.
    pub(crate) tls_port: Option<u16>,
}

/// What a thread listens on.
#[derive(Default)]
pub(crate) struct Listeners {
    pub(crate) plain: Vec<std::net::TcpListener>,
    pub(crate) tls: Vec<std::net::TcpListener>,
}

/// What a thread can be told.
pub(crate) enum Command {
    /// Use this table from now on and say when that is so.
    Use(Arc<LiveTable>, oneshot::Sender<()>),
    /// End gracefully.
    Stop,
}

/// A thread's own state.
pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) pool: Pool,
    pub(crate) tasks: TaskTracker,
    table: RefCell<Arc<LiveTable>>,
    turn: Cell<usize>,
    ids: Cell<u64>,
    log: SyncSender<Vec<Record>>,
    unsent: RefCell<Vec<Record>>,
    stopping: CancellationToken,
    /// Told when there is another table.
    pub(crate) changed: Notify,
}

/// A client's connection.
pub(crate) struct Conn {
    pub(crate) worker: Rc<Worker>,
    pub(crate) watch: Arc<Watch>,
    pub(crate) peer: IpAddr,
    /// `peer` as a header has it.
    pub(crate) peer_text: HeaderValue,
    /// It speaks TLS.
    pub(crate) secure: bool,
    _place: Place,
}

impl Worker {
    fn new(shared: Arc<Shared>, table: Arc<LiveTable>, log: SyncSender<Vec<Record>>) -> Self {
        Self {
            shared,
            pool: Pool::default(),
            tasks: TaskTracker::new(),
            table: RefCell::new(table),
            turn: Cell::new(0),
            ids: Cell::new(uuid::Uuid::new_v4().as_u64_pair().0),
            log,
            unsent: RefCell::default(),
            stopping: CancellationToken::new(),
            changed: Notify::new(),
        }
    }

    /// The table as it is now.
    pub(crate) fn table(&self) -> Arc<LiveTable> {
        Arc::clone(&self.table.borrow())
    }

    /// Grows by one each time.
    pub(crate) fn turn(&self) -> usize {
        self.turn.replace(self.turn.get().wrapping_add(1))
    }

    pub(crate) fn count_request(&self) {
        self.shared.requests.fetch_add(1, Relaxed);
    }

    /// A fresh request id: a UUID, unique but not secret.
    pub(crate) fn request_id(&self) -> HeaderValue {
        let next = || {
            // SplitMix64.
            let state = self.ids.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
            self.ids.set(state);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        };
        let bytes = (u128::from(next()) << 64 | u128::from(next())).to_be_bytes();
        let mut buffer = [0; 36];
        let text = uuid::Builder::from_random_bytes(bytes).into_uuid().hyphenated().encode_lower(&mut buffer);
        HeaderValue::from_str(text).expect("a UUID is a header value")
    }

    /// Puts a line into the request log, soon.
    pub(crate) fn log(self: &Rc<Self>, record: Record) {
        let waiting = {
            let mut unsent = self.unsent.borrow_mut();
            unsent.push(record);
            unsent.len()
        };
        if waiting >= LOG_BATCH {
            self.flush_log();
        } else if waiting == 1 {
            let worker = Rc::clone(self);
            tokio::task::spawn_local(async move {
                tokio::time::sleep(LOG_EVERY).await;
                worker.flush_log();
            });
        }
    }

    fn flush_log(&self) {
        let batch = self.unsent.take();
        if batch.is_empty() {
            return;
        }
        self.shared.tally.count(&batch, domain::Timestamp::now());
        if let Err(std::sync::mpsc::TrySendError::Full(batch) | std::sync::mpsc::TrySendError::Disconnected(batch)) =
            self.log.try_send(batch)
        {
            self.shared.unlogged.fetch_add(batch.len() as u64, Relaxed);
        }
    }
}

/// Starts a thread on its own listeners. It ends after [`Command::Stop`], or when nobody can command it any more.
///
/// # Errors
/// When the system gives no thread.
pub(crate) fn start(
    number: usize,
    listeners: Listeners,
    shared: Arc<Shared>,
    table: Arc<LiveTable>,
    log: SyncSender<Vec<Record>>,
) -> std::io::Result<(mpsc::UnboundedSender<Command>, std::thread::JoinHandle<()>)> {
    let (commander, commands) = mpsc::unbounded_channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let thread = std::thread::Builder::new().name(format!("edge-{number}")).spawn(move || {
        let worker = Rc::new(Worker::new(shared, table, log));
        tokio::task::LocalSet::new().block_on(&runtime, work(&worker, listeners, commands));
        worker.flush_log();
    })?;
    Ok((commander, thread))
}

async fn work(worker: &Rc<Worker>, listeners: Listeners, mut commands: mpsc::UnboundedReceiver<Command>) {
    let plain = listeners.plain.into_iter().map(|listener| (listener, false));
    for (listener, secure) in plain.chain(listeners.tls.into_iter().map(|listener| (listener, true))) {
        match TcpListener::from_std(listener) {
            Ok(listener) => drop(worker.tasks.spawn_local(accept(Rc::clone(worker), listener, secure))),
            Err(error) => tracing::error!(%error, "a listener cannot be used"),
        }
    }
    let mut sweep = tokio::time::interval(SWEEP_EVERY);
    loop {
        tokio::select! {
            command = commands.recv() => match command {
                Some(Command::Use(table, done)) => {
                    worker.pool.keep_only(&table);
                    worker.table.replace(table);
                    worker.changed.notify_waiters();
                    // Whoever asked may have given up waiting.
                    let _ = done.send(());
                }
                Some(Command::Stop) | None => break,
            },
            _ = sweep.tick() => worker.pool.sweep(&worker.shared.limits),
        }
    }
    worker.stopping.cancel();
    worker.tasks.close();
    if tokio::time::timeout(worker.shared.limits.graceful, worker.tasks.wait()).await.is_err() {
        tracing::warn!(left = worker.tasks.len(), "requests were still in flight when the edge ended");
    }
}

async fn accept(worker: Rc<Worker>, listener: TcpListener, secure: bool) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = worker.stopping.cancelled() => break,
        };
        match accepted {
            Ok((stream, peer)) => take(&worker, stream, peer, secure),
            Err(error) if listen::is_exhausted(&error) => {
                tracing::warn!(%error, "no more connections can be taken for the moment");
                // Nothing tells when a file descriptor becomes free.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            // The client was gone before it was accepted.
            Err(error) => tracing::debug!(%error, "a connection was lost before it was accepted"),
        }
    }
    // Those that the kernel has already accepted for this listener would be reset when it is closed.
    if let Ok(listener) = listener.into_std() {
        while let Ok((stream, peer)) = listener.accept() {
            if stream.set_nonblocking(true).is_ok()
                && let Ok(stream) = TcpStream::from_std(stream)
            {
                take(&worker, stream, peer, secure);
            }
        }
    }
}

fn take(worker: &Rc<Worker>, stream: TcpStream, peer: SocketAddr, secure: bool) {
    if worker.shared.connections.fetch_add(1, Relaxed) >= worker.shared.max_connections || listen::tune(&stream).is_err() {
        worker.shared.connections.fetch_sub(1, Relaxed);
        return;
    }
    let place = Place(Arc::clone(&worker.shared));
    let acceptor = worker.shared.tls.clone().filter(|_| secure);
    match acceptor {
        Some(acceptor) => drop(worker.tasks.spawn_local(shake_hands(Rc::clone(worker), acceptor, stream, peer, place))),
        None => drop(worker.tasks.spawn_local(converse(Rc::clone(worker), stream, peer, false, place))),
    }
}

/// A connection's place among `max_connections`, also after a switch of protocols.
struct Place(Arc<Shared>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Relaxed);
    }
}

/// A client that speaks TLS, until both have agreed on a key. What it says before that counts as a connection, so that nobody holds any number
/// of them open.
async fn shake_hands(worker: Rc<Worker>, acceptor: TlsAcceptor, stream: TcpStream, peer: SocketAddr, place: Place) {
    match tokio::time::timeout(worker.shared.limits.handshake, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => converse(worker, stream, peer, true, place).await,
        Ok(Err(error)) => tracing::debug!(%error, "a client does not speak TLS with us"),
        Err(_) => tracing::debug!("a client took too long to begin with TLS"),
    }
}

/// A client's connection from its first byte to its end, or to a switch of protocols.
async fn converse<S>(worker: Rc<Worker>, stream: S, peer: SocketAddr, secure: bool, place: Place)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = worker.shared.limits;
    let watch = Arc::new(Watch::new(Instant::now()));
    let peer = peer.ip().to_canonical();
    let peer_text = HeaderValue::try_from(peer.to_string()).expect("an address is a header value");
    let conn = Rc::new(Conn { worker: Rc::clone(&worker), watch: Arc::clone(&watch), peer, peer_text, secure, _place: place });
    let service = service_fn(move |request| {
        let answered = proxy::serve(Rc::clone(&conn), request);
        async { Ok::<_, Infallible>(answered.await) }
    });
    let io = TokioIo::new(Watched::new(stream, Arc::clone(&watch), limits.linger));
    // Timers are ours: see `watch`.
    let connection = http1::Builder::new()
        .max_buf_size(BUFFER)
        .max_header_size(BUFFER)
        .header_read_timeout(None)
        .serve_connection(io, service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let mut timer = pin!(tokio::time::sleep(limits.shortest()));
    let mut stopping = pin!(worker.stopping.cancelled());
    let mut told = false;
    std::future::poll_fn(|cx| {
        loop {
            if connection.as_mut().poll(cx).is_ready() {
                // What hyper says is the client's doing, and it has been told.
                return Poll::Ready(());
            }
            if !told && stopping.as_mut().poll(cx).is_ready() {
                told = true;
                connection.as_mut().graceful_shutdown();
                continue;
            }
            match wake(timer.as_mut(), &watch, &limits, cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Due::Expire) => {}
                Poll::Ready(Due::Close | Due::At(_)) => return Poll::Ready(()),
            }
        }
    })
    .await;
}

/// Something is due, or the timer is set anew. It is moved only when it fires, because setting a timer for every request costs more than that.
fn wake(mut timer: Pin<&mut tokio::time::Sleep>, watch: &Watch, limits: &Limits, cx: &mut std::task::Context<'_>) -> Poll<Due> {
    while timer.as_mut().poll(cx).is_ready() {
        match watch.due(limits) {
            Due::At(next) => timer.as_mut().reset(next.into()),
            due => {
                timer.as_mut().reset((Instant::now() + limits.shortest()).into());
                return Poll::Ready(due);
            }
        }
    }
    Poll::Pending
}
