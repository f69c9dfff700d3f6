//! ApisixTls: certificates by host, and who must show one.

use std::sync::Arc;

use routing::model::tls::{
    Certificate, ClientCertificates, Termination, TlsAction, TlsHost, TlsId,
};
use routing::model::{HostPattern, SortKey, Visibility};

use super::instance::{self, Outcome};
use crate::diagnostic::Effect;
use crate::fields::Fields;
use crate::foreign::{Object, Translation};
use crate::objects::{Name, Objects, Reader};
use crate::shared::{authority, host, tls};

pub(super) fn translate(object: &Object, objects: &Objects) -> Translation {
    instance::translate(object, objects, |spec, reader, out| {
        let mut names = Vec::new();
        for text in spec.strings("hosts") {
            let lower = text.to_ascii_lowercase();
            let pattern = match lower.strip_prefix("*.") {
                Some(suffix) if host::is_name(suffix) => HostPattern::Suffix(suffix.into()),
                None if host::is_name(&lower) => HostPattern::Exact(lower.as_str().into()),
                _ => {
                    let message = format!("{text:?} is no host name; it has no certificate");
                    spec.refuse("hosts", "HostInvalid", message);
                    continue;
                }
            };
            names.push(pattern);
        }
        let certificate = certificate(spec, &object.name.namespace, reader);
        let client = client(spec, &object.name.namespace, reader);
        let (Some(certificate), Some(client)) = (certificate, client) else {
            return Outcome::Refused;
        };
        if names.is_empty() {
            spec.refuse(
                "hosts",
                "HostMissing",
                "no host is left that has a certificate",
            );
            return Outcome::Refused;
        }
        let termination = Termination {
            client,
            ..tls::terminate(vec![certificate])
        };
        let id = TlsId(format!("apisix/ApisixTls/{}", object.name).into());
        let record = TlsHost {
            origin: object.origin("spec"),
            bind: None,
            visibility: Visibility::External,
            names,
            sort_key: SortKey(vec![object.created]),
            action: TlsAction::Terminate(termination),
        };
        out.tls.push((id, Arc::new(record)));
        Outcome::Served
    })
}

fn named(fields: &Fields<'_>, namespace: &str) -> Option<Name> {
    let namespace = fields.text("namespace").unwrap_or(namespace);
    let name = fields.text("name");
    if name.is_none() {
        fields.refuse("name", "SecretNameMissing", "the Secret has no name");
    }
    Some(Name::new(namespace, name?))
}

fn certificate(
    spec: &Fields<'_>,
    namespace: &str,
    reader: &Reader<'_>,
) -> Option<Arc<Certificate>> {
    let Some(secret) = spec.object("secret") else {
        let message = "secret is missing: its hosts are not served by HTTPS";
        spec.refuse("secret", "SecretNameMissing", message);
        return None;
    };
    let name = named(&secret, namespace)?;
    match reader.certificate(&name) {
        Some(Ok(certificate)) => Some(Arc::clone(certificate)),
        Some(Err(why)) => {
            let message = format!("Secret {name} cannot be used: {why}");
            spec.refuse("secret", "SecretInvalid", message);
            None
        }
        None => {
            let message =
                format!("Secret {name} does not exist; create it with type kubernetes.io/tls");
            let findings = spec.findings();
            findings.say(
                Effect::Waiting,
                "SecretMissing",
                &spec.at("secret"),
                message,
            );
            None
        }
    }
}

/// `None` if clients were to be verified and cannot be: the hosts are not served then.
fn client(spec: &Fields<'_>, namespace: &str, reader: &Reader<'_>) -> Option<ClientCertificates> {
    let Some(client) = spec.object("client") else {
        return Some(ClientCertificates::None);
    };
    let remedy = "chains are verified as long as they are";
    if client.int("depth").is_some_and(|depth| depth > 1) {
        client.unsupported("depth", remedy);
    }
    let remedy = "every request needs a certificate: give these paths a host of their own";
    client.unsupported("skip_mtls_uri_regex", remedy);
    let Some(secret) = client.object("caSecret") else {
        let message = "caSecret is missing: its hosts are not served by HTTPS";
        client.refuse("caSecret", "SecretNameMissing", message);
        return None;
    };
    let name = named(&secret, namespace)?;
    match authority::bundle(reader, &name) {
        Ok(bundle) => Some(ClientCertificates::Require(bundle)),
        Err((effect, reason, text)) => {
            let findings = client.findings();
            findings.say(effect, reason, &client.at("caSecret"), text);
            None
        }
    }
}
