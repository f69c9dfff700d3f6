//! `spec.tls` of a Knative Ingress: which certificate its hosts show.
//!
//! The Secret must be in the Ingress's own namespace: nothing else says who may use a key. A
//! Secret that is not there yet is waited for, like a Service; one that is broken is refused, and
//! the hosts are served without TLS. Hosts that it does not speak of get a certificate of the
//! gateway's own, where the gateway has an authority.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::networking::v1alpha1::{IngressRule, IngressTls};
use routing::model::tls::{Certificate, TlsAction, TlsHost, TlsId};
use routing::model::{HostPattern, SortKey, Visibility};

use super::rule_hosts;
use super::translator::Translator;
use crate::diagnostic::{Diagnostic, Effect};
use crate::objects::Name;
use crate::shared::{host, tls};

impl Translator<'_> {
    pub(super) fn tls(&mut self) {
        let ingress = self.ingress;
        let public: BTreeSet<_> = self.public_hosts().collect();
        for (at, tls) in ingress.spec.tls.iter().enumerate() {
            let field = format!("spec.tls[{at}]");
            let Some(certificate) = self.certificate(tls, &field) else {
                continue;
            };
            let names = self.names(tls, &field);
            let is_external = names.iter().any(|name| public.contains(name));
            let record = TlsHost {
                origin: self.origin(&field),
                bind: None,
                visibility: if is_external {
                    Visibility::External
                } else {
                    Visibility::ClusterLocal
                },
                names,
                // An index into an object that fits into memory.
                sort_key: SortKey(vec![at as i64]),
                action: TlsAction::Terminate(tls::terminate(vec![certificate])),
            };
            let id = TlsId(format!("knative/{}/{field}", self.name).into());
            self.out.tls.push((id, Arc::new(record)));
        }
        if self.reader.has_authority() {
            self.local_tls();
        }
    }

    /// External hosts that `spec.tls` does not speak of show a certificate of the gateway's own.
    fn local_tls(&mut self) {
        let spec = &self.ingress.spec;
        if spec.tls.iter().any(|tls| tls.hosts.is_empty()) {
            return;
        }
        let spoken_of = spec.tls.iter().flat_map(|tls| &tls.hosts);
        let spoken_of: BTreeSet<_> = spoken_of.flat_map(|text| host::expand(text)).collect();
        let hosts = self.public_hosts();
        // Whoever serves any host has no name that could stand in a certificate.
        let is_wanted = |host: &HostPattern| *host != HostPattern::Any && !spoken_of.contains(host);
        let hosts: BTreeSet<_> = hosts.filter(is_wanted).collect();
        let names: Vec<_> = hosts.into_iter().filter(|host| self.is_own(host)).collect();
        if names.is_empty() {
            return;
        }
        let record = TlsHost {
            origin: self.origin("spec.rules"),
            bind: None,
            visibility: Visibility::External,
            names,
            sort_key: SortKey(vec![i64::MAX]),
            action: TlsAction::Terminate(tls::terminate(Vec::new())),
        };
        let id = TlsId(format!("knative/{}/local", self.name).into());
        self.out.tls.push((id, Arc::new(record)));
    }

    /// Hosts of rules that are not for the cluster only.
    fn public_hosts(&self) -> impl Iterator<Item = HostPattern> + use<'_> {
        let is_public = |rule: &&IngressRule| rule.visibility.as_deref() != Some("ClusterLocal");
        let rules = self.ingress.spec.rules.iter().filter(is_public);
        rules.flat_map(rule_hosts)
    }

    fn is_own(&self, host: &HostPattern) -> bool {
        let owner = self.reader.host_owner(host);
        owner.is_none_or(|claimant| claimant.owner == self.name)
    }

    fn certificate(&mut self, tls: &IngressTls, field: &str) -> Option<Arc<Certificate>> {
        let secret = tls.secret_name.as_deref().unwrap_or_default();
        if secret.is_empty() {
            let message = "no Secret is named; write the name of one of type kubernetes.io/tls";
            self.refuse(
                "SecretNameMissing",
                &format!("{field}.secretName"),
                message.to_owned(),
            );
            return None;
        }
        let own = Arc::clone(&self.name.namespace);
        let namespace = tls.secret_namespace.as_deref().unwrap_or(&own);
        if *namespace != *own {
            let message = format!(
                "secretNamespace {namespace:?} is not the Ingress's own namespace {own}; copy the Secret there"
            );
            self.refuse(
                "NamespaceNotAllowed",
                &format!("{field}.secretNamespace"),
                message,
            );
            return None;
        }
        let name = Name::new(namespace, secret);
        let field = format!("{field}.secretName");
        match self.reader.certificate(&name) {
            Some(Ok(certificate)) => Some(Arc::clone(certificate)),
            Some(Err(reason)) => {
                let message = format!(
                    "Secret {name} cannot be used: {reason}; its hosts are not served by HTTPS"
                );
                self.refuse("SecretInvalid", &field, message);
                None
            }
            None => {
                let message =
                    format!("Secret {name} does not exist; create it with type kubernetes.io/tls");
                self.out.diagnostics.push(Diagnostic::new(
                    Effect::Waiting,
                    "SecretMissing",
                    &field,
                    message,
                ));
                None
            }
        }
    }

    /// The hosts of an entry (none means all of the Ingress) that the Ingress has for itself.
    fn names(&mut self, tls: &IngressTls, field: &str) -> Vec<HostPattern> {
        let rules = &self.ingress.spec.rules;
        let of_rules: BTreeSet<_> = rules.iter().flat_map(rule_hosts).collect();
        let wanted: BTreeSet<_> = if tls.hosts.is_empty() {
            of_rules.clone()
        } else {
            tls.hosts
                .iter()
                .flat_map(|text| host::expand(text))
                .collect()
        };
        for (at, text) in tls.hosts.iter().enumerate() {
            if !host::expand(text)
                .iter()
                .any(|host| of_rules.contains(host))
            {
                let message =
                    format!("no rule of this Ingress is for {text:?}; it is not served by HTTPS");
                self.refuse("HostWithoutRule", &format!("{field}.hosts[{at}]"), message);
            }
        }
        let is_own = |host: &HostPattern| of_rules.contains(host) && self.is_own(host);
        // Whose host it is instead was said for the rule.
        wanted.into_iter().filter(is_own).collect()
    }
}
