//! A VirtualService → routes and certificates, at every place where it is served.

use std::collections::BTreeMap;
use std::sync::Arc;

use routing::model::tls::{TlsAction, TlsHost, TlsId};
use routing::model::{Action, HostPattern, Match, Respond, Route, RouteId, SortKey, Visibility};

use super::action::{RouteSpec, option_refs};
use super::gateway::{self, Place};
use super::matcher::Matcher;
use super::options::{self, HostOptions};
use super::tls::{self, Server};
use super::upgrades::Allowed;
use super::upstream::Backends;
use super::walk::{Act, Planned, Walk};
use super::{DIALECT, VIRTUAL_HOST_OPTION, VIRTUAL_SERVICE};
use crate::fields::{Fields, Findings};
use crate::foreign::{Object, Translation};
use crate::objects::{Objects, Reader};
use crate::shared::scheme;

/// The domains, apart with and without TLS.
pub(super) fn keys(object: &Object) -> Vec<Arc<str>> {
    let domains = object.spec()["virtualHost"]["domains"].as_array();
    let domains = domains.into_iter().flatten().filter_map(|it| it.as_str());
    let mut keys: Vec<_> = domains.map(|domain| key(object, domain)).collect();
    if keys.is_empty() {
        keys.push(key(object, "*"));
    }
    keys
}

fn key(object: &Object, domain: &str) -> Arc<str> {
    let ssl = object.spec()["sslConfig"].is_object();
    format!(
        "{} {}",
        if ssl { "https" } else { "http" },
        domain.to_ascii_lowercase()
    )
    .into()
}

/// What is read of it before its routes are walked.
struct Spec {
    domains: Vec<String>,
    routes: Vec<RouteSpec>,
    server: Option<Server>,
    options: serde_json::Value,
    option_refs: Vec<crate::objects::Name>,
}

fn read(object: &Object, reader: &Reader<'_>, findings: &Findings) -> Spec {
    let root = Fields::new(&object.body, String::new(), findings);
    let namespace = &*object.name.namespace;
    let mut out = Spec {
        domains: Vec::new(),
        routes: Vec::new(),
        server: None,
        options: serde_json::Value::Null,
        option_refs: Vec::new(),
    };
    let Some(spec) = root.object("spec") else {
        return out;
    };
    spec.ignore("displayName");
    out.server = spec
        .object("sslConfig")
        .map(|it| tls::server(&it, namespace, reader));
    if let Some(host) = spec.object("virtualHost") {
        out.domains = host
            .strings("domains")
            .into_iter()
            .map(str::to_owned)
            .collect();
        let routes = host.objects("routes").into_iter();
        out.routes = routes.map(|it| RouteSpec::read(&it, namespace)).collect();
        out.options = host.raw("options").cloned().unwrap_or_default();
        out.option_refs = option_refs(&host, namespace);
    }
    out
}

/// Translates one VirtualService.
pub(super) fn translate(object: &Object, objects: &Objects) -> Translation {
    let reader = Reader::new(objects);
    let mut walk = Walk::new(Backends {
        reader: &reader,
        found: BTreeMap::new(),
    });
    let mut out = Translation::default();
    serve(object, &reader, &mut walk, &mut out);
    let judgement = std::mem::take(&mut walk.judgement);
    if judgement.is_rejected() {
        out = Translation::default();
    } else {
        out.backends = std::mem::take(&mut walk.backends.found);
    }
    out.diagnostics = judgement.diagnostics();
    out.status = Some(judgement.status("gateway"));
    drop(walk);
    out.reads = reader.into_read();
    out
}

fn serve(object: &Object, reader: &Reader<'_>, walk: &mut Walk<'_, '_>, out: &mut Translation) {
    let findings = Findings::default();
    let spec = read(object, reader, &findings);
    walk.judgement.absorb(&findings);
    if walk.judgement.is_rejected() {
        return;
    }
    walk.host = host_options(object, &spec, reader, walk);
    let places = gateway::places(reader, object);
    if places.is_empty() {
        let text = "no Gateway selects the VirtualService, so it is served nowhere";
        walk.judgement.warn("GatewayMissing", "spec", text);
    }
    conflicts(object, &places, reader, walk);
    let domains = domains(object, &spec.domains, reader, walk);
    let allowed = places.iter().map(|place| place.allowed);
    walk.allowed = allowed.reduce(Allowed::or).unwrap_or_default();
    walk.grpc_web = places.iter().any(|place| place.grpc_web);
    let planned = walk.root(object, spec.routes);
    for place in &places {
        let assembly = Assembly {
            object,
            place,
            domains: &domains,
            scheme: scheme(object, spec.server.is_some(), reader),
        };
        if let Some(server) = &spec.server {
            match &server.termination {
                Ok(termination) => {
                    let action = TlsAction::Terminate(termination.clone());
                    out.tls.push(assembly.tls(server, action));
                }
                Err(text) => {
                    walk.judgement
                        .error("CertificateInvalid", "spec.sslConfig", text);
                }
            }
        }
        assembly.routes(&planned, out);
    }
}

fn host_options(
    object: &Object,
    spec: &Spec,
    reader: &Reader<'_>,
    walk: &mut Walk<'_, '_>,
) -> HostOptions {
    let mut merged = spec.options.clone();
    let field = "spec.virtualHost.optionsConfigRefs";
    for name in &spec.option_refs {
        match reader.foreign(&VIRTUAL_HOST_OPTION, name) {
            Some(other) => options::merge(&mut merged, &other.spec()["options"]),
            None => {
                let text = format!("VirtualHostOption {name} does not exist");
                walk.judgement.warn("OptionsMissing", field, text);
            }
        }
    }
    let findings = Findings::default();
    let fields = Fields::new(&merged, "spec.virtualHost.options".to_owned(), &findings);
    let options = HostOptions::read(&fields, &format!("gloo/{}", object.name));
    drop(fields);
    walk.judgement.absorb(&findings);
    options
}

/// A domain that another VirtualService has at the same place rejects both.
fn conflicts(object: &Object, places: &[Place], reader: &Reader<'_>, walk: &mut Walk<'_, '_>) {
    for key in keys(object) {
        let others = reader.foreign_by_key(&VIRTUAL_SERVICE, &key);
        for other in others.filter(|other| other.name != object.name) {
            let theirs = gateway::places(reader, other);
            let is_shared = |place: &Place| theirs.iter().any(|their| their.bind == place.bind);
            if places.iter().any(is_shared) {
                let domain = key.split(' ').nth(1).unwrap_or_default();
                let text = format!(
                    "domain conflict: VirtualService {} has {domain} too",
                    other.name
                );
                walk.judgement.conflict("spec.virtualHost.domains", text);
            }
        }
    }
}

fn domains(
    object: &Object,
    written: &[String],
    reader: &Reader<'_>,
    walk: &mut Walk<'_, '_>,
) -> Vec<HostPattern> {
    let field = "spec.virtualHost.domains";
    let mut out = Vec::new();
    for text in written {
        // Ports in a request's authority are ignored, so one in a domain says nothing.
        let name = text.split_once(':').map_or(text.as_str(), |(name, _)| name);
        let Some(pattern) = tls::domain(name) else {
            let told =
                format!("domain {text:?} is not supported: a name, *. before a name, or * is");
            walk.judgement.warn("DomainNotSupported", field, told);
            continue;
        };
        match reader.other_owner(&pattern, object) {
            Some(owner) => {
                let text = format!(
                    "domain {text} belongs to the Knative Ingress {}",
                    owner.owner
                );
                walk.judgement.warn("DomainConflict", field, text);
            }
            None if out.contains(&pattern) => {}
            None => out.push(pattern),
        }
    }
    if written.is_empty() {
        out.push(HostPattern::Any);
    }
    out
}

/// The records of one place.
struct Assembly<'a> {
    object: &'a Object,
    place: &'a Place,
    domains: &'a [HostPattern],
    /// At the shared listeners; `None` is both.
    scheme: Option<&'static str>,
}

/// At the shared listeners, a VirtualService is for one of the two schemes. One that was made for a
/// Knative Ingress is for both where no other is for TLS: the gateway has certificates of its own.
fn scheme(object: &Object, is_tls: bool, reader: &Reader<'_>) -> Option<&'static str> {
    if is_tls {
        return Some("https");
    }
    let mut domains = object.spec()["virtualHost"]["domains"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|domain| domain.as_str());
    let has_tls = |domain: &str| {
        let key = format!("https {}", domain.to_ascii_lowercase());
        reader
            .foreign_by_key(&VIRTUAL_SERVICE, &key)
            .next()
            .is_some()
    };
    let is_both = object.maker.is_some() && !domains.any(has_tls);
    (!is_both).then_some("http")
}

impl Assembly<'_> {
    /// What the ids of its records begin with.
    fn place(&self) -> String {
        match &self.place.bind {
            None => format!("{DIALECT}/{}", self.object.name),
            Some(bind) => format!("{DIALECT}/{} at {}", self.object.name, bind.id),
        }
    }

    fn tls(&self, server: &Server, action: TlsAction) -> (TlsId, Arc<TlsHost>) {
        let named = server.names.iter().filter_map(|name| tls::domain(name));
        let mut names: Vec<_> = named.collect();
        if server.names.is_empty() {
            names = self.domains.to_vec();
        }
        let record = TlsHost {
            origin: self.object.origin("spec.sslConfig"),
            bind: self.place.bind.as_ref().map(|bind| bind.id.clone()),
            visibility: Visibility::External,
            names,
            sort_key: SortKey(vec![self.object.created]),
            action,
        };
        let id = TlsId(format!("{}/spec.sslConfig", self.place()).into());
        (id, Arc::new(record))
    }

    fn routes(&self, planned: &[Planned], out: &mut Translation) {
        if self.domains.is_empty() {
            return;
        }
        let mut position = 0;
        let mut push = |id: String, route: Route| {
            let id = RouteId(format!("{}/{id}", self.place()).into());
            out.routes.push((id, Arc::new(route)));
        };
        for route in planned {
            for (at, matcher) in route.matchers.iter().enumerate() {
                let id = if at == 0 {
                    route.id.clone()
                } else {
                    format!("{}#{at}", route.id)
                };
                push(id, self.route(route, matcher, position));
                position += 1;
            }
        }
        if let Some(bind) = &self.place.bind {
            out.binds.push((bind.id.clone(), Arc::clone(bind)));
            // A host that matched is never left for a wider one.
            push("none".to_owned(), self.nothing(position));
        }
    }

    fn route(&self, planned: &Planned, matcher: &Matcher, position: i64) -> Route {
        let mut filters = planned.options.filters.clone();
        filters.rewrite_path = planned.options.edit(matcher);
        let guards = &planned.options.guards;
        filters.guards = (!guards.is_empty()).then(|| Arc::new(guards.clone()));
        let action = match &planned.act {
            Act::Forward(split) => Action::Forward(split.clone()),
            Act::Respond(respond) => Action::Respond(respond.clone()),
            Act::Redirect(elsewhere) => Action::Redirect(elsewhere.redirect(matcher)),
        };
        Route {
            origin: planned.origin.clone(),
            matches: vec![self.matched(matcher)],
            request_headers: planned.options.request.clone(),
            filters,
            ..self.blank(position, action)
        }
    }

    fn matched(&self, matcher: &Matcher) -> Match {
        let mut matched = matcher.matched();
        if let (None, Some(scheme)) = (&self.place.bind, self.scheme) {
            matched.other.push(scheme::is(scheme));
        }
        matched
    }

    fn nothing(&self, position: i64) -> Route {
        let action = Action::Respond(Respond {
            status: 404,
            headers: Vec::new(),
            body: "".into(),
        });
        self.blank(position, action)
    }

    fn blank(&self, position: i64, action: Action) -> Route {
        Route {
            origin: self.object.origin("spec.virtualHost"),
            bind: self.place.bind.as_ref().map(|bind| bind.id.clone()),
            visibility: Visibility::External,
            hosts: self.domains.to_vec(),
            sort_key: SortKey(vec![position]),
            matches: Vec::new(),
            request_headers: Default::default(),
            rewrite_host: None,
            filters: Default::default(),
            action,
        }
    }
}
