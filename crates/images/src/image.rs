//! What an image is: a digest, a configuration and either a program or layers.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Content address: `sha256:` and 64 lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

impl Digest {
    /// Parses `sha256:<64 hex digits>`; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let hex = text.strip_prefix("sha256:")?;
        let valid = hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        valid.then(|| Self(text.to_owned()))
    }

    /// The digest of these 32 bytes.
    pub fn of_sha256(bytes: &[u8]) -> Self {
        Self(format!("sha256:{}", hex::encode(bytes)))
    }

    /// The hexadecimal digits.
    pub fn hex(&self) -> &str {
        self.0.strip_prefix("sha256:").unwrap_or(&self.0)
    }

    /// `sha256:…`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Digest {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| format!("{text:?} is not a sha256 digest"))
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How the image wants to be run: the `config` object of the OCI image specification. Empty
/// means that the image does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Config {
    /// The program and its leading arguments. For a program image: its path in the image.
    pub entrypoint: Vec<String>,
    /// Arguments after the entry point, or the whole command if there is none.
    pub cmd: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// `user`, `uid`, `user:group` or `uid:gid`.
    pub user: String,
    /// Absolute path in the image.
    pub working_dir: String,
    /// A signal's name or number; SIGTERM if empty.
    pub stop_signal: String,
}

/// Who pulls an image.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum Credentials {
    /// Nobody in particular.
    #[default]
    Anonymous,
    /// A user of the registry.
    Basic { user: String, password: String },
}

impl fmt::Debug for Credentials {
    /// Never prints the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("Anonymous"),
            Self::Basic { user, .. } => f
                .debug_struct("Basic")
                .field("user", user)
                .finish_non_exhaustive(),
        }
    }
}

/// An image that is complete on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// What the name stood for when it was resolved.
    pub digest: Digest,
    pub config: Config,
    /// Unpacked layers, lowest first. Empty for a program.
    pub layers: Vec<PathBuf>,
    /// The executable file of a program image, on this machine.
    pub program: Option<PathBuf>,
}

/// One line of `suimon image list`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Listed {
    /// Repository with registry, for example `docker.io/library/hello`.
    pub repository: String,
    /// `None` once the tag has moved to a newer image; the digest still resolves.
    pub tag: Option<String>,
    pub digest: Digest,
    /// Bytes on disk.
    pub size_bytes: u64,
    /// When it was added; `None` for what comes with the installation.
    pub added: Option<jiff::Timestamp>,
}
