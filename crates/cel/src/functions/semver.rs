//! Semantic versions.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::functions::{Out, Rows, text, unfit};
use crate::value::Value;

/// A semantic version; build metadata does not count.
#[derive(Clone, Debug)]
pub struct Semver {
    numbers: [u64; 3],
    before: Vec<String>,
}

pub(crate) const ROWS: Rows = &[
    ("semver(string): Semver", |_, a| make(text(a, 0)?, false)),
    ("semver(string, bool): Semver", |_, a| {
        make(text(a, 0)?, matches!(a.get(1), Some(Value::Bool(true))))
    }),
    ("isSemver(string): bool", |_, a| {
        Ok(Value::Bool(parse(text(a, 0)?, false).is_some()))
    }),
    ("isSemver(string, bool): bool", |_, a| {
        let lenient = matches!(a.get(1), Some(Value::Bool(true)));
        Ok(Value::Bool(parse(text(a, 0)?, lenient).is_some()))
    }),
    ("Semver.major(): int", |_, a| number(a, 0)),
    ("Semver.minor(): int", |_, a| number(a, 1)),
    ("Semver.patch(): int", |_, a| number(a, 2)),
    ("Semver.isGreaterThan(Semver): bool", |_, a| {
        compare(a, |order| Value::Bool(order == Ordering::Greater))
    }),
    ("Semver.isLessThan(Semver): bool", |_, a| {
        compare(a, |order| Value::Bool(order == Ordering::Less))
    }),
    ("Semver.compareTo(Semver): int", |_, a| {
        compare(a, |order| Value::Int(order as i64))
    }),
];

fn make<'a>(text: &str, lenient: bool) -> Out<'a> {
    match parse(text, lenient) {
        Some(version) => Ok(Value::Semver(Arc::new(version))),
        None => Err(format!("invalid semantic version: {text:?}").into()),
    }
}

fn number<'a>(args: &[Value<'a>], index: usize) -> Out<'a> {
    match args.first() {
        Some(Value::Semver(version)) => Ok(Value::Int(
            i64::try_from(version.numbers[index]).unwrap_or(i64::MAX),
        )),
        _ => unfit(),
    }
}

fn compare<'a>(args: &[Value<'a>], read: fn(Ordering) -> Value<'static>) -> Out<'a> {
    match args {
        [Value::Semver(a), Value::Semver(b)] => Ok(read(a.compare(b))),
        _ => unfit(),
    }
}

fn parse(text: &str, lenient: bool) -> Option<Semver> {
    let text = if lenient {
        text.strip_prefix('v').unwrap_or(text)
    } else {
        text
    };
    let (text, build) = match text.split_once('+') {
        Some((text, build)) => (text, Some(build)),
        None => (text, None),
    };
    let (core, before) = match text.split_once('-') {
        Some((core, before)) => (core, Some(before)),
        None => (text, None),
    };
    let names = |list: Option<&str>| -> Option<Vec<String>> {
        let parts = list.map(|list| list.split('.').map(ToOwned::to_owned).collect::<Vec<_>>());
        let parts = parts.unwrap_or_default();
        let valid = |part: &String| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        parts.iter().all(valid).then_some(parts)
    };
    names(build)?;
    let mut numbers = [0; 3];
    let parts: Vec<&str> = core.split('.').collect();
    if parts.len() > 3 || parts.len() < 3 && !lenient {
        return None;
    }
    for (number, part) in numbers.iter_mut().zip(parts) {
        let canonical = part.bytes().all(|byte| byte.is_ascii_digit())
            && (lenient || part == "0" || !part.starts_with('0'));
        *number = part.parse().ok().filter(|_| canonical)?;
    }
    let before = names(before)?;
    Some(Semver { numbers, before })
}

impl Semver {
    pub(crate) fn compare(&self, other: &Self) -> Ordering {
        self.numbers.cmp(&other.numbers).then_with(|| {
            match (self.before.is_empty(), other.before.is_empty()) {
                (true, true) => Ordering::Equal,
                // A release comes after its candidates.
                (true, false) => Ordering::Greater,
                (false, true) => Ordering::Less,
                (false, false) => {
                    let parts = self
                        .before
                        .iter()
                        .zip(&other.before)
                        .map(|(a, b)| part(a, b));
                    let first = parts.into_iter().find(|order| order.is_ne());
                    first.unwrap_or_else(|| self.before.len().cmp(&other.before.len()))
                }
            }
        })
    }
}

impl PartialEq for Semver {
    fn eq(&self, other: &Self) -> bool {
        self.compare(other).is_eq()
    }
}

/// Numbers come before names.
fn part(a: &str, b: &str) -> Ordering {
    match (a.parse::<u64>(), b.parse::<u64>()) {
        (Ok(a), Ok(b)) => a.cmp(&b),
        (Ok(_), Err(_)) => Ordering::Less,
        (Err(_), Ok(_)) => Ordering::Greater,
        (Err(_), Err(_)) => a.cmp(b),
    }
}
