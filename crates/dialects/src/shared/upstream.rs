//! Where a dialect's reference to a Service leads, for dialects that say themselves how backends
//! are spoken to.
//!
//! A backend with a policy of its own has a variant made from that policy: the same Service under
//! the same policy is one backend, whoever refers to it.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use routing::model::Transport;

use crate::backend::{self, BackendRef, Target, Unresolved};
use crate::diagnostic::Effect;
use crate::foreign::{BackendSpec, ExternalHost};
use crate::objects::{Name, Reader};
use crate::shared::variant;

/// A Service's port, or a host outside of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Service { name: Name, port: u16 },
    Host { host: Arc<str>, port: u16 },
}

/// Why a reference leads nowhere: effect, reason and text.
pub(crate) type Nowhere = (Effect, &'static str, String);

/// Finds a Service's port. A Service of type ExternalName is the host that it names, unless that
/// is this gateway.
pub(crate) fn find(reader: &Reader<'_>, name: &Name, port: &IntOrString) -> Result<Place, Nowhere> {
    found(backend::resolve(reader, name, port), port)
}

/// The same for what is passed on as it is.
pub(crate) fn find_stream(
    reader: &Reader<'_>,
    name: &Name,
    port: &IntOrString,
    transport: Transport,
) -> Result<Place, Nowhere> {
    found(backend::resolve_stream(reader, name, port, transport), port)
}

fn found(target: Result<Target<'_>, Unresolved>, port: &IntOrString) -> Result<Place, Nowhere> {
    match target {
        Ok(target) => Ok(Place::Service {
            name: target.reference.service,
            port: target.reference.port,
        }),
        // How it is spoken to is for the caller to say.
        Err(Unresolved::Tls { service, port }) => Ok(Place::Service {
            name: service,
            port,
        }),
        Err(Unresolved::Alias { service, target }) => match port {
            IntOrString::Int(number) if u16::try_from(*number).is_ok() => Ok(Place::Host {
                host: target.into(),
                port: u16::try_from(*number).unwrap_or_default(),
            }),
            _ => {
                let text = format!(
                    "Service {service} is an alias of {target}: write the port as a number"
                );
                Err((Effect::Refused, "PortInvalid", text))
            }
        },
        Err(error) => {
            let effect = if error.may_appear() {
                Effect::Waiting
            } else {
                Effect::Refused
            };
            Err((effect, error.reason(), error.to_string()))
        }
    }
}

/// The reference to a place under a policy of this dialect. `owner` is the namespace of the object
/// that names it.
pub(crate) fn reference(
    dialect: &str,
    owner: &Arc<str>,
    place: Place,
    http2: bool,
    mut spec: BackendSpec,
) -> (BackendRef, Arc<BackendSpec>) {
    let (service, port) = match place {
        Place::Service { name, port } => (name, port),
        Place::Host { host, port } => {
            let name = Name {
                namespace: Arc::clone(owner),
                name: Arc::clone(&host),
            };
            spec.hosts.push(ExternalHost {
                host,
                port,
                weight: 1,
                locality: None,
            });
            (name, port)
        }
    };
    let reference = BackendRef {
        service,
        port,
        http2,
        stream: None,
        variant: Some(variant::always(dialect, &spec)),
    };
    (reference, Arc::new(spec))
}
