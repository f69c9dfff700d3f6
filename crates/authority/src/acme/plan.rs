//! What one Certificate of ACME's class needs, decided without I/O.

use std::collections::BTreeSet;
use std::time::Duration;

use api::networking::v1alpha1::Certificate;
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;

use super::Signed;
use crate::plan::{CRT, Held, KEY, held, is_own, names, secret_for};

/// On a Secret: the directory whose authority signed what it holds.
const DIRECTORY: &str = "suimon.dev/acme-directory";
/// The first pause after an order that failed; doubles up to [`LONGEST_PAUSE`]. Authorities allow
/// some five failures an hour for a name.
const FIRST_PAUSE: Duration = Duration::from_secs(60);
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// What to do.
#[derive(Debug, PartialEq)]
pub(crate) enum Step {
    /// Reason and message of the condition.
    Refused(&'static str, String),
    /// All is well until then.
    Held(Held),
    /// Order one. What is still valid meanwhile stays in force.
    Order(BTreeSet<String>, Option<Held>),
}

pub(crate) fn step(
    certificate: &Certificate,
    secret: Option<&Secret>,
    directory: &str,
    now: Timestamp,
) -> Step {
    let spec = &certificate.spec;
    let names = match names(&spec.dns_names) {
        Ok(names) => names,
        Err(why) => return Step::Refused("InvalidDNSNames", why),
    };
    if let Some(name) = names.iter().find(|name| name.starts_with("*.")) {
        let why = format!(
            "spec.dnsNames: {name:?} is a wildcard, which authorities sign by DNS only (dns-01); \
             name hosts, or bring a certificate in a Secret"
        );
        return Step::Refused("WildcardNotSupported", why);
    }
    let is_own = match is_own(certificate, secret) {
        Ok(is_own) => is_own,
        Err((reason, why)) => return Step::Refused(reason, why),
    };
    let of_directory = |secret: &&Secret| {
        is_own
            && secret
                .annotations()
                .get(DIRECTORY)
                .is_some_and(|it| it == directory)
    };
    let held = secret.filter(of_directory).and_then(held);
    let held = held.filter(|held| held.names == names && held.not_after > now);
    match held {
        Some(held) if until_renewal(&held, now) > Duration::ZERO => Step::Held(held),
        held => Step::Order(names, held),
    }
}

/// Until a third of the lifetime is left.
pub(crate) fn until_renewal(held: &Held, now: Timestamp) -> Duration {
    let lifetime = held.not_after.as_second() - held.not_before.as_second();
    let due = held.not_after.as_second() - lifetime / 3;
    let left = u64::try_from(due.saturating_sub(now.as_second()));
    Duration::from_secs(left.unwrap_or_default())
}

/// The pause after so many failures.
pub(crate) fn pause(failures: u32) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(10));
    doubled.min(LONGEST_PAUSE)
}

/// The Secret with what was signed.
pub(crate) fn filled(
    certificate: &Certificate,
    secret: Option<&Secret>,
    directory: &str,
    signed: Signed,
) -> Secret {
    let mut written = secret_for(certificate, secret);
    let annotations = written.metadata.annotations.get_or_insert_default();
    annotations.insert(DIRECTORY.to_owned(), directory.to_owned());
    let entries = [(CRT, signed.chain), (KEY, signed.key)];
    let entries = entries.map(|(key, text)| (key.to_owned(), ByteString(text.into_bytes())));
    written.data = Some(entries.into());
    written
}

#[cfg(test)]
mod tests;
