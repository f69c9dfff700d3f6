//! Gateways that stand for the gateway's shared listeners, where Knative's hosts are: those with
//! the label `networking.knative.dev/visibility`, external or cluster-local.
//!
//! They have no sockets of their own. Where one has listeners for HTTP and for HTTPS, routes of
//! each are for its scheme; otherwise for both, since hosts without a certificate get one of the
//! gateway's own.

use std::sync::Arc;

use api::gateway::reason;
use api::gateway::v1::Gateway;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use routing::BindId;
use routing::model::tls::{TlsHost, TlsId};
use routing::model::{Route, Visibility};

use super::attach::Hosts;
use super::plan::{Finding, Plan, Protocol};
use crate::classes;
use crate::objects::Reader;
use crate::ports::GatewayPorts;
use crate::shared::{matches, scheme};

/// What ids of these places begin with; no bind's does.
const MARK: &str = "shared listeners";

/// The listeners that the Gateway stands for, if it does.
pub(super) fn of(gateway: &Gateway) -> Option<Visibility> {
    classes::visibility(gateway.metadata.labels.as_ref()?)
}

/// Gives the listeners of a Gateway and its sets their places.
pub(super) fn settle(plans: Vec<&mut Plan>, visibility: Visibility, ports: &GatewayPorts) {
    let https = Some(Protocol::Https);
    let mut listeners = plans.iter().flat_map(|plan| &plan.listeners);
    let has_tls = listeners.any(|it| it.protocol == https);
    let side = match visibility {
        Visibility::External => "external",
        Visibility::ClusterLocal => "local",
    };
    for plan in plans {
        plan.addresses = vec![ports.address];
        plan.unusable = None;
        plan.routability.clear();
        plan.missed.clear();
        plan.cluster_ips.clear();
        let is_refused = plan.refused.is_some();
        for listener in &mut plan.listeners {
            let scheme = match listener.protocol {
                Some(Protocol::Https) => "https",
                _ if has_tls => "http",
                _ => "any",
            };
            listener.binds.clear();
            if listener.gate.gate.is_some() {
                let text = "filters are not supported at the shared listeners";
                let finding = Finding::new(reason::UNSUPPORTED_VALUE, text);
                listener.refused.get_or_insert(finding);
            }
            if !is_refused && listener.is_valid() {
                let id = format!("{MARK} {side} {scheme}");
                listener.binds.push(BindId(id.into()));
            }
        }
    }
}

/// Puts certificates to the shared listeners, where those of other Gateways are, too.
pub(super) fn settle_tls(tls: &mut [(TlsId, Arc<TlsHost>)], visibility: Visibility) {
    for (id, host) in tls {
        let host = Arc::make_mut(host);
        let origin = &host.origin;
        let whose = format!("{} {}/{}", origin.kind, origin.namespace, origin.name);
        *id = TlsId(format!("{whose} {}", id.0).into());
        host.bind = None;
        host.visibility = visibility;
    }
}

/// The hosts of such a place that no Knative Ingress has, but for the one that the route was made
/// for; and whose the others are.
pub(super) fn own_hosts(
    bind: &BindId,
    hosts: &Hosts,
    metadata: &ObjectMeta,
    reader: &Reader<'_>,
) -> (Hosts, Vec<String>) {
    if !bind.0.starts_with(MARK) {
        return (hosts.clone(), Vec::new());
    }
    let maker = classes::maker_of(metadata);
    let (mut own, mut taken) = (Hosts::new(), Vec::new());
    for (host, wider) in hosts {
        match reader.host_owner(host) {
            Some(owner) if Some(&owner.owner) != maker.as_ref() => {
                let owner = &owner.owner;
                taken.push(format!(
                    "host {host} belongs to the Knative Ingress {owner}"
                ));
            }
            _ => {
                own.insert(host.clone(), *wider);
            }
        }
    }
    (own, taken)
}

/// Puts a record that is for such a place to the shared listeners.
pub(super) fn place(route: &mut Route) {
    let Some(bind) = route.bind.as_ref().filter(|bind| bind.0.starts_with(MARK)) else {
        return;
    };
    let words: Vec<_> = bind.0[MARK.len()..].split_whitespace().collect();
    let (is_local, scheme) = (words.first() == Some(&"local"), words.last().copied());
    if is_local {
        route.visibility = Visibility::ClusterLocal;
    }
    if let Some(scheme @ ("http" | "https")) = scheme {
        route.matches = matches::and(&route.matches, &scheme::is(scheme));
    }
    route.bind = None;
}
