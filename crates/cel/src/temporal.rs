//! Times and spans: Go's notation of durations, and parts of timestamps.

use jiff::civil::Date;
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp, Zoned};

/// RFC 3339, or a date alone.
pub(crate) fn timestamp(text: &str) -> Option<Timestamp> {
    if let Ok(at) = text.parse() {
        return Some(at);
    }
    let date: Date = text.parse().ok()?;
    Some(date.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

/// Go's notation: `1h30m`, `1.5s`, `-2ms`.
pub(crate) fn duration(text: &str) -> Option<SignedDuration> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(SignedDuration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut nanos: i128 = 0;
    while !rest.is_empty() {
        let end = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let (number, unit) = rest.split_at(end);
        let end = unit.find(|letter: char| letter.is_ascii_digit() || letter == '.');
        let (unit, next) = unit.split_at(end.unwrap_or(unit.len()));
        nanos = nanos.checked_add(part(number, unit)?)?;
        rest = next;
    }
    let nanos = i64::try_from(if negative { -nanos } else { nanos }).ok()?;
    Some(SignedDuration::from_nanos(nanos))
}

fn part(number: &str, unit: &str) -> Option<i128> {
    let scale: i128 = match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let whole: i128 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    let mut nanos = whole.checked_mul(scale)?;
    let mut weight = scale;
    for digit in fraction.chars() {
        weight /= 10;
        nanos += i128::from(digit.to_digit(10)?) * weight;
    }
    Some(nanos)
}

/// cel-go's text of a duration: seconds.
pub(crate) fn show_duration(span: SignedDuration) -> String {
    let nanos = span.as_nanos();
    let sign = if nanos < 0 { "-" } else { "" };
    let (whole, fraction) = (nanos.abs() / 1_000_000_000, nanos.abs() % 1_000_000_000);
    if fraction == 0 {
        return format!("{sign}{whole}s");
    }
    let digits = format!("{fraction:09}");
    format!("{sign}{whole}.{}s", digits.trim_end_matches('0'))
}

/// The time in a zone: UTC, or a fixed offset such as `+02:00`.
pub(crate) fn in_zone(at: Timestamp, zone: Option<&str>) -> Result<Zoned, String> {
    let zone = match zone {
        None | Some("UTC" | "Z" | "") => TimeZone::UTC,
        Some(text) => offset(text)
            .ok_or_else(|| format!("unknown time zone {text}"))?
            .to_time_zone(),
    };
    Ok(at.to_zoned(zone))
}

fn offset(text: &str) -> Option<Offset> {
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let (hours, minutes) = rest.split_once(':')?;
    let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
    if !(0..=14).contains(&hours) || !(0..60).contains(&minutes) {
        return None;
    }
    Offset::from_seconds(sign * (hours * 3600 + minutes * 60)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        assert_eq!(duration("1h30m").map(|span| span.as_secs()), Some(5400));
        assert_eq!(duration("1.5s").map(|span| span.as_millis()), Some(1500));
        assert_eq!(duration("-2ms").map(|span| span.as_millis()), Some(-2));
        assert_eq!(duration("0"), Some(SignedDuration::ZERO));
        for bad in ["", "1", "s", "1x", ".s", "1..5s", "99999999999999h"] {
            assert_eq!(duration(bad), None, "{bad}");
        }
        assert_eq!(show_duration(SignedDuration::from_millis(1500)), "1.5s");
    }
}
