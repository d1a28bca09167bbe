//! The long-running processes: what each is made of, in the order in which it starts.

mod counts;
mod edge_process;
mod first_start;
mod logging;
mod machine;
mod stop;

use std::collections::BTreeMap;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use domain::Timestamp;
use engine::{Engine, EngineConfig};
use ops::{Ops, Settings};
use runtime::process::{ProcessConfig, ProcessDriver};
use secrecy::ExposeSecret;
use store::{MasterKey, Store, StoreConfig, StoreError};
use telemetry::{Telemetry, TelemetryConfig};
use tokio_util::sync::CancellationToken;

pub(crate) use counts::limiter;
pub(crate) use stop::stop;

use crate::cli::EdgeArgs;
use crate::config::{ByteSize, Config, Effective, Role};

/// Threads that answer requests; the rest of the machine is for the apps. More of them than there are cores would only wake each other.
const WORKERS: usize = 2;

/// Loopback ports that replicas are given.
const REPLICA_PORTS: std::ops::RangeInclusive<u16> = 20_000..=29_999;

/// Runs the API and the engine until a signal ends them.
pub(crate) fn serve(effective: Effective) -> anyhow::Result<ExitCode> {
    let effective = Arc::new(effective);
    let config = &effective.config;
    logging::start(config.log_format, &config.log_filter)?;
    let folders = Folders::make(&config.data_dir)?;
    let _alone = folders.lock()?;
    raise_open_files();
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS.min(std::thread::available_parallelism().map_or(1, usize::from)))
        .enable_all()
        .build()
        .context("the async runtime cannot start")?
        .block_on(run(&effective, &folders))?;
    Ok(ExitCode::SUCCESS)
}

async fn run(effective: &Arc<Effective>, folders: &Folders) -> anyhow::Result<()> {
    let config = &effective.config;
    let ops = open(effective, folders).await?;
    let stop = stop_signal()?;
    let (api, engine) = (config.role != Role::Engine, config.role != Role::Api);

    let (state, edge_state) = tokio::sync::watch::channel(edge_process::State::Starting);
    let edge = if engine {
        let edge = edge_process::Edge {
            dir: folders.edge.clone(),
            listen: config.edge_listen.clone(),
            tls_listen: config.edge_tls_listen.clone(),
            base_domain: config.base_domain.clone(),
            tls_certificate: base_certificate(config),
        };
        Some(tokio::spawn(edge_process::keep_running(edge, state, stop.clone())))
    } else {
        None
    };
    let engine = if engine { Some(start_engine(config, folders, ops.clone())?) } else { None };
    if api {
        let listener = tokio::net::TcpListener::bind(config.listen)
            .await
            .with_context(|| format!("cannot listen on {}: stop what uses that port, or choose another with --listen", config.listen))?;
        let listeners: Vec<_> = std::iter::once(listener).chain(twin(config).await?).collect();
        let first = ops::first_run::first_run(&ops.store, now()).await?;
        let greeting = first_start::greet(config, first.as_ref(), edge.is_some().then_some(edge_state));
        let mut state = api::ApiState::new(ops.clone());
        state.dashboard = api::Dashboard::Embedded;
        state.trusted_proxies = config.trusted_proxies.clone().into();
        let counts = tokio::spawn(counts::keep(ops.clone(), stop.clone()));
        let (served, ()) = tokio::join!(api::serve(listeners, api::router(state), stop.clone()), greeting);
        served.context("the API ended")?;
        counts.await.context("the keeper of counts ended abnormally")?;
        counts::keep_now(&ops).await;
    } else {
        stop.cancelled().await;
    }
    tracing::info!("stopping: apps and their traffic go on");
    if let Some(engine) = engine {
        engine.stop().await;
    }
    if let Some(edge) = edge {
        edge.await.context("the keeper of the edge ended abnormally")?;
    }
    ops.store.clone().close().await;
    Ok(())
}

/// The same port of the other loopback address: `localhost` is that one as well, and whoever listened there would be given passwords and
/// tokens that are meant for this server. `None` where the machine does not have it, and where it is the edge's.
async fn twin(config: &Config) -> anyhow::Result<Option<tokio::net::TcpListener>> {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
    let address = SocketAddr::from((Ipv6Addr::LOCALHOST, config.listen.port()));
    let is_edges = config.edge_listen.iter().chain(&config.edge_tls_listen).any(|edge| edge.is_ipv6() && edge.port() == address.port());
    if config.listen.ip() != IpAddr::from(Ipv4Addr::LOCALHOST) || address.port() == 0 || is_edges {
        return Ok(None);
    }
    match tokio::net::TcpListener::bind(address).await {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Err(error).with_context(|| {
            format!(
                "somebody else listens on {address}, where `localhost` leads, too: stop that program, or choose another port with --listen"
            )
        }),
        Err(error) => {
            tracing::debug!(%error, %address, "there is no other loopback address to listen on");
            Ok(None)
        }
    }
}

/// Opens the store and the logs.
async fn open(effective: &Arc<Effective>, folders: &Folders) -> anyhow::Result<Arc<Ops>> {
    let config = &effective.config;
    let telemetry = Telemetry::open(TelemetryConfig {
        dir: folders.telemetry.clone(),
        retain_days: config.log_retention_days,
        retain_bytes: config.log_retention_bytes.0,
    })?;
    let settings = settings(config, folders.blobs.clone());
    let mut ops = Ops::new(open_store(config).await?, telemetry, settings);
    ops.limits = limiter(config)?;
    ops.machine = Arc::new(machine::of(effective.clone()));
    Ok(Arc::new(ops))
}

/// The settings that verbs depend on.
pub(crate) fn settings(config: &Config, blobs: std::path::PathBuf) -> Settings {
    Settings {
        base_domain: config.base_domain.clone(),
        edge_port: config.edge_listen.first().map(std::net::SocketAddr::port).filter(|port| *port != 443),
        edge_tls_port: config.edge_tls_listen.first().map(std::net::SocketAddr::port),
        orders_certificates: !config.acme_directory.is_empty(),
        base_certificate: base_certificate(config).is_some(),
        dashboard_url: config.public_url.clone(),
        region: config.region.clone(),
        regions: regions(config),
        tcp_domain: tcp_domain(&config.base_domain),
        tcp_ports: config.tcp_ports.0.clone(),
        blobs,
        artifacts: config.data_dir.join("artifacts"),
        max_upload_bytes: config.max_upload_bytes.0,
        verify_domains: config.dns_resolver.0 != engine::DnsConfig::Off,
        apps: ops::app::AppSettings {
            container_types: config.container_types.iter().filter_map(|text| crate::config::container_type(text)).collect(),
            container_limit: config.container_limit,
            trigger_seconds: config.trigger_seconds,
            default_limits: default_limits(config),
        },
        flow: flow(config),
    }
}

/// The other servers of this installation.
fn regions(config: &Config) -> Vec<(String, String)> {
    let read = config.regions.iter().filter_map(|text| crate::config::region(text));
    read.map(|(name, url)| (name.to_owned(), url.to_owned())).collect()
}

/// The file of the base domain's certificate, if the operator has brought one.
fn base_certificate(config: &Config) -> Option<std::path::PathBuf> {
    let path = &config.edge_tls_certificate;
    // The edge is started in another folder.
    (!path.as_os_str().is_empty()).then(|| std::path::absolute(path).unwrap_or_else(|_| path.clone()))
}

/// What workflows may use.
fn flow(config: &Config) -> ops::workflow::FlowSettings {
    use domain::workflow::catalogue::{Catalogue, LLM};
    let pairs = |texts: &[String]| -> BTreeMap<String, String> {
        let pairs = texts.iter().filter_map(|text| crate::config::pair(text));
        pairs.map(|(kind, value)| (kind.to_owned(), value.to_owned())).collect()
    };
    let models = pairs(&config.llm_models);
    let llm = (!config.llm_url.is_empty()).then(|| ops::workflow::LlmSettings {
        base_url: config.llm_url.clone(),
        key: config.secrets.llm_key.clone(),
        models: models.clone(),
    });
    let of_any_model = llm.is_some().then_some(LLM).filter(|kind| !models.contains_key(*kind));
    ops::workflow::FlowSettings {
        catalogue: Arc::new(Catalogue::new(models.keys().map(String::as_str).chain(of_any_model))),
        llm,
        files: config.files_dir.clone(),
        outgoing_allow: config.outgoing_allow.clone(),
        prices: pairs(&config.node_prices).into_iter().filter_map(|(kind, price)| Some((kind, price.parse().ok()?))).collect(),
        allowance: i64::try_from(config.credit_allowance).unwrap_or(i64::MAX),
        runs_per_workspace: config.run_concurrency,
        ..ops::workflow::FlowSettings::default()
    }
}

/// What people write in front of a TCP proxy's port. Names below `localhost` do not resolve everywhere, and some clients of databases take
/// `localhost` itself for a socket file.
fn tcp_domain(base_domain: &str) -> String {
    if base_domain == "localhost" { "127.0.0.1".to_owned() } else { base_domain.to_owned() }
}

/// Opens the store alone, of a server that there is: what the operator's commands need. In the wrong place, or as the wrong user, they make
/// none, and they do not migrate the database of a server that runs.
pub(crate) async fn open_existing_store(config: &Config) -> anyhow::Result<Store> {
    let database = config.database.expose();
    if let Some(file) = database.strip_prefix("sqlite://") {
        let none = || {
            format!(
                "there is no server's data for this user in {}: run this as the user of `orrery serve`, or say with --data-dir where its \
                 data is ({file})",
                config.data_dir.display()
            )
        };
        std::fs::File::open(file).with_context(none)?;
    }
    if config.secrets.master_key.is_none() {
        let none = || {
            format!(
                "the server's master key cannot be read from {}: run this as the user of `orrery serve`, with its --data-dir, and with \
                 ORRERY_MASTER_KEY where the server has that",
                config.master_key_file.display()
            )
        };
        std::fs::File::open(&config.master_key_file).with_context(none)?;
    }
    let behind = Store::is_behind(database).context("the database cannot be opened")?;
    let runs = || Folders::lock_of(&config.data_dir).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
    anyhow::ensure!(
        !(behind && runs()),
        "this program is newer than the server that runs over {}: restart `orrery serve` first, which brings the database up to date",
        config.data_dir.display()
    );
    open_store(config).await
}

/// Opens the store, and makes it where there is none. What an earlier program has left is copied before it is migrated.
async fn open_store(config: &Config) -> anyhow::Result<Store> {
    if Store::is_behind(config.database.expose()).context("the database cannot be opened")? {
        let made = ops::operator::back_up_closed(config.database.expose(), &store_backups(config), now()).await;
        let made = made.context("the database is brought up to date only after it was copied, and it cannot be copied")?;
        tracing::info!(copy = made.name, "the database is of an earlier version: it was copied, and is brought up to date now");
    }
    let file = &config.master_key_file;
    let fresh = config.secrets.master_key.is_none() && !file.exists();
    let master_key = match &config.secrets.master_key {
        Some(text) => MasterKey::parse(text.expose_secret()).context("ORRERY_MASTER_KEY")?,
        None => MasterKey::load_or_create(file).with_context(|| format!("the master key in {}", file.display()))?,
    };
    let opened = Store::open(StoreConfig { url: config.database.expose().to_owned(), master_key }).await;
    if fresh && matches!(opened, Err(StoreError::WrongMasterKey)) {
        // It encrypts nothing, and the lost key has to be put back in its place.
        std::fs::remove_file(file).with_context(|| format!("{} is new and cannot be removed again", file.display()))?;
        anyhow::bail!(
            "the master key {} is missing, and the database was encrypted with it: put the key back from a backup",
            file.display()
        );
    }
    opened.context("the database cannot be opened")
}

fn start_engine(config: &Config, folders: &Folders, ops: Arc<Ops>) -> anyhow::Result<Engine> {
    let driver = ProcessDriver::new(ProcessConfig {
        data_dir: config.data_dir.clone(),
        exe: std::env::current_exe().context("the path of this program")?,
        hidden: vec![config.data_dir.clone()],
        port_range: REPLICA_PORTS,
    })?;
    let build = limits(config.build_memory_bytes, config.build_cpus);
    let engine_config = EngineConfig {
        data_dir: config.data_dir.clone(),
        edge_dir: folders.edge.clone(),
        blobs: folders.blobs.clone(),
        build_concurrency: usize::try_from(config.build_concurrency)?,
        build_credentials: config.build_credentials,
        build_limits: builder::BuildLimits {
            unpacked_bytes: config.build_unpacked_bytes.0,
            seconds: config.build_seconds,
            memory_bytes: build.memory_bytes,
            cpu_millis: build.cpu_millis,
            ..builder::BuildLimits::default()
        },
        default_limits: default_limits(config),
        separate_users: nix::unistd::geteuid().is_root(),
        period: Duration::from_secs(5),
        watch: engine::WatchConfig::default(),
        sleep_after: Duration::from_secs(config.sleep_after_seconds),
        dns: config.dns_resolver.0,
        acme: (!config.acme_directory.is_empty()).then(|| engine::AcmeConfig {
            directory: config.acme_directory.clone(),
            email: Some(config.acme_email.clone()).filter(|address| !address.is_empty()),
            root: Some(config.acme_ca.clone()).filter(|path| !path.as_os_str().is_empty()),
        }),
        outgoing: engine::OutgoingConfig {
            allow: config.outgoing_allow.clone(),
            mail: config
                .secrets
                .mail_server
                .as_ref()
                .map(|server| engine::MailConfig { server: server.expose_secret().to_owned(), from: config.mail_from.clone() }),
            names: engine::Names::default(),
        },
    };
    Ok(Engine::start(ops, Arc::new(driver), engine_config))
}

/// What a replica may use whose service says nothing.
fn default_limits(config: &Config) -> domain::spec::Limits {
    limits(config.replica_memory_bytes, config.replica_cpus)
}

fn limits(memory: ByteSize, cpus: f64) -> domain::spec::Limits {
    domain::spec::Limits {
        memory_bytes: Some(memory.0).filter(|bytes| *bytes > 0),
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked to be finite and not negative; a million cores is enough"
        )]
        cpu_millis: Some((cpus * 1000.0).min(1e9) as u32).filter(|millis| *millis > 0),
    }
}

/// Takes as many open files as are allowed: who has none left can read nothing of the apps that run.
fn raise_open_files() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

/// Ends with SIGTERM or SIGINT.
fn stop_signal() -> anyhow::Result<CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = CancellationToken::new();
    let token = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        token.cancel();
    });
    Ok(stop)
}

/// The folders below the data directory.
pub(crate) struct Folders {
    root: std::path::PathBuf,
    blobs: std::path::PathBuf,
    edge: std::path::PathBuf,
    telemetry: std::path::PathBuf,
}

impl Folders {
    /// Makes what is missing. Apps run as other users and pass through the data directory and the artifacts; they can list neither.
    pub(crate) fn make(root: &Path) -> anyhow::Result<Self> {
        let there = root.exists();
        let unusable = |path: &Path| {
            let (path, root) = (path.display(), root.display());
            if there {
                format!(
                    "{path} cannot be made or changed, and {root} is there: run this as its owner, give it to this user with chown -R, or \
                     choose another with --data-dir"
                )
            } else {
                format!(
                    "the folder {path} cannot be made: make {root} and give it to this user with chown, or choose another with --data-dir"
                )
            }
        };
        let create = |path: &Path, mode: u32| std::fs::DirBuilder::new().recursive(true).mode(mode).create(path);
        let make = |path: &Path, mode: u32| {
            let made = create(path, mode).and_then(|()| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)));
            made.with_context(|| unusable(path))
        };
        // Who may enter a folder that has been used for something else is not ours to say.
        if is_used_otherwise(root) {
            tracing::warn!("{} holds other files as well: its permissions stay as they are", root.display());
        } else {
            make(root, 0o711)?;
        }
        for open in ["artifacts", "replicas", "cache", "scratch", "volumes"] {
            make(&root.join(open), 0o711)?;
        }
        for closed in ["backups", "blobs", "edge", "telemetry", "run"] {
            make(&root.join(closed), 0o700)?;
        }
        Ok(Self { root: root.to_owned(), blobs: root.join("blobs"), edge: root.join("edge"), telemetry: root.join("telemetry") })
    }

    /// Two control planes over one data directory would start everything twice.
    fn lock(&self) -> anyhow::Result<nix::fcntl::Flock<std::fs::File>> {
        Self::lock_of(&self.root).map_err(|error| match error.kind() {
            std::io::ErrorKind::WouldBlock => {
                anyhow::anyhow!("another `orrery serve` uses {}: stop it first, or choose another --data-dir", self.root.display())
            }
            _ => anyhow::Error::new(error).context(format!("cannot create {}", self.root.join(LOCK).display())),
        })
    }

    /// [`std::io::ErrorKind::WouldBlock`] while a server runs over the folder.
    fn lock_of(root: &Path) -> std::io::Result<nix::fcntl::Flock<std::fs::File>> {
        let file = std::fs::File::create(root.join(LOCK))?;
        nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusiveNonblock).map_err(|(_, error)| error.into())
    }
}

/// Held by a server that runs; below the data directory.
const LOCK: &str = "run/serve.lock";

/// Whether there is a folder with files, none of which is a server's or its operator's.
fn is_used_otherwise(root: &Path) -> bool {
    const OURS: [&str; 4] = ["run", "orrery.db", "orrery.toml", "master.key"];
    let Ok(mut entries) = std::fs::read_dir(root) else { return false };
    entries.next().is_some() && !OURS.iter().any(|name| root.join(name).exists())
}

/// Runs the reverse proxy until a signal ends it.
pub(crate) fn edge(args: EdgeArgs) -> anyhow::Result<ExitCode> {
    runtime::leave_service();
    logging::start(crate::config::LogFormat::Text, "info")?;
    let EdgeArgs { dir, listen, tls_listen, base_domain, tls_certificate } = args;
    edge::run(edge::EdgeConfig { tls_listen, base_domain, tls_certificate, ..edge::EdgeConfig::new(listen, dir) })?;
    Ok(ExitCode::SUCCESS)
}

/// Keeps the replica of `dir` alive.
pub(crate) fn shim(dir: &Path) -> anyhow::Result<ExitCode> {
    Ok(u8::try_from(runtime::shim_main(dir)).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Prepares and runs a server of the machine.
pub(crate) fn launch(plan: &str, volume_variable: &str) -> anyhow::Result<ExitCode> {
    Ok(u8::try_from(runtime::launch_main(plan, volume_variable)).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Enters the sandbox that standard input describes.
pub(crate) fn sandbox_exec() -> anyhow::Result<ExitCode> {
    runtime::sandbox::sandbox_exec_main()
}

/// Where copies of the database are put.
pub(crate) fn store_backups(config: &Config) -> std::path::PathBuf {
    config.data_dir.join("store-backups")
}

/// Starts a program in the sandbox of an app that runs.
pub(crate) fn sandbox_shell() -> anyhow::Result<ExitCode> {
    runtime::sandbox::sandbox_shell_main()
}

/// The present time; the one place of the operator's commands that reads a clock.
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}
