//! What routes say about lines and spans of their requests, ready to be used.
//!
//! A route that says nothing is not looked at: its filters have no telemetry. What one says is
//! read when its first request comes.

use std::sync::Arc;

use accesslog::{Condition, ENVOY, Envoy, Template};
use routing::CompiledFilters;
use routing::model::{LogRule, LogShape, Tag, Telemetry, TraceRule};

use crate::connection::Client;
use crate::log_service::Running;
use crate::message::View;
use crate::spans::{Open, Tracing};
use crate::worker::{Scratch, Worker};

/// [`Telemetry`], compiled.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) without_counters: bool,
    /// In place of the gateway's own log.
    pub(crate) lines: Option<Box<[Line]>>,
    pub(crate) services: Box<[Arc<Running>]>,
    traces: Option<Traced>,
}

/// One line per request.
#[derive(Debug)]
pub(crate) struct Line {
    /// `None` is the shape of the gateway's own log.
    pub(crate) template: Option<Template>,
    when: Option<Condition>,
}

/// Which requests are traced.
#[derive(Debug)]
pub(crate) struct Traced {
    pub(crate) rule: TraceRule,
    /// In place of the gateway's own.
    pub(crate) collector: Option<Arc<Tracing>>,
}

impl Told {
    fn new(worker: &Worker, telemetry: &Telemetry) -> Self {
        let lines = telemetry.logs.as_ref().map(|rules| {
            let lines = rules.iter().filter_map(|rule| Line::new(worker, rule));
            lines.collect()
        });
        Self {
            without_counters: telemetry.without_counters,
            lines,
            services: telemetry
                .services
                .iter()
                .filter_map(|service| worker.log_services.running(service))
                .collect(),
            traces: telemetry.traces.as_ref().map(|rule| Traced {
                collector: rule
                    .collector
                    .as_ref()
                    .and_then(|collector| worker.traces.collector(collector)),
                rule: rule.clone(),
            }),
        }
    }

    /// Whether a line needs all fields of the request.
    pub(crate) fn asks_for_fields(&self) -> bool {
        let lines = self.lines.iter().flatten();
        let mut conditions = lines.filter_map(|line| line.when.as_ref());
        conditions.any(Condition::asks_for_fields)
    }
}

impl Line {
    /// `None` if it cannot be read, which dialects refuse.
    fn new(worker: &Worker, rule: &LogRule) -> Option<Self> {
        let when = rule.when.as_deref().map(Condition::parse).transpose();
        let template = match &rule.shape {
            LogShape::Own if worker.logs.has_own() => None,
            LogShape::Own => Some(Envoy::text(ENVOY)),
            LogShape::Text(format) => Some(Envoy::text(format)),
            LogShape::Json(labels) => {
                let labels = labels.iter().map(|(key, format)| (&**key, &**format));
                Some(Envoy::json(labels))
            }
        };
        if template.is_some() {
            worker.logs.open_stdout();
        }
        Some(Self {
            template: template.transpose().ok()?.map(|envoy| envoy.template),
            when: when.ok()?,
        })
    }

    pub(crate) fn is_written(&self, entry: &accesslog::Entry<'_>) -> bool {
        self.when.as_ref().is_none_or(|when| when.holds(entry))
    }
}

/// The route or arm that was found says what is told of the request.
pub(crate) fn steer(
    worker: &Worker,
    client: &Client,
    scratch: &mut Scratch,
    view: View<'_>,
    filters: Option<&Arc<CompiledFilters>>,
) {
    let Some(filters) = filters else { return };
    if let Some(telemetry) = &filters.telemetry {
        found(worker, client, scratch, view, (filters, telemetry));
    }
}

#[cold]
fn found(
    worker: &Worker,
    client: &Client,
    scratch: &mut Scratch,
    view: View<'_>,
    (filters, telemetry): (&CompiledFilters, &Telemetry),
) {
    let fill = || Arc::new(Told::new(worker, telemetry));
    let told: Option<Arc<Told>> = filters.telemetry_slot.shared_or_fill(fill);
    if let Some(traced) = told.as_ref().and_then(|told| told.traces.as_ref()) {
        Open::steer(&mut scratch.span, traced, (worker, client, view));
    }
    scratch.told = told;
}

/// What Envoy wrote into the version digit of a request id: the request is traced, or nobody has
/// decided.
pub(crate) fn decided_by(id: &[u8]) -> Option<bool> {
    let is_uuid = id.len() == 36 && [8, 13, 18, 23].iter().all(|at| id[*at] == b'-');
    (is_uuid && matches!(id[14], b'9' | b'a' | b'b')).then_some(true)
}

/// The value of a tag for a request.
pub(crate) fn tag(tag: &Tag, view: View<'_>) -> Option<String> {
    match tag {
        Tag::Literal(text) => Some(text.to_string()),
        Tag::Header(name, default) => match routing::RequestView::header(&view, name) {
            Some(value) => Some(String::from_utf8_lossy(value).into_owned()),
            None => default.as_ref().map(ToString::to_string),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_id_decides_if_its_version_digit_is_one_of_envoys() {
        for (id, expected) in [
            ("3f5f3c2e-7b1a-9c1d-8e2f-0123456789ab", Some(true)),
            ("3f5f3c2e-7b1a-ac1d-8e2f-0123456789ab", Some(true)),
            ("3f5f3c2e-7b1a-4c1d-8e2f-0123456789ab", None),
            ("3f5f3c2e7b1a9c1d8e2f0123456789ab", None),
            ("", None),
        ] {
            assert_eq!(decided_by(id.as_bytes()), expected, "{id}");
        }
    }
}
