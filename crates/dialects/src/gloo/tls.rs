//! `sslConfig` of VirtualServices and of Upstreams.

use std::sync::Arc;

use routing::model::tls::{
    Alpn, Certificate, ClientCertificates, Staple, Termination, TlsVersion, TlsVersions, Trust,
    UpstreamTls,
};
use routing::model::{Crypto, HostPattern};

use super::matcher::flag;
use super::reference;
use crate::fields::Fields;
use crate::objects::{Name, Reader};
use crate::shared::{authorities, crypto};

const VERSIONS: TlsVersions = TlsVersions {
    min: TlsVersion::V1_2,
    max: TlsVersion::V1_3,
};

/// How a VirtualService ends TLS, for these names; none is its domains.
pub(super) struct Server {
    pub(super) names: Vec<String>,
    pub(super) termination: Result<Termination, String>,
}

pub(super) fn server(fields: &Fields<'_>, namespace: &str, reader: &Reader<'_>) -> Server {
    other_sources(fields);
    let parameters = parameters(fields);
    let names = fields
        .strings("sniDomains")
        .into_iter()
        .map(str::to_owned)
        .collect();
    let subjects = fields.strings("verifySubjectAltName");
    let has_subjects = !subjects.is_empty();
    let one_way = flag(fields, "oneWayTls").unwrap_or(false);
    fields.unsupported(
        "transportSocketConnectTimeout",
        "handshakes have the gateway's own time",
    );
    let staples = Staples::read(fields);
    if flag(fields, "disableTlsSessionResumption") == Some(true) {
        let text = "sessions are resumed, with keys that live as long as the gateway";
        fields.refuse("disableTlsSessionResumption", "FieldNotSupported", text);
    }
    let protocols = alpn(fields);
    let secret = fields
        .object("secretRef")
        .map(|it| reference(&it, namespace));
    let termination = secret.ok_or_else(|| "sslConfig names no Secret".to_owned());
    let termination = termination.and_then(|secret| {
        let (versions, crypto) = parameters?;
        let certificate = staples.of(certificate(reader, &secret)?, &secret)?;
        let client = match authority(reader, &secret) {
            _ if one_way => ClientCertificates::None,
            None => ClientCertificates::None,
            Some(_) if has_subjects => {
                let text = "verifySubjectAltName is not supported: remove it to let in every \
                            client whose certificate the authorities signed";
                return Err(text.to_owned());
            }
            Some(bundle) => ClientCertificates::Require(bundle?),
        };
        Ok(Termination {
            certificates: vec![certificate],
            versions,
            crypto,
            protocols,
            client,
        })
    });
    Server { names, termination }
}

fn other_sources(fields: &Fields<'_>) {
    fields.unsupported("sslFiles", "name a Secret in secretRef");
    fields.unsupported("sds", "name a Secret in secretRef");
}

fn alpn(fields: &Fields<'_>) -> Vec<Alpn> {
    let mut protocols = Vec::new();
    for name in fields.strings("alpnProtocols") {
        match name {
            "h2" => protocols.push(Alpn::Http2),
            "http/1.1" => protocols.push(Alpn::Http1),
            "allow_empty" => {}
            other => {
                let text = format!("protocol {other:?} is not spoken here");
                fields.refuse("alpnProtocols", "ProtocolUnknown", text);
            }
        }
    }
    if protocols.is_empty() {
        protocols = vec![Alpn::Http2, Alpn::Http1];
    }
    protocols
}

/// # Errors
/// If nothing is left of what handshakes may settle on.
fn parameters(fields: &Fields<'_>) -> Result<(TlsVersions, Crypto), String> {
    let mut versions = VERSIONS;
    let Some(parameters) = fields.object("parameters") else {
        return Ok((versions, Crypto::ANY));
    };
    for (key, version) in [
        ("minimumProtocolVersion", &mut versions.min),
        ("maximumProtocolVersion", &mut versions.max),
    ] {
        match parameters.text(key) {
            None | Some("TLS_AUTO") => {}
            Some("TLSv1_2") => *version = TlsVersion::V1_2,
            Some("TLSv1_3") => *version = TlsVersion::V1_3,
            Some(other) => {
                let text = format!("{other} is not spoken here, TLSv1_2 and TLSv1_3 are");
                parameters.refuse(key, "VersionNotSupported", text);
            }
        }
    }
    let keys = ("cipherSuites", "ecdhCurves");
    let crypto = crypto::read(&parameters, keys, versions);
    let crypto = crypto.map_err(|(key, text)| format!("parameters.{key}: {text}"))?;
    Ok((versions, crypto))
}

fn certificate(reader: &Reader<'_>, secret: &Name) -> Result<Arc<Certificate>, String> {
    match reader.certificate(secret) {
        Some(Ok(certificate)) => Ok(Arc::clone(certificate)),
        Some(Err(why)) => Err(format!("Secret {secret} cannot be used: {why}")),
        None => Err(format!(
            "SSL secret not found: Secret {secret} does not exist"
        )),
    }
}

/// What is asked of the OCSP response that a Secret may have beside its certificate.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Staples {
    Lenient,
    /// A certificate whose response has ended is not used.
    Strict,
    /// The same, and there must be one.
    Must,
}

impl Staples {
    fn read(fields: &Fields<'_>) -> Self {
        match fields.text("ocspStaplePolicy") {
            None | Some("LENIENT_STAPLING") => Self::Lenient,
            Some("STRICT_STAPLING") => Self::Strict,
            Some("MUST_STAPLE") => Self::Must,
            Some(other) => {
                let text = format!(
                    "{other:?} is not known: LENIENT_STAPLING, STRICT_STAPLING or MUST_STAPLE"
                );
                fields.refuse("ocspStaplePolicy", "FieldInvalid", text);
                Self::Must
            }
        }
    }

    fn of(self, certificate: Arc<Certificate>, secret: &Name) -> Result<Arc<Certificate>, String> {
        match &certificate.staple {
            None if self == Self::Must => Err(format!(
                "ocspStaplePolicy MUST_STAPLE: Secret {secret} has no tls.ocsp-staple"
            )),
            Some(staple) if self != Self::Lenient => {
                let staple = Staple {
                    is_required: true,
                    ..staple.clone()
                };
                let mut certificate = Certificate::clone(&certificate);
                certificate.staple = Some(staple);
                Ok(Arc::new(certificate))
            }
            _ => Ok(certificate),
        }
    }
}

/// The authorities of a Secret, if it has any.
fn authority(
    reader: &Reader<'_>,
    secret: &Name,
) -> Option<Result<Arc<routing::model::tls::CaBundle>, String>> {
    let data = reader.secret(secret)?;
    let pem = data.get("ca.crt").filter(|pem| !pem.is_empty())?;
    let bundle = authorities::bundle(&secret.to_string(), pem);
    Some(bundle.map_err(|why| format!("ca.crt of Secret {secret} cannot be used: {why}")))
}

/// TLS to an Upstream, but for the name that is asked for if none is said.
pub(super) struct Client {
    server_name: Option<Arc<str>>,
    accepted_names: Vec<Arc<str>>,
    trust: Trust,
    client: Option<Arc<Certificate>>,
    versions: TlsVersions,
    crypto: Crypto,
}

impl Client {
    pub(super) fn finish(self, name: Arc<str>) -> UpstreamTls {
        UpstreamTls {
            server_name: self.server_name.unwrap_or(name),
            accepted_names: self.accepted_names,
            trust: self.trust,
            client: self.client,
            versions: self.versions,
            crypto: self.crypto,
        }
    }
}

pub(super) fn upstream(
    fields: &Fields<'_>,
    namespace: &str,
    reader: &Reader<'_>,
) -> Result<Client, String> {
    other_sources(fields);
    let parameters = parameters(fields);
    let one_way = flag(fields, "oneWayTls").unwrap_or(false);
    fields.unsupported(
        "alpnProtocols",
        "useHttp2 of the Upstream says what is spoken",
    );
    fields.unsupported(
        "allowRenegotiation",
        "there is none in TLS 1.3, and none is allowed",
    );
    let names = fields.strings("verifySubjectAltName").into_iter();
    let accepted_names: Vec<Arc<str>> = names.map(Arc::from).collect();
    let server_name = fields.text("sni").map(Arc::from);
    let secret = fields
        .object("secretRef")
        .map(|it| reference(&it, namespace));
    let (mut trust, mut client) = (Trust::Unverified, None);
    if let Some(secret) = secret {
        if reader.secret(&secret).is_none() {
            return Err(format!(
                "SSL secret not found: Secret {secret} does not exist"
            ));
        }
        match authority(reader, &secret) {
            Some(bundle) if !one_way => trust = Trust::Bundle(bundle?),
            _ => {}
        }
        if let Some(Ok(own)) = reader.certificate(&secret) {
            client = Some(Arc::clone(own));
        }
    }
    let (versions, crypto) = parameters?;
    if matches!(trust, Trust::Unverified) && !accepted_names.is_empty() {
        let text = "names cannot be verified without authorities: give the Secret a ca.crt";
        return Err(text.to_owned());
    }
    Ok(Client {
        server_name,
        accepted_names,
        trust,
        client,
        versions,
        crypto,
    })
}

/// TLS to whoever answers.
pub(super) fn unverified(name: Arc<str>) -> UpstreamTls {
    UpstreamTls {
        server_name: name,
        accepted_names: Vec::new(),
        trust: Trust::Unverified,
        client: None,
        versions: VERSIONS,
        crypto: Crypto::ANY,
    }
}

/// A domain as Envoy matches it: exact, any number of labels below a name, or everything.
pub(super) fn domain(text: &str) -> Option<HostPattern> {
    let text = text.to_ascii_lowercase();
    if text == "*" {
        return Some(HostPattern::Any);
    }
    let named = |name: &str| crate::shared::host::is_name(name).then(|| Arc::from(name));
    match text.strip_prefix("*.") {
        Some(suffix) => named(suffix).map(HostPattern::Suffix),
        None => named(&text).map(HostPattern::Exact),
    }
}
