//! Gateway: at which sockets which VirtualServices are served.
//!
//! Gateways at Gloo's own ports (80 and 8080; with TLS 443 and 8443) are the gateway's shared
//! listeners; others get sockets of their own. Without any Gateway, everything is at the shared
//! ones. A VirtualService with `sslConfig` is served over TLS only, one without over plain HTTP.

use std::net::IpAddr;
use std::sync::Arc;

use routing::model::{Bind, Preamble};

use super::extauth;
use super::matcher::flag;
use super::select::Selector;
use super::status::Judgement;
use super::upgrades::{Allowed, Upgrades};
use super::{GATEWAY, SETTINGS, reference, tcp};
use crate::fields::{Fields, Findings};
use crate::foreign::{Object, Translation};
use crate::objects::{Name, Objects, Reader};
use crate::ports::GatewayPorts;
use crate::shared::preamble;

/// Somewhere a VirtualService is served.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// `None`: the shared listeners.
    pub(super) bind: Option<Arc<Bind>>,
    pub(super) allowed: Allowed,
    /// Clients may speak gRPC-Web.
    pub(super) grpc_web: bool,
}

/// What of a Gateway matters.
struct Spec {
    ssl: bool,
    port: u16,
    /// By name; without names by selector.
    names: Vec<Name>,
    namespaces: Vec<String>,
    selector: Selector,
    allowed: Allowed,
    /// `None` is as the Settings say.
    grpc_web: Option<bool>,
    serves_http: bool,
    preamble: Option<Preamble>,
    /// The field that asks for it.
    preamble_field: &'static str,
}

/// Where a VirtualService is served.
pub(super) fn places(reader: &Reader<'_>, object: &Object) -> Vec<Place> {
    let ssl = object.spec()["sslConfig"].is_object();
    let usual = serves_grpc_web(reader);
    let mut gateways = reader.foreign_all(&GATEWAY).peekable();
    if gateways.peek().is_none() {
        return vec![Place {
            bind: None,
            allowed: Allowed::default(),
            grpc_web: usual,
        }];
    }
    let mut places: Vec<Place> = Vec::new();
    for gateway in gateways {
        let spec = Spec::read(gateway, &Findings::default());
        if !spec.serves_http || spec.ssl != ssl || !spec.selects(object) {
            continue;
        }
        let place = spec.place(reader.gateway_ports(), usual);
        match places.iter_mut().find(|known| known.bind == place.bind) {
            Some(known) => {
                known.allowed = known.allowed.or(place.allowed);
                known.grpc_web |= place.grpc_web;
            }
            None => places.push(place),
        }
    }
    places
}

impl Spec {
    fn read(object: &Object, findings: &Findings) -> Self {
        let root = Fields::new(&object.body, String::new(), findings);
        let mut out = Self {
            ssl: false,
            port: 8080,
            names: Vec::new(),
            namespaces: Vec::new(),
            selector: Selector::default(),
            allowed: Allowed::default(),
            grpc_web: None,
            serves_http: false,
            preamble: None,
            preamble_field: "spec.useProxyProto",
        };
        let Some(spec) = root.object("spec") else {
            return out;
        };
        out.ssl = spec.bool("ssl").unwrap_or(false);
        out.port = spec.number("bindPort").unwrap_or(out.port);
        if let Some(text) = spec.text("bindAddress") {
            match text.parse::<IpAddr>() {
                Ok(address) if address.is_unspecified() => {}
                Ok(_) => {
                    let text = "sockets are at the address that the gateway listens on (--listen)";
                    spec.refuse("bindAddress", "FieldDiffers", text);
                }
                Err(_) => spec.refuse("bindAddress", "AddressInvalid", "must be an address"),
            }
        }
        spec.ignore("proxyNames"); // There is one gateway.
        spec.ignore("tcpGateway"); // Read by whoever serves it.
        spec.unsupported("hybridGateway", "write a Gateway for each kind of listener");
        if let Some(options) = spec.object("options") {
            for key in options.keys().filter(|key| *key != "proxyProtocol") {
                options.unsupported(key, listener_remedy(key));
            }
            out.read_preamble(&options);
        }
        spec.unsupported(
            "routeOptions",
            "the gateway's listeners have settings of their own",
        );
        if flag(&spec, "useProxyProto").unwrap_or(false) {
            out.preamble.get_or_insert(Preamble::Required);
        }
        if let Some(http) = spec.object("httpGateway") {
            out.serves_http = true;
            out.read_http(&http, &object.name.namespace);
        } else {
            out.serves_http = !spec.has("tcpGateway") && !spec.has("hybridGateway");
        }
        out
    }

    /// `options.proxyProtocol`, which says more than `useProxyProto`.
    fn read_preamble(&mut self, options: &Fields<'_>) {
        let Some(fields) = options.object("proxyProtocol") else {
            return;
        };
        fields.unsupported("rules", "what else a balancer says is not passed on");
        self.preamble_field = "spec.options.proxyProtocol";
        let is_optional = flag(&fields, "allowRequestsWithoutProxyProtocol").unwrap_or(false);
        self.preamble = Some(match is_optional {
            true => Preamble::Optional,
            false => Preamble::Required,
        });
    }

    fn read_http(&mut self, http: &Fields<'_>, namespace: &str) {
        let names = http.objects("virtualServices");
        self.names = names.iter().map(|it| reference(it, namespace)).collect();
        self.selector.labels(http, "virtualServiceSelector");
        if let Some(expressions) = http.object("virtualServiceExpressions") {
            self.selector.expressions(&expressions, "expressions");
        }
        let namespaces = http.strings("virtualServiceNamespaces").into_iter();
        self.namespaces = namespaces.map(str::to_owned).collect();
        let Some(options) = http.object("options") else {
            return;
        };
        if let Some(manager) = options.object("httpConnectionManagerSettings") {
            self.allowed = Upgrades::of_listener(&manager);
        }
        if let Some(grpc_web) = options.object("grpcWeb") {
            self.grpc_web = Some(!flag(&grpc_web, "disable").unwrap_or(false));
        }
        for key in options.keys() {
            if !["httpConnectionManagerSettings", "grpcWeb"].contains(&key) {
                options.unsupported(key, listener_remedy(key));
            }
        }
    }

    fn selects(&self, object: &Object) -> bool {
        if !self.names.is_empty() && self.selector.is_empty() {
            return self.names.contains(&object.name);
        }
        let namespace = &*object.name.namespace;
        let everywhere = self.namespaces.is_empty() || self.namespaces.iter().any(|it| it == "*");
        let is_in = everywhere || self.namespaces.iter().any(|it| it == namespace);
        is_in && self.selector.selects(&object.labels)
    }

    /// 8080 and 8443 are Gloo's usual ports for what the shared listeners serve.
    fn place(&self, ports: &GatewayPorts, grpc_web: bool) -> Place {
        let is_shared = if self.ssl {
            ports.is_https(self.port) || self.port == 8443
        } else {
            ports.is_http(self.port) || self.port == 8080
        };
        let bind = (!is_shared).then(|| {
            let bind = ports.bind(self.port, self.ssl);
            Arc::new(GatewayPorts::behind(bind, self.preamble))
        });
        Place {
            bind,
            allowed: self.allowed,
            grpc_web: self.grpc_web.unwrap_or(grpc_web),
        }
    }
}

/// Whether clients may speak gRPC-Web where a Gateway does not say.
fn serves_grpc_web(reader: &Reader<'_>) -> bool {
    let settings = reader.foreign(&SETTINGS, &extauth::settings());
    let findings = Findings::default();
    let read = settings.and_then(|settings| {
        let spec = Fields::new(settings.spec(), String::new(), &findings);
        spec.pass_over();
        flag(&spec.object("gloo")?, "disableGrpcWeb")
    });
    !read.unwrap_or(false)
}

/// What to do in place of an option of listeners.
pub(super) fn listener_remedy(key: &str) -> &'static str {
    match key {
        "accessLoggingService" => "set access-log of the gateway's settings file",
        "waf" | "csrf" | "dlp" | "caching" | "wasm" | "extProc" | "extProcEarly"
        | "extProcLate" | "ai" => {
            "nothing of it is done: do it in a Service in front, or in the Service itself"
        }
        "gzip" => "answers are passed on as they are: compress in the Service itself",
        "grpcWeb" => "write it in httpGateway.options of a Gateway",
        "proxyProtocol" => "write it in options of a Gateway",
        "grpcJsonTranscoder" => "transcode in the Service itself",
        "httpLocalRatelimit" | "networkLocalRatelimit" | "ratelimit" | "ratelimitServer" => {
            "write a TrafficPolicy with rateLimits for the Service"
        }
        "extauth" => "name the server in extauth of the Settings",
        "buffer" => "write bufferPerRoute in the options of the virtual host or route",
        "healthCheck" => "ask /ready of the gateway's admin port, or write a route that answers",
        "dynamicForwardProxy" => "write an Upstream with static hosts",
        "connectionLimit" => "write a TrafficPolicy with connections for the Service",
        "perConnectionBufferLimitBytes" => "bodies are streamed, never held",
        _ => "the gateway's listeners have settings of their own",
    }
}

/// The status of a Gateway, and its connections that are no HTTP.
pub(super) fn translate(object: &Object, objects: &Objects) -> Translation {
    let reader = Reader::new(objects);
    let findings = Findings::default();
    let mut judgement = Judgement::default();
    let mut out = Translation::default();
    let spec = Spec::read(object, &findings);
    let written = &object.spec()["tcpGateway"];
    let is_shared = spec.place(reader.gateway_ports(), false).bind.is_none();
    // Plain connections that are no HTTP have a socket of their own wherever they are.
    if let Some(wanted) = spec
        .preamble
        .filter(|_| is_shared && (spec.serves_http || spec.ssl))
    {
        preamble::at_shared(Some(wanted), &reader, (&findings, spec.preamble_field));
    }
    if written.is_object() {
        let fields = Fields::new(written, "spec.tcpGateway".to_owned(), &findings);
        let listener = tcp::Listener {
            object,
            port: spec.port,
            https: is_shared && spec.ssl,
            preamble: spec.preamble,
        };
        listener.serve(&fields, &reader, &mut judgement, &mut out);
    } else if !spec.serves_http {
        let text = "the Gateway serves nothing: only httpGateway and tcpGateway are supported";
        judgement.error("GatewayNotSupported", "spec", text);
    }
    judgement.absorb(&findings);
    out.diagnostics = judgement.diagnostics();
    out.status = Some(judgement.status("gateway"));
    out.reads = reader.into_read();
    out
}
