//! Workflows: graphs of nodes, what a node may be, and how a run goes through a graph (`contracts/flow.md` 4, 5).

pub mod catalogue;
pub mod edit;
pub mod field;
pub mod hide;
pub mod machine;
pub mod run;
pub mod sniff;
pub mod template;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{UserId, WorkflowId, WorkspaceId};

/// The scaffold's first node: what a caller gives.
pub const REQUEST: &str = "request";
/// The scaffold's last node: what a caller gets.
pub const RESPONSE: &str = "response";

/// Files that a workflow brings along: what its caller would give, given beforehand.
pub const FILE_INPUT: &str = "file_input";

/// Nodes of one graph at the most.
pub const MAX_NODES: usize = 2_000;
/// Edges of one graph at the most.
pub const MAX_EDGES: usize = 10_000;
/// Bytes of one graph at the most, as JSON.
pub const MAX_BYTES: usize = 4_000_000;
/// Characters of an id or a label at the most.
pub const MAX_NAME: usize = 200;

/// A workflow as its owner edits it.
#[derive(Clone, Debug, PartialEq)]
pub struct Workflow {
    /// Identity.
    pub id: WorkflowId,
    /// The tenant.
    pub workspace_id: WorkspaceId,
    /// Who made it.
    pub user_id: UserId,
    /// What its owner calls it.
    pub name: String,
    /// Free text.
    pub description: String,
    /// Its nodes and edges.
    pub graph: Graph,
    /// Grows with every change, so that two editors cannot overwrite each other unseen.
    pub version: u32,
    /// When.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// Nodes and edges, as published (`contracts/flow.md` 4.1) and persisted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Graph {
    /// In the order in which they were added.
    #[serde(default)]
    pub nodes: Vec<Node>,
    /// In the order in which they were drawn.
    #[serde(default)]
    pub edges: Vec<Edge>,
    /// Where the editor's camera was left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub viewport: Option<Value>,
}

/// A step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// `node_<ms>_…`, unique within the graph.
    pub id: String,
    /// A key of the catalogue.
    #[serde(rename = "type")]
    pub kind: String,
    /// Where the editor draws it.
    pub position: Position,
    /// What it was told.
    #[serde(default)]
    pub data: NodeData,
}

/// A place on the editor's canvas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Position {
    /// To the right.
    pub x: f64,
    /// Down.
    pub y: f64,
}

/// What a node was told.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeData {
    /// What the editor writes on it.
    #[serde(default)]
    pub label: String,
    /// Values of its inputs; an edge to the same input wins.
    #[serde(default)]
    pub inputs: Map<String, Value>,
    /// Which of several ways the type works, where it has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// Of the Request node: what a caller may give.
    #[serde(default, rename = "dynamicFields", skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<RequestField>,
    /// What happens when it fails or takes long.
    #[serde(default, skip_serializing_if = "Policy::is_default")]
    pub policy: Policy,
}

/// Something that a caller may give to a workflow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RequestField {
    /// `field_<slug>`.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// What may be given.
    #[serde(rename = "type")]
    pub kind: PortType,
    /// What counts when nothing is given.
    #[serde(default)]
    pub value: Value,
}

/// What happens when a node fails or takes long, and how often it is performed at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Policy {
    /// Further attempts after a failure, at most 10.
    pub retries: u32,
    /// The pause before the first of them; each next one is twice as long, up to an hour.
    pub backoff_ms: u64,
    /// How long an attempt may take; the type's own limit when absent.
    pub timeout_ms: Option<u64>,
    /// Whether a node that has failed for good ends the run.
    pub on_error: OnError,
    /// How often the node is performed at the same time, over all runs of its workflow; as often as runs come to it when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
}

/// What a failure means for the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnError {
    /// The run fails.
    #[default]
    Fail,
    /// The run goes on; the node's output is `{"error": …}`.
    Continue,
}

/// Further attempts at the most.
pub const MAX_RETRIES: u32 = 10;
/// The largest limit of a node's own on how often it is performed at the same time.
pub const MAX_CONCURRENCY: u32 = 100;

impl Default for Policy {
    fn default() -> Self {
        Self { retries: 0, backoff_ms: 1000, timeout_ms: None, on_error: OnError::Fail, concurrency: None }
    }
}

impl Policy {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The pause before an attempt, counted from 1 for the first repetition. Milliseconds.
    #[must_use]
    pub fn pause(&self, repetition: u32) -> u64 {
        self.backoff_ms.saturating_mul(1 << repetition.saturating_sub(1).min(20)).min(3_600_000)
    }
}

/// A connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Edge {
    /// Unique within the graph.
    pub id: String,
    /// The node that gives.
    pub source: String,
    /// `out:<name>`; of the Request node a field's id.
    pub source_handle: String,
    /// The node that takes.
    pub target: String,
    /// `in:<name>`; of the Response node `result`.
    pub target_handle: String,
}

/// What passes through a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PortType {
    /// Words.
    Text,
    /// The URL of an image.
    Image,
    /// The URL of a video.
    Video,
    /// The URL of a sound.
    Audio,
    /// The URL of a video or a sound.
    #[serde(alias = "media")]
    Avmedia,
    /// The URL of a file.
    File,
    /// A number.
    Number,
    /// Yes or no.
    Boolean,
    /// One of a list of words.
    Select,
    /// Anything.
    Any,
}

impl PortType {
    /// Every type.
    pub const ALL: [Self; 10] = [
        Self::Text,
        Self::Image,
        Self::Video,
        Self::Audio,
        Self::Avmedia,
        Self::File,
        Self::Number,
        Self::Boolean,
        Self::Select,
        Self::Any,
    ];

    /// As on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Image => "image",
            Self::Video => "video",
            Self::Audio => "audio",
            Self::Avmedia => "avmedia",
            Self::File => "file",
            Self::Number => "number",
            Self::Boolean => "boolean",
            Self::Select => "select",
            Self::Any => "any",
        }
    }

    /// Reads a type. Clients also say `media` for `avmedia`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text == "media" {
            return Some(Self::Avmedia);
        }
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// Whether its values are URLs of files.
    #[must_use]
    pub fn is_media(self) -> bool {
        matches!(self, Self::Image | Self::Video | Self::Audio | Self::Avmedia | Self::File)
    }

    /// Whether an input of this type takes what an output of `source` gives. Numbers and truth values can be written as text.
    #[must_use]
    pub fn takes(self, source: Self) -> bool {
        use PortType::{Any, Audio, Avmedia, Boolean, File, Number, Select, Text, Video};
        self == source
            || self == Any
            || source == Any
            || matches!((self, source), (Avmedia, Video | Audio) | (Text, Number | Boolean | Select) | (Select, Text))
            || (self == File && source.is_media())
    }
}

impl Graph {
    /// A node.
    #[must_use]
    pub fn node(&self, id: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.id == id)
    }

    /// The Request node.
    #[must_use]
    pub fn request(&self) -> Option<&Node> {
        self.nodes.iter().find(|node| node.kind == REQUEST)
    }

    /// The Response node.
    #[must_use]
    pub fn response(&self) -> Option<&Node> {
        self.nodes.iter().find(|node| node.kind == RESPONSE)
    }

    /// The nodes that do something: all but the scaffold.
    pub fn processing(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| !is_scaffold(&node.kind))
    }
}

/// Whether a type belongs to every workflow and cannot be deleted.
#[must_use]
pub fn is_scaffold(kind: &str) -> bool {
    kind == REQUEST || kind == RESPONSE
}

/// The id of a field that the API makes: lower case, runs of other characters become `_` (`contracts/flow.md` 0).
#[must_use]
pub fn field_id(name: &str) -> String {
    let mut slug = String::new();
    for c in name.trim().chars().flat_map(char::to_lowercase) {
        if c.is_ascii_alphanumeric() {
            slug.push(c);
        } else if !slug.ends_with('_') {
            slug.push('_');
        }
    }
    format!("field_{}", slug.trim_matches('_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_called_after_its_name() {
        assert_eq!(field_id("Car prompt"), "field_car_prompt");
        assert_eq!(field_id("image_prompt"), "field_image_prompt");
        assert_eq!(field_id(" Größe (cm) "), "field_gr_e_cm");
    }

    #[test]
    fn what_fits_where() {
        use PortType::*;
        assert!(Any.takes(Video) && Text.takes(Any) && Avmedia.takes(Audio) && Text.takes(Number) && File.takes(Image));
        assert!(!Image.takes(Text) && !Number.takes(Text) && !Video.takes(Avmedia) && !Text.takes(Image) && !Boolean.takes(Number));
    }

    #[test]
    fn pauses_double_up_to_an_hour() {
        let policy = Policy { backoff_ms: 500, ..Policy::default() };
        assert_eq!([1, 2, 3, 40].map(|n| policy.pause(n)), [500, 1000, 2000, 3_600_000]);
    }
}
