//! The settings and `orrery doctor`, as someone at a terminal meets them.

#[path = "harness/ports.rs"]
mod ports;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

fn orrery(home: &Path, args: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orrery"));
    command.env_clear().env("HOME", home).env("PATH", std::env::var_os("PATH").unwrap()).envs(environment.iter().copied());
    command.args(args).args(["--data-dir", home.join("data").to_str().unwrap()]).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn a_flag_wins_over_the_environment_over_the_file() {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join("data")).unwrap();
    let file = "region = \"file\"\nbuild_seconds = 1\nmax_upload_bytes = \"1GiB\"\ndatabase = \"postgres://me:canary@db/x\"\n";
    std::fs::write(home.path().join("data/orrery.toml"), file).unwrap();
    let environment =
        [("ORRERY_REGION", "environment"), ("ORRERY_BUILD_SECONDS", "2"), ("ORRERY_MASTER_KEY", "canary"), ("ORRERY_LLM_KEY", "canary")];
    let output = orrery(home.path(), &["config", "--show", "--region", "flag", "--build-credentials", "--build-cpus", "1.5"], &environment);
    let shown = text(&output.stdout);
    let line = |key: &str| shown.lines().find(|line| line.starts_with(&format!("{key} = "))).unwrap_or_else(|| panic!("{key} in {shown}"));
    assert!(line("region").contains("\"flag\"") && line("region").ends_with("# flag --region"));
    assert!(line("build_seconds").contains("= 2") && line("build_seconds").ends_with("# environment ORRERY_BUILD_SECONDS"));
    assert!(line("max_upload_bytes").contains("1GiB") && line("max_upload_bytes").ends_with("orrery.toml"));
    assert!(line("build_concurrency").ends_with("# default"));
    assert!(
        line("build_memory_bytes").contains("GB") || line("build_memory_bytes").contains("MB"),
        "builds are limited by default: {shown}"
    );
    assert!(line("build_cpus").contains("= 1.5"));
    assert!(line("build_credentials").contains("= true") && line("build_credentials").ends_with("# flag --build-credentials"));
    assert!(line("run_concurrency").contains("= 32"));
    assert!(line("database").contains("postgres://me:…@db/x"));
    assert!(shown.contains("# ORRERY_LLM_KEY: set, value hidden\n") && shown.contains("# ORRERY_MAIL_SERVER: not set\n"), "{shown}");
    assert!(!shown.contains("canary"), "{shown}");
}

#[test]
fn mistakes_are_named() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("orrery.toml");
    for (content, named) in [
        ("lisen = \"127.0.0.1:1\"", &["line 1", "lisen", "listen"][..]),
        ("\npublic = 3", &["line 2", "public", "boolean"]),
        ("database = \"mysql://me:canary@db/x\"", &["database", "postgres://"]),
        ("base_domain = \"https://example.com\"", &["base_domain", "without a scheme"]),
        ("region = \"Not This\"", &["region", "lower case"]),
        ("run_concurrency = 0", &["run_concurrency", "1 to 256"]),
        ("regions = [\"paris=paris.example.com\"]", &["regions", "paris=https://"]),
        ("acme_directory = \"http://a.test/dir\"", &["acme_directory", "https://"]),
        ("acme_directory = \"https://a.test/dir\"", &["acme_directory", "edge_tls_listen"]),
        ("edge_tls_certificate = \"/etc/apps.pem\"", &["edge_tls_certificate", "edge_tls_listen"]),
        ("database: postgres://me:canary@db/x", &["line 1", "database"]),
    ] {
        std::fs::write(&file, content).unwrap();
        let output = orrery(home.path(), &["config", "--config", file.to_str().unwrap()], &[]);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{content}");
        assert!(named.iter().all(|part| error.contains(part)) && !error.contains("canary"), "{content}: {error}");
    }
    let output = orrery(home.path(), &["serve", "--log-filter", "info,engine=loud"], &[]);
    let error = text(&output.stderr);
    assert!(!output.status.success() && error.contains("log_filter") && error.contains("info,engine=debug"), "{error}");
    let output = orrery(home.path(), &["config"], &[("ORRERY_DATABASE", "mysql://me:canary@db/x")]);
    let error = text(&output.stderr);
    assert!(!output.status.success() && error.contains("postgres://") && !error.contains("canary"), "{error}");
}

#[test]
fn listeners_stay_on_loopback() {
    let home = tempfile::tempdir().unwrap();
    let accepted = |args: &[&str]| orrery(home.path(), &[&["config"], args].concat(), &[]).status.success();
    for open in [
        &["--listen", "0.0.0.0:8080"][..],
        &["--edge-listen", "[::]:80"],
        &["--edge-tls-listen", "0.0.0.0:443"],
        &["--listen", "192.0.2.1:1", "--base-domain", "localhost"],
    ] {
        assert!(!accepted(open), "{open:?}");
        assert!(accepted(&[open, &["--public"]].concat()), "{open:?}");
        let named: Vec<&str> = open.iter().copied().filter(|arg| !arg.contains("localhost") && *arg != "--base-domain").collect();
        assert!(accepted(&[&named[..], &["--base-domain", "apps.example.com"]].concat()), "{open:?}");
    }
    // As the README says for a machine without a domain.
    let name = ["--base-domain", "203.0.113.5.sslip.io", "--public-url", "http://203.0.113.5:8080"];
    assert!(accepted(&[&["--listen", "0.0.0.0:8080", "--edge-listen", "0.0.0.0:80"][..], &name[..]].concat()));
    assert!(accepted(&["--listen", "[::1]:8080", "--edge-listen", "127.0.0.2:80,[::ffff:127.0.0.1]:81"]));
}

#[test]
fn a_server_does_not_start_beside_another_program_where_localhost_leads() {
    let home = tempfile::tempdir().unwrap();
    let port = ports::free_port();
    let Ok(_taken) = std::net::TcpListener::bind(("::1", port)) else {
        println!("skipped: this machine has no IPv6");
        return;
    };
    let listen = format!("127.0.0.1:{port}");
    let output = orrery(home.path(), &["serve", "--role", "api", "--listen", &listen], &[]);
    let said = text(&output.stderr);
    assert!(!output.status.success() && said.contains(&format!("[::1]:{port}")) && said.contains("--listen"), "{said}");
    let output = orrery(home.path(), &["doctor", "--json", "--listen", &listen, "--edge-listen", "127.0.0.1:0"], &[]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let checks = report["checks"].as_array().unwrap();
    assert!(checks.iter().any(|check| check["name"] == "port of the API" && check["state"] == "fail"), "{report}");
}

#[test]
fn doctor_fails_when_a_secret_is_open_or_a_port_is_taken() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("master.key"), "canary").unwrap();
    let doctor = |mode: u32, listen: &str| {
        std::fs::set_permissions(data.join("master.key"), std::fs::Permissions::from_mode(mode)).unwrap();
        let output =
            orrery(home.path(), &["doctor", "--json", "--listen", listen, "--edge-listen", "127.0.0.1:0"], &[("ORRERY_LISEN", "x")]);
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(output.status.success(), report["ok"].as_bool().unwrap());
        let checks = report["checks"].as_array().unwrap().clone();
        assert!(checks.iter().all(|check| check["state"] == "ok" || (check["meaning"].is_string() && check["remedy"].is_string())));
        move |name: &str| checks.iter().find(|check| check["name"] == name).unwrap()["state"].as_str().unwrap().to_owned()
    };

    let closed = doctor(0o600, "127.0.0.1:0");
    assert_eq!((closed("master key"), closed("port of the API"), closed("environment")), ("ok".into(), "ok".into(), "warn".into()));
    assert_eq!(doctor(0o644, "127.0.0.1:0")("master key"), "fail");
    let set = [("ORRERY_MAIL_SERVER", "smtps://canary@mail.test"), ("ORRERY_LLM_KEY", "canary")];
    let output = orrery(home.path(), &["doctor", "--listen", "127.0.0.1:0", "--edge-listen", "127.0.0.1:0"], &set);
    let shown = text(&output.stdout);
    assert!(shown.contains("ORRERY_MAIL_SERVER is set, and mail_from is not") && !shown.contains("there is no such setting"), "{shown}");
    assert!(!shown.contains("canary"), "{shown}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    assert_eq!(doctor(0o600, &taken.local_addr().unwrap().to_string())("port of the API"), "fail");
}

#[test]
fn doctor_names_every_program_and_the_name_server() {
    let home = tempfile::tempdir().unwrap();
    let names = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let resolver = names.local_addr().unwrap().to_string();
    let doctor = || {
        let args = ["doctor", "--json", "--listen", "127.0.0.1:0", "--edge-listen", "127.0.0.1:0"];
        let output = orrery(home.path(), &args, &[("ORRERY_DNS_RESOLVER", &resolver)]);
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        report["checks"].as_array().unwrap().clone()
    };
    let server = std::thread::spawn(move || {
        let mut question = [0; 512];
        let (length, client) = names.recv_from(&mut question).unwrap();
        names.send_to(&question[..length], client).unwrap();
        question[..length].to_vec()
    });
    let checks = doctor();
    let asked = server.join().unwrap();
    assert!(asked.windows(11).any(|part| part == b"\x09localhost\0"), "{asked:?}");
    let check = |name: &str| checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("{name} in {checks:#?}"));
    for program in
        ["node", "python3", "go", "cargo", "git", "ffmpeg", "ffprobe", "postgres", "mongod", "redis-server", "valkey-server", "mariadbd"]
    {
        check(program);
    }
    assert!(check("disk space")["found"].as_str().unwrap().contains("GB free"));
    assert!(check("rate limits")["found"].as_str().unwrap().contains("this control plane"));
    assert_eq!(check("custom domains")["state"], "ok");
    // The socket is closed with its thread.
    let silent = doctor();
    let silent = silent.iter().find(|check| check["name"] == "custom domains").unwrap();
    assert!(silent["state"] == "warn" && silent["found"].as_str().unwrap().contains(&resolver), "{silent}");
}
