//! One function per verb that a user can see: authorise, validate, commit once (state, activity and what follows from it), wake.
//!
//! Both protocols and the engine's own triggers come through here, so a rule written here holds everywhere. Nothing here knows HTTP,
//! GraphQL or how a deployment is carried out.

pub mod account;
pub mod activity;
pub mod api_key;
pub mod app;
pub mod approval;
pub mod auth;
pub mod backup;
mod batch;
pub mod certificate;
mod context;
pub mod deployment;
pub mod domain_name;
mod drawn;
pub mod environment;
pub mod environment_patch;
mod error;
pub mod execution;
pub mod file;
pub mod first_run;
pub mod flow_trigger;
pub mod idempotency;
pub mod limit;
pub mod logs;
pub mod metric;
pub mod notification_rule;
pub mod oauth;
pub mod operator;
pub mod plan;
pub mod platform;
pub mod plugin;
pub mod project;
pub mod run;
pub mod second_factor;
mod secret;
pub mod service;
pub mod shell;
mod signals;
pub mod tcp_proxy;
pub mod template;
pub mod token;
pub mod variable;
pub mod volume;
pub mod webhook;
pub mod workflow;
pub mod workspace;

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use context::{KeyPrincipal, OpCtx, Opened, Principal, SystemPrincipal, UserPrincipal, Via};
pub use error::Error;
pub use secret::{new_key, new_secret};
pub use signals::{Change as Signal, Signals};
use store::Store;
use telemetry::Telemetry;

/// What every verb needs: shared by all requests of a process.
pub struct Ops {
    /// Desired state and history.
    pub store: Store,
    /// Logs.
    pub telemetry: Telemetry,
    /// The bell between the API and the engine.
    pub signals: Signals,
    /// Programs that people have started in their containers.
    pub shells: shell::Shells,
    /// The way to webhooks that people try out.
    pub webhooks: webhook::Webhooks,
    /// The installation's settings that verbs depend on.
    pub settings: Settings,
    /// Who presented which key, while nothing has changed in the store.
    pub principals: auth::Principals,
    /// How often keys may ask.
    pub limits: limit::Limiter,
    /// What the operator's verbs need of the program around them.
    pub machine: Arc<operator::Machine>,
    /// Who typed a wrong password or code while they are known.
    pub guesses: account::Guesses,
}

impl Ops {
    /// Gathers what verbs need.
    #[must_use]
    pub fn new(store: Store, telemetry: Telemetry, settings: Settings) -> Self {
        Self {
            machine: Arc::new(operator::Machine::unknown(settings.blobs.with_file_name("store-backups"))),
            store,
            telemetry,
            signals: Signals::default(),
            shells: shell::Shells::default(),
            webhooks: webhook::Webhooks::default(),
            settings,
            principals: auth::Principals::default(),
            limits: limit::Limiter::default(),
            guesses: account::Guesses::default(),
        }
    }
}

/// Settings of the installation that verbs depend on.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Service domains are made under it.
    pub base_domain: String,
    /// The edge's port in addresses shown to people; `None` when it is the scheme's own.
    pub edge_port: Option<u16>,
    /// Where the edge speaks TLS; `None` when it does not.
    pub edge_tls_port: Option<u16>,
    /// Certificates are ordered from an authority.
    pub orders_certificates: bool,
    /// The operator has brought a certificate for every name below the base domain.
    pub base_certificate: bool,
    /// Where people reach the API and its pages, without a trailing slash.
    pub dashboard_url: String,
    /// The name of this server's region.
    pub region: String,
    /// Other servers that its dashboard leads to, by name and address.
    pub regions: Vec<(String, String)>,
    /// What people write in front of a TCP proxy's port.
    pub tcp_domain: String,
    /// Ports that TCP proxies are given.
    pub tcp_ports: RangeInclusive<u16>,
    /// Where uploads are kept by their hash.
    pub blobs: PathBuf,
    /// Where artifacts are kept, each in a folder of its name.
    pub artifacts: PathBuf,
    /// The largest upload in bytes.
    pub max_upload_bytes: u64,
    /// Custom domains are routed only when their owner has proved them by DNS.
    pub verify_domains: bool,
    /// What holds for Galaxy's apps.
    pub apps: app::AppSettings,
    /// What workflows may use.
    pub flow: workflow::FlowSettings,
}

impl Settings {
    /// For a server on this machine alone that keeps its files in a folder.
    #[must_use]
    pub fn local(folder: &Path) -> Self {
        Self {
            base_domain: "localhost".into(),
            edge_port: Some(8081),
            edge_tls_port: None,
            orders_certificates: false,
            base_certificate: false,
            dashboard_url: "http://localhost:8080".into(),
            region: "local".into(),
            regions: vec![],
            tcp_domain: "127.0.0.1".into(),
            tcp_ports: 30_000..=32_767,
            blobs: folder.join("blobs"),
            artifacts: folder.join("artifacts"),
            max_upload_bytes: 1_000_000,
            verify_domains: false,
            apps: app::AppSettings::default(),
            flow: workflow::FlowSettings { files: folder.join("files"), ..workflow::FlowSettings::default() },
        }
    }
}
