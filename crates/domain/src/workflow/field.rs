//! What a node's input is, and whether a value may stand there (`contracts/flow.md` 1.8).

use serde_json::{Value, json};

use super::PortType;

/// One input of a node type: a form field, and a port `in:<name>`.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    /// Its key, and its port's name.
    pub name: &'static str,
    /// What an edge may bring.
    pub port: PortType,
    /// Whether several edges may end here; the value is a list then.
    pub many: bool,
    /// Whether the node cannot work without.
    pub required: bool,
    /// How a form asks for it.
    pub form: Form,
    /// What counts when nothing is given, as JSON.
    pub default: Option<&'static str>,
    /// For people.
    pub description: &'static str,
}

/// How a form asks for a value, and what the value may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Form {
    /// Text of at most so many characters.
    Text(usize),
    /// A number in a range.
    Number(f64, f64),
    /// A number in a range, for which a slider is enough.
    Slider(f64, f64),
    /// One of these words.
    Select(&'static [&'static str]),
    /// Yes or no.
    Switch,
    /// URLs of files, at most so many; one when 1.
    Media(usize),
    /// Any JSON.
    Json,
}

impl Form {
    fn kind(self, port: PortType) -> &'static str {
        match self {
            Self::Text(_) => "textarea",
            Self::Number(..) => "number",
            Self::Slider(..) => "slider",
            Self::Select(_) => "select",
            Self::Switch => "switch",
            Self::Media(_) => port.as_str(),
            Self::Json => "json",
        }
    }

    fn data(self) -> &'static str {
        match self {
            Self::Text(_) | Self::Select(_) | Self::Media(1) => "string",
            Self::Number(..) | Self::Slider(..) => "number",
            Self::Switch => "boolean",
            Self::Media(_) => "string[]",
            Self::Json => "any",
        }
    }
}

impl Input {
    /// The field as `GET /v1/models/{id}/schema` lists it.
    #[must_use]
    pub fn describe(&self) -> Value {
        let mut out = json!({
            "name": self.name,
            "type": self.form.kind(self.port),
            "dataType": self.form.data(),
            "required": self.required,
            "description": self.description,
        });
        match self.form {
            Form::Text(max) => out["maxLength"] = max.into(),
            Form::Number(min, max) | Form::Slider(min, max) => {
                out["min"] = min.into();
                out["max"] = max.into();
            }
            Form::Select(options) => out["options"] = json!(options),
            Form::Media(max) if max > 1 => out["maxItems"] = max.into(),
            Form::Media(_) | Form::Switch | Form::Json => {}
        }
        if let Some(default) = self.default_value() {
            out["default"] = default;
        }
        out
    }

    /// What counts when nothing is given.
    #[must_use]
    pub fn default_value(&self) -> Option<Value> {
        self.default.and_then(|text| serde_json::from_str(text).ok())
    }

    /// Brings a value into the form that the node expects: one of a list where one is asked for, a list where several are, words for
    /// numbers where words are.
    #[must_use]
    pub fn fit(&self, value: Value) -> Value {
        match (self.form, value) {
            (Form::Media(max), value) if max > 1 => match value {
                Value::Array(all) => Value::Array(flat(all)),
                Value::Null => Value::Array(vec![]),
                one => Value::Array(vec![one]),
            },
            (Form::Json, value) => value,
            (Form::Text(_), Value::Number(number)) => Value::String(number.to_string()),
            (Form::Text(_), Value::Bool(yes)) => Value::String(yes.to_string()),
            (Form::Text(_), value @ Value::Object(_)) => Value::String(value.to_string()),
            (Form::Text(_), Value::Array(all)) if all.len() != 1 => Value::String(Value::Array(all).to_string()),
            (_, Value::Array(mut all)) if all.len() == 1 => self.fit(all.remove(0)),
            (Form::Media(_), Value::Array(mut all)) if !all.is_empty() => all.swap_remove(0),
            (Form::Number(..) | Form::Slider(..), Value::String(text)) => match serde_json::from_str(text.trim()) {
                Ok(Value::Number(number)) => Value::Number(number),
                _ => Value::String(text),
            },
            (_, value) => value,
        }
    }

    /// Why a value may not stand here; absence is judged by [`Input::required`].
    #[must_use]
    pub fn refuse(&self, value: &Value) -> Option<String> {
        let wrong = |expected: &str| Some(format!("Invalid input: expected {expected}, received {}", type_name(value)));
        match (self.form, value) {
            (Form::Text(max), Value::String(text)) if text.chars().count() > max => {
                Some(format!("Too big: expected string to have <={max} characters"))
            }
            (Form::Text(_), Value::String(_)) | (Form::Json, _) | (Form::Switch, Value::Bool(_)) => None,
            (Form::Text(_), _) => wrong("string"),
            (Form::Number(min, max) | Form::Slider(min, max), Value::Number(number)) => {
                let number = number.as_f64().unwrap_or(f64::NAN);
                if number < min {
                    Some(format!("Too small: expected number to be >={min}"))
                } else if number > max || number.is_nan() {
                    Some(format!("Too big: expected number to be <={max}"))
                } else {
                    None
                }
            }
            (Form::Number(..) | Form::Slider(..), _) => wrong("number"),
            (Form::Select(options), Value::String(text)) if options.contains(&text.as_str()) => None,
            (Form::Select(options), _) => Some(format!("Invalid option: expected one of {}", quoted(options))),
            (Form::Switch, _) => wrong("boolean"),
            (Form::Media(1), Value::String(url)) => refuse_url(url),
            (Form::Media(1), _) => wrong("string"),
            (Form::Media(max), Value::Array(urls)) => {
                if urls.len() > max {
                    return Some(format!("Too big: expected array to have <={max} items"));
                }
                urls.iter().find_map(|url| url.as_str().map_or_else(|| Some("Invalid input: expected URLs".to_owned()), refuse_url))
            }
            (Form::Media(_), _) => wrong("array"),
        }
    }
}

/// Files come by address, or as a small one inside of the request.
fn refuse_url(url: &str) -> Option<String> {
    let known = ["https://", "http://", "data:"].iter().any(|scheme| url.starts_with(scheme));
    (!known).then(|| "Invalid URL: give an http(s) or data: URL".to_owned())
}

fn flat(all: Vec<Value>) -> Vec<Value> {
    all.into_iter().flat_map(|one| if let Value::Array(inner) = one { inner } else { vec![one] }).filter(|one| !one.is_null()).collect()
}

fn quoted(options: &[&str]) -> String {
    options.iter().map(|option| format!("\"{option}\"")).collect::<Vec<_>>().join("|")
}

/// A value's type in the words of the contract's validation texts.
#[must_use]
pub fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
