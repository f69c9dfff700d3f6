//! Routes of any dialect → Gateway API objects, and what those cannot say.
//!
//! Works on the model, so every dialect has it at once. A rule that Gateway API cannot say is
//! left out with a note, never weakened: a condition that is dropped would send requests where
//! nobody wanted them. What only limits or protects (a rate limit, a policy of a backend) has a
//! note and its rule stays.

mod filter;
mod hoist;
mod matching;
mod order;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use routing::BindId;
use routing::model::tls::{TlsAction, TlsHost};
use routing::model::{Action, BackendId, Filters, HostPattern, Origin, Route, RouteId, Split};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::backend::BackendRef;
use crate::foreign::BackendSpec;
use crate::objects::Name;

/// Name of the Gateway that the routes attach to.
const GATEWAY: &str = "gateway";
const VERSION: &str = "gateway.networking.k8s.io/v1";
/// Rules of one HTTPRoute (schema).
const MOST_RULES: usize = 16;

/// What a file becomes.
#[derive(Clone, Debug, Default)]
pub struct Migration {
    /// In the order in which they should be applied.
    pub objects: Vec<Value>,
    /// Sorted.
    pub notes: Vec<Note>,
}

/// What is not the same afterwards.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Note {
    pub origin: Origin,
    pub verdict: Verdict,
    pub message: String,
}

/// How much is not the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Verdict {
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
    /// Routes of a host that has a certificate.
    pub certificates: Vec<(Origin, HostPattern)>,
    pub tls: Vec<Arc<TlsHost>>,
    /// Sockets that objects ask for and no route is at: whatever they do, it is not HTTP.
    pub unrouted: Vec<(Origin, SocketAddr)>,
}

/// Writes Gateway API objects for these routes.
pub fn migrate(input: &Input, class: &str) -> Migration {
    let mut writer = Writer {
        input,
        notes: BTreeSet::new(),
        grants: BTreeSet::new(),
        sections: BTreeSet::new(),
    };
    let mut routes = Vec::new();
    for (number, (place, mut members)) in writer.groups().into_iter().enumerate() {
        members.sort_by(|a, b| (&a.1.sort_key, a.0).cmp(&(&b.1.sort_key, b.0)));
        writer.compare_order(&members);
        routes.extend(writer.routes(number, &place, &members));
    }
    writer.tell_about_connections();
    let mut objects = Vec::new();
    // Another's class is that other's to define.
    if class == api::gateway::CLASS {
        objects.push(gateway_class(class));
    }
    objects.push(writer.gateway(class));
    objects.extend(writer.grants.iter().map(grant));
    objects.extend(routes);
    Migration {
        objects,
        notes: writer.notes.into_iter().collect(),
    }
}

/// What one HTTPRoute is for: an object, one set of its hosts, one socket.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    namespace: Arc<str>,
    kind: Arc<str>,
    name: Arc<str>,
    hosts: Vec<HostPattern>,
    bind: Option<BindId>,
}

type Members<'i> = Vec<(&'i RouteId, &'i Arc<Route>)>;

/// Listeners that routes attach to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Section {
    name: String,
    port: u16,
}

struct Writer<'i> {
    input: &'i Input,
    notes: BTreeSet<Note>,
    /// From the namespace of routes to a Service.
    grants: BTreeSet<(Arc<str>, Name)>,
    sections: BTreeSet<Section>,
}

impl<'i> Writer<'i> {
    fn note(&mut self, origin: &Origin, verdict: Verdict, message: &str) {
        self.notes.insert(Note {
            origin: origin.clone(),
            verdict,
            message: message.to_owned(),
        });
    }

    /// What is no rule of HTTP.
    fn tell_about_connections(&mut self) {
        let input = self.input;
        for (origin, host) in &input.certificates {
            let text = format!("{host} has a certificate: add a listener for HTTPS to the Gateway");
            self.note(origin, Verdict::Lost, &text);
        }
        for host in &input.tls {
            let names: Vec<_> = host.names.iter().map(ToString::to_string).collect();
            let names = names.join(", ");
            if host.action == TlsAction::Refuse {
                continue;
            }
            let (verdict, text) = match &host.action {
                TlsAction::Terminate(_) => (
                    Verdict::Lost,
                    format!("{names} has a certificate: add a listener for HTTPS to the Gateway"),
                ),
                // Whatever becomes of the bytes, no rule of HTTP says it.
                _ => (
                    Verdict::LeftOut,
                    format!("TLS connections for {names} are passed on: write a TLSRoute"),
                ),
            };
            self.note(&host.origin, verdict, &text);
        }
        for (origin, address) in &input.unrouted {
            let text = format!("what is served at port {} is no HTTP route", address.port());
            self.note(origin, Verdict::LeftOut, &text);
        }
    }

    fn groups(&self) -> BTreeMap<Place, Members<'i>> {
        let mut groups: BTreeMap<Place, Members<'i>> = BTreeMap::new();
        for (id, route) in &self.input.routes {
            let origin = &route.origin;
            let mut hosts = route.hosts.clone();
            hosts.sort();
            hosts.dedup();
            let place = Place {
                namespace: Arc::clone(&origin.namespace),
                kind: Arc::clone(&origin.kind),
                name: Arc::clone(&origin.name),
                hosts,
                bind: route.bind.clone(),
            };
            groups.entry(place).or_default().push((id, route));
        }
        groups
    }

    /// Tells where the written order and Gateway API's own differ.
    fn compare_order(&mut self, members: &Members<'i>) {
        for (origin, text) in order::inversions(members) {
            self.note(&origin, Verdict::Changed, &text);
        }
    }

    fn routes(&mut self, number: usize, place: &Place, members: &Members<'i>) -> Vec<Value> {
        let rules: Vec<Value> = members
            .iter()
            .filter_map(|(_, route)| self.rule(route))
            .collect();
        let Some((_, first)) = members.first() else {
            return Vec::new();
        };
        let hostnames = self.hostnames(&first.origin, &place.hosts);
        let section = section(place.bind.as_ref());
        self.sections.insert(section.clone());
        let chunks = rules.chunks(MOST_RULES).enumerate();
        let named = chunks.map(|(at, rules)| {
            let name = format!("{}-{number}-{at}", place.name).to_lowercase();
            let mut spec = Map::new();
            let parent =
                json!({"name": GATEWAY, "namespace": "default", "sectionName": section.name});
            spec.insert("parentRefs".to_owned(), json!([parent]));
            if !hostnames.is_empty() {
                spec.insert("hostnames".to_owned(), json!(hostnames));
            }
            spec.insert("rules".to_owned(), json!(rules));
            json!({
                "apiVersion": VERSION,
                "kind": "HTTPRoute",
                "metadata": {"name": name, "namespace": place.namespace},
                "spec": spec,
            })
        });
        named.collect()
    }

    fn hostnames(&mut self, origin: &Origin, hosts: &[HostPattern]) -> Vec<String> {
        if hosts.is_empty() || hosts.contains(&HostPattern::Any) {
            return Vec::new();
        }
        if let Some(label) = hosts.iter().find(|it| matches!(it, HostPattern::Label(_))) {
            let text =
                format!("{label} stands for one label here and for any number of them there");
            self.note(origin, Verdict::Changed, &text);
        }
        hosts.iter().map(ToString::to_string).collect()
    }

    /// `None` if the rule is left out.
    fn rule(&mut self, route: &Route) -> Option<Value> {
        match self.try_rule(&hoist::hoisted(route)) {
            Ok(rule) => Some(rule),
            Err(why) => {
                self.note(&route.origin, Verdict::LeftOut, &why);
                None
            }
        }
    }

    fn try_rule(&mut self, route: &Route) -> Result<Value, String> {
        let matches = matching::matches(&route.matches)?;
        let mut rule = Map::new();
        if !matches.is_empty() {
            rule.insert("matches".to_owned(), json!(matches));
        }
        let mut filters = filter::headers("RequestHeaderModifier", &route.request_headers);
        let written = filter::filters(&route.filters, route, self.input)?;
        for lost in written.lost {
            self.note(&route.origin, Verdict::Lost, &lost);
        }
        filters.extend(written.filters);
        match &route.action {
            Action::Forward(split) => self.forward(route, split, &mut rule)?,
            Action::ForwardSecure(split) => {
                let text = "plain HTTP is redirected to HTTPS here: add a listener for HTTPS and a route that redirects";
                self.note(&route.origin, Verdict::Changed, text);
                self.forward(route, split, &mut rule)?;
            }
            Action::Redirect(redirect) => filters.push(filter::redirect(redirect)?),
            Action::Respond(answer) => {
                return Err(format!(
                    "Gateway API has no answer of its own ({})",
                    answer.status
                ));
            }
        }
        self.limits(route, &mut rule);
        if !filters.is_empty() {
            rule.insert("filters".to_owned(), json!(filters));
        }
        Ok(Value::Object(rule))
    }

    fn limits(&mut self, route: &Route, rule: &mut Map<String, Value>) {
        let limits = filter::timeouts(&route.filters);
        if !limits.is_empty() {
            rule.insert("timeouts".to_owned(), Value::Object(limits));
        }
        if let Some(retry) = &route.filters.retry {
            let (retry, lost) = filter::retry(retry);
            rule.insert("retry".to_owned(), retry);
            if let Some(lost) = lost {
                self.note(&route.origin, Verdict::Lost, lost);
            }
        }
    }

    fn forward(
        &mut self,
        route: &Route,
        split: &Split,
        rule: &mut Map<String, Value>,
    ) -> Result<(), String> {
        let mut references = Vec::new();
        for arm in split.arms() {
            if arm.instead.is_some() {
                return Err("a share of the requests is answered or redirected".to_owned());
            }
            let mut reference = self.reference(route, &arm.backend)?;
            reference["weight"] = arm.weight.into();
            let mut filters = filter::headers("RequestHeaderModifier", &arm.request_headers);
            let response = &arm.filters.response_headers;
            filters.extend(filter::headers("ResponseHeaderModifier", response));
            let others = Filters {
                response_headers: Default::default(),
                ..arm.filters.clone()
            };
            if !others.is_empty() {
                return Err(
                    "a share of the requests is changed otherwise than in headers".to_owned(),
                );
            }
            if !filters.is_empty() {
                reference["filters"] = json!(filters);
            }
            references.push(reference);
        }
        rule.insert("backendRefs".to_owned(), json!(references));
        Ok(())
    }

    fn reference(&mut self, route: &Route, id: &BackendId) -> Result<Value, String> {
        let reference = reference(self.input, id)?;
        let spec = self
            .input
            .backends
            .get(id)
            .and_then(|(_, spec)| spec.clone());
        if let Some(spec) = spec.filter(|spec| **spec != BackendSpec::default()) {
            if !spec.hosts.is_empty() || !spec.labels.is_empty() {
                let what = if spec.hosts.is_empty() {
                    "only some pods of the Service"
                } else {
                    "hosts outside of the cluster"
                };
                return Err(format!("{id} is {what}: make a Service of it first"));
            }
            let text =
                format!("what is said about {id} (balancing, limits, TLS) has no place there");
            self.note(&route.origin, Verdict::Lost, &text);
        }
        let service = &reference.service;
        if service.namespace != route.origin.namespace {
            let from = Arc::clone(&route.origin.namespace);
            self.grants.insert((from, service.clone()));
        }
        Ok(json!({
            "name": service.name, "namespace": service.namespace, "port": reference.port,
        }))
    }

    fn gateway(&self, class: &str) -> Value {
        let listeners = self.sections.iter().map(|section| {
            json!({
                "name": section.name, "protocol": "HTTP", "port": section.port,
                "allowedRoutes": {"namespaces": {"from": "All"}},
            })
        });
        let listeners: Vec<_> = listeners.collect();
        json!({
            "apiVersion": VERSION,
            "kind": "Gateway",
            "metadata": {"name": GATEWAY, "namespace": "default"},
            "spec": {"gatewayClassName": class, "listeners": listeners},
        })
    }
}

fn gateway_class(class: &str) -> Value {
    json!({
        "apiVersion": VERSION,
        "kind": "GatewayClass",
        "metadata": {"name": class},
        "spec": {"controllerName": api::gateway::CONTROLLER},
    })
}

/// The Service behind a backend.
fn reference<'i>(input: &'i Input, id: &BackendId) -> Result<&'i BackendRef, String> {
    let found = input.backends.get(id).map(|(reference, _)| reference);
    found.ok_or_else(|| format!("{id} is no Service"))
}

/// The listener of a bind, whose id begins with its address, or of the shared ones.
fn section(bind: Option<&BindId>) -> Section {
    let port = bind.and_then(|bind| {
        let address = bind.0.split('/').next()?;
        address.rsplit(':').next()?.parse().ok()
    });
    match port {
        Some(port) => Section {
            name: format!("http-{port}"),
            port,
        },
        None => Section {
            name: "http".to_owned(),
            port: 80,
        },
    }
}

fn grant((from, service): &(Arc<str>, Name)) -> Value {
    json!({
        "apiVersion": VERSION,
        "kind": "ReferenceGrant",
        "metadata": {
            "name": format!("{}-from-{from}", service.name), "namespace": service.namespace,
        },
        "spec": {
            "from": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": from}],
            "to": [{"group": "", "kind": "Service", "name": service.name}],
        },
    })
}
