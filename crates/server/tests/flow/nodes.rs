//! Nodes that need something of the machine or of the operator: language models, databases, ffmpeg.

use std::process::Command;

use super::*;

#[test]
fn language_models_are_asked_where_the_operator_says() {
    let answer = json!({
        "model": "tiny-1",
        "choices": [{"message": {"role": "assistant", "content": "Hello Ada"}}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5, "cost": 0.25},
        "provider": "House",
    });
    let endpoint = Receiver::answering(200, answer.to_string().as_bytes());
    let refusing = Receiver::answering(400, br#"{"error": {"message": "no such model"}}"#);
    let url = format!("{}v1/", endpoint.url());
    // Nodes of users may not ask this machine; the operator's own address may be anywhere.
    let server = Server::start_with(&[
        ("ORRERY_LLM_URL", url.as_str()),
        ("ORRERY_LLM_KEY", "canary-key"),
        ("ORRERY_LLM_MODELS", "gpt_5=tiny,house_model=tiny"),
        ("ORRERY_NODE_PRICES", "gpt_5=2500"),
        ("ORRERY_CREDIT_ALLOWANCE", "4000"),
    ]);
    let models = good(&server, "GET", "/v1/models", Value::Null);
    let own = |key: &str| models.as_array().unwrap().iter().find(|model| model["nodeType"] == key).map(|model| model["own"].clone());
    assert_eq!(
        (own("gpt_5"), own("house_model"), own("llm"), own("claude_opus_4_6")),
        (Some(json!(false)), Some(json!(true)), Some(json!(true)), None)
    );
    assert_eq!(
        good(&server, "POST", "/v1/nodes/estimate-credits", json!({"nodes": [{"type": "gpt_5"}]}))["estimates"][0]["microcredits"],
        2500
    );

    let own = "data:image/png;base64,iVBORw0KGgo=";
    let input = json!({
        "prompt": "Greet Ada",
        "system_prompt": "Be kind",
        "max_tokens": 20,
        "top_k": 40,
        "reasoning": {"effort": "low"},
        "image_urls": [own],
    });
    let run = performed(&server, "gpt_5", input);
    assert_eq!((&run["status"], &run["creditUsed"]), (&json!("COMPLETED"), &json!(2500)), "{run}");
    assert_eq!((&run["output"]["output"], &run["output"]["usage"]["total_tokens"]), (&json!("Hello Ada"), &json!(5)));
    assert_eq!((&run["output"]["provider_used"], &run["output"]["cost_usd"]), (&json!("House"), &json!("0.25")));
    let (head, body) = endpoint.bodies.lock().unwrap()[0].clone();
    assert!(head.starts_with("POST /v1/chat/completions ") && head.contains("Bearer canary-key"), "{head}");
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&body["model"], &body["max_tokens"], &body["messages"][0]["content"]), (&json!("tiny"), &json!(20), &json!("Be kind")));
    assert_eq!(body["messages"][1]["content"][1]["image_url"]["url"], own);
    assert_eq!((&body["top_k"], &body["reasoning"], body.get("min_p")), (&json!(40), &json!({"effort": "low"}), None));
    assert_eq!(good(&server, "GET", "/v1/credits/balance", Value::Null)["availableBalance"], 1500);
    let broke = bad(&server, 403, "POST", "/v1/nodes/gpt_5/run", json!({"input": {"prompt": "again"}}));
    assert!(text(&broke["error"]).contains("Insufficient credits"), "{broke}");

    assert_eq!(performed(&server, "llm", json!({"prompt": "x", "model": "other"}))["output"]["output"], "Hello Ada");
    let body: Value = serde_json::from_str(&endpoint.bodies.lock().unwrap()[1].1).unwrap();
    assert_eq!(body["model"], "other");
    // The operator's endpoint may reach this machine; the user who names a picture may not.
    let near = format!("{}secret.png", endpoint.url());
    let run = performed(&server, "llm", json!({"prompt": "x", "model": "other", "image_urls": [near]}));
    assert!(run["status"] == "FAILED" && text(&run["error"]).contains("not an address of the public internet"), "{run}");
    assert_eq!(endpoint.bodies.lock().unwrap().len(), 2, "neither the picture nor the model was asked for");
    bad(&server, 400, "POST", "/v1/nodes/llm/run", json!({"input": {"prompt": "x"}}));
    bad(&server, 404, "POST", "/v1/nodes/claude_opus_4_6/run", json!({"input": {"prompt": "x"}}));
    let log = std::fs::read_to_string(server.dir.path().join("serve.log")).unwrap();
    assert!(!log.contains("canary-key"));

    let url = refusing.url();
    let pictures = Receiver::answering(200, b"\x89PNG\r\n\x1a\n");
    let settings = [("ORRERY_LLM_URL", url.as_str()), ("ORRERY_LLM_KEY", "canary-key"), ("ORRERY_OUTGOING_ALLOW", "127.0.0.0/8")];
    let server = Server::start_with(&settings);
    let run = performed(&server, "llm", json!({"prompt": "x", "model": "none", "image_urls": [pictures.url()]}));
    assert!(refusing.bodies.lock().unwrap()[0].1.contains(own), "the picture goes along, whatever becomes of the request");
    let error = text(&run["error"]);
    assert!(error.contains("400: no such model") && !error.contains("canary"), "{run}");
}

/// The ids of a project's environment and of its services by name.
fn project(server: &Server) -> (String, BTreeMap<String, String>) {
    let all = server
        .graphql("{ projects { edges { node { environments { edges { node { id } } } services { edges { node { id name } } } } } } }");
    let node = &all["data"]["projects"]["edges"][0]["node"];
    let services = node["services"]["edges"].as_array().unwrap_or_else(|| panic!("{all}"));
    let services = services.iter().map(|edge| (text(&edge["node"]["name"]), text(&edge["node"]["id"]))).collect();
    (text(&node["environments"]["edges"][0]["node"]["id"]), services)
}

#[test]
fn databases_of_a_project_are_asked_in_sql() {
    let server = Server::start();
    let folder = server.dir.path().join("rows");
    harness::write(&folder, &[("index.html", "x")]);
    server.json(&folder, &["init", "--name", "rows", "--json"]);
    for code in ["postgres", "mysql"] {
        server.json(&folder, &["add", "--database", code, "--json"]);
    }
    let (environment, services) = project(&server);
    for id in services.values() {
        until("the database", || {
            let answer =
                server.graphql(&format!("{{ service(id: \"{id}\") {{ deployments(first: 1) {{ edges {{ node {{ status }} }} }} }} }}"));
            let status = answer["data"]["service"]["deployments"]["edges"][0]["node"]["status"].clone();
            if status == "SUCCESS" { Ok(()) } else { Err(answer.to_string()) }
        });
    }
    let ask = |service: &str, query: &str, more: Value| {
        let mut input = json!({"environment_id": environment, "service_id": services[service], "query": query});
        input.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
        performed(&server, "sql_query", input)
    };
    let write = json!({"read_only": false});
    for (service, create, insert) in [
        (
            "Postgres",
            "CREATE TABLE people (id int primary key, name text, born date, data jsonb)",
            "INSERT INTO people VALUES ($1, $2, $3, $4)",
        ),
        ("MySQL", "CREATE TABLE people (id int primary key, name text, born date, data json)", "INSERT INTO people VALUES (?, ?, ?, ?)"),
    ] {
        assert_eq!(ask(service, create, write.clone())["status"], "COMPLETED", "{service}");
        for (id, name) in [(1, "Ada"), (2, "Zoë")] {
            let more = json!({"read_only": false, "params": [id, name, "1815-12-10", {"a": id}]});
            assert_eq!(ask(service, insert, more)["output"]["count"], 1, "{service}");
        }
        let all = ask(service, "SELECT id, name, born FROM people ORDER BY id;", json!({}))["output"].clone();
        let rows = json!([{"id": 1, "name": "Ada", "born": "1815-12-10"}, {"id": 2, "name": "Zoë", "born": "1815-12-10"}]);
        assert_eq!(all, json!({"rows": rows, "count": 2, "truncated": false}), "{service}");
        let one = ask(service, "SELECT id FROM people", json!({"max_rows": 1}))["output"].clone();
        assert_eq!((&one["count"], &one["truncated"]), (&json!(1), &json!(true)), "{service}");
        // What is not allowed to change anything does not.
        for forbidden in ["DELETE FROM people", "DROP TABLE people"] {
            let refused = ask(service, forbidden, json!({}));
            assert!(text(&refused["error"]).to_lowercase().contains("read"), "{service}: {refused}");
        }
        // Too large to keep, and too large to be read at all.
        for (length, said) in [(4_000_000, "the first row is larger"), (9_000_000, "a row is larger")] {
            let refused = ask(service, &format!("SELECT repeat('x', {length}) AS large"), json!({}));
            assert!(text(&refused["error"]).contains(said), "{service}: {refused}");
        }
        let wrong = ask(service, "SELECT nonsense FROM people", json!({}));
        assert!(text(&wrong["error"]).contains("nonsense"), "{service}: {wrong}");
        let slow = if service == "Postgres" { "SELECT pg_sleep(60)::text" } else { "SELECT SLEEP(60) FROM people" };
        let late = ask(service, slow, json!({"timeout_seconds": 1}));
        assert!(late["status"] == "FAILED" || late["output"]["rows"][0].to_string().contains('1'), "{service}: {late}");
    }
    assert_eq!(
        ask("Postgres", "SELECT data FROM people WHERE id = $1", json!({"params": [2]}))["output"]["rows"],
        json!([{"data": {"a": 2}}])
    );
    assert_eq!(ask("Postgres", "SELECT count(*) AS n FROM people", json!({}))["output"]["rows"], json!([{"n": 2}]));
}

/// A film of one second with a tone, made by ffmpeg itself.
fn film(folder: &std::path::Path, name: &str, sound: bool) -> String {
    let path = folder.join(name);
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-y", "-f", "lavfi", "-i", "testsrc=size=64x48:rate=10:duration=1"]);
    if sound {
        command.args(["-f", "lavfi", "-i", "sine=frequency=440:duration=1"]);
    }
    let done = command.args(["-pix_fmt", "yuv420p"]).arg(&path).output().expect("ffmpeg is installed");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    path.display().to_string()
}

#[test]
fn films_are_cut_together_by_ffmpeg() {
    let server = Server::start_unlimited();
    let upload = |path: &str| {
        let bytes = std::fs::read(path).unwrap();
        text(&good(&server, "POST", "/v1/uploads", json!({"filename": "a.mp4", "base64": base64(&bytes)}))["url"])
    };
    let (loud, silent) = (upload(&film(server.dir.path(), "a.mp4", true)), upload(&film(server.dir.path(), "b.mp4", false)));
    for (transition, least, most) in [("none", 1.8, 2.3), ("fade", 1.3, 1.8), ("dissolve", 1.3, 1.8)] {
        let run = performed(&server, "merge_videos", json!({"video_urls": [loud, silent], "transition": transition}));
        let output = &run["output"];
        assert_eq!((&output["width"], &output["height"], &output["format"]), (&json!(64), &json!(48), &json!("mp4")), "{run}");
        let duration = output["duration"].as_f64().unwrap();
        assert!((least..most).contains(&duration), "{transition}: {run}");
        let url = text(&output["video_url"]);
        let read = request(server.api, "GET", "localhost", &url[url.find("/api/").unwrap()..], &[], b"");
        assert_eq!((read.status, read.header("content-type")), (200, Some("video/mp4")));
    }
    let sound = performed(&server, "extract_audio", json!({"video_url": loud}));
    assert_eq!(sound["output"]["mimeType"], "audio/mpeg", "{sound}");
    let both = performed(&server, "merge_av", json!({"video_url": silent, "audio_url": sound["output"]["audio_url"]}));
    assert!(both["output"]["video_url"].is_string(), "{both}");
    let none = performed(&server, "extract_audio", json!({"video_url": silent}));
    assert!(text(&none["error"]).contains("no sound"), "{none}");
    // A list of other files is no film, whatever it is called: it could name the server's own.
    let list = format!("#EXTM3U\n#EXTINF:1,\n{}\n", server.data().join("master.key").display());
    let list = text(&good(&server, "POST", "/v1/uploads", json!({"filename": "a.mp4", "base64": base64(list.as_bytes())}))["url"]);
    let refused = performed(&server, "extract_audio", json!({"video_url": list}));
    assert_eq!(refused["status"], "FAILED", "{refused}");
    bad(&server, 400, "POST", "/v1/nodes/merge_videos/run", json!({"input": {}}));
}

/// Base64, as `/uploads` takes it.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let all = chunk.iter().fold(0_u32, |all, byte| all << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for at in 0..4 {
            let letter = LETTERS[(all >> (18 - 6 * at)) as usize & 63];
            out.push(if at <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    out
}

#[test]
fn a_file_is_fetched_from_where_it_is_but_not_from_a_neighbour() {
    let elsewhere = Receiver::answering(200, b"GIF89a and so on");
    let server = open_server(&[]);
    let url = format!("{}pictures/cat.gif?size=1", elsewhere.url());
    let file = good(&server, "POST", "/v1/uploads", json!({"url": url}));
    assert_eq!((&file["filename"], &file["contentType"], &file["size"]), (&json!("cat.gif"), &json!("image/gif"), &json!(16)));
    assert_eq!(good(&server, "GET", "/v1/media-library", Value::Null)["items"][0]["id"], file["id"]);
    let absent = Receiver::answering(404, b"nothing");
    let problem = bad(&server, 400, "POST", "/v1/uploads", json!({"url": absent.url()}));
    assert!(text(&problem["error"]).contains("404"), "{problem}");
    bad(&server, 400, "POST", "/v1/uploads", json!({"url": url, "base64": "AA=="}));

    let closed = Server::start();
    for url in ["http://169.254.169.254/latest/meta-data", elsewhere.url().as_str()] {
        let problem = bad(&closed, 400, "POST", "/v1/uploads", json!({"url": url, "filename": "x"}));
        assert!(text(&problem["error"]).contains("not reachable for requests from here"), "{problem}");
    }
}

#[test]
fn a_redirect_leads_a_node_to_no_neighbour() {
    let server = Server::start_with(&[("ORRERY_OUTGOING_ALLOW", "127.0.0.2/32")]);
    let own = |host: &str| format!("http://{host}:{}/healthz", server.api);
    for target in [own("127.0.0.1"), own("localhost"), "http://169.254.169.254/latest/meta-data".to_owned()] {
        let listener = TcpListener::bind("127.0.0.2:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let answer = format!("HTTP/1.1 302 Found\r\nlocation: {target}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        let asked = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let count = stream.read(&mut [0; 4096]).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            count
        });
        let run = performed(&server, "http_request", json!({"url": url}));
        assert!(run["output"].is_null() && text(&run["error"]).contains("is not reachable for requests from here"), "{target}: {run}");
        assert!(asked.join().unwrap() > 0, "the redirect was asked for");
    }
}
