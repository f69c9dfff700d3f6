//! Options that are attached to routes and listeners of the Gateway API.
//!
//! A RouteOption that a filter of a rule names comes before those whose `targetRefs` name the
//! route. As in Gloo, options of routes come before filters that edit headers, which become options
//! where none say so, and before timeouts; filters that rewrite come before options. Options that
//! guard and cannot be served spoil the rule, as every filter does that cannot.

use std::collections::BTreeMap;
use std::sync::Arc;

use routing::model::{Filters, HeaderOps, Mirror, PathEdit, PathMatch};
use serde_json::{Value, json};

use super::options::{self, HostOptions, Options};
use super::status::Judgement;
use super::target::{self, Listener};
use super::upgrades::Allowed;
use super::upstream::{Backends, Destination, Way};
use super::{ROUTE_OPTION, auth_config};
use crate::backend::BackendRef;
use crate::fields::{Fields, Findings};
use crate::foreign::{BackendSpec, Object};
use crate::objects::{Name, Reader};
use crate::overlay;

/// What a filter may refer to.
pub(crate) const GROUP: &str = super::GATEWAY_GROUP;
pub(crate) const KIND: &str = "RouteOption";

const HEADERS: &str = "headerManipulation";
/// Why `upgrades` that enable CONNECT do nothing here.
pub(super) const CONNECT_ELSEWHERE: &str = "no CONNECT takes a route of the Gateway API: write a \
                                            VirtualService with a connectMatcher";
/// Options about destinations of VirtualServices, with what says it here.
pub(super) const OF_DESTINATIONS: [(&str, &str); 3] = [
    (
        "lbHash",
        "write sessionPersistence into the rule, or a TrafficPolicy with loadBalancer for the Service",
    ),
    (
        "idleTimeout",
        "write a TrafficPolicy with upstreamTimeouts for the Service",
    ),
    ("autoHostRewrite", "write hostRewrite"),
];

/// A rule of a route, at one listener.
pub(crate) struct Place<'p> {
    /// Of the Gateway API.
    pub(crate) route: &'p Name,
    pub(crate) is_http: bool,
    /// RouteOptions that filters of the rule name.
    pub(crate) named: &'p [Name],
    pub(crate) path: Option<&'p PathMatch>,
    /// One about which there are options.
    pub(crate) listener: Option<&'p Listener>,
    /// Tells what is counted for the rule apart.
    pub(crate) id: String,
}

/// What came of it besides the changes.
#[derive(Default)]
pub(crate) struct Attached {
    /// What is served otherwise than written.
    pub(crate) notes: Vec<String>,
    pub(crate) backends: BTreeMap<BackendRef, Arc<BackendSpec>>,
}

/// Puts options over what a rule's own fields do. An error says why the rule cannot be served.
pub(crate) fn apply(
    reader: &Reader<'_>,
    place: &Place<'_>,
    headers: &mut HeaderOps,
    filters: &mut Filters,
) -> Result<Attached, String> {
    let mut of_route = Vec::new();
    for name in place.named {
        let object = reader.foreign(&ROUTE_OPTION, name);
        of_route.push(object.ok_or_else(|| format!("{KIND} {name} does not exist"))?);
    }
    if place.is_http {
        of_route.extend(target::of_route(reader, place.route));
    }
    let of_host = place.listener.map(|it| target::of_listener(reader, it));
    let of_host = of_host.unwrap_or_default();
    if of_route.is_empty() && of_host.is_empty() {
        return Ok(Attached::default());
    }
    let mut out = Attached::default();
    let mut said = merged(&of_route);
    if !said[HEADERS].is_null() {
        if *headers != HeaderOps::default() || filters.response_headers != HeaderOps::default() {
            let text =
                format!("{HEADERS} of a {KIND} stands in place of filters that edit headers");
            out.notes.push(text);
        }
    } else if let Some(written) = written(headers, &filters.response_headers) {
        said[HEADERS] = written;
    }
    let (host, all) = (merged(&of_host), of_route.iter().chain(&of_host));
    let names: Vec<_> = all
        .map(|it| format!("{} {}", it.kind.kind, it.name))
        .collect();
    let names = names.join(", ");
    let told = |text: String| format!("{names}: {text}");
    let mut options = read(&said, &host, place).map_err(told)?;
    if options.connect.1 {
        out.notes.push(told(CONNECT_ELSEWHERE.to_owned()));
    }
    let mut backends = Backends::new(reader);
    auth_config::ask(&mut options, &mut backends).map_err(told)?;
    match options.limits.asked(&mut backends) {
        Ok(service) => options.guards.limit_services.extend(service),
        Err((_, text)) => out.notes.push(told(text)),
    }
    for (key, remedy) in OF_DESTINATIONS {
        if !said[key].is_null() {
            let text = format!("{key} is for destinations of VirtualServices: {remedy}");
            out.notes.push(told(text));
        }
    }
    guard(&options, filters).map_err(told)?;
    if let Some((name, share)) = &options.mirror {
        let destination = Destination::upstream(name.clone(), "options.shadowing");
        let way = Way {
            hash: &[],
            idle: None,
            auto_host: false,
            grpc_web: false,
        };
        match destination.resolve(&way, &mut backends) {
            Ok(arm) => filters.mirrors.push(Mirror {
                backend: arm.backend,
                share: *share,
            }),
            Err(text) => out.notes.push(told(text)),
        }
    }
    overlay(&said, options, place.path, (headers, filters));
    out.backends = backends.found;
    Ok(out)
}

/// The first that says something counts.
fn merged(objects: &[&Arc<Object>]) -> Value {
    let mut all = Value::Null;
    for object in objects {
        options::merge(&mut all, &object.spec()["options"]);
    }
    all
}

/// Edits of headers as options write them.
fn written(request: &HeaderOps, response: &HeaderOps) -> Option<Value> {
    if *request == HeaderOps::default() && *response == HeaderOps::default() {
        return None;
    }
    let entries = |ops: &HeaderOps| {
        let entry = |(name, value): &(Arc<str>, Arc<str>), append: bool| {
            // Here nothing is a variable.
            let value = value.replace('%', "%%");
            json!({"header": {"key": &**name, "value": value}, "append": append})
        };
        let set = ops.set.iter().map(|pair| entry(pair, false));
        let add = ops.add.iter().map(|pair| entry(pair, true));
        set.chain(add).collect::<Vec<_>>()
    };
    let names = |ops: &HeaderOps| -> Vec<String> {
        let names = ops.remove.iter();
        names.map(ToString::to_string).collect()
    };
    Some(json!({
        "requestHeadersToAdd": entries(request),
        "requestHeadersToRemove": names(request),
        "responseHeadersToAdd": entries(response),
        "responseHeadersToRemove": names(response),
    }))
}

/// What is wrong with a field is told in the status of the options; an error is only what they
/// cannot be served without.
fn read(said: &Value, host: &Value, place: &Place<'_>) -> Result<Options, String> {
    let findings = Findings::default();
    let field = || "options".to_owned();
    let of_host = Fields::new(host, field(), &findings);
    let listener = place.listener.map(ToString::to_string);
    let id = format!("gloo/listener {}", listener.unwrap_or_default());
    let host = HostOptions::read(&of_host, &id);
    let fields = Fields::new(said, field(), &findings);
    let own = (&*place.route.namespace, &*place.id);
    let options = Options::read(&fields, &host, Allowed::default(), own);
    drop((fields, of_host));
    let mut judgement = Judgement::default();
    judgement.absorb(&findings);
    match judgement.error_text() {
        Some(text) => Err(text),
        None => Ok(options),
    }
}

fn guard(options: &Options, filters: &mut Filters) -> Result<(), String> {
    if options.guards.is_empty() {
        return Ok(());
    }
    let guards = overlay::guards_of(filters);
    if guards.external.is_some() && options.guards.external.is_some() {
        return Err("a filter ExternalAuth is there, too: one server is asked, not two".to_owned());
    }
    if guards.tokens.is_some() && options.guards.tokens.is_some() {
        return Err("a filter verifies tokens, too: they are verified once".to_owned());
    }
    if options.guards.credentials.is_some() {
        if guards.credentials.is_some() {
            let text = "a filter asks for passwords or keys, too: they are asked for once";
            return Err(text.to_owned());
        }
        guards.credentials.clone_from(&options.guards.credentials);
    }
    overlay::merge(guards, &options.guards);
    Ok(())
}

fn overlay(
    said: &Value,
    options: Options,
    path: Option<&PathMatch>,
    (headers, filters): (&mut HeaderOps, &mut Filters),
) {
    let is_said = |key: &str| !said[key].is_null();
    let own = &options.filters;
    filters.response_headers = own.response_headers.clone();
    filters
        .request_templates
        .extend(own.request_templates.iter().cloned());
    filters
        .response_templates
        .extend(own.response_templates.iter().cloned());
    filters.rewrites.extend(own.rewrites.iter().cloned());
    if is_said("cors") || filters.cors.is_none() {
        filters.cors.clone_from(&own.cors);
    }
    if is_said("timeout") {
        filters.request_timeout = own.request_timeout;
    }
    if is_said("retries") || (filters.retry.is_none() && own.retry.is_some()) {
        filters.retry.clone_from(&own.retry);
        filters.try_timeout = own.try_timeout.or(filters.try_timeout);
    }
    if filters.rewrite_host.is_none() {
        filters.rewrite_host.clone_from(&own.rewrite_host);
    }
    if filters.rewrite_path.is_none() {
        filters.rewrite_path = edit(&options, path);
    }
    *headers = options.request;
}

/// What is matched becomes another text, and the rest of the path stays.
fn edit(options: &Options, path: Option<&PathMatch>) -> Option<PathEdit> {
    let Some(with) = &options.prefix else {
        return options.regex.clone();
    };
    let with = Arc::clone(with);
    let matched = match path {
        None | Some(PathMatch::Connect) => "/".into(),
        Some(PathMatch::Regex(_)) => return Some(PathEdit::Full(with)),
        Some(PathMatch::Exact(text) | PathMatch::StringPrefix(text)) => Arc::clone(text),
        Some(PathMatch::ElementPrefix(text)) => text.trim_end_matches('/').into(),
    };
    Some(PathEdit::Text { matched, with })
}
