//! A real server in a folder of its own, and the real Railway CLI pointed at it.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of this module")]

pub mod folder;
pub mod names;
pub mod pebble;
mod ports;
pub mod python;
pub mod webhooks;

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

pub use ports::{free_port, free_ports};

/// How long anything in these tests may take before it counts as stuck. Some of it comes from registries.
const PATIENCE: Duration = Duration::from_secs(300);

/// How long something may take to show on a platform that has done its part.
const SOON: Duration = Duration::from_secs(300);

/// Ports for databases and other TCP services of one server.
const TCP_PORTS: u16 = 24;

/// The settings with which no key has limits: for tests that ask faster than people do.
pub const UNLIMITED: [(&str, &str); 3] =
    [("ORRERY_LIMITS_HOBBY", "none"), ("ORRERY_LIMITS_PROFESSIONAL", "none"), ("ORRERY_LIMITS_OPERATOR", "none")];

pub struct Server {
    pub dir: tempfile::TempDir,
    pub api: u16,
    pub edge: u16,
    pub token: String,
    pub login: String,
    child: Child,
    extra: Vec<(String, String)>,
    /// Held until the folder is gone.
    _owner: std::fs::File,
}

pub fn exe() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_orrery"))
}

/// The command-line client, built once into a cache outside the checkout.
pub fn railway_cli() -> PathBuf {
    let named = std::env::var_os("ORRERY_TEST_RAILWAY").map(PathBuf::from);
    let cache = std::env::var_os("ORRERY_CACHE").map(PathBuf::from).or_else(|| Some(std::env::home_dir()?.join(".cache/orrery")));
    let path = named.unwrap_or_else(|| cache.unwrap_or_default().join("railway/bin/railway"));
    assert!(path.exists(), "the Railway CLI is not at {}: run `cargo xtask railway-cli`, which builds it there", path.display());
    path
}

impl Server {
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    pub fn start_unlimited() -> Self {
        Self::start_with(&UNLIMITED)
    }

    pub fn start_with(extra: &[(&str, &str)]) -> Self {
        let (dir, owner) = folder::claim();
        // Replicas run as users of their own and pass through this folder.
        set_mode(dir.path(), 0o755);
        let first = free_ports(TCP_PORTS);
        let tcp = ("ORRERY_TCP_PORTS".to_owned(), format!("{first}-{}", first + TCP_PORTS - 1));
        let given = extra.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let extra: Vec<(String, String)> = std::iter::once(tcp).chain(given).collect();
        let (api, edge) = (free_port(), free_port());
        let (child, first) = launch(dir.path(), api, edge, &extra);
        let token = word_after(&first, "Token").unwrap_or_default();
        let login = word_after(&first, "Login").unwrap_or_default();
        let server = Self { dir, api, edge, token, login, child, extra, _owner: owner };
        assert!(!server.token.is_empty() && !server.login.is_empty(), "the first start prints a token and a link: {first}");
        server
    }

    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Ends `serve` without a chance to say goodbye.
    pub fn sigkill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks `serve` to end, and waits until it has; how it ended.
    pub fn sigterm(&mut self) -> ExitStatus {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM).unwrap();
        until("the end of serve", || self.child.try_wait().unwrap().ok_or_else(|| "it goes on".to_owned()))
    }

    /// Starts `serve` again over the same data.
    pub fn start_again(&mut self) {
        let (child, _) = launch(self.dir.path(), self.api, self.edge, &self.extra);
        self.child = child;
    }

    /// The same with further settings.
    pub fn start_again_with(&mut self, extra: &[(&str, &str)]) {
        self.extra.extend(extra.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        self.start_again();
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `orrery railway -- ARGS` in a folder.
    pub fn railway_command<S: AsRef<OsStr>>(&self, folder: &Path, args: &[S]) -> Command {
        let mut command = Command::new(exe());
        command.arg("railway").arg("--server").arg(format!("http://127.0.0.1:{}", self.api)).arg("--").args(args);
        command.current_dir(folder).stdin(Stdio::null());
        self.environment(&mut command);
        command
    }

    /// As [`Server::railway_command`], on a terminal of its own.
    pub fn terminal_command(&self, folder: &Path, args: &str) -> Command {
        let line = format!("exec {} railway --server http://127.0.0.1:{} -- {args}", exe().display(), self.api);
        let mut command = Command::new("script");
        command.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
        // The end of its input would be typed into the terminal as Ctrl-D.
        command.current_dir(folder).stdin(Stdio::piped());
        self.environment(&mut command);
        command
    }

    /// An operator's command over this server's data.
    pub fn orrery(&self, args: &[&str]) -> Run {
        finish(self.orrery_command(args), &format!("orrery {args:?}"))
    }

    pub fn orrery_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(exe());
        command.args(args).arg("--data-dir").arg(self.data()).stdin(Stdio::null());
        command.args(["--listen", &format!("127.0.0.1:{}", self.api), "--edge-listen", &format!("127.0.0.1:{}", self.edge)]);
        self.environment(&mut command);
        for (name, value) in &self.extra {
            command.env(name, value);
        }
        command
    }

    fn environment(&self, command: &mut Command) {
        let home = self.dir.path().join("home");
        std::fs::create_dir_all(&home).unwrap();
        command
            .env("HOME", &home)
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("XDG_DATA_HOME")
            .env("ORRERY_RAILWAY_BIN", railway_cli())
            .env("ORRERY_TOKEN", &self.token)
            .env("RAILWAY_CALLER", "ci")
            .env("RUST_BACKTRACE", "0")
            .env_remove("CI");
    }

    pub fn railway<S: AsRef<OsStr> + std::fmt::Debug>(&self, folder: &Path, args: &[S]) -> Run {
        finish(self.railway_command(folder, args), &format!("railway {args:?}"))
    }

    /// One that must succeed; its standard output.
    pub fn ok<S: AsRef<OsStr> + std::fmt::Debug>(&self, folder: &Path, args: &[S]) -> String {
        let run = self.railway(folder, args);
        assert_eq!(run.status, 0, "railway {args:?}\n{run:?}");
        run.stdout
    }

    pub fn json<S: AsRef<OsStr> + std::fmt::Debug>(&self, folder: &Path, args: &[S]) -> serde_json::Value {
        let text = self.ok(folder, args);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("railway {args:?}: {error} in {text}"))
    }

    pub fn graphql(&self, query: &str) -> serde_json::Value {
        self.graphql_as(&self.token, query)
    }

    pub fn graphql_as(&self, token: &str, query: &str) -> serde_json::Value {
        let body = serde_json::json!({"query": query}).to_string();
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        let answer = request(self.api, "POST", "localhost", "/graphql/v2", &headers, body.as_bytes());
        serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{error}: {answer:?}"))
    }

    /// A form sent by a page of this server, in a browser that has `cookie`.
    pub fn submit(&self, path: &str, cookie: Option<&str>, form: &str) -> Answer {
        let host = format!("127.0.0.1:{}", self.api);
        let origin = format!("http://{host}");
        let mut headers = vec![("origin", origin.as_str()), ("content-type", "application/x-www-form-urlencoded")];
        headers.extend(cookie.map(|cookie| ("cookie", cookie)));
        request(self.api, "POST", &host, path, &headers, form.as_bytes())
    }

    /// Follows a login link as a browser would; the cookie.
    pub fn sign_in(&self, link: &str) -> String {
        let token = link.split_once("token=").expect("a login link has a token").1.trim();
        let answer = self.submit("/login/link", None, &format!("token={token}"));
        assert_eq!(answer.status, 303, "{answer:?}");
        let cookie = answer.header("set-cookie").expect("a session");
        cookie.split(';').next().unwrap().to_owned()
    }

    /// Where the command-line client keeps its login.
    pub fn railway_config(&self, home: &Path) -> PathBuf {
        home.join(format!(".local/share/orrery/railway/http-127.0.0.1-{}/.railway/config.json", self.api))
    }

    /// `railway login --browserless` in `home`, approved in the browser that has `cookie`.
    pub fn log_in(&self, home: &Path, cookie: &str) -> String {
        std::fs::create_dir_all(home).unwrap();
        let mut command = self.railway_command(home, &["login", "--browserless"]);
        command.env("HOME", home).env_remove("ORRERY_TOKEN");
        let login = Live::start(command);
        let code = login.device_code();
        let approved = self.submit("/oauth/device", Some(cookie), &format!("user_code={code}&answer=approve"));
        assert_eq!(approved.status, 200, "{approved:?}");
        let (status, text) = login.end();
        assert_eq!(status, 0, "{text}");
        text
    }

    /// A request to an app through the edge.
    pub fn visit(&self, host: &str, path: &str) -> Answer {
        request(self.edge, "GET", host, path, &[], b"")
    }

    /// Visits until the answer is as wanted.
    pub fn visit_until(&self, host: &str, path: &str, wanted: impl Fn(&Answer) -> bool) -> Answer {
        until(&format!("the wanted answer of {host}{path}"), || {
            let answer = self.visit(host, path);
            if wanted(&answer) { Ok(answer) } else { Err(format!("{answer:?}")) }
        })
    }

    /// The processes that this server has started: the edge, the supervisors, the apps.
    pub fn processes(&self, kind: &str) -> Vec<u32> {
        let mark = self.data().display().to_string();
        processes(|command| command.contains(&mark) && command.split('\0').nth(1) == Some(kind))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() && std::env::var_os("ORRERY_TEST_LOG").is_some() {
            let log = std::fs::read_to_string(self.dir.path().join("serve.log")).unwrap_or_default();
            #[expect(clippy::print_stderr, reason = "wanted by the person who runs the tests")]
            {
                eprintln!("--- log of serve\n{log}");
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        folder::clear(self.dir.path());
    }
}

/// Processes by their command line, arguments separated by NUL.
fn processes(wanted: impl Fn(&str) -> bool) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| *pid != std::process::id())
        .filter(|pid| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|command| wanted(&command)))
        .collect()
}

fn launch(dir: &Path, api: u16, edge: u16, extra: &[(String, String)]) -> (Child, String) {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(dir.join("serve.log")).unwrap();
    let home = dir.join("home");
    std::fs::create_dir_all(&home).unwrap();
    let first = !dir.join("data").exists();
    // A test that is about the program's own file has a copy of it here.
    let copy = dir.join("orrery");
    let mut command = Command::new(if copy.exists() { copy.as_path() } else { exe() });
    command
        .arg("serve")
        .arg("--data-dir")
        .arg(dir.join("data"))
        .args(["--listen", &format!("127.0.0.1:{api}"), "--edge-listen", &format!("127.0.0.1:{edge}")])
        .env("ORRERY_LOG_FILTER", "info")
        .env("XDG_CONFIG_HOME", home.join(".config"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log);
    for (name, value) in extra {
        command.env(name, value);
    }
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut text = String::new();
    loop {
        let mut line = String::new();
        if lines.read_line(&mut line).unwrap() == 0 {
            let log = std::fs::read_to_string(dir.join("serve.log")).unwrap_or_default();
            panic!("serve ended: {text}\n{log}");
        }
        text.push_str(&line);
        if text.contains(if first { "export TOKEN" } else { "Apps " }) {
            break;
        }
    }
    // Whatever else is printed must not block the server.
    std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
    (child, text)
}

fn word_after(text: &str, label: &str) -> Option<String> {
    text.lines().find_map(|line| Some(line.trim().strip_prefix(label)?.trim().to_owned()))
}

pub fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// What a command did.
#[derive(Debug)]
pub struct Run {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

/// Runs a command to its end, or fails the test when it does not end.
pub fn finish(command: Command, what: &str) -> Run {
    finish_within(command, what, PATIENCE)
}

/// As [`finish`], for what may take longer.
pub fn finish_within(mut command: Command, what: &str, patience: Duration) -> Run {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let reader = std::thread::spawn(move || {
        let mut text = vec![];
        out.read_to_end(&mut text).unwrap();
        text
    });
    let errors = std::thread::spawn(move || {
        let mut text = vec![];
        err.read_to_end(&mut text).unwrap();
        text
    });
    let pid = Pid::from_raw(child.id() as i32);
    let (sender, receiver) = std::sync::mpsc::channel();
    let waiter = std::thread::spawn(move || {
        let status = child.wait().unwrap();
        let _ = sender.send(());
        status
    });
    if receiver.recv_timeout(patience).is_err() {
        let _ = kill(pid, Signal::SIGKILL);
        let status = waiter.join().unwrap();
        let text = String::from_utf8_lossy(&reader.join().unwrap()).into_owned();
        let errors = String::from_utf8_lossy(&errors.join().unwrap()).into_owned();
        panic!("{what} did not end ({status}):\n{text}\n{errors}");
    }
    let output = Output { status: waiter.join().unwrap(), stdout: reader.join().unwrap(), stderr: errors.join().unwrap() };
    Run {
        status: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A command that goes on while the test looks at what it prints.
pub struct Live {
    child: Child,
    text: Arc<Mutex<String>>,
    readers: Vec<std::thread::JoinHandle<()>>,
}

impl Live {
    pub fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let text = Arc::new(Mutex::new(String::new()));
        let outputs: [Box<dyn Read + Send>; 2] = [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        let shared = text.clone();
        let readers = outputs.into_iter().map(|mut output| {
            let text = shared.clone();
            std::thread::spawn(move || {
                let (mut part, mut bytes) = ([0; 8192], vec![]);
                while let Ok(count @ 1..) = output.read(&mut part) {
                    bytes.extend_from_slice(&part[..count]);
                    // A character that has come in half waits for the rest of it.
                    let half = std::str::from_utf8(&bytes).err().filter(|error| error.error_len().is_none());
                    let whole = half.map_or(bytes.len(), |error| error.valid_up_to());
                    text.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..whole]));
                    bytes.drain(..whole);
                }
            })
        });
        let readers = readers.collect();
        Self { child, text, readers }
    }

    pub fn seen(&self) -> String {
        self.text.lock().unwrap().clone()
    }

    /// Types into its terminal.
    pub fn types(&mut self, text: &str) {
        self.child.stdin.as_mut().expect("a terminal").write_all(text.as_bytes()).unwrap();
    }

    /// Waits until it has printed `words`; everything so far.
    pub fn wait_for(&self, words: &str) -> String {
        until(&format!("{words:?} on the screen"), || {
            let seen = self.seen();
            if seen.contains(words) { Ok(seen) } else { Err(seen) }
        })
    }

    /// Waits for the whole of the code that a login shows in its link.
    pub fn device_code(&self) -> String {
        until("a link with the code", || {
            let seen = self.seen();
            let code = seen.split_once("user_code=").and_then(|(_, rest)| rest.split_once(char::is_whitespace));
            code.map(|(code, _)| code.to_owned()).ok_or(seen)
        })
    }

    /// Waits until it has ended; the exit status and everything that it printed.
    pub fn end(mut self) -> (i32, String) {
        let status = until("the end of a command", || self.child.try_wait().unwrap().ok_or_else(|| self.seen()));
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
        (status.code().unwrap_or(-1), self.seen())
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        // The number of one that has been waited for may be another process's by now.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM);
            let _ = self.child.wait();
        }
    }
}

/// Where a build waits until the test, which drops this, has seen enough.
pub struct Hold(TcpListener);

impl Hold {
    pub fn begin() -> Self {
        Self(TcpListener::bind(("127.0.0.1", 0)).unwrap())
    }

    /// A command that ends well when this is dropped: nobody takes its connection, and the kernel closes that with the listener.
    pub fn command(&self) -> String {
        format!("curl --silent --noproxy '*' http://{} || true", self.0.local_addr().unwrap())
    }
}

/// An HTTP answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let line = self.head.lines().find(|line| line.to_ascii_lowercase().starts_with(&format!("{name}:")))?;
        Some(line[name.len() + 1..].trim())
    }
}

/// One request on a connection of its own. Status 0 when the connection failed.
pub fn request(port: u16, method: &str, host: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let attempt = || -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), Duration::from_secs(30))?;
        stream.set_read_timeout(Some(Duration::from_secs(120)))?;
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes())?;
        stream.write_all(body)?;
        let mut answer = vec![];
        stream.read_to_end(&mut answer)?;
        Ok(answer)
    };
    let bytes = match attempt() {
        Ok(bytes) => bytes,
        Err(error) => return Answer { status: 0, head: String::new(), body: error.to_string() },
    };
    parse(&bytes)
}

/// An answer as it came.
pub fn parse(bytes: &[u8]) -> Answer {
    let split = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or(bytes.len());
    let head = String::from_utf8_lossy(&bytes[..split]).into_owned();
    let raw = bytes.get(split + 4..).unwrap_or_default();
    let body = if head.to_ascii_lowercase().contains("transfer-encoding: chunked") { unchunk(raw) } else { raw.to_vec() };
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    Answer { status, head, body: String::from_utf8_lossy(&body).into_owned() }
}

/// Sends bytes as they are and reads the answer; the sending side stays open. Status 0 when the connection ended without one.
pub fn raw(port: u16, bytes: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    // A server that has seen enough may close before it has read everything.
    let _ = stream.write_all(bytes);
    let mut answer = vec![];
    let mut part = [0; 65536];
    while let Ok(count @ 1..) = stream.read(&mut part) {
        answer.extend_from_slice(&part[..count]);
        if complete(&answer) {
            break;
        }
    }
    parse(&answer)
}

/// Whether the answer has all that its `content-length` announces.
fn complete(bytes: &[u8]) -> bool {
    let Some(split) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return false };
    let length = parse(bytes).header("content-length").and_then(|text| text.parse::<usize>().ok());
    length.is_some_and(|length| bytes.len() >= split + 4 + length)
}

fn unchunk(mut raw: &[u8]) -> Vec<u8> {
    let mut out = vec![];
    while let Some(end) = raw.windows(2).position(|window| window == b"\r\n") {
        let size = usize::from_str_radix(String::from_utf8_lossy(&raw[..end]).trim(), 16).unwrap_or(0);
        if size == 0 {
            break;
        }
        out.extend_from_slice(&raw[end + 2..(end + 2 + size).min(raw.len())]);
        raw = raw.get(end + 4 + size..).unwrap_or_default();
    }
    out
}

/// Asks again until there is a result. What is waited for here lies in another process and gives no event to a test.
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let begun = Instant::now();
    loop {
        match ask() {
            Ok(found) => return found,
            Err(last) => assert!(begun.elapsed() < SOON, "{what} did not come about; last seen: {last}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// What is counted for a day begins anew at midnight, UTC: whoever looks at it does not begin in the minutes before.
pub fn away_from_midnight() {
    let left = 86_400 - jiff::Timestamp::now().as_second() % 86_400;
    if left <= 180 {
        std::thread::sleep(Duration::from_secs(left.unsigned_abs()));
    }
}

pub fn write(folder: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}
