//! Changing a graph: every rule that keeps it one that can run (`contracts/flow.md` 1.5, 1.6, 4.1).

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::catalogue::{Catalogue, NodeType};
use super::{Edge, Graph, MAX_BYTES, MAX_CONCURRENCY, MAX_EDGES, MAX_NAME, MAX_NODES, MAX_RETRIES, Node, NodeData};
use super::{Policy, PortType, Position, REQUEST, RESPONSE, RequestField};

/// Why a graph is not changed, or cannot run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The catalogue has no such key.
    #[error("Unknown node type: {0}")]
    UnknownType(String),
    /// The graph has no such node.
    #[error("Node not found: {0}")]
    NodeNotFound(String),
    /// The scaffold stays as it is.
    #[error("The {0} node belongs to every workflow: it can be neither added nor deleted")]
    Scaffold(String),
    /// The node has no such port.
    #[error("Unknown handle {handle:?} of node {node}: use one of {known}")]
    UnknownHandle {
        /// Which node.
        node: String,
        /// What was asked for.
        handle: String,
        /// What there is.
        known: String,
    },
    /// What comes out does not go in.
    #[error("Incompatible types: {source_type} cannot go into {target_type}")]
    Types {
        /// Out.
        source_type: &'static str,
        /// In.
        target_type: &'static str,
    },
    /// The edge would close a circle.
    #[error("This edge would create a cycle: {0}")]
    Cycle(String),
    /// The input has its edge already.
    #[error("The input {handle} of {node} takes one edge and has one: delete that first")]
    Taken {
        /// Which node.
        node: String,
        /// Which port.
        handle: String,
    },
    /// A value that the type does not take.
    #[error("{field}: {reason}")]
    Input {
        /// Which input.
        field: String,
        /// What is wrong.
        reason: String,
    },
    /// No such mode.
    #[error("Unknown mode {mode:?}: {valid}")]
    Mode {
        /// What was asked for.
        mode: String,
        /// What there is.
        valid: String,
    },
    /// Too large.
    #[error("A workflow has at most {MAX_NODES} nodes, {MAX_EDGES} edges and {MAX_BYTES} bytes: split it, or keep large things in files")]
    TooLarge,
    /// Not exactly one Request and one Response node, or an id that comes twice.
    #[error("The graph is damaged: {0}")]
    Damaged(String),
}

/// Where a new node goes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Place {
    /// Exactly there; wins over the others.
    pub position: Option<Position>,
    /// The layout's column, from 1.
    pub column: Option<u32>,
    /// The layout's row, from 0.
    pub row: Option<u32>,
}

/// Between the left edges of two columns.
const COLUMN: f64 = 400.0;
/// Between the upper edges of two rows.
const ROW: f64 = 250.0;

impl Place {
    fn position(self, graph: &Graph) -> Position {
        let next = || 1 + u32::try_from(graph.processing().count()).unwrap_or(u32::MAX - 1);
        self.position.unwrap_or_else(|| Position {
            x: f64::from(self.column.unwrap_or_else(|| if self.row.is_some() { 1 } else { next() })) * COLUMN,
            y: f64::from(self.row.unwrap_or(0)) * ROW,
        })
    }
}

/// What a new node is to be.
#[derive(Clone, Debug, PartialEq)]
pub struct NewNode {
    /// Its id.
    pub id: String,
    /// Its type.
    pub kind: String,
    /// Where.
    pub place: Place,
    /// First values.
    pub inputs: Map<String, Value>,
    /// Which way it works.
    pub mode: Option<String>,
}

/// A connection that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEdge {
    /// Its id.
    pub id: String,
    /// From which node.
    pub source: String,
    /// From which port.
    pub source_handle: String,
    /// To which node.
    pub target: String,
    /// To which port.
    pub target_handle: String,
}

/// An edge as it was drawn, and what passes through it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connected {
    /// The edge.
    pub edge: Edge,
    /// What comes out.
    pub source_type: PortType,
    /// What goes in.
    pub target_type: PortType,
}

/// A port where an edge can end.
struct Target {
    kind: PortType,
    many: bool,
}

fn known_type<'a>(catalogue: &'a Catalogue, node: &Node) -> Result<&'a NodeType, Refusal> {
    catalogue.get(&node.kind).ok_or_else(|| Refusal::UnknownType(node.kind.clone()))
}

fn unknown_handle(node: &Node, handle: &str, known: &[String]) -> Refusal {
    let known = if known.is_empty() { "none: it has no such side".to_owned() } else { known.join(", ") };
    Refusal::UnknownHandle { node: node.id.clone(), handle: handle.chars().take(80).collect(), known }
}

fn source_port(catalogue: &Catalogue, node: &Node, handle: &str) -> Result<PortType, Refusal> {
    if node.kind == REQUEST {
        let found = node.data.fields.iter().find(|field| field.id == handle);
        let known = || node.data.fields.iter().map(|field| field.id.clone()).collect::<Vec<_>>();
        return found.map(|field| field.kind).ok_or_else(|| unknown_handle(node, handle, &known()));
    }
    let kind = known_type(catalogue, node)?;
    let name = handle.strip_prefix("out:");
    if name == Some(super::machine::ERROR) {
        return Ok(PortType::Text);
    }
    let found = kind.outputs.iter().find(|(known, _)| Some(*known) == name);
    found.map(|(_, port)| *port).ok_or_else(|| unknown_handle(node, handle, &kind.output_ports()))
}

fn target_port(catalogue: &Catalogue, node: &Node, handle: &str) -> Result<Target, Refusal> {
    if node.kind == RESPONSE {
        let any = Target { kind: PortType::Any, many: true };
        return if handle == "result" { Ok(any) } else { Err(unknown_handle(node, handle, &["result".to_owned()])) };
    }
    let kind = known_type(catalogue, node)?;
    let name = handle.strip_prefix("in:").unwrap_or_default();
    if let Some(input) = kind.input(name) {
        return Ok(Target { kind: input.port, many: input.many });
    }
    if kind.open && is_name(name) {
        return Ok(Target { kind: PortType::Any, many: false });
    }
    let mut known = kind.input_ports();
    if kind.open {
        known.push("in:<any name>".to_owned());
    }
    Err(unknown_handle(node, handle, &known))
}

/// Names that a template, a jq program or JavaScript can use for a variable.
fn is_name(name: &str) -> bool {
    let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    first && name.len() <= 64 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn check_inputs(kind: &NodeType, inputs: &Map<String, Value>) -> Result<(), Refusal> {
    for (name, value) in inputs {
        let refuse = |reason: String| Refusal::Input { field: name.chars().take(80).collect(), reason };
        match kind.input(name) {
            // Null takes a value back.
            Some(_) if value.is_null() => {}
            Some(input) => input.refuse(&input.fit(value.clone())).map_or(Ok(()), |reason| Err(refuse(reason)))?,
            None if kind.open && is_name(name) => {}
            None => {
                let known: Vec<&str> = kind.inputs.iter().map(|input| input.name).collect();
                return Err(refuse(format!("{} has no such input; it has {}", kind.key, known.join(", "))));
            }
        }
    }
    Ok(())
}

fn check_policy(policy: &Policy) -> Result<(), Refusal> {
    let refuse = |reason: &str| Err(Refusal::Input { field: "policy".into(), reason: reason.into() });
    if policy.retries > MAX_RETRIES {
        return refuse("at most 10 retries");
    }
    if policy.timeout_ms.is_some_and(|limit| limit == 0 || limit > 3_600_000) {
        return refuse("a timeout is between 1 and 3,600,000 ms");
    }
    if policy.backoff_ms > 3_600_000 {
        return refuse("a pause has at most 3,600,000 ms");
    }
    if policy.concurrency.is_some_and(|most| most == 0 || most > MAX_CONCURRENCY) {
        return refuse("concurrency is a number from 1 to 100; without it there is no limit");
    }
    Ok(())
}

impl Graph {
    /// A Request and a Response node, and nothing between them. `ms` tells the pair from others (`contracts/flow.md` 0).
    #[must_use]
    pub fn scaffold(ms: i64, fields: Vec<RequestField>) -> Self {
        let node = |kind: &str, x: f64, label: &str, fields| Node {
            id: format!("node_{ms}_{kind}"),
            kind: kind.to_owned(),
            position: Position { x, y: 0.0 },
            data: NodeData { label: label.to_owned(), fields, ..NodeData::default() },
        };
        let nodes = vec![node(REQUEST, 0.0, "Request", fields), node(RESPONSE, 3.0 * COLUMN, "Response", vec![])];
        Self { nodes, edges: vec![], viewport: None }
    }

    /// Adds a node.
    ///
    /// # Errors
    /// An unknown type or mode, inputs that the type does not take, or no room.
    pub fn add_node<'a>(&mut self, catalogue: &'a Catalogue, new: NewNode) -> Result<(&Node, &'a NodeType), Refusal> {
        if super::is_scaffold(&new.kind) {
            return Err(Refusal::Scaffold(new.kind));
        }
        let kind = catalogue.get(&new.kind).ok_or(Refusal::UnknownType(new.kind))?;
        if self.nodes.len() >= MAX_NODES {
            return Err(Refusal::TooLarge);
        }
        if let Some(mode) = new.mode.as_ref().filter(|mode| *mode != kind.category.as_str()) {
            let valid = format!("{} has one mode, \"{}\"", kind.key, kind.category.as_str());
            return Err(Refusal::Mode { mode: mode.chars().take(80).collect(), valid });
        }
        check_inputs(kind, &new.inputs)?;
        let position = new.place.position(self);
        if let Some(response) = self.nodes.iter_mut().find(|node| node.kind == RESPONSE && node.position.x <= position.x) {
            response.position.x = position.x + COLUMN;
        }
        let data = NodeData { label: kind.name.to_string(), inputs: new.inputs, mode: new.mode, ..NodeData::default() };
        self.nodes.push(Node { id: new.id, kind: kind.key.to_string(), position, data });
        Ok((&self.nodes[self.nodes.len() - 1], kind))
    }

    /// Sets inputs of a node; the others stay. Null takes a value back.
    ///
    /// # Errors
    /// No such node, or inputs that its type does not take.
    pub fn set_inputs(&mut self, catalogue: &Catalogue, node: &str, inputs: Map<String, Value>) -> Result<(), Refusal> {
        let node = self.node_mut(node)?;
        if node.kind == REQUEST {
            for (key, value) in inputs {
                let unknown = Refusal::Input { field: key.chars().take(80).collect(), reason: "the Request node has no such field".into() };
                let field = node.data.fields.iter_mut().find(|field| field.id == key || field.name == key);
                field.ok_or(unknown)?.value = value;
            }
            return Ok(());
        }
        check_inputs(known_type(catalogue, node)?, &inputs)?;
        for (key, value) in inputs {
            if value.is_null() {
                node.data.inputs.shift_remove(&key);
            } else {
                node.data.inputs.insert(key, value);
            }
        }
        Ok(())
    }

    /// Sets what a caller may give. A field that stays keeps its id, and with it its edges; those of one that goes, go with it.
    ///
    /// # Errors
    /// No such node, another one than the Request node, or an edge that does not fit to what its field is to be.
    pub fn set_fields(&mut self, catalogue: &Catalogue, node: &str, fields: Vec<RequestField>) -> Result<(), Refusal> {
        let request = self.node_mut(node)?;
        if request.kind != REQUEST {
            return Err(Refusal::Input { field: "requestFields".into(), reason: "the Request node alone has fields".into() });
        }
        request.data.fields = fields;
        let request = request.clone();
        self.edges.retain(|edge| edge.source != node || request.data.fields.iter().any(|field| field.id == edge.source_handle));
        for edge in self.edges.iter().filter(|edge| edge.source == node) {
            let target = self.node(&edge.target).ok_or_else(|| Refusal::NodeNotFound(edge.target.clone()))?;
            let (source_type, port) =
                (source_port(catalogue, &request, &edge.source_handle)?, target_port(catalogue, target, &edge.target_handle)?);
            if !port.kind.takes(source_type) {
                return Err(Refusal::Types { source_type: source_type.as_str(), target_type: port.kind.as_str() });
            }
        }
        Ok(())
    }

    /// Sets what happens when a node fails.
    ///
    /// # Errors
    /// No such node, or a policy beyond the limits.
    pub fn set_policy(&mut self, node: &str, policy: Policy) -> Result<(), Refusal> {
        check_policy(&policy)?;
        self.node_mut(node)?.data.policy = policy;
        Ok(())
    }

    /// A node, to change what the rules leave free.
    ///
    /// # Errors
    /// No such node.
    pub fn node_mut(&mut self, id: &str) -> Result<&mut Node, Refusal> {
        self.nodes.iter_mut().find(|node| node.id == id).ok_or_else(|| Refusal::NodeNotFound(id.chars().take(80).collect()))
    }

    /// Removes a node with its edges. Whether it was there.
    ///
    /// # Errors
    /// It belongs to the scaffold.
    pub fn remove_node(&mut self, id: &str) -> Result<bool, Refusal> {
        let Some(at) = self.nodes.iter().position(|node| node.id == id) else { return Ok(false) };
        if super::is_scaffold(&self.nodes[at].kind) {
            return Err(Refusal::Scaffold(self.nodes[at].kind.clone()));
        }
        self.nodes.remove(at);
        self.edges.retain(|edge| edge.source != id && edge.target != id);
        Ok(true)
    }

    /// Draws an edge.
    ///
    /// # Errors
    /// Unknown nodes or ports, types that do not fit, a cycle, or an input that has its edge.
    pub fn connect(&mut self, catalogue: &Catalogue, new: NewEdge) -> Result<Connected, Refusal> {
        if self.edges.len() >= MAX_EDGES {
            return Err(Refusal::TooLarge);
        }
        let find = |id: &str| self.node(id).ok_or_else(|| Refusal::NodeNotFound(id.chars().take(80).collect()));
        let (source, target) = (find(&new.source)?, find(&new.target)?);
        let source_type = source_port(catalogue, source, &new.source_handle)?;
        let port = target_port(catalogue, target, &new.target_handle)?;
        if !port.kind.takes(source_type) {
            return Err(Refusal::Types { source_type: source_type.as_str(), target_type: port.kind.as_str() });
        }
        let NewEdge { id, source, source_handle, target, target_handle } = new;
        let edge = Edge { id, source, source_handle, target, target_handle };
        let same_end = |known: &&Edge| known.target == edge.target && known.target_handle == edge.target_handle;
        let mut there = self.edges.iter().filter(same_end);
        let doubled = |known: &Edge| known.source == edge.source && known.source_handle == edge.source_handle;
        if there.clone().any(doubled) || (!port.many && there.next().is_some()) {
            return Err(Refusal::Taken { node: edge.target, handle: edge.target_handle });
        }
        if edge.source == edge.target || self.reaches(&edge.target, &edge.source) {
            return Err(Refusal::Cycle(format!("{} already leads to {}", edge.target, edge.source)));
        }
        self.edges.push(edge.clone());
        Ok(Connected { edge, source_type, target_type: port.kind })
    }

    /// Removes an edge. Whether it was there.
    pub fn disconnect(&mut self, edge: &str) -> bool {
        let before = self.edges.len();
        self.edges.retain(|known| known.id != edge);
        self.edges.len() < before
    }

    /// Whether edges lead from one node to another.
    #[must_use]
    pub fn reaches(&self, from: &str, to: &str) -> bool {
        let mut next: HashMap<&str, Vec<&str>> = HashMap::new();
        for edge in &self.edges {
            next.entry(&edge.source).or_default().push(&edge.target);
        }
        let (mut seen, mut todo) = (HashSet::from([from]), vec![from]);
        while let Some(node) = todo.pop() {
            if node == to {
                return true;
            }
            todo.extend(next.get(node).into_iter().flatten().copied().filter(|node| seen.insert(node)));
        }
        false
    }

    /// Checks a whole graph, as one that comes from outside or that a run overrides: builds it anew by the rules above.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn check(&self, catalogue: &Catalogue) -> Result<(), Refusal> {
        let damaged = |text: &str| Err(Refusal::Damaged(text.to_owned()));
        let scaffold = |kind: &str| self.nodes.iter().filter(|node| node.kind == kind).count();
        if scaffold(REQUEST) != 1 || scaffold(RESPONSE) != 1 {
            return damaged("it needs exactly one Request and one Response node");
        }
        if self.nodes.len() > MAX_NODES || self.edges.len() > MAX_EDGES {
            return Err(Refusal::TooLarge);
        }
        let mut names = self.nodes.iter().flat_map(|node| [&node.id, &node.data.label]).chain(self.edges.iter().map(|edge| &edge.id));
        if names.any(|name| name.contains('\0') || name.chars().count() > MAX_NAME) {
            return Err(Refusal::Damaged(format!("ids and labels have at most {MAX_NAME} characters and hold no NUL")));
        }
        let mut ids = HashSet::new();
        if !self.nodes.iter().map(|node| &node.id).chain(self.edges.iter().map(|edge| &edge.id)).all(|id| ids.insert(id)) {
            return damaged("two nodes or edges have the same id");
        }
        for node in &self.nodes {
            if node.data.inputs.is_empty() && node.data.policy == Policy::default() {
                known_type(catalogue, node)?;
                continue;
            }
            check_policy(&node.data.policy)?;
            let kind = known_type(catalogue, node)?;
            if !super::is_scaffold(&kind.key) {
                check_inputs(kind, &node.data.inputs)?;
            }
        }
        self.check_edges(catalogue)?;
        self.check_size()
    }

    /// Checks that a graph is not larger than it may be.
    ///
    /// # Errors
    /// [`Refusal::TooLarge`].
    pub fn check_size(&self) -> Result<(), Refusal> {
        let size = serde_json::to_string(self).map_or(usize::MAX, |text| text.len());
        if size > MAX_BYTES { Err(Refusal::TooLarge) } else { Ok(()) }
    }

    fn check_edges(&self, catalogue: &Catalogue) -> Result<(), Refusal> {
        let nodes: HashMap<&str, &Node> = self.nodes.iter().map(|node| (node.id.as_str(), node)).collect();
        let find = |id: &str| nodes.get(id).copied().ok_or_else(|| Refusal::NodeNotFound(id.chars().take(80).collect()));
        let mut taken = HashSet::new();
        for edge in &self.edges {
            let source_type = source_port(catalogue, find(&edge.source)?, &edge.source_handle)?;
            let port = target_port(catalogue, find(&edge.target)?, &edge.target_handle)?;
            if !port.kind.takes(source_type) {
                return Err(Refusal::Types { source_type: source_type.as_str(), target_type: port.kind.as_str() });
            }
            if !port.many && !taken.insert((&edge.target, &edge.target_handle)) {
                return Err(Refusal::Taken { node: edge.target.clone(), handle: edge.target_handle.clone() });
            }
        }
        if self.order().is_some() { Ok(()) } else { Err(Refusal::Cycle("the edges run in a circle".to_owned())) }
    }

    /// The nodes in an order in which each comes after those that it depends on; `None` when there is a cycle.
    #[must_use]
    pub fn order(&self) -> Option<Vec<&str>> {
        let mut missing: HashMap<&str, usize> = self.nodes.iter().map(|node| (node.id.as_str(), 0)).collect();
        let mut next: HashMap<&str, Vec<&str>> = HashMap::new();
        for edge in &self.edges {
            *missing.entry(&edge.target).or_default() += 1;
            next.entry(&edge.source).or_default().push(&edge.target);
        }
        let mut order: Vec<&str> = self.nodes.iter().map(|node| node.id.as_str()).filter(|id| missing[id] == 0).collect();
        let mut at = 0;
        while at < order.len() {
            for target in next.get(order[at]).into_iter().flatten() {
                if let Some(left) = missing.get_mut(target) {
                    *left -= 1;
                    if *left == 0 {
                        order.push(target);
                    }
                }
            }
            at += 1;
        }
        (order.len() == missing.len()).then_some(order)
    }
}

#[cfg(test)]
mod tests;
