//! Databases of the machine behind the unchanged Railway CLI: added, referred to, restarted, backed up. Not a row is lost on the way.

mod harness;

use std::path::Path;

use harness::{Server, write};
use serde_json::Value;

/// Writes a row into each of three databases for every request to `/write`, with their own command-line clients, and counts them.
const APP: &str = r#"
import os, subprocess
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

def run(*args, **env):
    return subprocess.run(args, env={**os.environ, **env}, check=True, capture_output=True, text=True).stdout.strip()

def redis(*words):
    return run("redis-cli", "-u", os.environ["CACHE"], "--no-auth-warning", *words)

def postgres(sql):
    return run("psql", os.environ["MAIN"], "-tAc", sql)

def mysql(sql):
    login = ["-h", os.environ["MY_HOST"], "-P", os.environ["MY_PORT"], "-u", os.environ["MY_USER"]]
    return run("mariadb", "--no-defaults", *login, "-N", "-e", sql, os.environ["MY_NAME"], MYSQL_PWD=os.environ["MY_PASSWORD"])

class App(BaseHTTPRequestHandler):
    def do_GET(self):
        try:
            if self.path == "/write":
                redis("INCR", "rows")
                postgres("CREATE TABLE IF NOT EXISTS rows (x int); INSERT INTO rows VALUES (1)")
                mysql("CREATE TABLE IF NOT EXISTS row_list (x int); INSERT INTO row_list VALUES (1)")
            body = " ".join([redis("GET", "rows"), postgres("SELECT count(*) FROM rows"), mysql("SELECT count(*) FROM row_list")])
        except subprocess.CalledProcessError as error:
            body = "failed: " + error.stderr
        body = body.encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), App).serve_forever()
"#;

fn id_of(server: &Server, name: &str) -> String {
    let all = server.graphql("{ projects { edges { node { services { edges { node { id name } } } } } } }");
    let services = all["data"]["projects"]["edges"][0]["node"]["services"]["edges"].as_array().unwrap().clone();
    let found = services.into_iter().find(|edge| edge["node"]["name"] == name).unwrap_or_else(|| panic!("{name}: {all}"));
    found["node"]["id"].as_str().unwrap().to_owned()
}

fn status_of(server: &Server, service: &str) -> String {
    let answer =
        server.graphql(&format!("{{ service(id: \"{service}\") {{ deployments(first: 1) {{ edges {{ node {{ status }} }} }} }} }}"));
    answer["data"]["service"]["deployments"]["edges"][0]["node"]["status"].as_str().unwrap_or("none").to_owned()
}

/// Asks until the newest deployment stands there.
fn until_status(server: &Server, service: &str, wanted: &str) {
    harness::until(&format!("{service} as {wanted}"), || {
        let now = status_of(server, service);
        if now == wanted { Ok(()) } else { Err(now) }
    });
}

fn add(server: &Server, folder: &Path, code: &str, name: &str) -> String {
    let made = server.json(folder, &["add", "--database", code, "--json"]);
    assert_eq!(made["serviceName"], name, "{made}");
    let id = made["serviceId"].as_str().unwrap().to_owned();
    assert_eq!(id, id_of(server, name));
    until_status(server, &id, "SUCCESS");
    id
}

fn counts(server: &Server, path: &str, wanted: &str) {
    server.visit_until("rows-production.localhost", path, |answer| answer.status == 200 && answer.body.trim() == wanted);
}

#[test]
fn an_app_keeps_its_rows_in_three_databases() {
    let mut server = Server::start();
    let folder = server.dir.path().join("rows");
    write(&folder, &[("app.py", APP), ("Procfile", "web: python3 app.py")]);
    server.json(&folder, &["init", "--name", "rows", "--json"]);
    let databases =
        [add(&server, &folder, "redis", "Redis"), add(&server, &folder, "postgres", "Postgres"), add(&server, &folder, "mysql", "MySQL")];
    server.json(&folder, &["add", "--service", "rows", "--json"]);
    server.ok(&folder, &["service", "link", "rows"]);
    let references = [
        "CACHE=${{Redis.REDIS_URL}}",
        "MAIN=${{Postgres.DATABASE_URL}}",
        "MY_HOST=${{MySQL.MYSQLHOST}}",
        "MY_PORT=${{MySQL.MYSQLPORT}}",
        "MY_USER=${{MySQL.MYSQLUSER}}",
        "MY_PASSWORD=${{MySQL.MYSQLPASSWORD}}",
        "MY_NAME=${{MySQL.MYSQLDATABASE}}",
    ];
    let mut set = vec!["variable", "set"];
    set.extend(references);
    set.push("--json");
    server.json(&folder, &set);
    let up = server.ok(&folder, &["up", "--ci"]);
    assert!(up.contains("Deploy complete"), "{up}");
    for rows in ["1 1 1", "2 2 2", "3 3 3"] {
        assert_eq!(server.visit("rows-production.localhost", "/write").body, rows);
    }

    server.json(&folder, &["redeploy", "-y", "--json"]);
    counts(&server, "/", "3 3 3");
    until_status(&server, &id_of(&server, "rows"), "SUCCESS");
    for name in ["rows", "Redis", "Postgres", "MySQL"] {
        server.ok(&folder, &["restart", "--service", name, "-y"]);
    }
    counts(&server, "/", "3 3 3");
    server.sigkill();
    // The databases and their ports do not need the control plane.
    assert_eq!(server.visit("rows-production.localhost", "/write").body, "4 4 4");
    server.start_again();
    counts(&server, "/", "4 4 4");
    for id in &databases {
        assert_eq!(status_of(&server, id), "SUCCESS");
    }

    restart_the_machine(&mut server);
    counts(&server, "/", "4 4 4");
    measured(&server, &databases[1], &["DISK_USAGE_GB", "NETWORK_RX_GB", "NETWORK_TX_GB"]);

    let query = ["run", "--service", "Postgres", "--", "sh", "-c", "psql \"$DATABASE_PUBLIC_URL\" -tAc 'SELECT count(*) FROM rows'"];
    assert_eq!(server.ok(&folder, &query).trim(), "4");
    clients_connect(&server, &folder);
    back_up_and_restore(&server, &databases);
    measured(&server, &databases[1], &["BACKUP_USAGE_GB"]);
    three_copies(&server, &folder);
    another_environment(&server, &folder, &databases);
}

/// Ends everything at once, as a power cut does: the control plane, the edge, supervisors, apps, databases with their files of a process
/// that is no more. Then only `serve` is started.
fn restart_the_machine(server: &mut Server) {
    server.sigkill();
    let mark = server.data().display().to_string();
    harness::until("the end of every process", || {
        let below = processes_of(&mark);
        for pid in &below {
            // It may have gone with another one.
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(*pid), nix::sys::signal::Signal::SIGKILL);
        }
        if below.is_empty() { Ok(()) } else { Err(format!("{below:?}")) }
    });
    server.start_again();
}

/// The processes that name the folder, and all below them.
fn processes_of(mark: &str) -> Vec<i32> {
    let pids = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let parents: Vec<(i32, i32)> = pids
        .filter_map(|pid| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let mut fields = stat.rsplit(')').next()?.split_whitespace();
            // What has ended and was not waited for is gone.
            (fields.next()? != "Z").then_some((pid, fields.next()?.parse().ok()?))
        })
        .collect();
    let names_it = |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|command| command.contains(mark));
    let mut found: Vec<i32> = parents.iter().map(|(pid, _)| *pid).filter(|pid| names_it(*pid)).collect();
    let mut at = 0;
    while at < found.len() {
        found.extend(
            parents.iter().filter(|(pid, parent)| *parent == found[at] && !found.contains(pid)).map(|(pid, _)| *pid).collect::<Vec<_>>(),
        );
        at += 1;
    }
    found
}

/// What a database has on its volume and in backups, and what went through its port.
fn measured(server: &Server, database: &str, measurements: &[&str]) {
    let place = server.graphql("{ projects { edges { node { environments { edges { node { id } } } } } } }");
    let environment = place["data"]["projects"]["edges"][0]["node"]["environments"]["edges"][0]["node"]["id"].as_str().unwrap().to_owned();
    let since = jiff::Timestamp::now() - jiff::SignedDuration::from_mins(10);
    for measurement in measurements {
        let query = format!(
            "{{ metrics(environmentId: \"{environment}\", serviceId: \"{database}\", startDate: \"{since}\", measurements: [{measurement}]) {{ values {{ value }} }} }}"
        );
        harness::until(measurement, || {
            let answer = server.graphql(&query);
            let values = answer["data"]["metrics"][0]["values"].as_array().cloned().unwrap_or_default();
            if values.iter().any(|point| point["value"].as_f64() > Some(0.0)) { Ok(()) } else { Err(answer.to_string()) }
        });
    }
}

/// A command with something on its standard input.
fn piped(server: &Server, folder: &Path, args: &[&str], input: &str) -> harness::Run {
    let file = server.dir.path().join("input");
    std::fs::write(&file, input).unwrap();
    let mut command = server.railway_command(folder, args);
    command.stdin(std::fs::File::open(&file).unwrap());
    harness::finish(command, &format!("railway {args:?}"))
}

/// `railway connect` starts the database's own client, and `railway run` any that is asked for.
fn clients_connect(server: &Server, folder: &Path) {
    for (name, question) in [
        ("Postgres", "\\pset tuples_only on\nSELECT count(*) FROM rows;\n"),
        ("Redis", "GET rows\n"),
        ("MySQL", "SELECT count(*) FROM row_list;\n"),
    ] {
        for way in [&["connect", name][..], &["connect", name, "--no-ssh"]] {
            let run = piped(server, folder, way, question);
            assert_eq!(run.status, 0, "{way:?}: {run:?}");
            assert!(run.stdout.lines().any(|line| line.trim().trim_matches('"') == "4"), "{way:?}: {run:?}");
        }
    }
    let redis = ["run", "--service", "Redis", "--", "sh", "-c", "redis-cli --no-auth-warning -u \"$REDIS_PUBLIC_URL\" GET rows"];
    assert_eq!(server.ok(folder, &redis).trim(), "4");
    let none = server.railway(folder, &["connect", "rows"]);
    assert_eq!(none.status, 1, "{none:?}");
    assert!(none.stderr.contains("No supported database found"), "{none:?}");
}

/// All copies of the app write into the same databases.
fn three_copies(server: &Server, folder: &Path) {
    let region = server.graphql("{ regions { name } }")["data"]["regions"][0]["name"].as_str().unwrap().to_owned();
    server.json(folder, &["scale", &format!("{region}=3"), "--json"]);
    let rows = id_of(server, "rows");
    harness::until("three copies that run", || {
        let query =
            format!("{{ service(id: \"{rows}\") {{ deployments(first: 1) {{ edges {{ node {{ instances {{ status }} }} }} }} }} }}");
        let answer = server.graphql(&query);
        let instances = answer["data"]["service"]["deployments"]["edges"][0]["node"]["instances"].clone();
        let running = instances.as_array().into_iter().flatten().filter(|instance| instance["status"] == "RUNNING").count();
        if running == 3 { Ok(()) } else { Err(answer.to_string()) }
    });
    for rows in ["5 5 5", "6 6 6", "7 7 7"] {
        assert_eq!(server.visit("rows-production.localhost", "/write").body, rows);
    }
}

/// `environment new --duplicate`: databases of the same name with volumes, ports and rows of their own.
fn another_environment(server: &Server, folder: &Path, databases: &[String; 3]) {
    let made = server.json(folder, &["environment", "new", "staging", "--duplicate", "production", "--json"]);
    let staging = made["id"].as_str().unwrap().to_owned();
    for id in databases {
        until_status(server, id, "SUCCESS");
    }
    server.visit_until("rows-staging.localhost", "/write", |answer| answer.status == 200 && answer.body == "1 1 1");
    assert_eq!(server.visit("rows-production.localhost", "/").body, "7 7 7", "the first environment has its own rows");
    let query = ["run", "--service", "Postgres", "--", "sh", "-c", "psql \"$DATABASE_PUBLIC_URL\" -tAc 'SELECT count(*) FROM rows'"];
    assert_eq!(server.ok(folder, &query).trim(), "1", "the CLI is linked to the new environment");

    let environments = server.graphql(
        "{ projects { edges { node { environments { edges { node { id volumeInstances { edges { node { id serviceId volumeId } } } } } } } } } }",
    );
    let environments = environments["data"]["projects"]["edges"][0]["node"]["environments"]["edges"].as_array().unwrap().clone();
    assert_eq!(environments.len(), 2);
    let mut folders = std::collections::BTreeSet::new();
    let mut ports = std::collections::BTreeSet::new();
    for environment in &environments {
        let volumes = environment["node"]["volumeInstances"]["edges"].as_array().unwrap();
        let id = environment["node"]["id"].as_str().unwrap();
        for database in databases {
            let volume = volumes.iter().find(|edge| edge["node"]["serviceId"] == *database).unwrap_or_else(|| panic!("{environment}"));
            folders.insert(volume["node"]["id"].as_str().unwrap().to_owned());
            let answer = server.graphql(&format!("{{ tcpProxies(environmentId: \"{id}\", serviceId: \"{database}\") {{ proxyPort }} }}"));
            ports.insert(answer["data"]["tcpProxies"][0]["proxyPort"].as_u64().unwrap_or_else(|| panic!("{answer}")));
        }
    }
    assert_eq!((folders.len(), ports.len()), (6, 6), "volumes and ports of their own: {folders:?} {ports:?}");
    let document = server.graphql(&format!("{{ environment(id: \"{staging}\") {{ config(decryptVariables: true) }} }}"));
    assert_eq!(document["data"]["environment"]["config"]["volumes"].as_object().unwrap().len(), 3, "{document}");
    tcp_proxies(server, folder, &databases[1]);
}

/// `railway tcp-proxy`: create, list and delete, for an app and for a database that has one already.
fn tcp_proxies(server: &Server, folder: &Path, postgres: &str) {
    server.ok(folder, &["service", "link", "rows"]);
    let made = server.json(folder, &["tcp-proxy", "create", "--port", "7000", "--json"]);
    assert_eq!((&made["committed"], &made["proxy"]["applicationPort"]), (&true.into(), &7000.into()), "{made}");
    let again = server.json(folder, &["tcp-proxy", "create", "--port", "5432", "--service", postgres, "--json"]);
    assert_eq!((&again["committed"], &again["proxy"]["applicationPort"]), (&false.into(), &5432.into()), "{again}");
    let second = server.railway(folder, &["tcp-proxy", "create", "--port", "7001", "--json"]);
    assert_eq!(second.status, 1, "{second:?}");
    let list = server.json(folder, &["tcp-proxy", "list", "--json"]);
    assert_eq!(list["proxies"].as_array().unwrap().len(), 1, "{list}");
    let id = made["proxy"]["id"].as_str().unwrap();
    assert_eq!(server.json(folder, &["tcp-proxy", "delete", id, "--yes", "--json"])["deleted"], true);
    assert_eq!(server.json(folder, &["tcp-proxy", "list", "--json"])["proxies"].as_array().unwrap().len(), 0);
}

/// A backup of each database, a row more in each, and back.
fn back_up_and_restore(server: &Server, databases: &[String; 3]) {
    let all = server.graphql(
        "{ projects { edges { node { environments { edges { node { volumeInstances { edges { node { id serviceId } } } } } } } } } }",
    );
    let edges = all["data"]["projects"]["edges"][0]["node"]["environments"]["edges"][0]["node"]["volumeInstances"]["edges"].clone();
    let volume_of = |database: &String| {
        let found = edges.as_array().unwrap().iter().find(|edge| edge["node"]["serviceId"] == *database);
        found.unwrap_or_else(|| panic!("{all}"))["node"]["id"].as_str().unwrap().to_owned()
    };
    let backups = databases.each_ref().map(|database| {
        let volume = volume_of(database);
        let create = format!("volumeInstanceBackupCreate(volumeInstanceId: \"{volume}\", name: \"four\") {{ workflowId }}");
        let made = server.graphql(&format!("mutation {{ {create} }}"));
        finish(server, &made["data"]["volumeInstanceBackupCreate"]["workflowId"]);
        let list = server.graphql(&format!("{{ volumeInstanceBackupList(volumeInstanceId: \"{volume}\") {{ id name usedMB }} }}"));
        let backup = &list["data"]["volumeInstanceBackupList"][0];
        assert_eq!(backup["name"], "four", "{list}");
        (volume, backup["id"].as_str().unwrap().to_owned(), backup["usedMB"].as_i64().unwrap())
    });
    assert!(backups[1].2 > 0 && backups[2].2 > 0, "{backups:?}");

    counts(server, "/", "4 4 4");
    assert_eq!(server.visit("rows-production.localhost", "/write").body, "5 5 5");
    for ((volume, id, _), rows) in backups.iter().zip(["4 5 5", "4 4 5", "4 4 4"]) {
        let restore =
            format!("volumeInstanceBackupRestore(volumeInstanceId: \"{volume}\", volumeInstanceBackupId: \"{id}\") {{ workflowId }}");
        let restored = server.graphql(&format!("mutation {{ {restore} }}"));
        finish(server, &restored["data"]["volumeInstanceBackupRestore"]["workflowId"]);
        counts(server, "/", rows);
    }
    let (volume, id, _) = &backups[1];
    let lock = format!("volumeInstanceBackupLock(volumeInstanceId: \"{volume}\", volumeInstanceBackupId: \"{id}\")");
    assert_eq!(server.graphql(&format!("mutation {{ {lock} }}"))["data"]["volumeInstanceBackupLock"], true);
    let delete = format!("volumeInstanceBackupDelete(volumeInstanceId: \"{volume}\", volumeInstanceBackupId: \"{id}\") {{ workflowId }}");
    let refused = server.graphql(&format!("mutation {{ {delete} }}"));
    assert_eq!(refused["errors"][0]["extensions"]["code"], "CONFLICT", "{refused}");
}

fn finish(server: &Server, workflow: &Value) {
    let workflow = workflow.as_str().unwrap_or_else(|| panic!("no workflow: {workflow}"));
    harness::until("the end of a workflow", || {
        let answer = server.graphql(&format!("{{ workflowStatus(workflowId: \"{workflow}\") {{ status error }} }}"));
        match answer["data"]["workflowStatus"]["status"].as_str() {
            Some("Complete") => Ok(()),
            Some("Running") => Err(answer.to_string()),
            _ => panic!("{answer}"),
        }
    });
}

/// The documented shape of 2022 and today's make the same; what the machine lacks is said by name.
#[test]
fn plugins_are_databases_by_another_name() {
    let server = Server::start();
    let folder = server.dir.path().join("plugins");
    write(&folder, &[("index.html", "x")]);
    server.json(&folder, &["init", "--name", "plugins", "--json"]);
    let projects = server.graphql("{ projects { edges { node { id environments { edges { node { id } } } } } } }");
    let node = &projects["data"]["projects"]["edges"][0]["node"];
    let (project, environment) = (node["id"].as_str().unwrap(), node["environments"]["edges"][0]["node"]["id"].as_str().unwrap());
    let old = server.graphql(&format!(
        "mutation {{ pluginCreate(input: {{data: {{name: \"redis\", projectId: \"{project}\"}}}}) {{ plugin {{ id }} }} }}"
    ));
    let first = old["data"]["pluginCreate"]["plugin"]["id"].as_str().unwrap_or_else(|| panic!("{old}")).to_owned();
    let new =
        server.graphql(&format!("mutation {{ pluginCreate(input: {{name: \"redis\", projectId: \"{project}\"}}) {{ id friendlyName }} }}"));
    assert!(new["data"]["pluginCreate"]["friendlyName"].as_str().unwrap().starts_with("Redis-"), "{new}");
    let mongo = server.graphql(&format!("mutation {{ pluginCreate(input: {{name: \"mongodb\", projectId: \"{project}\"}}) {{ id }} }}"));
    let mongo = mongo["data"]["pluginCreate"]["id"].as_str().unwrap().to_owned();
    let odd = server.graphql(&format!("mutation {{ pluginCreate(input: {{name: \"oracle\", projectId: \"{project}\"}}) {{ id }} }}"));
    assert_eq!(odd["errors"][0]["extensions"]["code"], "BAD_USER_INPUT", "{odd}");
    let listed = server.graphql(&format!("{{ project(id: \"{project}\") {{ plugins {{ edges {{ node {{ id name }} }} }} }} }}"));
    let names: Vec<&str> =
        listed["data"]["project"]["plugins"]["edges"].as_array().unwrap().iter().filter_map(|e| e["node"]["name"].as_str()).collect();
    assert_eq!(names, ["redis", "redis", "mongodb"], "{listed}");

    if !Path::new("/usr/bin/mongod").exists() {
        until_status(&server, &mongo, "FAILED");
        let why = server.graphql(&format!("{{ service(id: \"{mongo}\") {{ deployments(first: 1) {{ edges {{ node {{ id }} }} }} }} }}"));
        let id = why["data"]["service"]["deployments"]["edges"][0]["node"]["id"].as_str().unwrap().to_owned();
        let events = server.graphql(&format!("{{ deploymentEvents(id: \"{id}\") {{ edges {{ node {{ payload {{ error }} }} }} }} }}"));
        assert!(events.to_string().contains("mongodb-org-server"), "the package is named: {events}");
    }

    until_status(&server, &first, "SUCCESS");
    let url = |server: &Server| {
        let read = format!("variables(projectId: \"{project}\", environmentId: \"{environment}\", serviceId: \"{first}\")");
        let all = server.graphql(&format!("{{ {read} }}"));
        all["data"]["variables"]["REDIS_PUBLIC_URL"].as_str().unwrap_or_else(|| panic!("{all}")).to_owned()
    };
    let ask = |url: &str, words: &[&str]| {
        let mut command = std::process::Command::new("redis-cli");
        command.args(["--no-auth-warning", "-u", url]).args(words);
        harness::finish(command, "redis-cli").stdout.trim().to_owned()
    };
    let before = url(&server);
    assert_eq!(ask(&before, &["SET", "a", "1"]), "OK");
    let change = |text: &str| {
        let answer = server.graphql(&format!("mutation {{ {text}(id: \"{first}\", input: {{environmentId: \"{environment}\"}}) }}"));
        assert!(answer.get("errors").is_none(), "{answer}");
        until_status(&server, &first, "SUCCESS");
    };
    change("pluginResetCredentials");
    let after = url(&server);
    assert_ne!(before, after);
    assert_eq!(ask(&after, &["GET", "a"]), "1", "the data stays");
    assert!(ask(&before, &["GET", "a"]).is_empty() || ask(&before, &["GET", "a"]).contains("NOAUTH"), "the old password is void");
    let process = || ask(&after, &["INFO", "server"]).lines().find_map(|line| Some(line.strip_prefix("run_id:")?.trim().to_owned()));
    let earlier = process().unwrap();
    let answer = server.graphql(&format!("mutation {{ pluginRestart(id: \"{first}\", input: {{}}) {{ id }} }}"));
    assert_eq!(answer["data"]["pluginRestart"]["id"], first, "{answer}");
    harness::until("another server process", || process().filter(|now| *now != earlier).map(drop).ok_or_else(|| earlier.clone()));
    assert_eq!(ask(&after, &["GET", "a"]), "1", "the data stays");
    until_status(&server, &first, "SUCCESS");
    change("pluginReset");
    assert_eq!(ask(&url(&server), &["EXISTS", "a"]), "0", "the data is gone");
    let deleted = server.graphql(&format!("mutation {{ pluginDelete(id: \"{first}\") }}"));
    assert_eq!(deleted["data"]["pluginDelete"], true);

    // The templates that are apps answer at their own addresses, one of them with a database that it brings along.
    for code in ["static-site", "python-app", "visitor-counter"] {
        server.ok(&folder, &["deploy", "--template", code]);
    }
    for (name, wanted) in [("site", "It works"), ("python-app", "Hello"), ("counter", "You are visitor ")] {
        let host = format!("{name}-production.localhost");
        server.visit_until(&host, "/", |answer| answer.status == 200 && answer.body.contains(wanted));
    }
}

/// `railway volume`, every command, and the files that an app keeps there.
#[test]
fn an_app_keeps_files_in_a_volume() {
    const KEEPER: &str = r#"
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class App(BaseHTTPRequestHandler):
    def do_GET(self):
        place = os.environ.get("RAILWAY_VOLUME_MOUNT_PATH", "none")
        body = place
        if place != "none":
            with open(os.path.join(place, "visits"), "a+") as file:
                if self.path == "/write":
                    file.write("x")
                file.seek(0)
                body = place + " " + str(len(file.read()))
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), App).serve_forever()
"#;
    let server = Server::start();
    let folder = server.dir.path().join("keeper");
    write(&folder, &[("app.py", KEEPER), ("Procfile", "web: python3 app.py")]);
    server.json(&folder, &["init", "--name", "keeper", "--json"]);
    server.ok(&folder, &["up", "--ci"]);
    server.ok(&folder, &["service", "link", "keeper"]);
    let host = "keeper-production.localhost";
    let says = |wanted: &str| server.visit_until(host, "/", |answer| answer.status == 200 && answer.body == wanted);
    says("none");

    let made = server.json(&folder, &["volume", "add", "--mount-path", "/data", "--json"]);
    assert_eq!(made["name"], "keeper-volume", "{made}");
    let root = nix::unistd::geteuid().is_root();
    if root {
        says("/data 0");
        assert_eq!(server.visit(host, "/write").body, "/data 1");
        server.ok(&folder, &["restart", "-y"]);
        says("/data 1");
    }
    let refused = server.railway(&folder, &["volume", "add", "--mount-path", "/more", "--json"]);
    assert_eq!(refused.status, 1, "{refused:?}");
    let service = id_of(&server, "keeper");
    let scale = server.graphql(&format!("mutation {{ serviceInstanceUpdate(serviceId: \"{service}\", input: {{numReplicas: 2}}) }}"));
    assert_eq!(scale["errors"][0]["extensions"]["code"], "CONFLICT", "{scale}");
    assert!(server.json(&folder, &["volume", "list", "--json"]).to_string().contains("keeper-volume"));
    let id = made["id"].as_str().unwrap();
    assert_eq!(server.json(&folder, &["volume", "update", "--volume", id, "--name", "vdata", "--json"])["name"], "vdata");
    server.json(&folder, &["volume", "update", "--volume", "vdata", "--mount-path", "/data2", "--json"]);
    if root {
        says("/data2 1");
        assert_eq!(server.visit(host, "/write").body, "/data2 2");
    }
    server.json(&folder, &["volume", "detach", "--volume", "vdata", "--yes", "--json"]);
    says("none");
    server.json(&folder, &["volume", "attach", "--volume", "vdata", "--yes", "--json"]);
    if root {
        says("/data2 2");
        assert!(!Path::new("/data2").exists(), "the machine's own root is as it was");
    }
    assert_eq!(server.json(&folder, &["volume", "delete", "--volume", "vdata", "--yes", "--json"])["id"], id);
    says("none");
}
