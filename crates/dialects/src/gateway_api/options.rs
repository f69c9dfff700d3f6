//! `tls.options` of a listener: the versions of TLS that it speaks, and what else handshakes may
//! settle on.
//!
//! An option that is not known refuses the listener: it may be what keeps clients out.

use api::gateway::reason;
use api::gateway::v1::ListenerTls;
use routing::model::Crypto;
use routing::model::tls::{TlsVersion, TlsVersions};

use super::plan::{Finding, ListenerPlan};
use crate::shared::crypto;

/// The oldest version of TLS that a listener speaks.
pub(crate) const MIN_VERSION: &str = "gateway.suimon.dev/tls-min-version";
/// The newest.
pub(crate) const MAX_VERSION: &str = "gateway.suimon.dev/tls-max-version";
/// The suites of TLS 1.2, the most wanted first, as OpenSSL and BoringSSL list them.
pub(crate) const SUITES: &str = "gateway.suimon.dev/tls-cipher-suites";
/// The curves.
pub(crate) const CURVES: &str = "gateway.suimon.dev/tls-curves";

/// Spoken with clients if nothing is said.
const VERSIONS: TlsVersions = TlsVersions {
    min: TlsVersion::V1_2,
    max: TlsVersion::V1_3,
};

/// A version as it is written.
pub(crate) fn version_text(version: TlsVersion) -> &'static str {
    match version {
        TlsVersion::V1_2 => "1.2",
        TlsVersion::V1_3 => "1.3",
    }
}

/// What clients may settle on.
#[derive(Clone, Debug)]
pub(super) struct Handshake {
    pub(super) versions: TlsVersions,
    pub(super) crypto: Crypto,
}

/// Reads the options and says in the plan what is wrong.
pub(super) fn read(tls: &ListenerTls, plan: &mut ListenerPlan) -> Handshake {
    let (versions, mut wrong) = versions(tls);
    let mut crypto = Crypto::ANY;
    if let Some(list) = tls.options.get(SUITES) {
        let suites = offered(SUITES, crypto::suites(&[list.as_str()], versions));
        crypto.suites = suites.unwrap_or_else(|text| {
            wrong.get_or_insert(text);
            Vec::new()
        });
    }
    if let Some(list) = tls.options.get(CURVES) {
        let curves = offered(CURVES, crypto::curves(&[list.as_str()]));
        crypto.curves = curves.unwrap_or_else(|text| {
            wrong.get_or_insert(text);
            Vec::new()
        });
    }
    if let Some(text) = wrong {
        plan.refused = Some(Finding::new(reason::UNSUPPORTED_VALUE, text));
    }
    Handshake { versions, crypto }
}

/// All of a list, or what is wrong: the options are our own, so nobody brings a list from elsewhere
/// that had better be served in part.
fn offered<T>(key: &str, listed: Result<crypto::Listed<T>, String>) -> Result<Vec<T>, String> {
    let listed = listed.map_err(|text| format!("tls.options {key}: {text}"))?;
    match listed.missing {
        None => Ok(listed.wanted),
        Some(missing) => Err(format!(
            "tls.options {key}: the gateway does not have {missing}; leave it out"
        )),
    }
}

/// And what is wrong with the options.
fn versions(tls: &ListenerTls) -> (TlsVersions, Option<String>) {
    let mut versions = VERSIONS;
    let mut wrong = None;
    for (key, value) in &tls.options {
        let known = [TlsVersion::V1_2, TlsVersion::V1_3];
        let version = known.into_iter().find(|it| version_text(*it) == *value);
        match (key.as_str(), version) {
            (MIN_VERSION, Some(version)) => versions.min = version,
            (MAX_VERSION, Some(version)) => versions.max = version,
            (MIN_VERSION | MAX_VERSION, None) => {
                let text = format!("tls.options {key}: {value:?} is not \"1.2\" or \"1.3\"");
                wrong.get_or_insert(text);
            }
            (SUITES | CURVES, _) => {}
            _ => {
                let text = format!(
                    "tls.options {key} is not supported; {MIN_VERSION}, {MAX_VERSION}, {SUITES} \
                     and {CURVES} are"
                );
                wrong.get_or_insert(text);
            }
        }
    }
    if versions.min > versions.max {
        let text = format!("tls.options: {MIN_VERSION} is newer than {MAX_VERSION}");
        wrong.get_or_insert(text);
    }
    (versions, wrong)
}
