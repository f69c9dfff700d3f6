//! Text: the standard functions, the strings library, `join`, quoting and `format`.
//!
//! Positions count characters, not bytes.

use crate::functions::{Out, Rows, int, list, text};
use crate::value::Value;
use crate::{Budget, Error, temporal};

pub(crate) const ROWS: Rows = &[
    ("string.contains(string): bool", |b, a| {
        test(b, a, |text, part| text.contains(part))
    }),
    ("string.startsWith(string): bool", |b, a| {
        test(b, a, |text, part| text.starts_with(part))
    }),
    ("string.endsWith(string): bool", |b, a| {
        test(b, a, |text, part| text.ends_with(part))
    }),
    ("string.lowerAscii(): string", |b, a| {
        made(b, text(a, 0)?.to_ascii_lowercase())
    }),
    ("string.upperAscii(): string", |b, a| {
        made(b, text(a, 0)?.to_ascii_uppercase())
    }),
    ("string.trim(): string", |b, a| {
        made(b, text(a, 0)?.trim().to_owned())
    }),
    ("string.reverse(): string", |b, a| {
        made(b, text(a, 0)?.chars().rev().collect())
    }),
    ("string.charAt(int): string", char_at),
    ("string.indexOf(string): int", |b, a| index_of(b, a, 0)),
    ("string.indexOf(string, int): int", |b, a| {
        index_of(b, a, int(a, 2)?)
    }),
    ("string.lastIndexOf(string): int", |b, a| {
        last_index_of(b, a, None)
    }),
    ("string.lastIndexOf(string, int): int", |b, a| {
        last_index_of(b, a, Some(int(a, 2)?))
    }),
    ("string.replace(string, string): string", |b, a| {
        replace(b, a, -1)
    }),
    ("string.replace(string, string, int): string", |b, a| {
        replace(b, a, int(a, 3)?)
    }),
    ("string.split(string): list<string>", |b, a| split(b, a, -1)),
    ("string.split(string, int): list<string>", |b, a| {
        split(b, a, int(a, 2)?)
    }),
    ("string.substring(int): string", |b, a| {
        let length = text(a, 0)?.chars().count();
        substring(b, a, i64::try_from(length).unwrap_or(i64::MAX))
    }),
    ("string.substring(int, int): string", |b, a| {
        substring(b, a, int(a, 2)?)
    }),
    ("list<string>.join(): string", |b, a| join(b, a, "")),
    ("list<string>.join(string): string", |b, a| {
        join(b, a, text(a, 1)?)
    }),
    ("strings.quote(string): string", |b, a| {
        let quoted = serde_json::Value::from(text(a, 0)?).to_string();
        made(b, quoted)
    }),
    ("string.format(list<dyn>): string", format),
    ("jsonpatch.escapeKey(string): string", |b, a| {
        made(b, text(a, 0)?.replace('~', "~0").replace('/', "~1"))
    }),
];

fn test<'a>(budget: &mut Budget, args: &[Value<'a>], test: fn(&str, &str) -> bool) -> Out<'a> {
    let (whole, part) = (text(args, 0)?, text(args, 1)?);
    budget.spend_text(whole.len() + part.len())?;
    Ok(Value::Bool(test(whole, part)))
}

/// Text that is not much larger than the arguments.
fn made<'a>(budget: &mut Budget, text: String) -> Out<'a> {
    budget.spend_text(text.len())?;
    Ok(Value::text(text))
}

fn out_of_range<'a>(index: i64) -> Out<'a> {
    Err(format!("index out of range: {index}").into())
}

fn char_at<'a>(budget: &mut Budget, args: &[Value<'a>]) -> Out<'a> {
    let (whole, index) = (text(args, 0)?, int(args, 1)?);
    budget.spend_text(whole.len())?;
    let length = whole.chars().count();
    match usize::try_from(index) {
        Ok(at) if at == length => Ok(Value::text("")),
        Ok(at) if at < length => Ok(Value::text(
            whole.chars().skip(at).take(1).collect::<String>(),
        )),
        _ => out_of_range(index),
    }
}

fn index_of<'a>(budget: &mut Budget, args: &[Value<'a>], from: i64) -> Out<'a> {
    let (whole, part) = (text(args, 0)?, text(args, 1)?);
    budget.spend_text(whole.len())?;
    let Some(start) = byte_of(whole, from) else {
        return out_of_range(from);
    };
    let found = whole[start..]
        .find(part)
        .map(|at| whole[..start + at].chars().count());
    Ok(position(found))
}

fn last_index_of<'a>(budget: &mut Budget, args: &[Value<'a>], to: Option<i64>) -> Out<'a> {
    let (whole, part) = (text(args, 0)?, text(args, 1)?);
    budget.spend_text(whole.len())?;
    let end = match to {
        None => whole.len(),
        Some(to) => match byte_of(whole, to) {
            Some(at) => (at + part.len()).min(whole.len()),
            None => return out_of_range(to),
        },
    };
    // The end may lie inside a letter, where no match ends.
    let end = (end..=whole.len())
        .find(|at| whole.is_char_boundary(*at))
        .unwrap_or(whole.len());
    let found = whole[..end]
        .rfind(part)
        .map(|at| whole[..at].chars().count());
    Ok(position(found))
}

fn position<'a>(found: Option<usize>) -> Value<'a> {
    Value::Int(found.and_then(|at| i64::try_from(at).ok()).unwrap_or(-1))
}

/// Byte at which the character `index` begins; the end counts as one.
fn byte_of(text: &str, index: i64) -> Option<usize> {
    let index = usize::try_from(index).ok()?;
    let begins = text.char_indices().map(|(at, _)| at).chain([text.len()]);
    begins.into_iter().nth(index)
}

fn replace<'a>(budget: &mut Budget, args: &[Value<'a>], most: i64) -> Out<'a> {
    let (whole, old, new) = (text(args, 0)?, text(args, 1)?, text(args, 2)?);
    budget.spend_text(whole.len())?;
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let count = whole.matches(old).count().min(most);
    // Paid before it is made: the result may be much larger than its parts.
    budget.spend_text(count.saturating_mul(new.len()))?;
    Ok(Value::text(whole.replacen(old, new, most)))
}

fn split<'a>(budget: &mut Budget, args: &[Value<'a>], most: i64) -> Out<'a> {
    let (whole, by) = (text(args, 0)?, text(args, 1)?);
    budget.spend(whole.len() as u64 + 1)?;
    if most == 0 {
        return Ok(Value::list(Vec::new()));
    }
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let parts: Vec<Value<'a>> = if by.is_empty() {
        // Letters, as in Go; `split` would add empty ends.
        let mut letters: Vec<String> = whole.chars().map(String::from).collect();
        if letters.len() > most {
            let rest = letters.split_off(most - 1).concat();
            letters.push(rest);
        }
        letters.into_iter().map(Value::text).collect()
    } else {
        whole.splitn(most, by).map(Value::text).collect()
    };
    Ok(Value::list(parts))
}

fn substring<'a>(budget: &mut Budget, args: &[Value<'a>], end: i64) -> Out<'a> {
    let (whole, start) = (text(args, 0)?, int(args, 1)?);
    budget.spend_text(whole.len())?;
    match (byte_of(whole, start), byte_of(whole, end)) {
        (None, _) => out_of_range(start),
        (_, None) => out_of_range(end),
        (Some(_), Some(_)) if start > end => {
            Err(format!("invalid substring range. start: {start}, end: {end}").into())
        }
        (Some(from), Some(to)) => Ok(Value::text(&whole[from..to])),
    }
}

fn join<'a>(budget: &mut Budget, args: &[Value<'a>], by: &str) -> Out<'a> {
    let mut out = String::new();
    for (index, item) in list(args, 0)?.iter().enumerate() {
        let Some(part) = item.as_str() else {
            return Err("no such overload".into());
        };
        budget.spend_text(part.len() + by.len())?;
        if index > 0 {
            out.push_str(by);
        }
        out.push_str(part);
    }
    Ok(Value::text(out))
}

fn format<'a>(budget: &mut Budget, args: &[Value<'a>]) -> Out<'a> {
    let items = list(args, 1)?;
    let mut values = items.iter();
    let mut out = String::new();
    let mut letters = text(args, 0)?.chars().peekable();
    while let Some(letter) = letters.next() {
        budget.spend(1)?;
        if letter != '%' {
            out.push(letter);
            continue;
        }
        if letters.next_if_eq(&'%').is_some() {
            out.push('%');
            continue;
        }
        let mut precision = None;
        if letters.next_if_eq(&'.').is_some() {
            let mut number = 0_usize;
            while let Some(digit) = letters.peek().and_then(|letter| letter.to_digit(10)) {
                letters.next();
                number = (number * 10 + digit as usize).min(1000);
            }
            precision = Some(number);
        }
        let verb = letters
            .next()
            .ok_or("could not parse formatting clause: unexpected end of string")?;
        let Some(value) = values.next() else {
            return Err("index out of range for format arguments".into());
        };
        let part = clause(verb, precision, &value, budget)?;
        budget.spend_text(part.len())?;
        out.push_str(&part);
    }
    Ok(Value::text(out))
}

fn clause(
    verb: char,
    precision: Option<usize>,
    value: &Value<'_>,
    budget: &mut Budget,
) -> Result<String, Error> {
    let precision = precision.unwrap_or(6);
    Ok(match (verb, value) {
        ('s', value) => return show(value, budget),
        ('d', Value::Int(number)) => number.to_string(),
        ('d', Value::Uint(number)) => number.to_string(),
        ('b', Value::Bool(flag)) => u8::from(*flag).to_string(),
        ('b', Value::Int(number)) if *number < 0 => format!("-{:b}", number.unsigned_abs()),
        ('b', Value::Int(number)) => format!("{number:b}"),
        ('b', Value::Uint(number)) => format!("{number:b}"),
        ('o', Value::Int(number)) if *number >= 0 => format!("{number:o}"),
        ('o', Value::Uint(number)) => format!("{number:o}"),
        ('x', Value::Int(number)) if *number < 0 => format!("-{:x}", number.unsigned_abs()),
        ('x', Value::Int(number)) => format!("{number:x}"),
        ('X', Value::Int(number)) if *number < 0 => format!("-{:X}", number.unsigned_abs()),
        ('X', Value::Int(number)) => format!("{number:X}"),
        ('x', Value::Uint(number)) => format!("{number:x}"),
        ('X', Value::Uint(number)) => format!("{number:X}"),
        ('x' | 'X', Value::String(text)) => {
            let bytes = text.as_str().bytes();
            bytes
                .map(|byte| {
                    if verb == 'x' {
                        format!("{byte:02x}")
                    } else {
                        format!("{byte:02X}")
                    }
                })
                .collect()
        }
        ('f', Value::Double(number)) => format!("{number:.precision$}"),
        ('e', Value::Double(number)) => scientific(*number, precision),
        (verb, value) => {
            return Err(format!(
                "error during formatting: no such formatting clause \"%{verb}\" for type {}",
                value.type_name()
            )
            .into());
        }
    })
}

/// Go's form of an exponent: a sign and two digits.
fn scientific(number: f64, precision: usize) -> String {
    let text = format!("{number:.precision$e}");
    match text.split_once('e') {
        Some((digits, exponent)) => match exponent.strip_prefix('-') {
            Some(exponent) => format!("{digits}e-{exponent:0>2}"),
            None => format!("{digits}e+{exponent:0>2}"),
        },
        None => text,
    }
}

/// The text of any value, as `%s` shows it.
fn show(value: &Value<'_>, budget: &mut Budget) -> Result<String, Error> {
    budget.spend(1)?;
    Ok(match value {
        Value::Null => "null".to_owned(),
        Value::Bool(flag) => flag.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Uint(number) => number.to_string(),
        Value::Double(number) => number.to_string(),
        Value::String(text) => {
            budget.spend_text(text.as_str().len())?;
            text.as_str().to_owned()
        }
        Value::Timestamp(at) => at.to_string(),
        Value::Duration(span) => temporal::show_duration(*span),
        Value::List(list) => {
            let parts: Result<Vec<_>, Error> =
                list.iter().map(|item| show(&item, budget)).collect();
            format!("[{}]", parts?.join(", "))
        }
        Value::Map(map) => {
            let mut parts = Vec::new();
            for (key, value) in map.entries() {
                parts.push(format!(
                    "{}: {}",
                    show(&key, budget)?,
                    show(&value, budget)?
                ));
            }
            parts.sort();
            format!("{{{}}}", parts.join(", "))
        }
        Value::Type(name) => (*name).to_owned(),
        other => {
            return Err(format!("no formatting function for {}", other.type_name()).into());
        }
    })
}
