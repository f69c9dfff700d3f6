//! Operators on values.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::value::{Text, Value, compare_numbers};
use crate::{Budget, Error};

const UNFIT: &str = "no such overload";
const OVERFLOW: &str = "integer overflow";

/// `a op b` for the operators that need both sides.
pub(crate) fn binary<'a>(
    operator: &str,
    a: &Value<'a>,
    b: &Value<'a>,
    budget: &mut Budget,
) -> Result<Value<'a>, Error> {
    match operator {
        "_==_" => Ok(Value::Bool(a.equals(b, budget)?)),
        "_!=_" => Ok(Value::Bool(!a.equals(b, budget)?)),
        "_<_" | "_<=_" | "_>_" | "_>=_" => relation(operator, a, b, budget),
        "@in" => match b {
            Value::List(list) => Ok(Value::Bool(list.contains(a, budget)?)),
            Value::Map(map) => Ok(Value::Bool(map.get(a, budget)?.is_some())),
            _ => Err(UNFIT.into()),
        },
        "_+_" => add(a, b, budget),
        "_-_" => subtract(a, b),
        _ => calculate(operator, a, b),
    }
}

fn relation<'a>(
    operator: &str,
    a: &Value<'a>,
    b: &Value<'a>,
    budget: &mut Budget,
) -> Result<Value<'a>, Error> {
    let nan = |value: &Value<'_>| matches!(value, Value::Double(number) if number.is_nan());
    let Some(order) = order(a, b, budget)? else {
        // Not a number is neither less nor greater.
        return if nan(a) || nan(b) {
            Ok(Value::Bool(false))
        } else {
            Err(UNFIT.into())
        };
    };
    Ok(Value::Bool(match operator {
        "_<_" => order.is_lt(),
        "_<=_" => order.is_le(),
        "_>_" => order.is_gt(),
        _ => order.is_ge(),
    }))
}

/// The order of two values; `None` if they have none.
pub(crate) fn order(
    a: &Value<'_>,
    b: &Value<'_>,
    budget: &mut Budget,
) -> Result<Option<Ordering>, Error> {
    Ok(match (a, b) {
        (Value::String(a), Value::String(b)) => {
            budget.spend_text(a.as_str().len().min(b.as_str().len()))?;
            Some(a.as_str().cmp(b.as_str()))
        }
        (Value::Bytes(a), Value::Bytes(b)) => {
            budget.spend_text(a.len().min(b.len()))?;
            Some(a.cmp(b))
        }
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        (Value::Timestamp(a), Value::Timestamp(b)) => Some(a.cmp(b)),
        (Value::Duration(a), Value::Duration(b)) => Some(a.cmp(b)),
        (a, b) => compare_numbers(a, b),
    })
}

fn add<'a>(a: &Value<'a>, b: &Value<'a>, budget: &mut Budget) -> Result<Value<'a>, Error> {
    Ok(match (a, b) {
        (Value::Int(a), Value::Int(b)) => Value::Int(a.checked_add(*b).ok_or(OVERFLOW)?),
        (Value::Uint(a), Value::Uint(b)) => {
            Value::Uint(a.checked_add(*b).ok_or("unsigned integer overflow")?)
        }
        (Value::Double(a), Value::Double(b)) => Value::Double(a + b),
        (Value::String(a), Value::String(b)) => {
            let (a, b) = (a.as_str(), b.as_str());
            // Paid before it is made: repeated sums grow fast.
            budget.spend_text(a.len() + b.len())?;
            Value::String(Text::Made(Arc::from([a, b].concat())))
        }
        (Value::Bytes(a), Value::Bytes(b)) => {
            budget.spend_text(a.len() + b.len())?;
            Value::Bytes([&**a, &**b].concat().into())
        }
        (Value::List(a), Value::List(b)) => {
            budget.spend((a.len() + b.len()) as u64)?;
            Value::list(a.iter().chain(b.iter()).collect())
        }
        (Value::Duration(a), Value::Duration(b)) => {
            Value::Duration(a.checked_add(*b).ok_or("duration overflow")?)
        }
        (Value::Timestamp(at), Value::Duration(span))
        | (Value::Duration(span), Value::Timestamp(at)) => {
            let sum = at.checked_add(*span);
            Value::Timestamp(sum.map_err(|_| Error::from("timestamp overflow"))?)
        }
        _ => return Err(UNFIT.into()),
    })
}

fn subtract<'a>(a: &Value<'a>, b: &Value<'a>) -> Result<Value<'a>, Error> {
    Ok(match (a, b) {
        (Value::Int(a), Value::Int(b)) => Value::Int(a.checked_sub(*b).ok_or(OVERFLOW)?),
        (Value::Uint(a), Value::Uint(b)) => {
            Value::Uint(a.checked_sub(*b).ok_or("unsigned integer overflow")?)
        }
        (Value::Double(a), Value::Double(b)) => Value::Double(a - b),
        (Value::Duration(a), Value::Duration(b)) => {
            Value::Duration(a.checked_sub(*b).ok_or("duration overflow")?)
        }
        (Value::Timestamp(a), Value::Timestamp(b)) => Value::Duration(a.duration_since(*b)),
        (Value::Timestamp(at), Value::Duration(span)) => {
            let difference = at.checked_sub(*span);
            Value::Timestamp(difference.map_err(|_| Error::from("timestamp overflow"))?)
        }
        _ => return Err(UNFIT.into()),
    })
}

fn calculate<'a>(operator: &str, a: &Value<'a>, b: &Value<'a>) -> Result<Value<'a>, Error> {
    let zero = if operator == "_%_" {
        "modulus by zero"
    } else {
        "division by zero"
    };
    Ok(match (operator, a, b) {
        ("_/_" | "_%_", Value::Int(_), Value::Int(0))
        | ("_/_" | "_%_", Value::Uint(_), Value::Uint(0)) => return Err(zero.into()),
        ("_*_", Value::Int(a), Value::Int(b)) => Value::Int(a.checked_mul(*b).ok_or(OVERFLOW)?),
        ("_/_", Value::Int(a), Value::Int(b)) => Value::Int(a.checked_div(*b).ok_or(OVERFLOW)?),
        ("_%_", Value::Int(a), Value::Int(b)) => Value::Int(a.checked_rem(*b).ok_or(OVERFLOW)?),
        ("_*_", Value::Uint(a), Value::Uint(b)) => {
            Value::Uint(a.checked_mul(*b).ok_or("unsigned integer overflow")?)
        }
        ("_/_", Value::Uint(a), Value::Uint(b)) => Value::Uint(a / b),
        ("_%_", Value::Uint(a), Value::Uint(b)) => Value::Uint(a % b),
        ("_*_", Value::Double(a), Value::Double(b)) => Value::Double(a * b),
        ("_/_", Value::Double(a), Value::Double(b)) => Value::Double(a / b),
        _ => return Err(UNFIT.into()),
    })
}

/// `-a` and `!a`.
pub(crate) fn unary<'a>(operator: &str, a: &Value<'a>) -> Result<Value<'a>, Error> {
    match (operator, a) {
        ("!_", Value::Bool(flag)) => Ok(Value::Bool(!flag)),
        ("-_", Value::Int(number)) => Ok(Value::Int(number.checked_neg().ok_or(OVERFLOW)?)),
        ("-_", Value::Double(number)) => Ok(Value::Double(-number)),
        _ => Err(UNFIT.into()),
    }
}
