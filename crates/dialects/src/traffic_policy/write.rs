//! The way back: what a route or a backend is asked, as the sections of a policy.
//!
//! A section is written only if what the reader makes of it is what was meant. So whatever a policy
//! cannot say exactly is told, not written in part.

mod access;
mod endpoint;
mod guard;
mod limits;
mod ramp;
mod route;

use std::sync::Arc;
use std::time::Duration;

#[cfg(test)]
use routing::model::RateLimitService;
use routing::model::{BackendId, BackendPolicy, Filters, Respond, Timeouts};
use serde_json::{Map, Value, json};

use super::read::{self, Said};
use crate::backend::BackendRef;
use crate::fields::{Fields, Findings};

/// Sections, and what has none.
#[derive(Debug, Default)]
pub(crate) struct Written {
    pub(crate) spec: Map<String, Value>,
    pub(crate) missing: Vec<Missing>,
}

/// A part of the model that a policy does not say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Missing {
    /// For example `guards.rate_limits`.
    pub(crate) part: &'static str,
    pub(crate) why: String,
}

/// What is known where a policy is written.
pub(crate) struct Place<'p> {
    /// The policy's.
    pub(crate) namespace: &'p str,
    /// The Service of a backend that is nothing but that.
    pub(crate) service: &'p dyn Fn(&BackendId) -> Option<&'p BackendRef>,
    /// Whether there are policies at all: other gateways have none.
    pub(crate) is_known: bool,
}

/// What a route asks and changes; `answer` is given in place of what it does otherwise.
pub(crate) fn of_route(filters: &Filters, answer: Option<&Respond>, place: &Place<'_>) -> Written {
    let mut writer = Writer::new(place.is_known);
    route::write(&mut writer, filters, answer);
    if let Some(guards) = &filters.guards {
        guard::write(&mut writer, guards);
        access::write(&mut writer, guards, place);
        limits::write(&mut writer, guards, place);
    }
    writer.out
}

/// How the endpoints of a Service are used.
pub(crate) fn of_backend(
    policy: &BackendPolicy,
    timeouts: Option<&Timeouts>,
    is_known: bool,
) -> Written {
    let mut writer = Writer::new(is_known);
    endpoint::write(&mut writer, policy);
    if let Some(timeouts) = timeouts {
        endpoint::timeouts(&mut writer, timeouts);
    }
    writer.out
}

/// A section's text, or why there is none.
type Section = Result<Value, String>;

struct Writer {
    out: Written,
    is_known: bool,
}

impl Writer {
    fn new(is_known: bool) -> Self {
        Self {
            out: Written::default(),
            is_known,
        }
    }

    fn miss(&mut self, part: &'static str, why: impl Into<String>) {
        let why = if self.is_known {
            why.into()
        } else {
            "Gateway API has no place for it".to_owned()
        };
        self.out.missing.push(Missing { part, why });
    }

    /// Puts a section, if what is read of it is `wanted`.
    fn put<T: PartialEq>(
        &mut self,
        (key, part): (&str, &'static str),
        section: Section,
        wanted: &T,
        read: impl FnOnce(Said) -> Option<T>,
    ) {
        let section = match section {
            Ok(section) if self.is_known => section,
            Ok(_) => return self.miss(part, ""),
            Err(why) => return self.miss(part, why),
        };
        let said = said(key, &section).and_then(read);
        if said.as_ref() == Some(wanted) {
            self.out.spec.insert(key.to_owned(), section);
        } else {
            let why = format!("{key} of a TrafficPolicy cannot say all of it");
            self.miss(part, why);
        }
    }
}

/// What a policy of this section says; `None` if something in it is wrong.
fn said(key: &str, section: &Value) -> Option<Said> {
    let spec = json!({key: section});
    let findings = Findings::default();
    let said = {
        let fields = Fields::new(&spec, String::new(), &findings);
        read::read(&fields, "", "")
    };
    findings.take().is_empty().then_some(said)
}

/// A time as Go writes it; the sections have none that is nothing.
fn time(time: Duration) -> Section {
    let text = match (time.as_nanos(), time.subsec_nanos()) {
        (0, _) => return Err("a time of nothing cannot be said".to_owned()),
        (_, 0) => format!("{}s", time.as_secs()),
        (all, rest) if rest.is_multiple_of(1_000_000) => format!("{}ms", all / 1_000_000),
        (all, _) => format!("{all}ns"),
    };
    Ok(text.into())
}

/// The same where nothing is a time, too.
fn any_time(length: Duration) -> Section {
    if length.is_zero() {
        return Ok("0s".into());
    }
    time(length)
}

/// `response`, and `directResponse`.
fn answer(respond: &Respond) -> Value {
    let headers: Map<String, Value> = respond
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), json!(value)))
        .collect();
    let mut answer = json!({"status": respond.status, "body": respond.body});
    if respond.headers != crate::istio::values::plain(respond.status, "").headers {
        answer["headers"] = Value::Object(headers);
    }
    answer
}

/// The same answer with its headers in the order of their names.
fn sorted(respond: &Respond) -> Respond {
    let mut respond = respond.clone();
    respond.headers.sort();
    respond
}

/// The same filters, each part as it is compared: whose it is and in which order it was said do not
/// count.
#[cfg(test)]
pub(crate) fn plain(filters: &Filters) -> Filters {
    let mut filters = filters.clone();
    if let Some(guards) = &mut filters.guards {
        let mut plain = guard::plain(&access::plain(guards));
        for service in &mut plain.limit_services {
            let backend = service.backend.clone();
            *service = Arc::new(RateLimitService {
                backend,
                ..limits::nobodys(service)
            });
        }
        *guards = Arc::new(plain);
    }
    filters.guards.take_if(|guards| guards.is_empty());
    if let Some(retry) = &mut filters.retry {
        *retry = Arc::new(route::plain_retry(retry));
    }
    if let Some(cors) = &mut filters.cors {
        *cors = Arc::new(route::plain_cors(cors));
    }
    for mirror in &mut filters.mirrors {
        mirror.share = mirror.share.reduced();
    }
    filters
}

fn texts(all: &[Arc<str>]) -> Value {
    json!(all)
}

#[cfg(test)]
mod tests;
