//! `spec.tls` of an Ingress: which certificate its hosts show.
//!
//! An entry without hosts is for every name that nothing else is for. Plain HTTP goes on being
//! served: an Ingress has no field that says otherwise.

use std::sync::Arc;

use k8s_openapi::api::networking::v1::IngressTLS;
use routing::model::tls::{Certificate, TlsAction, TlsHost, TlsId};
use routing::model::{HostPattern, SortKey, Visibility};

use super::translator::Translator;
use crate::diagnostic::{Diagnostic, Effect};
use crate::objects::Name;
use crate::shared::tls;

impl Translator<'_> {
    pub(super) fn tls(&mut self, at: usize, entry: &IngressTLS) {
        let field = format!("spec.tls[{at}]");
        let hosts = entry.hosts.as_deref().unwrap_or_default();
        let mut names = Vec::new();
        for (host_at, host) in hosts.iter().enumerate() {
            let field = format!("{field}.hosts[{host_at}]");
            names.extend(self.host(host, &field, "the host has no certificate"));
        }
        if hosts.is_empty() {
            names.push(HostPattern::Any);
        }
        let Some(certificate) = self.certificate(entry, &format!("{field}.secretName")) else {
            return;
        };
        if names.is_empty() || self.wishes.has_no_suites {
            return;
        }
        let mut termination = tls::terminate(vec![certificate]);
        if let Some(crypto) = &self.wishes.crypto {
            termination.crypto = crypto.clone();
        }
        let id = TlsId(format!("ingress/{}/{field}", self.name).into());
        let record = TlsHost {
            origin: self.origin(&field),
            bind: None,
            visibility: Visibility::External,
            names,
            // An index into an object that fits into memory.
            sort_key: SortKey(vec![self.created, at as i64]),
            action: TlsAction::Terminate(termination),
        };
        self.out.tls.push((id, Arc::new(record)));
    }

    fn certificate(&mut self, entry: &IngressTLS, field: &str) -> Option<Arc<Certificate>> {
        let secret = entry.secret_name.as_deref().unwrap_or_default();
        if secret.is_empty() {
            let message = "no Secret is named, so its hosts are not served by HTTPS; write the \
                 name of one of type kubernetes.io/tls";
            self.refuse("SecretNameMissing", field, message.to_owned());
            return None;
        }
        let name = Name::new(&self.name.namespace, secret);
        match self.reader.certificate(&name) {
            Some(Ok(certificate)) => Some(Arc::clone(certificate)),
            Some(Err(reason)) => {
                let message = format!(
                    "Secret {name} cannot be used: {reason}; its hosts are not served by HTTPS"
                );
                self.refuse("SecretInvalid", field, message);
                None
            }
            None => {
                let message =
                    format!("Secret {name} does not exist; create it with type kubernetes.io/tls");
                let waiting = Diagnostic::new(Effect::Waiting, "SecretMissing", field, message);
                self.out.diagnostics.push(waiting);
                None
            }
        }
    }
}
