//! `tracing`: which requests have a span, what it says, and who takes it.

use std::sync::Arc;

use routing::model::{Collector, Tag, TraceRule};

use super::{Level, Scope, Side, entries, judge_mode, mode, names, providers};
use crate::fields::{Fields, Findings};
use crate::istio::mesh;
use crate::objects::Reader;
use crate::shared::headers;

/// Istio's share in percent, where nothing is said.
const SAMPLING: f64 = 1.0;

/// One entry of the list.
pub(super) struct Entry {
    mode: Option<Side>,
    /// The first that is named, and who takes its spans.
    provider: Option<Option<Arc<Collector>>>,
    disabled: Option<bool>,
    /// Percent.
    sampling: Option<f64>,
    by_request_id: Option<bool>,
    tags: Option<Vec<(Arc<str>, Tag)>>,
}

pub(super) fn read(fields: &Fields<'_>, scope: Scope, reader: &Reader<'_>) -> Entry {
    let selector = fields.object("match");
    let mode = selector.as_ref().and_then(mode);
    if let Some(selector) = &selector {
        judge_mode(selector, mode, scope);
    }
    let named = names(fields);
    if named.len() > 1 {
        let message = "spans go to the first provider; name one";
        fields.refuse("providers", "TooManyProviders", message);
    }
    let field = fields.at("providers");
    let sampling = fields.float("randomSamplingPercentage");
    let wrong = sampling.filter(|percent| !(0.0..=100.0).contains(percent));
    if let Some(percent) = wrong {
        let message = format!("{percent} is no percentage: write 0.0 to 100.0");
        fields.refuse("randomSamplingPercentage", "FieldInvalid", message);
    }
    if fields.bool("disableContextPropagation") == Some(true) {
        let message = "fields of traces are always passed on; remove them with a VirtualService's \
                       headers.request.remove";
        fields.refuse("disableContextPropagation", "FieldNotSupported", message);
    }
    if fields.bool("enableIstioTags") == Some(true) {
        let message = "spans have OpenTelemetry's names; write customTags for others";
        fields.refuse("enableIstioTags", "FieldNotSupported", message);
    }
    Entry {
        mode,
        provider: named
            .first()
            .map(|name| providers::collector(reader, name, fields.findings(), &field)),
        disabled: fields.bool("disableSpanReporting"),
        sampling: sampling.filter(|_| wrong.is_none()),
        by_request_id: fields.bool("useRequestIdForTraceSampling"),
        tags: fields.object("customTags").map(|tags| {
            let all = tags.keys().filter_map(|key| {
                let one = tags.object(key)?;
                Some((Arc::from(key), tag(&one)?))
            });
            all.collect()
        }),
    }
}

fn tag(fields: &Fields<'_>) -> Option<Tag> {
    if let Some(literal) = fields.object("literal") {
        return Some(Tag::Literal(literal.text("value")?.into()));
    }
    if let Some(header) = fields.object("header") {
        let name = header.parse("name", headers::name)?;
        let default = header.text("defaultValue").map(Arc::from);
        return Some(Tag::Header(name, default));
    }
    if let Some(variable) = fields.object("environment") {
        variable.ignore("name");
        let default = variable.text("defaultValue");
        let message = "the environment of the gateway is not shown, it may hold secrets: the \
                       default value is used; write a literal";
        variable.refuse("name", "FieldNotSupported", message);
        return default.map(|text| Tag::Literal(text.into()));
    }
    fields.unsupported("formatter", "write a literal or a header");
    None
}

/// What these come to: the last that says something counts.
pub(super) fn rule(reader: &Reader<'_>, levels: &[Level<'_>]) -> Option<TraceRule> {
    let mut found: Option<TraceRule> = None;
    let quiet = Findings::default();
    let default = mesh::default_provider(reader, "tracing");
    let default = default.map(|name| providers::collector(reader, name, &quiet, ""));
    let mut provider = default;
    let mut disabled = false;
    let mut sampling = None;
    for level in levels {
        for entry in entries(level, "tracing", |one, scope| read(one, scope, reader)) {
            if entry.mode.is_some_and(|mode| !level.scope.has(mode)) {
                continue;
            }
            let rule = found.get_or_insert_with(|| TraceRule {
                is_reported: true,
                rate: None,
                by_request_id: true,
                collector: None,
                tags: Vec::new(),
            });
            provider = entry.provider.or(provider);
            disabled = entry.disabled.unwrap_or(disabled);
            sampling = entry.sampling.or(sampling);
            rule.by_request_id = entry.by_request_id.unwrap_or(rule.by_request_id);
            if let Some(tags) = entry.tags {
                rule.tags = tags;
            }
        }
    }
    let mut rule = found?;
    // A provider that is named and cannot be used takes nothing, as in Istio.
    let is_lost = matches!(&provider, Some(None));
    rule.is_reported = !disabled && !is_lost;
    rule.collector = provider.flatten();
    let own = || {
        let set = mesh::sampling(reader).unwrap_or(SAMPLING);
        rule.collector.as_ref().map(|_| set)
    };
    rule.rate = sampling.or_else(own).map(|percent| percent / 100.0);
    Some(rule)
}
