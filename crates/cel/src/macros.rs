//! Macros: calls that name variables or look at syntax become loops, bindings and tests.

use crate::Fault;
use crate::ast::{Expr, Fold, FoldKind, Kind};
use crate::parser::call;

/// `name(args)`.
pub(crate) fn function(at: usize, name: String, mut args: Vec<Expr>) -> Result<Expr, Fault> {
    if name != "has" || args.len() != 1 {
        return call(at, &name, None, args);
    }
    match args.remove(0) {
        Expr {
            kind: Kind::Select { operand, field, .. },
            ..
        } => {
            let kind = Kind::Select {
                operand,
                field,
                test: true,
                optional: false,
            };
            Expr::new(at, kind)
        }
        other => Err(Fault::new(other.at, "invalid argument to has() macro")),
    }
}

/// `target.name(args)`.
pub(crate) fn method(
    at: usize,
    target: Expr,
    name: String,
    args: Vec<Expr>,
) -> Result<Expr, Fault> {
    if name == "bind" && args.len() == 3 && matches!(&target.kind, Kind::Ident(ns) if ns == "cel") {
        let [first, init, body] = fixed(args)?;
        let kind = Kind::Bind {
            name: variable(&first)?,
            init: Box::new(init),
            body: Box::new(body),
        };
        return Expr::new(at, kind);
    }
    let kind = match (name.as_str(), args.len()) {
        ("all", 2 | 3) => FoldKind::All,
        ("exists", 2 | 3) => FoldKind::Exists,
        ("exists_one" | "existsOne", 2 | 3) => FoldKind::ExistsOne,
        ("map", 2 | 3) | ("transformList", 3 | 4) => FoldKind::Map,
        ("filter", 2) => FoldKind::Filter,
        ("transformMap", 3 | 4) => FoldKind::TransformMap,
        ("sortBy", 2) => FoldKind::SortBy,
        ("optMap", 2) => FoldKind::OptMap,
        ("optFlatMap", 2) => FoldKind::OptFlatMap,
        _ => return call(at, &name, Some(target), args),
    };
    // `map(x, filter, body)` has one variable, everything else with three arguments has two.
    let two = args.len() == 4 || args.len() == 3 && name != "map";
    let mut args = args.into_iter();
    let mut next = || {
        args.next()
            .ok_or_else(|| Fault::new(at, "missing argument"))
    };
    let first = variable(&next()?)?;
    let second = if two { Some(variable(&next()?)?) } else { None };
    if second.as_ref() == Some(&first) {
        let text = format!("overlapping declaration for name '{first}'");
        return Err(Fault::new(at, text));
    }
    let mut body = next()?;
    let mut filter = None;
    if let Ok(last) = next() {
        filter = Some(std::mem::replace(&mut body, last));
    }
    let fold = Fold {
        kind,
        range: target,
        first,
        second,
        filter,
        body,
    };
    let kind = Kind::Fold(Box::new(fold));
    Expr::new(at, kind)
}

fn fixed<const N: usize>(args: Vec<Expr>) -> Result<[Expr; N], Fault> {
    <[Expr; N]>::try_from(args).map_err(|_| Fault::new(0, "wrong count of arguments"))
}

fn variable(expr: &Expr) -> Result<String, Fault> {
    match &expr.kind {
        Kind::Ident(name) => Ok(name.clone()),
        _ => Err(Fault::new(expr.at, "argument must be a simple name")),
    }
}
