//! Values as Istio's objects write them: durations, percentages, Base64, certificates in PEM.

use std::time::Duration;

use routing::model::tls::CaBundle;
use routing::model::{Respond, Share};
use serde_json::Value;

use crate::fields::Fields;
use crate::shared::headers;

/// Longer than anybody means; keeps sums of durations far from their limits.
const LONGEST: f64 = 366.0 * 86_400.0;

/// A duration such as `1h30m`, `0.5s` or `20ms`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration such as 1h30m, 0.5s or 20ms");
    let mut rest = text.trim();
    let mut seconds = 0.0;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest
            .bytes()
            .take_while(|byte| byte.is_ascii_digit() || *byte == b'.');
        let (number, after) = rest.split_at(digits.count());
        let letters = after.bytes().take_while(u8::is_ascii_alphabetic);
        let (unit, after) = after.split_at(letters.count());
        let unit = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" => 1e-6,
            "ns" => 1e-9,
            _ => return Err(wrong()),
        };
        let number: f64 = number.parse().map_err(|_| wrong())?;
        seconds += number * unit;
        rest = after;
    }
    if !(0.0..=LONGEST).contains(&seconds) {
        return Err(format!("{text:?} is longer than a year"));
    }
    // Whole nanoseconds: 0.1 + 0.2 seconds are 300 milliseconds.
    Ok(Duration::from_nanos((seconds * 1e9).round() as u64))
}

/// A share from a percentage of at most 100; `None` if it is none.
pub(crate) fn share(percent: f64) -> Option<Share> {
    if percent.is_nan() || percent <= 0.0 {
        return None;
    }
    let percent = percent.min(100.0);
    if percent.fract() == 0.0 {
        return Share::new(percent as u32, 100);
    }
    let millionths = (percent * 10_000.0).round() as u32;
    Some(Share::new(millionths, 1_000_000)?).filter(|share| share.holds(0))
}

/// A percentage, or what its object says: `{value: 12.5}`.
pub(crate) fn percentage(fields: &Fields<'_>, key: &str) -> Option<f64> {
    let wrapped = fields.object(key)?;
    // The message of Istio has no percentage for zero.
    Some(wrapped.float("value").unwrap_or_default())
}

/// Text in Base64 (RFC 4648, 4 and 5); line breaks are passed over.
pub(crate) fn base64(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0_u32, 0_u32);
    let clean = text.bytes().filter(|byte| !byte.is_ascii_whitespace());
    for byte in clean.take_while(|byte| *byte != b'=') {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count & 0xff) as u8);
        }
    }
    Some(out)
}

/// The certificates of a text in PEM; `None` if there is none, or one that cannot be read.
pub(crate) fn authorities(name: &str, pem: &[u8]) -> Option<CaBundle> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    let text = std::str::from_utf8(pem).ok()?;
    let mut certificates = Vec::new();
    for part in text.split(BEGIN).skip(1) {
        let body = part.split_once(END)?.0;
        certificates.push(base64(body)?.into_boxed_slice());
    }
    let name = name.into();
    (!certificates.is_empty()).then_some(CaBundle { name, certificates })
}

/// An answer in plain text.
pub(crate) fn plain(status: u16, body: &str) -> Respond {
    Respond {
        status,
        headers: vec![("content-type".into(), "text/plain".into())],
        body: body.into(),
    }
}

/// What requests without a usable backend get.
pub(crate) fn unavailable() -> Respond {
    plain(503, "no healthy upstream")
}

/// A map of headers that an answer gets besides its own; what cannot be one is reported.
pub(crate) fn header_map(
    fields: &Fields<'_>,
    key: &str,
) -> Vec<(std::sync::Arc<str>, std::sync::Arc<str>)> {
    let mut found = Vec::new();
    for (name, value) in fields.string_map(key) {
        match headers::settable(name, value) {
            Ok(pair) => found.push(pair),
            Err(error) => fields.refuse(key, "HeaderInvalid", error),
        }
    }
    found
}

/// Whether every label of a selector is among labels that `has` knows. An empty one is none.
pub(crate) fn selects<'v>(
    selector: impl IntoIterator<Item = (&'v str, &'v str)>,
    has: impl Fn(&str, &str) -> bool,
) -> bool {
    selector.into_iter().all(|(key, value)| has(key, value))
}

/// The strings of an object, for keys and selectors that are judged elsewhere.
pub(crate) fn pairs(map: &Value) -> Vec<(&str, &str)> {
    let map = map.as_object().into_iter().flatten();
    map.filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_sums_of_numbers_with_units() {
        let check = |text: &str, expected: Option<u64>| {
            let expected = expected.map(Duration::from_millis);
            assert_eq!(duration(text).ok(), expected, "{text}");
        };
        check("0.5s", Some(500));
        check("1m30s", Some(90_000));
        check("20ms", Some(20));
        check("0s", Some(0));
        check("1h", Some(3_600_000));
        for text in ["", "5", "s", "-1s", "1d", "1s2", "1e9s", "99999999h", ".s"] {
            check(text, None);
        }
    }

    #[test]
    fn base64_is_read_and_what_is_none_is_refused() {
        assert_eq!(base64("aGVsbG8=").as_deref(), Some(&b"hello"[..]));
        assert_eq!(base64("aGVs\nbG8").as_deref(), Some(&b"hello"[..]));
        assert_eq!(base64("a b*"), None);
        let pem = b"-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
        let bundle = authorities("ns/ca", pem).expect("a certificate");
        assert_eq!(bundle.certificates[0].as_ref(), b"hello");
        assert_eq!(authorities("ns/ca", b""), None);
    }

    #[test]
    fn a_share_is_none_or_exact() {
        assert_eq!(share(0.0), None);
        assert_eq!(share(50.0), Share::new(50, 100));
        assert_eq!(share(0.1), Share::new(1000, 1_000_000));
        assert_eq!(share(300.0), Share::new(100, 100));
    }
}
