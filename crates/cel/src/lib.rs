//! The Common Expression Language with Kubernetes' function libraries.
//!
//! [`Program::compile`] parses an expression and checks its types; [`Program::evaluate`] runs it
//! over JSON without copying it. Expressions come from users, so everything is bounded: the size
//! and height of the tree, and, by a [`Budget`], the work and the memory of an evaluation.
//! Texts of errors are those of cel-go, because Kubernetes shows them.

mod ast;
mod check;
mod eval;
mod functions;
mod lexer;
mod macros;
mod operators;
mod parser;
mod temporal;
#[cfg(test)]
mod tests;
mod types;
mod value;

use ast::Expr;

pub use types::{Field, ObjectType, Type};
pub use value::Value;

/// Work that one expression may do, as in Kubernetes.
pub const CALL_LIMIT: u64 = 1_000_000;
/// Work that all expressions of one object may do together, as in Kubernetes.
pub const OBJECT_LIMIT: u64 = 10_000_000;

/// Why an expression does not compile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    at: usize,
    text: String,
}

impl Fault {
    pub(crate) fn new(at: usize, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { at, text }
    }

    /// In the form of cel-go: the place, the line and a mark below it.
    fn show(&self, source: &str) -> String {
        let before: Vec<char> = source.chars().take(self.at).collect();
        let line = before.iter().filter(|letter| **letter == '\n').count();
        let column = before
            .iter()
            .rev()
            .take_while(|letter| **letter != '\n')
            .count();
        let text = source.lines().nth(line).unwrap_or_default();
        format!(
            "ERROR: <input>:{}:{}: {}\n | {text}\n | {}^",
            line + 1,
            column + 1,
            self.text,
            ".".repeat(column)
        )
    }
}

/// Why an evaluation has no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The budget is used up.
    Budget,
    /// The expression failed: `no such key: x`, `division by zero`.
    Failed(String),
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Budget => f.write_str("operation cancelled: actual cost limit exceeded"),
            Self::Failed(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Error {}

impl From<String> for Error {
    fn from(text: String) -> Self {
        Self::Failed(text)
    }
}

impl From<&str> for Error {
    fn from(text: &str) -> Self {
        Self::Failed(text.to_owned())
    }
}

/// What is left of the work that evaluations may do. A unit is about a node visited, an item
/// compared, or ten characters read or written.
#[derive(Debug)]
pub struct Budget {
    left: u64,
}

impl Budget {
    /// A budget of `units`.
    pub fn new(units: u64) -> Self {
        Self { left: units }
    }

    /// Units that are left.
    pub fn left(&self) -> u64 {
        self.left
    }

    pub(crate) fn spend(&mut self, units: u64) -> Result<(), Error> {
        match self.left.checked_sub(units) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => {
                self.left = 0;
                Err(Error::Budget)
            }
        }
    }

    /// Spends for `size` characters or bytes.
    pub(crate) fn spend_text(&mut self, size: usize) -> Result<(), Error> {
        self.spend(size as u64 / 10 + 1)
    }
}

/// A checked expression.
#[derive(Debug)]
pub struct Program {
    expr: Expr,
    result: Type,
    used: Vec<String>,
}

impl Program {
    /// Compiles `source`, which may use `variables`.
    ///
    /// # Errors
    /// The text of cel-go: place, reason and the marked line.
    pub fn compile(source: &str, variables: &[(&str, Type)]) -> Result<Self, String> {
        let checked = parser::parse(source).and_then(|mut expr| {
            let (result, used) = check::check(&mut expr, variables)?;
            Ok(Self { expr, result, used })
        });
        checked.map_err(|fault| fault.show(source))
    }

    /// The type of the result.
    pub fn result(&self) -> &Type {
        &self.result
    }

    /// Whether the expression uses a variable.
    pub fn uses(&self, variable: &str) -> bool {
        self.used.iter().any(|used| used == variable)
    }

    /// Evaluates the expression.
    ///
    /// # Errors
    /// If it fails or needs more than the budget, or more than [`CALL_LIMIT`].
    pub fn evaluate<'a>(
        &'a self,
        variables: &[(&'a str, Value<'a>)],
        budget: &mut Budget,
    ) -> Result<Value<'a>, Error> {
        let mut call = Budget::new(CALL_LIMIT.min(budget.left));
        let before = call.left;
        let result = eval::evaluate(&self.expr, variables, &mut call);
        budget.left -= before - call.left;
        result
    }
}
