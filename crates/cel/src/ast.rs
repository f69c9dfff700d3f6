//! Expressions as trees. Macros are expanded into [`Kind::Fold`] and [`Kind::Bind`] by the parser,
//! so the checker and the evaluator know no macro by name.

use regex::Regex;

use crate::Fault;

/// Trees higher than this are refused, so no walker of a tree can exhaust the stack.
pub(crate) const MAX_HEIGHT: usize = 100;

/// An expression and where it begins, in characters from the start of the source.
#[derive(Clone, Debug)]
pub(crate) struct Expr {
    pub(crate) at: usize,
    pub(crate) kind: Kind,
    height: usize,
}

impl Expr {
    pub(crate) fn new(at: usize, kind: Kind) -> Result<Self, Fault> {
        let below = match &kind {
            Kind::Literal(_) | Kind::Ident(_) => 0,
            Kind::Select { operand, .. } => operand.height,
            Kind::Index { operand, index, .. } => operand.height.max(index.height),
            Kind::Call { target, args, .. } => {
                highest(args).max(target.as_ref().map_or(0, |target| target.height))
            }
            Kind::And(parts) | Kind::Or(parts) => highest(parts),
            Kind::Conditional(parts) => highest(&parts[..]),
            Kind::List(items) => items.iter().map(|(item, _)| item.height).max().unwrap_or(0),
            Kind::Map(entries) => {
                let heights = entries
                    .iter()
                    .map(|(key, value, _)| key.height.max(value.height));
                heights.max().unwrap_or(0)
            }
            Kind::Fold(fold) => {
                let filter = fold.filter.as_ref().map_or(0, |filter| filter.height);
                fold.range.height.max(fold.body.height).max(filter)
            }
            Kind::Bind { init, body, .. } => init.height.max(body.height),
        };
        let height = below + 1;
        if height > MAX_HEIGHT {
            let text = format!("expression recursion limit exceeded: {MAX_HEIGHT}");
            return Err(Fault::new(at, text));
        }
        Ok(Self { at, kind, height })
    }
}

fn highest(parts: &[Expr]) -> usize {
    parts.iter().map(|part| part.height).max().unwrap_or(0)
}

#[derive(Clone, Debug)]
pub(crate) enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(String),
    Bytes(Vec<u8>),
}

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Literal(Literal),
    Ident(String),
    /// `operand.field`, or `has(operand.field)` if `test`, or `operand.?field`.
    Select {
        operand: Box<Expr>,
        field: String,
        test: bool,
        optional: bool,
    },
    /// `operand[index]`, or `operand[?index]`.
    Index {
        operand: Box<Expr>,
        index: Box<Expr>,
        optional: bool,
    },
    /// A function, a method or an operator (`_+_`).
    Call {
        function: String,
        target: Option<Box<Expr>>,
        args: Vec<Expr>,
        /// Compiled pattern of `matches` and `find` if it is a literal.
        pattern: Option<Regex>,
    },
    And(Vec<Expr>),
    Or(Vec<Expr>),
    Conditional(Box<[Expr; 3]>),
    /// Items, each with whether it is left out when it is an empty optional.
    List(Vec<(Expr, bool)>),
    Map(Vec<(Expr, Expr, bool)>),
    Fold(Box<Fold>),
    /// `cel.bind(name, init, body)`.
    Bind {
        name: String,
        init: Box<Expr>,
        body: Box<Expr>,
    },
}

/// A loop over a list, a map or an optional.
#[derive(Clone, Debug)]
pub(crate) struct Fold {
    pub(crate) kind: FoldKind,
    pub(crate) range: Expr,
    /// The item, or the index or key if there are two names.
    pub(crate) first: String,
    pub(crate) second: Option<String>,
    /// Items for which this is false are skipped.
    pub(crate) filter: Option<Expr>,
    pub(crate) body: Expr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FoldKind {
    All,
    Exists,
    ExistsOne,
    /// The list of the bodies' values.
    Map,
    /// The list of the items whose body is true.
    Filter,
    /// The map from the keys to the bodies' values.
    TransformMap,
    /// The list, ordered by the bodies' values.
    SortBy,
    /// Like `Map`, on an optional.
    OptMap,
    /// Like `OptMap`, with a body that is an optional itself.
    OptFlatMap,
}
