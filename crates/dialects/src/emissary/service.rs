//! `[scheme://]name[.namespace][:port]`: where a Mapping or an AuthService sends to.
//!
//! A name alone is a Service of the object's namespace. Two labels are a Service if there is such
//! a one, and otherwise what DNS says, as more labels and addresses are.

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::backend::{self, Target, TargetKind};
use crate::diagnostic::Effect;
use crate::fields::Fields;
use crate::foreign::Object;
use crate::objects::{Name, Reader};
use crate::shared::upstream::{self, Nowhere, Place};

/// What the text says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) host: String,
    /// `None`: the port that belongs to the scheme.
    pub(super) port: Option<u16>,
    pub(super) is_https: bool,
}

impl Written {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not of the form [scheme://]name[.namespace][:port]");
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let is_https = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            other => return Err(format!("scheme {other:?} is not http or https")),
        };
        let rest = rest.trim_end_matches('/');
        let is_address = rest.starts_with('[') || rest.parse::<IpAddr>().is_ok();
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !is_address || host.ends_with(']') => {
                let port = port.parse().ok().filter(|port| *port > 0);
                (host, Some(port.ok_or_else(wrong)?))
            }
            _ => (rest, None),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let allowed =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b':');
        if host.is_empty() || !host.bytes().all(allowed) {
            return Err(wrong());
        }
        Ok(Self {
            host: host.to_ascii_lowercase(),
            port,
            is_https,
        })
    }

    /// The port to connect to.
    pub(super) fn port(&self, is_tls: bool) -> u16 {
        self.port.unwrap_or(if is_tls { 443 } else { 80 })
    }
}

/// `scheme://host:port` of the `service` that takes what is told of requests (`what`).
pub(super) fn url(
    spec: &Fields<'_>,
    object: &Object,
    reader: &Reader<'_>,
    what: &str,
) -> Option<String> {
    let Some(written) = spec.parse("service", Written::parse) else {
        if !spec.has("service") {
            let message = format!("write the service that takes {what}: none are sent");
            spec.refuse("service", "ServiceMissing", message);
        }
        return None;
    };
    let port = written.port(written.is_https);
    let place = find(reader, &object.name.namespace, &written.host, port);
    let host = match place {
        Ok(Place::Service { name, .. }) => {
            format!("{}.{}.svc.cluster.local", name.name, name.namespace)
        }
        Ok(_) if written.host.contains(':') => format!("[{}]", written.host),
        Ok(_) => written.host,
        Err((effect, reason, text)) => {
            let message = format!("{text}; no {what} are sent");
            let findings = spec.findings();
            findings.say(effect, reason, &spec.at("service"), message);
            return None;
        }
    };
    let scheme = if written.is_https { "https" } else { "http" };
    Some(format!("{scheme}://{host}:{port}"))
}

/// Where a host leads that an object of this namespace names.
pub(super) fn find(
    reader: &Reader<'_>,
    namespace: &str,
    host: &str,
    port: u16,
) -> Result<Place, Nowhere> {
    let outside = || Place::Host {
        host: Arc::from(host),
        port,
    };
    if host.parse::<IpAddr>().is_ok() {
        return Ok(outside());
    }
    let name = host.trim_end_matches('.');
    let cluster = [".svc.cluster.local", ".svc"]
        .iter()
        .find_map(|suffix| name.strip_suffix(suffix));
    let labels: Vec<_> = cluster.unwrap_or(name).split('.').collect();
    let service = match (labels.as_slice(), cluster) {
        ([name], None) => Name::new(namespace, name),
        ([name, namespace], Some(_)) => Name::new(namespace, name),
        ([name, namespace], None) => {
            let service = Name::new(namespace, name);
            if reader.service(&service).is_none() {
                return Ok(outside());
            }
            service
        }
        (_, Some(_)) => {
            let text = format!("{host:?} names no Service: write name.namespace.svc");
            return Err((Effect::Refused, "ServiceInvalid", text));
        }
        (_, None) => return Ok(outside()),
    };
    upstream::find(reader, &service, &IntOrString::Int(i32::from(port)))
}

/// The Service behind a place, if it is one of a revision or of this gateway itself.
pub(super) fn of_revision<'o>(reader: &Reader<'o>, place: &Place) -> Option<Target<'o>> {
    let Place::Service { name, port } = place else {
        return None;
    };
    let target = backend::resolve(reader, name, &IntOrString::Int(i32::from(*port))).ok()?;
    (!matches!(target.kind, TargetKind::Endpoints)).then_some(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_read_with_its_scheme_and_port() {
        let check = |text: &str, host: &str, port: Option<u16>, is_https: bool| {
            let expected = Written {
                host: host.to_owned(),
                port,
                is_https,
            };
            assert_eq!(Written::parse(text), Ok(expected), "{text:?}");
        };
        check("quote", "quote", None, false);
        check("Quote.ns:8080", "quote.ns", Some(8080), false);
        check("https://a.example/", "a.example", None, true);
        check("http://10.0.0.1:81", "10.0.0.1", Some(81), false);
        check("[::1]:81", "::1", Some(81), false);
        check("::1", "::1", None, false);
        for text in ["", "a:http", "a:0", "ftp://a", "a b", "a/b"] {
            assert!(Written::parse(text).is_err(), "{text:?}");
        }
    }
}
