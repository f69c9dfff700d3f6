//! Spans of requests: whether one is recorded, what the next hop is told, what the collector gets.
//!
//! The decision of whoever came before holds; the share is drawn for requests that begin a trace
//! (OpenTelemetry's `ParentBased(TraceIdRatioBased)`). While nobody traces, requests pass with the
//! fields that they have.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use otlp::{Counts, Event, Exporter, Span, Value};
use routing::RequestView;
use routing::model::{Collector, Endpoint, HeaderOps};

use crate::connection::Client;
use crate::message::View;
use crate::metrics::Series;
use crate::record::End;
use crate::telemetry::{self, Traced};
use crate::trace::{Form, Parent, hex};
use crate::worker::Worker;

/// How requests are traced.
#[derive(Debug)]
pub struct Tracing {
    /// Share of the requests without a trace that begin one, `0.0..=1.0`.
    pub rate: f64,
    pub exporter: Exporter,
}

/// Starts an exporter for a collector that routes name; `None` if it cannot be.
pub type Start = Box<dyn Fn(&Collector) -> Option<Exporter> + Send + Sync>;

/// Collectors that routes may name at once.
const MOST_COLLECTORS: usize = 64;

/// The tracing that is in force. Clone freely.
#[derive(Clone, Debug, Default)]
pub struct Traces(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// Spares requests the look at the rest.
    is_on: AtomicBool,
    tracing: ArcSwapOption<Tracing>,
    counts: Counts,
    start: OnceLock<Start>,
    /// Those that routes name, while one does.
    collectors: Mutex<HashMap<Collector, Weak<Tracing>>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("tracing", &self.tracing)
            .finish_non_exhaustive()
    }
}

impl Traces {
    /// Traces requests that arrive from now on in this way, or not.
    pub fn set(&self, tracing: Option<Tracing>) {
        let is_on = tracing.is_some();
        self.0.tracing.store(tracing.map(Arc::new));
        self.0.is_on.store(is_on, Ordering::Release);
    }

    /// What became of the spans; exporters are started with it.
    pub fn counts(&self) -> &Counts {
        &self.0.counts
    }

    /// How exporters for collectors that routes name are started. Only the first call counts.
    pub fn start_with(&self, start: Start) {
        // Whoever called before is in force.
        let _ = self.0.start.set(start);
    }

    /// The exporter for a collector that a route names. Its rate is never asked for.
    pub(crate) fn collector(&self, collector: &Collector) -> Option<Arc<Tracing>> {
        let mut known = self
            .0
            .collectors
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = known.get(collector).and_then(Weak::upgrade) {
            return Some(running);
        }
        known.retain(|_, tracing| tracing.strong_count() > 0);
        if known.len() >= MOST_COLLECTORS {
            tracing::error!(url = %collector.url, "too many collectors: spans for it are dropped");
            return None;
        }
        let exporter = self.0.start.get().and_then(|start| start(collector))?;
        let running = Arc::new(Tracing {
            rate: 0.0,
            exporter,
        });
        known.insert(collector.clone(), Arc::downgrade(&running));
        Some(running)
    }

    fn current(&self) -> Option<Arc<Tracing>> {
        let is_on = self.0.is_on.load(Ordering::Acquire);
        is_on.then(|| self.0.tracing.load_full()).flatten()
    }
}

/// The span of a request that is being served.
#[derive(Debug)]
pub(crate) struct Open {
    trace: [u8; 16],
    id: [u8; 8],
    parent: Option<Parent>,
    /// How the gateway traces.
    tracing: Arc<Tracing>,
    /// A number in `0.0..1.0`, which the share is compared with.
    drawn: f64,
    start: u64,
    /// `None` if it is not recorded.
    recorded: Option<Recorded>,
}

#[derive(Debug)]
struct Recorded {
    tracing: Arc<Tracing>,
    method: String,
    state: String,
    attributes: Vec<(&'static str, Value)>,
    tags: Vec<(Arc<str>, Value)>,
    events: Vec<Event>,
}

impl Open {
    /// `None` while nobody traces.
    pub(crate) fn start(worker: &Worker, client: &Client, view: View<'_>) -> Option<Box<Self>> {
        let mut span = Self::undecided(worker, worker.traces.current()?, view);
        let said = span.parent.as_ref().and_then(|parent| parent.is_sampled);
        if said.unwrap_or(span.drawn < span.tracing.rate) {
            let tracing = Arc::clone(&span.tracing);
            span.recorded = Some(Recorded::start(tracing, client, view));
        }
        Some(Box::new(span))
    }

    fn undecided(worker: &Worker, tracing: Arc<Tracing>, view: View<'_>) -> Self {
        let parent = Parent::of(view);
        let trace = match &parent {
            Some(parent) => parent.trace,
            None => worker.random_id(),
        };
        Self {
            trace,
            id: worker.random_id(),
            parent,
            tracing,
            drawn: worker.fraction(),
            start: now(),
            recorded: None,
        }
    }

    /// The route of the request decides anew.
    pub(crate) fn steer(
        span: &mut Option<Box<Self>>,
        traced: &Traced,
        (worker, client, view): (&Worker, &Client, View<'_>),
    ) {
        let rule = &traced.rule;
        if span.is_none() {
            // Nobody else traces.
            let Some(tracing) = &traced.collector else {
                return;
            };
            let open = Self::undecided(worker, Arc::clone(tracing), view);
            *span = Some(Box::new(open));
        }
        let Some(span) = span else { return };
        let tracing = match (&rule.collector, &traced.collector) {
            (None, _) => Some(&span.tracing),
            (Some(_), own) => own.as_ref(),
        };
        let by_id = || {
            let id = view.field("x-request-id").filter(|_| rule.by_request_id)?;
            telemetry::decided_by(id)
        };
        let said = span.parent.as_ref().and_then(|parent| parent.is_sampled);
        let rate = rule.rate.unwrap_or(span.tracing.rate);
        let is_recorded = said.or_else(by_id).unwrap_or(span.drawn < rate);
        let Some(tracing) = tracing.filter(|_| rule.is_reported && is_recorded) else {
            span.recorded = None;
            return;
        };
        let mut recorded = Recorded::start(Arc::clone(tracing), client, view);
        let tags = rule.tags.iter();
        let tags = tags.filter_map(|(name, tag)| {
            let value = telemetry::tag(tag, view)?;
            Some((Arc::clone(name), Value::Text(value)))
        });
        recorded.tags = tags.collect();
        span.recorded = Some(recorded);
    }

    /// The trace's id in hex digits.
    pub(crate) fn trace(&self) -> String {
        hex(&self.trace)
    }

    /// Tells the next hop. Whoever spoke B3 is answered in B3 as well.
    pub(crate) fn tell(&self, headers: &mut HeaderOps) {
        let mut set = |name: &str, value: String| headers.set.push((name.into(), value.into()));
        let (trace, id) = (hex(&self.trace), hex(&self.id));
        let is_sampled = u8::from(self.recorded.is_some());
        set("traceparent", format!("00-{trace}-{id}-0{is_sampled}"));
        match self.parent.as_ref().map(|parent| parent.form) {
            None | Some(Form::W3c) => {}
            Some(Form::B3Single) => set("b3", format!("{trace}-{id}-{is_sampled}")),
            Some(Form::B3Multiple) => {
                let parent = self.parent.as_ref().map(|parent| hex(&parent.span));
                set("x-b3-traceid", trace);
                set("x-b3-spanid", id);
                set("x-b3-parentspanid", parent.unwrap_or_default());
                set("x-b3-sampled", is_sampled.to_string());
            }
        }
    }

    /// The request goes to this endpoint now: what came before was waiting for one.
    pub(crate) fn sent(&mut self, endpoint: &Endpoint) {
        let Some(recorded) = &mut self.recorded else {
            return;
        };
        let mut attributes = vec![(
            "network.peer.address",
            Value::from(endpoint.address.to_string()),
        )];
        if let Some(pod) = &endpoint.pod {
            let name = pod.split_once('/').map_or(&**pod, |(_, name)| name);
            attributes.push(("k8s.pod.name", Value::from(name)));
        }
        recorded.events.push(Event {
            time: now(),
            name: "sent",
            attributes,
        });
    }

    pub(crate) fn finish(self, series: Option<&Series>, end: &End) {
        let Some(mut recorded) = self.recorded else {
            return;
        };
        let attributes = &mut recorded.attributes;
        attributes.push((
            "http.response.status_code",
            Value::Number(end.status.into()),
        ));
        if let Some(client) = end.client {
            attributes.retain(|(name, _)| *name != "client.address");
            attributes.push(("client.address", Value::Text(client.to_string())));
        }
        let is_error = end.status >= 500;
        if is_error {
            let kind = match end.flag {
                "" => end.status.to_string(),
                flag => flag.to_owned(),
            };
            attributes.push(("error.type", Value::Text(kind)));
        }
        let route = series.map(|series| &*series.route().0);
        if let Some(route) = route {
            attributes.push(("suimon.route", Value::from(route)));
        }
        if let Some(backend) = series.and_then(Series::backend) {
            attributes.push(("suimon.backend", Value::from(&*backend.0)));
        }
        if let Some(activation) = series.and_then(Series::activation) {
            let revision = &activation.revision;
            attributes.extend([
                ("k8s.namespace.name", Value::from(&*revision.namespace)),
                ("kn.revision.name", Value::from(&*revision.name)),
                ("kn.service.name", Value::from(&*activation.service)),
                (
                    "kn.configuration.name",
                    Value::from(&*activation.configuration),
                ),
            ]);
        }
        let tags = &recorded.tags;
        recorded
            .attributes
            .retain(|(name, _)| tags.iter().all(|(own, _)| **own != **name));
        recorded.tracing.exporter.take(Span {
            trace: self.trace,
            id: self.id,
            parent: self.parent.map(|parent| parent.span),
            state: recorded.state,
            name: recorded.method,
            start: self.start,
            end: self.start + nanos(end.took),
            attributes: recorded.attributes,
            tags: recorded.tags,
            events: recorded.events,
            is_error,
        });
    }
}

impl Recorded {
    /// Names are those of OpenTelemetry's conventions for HTTP servers. The query is left out: it
    /// may hold secrets.
    fn start(tracing: Arc<Tracing>, client: &Client, view: View<'_>) -> Self {
        let text = |name: &str| {
            let value = view.field(name).unwrap_or_default();
            String::from_utf8_lossy(value).into_owned()
        };
        let scheme = if client.tls.is_some() {
            "https"
        } else {
            "http"
        };
        let protocol = view.protocol();
        let version = protocol.strip_prefix("HTTP/").unwrap_or(protocol);
        let mut attributes = vec![
            ("http.request.method", Value::from(view.method())),
            ("url.scheme", Value::from(scheme)),
            ("url.path", Value::from(view.path())),
            ("server.address", Value::from(view.authority())),
            ("network.protocol.version", Value::from(version)),
            ("client.address", Value::from(client.peer.text.as_str())),
        ];
        let agent = text("user-agent");
        if !agent.is_empty() {
            attributes.push(("user_agent.original", Value::Text(agent)));
        }
        Self {
            tracing,
            method: view.method().to_owned(),
            state: text("tracestate"),
            attributes,
            tags: Vec::new(),
            events: Vec::new(),
        }
    }
}

fn now() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or_default()
}

/// Enough until the year 2554.
fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
