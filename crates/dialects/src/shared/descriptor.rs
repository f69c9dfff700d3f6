//! Descriptions of requests for rate limit services, as Envoy's actions make them.

use std::sync::Arc;

use routing::model::{DescriptorEntry, LimitUnit};

use super::headers;

/// Envoy waits so long for an answer unless somebody says otherwise.
pub(crate) const TIMEOUT: std::time::Duration = std::time::Duration::from_millis(20);
/// Envoy's answer when the service cannot be asked and requests do not pass then.
pub(crate) const STATUS_ON_ERROR: u16 = 500;
/// The key of a text that has none of its own.
pub(crate) const GENERIC_KEY: &str = "generic_key";
/// The key of what headers are compared with.
pub(crate) const HEADER_MATCH: &str = "header_match";

/// The name of a header, or of what HTTP/2 says in its place.
pub(crate) fn header_name(text: &str) -> Result<Arc<str>, String> {
    match text.to_ascii_lowercase().as_str() {
        pseudo @ (":authority" | ":method" | ":path" | ":scheme") => Ok(pseudo.into()),
        name => headers::name(name),
    }
}

/// A text that is the same for all requests.
pub(crate) fn generic(key: Option<&str>, value: &str) -> DescriptorEntry {
    DescriptorEntry::Fixed {
        key: key.unwrap_or(GENERIC_KEY).into(),
        value: value.into(),
    }
}

/// The client's address.
pub(crate) fn remote_address() -> DescriptorEntry {
    DescriptorEntry::Client {
        key: "remote_address".into(),
    }
}

/// A unit by its name, in any case.
pub(crate) fn unit(text: &str) -> Result<LimitUnit, String> {
    match text.to_ascii_lowercase().as_str() {
        "second" => Ok(LimitUnit::Second),
        "minute" => Ok(LimitUnit::Minute),
        "hour" => Ok(LimitUnit::Hour),
        "day" => Ok(LimitUnit::Day),
        "month" => Ok(LimitUnit::Month),
        "year" => Ok(LimitUnit::Year),
        _ => Err(format!(
            "{text:?} is not second, minute, hour, day, month or year"
        )),
    }
}

/// The name of a unit, as rate limit services write it.
pub(crate) fn unit_name(unit: LimitUnit) -> &'static str {
    match unit {
        LimitUnit::Second => "second",
        LimitUnit::Minute => "minute",
        LimitUnit::Hour => "hour",
        LimitUnit::Day => "day",
        LimitUnit::Month => "month",
        LimitUnit::Year => "year",
    }
}
