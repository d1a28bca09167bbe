//! HTTPS as visitors have it: switched on, with certificates of owners, and of an authority that asks the domain (pebble, a real ACME server).

mod harness;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use domain::routing::EdgeCertificate;
use harness::names::{A, Names, TXT};
use harness::pebble::Pebble;
use harness::{Answer, Server, until, write};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};

/// An app that answers with the protocol of its visitor, running, linked.
fn site(server: &Server) -> PathBuf {
    let site = server.dir.path().join("shop");
    let app = "from http.server import *\nimport os\nclass App(BaseHTTPRequestHandler):\n    def do_GET(self):\n        self.send_response(200)\n        \
               self.end_headers()\n        self.wfile.write(('by ' + self.headers['x-forwarded-proto']).encode())\n\
               ThreadingHTTPServer(('', int(os.environ['PORT'])), App).serve_forever()\n";
    write(&site, &[("main.py", app), ("requirements.txt", ""), ("Procfile", "web: python3 main.py\n")]);
    server.json(&site, &["init", "--name", "shop", "--json"]);
    server.json(&site, &["add", "--service", "web", "--json"]);
    server.ok(&site, &["service", "link", "web"]);
    server.ok(&site, &["up", "--ci"]);
    site
}

/// What a visitor sees by https who trusts one authority, and the certificate that was shown.
fn https(port: u16, trust: &CertificateDer<'static>, host: &str, path: &str) -> Result<(Answer, Vec<u8>), String> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(trust.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut socket = TcpStream::connect(("127.0.0.1", port)).map_err(|error| error.to_string())?;
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut stream = rustls::Stream::new(&mut client, &mut socket);
    let ask = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    stream.write_all(ask.as_bytes()).map_err(|error| error.to_string())?;
    let mut answer = vec![];
    // A server that closes without a goodbye has answered all the same.
    if let Err(error) = stream.read_to_end(&mut answer)
        && answer.is_empty()
    {
        return Err(error.to_string());
    }
    let shown = client.peer_certificates().unwrap()[0].to_vec();
    Ok((harness::parse(&answer), shown))
}

/// Visits until the answer is the app's.
fn https_until(port: u16, trust: &CertificateDer<'static>, host: &str) -> Vec<u8> {
    until(&format!("an answer of https://{host}"), || {
        let (answer, shown) = https(port, trust, host, "/")?;
        if answer.body == "by https" { Ok(shown) } else { Err(format!("{answer:?}")) }
    })
}

/// What the edge has made itself.
fn self_signed(server: &Server) -> CertificateDer<'static> {
    let made: EdgeCertificate = until("the edge's own certificate", || {
        let text = std::fs::read(server.data().join("edge/self-signed.json")).map_err(|error| error.to_string())?;
        serde_json::from_slice(&text).map_err(|error| error.to_string())
    });
    CertificateDer::from_pem_slice(made.chain.as_bytes()).unwrap()
}

/// What Galaxy's API answers.
fn galaxy(server: &Server, query: &str, variables: &Value) -> Value {
    let body = json!({"query": query, "variables": variables}).to_string();
    let bearer = format!("Bearer {}", server.token);
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let answer = harness::request(server.api, "POST", "localhost", "/graphql", &headers, body.as_bytes());
    let value: Value = serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{error}: {answer:?}"));
    assert_eq!(value.get("errors"), None, "{query}: {value}");
    value["data"].clone()
}

fn domain(server: &Server, site: &Path, host: &str) -> (Value, String) {
    let made = server.json(site, &["domain", host, "--port", "8080", "--json"])["customDomainCreate"].clone();
    let place = ["projectId", "environmentId", "serviceId"].map(|key| format!("{key}: {}", made[key])).join(", ");
    let query = format!(
        "{{ domains({place}) {{ customDomains {{ id forceHttps status {{ verified certificateStatus certificateStatusDetailed \
         certificateErrorMessage certificateErrorType certificateRetryable certificates {{ domainNames }} }} }} }} }}"
    );
    (made, query)
}

#[test]
fn https_is_switched_on_and_an_owner_brings_a_certificate() {
    let mut server = Server::start_with(&[("ORRERY_BASE_DOMAIN", "apps.test"), ("ORRERY_DNS_RESOLVER", "off")]);
    let site = site(&server);
    let own_host = "web-production.apps.test";
    assert_eq!(server.visit_until(own_host, "/", |answer| answer.status == 200).body, "by http");

    // The edge outlives the control plane, and yet begins to speak TLS with the next one.
    server.sigkill();
    let tls = harness::free_port();
    server.start_again_with(&[("ORRERY_EDGE_TLS_LISTEN", &format!("127.0.0.1:{tls}"))]);
    let own = self_signed(&server);
    https_until(tls, &own, own_host);
    server.visit_until(own_host, "/", |answer| answer.body == "by http");

    let host = "www.shop.test";
    let (made, query) = domain(&server, &site, host);
    let status = || server.graphql(&query)["data"]["domains"]["customDomains"][0].clone();
    assert_eq!(status()["status"]["certificateStatus"], "CERTIFICATE_STATUS_TYPE_UNSPECIFIED");
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "the test's authority");
    let key = KeyPair::generate().unwrap();
    let authority = params.self_signed(&key).unwrap().der().clone();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let chain = CertificateParams::new(vec![host.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap().pem();
    let set = |key: &str| {
        let input = format!("domainId: {}, certificate: {}, privateKey: {}", made["id"], json!(chain), json!(key));
        server.graphql(&format!("mutation {{ domainCertificateSet(input: {{{input}}}) }}"))
    };
    let refused = set(&KeyPair::generate().unwrap().serialize_pem());
    assert!(refused["errors"][0]["message"].as_str().unwrap().contains("does not belong to the certificate"), "{refused}");
    assert!(https(tls, &authority, host, "/").is_err());
    let key = key.serialize_pem();
    assert_eq!(set(&key)["data"]["domainCertificateSet"], true);
    https_until(tls, &authority, host);
    assert_eq!(status()["status"]["certificateStatus"], "CERTIFICATE_STATUS_TYPE_VALID");

    // The key is plain in the edge's own file and nowhere else.
    let edge_file = server.data().join("edge/certificates.json");
    assert_eq!(std::fs::metadata(&edge_file).unwrap().permissions().mode() & 0o777, 0o600);
    let secret = key.lines().nth(1).unwrap();
    assert!(std::fs::read_to_string(&edge_file).unwrap().contains(secret));
    for name in ["orrery.db", "orrery.db-wal", "edge/edge.log"] {
        let bytes = std::fs::read(server.data().join(name)).unwrap_or_default();
        assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "{name}");
    }

    let force = |on: bool| server.graphql(&format!("mutation {{ domainHttpsSet(id: {}, force: {on}) }}", made["id"]));
    assert_eq!(force(true)["data"]["domainHttpsSet"], true);
    let sent = server.visit_until(host, "/a?b=c", |answer| answer.status == 308);
    assert_eq!(sent.header("location"), Some(format!("https://{host}:{tls}/a?b=c").as_str()));
    assert_eq!(server.visit(host, "/.well-known/acme-challenge/of-the-app").body, "by http");

    for edge in server.processes("edge") {
        // The one before it may be ending at this moment.
        let _ = kill(Pid::from_raw(edge as i32), Signal::SIGKILL);
    }
    https_until(tls, &authority, host);
    assert_eq!(self_signed(&server), own);
    assert_eq!(force(false)["data"]["domainHttpsSet"], true);
    server.visit_until(host, "/", |answer| answer.body == "by http");
    let removed = server.graphql(&format!("mutation {{ domainCertificateRemove(id: {}) }}", made["id"]));
    assert_eq!(removed["data"]["domainCertificateRemove"], true);
    until("the end of the certificate", || match https(tls, &authority, host, "/") {
        Ok((answer, _)) => Err(format!("{answer:?}")),
        Err(_) => Ok(()),
    });

    // The same through the other API.
    let app = galaxy(&server, "query($host: String!) { app(hostname: $host) { _id } }", &json!({"host": own_host}))["app"].clone();
    let save = "mutation($domain: DomainInput!) { saveDomain(domain: $domain) { _id encryption forceSSL certificateStatus } }";
    let input = json!({"appId": app["_id"], "name": host, "forceSSL": true, "certificate": chain, "privateKey": key});
    let saved = galaxy(&server, save, &json!({"domain": input}))["saveDomain"].clone();
    assert_eq!(saved, json!({"_id": made["id"], "encryption": "Enabled", "forceSSL": true, "certificateStatus": "valid"}));
    https_until(tls, &authority, host);
    server.visit_until(host, "/", |answer| answer.status == 308);
    let remove = "mutation($id: String!) { removeDomainCertificate(domainId: $id) { _id encryption } }";
    let removed = galaxy(&server, remove, &json!({"id": saved["_id"]}));
    assert_eq!(removed["removeDomainCertificate"], json!({"_id": made["id"], "encryption": "Disabled"}));
    until("the end of the certificate", || match https(tls, &authority, host, "/") {
        Ok((answer, _)) => Err(format!("{answer:?}")),
        Err(_) => Ok(()),
    });

    // The operator has one for everything below the base domain.
    let key = KeyPair::generate().unwrap();
    let made = CertificateParams::new(vec!["*.apps.test".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let file = server.dir.path().join("apps.test.pem");
    std::fs::write(&file, format!("{}{}", made.pem(), key.serialize_pem())).unwrap();
    server.sigkill();
    server.start_again_with(&[("ORRERY_EDGE_TLS_CERTIFICATE", file.to_str().unwrap())]);
    https_until(tls, &authority, own_host);
}

/// The authority's root certificate, which it makes anew each time.
fn root_of(pebble: &Pebble) -> CertificateDer<'static> {
    let text = until("pebble's root", || Ok(https(pebble.management, &pebble.trust, "localhost", "/roots/0")?.0.body));
    CertificateDer::from_pem_slice(text.as_bytes()).unwrap()
}

#[test]
fn an_authority_is_asked_for_certificates_says_why_not_and_renews_them() {
    let (names, dir) = (Names::start(), tempfile::tempdir().unwrap());
    let (tls, port) = (harness::free_port(), harness::free_port());
    let trust = Pebble::prepare(dir.path());
    let mut server = Server::start_with(&[
        ("ORRERY_BASE_DOMAIN", "apps.test"),
        ("ORRERY_DNS_RESOLVER", &names.address.to_string()),
        ("ORRERY_EDGE_TLS_LISTEN", &format!("127.0.0.1:{tls}")),
        ("ORRERY_ACME_DIRECTORY", &format!("https://localhost:{port}/dir")),
        ("ORRERY_ACME_EMAIL", "operator@apps.test"),
        ("ORRERY_ACME_CA", Pebble::certificate(dir.path()).0.to_str().unwrap()),
    ]);
    let pebble = Pebble::start(dir.path(), trust.clone(), port, server.edge, &names, 36);
    let root = root_of(&pebble);
    let (site, host) = (site(&server), "www.example.test");
    let (made, query) = domain(&server, &site, host);
    let stands = |server: &Server, wanted: &str| {
        until(wanted, || {
            let found = server.graphql(&query)["data"]["domains"]["customDomains"][0].clone();
            if found["status"]["certificateStatus"] == wanted { Ok(found) } else { Err(found.to_string()) }
        })
    };
    stands(&server, "CERTIFICATE_STATUS_TYPE_VALIDATING_OWNERSHIP");

    // Its owner proves it, but it does not lead here.
    let token = made["status"]["verificationToken"].as_str().unwrap();
    names.set(&format!("_orrery-verify.{host}"), TXT, [&[token.len() as u8], token.as_bytes()].concat());
    let failed = stands(&server, "CERTIFICATE_STATUS_TYPE_ISSUE_FAILED")["status"].clone();
    assert!(failed["certificateErrorMessage"].as_str().unwrap().starts_with("the authority says: "), "{failed}");
    assert!(failed["certificateErrorType"].is_string() && failed["certificateRetryable"] == true, "{failed}");
    assert_eq!(server.visit_until(host, "/", |answer| answer.status == 200).body, "by http", "nobody is sent to a page of warnings");
    assert!(https(tls, &root, host, "/").is_err());

    names.set(host, A, vec![127, 0, 0, 1]);
    let again = server.graphql(&format!("mutation {{ customDomainIssueCertificate(id: {}) }}", made["id"]));
    assert_eq!(again["data"]["customDomainIssueCertificate"], true, "{again}");
    let issued = stands(&server, "CERTIFICATE_STATUS_TYPE_VALID");
    assert_eq!((&issued["status"]["certificates"][0]["domainNames"], &issued["forceHttps"]), (&json!([host]), &json!(true)));
    assert_eq!(issued["status"]["certificateErrorMessage"], Value::Null);
    let first = https_until(tls, &root, host);
    let sent = server.visit_until(host, "/", |answer| answer.status == 308);
    assert_eq!(sent.header("location"), Some(format!("https://{host}:{tls}/").as_str()));

    // Another control plane goes on with the same account, and has it renewed before it runs out.
    server.sigkill();
    server.start_again();
    until("another certificate", || {
        let (answer, shown) = https(tls, &root, host, "/")?;
        if shown != first && answer.body == "by https" { Ok(()) } else { Err("the first one".to_owned()) }
    });
    stands(&server, "CERTIFICATE_STATUS_TYPE_VALID");

    // The authority is set up again and knows nothing of this server: another account is made.
    drop(pebble);
    let pebble = Pebble::start(dir.path(), trust, port, server.edge, &names, 3_600);
    let root = root_of(&pebble);
    let issue = || server.graphql(&format!("mutation {{ customDomainIssueCertificate(id: {}) }}", made["id"]));
    issue();
    until("that the account is forgotten", || {
        let found = server.graphql(&query)["data"]["domains"]["customDomains"][0]["status"].clone();
        let problem = found["certificateErrorMessage"].as_str().unwrap_or_default();
        if problem.contains("does not know this server's account") { Ok(()) } else { Err(found.to_string()) }
    });
    assert_eq!(issue()["data"]["customDomainIssueCertificate"], true);
    https_until(tls, &root, host);
}
