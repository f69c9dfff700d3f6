//! `DestinationRule`: which of them is about a host, and what it says.
//!
//! Looked for in the client's namespace, then the Service's, then the root namespace; within one,
//! the most specific host counts. Several for one host are one: the oldest policy, all subsets.

use std::collections::BTreeMap;
use std::sync::Arc;

use routing::model::HostPattern;
use serde_json::Value;

use super::kinds::{DESTINATION_RULE, WILDCARD};
use super::traffic::{self, About, Level, SECTIONS};
use super::{ROOT_NAMESPACE, conditions, is_gateway_label, names, values};
use crate::fields::{Fields, Findings};
use crate::foreign::{BackendSpec, Object};
use crate::objects::Reader;

/// The rules for a backend with these names, the oldest first; mostly none.
pub(crate) fn find<'o>(
    reader: &Reader<'o>,
    client: &str,
    service: &str,
    hosts: &[String],
) -> Vec<&'o Arc<Object>> {
    if !reader.any_foreign(&DESTINATION_RULE) {
        return Vec::new();
    }
    let mut tiers = vec![client];
    for tier in [service, ROOT_NAMESPACE] {
        if !tiers.contains(&tier) {
            tiers.push(tier);
        }
    }
    let found =
        |tier: &&str| Some(of_tier(reader, tier, client, hosts)).filter(|all| !all.is_empty());
    tiers.iter().find_map(found).unwrap_or_default()
}

fn of_tier<'o>(
    reader: &Reader<'o>,
    tier: &str,
    client: &str,
    hosts: &[String],
) -> Vec<&'o Arc<Object>> {
    let is_usable = |object: &&Arc<Object>| {
        *object.name.namespace == *tier
            && names::is_exported(object.spec(), tier, client)
            && is_for_us(object.spec())
    };
    let exact = hosts
        .iter()
        .flat_map(|host| reader.foreign_by_key(&DESTINATION_RULE, host));
    let mut found: Vec<_> = exact.filter(is_usable).collect();
    if found.is_empty() {
        let wild = reader
            .foreign_by_key(&DESTINATION_RULE, WILDCARD)
            .filter(is_usable);
        let ranked = wild.filter_map(|object| {
            let pattern = names::pattern(&object.spec()["host"].as_str()?.to_ascii_lowercase())?;
            let mut hosts = hosts.iter();
            let is_covered = hosts
                .any(|host| names::covers(&pattern, &HostPattern::Exact(host.as_str().into())));
            is_covered.then(|| (names::rank(&pattern), object))
        });
        let ranked: Vec<_> = ranked.collect();
        let best = ranked.iter().map(|(rank, _)| *rank).min();
        found = ranked
            .into_iter()
            .filter(|(rank, _)| Some(*rank) == best)
            .map(|(_, object)| object)
            .collect();
    }
    conditions::oldest_first(&mut found);
    found
}

/// Rules for the sidecars of some clients are not for the gateway.
fn is_for_us(spec: &Value) -> bool {
    let labels = values::pairs(&spec["workloadSelector"]["matchLabels"]);
    values::selects(labels, is_gateway_label)
}

/// What rules say about a port of a backend or of its subset `over` what it is like without them
/// (nothing is Istio's own), and the name of that. Without rules (and without a subset) nothing.
///
/// # Errors
/// In words for the user: no rule has the subset.
pub(crate) fn spec(
    reader: &Reader<'_>,
    rules: &[&Arc<Object>],
    (host, port): (&str, u16),
    subset: Option<&str>,
    over: &BackendSpec,
) -> Result<(Option<Arc<str>>, BackendSpec), String> {
    let mut rules_with_policy = rules
        .iter()
        .filter(|rule| rule.spec()["trafficPolicy"].is_object());
    let of_host = rules_with_policy.next().or_else(|| rules.first());
    let of_subset = subset.map(|name| {
        let mut all = rules.iter().flat_map(|rule| {
            let subsets = rule.spec()["subsets"].as_array().into_iter().flatten();
            subsets.map(move |subset| (*rule, subset))
        });
        let found = all.find(|(_, subset)| subset["name"].as_str() == Some(name));
        found.ok_or_else(|| format!("no DestinationRule for {host} has a subset {name:?}"))
    });
    let of_subset = of_subset.transpose()?;
    let Some(first) = of_host else {
        return Ok((None, over.clone()));
    };
    let mut level = Level::default();
    level.over(&first.spec()["trafficPolicy"], port);
    let mut labels = BTreeMap::new();
    let mut variant = format!("istio/{}", first.name);
    if let Some((rule, subset)) = of_subset {
        level.over(&subset["trafficPolicy"], port);
        let pairs = values::pairs(&subset["labels"]).into_iter();
        labels.extend(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())));
        if rule.name != first.name {
            variant.push('+');
            variant.push_str(&rule.name.to_string());
        }
        variant.push(':');
        variant.push_str(subset["name"].as_str().unwrap_or_default());
    }
    let about = About {
        object: first,
        host,
        reader,
    };
    // What is wrong with a rule stands in its own status.
    let findings = Findings::default();
    let mut spec = traffic::build(&level, over, &about, ("spec.trafficPolicy", &findings));
    spec.labels.extend(labels);
    if spec == *over {
        return Ok((None, spec));
    }
    Ok((Some(variant.into()), spec))
}

/// Reads a whole rule, for its status.
pub(super) fn judge(object: &Object, spec: &Fields<'_>, reader: &Reader<'_>) {
    let host = spec.text("host");
    if host.is_none() {
        spec.refuse("host", "HostMissing", "a DestinationRule needs a host");
    }
    let host = names::fqdn(host.unwrap_or_default(), &object.name.namespace);
    if !host.is_empty() && names::pattern(&host).is_none() {
        spec.refuse("host", "HostInvalid", format!("{host:?} is no host"));
    }
    spec.strings("exportTo");
    if let Some(selector) = spec.object("workloadSelector") {
        let labels = selector.string_map("matchLabels");
        if !values::selects(labels, is_gateway_label) {
            let message = "there are no sidecars: only the gateway is a client, which this does \
                           not select";
            spec.refuse("workloadSelector", "FieldNotSupported", message);
        }
    }
    let about = About {
        object,
        host: &host,
        reader,
    };
    if let Some(policy) = spec.object("trafficPolicy") {
        judge_policy(&policy, spec, &about);
    }
    for subset in spec.objects("subsets") {
        if subset.text("name").is_none() {
            subset.refuse("name", "NameMissing", "a subset needs a name");
        }
        subset.string_map("labels");
        if let Some(policy) = subset.object("trafficPolicy") {
            judge_policy(&policy, &subset, &about);
        }
    }
}

fn judge_policy(policy: &Fields<'_>, parent: &Fields<'_>, about: &About<'_, '_>) {
    let findings = policy.findings();
    let nothing = BackendSpec::default();
    for section in SECTIONS {
        policy.raw(section);
    }
    if let Some(value) = parent.raw("trafficPolicy") {
        traffic::build(
            &Level::of(value),
            &nothing,
            about,
            (policy.path(), findings),
        );
    }
    let list = policy.raw("portLevelSettings").and_then(Value::as_array);
    for (at, port) in policy.objects("portLevelSettings").iter().enumerate() {
        let number = port
            .object("port")
            .and_then(|port| port.number::<u16>("number"));
        if number.is_none() {
            port.refuse("port", "PortMissing", "write port.number");
        }
        for section in SECTIONS {
            port.raw(section);
        }
        if let Some(value) = list.and_then(|list| list.get(at)) {
            traffic::build(&Level::of(value), &nothing, about, (port.path(), findings));
        }
    }
}
