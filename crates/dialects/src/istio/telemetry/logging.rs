//! `accessLogging`: which lines are written of a request.

use std::sync::Arc;

use accesslog::Condition;
use routing::model::{LogRule, LogShape};

use super::providers::{self, ENVOY_LOG};
use super::{Level, Scope, Side, entries, judge_mode, mode, names};
use crate::fields::Fields;
use crate::istio::mesh;
use crate::objects::Reader;

/// One entry of the list.
pub(super) struct Entry {
    mode: Option<Side>,
    providers: Vec<(Arc<str>, Option<LogShape>)>,
    disabled: bool,
    filter: Option<Arc<str>>,
}

pub(super) fn read(fields: &Fields<'_>, scope: Scope, reader: &Reader<'_>) -> Entry {
    let selector = fields.object("match");
    let mode = selector.as_ref().and_then(mode);
    if let Some(selector) = &selector {
        judge_mode(selector, mode, scope);
    }
    let providers = names(fields).into_iter().map(|name| {
        let shape = providers::log(reader, name, fields.findings(), &fields.at("providers"));
        (Arc::from(name), shape)
    });
    Entry {
        mode,
        providers: providers.collect(),
        disabled: fields.bool("disabled").unwrap_or(false),
        filter: fields.object("filter").and_then(|filter| {
            let text = filter.text("expression")?;
            match Condition::parse(text) {
                Ok(_) => Some(text.into()),
                Err(error) => {
                    let message = format!("{error}; until it is mended every request has a line");
                    filter.refuse("expression", "FilterInvalid", message);
                    None
                }
            }
        }),
    }
}

/// The lines, if somebody says which: those of the gateway and of the workload, each once.
pub(super) fn rules(reader: &Reader<'_>, levels: &[Level<'_>]) -> Option<Vec<LogRule>> {
    let of = |side: Side| {
        let scopes = levels.iter().filter(|level| level.scope.has(side));
        // What is said to the whole mesh is said to the workload in passing alone.
        let is_own = |level: &&Level<'_>| match side {
            Side::Client => true,
            Side::Server => level.scope == Scope::Workloads,
        };
        let own = levels.iter().filter(|level| level.scope.has(side));
        let is_told = own
            .filter(is_own)
            .any(|level| level.object.spec()["accessLogging"].is_array());
        is_told.then(|| merge(reader, scopes, side))
    };
    let (gateway, workload) = (of(Side::Client), of(Side::Server));
    let mut all: Vec<LogRule> = Vec::new();
    let is_any = gateway.is_some() || workload.is_some();
    for rule in gateway.into_iter().chain(workload).flatten() {
        match all.iter_mut().find(|known| known.shape == rule.shape) {
            None => all.push(rule),
            Some(known) => known.when = either(known.when.take(), rule.when),
        }
    }
    is_any.then_some(all)
}

fn either(one: Option<Arc<str>>, other: Option<Arc<str>>) -> Option<Arc<str>> {
    let (one, other) = (one?, other?);
    if one == other {
        return Some(one);
    }
    let joined = format!("({one}) || ({other})");
    // Together they may be too long: rather a line too many than none.
    Condition::parse(&joined).is_ok().then(|| joined.into())
}

/// Providers that are on, in their order, and the condition of each.
type Written = Vec<(Arc<str>, Option<LogShape>, Option<Arc<str>>)>;

fn merge<'l>(
    reader: &Reader<'_>,
    levels: impl Iterator<Item = &'l Level<'l>>,
    side: Side,
) -> Vec<LogRule> {
    let levels: Vec<Vec<Entry>> = levels
        .map(|level| {
            entries(level, "accessLogging", |one, scope| {
                read(one, scope, reader)
            })
        })
        .collect();
    let quiet = crate::fields::Findings::default();
    let default = mesh::default_provider(reader, "accessLogging").unwrap_or(ENVOY_LOG);
    let shape = providers::log(reader, default, &quiet, "");
    let default = vec![(Arc::from(default), shape)];
    // The last level that names providers says which there are at all.
    let named = levels.iter().rev().map(|entries| {
        let all = entries.iter().flat_map(|entry| &entry.providers);
        all.map(|(name, _)| Arc::clone(name)).collect::<Vec<_>>()
    });
    let mut named = named.filter(|names| !names.is_empty());
    let in_scope = named.next();
    let mut written: Written = Vec::new();
    let mut before = &default;
    for entry in levels.iter().flatten() {
        let names_own = !entry.providers.is_empty();
        if names_own {
            before = &entry.providers;
        }
        if entry.mode.is_some_and(|mode| mode != side) {
            continue;
        }
        for (name, shape) in before {
            if in_scope.as_ref().is_some_and(|all| !all.contains(name)) {
                continue;
            }
            let known = written.iter().position(|(own, ..)| own == name);
            let had = known.map(|at| written.remove(at));
            if entry.disabled {
                continue;
            }
            let had = had.and_then(|(.., filter)| filter);
            let filter = entry.filter.clone();
            let filter = filter.or_else(|| had.filter(|_| !names_own));
            written.push((Arc::clone(name), shape.clone(), filter));
        }
    }
    let rules = written.into_iter().filter_map(|(_, shape, when)| {
        let shape = shape?;
        Some(LogRule { shape, when })
    });
    rules.collect()
}
