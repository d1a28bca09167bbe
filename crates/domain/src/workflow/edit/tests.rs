use proptest::prelude::*;
use serde_json::json;

use super::*;

fn catalogue() -> Catalogue {
    Catalogue::new(["gpt_5"])
}

fn graph() -> Graph {
    let field = |id: &str, kind| RequestField { id: id.into(), name: id.into(), kind, value: Value::Null };
    Graph::scaffold(1, vec![field("field_a", PortType::Text), field("field_b", PortType::Image), field("field_n", PortType::Number)])
}

fn add(graph: &mut Graph, id: &str, kind: &str) {
    let new = NewNode { id: id.into(), kind: kind.into(), place: Place::default(), inputs: Map::new(), mode: None };
    graph.add_node(&catalogue(), new).expect("a node");
}

fn edge(source: &str, source_handle: &str, target: &str, target_handle: &str) -> NewEdge {
    NewEdge {
        id: format!("{source}{source_handle}{target}{target_handle}"),
        source: source.into(),
        source_handle: source_handle.into(),
        target: target.into(),
        target_handle: target_handle.into(),
    }
}

const KINDS: [&str; 7] = ["text_template", "json_transform", "condition", "merge", "crop_image", "gpt_5", "http_request"];

fn handles(graph: &Graph, id: &str) -> (Vec<String>, Vec<String>) {
    let node = graph.node(id).expect("a node");
    let catalogue = catalogue();
    let kind = catalogue.get(&node.kind).expect("a type");
    match node.kind.as_str() {
        REQUEST => (vec![], node.data.fields.iter().map(|field| field.id.clone()).collect()),
        RESPONSE => (vec!["result".into()], vec![]),
        _ => (kind.input_ports(), kind.output_ports()),
    }
}

proptest! {
    #[test]
    fn whatever_is_drawn_can_run(
        kinds in prop::collection::vec(0..KINDS.len(), 1..12),
        wishes in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..80),
        removed in prop::collection::vec(any::<prop::sample::Index>(), 0..3),
    ) {
        let mut graph = graph();
        for (at, kind) in kinds.iter().enumerate() {
            add(&mut graph, &format!("n{at}"), KINDS[*kind]);
        }
        for (from, out, to, input) in wishes {
            let (from, to) = (from.get(&graph.nodes).id.clone(), to.get(&graph.nodes).id.clone());
            let (outs, ins) = (handles(&graph, &from).1, handles(&graph, &to).0);
            if outs.is_empty() || ins.is_empty() {
                continue;
            }
            let before = graph.clone();
            let (out, input) = (out.get(&outs).as_str(), input.get(&ins).as_str());
            let wish = edge(&from, out, &to, input);
            match graph.connect(&catalogue(), wish) {
                Ok(connected) => prop_assert!(connected.target_type.takes(connected.source_type)),
                Err(_) => prop_assert_eq!(&graph, &before, "a refusal changes nothing"),
            }
            prop_assert!(graph.order().is_some(), "never a cycle");
        }
        for node in removed {
            let id = node.get(&graph.nodes).id.clone();
            let _ = graph.remove_node(&id);
        }
        prop_assert_eq!(graph.check(&catalogue()), Ok(()));
        let mut ends = HashSet::new();
        for edge in &graph.edges {
            let port = target_port(&catalogue(), graph.node(&edge.target).unwrap(), &edge.target_handle).unwrap();
            prop_assert!(port.many || ends.insert((&edge.target, &edge.target_handle)), "one edge per single input");
        }
        let order = graph.order().unwrap();
        let place = |id: &str| order.iter().position(|known| *known == id).unwrap();
        prop_assert!(graph.edges.iter().all(|edge| place(&edge.source) < place(&edge.target)));
    }
}

#[test]
fn each_rule_is_named() {
    let mut graph = graph();
    let all = catalogue();
    for (id, kind) in [("t", "text_template"), ("c", "crop_image"), ("l", "gpt_5")] {
        add(&mut graph, id, kind);
    }
    let (request, response) = ("node_1_request", "node_1_response");
    assert!(graph.connect(&all, edge(request, "field_a", "t", "in:name")).is_ok(), "an open input");
    assert!(graph.connect(&all, edge("t", "out:result", "l", "in:prompt")).is_ok());
    assert!(graph.connect(&all, edge(request, "field_b", "l", "in:image_urls")).is_ok());
    assert!(graph.connect(&all, edge("l", "out:output", response, "result")).is_ok());
    assert!(graph.connect(&all, edge("t", "out:result", response, "result")).is_ok(), "Response takes several");
    let mut refused = |edge| graph.connect(&all, edge).expect_err("a refusal").to_string();
    assert!(refused(edge("l", "out:output", "t", "in:again")).contains("cycle"));
    assert!(refused(edge("t", "out:result", "t", "in:self")).contains("cycle"));
    assert!(refused(edge(request, "field_a", "l", "in:prompt")).contains("takes one edge"));
    assert!(refused(edge(request, "field_a", "c", "in:image_url")).contains("text cannot go into image"));
    assert!(refused(edge(request, "field_x", "l", "in:prompt")).contains("field_a, field_b"));
    assert!(refused(edge("l", "out:result", response, "result")).contains("out:output"));
    assert!(refused(edge("l", "out:output", "c", "in:nothing")).contains("in:image_url"));
    assert!(refused(edge("nobody", "out:x", "c", "in:image_url")).contains("Node not found: nobody"));
    assert!(graph.remove_node(request).is_err());
    assert_eq!((graph.remove_node("l"), graph.remove_node("l")), (Ok(true), Ok(false)));
    assert_eq!(graph.edges.len(), 2, "its edges are gone with it");
}

#[test]
fn inputs_are_checked_against_the_type() {
    let mut graph = graph();
    add(&mut graph, "c", "crop_image");
    let mut set = |value: Value| graph.set_inputs(&catalogue(), "c", value.as_object().cloned().expect("an object"));
    assert_eq!(set(json!({"x_percent": 20, "image_url": "https://a/b.png"})), Ok(()));
    assert!(set(json!({"x_percent": 101})).unwrap_err().to_string().contains("<=100"));
    assert!(set(json!({"image_url": "file:///etc/passwd"})).unwrap_err().to_string().contains("http"));
    assert!(set(json!({"colour": 1})).unwrap_err().to_string().contains("image_url, x_percent"));
    assert_eq!(set(json!({"x_percent": null})), Ok(()));
    assert_eq!(graph.node("c").unwrap().data.inputs.len(), 1);
}

#[test]
fn a_graph_has_a_largest_size() {
    let mut graph = graph();
    for at in 0..5 {
        let inputs = Map::from_iter([("items".to_owned(), json!(["x".repeat(1_000_000)]))]);
        let new = NewNode { id: format!("m{at}"), kind: "merge".into(), place: Place::default(), inputs, mode: None };
        graph.add_node(&catalogue(), new).unwrap();
    }
    assert_eq!(graph.check(&catalogue()), Err(Refusal::TooLarge));
    graph.remove_node("m0").unwrap();
    graph.remove_node("m1").unwrap();
    assert_eq!(graph.check(&catalogue()), Ok(()));
}

#[test]
fn a_policy_has_limits() {
    let mut graph = graph();
    add(&mut graph, "m", "merge");
    let most = Policy { retries: 10, backoff_ms: 3_600_000, timeout_ms: Some(3_600_000), concurrency: Some(100), ..Policy::default() };
    assert_eq!(graph.set_policy("m", most), Ok(()));
    let beyond = [
        Policy { retries: 11, ..most },
        Policy { backoff_ms: 3_600_001, ..most },
        Policy { timeout_ms: Some(3_600_001), ..most },
        Policy { timeout_ms: Some(0), ..most },
        Policy { concurrency: Some(0), ..most },
        Policy { concurrency: Some(101), ..most },
    ];
    for policy in beyond {
        // Also in a node that comes with a run and not by an edit.
        graph.nodes[2].data.policy = policy;
        assert!(matches!(graph.check(&catalogue()), Err(Refusal::Input { .. })), "{policy:?}");
    }
}

#[test]
fn names_that_cannot_be_kept_are_refused() {
    for bad in ["a\0b".to_owned(), "x".repeat(201)] {
        let (mut one, mut two) = (graph(), graph());
        add(&mut one, &bad, "merge");
        two.nodes[1].data.label = bad;
        for graph in [one, two] {
            assert!(matches!(graph.check(&catalogue()), Err(Refusal::Damaged(_))), "{graph:?}");
        }
    }
}

#[test]
fn columns_and_rows_become_places() {
    let mut graph = graph();
    let place = |column, row| Place { position: None, column, row };
    let mut at = |id: &str, place| {
        let new = NewNode { id: id.into(), kind: "merge".into(), place, inputs: Map::new(), mode: None };
        graph.add_node(&catalogue(), new).unwrap().0.position
    };
    assert_eq!(at("a", place(Some(1), Some(0))), Position { x: 400.0, y: 0.0 });
    assert_eq!(at("b", place(Some(2), Some(1))), Position { x: 800.0, y: 250.0 });
    assert_eq!(at("c", Place { position: Some(Position { x: 7.0, y: 8.0 }), ..place(Some(9), None) }), Position { x: 7.0, y: 8.0 });
}

#[test]
fn fields_that_stay_keep_their_edges_and_those_that_go_take_them_along() {
    let mut graph = graph();
    add(&mut graph, "t", "text_template");
    add(&mut graph, "l", "gpt_5");
    for (field, target, input) in [("field_a", "t", "in:name"), ("field_a", "l", "in:prompt"), ("field_n", "l", "in:temperature")] {
        graph.connect(&catalogue(), edge("node_1_request", field, target, input)).expect("an edge");
    }
    let field = |id: &str, name: &str, kind| RequestField { id: id.into(), name: name.into(), kind, value: Value::Null };
    let fields = vec![field("field_a", "Called otherwise", PortType::Text), field("field_new", "new", PortType::Any)];
    graph.set_fields(&catalogue(), "node_1_request", fields.clone()).expect("fields");
    assert_eq!(graph.edges.iter().map(|edge| edge.source_handle.as_str()).collect::<Vec<_>>(), ["field_a", "field_a"]);
    assert_eq!(graph.check(&catalogue()), Ok(()));
    let picture = vec![field("field_a", "a", PortType::Image)];
    assert!(matches!(graph.set_fields(&catalogue(), "node_1_request", picture), Err(Refusal::Types { source_type: "image", .. })));
    assert!(matches!(graph.set_fields(&catalogue(), "t", fields), Err(Refusal::Input { .. })));
}
