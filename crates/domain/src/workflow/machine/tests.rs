use proptest::prelude::*;

use super::super::edit::{NewEdge, NewNode, Place};
use super::super::{PortType, RequestField};
use super::*;

fn catalogue() -> Catalogue {
    Catalogue::new(["gpt_5"])
}

fn graph(fields: &[(&str, PortType)]) -> Graph {
    let fields = fields.iter().map(|(name, kind)| RequestField {
        id: super::super::field_id(name),
        name: (*name).into(),
        kind: *kind,
        value: Value::Null,
    });
    Graph::scaffold(1, fields.collect())
}

fn add(graph: &mut Graph, id: &str, kind: &str, inputs: Value) {
    let inputs = inputs.as_object().cloned().expect("an object");
    graph
        .add_node(&catalogue(), NewNode { id: id.into(), kind: kind.into(), place: Place::default(), inputs, mode: None })
        .expect("a node");
}

fn connect(graph: &mut Graph, source: (&str, &str), target: (&str, &str)) {
    let edge = NewEdge {
        id: format!("{source:?}{target:?}"),
        source: source.0.into(),
        source_handle: source.1.into(),
        target: target.0.into(),
        target_handle: target.1.into(),
    };
    graph.connect(&catalogue(), edge).expect("an edge");
}

fn values(text: Value) -> Map<String, Value> {
    text.as_object().cloned().expect("an object")
}

/// Goes through a run; `perform` is the execution of a node.
fn go(progress: &mut Progress, mut perform: impl FnMut(&Node, Map<String, Value>) -> Map<String, Value>) -> Vec<String> {
    let mut order = vec![];
    while let Some(at) = progress.take_next() {
        order.push(progress.node(at).id.clone());
        let output = match progress.scaffold(at) {
            Some(output) => output,
            None => perform(&progress.node(at).clone(), progress.input(at, &catalogue()).expect("an input")),
        };
        progress.done(at, output);
    }
    order
}

const REQ: &str = "node_1_request";
const RES: &str = "node_1_response";

#[test]
fn values_come_by_name_and_by_id() {
    let mut graph = graph(&[("Car prompt", PortType::Text), ("photo", PortType::Image), ("n", PortType::Number)]);
    add(&mut graph, "l", "gpt_5", json!({"temperature": 0.5, "prompt": "not this"}));
    connect(&mut graph, (REQ, "field_car_prompt"), ("l", "in:prompt"));
    connect(&mut graph, (REQ, "field_photo"), ("l", "in:image_urls"));
    connect(&mut graph, ("l", "out:output"), (RES, "result"));
    let graph = Arc::new(graph);
    for key in ["Car prompt", "field_car_prompt"] {
        let given = values(json!({REQ: {key: "red", "photo": "https://a/b.png"}, "nobody": {"x": 1}, "l": {"seed": 7}}));
        let mut progress = Progress::new(graph.clone(), given, HashMap::new());
        let mut seen = Map::new();
        go(&mut progress, |_, input| {
            seen = input;
            values(json!({"output": "a red car"}))
        });
        assert_eq!(Value::from(seen), json!({"prompt": "red", "image_urls": ["https://a/b.png"], "temperature": 0.5, "seed": 7}));
        assert_eq!(progress.verdict(), Verdict::Completed);
        let response = progress.graph.nodes.iter().position(|node| node.id == RES).unwrap();
        assert_eq!(Value::from(progress.scaffold(response).unwrap()), json!({"gpt_5": "a red car"}));
        let request = Value::from(progress.scaffold(0).unwrap());
        assert_eq!(
            request,
            json!({"Car prompt": "red", "field_car_prompt": "red", "photo": ["https://a/b.png"], "field_photo": ["https://a/b.png"], "n": null, "field_n": null})
        );
    }
}

/// What a node is given for an edge from a request field that was left empty, in each way that clients have of saying so.
fn given_for_nothing(kind: PortType, field_default: Value, node: (&str, Value), input: &str) -> Vec<Value> {
    let mut graph = graph(&[("f", kind)]);
    let mut request = graph.node_mut(REQ).expect("the request node").data.fields.remove(0);
    request.value = field_default;
    graph.node_mut(REQ).expect("the request node").data.fields.push(request);
    add(&mut graph, "n", node.0, node.1);
    connect(&mut graph, (REQ, "field_f"), ("n", input));
    let graph = Arc::new(graph);
    let each = [json!({}), json!({REQ: {"f": null}}), json!({REQ: {"f": ""}})].map(|given| {
        let mut progress = Progress::new(graph.clone(), values(given), HashMap::new());
        let mut seen = Map::new();
        go(&mut progress, |_, input| {
            seen = input;
            Map::new()
        });
        assert_eq!(progress.verdict(), Verdict::Completed);
        Value::from(seen)
    });
    each.to_vec()
}

#[test]
fn a_field_that_is_left_empty_leaves_the_input_as_it_is() {
    let template = json!({"prompt": "x"});
    // Optional, with a default, told, and with a default of the field's own.
    for seen in given_for_nothing(PortType::Number, Value::Null, ("gpt_5", template.clone()), "in:temperature") {
        assert_eq!(seen, template);
    }
    for seen in given_for_nothing(PortType::Boolean, json!(""), ("http_request", json!({"url": "https://a/"})), "in:fail_on_error") {
        assert_eq!(seen["fail_on_error"], true);
    }
    for seen in given_for_nothing(PortType::Select, Value::Null, ("merge", json!({"mode": "first"})), "in:mode") {
        assert_eq!(seen["mode"], "first");
    }
    for seen in given_for_nothing(PortType::Number, json!(0.5), ("gpt_5", template), "in:temperature") {
        assert_eq!(seen["temperature"], 0.5);
    }
    // Text that is empty is text.
    for seen in given_for_nothing(PortType::Text, Value::Null, ("text_template", json!({"template": "x"})), "in:name") {
        assert_eq!(seen["name"], "");
    }
}

#[test]
fn a_branch_that_is_not_taken_is_left_out_and_merge_takes_the_other() {
    let mut graph = graph(&[("x", PortType::Any)]);
    add(&mut graph, "c", "condition", json!({}));
    for id in ["yes", "no", "after_no"] {
        add(&mut graph, id, "text_template", json!({"template": id}));
    }
    add(&mut graph, "m", "merge", json!({}));
    connect(&mut graph, (REQ, "field_x"), ("c", "in:value"));
    connect(&mut graph, ("c", "out:true"), ("yes", "in:v"));
    connect(&mut graph, ("c", "out:false"), ("no", "in:v"));
    connect(&mut graph, ("no", "out:result"), ("after_no", "in:v"));
    connect(&mut graph, ("yes", "out:result"), ("m", "in:items"));
    connect(&mut graph, ("after_no", "out:result"), ("m", "in:items"));
    connect(&mut graph, ("m", "out:result"), (RES, "result"));
    let mut progress = Progress::new(Arc::new(graph), Map::new(), HashMap::new());
    let order = go(&mut progress, |node, input| match node.kind.as_str() {
        "condition" => values(json!({"true": 1})),
        "merge" => values(json!({"result": input["items"]})),
        _ => values(json!({"result": node.id})),
    });
    assert_eq!(order, [REQ, "c", "yes", "m", RES]);
    assert_eq!(Value::from(progress.scaffold(1).unwrap()), json!({"merge": ["yes"]}));
    assert_eq!(progress.verdict(), Verdict::Completed);
}

#[test]
fn a_failure_ends_the_run_when_what_is_at_work_has_ended() {
    let mut graph = graph(&[]);
    for id in ["a", "b", "c"] {
        add(&mut graph, id, "merge", json!({}));
    }
    connect(&mut graph, ("a", "out:result"), ("c", "in:items"));
    let mut progress = Progress::new(Arc::new(graph), Map::new(), HashMap::new());
    let mut handed = vec![];
    while let Some(at) = progress.take_next() {
        match progress.scaffold(at) {
            Some(output) => progress.done(at, output),
            None => handed.push(at),
        }
    }
    assert_eq!(handed.len(), 2, "a and b at once");
    progress.failed(handed[0], "broken");
    assert_eq!(progress.verdict(), Verdict::Going);
    progress.done(handed[1], Map::new());
    assert_eq!((progress.take_next(), progress.verdict()), (None, Verdict::Failed("Merge: broken".into())));
}

#[test]
fn attempts_follow_the_policy() {
    let policy = Policy { retries: 2, backoff_ms: 100, ..Policy::default() };
    assert_eq!(after_failure(&policy, 1, true, "x"), After::Again(100));
    assert_eq!(after_failure(&policy, 2, true, "x"), After::Again(200));
    assert_eq!(after_failure(&policy, 3, true, "x"), After::Fail);
    assert_eq!(after_failure(&policy, 1, false, "x"), After::Fail);
    let lenient = Policy { on_error: OnError::Continue, ..Policy::default() };
    assert_eq!(after_failure(&lenient, 1, true, "x"), After::Continue(values(json!({"error": "x"}))));
}

#[test]
fn what_is_missing_or_wrong_is_named() {
    let mut graph = graph(&[("n", PortType::Any)]);
    add(&mut graph, "c", "crop_image", json!({}));
    connect(&mut graph, (REQ, "field_n"), ("c", "in:x_percent"));
    let graph = Arc::new(graph);
    let input = |given: Value| {
        let mut progress = Progress::new(graph.clone(), values(given), HashMap::new());
        let request = progress.take_next().unwrap();
        progress.done(request, progress.scaffold(request).unwrap());
        let at = progress.graph.nodes.iter().position(|node| node.id == "c").unwrap();
        progress.input(at, &catalogue())
    };
    assert!(input(json!({REQ: {"n": 5}})).unwrap_err().contains("image_url: required"));
    assert!(input(json!({REQ: {"n": 500}, "c": {"image_url": "https://a/b"}})).unwrap_err().contains("x_percent: Too big"));
    assert_eq!(input(json!({REQ: {"n": "5"}, "c": {"image_url": "https://a/b"}})).unwrap()["x_percent"], 5);
}

proptest! {
    /// Any acyclic graph: every node once, after all that it depends on, and a run that is taken up in the middle performs the rest alone.
    #[test]
    fn every_node_runs_once_and_in_order(
        edges in prop::collection::vec((0usize..30, 0usize..30), 0..90),
        cut in 0usize..34,
    ) {
        let mut graph = graph(&[]);
        for at in 0..30 {
            add(&mut graph, &format!("n{at}"), "merge", json!({}));
        }
        let mut drawn = std::collections::HashSet::new();
        for (a, b) in edges {
            let (a, b) = (a.min(b), a.max(b));
            if a != b && drawn.insert((a, b)) {
                connect(&mut graph, (&format!("n{a}"), "out:result"), (&format!("n{b}"), "in:items"));
            }
        }
        let graph = Arc::new(graph);
        let perform = |node: &Node, _| values(json!({"result": node.id}));
        let mut whole = Progress::new(graph.clone(), Map::new(), HashMap::new());
        let order = go(&mut whole, perform);
        prop_assert_eq!(whole.verdict(), Verdict::Completed);
        prop_assert_eq!(order.len(), 32);
        for edge in &graph.edges {
            let place = |id: &str| order.iter().position(|known| known == id);
            prop_assert!(place(&edge.source) < place(&edge.target));
        }
        let known = order.iter().take(cut).map(|id| (id.clone(), values(json!({"result": id})))).collect();
        let mut rest = Progress::new(graph, Map::new(), known);
        let performed = go(&mut rest, perform);
        prop_assert_eq!(rest.verdict(), Verdict::Completed);
        let mut expected: Vec<String> = order.iter().skip(cut).cloned().collect();
        let mut performed_sorted = performed;
        performed_sorted.sort();
        expected.sort();
        prop_assert_eq!(performed_sorted, expected);
    }
}

#[test]
fn what_the_graph_says_is_told_from_what_a_run_brings() {
    let mut graph = graph(&[("a", PortType::Text)]);
    let told = json!({"url": "https://a.example", "headers": {"x": "told"}, "body": "told"});
    add(&mut graph, "h", "http_request", told);
    connect(&mut graph, (REQ, "field_a"), ("h", "in:body"));
    let mut progress = Progress::new(Arc::new(graph), values(json!({"h": {"headers": {"x": "given"}}})), HashMap::new());
    while let Some(at) = progress.take_next() {
        match progress.scaffold(at) {
            Some(output) => progress.done(at, output),
            None => {
                assert!(progress.is_told(at, "url"));
                for name in ["headers", "body", "method"] {
                    assert!(!progress.is_told(at, name), "{name}");
                }
                return;
            }
        }
    }
    panic!("the node never had its turn");
}
