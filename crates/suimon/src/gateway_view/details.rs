//! What becomes of a request besides where it goes: who meets it at the door, what is asked of it,
//! what is changed in it and in its answer, how long it may take, and how its backends are.
//!
//! Names of fields are told, values are not: they may be secrets.

use std::fmt::Display;
use std::time::Duration;

use routing::model::tls::{ClientCertificates, Termination, TlsVersion};
use routing::model::{
    Action, BackendPolicy, Connect, FilterSet, Guards, HeaderOps, PathEdit, Protocol, Route,
    Timeouts,
};
use routing::{Backend, CompiledTls, CompiledTlsAction};
use scaling::TrafficStats;

/// What happens in the handshake that asks for this name.
pub(super) fn handshake(name: &str, found: Option<&CompiledTls>) -> String {
    let Some(tls) = found else {
        return format!("TLS for {name}: refused, no certificate and no rule has this name");
    };
    let pattern = &tls.pattern;
    match &tls.action {
        CompiledTlsAction::Terminate(how) => {
            format!("TLS for {name}, served as {pattern}: {}", ended(how))
        }
        CompiledTlsAction::Relay(how, _) => format!(
            "TLS for {name}, served as {pattern}: {}; what is inside is passed on as it is",
            ended(how)
        ),
        CompiledTlsAction::Passthrough(_) => {
            format!("TLS for {name}, served as {pattern}: passed on as it is, this is no request")
        }
        CompiledTlsAction::Refuse => {
            format!("TLS for {name}, served as {pattern}: closed without a word")
        }
    }
}

fn ended(how: &Termination) -> String {
    let certificates = match how.certificates.as_slice() {
        [] => "certificate of the gateway's own authority".to_owned(),
        all => {
            let names: Vec<_> = all.iter().map(|one| one.name.to_string()).collect();
            format!("certificate {}", names.join(", "))
        }
    };
    let version = |version| match version {
        TlsVersion::V1_2 => "1.2",
        TlsVersion::V1_3 => "1.3",
    };
    let clients = match how.client {
        ClientCertificates::None => "",
        ClientCertificates::Optional(_) => ", clients may show a certificate that verifies",
        ClientCertificates::Require(_) => ", clients must show a certificate that verifies",
        ClientCertificates::Unverified => ", clients may show any certificate",
    };
    format!(
        "{certificates}, TLS {} to {}{clients}",
        version(how.versions.min),
        version(how.versions.max)
    )
}

/// The lines about a route: its own, then those of the arms that do something more.
pub(super) fn route(route: &Route) -> Vec<String> {
    let mut lines = Vec::new();
    operations(&mut lines, "request", &route.request_headers);
    if let Some(host) = &route.rewrite_host {
        lines.push(format!("host becomes {host}"));
    }
    filters(&mut lines, &route.filters);
    if let Action::Forward(split) | Action::ForwardSecure(split) = &route.action {
        for arm in split.arms() {
            let mut own = Vec::new();
            operations(&mut own, "request", &arm.request_headers);
            filters(&mut own, &arm.filters);
            lines.extend(
                own.iter()
                    .map(|line| format!("for {}: {line}", arm.backend)),
            );
        }
    }
    lines
}

fn filters(lines: &mut Vec<String>, set: &routing::model::Filters) {
    if set.is_empty() {
        return;
    }
    let set: &FilterSet = set;
    if let Some(guards) = &set.guards {
        let asked = asked(guards);
        if !asked.is_empty() {
            lines.push(format!("held back first by {}", asked.join(", ")));
        }
    }
    if let Some(host) = &set.rewrite_host {
        lines.push(format!("host becomes {host}"));
    }
    if let Some(edit) = &set.rewrite_path {
        lines.push(path(edit));
    }
    if !set.request_templates.is_empty() {
        let names = set.request_templates.iter().map(|it| &it.name);
        lines.push(format!(
            "request headers made for each request: {}",
            list(names)
        ));
    }
    match set.connect {
        Some(Connect::Pass) => lines.push("CONNECT is passed on".to_owned()),
        Some(Connect::Terminate) => lines.push("CONNECT ends here, its bytes go on".to_owned()),
        None => {}
    }
    if set.cors.is_some() {
        lines.push("cross-origin requests are answered by its CORS policy".to_owned());
    }
    let mut limits = Vec::new();
    limits.extend(set.request_timeout.map(|time| within("a request", time)));
    limits.extend(set.try_timeout.map(|time| within("a try", time)));
    if !limits.is_empty() {
        lines.push(limits.join(", "));
    }
    if let Some(retry) = &set.retry {
        lines.push(format!("up to {} further tries", retry.attempts));
    }
    for mirror in &set.mirrors {
        lines.push(format!("a copy may go to {}", mirror.backend));
    }
    operations(lines, "answer", &set.response_headers);
    if set.cookies.is_some() || !set.rewrites.is_empty() || !set.response_templates.is_empty() {
        lines.push("the answer is rewritten".to_owned());
    }
}

fn operations(lines: &mut Vec<String>, of: &str, ops: &HeaderOps) {
    let mut parts = Vec::new();
    if !ops.set.is_empty() {
        parts.push(format!(
            "set {}",
            list(ops.set.iter().map(|(name, _)| name))
        ));
    }
    if !ops.add.is_empty() {
        parts.push(format!(
            "add {}",
            list(ops.add.iter().map(|(name, _)| name))
        ));
    }
    if !ops.remove.is_empty() {
        parts.push(format!("remove {}", list(ops.remove.iter())));
    }
    if !parts.is_empty() {
        lines.push(format!("{of} headers: {}", parts.join("; ")));
    }
}

fn list(names: impl Iterator<Item = impl Display>) -> String {
    names
        .map(|name| name.to_string())
        .collect::<Vec<_>>()
        .join(", ")
}

fn path(edit: &PathEdit) -> String {
    match edit {
        PathEdit::Full(path) => format!("path becomes {path}"),
        PathEdit::Prefix { matched, with } | PathEdit::Text { matched, with } => {
            format!("path: {matched} becomes {with}")
        }
        PathEdit::Regex { pattern, with } => format!("path: what matches {pattern} becomes {with}"),
    }
}

/// In the order in which they are asked, see `docs/traffic-policies.md`.
fn asked(guards: &Guards) -> Vec<String> {
    let mut asked = Vec::new();
    let mut has = |is_there: bool, word: &str| {
        if is_there {
            asked.push(word.to_owned());
        }
    };
    has(guards.fault.is_some(), "a fault on purpose");
    has(guards.no_upgrade, "a ban on upgrades");
    has(guards.tokens.is_some(), "JSON Web Tokens");
    has(guards.credentials.is_some(), "credentials");
    has(guards.authorization.is_some(), "authorization");
    has(guards.external.is_some(), "an authorization service");
    has(!guards.limit_services.is_empty(), "a rate limit service");
    has(guards.max_body.is_some(), "a limit of its body");
    has(!guards.ramps.is_empty(), "a ramp");
    has(guards.concurrency.is_some(), "adaptive concurrency");
    for (count, word) in [
        (guards.rate_limits.len(), "rate limit"),
        (guards.breakers.len(), "circuit breaker"),
        (guards.quotas.len(), "quota"),
        (guards.flights.len(), "limit of requests in flight"),
    ] {
        match count {
            0 => {}
            1 => asked.push(format!("a {word}")),
            count => asked.push(format!("{count} {word}s")),
        }
    }
    asked
}

/// What there is to say of a backend besides its endpoints.
pub(super) fn backend(backend: &Backend, stats: Option<&TrafficStats>) -> String {
    let mut parts = Vec::new();
    let protocol = match backend.protocol {
        Protocol::Http1 => "HTTP/1.1",
        Protocol::H2c => "HTTP/2",
    };
    parts.push(match backend.tls {
        Some(_) => format!("{protocol} over TLS"),
        None => protocol.to_owned(),
    });
    if let Some(stats) = stats {
        if stats.ejected > 0 {
            parts.push(format!("{} ejected as outliers", stats.ejected));
        }
        if stats.unhealthy > 0 {
            parts.push(format!("{} fail their checks", stats.unhealthy));
        }
    }
    times(&mut parts, &backend.timeouts);
    if let Some(policy) = &backend.policy {
        governed(&mut parts, policy);
    }
    parts.join(", ")
}

fn times(parts: &mut Vec<String>, timeouts: &Timeouts) {
    parts.extend(timeouts.request.map(|time| within("a request", time)));
    let begun = timeouts.response_start;
    parts.extend(begun.map(|time| within("an answer's first byte", time)));
    parts.extend(timeouts.idle.map(|time| format!("{time:?} of silence")));
}

fn within(what: &str, time: Duration) -> String {
    format!("{time:?} for {what}")
}

fn governed(parts: &mut Vec<String>, policy: &BackendPolicy) {
    parts.push(format!("balanced by {:?}", policy.balancer));
    let limits = &policy.limits;
    for (limit, word) in [
        (limits.connections, "connections"),
        (limits.pending, "waiting requests"),
        (limits.requests, "requests"),
        (limits.retries, "retries at once"),
    ] {
        parts.extend(limit.map(|limit| format!("at most {limit} {word}")));
    }
    if policy.outliers.is_some() {
        parts.push("outliers are ejected".to_owned());
    }
    if policy.health_check.is_some() {
        parts.push("endpoints are checked".to_owned());
    }
}
