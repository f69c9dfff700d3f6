//! Secrets that an object names: certificates, authorities and key sets, its own or delegated.

use std::sync::Arc;

use routing::model::tls::{CaBundle, Certificate};

use super::delegation;
use crate::objects::{Name, Reader};
use crate::shared::authorities;

/// Why a Secret cannot be used.
pub(super) enum Refusal {
    NotDelegated,
    Invalid(String),
}

impl Refusal {
    fn invalid(text: impl Into<String>) -> Self {
        Self::Invalid(text.into())
    }
}

/// `name` or `namespace/name`, as fields of this dialect are written.
pub(super) fn name(text: &str, namespace: &str) -> Name {
    match text.split_once('/') {
        Some((of, name)) => Name::new(of, name),
        None => Name::new(namespace, text),
    }
}

/// A certificate with its key.
pub(super) fn certificate(
    reader: &Reader<'_>,
    secret: &Name,
    namespace: &str,
) -> Result<Arc<Certificate>, Refusal> {
    if !delegation::permits(reader, secret, namespace) {
        return Err(Refusal::NotDelegated);
    }
    match reader.certificate(secret) {
        Some(Ok(certificate)) => Ok(Arc::clone(certificate)),
        Some(Err(why)) => Err(Refusal::invalid(&**why)),
        None => Err(Refusal::invalid("Secret not found")),
    }
}

/// The authorities under `ca.crt`.
pub(super) fn authorities(
    reader: &Reader<'_>,
    secret: &Name,
    namespace: &str,
) -> Result<Arc<CaBundle>, Refusal> {
    if !delegation::permits(reader, secret, namespace) {
        return Err(Refusal::NotDelegated);
    }
    let data = reader.secret(secret).map(|data| data.get("ca.crt"));
    match data {
        Some(Some(pem)) => authorities::bundle(&secret.to_string(), pem).map_err(Refusal::Invalid),
        Some(None) => Err(Refusal::invalid("empty \"ca.crt\" key")),
        None => Err(Refusal::invalid("Secret not found")),
    }
}

/// A set of keys under a name of its own, always of the object's namespace.
pub(super) fn key_set(reader: &Reader<'_>, secret: &Name, key: &str) -> Result<Arc<str>, String> {
    let data = reader.secret(secret).ok_or("Secret not found")?;
    let bytes = data.get(key).filter(|bytes| !bytes.is_empty());
    let bytes = bytes.ok_or_else(|| format!("missing {key:?} key or empty value"))?;
    let text = std::str::from_utf8(bytes).map_err(|_| "not valid JSON".to_owned())?;
    let json: serde_json::Value =
        serde_json::from_str(text).map_err(|_| "not valid JSON".to_owned())?;
    if !json["keys"].is_array() {
        return Err("JWKS must contain a \"keys\" array".to_owned());
    }
    Ok(text.into())
}

/// Whether a Secret holds something that can be delegated.
pub(super) fn holds_any(reader: &Reader<'_>, secret: &Name) -> Result<(), String> {
    if let Some(Ok(_)) = reader.certificate(secret) {
        return Ok(());
    }
    let data = reader.secret(secret).ok_or("Secret not found")?;
    let known = ["tls.crt", "ca.crt", "crl.pem"];
    let holds = known.iter().any(|key| data.contains_key(*key));
    holds
        .then_some(())
        .ok_or_else(|| "it holds neither tls.crt nor ca.crt nor crl.pem".to_owned())
}
