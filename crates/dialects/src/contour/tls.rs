//! `tls` of a virtual host: which certificate it shows, and what clients must show.

use std::sync::Arc;

use routing::model::Crypto;
use routing::model::tls::{Alpn, ClientCertificates, Termination, TlsVersion, TlsVersions};

use super::certificates::{self, Refusal};
use super::configuration::Settings;
use super::status::{Problem, Told, kind};
use crate::fields::Fields;
use crate::objects::Reader;

/// As it is written.
pub(super) struct Spec {
    field: String,
    secret: String,
    min: TlsVersion,
    max: TlsVersion,
    pub(super) passthrough: bool,
    fallback: bool,
    clients: Option<Clients>,
}

/// `clientValidation`.
struct Clients {
    ca: String,
    skip: bool,
    optional: bool,
    has_revocations: bool,
}

/// What else the virtual host has, which not all of TLS goes with.
pub(super) struct Others {
    pub(super) authorization: bool,
    pub(super) tokens: bool,
}

impl Spec {
    pub(super) fn read(fields: &Fields<'_>) -> Self {
        Self {
            field: fields.path().to_owned(),
            secret: fields
                .str("secretName")
                .unwrap_or_default()
                .trim()
                .to_owned(),
            min: version(fields, "minimumProtocolVersion", TlsVersion::V1_2),
            max: version(fields, "maximumProtocolVersion", TlsVersion::V1_3),
            passthrough: fields.bool("passthrough").unwrap_or(false),
            fallback: fields.bool("enableFallbackCertificate").unwrap_or(false),
            clients: fields
                .object("clientValidation")
                .map(|fields| Clients::read(&fields)),
        }
    }

    /// Whether it names a certificate.
    pub(super) fn terminates(&self) -> bool {
        !self.secret.is_empty()
    }

    /// How TLS is ended; `None` if it is passed through.
    pub(super) fn resolve(
        &self,
        reader: &Reader<'_>,
        namespace: &str,
        others: &Others,
        settings: &Settings,
    ) -> Told<Option<Termination>> {
        self.check()?;
        if self.passthrough {
            return Ok(None);
        }
        let versions = self.versions(settings)?;
        if settings.has_no_suites && versions.min < TlsVersion::V1_3 {
            let text = "Spec.VirtualHost.TLS: no cipher suite of the ContourConfiguration is there";
            return Err(self.problem("TLSConfigNotValid", text));
        }
        let secret = certificates::name(&self.secret, namespace);
        let certificate = certificates::certificate(reader, &secret, namespace);
        let written = &self.secret;
        let certificate = certificate.map_err(|refusal| match refusal {
            Refusal::NotDelegated => self.problem(
                "DelegationNotPermitted",
                format!(
                    "Spec.VirtualHost.TLS Secret {written:?} certificate delegation not permitted"
                ),
            ),
            Refusal::Invalid(why) => self.problem(
                "SecretNotValid",
                format!("Spec.VirtualHost.TLS Secret {written:?} is invalid: {why}"),
            ),
        })?;
        self.check_fallback(others)?;
        let client = match &self.clients {
            None => ClientCertificates::None,
            Some(clients) => self.clients(clients, reader, namespace)?,
        };
        Ok(Some(Termination {
            certificates: vec![certificate],
            versions,
            crypto: Crypto {
                suites: settings.suites.clone(),
                curves: Vec::new(),
            },
            protocols: vec![Alpn::Http2, Alpn::Http1],
            client,
        }))
    }

    /// Within what the ContourConfiguration says for all hosts: as in Contour the higher of the
    /// oldest versions and the lower of the newest.
    fn versions(&self, settings: &Settings) -> Told<TlsVersions> {
        if self.max < self.min {
            let text = "Spec.Virtualhost.TLS the minimum protocol version is greater than the \
                        maximum protocol version";
            return Err(self.problem("TLSConfigNotValid", text));
        }
        let all = settings.versions;
        let versions = TlsVersions {
            min: all.map_or(self.min, |all| self.min.max(all.min)),
            max: all.map_or(self.max, |all| self.max.min(all.max)),
        };
        if versions.max < versions.min {
            let text = "Spec.VirtualHost.TLS: none of its protocol versions is within those of the \
                        ContourConfiguration";
            return Err(self.problem("TLSConfigNotValid", text));
        }
        Ok(versions)
    }

    fn check(&self) -> Told<()> {
        let text = match (self.terminates(), self.passthrough) {
            (true, true) => "both Passthrough and SecretName were specified",
            (false, false) => "neither Passthrough nor SecretName were specified",
            (false, true) if self.clients.is_some() => {
                let text = "Spec.VirtualHost.TLS passthrough cannot be combined with \
                            tls.clientValidation";
                return Err(self.problem("TLSIncompatibleFeatures", text));
            }
            (false, true) if self.fallback => {
                let text = "Spec.VirtualHost.TLS: both Passthrough and \
                            enableFallbackCertificate were specified";
                return Err(self.problem("TLSIncompatibleFeatures", text));
            }
            _ => return Ok(()),
        };
        Err(self.problem("TLSConfigNotValid", format!("Spec.VirtualHost.TLS: {text}")))
    }

    fn check_fallback(&self, others: &Others) -> Told<()> {
        if !self.fallback {
            return Ok(());
        }
        let other = if self.clients.is_some() {
            "client validation"
        } else if others.authorization {
            "client authorization"
        } else if others.tokens {
            "JWT providers"
        } else {
            let text = "Spec.Virtualhost.TLS enabled fallback but a fallback certificate is not \
                        supported here; remove enableFallbackCertificate";
            return Err(self.problem("FallbackNotPresent", text));
        };
        let text = format!("Spec.Virtualhost.TLS fallback & {other} are incompatible");
        Err(self.problem("TLSIncompatibleFeatures", text))
    }

    fn clients(
        &self,
        clients: &Clients,
        reader: &Reader<'_>,
        namespace: &str,
    ) -> Told<ClientCertificates> {
        let invalid = |text: String| {
            let text = format!("Spec.VirtualHost.TLS client validation is invalid: {text}");
            self.problem("ClientValidationInvalid", text)
        };
        if clients.has_revocations {
            // Served without the list, revoked certificates would pass.
            let text = "crlSecret is not supported; remove it to accept certificates without \
                        looking whether they were revoked";
            return Err(invalid(text.to_owned()));
        }
        if clients.ca.is_empty() {
            return if clients.skip {
                Ok(ClientCertificates::Unverified)
            } else {
                Err(invalid("CA Secret must be specified".to_owned()))
            };
        }
        let secret = certificates::name(&clients.ca, namespace);
        let bundle = certificates::authorities(reader, &secret, namespace);
        let bundle = bundle.map_err(|refusal| match refusal {
            Refusal::NotDelegated => self.problem(
                "DelegationNotPermitted",
                format!(
                    "Spec.VirtualHost.TLS CA Secret {:?} is invalid: certificate delegation not permitted",
                    clients.ca
                ),
            ),
            Refusal::Invalid(why) => invalid(format!("invalid CA Secret \"{secret}\": {why}")),
        })?;
        Ok(match (clients.skip, clients.optional) {
            (true, _) => ClientCertificates::Unverified,
            (false, true) => ClientCertificates::Optional(bundle),
            (false, false) => ClientCertificates::Require(bundle),
        })
    }

    fn problem(&self, reason: &'static str, text: impl Into<String>) -> Problem {
        Problem::new(kind::TLS, reason, &self.field, text)
    }
}

impl Clients {
    fn read(fields: &Fields<'_>) -> Self {
        fields.ignore("crlOnlyVerifyLeafCert");
        if let Some(forward) = fields.object("forwardClientCertificate") {
            let parts = ["subject", "cert", "chain", "dns", "uri"];
            let wanted = parts.map(|part| forward.bool(part).unwrap_or(false));
            if wanted.contains(&true) {
                let text = "the header x-forwarded-client-cert is not sent to backends";
                fields.refuse("forwardClientCertificate", "FieldNotSupported", text);
            }
        }
        let skip = fields.bool("skipClientCertValidation").unwrap_or(false);
        let optional = fields.bool("optionalClientCertificate").unwrap_or(false);
        if skip && !optional {
            let text = "a client without a certificate is let in as well, since any would do";
            fields.refuse("skipClientCertValidation", "CertificateNotRequired", text);
        }
        Self {
            ca: fields.str("caSecret").unwrap_or_default().to_owned(),
            skip,
            optional,
            has_revocations: fields.text("crlSecret").is_some(),
        }
    }
}

pub(super) fn version(fields: &Fields<'_>, key: &str, default: TlsVersion) -> TlsVersion {
    match fields.text(key) {
        None => default,
        Some("1.2") => TlsVersion::V1_2,
        Some("1.3") => TlsVersion::V1_3,
        Some(other) => {
            let text = format!("TLS {other} is not spoken here, 1.2 and 1.3 are");
            fields.refuse(key, "VersionNotSupported", text);
            default
        }
    }
}

/// `validation` of a service: who must have signed its certificate, and for which names.
pub(super) struct Validation {
    ca: String,
    names: Vec<Arc<str>>,
}

impl Validation {
    pub(super) fn read(fields: &Fields<'_>) -> Self {
        let one = fields.text("subjectName").map(Arc::from);
        let mut names: Vec<Arc<str>> = one.into_iter().collect();
        for name in fields.strings("subjectNames") {
            if !names.iter().any(|known| **known == *name) {
                names.push(name.into());
            }
        }
        Self {
            ca: fields.str("caSecret").unwrap_or_default().to_owned(),
            names,
        }
    }

    /// The Secret as it is written, for messages.
    pub(super) fn secret(&self) -> &str {
        &self.ca
    }

    pub(super) fn resolve(
        &self,
        reader: &Reader<'_>,
        namespace: &str,
    ) -> Result<(Arc<routing::model::tls::CaBundle>, Vec<Arc<str>>), Refusal> {
        let secret = certificates::name(&self.ca, namespace);
        let bundle = certificates::authorities(reader, &secret, namespace);
        let bundle = bundle.map_err(|refusal| match refusal {
            Refusal::Invalid(why) => {
                Refusal::Invalid(format!("invalid CA Secret \"{secret}\": {why}"))
            }
            Refusal::NotDelegated => Refusal::NotDelegated,
        })?;
        if self.names.is_empty() {
            return Err(Refusal::Invalid(
                "missing subject alternative name".to_owned(),
            ));
        }
        Ok((bundle, self.names.clone()))
    }
}
