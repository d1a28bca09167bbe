//! Variables on their way from JSON into the library.
//!
//! The client of Railway's command line sends every variable, unset ones as null, so a null is read as absent
//! (`contracts/railway.md` 3.1). JSON documents are wrapped as one leaf where the schema has a scalar that holds them.

use juniper::meta::{InputObjectMeta, MetaType};
use juniper::{InputValue, Spanning, Variables};
use serde_json::{Map, Value as Json};

use super::document::Document;
use super::scalar::JSON_SCALARS;
use super::{Scalar, Types};

/// Telemetry of clients: taken in any shape and dropped (`contracts/railway.md` 1.7).
const DROPPED: &[&str] = &["CliEventTrackInput", "CliAuthEventTrackInput", "SetupAgentEventTrackInput"];

/// Fields of which null says something else than absence (`contracts/railway.md` 3.1). Railway's command line leaves settings of a service
/// out that it does not set; the Terraform provider sends its schedule every time, null for one that was taken out of the configuration.
const NULL_SPEAKS: &[(&str, &str)] =
    &[("ServiceInstanceUpdateInput", "cronSchedule"), ("VolumeCreateInput", "environmentId"), ("VolumeInstanceUpdateInput", "serviceId")];

/// Fields of the contract that ask for something which this server does not do, and that are false where it is not wanted: a client with
/// generated types sends each of them every time.
const FALSE_IS_ABSENT: &[(&str, &str)] = &[
    ("EnvironmentCreateInput", "stageInitialChanges"),
    ("ProjectCreateInput", "isMonorepo"),
    ("ProjectUpdateInput", "botPrEnvironments"),
    ("ProjectUpdateInput", "focusedPrEnvironments"),
    ("ServiceInstanceUpdateInput", "autoInstrumentationEnabled"),
    ("ServiceInstanceUpdateInput", "ipv6EgressEnabled"),
    ("ServiceInstanceUpdateInput", "tracingEnabled"),
];

/// Whether null says something in a field of an input.
pub(super) fn null_speaks(type_name: &str, field: &str) -> bool {
    NULL_SPEAKS.contains(&(type_name, field))
}

/// The variables of a request for its document.
pub(crate) fn read(document: &Document, given: &Map<String, Json>, schema: &Types) -> Variables<Scalar> {
    let mut variables = Variables::new();
    for declared in &document.declared {
        match given.get(&declared.name) {
            Some(Json::Null) if document.speaking.contains(&declared.name) => {
                variables.insert(declared.name.clone(), InputValue::Null);
            }
            None | Some(Json::Null) => {}
            Some(value) => {
                variables.insert(declared.name.clone(), convert(value, &declared.type_name, schema));
            }
        }
    }
    for (name, literal) in &document.lifted {
        variables.insert(name.clone(), leaf(&literal_to_json(literal)));
    }
    variables
}

fn leaf(value: &Json) -> InputValue<Scalar> {
    InputValue::Scalar(Scalar::of(value.clone()))
}

fn convert(value: &Json, type_name: &str, schema: &Types) -> InputValue<Scalar> {
    if value.is_null() {
        return InputValue::Null;
    }
    if JSON_SCALARS.contains(&type_name) {
        return leaf(value);
    }
    match value {
        Json::Array(items) => InputValue::list(items.iter().map(|item| convert(item, type_name, schema)).collect()),
        Json::Object(fields) => match schema.concrete_type_by_name(type_name) {
            Some(MetaType::InputObject(meta)) if DROPPED.contains(&type_name) => filler(meta),
            Some(MetaType::InputObject(meta)) => object(fields, meta, schema),
            _ => InputValue::parsed_object(
                fields
                    .iter()
                    .map(|(name, value)| (Spanning::unlocated(name.clone()), Spanning::unlocated(convert(value, "", schema))))
                    .collect(),
            ),
        },
        other => leaf(other),
    }
}

fn object(fields: &Map<String, Json>, meta: &InputObjectMeta<Scalar>, schema: &Types) -> InputValue<Scalar> {
    let mut out = vec![];
    for (name, value) in fields {
        let known = meta.input_fields.iter().find(|field| field.name == *name);
        // A field that this server does not have is an error when it says something, and nothing when it is null.
        let place = (&*meta.name, name.as_str());
        if *value == Json::Bool(false) && known.is_none() && FALSE_IS_ABSENT.contains(&place) {
            continue;
        }
        if value.is_null() && !null_speaks(place.0, place.1) && known.is_none_or(|field| !field.arg_type.is_non_null()) {
            continue;
        }
        let type_name = known.map_or("", |field| field.arg_type.innermost_name());
        out.push((Spanning::unlocated(name.clone()), Spanning::unlocated(convert(value, type_name, schema))));
    }
    InputValue::parsed_object(out)
}

/// An object that is valid for its type and says nothing.
fn filler(meta: &InputObjectMeta<Scalar>) -> InputValue<Scalar> {
    let required = meta.input_fields.iter().filter(|field| field.arg_type.is_non_null());
    InputValue::parsed_object(
        required
            .map(|field| {
                let value = match field.arg_type.innermost_name() {
                    "Boolean" => Scalar::Boolean(false),
                    "Int" => Scalar::Int(0),
                    _ => Scalar::String(String::new()),
                };
                (Spanning::unlocated(field.name.to_string()), Spanning::unlocated(InputValue::Scalar(value)))
            })
            .collect(),
    )
}

fn literal_to_json(literal: &InputValue<Scalar>) -> Json {
    match literal {
        InputValue::Null | InputValue::Variable(_) => Json::Null,
        InputValue::Scalar(leaf) => leaf.to_json(),
        InputValue::Enum(name) => Json::from(name.as_str()),
        InputValue::List(items) => items.iter().map(|item| literal_to_json(&item.item)).collect(),
        InputValue::Object(fields) => {
            Json::Object(fields.iter().map(|(name, value)| (name.item.clone(), literal_to_json(&value.item))).collect())
        }
    }
}
