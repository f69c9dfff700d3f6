//! Gateways, and what is no rule of HTTP.

use std::sync::Arc;

use routing::BindId;
use routing::model::Visibility;
use routing::model::tls::TlsAction;
use serde_json::{Value, json};

use super::{VERSION, Verdict, Writer};
use crate::objects::Name;

/// Name of the Gateway that the routes attach to.
const GATEWAY: &str = "gateway";
/// The one that stands for the listeners inside of the cluster.
const LOCAL_GATEWAY: &str = "gateway-local";

/// A listener that routes attach to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Section {
    gateway: &'static str,
    name: String,
    port: u16,
}

impl Section {
    /// The listener of a bind, whose id begins with its address, or of the shared ones.
    pub(super) fn of(bind: Option<&BindId>, visibility: Visibility) -> Self {
        let port = bind.and_then(|bind| {
            let address = bind.0.split('/').next()?;
            address.rsplit(':').next()?.parse().ok()
        });
        let is_local = bind.is_none() && visibility == Visibility::ClusterLocal;
        let gateway = if is_local { LOCAL_GATEWAY } else { GATEWAY };
        match port {
            Some(port) => Self {
                gateway,
                name: format!("http-{port}"),
                port,
            },
            None => Self {
                gateway,
                name: "http".to_owned(),
                port: 80,
            },
        }
    }

    /// As a route's parent.
    pub(super) fn reference(&self) -> Value {
        json!({"name": self.gateway, "namespace": "default", "sectionName": self.name})
    }
}

impl Writer<'_> {
    /// What is no rule of HTTP.
    pub(super) fn tell_about_connections(&mut self) {
        let input = self.input;
        for (origin, host) in &input.certificates {
            let text = format!("{host} has a certificate: add a listener for HTTPS to the Gateway");
            self.note(origin, Verdict::Lost, "tls", &text);
        }
        for host in &input.tls {
            let names: Vec<_> = host.names.iter().map(ToString::to_string).collect();
            let names = names.join(", ");
            if host.action == TlsAction::Refuse {
                continue;
            }
            let (verdict, text) = match &host.action {
                TlsAction::Terminate(_) => (
                    Verdict::Lost,
                    format!("{names} has a certificate: add a listener for HTTPS to the Gateway"),
                ),
                // Whatever becomes of the bytes, no rule of HTTP says it.
                _ => (
                    Verdict::LeftOut,
                    format!("TLS connections for {names} are passed on: write a TLSRoute"),
                ),
            };
            self.note(&host.origin, verdict, "tls", &text);
        }
        for (origin, address) in &input.unrouted {
            let text = format!("what is served at port {} is no HTTP route", address.port());
            self.note(origin, Verdict::LeftOut, "bind", &text);
        }
    }

    pub(super) fn gateways(&self, class: &str) -> Vec<Value> {
        let gateways = [GATEWAY, LOCAL_GATEWAY].into_iter().filter_map(|name| {
            let sections = self.sections.iter();
            let own = sections.filter(|section| section.gateway == name);
            let listeners: Vec<_> = own.map(listener).collect();
            let is_needed = name == GATEWAY || !listeners.is_empty();
            is_needed.then(|| gateway(name, class, listeners))
        });
        gateways.collect()
    }
}

fn listener(section: &Section) -> Value {
    json!({
        "name": section.name, "protocol": "HTTP", "port": section.port,
        "allowedRoutes": {"namespaces": {"from": "All"}},
    })
}

fn gateway(name: &str, class: &str, mut listeners: Vec<Value>) -> Value {
    if listeners.is_empty() {
        // The API wants one.
        listeners.push(listener(&Section::of(None, Visibility::External)));
    }
    let mut metadata = json!({"name": name, "namespace": "default"});
    if name == LOCAL_GATEWAY {
        metadata["labels"] = json!({api::names::label::VISIBILITY: "cluster-local"});
    }
    json!({
        "apiVersion": VERSION,
        "kind": "Gateway",
        "metadata": metadata,
        "spec": {"gatewayClassName": class, "listeners": listeners},
    })
}

pub(super) fn gateway_class(class: &str) -> Value {
    json!({
        "apiVersion": VERSION,
        "kind": "GatewayClass",
        "metadata": {"name": class},
        "spec": {"controllerName": api::gateway::CONTROLLER},
    })
}

/// Lets routes of a namespace name a Service of another.
pub(super) fn grant((from, service): &(Arc<str>, Name)) -> Value {
    json!({
        "apiVersion": VERSION,
        "kind": "ReferenceGrant",
        "metadata": {
            "name": format!("{}-from-{from}", service.name), "namespace": service.namespace,
        },
        "spec": {
            "from": [{"group": api::gateway::GROUP, "kind": "HTTPRoute", "namespace": from}],
            "to": [{"group": "", "kind": "Service", "name": service.name}],
        },
    })
}
