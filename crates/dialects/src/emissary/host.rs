//! Hosts: names, their certificates, and what becomes of requests that are not secure.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use routing::model::tls::{TlsAction, TlsHost, TlsId};
use routing::model::{HostPattern, SortKey, Visibility};
use serde_json::json;

use super::glob::Glob;
use super::{HOST, door, instance, module, tls};
use crate::fields::{self, Fields};
use crate::foreign::{Object, Translation};
use crate::objects::{Name, Objects, Reader};

/// Key that every Host of this instance has.
const ALL: &str = "all";
/// Family of the key of Hosts that users wrote, and what follows it: there is no other.
const WRITTEN: &str = "written";
const BY_USERS: &str = "by-users";
/// Key of Hosts whose names are no patterns of the model.
const GLOBS: &str = "globs";

/// What happens to requests that are not secure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Insecure {
    Redirect,
    Reject,
    Route,
}

/// A Host as Mappings see it.
#[derive(Clone, Debug)]
pub(super) struct Host {
    pub(super) name: Name,
    pub(super) glob: Glob,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) selector: Option<LabelSelector>,
    pub(super) insecure: Insecure,
    /// It stands for all hosts because there is no Host at all.
    pub(super) is_fallback: bool,
}

/// The keys under which Mappings find a Host.
pub(super) fn keys(object: &Object) -> Vec<Arc<str>> {
    if !instance::is_ours(object) {
        return Vec::new();
    }
    let text = object.spec()["hostname"].as_str().unwrap_or("*");
    let Ok(glob) = Glob::parse(text) else {
        return Vec::new();
    };
    let pattern = glob.pattern();
    let key = pattern.map_or_else(|| GLOBS.into(), |pattern| pattern.to_string().into());
    let mut keys = vec![ALL.into(), key];
    if object.maker.is_none() {
        keys.push(format!("{WRITTEN} {BY_USERS}").into());
    }
    keys
}

/// Every Host; one for all hosts if there is none.
pub(super) fn all(reader: &Reader<'_>) -> Vec<Host> {
    let mut hosts: Vec<_> = reader.foreign_by_key(&HOST, ALL).filter_map(of).collect();
    hosts.extend(otherwise(reader));
    hosts
}

/// The Hosts that a host of this name may belong to; looks at no others, unless there is none.
pub(super) fn around(reader: &Reader<'_>, name: &str) -> Vec<Host> {
    let mut keys = vec![name.to_owned(), "*".to_owned(), GLOBS.to_owned()];
    let parents = name.match_indices('.').map(|(dot, _)| &name[dot + 1..]);
    keys.extend(parents.map(|parent| format!("*.{parent}")));
    let found = keys
        .iter()
        .flat_map(|key| reader.foreign_by_key(&HOST, key));
    let mut hosts: Vec<_> = found.filter_map(of).collect();
    hosts.extend(otherwise(reader));
    hosts
}

/// The Host for all hosts, if users have none: those of Knative's Ingresses are for theirs only.
fn otherwise(reader: &Reader<'_>) -> Option<Host> {
    let is_any = reader.foreign_keys(&HOST, WRITTEN).next().is_some();
    (!is_any).then(|| Host {
        name: Name::new("", ""),
        glob: Glob::Any,
        labels: BTreeMap::new(),
        selector: None,
        insecure: Insecure::Route,
        is_fallback: true,
    })
}

fn of(object: &Arc<Object>) -> Option<Host> {
    fields::quietly(object.spec(), |spec| read(spec, object))
}

fn read(spec: &Fields<'_>, object: &Object) -> Option<Host> {
    let text = spec.text("hostname").unwrap_or("*");
    let glob = match Glob::parse(text) {
        Ok(glob) => glob,
        Err(error) => {
            spec.refuse(
                "hostname",
                "HostInvalid",
                format!("{error}; nothing is served"),
            );
            return None;
        }
    };
    let mut selector = None;
    for key in ["mappingSelector", "selector"] {
        let Some(raw) = spec.raw(key) else { continue };
        match serde_json::from_value(raw.clone()) {
            Ok(read) if selector.is_none() => selector = Some(read),
            Ok(_) => {
                let message = "mappingSelector is there too, and decides; remove selector";
                spec.refuse(key, "SelectorTwice", message);
            }
            Err(error) => {
                let message = format!("not a label selector: {error}; nothing is served");
                spec.refuse(key, "SelectorInvalid", message);
                return None;
            }
        }
    }
    Some(Host {
        name: object.name.clone(),
        glob,
        labels: object.labels.clone(),
        selector,
        insecure: insecure(spec),
        is_fallback: false,
    })
}

fn insecure(spec: &Fields<'_>) -> Insecure {
    let policy = spec.object("requestPolicy");
    let policy = policy.as_ref().and_then(|policy| policy.object("insecure"));
    let Some(policy) = policy else {
        return Insecure::Redirect;
    };
    let port = policy.int("additionalPort");
    if port.is_some_and(|port| port > 0 && port != 80 && port != 8080) {
        let message = "additionalPort opens nothing: write a Listener for the port";
        policy.refuse("additionalPort", "FieldNotSupported", message);
    }
    match policy.text("action") {
        None | Some("Redirect") => Insecure::Redirect,
        Some("Reject") => Insecure::Reject,
        Some("Route") => Insecure::Route,
        Some(other) => {
            let message =
                format!("action {other:?} is not Redirect, Reject or Route: it redirects");
            policy.refuse("action", "ActionInvalid", message);
            Insecure::Redirect
        }
    }
}

pub(super) fn translate(object: &Object, objects: &Objects) -> Translation {
    let mut source = "None";
    let mut is_broken = false;
    let mut out = instance::translate(object, objects, |spec, reader, out| {
        let host = read(spec, object);
        is_broken = host.is_none();
        acme(spec);
        let remedy = "previews are not served; write a Mapping for them";
        spec.unsupported("previewUrl", remedy);
        let terminated = tls::of_host(spec, object, reader);
        let Some(host) = host else { return };
        let has_tls = ["tlsSecret", "tlsContext"].iter().any(|key| spec.has(key));
        if has_tls {
            source = "Other";
            is_broken |= terminated.is_none();
        }
        let hops = module::settings(reader).trusts_proxies;
        let doors = door::doors(reader, hops);
        let mut taken = doors.iter().filter(|door| door.takes(&host)).peekable();
        if taken.peek().is_none() {
            is_broken = true;
            let message = "no Listener takes this Host: it is served nowhere";
            spec.findings().refuse("NoListener", "spec", message);
        }
        let Some(action) = terminated else { return };
        let Some(pattern) = host.glob.pattern() else {
            let message = "certificates are chosen by names and `*.` names only; hosts of this \
                 one have none";
            spec.refuse("hostname", "HostWithoutTLS", message);
            return;
        };
        for door in taken.filter(|door| door.is_tls != Some(false)) {
            out.tls.push(record(
                object,
                "spec.tlsSecret",
                door,
                pattern.clone(),
                &action,
            ));
        }
    });
    if instance::is_ours(object) {
        let reason = instance::summary(&out.diagnostics);
        out.status = Some(json!({
            "state": if is_broken { "Error" } else { "Ready" },
            "tlsCertificateSource": source,
            "phaseCompleted": "NA",
            "phasePending": "NA",
            "errorReason": reason,
        }));
    }
    out
}

/// A certificate at a door.
pub(super) fn record(
    object: &Object,
    field: &str,
    door: &door::Door,
    name: HostPattern,
    action: &TlsAction,
) -> (TlsId, Arc<TlsHost>) {
    let kind = object.kind.kind;
    let id = format!("emissary/{kind}/{}/{name}{}", object.name, door.suffix());
    let record = TlsHost {
        origin: object.origin(field),
        bind: door.bind.clone(),
        visibility: Visibility::External,
        names: vec![name],
        sort_key: SortKey(vec![object.created]),
        action: action.clone(),
    };
    (TlsId(id.into()), Arc::new(record))
}

fn acme(spec: &Fields<'_>) {
    let Some(provider) = spec.object("acmeProvider") else {
        return;
    };
    if provider.text("authority") == Some("none") {
        provider.pass_over();
        return;
    }
    provider.pass_over();
    let message = "certificates are not asked for here: put one into the Secret of tlsSecret, for \
         example with cert-manager, or write authority none";
    spec.refuse("acmeProvider", "FieldNotSupported", message);
}
