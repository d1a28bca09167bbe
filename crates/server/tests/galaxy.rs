//! Galaxy's API over running containers: what the Railway CLI deployed is scaled, killed, stopped and restored through it, under load.

mod harness;

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};

use harness::webhooks::{Message, receiver};
use harness::{Server, UNLIMITED, python, request, until, write};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

const HOST: &str = "shop-production.localhost";
const MB: f64 = 1_048_576.0;

/// Shows its environment. It takes its time, burns processor time or takes memory, as it is asked to.
const APP: &str = r#"
import json, os, time
kept = []
def answer(path):
    if path == "/slow":
        time.sleep(0.1)
    elif path == "/burn":
        end = time.monotonic() + 0.1
        while time.monotonic() < end:
            pass
    elif path == "/grow":
        kept.append(bytearray(os.urandom(1)) * (80 << 20))
    return json.dumps(dict(os.environ))
"#;

fn galaxy(server: &Server, query: &str) -> Value {
    galaxy_by(server, ("authorization", &format!("Bearer {}", server.token)), query)
}

/// As [`galaxy`], with the credential that a header has.
fn galaxy_by(server: &Server, credential: (&str, &str), query: &str) -> Value {
    let body = json!({"query": query}).to_string();
    let headers = [credential, ("content-type", "application/json")];
    let answer = request(server.api, "POST", "localhost", "/graphql", &headers, body.as_bytes());
    let value: Value = serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{error}: {answer:?}"));
    assert_eq!(value.get("errors"), None, "{query}: {value}");
    value["data"].clone()
}

fn app(server: &Server) -> Value {
    let fields = "_id status containerCount containerType { name } activeVersion { _id version } versions { _id version restorable }
        containers { _id status up } activities { type userName versionId message }";
    galaxy(server, &format!("{{ app(hostname: \"{HOST}\") {{ {fields} }} }}"))["app"].clone()
}

fn act(server: &Server, mutation: &str) -> Value {
    galaxy(server, &format!("mutation {{ {mutation} }}"))
}

/// Waits until the app runs with so many healthy containers and nothing else; their ids.
fn until_running(server: &Server, count: usize) -> Vec<String> {
    until(&format!("{count} running containers"), || {
        let app = app(server);
        let containers = app["containers"].as_array().unwrap();
        let up = containers.iter().filter(|container| container["up"] == true && container["status"] == "running").count();
        if app["status"] == "running" && up == count && containers.len() == count {
            return Ok(containers.iter().map(|container| container["_id"].as_str().unwrap().to_owned()).collect());
        }
        Err(app.to_string())
    })
}

fn until_stopped(server: &Server) {
    until("a stopped app", || {
        let app = app(server);
        if app["status"] == "stopped" && app["containers"] == json!([]) { Ok(()) } else { Err(app.to_string()) }
    });
}

fn environment(server: &Server) -> Value {
    // An answer is cut off whose container ends meanwhile.
    let answer = server.visit_until(HOST, "/", |answer| answer.status == 200 && serde_json::from_str::<Value>(&answer.body).is_ok());
    let env: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(answer.header("x-galaxy-container"), env["GALAXY_CONTAINER_ID"].as_str(), "{answer:?}");
    env
}

/// Deploys the app by the Railway CLI; its folder and its id.
fn deployed(server: &Server) -> (PathBuf, String) {
    let folder = server.dir.path().join("shop");
    write(&folder, &[("main.py", &python::app(APP)), ("Procfile", "web: python3 main.py\n")]);
    server.json(&folder, &["init", "--name", "shop", "--json"]);
    server.ok(&folder, &["up", "--ci"]);
    server.ok(&folder, &["service", "link", "shop"]);
    until_running(server, 1);
    let id = app(server)["_id"].as_str().unwrap().to_owned();
    (folder, id)
}

/// Visitors that go on until the load ends.
struct Load {
    wrk: Child,
    says: BufReader<ChildStdout>,
}

/// What wrk does with each answer: it tells of the first.
const ANSWERED: &str = "function response() if not told then told = true; print('answered'); io.flush() end end";

impl Load {
    /// Returns when the first visitor was answered: a load that ends before that has seen nothing.
    fn start(server: &Server, visitors: u32, path: &str) -> Self {
        let (count, host) = (format!("-c{visitors}"), format!("Host: {HOST}"));
        let url = format!("http://127.0.0.1:{}{path}", server.edge);
        write(server.dir.path(), &[("answered.lua", ANSWERED)]);
        let mut wrk = Command::new("wrk")
            .args(["-t1", &count, "-d600s", "--timeout", "30s", "-H", &host, "-s", "answered.lua", &url])
            .current_dir(server.dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("wrk is not installed: apt-get install wrk");
        let mut says = BufReader::new(wrk.stdout.take().unwrap());
        let mut said = String::new();
        while !said.contains("answered\n") {
            assert!(says.read_line(&mut said).unwrap() > 0, "wrk ended: {said}");
        }
        Self { wrk, says }
    }

    /// None of its requests may have failed.
    fn end(mut self) {
        let report = self.report();
        assert!(!report.contains("Non-2xx") && !report.contains("Socket errors"), "{report}");
    }

    /// Its visitors have seen that nobody answered for a while.
    fn interrupted(mut self) {
        let report = self.report();
        assert!(report.contains("Non-2xx") || report.contains("Socket errors"), "{report}");
    }

    fn report(&mut self) -> String {
        // It reports what it has seen.
        kill(Pid::from_raw(self.wrk.id() as i32), Signal::SIGINT).unwrap();
        let mut report = String::new();
        self.says.read_to_string(&mut report).unwrap();
        self.wrk.wait().unwrap();
        assert!(report.contains("requests in") && !report.contains(" 0 requests in"), "{report}");
        report
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // It has ended, or the test has failed.
        let _ = self.wrk.kill();
        let _ = self.wrk.wait();
    }
}

#[test]
fn an_app_is_scaled_killed_stopped_resized_and_restored() {
    let server = Server::start_unlimited();
    let (folder, id) = deployed(&server);
    let first = until_running(&server, 1);
    let env = environment(&server);
    assert_eq!((env["GALAXY_CONTAINER_ID"].as_str(), env["GALAXY_APP_ID"].as_str()), (Some(first[0].as_str()), Some(id.as_str())));
    assert_eq!(env["GALAXY_APP_VERSION_ID"], "1");
    assert!(env["ROOT_URL"].as_str().unwrap().contains(HOST), "{env}");

    scale_and_kill(&server, &id, &first[0]);
    stop_and_start(&server, &id);
    settings_and_versions(&server, &id, &folder);

    let feed = app(&server)["activities"].clone();
    let told: Vec<&str> = feed.as_array().unwrap().iter().filter_map(|activity| activity["type"].as_str()).collect();
    for wanted in [
        "appDeploy",
        "appBuildSuccess",
        "appDeploySuccess",
        "appContainers",
        "containerStop",
        "appStop",
        "appStart",
        "appResize",
        "appRestore",
        "appSettings",
    ] {
        assert!(told.contains(&wanted), "{wanted}: {feed}");
    }
    for activity in feed.as_array().unwrap() {
        let by_galaxy = ["appBuildSuccess", "appDeploySuccess"].contains(&activity["type"].as_str().unwrap());
        assert_eq!(activity["userName"] == "", by_galaxy, "{activity}");
    }
    for words in ["up from 1 to 3 containers", &format!("deploy for {HOST} v2"), &format!("restored {HOST} to v1")] {
        assert!(feed.to_string().contains(words), "{words}: {feed}");
    }
}

fn scale_and_kill(server: &Server, id: &str, first: &str) {
    let scale = |count: u32| {
        let answer = act(server, &format!("setContainerCountForApp(appId: \"{id}\", containerCount: {count}) {{ status containerCount }}"));
        assert_eq!(answer["setContainerCountForApp"]["status"], "updating", "{answer}");
    };
    let load = Load::start(server, 8, "/slow");
    scale(3);
    let three = until_running(server, 3);
    assert!(three.iter().any(|container| container == first), "{first} was restarted: {three:?}");
    load.end();
    for container in &three {
        let asked = format!("/?_g_debug_=true&_g_container_={container}");
        let answer = server.visit_until(HOST, &asked, |answer| answer.header("x-galaxy-container") == Some(container.as_str()));
        let env: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(env["GALAXY_CONTAINER_ID"], container.as_str(), "{env}");
    }

    let load = Load::start(server, 8, "/slow");
    act(server, &format!("killContainer(appId: \"{id}\", containerId: \"{first}\") {{ _id status }}"));
    until("another container", || {
        let now = until_running(server, 3);
        if now.iter().any(|container| container == first) { Err(format!("{now:?}")) } else { Ok(()) }
    });
    load.end();

    let load = Load::start(server, 8, "/slow");
    scale(1);
    let one = until_running(server, 1);
    load.end();

    // The only one: who looks all the time sees that it is gone, and that it comes back.
    let load = Load::start(server, 1, "/slow");
    act(server, &format!("killContainer(appId: \"{id}\", containerId: \"{}\") {{ _id }}", one[0]));
    until("another container", || if until_running(server, 1) == one { Err(format!("{one:?}")) } else { Ok(()) });
    load.interrupted();
    server.visit_until(HOST, "/", |answer| answer.status == 200);
}

fn stop_and_start(server: &Server, id: &str) {
    act(server, &format!("stopApp(appId: \"{id}\") {{ _id }}"));
    until_stopped(server);
    assert_ne!(server.visit(HOST, "/").status, 200);
    act(server, &format!("startApp(appId: \"{id}\") {{ _id }}"));
    until_running(server, 1);
    server.visit_until(HOST, "/", |answer| answer.status == 200);
}

fn settings_and_versions(server: &Server, id: &str, folder: &Path) {
    let before = until_running(server, 1);
    let load = Load::start(server, 4, "/slow");
    act(server, &format!("setContainerType(appId: \"{id}\", containerType: \"compact\") {{ _id }}"));
    until("another container", || if until_running(server, 1) == before { Err(format!("{before:?}")) } else { Ok(()) });
    load.end();
    assert_eq!(app(server)["containerType"]["name"], "Compact (Pro)");

    let settings = r#"{\"public\":{},\"galaxy.meteor.com\":{\"env\":{\"GREETING\":\"from the settings\"}}}"#;
    act(server, &format!("setMeteorSettings(appId: \"{id}\", settings: \"{settings}\") {{ _id }}"));
    until("the settings in the environment", || {
        let env = environment(server);
        if env["GREETING"] == "from the settings" && env["METEOR_SETTINGS"].is_string() { Ok(()) } else { Err(env.to_string()) }
    });

    write(folder, &[("main.py", &python::app(APP).replace("dict(os.environ)", "dict(os.environ, SECOND='yes')"))]);
    server.ok(folder, &["up", "--ci"]);
    until_running(server, 1);
    let found = app(server);
    assert_eq!((&found["activeVersion"]["version"], &found["versions"][0]["version"]), (&2.into(), &2.into()), "{found}");
    assert_eq!(environment(server)["SECOND"], "yes");
    let version = found["versions"][1]["_id"].as_str().unwrap();
    let load = Load::start(server, 4, "/slow");
    act(server, &format!("restoreVersion(appId: \"{id}\", versionId: \"{version}\") {{ _id }}"));
    until("the first version", || {
        let env = environment(server);
        if env.get("SECOND").is_none() && env["GALAXY_APP_VERSION_ID"] == "1" { Ok(()) } else { Err(env.to_string()) }
    });
    until_running(server, 1);
    load.end();
    assert_eq!(app(server)["activeVersion"]["version"], 1);
}

#[test]
fn an_app_without_connections_stops_and_a_new_connection_starts_it() {
    let server = Server::start_with(&[&UNLIMITED[..], &[("ORRERY_SLEEP_AFTER_SECONDS", "3")]].concat());
    let (_, id) = deployed(&server);
    let set = act(&server, &format!("setAppSettings(appId: \"{id}\", settings: {{coldStart: true}}) {{ coldStart }}"));
    assert_eq!(set["setAppSettings"]["coldStart"], true);
    until_stopped(&server);
    let slept = app(&server)["activities"][0].clone();
    assert_eq!((&slept["type"], &slept["userName"], &slept["versionId"]), (&json!("coldStart"), &Value::Null, &Value::Null), "{slept}");

    assert_eq!(server.visit(HOST, "/").status, 200, "who comes first waits, and is answered");
    let starts = |server: &Server| {
        let feed = app(server)["activities"].clone();
        let starts = feed.as_array().unwrap().iter().filter(|one| one["type"] == "appStart");
        starts.map(|one| one["userName"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(starts(&server), ["A new connection"]);

    // By hand it starts, too; and what somebody stops is not started by a connection.
    until_stopped(&server);
    act(&server, &format!("startApp(appId: \"{id}\") {{ _id }}"));
    server.visit_until(HOST, "/", |answer| answer.status == 200);
    assert_eq!(starts(&server).len(), 2);
    until_stopped(&server);
    act(&server, &format!("stopApp(appId: \"{id}\") {{ _id }}"));
    assert_ne!(server.visit(HOST, "/").status, 200);
    assert_eq!(app(&server)["status"], "stopped");
    assert_eq!(starts(&server).len(), 2);
}

#[test]
fn hostnames_settings_and_the_account_of_a_running_app() {
    let server = Server::start_unlimited();
    let (_, id) = deployed(&server);
    let other = "www.shop-of-admin.test";
    let saved = act(&server, &format!("saveDomain(domain: {{appId: \"{id}\", name: \"{other}\"}}) {{ _id name }}"))["saveDomain"].clone();
    server.visit_until(other, "/", |answer| answer.status == 200);
    act(&server, &format!("removeDomain(domainId: {})", saved["_id"]));
    server.visit_until(other, "/", |answer| answer.status != 200);

    let usual = galaxy(&server, &format!("{{ app(hostname: \"{HOST}\") {{ containerStopGracePeriod }} }}"));
    assert_eq!(usual["app"]["containerStopGracePeriod"], 30);
    let settings = "{containerStopGracePeriod: 10, unhealthyContainerReplacement: false, stickySessions: true}";
    let fields = "containerStopGracePeriod unhealthyContainerReplacement stickySessions";
    let set = act(&server, &format!("setAppSettings(appId: \"{id}\", settings: {settings}) {{ {fields} }}"));
    let wanted = json!({"containerStopGracePeriod": 10, "unhealthyContainerReplacement": false, "stickySessions": true});
    assert_eq!(set["setAppSettings"], wanted);
    server.visit_until(HOST, "/", |answer| {
        answer.status == 200 && answer.header("set-cookie").is_some_and(|it| it.contains("galaxy-sticky"))
    });

    let account =
        galaxy(&server, "{ user(username: \"admin\") { username appCount runningAppCount apps { hostname status } activities { type } } }");
    let account = &account["user"];
    assert_eq!((&account["appCount"], &account["runningAppCount"]), (&json!(1), &json!(1)), "{account}");
    assert_eq!(account["apps"], json!([{"hostname": HOST, "status": "running"}]));
    assert!(account["activities"].as_array().unwrap().contains(&json!({"type": "appDeploySuccess"})), "{account}");
    let kinds = galaxy(&server, "{ activityTypes { _id label } containerTypes { _id name memory cpu } }");
    assert!(kinds["activityTypes"].as_array().unwrap().contains(&json!({"_id": "appContainers", "label": "App scaled"})), "{kinds}");
    let tiny = &kinds["containerTypes"][0];
    assert_eq!((&tiny["_id"], &tiny["name"]), (&json!("tiny-pro-v2"), &json!("Tiny (Pro)")));
    assert_eq!((tiny["memory"].as_f64(), tiny["cpu"].as_f64()), (Some(256.0 * MB), Some(0.3)));

    let team = server.graphql("mutation { workspaceCreate(input: {name: \"Team\"}) { id username } }")["data"]["workspaceCreate"].clone();
    let plan = server.graphql(&format!("mutation {{ workspacePlanSet(id: {}, plan: PRO) {{ plan }} }}", team["id"]));
    assert_eq!(plan["data"]["workspacePlanSet"]["plan"], "PRO", "{plan}");
    let transfer = format!("transferApp(appId: \"{id}\", username: {}) {{ _id hostname }}", team["username"]);
    let moved = act(&server, &transfer)["transferApp"].clone();
    assert!(moved["hostname"] == HOST && moved["_id"] != id.as_str(), "{moved}");
    until("the app in its new account", || {
        let env = environment(&server);
        if env["GALAXY_APP_ID"] == moved["_id"] { Ok(()) } else { Err(env.to_string()) }
    });
    until_running(&server, 1);
}

/// A mail server: its address, and what it is told, envelope and letter.
fn mailbox() -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let url = format!("smtp://{}", listener.local_addr().unwrap());
    let mails = Arc::<Mutex<Vec<String>>>::default();
    let kept = mails.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let kept = kept.clone();
            std::thread::spawn(move || take_mail(stream, &kept));
        }
    });
    (url, mails)
}

fn take_mail(stream: TcpStream, kept: &Mutex<Vec<String>>) {
    let mut lines = BufReader::new(stream);
    let (mut line, mut mail, mut inside) = (String::new(), String::new(), false);
    let mut answer = Some("220 mail.test");
    loop {
        if let Some(text) = answer
            && lines.get_mut().write_all(format!("{text}\r\n").as_bytes()).is_err()
        {
            return;
        }
        line.clear();
        if !lines.read_line(&mut line).is_ok_and(|read| read > 0) {
            return;
        }
        answer = match (inside, line.trim_end()) {
            (true, ".") => {
                inside = false;
                kept.lock().unwrap().push(std::mem::take(&mut mail));
                Some("250 taken")
            }
            (false, "DATA") => {
                inside = true;
                Some("354 go on")
            }
            (false, "QUIT") => Some("221 bye"),
            _ => {
                mail.push_str(&line);
                (!inside).then_some("250 mail.test")
            }
        };
    }
}

/// The newest point of the app that is measured.
fn newest(server: &Server) -> Option<Value> {
    let points = "{ metrics(seriesName: \"5s\", limit: 3) { timestamp cpu cpuCap memory memoryCap connections } }";
    let found = galaxy(server, &format!("{{ app(hostname: \"{HOST}\") {points} }}"))["app"]["metrics"].clone();
    assert_eq!(found.as_array().unwrap().len(), 3, "{found}");
    found.as_array().unwrap().iter().find(|point| point["memory"].as_f64().unwrap() > 0.0).cloned()
}

fn until_measured(server: &Server, what: &str, wanted: impl Fn(f64, f64, f64) -> bool) -> (f64, f64, f64) {
    until(what, || {
        let point = newest(server).ok_or("nothing is measured yet")?;
        let number = |name: &str| point[name].as_f64().unwrap();
        let (cpu, memory, connections) = (number("cpu"), number("memory"), number("connections"));
        if wanted(cpu, memory, connections) { Ok((cpu, memory, connections)) } else { Err(point.to_string()) }
    })
}

/// Waits for an interval in which so many containers were measured: the app's point is their sum.
fn until_summed(server: &Server, count: usize) {
    let points = "metrics(seriesName: \"5s\", limit: 4) { timestamp memory cpuCap }";
    until(&format!("a point that is the sum of {count} containers'"), || {
        let app = galaxy(server, &format!("{{ app(hostname: \"{HOST}\") {{ {points} containers {{ {points} }} }} }}"))["app"].clone();
        let containers = app["containers"].as_array().unwrap();
        let of = |at: &Value| -> Vec<&Value> {
            let all = containers.iter().flat_map(|container| container["metrics"].as_array().unwrap());
            all.filter(|point| point["timestamp"] == *at && point["memory"].as_f64().unwrap() > 0.0).collect()
        };
        // The newest interval may be measured between the two reads: what counts is a point that both have seen.
        let summed = |point: &&Value| {
            let parts = of(&point["timestamp"]);
            let sum = |name: &str| parts.iter().map(|part| part[name].as_f64().unwrap()).sum::<f64>();
            let close = |name: &str| point[name].as_f64().is_some_and(|told| told > 0.0 && (sum(name) - told).abs() <= 0.01 * told);
            parts.len() == count && ["memory", "cpuCap"].into_iter().all(close)
        };
        app["metrics"].as_array().unwrap().iter().find(summed).map(|_| ()).ok_or_else(|| app.to_string())
    });
}

fn save_trigger(server: &Server, id: &str, name: &str, action: &str, rules: &str) -> String {
    let limits = "min: 1, max: 3, seriesName: \"5s\", sampleQuantity: 1, runEverySeconds: 1";
    let trigger = format!("{{appId: \"{id}\", name: \"{name}\", action: \"{action}\", {rules}, {limits}}}");
    act(server, &format!("saveTrigger(trigger: {trigger}) {{ _id }}"))["saveTrigger"]["_id"].as_str().unwrap().to_owned()
}

fn runs(server: &Server, trigger: &str) -> Vec<Value> {
    let found = galaxy(server, &format!("{{ triggerRuns(triggerId: \"{trigger}\", limit: 1000) {{ number outcome log }} }}"));
    found["triggerRuns"].as_array().unwrap().clone()
}

#[test]
fn usage_moves_with_the_load_and_triggers_follow_it() {
    let ((hook, texts), (mail_server, mails)) = (receiver(200), mailbox());
    let settings = [
        ("ORRERY_TRIGGER_SECONDS", "1"),
        ("ORRERY_OUTGOING_ALLOW", "127.0.0.0/8"),
        ("ORRERY_MAIL_SERVER", mail_server.as_str()),
        ("ORRERY_MAIL_FROM", "Orrery <orrery@example.test>"),
    ];
    let server = Server::start_with(&[&UNLIMITED[..], &settings].concat());
    let (_, id) = deployed(&server);

    let rest = until_measured(&server, "an app at rest", |cpu, _, connections| cpu < 0.2 && connections == 0.0);
    assert_eq!(server.visit(HOST, "/grow").status, 200);
    let load = Load::start(&server, 8, "/burn");
    let busy = until_measured(&server, "an app under load", |cpu, memory, connections| {
        cpu > rest.0 + 0.1 && memory > rest.1 + 60.0 * MB && connections >= 4.0
    });
    load.end();
    until_measured(&server, "an app at rest again", |cpu, memory, connections| {
        cpu < busy.0 / 2.0 && memory > rest.1 + 60.0 * MB && connections == 0.0
    });

    let slack = format!("slack: {{enabled: true, url: \"{hook}\", activityTypes: [\"appContainers\"]}}");
    let mail = "email: {enabled: true, to: [\"ops@example.test\"], activityTypes: [\"appContainers\"]}";
    let told = format!("notificationSettings: {{appId: \"{id}\", {slack}, {mail}}}");
    act(&server, &format!("saveNotificationSettings({told}) {{ slack {{ url }} email {{ to }} }}"));
    let up = "operator: \"OR\", rules: [{metric: \"cpu\", comparator: \"above\", value: 95}, {metric: \"connections\", comparator: \"above\", value: 3}]";
    let down = "rules: [{metric: \"cpu\", comparator: \"below\", value: 50}, {metric: \"connections\", comparator: \"below\", value: 1}]";
    let load = Load::start(&server, 24, "/slow");
    let up = save_trigger(&server, &id, "up", "add containers", up);
    let down = save_trigger(&server, &id, "down", "remove containers", down);
    until_running(&server, 3);
    until_summed(&server, 3);
    until("a run at the maximum", || {
        let runs = runs(&server, &up);
        if json!(runs).to_string().contains("it has its maximum of 3 containers") { Ok(()) } else { Err(format!("{runs:?}")) }
    });
    load.end();
    until_running(&server, 1);
    explained(&server, (up.as_str(), down.as_str()), &texts, &mails);

    act(&server, &format!("removeNotificationSettings(appId: \"{id}\")"));
    for trigger in [up, down] {
        act(&server, &format!("removeTrigger(triggerId: \"{trigger}\")"));
    }
    let left =
        galaxy(&server, &format!("{{ app(hostname: \"{HOST}\") {{ triggers {{ _id }} notificationSettings {{ slack {{ url }} }} }} }}"));
    assert_eq!(left["app"], json!({"triggers": [], "notificationSettings": null}));
}

/// Each step is told by the trigger's log, by the feed, by the webhook and by mail.
fn explained(server: &Server, (up, down): (&str, &str), texts: &Mutex<Vec<Message>>, mails: &Mutex<Vec<String>>) {
    let feed = app(server)["activities"].clone();
    for (trigger, steps) in [(up, ["up from 1 to 2", "up from 2 to 3"]), (down, ["down from 3 to 2", "down from 2 to 1"])] {
        for step in steps {
            // A run is written down after it has done what it tells of.
            let run = until(&format!("a run that tells of the step {step}"), || {
                let runs = runs(server, trigger);
                let run = runs.iter().find(|run| run["log"].to_string().contains(&format!("executing to scale {step} containers")));
                run.cloned().ok_or_else(|| format!("{runs:?}"))
            });
            assert!(run["outcome"] == "executed" && run["log"].to_string().contains("matched rules: "), "{run}");
            let sentence = format!("Galaxy scaled {HOST} {step} containers");
            let entry = feed.as_array().unwrap().iter().find(|entry| entry["message"] == sentence.as_str());
            assert!(entry.is_some_and(|entry| entry["type"] == "appContainers" && entry["userName"] == ""), "{sentence}: {feed}");
            until(&format!("a webhook that says: {sentence}"), || {
                let texts = texts.lock().unwrap();
                if texts.iter().any(|text| text.body.contains(&sentence)) { Ok(()) } else { Err(format!("{texts:?}")) }
            });
            until(&format!("a mail that says: {sentence}"), || {
                let mails = mails.lock().unwrap();
                let is_it = |mail: &&String| mail.contains("RCPT TO:<ops@example.test>") && mail.contains(&sentence);
                let mail = mails.iter().find(is_it).ok_or_else(|| format!("{mails:?}"))?;
                assert!(mail.contains(&format!("Subject: App scaled: {HOST}")) && mail.contains("orrery@example.test"), "{mail}");
                Ok(())
            });
        }
    }
}

/// The root fields of the schema as it is published.
fn root_fields() -> BTreeSet<String> {
    let schema = include_str!("../../../surface/galaxy.graphql");
    let of = |kind: &str| {
        let (_, rest) = schema.split_once(&format!("\ntype {kind} {{\n")).unwrap_or_else(|| panic!("no {kind}"));
        let (body, _) = rest.split_once("\n}").unwrap();
        let fields = body.lines().map(str::trim).filter(|line| !line.starts_with('"'));
        fields.map(|line| line.split(['(', ':']).next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    ["Query", "Mutation"].into_iter().flat_map(of).collect()
}

/// Asks Galaxy's API as a client does that has a key of its own, and remembers which fields it has asked.
struct Walk<'a> {
    server: &'a Server,
    key: String,
    app: String,
    asked: BTreeSet<String>,
}

impl Walk<'_> {
    /// What a root field answers. `rest` is its arguments, and what is read of it.
    fn ask(&mut self, kind: &str, field: &str, rest: &str) -> Value {
        self.asked.insert(field.to_owned());
        galaxy_by(self.server, ("galaxy-api-key", &self.key), &format!("{kind} {{ {field}{rest} }}"))[field].clone()
    }

    fn query(&mut self, field: &str, rest: &str) -> Value {
        self.ask("query", field, rest)
    }

    /// A mutation of the app: `more` are the arguments beside its id.
    fn change(&mut self, field: &str, more: &str, selection: &str) -> Value {
        let rest = format!("(appId: \"{}\"{more}) {selection}", self.app);
        self.ask("mutation", field, &rest)
    }

    fn reads(&mut self) {
        let types = self.query("containerTypes", " { _id name memory cpu }");
        assert_eq!((&types[0]["_id"], &types[0]["name"]), (&json!("tiny-pro-v2"), &json!("Tiny (Pro)")), "{types}");
        let kinds = self.query("activityTypes", " { _id label }");
        assert!(kinds.as_array().unwrap().contains(&json!({"_id": "appContainers", "label": "App scaled"})), "{kinds}");
        let rate = self.query("rateLimit", " { cost limit remaining used }");
        let number = |name: &str| rate[name].as_i64().unwrap_or_else(|| panic!("{rate}"));
        assert!(number("cost") > 0 && number("used") >= number("cost"), "{rate}");
        assert_eq!(number("remaining"), number("limit") - number("used"), "{rate}");
        let account = self.query("user", "(username: \"admin\") { appCount runningAppCount apps { _id hostname } }");
        assert_eq!(account, json!({"appCount": 1, "runningAppCount": 1, "apps": [{"_id": self.app, "hostname": HOST}]}));
        let points = "metrics(seriesName: \"5s\", limit: 4) { connections }";
        let asked = format!("(hostname: \"{HOST}\") {{ _id status {points} containers {{ up {points} }} }}");
        until("visitors that are counted", || {
            let found = self.query("app", &asked);
            assert_eq!((&found["_id"], &found["status"]), (&json!(self.app), &json!("running")), "{found}");
            let counted = |of: &Value| of["metrics"].as_array().unwrap().iter().any(|point| point["connections"].as_f64().unwrap() >= 4.0);
            let seen = counted(&found) && counted(&found["containers"][0]);
            if seen { Ok(()) } else { Err(found.to_string()) }
        });
    }

    fn scales_kills_and_tells(&mut self) {
        let (hook, messages) = receiver(200);
        let slack = format!("slack: {{enabled: true, url: \"{hook}\", activityTypes: [\"appContainers\"]}}");
        let settings = format!("(notificationSettings: {{appId: \"{}\", {slack}}}) {{ slack {{ url }} email {{ to }} }}", self.app);
        let saved = self.ask("mutation", "saveNotificationSettings", &settings);
        assert_eq!(saved, json!({"slack": {"url": hook}, "email": null}));

        let scaled = self.change("setContainerCountForApp", ", containerCount: 3", "{ status containerCount }");
        assert_eq!(scaled, json!({"status": "updating", "containerCount": 3}));
        let three = until_running(self.server, 3);
        until("a webhook that tells of three containers", || {
            let messages = messages.lock().unwrap();
            if messages.iter().any(|message| message.body.contains("up from 1 to 3 containers")) {
                Ok(())
            } else {
                Err(format!("{messages:?}"))
            }
        });
        assert_eq!(self.change("removeNotificationSettings", "", ""), true);

        let named = format!(", containerId: \"{}\"", three[0]);
        let killed = self.change("killContainer", &named, "{ _id status shouldStop }");
        assert_eq!(killed, json!({"_id": three[0], "status": "stopping", "shouldStop": true}));
        until("another container", || {
            let now = until_running(self.server, 3);
            if now.contains(&three[0]) { Err(format!("{now:?}")) } else { Ok(()) }
        });
        self.change("setContainerCountForApp", ", containerCount: 1", "{ _id }");
        until_running(self.server, 1);
        let told = messages.lock().unwrap().clone();
        assert!(!told.iter().any(|message| message.body.contains("down from 3 to 1")), "nobody is to be told any more: {told:?}");
    }

    fn names_and_settings(&mut self) {
        let name = "www.shop-of-admin.test";
        let domain = |app: &str, more: &str| {
            format!("(domain: {{appId: \"{app}\", name: \"{name}\"{more}}}) {{ _id name encryption certificateStatus }}")
        };
        let plain = self.ask("mutation", "saveDomain", &domain(&self.app, ""));
        assert_eq!((&plain["name"], &plain["encryption"]), (&json!(name), &json!("Disabled")), "{plain}");
        self.server.visit_until(name, "/", |answer| answer.status == 200);

        let key = rcgen::KeyPair::generate().unwrap();
        let made = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(&key).unwrap();
        let own = format!(", certificate: {}, privateKey: {}", json!(made.pem()), json!(key.serialize_pem()));
        let saved = self.ask("mutation", "saveDomain", &domain(&self.app, &own));
        assert_eq!(saved, json!({"_id": plain["_id"], "name": name, "encryption": "Enabled", "certificateStatus": "valid"}));
        let named = format!("(domainId: {})", plain["_id"]);
        let removed = self.ask("mutation", "removeDomainCertificate", &format!("{named} {{ _id encryption }}"));
        assert_eq!(removed, json!({"_id": plain["_id"], "encryption": "Disabled"}));
        assert_eq!(self.ask("mutation", "removeDomain", &named), true);
        self.server.visit_until(name, "/", |answer| answer.status != 200);

        let set = self.change("setAppSettings", ", settings: {stickySessions: true}", "{ stickySessions coldStart }");
        assert_eq!(set, json!({"stickySessions": true, "coldStart": false}));
        self.server.visit_until(HOST, "/", |answer| answer.header("set-cookie").is_some_and(|cookie| cookie.contains("galaxy-sticky")));
    }

    fn triggers(&mut self) {
        let rules = "rules: [{metric: \"connections\", comparator: \"above\", value: 100000}]";
        let often = "seriesName: \"5s\", sampleQuantity: 1, runEverySeconds: 1";
        let trigger = format!("{{appId: \"{}\", name: \"up\", action: \"add containers\", max: 3, {often}, {rules}}}", self.app);
        let saved = self.ask("mutation", "saveTrigger", &format!("(trigger: {trigger}) {{ _id action max }}"));
        assert_eq!((&saved["action"], &saved["max"]), (&json!("add containers"), &json!(3)), "{saved}");
        let asked = format!("(triggerId: {}, limit: 1000) {{ number outcome log }}", saved["_id"]);
        until("a run that says what it has seen", || {
            let runs = self.query("triggerRuns", &asked);
            let told = |run: &Value| run["outcome"] == "not executed" && run["log"].to_string().contains("which is not above 100000");
            if runs.as_array().unwrap().iter().any(told) { Ok(()) } else { Err(runs.to_string()) }
        });
        assert_eq!(self.ask("mutation", "removeTrigger", &format!("(triggerId: {})", saved["_id"])), true);
        let left = self.query("app", &format!("(hostname: \"{HOST}\") {{ triggers {{ _id }} containerCount }}"));
        assert_eq!(left, json!({"triggers": [], "containerCount": 1}));
    }

    fn sizes_and_versions(&mut self, folder: &Path) {
        let before = until_running(self.server, 1);
        let resized = self.change("setContainerType", ", containerType: \"compact\"", "{ containerType { name } }");
        assert_eq!(resized["containerType"]["name"], "Compact (Pro)");
        until("another container", || if until_running(self.server, 1) == before { Err(format!("{before:?}")) } else { Ok(()) });

        let settings = json!({"galaxy.meteor.com": {"env": {"GREETING": "from the settings"}}}).to_string();
        let set = self.change("setMeteorSettings", &format!(", settings: {}", json!(settings)), "{ _id }");
        assert_eq!(set, json!({"_id": self.app}));
        self.sees("the settings", |env| env["GREETING"] == "from the settings");
        until_running(self.server, 1);

        write(folder, &[("main.py", &python::app(APP).replace("dict(os.environ)", "dict(os.environ, SECOND='yes')"))]);
        self.server.ok(folder, &["up", "--ci"]);
        self.sees("the second version", |env| env["SECOND"] == "yes" && env["GALAXY_APP_VERSION_ID"] == "2");
        until_running(self.server, 1);
        let found = self.query("app", &format!("(hostname: \"{HOST}\") {{ versions {{ _id version restorable }} }}"));
        let first = &found["versions"][1];
        assert_eq!((&first["version"], &first["restorable"]), (&json!(1), &json!(true)), "{found}");
        let restored = self.change("restoreVersion", &format!(", versionId: {}", first["_id"]), "{ _id }");
        assert_eq!(restored, json!({"_id": self.app}));
        self.sees("the first version", |env| env.get("SECOND").is_none() && env["GALAXY_APP_VERSION_ID"] == "1");
        until_running(self.server, 1);
    }

    fn stops_starts_and_leaves(&mut self) {
        assert_eq!(self.change("stopApp", "", "{ _id }"), json!({"_id": self.app}));
        until_stopped(self.server);
        assert_ne!(self.server.visit(HOST, "/").status, 200);
        assert_eq!(self.change("startApp", "", "{ _id }"), json!({"_id": self.app}));
        until_running(self.server, 1);
        self.server.visit_until(HOST, "/", |answer| answer.status == 200);

        let team =
            self.server.graphql("mutation { workspaceCreate(input: {name: \"Team\"}) { id username } }")["data"]["workspaceCreate"].clone();
        self.server.graphql(&format!("mutation {{ workspacePlanSet(id: {}, plan: PRO) {{ plan }} }}", team["id"]));
        // A key knows its own account only: whoever moves an app belongs to both.
        self.asked.insert("transferApp".to_owned());
        let moved = act(self.server, &format!("transferApp(appId: \"{}\", username: {}) {{ _id hostname }}", self.app, team["username"]));
        let moved = moved["transferApp"].clone();
        assert!(moved["hostname"] == HOST && moved["_id"] != self.app.as_str(), "{moved}");
        self.sees("its new account", |env| env["GALAXY_APP_ID"] == moved["_id"]);
        until_running(self.server, 1);
    }

    fn sees(&self, what: &str, wanted: impl Fn(&Value) -> bool) {
        until(&format!("{what} in the environment"), || {
            let env = environment(self.server);
            if wanted(&env) { Ok(()) } else { Err(env.to_string()) }
        });
    }
}

#[test]
fn every_field_of_galaxy_is_asked_while_visitors_come() {
    let settings = [("ORRERY_TRIGGER_SECONDS", "1"), ("ORRERY_OUTGOING_ALLOW", "127.0.0.0/8")];
    let server = Server::start_with(&[&UNLIMITED[..], &settings].concat());
    let (folder, app) = deployed(&server);
    let made = server.graphql("mutation { apiKeyCreate(input: {kind: GALAXY}) { key } }");
    let key = made["data"]["apiKeyCreate"]["key"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned();
    let mut walk = Walk { server: &server, key, app, asked: BTreeSet::new() };

    let load = Load::start(&server, 8, "/slow");
    walk.reads();
    walk.scales_kills_and_tells();
    walk.names_and_settings();
    walk.triggers();
    walk.sizes_and_versions(&folder);
    load.end();

    let load = Load::start(&server, 8, "/slow");
    walk.stops_starts_and_leaves();
    load.interrupted();
    assert_eq!(walk.asked, root_fields());
}
