//! Certificates of public authorities by ACME (RFC 8555): an account, orders, challenges.
//!
//! The account's key is kept in the data directory and is made when the first certificate is
//! asked for. Which names may be ordered is up to the caller; the authority checks that they
//! lead here, by asking the gateway.

mod controller;
mod plan;
mod problem;

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, ChallengeHandle, ChallengeType, Identifier,
    NewAccount, NewOrder, Order, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use sha2::{Digest as _, Sha256};
use tokio::sync::OnceCell;

use self::problem::{again, refusal};

pub use controller::start;

/// How long an authority may take to look at the challenges, and then to sign.
const POLL: RetryPolicy = RetryPolicy::new()
    .initial_delay(Duration::from_millis(500))
    .timeout(Duration::from_secs(90));

/// How an authority is shown that a name leads here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// A file below `/.well-known/acme-challenge/` on port 80 (RFC 8555 §8.3).
    Http01,
    /// A certificate on port 443 (RFC 8737).
    TlsAlpn01,
}

impl Challenge {
    fn name(self) -> &'static str {
        match self {
            Self::Http01 => "http-01",
            Self::TlsAlpn01 => "tls-alpn-01",
        }
    }

    /// Where an authority looks, whatever the gateway listens on.
    fn port(self) -> u16 {
        match self {
            Self::Http01 => 80,
            Self::TlsAlpn01 => 443,
        }
    }
}

/// Which authority is asked, and as whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// URL of its directory.
    pub directory: String,
    /// Where it may write to about certificates that end.
    pub email: Option<String>,
    pub challenge: Challenge,
    /// A file with the authority (PEM) that the directory's own certificate is verified by;
    /// `None` for those that the machine trusts.
    pub trust: Option<PathBuf>,
    /// Where the account's key is kept.
    pub dir: PathBuf,
}

/// Answers an authority's questions: the gateway.
pub trait Answers: Debug + Send + Sync {
    /// Answers with `text` at the path of `token`, or no more.
    fn http(&self, token: &str, text: Option<&str>);
    /// Shows this certificate to who asks for `acme-tls/1` of the host, or no more.
    fn tls(&self, host: &str, certificate: Option<SelfSigned>);
}

/// A certificate that proves something by what is written in it.
#[derive(Clone, Debug)]
pub struct SelfSigned {
    pub certificate_der: Vec<u8>,
    /// PKCS #8.
    pub key_der: Vec<u8>,
}

/// What an order came to.
#[derive(Debug)]
pub(crate) struct Signed {
    /// The certificate and those between it and the authority (PEM).
    pub(crate) chain: String,
    pub(crate) key: String,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OrderError {
    #[error("{}", with_causes(.0))]
    Acme(#[from] instant_acme::Error),
    #[error("cannot keep the account in {path}: {source}", path = path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{path} holds no account of ACME ({why}); move it away, and another one is made", path = path.display())]
    Account { path: PathBuf, why: String },
    #[error("the authority offers no {0} for {1}")]
    NoChallenge(&'static str, String),
    #[error("{0}")]
    Refused(String),
    #[error("cannot make the certificate of a challenge: {0}")]
    SelfSigned(#[from] rcgen::Error),
    #[error("the authority took longer than {0:?}")]
    Slow(Duration),
}

/// An error with what led to it: the library's own text of a failed connection says no more than
/// that.
fn with_causes(error: &instant_acme::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    if let instant_acme::Error::Other(other) = error {
        cause = other.source();
    }
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// A client of one authority.
#[derive(Debug)]
pub(crate) struct Acme {
    settings: Settings,
    answers: Arc<dyn Answers>,
    account: OnceCell<AccountHandle>,
}

/// Debug without the key.
struct AccountHandle(Account);

impl Debug for AccountHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AccountHandle")
    }
}

impl Acme {
    pub(crate) fn new(settings: Settings, answers: Arc<dyn Answers>) -> Self {
        Self {
            settings,
            answers,
            account: OnceCell::new(),
        }
    }

    pub(crate) fn directory(&self) -> &str {
        &self.settings.directory
    }

    /// Orders a certificate for these names.
    pub(crate) async fn order(&self, names: &BTreeSet<String>) -> Result<Signed, OrderError> {
        let account = self.account.get_or_try_init(|| self.open_account()).await?;
        let names: Vec<_> = names.iter().cloned().map(Identifier::Dns).collect();
        let wanted = NewOrder::new(&names);
        let mut order = again!(account.0.new_order(&wanted).await)?;
        let mut given = Given {
            answers: &*self.answers,
            http: Vec::new(),
            tls: Vec::new(),
        };
        self.answer(&mut order, &mut given).await?;
        let ready = again!(order.poll_ready(&POLL).await);
        match (ready, order.state().status) {
            (Ok(OrderStatus::Ready | OrderStatus::Valid), _) => {}
            // Some authorities say so of the order as well, without the name of the host.
            (Ok(_), _) | (Err(_), OrderStatus::Invalid) => {
                let why = refusal(&mut order, self.settings.challenge).await;
                return Err(OrderError::Refused(why));
            }
            (Err(error), _) => return Err(error.into()),
        }
        drop(given);
        let key = again!(order.finalize().await)?;
        let chain = again!(order.poll_certificate(&POLL).await)?;
        Ok(Signed { chain, key })
    }

    /// Prepares every answer, and tells the authority to look.
    async fn answer(&self, order: &mut Order, given: &mut Given<'_>) -> Result<(), OrderError> {
        // What has been fetched is kept, so nothing below asks for it once more.
        again!(fetched(order).await)?;
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization?;
            // It has looked not long ago.
            if authorization.status == AuthorizationStatus::Valid {
                continue;
            }
            let host = authorization.identifier().to_string();
            let kind = match self.settings.challenge {
                Challenge::Http01 => ChallengeType::Http01,
                Challenge::TlsAlpn01 => ChallengeType::TlsAlpn01,
            };
            let name = self.settings.challenge.name();
            let mut challenge = authorization
                .challenge(kind)
                .ok_or_else(|| OrderError::NoChallenge(name, host.clone()))?;
            match self.settings.challenge {
                Challenge::Http01 => given.http(&challenge),
                Challenge::TlsAlpn01 => given.tls(host, &challenge)?,
            }
            again!(challenge.set_ready().await)?;
        }
        Ok(())
    }

    async fn open_account(&self) -> Result<AccountHandle, OrderError> {
        let path = self.account_file();
        let builder = || match &self.settings.trust {
            Some(root) => Account::builder_with_root(root),
            None => Account::builder(),
        };
        let kept = match fs::read_to_string(&path) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(source) => return Err(OrderError::File { path, source }),
        };
        if let Some(text) = kept {
            let credentials: AccountCredentials =
                serde_json::from_str(&text).map_err(|error| OrderError::Account {
                    path,
                    why: error.to_string(),
                })?;
            let account = builder()?.from_credentials(credentials).await?;
            return Ok(AccountHandle(account));
        }
        let contact = self.settings.email.as_ref();
        let contact = contact.map(|email| format!("mailto:{email}"));
        let contact: Vec<_> = contact.iter().map(String::as_str).collect();
        let wanted = NewAccount {
            contact: &contact,
            // The settings say so, or there would be none of them.
            terms_of_service_agreed: true,
            only_return_existing: false,
        };
        let directory = &self.settings.directory;
        let (account, credentials) =
            again!(builder()?.create(&wanted, directory.clone(), None).await)?;
        let text = serde_json::to_string(&credentials).map_err(instant_acme::Error::from)?;
        keep(&self.settings.dir, &path, &text).map_err(|source| OrderError::File {
            path: path.clone(),
            source,
        })?;
        tracing::info!(
            directory = self.settings.directory,
            id = account.id(),
            "ACME account made"
        );
        Ok(AccountHandle(account))
    }

    /// One per authority.
    fn account_file(&self) -> PathBuf {
        let digest = hex::encode(Sha256::digest(&self.settings.directory));
        self.settings
            .dir
            .join(format!("account-{}.json", &digest[..16]))
    }
}

/// Written whole or not at all, readable by nobody else.
fn keep(dir: &Path, path: &Path, text: &str) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let new = path.with_extension("new");
    let mut options = fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)
}

/// Fetches what there is to be shown.
async fn fetched(order: &mut Order) -> Result<(), instant_acme::Error> {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        authorization?;
    }
    Ok(())
}

/// Answers that are given, until this is dropped.
struct Given<'a> {
    answers: &'a dyn Answers,
    http: Vec<String>,
    tls: Vec<String>,
}

impl Given<'_> {
    fn http(&mut self, challenge: &ChallengeHandle<'_>) {
        let text = challenge.key_authorization();
        self.answers.http(&challenge.token, Some(text.as_str()));
        self.http.push(challenge.token.clone());
    }

    fn tls(&mut self, host: String, challenge: &ChallengeHandle<'_>) -> Result<(), rcgen::Error> {
        let digest = challenge.key_authorization().digest();
        let certificate = proof(&host, digest.as_ref())?;
        self.answers.tls(&host, Some(certificate));
        self.tls.push(host);
        Ok(())
    }
}

impl Drop for Given<'_> {
    fn drop(&mut self) {
        for token in &self.http {
            self.answers.http(token, None);
        }
        for host in &self.tls {
            self.answers.tls(host, None);
        }
    }
}

/// RFC 8737 §3: the name, and the digest of the key authorization in an extension.
fn proof(host: &str, digest: &[u8]) -> Result<SelfSigned, rcgen::Error> {
    let mut params = CertificateParams::new([host.to_owned()])?;
    params.distinguished_name = DistinguishedName::new();
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok(SelfSigned {
        certificate_der: certificate.der().to_vec(),
        key_der: key.serialize_der(),
    })
}
