//! Signing in: links, passwords, and the two OAuth logins of the command-line client.

mod server;

use base64::Engine as _;
use serde_json::{Value, json};
use server::{Person, Reply, Server, encode};
use sha2::{Digest, Sha256};

const PASSWORD: &str = "correct horse battery";
const CLIENT: &str = "rlwy_oaci_onEklvmksh1hRUiCo7E2zX12";

#[tokio::test]
async fn a_login_link_works_once_and_only_when_it_is_confirmed() {
    let server = Server::start().await;
    let ada = server.person("ada@example.com", None).await;
    let token = server.login_link(&ada).await;

    // A chat that shows a preview opens the link; nothing is used up.
    for _ in 0..2 {
        let page = server.get(&format!("/login/link?token={token}"), None).await;
        assert_eq!(page.status, 200);
        assert!(page.header("set-cookie").is_none());
        let policy = page.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{policy}");
        assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(page.header("cache-control"), Some("no-store"));
    }
    let foreign = server.form("/login/link", &[("Origin", "http://app.localhost:8081")], &[("token", &token)]).await;
    assert_eq!(foreign.status, 403);

    let entered = server.submit("/login/link", None, &[("token", &token)]).await;
    assert_eq!((entered.status, entered.header("location")), (303, Some("/")));
    let cookie = entered.header("set-cookie").unwrap();
    assert!(cookie.starts_with("orrery_session="), "{cookie}");
    for flag in ["; HttpOnly", "; SameSite=Lax", "; Path=/"] {
        assert!(cookie.contains(flag), "{cookie}");
    }
    assert!(!cookie.contains("Secure"), "over plain HTTP the browser would throw it away: {cookie}");
    assert!(server.get("/", Some(&entered.cookie())).await.text().contains("ada@example.com"));

    assert_eq!(server.submit("/login/link", None, &[("token", &token)]).await.status, 401);

    // Behind a proxy that speaks TLS.
    let token = server.login_link(&ada).await;
    let origin = server.origin();
    let entered = server.form("/login/link", &[("Origin", &origin), ("X-Forwarded-Proto", "https")], &[("token", &token)]).await;
    let cookie = entered.header("set-cookie").unwrap();
    assert!(cookie.starts_with("__Host-orrery_session=") && cookie.contains("; Path=/;") && cookie.ends_with("; Secure"), "{cookie}");
    assert!(!cookie.contains("Domain"), "{cookie}");
    // What an app below the same domain can set counts for nothing there, alone or beside the real one.
    let mine = entered.cookie();
    let planted = mine.replace("__Host-", "");
    let page = async |cookie: &str| server.call("GET", "/", &[("Cookie", cookie), ("X-Forwarded-Proto", "https")], b"").await.text();
    assert!(!page(&planted).await.contains("ada@example.com"), "a planted session counts");
    assert!(page(&format!("orrery_session=x; {mine}; orrery_session=y")).await.contains("ada@example.com"), "somebody was locked out");
    let leave = [("Origin", origin.as_str()), ("Cookie", mine.as_str()), ("X-Forwarded-Proto", "https")];
    let left = server.form("/logout", &leave, &[]).await;
    let cookie = left.header("set-cookie").unwrap();
    assert!(cookie.starts_with("__Host-orrery_session=;") && cookie.ends_with("Max-Age=0; Secure"), "{cookie}");
    assert!(!page(&mine).await.contains("ada@example.com"), "the session has ended");
    server.end().await;
}

#[tokio::test]
async fn a_password_opens_a_new_session_and_ends_the_old_one() {
    let server = Server::start().await;
    let ada = server.person("ada@example.com", Some(PASSWORD)).await;
    let old = server.browser(&ada).await;

    let form = [("email", "Ada@example.com"), ("password", PASSWORD), ("next", "/oauth/device?user_code=X")];
    let entered = server.submit("/login", Some(&old), &form).await;
    assert_eq!((entered.status, entered.header("location")), (303, Some("/oauth/device?user_code=X")), "{}", entered.text());
    let new = entered.cookie();
    assert_ne!(new, old);
    assert!(server.get("/", Some(&new)).await.text().contains("ada@example.com"));
    assert!(!server.get("/", Some(&old)).await.text().contains("ada@example.com"));

    for elsewhere in ["//evil.example", "/\\evil.example", "https://evil.example", "/a\r\nSet-Cookie: x=y"] {
        let form = [("email", "ada@example.com"), ("password", PASSWORD), ("next", elsewhere)];
        assert_eq!(server.submit("/login", None, &form).await.header("location"), Some("/"), "{elsewhere}");
    }
    for (email, password) in [("ada@example.com", "wrong"), ("nobody@example.com", PASSWORD)] {
        let refused = server.submit("/login", None, &[("email", email), ("password", password)]).await;
        assert_eq!(refused.status, 401);
        assert!(refused.text().contains("Wrong e-mail address or password"));
        assert!(refused.header("set-cookie").is_none());
    }

    // Signing out: a link cannot do it, and neither can a foreign page.
    assert_eq!(server.get("/logout", Some(&new)).await.status, 200);
    assert_eq!(server.form("/logout", &[("Origin", "http://evil.example"), ("Cookie", &new)], &[]).await.status, 403);
    assert!(server.get("/", Some(&new)).await.text().contains("ada@example.com"));
    let out = server.submit("/logout", Some(&new), &[]).await;
    assert!(out.header("set-cookie").unwrap().contains("Max-Age=0"));
    assert!(!server.get("/", Some(&new)).await.text().contains("ada@example.com"));
    server.end().await;
}

#[tokio::test]
async fn guessing_is_limited_for_the_guesser_and_not_for_the_owner() {
    let server = Server::start().await;
    server.person("ada@example.com", Some(PASSWORD)).await;
    let origin = server.origin();
    let try_from = async |address: &str, password: &str| {
        let headers = [("Origin", origin.as_str()), ("X-Forwarded-For", address)];
        server.form("/login", &headers, &[("email", "ada@example.com"), ("password", password)]).await.status
    };
    let mut seen = vec![];
    for _ in 0..12 {
        seen.push(try_from("203.0.113.9", "guess").await);
    }
    assert_eq!((seen[0], seen[11]), (401, 429), "{seen:?}");
    assert_eq!(try_from("203.0.113.9", PASSWORD).await, 429, "the right guess comes too late");
    assert_eq!(try_from("198.51.100.1", PASSWORD).await, 303, "the owner is not locked out");
    server.end().await;
}

/// What an app that has the secret shows so many steps of thirty seconds after a time.
fn shown(secret: &str, since: i64, steps: i64) -> String {
    let secret = totp_rs::Secret::try_from_base32(secret).unwrap();
    let app = totp_rs::Builder::new().with_secret(secret).build().unwrap();
    app.generate(u64::try_from(since + 30 * steps).unwrap()).to_string()
}

/// An answer to somebody who is signed in.
async fn ask(server: &Server, cookie: &str, query: &str) -> Value {
    let origin = server.origin();
    server.graphql(&[("Cookie", cookie), ("Origin", &origin)], query).await.json()
}

fn code(answer: &Value) -> &str {
    answer["errors"][0]["extensions"]["code"].as_str().unwrap_or("none")
}

/// Two-factor authentication as a person has it.
struct Enrolled {
    cookie: String,
    secret: String,
    /// The time of the code that showed the secret.
    since: i64,
    recovery: Vec<String>,
}

impl Enrolled {
    async fn new(server: &Server, person: &Person) -> Self {
        let cookie = server.browser(person).await;
        for refused in ["mutation { twoFactorInfoSecret { secret } }", "mutation { twoFactorInfoSecret(password: \"guessed\") { secret } }"]
        {
            assert_eq!(code(&ask(server, &cookie, refused).await), "BAD_USER_INPUT", "an open browser locks its person out: {refused}");
        }
        let propose = format!("mutation {{ twoFactorInfoSecret(password: \"{PASSWORD}\") {{ secret uri }} }}");
        let proposed = ask(server, &cookie, &propose).await;
        let secret = proposed["data"]["twoFactorInfoSecret"]["secret"].as_str().unwrap_or_else(|| panic!("{proposed}")).to_owned();
        let uri = format!("otpauth://totp/Orrery:ada%40example.com?secret={secret}&issuer=Orrery");
        assert_eq!(proposed["data"]["twoFactorInfoSecret"]["uri"], json!(uri));
        assert_eq!(server.submit("/login", None, &LOGIN).await.status, 303, "what is only proposed is not asked for");
        let since = domain::Timestamp::now().as_second();
        let create = |token: &str| format!("mutation {{ twoFactorInfoCreate(input: {{token: \"{token}\"}}) {{ recoveryCodes }} }}");
        assert_eq!(code(&ask(server, &cookie, &create("12345")).await), "BAD_USER_INPUT");
        let made = ask(server, &cookie, &create(&shown(&secret, since, 0))).await;
        let codes = made["data"]["twoFactorInfoCreate"]["recoveryCodes"].as_array().unwrap_or_else(|| panic!("{made}"));
        let recovery = codes.iter().map(|code| code.as_str().unwrap().to_owned()).collect();
        Self { cookie, secret, since, recovery }
    }

    /// A login with the right password that waits for its code.
    async fn waiting(server: &Server) -> String {
        let asked = server.submit("/login", None, &LOGIN).await;
        assert_eq!((asked.status, asked.header("set-cookie")), (200, None), "{}", asked.text());
        let text = asked.text();
        text.split_once("name=\"waiting\" value=\"").unwrap().1.split('"').next().unwrap().to_owned()
    }

    async fn answer(server: &Server, waiting: &str, code: &str) -> Reply {
        server.submit("/login/code", None, &[("waiting", waiting), ("code", code), ("next", "/account")]).await
    }
}

const LOGIN: [(&str, &str); 2] = [("email", "ada@example.com"), ("password", PASSWORD)];

#[tokio::test]
async fn a_password_is_followed_by_a_code_that_works_once() {
    let server = Server::start().await;
    let ada = server.person("ada@example.com", Some(PASSWORD)).await;
    let enrolled = Enrolled::new(&server, &ada).await;
    let info = ask(&server, &enrolled.cookie, "{ twoFactorInfo { isVerified hasRecoveryCodes } }").await;
    assert_eq!(info["data"]["twoFactorInfo"], json!({"isVerified": true, "hasRecoveryCodes": true}));

    let waiting = Enrolled::waiting(&server).await;
    let (used, next) = (shown(&enrolled.secret, enrolled.since, 0), shown(&enrolled.secret, enrolled.since, 1));
    for wrong in ["12345", "nonsense", &used] {
        let refused = Enrolled::answer(&server, &waiting, wrong).await;
        assert_eq!((refused.status, refused.header("set-cookie")), (401, None), "{wrong}");
        assert!(refused.text().contains("wrong or was used already"), "{}", refused.text());
    }
    let spaced = format!("{} {}", &next[..3], &next[3..]);
    let entered = Enrolled::answer(&server, &waiting, &spaced).await;
    assert_eq!((entered.status, entered.header("location")), (303, Some("/account")), "{}", entered.text());
    assert!(server.get("/", Some(&entered.cookie())).await.text().contains("ada@example.com"));
    let late = Enrolled::answer(&server, &waiting, &enrolled.recovery[9]).await;
    assert!(late.status == 401 && late.text().contains("begin again"), "{}", late.text());

    let waiting = Enrolled::waiting(&server).await;
    assert_eq!(Enrolled::answer(&server, &waiting, &next).await.status, 401, "a code that was used works no more");
    assert_eq!(Enrolled::answer(&server, &waiting, &enrolled.recovery[0].to_uppercase()).await.status, 303);
    let waiting = Enrolled::waiting(&server).await;
    assert_eq!(Enrolled::answer(&server, &waiting, &enrolled.recovery[0]).await.status, 401, "nor does a recovery code");

    let mut seen = vec![];
    for _ in 0..6 {
        seen.push(Enrolled::answer(&server, &waiting, "000").await.status);
    }
    assert_eq!((seen[0], seen[5]), (401, 429), "{seen:?}");
    assert_eq!(Enrolled::answer(&server, &waiting, &enrolled.recovery[1]).await.status, 429, "the right guess comes too late");
    server.browser(&ada).await;
    server.end().await;
}

#[tokio::test]
async fn the_second_step_goes_with_a_code_and_the_password() {
    let server = Server::start().await;
    let ada = server.person("ada@example.com", Some(PASSWORD)).await;
    let enrolled = Enrolled::new(&server, &ada).await;
    let off = |password: &str| format!("mutation {{ twoFactorInfoDelete(password: \"{password}\") }}");
    // Whoever has a browser of hers, signed in by a link.
    let cookie = server.browser(&ada).await;
    for needs_a_code in ["mutation { recoveryCodeGenerate { recoveryCodes } }", &off(PASSWORD)] {
        assert_eq!(code(&ask(&server, &cookie, needs_a_code).await), "FORBIDDEN", "{needs_a_code}");
    }
    assert_eq!(code(&ask(&server, &cookie, "mutation { twoFactorInfoSecret { secret } }").await), "CONFLICT", "another app takes over");
    let validate = |token: &str| format!("mutation {{ twoFactorInfoValidate(input: {{token: \"{token}\"}}) }}");
    let recover = |code: &str| format!("mutation {{ recoveryCodeValidate(input: {{code: \"{code}\"}}) }}");
    let used = shown(&enrolled.secret, enrolled.since, 0);
    assert_eq!(ask(&server, &cookie, &validate(&used)).await["data"]["twoFactorInfoValidate"], json!(false));
    let next = shown(&enrolled.secret, enrolled.since, 1);
    assert_eq!(ask(&server, &cookie, &validate(&next)).await["data"]["twoFactorInfoValidate"], json!(true));

    let fresh = ask(&server, &cookie, "mutation { recoveryCodeGenerate { recoveryCodes } }").await;
    let fresh = fresh["data"]["recoveryCodeGenerate"]["recoveryCodes"].as_array().unwrap().clone();
    assert_eq!(fresh.len(), 10);
    assert_eq!(ask(&server, &cookie, &recover(&enrolled.recovery[0])).await["data"]["recoveryCodeValidate"], json!(false));
    assert_eq!(ask(&server, &cookie, &recover(fresh[0].as_str().unwrap())).await["data"]["recoveryCodeValidate"], json!(true));

    for refused in ["mutation { twoFactorInfoDelete }", &off("another password")] {
        assert_eq!(code(&ask(&server, &cookie, refused).await), "BAD_USER_INPUT", "{refused}");
    }
    assert_eq!(ask(&server, &cookie, &off(PASSWORD)).await["data"]["twoFactorInfoDelete"], json!(true));
    let home = ask(&server, &cookie, "{ me { workspaces { id } } }").await["data"]["me"]["workspaces"][0]["id"].clone();
    let log =
        ask(&server, &cookie, &format!("{{ auditLogs(workspaceId: {home}) {{ edges {{ node {{ eventType }} }} }} }}")).await.to_string();
    for noted in ["two_factor_info_create", "recovery_code_generate", "two_factor_info_delete"] {
        assert!(log.contains(noted), "{noted}: {log}");
    }
    assert_eq!(server.submit("/login", None, &LOGIN).await.status, 303);
    server.end().await;
}

#[tokio::test]
async fn the_operator_turns_a_lost_second_step_off_and_the_log_tells() {
    let server = Server::start().await;
    let ada = server.person("ada@example.com", Some(PASSWORD)).await;
    let Enrolled { cookie, .. } = Enrolled::new(&server, &ada).await;
    let by_key = server.ctx(&ada.token).await;
    assert_eq!(ops::second_factor::two_factor_reset(&by_key).await.unwrap_err().code, domain::Code::Forbidden);
    let principal = ops::auth::operator_as(&server.ops, ada.user.id).await.unwrap();
    let on_server = ops::OpCtx { principal, ..by_key };
    assert!(ops::second_factor::two_factor_reset(&on_server).await.unwrap());
    assert!(!ops::second_factor::two_factor_reset(&on_server).await.unwrap(), "nothing is left to turn off");
    assert_eq!(server.submit("/login", None, &LOGIN).await.status, 303);
    let home = ask(&server, &cookie, "{ me { workspaces { id } } }").await["data"]["me"]["workspaces"][0]["id"].clone();
    let log = ask(&server, &cookie, &format!("{{ auditLogs(workspaceId: {home}) {{ edges {{ node {{ eventType }} }} }} }}")).await;
    assert_eq!(log.to_string().matches("two_factor_reset").count(), 1, "{log}");
    drop(on_server);
    server.end().await;
}

/// Whoever has found a way to right codes, an app that is left open or a list, has no way to the password yet.
#[tokio::test]
async fn right_codes_buy_no_more_tries_at_the_password() {
    let server = Server::start().await;
    let ada = server.person("ada@example.com", Some(PASSWORD)).await;
    let Enrolled { cookie, recovery, .. } = Enrolled::new(&server, &ada).await;
    let off = |password: &str| format!("mutation {{ twoFactorInfoDelete(password: \"{password}\") }}");
    for right in &recovery[..5] {
        assert_eq!(code(&ask(&server, &cookie, &off("another password")).await), "BAD_USER_INPUT");
        let right = format!("mutation {{ recoveryCodeValidate(input: {{code: \"{right}\"}}) }}");
        assert_eq!(ask(&server, &cookie, &right).await["data"]["recoveryCodeValidate"], json!(true));
    }
    assert_eq!(code(&ask(&server, &cookie, &off(PASSWORD)).await), "RATE_LIMITED");
    server.end().await;
}

#[tokio::test]
async fn the_right_password_buys_no_more_tries_at_the_code() {
    let server = Server::start().await;
    let ada = server.person("ada@example.com", Some(PASSWORD)).await;
    let Enrolled { cookie, recovery, .. } = Enrolled::new(&server, &ada).await;
    let recover = |code: &str| format!("mutation {{ recoveryCodeValidate(input: {{code: \"{code}\"}}) }}");
    let again = format!("mutation {{ passwordSet(input: {{current: \"{PASSWORD}\", password: \"{PASSWORD}\"}}) }}");
    for _ in 0..5 {
        assert_eq!(ask(&server, &cookie, &recover("guessed")).await["data"]["recoveryCodeValidate"], json!(false));
        assert_eq!(ask(&server, &cookie, &again).await["data"]["passwordSet"], json!(true));
    }
    assert_eq!(code(&ask(&server, &cookie, &recover(&recovery[0])).await), "RATE_LIMITED");
    server.end().await;
}

async fn token(server: &Server, fields: &[(&str, &str)]) -> Reply {
    server.form("/oauth/token", &[], fields).await
}

async fn me(server: &Server, access: &Value) -> Value {
    let header = format!("Bearer {}", access.as_str().unwrap());
    server.graphql(&[("Authorization", &header)], "{ me { email } }").await.json()
}

async fn poll(server: &Server, device_code: &str) -> Value {
    let fields = [("grant_type", "urn:ietf:params:oauth:grant-type:device_code"), ("device_code", device_code), ("client_id", CLIENT)];
    token(server, &fields).await.json()
}

#[tokio::test]
async fn a_device_login_is_approved_in_a_browser_and_its_tokens_rotate() {
    let server = Server::start().await;
    let ada = server.person("ada@example.com", None).await;
    let started = server.form("/oauth/device/auth", &[], &[("client_id", CLIENT), ("scope", "openid email")]).await.json();
    let (device, user_code) = (started["device_code"].as_str().unwrap(), started["user_code"].as_str().unwrap());
    let link = started["verification_uri_complete"].as_str().unwrap().strip_prefix(&server.origin()).unwrap();
    assert!(started["interval"].as_u64().unwrap() > 0 && started["expires_in"].as_u64().unwrap() > 0);
    assert_eq!(poll(&server, device).await["error"], "authorization_pending");

    let away = server.get(link, None).await;
    assert_eq!(away.status, 303);
    assert_eq!(away.header("location").unwrap(), format!("/login?{}", encode(&[("next", link)])));

    let cookie = server.browser(&ada).await;
    let page = server.get(link, Some(&cookie)).await;
    assert!(page.text().contains(user_code) && page.text().contains("ada@example.com"), "{}", page.text());
    let fields = [("user_code", user_code), ("answer", "approve")];
    for foreign in ["http://app.localhost:8081", "null"] {
        assert_eq!(server.form("/oauth/device", &[("Origin", foreign), ("Cookie", &cookie)], &fields).await.status, 403);
    }
    assert_eq!(server.form("/oauth/device", &[("Cookie", &cookie)], &fields).await.status, 403);
    // A token must not be able to make itself a longer-lived login.
    let bearer = format!("Bearer {}", ada.token);
    let origin = server.origin();
    assert_eq!(server.form("/oauth/device", &[("Origin", &origin), ("Authorization", &bearer)], &fields).await.status, 403);
    assert_eq!(poll(&server, device).await["error"], "authorization_pending");

    assert_eq!(server.submit("/oauth/device", Some(&cookie), &fields).await.status, 200);
    let first = poll(&server, device).await;
    assert!(first["expires_in"].as_u64().unwrap() > 0, "{first}");
    assert_eq!(me(&server, &first["access_token"]).await["data"]["me"]["email"], "ada@example.com");
    assert_eq!(poll(&server, device).await["error"], "invalid_grant");

    let refresh = async |old: &Value| {
        token(&server, &[("grant_type", "refresh_token"), ("refresh_token", old.as_str().unwrap()), ("client_id", CLIENT)]).await
    };
    let second = refresh(&first["refresh_token"]).await.json();
    assert_eq!(me(&server, &second["access_token"]).await["data"]["me"]["email"], "ada@example.com");
    // The answer might have been lost, or a second program asks at the same time: both go on.
    let beside = refresh(&first["refresh_token"]).await.json();
    assert_eq!(me(&server, &beside["access_token"]).await["data"]["me"]["email"], "ada@example.com");
    let third = refresh(&second["refresh_token"]).await.json();
    assert_eq!(me(&server, &third["access_token"]).await["data"]["me"]["email"], "ada@example.com");
    // Somebody uses the old one after that: one of the two is a thief, so both are out.
    let reused = refresh(&first["refresh_token"]).await;
    assert_eq!((reused.status, &reused.json()["error"]), (400, &Value::from("invalid_grant")));
    assert_eq!(refresh(&third["refresh_token"]).await.json()["error"], "invalid_grant");
    for ended in [&second, &beside, &third] {
        let refused = me(&server, &ended["access_token"]).await;
        assert!(refused["errors"][0]["message"].as_str().unwrap().contains("Not Authorized"), "{refused}");
    }
    let ctx = server.ctx(&ada.token).await;
    let home = ctx.user().unwrap().home().unwrap().id;
    let log = ops::activity::activities(&ctx, home, None, &domain::page::PageRequest::default()).await.unwrap().row.items;
    assert_eq!(log.iter().filter(|entry| entry.verb == "login").count(), 2, "the browser's and the client's");
    drop(ctx);
    server.end().await;
}

/// The tokens of a client that somebody approves in a browser.
async fn command_line(server: &Server, cookie: &str) -> Value {
    let started = server.form("/oauth/device/auth", &[], &[("client_id", CLIENT)]).await.json();
    let fields = [("user_code", started["user_code"].as_str().unwrap()), ("answer", "approve")];
    assert_eq!(server.submit("/oauth/device", Some(cookie), &fields).await.status, 200);
    poll(server, started["device_code"].as_str().unwrap()).await
}

#[tokio::test]
async fn a_command_line_is_seen_and_signed_out() {
    let server = Server::start().await;
    let (ada, eve) = (server.person("ada@example.com", None).await, server.person("eve@example.com", None).await);
    let (cookie, stranger) = (server.browser(&ada).await, server.browser(&eve).await);
    let (one, two) = (command_line(&server, &cookie).await, command_line(&server, &cookie).await);
    assert_eq!(me(&server, &one["access_token"]).await["data"]["me"]["email"], "ada@example.com");
    let list = async || {
        let listed = ask(&server, &cookie, "{ sessions { edges { node { id isCurrent name type } } } }").await;
        let edges = listed["data"]["sessions"]["edges"].as_array().unwrap().clone();
        edges.into_iter().map(|mut edge| edge["node"].take()).filter(|node| node["type"] == "CLI").collect::<Vec<_>>()
    };
    let seen = list().await;
    assert_eq!(seen.len(), 2, "{seen:?}");
    assert!(seen.iter().all(|node| node["name"].as_str().unwrap().starts_with("Command line") && node["isCurrent"] == false));

    let end = format!("mutation {{ sessionDelete(id: {}) }}", seen[0]["id"]);
    assert_eq!(code(&ask(&server, &stranger, &end).await), "NOT_FOUND", "a stranger ends a login");
    for held in [&one, &two] {
        let header = format!("Bearer {}", held["access_token"].as_str().unwrap());
        let refused = server.graphql(&[("Authorization", &header)], &end).await.json();
        assert_eq!(code(&refused), "FORBIDDEN", "a command line ends logins: {refused}");
    }
    assert_eq!(ask(&server, &cookie, &end).await["data"]["sessionDelete"], json!(true));
    assert_eq!(code(&ask(&server, &cookie, &end).await), "NOT_FOUND");
    assert_eq!(list().await.len(), 1);
    let mut works = 0;
    for held in [&one, &two] {
        works += usize::from(me(&server, &held["access_token"]).await["data"]["me"]["email"] == "ada@example.com");
    }
    assert_eq!(works, 1, "the one that was ended still works, or both do not");

    let set = format!("mutation {{ passwordSet(input: {{password: \"{PASSWORD}\"}}) }}");
    assert_eq!(ask(&server, &cookie, &set).await["data"]["passwordSet"], json!(true));
    assert!(list().await.is_empty());
    for held in [&one, &two] {
        let refused = me(&server, &held["access_token"]).await;
        assert!(refused["errors"][0]["message"].as_str().unwrap().contains("Not Authorized"), "{refused}");
        let fields = [("grant_type", "refresh_token"), ("refresh_token", held["refresh_token"].as_str().unwrap()), ("client_id", CLIENT)];
        assert_eq!(token(&server, &fields).await.json()["error"], "invalid_grant");
    }
    server.end().await;
}

#[tokio::test]
async fn a_denied_or_unknown_device_login_gives_nothing() {
    let server = Server::start().await;
    let cookie = server.browser(&server.person("ada@example.com", None).await).await;
    let started = server.form("/oauth/device/auth", &[], &[("client_id", CLIENT)]).await.json();
    let user_code = started["user_code"].as_str().unwrap();
    assert_eq!(server.submit("/oauth/device", Some(&cookie), &[("user_code", user_code), ("answer", "deny")]).await.status, 200);
    assert_eq!(poll(&server, started["device_code"].as_str().unwrap()).await["error"], "access_denied");
    assert_eq!(server.submit("/oauth/device", Some(&cookie), &[("user_code", user_code), ("answer", "approve")]).await.status, 404);
    assert_eq!(server.get("/oauth/device?user_code=AAAA-AAAA", Some(&cookie)).await.status, 404);
    assert_eq!(poll(&server, "nonsense").await["error"], "invalid_grant");
    assert_eq!(token(&server, &[("grant_type", "password")]).await.json()["error"], "invalid_request");
    assert_eq!(token(&server, &[("grant_type", "refresh_token"), ("grant_type", "x")]).await.json()["error"], "invalid_request");
    // Codes are short: trying them is limited.
    let mut last = 0;
    for n in 0..60 {
        last = server.get(&format!("/oauth/device?user_code=BBBB-{n:04}"), Some(&cookie)).await.status;
    }
    assert_eq!(last, 429);
    server.end().await;
}

struct Login {
    cookie: String,
    challenge: String,
}

impl Login {
    async fn begin(server: &Server, person: &Person, verifier: &str) -> Self {
        let challenge = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(Sha256::digest(verifier));
        Self { cookie: server.browser(person).await, challenge }
    }

    fn fields<'a>(&'a self, redirect: &'a str) -> Vec<(&'a str, &'a str)> {
        vec![
            ("response_type", "code"),
            ("client_id", CLIENT),
            ("redirect_uri", redirect),
            ("code_challenge", &self.challenge),
            ("code_challenge_method", "S256"),
            ("state", "s t&te"),
            ("prompt", "consent"),
            ("cli_caller", "tty"),
        ]
    }

    async fn answer(&self, server: &Server, redirect: &str, answer: &str) -> Reply {
        let mut fields = self.fields(redirect);
        fields.push(("answer", answer));
        server.submit("/oauth/auth", Some(&self.cookie), &fields).await
    }
}

#[tokio::test]
async fn a_browser_login_gives_a_code_to_the_program_that_asked() {
    const CALLBACK: &str = "http://127.0.0.1:43117/callback";
    const VERIFIER: &str = "a-verifier-that-is-long-enough-for-everybody-43";
    let server = Server::start().await;
    let ada = server.person("ada@example.com", None).await;
    let login = Login::begin(&server, &ada, VERIFIER).await;
    let path = format!("/oauth/auth?{}", encode(&login.fields(CALLBACK)));

    assert_eq!(server.get(&path, None).await.header("location").unwrap(), format!("/login?{}", encode(&[("next", &path)])));
    let page = server.get(&path, Some(&login.cookie)).await;
    assert_eq!(page.status, 200);
    assert!(page.header("content-security-policy").unwrap().contains("form-action 'self' http://127.0.0.1:43117;"));
    let mut fields = login.fields(CALLBACK);
    fields.push(("answer", "approve"));
    let foreign = [("Origin", "http://evil.example"), ("Cookie", login.cookie.as_str())];
    assert_eq!(server.form("/oauth/auth", &foreign, &fields).await.status, 403);

    let denied = login.answer(&server, CALLBACK, "deny").await;
    assert_eq!(denied.header("location").unwrap(), format!("{CALLBACK}?error=access_denied&state=s+t%26te"));

    let code_of = |reply: &Reply| {
        let location = reply.header("location").unwrap_or_else(|| panic!("{}", reply.text())).to_owned();
        assert!(location.ends_with("&state=s+t%26te"), "{location}");
        location.strip_prefix(&format!("{CALLBACK}?code=")).unwrap().split('&').next().unwrap().to_owned()
    };
    let exchange = async |code: &str, redirect: &str, verifier: &str| {
        let fields = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", redirect),
            ("client_id", CLIENT),
            ("code_verifier", verifier),
        ];
        token(&server, &fields).await.json()
    };
    for (redirect, verifier) in [(CALLBACK, "another-verifier"), ("http://127.0.0.1:1/callback", VERIFIER)] {
        let code = code_of(&login.answer(&server, CALLBACK, "approve").await);
        assert_eq!(exchange(&code, redirect, verifier).await["error"], "invalid_grant");
        assert_eq!(exchange(&code, CALLBACK, VERIFIER).await["error"], "invalid_grant", "a code that failed is used up");
    }
    let code = code_of(&login.answer(&server, CALLBACK, "approve").await);
    let tokens = exchange(&code, CALLBACK, VERIFIER).await;
    assert_eq!(me(&server, &tokens["access_token"]).await["data"]["me"]["email"], "ada@example.com");
    assert_eq!(exchange(&code, CALLBACK, VERIFIER).await["error"], "invalid_grant");
    server.end().await;
}

#[tokio::test]
async fn codes_never_leave_for_another_machine_or_without_pkce() {
    const CALLBACK: &str = "http://127.0.0.1:43117/callback";
    let server = Server::start().await;
    let ada = server.person("ada@example.com", None).await;
    let login = Login::begin(&server, &ada, "verifier").await;
    for elsewhere in ["http://evil.example/callback", "http://127.0.0.1:1@evil.example/callback", "http://127.0.0.1:43117/other", ""] {
        let page = server.get(&format!("/oauth/auth?{}", encode(&login.fields(elsewhere))), Some(&login.cookie)).await;
        assert_eq!((page.status, page.header("location")), (400, None), "{elsewhere}");
        let answer = login.answer(&server, elsewhere, "approve").await;
        assert_eq!((answer.status, answer.header("location")), (400, None), "{elsewhere}");
    }
    for change in [("code_challenge_method", "plain"), ("code_challenge", "short"), ("response_type", "token")] {
        let mut fields = login.fields(CALLBACK);
        for field in &mut fields {
            if field.0 == change.0 {
                field.1 = change.1;
            }
        }
        fields.push(("answer", "approve"));
        let answer = server.submit("/oauth/auth", Some(&login.cookie), &fields).await;
        let location = answer.header("location").unwrap();
        assert!(location.starts_with(&format!("{CALLBACK}?error=")) && !location.contains("code="), "{location}");
    }
    server.end().await;
}

#[tokio::test]
async fn a_person_sets_their_password_and_signs_their_browsers_out() {
    let server = Server::start().await;
    let ada = server.person("ada@example.com", None).await;
    let (here, there) = (server.browser(&ada).await, server.browser(&ada).await);
    let origin = server.origin();
    let ask = async |cookie: &str, query: &str| server.graphql(&[("Cookie", cookie), ("Origin", &origin)], query).await.json();
    let set =
        |current: &str, password: &str| format!("mutation {{ passwordSet(input: {{current: {current}, password: \"{password}\"}}) }}");

    let by_key = server.graphql(&[("Authorization", &format!("Bearer {}", ada.token))], &set("null", PASSWORD)).await.json();
    assert_eq!(by_key["errors"][0]["extensions"]["code"], "FORBIDDEN", "a key becomes a login: {by_key}");
    assert_eq!(ask(&here, &set("null", "short")).await["errors"][0]["extensions"]["code"], "BAD_USER_INPUT");

    let bearer = format!("Bearer {}", ada.token);
    let by_key = server.graphql(&[("Authorization", &bearer)], "{ sessions { edges { node { id } } } }").await.json();
    assert_eq!(by_key["errors"][0]["extensions"]["code"], "FORBIDDEN", "a key sees the browsers: {by_key}");
    let listed = ask(&here, "{ me { hasPassword } sessions { edges { node { id isCurrent name } } } }").await;
    assert_eq!(listed["data"]["me"]["hasPassword"], false);
    let sessions = listed["data"]["sessions"]["edges"].as_array().unwrap();
    assert_eq!(sessions.iter().filter(|edge| edge["node"]["isCurrent"] == true).count(), 1);
    assert_eq!(sessions.len(), 2);
    let other = sessions.iter().find(|edge| edge["node"]["isCurrent"] == false).unwrap()["node"]["id"].as_str().unwrap();
    assert_eq!(ask(&here, &format!("mutation {{ sessionDelete(id: \"{other}\") }}")).await["data"]["sessionDelete"], true);
    assert!(!server.get("/", Some(&there)).await.text().contains("ada@example.com"), "the browser is still signed in");

    let third = server.browser(&ada).await;
    assert_eq!(ask(&here, &set("null", PASSWORD)).await["data"]["passwordSet"], true);
    assert!(!server.get("/", Some(&third)).await.text().contains("ada@example.com"), "a new password leaves other browsers signed in");
    assert_eq!(server.submit("/login", None, &[("email", "ada@example.com"), ("password", PASSWORD)]).await.status, 303);

    let workspaces = ask(&here, "{ me { workspaces { id } } }").await;
    let home = workspaces["data"]["me"]["workspaces"][0]["id"].as_str().unwrap();
    let log =
        ask(&here, &format!("{{ auditLogs(workspaceId: \"{home}\", first: 50) {{ edges {{ node {{ eventType payload }} }} }} }}")).await;
    let entries = log["data"]["auditLogs"]["edges"].as_array().unwrap();
    let told = |verb: &str| entries.iter().filter(|edge| edge["node"]["eventType"] == verb).count();
    assert_eq!((told("session_delete"), told("password_set")), (1, 1), "{log}");
    let methods: Vec<_> =
        entries.iter().filter(|edge| edge["node"]["eventType"] == "login").map(|edge| &edge["node"]["payload"]["method"]).collect();
    assert_eq!(methods, ["password", "link", "link", "link"], "{log}");

    // A browser that is found open does not give the password away by trying.
    let codes = async |current: &str| ask(&here, &set(current, "another horse battery")).await;
    for _ in 0..5 {
        assert_eq!(codes("\"wrong\"").await["errors"][0]["extensions"]["code"], "BAD_USER_INPUT");
    }
    assert_eq!(codes(&format!("\"{PASSWORD}\"")).await["errors"][0]["extensions"]["code"], "RATE_LIMITED");
    server.end().await;
}

#[tokio::test]
async fn a_person_changes_their_name_and_an_operator_their_address() {
    let server = Server::start().await;
    let ada = server.person("ada@example.com", Some(PASSWORD)).await;
    let (cookie, origin) = (server.browser(&ada).await, server.origin());
    let set = async |input: &str| {
        let query = format!("mutation {{ accountUpdate(input: {{{input}}}) }}");
        server.graphql(&[("Cookie", &cookie), ("Origin", &origin)], &query).await.json()
    };
    assert_eq!(set("name: \"Ada Lovelace\"").await["data"]["accountUpdate"], true);
    let me = server.graphql(&[("Authorization", &format!("Bearer {}", ada.token))], "{ me { name email } }").await.json();
    assert_eq!(me["data"]["me"]["name"], "Ada Lovelace");
    let code = |answer: &Value| answer["errors"][0]["extensions"]["code"].as_str().unwrap_or("none").to_owned();
    assert_eq!(code(&set("name: \" \"").await), "BAD_USER_INPUT");
    let foreign = set(&format!("email: \"someone@example.com\", password: \"{PASSWORD}\"")).await;
    assert_eq!(code(&foreign), "FORBIDDEN", "somebody gives themselves an address that others trust: {foreign}");
    assert_eq!(server.submit("/login", None, &[("email", "ada@example.com"), ("password", PASSWORD)]).await.status, 303);
    server.end().await;
}
