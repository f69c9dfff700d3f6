//! Termination of TLS: a record of the snapshot → rustls' configuration, made once per record.

use std::any::Any;
use std::sync::Arc;

use routing::model::HostPattern;
use routing::model::tls::{CaBundle, Certificate, ClientCertificates, Termination};
use routing::{CompiledTls, CompiledTlsAction};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{
    ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig,
    SignatureAlgorithm, SignatureScheme,
};

use super::own::OwnCertificate;
use super::{Issuer, provider, versions};

/// What is kept with a record: its configuration, or why there is none.
type Prepared = Result<Arc<ServerConfig>, String>;

/// The configuration of a name whose connections end here.
///
/// # Errors
/// What is wrong with the certificates; the control plane has reported it to their owner.
pub(crate) fn server_config(
    tls: &CompiledTls,
    issuer: Option<&Arc<dyn Issuer>>,
) -> Result<Arc<ServerConfig>, String> {
    let (CompiledTlsAction::Terminate(termination) | CompiledTlsAction::Relay(termination, _)) =
        &tls.action
    else {
        return Err("its connections are passed through".to_owned());
    };
    let prepared = tls.prepared(|tls| {
        let certificates = certificates(tls, termination, issuer);
        let prepared: Prepared =
            certificates.and_then(|certificates| build(termination, certificates).map(Arc::new));
        Arc::new(prepared) as Arc<dyn Any + Send + Sync>
    });
    prepared
        .downcast_ref::<Prepared>()
        .cloned()
        .unwrap_or_else(|| Err("it was prepared by somebody else".to_owned()))
}

/// Those that the model gives, else one of the gateway's own.
fn certificates(
    tls: &CompiledTls,
    termination: &Termination,
    issuer: Option<&Arc<dyn Issuer>>,
) -> Result<Arc<dyn ResolvesServerCert>, String> {
    if termination.certificates.is_empty() {
        let issuer = issuer.ok_or("it has no certificate")?;
        let name = match &tls.pattern {
            HostPattern::Exact(name) => name.to_string(),
            HostPattern::Suffix(name) | HostPattern::Label(name) => format!("*.{name}"),
            HostPattern::Any => return Err("no certificate is for every host".to_owned()),
        };
        return Ok(Arc::new(OwnCertificate::new(name, Arc::clone(issuer))?));
    }
    let keys = termination
        .certificates
        .iter()
        .map(|one| Offer::new(one).map_err(|error| format!("certificate {}: {error}", one.name)));
    let mut keys = keys.collect::<Result<Vec<_>, _>>()?;
    // The sort is stable: among certificates of one kind the first stays first.
    keys.sort_by_key(|offer| offer.certified.key.algorithm() == SignatureAlgorithm::RSA);
    Ok(Arc::new(Certificates(keys)))
}

fn build(
    termination: &Termination,
    certificates: Arc<dyn ResolvesServerCert>,
) -> Result<ServerConfig, String> {
    let explain = |error: Error| error.to_string();
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&versions(termination.versions))
        .map_err(explain)?;
    let builder = builder.with_client_cert_verifier(client_verifier(&termination.client)?);
    let mut config = builder.with_cert_resolver(certificates);
    let protocols = termination.protocols.iter();
    config.alpn_protocols = protocols.map(|protocol| protocol.name().to_vec()).collect();
    // Tickets keep nothing here; their keys are made anew every six hours, and are this record's
    // own: a session of one host never opens another that asks for more.
    config.ticketer = aws_lc_rs::Ticketer::new().map_err(explain)?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

/// A certificate with its loaded key. Whoever made the model has checked that both belong
/// together; here a certificate need not be of a version that the library reads.
pub(super) fn certified_key(certificate: &Certificate) -> Result<Arc<CertifiedKey>, Error> {
    let chain = certificate
        .chain
        .iter()
        .map(|der| CertificateDer::from(der.to_vec()))
        .collect();
    let key = PrivateKeyDer::try_from(certificate.key.secret().to_vec())
        .map_err(|error| Error::General(error.to_owned()))?;
    let key = provider().key_provider.load_private_key(key)?;
    Ok(Arc::new(CertifiedKey::new(chain, key)))
}

/// The authorities of a bundle.
pub(super) fn roots(bundle: &CaBundle) -> Result<Arc<RootCertStore>, String> {
    let mut roots = RootCertStore::empty();
    for der in &bundle.certificates {
        roots
            .add(CertificateDer::from(der.to_vec()))
            .map_err(|error| format!("CA bundle {}: {error}", bundle.name))?;
    }
    Ok(Arc::new(roots))
}

fn client_verifier(wanted: &ClientCertificates) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let (bundle, is_optional) = match wanted {
        ClientCertificates::None => return Ok(WebPkiClientVerifier::no_client_auth()),
        ClientCertificates::Unverified => return Ok(Arc::new(AnyClient(provider()))),
        ClientCertificates::Optional(bundle) => (bundle, true),
        ClientCertificates::Require(bundle) => (bundle, false),
    };
    let mut builder = WebPkiClientVerifier::builder_with_provider(roots(bundle)?, provider());
    if is_optional {
        builder = builder.allow_unauthenticated();
    }
    builder
        .build()
        .map(|verifier| verifier as Arc<dyn ClientCertVerifier>)
        .map_err(|error| format!("CA bundle {}: {error}", bundle.name))
}

/// The certificates of one name, those that are cheaper to sign with first.
#[derive(Debug)]
struct Certificates(Vec<Offer>);

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let known = hello.signature_schemes();
        let now = UnixTime::now().as_secs();
        self.0
            .iter()
            .filter(|offer| offer.certified.key.choose_scheme(known).is_some())
            .find_map(|offer| offer.at(now).cloned())
    }
}

/// A certificate with what its authority says about it, while that holds.
#[derive(Debug)]
struct Offer {
    certified: Arc<CertifiedKey>,
    stapled: Option<Stapled>,
}

#[derive(Debug)]
struct Stapled {
    certified: Arc<CertifiedKey>,
    /// In seconds since 1970.
    until: Option<i64>,
    is_required: bool,
}

impl Offer {
    fn new(certificate: &Certificate) -> Result<Self, Error> {
        let certified = certified_key(certificate)?;
        let stapled = certificate.staple.as_ref().map(|staple| {
            let mut stapled = CertifiedKey::clone(&certified);
            stapled.ocsp = Some(staple.response.to_vec());
            Stapled {
                certified: Arc::new(stapled),
                until: staple.until,
                is_required: staple.is_required,
            }
        });
        Ok(Self { certified, stapled })
    }

    /// `None` if the certificate must not be used without what has ended.
    fn at(&self, now: u64) -> Option<&Arc<CertifiedKey>> {
        let Some(stapled) = &self.stapled else {
            return Some(&self.certified);
        };
        let holds = stapled
            .until
            .is_none_or(|until| u64::try_from(until).is_ok_and(|until| now < until));
        if holds {
            return Some(&stapled.certified);
        }
        (!stapled.is_required).then_some(&self.certified)
    }
}

/// Accepts every client certificate, if its key signed the handshake.
#[derive(Debug)]
struct AnyClient(Arc<CryptoProvider>);

impl ClientCertVerifier for AnyClient {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, cert, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, cert, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
