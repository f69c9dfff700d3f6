//! Plugins that decide who may pass. One that cannot be read closes its rule.

use std::sync::Arc;
use std::time::Duration;

use routing::model::tls::{TlsVersion, TlsVersions, Trust, UpstreamTls};
use routing::model::{
    AccessRule, AskedBody, Authorization, AuthorizationProtocol, Crypto, ExternalAuthorization,
    Network, Predicate, Respond, Subject, Test, TokenPlace,
};

use super::consumer;
use super::plugin::{Context, Effects};
use crate::fields::Fields;
use crate::shared::headers;

fn close(config: &Fields<'_>, effects: &mut Effects, reason: &'static str, why: &str) {
    let message = format!("{why}: the rule answers 503");
    config.findings().refuse(reason, config.path(), message);
    effects.closed.get_or_insert_with(|| why.to_owned());
}

/// `ip-restriction`.
pub(super) fn networks(config: &Fields<'_>, effects: &mut Effects) {
    let read = |key: &str| -> Result<Vec<Network>, String> {
        let list = config.strings(key).into_iter();
        list.map(|text| Network::parse(text).ok_or_else(|| format!("{text:?} is no network")))
            .collect()
    };
    let (allow, deny) = (read("whitelist"), read("blacklist"));
    let status = config.number("response_code").unwrap_or(403);
    let text = config.text("message");
    let text = text.unwrap_or("Your IP address is not allowed");
    let (allow, deny) = match (allow, deny) {
        (Ok(allow), Ok(deny)) => (allow, deny),
        (Err(error), _) | (_, Err(error)) => {
            close(config, effects, "NetworkInvalid", &error);
            return;
        }
    };
    let rule = |networks: Vec<Network>| AccessRule {
        policy: "ip-restriction".into(),
        all: vec![vec![vec![Predicate {
            subject: Subject::Client,
            test: Test::Network(networks.into()),
            negate: false,
            missing_is_empty: false,
        }]]],
    };
    if effects.guards.authorization.is_some() {
        let why = "ip-restriction is there twice";
        close(config, effects, "PluginTwice", why);
        return;
    }
    effects.guards.authorization = Some(Arc::new(Authorization {
        deny: if deny.is_empty() {
            Vec::new()
        } else {
            vec![rule(deny)]
        },
        allow: config.has("whitelist").then(|| vec![rule(allow)]),
        audit: Vec::new(),
        denied: Some(Respond {
            status,
            headers: vec![("content-type".into(), "application/json".into())],
            body: serde_json::json!({"message": text}).to_string().into(),
        }),
    }));
}

/// `key-auth`, `basic-auth` and `jwt-auth`: consumers are known by what they send.
pub(super) fn consumers(
    kind: &str,
    config: &Fields<'_>,
    effects: &mut Effects,
    ctx: &mut Context<'_, '_, '_>,
) {
    let guards = &mut effects.guards;
    if guards.credentials.is_some() || guards.tokens.is_some() {
        config.pass_over();
        let why = "two kinds of credentials at once are not supported, name one";
        close(config, effects, "PluginTwice", why);
        return;
    }
    let forwards = config.bool("hide_credentials") != Some(true);
    config.unsupported(
        "anonymous_consumer",
        "requests without credentials are refused",
    );
    let reader = ctx.resolver.reader;
    if kind == "basic-auth" {
        config.ignore("realm");
        guards.credentials = Some(Arc::new(consumer::basic(reader, forwards)));
        return;
    }
    let (header, other) = if kind == "key-auth" {
        ("apikey", "apikey")
    } else {
        ("authorization", "jwt")
    };
    let header = match headers::name(config.text("header").unwrap_or(header)) {
        Ok(header) => header,
        Err(error) => {
            config.pass_over();
            close(config, effects, "HeaderInvalid", &error);
            return;
        }
    };
    let place = |prefix: &str| TokenPlace::Header {
        name: Arc::clone(&header),
        prefix: prefix.into(),
    };
    let query = TokenPlace::Query(config.text("query").unwrap_or(other).into());
    if kind == "key-auth" {
        let places = vec![place(""), query];
        guards.credentials = Some(Arc::new(consumer::key(reader, places, forwards)));
        return;
    }
    config.unsupported("key_claim_name", "consumers are told apart by their keys");
    config.ignore("store_in_ctx");
    let cookie = TokenPlace::Cookie(config.text("cookie").unwrap_or(other).into());
    let places = vec![place("Bearer "), place(""), query, cookie];
    guards.tokens = Some(Arc::new(consumer::tokens(reader, places, forwards)));
}

/// Bytes of a body that `forward-auth` passes on; APISIX has the bound of its server.
const LONGEST_BODY: u32 = 10 * 1024 * 1024;

/// `forward-auth`: another service decides.
pub(super) fn forward(config: &Fields<'_>, effects: &mut Effects, ctx: &mut Context<'_, '_, '_>) {
    let timeout = config.number::<u32>("timeout").unwrap_or(3000);
    let fail_open = config.bool("allow_degradation").unwrap_or(false);
    let status_on_error = config.number("status_on_error").unwrap_or(403);
    let method = config.text("request_method").unwrap_or("GET");
    let method = if matches!(method, "GET" | "POST") {
        method
    } else {
        let message = format!("{method:?} is neither GET nor POST: the service is asked with GET");
        config.refuse("request_method", "MethodInvalid", message);
        "GET"
    };
    // Connections to it are kept and shared as those to any backend are.
    for key in ["keepalive", "keepalive_timeout", "keepalive_pool"] {
        config.ignore(key);
    }
    let is_verified = config.bool("ssl_verify").unwrap_or(true);
    let [request_headers, upstream_headers, client_headers] =
        ["request_headers", "upstream_headers", "client_headers"].map(|key| names(config, key));
    let context = extra_headers(config);
    let why = match config.parse("uri", uri) {
        None => "forward-auth has no service to ask",
        Some(_) if effects.guards.external.is_some() => "forward-auth is there twice",
        Some(Service {
            is_tls,
            host,
            port,
            path,
        }) => {
            let tls = is_tls.then(|| secured(&host, is_verified));
            if let Some(backend) = ctx.resolver.host(&host, port, tls) {
                effects.guards.external = Some(Arc::new(ExternalAuthorization {
                    backend,
                    protocol: AuthorizationProtocol::HttpAt {
                        method: method.into(),
                        host: named(&host, port, is_tls).into(),
                        target: path.into(),
                    },
                    timeout: Duration::from_millis(timeout.into()),
                    fail_open,
                    status_on_error,
                    request_headers,
                    upstream_headers,
                    client_headers,
                    reserved_headers: Vec::new(),
                    when: Vec::new(),
                    context,
                    // Only a POST has a body.
                    body: (method == "POST").then_some(AskedBody {
                        most: LONGEST_BODY,
                        partial: false,
                        as_bytes: true,
                    }),
                }));
                return;
            }
            "the service of forward-auth does not exist"
        }
    };
    close(config, effects, "ServiceInvalid", why);
}

/// As a `Host` header names it.
fn named(host: &str, port: u16, is_tls: bool) -> String {
    let usual = if is_tls { 443 } else { 80 };
    if port == usual {
        host.to_owned()
    } else {
        format!("{host}:{port}")
    }
}

fn names(config: &Fields<'_>, key: &str) -> Vec<Arc<str>> {
    let mut names = Vec::new();
    for text in config.strings(key) {
        match headers::name(text) {
            Ok(name) => names.push(name),
            Err(error) => config.refuse(key, "HeaderInvalid", error),
        }
    }
    names
}

fn extra_headers(config: &Fields<'_>) -> Vec<(Arc<str>, Arc<str>)> {
    let mut pairs = Vec::new();
    for (name, value) in config.string_map("extra_headers") {
        match headers::settable(name, value) {
            Ok(pair) if !pair.1.contains('$') => pairs.push(pair),
            _ => {
                let message = format!("header {name} cannot be sent: variables are not supported");
                config.refuse("extra_headers", "HeaderInvalid", message);
            }
        }
    }
    pairs
}

/// The service of `forward-auth`.
struct Service {
    is_tls: bool,
    host: String,
    port: u16,
    path: String,
}

fn secured(host: &str, is_verified: bool) -> Arc<UpstreamTls> {
    Arc::new(UpstreamTls {
        server_name: host.into(),
        accepted_names: Vec::new(),
        trust: if is_verified {
            Trust::System
        } else {
            Trust::Unverified
        },
        client: None,
        versions: TlsVersions {
            min: TlsVersion::V1_2,
            max: TlsVersion::V1_3,
        },
        crypto: Crypto::ANY,
    })
}

/// `http://host[:port]/path`, or the same with https.
fn uri(text: &str) -> Result<Service, String> {
    let wrong = || format!("{text:?} is not of the form http(s)://host[:port]/path");
    let plain = text.strip_prefix("http://");
    let is_tls = plain.is_none();
    let rest = plain
        .or_else(|| text.strip_prefix("https://"))
        .ok_or_else(wrong)?;
    let (authority, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, "/"),
    };
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().map_err(|_| wrong())?),
        None => (authority, if is_tls { 443 } else { 80 }),
    };
    if host.is_empty() || path.contains(['$', '#', ' ']) {
        return Err(wrong());
    }
    Ok(Service {
        is_tls,
        host: host.to_ascii_lowercase(),
        port,
        path: path.to_owned(),
    })
}
