//! How a person and their command-line client sign in, and out again.

mod harness;

use std::path::Path;

use harness::{Run, Server, finish, request, write};
use serde_json::{Value, json};

/// The client with a login of its own, or none: no token of the environment, no token file.
fn client(server: &Server, home: &Path, folder: &Path, args: &[&str]) -> Run {
    let mut command = server.railway_command(folder, args);
    command.env("HOME", home).env_remove("ORRERY_TOKEN");
    finish(command, &format!("railway {args:?}"))
}

fn login_of(server: &Server, home: &Path) -> Value {
    let text = std::fs::read_to_string(server.railway_config(home)).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()["user"].clone()
}

fn set_login(server: &Server, home: &Path, name: &str, value: Value) {
    let path = server.railway_config(home);
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    config["user"][name] = value;
    std::fs::write(path, config.to_string()).unwrap();
}

#[test]
fn a_browserless_login_deploys_is_refreshed_and_ends() {
    let server = Server::start();
    let home = server.dir.path().join("ada");
    let site = server.dir.path().join("site");
    write(&site, &[("index.html", "made by a login")]);
    std::fs::create_dir_all(&home).unwrap();

    let nobody = client(&server, &home, &site, &["whoami"]);
    assert_eq!(nobody.status, 1, "{nobody:?}");
    assert!(nobody.stderr.contains("Unauthorized"), "{nobody:?}");

    let cookie = server.sign_in(&server.login);
    let said = server.log_in(&home, &cookie);
    assert!(said.contains("Signed in as Admin (admin@localhost)"), "{said}");
    let me = client(&server, &home, &site, &["whoami"]);
    assert!(me.stdout.contains("admin@localhost"), "{me:?}");

    let up = client(&server, &home, &site, &["up", "--new", "--name", "fresh1", "-y", "--detach", "--json"]);
    assert_eq!(up.status, 0, "{up:?}");
    let up: Value = serde_json::from_str(&up.stdout).unwrap();
    assert_eq!(up["projectName"], "fresh1");
    assert!(up["deploymentId"].is_string() && up["serviceId"].is_string(), "{up}");
    server.visit_until("fresh1-production.localhost", "/", |answer| answer.body == "made by a login");

    let other = server.dir.path().join("unlinked");
    write(&other, &[("index.html", "nothing was linked here")]);
    let up = client(&server, &home, &other, &["up", "-y"]);
    assert_eq!(up.status, 0, "{up:?}");
    assert!(format!("{}{}", up.stdout, up.stderr).contains("http://unlinked-production.localhost"), "{up:?}");
    assert_eq!(server.visit("unlinked-production.localhost", "/").body, "nothing was linked here");

    let before = login_of(&server, &home);
    set_login(&server, &home, "tokenExpiresAt", json!(1000));
    assert_eq!(client(&server, &home, &site, &["whoami"]).status, 0);
    let after = login_of(&server, &home);
    assert_ne!(before["accessToken"], after["accessToken"]);
    assert_ne!(before["refreshToken"], after["refreshToken"]);
    assert!(after["tokenExpiresAt"].as_i64() > Some(1000), "{after}");

    let out = client(&server, &home, &site, &["logout"]);
    assert_eq!(out.status, 0, "{out:?}");
    assert_eq!(client(&server, &home, &site, &["whoami"]).status, 1);
}

/// Whoever stole a refresh token and uses it after its owner has gone on ends the login for both.
#[test]
fn a_refresh_token_that_comes_twice_ends_the_login() {
    let server = Server::start();
    let home = server.dir.path().join("ada");
    server.log_in(&home, &server.sign_in(&server.login));
    let stolen = login_of(&server, &home)["refreshToken"].as_str().unwrap().to_owned();
    // Twice: right after the first exchange its answer might be lost, and the same token would be answered again.
    for _ in 0..2 {
        set_login(&server, &home, "tokenExpiresAt", json!(1000));
        assert_eq!(client(&server, &home, &home, &["whoami"]).status, 0);
    }

    let form = format!("grant_type=refresh_token&client_id=cli&refresh_token={stolen}");
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    let again = request(server.api, "POST", "localhost", "/oauth/token", &headers, form.as_bytes());
    assert_eq!(again.status, 400, "{again:?}");
    assert!(again.body.contains("invalid_grant") && !again.body.contains(&stolen), "{again:?}");
    let owner = client(&server, &home, &home, &["whoami"]);
    assert_eq!(owner.status, 1, "{owner:?}");
}

#[test]
fn a_login_link_works_once_and_only_from_our_own_page() {
    let server = Server::start();
    let token = server.login.split_once("token=").unwrap().1;
    let page = request(server.api, "GET", "localhost", &format!("/login/link?token={token}"), &[], b"");
    assert_eq!(page.status, 200, "looking at the page does not use the link up");
    let foreign = [("origin", "http://evil.example"), ("content-type", "application/x-www-form-urlencoded")];
    let form = format!("token={token}");
    let refused = request(server.api, "POST", "localhost", "/login/link", &foreign, form.as_bytes());
    assert_eq!(refused.status, 403, "{refused:?}");

    let cookie = server.sign_in(&server.login);
    let again = server.submit("/login/link", None, &form);
    assert_eq!(again.status, 401, "{again:?}");
    assert!(again.body.contains("orrery login-link") && !again.body.contains(token), "{again:?}");

    let me = |cookie: &str, origin: &str| {
        let headers = [("cookie", cookie), ("origin", origin), ("content-type", "application/json")];
        let host = format!("127.0.0.1:{}", server.api);
        request(server.api, "POST", &host, "/graphql/v2", &headers, br#"{"query":"{ me { email } }"}"#)
    };
    let own = format!("http://127.0.0.1:{}", server.api);
    assert!(me(&cookie, &own).body.contains("admin@localhost"));
    assert!(!me(&cookie, "http://evil.example").body.contains("admin@localhost"), "a foreign page is not signed in");
    assert_eq!(server.submit("/logout", Some(&cookie), "").status, 303);
    assert!(!me(&cookie, &own).body.contains("admin@localhost"), "the session has ended");
}

/// A device login that its person denies, and one that is asked to act for nobody.
#[test]
fn a_denied_device_login_fails() {
    let server = Server::start();
    let home = server.dir.path().join("ada");
    std::fs::create_dir_all(&home).unwrap();
    let mut command = server.railway_command(&home, &["login", "--browserless"]);
    command.env("HOME", &home).env_remove("ORRERY_TOKEN");
    let login = harness::Live::start(command);
    let code = login.device_code();
    let stranger = server.submit("/oauth/device", None, &format!("user_code={code}&answer=approve"));
    assert_eq!(stranger.status, 401, "{stranger:?}");
    let cookie = server.sign_in(&server.login);
    assert_eq!(server.submit("/oauth/device", Some(&cookie), &format!("user_code={code}&answer=deny")).status, 200);
    let (status, text) = login.end();
    assert_eq!(status, 1, "{text}");
    assert_eq!(client(&server, &home, &home, &["whoami"]).status, 1);
}
