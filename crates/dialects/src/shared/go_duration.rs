//! Durations as Go writes them: `1h30m`, `1.5s`, `250ms`.

use std::time::Duration;

/// Reads one. Negative ones and those beyond a century are refused.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a duration, write for example 1m30s");
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(wrong());
    }
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|next: char| !next.is_ascii_digit() && next != '.');
        let (number, behind) = rest.split_at(digits.ok_or_else(wrong)?);
        let end = behind.find(|next: char| next.is_ascii_digit() || next == '.');
        let (unit, behind) = behind.split_at(end.unwrap_or(behind.len()));
        let number: f64 = number.parse().map_err(|_| wrong())?;
        seconds += number * unit_seconds(unit).ok_or_else(wrong)?;
        rest = behind;
    }
    if seconds > 3.2e9 {
        return Err(format!("{text:?} is longer than a century"));
    }
    // Whole nanoseconds: sums of fractions like 1.1s leave less than one behind.
    Duration::try_from_secs_f64((seconds * 1e9).round() / 1e9).map_err(|_| wrong())
}

fn unit_seconds(unit: &str) -> Option<f64> {
    Some(match unit {
        "ns" => 1e-9,
        "us" | "µs" | "μs" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_added_up_and_what_is_no_duration_is_refused() {
        let check = |text: &str, millis: u64| {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        };
        check("0", 0);
        check("0s", 0);
        check("1h1m1s", 3_661_000);
        check("1.5s", 1500);
        check(".5s", 500);
        check("250ms", 250);
        check("1m0.1s", 60_100);
        for text in [
            "", "5", "s", "-1s", "1 s", "1d", "1..5s", "infinity", "1e9h",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
        assert!(parse("999999999h").is_err());
    }
}
