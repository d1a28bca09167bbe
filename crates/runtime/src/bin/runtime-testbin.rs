//! The subcommands that the runtime needs of its program, without the rest of the product: for tests and measurements.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::ExitCode;

use runtime::process::{ProcessConfig, ProcessDriver};
use runtime::{Driver, ReplicaSpec};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    match args.get(1).map(String::as_str) {
        Some("shim") => {
            let status = runtime::shim_main(Path::new(args.get(2).map_or("", String::as_str)));
            return u8::try_from(status).map_or(ExitCode::FAILURE, ExitCode::from);
        }
        Some(runtime::LAUNCH) => {
            let text = |at: usize| args.get(at).map_or("", String::as_str);
            let status = runtime::launch_main(text(2), text(3));
            return u8::try_from(status).map_or(ExitCode::FAILURE, ExitCode::from);
        }
        Some(runtime::sandbox::SUBCOMMAND) => runtime::sandbox::sandbox_exec_main(),
        Some(runtime::sandbox::SHELL_SUBCOMMAND) => runtime::sandbox::sandbox_shell_main(),
        Some("static") => serve(&args),
        Some("drive") => drive(Path::new(args.get(2).map_or("", String::as_str))),
        _ => return ExitCode::FAILURE,
    }
    ExitCode::SUCCESS
}

/// Answers every request with `index.html` under `--root`.
fn serve(args: &[String]) {
    let after = |flag: &str| args.iter().position(|arg| arg == flag).and_then(|at| args.get(at + 1)).cloned().unwrap_or_default();
    let port: u16 = after("--port").parse().expect("--port takes a number");
    let page = std::fs::read_to_string(Path::new(&after("--root")).join("index.html")).unwrap_or_default();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("the port is free");
    for mut stream in listener.incoming().flatten() {
        let mut request = [0; 4096];
        // A client that has gone away needs no answer.
        let _ = stream.read(&mut request);
        let _ = write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{page}", page.len());
    }
}

/// Starts the replica that standard input describes, and holds the driver until it is killed: a control plane in small.
#[tokio::main(flavor = "current_thread")]
async fn drive(data_dir: &Path) {
    let spec: ReplicaSpec = serde_json::from_reader(std::io::stdin()).expect("a replica's spec");
    let exe = std::env::current_exe().expect("a program");
    let hidden = vec![data_dir.to_owned()];
    let driver = ProcessDriver::new(ProcessConfig { data_dir: data_dir.to_owned(), exe, hidden, port_range: spec.port..=spec.port });
    driver.expect("a driver").start(spec).await.expect("a start");
    let mut stdout = std::io::stdout();
    writeln!(stdout, "started").and_then(|()| stdout.flush()).expect("somebody who listens");
    std::future::pending::<()>().await;
}
