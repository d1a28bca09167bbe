//! Environments, variables and scaling through the unchanged Railway CLI (`contracts/railway-cli.md` 8).

mod harness;

use std::collections::BTreeSet;
use std::io::{BufRead as _, Write as _};
use std::path::{Path, PathBuf};

use harness::names::{CNAME, Names, TXT, labels};
use harness::webhooks::receiver;
use harness::{Run, Server, write};
use serde_json::{Value, json};

/// A service `web` that answers with its environment variables' say, running in production, linked.
fn site(server: &Server) -> PathBuf {
    let site = server.dir.path().join("shop");
    let app = "from http.server import *\nimport os\nclass App(BaseHTTPRequestHandler):\n    def do_GET(self):\n        self.send_response(200)\n        \
               self.end_headers()\n        say = [os.environ.get(n, '') for n in ('SAY', 'RAILWAY_ENVIRONMENT_NAME', 'RAILWAY_REPLICA_ID')]\n        \
               self.wfile.write('|'.join(say).encode())\nThreadingHTTPServer(('', int(os.environ['PORT'])), App).serve_forever()\n";
    write(&site, &[("main.py", app), ("requirements.txt", ""), ("Procfile", "web: python3 main.py\n")]);
    server.json(&site, &["init", "--name", "shop", "--json"]);
    server.json(&site, &["add", "--service", "web", "--json"]);
    server.ok(&site, &["service", "link", "web"]);
    server.ok(&site, &["up", "--ci"]);
    site
}

fn newest(server: &Server, site: &Path) -> Value {
    server.json(site, &["deployment", "list", "--json"])[0].clone()
}

fn settled(server: &Server, site: &Path) {
    harness::until("the newest deployment's success", || {
        let newest = newest(server, site);
        if newest["status"] == "SUCCESS" { Ok(()) } else { Err(newest.to_string()) }
    });
}

/// A command with something on its standard input.
fn piped(server: &Server, site: &Path, args: &[&str], input: &str) -> Run {
    let file = server.dir.path().join("input");
    std::fs::write(&file, input).unwrap();
    let mut command = server.railway_command(site, args);
    command.stdin(std::fs::File::open(&file).unwrap());
    harness::finish(command, &format!("railway {args:?}"))
}

/// The linked project, its first environment, and a token for the two.
fn project_token(server: &Server, site: &Path) -> (String, String, String) {
    let status = server.json(site, &["status", "--json"]);
    let (project, environment) = (status["id"].as_str().unwrap(), status["environments"]["edges"][0]["node"]["id"].as_str().unwrap());
    let make =
        format!("mutation {{ projectTokenCreate(input: {{projectId: \"{project}\", environmentId: \"{environment}\", name: \"ci\"}}) }}");
    let token = server.graphql(&make)["data"]["projectTokenCreate"].as_str().unwrap().to_owned();
    (project.to_owned(), environment.to_owned(), token)
}

fn say(server: &Server, host: &str) -> String {
    server.visit(host, "/").body
}

#[test]
fn variables_refer_to_each_other_and_one_change_is_one_deployment() {
    let server = Server::start();
    let site = site(&server);
    let shared = json!({"sharedVariables": {"NAME": {"value": "orbit"}}}).to_string();
    let run = piped(&server, &site, &["environment", "edit", "-m", "shared", "--json"], &shared);
    assert_eq!(run.status, 0, "{run:?}");
    server.json(&site, &["add", "--service", "api", "--variables", "HOST=api-host", "--json"]);
    server.ok(&site, &["service", "link", "web"]);
    let before = server.json(&site, &["deployment", "list", "--json"]).as_array().unwrap().len();
    let set = server.json(&site, &["variable", "set", "SAY=${{api.HOST}}/${{shared.NAME}}/${{OWN}}", "OWN=own", "--json"]);
    assert_eq!(set["set"], true, "{set}");
    server.visit_until("web-production.localhost", "/", |answer| answer.body.starts_with("api-host/orbit/own|production|"));
    settled(&server, &site);
    assert_eq!(server.json(&site, &["deployment", "list", "--json"]).as_array().unwrap().len(), before + 1);

    let listed = server.json(&site, &["variable", "list", "--json"]);
    assert_eq!((&listed["SAY"], &listed["NAME"]), (&json!("api-host/orbit/own"), &json!("orbit")));
    assert_eq!(server.ok(&site, &["run", "--", "printenv", "SAY"]).trim(), "api-host/orbit/own");
    let circle = server.railway(&site, &["variable", "set", "OWN=${{SAY}}", "--json"]);
    assert_eq!(circle.status, 1, "{circle:?}");
    assert!(format!("{circle:?}").contains("web.OWN -> web.SAY -> web.OWN"), "{circle:?}");
    server.json(&site, &["variable", "set", "LATER=1", "--skip-deploys", "--json"]);
    assert_eq!(server.json(&site, &["deployment", "list", "--json"]).as_array().unwrap().len(), before + 1);

    // The service that is referred to changes: who refers to it follows.
    server.ok(&site, &["variable", "set", "HOST=moved", "--service", "api"]);
    server.visit_until("web-production.localhost", "/", |answer| answer.body.starts_with("moved/orbit/own|"));
    let edited = piped(&server, &site, &["variable", "set", "SAY", "--stdin", "--json"], "from stdin");
    assert_eq!(edited.status, 0, "{edited:?}");
    server.visit_until("web-production.localhost", "/", |answer| answer.body.starts_with("from stdin|"));

    let mut editor = server.railway_command(&site, &["variable", "edit", "--yes"]);
    editor.env_remove("VISUAL").env("EDITOR", "sed --in-place s/^SAY=.*/SAY=edited/");
    let edited = harness::finish(editor, "railway variable edit");
    assert_eq!(edited.status, 0, "{edited:?}");
    server.visit_until("web-production.localhost", "/", |answer| answer.body.starts_with("edited|"));
}

#[test]
fn scaling_starts_and_ends_copies_and_leaves_the_others_alone() {
    let server = Server::start();
    let site = site(&server);
    let first = say(&server, "web-production.localhost");
    let region = server.graphql("{ regions { name } }")["data"]["regions"][0]["name"].as_str().unwrap().to_owned();
    let deployments = server.json(&site, &["deployment", "list", "--json"]).as_array().unwrap().len();
    let scaled = server.json(&site, &["scale", &format!("{region}=3"), "--json"]);
    assert_eq!(scaled["regions"][&region]["numReplicas"], 3, "{scaled}");
    let mut seen = BTreeSet::new();
    harness::until("three copies that answer", || {
        seen.insert(say(&server, "web-production.localhost"));
        if seen.len() == 3 { Ok(()) } else { Err(format!("{seen:?}")) }
    });
    assert!(seen.contains(&first), "the copy that ran goes on: {first} in {seen:?}");
    assert_eq!(server.json(&site, &["deployment", "list", "--json"]).as_array().unwrap().len(), deployments, "scaling deploys nothing");
    let run = server.railway(&site, &["scale", &format!("{region}=1")]);
    assert_eq!(run.status, 0, "{run:?}");
    harness::until("one copy", || {
        let all: BTreeSet<String> = (0..6).map(|_| say(&server, "web-production.localhost")).collect();
        if all == [first.clone()].into() { Ok(()) } else { Err(format!("{all:?}")) }
    });
    assert_eq!(server.railway(&site, &["service", "scale", &format!("{region}=2"), "--json"]).status, 0);
}

#[test]
fn an_environment_is_duplicated_edited_and_deleted() {
    let server = Server::start();
    let site = site(&server);
    server.json(&site, &["variable", "set", "SAY=hello", "--json"]);
    server.visit_until("web-production.localhost", "/", |answer| answer.body.starts_with("hello|production|"));
    settled(&server, &site);

    let made = server.json(&site, &["environment", "new", "dup", "--duplicate", "production", "--json"]);
    assert_eq!(made["name"], "dup", "{made}");
    server.visit_until("web-dup.localhost", "/", |answer| answer.body.starts_with("hello|dup|"));
    server.ok(&site, &["service", "link", "web"]);
    let config = server.json(&site, &["environment", "config", "--json"]);
    let service = config["services"].as_object().unwrap().keys().next().unwrap().clone();
    assert_eq!(config["services"][&service]["variables"]["SAY"]["value"], "hello", "{config}");

    let patch =
        json!({"services": {service.clone(): {"variables": {"SAY": {"value": "edited"}}, "deploy": {"drainingSeconds": 1}}}}).to_string();
    let edited = piped(&server, &site, &["environment", "edit", "-m", "why", "--json"], &patch);
    assert_eq!(edited.status, 0, "{edited:?}");
    let told: Value = serde_json::from_str(&edited.stdout).unwrap();
    assert_eq!((&told["committed"], &told["message"]), (&json!(true), &json!("why")), "{told}");
    server.visit_until("web-dup.localhost", "/", |answer| answer.body.starts_with("edited|dup|"));
    assert!(say(&server, "web-production.localhost").starts_with("hello|production|"), "the original is untouched");

    let refused = piped(
        &server,
        &site,
        &["environment", "edit", "--json"],
        &json!({"services": {service: {"deploy": {"healthcheckPath": "x"}}}}).to_string(),
    );
    assert_eq!(refused.status, 1, "{refused:?}");
    assert!(format!("{refused:?}").contains("healthcheckPath must begin with a slash"), "{refused:?}");
    let staged =
        harness::Live::start(server.terminal_command(&site, "environment edit --service-config web deploy.startCommand true --stage"));
    let (status, text) = staged.end();
    assert_eq!(status, 0, "{text}");
    assert!(text.contains("Changes staged for"), "{text}");
    assert!(say(&server, "web-dup.localhost").starts_with("edited|dup|"), "what is staged is not done");

    let list = server.json(&site, &["environment", "list", "--json"]);
    assert_eq!(list["environments"].as_array().unwrap().len(), 2, "{list}");
    server.json(&site, &["environment", "link", "production", "--json"]);
    server.json(&site, &["environment", "delete", "dup", "--yes", "--json"]);
    server.visit_until("web-dup.localhost", "/", |answer| answer.status == 404);
    server.ok(&site, &["service", "link", "web"]);
    server.json(&site, &["service", "source", "connect", "--image", "nginx:latest", "--service", "web", "--json"]);
    server.json(&site, &["service", "source", "disconnect", "--service", "web", "--json"]);
}

#[test]
fn a_deployment_is_repeated_restarted_and_taken_down() {
    let server = Server::start();
    let site = site(&server);
    let first = say(&server, "web-production.localhost");
    for args in [&["redeploy", "-y", "--json"][..], &["service", "redeploy", "-y", "--json"], &["deployment", "redeploy", "-y", "--json"]] {
        let made = server.json(&site, args);
        assert!(made["id"].is_string(), "{made}");
        settled(&server, &site);
    }
    server.visit_until("web-production.localhost", "/", |answer| answer.status == 200 && answer.body != first);
    let from_source = server.json(&site, &["redeploy", "--from-source", "-y", "--json"]);
    assert_eq!(from_source["success"], true, "{from_source}");
    settled(&server, &site);
    for args in [&["restart", "-y", "--json"][..], &["service", "restart", "-y", "--json"]] {
        assert!(server.json(&site, args)["id"].is_string());
        settled(&server, &site);
    }
    assert_eq!(server.railway(&site, &["restart", "-y"]).status, 0);
    server.ok(&site, &["down", "-y"]);
    server.visit_until("web-production.localhost", "/", |answer| answer.status == 503);
    assert_eq!(server.railway(&site, &["cron", "list", "--json"]).status, 1);
}

#[test]
fn up_says_that_it_waits_for_an_approval_and_ends_with_what_becomes_of_it() {
    let server = Server::start();
    let (site, host) = (site(&server), "web-production.localhost");
    let (project, environment, token) = project_token(&server, &site);
    let protected = server.graphql(&format!("mutation {{ environmentProtect(id: \"{environment}\", protected: true) }}"));
    assert_eq!(protected["data"]["environmentProtect"], json!(true), "{protected}");
    let up = || {
        let mut command = server.railway_command(&site, &["up", "--ci", "--service", "web"]);
        command.env("RAILWAY_TOKEN", &token).env_remove("ORRERY_TOKEN");
        let up = harness::Live::start(command);
        up.wait_for("waits for the approval of an admin");
        let first = server
            .graphql(&format!("{{ deployments(first: 1, input: {{projectId: \"{project}\"}}) {{ edges {{ node {{ id status }} }} }} }}"));
        let newest = &first["data"]["deployments"]["edges"][0]["node"];
        assert_eq!(newest["status"], "NEEDS_APPROVAL", "{first}");
        (up, newest["id"].as_str().unwrap().to_owned())
    };
    let (refused, id) = up();
    assert_eq!(server.visit(host, "/").status, 200, "what serves goes on");
    server.graphql(&format!("mutation {{ deploymentCancel(id: \"{id}\") }}"));
    let (status, text) = refused.end();
    assert!(status == 1 && text.contains("Not approved: canceled by"), "{status} {text}");

    let before = say(&server, host);
    let (approved, id) = up();
    let done = server.graphql(&format!("mutation {{ deploymentApprove(id: \"{id}\") }}"));
    assert_eq!(done["data"]["deploymentApprove"], json!(true), "{done}");
    let (status, text) = approved.end();
    assert!(status == 0 && text.contains("Deploy complete"), "{status} {text}");
    server.visit_until(host, "/", |answer| answer.status == 200 && answer.body != before);
}

fn service_id(server: &Server) -> String {
    let all = server.graphql("{ projects { edges { node { services { edges { node { id name } } } } } } }");
    let edges = all["data"]["projects"]["edges"][0]["node"]["services"]["edges"].as_array().unwrap().clone();
    edges.iter().find(|edge| edge["node"]["name"] == "web").unwrap()["node"]["id"].as_str().unwrap().to_owned()
}

#[test]
fn a_service_with_a_schedule_runs_when_it_is_asked_to_and_not_all_the_time() {
    let mut server = Server::start();
    let site = server.dir.path().join("nightly");
    let app =
        "import os, sys\nprint('worked for', os.environ.get('WHOM', 'nobody'), flush=True)\nsys.exit(3 if 'WHOM' in os.environ else 0)\n";
    let settings = "[deploy]\ncronSchedule = \"0 4 1 1 *\"\nrestartPolicyType = \"ON_FAILURE\"\n";
    write(&site, &[("main.py", app), ("requirements.txt", ""), ("Procfile", "web: python3 main.py\n"), ("railway.toml", settings)]);
    server.json(&site, &["init", "--name", "nightly", "--json"]);
    server.json(&site, &["add", "--service", "web", "--json"]);
    server.ok(&site, &["service", "link", "web"]);
    let ids = server.graphql("{ projects { edges { node { environments { edges { node { id } } } } } } }");
    let environment = ids["data"]["projects"]["edges"][0]["node"]["environments"]["edges"][0]["node"]["id"].as_str().unwrap().to_owned();
    let place = format!("environmentId: \"{environment}\", serviceId: \"{}\"", service_id(&server));
    let once = server.graphql(&format!("mutation {{ serviceInstanceUpdate({place}, input: {{restartPolicyMaxRetries: 1}}) }}"));
    assert_eq!(once["data"]["serviceInstanceUpdate"], true, "{once}");
    server.ok(&site, &["up", "--ci"]);
    settled(&server, &site);
    assert_eq!(server.json(&site, &["cron", "list", "--json"]), json!([]), "it waits for its time");
    assert_eq!(server.processes("shim"), [0; 0]);
    let page = server.visit_until("web-production.localhost", "/", |answer| answer.status == 503);
    assert!(page.body.contains("by its schedule (0 4 1 1 *, UTC)"), "{page:?}");

    let ended = |server: &Server, runs: usize| {
        harness::until("the end of the run", || {
            let all = server.json(&site, &["cron", "list", "--json"]);
            let over = all.as_array().is_some_and(|all| all.len() == runs) && all[0]["completedAt"].is_string();
            if over { Ok(all[0].clone()) } else { Err(all.to_string()) }
        })
    };
    // What a run says is brought in a moment after it has said it.
    let logged = |server: &Server, words: &str, times: usize| {
        let log = harness::until(words, || {
            let log = server.ok(&site, &["logs", "--deployment", "--lines", "50", "--json"]);
            if log.matches(words).count() >= times { Ok(log) } else { Err(log) }
        });
        assert_eq!(log.matches(words).count(), times, "{log}");
    };
    assert_eq!(server.json(&site, &["cron", "run", "--yes", "--json"]), json!({"success": true}));
    let first = ended(&server, 1);
    assert_eq!((&first["status"], &first["deploymentId"]), (&json!("EXITED"), &newest(&server, &site)["id"]));
    logged(&server, "worked for nobody", 1);

    // Another deployment of the same source keeps the schedule, and a run that fails is tried once more.
    server.sigkill();
    server.start_again();
    server.json(&site, &["variable", "set", "WHOM=ada", "--json"]);
    settled(&server, &site);
    assert_eq!(server.json(&site, &["cron", "run", "--yes", "--json"]), json!({"success": true}));
    assert_eq!(ended(&server, 2)["status"], "CRASHED");
    let runs =
        server.graphql(&format!("{{ deploymentInstanceExecutions(input: {{{place}}}) {{ edges {{ node {{ exitCode reason }} }} }} }}"));
    let edges = &runs["data"]["deploymentInstanceExecutions"]["edges"];
    assert_eq!(edges[0]["node"], json!({"exitCode": 3, "reason": "exited with status 3 (1 restart used up)"}), "{runs}");
    assert_eq!(edges[1]["node"], json!({"exitCode": 0, "reason": null}), "{runs}");
    logged(&server, "worked for ada", 2);
    assert_eq!(newest(&server, &site)["status"], "SUCCESS");
}

#[test]
fn an_idle_app_sleeps_and_the_request_that_wakes_it_is_answered() {
    let server = Server::start_with(&[("ORRERY_SLEEP_AFTER_SECONDS", "4")]);
    let host = "web-production.localhost";
    site(&server);
    let service = service_id(&server);
    // Asked of the API itself: what is awake for seconds only may sleep again before a command line has answered.
    let status = || {
        let query = format!("{{ service(id: \"{service}\") {{ deployments(first: 1) {{ edges {{ node {{ status }} }} }} }} }}");
        server.graphql(&query)["data"]["service"]["deployments"]["edges"][0]["node"]["status"].clone()
    };
    let stands = |wanted: &str| {
        harness::until(wanted, || {
            let now = status();
            if now == *wanted { Ok(()) } else { Err(now.to_string()) }
        });
    };
    let may_sleep = |may: bool| {
        let input = format!("{{sleepApplication: {may}}}");
        let done = server.graphql(&format!("mutation {{ serviceInstanceUpdate(serviceId: \"{service}\", input: {input}) }}"));
        assert_eq!(done["data"]["serviceInstanceUpdate"], true, "{done}");
    };
    may_sleep(true);
    stands("SLEEPING");
    harness::until("the end of its processes", || {
        let left = server.processes("shim");
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
    let woken = server.visit(host, "/");
    assert_eq!(woken.status, 200, "{woken:?}");
    harness::until("a woken app", || {
        // Whoever goes on asking keeps it awake until that has been seen.
        server.visit(host, "/");
        let now = status();
        if now == "SUCCESS" { Ok(()) } else { Err(now.to_string()) }
    });
    stands("SLEEPING");
    // Whoever comes while it wakes waits as well.
    std::thread::scope(|scope| {
        let visits: Vec<_> = (0..4).map(|_| scope.spawn(|| server.visit(host, "/"))).collect();
        for visit in visits {
            let answer = visit.join().unwrap();
            assert!(answer.status == 200 && answer.body.contains("|production|"), "{answer:?}");
        }
    });
    stands("SLEEPING");
    may_sleep(false);
    stands("SUCCESS");
    server.visit_until(host, "/", |answer| answer.status == 200);
}

#[test]
fn a_custom_domain_is_routed_once_its_owner_has_proved_it() {
    let names = Names::start();
    let resolver = names.address.to_string();
    let server = Server::start_with(&[("ORRERY_BASE_DOMAIN", "apps.test"), ("ORRERY_DNS_RESOLVER", &resolver)]);
    let (site, host) = (site(&server), "www.example.test");
    let made = server.json(&site, &["domain", host, "--port", "8080", "--json"])["customDomainCreate"].clone();
    let record = &made["status"]["dnsRecords"][0];
    assert_eq!((&record["requiredValue"], &record["currentValue"]), (&json!("apps.test"), &json!("")), "{made}");
    assert_eq!((&record["status"], &made["status"]["verified"]), (&json!("DNS_RECORD_STATUS_REQUIRES_UPDATE"), &json!(false)));
    assert_eq!(made["status"]["verificationDnsHost"], "_orrery-verify.www");
    let place = ["projectId", "environmentId", "serviceId"].map(|key| format!("{key}: {}", made[key])).join(", ");
    let status = || {
        let query = format!("{{ domains({place}) {{ customDomains {{ status {{ verified dnsRecords {{ currentValue status }} }} }} }} }}");
        server.graphql(&query)["data"]["domains"]["customDomains"][0]["status"].clone()
    };

    names.set(host, CNAME, labels("apps.test"));
    harness::until("the record that was set", || {
        let status = status();
        if status["dnsRecords"][0]["status"] == "DNS_RECORD_STATUS_PROPAGATED" { Ok(()) } else { Err(status.to_string()) }
    });
    assert_eq!(status()["verified"], false, "whose domain it is has not been shown");
    assert_eq!(server.visit(host, "/").status, 404);

    let token = made["status"]["verificationToken"].as_str().unwrap();
    names.set(&format!("_orrery-verify.{host}"), TXT, [&[token.len() as u8], token.as_bytes()].concat());
    server.visit_until(host, "/", |answer| answer.status == 200 && answer.body.contains("|production|"));
    assert_eq!(status()["verified"], true);
    server.json(&site, &["domain", "delete", host, "--yes", "--json"]);
    server.visit_until(host, "/", |answer| answer.status == 404);
}

/// Command lines that the other tests do not come by, in the order of `contracts/railway-cli.md` 8, with their exit status there.
const COMMANDS: &[(&str, i32)] = &[
    ("whoami", 0),
    ("whoami --json", 0),
    ("list", 0),
    ("list --json", 0),
    ("add --service api --variables A=1 --json", 0),
    ("add --image nginx:latest --service img --json", 0),
    ("add --repo owner/repo --branch main --service fromrepo --json", 0),
    ("service link web", 0),
    ("status --project shop --environment production --json", 0),
    ("variables --set D=4 --skip-deploys", 0),
    ("variables --json", 0),
    ("up --detach --json -m hello", 0),
    ("up", 0),
    ("up . --path-as-root --detach --no-gitignore", 0),
    ("deployment list", 0),
    ("deployment list --json --limit 5", 0),
    ("deployment up --detach --json", 0),
    ("logs --lines 5", 0),
    ("logs --http --json", 0),
    ("logs --since 1h --until 1m --json", 0),
    ("logs --deployment --lines 5 --filter @level:error --json", 0),
    ("domain www.example.test --port 8080 --json", 0),
    ("domain status www.example.test --json", 0),
    ("domain update www.example.test --port 9090 --json", 0),
    ("domain delete www.example.test --yes --json", 0),
    ("service status --all --json", 0),
    ("service logs --lines 3 --json", 0),
    ("service source connect --image nginx:latest --service img --json", 0),
    ("service source disconnect --service img --json", 0),
    ("metrics --json", 0),
    ("metrics --all --json", 0),
    ("metrics --raw --json --cpu --memory", 0),
    ("metrics --http --json", 0),
    ("volume list --json", 0),
    ("environment list --json", 0),
    ("environment config --json", 0),
    ("environment production --json", 0),
    ("service link web", 0),
    ("deploy --template redis", 0),
    ("service link web", 0),
    ("run -- env", 0),
    ("run --service web -- printenv D", 0),
    ("shell --silent", 0),
    ("connect web --no-ssh", 1),
    ("tcp-proxy list --json", 0),
    ("service Redis", 0),
    ("variables --service Redis --json", 0),
    ("service link web", 0),
    ("templates search postgres --json", 0),
    ("cron list --json", 1),
    ("bucket list --json", 0),
    ("project list --json", 0),
    ("service delete --service api --yes --json", 0),
    ("environment edit --json", 0),
];

#[test]
fn other_command_lines_end_as_they_were_recorded() {
    let server = Server::start_unlimited();
    let site = site(&server);
    let mut odd = vec![];
    for (line, wanted) in COMMANDS {
        let args: Vec<&str> = line.split(' ').collect();
        let input = if line.starts_with("environment edit") { r#"{"sharedVariables":{"S":{"value":"1"}}}"# } else { "" };
        let run = piped(&server, &site, &args, input);
        if run.status != *wanted {
            odd.push(format!("railway {line}: {run:?}"));
        }
    }
    assert!(odd.is_empty(), "{odd:#?}");
    tools(&server, &site);
    with_a_project_token(&server, &site);
}

/// The recorded lines that do not begin with a linked project and a credential that works, and those that are refused.
#[test]
fn what_is_refused_and_what_begins_from_nothing_ends_as_it_was_recorded() {
    let server = Server::start_with(&[("ORRERY_MAX_UPLOAD_BYTES", "200000")]);
    let site = site(&server);
    let id = server.json(&site, &["status", "--json"])["id"].as_str().unwrap().to_owned();
    let query = "query P($id: String!) { project(id: $id) { id name } }";
    let asked = server.json(&site, &["api", query, "--var", &format!("id={id}")]);
    assert_eq!(asked["data"]["project"], json!({"id": id, "name": "shop"}), "{asked}");

    let with = |name: &str, value: &str, args: &[&str]| {
        let mut command = server.railway_command(&site, args);
        command.env_remove("ORRERY_TOKEN").env(name, value);
        harness::finish(command, &format!("{name}: railway {args:?}"))
    };
    let nobody = server.dir.path().join("nobody");
    std::fs::create_dir_all(&nobody).unwrap();
    for (name, value, args) in [
        ("ORRERY_TOKEN", "orr_nonsense", &["up", "--detach"][..]),
        ("RAILWAY_TOKEN", "orr_nonsense", &["status"][..]),
        ("HOME", nobody.to_str().unwrap(), &["up", "--detach", "--json"][..]),
    ] {
        let run = with(name, value, args);
        assert_eq!(run.status, 1, "{name} {args:?}: {run:?}");
        let said = format!("{}{}", run.stdout, run.stderr);
        assert!(
            said.contains("Unauthorized") || said.contains("NOT_AUTHENTICATED") || said.contains("Invalid RAILWAY_TOKEN"),
            "{name} {args:?}: {run:?}"
        );
    }

    let fresh = server.dir.path().join("fresh");
    write(&fresh, &[("index.html", "from nothing")]);
    let said = server.ok(&fresh, &["init", "--name", "plain1"]);
    assert!(said.contains("plain1"), "{said}");
    server.json(&fresh, &["project", "delete", "--project", "plain1", "--yes", "--json"]);
    write(&site, &[("railway.json", r#"{"build":{"buildCommand":"echo about to fail; sleep 2; exit 3"}}"#)]);
    let failed = server.railway(&site, &["up", "--json", "-m", "make-it-fail"]);
    assert!(failed.status == 1 && failed.stdout.contains("\"failed\""), "{failed:?}");
    // Too much for the limit however well it is packed.
    let mut state = 88_172_645_463_325_252_u64;
    let noise = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    });
    let noise: Vec<u8> = noise.take(400_000).collect();
    std::fs::write(site.join("noise"), noise).unwrap();
    let refused = server.railway(&site, &["up", "--ci", "-m", "refuse-it"]);
    assert_eq!(refused.status, 1, "{refused:?}");
}

/// What the recorder let a project token do beyond its one environment ends with 1 here, as it does at Railway.
const WITH_A_PROJECT_TOKEN: &[(&str, i32)] = &[
    ("status --json", 0),
    ("list --json", 1),
    ("variables --service web --json", 0),
    ("variable set PT=1 --service web --json", 0),
    ("up --service web --detach --json", 0),
    ("up --service web --ci", 0),
    ("logs --service web --lines 2 --json", 0),
    ("redeploy --service web -y --json", 0),
    ("run --service web -- printenv RAILWAY_SERVICE_NAME", 0),
    ("deployment list --service web --json", 0),
    ("domain --service web --json", 0),
    ("environment new nope --json", 1),
    ("init --name nope --json", 1),
];

/// The recorded lines that are led to their project by a token, and the one that is by two variables, in a folder without a link.
fn with_a_project_token(server: &Server, site: &Path) {
    let (project, environment, token) = project_token(server, site);
    let mut odd = vec![];
    for (line, wanted) in WITH_A_PROJECT_TOKEN {
        let args: Vec<&str> = line.split(' ').collect();
        let mut command = server.railway_command(site, &args);
        command.env("RAILWAY_TOKEN", &token).env_remove("ORRERY_TOKEN");
        let run = harness::finish(command, &format!("with a project token: railway {line}"));
        if run.status != *wanted {
            odd.push(format!("railway {line}: {run:?}"));
        }
    }
    assert!(odd.is_empty(), "{odd:#?}");

    let mut command = server.railway_command(server.dir.path(), &["status", "--json"]);
    command.env("RAILWAY_PROJECT_ID", &project).env("RAILWAY_ENVIRONMENT_ID", &environment);
    let run = harness::finish(command, "railway status by variables");
    assert_eq!(run.status, 0, "{run:?}");
    let status: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!((&status["id"], &status["name"]), (&json!(project), &json!("shop")), "{run:?}");
}

/// `railway mcp local`: each tool of the recording that is about this server, over its standard input and output.
fn tools(server: &Server, site: &Path) {
    let region = server.graphql("{ regions { name } }")["data"]["regions"][0]["name"].clone();
    let calls = [
        ("whoami", json!({})),
        ("list_projects", json!({})),
        ("list_workspaces", json!({})),
        ("list_services", json!({})),
        ("list_variables", json!({})),
        ("set_variables", json!({"variables": {"FROM_MCP": "1"}})),
        ("get_service_config", json!({})),
        ("update_service", json!({"health_check_path": "/"})),
        ("list_deployments", json!({})),
        ("get_logs", json!({})),
        ("environment_status", json!({})),
        ("generate_domain", json!({})),
        ("scale_service", json!({"replicas": {region.as_str().unwrap(): 1}})),
        ("service_metrics", json!({})),
        ("http_requests", json!({})),
        ("create_service", json!({"name": "frommcp"})),
        ("deploy", json!({"message": "by a tool"})),
        ("search_templates", json!({"query": "redis"})),
    ];
    let mut command = server.railway_command(site, &["mcp", "local"]);
    command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::null());
    let mut child = command.spawn().unwrap();
    let (mut to, mut from) = (child.stdin.take().unwrap(), std::io::BufReader::new(child.stdout.take().unwrap()));
    let hello = json!({"protocolVersion": "2025-03-26", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}});
    let mut ask = |id: usize, method: &str, params: Value| -> Value {
        if method.starts_with("notifications/") {
            writeln!(to, "{}", json!({"jsonrpc": "2.0", "method": method})).unwrap();
            return Value::Null;
        }
        writeln!(to, "{}", json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})).unwrap();
        loop {
            let mut line = String::new();
            assert!(from.read_line(&mut line).unwrap() > 0, "it ended before it answered {method}");
            let answer: Value = serde_json::from_str(&line).unwrap();
            if answer["id"] == id {
                return answer;
            }
        }
    };
    ask(0, "initialize", hello);
    ask(0, "notifications/initialized", json!({}));
    let listed = ask(100, "tools/list", json!({}))["result"]["tools"].clone();
    let mut odd: Vec<String> = vec![];
    assert!(calls.iter().all(|(name, _)| listed.as_array().unwrap().iter().any(|tool| tool["name"] == *name)), "{listed}");
    for (at, (name, arguments)) in calls.into_iter().enumerate() {
        let answer = ask(at + 1, "tools/call", json!({"name": name, "arguments": arguments}));
        if answer["result"].is_null() || answer["result"]["isError"] == true {
            odd.push(format!("{name}: {answer}"));
        }
    }
    drop(to);
    assert!(child.wait().unwrap().success());
    assert!(odd.is_empty(), "{odd:#?}");
}

#[test]
fn a_webhook_hears_of_what_is_deployed_and_taken_down() {
    let (url, messages) = receiver(500);
    let server = Server::start_with(&[("ORRERY_OUTGOING_ALLOW", "127.0.0.0/8")]);
    let workspace = server.graphql("{ me { workspaces { id } } }")["data"]["me"]["workspaces"][0]["id"].clone();
    let made = server.graphql(&format!(
        "mutation {{ notificationRuleCreate(input: {{workspaceId: {workspace}, eventTypes: [], channelConfigs: [{{type: \"WEBHOOK\", url: \
         \"{url}\", secret: \"canary-of-the-hook\"}}]}}) {{ id channels {{ config }} }} }}"
    ));
    let rule = made["data"]["notificationRuleCreate"].clone();
    assert_eq!(rule["channels"][0]["config"]["signed"], true, "{made}");
    let site = site(&server);
    let deployment = newest(&server, &site)["id"].clone();
    let heard = |event: &str| {
        harness::until(event, || {
            let all = messages.lock().unwrap().clone();
            let mut bodies = all.iter().map(|one| serde_json::from_str::<Value>(&one.body).unwrap_or_default());
            let found = bodies.find(|body| body["type"] == event && body["details"]["id"] == deployment);
            found.ok_or_else(|| format!("{all:?}"))
        })
    };
    assert_eq!(heard("Deployment.building")["details"]["status"], "BUILDING");
    let body = heard("Deployment.deployed");
    assert_eq!((&body["resource"]["service"]["name"], &body["resource"]["environment"]["name"]), (&json!("web"), &json!("production")));
    server.ok(&site, &["down", "-y"]);
    heard("Deployment.removed");
    // The first message was refused once and came again under its id; no other came twice.
    let sent = format!("{{ notificationRuleDeliveries(id: {}) {{ id status attempts statusCode }} }}", rule["id"]);
    harness::until("every message to be sent", || {
        let listed = server.graphql(&sent)["data"]["notificationRuleDeliveries"].clone();
        let all = listed.as_array().cloned().unwrap_or_default();
        if all.iter().all(|one| one["status"] == "SENT" && one["statusCode"] == 200) { Ok(()) } else { Err(listed.to_string()) }
    });
    let all = messages.lock().unwrap().clone();
    let ids: Vec<&str> = all.iter().map(|one| one.header("svix-id").expect("an id")).collect();
    let different: BTreeSet<&str> = ids.iter().copied().collect();
    assert_eq!((different.len() + 1, ids.iter().filter(|id| **id == ids[0]).count()), (ids.len(), 2), "{all:?}");
    assert!(!format!("{all:?}{made}").contains("canary"));

    // Once more, under the same id.
    let again = ids[1].to_owned();
    let replay = format!("mutation {{ notificationRuleDeliveryReplay(id: \"{}\") }}", again.trim_start_matches("msg_"));
    let before = ids.iter().filter(|id| **id == again).count();
    let answer = server.graphql(&replay);
    assert_eq!(answer["data"]["notificationRuleDeliveryReplay"], true, "{answer}");
    harness::until("the message to come again", || {
        let all = messages.lock().unwrap().clone();
        let came = all.iter().filter(|one| one.header("svix-id") == Some(again.as_str())).count();
        if came == before + 1 { Ok(()) } else { Err(format!("{came} times")) }
    });
}
