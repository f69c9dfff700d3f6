//! The function table: one signature and one function per overload. The checker reads the
//! signatures, the evaluator picks the first overload that fits the values.
//!
//! Signatures read as Kubernetes documents them; `string.contains(string): bool` is a method, and
//! `sets.contains(list<A>, list<A>): bool` a function in a namespace.

pub(crate) mod convert;
pub(crate) mod lists;
pub(crate) mod math;
pub(crate) mod net;
pub(crate) mod quantity;
pub(crate) mod semver;
pub(crate) mod strings;
pub(crate) mod times;
pub(crate) mod validate;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use regex::Regex;

use crate::check::join;
use crate::types::Type;
use crate::value::Value;
use crate::{Budget, Error};

/// Result of a function.
pub(crate) type Out<'a> = Result<Value<'a>, Error>;
/// A function over values that fit its signature. It spends what it reads and makes.
pub(crate) type Function = for<'a> fn(&mut Budget, &[Value<'a>]) -> Out<'a>;
/// Rows of the table.
pub(crate) type Rows = &'static [(&'static str, Function)];

/// One signature of a function.
pub(crate) struct Overload {
    pub(crate) member: bool,
    params: Vec<Type>,
    result: Type,
    pub(crate) run: Option<Function>,
}

/// Operators: the evaluator computes them itself.
const OPERATORS: &[&str] = &[
    "_+_(int, int): int",
    "_+_(uint, uint): uint",
    "_+_(double, double): double",
    "_+_(string, string): string",
    "_+_(bytes, bytes): bytes",
    "_+_(list<A>, list<A>): list<A>",
    "_+_(duration, duration): duration",
    "_+_(timestamp, duration): timestamp",
    "_+_(duration, timestamp): timestamp",
    "_-_(int, int): int",
    "_-_(uint, uint): uint",
    "_-_(double, double): double",
    "_-_(duration, duration): duration",
    "_-_(timestamp, duration): timestamp",
    "_-_(timestamp, timestamp): duration",
    "_*_(int, int): int",
    "_*_(uint, uint): uint",
    "_*_(double, double): double",
    "_/_(int, int): int",
    "_/_(uint, uint): uint",
    "_/_(double, double): double",
    "_%_(int, int): int",
    "_%_(uint, uint): uint",
    "-_(int): int",
    "-_(double): double",
    "!_(bool): bool",
    "_==_(A, A): bool",
    "_!=_(A, A): bool",
    "@in(A, list<A>): bool",
    "@in(K, map<K,V>): bool",
    // The evaluator holds their compiled patterns.
    "matches(string, string): bool",
    "string.matches(string): bool",
    "string.find(string): string",
    "string.findAll(string): list<string>",
    "string.findAll(string, int): list<string>",
];

/// Types that `<`, `<=`, `>` and `>=` order; numbers also across types.
const ORDERED: &[(&str, &str)] = &[
    ("bool", "bool"),
    ("int", "int"),
    ("int", "uint"),
    ("int", "double"),
    ("uint", "uint"),
    ("uint", "int"),
    ("uint", "double"),
    ("double", "double"),
    ("double", "int"),
    ("double", "uint"),
    ("string", "string"),
    ("bytes", "bytes"),
    ("timestamp", "timestamp"),
    ("duration", "duration"),
];

/// The overloads of a function.
pub(crate) fn named(function: &str) -> &'static [Overload] {
    static TABLE: OnceLock<HashMap<String, Vec<Overload>>> = OnceLock::new();
    let table = TABLE.get_or_init(|| {
        let mut table: HashMap<String, Vec<Overload>> = HashMap::new();
        let mut add = |signature: &str, run: Option<Function>| {
            // A test reads every signature.
            if let Some((name, overload)) = Overload::read(signature, run) {
                table.entry(name).or_default().push(overload);
            }
        };
        for signature in OPERATORS {
            add(signature, None);
        }
        for operator in ["<", "<=", ">", ">="] {
            for (a, b) in ORDERED {
                add(&format!("_{operator}_({a}, {b}): bool"), None);
            }
        }
        for rows in rows() {
            for (signature, run) in rows {
                add(signature, Some(*run));
            }
        }
        table
    });
    table.get(function).map_or(&[], Vec::as_slice)
}

fn rows() -> [Rows; 9] {
    [
        convert::ROWS,
        lists::ROWS,
        math::ROWS,
        net::ROWS,
        quantity::ROWS,
        semver::ROWS,
        strings::ROWS,
        times::ROWS,
        validate::ROWS,
    ]
}

/// Calls a function that the evaluator does not know itself.
pub(crate) fn call<'a>(
    function: &str,
    member: bool,
    args: &[Value<'a>],
    budget: &mut Budget,
) -> Out<'a> {
    let overloads = named(function).iter();
    let mut fitting = overloads.filter(|overload| overload.member == member && overload.fits(args));
    match fitting.next().and_then(|overload| overload.run) {
        Some(run) => run(budget, args),
        None => Err("no such overload".into()),
    }
}

/// Compiles a pattern within bounds.
pub(crate) fn regex(pattern: &str) -> Result<Regex, String> {
    let built = regex::RegexBuilder::new(pattern)
        .size_limit(1 << 20)
        .build();
    built.map_err(|error| {
        let text = error.to_string();
        let last = text.lines().last().unwrap_or_default();
        format!("{}: `{pattern}`", last.trim_start_matches("error: "))
    })
}

impl Overload {
    fn read(signature: &str, run: Option<Function>) -> Option<(String, Self)> {
        let (head, result) = signature.rsplit_once("): ")?;
        let (name, params) = head.split_once('(')?;
        let mut types = Vec::new();
        let mut member = false;
        let mut name = name;
        // A prefix that is a type is the target of a method.
        if let Some((target, method)) = name.rsplit_once('.')
            && let Some(target) = Type::read(target)
        {
            types.push(target);
            member = true;
            name = method;
        }
        let mut rest = params.trim();
        while !rest.is_empty() {
            let mut depth = 0;
            let end = rest.find(|letter| {
                match letter {
                    '<' => depth += 1,
                    '>' => depth -= 1,
                    _ => {}
                }
                letter == ',' && depth == 0
            });
            let (first, next) = rest.split_at(end.unwrap_or(rest.len()));
            types.push(Type::read(first)?);
            rest = next.trim_start_matches(',').trim_start();
        }
        let overload = Self {
            member,
            params: types,
            result: Type::read(result)?,
            run,
        };
        Some((name.to_owned(), overload))
    }

    /// The type of the result for arguments of these types; `None` if they do not fit.
    pub(crate) fn apply(&self, types: &[Type]) -> Option<Type> {
        if types.len() != self.params.len() {
            return None;
        }
        let mut bound = HashMap::new();
        for (param, given) in self.params.iter().zip(types) {
            bind(param, given, &mut bound)?;
        }
        Some(substitute(&self.result, &bound))
    }

    fn fits(&self, args: &[Value<'_>]) -> bool {
        args.len() == self.params.len()
            && self
                .params
                .iter()
                .zip(args)
                .all(|(param, arg)| holds(param, arg))
    }
}

fn bind(param: &Type, given: &Type, bound: &mut HashMap<char, Type>) -> Option<()> {
    match (param, given) {
        (Type::Dyn, _) => Some(()),
        (Type::Param(name), given) => {
            let joined = match bound.get(name) {
                Some(known) => join(known, given)?,
                None => given.clone(),
            };
            bound.insert(*name, joined);
            Some(())
        }
        (_, Type::Dyn) => Some(()),
        (Type::List(param), Type::List(given) | Type::Set(given))
        | (Type::Optional(param), Type::Optional(given)) => bind(param, given, bound),
        (Type::Map(k, v), Type::Map(l, w)) => {
            bind(k, l, bound)?;
            bind(v, w, bound)
        }
        (param, given) => (param == given).then_some(()),
    }
}

fn substitute(of: &Type, bound: &HashMap<char, Type>) -> Type {
    match of {
        Type::Param(name) => bound.get(name).cloned().unwrap_or(Type::Dyn),
        Type::List(item) => Type::list(substitute(item, bound)),
        Type::Optional(inner) => Type::optional(substitute(inner, bound)),
        Type::Map(key, value) => Type::Map(
            Arc::new(substitute(key, bound)),
            Arc::new(substitute(value, bound)),
        ),
        other => other.clone(),
    }
}

/// Whether a value has a type; items are judged by the function itself.
fn holds(param: &Type, value: &Value<'_>) -> bool {
    match param {
        Type::Dyn | Type::Param(_) => true,
        Type::Null => matches!(value, Value::Null),
        Type::Bool => matches!(value, Value::Bool(_)),
        Type::Int => matches!(value, Value::Int(_)),
        Type::Uint => matches!(value, Value::Uint(_)),
        Type::Double => matches!(value, Value::Double(_)),
        Type::String => matches!(value, Value::String(_)),
        Type::Bytes => matches!(value, Value::Bytes(_)),
        Type::Timestamp => matches!(value, Value::Timestamp(_)),
        Type::Duration => matches!(value, Value::Duration(_)),
        Type::List(_) | Type::Set(_) => matches!(value, Value::List(_)),
        Type::Map(..) | Type::Object(_) => matches!(value, Value::Map(_)),
        Type::Optional(_) => matches!(value, Value::Optional(_)),
        Type::Type => matches!(value, Value::Type(_)),
        Type::Opaque(name) => value.type_name() == *name,
    }
}

/// The text of an argument. Signatures promise it; a wrong one is an error, not a panic.
pub(crate) fn text<'v>(args: &'v [Value<'_>], index: usize) -> Result<&'v str, Error> {
    let found = args.get(index).and_then(Value::as_str);
    found.ok_or_else(|| "no such overload".into())
}

/// The integer of an argument.
pub(crate) fn int(args: &[Value<'_>], index: usize) -> Result<i64, Error> {
    match args.get(index) {
        Some(Value::Int(number)) => Ok(*number),
        _ => Err("no such overload".into()),
    }
}

/// The list of an argument.
pub(crate) fn list<'v, 'a>(
    args: &'v [Value<'a>],
    index: usize,
) -> Result<&'v crate::value::List<'a>, Error> {
    match args.get(index) {
        Some(Value::List(list)) => Ok(list),
        _ => Err("no such overload".into()),
    }
}

/// The error for values that no overload takes.
pub(crate) fn unfit<'a>() -> Out<'a> {
    Err("no such overload".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signature_can_be_read() {
        for rows in rows() {
            for (signature, _) in rows {
                assert!(Overload::read(signature, None).is_some(), "{signature}");
            }
        }
        for signature in OPERATORS {
            assert!(Overload::read(signature, None).is_some(), "{signature}");
        }
    }
}
