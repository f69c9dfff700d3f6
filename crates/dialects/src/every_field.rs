//! Nothing is dropped without a word: every field of every object in the golden cases of other
//! gateways' dialects, one at a time, is translated or reported.
//!
//! A field counts as heard if in some case another value of it, or none, changes the model, a status
//! or what is said, or if something is said about it. What nobody knows must be reported wherever
//! it is written.

mod gateway;
mod published;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_json::{Value, json};

use crate::foreign;
use crate::objects::Objects;
use crate::testing::model;

/// Object, field and reason.
type Fields = BTreeSet<(String, String, &'static str)>;

const FOLDERS: [&str; 9] = [
    "golden/istio",
    "golden/asm",
    "golden/contour",
    "golden/emissary",
    "golden/gloo",
    "golden/gloo_routes",
    "golden/apisix",
    "golden/apisix_routes",
    "golden/traffic_policy",
];

/// Fields that change nothing that is served, whatever they say: names for metrics, what is so in any
/// case with us, and what is for other programs. Kind and path.
const SILENT: &[(&str, &str)] = &[
    // Which of Envoy's chains a limit goes into; here there is one.
    ("ASMCircuitBreaker", ".applyToTraffic"),
    ("ASMCircuitBreaker", ".configs[].name"),
    ("ASMCircuitBreaker", ".isGateway"),
    ("ASMGlobalRateLimiter", ".applyToTraffic"),
    ("ASMGlobalRateLimiter", ".isGateway"),
    ("ASMLocalRateLimiter", ".applyToTraffic"),
    ("ASMLocalRateLimiter", ".configs[].name"),
    ("ASMLocalRateLimiter", ".isGateway"),
    // Whatever class an object names, nobody else serves it here.
    ("ApisixConsumer", ".ingressClassName"),
    ("ApisixGlobalRule", ".ingressClassName"),
    ("ApisixPluginConfig", ".ingressClassName"),
    ("ApisixTls", ".ingressClassName"),
    ("ApisixUpstream", ".ingressClassName"),
    ("ApisixRoute", ".stream[].name"),
    ("ApisixRoute", ".stream[].backend.resolveGranularity"),
    ("ApisixRoute", ".http[].plugins[].config.encode_uri"),
    ("ApisixRoute", ".http[].plugins[].config.path_concat_mode"),
    (
        "ApisixRoute",
        ".http[].plugins[].config.rules[].weighted_upstreams[].upstream.name",
    ),
    ("ApisixUpstream", ".healthCheck.active.concurrency"),
    (
        "ApisixUpstream",
        ".portLevelSettings[].healthCheck.active.concurrency",
    ),
    // No issuer is asked about tokens, so nothing is kept of its answers.
    (
        "AuthConfig",
        ".configs[].oauth2.accessTokenValidation.cacheTimeout",
    ),
    (
        "AuthConfig",
        ".configs[].oauth2.accessTokenValidation.default",
    ),
    ("AuthService", ".stats_name"),
    (
        "ContourConfiguration",
        ".globalExtAuth.httpSettings.allowedAuthorizationHeaders[].ignoreCase",
    ),
    (
        "ContourConfiguration",
        ".globalExtAuth.httpSettings.allowedUpstreamHeaders[].ignoreCase",
    ),
    ("ExtensionService", ".protocolVersion"),
    ("Gateway", ".proxyNames[]"),
    ("Gateway", ".servers[].name"),
    ("Gateway", ".servers[].port.name"),
    ("Gateway", ".tcpGateway.tcpHosts[].name"),
    (
        "HTTPProxy",
        ".virtualhost.authorization.httpSettings.allowedAuthorizationHeaders[].ignoreCase",
    ),
    (
        "HTTPProxy",
        ".virtualhost.authorization.httpSettings.allowedUpstreamHeaders[].ignoreCase",
    ),
    (
        "HTTPProxy",
        ".virtualhost.jwtProviders[].remoteJWKS.dnsLookupFamily",
    ),
    // Names for people.
    ("GRPCRoute", ".rules[].name"),
    ("HTTPRoute", ".rules[].name"),
    ("TCPRoute", ".rules[].name"),
    ("TLSRoute", ".rules[].name"),
    ("UDPRoute", ".rules[].name"),
    ("GatewayClass", ".description"),
    // The reference is refused as a whole.
    ("GatewayClass", ".parametersRef.namespace"),
    // `publisher` gives the addresses, and makes the Service that has the labels.
    ("Gateway", ".addresses"),
    ("Gateway", ".infrastructure.annotations"),
    ("Gateway", ".infrastructure.labels"),
    ("Listener", ".statsPrefix"),
    ("Mapping", ".cluster_tag"),
    ("Mapping", ".docs"),
    ("Mapping", ".stats_name"),
    // How the object was written in v2, for going back to it.
    ("Mapping", ".v2ExplicitTLS"),
    ("RateLimitService", ".v2ExplicitTLS"),
    ("LogService", ".stats_name"),
    ("LogService", ".v3StatsName"),
    ("TracingService", ".stats_name"),
    ("TCPMapping", ".cluster_tag"),
    ("TCPMapping", ".stats_name"),
    ("TCPMapping", ".v3StatsName"),
    // It is measured all the time, and nothing is kept of a label without requests in flight.
    (
        "AverageLatencySchedulingPolicy",
        ".latency_baseliner.long_term_query_periodic_interval",
    ),
    (
        "ConcurrencyLimitingPolicy",
        ".concurrency_limiter.parameters.max_idle_time",
    ),
    // Aperture's agents and their places; there is one of both.
    (
        "AverageLatencySchedulingPolicy",
        ".load_scheduling_core.aimd_load_scheduler.load_scheduler.selectors[].agent_group",
    ),
    (
        "AverageLatencySchedulingPolicy",
        ".load_scheduling_core.aimd_load_scheduler.load_scheduler.selectors[].control_point",
    ),
    (
        "ConcurrencySchedulingPolicy",
        ".concurrency_scheduler.selectors[].agent_group",
    ),
    (
        "ConcurrencySchedulingPolicy",
        ".concurrency_scheduler.selectors[].control_point",
    ),
    // Nothing is kept of a label without requests in flight.
    (
        "ConcurrencySchedulingPolicy",
        ".concurrency_scheduler.concurrency_limiter.max_idle_time",
    ),
    (
        "LoadRampingPolicy",
        ".drivers.average_latency_drivers[].selectors[].agent_group",
    ),
    (
        "LoadRampingPolicy",
        ".drivers.average_latency_drivers[].selectors[].control_point",
    ),
    (
        "LoadRampingPolicy",
        ".load_ramp.sampler.selectors[].agent_group",
    ),
    (
        "LoadRampingPolicy",
        ".load_ramp.sampler.selectors[].control_point",
    ),
    // How Aperture's agents share a bucket, of which there is one here.
    (
        "RateLimitingPolicy",
        ".rate_limiter.parameters.adaptive_load_scheduler",
    ),
    ("RateLimitingPolicy", ".rate_limiter.parameters.lazy_sync"),
    (
        "RateLimitingPolicy",
        ".rate_limiter.parameters.max_idle_time",
    ),
    (
        "RateLimitingPolicy",
        ".rate_limiter.selectors[].agent_group",
    ),
    (
        "RateLimitingPolicy",
        ".rate_limiter.selectors[].control_point",
    ),
    // They bound what a sidecar has to know; the gateway knows everything at no cost.
    ("Sidecar", ".egress[].hosts[]"),
    ("Sidecar", ".workloadSelector.labels.app"),
    ("RateLimitService", ".stats_name"),
    ("Upstream", ".discoveryMetadata"),
    ("Upstream", ".kube.subsetSpec"),
    // Ports may have any name, that of an entry or none.
    ("WorkloadEntry", ".ports"),
    ("VirtualService", ".displayName"),
    ("VirtualService", ".http[].match[].name"),
    ("VirtualService", ".http[].match[].statPrefix"),
    ("VirtualService", ".http[].name"),
    // Hosts have no parents.
    (
        "VirtualHostOption",
        ".options.stagedTransformations.inheritTransformation",
    ),
    (
        "VirtualService",
        ".virtualHost.options.stagedTransformations.inheritTransformation",
    ),
    ("VirtualService", ".virtualHost.options.stats"),
    ("VirtualService", ".virtualHost.routes[].name"),
    (
        "VirtualService",
        ".virtualHost.routes[].options.regexRewrite.pattern.googleRe2",
    ),
    ("VirtualService", ".virtualHost.routes[].routeMetadata"),
];

/// The same wherever such a thing is, by the end of its path: bodies are not looked into, so how they
/// would be read changes nothing; what is logged is the gateway's own; keys are fetched once for all.
const SILENT_ENDS: &[&str] = &[
    ".jwks.remote.asyncFetch",
    ".jwks.remote.asyncFetch.fastListener",
    ".transformationTemplate.advancedTemplates",
    ".transformationTemplate.ignoreErrorOnParse",
    ".transformationTemplate.parseBodyBehavior",
    ".transformationTemplate.passthrough",
    "Transformation.logRequestResponseInfo",
    ".stagedTransformations.logRequestResponseInfo",
];

/// What comes of documents: a text of everything, and which fields were spoken of.
fn outcome(documents: &[Value]) -> (String, Fields) {
    let mut objects = Objects::default();
    let made = model::of(documents, &mut objects);
    let model = serde_json::to_string(&made.model).expect("JSON");
    let text = format!("{model}\n{:?}\n{:?}", made.told, made.statuses);
    (text, made.fields)
}

/// Whether something was said about a field, about what it is part of, or about a part of it.
fn is_told(told: &Fields, title: &str, pointer: &str) -> bool {
    let path = path_of(pointer);
    let mut own = told.iter().filter(|(of, _, _)| of == title);
    own.any(|(_, field, reason)| {
        // What is said about an object as a whole says nothing about a field of it, unless its
        // kind is refused.
        let is_whole = field == "spec" && *reason != "KindNotSupported";
        !is_whole && (is_below(field, &path) || is_below(&path, field))
    })
}

/// As findings name it.
fn path_of(pointer: &str) -> String {
    let mut path = "spec".to_owned();
    for part in pointer.split('/').skip(1) {
        match part.parse::<usize>() {
            Ok(at) => path.push_str(&format!("[{at}]")),
            Err(_) => {
                path.push('.');
                path.push_str(&part.replace("~1", "/").replace("~0", "~"));
            }
        }
    }
    path
}

/// Whether the field of the longer path is the other one, or a part of it.
fn is_below(short: &str, long: &str) -> bool {
    let rest = long.strip_prefix(short);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// What findings call the object of a document.
fn title(document: &Value) -> String {
    let text = |key: &str| document.pointer(key).and_then(Value::as_str);
    format!(
        "{} {}/{}",
        text("/kind").unwrap_or_default(),
        text("/metadata/namespace").unwrap_or_default(),
        text("/metadata/name").unwrap_or_default()
    )
}

fn is_foreign(document: &Value) -> bool {
    let version = document["apiVersion"].as_str().unwrap_or_default();
    let group = version.split('/').next().unwrap_or_default();
    let mut kinds = foreign::kinds().iter();
    kinds.any(|kind| kind.group == group && document["kind"] == kind.kind)
}

/// Pointers of everything below a value: maps, and what is neither map nor list.
fn walk(value: &Value, at: String, maps: &mut Vec<String>, leaves: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                let key = key.replace('~', "~0").replace('/', "~1");
                walk(inner, format!("{at}/{key}"), maps, leaves);
            }
            maps.push(at);
        }
        Value::Array(list) => {
            for (number, inner) in list.iter().enumerate() {
                walk(inner, format!("{at}/{number}"), maps, leaves);
            }
        }
        Value::Null => {}
        _ => leaves.push(at),
    }
}

fn other(value: &Value) -> Value {
    match value {
        Value::Bool(flag) => json!(!flag),
        Value::Number(number) => json!(number.as_f64().unwrap_or_default() + 7.0),
        Value::String(text) => json!(format!("{text}7")),
        _ => json!([]),
    }
}

/// Where it is, and its documents.
pub(crate) type Case = (String, Vec<Value>);

pub(crate) fn cases() -> Vec<Case> {
    let base = fs::read_to_string("golden/base.yaml").expect("what cases of Istio have");
    let base: Vec<Value> = serde_saphyr::from_multiple(&base).expect("YAML");
    let mut cases = Vec::new();
    for folder in FOLDERS {
        let entries = fs::read_dir(folder).expect("cases");
        for path in entries.flatten().map(|entry| entry.path()) {
            let text = fs::read_to_string(path.join("input.yaml")).expect("an input");
            let own: Vec<Value> = serde_saphyr::from_multiple(&text).expect("YAML");
            let others = match folder {
                "golden/istio" | "golden/asm" => base.clone(),
                "golden/emissary" | "golden/apisix" => model::services(),
                "golden/apisix_routes" | "golden/gloo_routes" | "golden/traffic_policy" => {
                    crate::traffic_policy::base()
                }
                _ => Vec::new(),
            };
            let own = own.into_iter().filter(|one| one["kind"].is_string());
            // Their own replace those that every case has.
            let mut all: Vec<Value> = others.into_iter().chain(own).collect();
            for document in &mut all {
                let namespace = &mut document["metadata"]["namespace"];
                if namespace.is_null() {
                    *namespace = json!("default");
                }
            }
            cases.push((path.display().to_string(), all));
        }
    }
    cases
}

/// A change of one field.
type Edit = fn(&mut Value, &str);

/// A field of a kind, whatever the place in its lists is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Field {
    kind: String,
    path: String,
}

impl Field {
    fn of(kind: &str, pointer: &str) -> Self {
        let parts = pointer.split('/').skip(1);
        let parts = parts.map(|part| match part.parse::<usize>() {
            Ok(_) => "[]".to_owned(),
            Err(_) => format!(".{part}"),
        });
        Self {
            kind: kind.to_owned(),
            path: parts.collect(),
        }
    }

    fn is_known(&self) -> bool {
        let of = |(kind, path): &(&str, &str)| *kind == self.kind && is_below(path, &self.path);
        let mut ends = SILENT_ENDS.iter();
        SILENT.iter().any(of) || ends.any(|end| self.path.ends_with(end))
    }
}

/// Fields whose change by any of `edits` nobody notices in any case, and that nobody speaks of;
/// each with a case where it is.
fn unheard(pick: fn(&Value) -> Vec<String>, edits: &[Edit]) -> BTreeMap<Field, String> {
    let mut heard: BTreeSet<Field> = BTreeSet::new();
    let mut seen: BTreeMap<Field, String> = BTreeMap::new();
    for (case, documents) in cases() {
        let (before, told) = outcome(&documents);
        for (at, document) in documents.iter().enumerate() {
            if !is_foreign(document) {
                continue;
            }
            let kind = document["kind"].as_str().unwrap_or_default();
            let title = title(document);
            for pointer in pick(&document["spec"]) {
                let field = Field::of(kind, &pointer);
                if heard.contains(&field) {
                    continue;
                }
                let mut edits = edits.iter();
                let is_heard = is_told(&told, &title, &pointer)
                    || edits.any(|edit| {
                        let mut changed = documents.clone();
                        edit(&mut changed[at]["spec"], &pointer);
                        let (after, told) = outcome(&changed);
                        after != before || is_told(&told, &title, &pointer)
                    });
                if is_heard {
                    heard.insert(field);
                } else {
                    seen.insert(field, case.clone());
                }
            }
        }
    }
    seen.retain(|field, _| !heard.contains(field) && !field.is_known());
    seen
}

fn check(unheard: &BTreeMap<Field, String>) {
    let all = unheard.iter();
    let all: Vec<_> = all
        .map(|(field, case)| format!("{}{}: {case}", field.kind, field.path))
        .collect();
    assert!(all.is_empty(), "{} fields:\n{}", all.len(), all.join("\n"));
}

fn change(spec: &mut Value, pointer: &str) {
    if let Some(field) = spec.pointer_mut(pointer) {
        *field = other(field);
    }
}

fn remove(spec: &mut Value, pointer: &str) {
    let Some((parent, key)) = pointer.rsplit_once('/') else {
        return;
    };
    let key = key.replace("~1", "/").replace("~0", "~");
    match spec.pointer_mut(parent) {
        Some(Value::Object(map)) => drop(map.remove(&key)),
        Some(Value::Array(list)) => {
            if let Ok(at) = key.parse::<usize>() {
                list.remove(at);
            }
        }
        _ => {}
    }
}

fn invent(spec: &mut Value, pointer: &str) {
    if let Some(Value::Object(map)) = spec.pointer_mut(pointer) {
        map.insert("nobodyKnows".to_owned(), json!(7));
    }
}

#[test]
fn every_field_is_translated_or_reported() {
    let leaves = |value: &Value| {
        let (mut maps, mut leaves) = (Vec::new(), Vec::new());
        walk(value, String::new(), &mut maps, &mut leaves);
        leaves
    };
    check(&unheard(leaves, &[change, remove]));
}

#[test]
fn a_field_that_nobody_knows_is_reported_wherever_it_is() {
    let maps = |value: &Value| {
        let (mut maps, mut leaves) = (Vec::new(), Vec::new());
        walk(value, String::new(), &mut maps, &mut leaves);
        maps
    };
    check(&unheard(maps, &[invent]));
}
