//! Conversions between types, `type`, `dyn` and base64.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

use crate::functions::{Out, Rows, text, unfit};
use crate::temporal;
use crate::value::Value;
use crate::{Budget, Error};

pub(crate) const ROWS: Rows = &[
    ("dyn(A): dyn", |_, a| {
        a.first().cloned().ok_or_else(|| "no such overload".into())
    }),
    ("type(A): type", |_, a| {
        Ok(Value::Type(a.first().map_or("null_type", Value::type_name)))
    }),
    ("bool(bool): bool", |b, a| to_bool(b, a)),
    ("bool(string): bool", |b, a| to_bool(b, a)),
    ("int(int): int", |b, a| to_int(b, a)),
    ("int(uint): int", |b, a| to_int(b, a)),
    ("int(double): int", |b, a| to_int(b, a)),
    ("int(string): int", |b, a| to_int(b, a)),
    ("int(timestamp): int", |b, a| to_int(b, a)),
    ("uint(uint): uint", |b, a| to_uint(b, a)),
    ("uint(int): uint", |b, a| to_uint(b, a)),
    ("uint(double): uint", |b, a| to_uint(b, a)),
    ("uint(string): uint", |b, a| to_uint(b, a)),
    ("double(double): double", |b, a| to_double(b, a)),
    ("double(int): double", |b, a| to_double(b, a)),
    ("double(uint): double", |b, a| to_double(b, a)),
    ("double(string): double", |b, a| to_double(b, a)),
    ("string(string): string", |b, a| to_string(b, a)),
    ("string(bool): string", |b, a| to_string(b, a)),
    ("string(int): string", |b, a| to_string(b, a)),
    ("string(uint): string", |b, a| to_string(b, a)),
    ("string(double): string", |b, a| to_string(b, a)),
    ("string(bytes): string", |b, a| to_string(b, a)),
    ("string(timestamp): string", |b, a| to_string(b, a)),
    ("string(duration): string", |b, a| to_string(b, a)),
    ("string(IP): string", |b, a| to_string(b, a)),
    ("string(CIDR): string", |b, a| to_string(b, a)),
    ("bytes(bytes): bytes", |_, a| {
        a.first().cloned().ok_or_else(|| "no such overload".into())
    }),
    ("bytes(string): bytes", |b, a| {
        let text = text(a, 0)?;
        b.spend_text(text.len())?;
        Ok(Value::Bytes(text.as_bytes().into()))
    }),
    ("base64.encode(bytes): string", |b, a| match a.first() {
        Some(Value::Bytes(bytes)) => {
            b.spend_text(bytes.len())?;
            Ok(Value::text(STANDARD.encode(bytes)))
        }
        _ => unfit(),
    }),
    ("base64.decode(string): bytes", |b, a| {
        let text = text(a, 0)?;
        b.spend_text(text.len())?;
        let decoded = STANDARD
            .decode(text)
            .or_else(|_| STANDARD_NO_PAD.decode(text));
        let bytes =
            decoded.map_err(|error| Error::Failed(format!("illegal base64 data: {error}")))?;
        Ok(Value::Bytes(bytes.into()))
    }),
];

fn wrong<'a>(what: &str) -> Out<'a> {
    Err(format!("type conversion error from 'string' to '{what}'").into())
}

fn to_bool<'a>(_: &mut Budget, args: &[Value<'a>]) -> Out<'a> {
    match args.first() {
        Some(Value::Bool(flag)) => Ok(Value::Bool(*flag)),
        Some(Value::String(text)) => match text.as_str() {
            "true" | "True" | "TRUE" | "t" | "1" => Ok(Value::Bool(true)),
            "false" | "False" | "FALSE" | "f" | "0" => Ok(Value::Bool(false)),
            _ => wrong("bool"),
        },
        _ => unfit(),
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)] // The bounds are checked.
fn to_int<'a>(_: &mut Budget, args: &[Value<'a>]) -> Out<'a> {
    let overflow = || Error::from("integer overflow");
    Ok(Value::Int(match args.first() {
        Some(Value::Int(number)) => *number,
        Some(Value::Uint(number)) => i64::try_from(*number).map_err(|_| overflow())?,
        Some(Value::Double(number)) if number.abs() < 9.2e18 => number.trunc() as i64,
        Some(Value::Double(_)) => return Err(overflow()),
        Some(Value::Timestamp(at)) => at.as_second(),
        Some(Value::String(text)) => match text.as_str().parse() {
            Ok(number) => number,
            Err(_) => return wrong("int"),
        },
        _ => return unfit(),
    }))
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // The bounds are checked.
fn to_uint<'a>(_: &mut Budget, args: &[Value<'a>]) -> Out<'a> {
    let overflow = || Error::from("unsigned integer overflow");
    Ok(Value::Uint(match args.first() {
        Some(Value::Uint(number)) => *number,
        Some(Value::Int(number)) => u64::try_from(*number).map_err(|_| overflow())?,
        Some(Value::Double(number)) if (0.0..1.8e19).contains(number) => number.trunc() as u64,
        Some(Value::Double(_)) => return Err(overflow()),
        Some(Value::String(text)) => match text.as_str().parse() {
            Ok(number) => number,
            Err(_) => return wrong("uint"),
        },
        _ => return unfit(),
    }))
}

#[allow(clippy::cast_precision_loss)] // What the conversion means.
fn to_double<'a>(_: &mut Budget, args: &[Value<'a>]) -> Out<'a> {
    Ok(Value::Double(match args.first() {
        Some(Value::Double(number)) => *number,
        Some(Value::Int(number)) => *number as f64,
        Some(Value::Uint(number)) => *number as f64,
        Some(Value::String(text)) => match text.as_str().parse() {
            Ok(number) => number,
            Err(_) => return wrong("double"),
        },
        _ => return unfit(),
    }))
}

fn to_string<'a>(budget: &mut Budget, args: &[Value<'a>]) -> Out<'a> {
    let text = match args.first() {
        Some(Value::String(text)) => return Ok(Value::String(text.clone())),
        Some(Value::Bool(flag)) => flag.to_string(),
        Some(Value::Int(number)) => number.to_string(),
        Some(Value::Uint(number)) => number.to_string(),
        Some(Value::Double(number)) => number.to_string(),
        Some(Value::Timestamp(at)) => at.to_string(),
        Some(Value::Duration(span)) => temporal::show_duration(*span),
        Some(Value::Ip(address)) => address.to_string(),
        Some(Value::Cidr(network)) => network.to_string(),
        Some(Value::Bytes(bytes)) => {
            budget.spend_text(bytes.len())?;
            match std::str::from_utf8(bytes) {
                Ok(text) => text.to_owned(),
                Err(_) => return Err("invalid UTF-8 in bytes, cannot convert to string".into()),
            }
        }
        _ => return unfit(),
    };
    Ok(Value::text(text))
}
