//! What is remembered of a request for its lines in the access logs; nothing at all while nobody
//! reads them.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use accesslog::Entry;

use crate::access::{Logs, Outcome};
use crate::connection::Client;
use crate::http1::body::Framing;
use crate::log_service::Heard;
use crate::message::View;
use crate::metrics::Series;
use crate::reply::PROBE;
use crate::seen::is_of_proxies;
use crate::spans::Open;
use crate::telemetry::Told;
use crate::trace;
use crate::worker::Worker;

/// What is remembered until the request ends; `None` unless somebody reads it.
#[derive(Debug)]
pub(crate) struct Record(Option<Box<Seen>>);

/// A request, and whether its sender is not believed what only a proxy could know: lines do not
/// show that either, as the backend does not see it.
pub(crate) type Shown<'v> = (View<'v>, bool);

#[derive(Debug)]
struct Seen {
    /// `None` if the line is for the process's own log only.
    logs: Option<Arc<Logs>>,
    time: jiff::Timestamp,
    client: String,
    method: String,
    authority: String,
    target: String,
    protocol: &'static str,
    content_length: Option<u64>,
    user_agent: String,
    referer: String,
    headers: Vec<Vec<String>>,
    scheme: &'static str,
    is_mutual: bool,
    /// What the route says, in place of the gateway's own log.
    told: Option<Lines>,
    trace: String,
    endpoint: Option<SocketAddr>,
    pod: Option<Arc<str>>,
    /// For the services that the route names.
    heard: Option<Heard>,
}

#[derive(Debug)]
struct Lines {
    told: Arc<Told>,
    /// Of each line's template.
    headers: Vec<Vec<Vec<String>>>,
    /// All of them, if a condition asks.
    fields: Vec<(String, String)>,
}

/// How a request ended.
pub(crate) struct End {
    pub(crate) status: u16,
    /// Why the gateway answered in place of the backend.
    pub(crate) flag: &'static str,
    /// Of the answer's body.
    pub(crate) bytes: u64,
    pub(crate) took: Duration,
    /// The client's address, if trusted proxies said it.
    pub(crate) client: Option<IpAddr>,
}

impl Record {
    /// The line names the trace of `span`, or else the one that the request names.
    pub(crate) fn start(
        worker: &Worker,
        client: &Client,
        view: View<'_>,
        span: Option<&Open>,
    ) -> Self {
        let logs = worker.logs.current();
        if logs.is_none() && !tracing::enabled!(target: "proxy::access", tracing::Level::DEBUG) {
            return Self(None);
        }
        let is_outside = client.is_outside(worker.client.as_ref());
        let mut seen = Seen::new(logs, client, (view, is_outside));
        if let Some(span) = span {
            seen.trace = span.trace();
        }
        Self(Some(Box::new(seen)))
    }

    /// The route says which lines are written of the request, which arrived `ago`, and whether its
    /// sender is a proxy that is believed.
    #[cold]
    pub(crate) fn steer(
        &mut self,
        worker: &Worker,
        client: &Client,
        view: View<'_>,
        told: &Arc<Told>,
        (span, is_trusted, ago): (Option<&Open>, bool, Duration),
    ) {
        let lines = told.lines.as_deref();
        if self.0.is_none() && lines.is_none_or(<[_]>::is_empty) && told.services.is_empty() {
            return;
        }
        let shown = (view, client.is_outside(None) && !is_trusted);
        let seen = self.0.get_or_insert_with(|| {
            let mut seen = Seen::new(worker.logs.current(), client, shown);
            seen.time -= ago;
            Box::new(seen)
        });
        if let Some(span) = span {
            seen.trace = span.trace();
        }
        let start = u64::try_from(seen.time.as_nanosecond()).unwrap_or_default();
        seen.heard = Heard::new(told, (client, shown), start);
        let Some(lines) = lines else { return };
        let headers = lines.iter().map(|line| {
            let template = line.template.iter().flat_map(|template| template.headers());
            template.map(|name| values(shown, name)).collect()
        });
        seen.told = Some(Lines {
            headers: headers.collect(),
            fields: if told.asks_for_fields() {
                fields(shown)
            } else {
                Vec::new()
            },
            told: Arc::clone(told),
        });
    }

    /// Who wants to hear of the answer.
    pub(crate) fn heard(&self) -> Option<&Heard> {
        self.0.as_deref()?.heard.as_ref()
    }

    /// The request was sent here.
    pub(crate) fn sent(&mut self, endpoint: &routing::model::Endpoint) {
        if let Some(seen) = &mut self.0 {
            seen.endpoint = Some(endpoint.address);
            seen.pod.clone_from(&endpoint.pod);
        }
    }

    /// So many bytes of the client went through a tunnel.
    pub(crate) fn tunneled(&mut self, bytes: u64) {
        if let Some(seen) = self.0.as_mut().filter(|_| bytes > 0) {
            seen.content_length = Some(bytes);
        }
    }

    /// Writes the lines. `series` knows the request's route, if it has one.
    pub(crate) fn finish(self, worker: &Worker, series: Option<&Series>, end: &End) {
        let Some(mut seen) = self.0 else { return };
        if let Some(client) = end.client {
            seen.client = client.to_string();
        }
        tracing::debug!(
            target: "proxy::access",
            peer = seen.client,
            method = seen.method,
            authority = seen.authority,
            target = seen.target,
            backend = series.and_then(Series::backend).map(tracing::field::display),
            endpoint = seen.endpoint.map(tracing::field::display),
            status = end.status,
            flag = end.flag,
            took_us = end.took.as_micros() as u64,
        );
        if seen.logs.is_some() || seen.told.is_some() {
            seen.write(worker, series, end);
        }
        if let Some(heard) = seen.heard.take() {
            let received = seen.content_length.unwrap_or_default();
            heard.tell(series, end, seen.endpoint, received);
        }
    }
}

impl Seen {
    fn new(logs: Option<Arc<Logs>>, client: &Client, shown: Shown<'_>) -> Self {
        let (view, _) = shown;
        let text = |name: &str| {
            let value = view.field(name).unwrap_or_default();
            String::from_utf8_lossy(value).into_owned()
        };
        let headers = logs.iter().flat_map(|logs| logs.headers());
        let ends = client.peer.ends.as_deref();
        Self {
            headers: headers.map(|name| values(shown, name)).collect(),
            logs,
            scheme: if client.tls.is_some() {
                "https"
            } else {
                "http"
            },
            is_mutual: client.principal.is_some(),
            told: None,
            time: jiff::Timestamp::now(),
            client: ends.map_or_else(|| client.peer.text.clone(), |(peer, _)| peer.to_string()),
            method: view.method().to_owned(),
            authority: view.authority().to_owned(),
            target: view.target().to_owned(),
            protocol: view.protocol(),
            content_length: match view.head.framing {
                Framing::None => Some(0),
                Framing::Length(length) => Some(length),
                _ => None,
            },
            user_agent: text("user-agent"),
            referer: text("referer"),
            trace: trace::id(view).unwrap_or_default(),
            endpoint: None,
            pod: None,
            heard: None,
        }
    }

    fn write(&self, worker: &Worker, series: Option<&Series>, end: &End) {
        let activation = series.and_then(Series::activation);
        let revision = activation.map(|activation| &activation.revision);
        let time = self.time.to_string();
        let endpoint = self.endpoint.map(|at| at.to_string()).unwrap_or_default();
        let pod_ip = self.pod.as_ref().and(self.endpoint);
        let pod_ip = pod_ip.map(|at| at.ip().to_string()).unwrap_or_default();
        let pod = self.pod.as_deref().unwrap_or_default();
        let entry = Entry {
            method: &self.method,
            target: &self.target,
            host: &self.authority,
            protocol: self.protocol,
            content_length: self.content_length,
            client: &self.client,
            user_agent: &self.user_agent,
            referer: &self.referer,
            headers: &[],
            status: end.status,
            bytes: end.bytes,
            took: end.took,
            namespace: revision.map_or("", |revision| &revision.namespace),
            revision: revision.map_or("", |revision| &revision.name),
            service: activation.map_or("", |activation| &activation.service),
            configuration: activation.map_or("", |activation| &activation.configuration),
            // Of `namespace/name`.
            pod: pod.split_once('/').map_or(pod, |(_, name)| name),
            pod_ip: &pod_ip,
            trace: &self.trace,
            time: &time,
            route: series.map_or("", |series| &series.route().0),
            backend: series.and_then(Series::backend).map_or("", |id| &id.0),
            endpoint: &endpoint,
            flag: end.flag,
            scheme: self.scheme,
            is_mutual: self.is_mutual,
            fields: &[],
        };
        let outcome = Outcome {
            is_revision: revision.is_some(),
            is_probe: end.flag == PROBE,
            drawn: worker.fraction(),
            is_told: self.told.is_some(),
        };
        let logs = self.logs.as_deref();
        if let Some(logs) = logs {
            worker.logs.write(logs, &entry, &self.headers, outcome);
        }
        let Some(lines) = &self.told else { return };
        let entry = Entry {
            fields: &lines.fields,
            ..entry
        };
        let all = lines.told.lines.iter().flatten().zip(&lines.headers);
        for (line, headers) in all.filter(|(line, _)| line.is_written(&entry)) {
            let own = (logs, &self.headers[..]);
            let template = line.template.as_ref().map(|it| (it, &headers[..]));
            worker.logs.write_told(&entry, template, own);
        }
    }
}

/// All values of a field.
fn values((view, is_outside): Shown<'_>, name: &str) -> Vec<String> {
    if is_outside && is_of_proxies(name) {
        return Vec::new();
    }
    let list = view.head.fields.list.iter();
    let named = list.filter(|field| {
        let found = field.name.get(view.bytes);
        found.eq_ignore_ascii_case(name.as_bytes())
    });
    named
        .map(|field| String::from_utf8_lossy(field.value.get(view.bytes)).into_owned())
        .collect()
}

/// All fields, with names in lower case.
fn fields((view, is_outside): Shown<'_>) -> Vec<(String, String)> {
    let mut fields = view.fields();
    fields.retain(|(name, _)| !(is_outside && is_of_proxies(name)));
    fields
}
