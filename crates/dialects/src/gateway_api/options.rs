//! `tls.options` of a listener: the versions of TLS that it speaks.
//!
//! An option that is not known refuses the listener: it may be what keeps clients out.

use api::gateway::reason;
use api::gateway::v1::ListenerTls;
use routing::model::tls::{TlsVersion, TlsVersions};

use super::plan::{Finding, ListenerPlan};

/// The oldest version of TLS that a listener speaks.
pub(crate) const MIN_VERSION: &str = "gateway.suimon.dev/tls-min-version";
/// The newest.
pub(crate) const MAX_VERSION: &str = "gateway.suimon.dev/tls-max-version";

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

/// Reads the options and says in the plan what is wrong.
pub(super) fn versions(tls: &ListenerTls, plan: &mut ListenerPlan) -> TlsVersions {
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
            _ => {
                let text = format!(
                    "tls.options {key} is not supported; {MIN_VERSION} and {MAX_VERSION} are"
                );
                wrong.get_or_insert(text);
            }
        }
    }
    if versions.min > versions.max {
        let text = format!("tls.options: {MIN_VERSION} is newer than {MAX_VERSION}");
        wrong.get_or_insert(text);
    }
    if let Some(text) = wrong {
        plan.refused = Some(Finding::new(reason::UNSUPPORTED_VALUE, text));
    }
    versions
}
