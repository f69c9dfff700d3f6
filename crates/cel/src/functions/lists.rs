//! Lists, sets, maps and optionals.

use std::cmp::Ordering;

use crate::functions::{Out, Rows, int, list, unfit};
use crate::operators;
use crate::value::{Map, Value};
use crate::{Budget, Error};

/// Items that `lists.range` and `flatten` make at most, whatever the budget.
const MOST: i64 = 100_000;

pub(crate) const ROWS: Rows = &[
    ("size(string): int", |b, a| size(b, a)),
    ("size(bytes): int", |b, a| size(b, a)),
    ("size(list<A>): int", |b, a| size(b, a)),
    ("size(map<K,V>): int", |b, a| size(b, a)),
    ("string.size(): int", |b, a| size(b, a)),
    ("bytes.size(): int", |b, a| size(b, a)),
    ("list<A>.size(): int", |b, a| size(b, a)),
    ("map<K,V>.size(): int", |b, a| size(b, a)),
    ("list<A>.isSorted(): bool", is_sorted),
    ("list<A>.sum(): A", sum),
    ("list<A>.min(): A", |b, a| extreme(b, a, Ordering::Less)),
    ("list<A>.max(): A", |b, a| extreme(b, a, Ordering::Greater)),
    ("list<A>.indexOf(A): int", |b, a| position(b, a, false)),
    ("list<A>.lastIndexOf(A): int", |b, a| position(b, a, true)),
    ("list<A>.distinct(): list<A>", distinct),
    ("list<A>.reverse(): list<A>", |b, a| {
        let mut items = copy(b, a)?;
        items.reverse();
        Ok(Value::list(items))
    }),
    ("list<A>.sort(): list<A>", |b, a| {
        let items = copy(b, a)?;
        let keys = items.clone();
        sort(b, items, keys)
    }),
    ("list<A>.slice(int, int): list<A>", slice),
    ("list<dyn>.flatten(): list<dyn>", |b, a| flatten(b, a, 1)),
    ("list<dyn>.flatten(int): list<dyn>", |b, a| {
        flatten(b, a, int(a, 1)?)
    }),
    ("list<A>.first(): optional<A>", |_, a| {
        Ok(Value::optional(list(a, 0)?.get(0)))
    }),
    ("list<A>.last(): optional<A>", |_, a| {
        let items = list(a, 0)?;
        Ok(Value::optional(items.get(items.len().wrapping_sub(1))))
    }),
    ("lists.range(int): list<int>", |b, a| {
        let count = int(a, 0)?;
        if !(0..=MOST).contains(&count) {
            return Err(format!("lists.range: {count} is out of range").into());
        }
        b.spend(count.unsigned_abs())?;
        Ok(Value::list((0..count).map(Value::Int).collect()))
    }),
    ("sets.contains(list<A>, list<A>): bool", |b, a| {
        contains(b, a, 0, 1)
    }),
    ("sets.equivalent(list<A>, list<A>): bool", |b, a| {
        let one = matches!(contains(b, a, 0, 1)?, Value::Bool(true));
        Ok(Value::Bool(
            one && matches!(contains(b, a, 1, 0)?, Value::Bool(true)),
        ))
    }),
    ("sets.intersects(list<A>, list<A>): bool", |b, a| {
        for item in list(a, 0)?.iter() {
            if list(a, 1)?.contains(&item, b)? {
                return Ok(Value::Bool(true));
            }
        }
        Ok(Value::Bool(false))
    }),
    ("optional.of(A): optional<A>", |_, a| {
        Ok(Value::optional(a.first().cloned()))
    }),
    ("optional.none(): optional<A>", |_, _| {
        Ok(Value::optional(None))
    }),
    ("optional.ofNonZeroValue(A): optional<A>", |_, a| {
        Ok(Value::optional(
            a.first().filter(|value| !value.is_zero()).cloned(),
        ))
    }),
    ("optional<A>.hasValue(): bool", |_, a| {
        Ok(Value::Bool(matches!(
            a.first(),
            Some(Value::Optional(Some(_)))
        )))
    }),
    ("optional<A>.value(): A", |_, a| match a.first() {
        Some(Value::Optional(Some(value))) => Ok((**value).clone()),
        _ => Err("optional.none() dereference".into()),
    }),
    ("optional<A>.or(optional<A>): optional<A>", |_, a| match a {
        [found @ Value::Optional(Some(_)), _] => Ok(found.clone()),
        [_, other] => Ok(other.clone()),
        _ => unfit(),
    }),
    ("optional<A>.orValue(A): A", |_, a| match a {
        [Value::Optional(Some(found)), _] => Ok((**found).clone()),
        [_, other] => Ok(other.clone()),
        _ => unfit(),
    }),
    ("optional.unwrap(list<optional<A>>): list<A>", |b, a| {
        unwrap(b, a)
    }),
    ("list<optional<A>>.unwrapOpt(): list<A>", |b, a| {
        unwrap(b, a)
    }),
];

fn size<'a>(budget: &mut Budget, args: &[Value<'a>]) -> Out<'a> {
    let size = match args.first() {
        Some(Value::String(text)) => {
            budget.spend_text(text.as_str().len())?;
            text.as_str().chars().count()
        }
        Some(Value::Bytes(bytes)) => bytes.len(),
        Some(Value::List(list)) => list.len(),
        Some(Value::Map(map)) => map.len(),
        _ => return unfit(),
    };
    Ok(Value::Int(i64::try_from(size).unwrap_or(i64::MAX)))
}

/// The items of the first argument, paid for.
fn copy<'a>(budget: &mut Budget, args: &[Value<'a>]) -> Result<Vec<Value<'a>>, Error> {
    let items = list(args, 0)?;
    budget.spend(items.len() as u64)?;
    Ok(items.iter().collect())
}

fn order(a: &Value<'_>, b: &Value<'_>, budget: &mut Budget) -> Result<Ordering, Error> {
    operators::order(a, b, budget)?.ok_or_else(|| "no such overload".into())
}

fn is_sorted<'a>(budget: &mut Budget, args: &[Value<'a>]) -> Out<'a> {
    let items = copy(budget, args)?;
    for pair in items.windows(2) {
        if order(&pair[0], &pair[1], budget)? == Ordering::Greater {
            return Ok(Value::Bool(false));
        }
    }
    Ok(Value::Bool(true))
}

fn sum<'a>(budget: &mut Budget, args: &[Value<'a>]) -> Out<'a> {
    let mut total: Option<Value<'a>> = None;
    for item in copy(budget, args)? {
        total = Some(match total {
            None => item,
            Some(total) => operators::binary("_+_", &total, &item, budget)?,
        });
    }
    Ok(total.unwrap_or(Value::Int(0)))
}

fn extreme<'a>(budget: &mut Budget, args: &[Value<'a>], wanted: Ordering) -> Out<'a> {
    let mut best: Option<Value<'a>> = None;
    for item in copy(budget, args)? {
        best = Some(match best {
            Some(best) if order(&item, &best, budget)? != wanted => best,
            _ => item,
        });
    }
    let name = if wanted == Ordering::Less {
        "min"
    } else {
        "max"
    };
    best.ok_or_else(|| format!("{name} called on empty list").into())
}

fn position<'a>(budget: &mut Budget, args: &[Value<'a>], last: bool) -> Out<'a> {
    let wanted = args.get(1).ok_or("no such overload")?;
    let mut found = -1;
    for (index, item) in (0_i64..).zip(list(args, 0)?.iter()) {
        if item.equals(wanted, budget)? {
            found = index;
            if !last {
                break;
            }
        }
    }
    Ok(Value::Int(found))
}

fn distinct<'a>(budget: &mut Budget, args: &[Value<'a>]) -> Out<'a> {
    let mut kept: Vec<Value<'a>> = Vec::new();
    for item in copy(budget, args)? {
        let mut known = false;
        for other in &kept {
            known |= other.equals(&item, budget)?;
        }
        if !known {
            kept.push(item);
        }
    }
    Ok(Value::list(kept))
}

fn slice<'a>(budget: &mut Budget, args: &[Value<'a>]) -> Out<'a> {
    let items = copy(budget, args)?;
    let (start, end) = (int(args, 1)?, int(args, 2)?);
    let place = |at: i64| usize::try_from(at).ok().filter(|at| *at <= items.len());
    match (place(start), place(end)) {
        (Some(from), Some(to)) if from <= to => Ok(Value::list(items[from..to].to_vec())),
        _ => Err(format!(
            "cannot slice({start}, {end}), list is length {}",
            items.len()
        )
        .into()),
    }
}

fn flatten<'a>(budget: &mut Budget, args: &[Value<'a>], depth: i64) -> Out<'a> {
    if depth < 0 {
        return Err("level must be non-negative".into());
    }
    let mut items = copy(budget, args)?;
    // Lists nest no deeper than JSON does.
    for _ in 0..depth.min(100) {
        if !items.iter().any(|item| matches!(item, Value::List(_))) {
            break;
        }
        let mut flat = Vec::new();
        for item in items {
            match item {
                Value::List(inner) => {
                    budget.spend(inner.len() as u64)?;
                    flat.extend(inner.iter());
                }
                other => flat.push(other),
            }
        }
        items = flat;
    }
    Ok(Value::list(items))
}

fn contains<'a>(budget: &mut Budget, args: &[Value<'a>], outer: usize, inner: usize) -> Out<'a> {
    for item in list(args, inner)?.iter() {
        if !list(args, outer)?.contains(&item, budget)? {
            return Ok(Value::Bool(false));
        }
    }
    Ok(Value::Bool(true))
}

fn unwrap<'a>(budget: &mut Budget, args: &[Value<'a>]) -> Out<'a> {
    let items = copy(budget, args)?;
    let present = items.into_iter().filter_map(|item| match item {
        Value::Optional(Some(value)) => Some((*value).clone()),
        _ => None,
    });
    Ok(Value::list(present.collect()))
}

/// `items` in the order of their `keys`, which are as many. Stable.
pub(crate) fn sort<'a>(
    budget: &mut Budget,
    items: Vec<Value<'a>>,
    keys: Vec<Value<'a>>,
) -> Out<'a> {
    let mut pairs: Vec<_> = keys.into_iter().zip(items).collect();
    let mut failed = None;
    pairs.sort_by(|(a, _), (b, _)| match order(a, b, budget) {
        Ok(order) => order,
        Err(error) => {
            failed.get_or_insert(error);
            Ordering::Equal
        }
    });
    match failed {
        Some(error) => Err(error),
        None => Ok(Value::list(
            pairs.into_iter().map(|(_, item)| item).collect(),
        )),
    }
}

/// A map of these entries.
///
/// # Errors
/// If a key is there twice.
pub(crate) fn map<'a>(entries: Vec<(Value<'a>, Value<'a>)>, budget: &mut Budget) -> Out<'a> {
    for (index, (key, _)) in entries.iter().enumerate() {
        for (other, _) in &entries[..index] {
            if key.equals(other, budget)? {
                return Err("Failed with repeated key".into());
            }
        }
    }
    Ok(Value::Map(Map::Made(entries.into())))
}
