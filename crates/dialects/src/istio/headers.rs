//! `headers` of a route or of one of its destinations: set, add, remove, both ways.
//!
//! Values may hold Envoy's `%…%` words. Those that the model knows are translated, others refuse
//! their header: a header with a wrong value is worse than none.

use std::sync::Arc;

use routing::model::{Arm, HeaderOps, Template};

use crate::fields::Fields;
use crate::shared::envoy_format::{self, Expanded};
use crate::shared::{headers, host};

/// What is changed.
#[derive(Clone, Debug, Default)]
pub(super) struct Changes {
    pub(super) request: Direction,
    pub(super) response: Direction,
    /// The authority sent upstream.
    pub(super) host: Option<Arc<str>>,
}

/// One way.
#[derive(Clone, Debug, Default)]
pub(super) struct Direction {
    pub(super) ops: HeaderOps,
    pub(super) templates: Vec<Template>,
}

/// Reads `headers` of this object, if it is there.
pub(super) fn read(fields: &Fields<'_>) -> Changes {
    let mut changes = Changes::default();
    let Some(headers) = fields.object("headers") else {
        return changes;
    };
    if let Some(request) = headers.object("request") {
        changes.request = direction(&request, Some(&mut changes.host));
    }
    if let Some(response) = headers.object("response") {
        changes.response = direction(&response, None);
    }
    changes
}

fn direction(fields: &Fields<'_>, mut host: Option<&mut Option<Arc<str>>>) -> Direction {
    let mut found = Direction::default();
    let responds = host.is_none();
    for key in ["set", "add"] {
        for (name, value) in fields.string_map(key) {
            let is_host = ["host", ":authority", "authority"]
                .iter()
                .any(|known| known.eq_ignore_ascii_case(name));
            match host.as_deref_mut().filter(|_| is_host) {
                Some(host) => *host = authority(fields, key, value),
                None => one(fields, key, (name, value), responds, &mut found),
            }
        }
    }
    for name in fields.strings("remove") {
        match headers::name(name) {
            Ok(name) => found.ops.remove.push(name),
            Err(error) => fields.refuse("remove", "HeaderInvalid", error),
        }
    }
    found
}

fn one(
    fields: &Fields<'_>,
    key: &str,
    (name, value): (&str, &str),
    responds: bool,
    found: &mut Direction,
) {
    let is_added = key == "add";
    let read = headers::settable(name, value)
        .and_then(|(name, value)| Ok((name, envoy_format::read(&value, responds)?)));
    match read {
        Ok((name, Expanded::Template(value))) => found.templates.push(Template {
            name,
            value: value.into(),
            append: is_added,
        }),
        Ok((name, Expanded::Plain(value))) if is_added => found.ops.add.push((name, value.into())),
        Ok((name, Expanded::Plain(value))) => found.ops.set.push((name, value.into())),
        Ok((name, Expanded::Unknown(variable))) => {
            let text = format!("{name}: %{variable}% is not supported");
            fields.refuse(key, "HeaderInvalid", text);
        }
        Err(error) => fields.refuse(key, "HeaderInvalid", format!("{name}: {error}")),
    }
}

/// A host, optionally with a port, that may be sent upstream.
pub(super) fn authority(fields: &Fields<'_>, key: &str, text: &str) -> Option<Arc<str>> {
    let (name, port) = text
        .rsplit_once(':')
        .map_or((text, None), |(name, port)| (name, Some(port)));
    let is_port = port.is_none_or(|port| port.parse::<u16>().is_ok());
    if is_port
        && !name.is_empty()
        && (host::is_name(name) || name.parse::<std::net::IpAddr>().is_ok())
    {
        return Some(text.into());
    }
    fields.refuse(key, "HostInvalid", format!("{text:?} is not a host name"));
    None
}

impl Changes {
    /// As changes of one arm. Istio: what the route does to a header counts more than what its
    /// destination does.
    pub(super) fn apply(self, arm: &mut Arm, route: &Self) {
        let (request, response) = (self.request, self.response);
        arm.request_headers = below(request.ops, &route.request);
        arm.filters.response_headers = below(response.ops, &route.response);
        arm.filters.request_templates = request.templates;
        arm.filters.response_templates = response.templates;
        arm.filters.rewrite_host = self.host.filter(|_| route.host.is_none());
    }
}

fn below(mut ops: HeaderOps, route: &Direction) -> HeaderOps {
    let set = route.ops.set.iter().map(|(name, _)| name);
    let decided: Vec<_> = set.chain(&route.ops.remove).collect();
    ops.set.retain(|(name, _)| !decided.contains(&name));
    ops.add.retain(|(name, _)| !route.ops.remove.contains(name));
    ops
}
