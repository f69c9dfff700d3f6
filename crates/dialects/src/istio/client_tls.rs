//! `trafficPolicy.tls`: how the gateway speaks TLS to a backend.

use std::sync::Arc;

use routing::model::Crypto;
use routing::model::tls::{TlsVersion, TlsVersions, Trust, UpstreamTls};

use super::traffic::About;
use super::{ROOT_NAMESPACE, tls};
use crate::fields::Fields;
use crate::objects::Name;

/// `None` speaks in plain.
pub(super) fn client_tls(fields: &Fields<'_>, about: &About<'_, '_>) -> Option<Arc<UpstreamTls>> {
    let mode = fields.text("mode").unwrap_or("DISABLE");
    let credential = fields.text("credentialName");
    let server_name = fields.text("sni").unwrap_or(about.host);
    let accepted_names = fields
        .strings("subjectAltNames")
        .into_iter()
        .map(Arc::from)
        .collect();
    let unverified = fields.bool("insecureSkipVerify").unwrap_or(false);
    for key in ["clientCertificate", "privateKey", "caCertificates", "caCrl"] {
        if key == "caCertificates" && fields.str(key) == Some("system") {
            continue;
        }
        fields.unsupported(key, "put it into a Secret and name that in credentialName");
    }
    match mode {
        "DISABLE" => return None,
        "SIMPLE" | "MUTUAL" => {}
        other => {
            let message = format!(
                "tls.mode {other} is not supported: there are no certificates of the mesh; \
                 requests are sent in plain"
            );
            fields.refuse("mode", "FieldNotSupported", message);
            return None;
        }
    }
    let secrets = |name: &str| {
        let own = &about.object.name.namespace;
        [own, ROOT_NAMESPACE].map(|namespace| Name::new(namespace, name))
    };
    let authorities = credential.and_then(|credential| {
        let names = [credential.to_owned(), format!("{credential}-cacert")];
        let mut all = names.iter().flat_map(|name| secrets(name));
        all.find_map(|name| tls::authorities(&name, about.reader))
    });
    let client = credential
        .filter(|_| mode == "MUTUAL")
        .and_then(|credential| {
            let mut all = secrets(credential).into_iter();
            all.find_map(|name| about.reader.certificate(&name)?.as_ref().ok().cloned())
        });
    if mode == "SIMPLE" && credential.is_some() && authorities.is_none() {
        let message = "no Secret with authorities (ca.crt) is there under this name; those that \
                       the machine trusts are trusted";
        fields.refuse("credentialName", "CredentialMissing", message);
    }
    if mode == "MUTUAL" && client.is_none() {
        let message = "no Secret with a certificate to show is named in credentialName, or it is \
                       not there";
        fields.refuse("credentialName", "CredentialMissing", message);
    }
    Some(Arc::new(UpstreamTls {
        server_name: server_name.into(),
        accepted_names,
        trust: match (unverified, authorities) {
            (true, _) => Trust::Unverified,
            (false, Some(bundle)) => Trust::Bundle(Arc::new(bundle)),
            (false, None) => Trust::System,
        },
        client,
        versions: TlsVersions {
            min: TlsVersion::V1_2,
            max: TlsVersion::V1_3,
        },
        crypto: Crypto::ANY,
    }))
}
