//! `tcpGateway`: what connects to a port goes to destinations as it is, with TLS by the name that
//! clients ask for.

use std::collections::BTreeMap;
use std::sync::Arc;

use routing::model::tls::{TlsAction, TlsHost, TlsId};
use routing::model::{
    HostPattern, Preamble, SortKey, Split, Stream, StreamId, Transport, Visibility,
};

use super::status::Judgement;
use super::upstream::{self, Backends, Destination, Way};
use super::{reference, tls};
use crate::fields::Fields;
use crate::foreign::{Object, Translation};
use crate::objects::Reader;
use crate::ports::GatewayPorts;

/// The port of a Gateway.
pub(super) struct Listener<'l> {
    pub(super) object: &'l Object,
    pub(super) port: u16,
    /// It is the gateway's own port for HTTPS.
    pub(super) https: bool,
    /// Whether a balancer is in front.
    pub(super) preamble: Option<Preamble>,
}

impl Listener<'_> {
    pub(super) fn serve(
        &self,
        tcp: &Fields<'_>,
        reader: &Reader<'_>,
        judgement: &mut Judgement,
        out: &mut Translation,
    ) {
        tcp.unsupported("options", "connections have the gateway's own times");
        let hosts = tcp.objects("tcpHosts");
        if hosts.is_empty() {
            let text = "no tcpHosts: nothing is served";
            judgement.error("GatewayEmpty", "spec.tcpGateway.tcpHosts", text);
        }
        let mut backends = Backends {
            reader,
            found: BTreeMap::new(),
        };
        for (at, host) in hosts.iter().enumerate() {
            host.ignore("name");
            let split = self.split(host, &mut backends, judgement);
            match (host.object("sslConfig"), split) {
                (Some(ssl), split) => self.by_name((&ssl, at), split, reader, judgement, out),
                (None, Some(split)) => self.everything(at, split, reader, out),
                (None, None) => {}
            }
        }
        if !out.binds.is_empty() || !out.tls.is_empty() {
            out.backends = backends.found;
        }
    }

    fn split(
        &self,
        host: &Fields<'_>,
        backends: &mut Backends<'_, '_>,
        judgement: &mut Judgement,
    ) -> Option<Split> {
        let field = host.at("destination");
        let Some(destination) = host.object("destination") else {
            judgement.error("DestinationMissing", &field, "no destination is said");
            return None;
        };
        let namespace = &self.object.name.namespace;
        destination.unsupported("forwardSniClusterName", "write the destinations by name");
        let single = destination.object("single");
        let multi = destination.object("multi");
        let group = destination.object("upstreamGroup");
        let group = group.map(|it| reference(&it, namespace));
        let all = match (single, multi, group) {
            (Some(single), _, _) => vec![Destination::read(&single, namespace, true)],
            (None, Some(multi), _) => {
                let all = multi.objects("destinations").into_iter();
                let read = |it: Fields<'_>| {
                    it.unsupported("options", "bytes are passed on as they are");
                    Destination::read(&it, namespace, false)
                };
                all.map(read).collect()
            }
            (None, None, Some(group)) => {
                let found = upstream::group(backends.reader, &group);
                if found.is_none() {
                    let text = format!("UpstreamGroup {group} does not exist");
                    judgement.error("DestinationMissing", &field, text);
                }
                found?
            }
            (None, None, None) => {
                judgement.error("DestinationMissing", &field, "no destination is said");
                return None;
            }
        };
        let way = Way {
            hash: &[],
            idle: None,
            auto_host: false,
            grpc_web: false,
        };
        let mut arms = Vec::new();
        for destination in &all {
            match destination.resolve(&way, backends) {
                Ok(arm) => arms.push(arm),
                Err(text) => judgement.warn("DestinationMissing", &destination.field, text),
            }
        }
        Split::new(arms)
    }

    /// Whatever connects.
    fn everything(&self, at: usize, split: Split, reader: &Reader<'_>, out: &mut Translation) {
        let ports = reader.gateway_ports();
        let bind = ports.stream_bind(self.port, Transport::Tcp);
        let bind = Arc::new(GatewayPorts::behind(bind, self.preamble));
        let field = format!("spec.tcpGateway.tcpHosts[{at}]");
        let stream = Stream {
            origin: self.object.origin(&field),
            bind: bind.id.clone(),
            sort_key: SortKey(vec![self.object.created, at as i64]),
            split: Some(split),
            but_for: Default::default(),
        };
        let id = StreamId(format!("gloo/Gateway/{}/{field}", self.object.name).into());
        if out.binds.iter().all(|(known, _)| *known != bind.id) {
            out.binds.push((bind.id.clone(), bind));
        }
        out.streams.push((id, Arc::new(stream)));
    }

    /// TLS for some names, or for all.
    fn by_name(
        &self,
        (ssl, at): (&Fields<'_>, usize),
        split: Option<Split>,
        reader: &Reader<'_>,
        judgement: &mut Judgement,
        out: &mut Translation,
    ) {
        let is_ended = ssl.has("secretRef");
        let server = tls::server(ssl, &self.object.name.namespace, reader);
        let mut names = Vec::new();
        for name in &server.names {
            match tls::domain(name) {
                Some(name) => names.push(name),
                None => {
                    let text = format!("{name:?} is no name that clients could ask for");
                    judgement.error("DomainInvalid", &ssl.at("sniDomains"), text);
                }
            }
        }
        if server.names.is_empty() {
            names.push(HostPattern::Any);
        }
        let action = match (is_ended, server.termination, split) {
            (_, _, None) => TlsAction::Refuse,
            (false, _, Some(split)) => TlsAction::Passthrough(split),
            (true, Ok(mut termination), Some(split)) => {
                // What is inside is the backend's business.
                termination.protocols.clear();
                TlsAction::Relay(termination, split)
            }
            (true, Err(text), Some(_)) => {
                judgement.error("CertificateInvalid", ssl.path(), text);
                return;
            }
        };
        if names.is_empty() {
            return;
        }
        let bind = reader.gateway_ports().bind(self.port, true);
        let bind = Arc::new(GatewayPorts::behind(bind, self.preamble));
        let field = ssl.path();
        let host = TlsHost {
            origin: self.object.origin(field),
            bind: (!self.https).then(|| bind.id.clone()),
            visibility: Visibility::External,
            names,
            sort_key: SortKey(vec![self.object.created, at as i64]),
            action,
        };
        let id = TlsId(format!("gloo/Gateway/{}/{field}", self.object.name).into());
        if !self.https && out.binds.iter().all(|(known, _)| *known != bind.id) {
            out.binds.push((bind.id.clone(), bind));
        }
        out.tls.push((id, Arc::new(host)));
    }
}
