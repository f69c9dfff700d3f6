//! `stream` of an ApisixRoute: what comes to a port, by TCP or UDP, goes to a Service as it is.

use std::sync::Arc;

use routing::model::{SortKey, Split, Stream, StreamId, Transport};

use super::backend::{Backends, Resolver};
use super::upstream::Times;
use crate::fields::Fields;
use crate::foreign::{Object, Translation};
use crate::objects::Reader;

/// Translates one rule.
pub(super) fn translate(
    object: &Object,
    reader: &Reader<'_>,
    (rule, at): (&Fields<'_>, usize),
    backends: &mut Backends,
    out: &mut Translation,
) {
    rule.ignore("name");
    let transport = transport(rule);
    let port = rule.object("match").and_then(|matched| {
        let port = matched
            .number::<u16>("ingressPort")
            .filter(|port| *port > 0);
        if matched.has("host") {
            matched.ignore("host");
            let message = "connections are not told apart by the host of their TLS: write a \
                           TLSRoute; the rule is not served";
            matched.refuse("host", "HostNotSupported", message);
            return None;
        }
        if port.is_none() {
            matched.refuse("ingressPort", "PortInvalid", "write a port of 1 to 65535");
        }
        port
    });
    if !rule.has("match") {
        rule.refuse("match", "MatchMissing", "write match with ingressPort");
    }
    let has_plugins = rule.has("plugins");
    if has_plugins {
        // One may be what keeps others out.
        rule.ignore("plugins");
        let message = "plugins are for HTTP only: the rule is not served";
        rule.refuse("plugins", "PluginsNotSupported", message);
    }
    let Some(backend) = rule.object("backend") else {
        rule.refuse("backend", "BackendMissing", "write the Service");
        return;
    };
    let mut resolver = Resolver {
        reader,
        namespace: &object.name.namespace,
        times: Times::default(),
        stream: transport,
        backends,
    };
    let arm = resolver.service(&backend);
    let (Some(transport), Some(port), Some(mut arm), false) = (transport, port, arm, has_plugins)
    else {
        return;
    };
    // One alone has everything.
    arm.weight = 1;
    arm.filters = Default::default();
    let bind = Arc::new(reader.gateway_ports().stream_bind(port, transport));
    let field = format!("spec.stream[{at}]");
    let stream = Stream {
        origin: object.origin(&field),
        bind: bind.id.clone(),
        sort_key: SortKey(vec![object.created, at as i64]),
        split: Split::new(vec![arm]),
        but_for: Default::default(),
    };
    let id = StreamId(format!("apisix/{}/{field}", object.name).into());
    out.binds.push((bind.id.clone(), bind));
    out.streams.push((id, Arc::new(stream)));
}

fn transport(rule: &Fields<'_>) -> Option<Transport> {
    match rule.text("protocol") {
        Some("TCP" | "tcp") => Some(Transport::Tcp),
        Some("UDP" | "udp") => Some(Transport::Udp),
        other => {
            let message = format!("protocol {:?} is not TCP or UDP", other.unwrap_or_default());
            rule.refuse("protocol", "ProtocolInvalid", message);
            None
        }
    }
}
