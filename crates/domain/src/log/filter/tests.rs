use proptest::prelude::*;

use super::*;
use crate::*;

fn source(kind: LogKind) -> LogSource {
    LogSource {
        workspace_id: WorkspaceId(uuid::Uuid::from_u128(1)),
        project_id: ProjectId(uuid::Uuid::from_u128(2)),
        environment_id: EnvironmentId(uuid::Uuid::from_u128(3)),
        service_id: ServiceId(uuid::Uuid::from_u128(4)),
        deployment_id: DeploymentId(uuid::Uuid::from_u128(5)),
        snapshot_id: SnapshotId(uuid::Uuid::from_u128(6)),
        replica_id: (kind == LogKind::Deploy).then_some(ReplicaId(uuid::Uuid::from_u128(7))),
        kind,
    }
}

fn line(kind: LogKind, severity: Severity, message: &str, json: &str) -> LogLine {
    let attributes = match serde_json::from_str(json) {
        Ok(Value::Object(fields)) => fields.into_iter().map(|(name, value)| (name, value.to_string())).collect(),
        _ => vec![],
    };
    LogLine { nanos: 1, source: source(kind), severity, message: message.into(), attributes }
}

const ID: &str = "00000000-0000-0000-0000-00000000000";

#[test]
fn the_language_means_what_the_contract_says() {
    let structured = r#"{"n":3,"path":"/api/v1","who":{"name":"Ann","roles":["editor","viewer"]},"list":[{"k":5},200],
        "http.status":404,"version":"1.10","replica":"3","level":30,"ok":true,"text":"12"}"#;
    let deploy = line(LogKind::Deploy, Severity::Error, "Failed to send batch: POST /api (try 3)", structured);
    let build = line(LogKind::Build, Severity::Info, "#5 [2/4] npm ci --verbose", "{}");
    let cases = [
        ("", true, true),
        ("  \t\n", true, true),
        ("failed", true, false),
        ("\"POST /api\"", true, false),
        ("\"post /API (try\"", true, false),
        ("nothing", false, false),
        ("-nothing", true, true),
        ("failed batch", true, false),
        ("failed AND nothing", false, false),
        ("nothing OR batch", true, false),
        ("npm OR failed batch", true, true),
        ("(npm OR failed) batch", true, false),
        ("-(npm OR nothing)", true, false),
        ("-\"POST /api\"", false, true),
        ("--verbose", false, true),
        ("- npm", false, true),
        ("ANDROID", false, false),
        ("\"AND\"", false, false),
        ("and", false, false),
        ("@level:error", true, false),
        ("@level:ERROR", true, false),
        ("@level:info", false, true),
        ("-@level:error", false, true),
        ("@level:error AND \"send batch\"", true, false),
        ("@level:>=30", true, false),
        ("@n:3", true, false),
        ("@n:3.0", true, false),
        ("@n:>2", true, false),
        ("@n:>3", false, false),
        ("@n:>=3", true, false),
        ("@n:<3", false, false),
        ("@n:<=3", true, false),
        ("@n:1..3", true, false),
        ("@n:-5..2", false, false),
        ("@text:>11", true, false),
        ("@version:1.1", false, false),
        ("@version:1.10", true, false),
        ("@path:/API/v1", true, false),
        ("@path:/api", false, false),
        ("@path:\"/api/v1\"", true, false),
        ("@who.name:ann", true, false),
        ("@who.roles[1]:viewer", true, false),
        ("@who.roles[0]:viewer", false, false),
        ("@who.roles:viewer", true, false),
        ("@who:ann", false, false),
        ("@list[0].k:5", true, false),
        ("@list[1]:>=200", true, false),
        ("@list[9]:1", false, false),
        ("@http.status:400..499", true, false),
        ("@ok:true", true, false),
        ("@missing:x", false, false),
        ("-@missing:x", true, true),
        ("@replica:3", true, false),
        ("replica:3", false, false),
    ];
    for (text, app, built) in cases {
        let filter = Filter::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!((filter.matches(&deploy), filter.matches(&build)), (app, built), "{text}");
    }
    let origins = [
        (format!("@snapshot:{ID}6"), false, true),
        (format!("@replica:{ID}7"), true, false),
        (format!("replica:{ID}7"), true, false),
        (format!("replica:{ID}8"), false, false),
        (format!("@deployment:{ID}5"), true, true),
        (format!("@service:{ID}4"), true, true),
        (format!("-@service:{ID}4"), false, false),
        (format!("-@service:{ID}8 AND -@service:{ID}9"), true, true),
        (format!("(@snapshot:{ID}6 OR @replica:{ID}6)"), false, true),
    ];
    for (text, app, built) in origins {
        let filter = Filter::parse(&text).unwrap();
        assert_eq!((filter.matches(&deploy), filter.matches(&build)), (app, built), "{text}");
        let reach = |matched| if matched { Reach::Everything } else { Reach::Nothing };
        assert_eq!(filter.reach(&deploy.source, Severity::Error), reach(app), "{text}");
        assert_eq!(filter.reach(&build.source, Severity::Info), reach(built), "{text}");
    }
}

#[test]
fn what_cannot_be_read_is_said_with_its_place() {
    let deep = "(".repeat(33) + "x" + &")".repeat(33);
    let wide = "x ".repeat(129);
    let long = "ä".repeat(3000);
    let cases = [
        ("a \"b c", 3, FilterProblem::OpenQuote),
        ("a (b OR c", 3, FilterProblem::OpenParenthesis),
        ("(", 1, FilterProblem::OpenParenthesis),
        ("a) b", 2, FilterProblem::StrayParenthesis),
        (")", 1, FilterProblem::StrayParenthesis),
        ("a ( ) b", 5, FilterProblem::EmptyGroup),
        ("AND a", 1, FilterProblem::LooseOperator),
        ("ä OR", 5, FilterProblem::LooseOperator),
        ("a AND OR b", 7, FilterProblem::LooseOperator),
        ("(a OR )", 7, FilterProblem::LooseOperator),
        ("@level", 1, FilterProblem::BadAttribute),
        ("x @:y", 3, FilterProblem::BadAttribute),
        ("@level: error", 1, FilterProblem::BadAttribute),
        ("@list[x]:1", 1, FilterProblem::BadIndex),
        ("@list[0:1", 1, FilterProblem::BadIndex),
        ("@n:>many", 4, FilterProblem::BadNumber),
        ("@n:>inf", 4, FilterProblem::BadNumber),
        ("@n:3..1", 4, FilterProblem::EmptyRange),
        (deep.as_str(), 33, FilterProblem::TooDeep),
        (wide.as_str(), 257, FilterProblem::TooManyTerms),
        (long.as_str(), 2049, FilterProblem::TooLong),
    ];
    for (text, position, problem) in cases {
        assert_eq!(Filter::parse(text), Err(FilterError { position, problem }), "{text}");
    }
    assert!(Filter::parse(&("(".repeat(32) + "x" + &")".repeat(32))).is_ok());
    let said = Filter::parse("@n:>many").unwrap_err().to_string();
    assert_eq!(said, "the filter cannot be read at character 4: compare with a number, such as @duration:>=5 or @status:500..599");
}

/// Pieces that the grammar cares about, so that random texts are not all plain words.
fn garbage() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("(".to_owned()),
        Just(")".to_owned()),
        Just("\"".to_owned()),
        Just("-".to_owned()),
        Just("@".to_owned()),
        Just(" AND ".to_owned()),
        Just(" OR ".to_owned()),
        Just("@n:".to_owned()),
        Just("..".to_owned()),
        Just(">=".to_owned()),
        Just("[0]".to_owned()),
        Just("\\".to_owned()),
        Just(" ".to_owned()),
        "[a-z0-9ä🦀]{1,3}",
        any::<char>().prop_map(String::from),
    ];
    proptest::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

fn term() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        "[ab]{1,2}",
        Just("\"a b\"".to_owned()),
        Just("@level:error".to_owned()),
        Just("@level:info".to_owned()),
        Just("@n:1..3".to_owned()),
        Just("@n:>2".to_owned()),
        Just(format!("@snapshot:{ID}6")),
        Just(format!("@replica:{ID}7")),
        Just(format!("@service:{ID}9")),
    ];
    leaf.prop_recursive(5, 40, 4, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a} {b}")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a} AND {b}")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} OR {b})")),
            inner.prop_map(|a| format!("-({a})")),
        ]
    })
}

fn any_line() -> impl Strategy<Value = LogLine> {
    let severity = prop_oneof![Just(Severity::Info), Just(Severity::Error), Just(Severity::Warn)];
    let kind = prop_oneof![Just(LogKind::Build), Just(LogKind::Deploy)];
    (kind, severity, "[abAB ]{0,6}", 0..5i32).prop_map(|(kind, severity, text, n)| line(kind, severity, &text, &format!("{{\"n\":{n}}}")))
}

proptest! {
    #[test]
    fn no_text_breaks_the_reader(text in garbage(), other in any::<String>(), line in any_line()) {
        for text in [text, other] {
            match Filter::parse(&text) {
                Ok(filter) => { std::hint::black_box(filter.matches(&line)); }
                Err(error) => prop_assert!(error.position <= text.chars().count() + 1),
            }
        }
    }

    #[test]
    fn reach_never_contradicts_a_line(text in term(), line in any_line()) {
        let filter = Filter::parse(&text).unwrap();
        let matched = filter.matches(&line);
        match filter.reach(&line.source, line.severity) {
            Reach::Nothing => prop_assert!(!matched),
            Reach::Everything => prop_assert!(matched),
            Reach::Some => prop_assert!(filter.reads_lines()),
        }
    }

    #[test]
    fn logic_holds(a in term(), b in term(), line in any_line()) {
        let is = |text: String| Filter::parse(&text).unwrap().matches(&line);
        let (left, right) = (is(a.clone()), is(b.clone()));
        prop_assert_eq!(is(format!("({a}) ({b})")), left && right);
        prop_assert_eq!(is(format!("({a}) AND ({b})")), left && right);
        prop_assert_eq!(is(format!("({a}) OR ({b})")), left || right);
        prop_assert_eq!(is(format!("-({a})")), !left);
        prop_assert_eq!(is(format!("({a} OR {b}) AND -({a}) AND -({b})")), false);
    }

    #[test]
    fn a_quoted_text_finds_itself(text in "[^\\x00]{0,40}") {
        let quoted = format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
        let found = Filter::parse(&quoted).unwrap().matches(&line(LogKind::Deploy, Severity::Info, &format!("<{text}>"), "{}"));
        prop_assert!(found, "{quoted}");
    }
}
