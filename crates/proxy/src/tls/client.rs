//! TLS to backends: verified as their record says, resumed where the server lets us.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, OnceLock};

use routing::model::Protocol;
use routing::model::tls::{Alpn, Trust, UpstreamTls};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::SingleCertAndKey;
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error, RootCertStore,
    SignatureScheme,
};
use tokio::net::TcpStream;

use super::alternative::AlternativeName;
use super::config::{certified_key, roots};
use super::stream::TlsStream;
use super::{provider, provider_of, versions};

/// Configurations of one thread, so that sessions are resumed. Forgotten all at once when there
/// are many: they are cheap to make, and few backends have their own.
#[derive(Default)]
pub(crate) struct Clients(RefCell<HashMap<Wanted, Arc<ClientConfig>>>);

/// What a configuration is for.
type Wanted = (Arc<UpstreamTls>, Protocol);

const MAX_CLIENTS: usize = 1024;

/// The machine's own authorities, read once.
static SYSTEM: OnceLock<Result<Arc<RootCertStore>, String>> = OnceLock::new();

/// Encrypts a new connection to a backend. The caller bounds the time.
///
/// # Errors
/// What the handshake says, for example that the certificate is for another name.
pub(crate) async fn connect(
    clients: &Clients,
    tls: &Arc<UpstreamTls>,
    protocol: Protocol,
    socket: TcpStream,
) -> io::Result<TlsStream> {
    if tls.trust == Trust::System && SYSTEM.get().is_none() {
        // Reading them is file work: not on this thread.
        let _ = tokio::task::spawn_blocking(|| drop(system_roots())).await;
    }
    let config = clients.config(tls, protocol).map_err(invalid)?;
    let name = server_name(&tls.server_name).map_err(invalid)?;
    let session =
        ClientConnection::new(config, name).map_err(|error| invalid(error.to_string()))?;
    let mut stream = TlsStream::new(socket, session);
    stream.handshake().await?;
    if protocol == Protocol::H2c && stream.session().alpn_protocol() != Some(Alpn::Http2.name()) {
        return Err(invalid(
            "the backend does not speak HTTP/2 over TLS".to_owned(),
        ));
    }
    Ok(stream)
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

fn server_name(name: &str) -> Result<ServerName<'static>, String> {
    ServerName::try_from(name.to_owned()).map_err(|_| format!("{name:?} is not a server name"))
}

impl Clients {
    fn config(
        &self,
        tls: &Arc<UpstreamTls>,
        protocol: Protocol,
    ) -> Result<Arc<ClientConfig>, String> {
        let mut held = self.0.borrow_mut();
        let key = (Arc::clone(tls), protocol);
        if let Some(config) = held.get(&key) {
            return Ok(Arc::clone(config));
        }
        let config = Arc::new(build(tls, protocol)?);
        if held.len() >= MAX_CLIENTS {
            held.clear();
        }
        held.insert(key, Arc::clone(&config));
        Ok(config)
    }
}

fn build(tls: &UpstreamTls, protocol: Protocol) -> Result<ClientConfig, String> {
    let builder = ClientConfig::builder_with_provider(provider_of(&tls.crypto))
        .with_protocol_versions(&versions(tls.versions))
        .map_err(|error| error.to_string())?;
    let builder = builder
        .dangerous()
        .with_custom_certificate_verifier(verifier(tls)?);
    let mut config = match &tls.client {
        None => builder.with_no_client_auth(),
        Some(certificate) => {
            let key = certified_key(certificate)
                .map_err(|error| format!("certificate {}: {error}", certificate.name))?;
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key)))
        }
    };
    let wanted = match protocol {
        Protocol::Http1 => Alpn::Http1,
        Protocol::H2c => Alpn::Http2,
    };
    config.alpn_protocols = vec![wanted.name().to_vec()];
    Ok(config)
}

fn verifier(tls: &UpstreamTls) -> Result<Arc<dyn ServerCertVerifier>, String> {
    let trusted = match &tls.trust {
        Trust::Unverified => return Ok(Arc::new(AnyServer(provider()))),
        Trust::Bundle(bundle) => roots(bundle)?,
        Trust::System => system_roots()?,
    };
    let inner = WebPkiServerVerifier::builder_with_provider(Arc::clone(&trusted), provider())
        .build()
        .map_err(|error| error.to_string())?;
    if tls.accepted_names.is_empty() {
        return Ok(inner);
    }
    let (mut names, mut others) = (Vec::new(), Vec::new());
    for name in &tls.accepted_names {
        match server_name(name) {
            Ok(name) => names.push(name),
            Err(_) if AlternativeName::is(name) => others.push(AlternativeName(Arc::clone(name))),
            Err(error) => return Err(error),
        }
    }
    Ok(Arc::new(AnyNameOf {
        inner,
        trusted,
        names,
        others,
    }))
}

fn system_roots() -> Result<Arc<RootCertStore>, String> {
    let load = || {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        let (added, _) = roots.add_parsable_certificates(found.certs);
        if added == 0 {
            return Err(
                "this machine has no trusted certificate authorities; install ca-certificates"
                    .to_owned(),
            );
        }
        Ok(Arc::new(roots))
    };
    SYSTEM.get_or_init(load).clone()
}

/// A certificate for any of several names will do.
#[derive(Debug)]
struct AnyNameOf {
    inner: Arc<WebPkiServerVerifier>,
    trusted: Arc<RootCertStore>,
    names: Vec<ServerName<'static>>,
    others: Vec<AlternativeName>,
}

impl AnyNameOf {
    /// Whether the certificate is to be trusted, and is for one of the other names.
    fn verify_others(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let provider = provider();
        let algorithms = provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &self.trusted,
            intermediates,
            now,
            algorithms,
        )?;
        if self.others.iter().any(|name| name.is_in(end_entity)) {
            return Ok(ServerCertVerified::assertion());
        }
        Err(CertificateError::NotValidForName.into())
    }
}

impl ServerCertVerifier for AnyNameOf {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let mut last = Error::InvalidCertificate(CertificateError::NotValidForName);
        for name in &self.names {
            match self
                .inner
                .verify_server_cert(end_entity, intermediates, name, ocsp, now)
            {
                Ok(verified) => return Ok(verified),
                Err(error) => last = error,
            }
        }
        if !self.others.is_empty() {
            return self.verify_others(end_entity, intermediates, now);
        }
        Err(last)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Accepts every server, if its key signed the handshake: asked for explicitly only.
#[derive(Debug)]
struct AnyServer(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
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
