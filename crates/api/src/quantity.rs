//! Kubernetes quantities (`100m`, `1.5Gi`, `2e3`): amounts of CPU, memory and storage.
//!
//! Kept exact in billionths of a unit, as Kubernetes rounds finer values up to that.

/// Billionths of one unit (one CPU, one byte).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quantity {
    nanos: i128,
}

const NANO: i128 = 1_000_000_000;
/// Longest text that is read; the largest useful quantity has far fewer characters.
const LONGEST: usize = 64;
/// Digits behind the point that are told apart.
const FINEST: usize = 18;

impl Quantity {
    /// The largest amount there is: more is cut to this, as Kubernetes does.
    const MOST: i128 = i64::MAX as i128 * NANO;

    /// Parses the text of a quantity; `None` when Kubernetes would refuse it.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > LONGEST {
            return None;
        }
        let digits_end = text
            .char_indices()
            .find(|(at, c)| {
                !(c.is_ascii_digit() || *c == '.' || (*at == 0 && matches!(c, '+' | '-')))
            })
            .map_or(text.len(), |(at, _)| at);
        let (number, suffix) = text.split_at(digits_end);
        let negative = number.starts_with('-');
        let number = number.trim_start_matches(['+', '-']);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return None;
        }
        let (numerator, denominator) = factor(suffix)?;
        let magnitude = Self::magnitude(whole, fraction, numerator, denominator);
        let nanos = magnitude.unwrap_or(Self::MOST).min(Self::MOST);
        Some(Self {
            nanos: if negative { -nanos } else { nanos },
        })
    }

    /// Billionths, rounded up; `None` if they are too many.
    fn magnitude(whole: &str, fraction: &str, numerator: i128, denominator: i128) -> Option<i128> {
        let (kept, rest) = fraction.split_at(fraction.len().min(FINEST));
        let value: i128 = match (whole, kept) {
            ("", "") => 0,
            (whole, kept) => format!("{whole}{kept}").parse().ok()?,
        };
        let value = value.checked_add(i128::from(rest.bytes().any(|digit| digit != b'0')))?;
        let scale = 10_i128
            .checked_pow(u32::try_from(kept.len()).ok()?)?
            .checked_mul(denominator)?;
        // The common factor first: what is left fits wherever the result does.
        let numerator = numerator.checked_mul(NANO)?;
        let common = gcd(numerator, scale);
        let (numerator, scale) = (numerator / common, scale / common);
        let scaled = value.checked_mul(numerator)?;
        Some(scaled / scale + i128::from(scaled % scale != 0))
    }

    /// Whether the amount is below zero.
    pub fn is_negative(self) -> bool {
        self.nanos < 0
    }

    /// Whole units, rounded up: bytes of a memory quantity.
    pub fn units(self) -> i64 {
        let up = i128::from(self.nanos % NANO > 0);
        i64::try_from(self.nanos / NANO + up).unwrap_or(i64::MAX)
    }

    /// Thousandths of a unit, rounded up: millicores of a CPU quantity.
    pub fn millis(self) -> i64 {
        let milli = NANO / 1_000;
        let up = i128::from(self.nanos % milli > 0);
        i64::try_from(self.nanos / milli + up).unwrap_or(i64::MAX)
    }
}

/// The multiplier of a suffix as a fraction.
fn factor(suffix: &str) -> Option<(i128, i128)> {
    let decimal = |power: u32| 10_i128.pow(power);
    Some(match suffix {
        "" => (1, 1),
        "n" => (1, decimal(9)),
        "u" => (1, decimal(6)),
        "m" => (1, decimal(3)),
        "k" => (decimal(3), 1),
        "M" => (decimal(6), 1),
        "G" => (decimal(9), 1),
        "T" => (decimal(12), 1),
        "P" => (decimal(15), 1),
        "E" => (decimal(18), 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        exponent => {
            let power: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            // Beyond these any amount is cut to the largest, or rounded up to the smallest.
            match power {
                0.. => (decimal(power.unsigned_abs().min(28)), 1),
                _ => (1, decimal(power.unsigned_abs().min(19))),
            }
        }
    })
}

fn gcd(a: i128, b: i128) -> i128 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::Quantity;

    #[test]
    fn quantities_parse_to_exact_amounts() {
        for (text, millis) in [
            ("1", 1000),
            ("100m", 100),
            ("1.5", 1500),
            ("2e3", 2_000_000),
            ("0.1", 100),
            ("-1", -1000),
        ] {
            assert_eq!(
                Quantity::parse(text).map(Quantity::millis),
                Some(millis),
                "{text}"
            );
        }
        for (text, bytes) in [
            ("1Ki", 1024),
            ("1.5Gi", 1_610_612_736),
            ("128M", 128_000_000),
            ("1n", 1),
        ] {
            assert_eq!(
                Quantity::parse(text).map(Quantity::units),
                Some(bytes),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_too_large_or_too_fine_is_cut() {
        for text in ["1e99", "9e18", "100E", "99999999999999999999", "16Ei"] {
            let units = Quantity::parse(text).map(Quantity::units);
            let most = if text == "9e18" {
                9_000_000_000_000_000_000
            } else {
                i64::MAX
            };
            assert_eq!(units, Some(most), "{text}");
        }
        for text in ["1e-99", "0.0000000000001", "0.00000000000000000000000001"] {
            let read = Quantity::parse(text).map(|one| (one.units(), one.is_negative()));
            assert_eq!(read, Some((1, false)), "{text}");
        }
        assert_eq!(Quantity::parse("0e99").map(Quantity::units), Some(0));
        assert_eq!(
            Quantity::parse("-100E").map(Quantity::units),
            Some(-i64::MAX)
        );
    }

    #[test]
    fn malformed_quantities_are_refused() {
        for text in [
            "",
            "m",
            "1 Gi",
            "1gi",
            "1.2.3",
            "1e",
            "abc",
            "--1",
            &"1".repeat(65),
        ] {
            assert_eq!(Quantity::parse(text), None, "{text}");
        }
    }
}
