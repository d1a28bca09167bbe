//! The filter language of logs (`contracts/railway.md` 3.3).
//!
//! A filter is parsed once and asked often. Some of its terms speak of where a line comes from or how serious it is; [`Filter::reach`]
//! decides those for a whole source at once, so that a log store reads only what can match.

mod parse;
#[cfg(test)]
mod tests;

use serde_json::Value;

use super::{LogKind, LogLine, LogSource, Severity};

pub use parse::{FilterError, FilterProblem};

/// The longest filter that is read, in bytes.
pub const MAX_BYTES: usize = 4096;
/// How deep parentheses may nest.
pub const MAX_DEPTH: usize = 32;
/// How many words, phrases and `@key:value` a filter may hold.
pub const MAX_TERMS: usize = 128;

/// A parsed filter. The default one matches every line.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    root: Option<Expr>,
}

/// How many of the lines of one source and severity a filter can match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// None of them.
    Nothing,
    /// Each has to be asked about.
    Some,
    /// All of them.
    Everything,
}

#[derive(Clone, Debug, PartialEq)]
enum Expr {
    All(Vec<Expr>),
    Any(Vec<Expr>),
    Not(Box<Expr>),
    /// Lower case.
    Text(String),
    Level(Severity),
    Origin(Origin, uuid::Uuid),
    Attribute(String, Test),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    Replica,
    Deployment,
    Service,
    Snapshot,
}

#[derive(Clone, Debug, PartialEq)]
enum Test {
    /// The text in lower case, and the number when it is one.
    Equals(String, Option<f64>),
    Above(f64),
    AtLeast(f64),
    Below(f64),
    AtMost(f64),
    Between(f64, f64),
}

impl Filter {
    /// Reads a filter as a user writes it. Blank text matches every line.
    ///
    /// # Errors
    /// Says at which character the text stops making sense and what to write instead.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        parse::parse(text).map(|root| Self { root })
    }

    /// Whether a line passes. Text is compared without regard to case.
    #[must_use]
    pub fn matches(&self, line: &LogLine) -> bool {
        let mut asked = Asked { line, lower: None };
        self.root.as_ref().is_none_or(|root| root.matches(&mut asked))
    }

    /// What is known about every line of a source and a severity without reading it.
    #[must_use]
    pub fn reach(&self, source: &LogSource, severity: Severity) -> Reach {
        match self.root.as_ref().map_or(Some(true), |root| root.decide(source, severity)) {
            Some(true) => Reach::Everything,
            Some(false) => Reach::Nothing,
            None => Reach::Some,
        }
    }

    /// Whether lines have to be read to decide: some term speaks of their text or their attributes.
    #[must_use]
    pub fn reads_lines(&self) -> bool {
        self.root.as_ref().is_some_and(Expr::reads_lines)
    }
}

/// A line under question, with its text in lower case once a term has needed it.
struct Asked<'a> {
    line: &'a LogLine,
    lower: Option<String>,
}

impl Expr {
    fn matches(&self, asked: &mut Asked<'_>) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.matches(asked)),
            Self::Any(parts) => parts.iter().any(|part| part.matches(asked)),
            Self::Not(inner) => !inner.matches(asked),
            Self::Text(text) => asked.lower.get_or_insert_with(|| lower(&asked.line.message)).contains(text),
            Self::Level(severity) => asked.line.severity == *severity,
            Self::Origin(origin, id) => origin.of(&asked.line.source) == Some(*id),
            Self::Attribute(key, test) => asked.line.attributes.iter().any(|(name, value)| test_attribute(key, name, value, test)),
        }
    }

    fn decide(&self, source: &LogSource, severity: Severity) -> Option<bool> {
        match self {
            Self::All(parts) => decide_all(parts, source, severity, false),
            Self::Any(parts) => decide_all(parts, source, severity, true),
            Self::Not(inner) => inner.decide(source, severity).map(|known| !known),
            Self::Level(wanted) => Some(severity == *wanted),
            Self::Origin(origin, id) => Some(origin.of(source) == Some(*id)),
            Self::Text(_) | Self::Attribute(..) => None,
        }
    }

    fn reads_lines(&self) -> bool {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().any(Self::reads_lines),
            Self::Not(inner) => inner.reads_lines(),
            Self::Text(_) | Self::Attribute(..) => true,
            Self::Level(_) | Self::Origin(..) => false,
        }
    }
}

/// One part that is known to be `settles` settles the whole; otherwise every part must be known.
fn decide_all(parts: &[Expr], source: &LogSource, severity: Severity, settles: bool) -> Option<bool> {
    let mut answer = Some(!settles);
    for part in parts {
        match part.decide(source, severity) {
            Some(known) if known == settles => return Some(settles),
            Some(_) => {}
            None => answer = None,
        }
    }
    answer
}

impl Origin {
    /// The snapshot counts for build output only: a request for the log of a build must not bring that of the app.
    fn of(self, source: &LogSource) -> Option<uuid::Uuid> {
        match self {
            Self::Replica => source.replica_id.map(|id| id.0),
            Self::Deployment => Some(source.deployment_id.0),
            Self::Service => Some(source.service_id.0),
            Self::Snapshot => (source.kind == LogKind::Build).then_some(source.snapshot_id.0),
        }
    }
}

/// Lower case letter by letter: `str::to_lowercase` writes a sigma differently at the end of a word, which a part of a text need not be.
fn lower(text: &str) -> String {
    if text.is_ascii() { text.to_ascii_lowercase() } else { text.chars().flat_map(char::to_lowercase).collect() }
}

fn test_attribute(key: &str, name: &str, json: &str, test: &Test) -> bool {
    if name.is_empty() {
        return false;
    }
    let Some(rest) = key.strip_prefix(name) else { return false };
    (rest.is_empty() || rest.starts_with(['.', '['])) && serde_json::from_str(json).is_ok_and(|value| test_value(rest, &value, test))
}

/// Walks down the rest of a key. Names that hold dots themselves are found too.
fn test_value(rest: &str, value: &Value, test: &Test) -> bool {
    if rest.is_empty() {
        return match value {
            Value::Array(items) => items.iter().any(|item| test.holds(item)),
            scalar => test.holds(scalar),
        };
    }
    if let Some(indexed) = rest.strip_prefix('[') {
        let Some((index, rest)) = indexed.split_once(']') else { return false };
        let item = index.parse().ok().and_then(|index: usize| value.get(index));
        return item.is_some_and(|item| test_value(rest, item, test));
    }
    let (Some(name), Value::Object(fields)) = (rest.strip_prefix('.'), value) else { return false };
    fields.iter().filter(|(field, _)| !field.is_empty()).any(|(field, value)| {
        name.strip_prefix(field.as_str())
            .is_some_and(|rest| (rest.is_empty() || rest.starts_with(['.', '['])) && test_value(rest, value, test))
    })
}

impl Test {
    fn holds(&self, value: &Value) -> bool {
        let number = || match value {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => parse::number(text),
            _ => None,
        };
        match self {
            Self::Equals(text, wanted) => {
                let same = match value {
                    Value::String(own) => lower(own) == *text,
                    Value::Number(own) => own.to_string() == *text,
                    Value::Bool(own) => own.to_string() == *text,
                    Value::Null => text == "null",
                    Value::Array(_) | Value::Object(_) => false,
                };
                // Texts that are numbers differ as texts, such as version numbers: only a number equals a number.
                same || wanted.is_some_and(|wanted| matches!(value, Value::Number(_)) && number() == Some(wanted))
            }
            Self::Above(bound) => number().is_some_and(|own| own > *bound),
            Self::AtLeast(bound) => number().is_some_and(|own| own >= *bound),
            Self::Below(bound) => number().is_some_and(|own| own < *bound),
            Self::AtMost(bound) => number().is_some_and(|own| own <= *bound),
            Self::Between(low, high) => number().is_some_and(|own| (*low..=*high).contains(&own)),
        }
    }
}
