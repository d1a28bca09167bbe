//! The command line: what can be asked, and which function answers.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::config::{self, ConfigArgs, Effective};
use crate::{admin, doctor, railway, serve, static_files, surface, token};

/// A self-hosted application platform: runs your apps, and answers the clients of hosted platforms.
#[derive(Debug, Parser)]
#[command(name = "orrery", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the API and the engine; starts the edge beside it.
    Serve(ConfigArgs),
    /// Run the reverse proxy in front of the apps; `serve` starts it.
    #[command(hide = true)]
    Edge(EdgeArgs),
    /// Keep one replica of an app alive; the process driver starts it.
    #[command(hide = true)]
    Shim {
        /// The replica's directory.
        dir: PathBuf,
    },
    /// Enter a sandbox that standard input describes, then become the program in it.
    #[command(hide = true)]
    SandboxExec,
    /// Start a program that a person has named in the sandbox of an app that runs.
    #[command(hide = true)]
    SandboxShell,
    /// Prepare and run a server of the machine, such as a database, inside a sandbox.
    #[command(hide = true)]
    Launch {
        /// What runs, as JSON.
        plan: String,
        /// The environment variable with the volume's path.
        volume: String,
    },
    /// Perform nodes of workflows inside of a sandbox.
    #[command(hide = true)]
    NodeWorker,
    /// Serve the files of a folder over HTTP: what a static site runs.
    #[command(hide = true)]
    Static(static_files::StaticArgs),
    /// Run the Railway CLI that is on PATH against this server.
    Railway(railway::RailwayArgs),
    /// Become a program, with the environment that `orrery railway` was started in.
    #[command(hide = true)]
    RailwayChild {
        /// The program and its arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<OsString>,
    },
    /// Hold the connection end of `orrery railway --env`.
    #[command(hide = true)]
    RailwayProxy(railway::ProxyArgs),
    /// Show the settings in effect and where each comes from.
    Config(ConfigCommand),
    /// Say what this machine lacks, what follows from it, and how to get it.
    Doctor(DoctorArgs),
    /// Create, list, change and revoke API tokens, and see how they are used.
    #[command(subcommand)]
    Token(TokenCommand),
    /// Create users, and let those in again who have lost their codes.
    #[command(subcommand)]
    User(UserCommand),
    /// Change the plan of a workspace.
    #[command(subcommand)]
    Plan(PlanCommand),
    /// Copy the database, beside a running server too, and print the copy's path; the newest fourteen are kept.
    ///
    /// Secrets in the copy stay encrypted with the master key, which is not in it: keep that file elsewhere.
    Backup {
        #[command(flatten)]
        settings: ConfigArgs,
    },
    /// Print a link that logs a user in once.
    LoginLink(LoginLinkArgs),
    /// End the apps and the edge, which go on when `orrery serve` ends; the next `orrery serve` starts them again.
    Stop {
        /// End every app, database and run, and the edge.
        #[arg(long)]
        apps: bool,
        #[command(flatten)]
        settings: ConfigArgs,
    },
    /// Print one checked-in description of the public surface.
    #[command(hide = true)]
    Surface {
        /// The file's name under `surface/`.
        name: String,
    },
}

/// Arguments of `orrery edge`.
#[derive(Debug, Args)]
pub(crate) struct EdgeArgs {
    /// The edge's own directory: its table, its socket, its logs.
    #[arg(long)]
    pub(crate) dir: PathBuf,
    /// An address to accept requests on; may be given several times.
    #[arg(long, required = true)]
    pub(crate) listen: Vec<SocketAddr>,
    /// An address to accept requests inside TLS on; may be given several times.
    #[arg(long)]
    pub(crate) tls_listen: Vec<SocketAddr>,
    /// Names without a certificate get one for this domain, which nobody trusts.
    #[arg(long, default_value = "localhost")]
    pub(crate) base_domain: String,
    /// A file with a certificate that they get instead, and its private key.
    #[arg(long)]
    pub(crate) tls_certificate: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct ConfigCommand {
    /// Print every setting with its source; the default.
    #[arg(long)]
    show: bool,
    /// Print the JSON schema of the configuration file instead.
    #[arg(long, conflicts_with = "show")]
    schema: bool,
    #[command(flatten)]
    settings: ConfigArgs,
}

#[derive(Debug, Args)]
struct DoctorArgs {
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: ConfigArgs,
}

/// Arguments of `orrery token …`.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Create a token and print it once.
    Create {
        #[command(flatten)]
        wanted: token::Wanted,
        #[command(flatten)]
        settings: ConfigArgs,
    },
    /// List tokens, without their text.
    List {
        /// The user's e-mail address; the first admin when it is left out.
        #[arg(long)]
        user: Option<String>,
        #[command(flatten)]
        settings: ConfigArgs,
    },
    /// Revoke a token at once.
    Revoke {
        /// The token's id, from `orrery token list`.
        id: String,
        #[command(flatten)]
        settings: ConfigArgs,
    },
    /// Change a token's name or its limits.
    Update {
        /// The token's id, from `orrery token list`.
        id: String,
        /// Another name.
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        windows: token::Windows,
        #[command(flatten)]
        settings: ConfigArgs,
    },
    /// Show how often a token was used on each day.
    Usage {
        /// The token's id, from `orrery token list`.
        id: String,
        /// How many days, today included.
        #[arg(long, default_value_t = 30)]
        days: u32,
        #[command(flatten)]
        settings: ConfigArgs,
    },
}

/// Arguments of `orrery user …`.
#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// Create a user with a personal workspace and print a login link.
    Create {
        /// The user's e-mail address.
        email: String,
        /// The user's name; the part before the `@` when it is left out.
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        settings: ConfigArgs,
    },
    /// Give a user another e-mail address.
    Email {
        /// The user's present e-mail address.
        email: String,
        /// The new one.
        new: String,
        #[command(flatten)]
        settings: ConfigArgs,
    },
    /// Turn two-factor authentication off for a user who has lost their app and their recovery codes.
    ResetTwoFactor {
        /// The user's e-mail address.
        email: String,
        #[command(flatten)]
        settings: ConfigArgs,
    },
}

/// Arguments of `orrery plan …`.
#[derive(Debug, Subcommand)]
pub(crate) enum PlanCommand {
    /// Set the plan of a workspace.
    Set {
        /// The workspace's id or username.
        workspace: String,
        /// The plan's name.
        plan: String,
        #[command(flatten)]
        settings: ConfigArgs,
    },
}

/// Arguments of `orrery login-link`.
#[derive(Debug, Args)]
pub(crate) struct LoginLinkArgs {
    /// The user's e-mail address; the first admin when it is left out.
    #[arg(long)]
    pub(crate) user: Option<String>,
    #[command(flatten)]
    pub(crate) settings: ConfigArgs,
}

/// The whole command line, with nothing of this process's environment in its help.
pub(crate) fn command() -> clap::Command {
    fn quiet(command: clap::Command) -> clap::Command {
        command.mut_args(|arg| arg.hide_env_values(true)).mut_subcommands(quiet)
    }
    quiet(Cli::command())
}

/// Parses the arguments and runs the subcommand.
pub(crate) fn run() -> ExitCode {
    if let Some(code) = railway::run_as_shell().or_else(railway::run_as_client).or_else(railway::run_as_ssh) {
        return code;
    }
    let matches = command().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    match dispatch(cli.command, innermost(&matches)) {
        Ok(code) => code,
        Err(error) => {
            #[expect(clippy::print_stderr, reason = "the error of a command line program")]
            {
                eprintln!("orrery: {error:#}");
            }
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command, given: &ArgMatches) -> anyhow::Result<ExitCode> {
    let resolve = |settings: ConfigArgs| -> anyhow::Result<Effective> { Ok(config::resolve(settings, given)?) };
    match command {
        Command::Serve(settings) => serve::serve(resolve(settings)?),
        Command::Edge(args) => serve::edge(args),
        Command::Shim { dir } => serve::shim(&dir),
        Command::SandboxExec => serve::sandbox_exec(),
        Command::SandboxShell => serve::sandbox_shell(),
        Command::Launch { plan, volume } => serve::launch(&plan, &volume),
        Command::NodeWorker => {
            engine::node_worker_main();
            Ok(ExitCode::SUCCESS)
        }
        Command::Static(args) => static_files::run(args),
        Command::Railway(args) => railway::run(args),
        Command::RailwayChild { command } => railway::run_child(&command),
        Command::RailwayProxy(args) => railway::run_proxy(&args),
        Command::Config(args) if args.schema => surface::print("config.schema.json"),
        Command::Config(args) => config::show(&resolve(args.settings)?),
        Command::Doctor(args) => doctor::run(&resolve(args.settings)?, args.json),
        Command::Token(command) => match command {
            TokenCommand::Create { wanted, settings } => token::create(resolve(settings)?.config, wanted),
            TokenCommand::List { user, settings } => token::list(resolve(settings)?.config, user.as_deref()),
            TokenCommand::Revoke { id, settings } => token::revoke(resolve(settings)?.config, &id),
            TokenCommand::Update { id, name, windows, settings } => token::update(resolve(settings)?.config, &id, name, windows),
            TokenCommand::Usage { id, days, settings } => token::usage(resolve(settings)?.config, &id, days),
        },
        Command::User(UserCommand::Create { email, name, settings }) => {
            admin::user_create(resolve(settings)?.config, &email, name.as_deref())
        }
        Command::User(UserCommand::Email { email, new, settings }) => admin::user_email(resolve(settings)?.config, &email, &new),
        Command::User(UserCommand::ResetTwoFactor { email, settings }) => admin::user_reset_two_factor(resolve(settings)?.config, &email),
        Command::Plan(PlanCommand::Set { workspace, plan, settings }) => admin::plan_set(resolve(settings)?.config, &workspace, &plan),
        Command::Backup { settings } => admin::backup(resolve(settings)?.config),
        Command::LoginLink(args) => admin::login_link(resolve(args.settings)?.config, args.user.as_deref()),
        Command::Stop { apps, settings } => serve::stop(&resolve(settings)?.config, apps),
        Command::Surface { name } => surface::print(&name),
    }
}

/// The matches of the subcommand that was asked for, which know where each value came from.
fn innermost(matches: &ArgMatches) -> &ArgMatches {
    matches.subcommand().map_or(matches, |(_, inner)| innermost(inner))
}
