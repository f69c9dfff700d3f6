//! Sets of JSON Web Keys, and the tokens that they have signed.
//!
//! A key is for the algorithms of its kind, and for one alone if it says so: what a token's header
//! says only chooses among them.

use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey};
use aws_lc_rs::{digest, hmac};
use policy::Keyed;
use serde_json::Value;

use super::{Denied, Verified, decode};

/// Keys of a set that are read; a longer set is cut.
const MOST_KEYS: usize = 100;
/// Verified tokens that are remembered by their digest.
const MOST_KNOWN: usize = 10_000;
/// Those that are remembered with what they say, if they are no longer than this.
const MOST_READ: usize = 256;
const LONGEST_READ: usize = 4 << 10;

/// A token in its parts, not verified.
pub(in crate::guard) struct Signed<'t> {
    algorithm: Algorithm,
    key: Option<String>,
    pub(super) claims: Value,
    text: &'t str,
    signature: Vec<u8>,
}

impl<'t> Signed<'t> {
    /// Takes a token apart.
    pub(super) fn parse(token: &'t str) -> Result<Self, Denied> {
        let (text, signature) = token.rsplit_once('.').ok_or(Denied::Form)?;
        let (header, claims) = text.split_once('.').ok_or(Denied::Form)?;
        if claims.contains('.') {
            return Err(Denied::Form);
        }
        let object = |part: &str| {
            let value: Value = serde_json::from_slice(&decode(part)?).map_err(|_| Denied::Form)?;
            if value.is_object() {
                Ok(value)
            } else {
                Err(Denied::Form)
            }
        };
        let header = object(header)?;
        // What the header calls critical and we do not know must not be ignored (RFC 7515 §4.1.11).
        if header.get("crit").is_some() {
            return Err(Denied::Form);
        }
        let algorithm = header.get("alg").and_then(Value::as_str);
        let algorithm = algorithm.and_then(Algorithm::of).ok_or(Denied::Algorithm)?;
        Ok(Self {
            algorithm,
            key: header.get("kid").and_then(Value::as_str).map(str::to_owned),
            claims: object(claims)?,
            text,
            signature: decode(signature)?,
        })
    }
}

/// Of all of a token: no two tokens have the same.
pub(super) type Digest = [u8; 32];

pub(super) fn digest(token: &str) -> Digest {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
    out
}

/// Algorithms that we verify. `none` is none of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Algorithm {
    Rs(Size),
    Ps(Size),
    Es(Size),
    Ed,
    Hs(Size),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Size {
    S256,
    S384,
    S512,
}

impl Algorithm {
    fn of(name: &str) -> Option<Self> {
        if name == "EdDSA" {
            return Some(Self::Ed);
        }
        let size = match name.get(2..)? {
            "256" => Size::S256,
            "384" => Size::S384,
            "512" => Size::S512,
            _ => return None,
        };
        match &name[..2] {
            "RS" => Some(Self::Rs(size)),
            "PS" => Some(Self::Ps(size)),
            "ES" => Some(Self::Es(size)),
            "HS" => Some(Self::Hs(size)),
            _ => None,
        }
    }
}

/// The keys of one source.
#[derive(Debug)]
pub(in crate::guard) struct KeySet {
    keys: Vec<Key>,
    /// Digests of tokens that these keys have verified: a signature costs more than all else.
    known: Mutex<Keyed<Digest, ()>>,
    /// What some of them say: reading it costs more than the rest that is left then.
    read: Mutex<Keyed<Digest, Arc<Verified>>>,
}

#[derive(Debug)]
struct Key {
    id: Option<String>,
    /// The only one that it is for, if it says so.
    algorithm: Option<Algorithm>,
    material: Material,
}

enum Material {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// An uncompressed point on the curve of this size.
    Ec(Size, Vec<u8>),
    Ed(Vec<u8>),
    Shared(Vec<u8>),
}

impl std::fmt::Debug for Material {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Rsa { .. } => "Rsa",
            Self::Ec(..) => "Ec",
            Self::Ed(_) => "Ed",
            Self::Shared(_) => "Shared",
        })
    }
}

impl KeySet {
    fn new(keys: Vec<Key>) -> Self {
        Self {
            keys,
            known: Mutex::new(Keyed::new(MOST_KNOWN)),
            read: Mutex::new(Keyed::new(MOST_READ)),
        }
    }

    /// No key at all.
    pub(super) fn empty() -> Self {
        Self::new(Vec::new())
    }

    /// Reads a set; keys that cannot be used are left out. Shared secrets count only where
    /// `is_inline`: a set that is fetched is public.
    pub(super) fn read(text: &[u8], is_inline: bool) -> Option<Self> {
        let value: Value = serde_json::from_slice(text).ok()?;
        let keys = match value.get("keys") {
            Some(keys) => keys.as_array()?.iter().take(MOST_KEYS).collect(),
            // One key alone, as some write it.
            None if value.get("kty").is_some() => vec![&value],
            None => return None,
        };
        let keys = keys.into_iter().filter_map(|key| Key::read(key, is_inline));
        Some(Self::new(keys.collect()))
    }

    /// Whether some key could be the token's.
    pub(super) fn knows(&self, signed: &Signed<'_>) -> bool {
        self.keys.iter().any(|key| key.is_for(signed))
    }

    /// Whether one of the keys has signed a token.
    pub(super) fn verify(&self, signed: &Signed<'_>, digest: &Digest) -> Result<(), Denied> {
        if self.keys.is_empty() {
            return Err(Denied::NoKeys);
        }
        let is_known = |known: &mut Keyed<_, _>| known.get(digest).is_some();
        if self.with_known(is_known) {
            return Ok(());
        }
        let mut denied = Denied::NoKey;
        for key in self.keys.iter().filter(|key| key.is_for(signed)) {
            if key.verifies(signed) {
                self.with_known(|known| *known.entry(digest, || ()));
                return Ok(());
            }
            denied = Denied::Signature;
        }
        Err(denied)
    }

    fn with_known<T>(&self, look: impl FnOnce(&mut Keyed<Digest, ()>) -> T) -> T {
        look(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What a token says that these keys have verified lately. Its claims hold or not by now.
    pub(super) fn recall(&self, digest: &Digest) -> Option<Arc<Verified>> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        read.get(digest).map(|token| Arc::clone(token))
    }

    /// Keeps what a verified token says.
    pub(super) fn keep(&self, digest: &Digest, text: &str, token: &Arc<Verified>) {
        if text.len() <= LONGEST_READ {
            let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
            read.entry(digest, || Arc::clone(token));
        }
    }
}

impl Key {
    fn read(value: &Value, is_inline: bool) -> Option<Self> {
        let text = |name: &str| value.get(name).and_then(Value::as_str);
        let bytes = |name: &str| text(name).and_then(|part| decode(part).ok());
        if text("use").is_some_and(|purpose| purpose != "sig") {
            return None;
        }
        let algorithm = match text("alg") {
            Some(name) => Some(Algorithm::of(name)?),
            None => None,
        };
        let material = match (text("kty")?, text("crv")) {
            ("RSA", _) => Material::Rsa {
                n: bytes("n")?,
                e: bytes("e")?,
            },
            ("EC", Some(curve)) => {
                let (size, width) = match curve {
                    "P-256" => (Size::S256, 32),
                    "P-384" => (Size::S384, 48),
                    "P-521" => (Size::S512, 66),
                    _ => return None,
                };
                let (x, y) = (bytes("x")?, bytes("y")?);
                if x.len() != width || y.len() != width {
                    return None;
                }
                Material::Ec(size, [&[4], &*x, &*y].concat())
            }
            ("OKP", Some("Ed25519")) => Material::Ed(bytes("x")?),
            ("oct", _) if is_inline => Material::Shared(bytes("k").filter(|key| !key.is_empty())?),
            _ => return None,
        };
        Some(Self {
            id: text("kid").map(str::to_owned),
            algorithm,
            material,
        })
    }

    fn is_for(&self, signed: &Signed<'_>) -> bool {
        let is_id = match (&self.id, &signed.key) {
            (Some(own), Some(wanted)) => own == wanted,
            _ => true,
        };
        let is_kind = match (&self.material, signed.algorithm) {
            (Material::Rsa { .. }, Algorithm::Rs(_) | Algorithm::Ps(_))
            | (Material::Ed(_), Algorithm::Ed)
            | (Material::Shared(_), Algorithm::Hs(_)) => true,
            (Material::Ec(own, _), Algorithm::Es(size)) => *own == size,
            _ => false,
        };
        is_id && is_kind && self.algorithm.is_none_or(|own| own == signed.algorithm)
    }

    fn verifies(&self, signed: &Signed<'_>) -> bool {
        let (text, signature) = (signed.text.as_bytes(), &*signed.signature);
        match (&self.material, signed.algorithm) {
            (Material::Rsa { n, e }, Algorithm::Rs(size)) => {
                let how = match size {
                    Size::S256 => &signature::RSA_PKCS1_2048_8192_SHA256,
                    Size::S384 => &signature::RSA_PKCS1_2048_8192_SHA384,
                    Size::S512 => &signature::RSA_PKCS1_2048_8192_SHA512,
                };
                RsaPublicKeyComponents { n, e }
                    .verify(how, text, signature)
                    .is_ok()
            }
            (Material::Rsa { n, e }, Algorithm::Ps(size)) => {
                let how = match size {
                    Size::S256 => &signature::RSA_PSS_2048_8192_SHA256,
                    Size::S384 => &signature::RSA_PSS_2048_8192_SHA384,
                    Size::S512 => &signature::RSA_PSS_2048_8192_SHA512,
                };
                RsaPublicKeyComponents { n, e }
                    .verify(how, text, signature)
                    .is_ok()
            }
            (Material::Ec(size, point), Algorithm::Es(_)) => {
                let how = match size {
                    Size::S256 => &signature::ECDSA_P256_SHA256_FIXED,
                    Size::S384 => &signature::ECDSA_P384_SHA384_FIXED,
                    Size::S512 => &signature::ECDSA_P521_SHA512_FIXED,
                };
                UnparsedPublicKey::new(how, point)
                    .verify(text, signature)
                    .is_ok()
            }
            (Material::Ed(key), Algorithm::Ed) => {
                let key = UnparsedPublicKey::new(&signature::ED25519, key);
                key.verify(text, signature).is_ok()
            }
            (Material::Shared(key), Algorithm::Hs(size)) => {
                let how = match size {
                    Size::S256 => hmac::HMAC_SHA256,
                    Size::S384 => hmac::HMAC_SHA384,
                    Size::S512 => hmac::HMAC_SHA512,
                };
                hmac::verify(&hmac::Key::new(how, key), text, signature).is_ok()
            }
            _ => false,
        }
    }
}
