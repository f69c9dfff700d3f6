//! Resource quantities, as exact numbers of nano units.

use std::cmp::Ordering;

use crate::Error;
use crate::functions::{Out, Rows, text, unfit};
use crate::value::Value;

const NANO: i128 = 1_000_000_000;

/// A quantity in billionths of its unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quantity(i128);

pub(crate) const ROWS: Rows = &[
    ("quantity(string): Quantity", |_, a| {
        match parse(text(a, 0)?) {
        Some(quantity) => Ok(Value::Quantity(quantity)),
        None => Err("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'".into()),
    }
    }),
    ("isQuantity(string): bool", |_, a| {
        Ok(Value::Bool(parse(text(a, 0)?).is_some()))
    }),
    ("Quantity.sign(): int", |_, a| {
        let Quantity(nano) = first(a)?;
        Ok(Value::Int(if nano == 0 {
            0
        } else if nano < 0 {
            -1
        } else {
            1
        }))
    }),
    ("Quantity.isInteger(): bool", |_, a| {
        Ok(Value::Bool(whole(first(a)?).is_some()))
    }),
    ("Quantity.asInteger(): int", |_, a| match whole(first(a)?) {
        Some(number) => Ok(Value::Int(number)),
        None => Err("cannot convert value to integer".into()),
    }),
    ("Quantity.asApproximateFloat(): double", |_, a| {
        #[allow(clippy::cast_precision_loss)] // It is called approximate.
        Ok(Value::Double(first(a)?.0 as f64 / 1e9))
    }),
    ("Quantity.isGreaterThan(Quantity): bool", |_, a| {
        compare(a, |order| Value::Bool(order == Ordering::Greater))
    }),
    ("Quantity.isLessThan(Quantity): bool", |_, a| {
        compare(a, |order| Value::Bool(order == Ordering::Less))
    }),
    ("Quantity.compareTo(Quantity): int", |_, a| {
        compare(a, |order| Value::Int(order as i64))
    }),
    ("Quantity.add(Quantity): Quantity", |_, a| add(a, 1)),
    ("Quantity.add(int): Quantity", |_, a| add(a, 1)),
    ("Quantity.sub(Quantity): Quantity", |_, a| add(a, -1)),
    ("Quantity.sub(int): Quantity", |_, a| add(a, -1)),
];

fn first(args: &[Value<'_>]) -> Result<Quantity, Error> {
    match args.first() {
        Some(Value::Quantity(quantity)) => Ok(*quantity),
        _ => Err("no such overload".into()),
    }
}

fn whole(Quantity(nano): Quantity) -> Option<i64> {
    (nano % NANO == 0)
        .then(|| i64::try_from(nano / NANO).ok())
        .flatten()
}

fn compare<'a>(args: &[Value<'a>], read: fn(Ordering) -> Value<'static>) -> Out<'a> {
    match args {
        [Value::Quantity(a), Value::Quantity(b)] => Ok(read(a.cmp(b))),
        _ => unfit(),
    }
}

fn add<'a>(args: &[Value<'a>], sign: i128) -> Out<'a> {
    let other = match args.get(1) {
        Some(Value::Quantity(quantity)) => quantity.0,
        Some(Value::Int(number)) => i128::from(*number) * NANO,
        _ => return unfit(),
    };
    let sum = first(args)?.0.checked_add(other.saturating_mul(sign));
    sum.map(|nano| Value::Quantity(Quantity(nano)))
        .ok_or_else(|| "integer overflow".into())
}

fn parse(text: &str) -> Option<Quantity> {
    let (negative, rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let end = rest
        .find(|letter: char| !letter.is_ascii_digit() && letter != '.')
        .unwrap_or(rest.len());
    let (digits, suffix) = rest.split_at(end);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.len() + fraction.len() == 0 || fraction.contains('.') || digits.len() > 30 {
        return None;
    }
    // Nano units per unit of the suffix, as a fraction.
    let (times, by) = scale(suffix)?;
    let all: i128 = format!("{whole}{fraction}").parse().ok()?;
    let by = by.checked_mul(10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?)?;
    let product = all.checked_mul(times)?.checked_mul(NANO)?;
    // Kubernetes rounds up to the next nano unit.
    let nano = product / by + i128::from(product % by != 0);
    Some(Quantity(if negative { -nano } else { nano }))
}

fn scale(suffix: &str) -> Option<(i128, i128)> {
    Some(match suffix {
        "" => (1, 1),
        "n" => (1, NANO),
        "u" => (1, 1_000_000),
        "m" => (1, 1000),
        "k" => (1000, 1),
        "M" => (1_000_000, 1),
        "G" => (NANO, 1),
        "T" => (NANO * 1000, 1),
        "P" => (NANO * 1_000_000, 1),
        "E" => (NANO * NANO, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        exponent => {
            let power: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            let scale = 10_i128.checked_pow(power.unsigned_abs())?;
            if power < 0 { (1, scale) } else { (scale, 1) }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_exact() {
        assert_eq!(parse("1Gi"), Some(Quantity((1 << 30) * NANO)));
        assert_eq!(parse("1.5k"), Some(Quantity(1500 * NANO)));
        assert_eq!(parse("100m"), Some(Quantity(NANO / 10)));
        assert_eq!(parse("1e3"), parse("1k"));
        assert_eq!(parse("-1"), Some(Quantity(-NANO)));
        for bad in ["", "x", "1kk", "1.2.3", ".", "1e999"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
