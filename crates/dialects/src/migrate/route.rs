//! HTTPRoutes: which rules are together, and where they are written.

use std::collections::BTreeMap;
use std::sync::Arc;

use routing::BindId;
use routing::model::{HostPattern, Origin, Visibility};
use serde_json::{Map, Value, json};

use super::door::Door;
use super::order::Placed;
use super::rule::Rule;
use super::{MOST_RULES, Note, POLICY_VERSION, Role, VERSION, Verdict, Writer, route_name};

/// What one HTTPRoute is for: an object, one set of its hosts, one socket, one policy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    namespace: Arc<str>,
    kind: Arc<str>,
    name: Arc<str>,
    hosts: Vec<HostPattern>,
    bind: Option<BindId>,
    visibility: Visibility,
    pub(super) doors: Vec<Door>,
    /// The policy's text: rules that share it share its buckets.
    policy: String,
}

/// What was written, in its order.
#[derive(Default)]
pub(super) struct Routes<'i> {
    pub(super) routes: Vec<Value>,
    pub(super) policies: Vec<Value>,
    pub(super) placed: Vec<Placed<'i>>,
}

impl<'i> Writer<'i> {
    /// The rules that can be written, by their place and in their order.
    pub(super) fn groups(&mut self) -> BTreeMap<Place, Vec<Rule<'i>>> {
        let mut groups: BTreeMap<Place, Vec<Rule<'i>>> = BTreeMap::new();
        let input = self.input;
        let (mut notes, mut grants) = (
            std::mem::take(&mut self.notes),
            std::mem::take(&mut self.grants),
        );
        for (id, route) in &input.routes {
            let rules = self.rules(id, route);
            // Of a rule that is left out, nothing else is true.
            let (said, granted) = (
                std::mem::take(&mut self.notes),
                std::mem::take(&mut self.grants),
            );
            let rules = match rules {
                Ok(rules) => {
                    notes.extend(said);
                    grants.extend(granted);
                    rules
                }
                Err(why) => {
                    let blocked = self.blocked(id, route);
                    let then = match blocked.first().map(|it| it.role) {
                        Some(Role::Redirect) => "; plain HTTP is redirected all the same",
                        Some(_) => "; what it is for is answered 500",
                        None => "",
                    };
                    notes.insert(Note {
                        origin: route.origin.clone(),
                        verdict: Verdict::LeftOut,
                        part: "rule",
                        message: format!("{why}{then}"),
                    });
                    blocked
                }
            };
            for rule in rules {
                groups.entry(place(&rule)).or_default().push(rule);
            }
        }
        (self.notes, self.grants) = (notes, grants);
        groups
    }

    pub(super) fn routes(
        &mut self,
        number: usize,
        place: &Place,
        mut members: Vec<Rule<'i>>,
        out: &mut Routes<'i>,
    ) {
        members.sort_by(|a, b| (&a.route.sort_key, a.id).cmp(&(&b.route.sort_key, b.id)));
        let Some(first) = members.first() else {
            return;
        };
        let hostnames = self.hostnames(&first.route.origin, &place.hosts);
        let parents = self.parents(&first.route.origin, &place.doors, &place.hosts);
        for (at, rules) in members.chunks(MOST_RULES).enumerate() {
            let name = route_name(&place.name, &format!("-{number:03}-{at:02}"));
            let mut spec = Map::new();
            spec.insert("parentRefs".to_owned(), json!(parents));
            if !hostnames.is_empty() {
                spec.insert("hostnames".to_owned(), json!(hostnames));
            }
            let values: Vec<_> = rules.iter().map(|rule| &rule.value).collect();
            spec.insert("rules".to_owned(), json!(values));
            let metadata = json!({"name": name, "namespace": place.namespace});
            out.routes.push(json!({
                "apiVersion": VERSION, "kind": "HTTPRoute", "metadata": metadata, "spec": spec,
            }));
            let policy = rules.first().map(|rule| rule.policy.clone());
            if let Some(mut spec) = policy.filter(|spec| !spec.is_empty()) {
                let target =
                    json!({"group": api::gateway::GROUP, "kind": "HTTPRoute", "name": name});
                spec.insert("targetRefs".to_owned(), json!([target]));
                out.policies.push(json!({
                    "apiVersion": POLICY_VERSION, "kind": "TrafficPolicy",
                    "metadata": metadata, "spec": spec,
                }));
            }
            for (number, rule) in rules.iter().enumerate() {
                self.settle(rule, (&place.namespace, &name, number), out);
            }
        }
    }

    /// Says where a rule is now.
    fn settle(
        &mut self,
        rule: &Rule<'i>,
        (namespace, name, number): (&Arc<str>, &str, usize),
        out: &mut Routes<'i>,
    ) {
        let origin = &rule.route.origin;
        out.placed.push(Placed {
            id: rule.id,
            route: rule.route,
            matches: rule.matches.clone(),
            at: (Arc::clone(namespace), name.to_owned(), number),
            scheme: rule.scheme,
            role: rule.role,
        });
        if rule.role != Role::Kept {
            return;
        }
        let sections: Vec<_> = rule.policy.keys().map(String::as_str).collect();
        let mut text = format!("rule {number} of HTTPRoute {namespace}/{name}");
        if !sections.is_empty() {
            let sections = sections.join(", ");
            text.push_str(&format!(
                ", with TrafficPolicy {namespace}/{name} ({sections})"
            ));
        }
        self.note(origin, Verdict::Kept, "rule", &text);
        for bucket in &rule.buckets {
            let users = self.buckets.entry(Arc::clone(bucket)).or_default();
            users.insert((Arc::clone(namespace), name.to_owned()), origin.clone());
        }
        for backend in &rule.backends {
            self.use_backend(backend, origin);
        }
    }

    fn hostnames(&mut self, origin: &Origin, hosts: &[HostPattern]) -> Vec<String> {
        if hosts.is_empty() || hosts.contains(&HostPattern::Any) {
            return Vec::new();
        }
        if let Some(label) = hosts.iter().find(|it| matches!(it, HostPattern::Label(_))) {
            let text =
                format!("{label} stands for one label here and for any number of them there");
            self.note(origin, Verdict::Changed, "hosts", &text);
        }
        hosts.iter().map(ToString::to_string).collect()
    }
}

fn place(rule: &Rule<'_>) -> Place {
    let route = rule.route;
    let mut hosts = route.hosts.clone();
    hosts.sort();
    hosts.dedup();
    Place {
        namespace: Arc::clone(&route.origin.namespace),
        kind: Arc::clone(&route.origin.kind),
        name: Arc::clone(&route.origin.name),
        hosts,
        bind: route.bind.clone(),
        visibility: route.visibility,
        doors: rule.doors.clone(),
        policy: rule.identity(),
    }
}
