//! Where users' commands run: a process without privileges that sees a read-only machine, its own folder and nobody else.
//!
//! [`Sandbox::command`] gives a command that executes this program again as `orrery sandbox-exec`. That process stays outside as the
//! *guard*: it makes the namespaces, waits, passes signals on, and ends everything inside when its parent ends. Inside, an *init* process
//! arranges the mounts, gives up every privilege, starts the app and reaps orphans. The guard ends as the app ended, so its parent sees
//! the app's own exit status or signal.
//!
//! The guard understands, besides the signals that it passes on, SIGALRM: end everything inside at once, and only then end.
//!
//! | | as root | without root |
//! | --- | --- | --- |
//! | user, capabilities, `no_new_privs`, resource limits | own user, none, yes, yes | Orrery's user, none, yes, yes |
//! | system calls (seccomp) | mount, ptrace, namespaces, keys, modules, bpf, … refused | the same |
//! | files | read-only machine, private `/tmp`, `/dev`, `/proc`; people's and Orrery's folders masked | Landlock: Orrery's folders closed, nothing but the own folders writable |
//! | processes | own pid, ipc, uts, mount and cgroup namespace | tracing the outside refused (Landlock), from kernel 6.12 on signals too |
//! | memory, CPU, number of processes | control group | where the machine delegates one |
//!
//! Why not libcontainer (youki), the first choice of the dependency list: it takes a bundle directory with a `config.json` and a root
//! file system, and keeps a state directory and a lifecycle of its own beside our supervisor's, where this needs one command whose exit
//! status is the app's. Without root it does not work on version 1 of control groups at all. Its first answer came after 8 to 17 ms; the
//! same namespaces made directly take a third of that (`examples/start_latency.rs`). What would be used of it is two dozen system
//! calls, which nix and rustix wrap.

mod capabilities;
mod confine;
mod enter;
mod join;
mod keep;
mod mounts;
mod privileges;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;

use domain::spec::Limits;
use nix::sys::memfd::{MFdFlags, memfd_create};
use serde::{Deserialize, Serialize};

pub use capabilities::{Capabilities, Check};
pub use enter::sandbox_exec_main;
pub use join::{SHELL_SUBCOMMAND, sandbox_shell_main};
pub(crate) use join::{VARIABLE, Visit};

/// The hidden subcommand behind [`sandbox_exec_main`].
pub const SUBCOMMAND: &str = "sandbox-exec";

/// Programs are searched here when the environment has no PATH.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The exit status of a sandbox that could not be entered; its last line on standard error says why.
pub const EXIT_NOT_ENTERED: i32 = 125;

/// A user of the operating system, by numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct UnixUser {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// What a command may see and use. Persisted with a replica.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sandbox {
    /// Whom the command runs as (only root can choose); `None` is Orrery's own user.
    pub user: Option<UnixUser>,
    /// The working tree, visible at the same path inside.
    pub root: PathBuf,
    /// A private folder, made if missing: its `upper` takes the writes to `root` (overlayfs, as root and where possible; otherwise `root`
    /// itself is written to), `work` is the kernel's, and `tmp` is `/tmp` inside. Without it, `/tmp` is a file system in memory.
    pub overlay: Option<PathBuf>,
    /// Further folders that can be written to, visible at the same path.
    pub writable: Vec<PathBuf>,
    /// Folders that can be written to and are seen at another path. Without root they are seen at their own.
    #[serde(default)]
    pub binds: Vec<Bind>,
    /// Folders that cannot be seen, such as Orrery's data directory. `root` and `writable` may lie inside.
    pub hidden: Vec<PathBuf>,
    /// Limits of everything inside together.
    pub limits: Limits,
    /// The name of the control group; without one, no limits hold.
    pub cgroup: Option<String>,
    /// Whether the network can be used. Without it not even loopback can.
    pub network: bool,
}

/// A folder that is seen at another path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bind {
    /// Where it is.
    pub source: PathBuf,
    /// Where it is seen. The machine need not have this path.
    pub target: PathBuf,
    /// The variable that tells the program where to look.
    pub variable: String,
}

/// Why no command could be made.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The name of the control group would be a path.
    #[error("`{0}` cannot name a control group: use letters, digits and dashes")]
    Name(String),
    /// A path that would mean something else inside.
    #[error("the sandbox needs absolute paths, and {0} is not one")]
    Relative(PathBuf),
    /// The description could not be handed over.
    #[error("the sandbox's description could not be written: {0}")]
    Describe(#[from] io::Error),
}

/// What `sandbox-exec` reads: the sandbox and what runs in it.
#[derive(Serialize, Deserialize)]
struct Entry {
    sandbox: Sandbox,
    program: PathBuf,
    args: Vec<String>,
    env: BTreeMap<String, String>,
    cwd: PathBuf,
    /// The process that waits for the guard. When it ends, so does everything inside.
    parent: u32,
    /// Standard input is a terminal, which becomes the program's own.
    #[serde(default)]
    terminal: bool,
}

impl Sandbox {
    /// The command that runs `program` inside, in the folder `cwd`, with exactly this environment.
    ///
    /// Its standard input is taken (it carries the description, which holds secrets and therefore must not be an argument); inside,
    /// standard input is empty. Standard output and error can be chosen as with any command. Ending the command by SIGKILL ends
    /// everything inside. A program given as [`own_program`] is this program itself, even where its path cannot be seen.
    ///
    /// # Errors
    /// Only for a malformed sandbox; what the machine refuses shows as exit status [`EXIT_NOT_ENTERED`].
    pub fn command<S: AsRef<str>>(
        &self,
        program: impl AsRef<Path>,
        args: &[S],
        env: &BTreeMap<String, String>,
        cwd: impl AsRef<Path>,
    ) -> Result<tokio::process::Command, SandboxError> {
        self.check()?;
        let entry = Entry {
            sandbox: self.clone(),
            program: program.as_ref().to_owned(),
            args: args.iter().map(|arg| arg.as_ref().to_owned()).collect(),
            env: env.clone(),
            cwd: cwd.as_ref().to_owned(),
            parent: std::process::id(),
            terminal: false,
        };
        let memory = memfd_create("sandbox", MFdFlags::MFD_CLOEXEC).map_err(io::Error::from)?;
        let mut file = std::fs::File::from(memory);
        file.write_all(&serde_json::to_vec(&entry).map_err(io::Error::from)?)?;
        let mut command = tokio::process::Command::new(self_exe());
        command.arg0("orrery").arg(SUBCOMMAND).env_clear().stdin(Stdio::from(file));
        Ok(command)
    }

    fn check(&self) -> Result<(), SandboxError> {
        if let Some(name) = &self.cgroup {
            let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
            if !plain || name.is_empty() || name.starts_with('.') || name.len() > 200 {
                return Err(SandboxError::Name(name.clone()));
            }
        }
        let bound = self.binds.iter().flat_map(|bind| [&bind.source, &bind.target]);
        let paths = [&self.root].into_iter().chain(&self.overlay).chain(&self.writable).chain(&self.hidden).chain(bound);
        match paths.into_iter().find(|path| !path.is_absolute()) {
            Some(path) => Err(SandboxError::Relative(path.clone())),
            None => Ok(()),
        }
    }

    /// What this machine allows, with remedies: for `doctor`.
    #[must_use]
    pub fn capabilities() -> Capabilities {
        capabilities::find()
    }
}

/// This program under a name that works inside any sandbox, also after it was replaced on disk.
#[must_use]
pub fn own_program() -> &'static Path {
    Path::new("/proc/self/exe")
}

static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// Names the program that knows [`SUBCOMMAND`], where that is not this one: in tests. The first call counts; the environment variable
/// `ORRERY_EXE` does the same.
pub fn use_program(program: impl Into<PathBuf>) {
    // A second call is what every test of one binary makes.
    let _ = PROGRAM.set(program.into());
}

fn self_exe() -> PathBuf {
    let named = || PROGRAM.get().cloned().or_else(|| std::env::var_os("ORRERY_EXE").map(PathBuf::from));
    named().unwrap_or_else(|| own_program().to_owned())
}

/// Ends whatever is left in a control group and deletes it: for the caller of a command that was killed together with its guard.
///
/// # Errors
/// When the kernel refuses, because processes are still on their way out.
pub fn remove_cgroup(name: &str) -> io::Result<()> {
    let group = crate::cgroup::Group::find(name);
    for pid in group.members() {
        // It may have ended meanwhile.
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
    }
    group.remove()
}
