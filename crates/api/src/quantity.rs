//! Kubernetes quantities (`100m`, `1.5Gi`, `2e3`): amounts of CPU, memory and storage.
//!
//! Kept exact in billionths of a unit, as Kubernetes rounds finer values up to that.

/// Billionths of one unit (one CPU, one byte).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quantity {
    nanos: i128,
}

const NANO: i128 = 1_000_000_000;

impl Quantity {
    /// Parses the text of a quantity; `None` when Kubernetes would refuse it or when it passes
    /// the range of 2^63 units.
    pub fn parse(text: &str) -> Option<Self> {
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
        let digits = format!("{whole}{fraction}");
        if digits.len() > 30 || fraction.len() > 18 {
            return None;
        }
        let value: i128 = digits.parse().ok()?;
        let scale = 10_i128
            .checked_pow(u32::try_from(fraction.len()).ok()?)?
            .checked_mul(denominator)?;
        let scaled = value.checked_mul(numerator)?.checked_mul(NANO)?;
        let nanos = scaled / scale + i128::from(scaled % scale != 0);
        (nanos / NANO <= i128::from(i64::MAX)).then_some(Self {
            nanos: if negative { -nanos } else { nanos },
        })
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
            match power {
                0..=18 => (decimal(power.unsigned_abs()), 1),
                -9..=-1 => (1, decimal(power.unsigned_abs())),
                _ => return None,
            }
        }
    })
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
            "1e99",
            "99999999999999999999",
        ] {
            assert_eq!(Quantity::parse(text), None, "{text}");
        }
    }
}
