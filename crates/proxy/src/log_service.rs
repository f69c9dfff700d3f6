//! Services that are told of requests as routes say, and what they are told.
//!
//! What a request's head says is taken when its route is known, what its answer says when that
//! comes; entries are made when the request has ended, and nobody waits for a service.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use otlp::{Counts, LogEntry, LogExporter};
use routing::model::{LogEntries, LogService};

use crate::connection::Client;
use crate::downstream::Answer;
use crate::http1::field::Field;
use crate::metrics::Series;
use crate::record::{End, Shown};
use crate::seen::is_of_proxies;
use crate::telemetry::Told;
use crate::trailers::Trailers;

/// Starts what brings entries to a service that routes name; `None` if it cannot be.
pub type StartLog = Box<dyn Fn(&LogService) -> Option<LogExporter> + Send + Sync>;

/// Services that routes may name at once.
const MOST_SERVICES: usize = 64;

/// The services that routes name. Clone freely.
#[derive(Clone, Debug, Default)]
pub struct LogServices(Arc<Shared>);

#[derive(Default)]
struct Shared {
    counts: Counts,
    start: OnceLock<StartLog>,
    /// While a route names one.
    running: Mutex<HashMap<LogService, Weak<Running>>>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

/// A service that takes entries.
#[derive(Debug)]
pub(crate) struct Running {
    entries: LogEntries,
    exporter: LogExporter,
}

impl LogServices {
    /// What became of the entries; exporters are started with it.
    pub fn counts(&self) -> &Counts {
        &self.0.counts
    }

    /// How exporters are started. Only the first call counts.
    pub fn start_with(&self, start: StartLog) {
        // Whoever called before is in force.
        let _ = self.0.start.set(start);
    }

    pub(crate) fn running(&self, service: &LogService) -> Option<Arc<Running>> {
        let running = self.0.running.lock();
        let mut running = running.unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = running.get(service).and_then(Weak::upgrade) {
            return Some(known);
        }
        running.retain(|_, known| known.strong_count() > 0);
        if running.len() >= MOST_SERVICES {
            tracing::error!(url = %service.url, "too many log services: entries for it are dropped");
            return None;
        }
        let exporter = self.0.start.get().and_then(|start| start(service))?;
        let started = Arc::new(Running {
            entries: service.entries.clone(),
            exporter,
        });
        running.insert(service.clone(), Arc::downgrade(&started));
        Some(started)
    }
}

/// What is kept of a request for the services that its route names.
#[derive(Debug)]
pub(crate) struct Heard {
    told: Arc<Told>,
    entry: LogEntry,
    /// Names in lower case.
    request: Vec<(String, String)>,
    answer: RefCell<Vec<(String, String)>>,
    trailers: RefCell<Vec<(String, String)>>,
}

impl Heard {
    /// `None` if nobody is told. `start` is in nanoseconds since the Unix epoch.
    pub(crate) fn new(
        told: &Arc<Told>,
        (client, (view, is_outside)): (&Client, Shown<'_>),
        start: u64,
    ) -> Option<Self> {
        if told.services.is_empty() {
            return None;
        }
        let field = |name: &str| {
            let value = view.field(name).unwrap_or_default();
            String::from_utf8_lossy(value).into_owned()
        };
        let ends = client.peer.ends.as_deref();
        Some(Self {
            request: told.named(of_request, |name| {
                if is_outside && is_of_proxies(name) {
                    return None;
                }
                all(view.bytes, &view.head.fields.list, name)
            }),
            entry: LogEntry {
                start,
                peer: ends.map(|(peer, _)| *peer),
                local: ends.map(|(_, own)| *own),
                server_name: client.tls.as_ref().map(|_| {
                    let name = client.server_name.as_deref();
                    name.unwrap_or_default().to_owned()
                }),
                method: view.method().to_owned(),
                scheme: match client.peer.is_secure {
                    true => "https",
                    false => "http",
                },
                authority: view.authority().to_owned(),
                path: view.target().to_owned(),
                protocol: view.protocol(),
                user_agent: field("user-agent"),
                referer: field("referer"),
                forwarded_for: field("x-forwarded-for"),
                request_id: field("x-request-id"),
                ..LogEntry::default()
            },
            told: Arc::clone(told),
            answer: RefCell::default(),
            trailers: RefCell::default(),
        })
    }

    /// The answer's head as its backend sent it; in place of one before.
    #[cold]
    pub(crate) fn head(&self, answer: &Answer<'_>) {
        let list = &answer.head.fields.list;
        let found = self
            .told
            .named(of_answer, |name| all(answer.bytes, list, name));
        *self.answer.borrow_mut() = found;
    }

    /// The head of an answer that the gateway gives itself.
    pub(crate) fn own(&self, headers: &[(String, String)]) {
        let found = self.told.named(of_answer, |name| {
            let own = headers.iter();
            let own = own.filter(|(own, _)| own.eq_ignore_ascii_case(name));
            joined(own.map(|(_, value)| value.as_bytes()))
        });
        *self.answer.borrow_mut() = found;
    }

    #[cold]
    pub(crate) fn trailers(&self, trailers: &Trailers) {
        let found = self.told.named(of_trailers, |name| {
            let own = trailers.iter();
            let own = own.filter(|(own, _)| own.eq_ignore_ascii_case(name.as_bytes()));
            joined(own.map(|(_, value)| value))
        });
        *self.trailers.borrow_mut() = found;
    }

    /// Tells the services. `received` are the bytes of the request's body.
    pub(crate) fn tell(
        self,
        series: Option<&Series>,
        end: &End,
        endpoint: Option<std::net::SocketAddr>,
        received: u64,
    ) {
        let entry = LogEntry {
            took: end.took,
            client: end.client.map(|address| otlp::Client { address, port: 0 }),
            endpoint,
            backend: series
                .and_then(Series::backend)
                .map_or_else(String::new, |id| id.0.to_string()),
            route: series.map_or_else(String::new, |series| series.route().0.to_string()),
            flag: flag(end.flag),
            details: match end.flag {
                "" => "via_upstream".to_owned(),
                flag => flag.replace('-', "_"),
            },
            received,
            sent: end.bytes,
            status: end.status,
            ..self.entry
        };
        let (answer, trailers) = (self.answer.into_inner(), self.trailers.into_inner());
        for service in &self.told.services {
            let mut entry = entry.clone();
            if let LogEntries::Http {
                request_headers,
                response_headers,
                response_trailers,
            } = &service.entries
            {
                entry.request_headers = among(&self.request, request_headers);
                entry.response_headers = among(&answer, response_headers);
                entry.response_trailers = among(&trailers, response_trailers);
            }
            service.exporter.take(entry);
        }
    }
}

impl Told {
    /// Names that a service wants, with their values.
    fn named(
        &self,
        wanted: impl Fn(&LogEntries) -> &[Arc<str>],
        value: impl Fn(&str) -> Option<String>,
    ) -> Vec<(String, String)> {
        let mut found: Vec<(String, String)> = Vec::new();
        for name in self.services.iter().flat_map(|it| wanted(&it.entries)) {
            if found.iter().all(|(known, _)| **known != **name)
                && let Some(value) = value(name)
            {
                found.push((name.to_string(), value));
            }
        }
        found
    }
}

fn of_request(entries: &LogEntries) -> &[Arc<str>] {
    match entries {
        LogEntries::Http {
            request_headers, ..
        } => request_headers,
        LogEntries::Connection => &[],
    }
}

fn of_answer(entries: &LogEntries) -> &[Arc<str>] {
    match entries {
        LogEntries::Http {
            response_headers, ..
        } => response_headers,
        LogEntries::Connection => &[],
    }
}

fn of_trailers(entries: &LogEntries) -> &[Arc<str>] {
    match entries {
        LogEntries::Http {
            response_trailers, ..
        } => response_trailers,
        LogEntries::Connection => &[],
    }
}

/// The values of a field, as one.
fn all(bytes: &[u8], list: &[Field], name: &str) -> Option<String> {
    let own = list.iter();
    let own = own.filter(|field| {
        let found = field.name.get(bytes);
        found.eq_ignore_ascii_case(name.as_bytes())
    });
    joined(own.map(|field| field.value.get(bytes)))
}

fn joined<'a>(values: impl Iterator<Item = &'a [u8]>) -> Option<String> {
    let texts: Vec<_> = values.map(String::from_utf8_lossy).collect();
    (!texts.is_empty()).then(|| texts.join(","))
}

fn among(all: &[(String, String)], wanted: &[Arc<str>]) -> Vec<(String, String)> {
    let is_wanted = |(name, _): &&(String, String)| wanted.iter().any(|it| **it == **name);
    all.iter().filter(is_wanted).cloned().collect()
}

/// The field of Envoy's `ResponseFlags` that says why the gateway answered itself.
fn flag(word: &str) -> Option<u64> {
    Some(match word {
        "no-endpoint" | "backend-gone" | "no-healthy-upstream" => 2,
        "request-timeout" | "response-start-timeout" => 3,
        "reset" => 5,
        "connect" => 6,
        "unanswered" | "answer-cut" => 7,
        "overflow" | "queue-full" | "quota" | "concurrency" | "breaker" => 8,
        "no-route" => 9,
        "fault" => 11,
        "rate-limit" | "rate-limit-service" => 12,
        "external-authorization" => otlp::UNAUTHORIZED,
        "client-gone" => 15,
        "retries-exhausted" => 16,
        "idle-timeout" => 17,
        "bad-request" | "head-too-large" | "unknown-coding" | "version" => 19,
        "bad-answer" => 24,
        "no-backend" => 25,
        "overload" => 26,
        _ => return None,
    })
}
