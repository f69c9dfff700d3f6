//! String and number formats of OpenAPI schemas.
//!
//! Only formats that Kubernetes supports are checked; an unknown format accepts everything, as there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::name;

/// Whether `text` has the named format.
pub fn matches(format: &str, text: &str) -> bool {
    match format {
        "date-time" | "datetime" => is_date_time(text),
        "date" => text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok(),
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "cidr" => is_cidr(text),
        "byte" => STANDARD.decode(text).is_ok(),
        "uri" => is_uri(text),
        "hostname" => is_hostname(text),
        "email" => text
            .split_once('@')
            .is_some_and(|(user, host)| !user.is_empty() && !host.is_empty()),
        "mac" => is_mac(text),
        "uuid" | "uuid3" | "uuid4" | "uuid5" => is_uuid(text),
        "duration" => go_duration(text).is_some(),
        "quantity" => is_quantity(text),
        "k8s-short-name" => name::dns_label(text).is_ok(),
        "k8s-long-name" => name::dns_subdomain(text).is_ok(),
        _ => true,
    }
}

/// Whether a number fits `int32` or `int64`.
pub fn number_fits(format: &str, value: &Value) -> bool {
    match format {
        "int32" => value
            .as_f64()
            .is_none_or(|number| (f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(&number)),
        "int64" => !value.is_u64() || value.is_i64(),
        _ => true,
    }
}

/// What Kubernetes says of a quantity that is none.
pub const QUANTITY: &str =
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";

/// A number with a decimal (`m`, `k`, `M`), binary (`Ki`, `Mi`) or exponent (`e3`) suffix.
fn is_quantity(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let end = unsigned
        .find(|letter: char| !letter.is_ascii_digit() && letter != '.')
        .unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(end);
    let plain =
        number.bytes().any(|byte| byte.is_ascii_digit()) && number.matches('.').count() <= 1;
    let known = matches!(
        suffix,
        "" | "n"
            | "u"
            | "m"
            | "k"
            | "M"
            | "G"
            | "T"
            | "P"
            | "E"
            | "Ki"
            | "Mi"
            | "Gi"
            | "Ti"
            | "Pi"
            | "Ei"
    );
    let exponent = || {
        suffix
            .strip_prefix(['e', 'E'])
            .is_some_and(|digits| digits.parse::<i32>().is_ok())
    };
    plain && (known || exponent())
}

/// RFC 3339: a full date, a time and an offset.
pub fn is_date_time(text: &str) -> bool {
    text.len() >= 20
        && text
            .as_bytes()
            .get(10)
            .is_some_and(|byte| matches!(byte, b'T' | b't'))
        && { text.parse::<jiff::Timestamp>().is_ok() }
}

fn is_cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else {
        return false;
    };
    let Ok(bits) = bits.parse::<u8>() else {
        return false;
    };
    match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => bits <= 32,
        Ok(IpAddr::V6(_)) => bits <= 128,
        Err(_) => false,
    }
}

fn is_uri(text: &str) -> bool {
    text.split_once(':').is_some_and(|(scheme, rest)| {
        let scheme_ok = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme
                .chars()
                .all(|letter| letter.is_ascii_alphanumeric() || "+-.".contains(letter));
        scheme_ok && !rest.is_empty() && !text.contains(char::is_whitespace)
    }) || (text.starts_with('/') && !text.contains(char::is_whitespace))
}

fn is_hostname(text: &str) -> bool {
    let labels_ok = text.split('.').all(|label| {
        !label.is_empty()
            && label.len() <= 63
            && label
                .chars()
                .all(|letter| letter.is_alphanumeric() || letter == '-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    });
    labels_ok && text.len() <= 255
}

fn is_mac(text: &str) -> bool {
    let parts: Vec<_> = text.split([':', '-']).collect();
    matches!(parts.len(), 6 | 8)
        && parts
            .iter()
            .all(|part| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn is_uuid(text: &str) -> bool {
    let plain: String = text.chars().filter(|letter| *letter != '-').collect();
    plain.len() == 32 && plain.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A duration as Go writes it, such as `1h30m` or `-1.5s`, in nanoseconds.
pub fn go_duration(text: &str) -> Option<f64> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0.0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest
            .find(|letter: char| letter.is_ascii_digit() || letter == '.')
            .unwrap_or(rest.len());
        let scale = match &rest[..unit] {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return None,
        };
        total += number * scale;
        rest = &rest[unit..];
    }
    Some(sign * total)
}
