//! An HTTPProxy as it is written: every field is read here, before anything is judged, so that a
//! mistake in one place hides nothing in another.

use std::sync::Arc;

use super::condition::{self, Condition};
use super::host::VirtualHost;
use super::route::RouteSpec;
use super::tcp::TcpProxy;
use super::{INGRESS_ROUTE, ingress_route};
use crate::fields::{Fields, Findings};
use crate::foreign::Object;
use crate::objects::{Name, Reader};

/// The class of objects that are for cluster-local listeners, as Knative's Contour configuration
/// names it.
const INTERNAL: &str = "contour-internal";
/// Annotations that name a class, the first that is there counts, before the field.
const CLASSES: [&str; 3] = [
    "projectcontour.io/ingress.class",
    "kubernetes.io/ingress.class",
    "contour.heptio.com/ingress.class",
];

/// Everything that an HTTPProxy says.
pub(super) struct Spec {
    pub(super) host: Option<VirtualHost>,
    pub(super) routes: Vec<RouteSpec>,
    pub(super) includes: Vec<Include>,
    pub(super) tcp: Option<TcpProxy>,
}

/// An entry of `includes`.
pub(super) struct Include {
    pub(super) field: String,
    pub(super) name: Name,
    pub(super) conditions: Vec<Condition>,
}

impl Spec {
    /// What the reading finds is told to `findings`.
    pub(super) fn read(object: &Object, reader: &Reader<'_>, findings: &Findings) -> Self {
        let null = serde_json::Value::Null;
        let converted = is_legacy(object).then(|| ingress_route::as_proxy(&object.body));
        let body = converted.as_ref().unwrap_or(&object.body);
        let root = Fields::new(body, String::new(), findings);
        let spec = root
            .object("spec")
            .unwrap_or_else(|| Fields::new(&null, "spec".to_owned(), findings));
        spec.ignore("ingressClassName");
        let host = spec.object("virtualhost");
        let tcp = spec.object("tcpproxy");
        let includes = spec.objects("includes").into_iter();
        let routes = spec.objects("routes").into_iter();
        Self {
            host: host.map(|fields| VirtualHost::read(&fields, object, reader)),
            routes: routes
                .map(|fields| RouteSpec::read(&fields, object))
                .collect(),
            includes: includes
                .map(|fields| Include::read(&fields, &object.name.namespace))
                .collect(),
            tcp: tcp.map(|fields| TcpProxy::read(&fields, &object.name.namespace)),
        }
    }
}

impl Include {
    fn read(fields: &Fields<'_>, namespace: &Arc<str>) -> Self {
        Self {
            field: fields.path().to_owned(),
            name: reference(fields, namespace),
            conditions: condition::read(fields, "conditions"),
        }
    }
}

/// A name and perhaps a namespace.
pub(super) fn reference(fields: &Fields<'_>, namespace: &Arc<str>) -> Name {
    let namespace = fields.text("namespace").unwrap_or(namespace);
    Name::new(namespace, fields.str("name").unwrap_or_default())
}

/// Whether the object is an IngressRoute.
pub(super) fn is_legacy(object: &Object) -> bool {
    *object.kind == INGRESS_ROUTE
}

/// Whether the object is for cluster-local listeners only.
pub(super) fn is_internal(object: &Object) -> bool {
    let annotated = CLASSES.iter().find_map(|key| object.annotations.get(*key));
    let class = annotated
        .map(String::as_str)
        .or_else(|| object.spec()["ingressClassName"].as_str());
    class == Some(INTERNAL)
}
