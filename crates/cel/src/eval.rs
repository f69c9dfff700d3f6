//! Evaluation. Every node visited and every character read is paid for, so an expression ends.

use crate::ast::{Expr, Fold, FoldKind, Kind, Literal};
use crate::check::TYPE_NAMES;
use crate::functions::{self, lists};
use crate::operators;
use crate::value::{Map, Text, Value};
use crate::{Budget, Error};

struct Frame<'a, 'b> {
    scope: Vec<(&'a str, Value<'a>)>,
    budget: &'b mut Budget,
}

type Out<'a> = Result<Value<'a>, Error>;

/// The value of `expr`.
pub(crate) fn evaluate<'a>(
    expr: &'a Expr,
    variables: &[(&'a str, Value<'a>)],
    budget: &mut Budget,
) -> Out<'a> {
    let scope = variables.to_vec();
    Frame { scope, budget }.expr(expr)
}

impl<'a> Frame<'a, '_> {
    fn expr(&mut self, expr: &'a Expr) -> Out<'a> {
        self.budget.spend(1)?;
        match &expr.kind {
            Kind::Literal(literal) => Ok(constant(literal)),
            Kind::Ident(name) => self.ident(name),
            Kind::Select {
                operand,
                field,
                test,
                optional,
            } => {
                let operand = self.expr(operand)?;
                if *test {
                    return present(&operand, field);
                }
                select(&operand, field, *optional)
            }
            Kind::Index {
                operand,
                index,
                optional,
            } => {
                let operand = self.expr(operand)?;
                let index = self.expr(index)?;
                self.element(&operand, &index, *optional)
            }
            Kind::Call { .. } => self.call(expr),
            Kind::And(parts) => self.junction(parts, false),
            Kind::Or(parts) => self.junction(parts, true),
            Kind::Conditional(parts) => {
                let [condition, yes, no] = &**parts;
                match self.expr(condition)? {
                    Value::Bool(true) => self.expr(yes),
                    Value::Bool(false) => self.expr(no),
                    _ => Err("no such overload".into()),
                }
            }
            Kind::List(items) => {
                let mut list = Vec::with_capacity(items.len());
                for (item, optional) in items {
                    list.extend(unpack(self.expr(item)?, *optional)?);
                }
                Ok(Value::list(list))
            }
            Kind::Map(entries) => {
                let mut map = Vec::with_capacity(entries.len());
                for (key, value, optional) in entries {
                    let key = self.expr(key)?;
                    if let Some(value) = unpack(self.expr(value)?, *optional)? {
                        map.push((key, value));
                    }
                }
                lists::map(map, self.budget)
            }
            Kind::Fold(fold) => self.fold(fold),
            Kind::Bind { name, init, body } => {
                let init = self.expr(init)?;
                self.scope.push((name, init));
                let result = self.expr(body);
                self.scope.pop();
                result
            }
        }
    }

    fn ident(&self, name: &str) -> Out<'a> {
        if let Some((_, value)) = self.scope.iter().rev().find(|(known, _)| *known == name) {
            return Ok(value.clone());
        }
        match TYPE_NAMES.iter().find(|known| **known == name) {
            Some(name) => Ok(Value::Type(name)),
            None => Err(format!("no such attribute(s): {name}").into()),
        }
    }

    /// `&&` and `||`: an error counts only if no other part decides.
    fn junction(&mut self, parts: &'a [Expr], decisive: bool) -> Out<'a> {
        let mut failed = None;
        for part in parts {
            match self.expr(part) {
                Ok(Value::Bool(found)) if found == decisive => return Ok(Value::Bool(decisive)),
                Ok(Value::Bool(_)) => {}
                Ok(_) => {
                    failed.get_or_insert_with(|| Error::from("no such overload"));
                }
                Err(Error::Budget) => return Err(Error::Budget),
                Err(error) => {
                    failed.get_or_insert(error);
                }
            }
        }
        failed.map_or(Ok(Value::Bool(!decisive)), Err)
    }

    fn element(&mut self, of: &Value<'a>, index: &Value<'a>, optional: bool) -> Out<'a> {
        let found = match of {
            Value::Optional(None) => return Ok(Value::optional(None)),
            Value::Optional(Some(inner)) => {
                return self.element(&inner.clone(), index, true);
            }
            Value::List(list) => {
                let at = match index {
                    Value::Int(at) => usize::try_from(*at).ok(),
                    Value::Uint(at) => usize::try_from(*at).ok(),
                    _ => return Err("no such overload".into()),
                };
                at.and_then(|at| list.get(at)).ok_or_else(|| match index {
                    Value::Int(at) => Error::Failed(format!("index out of bounds: {at}")),
                    _ => "index out of bounds".into(),
                })
            }
            Value::Map(map) => match map.get(index, self.budget)? {
                Some(value) => Ok(value),
                None => Err(match index {
                    Value::String(key) => Error::Failed(format!("no such key: {}", key.as_str())),
                    Value::Int(key) => Error::Failed(format!("no such key: {key}")),
                    _ => "no such key".into(),
                }),
            },
            _ => return Err("no such overload".into()),
        };
        if optional {
            Ok(Value::optional(found.ok()))
        } else {
            found
        }
    }

    fn call(&mut self, expr: &'a Expr) -> Out<'a> {
        let Kind::Call {
            function,
            target,
            args,
            pattern,
        } = &expr.kind
        else {
            return Err("not a call".into());
        };
        // The right side of these is not needed if the left one has a value.
        if let (Some(target), "or" | "orValue", [other]) =
            (target, function.as_str(), args.as_slice())
        {
            return match self.expr(target)? {
                found @ Value::Optional(Some(_)) if function == "or" => Ok(found),
                Value::Optional(Some(found)) => Ok((*found).clone()),
                Value::Optional(None) => self.expr(other),
                _ => Err("no such overload".into()),
            };
        }
        let mut values = Vec::with_capacity(args.len() + 1);
        if let Some(target) = target {
            values.push(self.expr(target)?);
        }
        for arg in args {
            values.push(self.expr(arg)?);
        }
        match (function.as_str(), values.as_slice()) {
            ("matches" | "find" | "findAll", [text, source, rest @ ..]) => {
                let (Some(text), Some(source)) = (text.as_str(), source.as_str()) else {
                    return Err("no such overload".into());
                };
                let most = match rest.first() {
                    Some(Value::Int(most)) => usize::try_from(*most).unwrap_or(usize::MAX),
                    _ => usize::MAX,
                };
                self.search(function, text, (source, pattern.as_ref()), most)
            }
            ("!_" | "-_", [value]) => operators::unary(function, value),
            (name, [a, b]) if name.starts_with('_') || name == "@in" => {
                operators::binary(name, a, b, self.budget)
            }
            _ => functions::call(function, target.is_some(), &values, self.budget),
        }
    }

    fn search(
        &mut self,
        function: &str,
        text: &str,
        (source, compiled): (&str, Option<&'a regex::Regex>),
        most: usize,
    ) -> Out<'a> {
        // As in cel-go: the text times the pattern.
        let size = (text.len() as u64 / 10 + 1).saturating_mul(source.len() as u64 / 4 + 1);
        self.budget.spend(size)?;
        let made;
        let regex = match compiled {
            Some(regex) => regex,
            None => {
                // Compiling takes time and memory of its own.
                self.budget.spend(source.len() as u64 * 10 + 1000)?;
                made = functions::regex(source)
                    .map_err(|error| Error::Failed(format!("error parsing regexp: {error}")))?;
                &made
            }
        };
        Ok(match function {
            "matches" => Value::Bool(regex.is_match(text)),
            "find" => Value::text(regex.find(text).map_or("", |found| found.as_str())),
            _ => {
                let found = regex.find_iter(text).take(most);
                let list: Vec<_> = found.map(|found| Value::text(found.as_str())).collect();
                self.budget.spend(list.len() as u64)?;
                Value::list(list)
            }
        })
    }

    fn fold(&mut self, fold: &'a Fold) -> Out<'a> {
        let range = self.expr(&fold.range)?;
        if matches!(fold.kind, FoldKind::OptMap | FoldKind::OptFlatMap) {
            return self.fold_optional(fold, range);
        }
        let depth = self.scope.len();
        let result = match &range {
            Value::List(list) => {
                let items = (0_i64..).zip(list.iter());
                self.walk(
                    fold,
                    items.map(|(index, item)| (Value::Int(index), item)),
                    false,
                )
            }
            Value::Map(map) => self.walk(fold, map.entries(), true),
            _ => Err("no such overload".into()),
        };
        self.scope.truncate(depth);
        result
    }

    fn fold_optional(&mut self, fold: &'a Fold, range: Value<'a>) -> Out<'a> {
        let inner = match range {
            Value::Optional(Some(inner)) => (*inner).clone(),
            Value::Optional(None) => return Ok(Value::optional(None)),
            _ => return Err("no such overload".into()),
        };
        self.scope.push((&fold.first, inner));
        let result = self.expr(&fold.body);
        self.scope.pop();
        match fold.kind {
            FoldKind::OptMap => Ok(Value::optional(Some(result?))),
            _ => result,
        }
    }

    /// Loops over pairs: index and item, or key and value. With one name that is the item or key.
    fn walk(
        &mut self,
        fold: &'a Fold,
        pairs: impl Iterator<Item = (Value<'a>, Value<'a>)>,
        keys: bool,
    ) -> Out<'a> {
        let depth = self.scope.len();
        let (mut kept, mut bodies, mut matched) = (Vec::new(), Vec::new(), 0_usize);
        let mut failed = None;
        for (key, value) in pairs {
            self.budget.spend(1)?;
            self.scope.truncate(depth);
            let own = if fold.second.is_some() || keys {
                key
            } else {
                value.clone()
            };
            self.scope.push((&fold.first, own.clone()));
            if let Some(second) = &fold.second {
                self.scope.push((second, value));
            }
            if let Some(filter) = &fold.filter
                && !truth(self.expr(filter)?)?
            {
                continue;
            }
            let body = self.expr(&fold.body);
            match fold.kind {
                FoldKind::All | FoldKind::Exists => {
                    let decisive = fold.kind == FoldKind::Exists;
                    match body.and_then(truth) {
                        Ok(found) if found == decisive => return Ok(Value::Bool(decisive)),
                        Ok(_) => {}
                        Err(Error::Budget) => return Err(Error::Budget),
                        Err(error) => {
                            failed.get_or_insert(error);
                        }
                    }
                }
                FoldKind::ExistsOne => matched += usize::from(truth(body?)?),
                FoldKind::Filter => {
                    if truth(body?)? {
                        kept.push(own);
                    }
                }
                _ => {
                    bodies.push(body?);
                    kept.push(own);
                }
            }
        }
        if let Some(error) = failed {
            return Err(error);
        }
        match fold.kind {
            FoldKind::All => Ok(Value::Bool(true)),
            FoldKind::Exists => Ok(Value::Bool(false)),
            FoldKind::ExistsOne => Ok(Value::Bool(matched == 1)),
            FoldKind::Filter => Ok(Value::list(kept)),
            FoldKind::TransformMap => {
                let entries: Vec<_> = kept.into_iter().zip(bodies).collect();
                Ok(Value::Map(Map::Made(entries.into())))
            }
            FoldKind::SortBy => lists::sort(self.budget, kept, bodies),
            _ => Ok(Value::list(bodies)),
        }
    }
}

fn truth(value: Value<'_>) -> Result<bool, Error> {
    match value {
        Value::Bool(flag) => Ok(flag),
        _ => Err("no such overload".into()),
    }
}

fn constant(literal: &Literal) -> Value<'_> {
    match literal {
        Literal::Null => Value::Null,
        Literal::Bool(flag) => Value::Bool(*flag),
        Literal::Int(number) => Value::Int(*number),
        Literal::Uint(number) => Value::Uint(*number),
        Literal::Double(number) => Value::Double(*number),
        Literal::String(text) => Value::String(Text::Borrowed(text)),
        Literal::Bytes(bytes) => Value::Bytes(bytes.as_slice().into()),
    }
}

fn unpack<'a>(value: Value<'a>, optional: bool) -> Result<Option<Value<'a>>, Error> {
    match value {
        value if !optional => Ok(Some(value)),
        Value::Optional(value) => Ok(value.map(|value| (*value).clone())),
        _ => Err("no such overload".into()),
    }
}

/// `has(of.field)`.
fn present<'a>(of: &Value<'a>, field: &str) -> Out<'a> {
    match of {
        Value::Map(map) => Ok(Value::Bool(map.field(field).is_some())),
        Value::Optional(Some(inner)) => present(inner, field),
        Value::Optional(None) => Ok(Value::Bool(false)),
        _ => Err("no such overload".into()),
    }
}

fn select<'a>(of: &Value<'a>, field: &str, optional: bool) -> Out<'a> {
    match of {
        Value::Map(map) => match map.field(field) {
            found if optional => Ok(Value::optional(found)),
            Some(value) => Ok(value),
            None => Err(format!("no such key: {field}").into()),
        },
        Value::Optional(Some(inner)) => select(inner, field, true),
        Value::Optional(None) => Ok(Value::optional(None)),
        Value::Null if optional => Ok(Value::optional(None)),
        _ => Err("no such overload".into()),
    }
}
