//! What holds for the endpoints of a Service, as a policy for the Service.
//!
//! Gateway API and our policies say it of a Service, whoever sends to it. Where objects say
//! different things of the same Service, nobody's is written and all are told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use routing::model::tls::{Trust, UpstreamTls};
use routing::model::{BackendId, BackendPolicy, Origin, Protocol, Timeouts};
use serde_json::{Value, json};

use super::rule::called;
use super::{POLICY_VERSION, VERSION, Verdict, Writer};
use crate::backend;
use crate::foreign::BackendSpec;
use crate::gateway_api;
use crate::objects::Name;
use crate::traffic_policy::write;

/// How the endpoints of a Service are used.
#[derive(Debug, Default, PartialEq)]
struct Use {
    policy: Option<Arc<BackendPolicy>>,
    timeouts: Option<Timeouts>,
}

impl Writer<'_> {
    /// Remembers who sends to a backend.
    pub(super) fn use_backend(&mut self, id: &BackendId, origin: &Origin) {
        let Some((reference, _)) = self.input.backends.get(id) else {
            return;
        };
        let uses = self.uses.entry(reference.service.clone()).or_default();
        uses.entry(id.clone()).or_default().insert(origin.clone());
    }

    pub(super) fn service_policies(&mut self) -> Vec<Value> {
        let mut written = Vec::new();
        for (service, uses) in std::mem::take(&mut self.uses) {
            written.extend(self.tls_policy(&service, &uses));
            let mut policies: BTreeSet<String> = BTreeSet::new();
            let mut policy: Option<Use> = None;
            let mut origins: BTreeSet<Origin> = BTreeSet::new();
            for (id, of) in &uses {
                let own = self.tell_about_backend(id, of);
                policies.insert(format!("{own:?}"));
                if own != Use::default() {
                    policy = Some(own);
                    origins.extend(of.iter().cloned());
                }
            }
            let Some(policy) = policy else { continue };
            if policies.len() > 1 {
                let text = format!(
                    "objects say different things about how endpoints of Service {service} are used: write one TrafficPolicy for it"
                );
                for origin in &origins {
                    self.note(origin, Verdict::Lost, "backend", &text);
                }
                continue;
            }
            written.extend(self.service_policy(&service, &policy, &origins));
        }
        written
    }

    /// Who is trusted at the other end of connections to a Service, if all say the same.
    fn tls_policy(
        &mut self,
        service: &Name,
        uses: &BTreeMap<BackendId, BTreeSet<Origin>>,
    ) -> Option<Value> {
        let input = self.input;
        let said = uses.iter().map(|(id, of)| {
            let spec = input.backends.get(id).and_then(|(_, spec)| spec.as_ref());
            (spec.and_then(|spec| spec.tls.as_deref()), of)
        });
        let said: Vec<_> = said.collect();
        let tls = said.iter().find_map(|(tls, _)| *tls)?;
        if said.iter().any(|(other, _)| *other != Some(tls)) {
            let text = format!(
                "objects say different things about TLS to Service {service}: write a BackendTLSPolicy for each port"
            );
            for origin in said.iter().flat_map(|(_, of)| of.iter()) {
                self.note(origin, Verdict::Lost, "backend.tls", &text);
            }
            return None;
        }
        let names = tls.accepted_names.iter();
        let names: Vec<_> = names
            .map(|name| match name.contains("://") {
                true => json!({"type": "URI", "uri": name}),
                false => json!({"type": "Hostname", "hostname": name}),
            })
            .collect();
        let mut validation = json!({
            "hostname": tls.server_name, "wellKnownCACertificates": "System",
        });
        if !names.is_empty() {
            validation["subjectAltNames"] = names.into();
        }
        let target = json!({"group": "", "kind": "Service", "name": service.name});
        Some(json!({
            "apiVersion": VERSION, "kind": "BackendTLSPolicy",
            "metadata": {"name": service.name, "namespace": service.namespace},
            "spec": {"targetRefs": [target], "validation": validation},
        }))
    }

    fn service_policy(
        &mut self,
        service: &Name,
        used: &Use,
        origins: &BTreeSet<Origin>,
    ) -> Option<Value> {
        let usual = BackendPolicy::default();
        let policy = used.policy.as_deref().unwrap_or(&usual);
        let written = write::of_backend(policy, used.timeouts.as_ref(), self.is_ours);
        for missing in &written.missing {
            let part = missing.part;
            let text = format!("{} of Service {service}: {}", called(part), missing.why);
            for origin in origins {
                self.note(origin, Verdict::Lost, part, &text);
            }
        }
        let mut spec = written.spec;
        if spec.is_empty() {
            return None;
        }
        let sections: Vec<_> = spec.keys().cloned().collect();
        let text = format!(
            "TrafficPolicy {service} says how endpoints of the Service are used ({})",
            sections.join(", ")
        );
        for origin in origins {
            self.note(origin, Verdict::Kept, "backend", &text);
        }
        let target = json!({"group": "", "kind": "Service", "name": service.name});
        spec.insert("targetRefs".to_owned(), json!([target]));
        Some(json!({
            "apiVersion": POLICY_VERSION, "kind": "TrafficPolicy",
            "metadata": {"name": service.name, "namespace": service.namespace},
            "spec": spec,
        }))
    }

    /// The policy of a backend; what else is said about it is told.
    fn tell_about_backend(&mut self, id: &BackendId, origins: &BTreeSet<Origin>) -> Use {
        let Some((reference, spec)) = self.input.backends.get(id) else {
            return Use::default();
        };
        let none = BackendSpec::default();
        let spec = spec.as_deref().unwrap_or(&none);
        let service = &reference.service;
        let mut lost = Vec::new();
        // Whatever a port speaks is passed on.
        let is_http = reference.stream.is_none();
        if is_http && spec.tls.is_none() && !self.input.protocols.contains_key(id) {
            let text = format!(
                "port {} of Service {service} says that its pods want TLS, and they are asked without it here; there it is answered 500: give the port an appProtocol",
                reference.port
            );
            lost.push(("backend.tls", text));
        }
        let own = reference.http2.then_some(Protocol::H2c);
        let is_http1 = reference.variant.as_deref() == Some(backend::HTTP1);
        let own = own.or_else(|| is_http1.then_some(Protocol::Http1));
        let said = spec.protocol.or(own);
        if is_http && said.is_some() && said.as_ref() != self.input.protocols.get(id) {
            let text = format!(
                "how Service {service} is spoken to is said here and not by its port: give port {} an appProtocol",
                reference.port
            );
            lost.push(("backend.protocol", text));
        }
        for (part, text) in lost {
            for origin in origins {
                self.note(origin, Verdict::Lost, part, &text);
            }
        }
        let policy = spec.policy.clone();
        Use {
            policy: policy.filter(|policy| **policy != BackendPolicy::default()),
            timeouts: spec.timeouts,
        }
    }
}

/// Whether a BackendTLSPolicy of ours says all of it: it names authorities by objects, of which
/// nothing is known here but what they hold.
pub(super) fn is_plain(tls: &UpstreamTls) -> bool {
    let is_name = |name: &str| name.parse::<std::net::IpAddr>().is_err();
    tls.trust == Trust::System
        && tls.client.is_none()
        && tls.versions == gateway_api::VERSIONS
        && tls.crypto.is_any()
        && is_name(&tls.server_name)
        && tls.accepted_names.iter().all(|name| is_name(name))
}
