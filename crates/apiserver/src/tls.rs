//! The server's certificates: a CA of its own, kept in the data directory, and what it signs.
//!
//! Keys never leave the data directory but in the kubeconfig; both are readable by the owner only.

use std::fs;
use std::io::Write as _;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use crate::auth::MASTERS;
use crate::auth::token::{Key, new_key};
use crate::server::Error;

/// What clients need to connect and to be known as an administrator.
#[derive(Debug)]
pub(crate) struct Credentials {
    pub(crate) ca: String,
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// Certificates of one start.
#[derive(Debug)]
pub(crate) struct Pki {
    pub(crate) server: Arc<ServerConfig>,
    pub(crate) admin: Credentials,
    /// The CA, for certificates that are signed later.
    pub(crate) issuer: Issuer<'static, KeyPair>,
    /// A bearer token that is as good as the administrator's certificate.
    pub(crate) token: String,
}

/// Opens the key in `dir` that signs tokens of service accounts, or makes one.
pub(crate) fn account_key(dir: &Path) -> Result<Key, Error> {
    create_private_dir(dir)?;
    let pem = kept(&dir.join("service-account.key"), || Ok(new_key()?))?;
    Key::from_pem(&pem).map_err(Error::Pem)
}

/// Opens the CA in `dir`, or makes one, and signs certificates for this start.
pub(crate) fn prepare(dir: &Path, listen: IpAddr, more: &[IpAddr]) -> Result<Pki, Error> {
    create_private_dir(dir)?;
    let (ca, issuer) = authority(dir)?;
    let server = sign_server(&issuer, listen, more)?;
    let admin = sign_admin(&issuer)?;
    let config = server_config(&ca, server)?;
    let token = kept(&dir.join("token"), || {
        Ok(hex::encode(rand::random::<[u8; 32]>()))
    })?;
    let admin = Credentials {
        ca,
        certificate: admin.0,
        key: admin.1,
    };
    Ok(Pki {
        server: Arc::new(config),
        admin,
        issuer,
        token,
    })
}

fn authority(dir: &Path) -> Result<(String, Issuer<'static, KeyPair>), Error> {
    let key = kept(&dir.join("ca.key"), || {
        Ok(KeyPair::generate()?.serialize_pem())
    })?;
    let key = KeyPair::from_pem(&key)?;
    let certificate = kept(&dir.join("ca.crt"), || {
        let mut params = CertificateParams::default();
        params.distinguished_name = name("suimon-ca", None);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Ok(params.self_signed(&key)?.pem())
    })?;
    let issuer = Issuer::from_ca_cert_pem(&certificate, key)?;
    Ok((certificate, issuer))
}

fn sign_server(
    issuer: &Issuer<'static, KeyPair>,
    listen: IpAddr,
    more: &[IpAddr],
) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), Error> {
    let names = [
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    ];
    let mut params = CertificateParams::new(names.map(String::from).to_vec())?;
    params.distinguished_name = name("suimon-apiserver", None);
    let mut addresses = vec![
        IpAddr::from([127, 0, 0, 1]),
        IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]),
    ];
    for address in more.iter().chain([&listen]) {
        if !address.is_unspecified() && !addresses.contains(address) {
            addresses.push(*address);
        }
    }
    params
        .subject_alt_names
        .extend(addresses.into_iter().map(SanType::IpAddress));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, issuer)?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    Ok((certificate.der().clone(), key))
}

fn sign_admin(issuer: &Issuer<'static, KeyPair>) -> Result<(String, String), Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = name("suimon-admin", Some(MASTERS));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, issuer)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

fn name(common: &str, organization: Option<&str>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    if let Some(organization) = organization {
        name.push(DnType::OrganizationName, organization);
    }
    name
}

fn server_config(
    ca: &str,
    (certificate, key): (CertificateDer<'static>, PrivateKeyDer<'static>),
) -> Result<ServerConfig, Error> {
    use rustls::pki_types::pem::PemObject;
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_slice(ca.as_bytes())
        .map_err(|error| Error::Pem(error.to_string()))?;
    roots.add(ca)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    // Without a certificate a client may still show a token; a wrong certificate ends the handshake.
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .map_err(|error| Error::Pem(error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![certificate], key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Reads a file, or makes it readable by the owner only.
fn kept(path: &Path, make: impl FnOnce() -> Result<String, Error>) -> Result<String, Error> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let text = make()?;
            write_private(path, &text)?;
            Ok(text)
        }
        Err(source) => Err(Error::File {
            path: path.to_owned(),
            source,
        }),
    }
}

/// Makes a directory that only the owner may enter.
pub(crate) fn create_private_dir(path: &Path) -> Result<(), Error> {
    let failed = |source| Error::File {
        path: path.to_owned(),
        source,
    };
    fs::create_dir_all(path).map_err(failed)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(failed)?;
    }
    Ok(())
}

/// Writes a file that only the owner may read. The new content replaces the old at once, so a
/// reader or a crash never sees half a file.
pub(crate) fn write_private(path: &Path, text: &str) -> Result<(), Error> {
    let failed = |source| Error::File {
        path: path.to_owned(),
        source,
    };
    let temporary = path.with_extension("new");
    let _ = fs::remove_file(&temporary);
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    let mut file = options.open(&temporary).map_err(failed)?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(failed)?;
    fs::rename(&temporary, path).map_err(failed)
}
