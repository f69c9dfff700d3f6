//! The Module `ambassador`: what holds for every Mapping that does not say otherwise.

use std::sync::Arc;

use routing::model::{
    AccessRule, Authorization, ClientSource, Network, Preamble, Predicate, Subject, Test,
};
use serde_json::{Map, Value, json};

use super::{MODULE, headers, instance, limit, policy};
use crate::fields::{Fields, Findings};
use crate::foreign::{Object, Translation};
use crate::objects::{Objects, Reader};
use crate::shared::{client, preamble};

/// Keys of `config` that are defaults of Mappings: there, and in a Mapping.
const DEFAULTS: [(&str, &str); 7] = [
    ("circuit_breakers", "circuit_breakers"),
    ("load_balancer", "load_balancer"),
    ("cors", "cors"),
    ("retry_policy", "retry_policy"),
    ("add_linkerd_headers", "add_linkerd_headers"),
    ("cluster_idle_timeout_ms", "cluster_idle_timeout_ms"),
    ("cluster_request_timeout_ms", "timeout_ms"),
];

/// Keys that change nothing here, with what to do instead.
const NOT_SERVED: [(&str, &str); 34] = [
    ("admin_port", "there is no Envoy to administer"),
    ("buffer_limit_bytes", "bodies are streamed, never held"),
    (
        "cluster_max_connection_lifetime_ms",
        "set cluster_idle_timeout_ms",
    ),
    ("debug_mode", "the log level is a setting of the gateway"),
    (
        "diagnostics",
        "look at the status of Mappings and Hosts, and at `explain`",
    ),
    ("enable_http10", "HTTP/1.0 is always understood"),
    (
        "enable_grpc_http11_bridge",
        "let clients speak gRPC over HTTP/2",
    ),
    (
        "envoy_log_format",
        "set access-log.template of the gateway's settings file",
    ),
    (
        "envoy_log_path",
        "the access log is written to the gateway's output: set access-log of its settings file",
    ),
    (
        "envoy_log_type",
        "set access-log.format of the gateway's settings file",
    ),
    (
        "envoy_validation_timeout",
        "there is no Envoy that validates",
    ),
    (
        "error_response_overrides",
        "answer errors in the Service itself",
    ),
    (
        "forward_client_cert_details",
        "client certificates are not passed on",
    ),
    ("grpc_stats", "metrics are the gateway's own"),
    ("gzip", "compress in the Service itself"),
    ("headers_with_underscores_action", "they are passed on"),
    (
        "listener_idle_timeout_ms",
        "idle connections are bounded by the gateway",
    ),
    ("liveness_probe", "the gateway has probes of its own"),
    (
        "lua_scripts",
        "no scripts are run: use an AuthService or change the Service",
    ),
    (
        "max_request_headers_kb",
        "the bound of a head is the gateway's own",
    ),
    ("merge_slashes", "paths are matched as they are sent"),
    (
        "preserve_external_request_id",
        "request ids are passed on as they are sent",
    ),
    ("proper_case", "names of headers are sent in lower case"),
    (
        "header_case_overrides",
        "names of headers are sent in lower case",
    ),
    ("readiness_probe", "the gateway has probes of its own"),
    (
        "reject_requests_with_escaped_slashes",
        "paths are matched as they are sent",
    ),
    ("resolver", "endpoints are always used"),
    ("server_name", "the Server header is the Service's own"),
    (
        "set_current_client_cert_details",
        "client certificates are not passed on",
    ),
    ("statsd", "metrics are read from the gateway"),
    ("suppress_envoy_headers", "none are added"),
    (
        "use_ambassador_namespace_for_service_resolution",
        "write the namespace: name.namespace",
    ),
    (
        "use_remote_address",
        "the address is the other end of the connection; proxies that may say another one are \
         counted by xff_num_trusted_hops",
    ),
    (
        "x_forwarded_proto_redirect",
        "write requestPolicy.insecure.action Redirect in a Host",
    ),
];

/// Values that ask for what is so anyway.
fn is_as_served(key: &str, value: &Value) -> bool {
    match key {
        "use_remote_address" | "suppress_envoy_headers" | "preserve_external_request_id" => {
            *value == json!(true)
        }
        "diagnostics" => value["enabled"] == json!(false),
        "enable_http10" => *value == json!(true),
        "liveness_probe" | "readiness_probe" => value["enabled"] == json!(true),
        "headers_with_underscores_action" => *value == json!("ALLOW"),
        _ => *value == json!(false),
    }
}

/// What Mappings take from the Module.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// A JSON object with fields of a Mapping.
    pub(super) defaults: Value,
    /// Proxies in front may say that a request is secure.
    pub(super) trusts_proxies: bool,
    /// Who may say the client's address.
    pub(super) client: Option<Arc<ClientSource>>,
    pub(super) access: Option<Arc<Authorization>>,
    /// Bytes.
    pub(super) max_body: Option<u64>,
    /// Clients may speak gRPC-Web.
    pub(super) grpc_web: bool,
    /// By domain, what comes first in every label group.
    pub(super) labels: Value,
    /// Whose labels a RateLimitService gets that names no domain.
    pub(super) label_domain: Arc<str>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            defaults: Value::Null,
            trusts_proxies: false,
            client: None,
            access: None,
            max_body: None,
            grpc_web: false,
            labels: Value::Null,
            label_domain: LABEL_DOMAIN.into(),
        }
    }
}

/// Emissary's own.
pub(super) const LABEL_DOMAIN: &str = "ambassador";

fn is_it(object: &Object) -> bool {
    &*object.name.name == "ambassador" && instance::is_ours(object)
}

/// Of the Module `ambassador`; the first by namespace if there are several.
pub(super) fn settings(reader: &Reader<'_>) -> Settings {
    let mut modules = reader.foreign_all(&MODULE).filter(|it| is_it(it));
    let Some(module) = modules.next() else {
        return Settings::default();
    };
    let findings = Findings::default();
    let config = &module.spec()["config"];
    let fields = Fields::new(config, String::new(), &findings);
    fields.pass_over();
    let mut defaults = Map::new();
    for (key, as_mapping) in DEFAULTS {
        let value = &config[key];
        if !value.is_null() {
            defaults.insert(as_mapping.to_owned(), value.clone());
        }
    }
    let all = &config["defaults"];
    for map in [all, &all["httpmapping"]] {
        for (key, value) in map.as_object().into_iter().flatten() {
            if !matches!(key.as_str(), "httpmapping" | "tcpmapping") {
                defaults.insert(key.clone(), value.clone());
            }
        }
    }
    Settings {
        defaults: Value::Object(defaults),
        trusts_proxies: hops(&fields) > 0,
        client: client::behind(hops(&fields)),
        access: access(&fields, &module.name.to_string()),
        max_body: max_body(&fields),
        grpc_web: grpc_web(&fields),
        labels: config["default_labels"].clone(),
        label_domain: fields
            .text("default_label_domain")
            .unwrap_or(LABEL_DOMAIN)
            .into(),
    }
}

fn hops(config: &Fields<'_>) -> u32 {
    config.number("xff_num_trusted_hops").unwrap_or(0)
}

fn grpc_web(config: &Fields<'_>) -> bool {
    config.bool("enable_grpc_web").unwrap_or(false)
}

fn max_body(config: &Fields<'_>) -> Option<u64> {
    let buffer = config.object("buffer")?;
    buffer.ignore("max_request_time");
    buffer.number("max_request_bytes")
}

/// Who may pass: `ip_allow` or `ip_deny`.
fn access(config: &Fields<'_>, policy: &str) -> Option<Arc<Authorization>> {
    let rule = |key: &str| {
        config.has(key).then(|| AccessRule {
            policy: policy.into(),
            all: vec![networks(config, key)],
        })
    };
    let (allow, deny) = (rule("ip_allow"), rule("ip_deny"));
    if allow.is_some() && deny.is_some() {
        let message = "ip_allow is there too, and is in force; write one of the two";
        config.refuse("ip_deny", "AccessTwice", message);
        let allow = allow.map(|rule| vec![rule]);
        return Some(Arc::new(Authorization {
            allow,
            ..Authorization::default()
        }));
    }
    if allow.is_none() && deny.is_none() {
        return None;
    }
    Some(Arc::new(Authorization {
        allow: allow.map(|rule| vec![rule]),
        deny: deny.into_iter().collect(),
        ..Authorization::default()
    }))
}

/// Alternatives of one condition each. What cannot be read is left out: of an allow-list that is
/// less, and of a deny-list it is reported.
fn networks(config: &Fields<'_>, key: &str) -> Vec<Vec<Predicate>> {
    let mut alternatives = Vec::new();
    for entry in config.objects(key) {
        for (kind, subject) in [("peer", Subject::Peer), ("remote", Subject::Client)] {
            let network = entry.parse(kind, |text| {
                Network::parse(text).ok_or_else(|| format!("{text:?} is no network"))
            });
            alternatives.extend(network.map(|network| {
                vec![Predicate {
                    subject,
                    test: Test::Network([network].into()),
                    negate: false,
                    missing_is_empty: false,
                }]
            }));
        }
    }
    alternatives
}

/// Asks for what may be a default of Mappings.
fn judge_defaults(fields: &Fields<'_>) {
    policy::backend(fields, fields, policy::plain());
    if let Some(cors) = fields.object("cors") {
        headers::cors(&cors);
    }
    if let Some(retry) = fields.object("retry_policy") {
        policy::retry(&retry);
    }
    for direction in ["request", "response"] {
        headers::changes(fields, fields, direction);
    }
    for key in ["timeout_ms", "idle_timeout_ms"] {
        fields.number::<u32>(key);
    }
    fields.bool("add_linkerd_headers");
}

/// The Module by itself: what of it is not served.
pub(super) fn judge(object: &Object, objects: &Objects) -> Translation {
    instance::translate(object, objects, |spec, reader, _| {
        if !is_it(object) {
            let remedy = match &*object.name.name {
                "tls" => "certificates are named in Hosts and TLSContexts",
                _ => "the one that is served is called ambassador",
            };
            let message = format!("this Module changes nothing: {remedy}");
            spec.refuse("config", "ModuleNotSupported", message);
            spec.pass_over();
            return;
        }
        let mut others = reader.foreign_all(&MODULE).filter(|it| is_it(it));
        if let Some(first) = others.next()
            && first.name != object.name
        {
            let message = format!("Module {} is in force; this one is not", first.name);
            spec.findings().refuse("ModuleTwice", "spec", message);
        }
        let Some(config) = spec.object("config") else {
            return;
        };
        judge_config(&config, object, reader);
        limit::judge_defaults(&config, reader);
    })
}

fn judge_config(config: &Fields<'_>, object: &Object, reader: &Reader<'_>) {
    judge_defaults(config);
    config.number::<u32>("cluster_request_timeout_ms");
    if let Some(defaults) = config.object("defaults") {
        judge_defaults(&defaults);
        if let Some(http) = defaults.object("httpmapping") {
            judge_defaults(&http);
        }
        defaults.unsupported("tcpmapping", "write it in each TCPMapping");
    }
    access(config, &object.name.to_string());
    max_body(config);
    grpc_web(config);
    hops(config);
    if let Some(wanted) = config.bool("use_proxy_proto") {
        let place = (config.findings(), &*config.at("use_proxy_proto"));
        preamble::at_shared(wanted.then_some(Preamble::Required), reader, place);
    }
    // Authorities are always compared without their port; long expressions are bounded by what
    // they compile to.
    for key in [
        "strip_matching_host_port",
        "regex_max_size",
        "regex_type",
        "enable_ipv4",
        "enable_ipv6",
        "allow_chunked_length",
        "prune_unreachable_routes",
        "service_port",
        "status_prefix",
    ] {
        config.ignore(key);
    }
    for (key, remedy) in NOT_SERVED {
        let as_served = config
            .raw(key)
            .is_some_and(|value| is_as_served(key, value));
        if !as_served {
            config.unsupported(key, remedy);
        }
    }
}
