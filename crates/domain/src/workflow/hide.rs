//! What of workflows and runs somebody sees who may not read secrets: their shape. Anything that a person wrote into one or that a node
//! gave may be a secret, so that what is shown is listed here, and not what is hidden.

use serde_json::{Map, Value};

use super::Graph;
use super::catalogue::Catalogue;
use super::field::{Form, Input};
use super::run::{FlowTrigger, NodeRun, Run, Start};

/// What stands in the place of a value that may be a secret.
pub const HIDDEN: &str = "<hidden>";

/// Hides the values of an object; their names stay.
fn hide(values: &mut Map<String, Value>, is_shown: impl Fn(&str) -> bool) {
    for (name, value) in values {
        if !value.is_null() && !is_shown(name) {
            *value = HIDDEN.into();
        }
    }
}

fn hide_all(value: &mut Value) {
    match value {
        Value::Null => {}
        Value::Object(values) => hide(values, |_| false),
        other => *other = HIDDEN.into(),
    }
}

fn hide_text(text: &mut Option<String>) {
    if text.is_some() {
        *text = Some(HIDDEN.to_owned());
    }
}

/// Numbers, switches and choices say how a node works, not with what.
fn is_setting(input: &Input) -> bool {
    matches!(input.form, Form::Number(..) | Form::Slider(..) | Form::Select(_) | Form::Switch)
}

impl Graph {
    /// Hides what its nodes were told, but for numbers, switches and choices, and what counts when a caller gives nothing.
    pub fn hide(&mut self, catalogue: &Catalogue) {
        for node in &mut self.nodes {
            let kind = catalogue.get(&node.kind);
            hide(&mut node.data.inputs, |name| kind.and_then(|kind| kind.input(name)).is_some_and(is_setting));
            for field in &mut node.data.fields {
                if !field.value.is_null() {
                    field.value = HIDDEN.into();
                }
            }
        }
    }
}

impl Run {
    /// Hides what it was given, and why it failed: that may repeat a value.
    pub fn hide(&mut self) {
        self.values.values_mut().for_each(hide_all);
        hide_text(&mut self.error);
    }
}

impl NodeRun {
    /// Hides what it was given, gave and wrote down, and why it failed.
    pub fn hide(&mut self) {
        self.input.iter_mut().chain(&mut self.output).for_each(hide_all);
        self.logs.iter_mut().for_each(|line| HIDDEN.clone_into(line));
        hide_text(&mut self.error);
    }
}

impl FlowTrigger {
    /// Hides what a schedule gives.
    pub fn hide(&mut self) {
        if let Start::Schedule { values, .. } = &mut self.start {
            hide(values, |_| false);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::workflow::edit::{NewNode, Place};
    use crate::workflow::{PortType, RequestField};

    #[test]
    fn a_graph_without_its_values_keeps_its_shape() {
        let catalogue = Catalogue::new([]);
        let field = RequestField { id: "field_a".into(), name: "a".into(), kind: PortType::Number, value: json!(4711) };
        let mut graph = Graph::scaffold(1, vec![field]);
        let inputs =
            json!({"url": "https://example.com/?key=canary", "method": "POST", "headers": {"authorization": "canary"}, "body": 4711});
        let new = NewNode {
            id: "node_1_x".into(),
            kind: "http_request".into(),
            place: Place::default(),
            inputs: inputs.as_object().unwrap().clone(),
            mode: None,
        };
        graph.add_node(&catalogue, new).unwrap();
        let ids = |graph: &Graph| graph.nodes.iter().map(|node| (node.id.clone(), node.kind.clone())).collect::<Vec<_>>();
        let before = ids(&graph);
        graph.hide(&catalogue);
        assert_eq!(ids(&graph), before);
        let told = serde_json::to_value(&graph.node("node_1_x").unwrap().data.inputs).unwrap();
        assert_eq!(told, json!({"url": HIDDEN, "method": "POST", "headers": HIDDEN, "body": HIDDEN}));
        assert_eq!(graph.request().unwrap().data.fields[0].value, json!(HIDDEN));
        // Of a type that is no longer offered nothing is known to be harmless.
        graph.nodes[2].kind = "gone".into();
        graph.hide(&catalogue);
        assert_eq!(graph.nodes[2].data.inputs["method"], json!(HIDDEN));
    }
}
