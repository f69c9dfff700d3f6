//! Destinations of routes and of groups.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use routing::model::{Arm, BackendPolicy, Balancer, FilterSet, HashKey, Protocol, Timeouts};

use super::{Backends, service, upstream};
use crate::fields::{Fields, Findings};
use crate::foreign::Object;
use crate::gloo::filter::Headers;
use crate::gloo::options::HostOptions;
use crate::gloo::{UPSTREAM_GROUP, extauth, jwt, policy, reference};
use crate::objects::{Name, Reader};

/// Envoy's, for every route of this dialect.
const IDLE: Duration = Duration::from_secs(5 * 60);

/// A destination as it is written.
#[derive(Clone, Debug)]
pub(in crate::gloo) struct Destination {
    pub(in crate::gloo) field: String,
    to: Result<To, String>,
    labels: BTreeMap<String, String>,
    pub(in crate::gloo) weight: u32,
    headers: Headers,
}

#[derive(Clone, Debug)]
enum To {
    Upstream(Name),
    Service(Name, u16),
}

impl Destination {
    /// One entry with a weight, or the only one.
    pub(in crate::gloo) fn read(fields: &Fields<'_>, namespace: &str, only: bool) -> Self {
        if only {
            return Self::to(fields, namespace);
        }
        let weight = policy::number(fields, "weight").unwrap_or(0);
        let headers = fields.object("options").and_then(|options| {
            let headers = options
                .object("headerManipulation")
                .map(|it| Headers::read(&it));
            options.unsupported("bufferPerRoute", "write it into the options of the route");
            for key in [
                "stagedTransformations",
                "transformations",
                "ratelimit",
                "ratelimitBasic",
            ] {
                options.unsupported(key, "write it into the options of the route");
            }
            HostOptions::read(&options, ""); // What guards are asked for is refused.
            extauth::refuse_of_destination(&options);
            jwt::refuse_of_destination(&options);
            headers
        });
        let mut out = match fields.object("destination") {
            Some(destination) => Self::to(&destination, namespace),
            None => Self {
                field: fields.path().to_owned(),
                to: Err("no destination is said".to_owned()),
                labels: BTreeMap::new(),
                weight: 0,
                headers: Headers::default(),
            },
        };
        out.weight = weight;
        out.headers = headers.unwrap_or_default();
        out
    }

    fn to(fields: &Fields<'_>, namespace: &str) -> Self {
        let upstream = fields
            .object("upstream")
            .map(|it| reference(&it, namespace));
        let kube = fields.object("kube").map(|kube| {
            let service = kube.object("ref").map(|it| reference(&it, namespace));
            (service, kube.number::<u16>("port").unwrap_or(0))
        });
        fields.unsupported("consul", "write an Upstream of kind kube or static");
        fields.unsupported(
            "destinationSpec",
            "functions are not called, requests are passed on",
        );
        let subset = fields.object("subset").map(|it| it.string_map("values"));
        let to = match (upstream, kube) {
            (Some(name), _) => Ok(To::Upstream(name)),
            (None, Some((Some(service), port))) => Ok(To::Service(service, port)),
            (None, _) => Err("it names neither an Upstream nor a Service".to_owned()),
        };
        let labels = subset.into_iter().flatten();
        Self {
            field: fields.path().to_owned(),
            to,
            labels: labels
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
            weight: 1,
            headers: Headers::default(),
        }
    }

    /// A plain Upstream, for mirrors.
    pub(in crate::gloo) fn upstream(name: Name, field: &str) -> Self {
        Self {
            field: field.to_owned(),
            to: Ok(To::Upstream(name)),
            labels: BTreeMap::new(),
            weight: 1,
            headers: Headers::default(),
        }
    }

    /// Where it leads, with what the route says about endpoints.
    pub(in crate::gloo) fn resolve(
        &self,
        way: &Way<'_>,
        backends: &mut Backends<'_, '_>,
    ) -> Result<Arm, String> {
        let reader = backends.reader;
        let mut found = match self.to.clone()? {
            To::Upstream(name) => upstream(reader, &name)?,
            To::Service(name, port) => service(reader, &name, port)?,
        };
        found.spec.labels.extend(self.labels.clone());
        if !way.hash.is_empty() {
            let policy = found
                .spec
                .policy
                .take()
                .unwrap_or_else(|| Arc::new(policy::plain()));
            let mut policy = BackendPolicy::clone(&policy);
            policy.hash = way.hash.to_vec();
            if !matches!(
                policy.balancer,
                Balancer::RingHash { .. } | Balancer::Maglev { .. }
            ) {
                // Envoy: hashes say nothing to the other balancers.
                policy.hash.clear();
            }
            found.spec.policy = Some(Arc::new(policy));
        }
        let said = found.spec.timeouts;
        let usual = || (!found.is_plain).then_some(IDLE);
        let idle = match way.idle {
            Some(own) => Some(own).filter(|own| !own.is_zero()),
            None => said.and_then(|said| said.idle).or_else(usual),
        };
        found.spec.timeouts = (idle.is_some() || said.is_some()).then(|| Timeouts {
            idle,
            ..said.unwrap_or_default()
        });
        let is_http2 = match found.spec.protocol {
            Some(protocol) => protocol == Protocol::H2c,
            None => found.is_http2,
        };
        let mut arm = Arm::new(self.weight, backends.put(found.reference, found.spec));
        arm.grpc_web = way.grpc_web && is_http2;
        arm.request_headers = self.headers.request.clone();
        arm.filters = FilterSet {
            response_headers: self.headers.response.clone(),
            request_templates: self.headers.request_templates.clone(),
            response_templates: self.headers.response_templates.clone(),
            rewrite_host: found.host.filter(|_| way.auto_host),
            ..FilterSet::default()
        }
        .into();
        Ok(arm)
    }
}

/// What a route says about all of its destinations.
pub(in crate::gloo) struct Way<'w> {
    pub(in crate::gloo) hash: &'w [HashKey],
    pub(in crate::gloo) idle: Option<Duration>,
    pub(in crate::gloo) auto_host: bool,
    /// Clients may speak gRPC-Web.
    pub(in crate::gloo) grpc_web: bool,
}

/// The destinations of a group.
pub(in crate::gloo) fn group(reader: &Reader<'_>, name: &Name) -> Option<Vec<Destination>> {
    let object = reader.foreign(&UPSTREAM_GROUP, name)?;
    Some(destinations(object, &Findings::default()))
}

pub(super) fn destinations(object: &Object, findings: &Findings) -> Vec<Destination> {
    let root = Fields::new(&object.body, String::new(), findings);
    let spec = root.object("spec");
    let entries = spec.iter().flat_map(|spec| spec.objects("destinations"));
    let namespace = &*object.name.namespace;
    entries
        .map(|it| Destination::read(&it, namespace, false))
        .collect()
}
