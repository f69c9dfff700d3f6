//! Plugins: where they are named, which of them is in force, and what each does to a rule.
//!
//! APISIX orders plugins by a number of each; here the order is that of the model, which is the
//! same for those that are served. One that guards access and cannot be served closes the rule.

use std::sync::Arc;
use std::time::Duration;

use routing::model::{AnswerRewrite, Fault, Filters, Guards, HeaderOps, Redirect, Respond, Share};
use serde_json::{Map, Value};

use super::backend::{Backends, Resolver};
use super::instance::{self, Outcome};
use super::upstream::Times;
use super::{
    GLOBAL_RULE, PLUGIN_CONFIG, access, answer, edit, global, grpc_web, limit, real_ip, redirect,
    split,
};
use crate::diagnostic::Effect;
use crate::fields::{self, Fields, Findings};
use crate::foreign::{Object, Translation};
use crate::objects::{Name, Objects, Reader};

/// Plugins without which requests would pass that must not.
const GUARDING: [&str; 29] = [
    "ai-prompt-guard",
    "attach-consumer-label",
    "authz-casbin",
    "authz-casdoor",
    "authz-keycloak",
    "cas-auth",
    "chaitin-waf",
    "consumer-restriction",
    "csrf",
    "dingtalk-auth",
    "ext-plugin-post-req",
    "ext-plugin-pre-req",
    "feishu-auth",
    "hmac-auth",
    "jwe-decrypt",
    "ldap-auth",
    "limit-conn",
    "multi-auth",
    "oas-validator",
    "opa",
    "openid-connect",
    "openfunction",
    "referer-restriction",
    "request-validation",
    "saml-auth",
    "serverless-post-function",
    "serverless-pre-function",
    "uri-blocker",
    "wolf-rbac",
];

/// What to do in place of a plugin.
pub(super) fn remedy(name: &str) -> &'static str {
    match name {
        "openid-connect" | "cas-auth" | "saml-auth" | "authz-keycloak" | "authz-casdoor" => {
            "use jwt-auth, or forward-auth to a service that speaks it"
        }
        "hmac-auth" | "ldap-auth" | "wolf-rbac" | "multi-auth" | "opa" | "authz-casbin" => {
            "use key-auth, basic-auth, jwt-auth or forward-auth"
        }
        "consumer-restriction" | "attach-consumer-label" => {
            "give each group of consumers a route of its own, or use forward-auth"
        }
        "limit-conn" => "use limit-count or limit-req",
        "ua-restriction" | "referer-restriction" | "uri-blocker" => "write exprs of the rule",
        "request-validation" | "oas-validator" => "validate in the Service itself",
        "serverless-pre-function"
        | "serverless-post-function"
        | "ext-plugin-pre-req"
        | "ext-plugin-post-req" => "no scripts are run: use forward-auth or change the Service",
        "gzip" | "brotli" => "compress in the Service itself",
        "grpc-transcode" => "put a proxy for it in front of the Service",
        "prometheus" | "node-status" | "server-info" => "metrics are the gateway's own",
        "zipkin" | "skywalking" | "opentelemetry" | "datadog" => {
            "traces are configured for the gateway"
        }
        _ if name.ends_with("-logger") => "the access log is the gateway's own",
        _ => "leave it out, or do its work in the Service",
    }
}

/// What the plugins of a rule make of it.
#[derive(Default)]
pub(super) struct Effects {
    pub(super) request_headers: HeaderOps,
    pub(super) filters: Filters,
    pub(super) guards: Guards,
    pub(super) redirect: Option<Redirect>,
    /// Plain HTTP is redirected.
    pub(super) to_https: bool,
    pub(super) respond: Option<Respond>,
    /// How long a mocked answer is waited for.
    pub(super) mocked_after: Option<Duration>,
    /// Changes of answers that come after those of other plugins.
    pub(super) echoes: Vec<AnswerRewrite>,
    /// The plugin that closes the rule.
    pub(super) closed: Option<String>,
    pub(super) branches: Vec<split::Branch>,
    pub(super) grpc_web: Option<grpc_web::Plugin>,
}

/// Where a plugin is applied.
pub(super) struct Context<'c, 'r, 'a> {
    /// Sets the buckets of this rule apart from others.
    pub(super) id: String,
    pub(super) resolver: &'c mut Resolver<'r, 'a>,
}

/// A plugin as it is named somewhere.
pub(super) struct Named {
    name: String,
    /// With what its Secret says.
    config: Value,
    path: String,
    /// Of the object that is translated, which tells what is wrong with it.
    is_own: bool,
}

impl Named {
    pub(super) fn new(name: &str, config: Value, path: String, is_own: bool) -> Self {
        Self {
            name: name.to_owned(),
            config,
            path,
            is_own,
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

/// The plugins of a list, without those that are switched off.
pub(super) fn listed(
    owner: &Fields<'_>,
    namespace: &str,
    reader: &Reader<'_>,
    is_own: bool,
) -> Vec<Named> {
    let mut all = Vec::new();
    for fields in owner.objects("plugins") {
        let name = fields.text("name");
        let config = fields.raw("config").cloned();
        let mut config = config.unwrap_or_else(|| Value::Object(Map::new()));
        if let Some(secret) = fields.text("secretRef") {
            from_secret(&fields, &mut config, &Name::new(namespace, secret), reader);
        }
        let Some(name) = name else {
            fields.refuse("name", "PluginInvalid", "the plugin has no name");
            continue;
        };
        if fields.bool("enable") == Some(false) {
            continue;
        }
        all.push(Named::new(name, config, fields.at("config"), is_own));
    }
    all
}

/// Each key of the Secret is a field of the configuration.
fn from_secret(fields: &Fields<'_>, config: &mut Value, name: &Name, reader: &Reader<'_>) {
    let Some(data) = reader.secret(name) else {
        let message = format!("Secret {name} does not exist");
        let field = fields.at("secretRef");
        let findings = fields.findings();
        findings.say(Effect::Waiting, "SecretMissing", &field, message);
        return;
    };
    let Some(map) = config.as_object_mut() else {
        return;
    };
    for (key, value) in data.iter() {
        let text = String::from_utf8_lossy(value).into_owned();
        map.insert(key.clone(), Value::String(text));
    }
}

/// Those in force for a rule: of its class, of global rules, and of its plugin config unless the rule names the
/// same plugin.
pub(super) fn of_rule(rule: &Fields<'_>, route: &Object, reader: &Reader<'_>) -> Vec<Named> {
    let namespace = &*route.name.namespace;
    let read = |object: &Object| {
        let namespace = &object.name.namespace;
        let read = |spec: &Fields<'_>| listed(spec, namespace, reader, false);
        fields::quietly(object.spec(), read)
    };
    let mut all = global::of_route(route, reader);
    for object in reader.foreign_all(&GLOBAL_RULE) {
        all.extend(read(object));
    }
    let own = listed(rule, namespace, reader, true);
    let namespace = rule.text("plugin_config_namespace").unwrap_or(namespace);
    if let Some(name) = rule.text("plugin_config_name") {
        let name = Name::new(namespace, name);
        if let Some(object) = reader.foreign(&PLUGIN_CONFIG, &name) {
            let shared = read(object).into_iter();
            all.extend(shared.filter(|plugin| own.iter().all(|other| other.name != plugin.name)));
        } else {
            let message = format!("ApisixPluginConfig {name} does not exist: the rule answers 503");
            let findings = rule.findings();
            let field = rule.at("plugin_config_name");
            findings.say(Effect::Waiting, "PluginConfigMissing", &field, message);
            all.push(Named {
                name: "missing plugin config".to_owned(),
                config: Value::Null,
                path: field,
                is_own: false,
            });
        }
    }
    all.extend(own);
    all
}

/// Applies plugins; what closes a rule from outside is told at the rule.
pub(super) fn apply(
    plugins: &[Named],
    rule: &Fields<'_>,
    effects: &mut Effects,
    ctx: &mut Context<'_, '_, '_>,
) {
    let scratch = Findings::default();
    for plugin in plugins {
        let findings = if plugin.is_own {
            rule.findings()
        } else {
            &scratch
        };
        let was_open = effects.closed.is_none();
        if plugin.name == "missing plugin config" {
            effects.closed.get_or_insert_with(|| plugin.name.clone());
            continue;
        }
        let config = Fields::new(&plugin.config, plugin.path.clone(), findings);
        one(&plugin.name, &config, effects, ctx);
        if was_open && effects.closed.is_some() && !plugin.is_own {
            let message = format!(
                "plugin {} of a global rule or a plugin config cannot be served: the rule answers 503",
                plugin.name
            );
            rule.findings()
                .refuse("PluginNotSupported", rule.path(), message);
        }
    }
    grpc_web::show(effects);
    // Touched only if there is one: filters that say nothing take no room.
    if !effects.echoes.is_empty() {
        let echoes = std::mem::take(&mut effects.echoes);
        effects.filters.rewrites.extend(echoes);
    }
    wait_for_mock(rule, effects);
}

/// The delay of a mocked answer, unless another plugin delays the requests.
fn wait_for_mock(rule: &Fields<'_>, effects: &mut Effects) {
    let Some(time) = effects.mocked_after.take() else {
        return;
    };
    let fault = effects.guards.fault.as_deref().cloned();
    let mut fault = fault.unwrap_or(Fault {
        delay: None,
        abort: None,
    });
    if fault.delay.is_some() {
        let message = "both fault-injection and mocking delay answers: fault-injection does";
        rule.findings().refuse("PluginTwice", rule.path(), message);
        return;
    }
    fault.delay = Some((time, Share::ALL));
    effects.guards.fault = Some(Arc::new(fault));
}

fn one(name: &str, config: &Fields<'_>, effects: &mut Effects, ctx: &mut Context<'_, '_, '_>) {
    if let Some(meta) = config.object("_meta") {
        if meta.bool("disable") == Some(true) {
            meta.pass_over();
            config.pass_over();
            return;
        }
        meta.unsupported("priority", "the order of plugins is fixed");
        meta.unsupported("error_response", "write the answer of the plugin itself");
        meta.unsupported("filter", "write a rule of its own for these requests");
        meta.ignore("disable");
    }
    match name {
        "cors" => edit::cors(config, effects),
        "redirect" => redirect::read(config, effects),
        "proxy-rewrite" => edit::proxy_rewrite(config, effects),
        "response-rewrite" => answer::rewrite(config, effects),
        "echo" => answer::echo(config, effects),
        "mocking" => answer::mock(config, effects),
        "proxy-mirror" => edit::mirror(config, effects, ctx),
        "grpc-web" => grpc_web::read(config, effects),
        "fault-injection" => edit::fault(config, effects),
        "limit-count" => limit::count(config, effects, ctx),
        "limit-req" => limit::requests(config, effects, ctx),
        "api-breaker" => limit::breaker(config, effects, ctx),
        "client-control" => {
            effects.guards.max_body = config.number("max_body_size").filter(|it| *it > 0);
        }
        "ip-restriction" => access::networks(config, effects),
        "key-auth" | "basic-auth" | "jwt-auth" => access::consumers(name, config, effects, ctx),
        "forward-auth" => access::forward(config, effects, ctx),
        "real-ip" => real_ip::read(config, effects),
        "traffic-split" => split::read(config, effects, ctx),
        other => {
            config.pass_over();
            let is_guard = GUARDING.contains(&other) || other == "ua-restriction";
            let so = if is_guard {
                effects.closed.get_or_insert_with(|| other.to_owned());
                ": the rule answers 503"
            } else {
                ""
            };
            let message = format!("plugin {other} is not supported; {}{so}", remedy(other));
            config
                .findings()
                .refuse("PluginNotSupported", config.path(), message);
        }
    }
}

/// Applies plugins that stand outside the rules of an ApisixRoute; backends that they ask are not
/// kept.
pub(super) fn apply_alone(
    plugins: &[Named],
    spec: &Fields<'_>,
    effects: &mut Effects,
    (id, namespace, reader): (&str, &Arc<str>, &Reader<'_>),
) {
    let mut backends = Backends::new();
    let mut resolver = Resolver {
        reader,
        namespace,
        times: Times::default(),
        stream: None,
        backends: &mut backends,
    };
    let mut ctx = Context {
        id: id.to_owned(),
        resolver: &mut resolver,
    };
    apply(plugins, spec, effects, &mut ctx);
}

/// Plugins of an object that serves nothing itself: what they say is checked, what they do is left.
pub(super) fn check(plugins: &[Named], spec: &Fields<'_>, object: &Object, reader: &Reader<'_>) {
    let place = ("", &object.name.namespace, reader);
    apply_alone(plugins, spec, &mut Effects::default(), place);
}

/// A plugin config or a global rule by itself.
pub(super) fn judge(object: &Object, objects: &Objects) -> Translation {
    instance::translate(object, objects, |spec, reader, _| {
        let plugins = listed(spec, &object.name.namespace, reader, true);
        check(&plugins, spec, object, reader);
        Outcome::Served
    })
}
