//! What refers to what: circles, and the order in which services start.

use std::collections::{BTreeMap, BTreeSet};

use super::{Part, SHARED, Scope, parts};

/// A variable by its owner, which is a service's name or `shared`, and its own name.
type Node<'a> = (&'a str, &'a str);

impl Scope {
    fn references<'a>(&'a self, (owner, name): Node<'a>) -> Vec<Node<'a>> {
        let raw = self.raw(owner, name).unwrap_or_default();
        let referred = |part| match part {
            Part::Reference { service, name } => Some((service.unwrap_or(owner), name)),
            Part::Text(_) | Part::Generator(_) => None,
        };
        parts(raw).into_iter().filter_map(referred).collect()
    }

    /// The references that lead to a variable, each once.
    fn known<'a>(&'a self, node: Node<'a>) -> Vec<Node<'a>> {
        let mut all = self.references(node);
        all.retain(|(owner, name)| self.raw(owner, name).is_some());
        all.sort_unstable();
        all.dedup();
        all
    }

    /// A circle of references that can be reached from one of the variables, each written as `service.NAME`, the first one again at the
    /// end. `None` for the service means the shared variables. Looks at every variable and every reference once.
    #[must_use]
    pub fn circle<'a>(&'a self, starts: impl IntoIterator<Item = (Option<&'a str>, &'a str)>) -> Option<Vec<String>> {
        let mut done: BTreeSet<Node<'a>> = BTreeSet::new();
        for (service, name) in starts {
            let start = (service.unwrap_or(SHARED), name);
            if done.contains(&start) {
                continue;
            }
            // The way down from the start, each with what is left to look at, and where on it each variable stands.
            let mut way = vec![(start, self.known(start))];
            let mut places = BTreeMap::from([(start, 0)]);
            while let Some((node, left)) = way.last_mut() {
                let Some(next) = left.pop() else {
                    let node = *node;
                    places.remove(&node);
                    done.insert(node);
                    way.pop();
                    continue;
                };
                if let Some(at) = places.get(&next) {
                    let circle = way[*at..].iter().map(|(node, _)| *node).chain([next]);
                    return Some(circle.map(|(owner, name)| format!("{owner}.{name}")).collect());
                }
                if !done.contains(&next) {
                    places.insert(next, way.len());
                    way.push((next, self.known(next)));
                }
            }
        }
        None
    }

    /// Every owner whose variables the service's own variables lead to, in one step or many.
    fn leads_to<'a>(&'a self, service: &'a str) -> BTreeSet<&'a str> {
        let mut seen: BTreeSet<Node<'a>> = BTreeSet::new();
        let mut next: Vec<Node<'a>> =
            self.services.get(service).into_iter().flat_map(|own| own.keys().map(|name| (service, name.as_str()))).collect();
        while let Some(node) = next.pop() {
            if seen.insert(node) {
                next.extend(self.references(node));
            }
        }
        seen.into_iter().map(|(owner, _)| owner).filter(|owner| *owner != service).collect()
    }

    /// For each service of a batch that starts together, those of the batch that it waits for: the ones that its variables refer to.
    /// Nobody waits for each other; where services refer to each other, the first by name does not wait.
    #[must_use]
    pub fn start_order<'a>(&'a self, batch: &BTreeSet<&'a str>) -> BTreeMap<&'a str, BTreeSet<&'a str>> {
        let mut waits: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for service in batch {
            waits.insert(service, self.leads_to(service).into_iter().filter(|other| batch.contains(other)).collect());
        }
        let mut placed: BTreeSet<&str> = BTreeSet::new();
        while placed.len() < waits.len() {
            let ready = waits.iter().find(|(name, on)| !placed.contains(*name) && on.is_subset(&placed)).map(|(name, _)| *name);
            let next = ready.or_else(|| waits.keys().find(|name| !placed.contains(*name)).copied());
            let Some(next) = next else { break };
            if let Some(on) = waits.get_mut(next) {
                on.retain(|other| placed.contains(other));
            }
            placed.insert(next);
        }
        waits
    }
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
    fn a_circle_is_told_by_name() {
        let scope = scope(&[
            ("web", "URL", "x${{api.HOST}}"),
            ("api", "HOST", "${{shared.NAME}}"),
            ("shared", "NAME", "${{web.URL}}"),
            ("api", "SELF", "${{SELF}}"),
            ("api", "FINE", "${{web.NOPE}} ${{shared.NOPE}}"),
        ]);
        assert_eq!(scope.circle([(Some("web"), "URL")]).unwrap(), ["web.URL", "api.HOST", "shared.NAME", "web.URL"]);
        assert_eq!(scope.circle([(None, "NAME")]).unwrap(), ["shared.NAME", "web.URL", "api.HOST", "shared.NAME"]);
        assert_eq!(scope.circle([(Some("api"), "FINE"), (Some("api"), "SELF")]).unwrap(), ["api.SELF", "api.SELF"]);
        assert_eq!(scope.circle([(Some("api"), "FINE")]), None);
    }

    #[test]
    fn who_refers_waits_also_through_shared_variables() {
        let scope = scope(&[
            ("web", "URL", "${{shared.DB}}"),
            ("shared", "DB", "${{Postgres.URL}}"),
            ("Postgres", "URL", "pg"),
            ("a", "X", "${{b.Y}}"),
            ("b", "Z", "${{a.W}}"),
        ]);
        let order = scope.start_order(&["web", "Postgres", "a", "b"].into());
        assert_eq!(order["web"], ["Postgres"].into());
        assert!(order["Postgres"].is_empty());
        assert!(order["a"].is_empty());
        assert_eq!(order["b"], ["a"].into());
        assert!(scope.start_order(&["web"].into())["web"].is_empty(), "who does not start now is not waited for");
    }

    proptest! {
        #[test]
        fn everyone_starts(edges in prop::collection::vec((0u8..8, 0u8..8), 0..40)) {
            let mut scope = Scope::default();
            for i in 0..8u8 {
                scope.services.entry(format!("s{i}")).or_default();
            }
            for (at, (from, to)) in edges.iter().enumerate() {
                scope.services.get_mut(&format!("s{from}")).unwrap().insert(format!("V{at}"), format!("${{{{s{to}.V{at}}}}}"));
            }
            let batch: BTreeSet<&str> = scope.services.keys().map(String::as_str).collect();
            let order = scope.start_order(&batch);
            let mut started: BTreeSet<&str> = BTreeSet::new();
            while started.len() < order.len() {
                let before = started.len();
                started.extend(order.iter().filter(|(_, on)| on.is_subset(&started)).map(|(name, _)| *name).collect::<Vec<_>>());
                prop_assert!(started.len() > before, "{:?}", order);
            }
        }

        #[test]
        fn looking_for_circles_ends(edges in prop::collection::vec((0u8..6, 0u8..6), 0..30)) {
            let mut scope = Scope::default();
            for (from, to) in &edges {
                let value = scope.shared.entry(format!("V{from}")).or_default();
                value.push_str(&format!("${{{{shared.V{to}}}}}"));
            }
            let each = scope.shared.keys().find_map(|name| scope.circle([(None, name.as_str())]));
            let all = scope.circle(scope.shared.keys().map(|name| (None, name.as_str())));
            prop_assert_eq!(each.is_some(), all.is_some(), "one search finds what one from each variable finds");
            if let Some(circle) = all {
                prop_assert_eq!(circle.first(), circle.last());
            }
        }
    }
}
