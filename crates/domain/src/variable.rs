//! Variables and the references in their values (`contracts/railway.md` 3.6).

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::{EnvironmentId, ProjectId, ServiceId, WorkspaceId};

pub use filling::{Filling, refers};
pub use generator::{Generator, generate};

mod filling;
mod generator;
mod graph;

/// A variable of a service in an environment, or shared by the environment. The value is what the user wrote, byte for byte.
#[derive(Clone, PartialEq, Eq)]
pub struct Variable {
    /// The tenant.
    pub workspace_id: WorkspaceId,
    /// The project.
    pub project_id: ProjectId,
    /// The environment.
    pub environment_id: EnvironmentId,
    /// The service; `None` for a shared variable.
    pub service_id: Option<ServiceId>,
    /// Its name.
    pub name: String,
    /// As written.
    pub value: String,
    /// Never readable through an API again.
    pub is_sealed: bool,
    /// Last change.
    pub updated_at: Timestamp,
}

impl std::fmt::Debug for Variable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Variable").field("name", &self.name).field("service_id", &self.service_id).finish_non_exhaustive()
    }
}

/// Everything that references can reach in one environment.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// Shared variables.
    pub shared: BTreeMap<String, String>,
    /// Each service's own and provided variables, by the service's name.
    pub services: BTreeMap<String, BTreeMap<String, String>>,
}

const SHARED: &str = "shared";

impl Scope {
    /// The rendered variables of a service: its own, in which every reference is replaced. An unknown reference and one that leads back
    /// to itself become empty.
    #[must_use]
    pub fn render(&self, service: &str) -> BTreeMap<String, String> {
        self.services.get(service).map_or_else(BTreeMap::new, |own| {
            own.keys().map(|name| (name.clone(), self.resolve(service, name, &mut Walk::default()))).collect()
        })
    }

    /// The rendered shared variables.
    #[must_use]
    pub fn render_shared(&self) -> BTreeMap<String, String> {
        self.shared.keys().map(|name| (name.clone(), self.resolve(SHARED, name, &mut Walk::default()))).collect()
    }

    fn raw(&self, owner: &str, name: &str) -> Option<&str> {
        let map = if owner == SHARED { Some(&self.shared) } else { self.services.get(owner) };
        map?.get(name).map(String::as_str)
    }

    fn resolve<'a>(&'a self, owner: &'a str, name: &'a str, walk: &mut Walk<'a>) -> String {
        let Some(raw) = self.raw(owner, name) else { return String::new() };
        walk.steps += 1;
        walk.read += raw.len();
        if walk.steps > MAX_STEPS || walk.read > MAX_READ || !walk.visiting.insert((owner, name)) {
            return String::new();
        }
        let mut out = String::with_capacity(raw.len());
        for part in parts(raw) {
            match part {
                Part::Text(text) => out.push_str(text),
                // Evaluated when the value was written; one that is still there is no value.
                Part::Generator(_) => {}
                Part::Reference { service, name } => {
                    if out.len() < MAX_RENDERED {
                        out.push_str(&self.resolve(service.unwrap_or(owner), name, walk));
                    }
                }
            }
        }
        walk.visiting.remove(&(owner, name));
        truncate(&mut out, MAX_RENDERED);
        out
    }
}

/// The largest rendered value in bytes.
pub const MAX_RENDERED: usize = 64 * 1024;

/// References followed for one value. A chain in which each value names the one before twice doubles the work with every link.
const MAX_STEPS: u32 = 2_000;

/// Bytes of values taken apart for one value, for the same reason.
const MAX_READ: usize = 16 * MAX_RENDERED;

#[derive(Default)]
struct Walk<'a> {
    visiting: BTreeSet<(&'a str, &'a str)>,
    steps: u32,
    read: usize,
}

fn truncate(text: &mut String, max: usize) {
    if text.len() > max {
        let mut at = max;
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        text.truncate(at);
    }
}

/// A piece of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// Text as it stands.
    Text(&'a str),
    /// `${{name}}` or `${{service.name}}`.
    Reference {
        /// The service, or `shared`; the value's owner when absent.
        service: Option<&'a str>,
        /// The variable.
        name: &'a str,
    },
    /// `${{secret(…)}}` or `${{randomInt(…)}}`.
    Generator(Generator),
}

/// Takes a value apart. What does not close, or names nothing, is text.
#[must_use]
pub fn parts(value: &str) -> Vec<Part<'_>> {
    let mut out = vec![];
    let mut rest = value;
    while let Some(start) = rest.find("${{") {
        let Some(length) = rest[start + 3..].find("}}") else { break };
        let inner = rest[start + 3..start + 3 + length].trim();
        if start > 0 {
            out.push(Part::Text(&rest[..start]));
        }
        out.push(match (Generator::parse(inner), inner.rsplit_once('.')) {
            (Some(generator), _) => Part::Generator(generator),
            (None, Some((service, name))) => Part::Reference { service: Some(service.trim()), name: name.trim() },
            (None, None) => Part::Reference { service: None, name: inner },
        });
        rest = &rest[start + 3 + length + 2..];
    }
    if !rest.is_empty() {
        out.push(Part::Text(rest));
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scope(entries: &[(&str, &str, &str)]) -> Scope {
        let mut scope = Scope::default();
        for (owner, name, value) in entries {
            let map = if *owner == SHARED { &mut scope.shared } else { scope.services.entry((*owner).into()).or_default() };
            map.insert((*name).into(), (*value).into());
        }
        scope
    }

    #[test]
    fn references_reach_own_shared_and_other_services() {
        let scope = scope(&[
            ("web", "URL", "http://${{HOST}}:${{ My DB.PORT }}/${{shared.PATH}}?x=${{nope}}"),
            ("web", "HOST", "a"),
            ("My DB", "PORT", "5432"),
            ("shared", "PATH", "p"),
        ]);
        assert_eq!(scope.render("web")["URL"], "http://a:5432/p?x=");
    }

    #[test]
    fn cycles_end() {
        let scope = scope(&[("a", "X", "1${{b.Y}}"), ("b", "Y", "2${{a.X}}")]);
        assert_eq!(scope.render("a")["X"], "12");
    }

    #[test]
    fn a_chain_that_doubles_stays_small() {
        let mut entries = vec![("a".to_owned(), "V0".to_owned(), "x".repeat(100))];
        for i in 1..30 {
            entries.push(("a".into(), format!("V{i}"), format!("${{{{V{0}}}}}${{{{V{0}}}}}", i - 1)));
        }
        let entries: Vec<_> = entries.iter().map(|(a, b, c)| (a.as_str(), b.as_str(), c.as_str())).collect();
        assert!(scope(&entries).render("a").values().all(|value| value.len() <= MAX_RENDERED));
    }

    proptest! {
        #[test]
        fn text_without_references_is_kept(value in "[^$]*") {
            let scope = scope(&[("a", "X", &value)]);
            let want: String = { let mut v = value.clone(); truncate(&mut v, MAX_RENDERED); v };
            prop_assert_eq!(&scope.render("a")["X"], &want);
        }

        #[test]
        fn parts_follow_each_other_through_the_whole_value(value in "([a-z. ]|\\$\\{\\{|\\}\\}|\\$|\\{|\\}|secret\\(\\)|é){0,40}") {
            let mut rest = value.as_str();
            for part in parts(&value) {
                if let Part::Text(text) = part {
                    prop_assert!(!text.is_empty() && rest.starts_with(text), "{:?} is not at {:?}", text, rest);
                    rest = &rest[text.len()..];
                } else {
                    let end = rest.find("}}");
                    prop_assert!(rest.starts_with("${{") && end.is_some(), "no reference at {:?}", rest);
                    rest = &rest[end.unwrap() + 2..];
                }
            }
            prop_assert_eq!(rest, "");
        }

        #[test]
        fn each_reference_is_replaced_and_all_around_it_kept(pieces in prop::collection::vec(("[^$]{0,8}", 0usize..4), 0..10)) {
            const REFERENCES: [(&str, &str); 4] =
                [("${{A}}", "own"), ("${{shared.B}}", "everybody's"), ("${{ My DB.C }}", "${"), ("${{shared.A}}", "")];
            let (mut value, mut want) = (String::new(), String::new());
            for (text, which) in &pieces {
                let (written, meant) = REFERENCES[*which];
                value.extend([text.as_str(), written]);
                want.extend([text.as_str(), meant]);
            }
            let scope = scope(&[("a", "X", &value), ("a", "A", "own"), ("shared", "B", "everybody's"), ("My DB", "C", "${")]);
            prop_assert_eq!(&scope.render("a")["X"], &want);
        }
    }
}
