//! Kinds that nothing here can serve, each with what to do instead; and resolvers, which say
//! nothing that is not so anyway.

use super::instance;
use crate::foreign::{Object, Translation};
use crate::objects::Objects;

/// What each kind is answered with.
fn remedy(kind: &str) -> &'static str {
    match kind {
        "ConsulResolver" => {
            "give the backend a Service with an EndpointSlice, or name its host in the Mapping"
        }
        _ => "serve the documents of your APIs from a Service of your own",
    }
}

/// Refuses the object as a whole.
pub(super) fn judge(object: &Object, objects: &Objects) -> Translation {
    instance::translate(object, objects, |spec, _, _| {
        let kind = object.kind.kind;
        let message = format!("{kind} is not supported; {}", remedy(kind));
        spec.findings().refuse("KindNotSupported", "spec", message);
        spec.pass_over();
    })
}

/// Endpoints are always used, so both resolvers of Kubernetes mean the same.
pub(super) fn resolver(object: &Object, objects: &Objects) -> Translation {
    instance::translate(object, objects, |_, _, _| {})
}
