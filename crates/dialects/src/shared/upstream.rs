//! Where a dialect's reference to a Service leads, for dialects that say themselves how backends
//! are spoken to.
//!
//! A backend with a policy of its own has a variant made from that policy: the same Service under
//! the same policy is one backend, whoever refers to it.

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use routing::model::Transport;

use crate::backend::{self, BackendRef, Target, Unresolved};
use crate::diagnostic::Effect;
use crate::fields::Findings;
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

/// Says so in the status of an object that names hosts: which of them are looked up and not found.
pub(crate) fn judge_hosts<'h>(
    reader: &Reader<'_>,
    findings: &Findings,
    field: &str,
    hosts: impl IntoIterator<Item = &'h str>,
) {
    let names = hosts
        .into_iter()
        .filter(|host| host.parse::<IpAddr>().is_err());
    for text in names.filter_map(|host| reader.unfound(host)) {
        findings.say(Effect::Waiting, "HostNotFound", field, &**text);
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::foreign::Object;
    use crate::objects::{Dependency, LookedUp, Objects};
    use crate::testing::load;

    const NAME: &str = "api.example.com";

    fn found(objects: &mut Objects, failure: Option<&str>) {
        let found = LookedUp {
            addresses: Arc::from([]),
            failure: failure.map(Arc::from),
        };
        objects.put_dns(&NAME.into(), Some(found));
    }

    fn reasons(object: &Object, objects: &Objects) -> Vec<&'static str> {
        let told = object.translate(objects).diagnostics.into_iter();
        told.map(|one| one.reason).collect()
    }

    #[test]
    fn objects_that_name_a_host_say_that_it_cannot_be_looked_up_until_it_can() {
        let port = json!([{"number": 80, "name": "http", "protocol": "HTTP"}]);
        let endpoints = json!([{"address": NAME}]);
        let other = "other.example.com";
        let cases: [(&str, &str, Value); 7] = [
            (
                "networking.istio.io/v1",
                "ServiceEntry",
                json!({"hosts": ["API.example.com"], "resolution": "DNS", "ports": port}),
            ),
            (
                "networking.istio.io/v1",
                "ServiceEntry",
                json!({"hosts": [other], "resolution": "DNS", "ports": port, "endpoints": endpoints}),
            ),
            (
                "networking.istio.io/v1",
                "WorkloadEntry",
                json!({"address": NAME}),
            ),
            (
                "gloo.solo.io/v1",
                "Upstream",
                json!({"static": {"hosts": [{"addr": NAME, "port": 80}]}}),
            ),
            (
                "apisix.apache.org/v2",
                "ApisixUpstream",
                json!({"externalNodes": [{"type": "Domain", "name": NAME}]}),
            ),
            // Nobody looks for these hosts by that name.
            (
                "networking.istio.io/v1",
                "ServiceEntry",
                json!({"hosts": [NAME], "resolution": "STATIC", "ports": port}),
            ),
            (
                "networking.istio.io/v1",
                "ServiceEntry",
                json!({"hosts": [NAME], "resolution": "DNS", "ports": port,
                       "endpoints": [{"address": "192.0.2.1"}]}),
            ),
        ];
        for (at, (version, kind, spec)) in cases.into_iter().enumerate() {
            let document = json!({
                "apiVersion": version, "kind": kind, "spec": spec,
                "metadata": {"name": "it", "namespace": "default"},
            });
            let (mut objects, all) = load(&[document]);
            let [object] = &all[..] else {
                panic!("{kind}: one object")
            };
            assert_eq!(reasons(object, &objects), [""; 0], "{kind}");
            found(&mut objects, Some("nobody answers"));
            let told: &[&str] = if at < 5 { &["HostNotFound"] } else { &[] };
            assert_eq!(reasons(object, &objects), told, "case {at}, {kind}");
            let reads = object.translate(&objects).reads;
            let is_read = reads.contains(&Dependency::Unfound(NAME.into()));
            assert_eq!(is_read, at < 5, "case {at}, {kind}");
            found(&mut objects, None);
            assert_eq!(reasons(object, &objects), [""; 0], "{kind}");
        }
    }
}
