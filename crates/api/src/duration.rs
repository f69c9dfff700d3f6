//! Go's duration text (`1m30s`, `500ms`), which Knative's ConfigMaps and annotations use.
//!
//! Durations may be negative in Go, and several rules speak about negative values, so the
//! parser yields signed nanoseconds; `parse` is for callers that only want what is not negative.

use std::time::Duration;

const SECOND: i128 = 1_000_000_000;

/// A duration text that Go would not parse either, or one that is negative where none may be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid duration {text:?}, want a non-negative duration such as \"1m30s\"")]
pub struct DurationError {
    text: String,
}

/// Parses a duration that must not be negative.
///
/// # Errors
/// When Go's `time.ParseDuration` would refuse the text, or when it is below zero.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    parse_signed(text)
        .and_then(|nanos| u64::try_from(nanos).ok())
        .map(Duration::from_nanos)
        .ok_or_else(|| DurationError {
            text: text.to_owned(),
        })
}

/// Nanoseconds of a duration as Go's `time.ParseDuration` reads it; `None` if it would refuse
/// the text or if the value passes Go's range (about 292 years).
pub fn parse_signed(text: &str) -> Option<i64> {
    let (negative, rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: i128 = 0;
    let mut rest = rest;
    while !rest.is_empty() {
        let (nanos, tail) = part(rest)?;
        total = total.checked_add(nanos)?;
        rest = tail;
    }
    i64::try_from(if negative { -total } else { total }).ok()
}

/// One `<number><unit>` at the start of `text`, and what follows it.
fn part(text: &str) -> Option<(i128, &str)> {
    let number_len = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, tail) = text.split_at(number_len);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let unit_len = tail
        .find(|c: char| c.is_ascii_digit() || c == '.')
        .unwrap_or(tail.len());
    let (unit, tail) = tail.split_at(unit_len);
    let unit: i128 = match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => SECOND,
        "m" => 60 * SECOND,
        "h" => 3_600 * SECOND,
        _ => return None,
    };
    let mut nanos = if whole.is_empty() {
        0
    } else {
        whole.parse::<i64>().ok()?.into()
    };
    nanos *= unit;
    // More than 18 digits behind the point are below a nanosecond for every unit.
    let digits = &fraction[..fraction.len().min(18)];
    if !digits.is_empty() {
        let scale = 10_i128.pow(u32::try_from(digits.len()).ok()?);
        nanos += digits.parse::<i128>().ok()? * unit / scale;
    }
    Some((nanos, tail))
}

/// A duration as Go prints it: `1h0m0s`, `1m30s`, `1.5s`, `500ms`, `0s`.
pub fn format(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    if nanos == 0 {
        return "0s".to_owned();
    }
    let small = |unit: u128, name: &str| format!("{}{name}", decimal(nanos, unit));
    if nanos < 1_000 {
        return small(1, "ns");
    }
    if nanos < 1_000_000 {
        return small(1_000, "µs");
    }
    if nanos < 1_000_000_000 {
        return small(1_000_000, "ms");
    }
    let second = 1_000_000_000_u128;
    let (hours, minutes) = (nanos / (3_600 * second), nanos / (60 * second) % 60);
    let seconds = decimal(nanos % (60 * second), second);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{seconds}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

/// `value / unit` without trailing zeros behind the point.
fn decimal(value: u128, unit: u128) -> String {
    let (whole, rest) = (value / unit, value % unit);
    if rest == 0 {
        return whole.to_string();
    }
    let width = unit.to_string().len() - 1;
    let text = format!("{whole}.{rest:0width$}");
    text.trim_end_matches('0').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_durations_parse_as_go_parses_them() {
        for (text, nanos) in [
            ("0", 0),
            ("1m30s", 90_000_000_000),
            ("1.5s", 1_500_000_000),
            (".5s", 500_000_000),
            ("500ms", 500_000_000),
            ("1h", 3_600_000_000_000),
            ("-2s", -2_000_000_000),
            ("+3us", 3_000),
            ("3µs", 3_000),
        ] {
            assert_eq!(parse_signed(text), Some(nanos), "{text}");
        }
    }

    #[test]
    fn what_go_refuses_is_refused() {
        for text in [
            "",
            "-",
            "5",
            "1d",
            "s",
            "1s2",
            ".s",
            "1..2s",
            "1 s",
            "9999999999h",
        ] {
            assert_eq!(parse_signed(text), None, "{text}");
        }
        assert!(parse("-1s").is_err());
    }

    #[test]
    fn durations_print_as_go_prints_them() {
        for (duration, text) in [
            (Duration::ZERO, "0s"),
            (Duration::from_secs(6), "6s"),
            (Duration::from_secs(3600), "1h0m0s"),
            (Duration::from_secs(90), "1m30s"),
            (Duration::from_millis(1500), "1.5s"),
            (Duration::from_millis(500), "500ms"),
            (Duration::from_nanos(1_500), "1.5µs"),
        ] {
            assert_eq!(format(duration), text);
        }
    }
}
