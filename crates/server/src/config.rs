//! The settings: one definition ([`Settings`]), four sources, one result ([`Config`]).
//!
//! A flag wins over the environment, the environment over the file, the file over the default. Secrets are never flags: the arguments of a
//! process are readable by every user of the machine.

mod check;
mod flow;
mod show;
mod value;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use clap::ArgMatches;
use clap::parser::ValueSource;
use domain::account::Plan;
use domain::network::Network;
use domain::rate::Limits;
use ops::limit::LimitRules;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(crate) use show::show;
pub(crate) use value::{ByteSize, CountsAt, DatabaseUrl, Fallback, LogFormat, NameServer, PortRange, Role, container_type, pair, region};
use value::{Secrets, absolute};

/// Where the settings come from besides the defaults.
#[derive(Debug, clap::Args)]
pub(crate) struct ConfigArgs {
    /// The configuration file; without it <data-dir>/orrery.toml, then /etc/orrery/orrery.toml, if one exists.
    #[arg(long, env = "ORRERY_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

/// Every setting, as flag, environment variable and key of the configuration file.
#[derive(Debug, Default, clap::Args, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Orrery configuration", rename = "orrery.toml")]
#[command(next_help_heading = "Settings")]
struct Settings {
    /// Where everything is kept [default: /var/lib/orrery as root, else ~/.local/share/orrery].
    #[arg(long, env = "ORRERY_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The address of the API [default: 127.0.0.1:8080].
    #[arg(long, env = "ORRERY_LISTEN", value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// The addresses that apps are reached on, separated by commas [default: 127.0.0.1:8081].
    #[arg(long, env = "ORRERY_EDGE_LISTEN", value_name = "ADDRESS", value_delimiter = ',')]
    edge_listen: Option<Vec<SocketAddr>>,
    /// The addresses that apps are reached on by https, separated by commas [default: none].
    #[arg(long, env = "ORRERY_EDGE_TLS_LISTEN", value_name = "ADDRESS", value_delimiter = ',')]
    edge_tls_listen: Option<Vec<SocketAddr>>,
    /// A file with a certificate for the names below the base domain, its intermediates and its private key, in PEM; it is read again each
    /// hour [default: one that nobody trusts].
    #[arg(long, env = "ORRERY_EDGE_TLS_CERTIFICATE", value_name = "FILE", hide_short_help = true)]
    edge_tls_certificate: Option<PathBuf>,
    /// The directory of the authority that certificates are ordered from by ACME, like https://acme-v02.api.letsencrypt.org/directory; setting
    /// it agrees to the authority's terms [default: none are ordered].
    #[arg(long, env = "ORRERY_ACME_DIRECTORY", value_name = "URL", hide_short_help = true)]
    acme_directory: Option<String>,
    /// Whom the authority writes to when something is wrong with a certificate.
    #[arg(long, env = "ORRERY_ACME_EMAIL", value_name = "ADDRESS", hide_short_help = true)]
    acme_email: Option<String>,
    /// A file with a root certificate, in PEM, that vouches for the authority's own server, for one inside a network.
    #[arg(long, env = "ORRERY_ACME_CA", value_name = "FILE", hide_short_help = true)]
    acme_ca: Option<PathBuf>,
    /// Apps get names below this domain [default: localhost].
    #[arg(long, env = "ORRERY_BASE_DOMAIN", value_name = "DOMAIN")]
    base_domain: Option<String>,
    /// Ports that databases and other TCP services are given [default: 30000-32767].
    #[arg(long, env = "ORRERY_TCP_PORTS", value_name = "FIRST-LAST", hide_short_help = true)]
    tcp_ports: Option<PortRange>,
    /// Allow addresses that other machines can reach, although no domain is set [default: false].
    #[arg(long, env = "ORRERY_PUBLIC", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    public: Option<bool>,
    /// The URL under which people reach the API, for links [default: http://localhost:PORT of the API].
    #[arg(long, env = "ORRERY_PUBLIC_URL", value_name = "URL")]
    public_url: Option<String>,
    /// sqlite:///PATH or postgres://USER@HOST/NAME [default: sqlite in the data directory].
    #[arg(long, env = "ORRERY_DATABASE", value_name = "URL", value_parser = DatabaseUrl::unchecked)]
    database: Option<DatabaseUrl>,
    /// The file of the master key, when ORRERY_MASTER_KEY does not hold it [default: <data-dir>/master.key].
    #[arg(long, env = "ORRERY_MASTER_KEY_FILE", value_name = "FILE")]
    master_key_file: Option<PathBuf>,
    /// The name of the region that this server is [default: local].
    #[arg(long, env = "ORRERY_REGION", value_name = "NAME")]
    region: Option<String>,
    /// Other servers that this one's dashboard leads to, as NAME=URL, separated by commas [default: none].
    #[arg(long, env = "ORRERY_REGIONS", value_name = "NAME=URL", value_delimiter = ',', hide_short_help = true)]
    regions: Option<Vec<String>>,
    /// Which parts run in this process [default: all].
    #[arg(long, env = "ORRERY_ROLE")]
    role: Option<Role>,
    /// Where requests are counted: memory, or redis://HOST:PORT/NUMBER for several control planes [default: memory].
    #[arg(long, env = "ORRERY_LIMITS", value_name = "PLACE", value_parser = CountsAt::unchecked)]
    limits: Option<CountsAt>,
    /// What happens to requests while Redis does not answer [default: local].
    #[arg(long, env = "ORRERY_LIMITS_FALLBACK", hide_short_help = true)]
    limits_fallback: Option<Fallback>,
    /// Requests of a key on the plan Free, such as 10/second,1000/day, or none [default: 1000/day].
    #[arg(long, env = "ORRERY_LIMITS_FREE", value_name = "LIMITS", hide_short_help = true)]
    limits_free: Option<String>,
    /// The same on the plan Hobby [default: 10/second,1000/hour].
    #[arg(long, env = "ORRERY_LIMITS_HOBBY", value_name = "LIMITS", hide_short_help = true)]
    limits_hobby: Option<String>,
    /// The same on the plan Professional [default: 50/second,10000/hour].
    #[arg(long, env = "ORRERY_LIMITS_PROFESSIONAL", value_name = "LIMITS", hide_short_help = true)]
    limits_professional: Option<String>,
    /// The same for the keys of operators' accounts, whatever their plan [default: 500/second,100000/hour].
    #[arg(long, env = "ORRERY_LIMITS_OPERATOR", value_name = "LIMITS", hide_short_help = true)]
    limits_operator: Option<String>,
    /// Fields that the GraphQL operations of one credential may resolve in a minute, 0 for any number [default: 20000000].
    #[arg(long, env = "ORRERY_LIMITS_COST", value_name = "NUMBER", hide_short_help = true)]
    limits_cost: Option<u32>,
    /// Networks of reverse proxies whose X-Forwarded-For is believed, separated by commas. For a proxy on this machine say 127.0.0.1: apps on
    /// it can then pretend to ask from elsewhere [default: none].
    #[arg(long, env = "ORRERY_TRUSTED_PROXIES", value_name = "NETWORK", value_delimiter = ',', hide_short_help = true)]
    trusted_proxies: Option<Vec<String>>,
    /// The largest upload [default: 500MB].
    #[arg(long, env = "ORRERY_MAX_UPLOAD_BYTES", value_name = "SIZE", hide_short_help = true)]
    max_upload_bytes: Option<ByteSize>,
    /// Seconds until a build fails [default: 900].
    #[arg(long, env = "ORRERY_BUILD_SECONDS", value_name = "SECONDS", hide_short_help = true)]
    build_seconds: Option<u64>,
    /// The largest total of a source's files after unpacking [default: 2GB].
    #[arg(long, env = "ORRERY_BUILD_UNPACKED_BYTES", value_name = "SIZE", hide_short_help = true)]
    build_unpacked_bytes: Option<ByteSize>,
    /// Builds at the same time [default: 2].
    #[arg(long, env = "ORRERY_BUILD_CONCURRENCY", value_name = "COUNT", hide_short_help = true)]
    build_concurrency: Option<u32>,
    /// Memory of a build or a pre-deploy command; 0 is no limit [default: 4GB, or three quarters of the machine's if that is less].
    #[arg(long, env = "ORRERY_BUILD_MEMORY_BYTES", value_name = "SIZE", hide_short_help = true)]
    build_memory_bytes: Option<ByteSize>,
    /// Processors of a build or a pre-deploy command; 0 is no limit [default: 0].
    #[arg(long, env = "ORRERY_BUILD_CPUS", value_name = "NUMBER", hide_short_help = true)]
    build_cpus: Option<f64>,
    /// Let the addresses of package mirrors and proxies that builds are given keep the names and passwords in them; whoever deploys can then
    /// read those [default: false].
    #[arg(long, env = "ORRERY_BUILD_CREDENTIALS", num_args = 0..=1, default_missing_value = "true", require_equals = true, hide_short_help = true)]
    build_credentials: Option<bool>,
    /// Memory of a replica whose service sets no limit; 0 is no limit [default: 2GB].
    #[arg(long, env = "ORRERY_REPLICA_MEMORY_BYTES", value_name = "SIZE", hide_short_help = true)]
    replica_memory_bytes: Option<ByteSize>,
    /// Processors of a replica whose service sets no limit; 0 is no limit [default: 0].
    #[arg(long, env = "ORRERY_REPLICA_CPUS", value_name = "NUMBER", hide_short_help = true)]
    replica_cpus: Option<f64>,
    /// Seconds without a request after which a service that may sleep does so [default: 600].
    #[arg(long, env = "ORRERY_SLEEP_AFTER_SECONDS", value_name = "SECONDS", hide_short_help = true)]
    sleep_after_seconds: Option<u64>,
    /// Sizes of containers in the Galaxy API as NAME:MEMORY:CORES, smallest first, separated by commas [default: tiny:256MiB:0.3 to
    /// dozen:12GiB:12.2].
    #[arg(long, env = "ORRERY_CONTAINER_TYPES", value_name = "TYPES", value_delimiter = ',', hide_short_help = true)]
    container_types: Option<Vec<String>>,
    /// Containers that an account may have over all its apps in the Galaxy API [default: 100].
    #[arg(long, env = "ORRERY_CONTAINER_LIMIT", value_name = "COUNT", hide_short_help = true)]
    container_limit: Option<u32>,
    /// The shortest time between two runs of a trigger in seconds [default: 60].
    #[arg(long, env = "ORRERY_TRIGGER_SECONDS", value_name = "SECONDS", hide_short_help = true)]
    trigger_seconds: Option<u32>,
    /// Days that logs are kept [default: 14].
    #[arg(long, env = "ORRERY_LOG_RETENTION_DAYS", value_name = "DAYS", hide_short_help = true)]
    log_retention_days: Option<u32>,
    /// The largest total of kept logs [default: 5GB].
    #[arg(long, env = "ORRERY_LOG_RETENTION_BYTES", value_name = "SIZE", hide_short_help = true)]
    log_retention_bytes: Option<ByteSize>,
    /// Networks that webhooks of users may reach although they are private, like 10.0.0.0/8, separated by commas [default: none].
    #[arg(long, env = "ORRERY_OUTGOING_ALLOW", value_name = "NETWORK", value_delimiter = ',', hide_short_help = true)]
    outgoing_allow: Option<Vec<String>>,
    /// Whom mail comes from, like Orrery <orrery@example.com>; its server is ORRERY_MAIL_SERVER.
    #[arg(long, env = "ORRERY_MAIL_FROM", value_name = "ADDRESS", hide_short_help = true)]
    mail_from: Option<String>,
    /// The name server that is asked who owns a custom domain: system, an address like 127.0.0.1:53, or off, which believes everybody
    /// [default: system; off while base_domain is localhost].
    #[arg(long, env = "ORRERY_DNS_RESOLVER", value_name = "ADDRESS", hide_short_help = true)]
    dns_resolver: Option<NameServer>,
    /// Where language models are asked, as OpenAI's interface up to /v1, like http://127.0.0.1:11434/v1; its key is ORRERY_LLM_KEY.
    #[arg(long, env = "ORRERY_LLM_URL", value_name = "URL", hide_short_help = true)]
    llm_url: Option<String>,
    /// The model behind each node type, like gpt_5=gpt-5-mini,claude_sonnet_4_6=sonnet, separated by commas [default: none].
    #[arg(long, env = "ORRERY_LLM_MODELS", value_name = "TYPE=MODEL", value_delimiter = ',', hide_short_help = true)]
    llm_models: Option<Vec<String>>,
    /// What a node of a type costs in microcredits, like gpt_5=2500, separated by commas; others cost nothing [default: none].
    #[arg(long, env = "ORRERY_NODE_PRICES", value_name = "TYPE=PRICE", value_delimiter = ',', hide_short_help = true)]
    node_prices: Option<Vec<String>>,
    /// What the workflows of an account may use, in microcredits [default: 1000000000000].
    #[arg(long, env = "ORRERY_CREDIT_ALLOWANCE", value_name = "MICROCREDITS", hide_short_help = true)]
    credit_allowance: Option<u64>,
    /// Where files of workflows are kept; the control planes of one database share it [default: <data-dir>/files].
    #[arg(long, env = "ORRERY_FILES_DIR", value_name = "DIR", hide_short_help = true)]
    files_dir: Option<PathBuf>,
    /// Runs of an account's workflows at the same time; others wait for their turn [default: 32].
    #[arg(long, env = "ORRERY_RUN_CONCURRENCY", value_name = "COUNT", hide_short_help = true)]
    run_concurrency: Option<u32>,
    /// How the server writes its own log [default: text].
    #[arg(long, env = "ORRERY_LOG_FORMAT")]
    log_format: Option<LogFormat>,
    /// What the server logs: a level, or levels per module such as info,engine=debug [default: info].
    #[arg(long, env = "ORRERY_LOG_FILTER", value_name = "FILTER")]
    log_filter: Option<String>,
}

/// The settings in effect.
#[derive(Debug, Serialize)]
pub(crate) struct Config {
    /// Absolute.
    pub(crate) data_dir: PathBuf,
    pub(crate) listen: SocketAddr,
    /// At least one.
    pub(crate) edge_listen: Vec<SocketAddr>,
    /// Empty: the edge does not speak TLS.
    pub(crate) edge_tls_listen: Vec<SocketAddr>,
    /// Empty: one of the edge's own making.
    pub(crate) edge_tls_certificate: PathBuf,
    /// Empty: no certificates are ordered.
    pub(crate) acme_directory: String,
    /// Empty: nobody.
    pub(crate) acme_email: String,
    /// Empty: those of the machine alone.
    pub(crate) acme_ca: PathBuf,
    /// Lower case, without a dot at either end.
    pub(crate) base_domain: String,
    pub(crate) tcp_ports: PortRange,
    pub(crate) public: bool,
    /// Without a slash at the end.
    pub(crate) public_url: String,
    pub(crate) database: DatabaseUrl,
    pub(crate) master_key_file: PathBuf,
    #[serde(skip)]
    pub(crate) secrets: Secrets,
    pub(crate) region: String,
    /// `NAME=URL`
    pub(crate) regions: Vec<String>,
    pub(crate) role: Role,
    pub(crate) limits: CountsAt,
    pub(crate) limits_fallback: Fallback,
    pub(crate) limits_free: String,
    pub(crate) limits_hobby: String,
    pub(crate) limits_professional: String,
    pub(crate) limits_operator: String,
    pub(crate) limits_cost: u32,
    pub(crate) trusted_proxies: Vec<Network>,
    pub(crate) max_upload_bytes: ByteSize,
    pub(crate) build_seconds: u64,
    pub(crate) build_unpacked_bytes: ByteSize,
    pub(crate) build_concurrency: u32,
    /// 0: no limit.
    pub(crate) build_memory_bytes: ByteSize,
    /// 0: no limit.
    pub(crate) build_cpus: f64,
    pub(crate) build_credentials: bool,
    /// 0: no limit.
    pub(crate) replica_memory_bytes: ByteSize,
    /// 0: no limit.
    pub(crate) replica_cpus: f64,
    pub(crate) sleep_after_seconds: u64,
    pub(crate) container_types: Vec<String>,
    pub(crate) container_limit: u32,
    pub(crate) trigger_seconds: u32,
    pub(crate) log_retention_days: u32,
    pub(crate) log_retention_bytes: ByteSize,
    pub(crate) outgoing_allow: Vec<Network>,
    pub(crate) dns_resolver: NameServer,
    /// Empty: no mail is sent.
    pub(crate) mail_from: String,
    /// Empty: no language models.
    pub(crate) llm_url: String,
    /// `TYPE=MODEL`
    pub(crate) llm_models: Vec<String>,
    /// `TYPE=PRICE`
    pub(crate) node_prices: Vec<String>,
    pub(crate) credit_allowance: u64,
    /// Absolute.
    pub(crate) files_dir: PathBuf,
    pub(crate) run_concurrency: u32,
    pub(crate) log_format: LogFormat,
    pub(crate) log_filter: String,
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Default,
    File(PathBuf),
    Environment,
    Flag,
}

/// The settings and the source of each.
#[derive(Debug)]
pub(crate) struct Effective {
    pub(crate) config: Config,
    sources: BTreeMap<&'static str, Source>,
}

impl Effective {
    /// Where a setting's value came from; `key` as in the configuration file.
    pub(crate) fn source(&self, key: &str) -> &Source {
        self.sources.get(key).unwrap_or(&Source::Default)
    }
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file is absent or unreadable.
    #[error("cannot read the configuration file {}: {}", path.display(), remedy(source))]
    Unreadable { path: PathBuf, source: std::io::Error },
    /// The file has an unknown key or a value of the wrong kind.
    #[error("{} line {line} ({key}): {problem}", path.display())]
    Invalid { path: PathBuf, line: usize, key: String, problem: String },
    /// A value breaks a rule.
    #[error("{key} is {value:?}: {rule}")]
    Refused { key: &'static str, value: String, rule: &'static str },
    /// A listener would be reachable from other machines (rule 13 of docs/SECURITY.md).
    #[error(
        "{key} is {address}, which other machines can reach: set base_domain to a domain that points here, or allow it with --public; \
         or listen on 127.0.0.1"
    )]
    NotLoopback { key: &'static str, address: SocketAddr },
}

fn remedy(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::NotFound => "create it, or leave --config away",
        std::io::ErrorKind::PermissionDenied => {
            "it is not for this user; run this as root or as the user of `orrery serve`, or do without it by --config /dev/null"
        }
        _ => "name another with --config",
    }
}

/// Takes each value from the first of flag, environment, file and default that has it.
///
/// # Errors
/// When the file cannot be used, or a value breaks a rule.
pub(crate) fn resolve(args: ConfigArgs, given: &ArgMatches) -> Result<Effective, ConfigError> {
    let ConfigArgs { config: path, settings: set } = args;
    let file_path = match path {
        Some(path) => Some(path),
        None => default_file(set.data_dir.as_deref()),
    };
    let file = file_path.as_deref().map(read_file).transpose()?.unwrap_or_default();
    let mut layers = Layers { given, file_path, sources: BTreeMap::new() };
    let config = merge(set, file, &mut layers)?;
    check::check(&config)?;
    Ok(Effective { config, sources: layers.sources })
}

fn merge(set: Settings, file: Settings, layers: &mut Layers<'_>) -> Result<Config, ConfigError> {
    #[rustfmt::skip]
    macro_rules! pick { ($name:ident, $default:expr) => { layers.pick(stringify!($name), set.$name, file.$name, $default) }; }
    let (data_dir, base_domain, listen) = (absolute(pick!(data_dir, default_data_dir)), pick!(base_domain, localhost), pick!(listen, api));
    Ok(Config {
        edge_listen: pick!(edge_listen, || vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 8081))]),
        edge_tls_listen: pick!(edge_tls_listen, Vec::new),
        edge_tls_certificate: pick!(edge_tls_certificate, PathBuf::new),
        acme_directory: pick!(acme_directory, String::new),
        acme_email: pick!(acme_email, String::new),
        acme_ca: pick!(acme_ca, PathBuf::new),
        base_domain: parse_domain(&base_domain)?,
        tcp_ports: pick!(tcp_ports, || PortRange(30_000..=32_767)),
        public: pick!(public, || false),
        public_url: pick!(public_url, || format!("http://localhost:{}", listen.port())).trim_end_matches('/').to_owned(),
        database: pick!(database, || DatabaseUrl::sqlite(&data_dir.join("orrery.db"))),
        master_key_file: pick!(master_key_file, || data_dir.join("master.key")),
        secrets: Secrets::of_environment(),
        region: pick!(region, || "local".to_owned()),
        regions: pick!(regions, Vec::new),
        role: pick!(role, || Role::All),
        limits: pick!(limits, CountsAt::memory),
        limits_fallback: pick!(limits_fallback, || Fallback::Local),
        limits_free: pick!(limits_free, || plan_default(Plan::Free)),
        limits_hobby: pick!(limits_hobby, || plan_default(Plan::Hobby)),
        limits_professional: pick!(limits_professional, || plan_default(Plan::Professional)),
        limits_operator: pick!(limits_operator, || LimitRules::default().operator.to_string()),
        limits_cost: pick!(limits_cost, || LimitRules::default().cost.unwrap_or_default()),
        trusted_proxies: layers.networks("trusted_proxies", set.trusted_proxies, file.trusted_proxies)?,
        max_upload_bytes: pick!(max_upload_bytes, || ByteSize(500_000_000)),
        build_seconds: pick!(build_seconds, || 900),
        build_unpacked_bytes: pick!(build_unpacked_bytes, || ByteSize(2_000_000_000)),
        build_concurrency: pick!(build_concurrency, || 2),
        build_memory_bytes: pick!(build_memory_bytes, ByteSize::for_builds),
        build_cpus: pick!(build_cpus, || 0.0),
        build_credentials: pick!(build_credentials, || false),
        replica_memory_bytes: pick!(replica_memory_bytes, || ByteSize(2_000_000_000)),
        replica_cpus: pick!(replica_cpus, || 0.0),
        sleep_after_seconds: pick!(sleep_after_seconds, || 600),
        container_types: pick!(container_types, value::container_types_default),
        container_limit: pick!(container_limit, || 100),
        trigger_seconds: pick!(trigger_seconds, || 60),
        log_retention_days: pick!(log_retention_days, || 14),
        log_retention_bytes: pick!(log_retention_bytes, || ByteSize(5_000_000_000)),
        dns_resolver: pick!(dns_resolver, || NameServer::default_for(&base_domain)),
        outgoing_allow: layers.networks("outgoing_allow", set.outgoing_allow, file.outgoing_allow)?,
        mail_from: pick!(mail_from, String::new),
        llm_url: pick!(llm_url, String::new),
        llm_models: pick!(llm_models, Vec::new),
        node_prices: pick!(node_prices, Vec::new),
        credit_allowance: pick!(credit_allowance, || 1_000_000_000_000),
        files_dir: absolute(pick!(files_dir, || data_dir.join("files"))),
        run_concurrency: pick!(run_concurrency, || 32),
        log_format: pick!(log_format, || LogFormat::Text),
        log_filter: pick!(log_filter, || "info".to_owned()),
        data_dir,
        listen,
    })
}

/// Apps are below it until there is a domain.
fn localhost() -> String {
    "localhost".to_owned()
}

/// Where the API listens.
fn api() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 8080))
}

fn plan_default(plan: Plan) -> String {
    Limits::of_plan(plan).to_string()
}

struct Layers<'a> {
    given: &'a ArgMatches,
    file_path: Option<PathBuf>,
    sources: BTreeMap<&'static str, Source>,
}

impl Layers<'_> {
    fn pick<T>(&mut self, key: &'static str, set: Option<T>, file: Option<T>, default: impl FnOnce() -> T) -> T {
        let (value, source) = match (set, file) {
            (Some(value), _) if self.given.value_source(key) == Some(ValueSource::EnvVariable) => (value, Source::Environment),
            (Some(value), _) => (value, Source::Flag),
            (None, Some(value)) => (value, Source::File(self.file_path.clone().unwrap_or_default())),
            (None, None) => (default(), Source::Default),
        };
        self.sources.insert(key, source);
        value
    }

    fn networks(&mut self, key: &'static str, set: Option<Vec<String>>, file: Option<Vec<String>>) -> Result<Vec<Network>, ConfigError> {
        let rule = "write addresses or networks like 10.1.2.3, 10.0.0.0/8 or fd00::/8";
        let parse = |text: &String| text.parse().map_err(|_| ConfigError::Refused { key, value: text.clone(), rule });
        self.pick(key, set, file, Vec::new).iter().map(parse).collect()
    }
}

fn read_file(path: &Path) -> Result<Settings, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
    toml::from_str(&text).map_err(|error| {
        // The error's own rendering repeats the line, and the line may hold the database's password.
        let start = error.span().map_or(0, |span| span.start.min(text.len()));
        let line = text.as_bytes()[..start].iter().filter(|byte| **byte == b'\n').count();
        let bare = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        let key = text.lines().nth(line).unwrap_or("").trim().chars().take_while(bare).collect();
        ConfigError::Invalid { path: path.to_owned(), line: line + 1, key, problem: error.message().to_owned() }
    })
}

fn default_file(data_dir: Option<&Path>) -> Option<PathBuf> {
    let beside_data = data_dir.map_or_else(default_data_dir, Path::to_owned).join("orrery.toml");
    [beside_data, PathBuf::from("/etc/orrery/orrery.toml")].into_iter().find(|path| path.exists())
}

fn default_data_dir() -> PathBuf {
    if nix::unistd::geteuid().is_root() { PathBuf::from("/var/lib/orrery") } else { user_dir("XDG_DATA_HOME", ".local/share") }
}

/// The user's own folder for Orrery's files of one kind, as the XDG base directories have it.
pub(crate) fn user_dir(variable: &str, below_home: &str) -> PathBuf {
    let base = std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || std::env::home_dir().unwrap_or_else(|| PathBuf::from("/")).join(below_home);
    base.unwrap_or_else(home).join("orrery")
}

/// The file that `serve` leaves the first token in, and where `orrery railway` of the same user finds it.
pub(crate) fn token_file() -> PathBuf {
    user_dir("XDG_CONFIG_HOME", ".config").join("token")
}

fn parse_domain(text: &str) -> Result<String, ConfigError> {
    let name = text.trim_matches('.').to_ascii_lowercase();
    if name == "localhost" {
        return Ok(name);
    }
    let rule = "write a domain without a scheme or a port, like apps.example.com";
    match domain::name::host(&name) {
        Ok(name) if !name.starts_with('*') => Ok(name),
        _ => Err(ConfigError::Refused { key: "base_domain", value: text.to_owned(), rule }),
    }
}

/// The JSON schema of the configuration file.
pub(crate) fn schema() -> schemars::Schema {
    schemars::schema_for!(Settings)
}
