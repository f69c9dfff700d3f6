//! Types of expressions. Errors that can be seen without an object are told when the expression is
//! installed, not when the first object meets it.

use std::sync::Arc;

use crate::Fault;
use crate::ast::{Expr, Fold, FoldKind, Kind, Literal};
use crate::functions::{self, Overload};
use crate::types::Type;

/// Names of types that are values.
pub(crate) const TYPE_NAMES: &[&str] = &[
    "bool",
    "int",
    "uint",
    "double",
    "string",
    "bytes",
    "list",
    "map",
    "null_type",
    "type",
    "google.protobuf.Timestamp",
    "google.protobuf.Duration",
];

struct Checker<'v> {
    scope: Vec<(String, Type)>,
    variables: &'v [(&'v str, Type)],
    used: Vec<String>,
    /// Items of lists may differ in type: arguments of `format`.
    mixed: bool,
}

/// The type of `expr`, and the variables that it uses. Qualified function names are resolved.
pub(crate) fn check(
    expr: &mut Expr,
    variables: &[(&str, Type)],
) -> Result<(Type, Vec<String>), Fault> {
    let mut checker = Checker {
        scope: Vec::new(),
        variables,
        used: Vec::new(),
        mixed: false,
    };
    let result = checker.expr(expr)?;
    Ok((result, checker.used))
}

impl Checker<'_> {
    fn variable(&self, name: &str) -> Option<Type> {
        let local = self.scope.iter().rev().find(|(known, _)| known == name);
        local.map(|(_, of)| of.clone()).or_else(|| {
            let global = self.variables.iter().find(|(known, _)| *known == name);
            global.map(|(_, of)| of.clone())
        })
    }

    fn expr(&mut self, expr: &mut Expr) -> Result<Type, Fault> {
        let at = expr.at;
        match &mut expr.kind {
            Kind::Literal(literal) => Ok(literal_type(literal)),
            Kind::Ident(name) => self.ident(at, name),
            Kind::Select {
                operand,
                field,
                test,
                optional,
            } => {
                if let Some(name) = type_name(operand, field) {
                    expr.kind = Kind::Ident(name);
                    return Ok(Type::Type);
                }
                let of = self.expr(operand)?;
                let found = select(at, &of, field, *optional)?;
                Ok(if *test { Type::Bool } else { found })
            }
            Kind::Index {
                operand,
                index,
                optional,
            } => {
                let (of, by) = (self.expr(operand)?, self.expr(index)?);
                element(at, &of, &by, *optional)
            }
            Kind::Call { .. } => self.call(expr),
            Kind::And(parts) | Kind::Or(parts) => {
                for part in parts {
                    self.boolean(part)?;
                }
                Ok(Type::Bool)
            }
            Kind::Conditional(parts) => {
                let [condition, yes, no] = &mut **parts;
                self.boolean(condition)?;
                let (yes, no) = (self.expr(yes)?, self.expr(no)?);
                join(&yes, &no).ok_or_else(|| no_overload(at, "_?_:_", &[Type::Bool, yes, no]))
            }
            Kind::List(items) => {
                let mixed = std::mem::take(&mut self.mixed);
                let mut of = None;
                for (item, optional) in items {
                    let found = self.maybe(item, *optional)?;
                    of = Some(if mixed {
                        Type::Dyn
                    } else {
                        join_items(item.at, of, found)?
                    });
                }
                Ok(Type::list(of.unwrap_or(Type::Dyn)))
            }
            Kind::Map(entries) => {
                let (mut keys, mut values) = (None, None);
                for (key, value, optional) in entries {
                    let found = self.expr(key)?;
                    keys = Some(join_items(key.at, keys, found)?);
                    let found = self.maybe(value, *optional)?;
                    values = Some(join_items(value.at, values, found)?);
                }
                let (keys, values) = (keys.unwrap_or(Type::Dyn), values.unwrap_or(Type::Dyn));
                Ok(Type::Map(Arc::new(keys), Arc::new(values)))
            }
            Kind::Fold(fold) => self.fold(at, fold),
            Kind::Bind { name, init, body } => {
                let of = self.expr(init)?;
                self.scope.push((name.clone(), of));
                let result = self.expr(body);
                self.scope.pop();
                result
            }
        }
    }

    fn ident(&mut self, at: usize, name: &str) -> Result<Type, Fault> {
        if let Some(of) = self.variable(name) {
            if !self.used.iter().any(|used| used == name) {
                self.used.push(name.to_owned());
            }
            return Ok(of);
        }
        if TYPE_NAMES.contains(&name) {
            return Ok(Type::Type);
        }
        let text = format!("undeclared reference to '{name}' (in container '')");
        Err(Fault::new(at, text))
    }

    /// An item that may be marked with `?`.
    fn maybe(&mut self, item: &mut Expr, optional: bool) -> Result<Type, Fault> {
        let found = self.expr(item)?;
        match found {
            _ if !optional => Ok(found),
            Type::Optional(of) => Ok((*of).clone()),
            Type::Dyn => Ok(Type::Dyn),
            other => {
                let text = format!("expected type 'optional_type(dyn)' but found '{other}'");
                Err(Fault::new(item.at, text))
            }
        }
    }

    fn boolean(&mut self, expr: &mut Expr) -> Result<(), Fault> {
        match self.expr(expr)? {
            Type::Bool | Type::Dyn => Ok(()),
            other => {
                let text = format!("expected type 'bool' but found '{other}'");
                Err(Fault::new(expr.at, text))
            }
        }
    }

    fn fold(&mut self, at: usize, fold: &mut Fold) -> Result<Type, Fault> {
        let range = self.expr(&mut fold.range)?;
        let optional = matches!(fold.kind, FoldKind::OptMap | FoldKind::OptFlatMap);
        let (first, second) = match &range {
            Type::Dyn => (Type::Dyn, Type::Dyn),
            Type::Optional(of) if optional => ((**of).clone(), Type::Dyn),
            Type::List(item) | Type::Set(item) if !optional && fold.second.is_some() => {
                (Type::Int, (**item).clone())
            }
            Type::List(item) | Type::Set(item) if !optional => ((**item).clone(), Type::Dyn),
            Type::Map(key, value) if !optional => ((**key).clone(), (**value).clone()),
            other => {
                let text = format!(
                    "expression of type '{other}' cannot be range of a comprehension (must be list, map, or dynamic)"
                );
                return Err(Fault::new(fold.range.at, text));
            }
        };
        let depth = self.scope.len();
        self.scope.push((fold.first.clone(), first.clone()));
        if let Some(name) = &fold.second {
            self.scope.push((name.clone(), second));
        }
        let result = self.fold_body(at, fold, &range, &first);
        self.scope.truncate(depth);
        result
    }

    fn fold_body(
        &mut self,
        at: usize,
        fold: &mut Fold,
        range: &Type,
        first: &Type,
    ) -> Result<Type, Fault> {
        if let Some(filter) = &mut fold.filter {
            self.boolean(filter)?;
        }
        match fold.kind {
            FoldKind::All | FoldKind::Exists | FoldKind::ExistsOne => {
                self.boolean(&mut fold.body)?;
                Ok(Type::Bool)
            }
            FoldKind::Filter => {
                self.boolean(&mut fold.body)?;
                Ok(Type::list(first.clone()))
            }
            FoldKind::Map => Ok(Type::list(self.expr(&mut fold.body)?)),
            FoldKind::TransformMap => {
                let body = self.expr(&mut fold.body)?;
                Ok(Type::Map(Arc::new(first.clone()), Arc::new(body)))
            }
            FoldKind::SortBy => {
                self.expr(&mut fold.body)?;
                Ok(range.clone())
            }
            FoldKind::OptMap => Ok(Type::optional(self.expr(&mut fold.body)?)),
            FoldKind::OptFlatMap => match self.expr(&mut fold.body)? {
                found @ (Type::Optional(_) | Type::Dyn) => Ok(found),
                other => {
                    let text = format!("expected type 'optional_type(dyn)' but found '{other}'");
                    Err(Fault::new(at, text))
                }
            },
        }
    }

    fn call(&mut self, expr: &mut Expr) -> Result<Type, Fault> {
        let at = expr.at;
        let Kind::Call {
            function,
            target,
            args,
            pattern,
        } = &mut expr.kind
        else {
            return Ok(Type::Dyn);
        };
        self.qualify(function, target);
        let member = target.is_some();
        let mut types = Vec::with_capacity(args.len() + 1);
        if let Some(target) = target {
            types.push(self.expr(target)?);
        }
        for arg in &mut *args {
            self.mixed = member && function == "format" && matches!(arg.kind, Kind::List(_));
            types.push(self.expr(arg)?);
        }
        let overloads = functions::named(function);
        if overloads.is_empty() {
            let text = format!("undeclared reference to '{function}' (in container '')");
            return Err(Fault::new(at, text));
        }
        if matches!(function.as_str(), "matches" | "find" | "findAll") {
            let given = args.get(usize::from(!member)).map(|arg| &arg.kind);
            if let Some(Kind::Literal(Literal::String(text))) = given {
                let bad = |error| Fault::new(at, format!("error parsing regexp: {error}"));
                *pattern = Some(functions::regex(text).map_err(bad)?);
            }
        }
        resolve(overloads, member, &types).ok_or_else(|| no_matching(at, function, member, &types))
    }

    /// `ns.name(x)` is a function if there is one of that name and no variable `ns`.
    fn qualify(&self, function: &mut String, target: &mut Option<Box<Expr>>) {
        let Some(Kind::Ident(space)) = target.as_ref().map(|target| &target.kind) else {
            return;
        };
        let name = format!("{space}.{function}");
        if self.variable(space).is_none() && !functions::named(&name).is_empty() {
            *function = name;
            *target = None;
        }
    }
}

/// The result of the first overloads that fit; different ones make it dynamic.
fn resolve(overloads: &[Overload], member: bool, types: &[Type]) -> Option<Type> {
    let mut result: Option<Type> = None;
    for overload in overloads
        .iter()
        .filter(|overload| overload.member == member)
    {
        let Some(found) = overload.apply(types) else {
            continue;
        };
        result = Some(match result {
            Some(known) if known != found => Type::Dyn,
            _ => found,
        });
    }
    result
}

fn literal_type(literal: &Literal) -> Type {
    match literal {
        Literal::Null => Type::Null,
        Literal::Bool(_) => Type::Bool,
        Literal::Int(_) => Type::Int,
        Literal::Uint(_) => Type::Uint,
        Literal::Double(_) => Type::Double,
        Literal::String(_) => Type::String,
        Literal::Bytes(_) => Type::Bytes,
    }
}

fn select(at: usize, of: &Type, field: &str, optional: bool) -> Result<Type, Fault> {
    let found = match of {
        Type::Dyn => Type::Dyn,
        Type::Map(_, value) => (**value).clone(),
        Type::Object(object) => match object.field(field) {
            Some(field) => field.of.clone(),
            None => return Err(Fault::new(at, format!("undefined field '{field}'"))),
        },
        Type::Optional(inner) => return Ok(as_optional(select(at, inner, field, false)?)),
        other => {
            let text = format!("type '{other}' does not support field selection");
            return Err(Fault::new(at, text));
        }
    };
    Ok(if optional { as_optional(found) } else { found })
}

fn element(at: usize, of: &Type, by: &Type, optional: bool) -> Result<Type, Fault> {
    let found = match of {
        Type::Dyn => Some(Type::Dyn),
        Type::List(item) | Type::Set(item) => {
            matches!(by, Type::Int | Type::Dyn).then(|| (**item).clone())
        }
        Type::Map(key, value) => join(key, by).map(|_| (**value).clone()),
        Type::Optional(inner) => {
            return Ok(as_optional(element(at, inner, by, false)?));
        }
        _ => None,
    };
    let Some(found) = found else {
        return Err(no_overload(at, "_[_]", &[of.clone(), by.clone()]));
    };
    Ok(if optional { as_optional(found) } else { found })
}

fn as_optional(of: Type) -> Type {
    match of {
        Type::Optional(_) => of,
        of => Type::optional(of),
    }
}

/// The type that values of both types have; `None` if there is none.
pub(crate) fn join(a: &Type, b: &Type) -> Option<Type> {
    match (a, b) {
        (Type::Dyn, _) | (_, Type::Dyn) => Some(Type::Dyn),
        _ if a == b => Some(a.clone()),
        (Type::List(a) | Type::Set(a), Type::List(b) | Type::Set(b)) => {
            Some(Type::list(join(a, b)?))
        }
        (Type::Map(k, v), Type::Map(l, w)) => {
            Some(Type::Map(Arc::new(join(k, l)?), Arc::new(join(v, w)?)))
        }
        (Type::Optional(a), Type::Optional(b)) => Some(Type::optional(join(a, b)?)),
        (Type::Null, other) | (other, Type::Null) if is_nullable(other) => Some(other.clone()),
        _ => None,
    }
}

fn is_nullable(of: &Type) -> bool {
    use Type::{Duration, Object, Opaque, Optional, Timestamp};
    matches!(
        of,
        Object(_) | Opaque(_) | Optional(_) | Timestamp | Duration
    )
}

fn join_items(at: usize, known: Option<Type>, found: Type) -> Result<Type, Fault> {
    let Some(known) = known else {
        return Ok(found);
    };
    join(&known, &found).ok_or_else(|| {
        let text = format!("expected type '{known}' but found '{found}'");
        Fault::new(at, text)
    })
}

/// `google.protobuf.Timestamp` and the like, which are types and not fields.
fn type_name(operand: &Expr, field: &str) -> Option<String> {
    let Kind::Select {
        operand,
        field: middle,
        ..
    } = &operand.kind
    else {
        return None;
    };
    let Kind::Ident(first) = &operand.kind else {
        return None;
    };
    let name = format!("{first}.{middle}.{field}");
    TYPE_NAMES.contains(&name.as_str()).then_some(name)
}

fn no_overload(at: usize, function: &str, types: &[Type]) -> Fault {
    no_matching(at, function, false, types)
}

fn no_matching(at: usize, function: &str, member: bool, types: &[Type]) -> Fault {
    let names: Vec<String> = types.iter().map(Type::to_string).collect();
    let shown = match names.split_first() {
        Some((target, args)) if member => format!("{target}.({})", args.join(", ")),
        _ => format!("({})", names.join(", ")),
    };
    let text = format!("found no matching overload for '{function}' applied to '{shown}'");
    Fault::new(at, text)
}
