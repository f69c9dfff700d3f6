//! The key that signs tokens: one on the curve P-256, kept in the data directory.
//!
//! Only `ES256` with this key is accepted, whatever a token's header says.

use std::fmt;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
    UnparsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::status::Status;

/// JWS name of the signature.
pub(super) const ALGORITHM: &str = "ES256";
/// Bytes of a coordinate.
const COORDINATE: usize = 32;

/// Signs and verifies.
pub(crate) struct Key {
    pair: EcdsaKeyPair,
    id: String,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// A new key as PEM.
pub(crate) fn new_key() -> Result<String, rcgen::Error> {
    Ok(rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?.serialize_pem())
}

impl Key {
    /// Reads what [`new_key`] made; an error says what is wrong with it.
    pub(crate) fn from_pem(pem: &str) -> Result<Self, String> {
        use rustls::pki_types::PrivatePkcs8KeyDer;
        use rustls::pki_types::pem::PemObject as _;
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes())
            .map_err(|error| error.to_string())?;
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.secret_pkcs8_der())
                .map_err(|error| format!("the key that signs tokens: {error}"))?;
        let id = URL_SAFE_NO_PAD.encode(Sha256::digest(pair.public_key()));
        Ok(Self { pair, id })
    }

    /// The token with these claims.
    pub(super) fn sign(&self, claims: &Value) -> Result<String, Status> {
        let header = json!({ "alg": ALGORITHM, "kid": self.id });
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let text = format!("{}.{}", encode(&header), encode(claims));
        let signature = self
            .pair
            .sign(&SystemRandom::new(), text.as_bytes())
            .map_err(|_| Status::internal("cannot sign a token"))?;
        Ok(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    /// The claims of a token that this key signed.
    pub(super) fn verify(&self, token: &str) -> Result<Value, String> {
        let malformed = || "the token is not a signed JWT".to_owned();
        let (text, signature) = token.rsplit_once('.').ok_or_else(malformed)?;
        let (header, claims) = text.split_once('.').ok_or_else(malformed)?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| malformed());
        let parse = |part: &str| -> Result<Value, String> {
            serde_json::from_slice(&decode(part)?).map_err(|_| malformed())
        };
        if parse(header)?["alg"] != ALGORITHM {
            return Err(format!("the token is not signed with {ALGORITHM}"));
        }
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.pair.public_key())
            .verify(text.as_bytes(), &decode(signature)?)
            .map_err(|_| "failed to validate token signature".to_owned())?;
        parse(claims)
    }

    /// The public half as a JSON Web Key.
    pub(super) fn public(&self) -> Value {
        // One byte that says "not compressed", then both coordinates.
        let point = self.pair.public_key().as_ref();
        let (x, y) = point[1..].split_at(COORDINATE);
        json!({
            "use": "sig",
            "kty": "EC",
            "kid": self.id,
            "crv": "P-256",
            "alg": ALGORITHM,
            "x": URL_SAFE_NO_PAD.encode(x),
            "y": URL_SAFE_NO_PAD.encode(y),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        Key::from_pem(&new_key().expect("key")).expect("readable")
    }

    #[test]
    fn a_token_is_verified_by_the_key_that_signed_it_only() {
        let (own, other) = (key(), key());
        let claims = json!({ "sub": "a" });
        let token = own.sign(&claims).expect("signed");
        assert_eq!(own.verify(&token), Ok(claims));
        assert!(other.verify(&token).is_err());
    }

    #[test]
    fn a_token_that_was_changed_or_has_another_algorithm_is_refused() {
        let own = key();
        let token = own.sign(&json!({ "sub": "a" })).expect("signed");
        let parts: Vec<&str> = token.split('.').collect();
        let encode = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let forged = [
            format!(
                "{}.{}.{}",
                parts[0],
                encode(json!({ "sub": "b" })),
                parts[2]
            ),
            format!("{}.{}.", encode(json!({ "alg": "none" })), parts[1]),
            format!(
                "{}.{}.{}",
                encode(json!({ "alg": "HS256" })),
                parts[1],
                parts[2]
            ),
            String::new(),
            "..".into(),
            "a.b.c".into(),
            token[..token.len() - 2].into(),
        ];
        for token in forged {
            assert!(own.verify(&token).is_err(), "{token}");
        }
    }
}
