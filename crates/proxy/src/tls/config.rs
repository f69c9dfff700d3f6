//! Termination of TLS: a record of the snapshot → rustls' configuration, made once per record.

use std::any::Any;
use std::sync::Arc;

use routing::model::HostPattern;
use routing::model::tls::{CaBundle, Certificate, ClientCertificates, Termination};
use routing::{CompiledTls, CompiledTlsAction};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig,
    SignatureAlgorithm, SignatureScheme,
};

use super::ending::{Ending, Shown};
use super::own::OwnCertificate;
use super::{Issuer, provider};

/// What is kept with a record: how its connections are ended, or why they are not.
type Prepared = Result<Ending, String>;

/// How a connection to a name is ended, by its client's hello.
///
/// # Errors
/// What is wrong with the certificates; the control plane has reported it to their owner.
pub(super) fn server_config(
    tls: &CompiledTls,
    hello: &ClientHello<'_>,
    issuer: Option<&Arc<dyn Issuer>>,
) -> Result<Arc<ServerConfig>, String> {
    Ok(Arc::clone(prepared(tls, issuer)?.of(hello)))
}

/// The same over QUIC, which is TLS 1.3 always: suites before it do not matter.
///
/// # Errors
/// As [`server_config`].
#[cfg(feature = "http3")]
pub(crate) fn datagram_config(
    tls: &CompiledTls,
    issuer: Option<&Arc<dyn Issuer>>,
) -> Result<Arc<ServerConfig>, String> {
    Ok(Arc::clone(prepared(tls, issuer)?.any()))
}

fn prepared<'t>(
    tls: &'t CompiledTls,
    issuer: Option<&Arc<dyn Issuer>>,
) -> Result<&'t Ending, String> {
    let (CompiledTlsAction::Terminate(termination) | CompiledTlsAction::Relay(termination, _)) =
        &tls.action
    else {
        return Err("its connections are passed through".to_owned());
    };
    let prepared = tls.prepared(|tls| {
        let certificates = certificates(tls, termination, issuer);
        let prepared: Prepared =
            certificates.and_then(|certificates| Ending::new(termination, certificates));
        Arc::new(prepared) as Arc<dyn Any + Send + Sync>
    });
    let prepared = prepared.downcast_ref::<Prepared>();
    let prepared = prepared.ok_or("it was prepared by somebody else")?;
    prepared.as_ref().map_err(Clone::clone)
}

/// Those that the model gives, else one of the gateway's own.
fn certificates(
    tls: &CompiledTls,
    termination: &Termination,
    issuer: Option<&Arc<dyn Issuer>>,
) -> Result<Arc<dyn Shown>, String> {
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

pub(super) fn client_verifier(
    wanted: &ClientCertificates,
) -> Result<Arc<dyn ClientCertVerifier>, String> {
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

impl Shown for Certificates {
    fn signs(&self, schemes: &[SignatureScheme], is_rsa: bool) -> bool {
        let mut all = self.0.iter().map(|offer| &offer.certified.key);
        all.any(|key| {
            (key.algorithm() == SignatureAlgorithm::RSA) == is_rsa
                && key.choose_scheme(schemes).is_some()
        })
    }
}

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
