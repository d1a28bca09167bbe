//! How a run goes through a graph: which nodes are ready, what they are given, and when the run is over. The engine acts; this decides.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::catalogue::Catalogue;
use super::{Graph, Node, OnError, Policy, PortType, REQUEST, RESPONSE, RequestField};

/// The output of a node that has failed and whose run goes on, and the port `out:error` where it can be read.
pub const ERROR: &str = "error";

#[derive(Clone, Debug, PartialEq)]
enum State {
    /// Something before it is not settled.
    Waiting,
    /// Handed out.
    Running,
    /// Has given its output.
    Done(Arc<Map<String, Value>>),
    /// Nothing arrives there: all that leads to it was left out.
    Skipped,
    /// Has failed for good.
    Failed,
}

/// Where a run stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nodes are ready or at work.
    Going,
    /// Every node is settled.
    Completed,
    /// A node has failed, and nothing is at work any more.
    Failed(String),
}

/// A run on its way through its graph.
#[derive(Clone, Debug)]
pub struct Progress {
    graph: Arc<Graph>,
    values: Map<String, Value>,
    states: Vec<State>,
    incoming: Vec<Vec<usize>>,
    outgoing: Vec<Vec<usize>>,
    sources: Vec<usize>,
    targets: Vec<usize>,
    missing: Vec<usize>,
    ready: VecDeque<usize>,
    known: HashMap<usize, Map<String, Value>>,
    unsettled: usize,
    running: usize,
    failure: Option<String>,
}

impl Progress {
    /// A run of `graph` with what the caller gave, in which the nodes of `known` have given their outputs already.
    #[must_use]
    pub fn new(graph: Arc<Graph>, values: Map<String, Value>, known: HashMap<String, Map<String, Value>>) -> Self {
        let index: HashMap<&str, usize> = graph.nodes.iter().enumerate().map(|(at, node)| (node.id.as_str(), at)).collect();
        let count = graph.nodes.len();
        let (mut incoming, mut outgoing) = (vec![vec![]; count], vec![vec![]; count]);
        let (mut sources, mut targets) = (vec![], vec![]);
        for (at, edge) in graph.edges.iter().enumerate() {
            // A graph is checked before it runs, so that every edge has its ends.
            let (source, target) = (index.get(edge.source.as_str()).copied(), index.get(edge.target.as_str()).copied());
            let (source, target) = (source.unwrap_or_default(), target.unwrap_or_default());
            outgoing[source].push(at);
            incoming[target].push(at);
            sources.push(source);
            targets.push(target);
        }
        let missing: Vec<usize> = incoming.iter().map(Vec::len).collect();
        let ready = (0..count).filter(|at| missing[*at] == 0).collect();
        let known = known.into_iter().filter_map(|(id, output)| Some((*index.get(id.as_str())?, output))).collect();
        let states = vec![State::Waiting; count];
        Self {
            graph,
            values,
            states,
            incoming,
            outgoing,
            sources,
            targets,
            missing,
            ready,
            known,
            unsettled: count,
            running: 0,
            failure: None,
        }
    }

    /// A node by its number.
    #[must_use]
    pub fn node(&self, at: usize) -> &Node {
        &self.graph.nodes[at]
    }

    /// Nodes that are handed out and not settled.
    #[must_use]
    pub fn running(&self) -> usize {
        self.running
    }

    /// The next node to execute, if one is ready now. After a failure none is.
    pub fn take_next(&mut self) -> Option<usize> {
        while self.failure.is_none() {
            let at = self.ready.pop_front()?;
            if let Some(output) = self.known.remove(&at) {
                self.settle(at, State::Done(Arc::new(output)));
            } else if self.is_left_out(at) {
                self.settle(at, State::Skipped);
            } else {
                self.states[at] = State::Running;
                self.running += 1;
                return Some(at);
            }
        }
        None
    }

    /// A node has given its output.
    pub fn done(&mut self, at: usize, output: Map<String, Value>) {
        self.running -= 1;
        self.settle(at, State::Done(Arc::new(output)));
    }

    /// A node has failed for good.
    pub fn failed(&mut self, at: usize, error: &str) {
        self.running -= 1;
        let label = &self.node(at).data.label;
        let name = if label.is_empty() { self.node(at).kind.as_str() } else { label.as_str() };
        let failure = format!("{name}: {error}");
        self.failure.get_or_insert(failure);
        self.settle(at, State::Failed);
    }

    /// Where the run stands.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match &self.failure {
            Some(error) if self.running == 0 => Verdict::Failed(error.clone()),
            None if self.unsettled == 0 => Verdict::Completed,
            _ => Verdict::Going,
        }
    }

    fn settle(&mut self, at: usize, state: State) {
        self.states[at] = state;
        self.unsettled -= 1;
        for edge in &self.outgoing[at] {
            let target = self.targets[*edge];
            self.missing[target] -= 1;
            if self.missing[target] == 0 {
                self.ready.push_back(target);
            }
        }
    }

    /// Whether edges lead to a node and none of them brings anything.
    fn is_left_out(&self, at: usize) -> bool {
        !self.incoming[at].is_empty()
            && self.graph.nodes[at].kind != RESPONSE
            && self.incoming[at].iter().all(|edge| self.brought(*edge).is_none())
    }

    /// About how many bytes a node would be given, told before they are put together. Counting ends soon after `enough`.
    #[must_use]
    pub fn weight(&self, at: usize, enough: usize) -> usize {
        let node = self.node(at);
        let mut sum = self.values.get(&node.id).map_or(0, weight) + weight_of(&node.data.inputs);
        for edge in &self.incoming[at] {
            if sum > enough {
                break;
            }
            sum += self.brought(*edge).map_or(0, weight);
        }
        sum
    }

    /// What an edge brings: nothing when its source has given nothing at that port.
    fn brought(&self, edge: usize) -> Option<&Value> {
        let State::Done(output) = &self.states[self.sources[edge]] else { return None };
        let handle = &self.graph.edges[edge].source_handle;
        output.get(handle.strip_prefix("out:").unwrap_or(handle))
    }

    /// The output of a node that belongs to the scaffold: it needs no execution.
    #[must_use]
    pub fn scaffold(&self, at: usize) -> Option<Map<String, Value>> {
        let node = self.node(at);
        match node.kind.as_str() {
            REQUEST => Some(self.request_output(node)),
            RESPONSE => Some(self.response_output(at)),
            _ => None,
        }
    }

    /// Every field twice, under its name and its id (`contracts/flow.md` 1.2).
    fn request_output(&self, node: &Node) -> Map<String, Value> {
        let given = self.values.get(&node.id).and_then(Value::as_object);
        let mut out = Map::new();
        for field in &node.data.fields {
            let value = given.and_then(|given| given.get(&field.id).or_else(|| given.get(&field.name)));
            let value = field_value(field, value.filter(|value| !is_nothing(field.kind, value)).unwrap_or(&field.value));
            out.insert(field.name.clone(), value.clone());
            out.insert(field.id.clone(), value);
        }
        out
    }

    /// What arrives, by the type of the node that it comes from; a second one of a type is `<type>_2`.
    fn response_output(&self, at: usize) -> Map<String, Value> {
        let mut out = Map::new();
        for edge in &self.incoming[at] {
            let Some(value) = self.brought(*edge) else { continue };
            let kind = &self.node(self.sources[*edge]).kind;
            let mut key = kind.clone();
            let mut count = 1;
            while out.contains_key(&key) {
                count += 1;
                key = format!("{kind}_{count}");
            }
            out.insert(key, value.clone());
        }
        out
    }

    /// Whether an input of a node is as the graph says: neither the caller nor an edge has put something in its place.
    #[must_use]
    pub fn is_told(&self, at: usize, name: &str) -> bool {
        let node = self.node(at);
        let given = self.values.get(&node.id).and_then(Value::as_object).is_some_and(|given| given.contains_key(name));
        let brings = |edge: &usize| {
            let handle = &self.graph.edges[*edge].target_handle;
            handle.strip_prefix("in:").unwrap_or(handle) == name && self.brought(*edge).is_some_and(|value| !value.is_null())
        };
        node.data.inputs.contains_key(name) && !given && !self.incoming[at].iter().any(brings)
    }

    /// What a node is given: the type's defaults, what it was told, what the caller set, and above all what edges bring.
    ///
    /// # Errors
    /// The type is not offered (any more), or a value is missing or not of the kind that it takes.
    pub fn input(&self, at: usize, catalogue: &Catalogue) -> Result<Map<String, Value>, String> {
        let node = self.node(at);
        let kind = catalogue.get(&node.kind).ok_or_else(|| format!("Unknown node type: {}", node.kind))?;
        let mut out = Map::new();
        for input in &kind.inputs {
            if let Some(value) = input.default_value() {
                out.insert(input.name.to_owned(), value);
            }
        }
        let overridden = self.values.get(&node.id).and_then(Value::as_object);
        for (name, value) in node.data.inputs.iter().chain(overridden.into_iter().flatten()) {
            out.insert(name.clone(), value.clone());
        }
        let mut lists: HashMap<&str, Vec<Value>> = HashMap::new();
        for edge in &self.incoming[at] {
            let Some(value) = self.brought(*edge) else { continue };
            let handle = &self.graph.edges[*edge].target_handle;
            let name = handle.strip_prefix("in:").unwrap_or(handle);
            match kind.input(name) {
                Some(input) if input.many => lists.entry(name).or_default().push(value.clone()),
                // Nothing has come, so that what counts then counts.
                Some(_) if value.is_null() => {}
                _ => {
                    out.insert(name.to_owned(), value.clone());
                }
            }
        }
        for (name, values) in lists {
            out.insert(name.to_owned(), Value::Array(values));
        }
        for input in &kind.inputs {
            let fitted = out.shift_remove(input.name).filter(|value| !value.is_null()).map(|value| input.fit(value));
            let Some(value) = fitted else {
                if input.required {
                    return Err(format!("{}: required, and nothing was given", input.name));
                }
                continue;
            };
            if let Some(reason) = input.refuse(&value) {
                return Err(format!("{}: {reason}", input.name));
            }
            out.insert(input.name.to_owned(), value);
        }
        Ok(out)
    }
}

/// About how many bytes a value takes as JSON.
#[must_use]
pub fn weight(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) => 5,
        Value::Number(_) => 12,
        Value::String(text) => text.len() + 2,
        Value::Array(all) => all.iter().map(|one| weight(one) + 1).sum::<usize>() + 2,
        Value::Object(all) => weight_of(all),
    }
}

/// The same for the entries of an object.
#[must_use]
pub fn weight_of(all: &Map<String, Value>) -> usize {
    all.iter().map(|(key, one)| key.len() + weight(one) + 4).sum::<usize>() + 2
}

/// Whether a field was left empty: forms send "" for what is not text, too.
fn is_nothing(kind: PortType, value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty() && matches!(kind, PortType::Number | PortType::Boolean | PortType::Select),
        _ => false,
    }
}

/// A field's value in the form that its type has: files are lists of URLs, and an empty field is "" for text alone.
fn field_value(field: &RequestField, value: &Value) -> Value {
    match value {
        value if field.kind.is_media() => match value {
            Value::Array(all) => Value::Array(all.clone()),
            Value::Null => json!([]),
            Value::String(text) if text.is_empty() => json!([]),
            one => json!([one]),
        },
        Value::Null if field.kind == PortType::Text => Value::String(String::new()),
        value if is_nothing(field.kind, value) => Value::Null,
        value => value.clone(),
    }
}

/// What follows a failed attempt.
#[derive(Clone, Debug, PartialEq)]
pub enum After {
    /// Another attempt, so many milliseconds from now.
    Again(u64),
    /// The run goes on with this output.
    Continue(Map<String, Value>),
    /// The node has failed.
    Fail,
}

/// What follows when an attempt has failed, the first one or, with `failures` above 1, a later one. `repeatable` is false for errors that
/// another attempt would meet again.
#[must_use]
pub fn after_failure(policy: &Policy, failures: u32, repeatable: bool, error: &str) -> After {
    if repeatable && failures <= policy.retries {
        return After::Again(policy.pause(failures));
    }
    match policy.on_error {
        OnError::Fail => After::Fail,
        OnError::Continue => After::Continue(Map::from_iter([(ERROR.to_owned(), Value::String(error.to_owned()))])),
    }
}

#[cfg(test)]
mod tests;
