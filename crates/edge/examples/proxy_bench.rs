//! The edge beside nginx in front of the same application: `cargo run --release -p orrery-edge --example proxy_bench [seconds] [rounds]`.
//!
//! Needs `nginx`, `wrk` and `taskset`. The proxy has one core for itself, the application and the load share another. What counts is the column of
//! requests per second of the proxy's CPU time, and of that the ratio: the machine's noise is in both. Both proxies write a request log.

use std::convert::Infallible;
use std::error::Error;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use domain::routing::{Route, RoutingTable, Target};
use domain::{DeploymentId, EnvironmentId, ProjectId, ReplicaId, ServiceId, WorkspaceId};
use http::{Request, Response};
use http_body_util::Full;
use hyper_util::rt::TokioIo;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["app"] => app(),
        ["edge", dir] => {
            let config = edge::EdgeConfig { threads: 1, ..edge::EdgeConfig::new(vec!["127.0.0.1:0".parse()?], dir.into()) };
            Ok(edge::run(config)?)
        }
        ref given => {
            let number = |index: usize, default| given.get(index).map_or(Ok(default), |text| text.parse::<u64>());
            compare(number(0, 5)?, number(1, 3)?)
        }
    }
}

/// The application: answers 13 bytes and prints where.
fn app() -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        writeln!(std::io::stdout(), "{}", listener.local_addr()?)?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let answer = |_: Request<hyper::body::Incoming>| async {
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"Hello, world!"))))
            };
            tokio::spawn(
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), hyper::service::service_fn(answer)),
            );
        }
    })
}

/// A process that ends with its owner.
struct Owned(Child);

impl Drop for Owned {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing left to do.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn pinned(core: &str, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", core]).arg(program);
    command
}

fn compare(seconds: u64, rounds: u64) -> Outcome<()> {
    let dir = tempfile::tempdir()?;
    let myself = std::env::current_exe()?;
    let mut app = Owned(pinned("1", &myself).arg("app").stdout(Stdio::piped()).spawn()?);
    let mut line = String::new();
    BufReader::new(app.0.stdout.take().ok_or("no output")?).read_line(&mut line)?;
    let address: SocketAddr = line.trim().parse()?;

    edge::table::write(dir.path(), &table(address))?;
    let edge = Owned(pinned("0", &myself).arg("edge").arg(dir.path()).spawn()?);
    let edge_address = wait_for_edge(dir.path())?;
    let (nginx, nginx_address) = start_nginx(dir.path(), address)?;
    let proxies = [("edge", edge.0.id(), edge_address), ("nginx", nginx.0.id(), nginx_address)];

    let mut out = std::io::stdout();
    writeln!(out, "{:<8}{:>12}{:>16}{:>10}", "proxy", "requests/s", "per CPU second", "p99")?;
    let mut per_cpu = [vec![], vec![]];
    for _ in 0..rounds {
        for (index, (name, pid, address)) in proxies.iter().enumerate() {
            let (rate, p99, cpu) = load(*pid, *address, seconds)?;
            writeln!(out, "{name:<8}{rate:>12.0}{:>16.0}{p99:>10}", rate * seconds as f64 / cpu)?;
            per_cpu[index].push(rate * seconds as f64 / cpu);
        }
    }
    let [ours, theirs] = per_cpu.map(|mut values| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    });
    Ok(writeln!(out, "edge/nginx by the proxy's CPU time: {:.2}", ours / theirs)?)
}

fn table(address: SocketAddr) -> RoutingTable {
    let (replica_id, deployment_id) = (ReplicaId::generate(), DeploymentId::generate());
    let route = Route {
        workspace_id: WorkspaceId::generate(),
        project_id: ProjectId::generate(),
        environment_id: EnvironmentId::generate(),
        service_id: ServiceId::generate(),
        service_name: "bench".into(),
        deployment_id: Some(deployment_id),
        unavailable: None,
        targets: vec![Target { replica_id, deployment_id, name: String::new(), address }],
        sticky: false,
        asleep: None,
        force_https: false,
    };
    RoutingTable { version: 1, hosts: [("127.0.0.1".to_owned(), route)].into(), ..RoutingTable::default() }
}

fn wait_for_edge(dir: &Path) -> Outcome<SocketAddr> {
    for _ in 0..500 {
        if let Ok(mut socket) = UnixStream::connect(dir.join(edge::control::SOCKET)) {
            socket.write_all(b"{\"op\":\"ping\"}\n")?;
            let mut line = String::new();
            BufReader::new(socket).read_line(&mut line)?;
            let pong: serde_json::Value = serde_json::from_str(&line)?;
            return Ok(pong["listen"][0].as_str().ok_or("no address")?.parse()?);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Err("the edge does not start".into())
}

fn start_nginx(dir: &Path, app: SocketAddr) -> Outcome<(Owned, SocketAddr)> {
    let address = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let shown = dir.display();
    let text = format!(
        "daemon off; master_process off; worker_processes 1; pid {shown}/nginx.pid; error_log {shown}/nginx-error.log;\n\
         events {{ worker_connections 4096; }}\n\
         http {{\n\
         access_log {shown}/nginx-access.log combined buffer=64k flush=1s;\n\
         client_body_temp_path {shown}/body; proxy_temp_path {shown}/proxy; fastcgi_temp_path {shown}/f; uwsgi_temp_path {shown}/u; scgi_temp_path {shown}/s;\n\
         upstream app {{ server {app}; keepalive 256; }}\n\
         server {{ listen {address}; keepalive_requests 100000000; location / {{\n\
         proxy_pass http://app; proxy_http_version 1.1; proxy_buffering off; proxy_set_header Connection \"\"; proxy_set_header Host $host;\n\
         proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Real-IP $remote_addr;\n\
         proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header X-Forwarded-Host $host; proxy_set_header X-Request-Id $request_id;\n\
         }} }} }}\n"
    );
    std::fs::write(dir.join("nginx.conf"), text)?;
    let child = Owned(pinned("0", "nginx").arg("-c").arg(dir.join("nginx.conf")).spawn()?);
    for _ in 0..500 {
        if std::net::TcpStream::connect(address).is_ok() {
            return Ok((child, address));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Err("nginx does not start".into())
}

/// Requests per second, p99 as wrk prints it, and the proxy's CPU time in seconds.
fn load(pid: u32, address: SocketAddr, seconds: u64) -> Outcome<(f64, String, f64)> {
    let before = cpu_seconds(pid)?;
    let output =
        pinned("1", "wrk").args(["-t1", "-c64", "--latency"]).arg(format!("-d{seconds}s")).arg(format!("http://{address}/")).output()?;
    let cpu = cpu_seconds(pid)? - before;
    let text = String::from_utf8(output.stdout)?;
    if text.contains("Non-2xx") || text.contains("Socket errors") {
        return Err(text.into());
    }
    let after = |start: &str| text.lines().find_map(|line| line.trim().strip_prefix(start)).map(|rest| rest.trim().to_owned());
    let rate = after("Requests/sec:").ok_or_else(|| text.clone())?.parse()?;
    Ok((rate, after("99%").unwrap_or_default(), cpu))
}

fn cpu_seconds(pid: u32) -> Outcome<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit_once(')').ok_or("no stat")?.1.split_whitespace().collect();
    // Fields 14 and 15 of proc(5), counted after the name; Linux counts 100 to the second for user space.
    Ok((fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) / 100.0)
}
