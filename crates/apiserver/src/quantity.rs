//! Kubernetes' quantities as exact numbers: `250m`, `1.5`, `64Mi`, `1e3`.
//!
//! Schemas have judged the texts before; what is no quantity anyway counts as nothing.

use std::cmp::Ordering;
use std::fmt;
use std::ops::{Add, Sub};

use serde_json::Value;

const NANO: i128 = 1_000_000_000;
/// Longest text that is read; the largest useful quantity has far fewer digits.
const LONGEST: usize = 40;
const DECIMAL: [(&str, i128); 6] = [
    ("E", 1_000_000_000_000_000_000),
    ("P", 1_000_000_000_000_000),
    ("T", 1_000_000_000_000),
    ("G", 1_000_000_000),
    ("M", 1_000_000),
    ("k", 1000),
];
const BINARY: [(&str, i128); 6] = [
    ("Ei", 1 << 60),
    ("Pi", 1 << 50),
    ("Ti", 1 << 40),
    ("Gi", 1 << 30),
    ("Mi", 1 << 20),
    ("Ki", 1 << 10),
];

/// A quantity in billionths of its unit, and how it is written.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Quantity {
    nano: i128,
    binary: bool,
}

impl Quantity {
    /// So many units.
    pub(crate) fn whole(units: i128) -> Self {
        Self {
            nano: units.saturating_mul(NANO),
            binary: false,
        }
    }

    /// Reads text or a number of a JSON document.
    pub(crate) fn of(value: &Value) -> Option<Self> {
        match value {
            Value::String(text) => Self::parse(text),
            Value::Number(number) => Self::parse(&number.to_string()),
            _ => None,
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.len() > LONGEST {
            return None;
        }
        let (negative, rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let end = rest
            .find(|letter: char| !letter.is_ascii_digit() && letter != '.')
            .unwrap_or(rest.len());
        let (digits, suffix) = rest.split_at(end);
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        if whole.len() + fraction.len() == 0 || fraction.contains('.') {
            return None;
        }
        let (times, by) = scale(suffix)?;
        let all: i128 = format!("{whole}{fraction}").parse().ok()?;
        let by = by.checked_mul(10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?)?;
        let product = all.checked_mul(times)?.checked_mul(NANO)?;
        // Kubernetes rounds up to the next nano unit.
        let nano = product / by + i128::from(product % by != 0);
        Some(Self {
            nano: if negative { -nano } else { nano },
            binary: suffix.ends_with('i'),
        })
    }

    pub(crate) fn is_zero(self) -> bool {
        self.nano == 0
    }

    pub(crate) fn is_positive(self) -> bool {
        self.nano > 0
    }

    /// How often `other` fits in.
    #[allow(clippy::cast_precision_loss)] // It is shown with six digits.
    pub(crate) fn ratio(self, other: Self) -> f64 {
        self.nano as f64 / other.nano as f64
    }
}

/// Units of a suffix as a fraction.
fn scale(suffix: &str) -> Option<(i128, i128)> {
    if let Some((_, times)) = DECIMAL
        .iter()
        .chain(&BINARY)
        .find(|(own, _)| *own == suffix)
    {
        return Some((*times, 1));
    }
    Some(match suffix {
        "" => (1, 1),
        "m" => (1, 1000),
        "u" => (1, 1_000_000),
        "n" => (1, NANO),
        exponent => {
            let power: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            let scale = 10_i128.checked_pow(power.unsigned_abs())?;
            if power < 0 { (1, scale) } else { (scale, 1) }
        }
    })
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nano == other.nano
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nano.cmp(&other.nano)
    }
}

impl Add for Quantity {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            nano: self.nano.saturating_add(other.nano),
            binary: if self.is_zero() {
                other.binary
            } else {
                self.binary
            },
        }
    }
}

impl Sub for Quantity {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            nano: self.nano.saturating_sub(other.nano),
            binary: if self.is_zero() {
                other.binary
            } else {
                self.binary
            },
        }
    }
}

impl fmt::Display for Quantity {
    /// The shortest exact form, as Kubernetes writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nano = self.nano;
        for (suffix, parts) in [("", NANO), ("m", NANO / 1000), ("u", 1000), ("n", 1)] {
            if nano % parts != 0 {
                continue;
            }
            let count = nano / parts;
            if !suffix.is_empty() || count == 0 {
                return write!(f, "{count}{suffix}");
            }
            let scales = if self.binary { &BINARY } else { &DECIMAL };
            return match scales.iter().find(|(_, units)| count % units == 0) {
                Some((suffix, units)) => write!(f, "{}{suffix}", count / units),
                None => write!(f, "{count}"),
            };
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_written_as_kubernetes_writes_them() {
        for (read, written) in [
            ("0", "0"),
            ("1000", "1k"),
            ("1500m", "1500m"),
            ("2000m", "2"),
            ("1.5", "1500m"),
            ("1Gi", "1Gi"),
            ("1024Mi", "1Gi"),
            ("1536Mi", "1536Mi"),
            ("0.5Gi", "512Mi"),
            ("1e3", "1k"),
            ("-5", "-5"),
        ] {
            let quantity = Quantity::parse(read).expect(read);
            assert_eq!(quantity.to_string(), written, "{read}");
        }
        for bad in ["", "x", "1kk", "1.2.3", ".", "1e999"] {
            assert!(Quantity::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn sums_are_exact_and_keep_the_notation() {
        let parse = |text| Quantity::parse(text).expect("quantity");
        assert_eq!((parse("100m") + parse("0.9")).to_string(), "1");
        let sum = Quantity::default() + parse("512Mi") + parse("512Mi");
        assert_eq!(sum.to_string(), "1Gi");
        assert!(parse("1Gi") > parse("1G"));
    }
}
