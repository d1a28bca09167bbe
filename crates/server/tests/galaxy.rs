//! Galaxy's API over running containers: what the Railway CLI deployed is scaled, killed, stopped and restored through it.

mod harness;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use harness::{Server, request, until, write};
use serde_json::Value;

const HOST: &str = "shop-production.localhost";

/// Shows its environment.
const APP: &str = r#"
import http.server, json, os
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = json.dumps(dict(os.environ)).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128
Server(("0.0.0.0", int(os.environ["PORT"])), Handler).serve_forever()
"#;

fn galaxy(server: &Server, query: &str) -> Value {
    let body = serde_json::json!({"query": query}).to_string();
    let bearer = format!("Bearer {}", server.token);
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
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

fn environment(server: &Server) -> Value {
    let answer = server.visit_until(HOST, "/", |answer| answer.status == 200);
    let env: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(answer.header("x-galaxy-container"), env["GALAXY_CONTAINER_ID"].as_str(), "{answer:?}");
    env
}

/// Visitors that go on until the load ends.
struct Load {
    on: Arc<AtomicBool>,
    visitors: Vec<std::thread::JoinHandle<()>>,
    served: Arc<AtomicU32>,
    failed: Arc<std::sync::Mutex<Vec<String>>>,
}

impl Load {
    fn start(edge: u16) -> Self {
        let (on, served, failed) =
            (Arc::new(AtomicBool::new(true)), Arc::<AtomicU32>::default(), Arc::<std::sync::Mutex<Vec<_>>>::default());
        let visitors = (0..4).map(|_| {
            let (on, served, failed) = (on.clone(), served.clone(), failed.clone());
            std::thread::spawn(move || {
                while on.load(Ordering::Relaxed) {
                    let answer = request(edge, "GET", HOST, "/", &[], b"");
                    if answer.status == 200 {
                        served.fetch_add(1, Ordering::Relaxed);
                    } else {
                        failed.lock().unwrap().push(format!("{answer:?}"));
                    }
                }
            })
        });
        let visitors = visitors.collect();
        Self { on, visitors, served, failed }
    }

    fn end(self) {
        self.on.store(false, Ordering::Relaxed);
        for visitor in self.visitors {
            visitor.join().unwrap();
        }
        let failed = self.failed.lock().unwrap();
        assert!(failed.is_empty() && self.served.load(Ordering::Relaxed) > 0, "{} requests failed: {failed:?}", failed.len());
    }
}

#[test]
fn an_app_is_scaled_killed_stopped_resized_and_restored() {
    let server = Server::start();
    let folder = server.dir.path().join("shop");
    write(&folder, &[("main.py", APP), ("Procfile", "web: python3 main.py\n")]);
    server.json(&folder, &["init", "--name", "shop", "--json"]);
    server.ok(&folder, &["up", "--ci"]);
    server.ok(&folder, &["service", "link", "shop"]);

    let first = until_running(&server, 1);
    let found = app(&server);
    let id = found["_id"].as_str().unwrap().to_owned();
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
    assert!(feed.to_string().contains("up from 1 to 3 containers"), "{feed}");
}

fn scale_and_kill(server: &Server, id: &str, first: &str) {
    let scale = |count: u32| {
        let answer = act(server, &format!("setContainerCountForApp(appId: \"{id}\", containerCount: {count}) {{ status containerCount }}"));
        assert_eq!(answer["setContainerCountForApp"]["status"], "updating", "{answer}");
    };
    let load = Load::start(server.edge);
    scale(3);
    let three = until_running(server, 3);
    assert!(three.iter().any(|container| container == first), "{first} was restarted: {three:?}");
    act(server, &format!("killContainer(appId: \"{id}\", containerId: \"{first}\") {{ _id status }}"));
    until("another container", || {
        let now = until_running(server, 3);
        if now.iter().any(|container| container == first) { Err(format!("{now:?}")) } else { Ok(()) }
    });
    scale(1);
    let one = until_running(server, 1);
    load.end();

    // The only one: who looks sees that it is gone, and that it comes back.
    act(server, &format!("killContainer(appId: \"{id}\", containerId: \"{}\") {{ _id }}", one[0]));
    server.visit_until(HOST, "/", |answer| answer.status != 200);
    server.visit_until(HOST, "/", |answer| answer.status == 200);
    assert_ne!(until_running(server, 1), one);
}

fn stop_and_start(server: &Server, id: &str) {
    act(server, &format!("stopApp(appId: \"{id}\") {{ _id }}"));
    until("a stopped app", || {
        let app = app(server);
        if app["status"] == "stopped" && app["containers"] == serde_json::json!([]) { Ok(()) } else { Err(app.to_string()) }
    });
    assert_ne!(server.visit(HOST, "/").status, 200);
    act(server, &format!("startApp(appId: \"{id}\") {{ _id }}"));
    until_running(server, 1);
    server.visit_until(HOST, "/", |answer| answer.status == 200);
}

fn settings_and_versions(server: &Server, id: &str, folder: &std::path::Path) {
    let before = until_running(server, 1);
    act(server, &format!("setContainerType(appId: \"{id}\", containerType: \"compact\") {{ _id }}"));
    until("another container", || if until_running(server, 1) == before { Err(format!("{before:?}")) } else { Ok(()) });
    assert_eq!(app(server)["containerType"]["name"], "Compact (Pro)");

    let settings = r#"{\"public\":{},\"galaxy.meteor.com\":{\"env\":{\"GREETING\":\"from the settings\"}}}"#;
    act(server, &format!("setMeteorSettings(appId: \"{id}\", settings: \"{settings}\") {{ _id }}"));
    until("the settings in the environment", || {
        let env = environment(server);
        if env["GREETING"] == "from the settings" && env["METEOR_SETTINGS"].is_string() { Ok(()) } else { Err(env.to_string()) }
    });

    write(folder, &[("main.py", &APP.replace("dict(os.environ)", "dict(os.environ, SECOND='yes')"))]);
    server.ok(folder, &["up", "--ci"]);
    until_running(server, 1);
    let found = app(server);
    assert_eq!((&found["activeVersion"]["version"], &found["versions"][0]["version"]), (&2.into(), &2.into()), "{found}");
    assert_eq!(environment(server)["SECOND"], "yes");
    let version = found["versions"][1]["_id"].as_str().unwrap();
    act(server, &format!("restoreVersion(appId: \"{id}\", versionId: \"{version}\") {{ _id }}"));
    until("the first version", || {
        let env = environment(server);
        if env.get("SECOND").is_none() && env["GALAXY_APP_VERSION_ID"] == "1" { Ok(()) } else { Err(env.to_string()) }
    });
    until_running(server, 1);
    assert_eq!(app(server)["activeVersion"]["version"], 1);
}
