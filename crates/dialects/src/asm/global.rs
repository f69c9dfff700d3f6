//! `ASMGlobalRateLimiter`: limits of a host that a rate limit service keeps for all gateways.
//!
//! Each limit is a descriptor with a `generic_key`, which says whose it is; that of an override goes
//! on with a `header_match`, so that a service finds it in the default one. It is sent along with
//! the limit: a service that takes limits from requests needs no list of them. For one that does
//! not (Envoy's, for limits of its own), the object's status has that list as `config.yaml`, as
//! ASM's has. A request that an override is about counts in that instead of the default one.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use routing::model::{
    BackendPolicy, Balancer, DescriptorEntry, LimitDescriptor, LimitOverride, Predicate, Protocol,
    RateLimitService,
};

use super::{Limit, Limits, limiter, target};
use crate::backend::BackendRef;
use crate::diagnostic::Effect;
use crate::fields::{Fields, Findings};
use crate::foreign::{BackendSpec, Object, Translation};
use crate::istio::{self, conditions};
use crate::objects::{Objects, Reader};
use crate::shared::descriptor;
use crate::shared::upstream::{self, Place};

/// Reads every entry.
pub(super) fn read(object: &Object, spec: &Fields<'_>) -> Limits {
    let is_ours = target::is_ours(spec);
    let mut limits = Limits::new();
    let service = service(object, spec);
    if service.is_none() {
        let message = "rateLimitService needs a host and a port: nothing is limited";
        spec.refuse("rateLimitService", "RateLimitServiceMissing", message);
    }
    let configs = spec.objects("configs");
    if configs.is_empty() {
        let message = "no configs: nothing is limited";
        spec.refuse("configs", "ConfigsMissing", message);
    }
    for (at, config) in configs.iter().enumerate() {
        let id = config
            .text("name")
            .map_or_else(|| at.to_string(), str::to_owned);
        let descriptors = descriptors(config, &format!("RateLimit[{}]-Id[{id}]", dotted(object)));
        let targets = target::of_config(config, object);
        if descriptors.is_empty() {
            continue;
        }
        let Some(service) = service.as_ref().filter(|_| is_ours) else {
            continue;
        };
        for target in targets {
            let service = RateLimitService {
                descriptors: descriptors.clone(),
                ..service.clone()
            };
            limits.push((target, Limit::Global(service)));
        }
    }
    limits
}

fn dotted(object: &Object) -> String {
    format!("{}.{}", object.name.name, object.name.namespace)
}

/// Who is asked, without descriptors.
fn service(object: &Object, spec: &Fields<'_>) -> Option<RateLimitService> {
    let written = spec.object("rateLimitService")?;
    let timeout = written.object("timeout").map(|timeout| {
        let seconds = timeout.number::<u32>("seconds").unwrap_or(0);
        let nanos = timeout.number::<u32>("nanos").unwrap_or(0);
        Duration::new(seconds.into(), nanos.min(999_999_999))
    });
    let timeout = timeout.filter(|timeout| !timeout.is_zero());
    let host = written.text("host").unwrap_or_default();
    let (reference, _) = backend(object, host, written.number("port").unwrap_or(0))?;
    Some(RateLimitService {
        backend: reference.id(),
        domain: host.into(),
        timeout: timeout.unwrap_or(descriptor::TIMEOUT),
        fail_open: true,
        status_on_error: descriptor::STATUS_ON_ERROR,
        hits: None,
        descriptors: Vec::new(),
        quota_headers: true,
        resource_exhausted: false,
    })
}

/// The service's backend, which belongs to the object itself: whoever has its limits in force asks
/// there. `None` if none is named.
fn backend(object: &Object, host: &str, port: u16) -> Option<(BackendRef, Arc<BackendSpec>)> {
    if host.is_empty() || port == 0 {
        return None;
    }
    let own = &object.name.namespace;
    let host: Arc<str> = istio::fqdn(host, own).into();
    let place = match istio::service_of(&host) {
        Some(name) => Place::Service { name, port },
        None => Place::Host { host, port },
    };
    let spec = BackendSpec {
        policy: Some(Arc::new(BackendPolicy {
            balancer: Balancer::RoundRobin,
            ..BackendPolicy::default()
        })),
        protocol: Some(Protocol::H2c),
        ..BackendSpec::default()
    };
    Some(upstream::reference("asm", own, place, true, spec))
}

/// The limits of an entry: those of its overrides, then the one of all other requests.
fn descriptors(config: &Fields<'_>, value: &str) -> Vec<LimitDescriptor> {
    let mut found = Vec::new();
    let mut others: Vec<Vec<Predicate>> = Vec::new();
    for (at, entry) in config.objects("limit_overrides").iter().enumerate() {
        let when = entry.object("request_match");
        let when = when.map(|written| limiter::conditions(&written));
        let limit = entry.object("limit").and_then(|limit| amount(&limit));
        let (Some(Ok(when)), Some(limit)) = (when, limit) else {
            let message = "an override needs request_match and limit that can be read; it is not \
                           in force";
            let findings = config.findings();
            findings.refuse("OverrideInvalid", entry.path(), message);
            continue;
        };
        found.push(LimitDescriptor {
            entries: vec![
                descriptor::generic(None, value),
                descriptor::generic(
                    Some(descriptor::HEADER_MATCH),
                    &format!("{value}-Override[{at}]"),
                ),
            ],
            when: when.clone(),
            // The first that is about a request counts.
            unless: others.clone(),
            limit: Some(limit),
        });
        others.push(when);
    }
    match config.object("limit") {
        Some(limit) => {
            let limit = amount(&limit);
            found.extend(limit.map(|limit| LimitDescriptor {
                entries: vec![descriptor::generic(None, value)],
                when: Vec::new(),
                unless: others,
                limit: Some(limit),
            }));
        }
        None if found.is_empty() => {
            config.refuse("limit", "LimitMissing", "write limit with quota and unit");
        }
        None => {}
    }
    found
}

fn amount(limit: &Fields<'_>) -> Option<LimitOverride> {
    let unit = limit.parse("unit", descriptor::unit);
    let quota = limit.number::<u32>("quota");
    if quota.is_none() || !limit.has("unit") {
        let message =
            "write quota and unit: how many requests pass in a second, minute, hour or day";
        limit.refuse("quota", "QuotaMissing", message);
    }
    Some(LimitOverride {
        requests: quota?,
        unit: unit?,
    })
}

/// What a service must be told that does not take limits from requests: the limits of each entry
/// under its value, those of overrides in the default one.
fn list(limits: &[LimitDescriptor], domain: &str) -> String {
    let mut text = String::from("descriptors:\n");
    let mut values: Vec<&str> = Vec::new();
    for one in limits {
        if let Some(value) = one.entries.first().and_then(fixed)
            && !values.contains(&value)
        {
            values.push(value);
        }
    }
    for value in values {
        let of_value = |one: &&LimitDescriptor| one.entries.first().and_then(fixed) == Some(value);
        let own: Vec<_> = limits.iter().filter(of_value).collect();
        let (usual, overrides): (Vec<_>, Vec<_>) =
            own.into_iter().partition(|one| one.entries.len() == 1);
        text.push_str("- ");
        if !overrides.is_empty() {
            text.push_str("descriptors:\n");
            for one in overrides {
                let value = one.entries.last().and_then(fixed).unwrap_or_default();
                let limit = amount_text(one, "      ");
                // A String takes whatever is written.
                let key = descriptor::HEADER_MATCH;
                let _ = writeln!(text, "  - key: {key}\n{limit}    value: {value:?}");
            }
            text.push_str("  ");
        }
        let limit = usual.first().map(|one| amount_text(one, "    "));
        let limit = limit.unwrap_or_default();
        let key = descriptor::GENERIC_KEY;
        let _ = writeln!(text, "key: {key}\n{limit}  value: {value:?}");
    }
    let _ = writeln!(text, "domain: {domain}");
    text
}

/// The value of an entry that is the same for all requests.
fn fixed(entry: &DescriptorEntry) -> Option<&str> {
    match entry {
        DescriptorEntry::Fixed { value, .. } => Some(value),
        _ => None,
    }
}

/// `rate_limit` of a descriptor, its fields at an indent.
fn amount_text(one: &LimitDescriptor, indent: &str) -> String {
    let Some(limit) = one.limit else {
        return String::new();
    };
    let outer = &indent[2..];
    format!(
        "{outer}rate_limit:\n{indent}requests_per_unit: {}\n{indent}unit: {}\n",
        limit.requests,
        descriptor::unit_name(limit.unit).to_ascii_uppercase(),
    )
}

/// An object's own status, with the backend of the service.
pub(super) fn judge(object: &Object, objects: &Objects) -> Translation {
    let findings = Findings::default();
    let reader = Reader::new(objects);
    let limits = super::read(object, &findings);
    let mut out = Translation::default();
    let written = &object.spec()["rateLimitService"];
    let host = written["host"].as_str().unwrap_or_default();
    let port = written["port"]
        .as_u64()
        .and_then(|it| u16::try_from(it).ok());
    if let Some((reference, spec)) = backend(object, host, port.unwrap_or(0)) {
        if spec.hosts.is_empty() && reader.service(&reference.service).is_none() {
            let message = format!(
                "Service {} does not exist: nobody can be asked, all requests pass",
                reference.service
            );
            let field = "spec.rateLimitService.host";
            findings.say(Effect::Waiting, "ServiceMissing", field, message);
        }
        out.backends.insert(reference, spec);
    }
    let mut all: Vec<LimitDescriptor> = Vec::new();
    for (_, limit) in limits {
        if let Limit::Global(service) = limit {
            let new = service.descriptors.into_iter();
            let new: Vec<_> = new.filter(|one| !all.contains(one)).collect();
            all.extend(new);
        }
    }
    conditions::finish(&mut out, object, &findings, reader, &[]);
    if let Some(status) = &mut out.status {
        if !all.is_empty() {
            status["config.yaml"] = list(&all, host).into();
        }
        let message = status["conditions"][0]["message"].as_str();
        let (word, message) = match message {
            None => ("successful", "ok".to_owned()),
            Some(message) => ("failed", message.to_owned()),
        };
        status["status"] = word.into();
        status["message"] = message.into();
    }
    out
}
