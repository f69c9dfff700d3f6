//! The math library.

use std::cmp::Ordering;

use crate::functions::{Out, Rows, int, list, unfit};
use crate::value::{Value, compare_numbers};
use crate::{Budget, Error};

pub(crate) const ROWS: Rows = &[
    ("math.greatest(dyn): dyn", |b, a| {
        extreme(b, a, Ordering::Greater)
    }),
    ("math.greatest(dyn, dyn): dyn", |b, a| {
        extreme(b, a, Ordering::Greater)
    }),
    ("math.greatest(dyn, dyn, dyn): dyn", |b, a| {
        extreme(b, a, Ordering::Greater)
    }),
    ("math.least(dyn): dyn", |b, a| extreme(b, a, Ordering::Less)),
    ("math.least(dyn, dyn): dyn", |b, a| {
        extreme(b, a, Ordering::Less)
    }),
    ("math.least(dyn, dyn, dyn): dyn", |b, a| {
        extreme(b, a, Ordering::Less)
    }),
    ("math.ceil(double): double", |_, a| round(a, f64::ceil)),
    ("math.floor(double): double", |_, a| round(a, f64::floor)),
    ("math.round(double): double", |_, a| round(a, f64::round)),
    ("math.trunc(double): double", |_, a| round(a, f64::trunc)),
    ("math.isInf(double): bool", |_, a| {
        Ok(Value::Bool(double(a)?.is_infinite()))
    }),
    ("math.isNaN(double): bool", |_, a| {
        Ok(Value::Bool(double(a)?.is_nan()))
    }),
    ("math.isFinite(double): bool", |_, a| {
        Ok(Value::Bool(double(a)?.is_finite()))
    }),
    ("math.abs(int): int", |_, a| {
        int(a, 0)?
            .checked_abs()
            .map(Value::Int)
            .ok_or_else(|| "integer overflow".into())
    }),
    ("math.abs(uint): uint", |_, a| Ok(a[0].clone())),
    ("math.abs(double): double", |_, a| round(a, f64::abs)),
    ("math.sign(int): int", |_, a| {
        Ok(Value::Int(int(a, 0)?.signum()))
    }),
    ("math.sign(double): double", |_, a| {
        round(a, |number| {
            if number == 0.0 || number.is_nan() {
                number
            } else {
                number.signum()
            }
        })
    }),
    ("math.sqrt(double): double", |_, a| round(a, f64::sqrt)),
    ("math.sqrt(int): double", |_, a| {
        #[allow(clippy::cast_precision_loss)] // The square root has no more digits.
        let number = int(a, 0)? as f64;
        Ok(Value::Double(number.sqrt()))
    }),
    ("math.bitAnd(int, int): int", |_, a| {
        Ok(Value::Int(int(a, 0)? & int(a, 1)?))
    }),
    ("math.bitOr(int, int): int", |_, a| {
        Ok(Value::Int(int(a, 0)? | int(a, 1)?))
    }),
    ("math.bitXor(int, int): int", |_, a| {
        Ok(Value::Int(int(a, 0)? ^ int(a, 1)?))
    }),
    ("math.bitNot(int): int", |_, a| Ok(Value::Int(!int(a, 0)?))),
    ("math.bitShiftLeft(int, int): int", |_, a| {
        let by = shift(int(a, 1)?)?;
        Ok(Value::Int(
            by.map_or(0, |by| int(a, 0).unwrap_or_default() << by),
        ))
    }),
    ("math.bitShiftRight(int, int): int", |_, a| {
        let by = shift(int(a, 1)?)?;
        #[allow(clippy::cast_possible_wrap, clippy::cast_sign_loss)] // Bits, not numbers.
        Ok(Value::Int(by.map_or(0, |by| {
            ((int(a, 0).unwrap_or_default() as u64) >> by) as i64
        })))
    }),
];

fn double(args: &[Value<'_>]) -> Result<f64, Error> {
    match args.first() {
        Some(Value::Double(number)) => Ok(*number),
        _ => Err("no such overload".into()),
    }
}

fn round<'a>(args: &[Value<'a>], round: fn(f64) -> f64) -> Out<'a> {
    Ok(Value::Double(round(double(args)?)))
}

/// Bits to shift by; `None` if nothing is left.
fn shift(by: i64) -> Result<Option<u32>, Error> {
    match u32::try_from(by) {
        Ok(by) if by < 64 => Ok(Some(by)),
        Ok(_) => Ok(None),
        Err(_) if by < 0 => Err(format!("math.bitShift() negative offset: {by}").into()),
        Err(_) => Ok(None),
    }
}

fn extreme<'a>(budget: &mut Budget, args: &[Value<'a>], wanted: Ordering) -> Out<'a> {
    let items: Vec<Value<'a>> = match args {
        [Value::List(_)] => list(args, 0)?.iter().collect(),
        args => args.to_vec(),
    };
    budget.spend(items.len() as u64)?;
    let mut best: Option<Value<'a>> = None;
    for item in items {
        let Some(known) = &best else {
            best = Some(item);
            continue;
        };
        match compare_numbers(&item, known) {
            Some(order) if order == wanted => best = Some(item),
            Some(_) => {}
            None => return unfit(),
        }
    }
    best.ok_or_else(|| "math.@max(list) argument must not be empty".into())
}
