//! What one Certificate needs, decided without I/O but for the signing.
//!
//! Its Secret is made anew when it does not hold what the Certificate asks for, when another
//! authority signed it, and when a third of its lifetime is left.

use std::collections::BTreeSet;
use std::time::Duration;

use api::condition::{Conditions, READY};
use api::names::annotation;
use api::networking::v1alpha1::{Certificate, CertificateStatus};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use reconcile::controller_of;
use x509_parser::extensions::GeneralName;
use x509_parser::pem::parse_x509_pem;

use crate::{Authority, Error};

pub(crate) const CRT: &str = "tls.crt";
pub(crate) const KEY: &str = "tls.key";
const CA: &str = "ca.crt";
/// A certificate for more names than this is refused: its handshakes would be too large.
const MAX_NAMES: usize = 100;
/// A new certificate is made when less than this is left, and at the latest looked at then.
const RENEW: Duration = Duration::from_secs(30 * 24 * 3600);

/// What to do about one Certificate.
#[derive(Debug)]
pub(crate) struct Plan {
    /// To create, or to write over the one that is there.
    pub(crate) secret: Option<Secret>,
    pub(crate) status: CertificateStatus,
    /// When it must be looked at again.
    pub(crate) again: Option<Duration>,
}

/// Whether this controller answers for a Certificate: its class says so.
pub(crate) fn is_ours(certificate: &Certificate) -> bool {
    class(certificate) == Some(api::names::CERTIFICATE_CLASS)
}

/// Whether a public authority is to sign it.
pub(crate) fn is_acme(certificate: &Certificate) -> bool {
    class(certificate).is_some_and(|class| api::names::ACME_CERTIFICATE_CLASSES.contains(&class))
}

fn class(certificate: &Certificate) -> Option<&str> {
    let annotations = certificate.annotations();
    let mut keys = annotation::CERTIFICATE_CLASSES.iter();
    keys.find_map(|key| annotations.get(*key))
        .map(String::as_str)
}

/// Decides. `secret` is the one that the Certificate names, if there is one.
///
/// # Errors
/// If signing fails although the names were found to be good.
pub(crate) fn plan(
    certificate: &Certificate,
    secret: Option<&Secret>,
    authority: &Authority,
    now: &Time,
) -> Result<Plan, Error> {
    let mut status = certificate.status.clone().unwrap_or_default();
    let stored = std::mem::take(&mut status.conditions);
    let mut conditions = Conditions::new(&stored, &[], now.clone());
    let mut plan = Plan {
        secret: None,
        status,
        again: None,
    };
    match decide(certificate, secret, authority, now.0) {
        Err(Refusal::Cannot(error)) => return Err(error),
        Err(Refusal::Told(reason, message)) => {
            plan.status.not_after = None;
            conditions.mark_false(READY, reason, &message);
        }
        Ok(Decision { not_after, write }) => {
            plan.secret = write;
            plan.again = Some(until_renewal(not_after, now.0));
            plan.status.not_after = Some(Time(not_after));
            conditions.mark_true(READY);
        }
    }
    plan.status.observed_generation = certificate.metadata.generation;
    plan.status.http01_challenges.clear();
    plan.status.conditions = conditions.into_vec();
    Ok(plan)
}

struct Decision {
    not_after: Timestamp,
    write: Option<Secret>,
}

enum Refusal {
    /// Reason and message of the condition.
    Told(&'static str, String),
    Cannot(Error),
}

fn decide(
    certificate: &Certificate,
    secret: Option<&Secret>,
    authority: &Authority,
    now: Timestamp,
) -> Result<Decision, Refusal> {
    let spec = &certificate.spec;
    let names = names(&spec.dns_names).map_err(|why| Refusal::Told("InvalidDNSNames", why))?;
    let told = |(reason, why)| Refusal::Told(reason, why);
    if is_own(certificate, secret).map_err(told)?
        && let Some(not_after) = secret.and_then(|secret| of_authority(secret, &names, authority))
        && until_renewal(not_after, now) > Duration::ZERO
    {
        return Ok(Decision {
            not_after,
            write: None,
        });
    }
    let list: Vec<String> = names.into_iter().collect();
    let issued = authority.issue(&list, now).map_err(Refusal::Cannot)?;
    let mut written = secret_for(certificate, secret);
    let entries = [
        (CRT, issued.certificate_pem()),
        (KEY, issued.key_pem()),
        (CA, authority.certificate_pem().to_owned()),
    ];
    let entries = entries.map(|(key, text)| (key.to_owned(), ByteString(text.into_bytes())));
    written.data = Some(entries.into());
    Ok(Decision {
        not_after: issued.not_after,
        write: Some(written),
    })
}

/// Whether the Secret that a Certificate names is its own, and not that of one before it of the
/// same name. `false` as well if there is none.
///
/// # Errors
/// Reason and message if it must not be written.
pub(crate) fn is_own(
    certificate: &Certificate,
    secret: Option<&Secret>,
) -> Result<bool, (&'static str, String)> {
    let name = &certificate.spec.secret_name;
    if name.is_empty() {
        let why = "spec.secretName is empty; name the Secret to write".to_owned();
        return Err(("SecretNameMissing", why));
    }
    let Some(secret) = secret else {
        return Ok(false);
    };
    let owner = controller_of::<Certificate>(secret);
    if owner.is_none_or(|owner| owner.name != certificate.name_any()) {
        let why = format!(
            "Secret {name} exists and is not this Certificate's; delete it or name another"
        );
        return Err(("SecretNotOwned", why));
    }
    Ok(owner.is_some_and(|owner| Some(&owner.uid) == certificate.uid().as_ref()))
}

/// The Secret that a Certificate names, as its own, without new data.
pub(crate) fn secret_for(certificate: &Certificate, secret: Option<&Secret>) -> Secret {
    let mut written = secret.cloned().unwrap_or_default();
    written.metadata.name = Some(certificate.spec.secret_name.clone());
    written.metadata.namespace = certificate.namespace();
    written.metadata.owner_references = Some(vec![reconcile::write::owner_reference(certificate)]);
    written.type_ = Some("kubernetes.io/tls".to_owned());
    written
}

/// The distinct names, if each can stand in a certificate.
pub(crate) fn names(given: &[String]) -> Result<BTreeSet<String>, String> {
    let names: BTreeSet<String> = given.iter().map(|name| name.to_ascii_lowercase()).collect();
    if names.is_empty() {
        return Err("spec.dnsNames is empty; name the hosts".to_owned());
    }
    if names.len() > MAX_NAMES {
        return Err(format!("spec.dnsNames holds more than {MAX_NAMES} names"));
    }
    match names.iter().find(|name| !is_host(name)) {
        Some(name) => Err(format!("spec.dnsNames: {name:?} is not a host name")),
        None => Ok(names),
    }
}

/// A host name, perhaps with a wildcard for its first label.
fn is_host(name: &str) -> bool {
    let name = name.strip_prefix("*.").unwrap_or(name);
    let is_label = |label: &str| {
        let is_good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(is_good)
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

/// What is in a Secret.
#[derive(Debug, PartialEq)]
pub(crate) struct Held {
    pub(crate) names: BTreeSet<String>,
    pub(crate) not_before: Timestamp,
    pub(crate) not_after: Timestamp,
    /// The name of who signed it (DER).
    issuer: Vec<u8>,
}

/// The certificate in a Secret that has a key, if its names are all of hosts.
pub(crate) fn held(secret: &Secret) -> Option<Held> {
    let data = secret.data.as_ref()?;
    data.get(KEY).filter(|key| !key.0.is_empty())?;
    let (_, pem) = parse_x509_pem(&data.get(CRT)?.0).ok()?;
    let parsed = pem.parse_x509().ok()?;
    let alternative = parsed.subject_alternative_name().ok()??;
    let names = alternative.value.general_names.iter();
    let names = names.map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    });
    let validity = parsed.validity();
    Some(Held {
        names: names.collect::<Option<_>>()?,
        not_before: Timestamp::from_second(validity.not_before.timestamp()).ok()?,
        not_after: Timestamp::from_second(validity.not_after.timestamp()).ok()?,
        issuer: parsed.issuer().as_raw().to_vec(),
    })
}

/// When the certificate in a Secret ends, if it is this authority's and for exactly these names.
fn of_authority(
    secret: &Secret,
    names: &BTreeSet<String>,
    authority: &Authority,
) -> Option<Timestamp> {
    let ca = secret.data.as_ref()?.get(CA)?;
    let held = held(secret)?;
    let is_ours = ca.0 == authority.certificate_pem().as_bytes()
        && held.issuer == authority.subject()
        && held.names == *names;
    is_ours.then_some(held.not_after)
}

fn until_renewal(not_after: Timestamp, now: Timestamp) -> Duration {
    let left = u64::try_from(not_after.as_second().saturating_sub(now.as_second()));
    Duration::from_secs(left.unwrap_or_default()).saturating_sub(RENEW)
}

#[cfg(test)]
mod tests;
