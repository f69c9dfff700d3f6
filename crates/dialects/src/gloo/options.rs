//! `options` of routes and hosts: gathered from where they are inherited and referred to, then
//! read into what the model knows.

use std::sync::Arc;
use std::time::Duration;

use routing::model::{
    Abort, Connect, Cors, Fault, FilterSet, Filters, Guards, HashKey, PathEdit, Retry, Share,
};
use serde_json::Value;

use super::extauth::Choice;
use super::filter::{self, Headers, duration};
use super::jwt::{self, Jwt};
use super::limit::Limits;
use super::matcher::{Matcher, PathKind, flag};
use super::policy;
use super::status::CLOSED;
use super::transform::{self, Change, Transformed};
use super::upgrades::{Allowed, Upgrades};
use crate::fields::Fields;
use crate::objects::Name;
use crate::shared::headers;

/// Envoy's, where nothing is said.
const TIMEOUT: Duration = Duration::from_secs(15);
/// Guards of the enterprise edition (and one of the other) that must not be left out silently.
const GUARDS: [&str; 5] = ["rbac", "waf", "csrf", "dlp", "ai"];
const LIMITS: [&str; 7] = [
    "ratelimitEarly",
    "ratelimitRegular",
    "rateLimitConfigs",
    "rateLimitEarlyConfigs",
    "rateLimitRegularConfigs",
    "httpLocalRatelimit",
    "ratelimitServer",
];

/// Options that `own` does not say are taken from `other`.
pub(super) fn merge(own: &mut Value, other: &Value) {
    let Some(other) = other.as_object() else {
        return;
    };
    if own.is_null() {
        *own = Value::Object(serde_json::Map::new());
    }
    if let Some(own) = own.as_object_mut() {
        // One option under several names.
        let is_jwt = |key: &String| jwt::KEYS.contains(&key.as_str());
        let has_jwt = own.keys().any(is_jwt);
        for (key, value) in other.iter().filter(|(key, _)| !has_jwt || !is_jwt(key)) {
            own.entry(key).or_insert_with(|| value.clone());
        }
    }
}

/// Options of a virtual host.
#[derive(Clone, Debug, Default)]
pub(super) struct HostOptions {
    headers: Headers,
    /// As it is written, for routes that say a part of their own.
    cors: Option<Value>,
    read_cors: Option<Arc<Cors>>,
    retry: Option<Arc<Retry>>,
    try_timeout: Option<Duration>,
    max_body: Option<u64>,
    external: Choice,
    jwt: Jwt,
    transformed: Transformed,
    /// As it is written, for routes that want it besides their own.
    transformations: Value,
    limits: Limits,
    /// Tells what is counted for the host apart.
    pub(super) id: String,
}

impl HostOptions {
    pub(super) fn read(fields: &Fields<'_>, id: &str) -> Self {
        refuse_guards(fields);
        let headers = fields
            .object("headerManipulation")
            .map(|it| Headers::read(&it));
        let retries = fields.object("retries").map(|it| filter::retries(&it));
        let (retry, try_timeout) = retries.unwrap_or_default();
        let cors = fields.raw("cors").cloned();
        let read_cors = filter::cors(cors.as_ref(), None, fields);
        fields.ignore("stats");
        Self {
            headers: headers.unwrap_or_default(),
            cors,
            read_cors,
            retry,
            try_timeout,
            max_body: max_body(fields),
            external: Choice::read(fields),
            jwt: Jwt::read(fields),
            transformed: Transformed::read(fields).unwrap_or_default(),
            transformations: transform::raw(fields),
            limits: Limits::read(fields, id),
            id: id.to_owned(),
        }
    }
}

fn refuse_guards(fields: &Fields<'_>) {
    for key in GUARDS {
        if fields.raw(key).is_some_and(|value| !is_disabled(value)) {
            let text = format!(
                "{} is not supported, and without it everybody would pass; nothing is served \
                 until it is removed; {}",
                fields.at(key),
                guard_remedy(key)
            );
            fields.refuse(key, CLOSED, text);
        }
    }
    for key in LIMITS {
        fields.unsupported(key, "write ratelimit, or a TrafficPolicy with rateLimits");
    }
}

/// What to do in place of a guard that is not there.
fn guard_remedy(key: &str) -> &'static str {
    match key {
        "rbac" => "write a TrafficPolicy with authorization for the Service",
        _ => "ask a server of your own with extauth.customAuth",
    }
}

/// `disable: true` switches a guard off, which it is.
fn is_disabled(value: &Value) -> bool {
    ["disable", "disabled"]
        .iter()
        .any(|key| value.get(key) == Some(&Value::Bool(true)))
}

fn max_body(fields: &Fields<'_>) -> Option<u64> {
    let per_route = fields.object("bufferPerRoute")?;
    let is_off = per_route.bool("disabled").unwrap_or(false);
    let buffer = per_route.object("buffer")?;
    policy::number(&buffer, "maxRequestBytes").filter(|_| !is_off)
}

/// What the options of a route come to.
#[derive(Clone, Debug)]
pub(super) struct Options {
    /// Without edits of the path, mirrors and guards.
    pub(super) filters: Filters,
    pub(super) request: routing::model::HeaderOps,
    pub(super) guards: Guards,
    pub(super) prefix: Option<Arc<str>>,
    pub(super) regex: Option<PathEdit>,
    /// The host of an upstream outside takes the place of the request's.
    pub(super) auto_host: bool,
    pub(super) hash: Vec<HashKey>,
    /// Zero is no limit.
    pub(super) idle: Option<Duration>,
    /// What becomes of a CONNECT, and whether the route says so itself.
    pub(super) connect: (Option<Connect>, bool),
    pub(super) mirror: Option<(Name, Share)>,
    /// Who else decides.
    pub(super) external: Choice,
    pub(super) jwt: Jwt,
    pub(super) limits: Limits,
}

impl Options {
    pub(super) fn read(
        fields: &Fields<'_>,
        host: &HostOptions,
        allowed: Allowed,
        (namespace, id): (&str, &str),
    ) -> Self {
        refuse_guards(fields);
        let limits = Limits::read(fields, id).below(&host.limits);
        let own = fields
            .object("headerManipulation")
            .map(|it| Headers::read(&it));
        let headers = own.unwrap_or_default().then(&host.headers);
        let retries = fields.object("retries").map(|it| filter::retries(&it));
        let (retry, try_timeout) =
            retries.unwrap_or_else(|| (host.retry.clone(), host.try_timeout));
        let time = |key| {
            fields
                .text(key)
                .and_then(|text| duration(fields, key, text))
        };
        let timeout = time("timeout").unwrap_or(TIMEOUT);
        let text = |key: &str| {
            let value = fields.unwrapped(key)?.as_str();
            if value.is_none() {
                fields.refuse(key, "FieldInvalid", "must be a string");
            }
            value
        };
        let cors = fields.raw("cors");
        let upgrades = Upgrades::read(fields);
        for key in ["hostRewriteHeader", "hostRewritePathRegex"] {
            fields.unsupported(key, "the host is kept; write hostRewrite");
        }
        let host_rewrite = text("hostRewrite").filter(|host| !host.is_empty());
        let regex = fields.object("regexRewrite").and_then(|it| regex_edit(&it));
        let transformed = Transformed::of_route(fields, &host.transformations, &host.transformed);
        let rewrites = transformed.rewrites();
        // Headers are manipulated next to the backend, and transformed next to the client.
        let request = transformed.request.then(Change {
            ops: headers.request,
            templates: headers.request_templates,
        });
        let response = Change {
            ops: headers.response,
            templates: headers.response_templates,
        };
        let response = response.then(transformed.response);
        Self {
            filters: FilterSet {
                response_headers: response.ops,
                rewrite_host: host_rewrite.map(Arc::from),
                cors: match cors {
                    None => host.read_cors.clone(),
                    own => filter::cors(own, host.cors.as_ref(), fields),
                },
                request_timeout: (!timeout.is_zero()).then_some(timeout),
                try_timeout,
                retry,
                request_templates: request.templates,
                response_templates: response.templates,
                rewrites,
                ..FilterSet::default()
            }
            .into(),
            request: request.ops,
            guards: Guards {
                fault: fields.object("faults").and_then(|it| fault(&it)),
                max_body: max_body(fields).or(host.max_body),
                no_upgrade: !upgrades.websocket.unwrap_or(allowed.websocket),
                rate_limits: limits.counted(),
                ..Guards::default()
            },
            prefix: text("prefixRewrite")
                .filter(|it| !it.is_empty())
                .map(Arc::from),
            regex,
            auto_host: flag(fields, "autoHostRewrite").unwrap_or(false),
            hash: hash(fields),
            idle: time("idleTimeout"),
            connect: upgrades.connect(allowed),
            mirror: mirror(fields, namespace),
            external: Choice::read(fields).below(&host.external),
            jwt: Jwt::read(fields).below(&host.jwt),
            limits,
        }
    }

    /// How the path of a request with this matcher changes.
    pub(super) fn edit(&self, matcher: &Matcher) -> Option<PathEdit> {
        match &self.prefix {
            Some(with) => Some(prefix_edit(matcher, with)),
            None => self.regex.clone(),
        }
    }
}

/// What is matched becomes `with`, and the rest of the path stays.
pub(super) fn prefix_edit(matcher: &Matcher, with: &Arc<str>) -> PathEdit {
    if matcher.path == PathKind::Regex {
        return PathEdit::Full(Arc::clone(with));
    }
    if matcher.ignores_case() {
        let mut pattern = "(?i)^".to_owned();
        for letter in matcher.text.chars() {
            if letter.is_ascii_punctuation() {
                pattern.push('\\');
            }
            pattern.push(letter);
        }
        return PathEdit::Regex {
            pattern: pattern.into(),
            with: with.replace('\\', "\\\\").into(),
        };
    }
    PathEdit::Text {
        matched: Arc::clone(&matcher.text),
        with: Arc::clone(with),
    }
}

/// `regexRewrite`, in options and redirects.
pub(super) fn regex_edit(fields: &Fields<'_>) -> Option<PathEdit> {
    let pattern = fields.object("pattern");
    let pattern = pattern.as_ref().and_then(|pattern| {
        pattern.ignore("googleRe2");
        pattern.str("regex")
    });
    let with = fields.str("substitution").unwrap_or_default();
    let pattern = pattern.unwrap_or_default();
    if let Err(error) = routing::regex::compile(pattern) {
        let text = format!("expression {pattern:?} cannot be used: {error}; the path is kept");
        fields.refuse("pattern", "RegexInvalid", text);
        return None;
    }
    Some(PathEdit::Regex {
        pattern: pattern.into(),
        with: with.into(),
    })
}

/// A percentage, with fractions.
pub(super) fn share(fields: &Fields<'_>) -> Option<Share> {
    let percent = fields.float("percentage").unwrap_or(0.0);
    if !(0.0..=100.0).contains(&percent) {
        fields.refuse(
            "percentage",
            "PercentageInvalid",
            "must be between 0 and 100",
        );
        return None;
    }
    // At most a million.
    Share::new((percent * 1e4).round() as u32, 1_000_000)
}

fn fault(fields: &Fields<'_>) -> Option<Arc<Fault>> {
    let delay = fields.object("delay").and_then(|delay| {
        let text = delay.text("fixedDelay").unwrap_or("0");
        let time = duration(&delay, "fixedDelay", text);
        time.zip(share(&delay))
    });
    let abort = fields.object("abort").and_then(|abort| {
        let status = abort.number::<u16>("httpStatus");
        let status = status.filter(|status| (200..600).contains(status));
        if status.is_none() {
            abort.refuse("httpStatus", "StatusInvalid", "must be between 200 and 599");
        }
        status.map(Abort::Http).zip(share(&abort))
    });
    let some = delay.is_some() || abort.is_some();
    some.then(|| Arc::new(Fault { delay, abort }))
}

fn mirror(fields: &Fields<'_>, namespace: &str) -> Option<(Name, Share)> {
    let shadow = fields.object("shadowing")?;
    let upstream = shadow
        .object("upstream")
        .map(|it| super::reference(&it, namespace));
    let share = share(&shadow);
    upstream.zip(share)
}

fn hash(fields: &Fields<'_>) -> Vec<HashKey> {
    let Some(hash) = fields.object("lbHash") else {
        return Vec::new();
    };
    let mut keys = Vec::new();
    let policies = hash.objects("hashPolicies");
    let last = policies.len().saturating_sub(1);
    for (at, policy) in policies.into_iter().enumerate() {
        let is_terminal = policy.bool("terminal").unwrap_or(false);
        if !is_terminal && at < last {
            let text = "hashes are not combined: the first part of a request that is there \
                        decides, as if terminal were true";
            policy.refuse("terminal", "HashesNotCombined", text);
        }
        if let Some(header) = policy.text("header") {
            match headers::name(header) {
                Ok(name) => keys.push(HashKey::Header(name)),
                Err(text) => policy.refuse("header", "HeaderNotSupported", text),
            }
        }
        if policy.bool("sourceIp").unwrap_or(false) {
            keys.push(HashKey::Client);
        }
        if let Some(cookie) = policy.object("cookie") {
            let life = cookie.text("ttl");
            keys.push(HashKey::Cookie {
                name: cookie.str("name").unwrap_or_default().into(),
                path: cookie.text("path").map(Arc::from),
                set_for: life.and_then(|text| duration(&cookie, "ttl", text)),
                attributes: Vec::new(),
            });
        }
    }
    keys
}
