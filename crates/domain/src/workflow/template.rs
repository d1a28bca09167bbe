//! Workflows that every account can start and none can change, by their slugs (`contracts/flow.md` 0).

use serde_json::{Map, Value, json};

use super::catalogue::{Catalogue, Category};
use super::edit::{NewEdge, NewNode, Place, Refusal};
use super::{Graph, PortType, RequestField, field_id};

/// A read-only workflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Template {
    /// What it is started by.
    pub slug: &'static str,
    /// For people.
    pub name: &'static str,
    /// For people.
    pub description: &'static str,
    /// The family.
    pub category: Category,
    fields: &'static [(&'static str, PortType)],
    nodes: &'static [(&'static str, &'static str, &'static str)],
    edges: &'static [(&'static str, &'static str, &'static str, &'static str)],
}

/// All of them.
pub const TEMPLATES: [Template; 3] = [
    Template {
        slug: "fetch-json",
        name: "Fetch JSON",
        description: "Asks an address and picks a part out of its answer with a jq program",
        category: Category::Utility,
        fields: &[("url", PortType::Text), ("query", PortType::Text)],
        nodes: &[("fetch", "http_request", "{}"), ("pick", "json_transform", r#"{"query": "."}"#)],
        edges: &[
            ("request", "url", "fetch", "in:url"),
            ("fetch", "out:body", "pick", "in:input"),
            ("request", "query", "pick", "in:query"),
            ("pick", "out:result", "response", "result"),
        ],
    },
    Template {
        slug: "fill-template",
        name: "Fill a template",
        description: "Fills a text template with values",
        category: Category::Utility,
        fields: &[("template", PortType::Text), ("values", PortType::Any)],
        nodes: &[("fill", "text_template", "{}")],
        edges: &[
            ("request", "template", "fill", "in:template"),
            ("request", "values", "fill", "in:values"),
            ("fill", "out:result", "response", "result"),
        ],
    },
    Template {
        slug: "crop-to-centre",
        name: "Crop to the centre",
        description: "Cuts the middle half out of a picture",
        category: Category::Image,
        fields: &[("image", PortType::Image)],
        nodes: &[("crop", "crop_image", r#"{"x_percent": 25, "y_percent": 25, "width_percent": 50, "height_percent": 50}"#)],
        edges: &[("request", "image", "crop", "in:image_url"), ("crop", "out:image_url", "response", "result")],
    },
];

impl Template {
    /// The one of a slug.
    #[must_use]
    pub fn of(slug: &str) -> Option<&'static Self> {
        TEMPLATES.iter().find(|template| template.slug == slug)
    }

    /// Its graph. The ids are the same each time.
    ///
    /// # Errors
    /// The catalogue lacks a type that it uses.
    pub fn graph(&self, catalogue: &Catalogue) -> Result<Graph, Refusal> {
        let fields = self.fields.iter().map(|(name, kind)| {
            let value = if *kind == PortType::Any { json!({}) } else { Value::Null };
            RequestField { id: field_id(name), name: (*name).to_owned(), kind: *kind, value }
        });
        let mut graph = Graph::scaffold(0, fields.collect());
        let id = |name: &str| format!("node_0_{name}");
        for (name, kind, inputs) in self.nodes {
            let inputs: Map<String, Value> = serde_json::from_str(inputs).unwrap_or_default();
            graph.add_node(catalogue, NewNode { id: id(name), kind: (*kind).to_owned(), place: Place::default(), inputs, mode: None })?;
        }
        for (at, (source, out, target, input)) in self.edges.iter().enumerate() {
            let source_handle = if *source == super::REQUEST { field_id(out) } else { (*out).to_owned() };
            let (source, target, target_handle) = (id(source), id(target), (*input).to_owned());
            graph.connect(catalogue, NewEdge { id: format!("edge_0_{at}"), source, source_handle, target, target_handle })?;
        }
        Ok(graph)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_can_run() {
        let catalogue = Catalogue::new([]);
        for template in &TEMPLATES {
            let graph = template.graph(&catalogue).unwrap_or_else(|refusal| panic!("{}: {refusal}", template.slug));
            assert_eq!(graph.check(&catalogue), Ok(()), "{}", template.slug);
        }
    }
}
