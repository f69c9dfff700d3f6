//! `Gateway`: which ports and hosts there are, with which certificates.
//!
//! Port 80 is the gateway's own port for plain HTTP and 443 the one for HTTPS, wherever those
//! listen; every other port is a socket of its own. A server without hosts that a VirtualService
//! shares serves nothing, but its certificate is shown and its redirect given. What is not HTTP is
//! passed on as VirtualServices say, and closed where none says anything.

use std::collections::BTreeSet;
use std::sync::Arc;

use routing::model::tls::{Termination, TlsAction, TlsHost, TlsId};
use routing::model::{
    Action, Bind, BindId, HostPattern, Match, Redirect, RedirectPort, Route, RouteId, SortKey,
    Transport, Visibility,
};

use super::place::{Carries, Place};
use super::tls::{self, ServerTls};
use super::{conditions, mesh, names};
use crate::classes;
use crate::fields::{Fields, Findings};
use crate::foreign::{Object, Translation};
use crate::objects::{Objects, Reader};
use crate::ports::GatewayPorts;
use crate::shared::{preamble, scheme};

/// What a server does with its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Http {
        redirects: bool,
    },
    Https,
    Passthrough,
    /// Connections of any protocol.
    Tcp,
    /// The same inside TLS that is ended here.
    Ended,
}

/// One entry of `servers` that can be served.
pub(super) struct Server {
    at: usize,
    pub(super) hosts: Vec<ServerHost>,
    mode: Mode,
    grpc_web: bool,
    port: u16,
    bind: Option<Arc<Bind>>,
    tls: Option<ServerTls>,
    /// The shared listeners that its Gateway says it stands for, whatever its port is.
    stands_for: Option<Visibility>,
}

/// `namespace/host` of a server.
pub(super) struct ServerHost {
    /// `None` allows every namespace.
    namespace: Option<String>,
    pub(super) host: HostPattern,
}

impl ServerHost {
    pub(super) fn allows(&self, namespace: &str) -> bool {
        self.namespace.as_deref().is_none_or(|own| own == namespace)
    }
}

impl Server {
    /// Where an object with these hosts is served.
    pub(super) fn place(
        &self,
        gateway: &Object,
        hosts: BTreeSet<HostPattern>,
        reader: &Reader<'_>,
    ) -> Place {
        let scheme = match self.mode {
            // Hosts without a certificate get one of the gateway's own.
            Mode::Http { redirects: false } if self.stands_for.is_some() => None,
            Mode::Http { .. } => Some("http"),
            Mode::Https | Mode::Passthrough | Mode::Tcp | Mode::Ended => Some("https"),
        };
        let carries = match self.mode {
            Mode::Http { .. } | Mode::Https => None,
            Mode::Passthrough => Some(Carries::Tls),
            Mode::Tcp => Some(Carries::Tcp),
            Mode::Ended => Some(Carries::Inside(self.termination(gateway, reader))),
        };
        let gateway = &gateway.name;
        Place {
            gateway: gateway.to_string(),
            bind: self.bind.clone(),
            visibility: self.stands_for.unwrap_or(Visibility::External),
            hosts: hosts.into_iter().collect(),
            port: Some(self.port),
            listeners: vec![self.port],
            scheme: scheme.filter(|_| self.bind.is_none()),
            redirects: self.mode == Mode::Http { redirects: true },
            grpc_web: self.grpc_web,
            id: format!("{gateway}[{}]", self.at),
            carries,
        }
    }

    /// How TLS is ended whose inside is passed on. What is wrong stands at the Gateway.
    fn termination(&self, gateway: &Object, reader: &Reader<'_>) -> Option<Termination> {
        let written = self.tls.as_ref()?;
        match tls::terminate(gateway, written, reader, &Findings::default())? {
            TlsAction::Terminate(termination) => Some(Termination {
                // What is inside is the backend's business.
                protocols: Vec::new(),
                ..termination
            }),
            TlsAction::Relay(..) | TlsAction::Passthrough(_) | TlsAction::Refuse => None,
        }
    }
}

/// The servers of a Gateway that can be served; for other objects, so nothing is reported.
pub(super) fn servers(gateway: &Object, reader: &Reader<'_>) -> Vec<Server> {
    let findings = Findings::default();
    read(gateway, reader, &findings)
}

/// Translates one Gateway.
pub(super) fn translate(object: &Object, objects: &Objects) -> Translation {
    let reader = Reader::new(objects);
    let findings = Findings::default();
    let mut out = Translation::default();
    let servers = read(object, &reader, &findings);
    let mut binds: BTreeSet<BindId> = BTreeSet::new();
    for server in &servers {
        if let Some(bind) = &server.bind
            && binds.insert(bind.id.clone())
        {
            out.binds.push((bind.id.clone(), Arc::clone(bind)));
        }
        if let Some(written) = &server.tls {
            let found = tls::terminate(object, written, &reader, &findings);
            // Whoever has no VirtualService for what is inside is closed.
            let ends_http = |action| match server.mode {
                Mode::Ended => TlsAction::Refuse,
                _ => action,
            };
            out.tls
                .extend(found.map(|action| host(object, server, ends_http(action))));
        }
        if server.mode == (Mode::Http { redirects: true }) {
            let hosts = server.hosts.iter().map(|host| host.host.clone()).collect();
            let place = server.place(object, hosts, &reader);
            out.routes.push(redirect(object, &place, &field(server)));
        }
    }
    let failures = binds.iter().filter_map(|bind| {
        let why = reader.bind_failure(bind)?;
        Some(format!("{bind}: {why}"))
    });
    let failures: Vec<_> = failures.collect();
    conditions::finish(&mut out, object, &findings, reader, &failures);
    out
}

fn field(server: &Server) -> String {
    format!("spec.servers[{}]", server.at)
}

fn host(object: &Object, server: &Server, action: TlsAction) -> (TlsId, Arc<TlsHost>) {
    let field = format!("{}.tls", field(server));
    let mut sort_key = conditions::order(object);
    sort_key.push(server.at as i64);
    if action == TlsAction::Refuse {
        sort_key.insert(0, i64::MAX);
    }
    let record = TlsHost {
        origin: object.origin(&field),
        bind: server.bind.as_ref().map(|bind| bind.id.clone()),
        visibility: server.stands_for.unwrap_or(Visibility::External),
        names: server.hosts.iter().map(|host| host.host.clone()).collect(),
        sort_key: SortKey(sort_key),
        action,
    };
    let id = TlsId(format!("istio/Gateway/{}/{field}", object.name).into());
    (id, Arc::new(record))
}

/// Plain HTTP at a place is sent to HTTPS, before everything else.
pub(super) fn redirect(object: &Object, place: &Place, field: &str) -> (RouteId, Arc<Route>) {
    let only = place.bind.is_none().then(|| scheme::is("http"));
    let matches = only.map(|only| Match {
        other: vec![only],
        ..Match::default()
    });
    let kind = object.kind.kind;
    let id = format!("istio/{kind}/{}/{}/redirect", object.name, place.id);
    let record = Route {
        origin: object.origin(field),
        bind: place.bind_id(),
        visibility: place.visibility,
        hosts: place.hosts.clone(),
        sort_key: SortKey(vec![-1]),
        matches: matches.into_iter().collect(),
        request_headers: Default::default(),
        rewrite_host: None,
        filters: Default::default(),
        action: Action::Redirect(Redirect {
            scheme: Some("https".into()),
            host: None,
            port: RedirectPort::WellKnown,
            path: None,
            strip_query: false,
            status: 301,
        }),
    };
    (RouteId(id.into()), Arc::new(record))
}

fn read(gateway: &Object, reader: &Reader<'_>, findings: &Findings) -> Vec<Server> {
    let body = Fields::new(&gateway.body, String::new(), findings);
    let spec = body.object("spec");
    let Some(spec) = spec else {
        findings.refuse(
            "ServersMissing",
            "spec.servers",
            "no servers: nothing is served",
        );
        return Vec::new();
    };
    let egress = |(_, value): &(&str, &str)| value.contains("egress");
    if spec.string_map("selector").iter().any(egress) {
        let message = "there is no egress gateway: pods reach hosts outside by themselves; route \
                       to a ServiceEntry at the ingress gateway, or remove this Gateway";
        spec.refuse("selector", "EgressNotSupported", message);
        spec.pass_over();
        return Vec::new();
    }
    let servers = spec.objects("servers");
    if servers.is_empty() {
        spec.refuse("servers", "ServersMissing", "no servers: nothing is served");
    }
    let servers = servers.iter().enumerate();
    servers
        .filter_map(|(at, fields)| server(at, fields, gateway, reader))
        .collect()
}

fn server(at: usize, fields: &Fields<'_>, gateway: &Object, reader: &Reader<'_>) -> Option<Server> {
    // For logs and metrics.
    fields.ignore("name");
    fields.unsupported("bind", "the gateway listens on its own address");
    fields.unsupported("defaultEndpoint", "route with a VirtualService");
    let hosts: Vec<_> = fields
        .strings("hosts")
        .into_iter()
        .enumerate()
        .filter_map(|(at, host)| server_host(host, at, fields, gateway))
        .collect();
    let tls = fields.object("tls");
    let Some(port) = fields.object("port") else {
        fields.refuse(
            "port",
            "PortMissing",
            "a server needs port.number and port.protocol",
        );
        tls.inspect(Fields::pass_over);
        return None;
    };
    port.ignore("name");
    port.unsupported("targetPort", "the gateway has no ports behind its own");
    let number = port.number::<u16>("number").filter(|number| *number > 0);
    let protocol = port
        .text("protocol")
        .unwrap_or_default()
        .to_ascii_uppercase();
    if number.is_none() {
        port.refuse(
            "number",
            "PortInvalid",
            "a server needs a port of 1 to 65535",
        );
    }
    let (mode, tls) = mode(&port, &protocol, tls)?;
    let number = number?;
    if hosts.is_empty() {
        fields.refuse(
            "hosts",
            "HostsMissing",
            "a server needs hosts; * is all of them",
        );
        return None;
    }
    let ports = reader.gateway_ports();
    let stands_for = classes::visibility(&gateway.labels);
    let bind = match mode {
        // The gateway's own listeners, whatever the port is.
        Mode::Http { .. } | Mode::Https | Mode::Passthrough | Mode::Ended
            if stands_for.is_some() =>
        {
            None
        }
        Mode::Http { .. } => (!ports.is_http(number)).then(|| ports.bind(number, false)),
        Mode::Https | Mode::Passthrough | Mode::Ended => {
            (!ports.is_https(number)).then(|| ports.bind(number, true))
        }
        Mode::Tcp => Some(ports.stream_bind(number, Transport::Tcp)),
    };
    let preamble = mesh::preamble(reader);
    if let (None, Some(wanted)) = (&bind, preamble) {
        let place = (port.findings(), &*port.at("number"));
        preamble::at_shared(Some(wanted), reader, place);
    }
    let bind = bind.map(|bind| GatewayPorts::behind(bind, preamble));
    Some(Server {
        at,
        hosts,
        mode,
        grpc_web: protocol == "GRPC-WEB",
        port: number,
        bind: bind.map(Arc::new),
        stands_for,
        tls,
    })
}

fn mode(
    port: &Fields<'_>,
    protocol: &str,
    tls: Option<Fields<'_>>,
) -> Option<(Mode, Option<ServerTls>)> {
    match protocol {
        "HTTP" | "HTTP2" | "GRPC" | "GRPC-WEB" => {
            let redirects = tls.as_ref().and_then(|tls| tls.bool("httpsRedirect"));
            let redirects = redirects.unwrap_or(false);
            Some((Mode::Http { redirects }, None))
        }
        "TCP" | "MONGO" if tls.is_none() => Some((Mode::Tcp, None)),
        "HTTPS" | "TLS" | "TCP" | "MONGO" => {
            let Some(tls) = tls else {
                port.refuse("protocol", "TLSMissing", "a server for TLS needs tls");
                return None;
            };
            match (tls::read(&tls)?, protocol) {
                (None, _) => Some((Mode::Passthrough, None)),
                (written, "HTTPS") => Some((Mode::Https, written)),
                (written, _) => Some((Mode::Ended, written)),
            }
        }
        other => {
            let message = format!(
                "protocol {other:?} is not supported; HTTP, HTTP2, GRPC, HTTPS, TLS, TCP and \
                 MONGO are"
            );
            port.refuse("protocol", "ProtocolNotSupported", message);
            tls.inspect(Fields::pass_over);
            None
        }
    }
}

fn server_host(text: &str, at: usize, fields: &Fields<'_>, gateway: &Object) -> Option<ServerHost> {
    let (namespace, dns) = match text.split_once('/') {
        None | Some(("*", _)) => (None, text.rsplit('/').next().unwrap_or_default()),
        Some((".", dns)) => (Some(gateway.name.namespace.to_string()), dns),
        Some((namespace, dns)) => (Some(namespace.to_owned()), dns),
    };
    let host = names::pattern(&dns.to_ascii_lowercase());
    if host.is_none() {
        let message = format!("{text:?} is no host such as *, *.example.com or ns/a.example.com");
        let field = format!("{}[{at}]", fields.at("hosts"));
        fields.findings().refuse("HostInvalid", &field, message);
    }
    Some(ServerHost {
        namespace,
        host: host?,
    })
}
