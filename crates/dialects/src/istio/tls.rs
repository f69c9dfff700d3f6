//! `servers[].tls` of a Gateway: what the gateway shows, and what clients must show.
//!
//! Secrets are looked up beside the Gateway, then in the root namespace, where Istio's own gateway
//! would be. A check of clients that cannot be made ends the server, never only the check.

use std::sync::Arc;

use routing::model::Crypto;
use routing::model::tls::{
    Alpn, CaBundle, Certificate, ClientCertificates, Termination, TlsAction, TlsVersion,
    TlsVersions,
};

use super::{ROOT_NAMESPACE, values};
use crate::diagnostic::Effect;
use crate::fields::{Fields, Findings};
use crate::foreign::Object;
use crate::objects::{Name, Reader};
use crate::shared::crypto;

/// How the gateway ends TLS at a server, as it is written.
pub(super) struct ServerTls {
    field: String,
    credentials: Vec<String>,
    authorities: Option<String>,
    clients: Clients,
    versions: TlsVersions,
    crypto: Crypto,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Clients {
    None,
    Optional,
    Required,
}

/// Checks that cannot be made.
const CHECKS: [&str; 4] = [
    "subjectAltNames",
    "verifyCertificateSpki",
    "verifyCertificateHash",
    "caCrl",
];

/// Reads `tls`. `Some(None)` passes connections on as they are; `None` is not served.
pub(super) fn read(tls: &Fields<'_>) -> Option<Option<ServerTls>> {
    tls.ignore("httpsRedirect");
    let mode = tls.text("mode").unwrap_or("PASSTHROUGH");
    let clients = match mode {
        "SIMPLE" => Clients::None,
        "MUTUAL" => Clients::Required,
        "OPTIONAL_MUTUAL" => Clients::Optional,
        "PASSTHROUGH" => return Some(None),
        other => {
            let message = format!("tls.mode {other} is not supported; use SIMPLE or MUTUAL");
            tls.refuse("mode", "FieldNotSupported", message);
            tls.pass_over();
            return None;
        }
    };
    let mut credentials: Vec<_> = tls.text("credentialName").into_iter().collect();
    credentials.extend(tls.strings("credentialNames"));
    for key in [
        "serverCertificate",
        "privateKey",
        "caCertificates",
        "tlsCertificates",
    ] {
        tls.unsupported(
            key,
            "put the certificate into a Secret and name it in credentialName",
        );
    }
    if clients == Clients::None {
        let remedy = "clients are asked for certificates with mode MUTUAL alone";
        tls.unsupported("caCertCredentialName", remedy);
    }
    tls.unsupported("workloadSelector", "there is one gateway");
    let unchecked = CHECKS.iter().filter(|key| tls.has(key)).count();
    for key in CHECKS {
        tls.unsupported(
            key,
            "the server is not served without this check; remove it",
        );
    }
    let versions = TlsVersions {
        min: version(tls, "minProtocolVersion", TlsVersion::V1_2),
        max: version(tls, "maxProtocolVersion", TlsVersion::V1_3),
    };
    // A server has no curves.
    let crypto = crypto::read(tls, ("cipherSuites", ""), versions);
    let crypto = crypto.map_err(|(key, text)| {
        tls.refuse(key, "NothingOffered", format!("{text}; nothing is served"));
    });
    let written = ServerTls {
        field: tls.path().to_owned(),
        credentials: credentials.into_iter().map(str::to_owned).collect(),
        authorities: tls.text("caCertCredentialName").map(str::to_owned),
        clients,
        versions,
        crypto: crypto.ok()?,
    };
    if versions.min > versions.max {
        let message = "maxProtocolVersion is below TLS 1.2 or below minProtocolVersion";
        tls.refuse("maxProtocolVersion", "FieldInvalid", message);
        return None;
    }
    (unchecked == 0).then_some(Some(written))
}

fn version(tls: &Fields<'_>, key: &str, default: TlsVersion) -> TlsVersion {
    match tls.text(key) {
        None | Some("TLS_AUTO" | "TLSV1_2") if key == "minProtocolVersion" => TlsVersion::V1_2,
        Some("TLSV1_2") => TlsVersion::V1_2,
        Some("TLSV1_3") => TlsVersion::V1_3,
        None | Some("TLS_AUTO") => default,
        Some(other) => {
            let message = format!("{other} is not offered; TLSV1_2 and TLSV1_3 are");
            tls.refuse(key, "FieldNotSupported", message);
            TlsVersion::V1_2
        }
    }
}

/// What handshakes do; `None` if there is no certificate to show, or to verify clients with.
pub(super) fn terminate(
    gateway: &Object,
    tls: &ServerTls,
    reader: &Reader<'_>,
    findings: &Findings,
) -> Option<TlsAction> {
    let mut certificates = Vec::new();
    let field = format!("{}.credentialName", tls.field);
    if tls.credentials.is_empty() {
        let message = "no Secret with a certificate is named; write credentialName";
        findings.refuse("CredentialMissing", &field, message);
    }
    for credential in &tls.credentials {
        certificates.extend(certificate(gateway, credential, reader, (findings, &field)));
    }
    let client = match tls.clients {
        Clients::None => ClientCertificates::None,
        Clients::Optional => ClientCertificates::Optional(bundle(gateway, tls, reader, findings)?),
        Clients::Required => ClientCertificates::Require(bundle(gateway, tls, reader, findings)?),
    };
    (!certificates.is_empty()).then(|| {
        TlsAction::Terminate(Termination {
            certificates,
            versions: tls.versions,
            crypto: tls.crypto.clone(),
            protocols: vec![Alpn::Http2, Alpn::Http1],
            client,
        })
    })
}

/// The namespaces that a Gateway's Secrets may be in.
fn places(gateway: &Object, secret: &str) -> Vec<Name> {
    let own = Name::new(&gateway.name.namespace, secret);
    let root = Name::new(ROOT_NAMESPACE, secret);
    if own == root {
        vec![own]
    } else {
        vec![own, root]
    }
}

fn certificate(
    gateway: &Object,
    secret: &str,
    reader: &Reader<'_>,
    (findings, field): (&Findings, &str),
) -> Option<Arc<Certificate>> {
    for name in places(gateway, secret) {
        match reader.certificate(&name) {
            Some(Ok(certificate)) => return Some(Arc::clone(certificate)),
            Some(Err(why)) => {
                let message = format!("Secret {name} cannot be used: {why}");
                findings.refuse("SecretInvalid", field, message);
                return None;
            }
            None => {}
        }
    }
    let message = format!(
        "Secret {secret} is neither in namespace {} nor in {ROOT_NAMESPACE}; create it with type \
         kubernetes.io/tls",
        gateway.name.namespace
    );
    findings.say(Effect::Waiting, "SecretMissing", field, message);
    None
}

/// The authorities that clients are verified by: of the Secret for them, of `NAME-cacert`, or
/// beside the certificate.
fn bundle(
    gateway: &Object,
    tls: &ServerTls,
    reader: &Reader<'_>,
    findings: &Findings,
) -> Option<Arc<CaBundle>> {
    let mut wanted: Vec<String> = tls.authorities.iter().cloned().collect();
    if let Some(credential) = tls.credentials.first().filter(|_| wanted.is_empty()) {
        wanted.push(format!("{credential}-cacert"));
        wanted.push(credential.clone());
    }
    for secret in &wanted {
        for name in places(gateway, secret) {
            if let Some(bundle) = authorities(&name, reader) {
                return Some(Arc::new(bundle));
            }
        }
    }
    let message = format!(
        "no Secret of {} has certificates of authorities in ca.crt or cacert, so clients cannot \
         be verified; the server is not served",
        wanted.join(", ")
    );
    findings.say(Effect::Waiting, "AuthoritiesMissing", &tls.field, message);
    None
}

/// The authorities in a Secret.
pub(super) fn authorities(name: &Name, reader: &Reader<'_>) -> Option<CaBundle> {
    let data = reader.secret(name)?;
    let keys = ["ca.crt", "cacert"].into_iter();
    let mut found = keys.filter_map(|key| data.get(key));
    found.find_map(|pem| values::authorities(&name.to_string(), pem))
}
