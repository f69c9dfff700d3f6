//! Routes of any dialect → Gateway API objects and our own policies, with a verdict for each rule.
//!
//! Works on the model, so every dialect has it at once. A rule that neither can say is left out with
//! a note, never weakened: a condition that is dropped would send requests where nobody wanted them,
//! and one that protects would let in whom it keeps out. What only limits has a note and its rule
//! stays. What is written is read again by the policies' own reader before it counts as said.

mod connection;
mod filter;
mod hoist;
pub(crate) mod matching;
mod order;
mod rule;
mod service;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use routing::BindId;
use routing::model::tls::TlsHost;
use routing::model::{BackendId, HostPattern, Origin, Protocol, Route, RouteId, Visibility};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::backend::BackendRef;
use crate::foreign::BackendSpec;
use crate::gateway_api::covers;
use crate::objects::Name;

use connection::Section;
use order::Placed;
use rule::Rule;

const VERSION: &str = "gateway.networking.k8s.io/v1";
const POLICY_VERSION: &str = "gateway.suimon.dev/v1alpha1";
/// Rules of one HTTPRoute (schema).
const MOST_RULES: usize = 16;

/// What a file becomes.
#[derive(Clone, Debug, Default)]
pub struct Migration {
    /// In the order in which they should be applied.
    pub objects: Vec<Value>,
    /// Sorted.
    pub notes: Vec<Note>,
    /// Where rules are now.
    pub rules: BTreeMap<RouteId, NewRule>,
}

/// A rule of an HTTPRoute.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NewRule {
    pub route: Name,
    pub number: usize,
}

/// What became of a rule, or of a part of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Note {
    pub origin: Origin,
    pub verdict: Verdict,
    /// The part of the routing model, for example `guards.rate_limits`; `rule` is all of it.
    pub part: &'static str,
    pub message: String,
}

/// How much is not the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Verdict {
    /// The rule is in a new object, the same but for what other notes say.
    Kept,
    /// The rule is left out.
    LeftOut,
    /// The rule is there without this.
    Lost,
    /// It is there and means something slightly different.
    Changed,
}

/// The routes of all objects, and what they send to.
#[derive(Clone, Debug, Default)]
pub struct Input {
    pub routes: BTreeMap<RouteId, Arc<Route>>,
    pub backends: BTreeMap<BackendId, (BackendRef, Option<Arc<BackendSpec>>)>,
    /// What their ports say that their pods speak; those that want TLS are not there.
    pub protocols: BTreeMap<BackendId, Protocol>,
    /// Routes of a host that has a certificate.
    pub certificates: Vec<(Origin, HostPattern)>,
    pub tls: Vec<Arc<TlsHost>>,
    /// Sockets that objects ask for and no route is at: whatever they do, it is not HTTP.
    pub unrouted: Vec<(Origin, SocketAddr)>,
}

/// Writes objects for these routes.
pub fn migrate(input: &Input, class: &str) -> Migration {
    let mut writer = Writer {
        input,
        is_ours: class == api::gateway::CLASS,
        notes: BTreeSet::new(),
        grants: BTreeSet::new(),
        sections: BTreeSet::new(),
        uses: BTreeMap::new(),
        buckets: BTreeMap::new(),
    };
    let mut written = Routes::default();
    for (number, (place, members)) in writer.groups().into_iter().enumerate() {
        writer.routes(number, &place, members, &mut written);
    }
    writer.compare_order(&written.placed);
    writer.compare_hosts(&written.placed);
    writer.tell_about_connections();
    writer.tell_about_buckets();
    let of_services = writer.service_policies();
    let mut objects = Vec::new();
    // Another's class is that other's to define.
    if writer.is_ours {
        objects.push(connection::gateway_class(class));
    }
    objects.extend(writer.gateways(class));
    objects.extend(writer.grants.iter().map(connection::grant));
    // Policies first, so that no route is served without what protects it.
    objects.extend(written.policies);
    objects.extend(of_services);
    objects.extend(written.routes);
    Migration {
        objects,
        notes: writer.notes.into_iter().collect(),
        rules: written
            .placed
            .into_iter()
            .filter(|placed| placed.is_kept)
            .map(|placed| {
                let (namespace, name, number) = placed.at;
                let route = Name::new(&namespace, &name);
                (placed.id.clone(), NewRule { route, number })
            })
            .collect(),
    }
}

/// What one HTTPRoute is for: an object, one set of its hosts, one socket, one policy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    namespace: Arc<str>,
    kind: Arc<str>,
    name: Arc<str>,
    hosts: Vec<HostPattern>,
    bind: Option<BindId>,
    visibility: Visibility,
    /// The policy's text: rules that share it share its buckets.
    policy: String,
}

/// What was written, in its order.
#[derive(Default)]
struct Routes<'i> {
    routes: Vec<Value>,
    policies: Vec<Value>,
    placed: Vec<Placed<'i>>,
}

/// Rules that count in one bucket: the HTTPRoute, the rule, and where it came from.
type Holders = BTreeMap<(Arc<str>, String), Origin>;

struct Writer<'i> {
    input: &'i Input,
    /// The Gateway is of our class, so that there are policies and visibilities.
    is_ours: bool,
    notes: BTreeSet<Note>,
    /// From the namespace of routes to a Service.
    grants: BTreeSet<(Arc<str>, Name)>,
    sections: BTreeSet<Section>,
    /// How Services are used, by whom.
    uses: BTreeMap<Name, BTreeMap<BackendId, BTreeSet<Origin>>>,
    /// Who counts in which bucket: rules, by the HTTPRoute.
    buckets: BTreeMap<Arc<str>, Holders>,
}

impl<'i> Writer<'i> {
    fn note(&mut self, origin: &Origin, verdict: Verdict, part: &'static str, message: &str) {
        self.notes.insert(Note {
            origin: origin.clone(),
            verdict,
            part,
            message: message.to_owned(),
        });
    }

    /// The rules that can be written, by their place and in their order.
    fn groups(&mut self) -> BTreeMap<Place, Vec<Rule<'i>>> {
        let mut groups: BTreeMap<Place, Vec<Rule<'i>>> = BTreeMap::new();
        let input = self.input;
        let (mut notes, mut grants) = (BTreeSet::new(), BTreeSet::new());
        for (id, route) in &input.routes {
            let origin = &route.origin;
            let rule = self.rule(id, route);
            // Of a rule that is left out, nothing else is true.
            let (said, granted) = (
                std::mem::take(&mut self.notes),
                std::mem::take(&mut self.grants),
            );
            let rule = match rule {
                Ok(rule) => {
                    notes.extend(said);
                    grants.extend(granted);
                    rule
                }
                Err(why) => {
                    let blocked = self.blocked(id, route);
                    let then = match blocked {
                        Some(_) => "; what it is for is answered 500",
                        None => "",
                    };
                    notes.insert(Note {
                        origin: origin.clone(),
                        verdict: Verdict::LeftOut,
                        part: "rule",
                        message: format!("{why}{then}"),
                    });
                    let Some(blocked) = blocked else { continue };
                    blocked
                }
            };
            let mut hosts = route.hosts.clone();
            hosts.sort();
            hosts.dedup();
            let place = Place {
                namespace: Arc::clone(&origin.namespace),
                kind: Arc::clone(&origin.kind),
                name: Arc::clone(&origin.name),
                hosts,
                bind: route.bind.clone(),
                visibility: route.visibility,
                policy: rule.identity(),
            };
            groups.entry(place).or_default().push(rule);
        }
        (self.notes, self.grants) = (notes, grants);
        groups
    }

    /// Tells where the written order and Gateway API's own differ: between rules of one host.
    fn compare_order(&mut self, placed: &[Placed<'_>]) {
        let mut hosts: BTreeMap<_, Vec<&Placed<'_>>> = BTreeMap::new();
        for one in placed {
            for host in &one.route.hosts {
                let key = (&one.route.bind, one.route.visibility, host);
                hosts.entry(key).or_default().push(one);
            }
        }
        for mut members in hosts.into_values() {
            for (origin, text) in order::inversions(&mut members) {
                self.note(&origin, Verdict::Changed, "order", &text);
            }
        }
    }

    /// At the gateway's own listeners the rules of a host are all there is for it; there, what none
    /// of them takes is for those of a wider one.
    fn compare_hosts(&mut self, placed: &[Placed<'_>]) {
        let shared = placed.iter().filter(|one| one.route.bind.is_none());
        let shared = shared.filter(|one| one.route.visibility == Visibility::External);
        let mut hosts: BTreeMap<&HostPattern, Vec<&Placed<'_>>> = BTreeMap::new();
        for one in shared {
            for host in &one.route.hosts {
                hosts.entry(host).or_default().push(one);
            }
        }
        for (narrow, members) in &hosts {
            let takes_all = members.iter().any(|one| one.matches.is_empty());
            let is_wider = |wide: &&&HostPattern| **wide != *narrow && covers(wide, narrow);
            let Some(wide) = hosts.keys().find(is_wider).filter(|_| !takes_all) else {
                continue;
            };
            let text = format!(
                "requests for {narrow} that no rule takes are answered 404 here, and are for the rules of {wide} there"
            );
            for one in members {
                self.note(&one.route.origin, Verdict::Changed, "hosts", &text);
            }
        }
    }

    fn routes(
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
        let section = Section::of(place.bind.as_ref(), place.visibility);
        self.sections.insert(section.clone());
        for (at, rules) in members.chunks(MOST_RULES).enumerate() {
            let name = format!("{}-{number:03}-{at:02}", place.name).to_lowercase();
            let mut spec = Map::new();
            spec.insert("parentRefs".to_owned(), json!([section.reference()]));
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
            is_kept: rule.is_kept,
        });
        if !rule.is_kept {
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

    /// A policy has buckets for each of its targets.
    fn tell_about_buckets(&mut self) {
        let shared = std::mem::take(&mut self.buckets).into_values();
        for users in shared.filter(|users| users.len() > 1) {
            let text = format!(
                "what is counted is counted together here, and for each of {} HTTPRoutes by itself there",
                users.len()
            );
            for origin in users.into_values() {
                self.note(&origin, Verdict::Changed, "guards.buckets", &text);
            }
        }
    }
}

#[cfg(test)]
mod tests;
