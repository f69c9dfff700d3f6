//! Services of the gateway as a whole, which are asked or told about requests of every Mapping: of
//! each kind one object is in force.

use std::sync::Arc;

use super::instance;
use crate::fields::Fields;
use crate::foreign::{Kind, Object};
use crate::objects::Reader;

/// The one in force: the first by name.
pub(super) fn first<'a>(kind: &'static Kind, reader: &Reader<'a>) -> Option<&'a Arc<Object>> {
    let mut services = reader.foreign_all(kind);
    services.find(|object| instance::is_ours(object))
}

/// Tells an object that another one is in force. `so` is what that other one is and does.
pub(super) fn told(
    spec: &Fields<'_>,
    object: &Object,
    first: Option<&Arc<Object>>,
    (reason, so): (&'static str, &str),
) {
    if let Some(first) = first.filter(|first| first.name != object.name) {
        let message = format!("{} {} {so}", object.kind.kind, first.name);
        spec.findings().refuse(reason, "spec", message);
    }
}

/// The version of Envoy's protocol: there is one. `said` is what is spoken.
pub(super) fn version(spec: &Fields<'_>, key: &str, said: &str) {
    if spec.text(key).is_some_and(|version| version != "v3") {
        spec.refuse(key, "FieldDiffers", format!("the service is {said}"));
    }
}
