//! A PostgreSQL server of our own: started when the first test asks for it, stopped and deleted when the last one lets go of it.
//!
//! The server refuses to run as root, so that as root it runs as `postgres` or `nobody`. A fresh cluster takes a second to make; it is
//! made once and copied.

#[path = "../../../server/tests/harness/owned.rs"]
#[allow(clippy::duplicate_mod, reason = "a test may have other servers that bring it along")]
mod owned;
#[path = "../../../server/tests/harness/ports.rs"]
#[allow(clippy::duplicate_mod, reason = "a test may have other servers that bring it along")]
mod ports;

use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak, mpsc};

use tokio_postgres::NoTls;

const PREFIX: &str = "orrery-postgres-";

/// The running server.
pub(crate) struct Postgres {
    dir: tempfile::TempDir,
    port: u16,
    user: Option<(u32, u32)>,
    databases: AtomicU32,
    /// The server is told when the thread that started it ends, so that thread stays until this is dropped.
    keeper: Option<(mpsc::Sender<()>, std::thread::JoinHandle<Child>)>,
    /// Held until the folder is gone.
    _owner: std::fs::File,
}

static RUNNING: Mutex<Weak<Postgres>> = Mutex::new(Weak::new());

impl Postgres {
    /// The server of this process.
    pub(crate) fn shared() -> Arc<Self> {
        let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        running.upgrade().unwrap_or_else(|| {
            let server = Arc::new(Self::start(&[]));
            *running = Arc::downgrade(&server);
            server
        })
    }

    /// A server with further settings and files in its data folder.
    pub(crate) fn start(files: &[(&str, &str)]) -> Self {
        let user = unprivileged();
        let place = Path::new("/tmp");
        // A server ends with the test that has started it, and its files stay when that was killed.
        owned::sweep(PREFIX, place, |_| {});
        let (dir, owner) = owned::claim(PREFIX, place);
        let data = dir.path().join("data");
        copy(&template(), &data);
        std::fs::set_permissions(&data, PermissionsExt::from_mode(0o700)).unwrap();
        for (name, text) in files {
            let path = data.join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        }
        give(dir.path(), user);
        let port = ports::free_port();
        let mut command = as_user(Path::new("setpriv"), user);
        command.args(["--pdeathsig", "SIGQUIT"]).arg(binary("postgres")).arg("-D").arg(&data);
        command.args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1", "-c", "max_connections=200"]);
        command.arg("-c").arg(format!("unix_socket_directories={}", dir.path().display()));
        for setting in ["fsync=off", "full_page_writes=off", "autovacuum=off", "shared_buffers=16MB"] {
            command.args(["-c", setting]);
        }
        if files.iter().any(|(name, _)| *name == "server.key") {
            command.args(["-c", "ssl=on"]);
        }
        command.stderr(Stdio::piped()).stdout(Stdio::null());
        let (ready, is_ready) = mpsc::channel();
        let (stop, stopped) = mpsc::channel::<()>();
        let keeper = std::thread::spawn(move || {
            let mut child = command.spawn().expect("setpriv of util-linux starts PostgreSQL");
            let stderr = BufReader::new(child.stderr.take().unwrap());
            std::thread::spawn(move || {
                let mut said = String::new();
                for line in stderr.lines().map_while(Result::ok) {
                    said.push_str(&line);
                    if line.contains("ready to accept connections") {
                        let _ = ready.send(Ok(()));
                    }
                }
                let _ = ready.send(Err(said));
            });
            let _ = stopped.recv();
            child
        });
        is_ready.recv().unwrap().expect("PostgreSQL is ready");
        Self { dir, port, user, databases: AtomicU32::new(0), keeper: Some((stop, keeper)), _owner: owner }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The address of a fresh database.
    pub(crate) async fn database(&self) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let base = format!("postgres://postgres@127.0.0.1:{}", self.port);
        let (client, connection) = tokio_postgres::connect(&format!("{base}/postgres"), NoTls).await.unwrap();
        let connection = tokio::spawn(connection);
        client.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
        drop(client);
        connection.await.unwrap().unwrap();
        format!("{base}/{name}")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let mut stop = as_user(&binary("pg_ctl"), self.user);
        stop.args(["-s", "-m", "immediate", "stop", "-D"]).arg(self.dir.path().join("data"));
        let _ = stop.stderr(Stdio::null()).status();
        if let Some((stop, keeper)) = self.keeper.take() {
            drop(stop);
            if let Ok(mut child) = keeper.join() {
                let _ = child.wait();
            }
        }
    }
}

/// Where PostgreSQL's programs are; not all of them are on the PATH.
fn binary(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = versions.map(|version| version.path().join("bin").join(name)).filter(|path| path.exists()).collect();
    found.sort();
    let on_path = || std::env::split_paths(&std::env::var_os("PATH")?).map(|dir| dir.join(name)).find(|path| path.exists());
    found.pop().or_else(on_path).unwrap_or_else(|| panic!("{name} is missing: install PostgreSQL (Debian: apt-get install postgresql)"))
}

fn unprivileged() -> Option<(u32, u32)> {
    let me = std::fs::metadata("/proc/self").map(|meta| std::os::unix::fs::MetadataExt::uid(&meta)).unwrap();
    if me != 0 {
        return None;
    }
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap();
    let user = |name: &str| {
        let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2).map(str::parse::<u32>);
        Some((fields.next()?.ok()?, fields.next()?.ok()?))
    };
    Some(user("postgres").or_else(|| user("nobody")).expect("a user that is not root"))
}

fn as_user(program: &Path, user: Option<(u32, u32)>) -> Command {
    let mut command = Command::new(program);
    command.current_dir("/").env_remove("PGDATA");
    if let Some((uid, gid)) = user {
        command.uid(uid).gid(gid);
    }
    command
}

/// A cluster to copy, made by whoever needs it first.
fn template() -> PathBuf {
    let initdb = binary("initdb");
    let version = initdb.ancestors().nth(2).and_then(Path::file_name).unwrap().to_string_lossy().into_owned();
    let ready = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("postgres-template-{version}"));
    if !ready.exists() {
        let user = unprivileged();
        let dir = tempfile::Builder::new().prefix("orrery-initdb-").tempdir_in("/tmp").unwrap();
        give(dir.path(), user);
        let mut command = as_user(&initdb, user);
        command.args(["--no-sync", "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "-D"]).arg(dir.path().join("data"));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let draft = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        copy(&dir.path().join("data"), &draft.path().join("data"));
        // Someone else may have been faster; theirs is as good.
        let _ = std::fs::rename(draft.path().join("data"), &ready);
    }
    ready
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target).unwrap();
        }
    }
}

fn give(path: &Path, user: Option<(u32, u32)>) {
    let Some((uid, gid)) = user else { return };
    chown(path, Some(uid), Some(gid)).unwrap();
    if path.is_dir() {
        for entry in std::fs::read_dir(path).unwrap().map(Result::unwrap) {
            give(&entry.path(), Some((uid, gid)));
        }
    }
}
