//! Time from the start of a trivial server to its first 200: a plain child, the same in the sandbox, and the same as a
//! replica. The sandbox may add 20 ms at most. Run as root for the whole sandbox:
//!
//! `cargo run --release -p orrery-runtime --example start_latency [ROUNDS]`

#![allow(clippy::print_stdout, reason = "the measurement is for people")]

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use domain::log::{LogKind, LogSource};
use domain::spec::{Limits, RestartPolicy, RunPlan};
use domain::{DeploymentId, EnvironmentId, ProjectId, ReplicaId, ServiceId, SnapshotId, WorkspaceId};
use runtime::process::{ProcessConfig, ProcessDriver};
use runtime::sandbox::{Sandbox, own_program};
use runtime::{Driver, ReplicaSpec, UnixUser};

const ALLOWED: Duration = Duration::from_millis(20);
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let args: Vec<String> = std::env::args().collect();
    match args.get(1).map(String::as_str) {
        Some("shim") => return Ok(u8::try_from(runtime::shim_main(Path::new(&args[2]))).map_or(ExitCode::FAILURE, ExitCode::from)),
        Some(runtime::sandbox::SUBCOMMAND) => runtime::sandbox::sandbox_exec_main(),
        Some("static") => return serve(&args),
        _ => {}
    }
    let rounds = args.get(1).map_or(Ok(30), |text| text.parse())?;
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?.block_on(measure(rounds))
}

/// Answers whatever is asked.
fn serve(args: &[String]) -> Result<ExitCode, Box<dyn Error>> {
    let port = args.iter().position(|arg| arg == "--port").and_then(|at| args.get(at + 1)).ok_or("--port is missing")?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port.parse()?))?;
    for stream in listener.incoming() {
        let mut stream = stream?;
        // One that asks nothing only wanted to know whether somebody listens.
        if stream.read(&mut [0; 1024])? > 0 {
            stream.write_all(ANSWER)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn measure(rounds: usize) -> Result<ExitCode, Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let exe = std::env::current_exe()?;
    let root = folder.path().join("artifacts/one");
    std::fs::create_dir_all(&root)?;
    let user = nix::unistd::geteuid().is_root().then_some(UnixUser { uid: 61_000, gid: 61_000 });
    if let Some(user) = user {
        std::os::unix::fs::chown(&root, Some(user.uid), Some(user.gid))?;
    }
    let limits = Limits { memory_bytes: Some(256 << 20), cpu_millis: Some(2000) };
    let hidden = vec![folder.path().to_owned()];
    let config =
        ProcessConfig { data_dir: folder.path().to_owned(), exe: exe.clone(), hidden: hidden.clone(), port_range: 31_000..=31_999 };
    let driver = ProcessDriver::new(config)?;
    let (mut plain, mut sandboxed, mut replica) = (vec![], vec![], vec![]);
    let mut supervisor_kilobytes = 0;
    // In turn, so that whatever else happens on the machine happens to all three.
    for round in 0..rounds {
        plain.push(run_plain(&exe).await?);
        let sandbox = Sandbox {
            user,
            root: root.clone(),
            overlay: Some(folder.path().join(format!("layer-{round}"))),
            hidden: hidden.clone(),
            limits,
            cgroup: Some(format!("latency-{}", std::process::id())),
            network: true,
            ..Sandbox::default()
        };
        sandboxed.push(run_sandboxed(&sandbox).await?);
        let (took, kilobytes) = run_replica(&driver, folder.path(), &root, user, limits).await?;
        replica.push(took);
        supervisor_kilobytes = kilobytes;
    }
    let [plain, sandboxed, replica] = [plain, sandboxed, replica].map(median);
    let added = sandboxed.saturating_sub(plain);
    // What the last round has left is gone by now, or goes with the next start of the machine.
    let _ = runtime::sandbox::remove_cgroup(&format!("latency-{}", std::process::id()));
    for check in Sandbox::capabilities().checks().iter().filter(|check| !check.ok) {
        println!("without {}: {}", check.name, check.found);
    }
    println!("medians of {rounds} rounds, start to first 200");
    println!("plain child            {:>7.2} ms", millis(plain));
    println!("in the sandbox         {:>7.2} ms (adds {:.2})", millis(sandboxed), millis(added));
    println!("replica with supervisor{:>7.2} ms", millis(replica));
    println!("memory of a supervisor {supervisor_kilobytes:>7} KB resident");
    Ok(if added <= ALLOWED { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn run_plain(exe: &Path) -> Result<Duration, Box<dyn Error>> {
    let port = free_port()?;
    let began = Instant::now();
    let mut child = tokio::process::Command::new(exe).args(["static", "--port", &port.to_string()]).spawn()?;
    let took = until_answered(port, began)?;
    child.kill().await?;
    Ok(took)
}

async fn run_sandboxed(sandbox: &Sandbox) -> Result<Duration, Box<dyn Error>> {
    let port = free_port()?;
    let began = Instant::now();
    let args = ["static", "--port", &port.to_string()];
    let mut child = sandbox.command(own_program(), &args, &BTreeMap::new(), &sandbox.root)?.stdout(Stdio::null()).spawn()?;
    let took = until_answered(port, began)?;
    child.kill().await?;
    Ok(took)
}

async fn run_replica(
    driver: &ProcessDriver,
    data: &Path,
    root: &Path,
    user: Option<UnixUser>,
    limits: Limits,
) -> Result<(Duration, u64), Box<dyn Error>> {
    let id = ReplicaId::generate();
    let spec = ReplicaSpec {
        replica_id: id,
        source: source(id),
        root: root.to_owned(),
        run: RunPlan::Static { root: ".".into(), spa: false },
        env: BTreeMap::new(),
        sealed: vec![],
        port: free_port()?,
        restart: RestartPolicy::Never,
        max_retries: 0,
        draining_seconds: 0,
        limits,
        user,
        volume: None,
    };
    let port = spec.port;
    let began = Instant::now();
    driver.start(spec).await?;
    let took = until_answered(port, began)?;
    let memory = resident_kilobytes(&data.join("replicas").join(id.to_string()).join("state.json"))?;
    let mut bell = driver.bell();
    driver.stop(id, Duration::ZERO).await?;
    while driver.observe().await?.iter().any(|seen| seen.replica_id == id && !seen.phase.is_over()) {
        bell.changed().await?;
    }
    driver.forget(id).await?;
    Ok((took, memory))
}

fn source(replica: ReplicaId) -> LogSource {
    LogSource {
        workspace_id: WorkspaceId::generate(),
        project_id: ProjectId::generate(),
        environment_id: EnvironmentId::generate(),
        service_id: ServiceId::generate(),
        deployment_id: DeploymentId::generate(),
        snapshot_id: SnapshotId::generate(),
        replica_id: Some(replica),
        kind: LogKind::Deploy,
    }
}

fn free_port() -> Result<u16, Box<dyn Error>> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

fn until_answered(port: u16, began: Instant) -> Result<Duration, Box<dyn Error>> {
    while began.elapsed() < Duration::from_secs(10) {
        if let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
            stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
            let mut answer = vec![];
            if stream.read_to_end(&mut answer).is_ok() && answer.starts_with(b"HTTP/1.1 200") {
                return Ok(began.elapsed());
            }
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    Err("the server did not come up within 10 seconds".into())
}

fn resident_kilobytes(state: &Path) -> Result<u64, Box<dyn Error>> {
    let state: serde_json::Value = serde_json::from_slice(&std::fs::read(state)?)?;
    let status = std::fs::read_to_string(PathBuf::from(format!("/proc/{}/status", state["supervisor"]["pid"])))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
