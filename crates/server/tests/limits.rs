//! Limits of requests as the operator sets them, and through the death of the server.

mod harness;
#[path = "../../ops/tests/redis/mod.rs"]
#[allow(dead_code, reason = "each test binary uses a part of it")]
mod redis;

use harness::{Answer, Server, away_from_midnight, request, until};
use redis::Redis;

fn ask(server: &Server) -> Answer {
    let bearer = format!("Bearer {}", server.token);
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    request(server.api, "POST", "localhost", "/graphql/v2", &headers, br#"{"query":"{ me { email } }"}"#)
}

fn left(answer: &Answer) -> u32 {
    answer.header("x-ratelimit-remaining").unwrap_or_else(|| panic!("{answer:?}")).parse().unwrap()
}

#[test]
fn a_killed_server_gives_no_day_back() {
    away_from_midnight();
    let mut server = Server::start_with(&[("ORRERY_LIMITS_OPERATOR", "21/day")]);
    for count in 1..=20 {
        let answer = ask(&server);
        assert_eq!((answer.status, left(&answer)), (200, 21 - count), "{answer:?}");
    }
    let listed = server.orrery(&["token", "list"]).stdout;
    let id = listed.split_whitespace().next().unwrap_or_else(|| panic!("{listed}")).to_owned();
    // Nothing stays in memory alone for long.
    let until_written = |server: &Server, wanted: &str| {
        until("what was counted to be written down", || {
            let told = server.orrery(&["token", "usage", &id]).stdout;
            if told.contains(wanted) { Ok(()) } else { Err(told) }
        });
    };
    until_written(&server, "20 allowed, 0 refused");
    server.sigkill();
    server.start_again();
    let last = ask(&server);
    assert_eq!((last.status, left(&last)), (200, 0), "{last:?}");
    for _ in 0..3 {
        assert_eq!(ask(&server).status, 429);
    }
    until_written(&server, "21 allowed, 3 refused");
    server.sigkill();
    server.start_again();
    assert_eq!(ask(&server).status, 429);
    until_written(&server, "21 allowed, 4 refused");
    let log = std::fs::read_to_string(server.dir.path().join("serve.log")).unwrap();
    assert!(!log.contains(&server.token), "a key is in the log");
}

#[test]
fn counts_are_kept_in_redis_and_its_absence_is_told() {
    away_from_midnight();
    let mut redis = Redis::start();
    let server = Server::start_with(&[("ORRERY_LIMITS", &redis.address()), ("ORRERY_LIMITS_OPERATOR", "1000/day")]);
    let log = || std::fs::read_to_string(server.dir.path().join("serve.log")).unwrap();
    let told = |words: &str| log().matches(&format!("shared rate limits {words}")).count();
    let mut count = 0;
    let mut one_more = || {
        count += 1;
        assert_eq!(left(&ask(&server)), 1_000 - count);
    };
    for _ in 0..5 {
        one_more();
    }
    // On a busy machine it may have been taken for silent: that is over before it is.
    until("Redis to be heard of again", || {
        if told("do not answer") == told("answer again") {
            return Ok(());
        }
        one_more();
        Err(log())
    });
    let before = told("do not answer");
    redis.kill();
    // They are counted here meanwhile.
    for _ in 0..4 {
        one_more();
    }
    let doctor = server.orrery(&["doctor"]).stdout;
    assert!(doctor.contains("a key may ask more often than its limit says") && doctor.contains("Debian: redis-server"), "{doctor}");
    assert_eq!(told("do not answer"), before + 1, "{}", log());
}

#[test]
fn while_nothing_can_be_counted_a_key_is_told_of_its_own_limit() {
    away_from_midnight();
    let mut redis = Redis::start();
    let address = redis.address();
    let server =
        Server::start_with(&[("ORRERY_LIMITS", &address), ("ORRERY_LIMITS_FALLBACK", "refuse"), ("ORRERY_LIMITS_OPERATOR", "100/day")]);
    // On a busy machine it may be taken for silent at first, and still have counted what it was asked for.
    let counted = until("a request to be counted", || {
        let answer = ask(&server);
        if answer.status == 200 { Ok(left(&answer)) } else { Err(format!("{answer:?}")) }
    });
    redis.kill();
    let refused = ask(&server);
    assert!(refused.status == 503 && (counted..100).contains(&left(&refused)), "{refused:?} after {counted}");
    assert_eq!(refused.header("x-ratelimit-limit"), Some("100"));
    assert!(refused.body.contains("cannot be counted"), "{refused:?}");
}

#[test]
fn the_command_line_waits_for_the_next_second() {
    let server = Server::start_with(&[("ORRERY_LIMITS_OPERATOR", "1/second")]);
    for _ in 0..4 {
        assert_eq!(server.json(server.dir.path(), &["whoami", "--json"])["email"], "admin@localhost");
    }
    let listed = server.json(server.dir.path(), &["list", "--json"]);
    assert_eq!(listed, serde_json::json!([]), "several requests of one command");
}
