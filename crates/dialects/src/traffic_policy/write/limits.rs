//! Limits that another Service keeps.

use routing::model::{DescriptorEntry, Guards, LimitDescriptor, RateLimitService};
use serde_json::{Map, Value, json};

use super::guard::{by_text, meant};
use super::{Place, Section, Writer, time};
use crate::shared::descriptor;

pub(super) fn write(writer: &mut Writer, guards: &Guards, place: &Place<'_>) {
    let names = ("rateLimitService", "guards.limit_services");
    match &guards.limit_services[..] {
        [] => {}
        [one] => writer.put(names, section(one, place), &nobodys(one), |said| {
            Some(nobodys(&said.limits?.settings))
        }),
        _ => writer.miss(names.1, "a TrafficPolicy asks one rate limit service"),
    }
}

fn section(service: &RateLimitService, place: &Place<'_>) -> Section {
    let found = (place.service)(&service.backend);
    let found = found.ok_or("who is asked is no Service, or not asked as it says itself")?;
    if *found.service.namespace != *place.namespace {
        let why = format!(
            "who is asked is in namespace {}: a policy asks Services of its own namespace",
            found.service.namespace
        );
        return Err(why);
    }
    let descriptors: Result<Vec<_>, _> = service.descriptors.iter().map(described).collect();
    let mut section = json!({
        "service": {"name": found.service.name, "port": found.port},
        "domain": service.domain,
        "timeout": time(service.timeout)?,
        "statusOnError": service.status_on_error,
        "descriptors": descriptors?,
    });
    let flags = [
        ("failOpen", service.fail_open),
        ("quotaHeaders", service.quota_headers),
        ("resourceExhausted", service.resource_exhausted),
    ];
    for (key, _) in flags.into_iter().filter(|(_, is_set)| *is_set) {
        section[key] = true.into();
    }
    if let Some(hits) = service.hits {
        section["hits"] = hits.into();
    }
    Ok(section)
}

fn described(descriptor: &LimitDescriptor) -> Section {
    let entries: Result<Vec<_>, _> = descriptor.entries.iter().map(entry).collect();
    let mut section = json!({"entries": entries?});
    if !descriptor.unless.is_empty() {
        return Err("a TrafficPolicy cannot leave requests out of a descriptor".to_owned());
    }
    if !descriptor.when.is_empty() {
        section["match"] = Value::Object(meant(&descriptor.when)?);
    }
    if let Some(limit) = descriptor.limit {
        let unit = descriptor::unit_name(limit.unit);
        section["limit"] = json!({"requests": limit.requests, "unit": unit});
    }
    Ok(section)
}

fn entry(entry: &DescriptorEntry) -> Section {
    let section = match entry {
        DescriptorEntry::Fixed { key, value } => json!({"key": key, "value": value}),
        DescriptorEntry::Header {
            key,
            name,
            optional,
        } => {
            let mut section = json!({"key": key, "header": name});
            if *optional {
                section["optional"] = true.into();
            }
            section
        }
        DescriptorEntry::Client { key } => json!({"key": key, "client": true}),
        DescriptorEntry::ClientNetwork { key, v4, v6 } => {
            json!({"key": key, "clientNetwork": {"ipv4": v4, "ipv6": v6}})
        }
        DescriptorEntry::Match {
            key,
            value,
            when,
            expect,
        } => {
            let when: Map<_, _> = meant(when)?;
            json!({"key": key, "value": value, "match": when, "expect": expect})
        }
    };
    Ok(section)
}

/// The same whoever is asked, with conditions in no order.
pub(super) fn nobodys(service: &RateLimitService) -> RateLimitService {
    let mut out = service.of_nobody();
    for one in &mut out.descriptors {
        one.when = by_text(&one.when);
        for entry in &mut one.entries {
            if let DescriptorEntry::Match { when, .. } = entry {
                *when = by_text(when);
            }
        }
    }
    out
}
