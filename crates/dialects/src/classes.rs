//! Ingress classes of Knative: the objects of another gateway's dialect for a Knative Ingress.
//!
//! What a controller of that gateway would write, made from the routes that the Ingress itself
//! comes to, so that both say the same: hosts with their short names, paths, headers, splits,
//! probes. No request has a time limit and none is tried again. The objects belong to the Ingress,
//! go with it, and are translated like a user's own.

mod ambassador;
mod contour;
mod gateway_api;
mod gloo;
mod istio;
mod plan;

use std::collections::BTreeMap;

use api::names::{INGRESS_CLASS, SYSTEM_NAMESPACE, child_name, label};
use api::networking::v1alpha1::Ingress;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use routing::model::Visibility;
use serde_json::{Map, Value, json};

use crate::diagnostic::{Diagnostic, Effect};
use crate::knative::Translation;
use crate::objects::{Name, Objects};

/// Label on every object: the Ingress that it was made for.
pub const INGRESS_LABEL: &str = "networking.internal.knative.dev/ingress";
/// Value of the label [`label::VISIBILITY`] on objects for cluster-local listeners only.
pub const CLUSTER_LOCAL: &str = "cluster-local";
/// The same label's value on a Gateway that stands for the shared external listeners.
pub const EXTERNAL: &str = "external";
/// Group and kind of Knative's Ingress.
const INGRESS_GROUP: &str = "networking.internal.knative.dev";
/// Gateways that stand for the shared listeners, in the system namespace.
const EXTERNAL_GATEWAY: &str = "knative-ingress-gateway";
const LOCAL_GATEWAY: &str = "knative-local-gateway";

/// Whose objects an Ingress becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// None: the gateway reads the Ingress itself.
    Direct,
    Contour,
    Istio,
    GatewayApi,
    Ambassador,
    Gloo,
}

impl Class {
    /// Every class with its name as users write it. Kourier has no objects of its own.
    pub const ALL: [(&'static str, Self); 7] = [
        (INGRESS_CLASS, Self::Direct),
        ("kourier.ingress.networking.knative.dev", Self::Direct),
        ("contour.ingress.networking.knative.dev", Self::Contour),
        ("istio.ingress.networking.knative.dev", Self::Istio),
        (
            "gateway-api.ingress.networking.knative.dev",
            Self::GatewayApi,
        ),
        (
            "ambassador.ingress.networking.knative.dev",
            Self::Ambassador,
        ),
        ("gloo.ingress.networking.knative.dev", Self::Gloo),
    ];

    /// `None` for what is nobody's that we stand for.
    pub fn parse(name: &str) -> Option<Self> {
        let known = Self::ALL.iter().find(|(known, _)| *known == name);
        known.map(|(_, class)| *class)
    }
}

/// What an Ingress needs to be served as a class asks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Generated {
    /// Objects of the Ingress, with their names and owner.
    pub objects: Vec<Value>,
    /// Objects that all Ingresses of the class share and that must be there; users may change
    /// them.
    pub shared: Vec<Value>,
    /// What the class's objects cannot say.
    pub diagnostics: Vec<Diagnostic>,
}

/// The objects for an Ingress that became these routes.
pub fn generate(
    class: Class,
    ingress: &Ingress,
    translation: &Translation,
    objects: &Objects,
) -> Generated {
    let plan = plan::of(translation, objects);
    let maker = Maker { ingress };
    let mut out = Generated::default();
    for field in &plan.without_host {
        let message = "a rule without hosts has no object in this class; name its hosts";
        let finding = Diagnostic::new(Effect::Refused, "HostsMissing", field, message);
        out.diagnostics.push(finding);
    }
    match class {
        Class::Direct => {}
        Class::Contour => contour::generate(&plan, &maker, &mut out),
        Class::Istio => istio::generate(&plan, &maker, &mut out),
        Class::GatewayApi => gateway_api::generate(&plan, &maker, &mut out),
        Class::Ambassador => ambassador::generate(&plan, &maker, &mut out),
        Class::Gloo => gloo::generate(&plan, &maker, &mut out),
    }
    out
}

/// The Knative Ingress that an object was made for, by its owner.
pub fn maker_of(metadata: &ObjectMeta) -> Option<Name> {
    let owners = metadata.owner_references.iter().flatten();
    let mut owners = owners.filter(|owner| {
        let group = owner.api_version.split('/').next();
        owner.controller == Some(true) && owner.kind == "Ingress" && group == Some(INGRESS_GROUP)
    });
    let owner = owners.next()?;
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    Some(Name::new(namespace, &owner.name))
}

/// The listeners that an object with these labels is for, if it says so.
pub(crate) fn visibility(labels: &BTreeMap<String, String>) -> Option<Visibility> {
    match labels.get(label::VISIBILITY).map(String::as_str) {
        Some(CLUSTER_LOCAL) => Some(Visibility::ClusterLocal),
        Some(EXTERNAL) => Some(Visibility::External),
        _ => None,
    }
}

/// Writes what every object of an Ingress has.
struct Maker<'i> {
    ingress: &'i Ingress,
}

/// What an object is besides its spec.
struct Head<'h> {
    api_version: &'h str,
    kind: &'h str,
    /// What follows the Ingress's own name.
    suffix: String,
    visibility: Visibility,
    labels: Vec<(&'h str, String)>,
    annotations: Vec<(&'h str, String)>,
}

impl<'h> Head<'h> {
    fn new(api_version: &'h str, kind: &'h str, suffix: String, visibility: Visibility) -> Self {
        Self {
            api_version,
            kind,
            suffix,
            visibility,
            labels: Vec::new(),
            annotations: Vec::new(),
        }
    }
}

impl Maker<'_> {
    fn name(&self) -> &str {
        self.ingress.metadata.name.as_deref().unwrap_or_default()
    }

    fn namespace(&self) -> &str {
        let namespace = self.ingress.metadata.namespace.as_deref();
        namespace.unwrap_or_default()
    }

    fn object(&self, head: Head<'_>, spec: Value) -> Value {
        let mut labels: BTreeMap<String, String> =
            self.ingress.metadata.labels.clone().unwrap_or_default();
        labels.remove(label::VISIBILITY);
        labels.insert(INGRESS_LABEL.to_owned(), label_value(self.name()));
        if head.visibility == Visibility::ClusterLocal {
            labels.insert(label::VISIBILITY.to_owned(), CLUSTER_LOCAL.to_owned());
        }
        let own = head.labels.into_iter();
        labels.extend(own.map(|(key, value)| (key.to_owned(), value)));
        let mut metadata = json!({
            "name": object_name(self.name(), &head.suffix),
            "namespace": self.namespace(),
            "labels": labels,
            "ownerReferences": [{
                "apiVersion": format!("{INGRESS_GROUP}/v1alpha1"),
                "kind": "Ingress",
                "name": self.name(),
                "uid": self.ingress.metadata.uid.as_deref().unwrap_or_default(),
                "controller": true,
                "blockOwnerDeletion": true,
            }],
        });
        if !head.annotations.is_empty() {
            let annotations = head.annotations.into_iter();
            let annotations: Map<String, Value> = annotations
                .map(|(key, value)| (key.to_owned(), value.into()))
                .collect();
            metadata["annotations"] = annotations.into();
        }
        json!({
            "apiVersion": head.api_version,
            "kind": head.kind,
            "metadata": metadata,
            "spec": spec,
        })
    }
}

/// A Gateway that stands for the shared listeners.
fn shared(api_version: &str, name: &str, visibility: &str, spec: Value) -> Value {
    json!({
        "apiVersion": api_version,
        "kind": "Gateway",
        "metadata": {
            "name": name,
            "namespace": SYSTEM_NAMESPACE,
            "labels": {"app.kubernetes.io/name": "suimon", label::VISIBILITY: visibility},
        },
        "spec": spec,
    })
}

/// The name of an object of an Ingress. Hosts may hold what names of objects may not.
fn object_name(parent: &str, suffix: &str) -> String {
    const LONGEST: usize = 253;
    const KEPT: usize = 240;
    let name = format!("{parent}{suffix}").replace('_', "-");
    if name.len() <= LONGEST {
        return name;
    }
    let head: String = name.chars().take(KEPT).collect();
    format!("{}-{}", head.trim_end_matches(['-', '.']), digest(&name))
}

/// A name as a label's value, which has no more than 63 characters.
fn label_value(name: &str) -> String {
    child_name(name, "")
}

/// Part of a name that is made from a text: the same for the same text.
fn digest(text: &str) -> String {
    use sha2::{Digest as _, Sha256};
    hex::encode(&Sha256::digest(text)[..4])
}

/// A text where a percent sign begins a variable.
fn escaped(text: &str) -> String {
    text.replace('%', "%%")
}

#[cfg(test)]
mod tests;
