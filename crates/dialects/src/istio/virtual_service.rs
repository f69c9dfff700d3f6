//! `VirtualService`: hosts and gateways, then rule by rule, block by block.

use std::collections::BTreeMap;
use std::sync::Arc;

use routing::model::{Action, HostPattern, Match, Route, RouteId, SortKey};
use serde_json::Value;

use super::destination::Finder;
use super::kinds::VIRTUAL_SERVICE;
use super::matches::Block;
use super::place::{self, Carries, Place};
use super::security::Target;
use super::{conditions, custom, delegate, gateway, http, mesh, names, sni, tcp};
use crate::backend::BackendRef;
use crate::diagnostic::{Diagnostic, Effect};
use crate::fields::{Fields, Findings};
use crate::foreign::{BackendSpec, Object, Translation};
use crate::objects::{Name, Objects, Reader};
use crate::overlay;

/// Rules that a delegate adds, at most.
const MOST_DELEGATED: usize = 4096;

/// Translates one VirtualService.
pub(super) fn translate(object: &Object, objects: &Objects) -> Translation {
    let reader = Reader::new(objects);
    let findings = Findings::default();
    let mut out = Translation::default();
    let body = Fields::new(&object.body, String::new(), &findings);
    match body.object("spec") {
        Some(spec) => run(object, &spec, &reader, &mut out),
        None => findings.refuse("RulesMissing", "spec", "nothing is served"),
    }
    drop(body);
    conditions::finish(&mut out, object, &findings, reader, &[]);
    out
}

fn run(object: &Object, spec: &Fields<'_>, reader: &Reader<'_>, out: &mut Translation) {
    spec.strings("exportTo");
    let hosts = hosts(object, spec, reader);
    let is_delegate = hosts.is_empty() && !spec.has("hosts");
    if is_delegate {
        // Served by the objects that delegate to it; judged here.
        spec.strings("gateways");
    }
    let places = if is_delegate {
        Vec::new()
    } else {
        place::find(object, spec, &hosts, reader)
    };
    let listeners = place::listeners(&places);
    let mut translator = Translator {
        object,
        finder: Finder::new(reader, &object.name.namespace, listeners),
        places: &places,
        policies: Vec::new(),
        out,
        count: 0,
    };
    translator.policies = places
        .iter()
        .map(|place| translator.policy(place))
        .collect();
    for place in places.iter().filter(|place| place.redirects) {
        translator
            .out
            .routes
            .push(gateway::redirect(object, place, "spec.gateways"));
    }
    let is_bytes = |place: &Place| matches!(place.carries, Some(Carries::Tcp | Carries::Inside(_)));
    if spec.has("http") && !places.is_empty() && places.iter().all(is_bytes) {
        let message = "the servers with a host of this object are not for HTTP; write tcp";
        spec.findings()
            .refuse("NoHttpServer", &spec.at("http"), message);
    }
    for rule in spec.objects("http") {
        translator.rule(&rule);
    }
    let mut backends = translator.finder.backends.take();
    sni::translate(object, spec, &places, reader, (out, &mut backends));
    tcp::translate(object, spec, &places, reader, (out, &mut backends));
    if ["http", "tls", "tcp"].iter().all(|key| !spec.has(key)) {
        spec.refuse("http", "RulesMissing", "no rules: nothing is served");
    }
    merge(&mut out.backends, backends);
}

fn merge(
    into: &mut BTreeMap<BackendRef, Arc<BackendSpec>>,
    from: BTreeMap<BackendRef, Arc<BackendSpec>>,
) {
    into.extend(from);
}

/// The hosts as patterns, without those that a Knative Ingress has.
fn hosts(object: &Object, spec: &Fields<'_>, reader: &Reader<'_>) -> Vec<HostPattern> {
    let mut found = Vec::new();
    for (at, text) in spec.strings("hosts").into_iter().enumerate() {
        let field = format!("{}[{at}]", spec.at("hosts"));
        let host = names::fqdn(text, &object.name.namespace);
        let Some(pattern) = names::pattern(&host) else {
            let message = format!("{text:?} is no host; it is not served");
            spec.findings().refuse("HostInvalid", &field, message);
            continue;
        };
        if let Some(owner) = reader.other_owner(&pattern, object) {
            let message = format!(
                "host {pattern} belongs to the Knative Ingress {}",
                owner.owner
            );
            spec.findings()
                .say(Effect::Conflict, "DomainConflict", &field, message);
            continue;
        }
        if !found.contains(&pattern) {
            found.push(pattern);
        }
    }
    found
}

struct Translator<'t, 'o> {
    object: &'t Object,
    finder: Finder<'t, 'o>,
    places: &'t [Place],
    /// What is asked of every request at a place, in the order of the places.
    policies: Vec<overlay::Policies>,
    out: &'t mut Translation,
    /// Rules so far, those of delegates included.
    count: i64,
}

impl Translator<'_, '_> {
    fn policy(&self, place: &Place) -> overlay::Policies {
        let gateway = place.gateway.split_once('/');
        let gateway = gateway.map(|(namespace, name)| Name::new(namespace, name));
        let target = match &gateway {
            Some(gateway) => Target::Gateway {
                gateways: std::slice::from_ref(gateway),
                port: place.port,
            },
            None => Target::Mesh,
        };
        let reader = self.finder.reader();
        overlay::of_target(reader, &place.hosts, &target, &mut |custom| {
            custom::external(reader, custom, &self.finder.backends)
        })
    }

    fn rule(&mut self, rule: &Fields<'_>) {
        if rule.has("delegate") {
            return self.delegated(rule);
        }
        let namespace = Arc::clone(&self.object.name.namespace);
        if let Some(read) = http::read(rule, &self.finder, &namespace) {
            if self.places.iter().any(Place::is_mesh) {
                read.blocks
                    .iter()
                    .for_each(|block| block.tell_in_mesh(rule.findings()));
            }
            self.emit(&read, None);
        }
        self.count += 1;
    }

    /// Rules of another VirtualService. What is wrong with those stands in its status; here stands
    /// what is wrong with the delegation.
    fn delegated(&mut self, rule: &Fields<'_>) {
        let Some(written) = rule.object("delegate") else {
            return;
        };
        rule.ignore("name");
        for key in ["route", "redirect"] {
            if rule.raw(key).is_some() {
                rule.refuse(
                    key,
                    "RouteAndDelegate",
                    "a rule that delegates sends nowhere itself",
                );
            }
        }
        let namespace = written
            .text("namespace")
            .unwrap_or(&self.object.name.namespace);
        let name = Name::new(namespace, written.text("name").unwrap_or_default());
        self.judge_root(rule);
        let Some(other) = self.finder.reader().foreign(&VIRTUAL_SERVICE, &name) else {
            let message = format!("VirtualService {name} does not exist");
            return written_waits(&written, message);
        };
        let spec = other.spec();
        if spec["hosts"]
            .as_array()
            .is_some_and(|hosts| !hosts.is_empty())
        {
            let message =
                format!("VirtualService {name} has hosts of its own, so it is no delegate");
            return written.refuse("name", "DelegateInvalid", message);
        }
        if !names::is_exported(spec, namespace, &self.object.name.namespace) {
            let message = format!("exportTo of VirtualService {name} does not let this one use it");
            return written.refuse("name", "NotExported", message);
        }
        let root = rule.whole();
        let rules = spec["http"]
            .as_array()
            .into_iter()
            .flatten()
            .take(MOST_DELEGATED);
        for (at, inner) in rules.enumerate() {
            self.join(rule, (&root, inner), (at, other));
        }
    }

    fn join(
        &mut self,
        rule: &Fields<'_>,
        (root, inner): (&Value, &Value),
        (at, other): (usize, &Arc<Object>),
    ) {
        if !inner["delegate"].is_null() {
            let message = format!(
                "rule {at} of VirtualService {} delegates again; only one level is served",
                other.name
            );
            return rule.refuse("delegate", "DelegateInvalid", message);
        }
        let Some(joined) = delegate::join(root, inner) else {
            let message = format!(
                "the match of rule {at} of VirtualService {} contradicts the match here; that \
                 rule is not served",
                other.name
            );
            return rule.refuse("delegate", "DelegateConflict", message);
        };
        let quiet = Findings::default();
        let path = format!("{}.delegate.http[{at}]", rule.path());
        let fields = Fields::new(&joined, path, &quiet);
        let finder = self.finder.in_namespace(&other.name.namespace);
        let read = http::read(&fields, &finder, &self.object.name.namespace);
        drop(fields);
        merge(&mut self.out.backends, finder.backends.take());
        if let Some(read) = read {
            self.emit(&read, Some(other));
        }
        // A finding there is one of the other object's; that requests wait for something is ours.
        let waiting = quiet
            .take()
            .into_iter()
            .filter(|one| one.effect == Effect::Waiting);
        for Diagnostic {
            reason,
            field,
            message,
            ..
        } in waiting
        {
            rule.findings()
                .say(Effect::Waiting, reason, &field, message);
        }
        self.count += 1;
    }

    /// Reads what a delegating rule says besides, so that what is not known in it is reported.
    fn judge_root(&self, rule: &Fields<'_>) {
        let mut own = rule.whole();
        if let Some(map) = own.as_object_mut() {
            for key in ["delegate", "route", "redirect"] {
                map.remove(key);
            }
            // Something must be done with requests, or that would be reported.
            let nothing = serde_json::json!({"status": 200});
            map.entry("directResponse").or_insert(nothing);
        }
        let fields = Fields::new(&own, rule.path().to_owned(), rule.findings());
        let finder = self.finder.in_namespace(&self.object.name.namespace);
        http::read(&fields, &finder, &self.object.name.namespace);
        rule.pass_over();
    }

    fn emit(&mut self, rule: &http::Rule, other: Option<&Arc<Object>>) {
        for (number, block) in rule.blocks.iter().enumerate() {
            for at in 0..self.places.len() {
                let place = &self.places[at];
                let only_redirects = place.redirects && place.scheme != Some("https");
                if place.carries.is_some() || only_redirects || !block.is_for(place) {
                    continue;
                }
                let route = self.route(rule, (block, number), at);
                let by = other.map_or_else(String::new, |other| format!("/{}", other.name));
                let id = format!(
                    "istio/VirtualService/{}/{}/{}{by}",
                    self.object.name, place.id, block.field
                );
                self.out.routes.push((RouteId(id.into()), Arc::new(route)));
            }
        }
    }

    fn route(&self, rule: &http::Rule, (block, number): (&Block, usize), at: usize) -> Route {
        let place = &self.places[at];
        let mut one = block.matches.clone();
        one.other.extend(place.predicate());
        // The oldest object's rules first, as written; what matches everything last.
        let mut sort_key = vec![i64::from(block.is_catch_all)];
        sort_key.extend(conditions::order(self.object));
        sort_key.extend([self.count, number as i64]);
        let is_everything = one == Match::default();
        let (mut action, filters) = rule.action(block);
        if place.grpc_web
            && let Action::Forward(split) = action
        {
            action = Action::Forward(split.with_grpc_web());
        }
        let mut route = Route {
            origin: self.object.origin(&block.field),
            bind: place.bind_id(),
            visibility: place.visibility,
            hosts: place.hosts.clone(),
            sort_key: SortKey(sort_key),
            matches: if is_everything { Vec::new() } else { vec![one] },
            request_headers: rule.request_headers.clone(),
            rewrite_host: None,
            filters,
            action,
        };
        self.policies[at].apply(&mut route, self.finder.reader());
        if !place.is_mesh() {
            route.filters.client = mesh::client(self.finder.reader());
        }
        route
    }
}

fn written_waits(written: &Fields<'_>, message: String) {
    let field = written.at("name");
    written
        .findings()
        .say(Effect::Waiting, "DelegateMissing", &field, message);
}
