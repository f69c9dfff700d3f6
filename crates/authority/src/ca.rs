//! A certificate authority of this machine's own: made once, kept on disk, signs what it is asked.
//!
//! The CA is valid for ten years, what it signs for 90 days: browsers refuse long-lived
//! certificates, and both the controller and the gateway make new ones in time.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, date_time_ymd,
};
use x509_parser::pem::parse_x509_pem;

const DAY: u64 = 24 * 60 * 60;
const CA_LIFETIME: Duration = Duration::from_secs(3650 * DAY);
const LIFETIME: Duration = Duration::from_secs(90 * DAY);
/// Clocks differ: what is new must not be from the future for anybody.
const BACKDATED: Duration = Duration::from_secs(3600);
/// Longest common name (RFC 5280, `ub-common-name`); names are in the extension anyway.
const LONGEST_COMMON_NAME: usize = 64;

/// Why there is no authority, or no certificate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{path}: {source}", path = path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{path} {why}; move it away with its key, and another CA is made", path = path.display())]
    Unusable { path: PathBuf, why: String },
    #[error("cannot issue a certificate: {0}")]
    Issue(#[from] rcgen::Error),
}

/// The authority, ready to sign.
#[derive(Debug)]
pub struct Authority {
    file: PathBuf,
    certificate: String,
    /// Its name as certificates carry it (DER).
    subject: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate with its key.
#[derive(Debug)]
pub struct Issued {
    certificate: Certificate,
    key: KeyPair,
    pub not_after: Timestamp,
}

impl Issued {
    /// The certificate in PEM form. The authority that signed it is not in the chain: who trusts
    /// it has it.
    pub fn certificate_pem(&self) -> String {
        self.certificate.pem()
    }

    /// The certificate in DER form.
    pub fn certificate_der(&self) -> &[u8] {
        self.certificate.der()
    }

    /// The private key in PEM form.
    pub fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// The private key in DER form (PKCS #8).
    pub fn key_der(&self) -> Vec<u8> {
        self.key.serialize_der()
    }
}

impl Authority {
    /// Opens the authority in `dir` (`ca.crt`, `ca.key`), or makes one.
    ///
    /// # Errors
    /// [`Error::Unusable`] if what is there is broken, not a pair, or has expired.
    pub fn open(dir: &Path, now: Timestamp) -> Result<Self, Error> {
        create_private_dir(dir)?;
        let (file, key_file) = (dir.join("ca.crt"), dir.join("ca.key"));
        let key = kept(
            &key_file,
            0o600,
            || Ok(KeyPair::generate()?.serialize_pem()),
        )?;
        let key = KeyPair::from_pem(&key).map_err(|error| Error::Unusable {
            path: key_file,
            why: format!("holds no private key ({error})"),
        })?;
        let certificate = kept(&file, 0o644, || {
            Ok(ca_params(&key, now).self_signed(&key)?.pem())
        })?;
        let subject = check(&certificate, &key, now).map_err(|why| Error::Unusable {
            path: file.clone(),
            why,
        })?;
        let issuer = Issuer::from_ca_cert_pem(&certificate, key)?;
        Ok(Self {
            file,
            certificate,
            subject,
            issuer,
        })
    }

    /// The file with its certificate, for those who want to trust it.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Its certificate in PEM form.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate
    }

    pub(crate) fn subject(&self) -> &[u8] {
        &self.subject
    }

    /// A new key and a certificate of it for these names (wildcards and addresses too).
    ///
    /// # Errors
    /// If a name cannot stand in a certificate.
    pub fn issue(&self, names: &[String], now: Timestamp) -> Result<Issued, Error> {
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = DistinguishedName::new();
        let common = names.iter().find(|name| name.len() <= LONGEST_COMMON_NAME);
        let common = common.map_or("suimon", String::as_str);
        params.distinguished_name.push(DnType::CommonName, common);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let not_after = valid(&mut params, now, LIFETIME);
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Issued {
            certificate,
            key,
            not_after,
        })
    }
}

fn ca_params(key: &KeyPair, now: Timestamp) -> CertificateParams {
    let mut params = CertificateParams::default();
    // Several machines' authorities may be in one browser.
    let public = key.public_key_raw();
    let mark = hex::encode(&public[public.len().saturating_sub(4)..]);
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, format!("Suimon local CA {mark}"));
    params.distinguished_name = name;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    valid(&mut params, now, CA_LIFETIME);
    params
}

/// Sets the time of validity. Returns its end.
fn valid(params: &mut CertificateParams, now: Timestamp, lifetime: Duration) -> Timestamp {
    let second = Duration::from_secs(u64::try_from(now.as_second()).unwrap_or_default());
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + second.saturating_sub(BACKDATED);
    params.not_after = epoch + second + lifetime;
    let end = (second + lifetime).as_secs();
    let end = i64::try_from(end)
        .ok()
        .and_then(|end| Timestamp::from_second(end).ok());
    end.unwrap_or(Timestamp::MAX)
}

/// The subject of a CA's certificate, if it belongs to the key and is valid.
fn check(certificate: &str, key: &KeyPair, now: Timestamp) -> Result<Vec<u8>, String> {
    let (_, pem) = parse_x509_pem(certificate.as_bytes())
        .map_err(|error| format!("holds no certificate ({error})"))?;
    let parsed = pem
        .parse_x509()
        .map_err(|error| format!("holds no certificate ({error})"))?;
    if parsed.public_key().raw != key.subject_public_key_info() {
        return Err("does not belong to ca.key".to_owned());
    }
    if !parsed.is_ca() {
        return Err("is not a CA's certificate".to_owned());
    }
    if parsed.validity().not_after.timestamp() <= now.as_second() {
        return Err("has expired".to_owned());
    }
    Ok(parsed.subject().as_raw().to_vec())
}

/// Reads a file, or makes it.
fn kept(
    path: &Path,
    mode: u32,
    make: impl FnOnce() -> Result<String, Error>,
) -> Result<String, Error> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let text = make()?;
            write(path, &text, mode).map_err(|source| Error::File {
                path: path.to_owned(),
                source,
            })?;
            Ok(text)
        }
        Err(source) => Err(Error::File {
            path: path.to_owned(),
            source,
        }),
    }
}

fn create_private_dir(path: &Path) -> Result<(), Error> {
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

/// Writes a whole file at once: a crash never leaves half of one.
fn write(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let _ = fs::remove_file(&temporary);
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(mode);
    }
    #[cfg(not(unix))]
    let _ = mode;
    let mut file = options.open(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().expect("a time")
    }

    #[test]
    fn the_authority_is_made_once_and_kept() {
        let dir = tempfile::tempdir().expect("a directory");
        let first = Authority::open(dir.path(), now()).expect("made");
        let second = Authority::open(dir.path(), now()).expect("kept");
        assert_eq!(first.certificate_pem(), second.certificate_pem());
        assert_eq!(first.subject(), second.subject());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = |name: &str| {
                let metadata = fs::metadata(dir.path().join(name)).expect("a file");
                metadata.permissions().mode() & 0o777
            };
            assert_eq!(mode("ca.key"), 0o600);
        }
    }

    #[test]
    fn what_is_issued_names_its_hosts_and_its_issuer_and_ends() {
        let dir = tempfile::tempdir().expect("a directory");
        let authority = Authority::open(dir.path(), now()).expect("made");
        let names = ["a.example".to_owned(), "*.b.example".to_owned()];
        let issued = authority.issue(&names, now()).expect("issued");
        let (_, parsed) =
            x509_parser::parse_x509_certificate(issued.certificate_der()).expect("X.509");
        assert_eq!(parsed.issuer().as_raw(), authority.subject());
        assert!(!parsed.is_ca());
        let end = parsed.validity().not_after.timestamp();
        assert_eq!(end, issued.not_after.as_second());
        assert_eq!(end - now().as_second(), 90 * 24 * 3600);
    }

    #[test]
    fn a_certificate_without_its_key_is_refused_with_its_file() {
        let dir = tempfile::tempdir().expect("a directory");
        Authority::open(dir.path(), now()).expect("made");
        fs::remove_file(dir.path().join("ca.key")).expect("removed");
        let error = Authority::open(dir.path(), now()).expect_err("another key");
        let text = error.to_string();
        assert!(text.contains("ca.crt does not belong to ca.key"), "{text}");
    }

    #[test]
    fn an_authority_that_has_expired_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        Authority::open(dir.path(), now()).expect("made");
        let later = "2036-01-01T00:00:00Z".parse().expect("a time");
        let error = Authority::open(dir.path(), later).expect_err("expired");
        assert!(error.to_string().contains("has expired"), "{error}");
    }
}
