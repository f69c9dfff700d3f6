//! LogServices: who is told of every request of a Mapping, over Envoy's gRPC access log service.
//!
//! All of them are in force, each under its name; of those with one name the first by namespace.

use std::sync::Arc;
use std::time::Duration;

use routing::model::{LogEntries, LogService};

use super::{LOG_SERVICE, instance, service, sole};
use crate::fields::{self, Fields};
use crate::foreign::{Object, Translation};
use crate::objects::{Objects, Reader};
use crate::shared::headers;

/// Envoy's own.
const DELAY: Duration = Duration::from_secs(1);
const BYTES: u32 = 16 * 1024;

/// Everybody who is told.
pub(super) fn services(reader: &Reader<'_>) -> Vec<Arc<LogService>> {
    let mut services: Vec<Arc<LogService>> = Vec::new();
    for object in ours(reader) {
        let service = fields::quietly(object.spec(), |spec| read(spec, object, reader));
        let is_known = |new: &LogService| services.iter().any(|known| known.log == new.log);
        if let Some(service) = service.filter(|new| !is_known(new)) {
            services.push(Arc::new(service));
        }
    }
    services
}

/// By namespace and name.
fn ours<'a>(reader: &Reader<'a>) -> Vec<&'a Arc<Object>> {
    let all = reader.foreign_all(&LOG_SERVICE);
    let mut all: Vec<_> = all.filter(|object| instance::is_ours(object)).collect();
    all.sort_by(|one, other| one.name.cmp(&other.name));
    all
}

fn read(spec: &Fields<'_>, object: &Object, reader: &Reader<'_>) -> Option<LogService> {
    let headers = wanted(spec);
    let entries = match (spec.text("driver"), headers) {
        (Some("http"), Some(headers)) => Some(LogEntries::Http {
            request_headers: headers.request,
            response_headers: headers.response,
            response_trailers: headers.trailers,
        }),
        (Some("tcp"), Some(headers)) if headers.is_empty() => Some(LogEntries::Connection),
        (Some("tcp"), Some(_)) => {
            let message = "driver tcp tells of no headers: nothing is sent; write driver http";
            let key = "driver_config.additional_log_headers";
            spec.refuse(key, "HeadersNotSupported", message);
            None
        }
        (Some("http" | "tcp"), None) => None,
        (other, _) => {
            let other = other.unwrap_or_default();
            let message = format!("{other:?} is no driver, nothing is sent: write http or tcp");
            spec.refuse("driver", "DriverNotSupported", message);
            None
        }
    };
    let url = service::url(spec, object, reader, "entries");
    let (delay, bytes) = (delay(spec), bytes(spec));
    Some(LogService {
        url: url?.into(),
        log: Arc::clone(&object.name.name),
        entries: entries?,
        delay,
        bytes,
    })
}

fn delay(spec: &Fields<'_>) -> Duration {
    match spec.number::<u32>("flush_interval_time") {
        Some(0) => {
            let message = "entries wait for at least a moment: 1 s is used";
            spec.refuse("flush_interval_time", "FieldInvalid", message);
            DELAY
        }
        Some(seconds) => Duration::from_secs(seconds.into()),
        None => DELAY,
    }
}

fn bytes(spec: &Fields<'_>) -> u32 {
    spec.number("flush_interval_byte_size").unwrap_or(BYTES)
}

/// `driver_config.additional_log_headers`.
#[derive(Default)]
struct Wanted {
    request: Vec<Arc<str>>,
    response: Vec<Arc<str>>,
    trailers: Vec<Arc<str>>,
}

impl Wanted {
    fn is_empty(&self) -> bool {
        self.request.is_empty() && self.response.is_empty() && self.trailers.is_empty()
    }
}

/// `None` if one has no name, which was told.
fn wanted(spec: &Fields<'_>) -> Option<Wanted> {
    let mut all = Some(Wanted::default());
    let Some(config) = spec.object("driver_config") else {
        return all;
    };
    for one in config.objects("additional_log_headers") {
        let places = ["during_request", "during_response", "during_trailer"];
        let [request, response, trailer] = places.map(|key| one.bool(key).unwrap_or(true));
        let name = headers::name(one.text("header_name").unwrap_or_default());
        match (name, &mut all) {
            (Ok(name), Some(all)) => {
                for (is_wanted, list) in [
                    (request, &mut all.request),
                    (response, &mut all.response),
                    (trailer, &mut all.trailers),
                ] {
                    if is_wanted && !list.contains(&name) {
                        list.push(Arc::clone(&name));
                    }
                }
            }
            (Ok(_), None) => {}
            (Err(error), _) => {
                let message = format!("{error}: nothing is sent; name every header");
                one.refuse("header_name", "HeaderInvalid", message);
                all = None;
            }
        }
    }
    all
}

/// A LogService by itself.
pub(super) fn judge(object: &Object, objects: &Objects) -> Translation {
    instance::translate(object, objects, |spec, reader, _| {
        spec.ignore("stats_name");
        spec.ignore("v3StatsName");
        for key in ["protocol_version", "v3ProtocolVersion"] {
            sole::version(spec, key, "told as envoy.service.accesslog.v3");
        }
        if spec.bool("grpc") == Some(false) {
            let message = "entries are sent over gRPC: write true";
            spec.refuse("grpc", "FieldDiffers", message);
        }
        let same = ours(reader);
        let same = same.into_iter().find(|it| it.name.name == object.name.name);
        let so = "has the same name and is in force; this one is sent nothing";
        sole::told(spec, object, same, ("LogServiceTwice", so));
        read(spec, object, reader);
    })
}
