//! Tokens → tree, by precedence climbing. Depth and size are bounded: every expression comes from
//! a user.

use crate::Fault;
use crate::ast::{Expr, Kind, Literal};
use crate::lexer::{Token, tokens};
use crate::macros;

/// Nesting of the source beyond this is refused before there is a tree.
const MAX_DEPTH: usize = 60;
/// Characters of one expression.
const MAX_SOURCE: usize = 100_000;

/// Words that cannot be variables.
const RESERVED: &[&str] = &[
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// Parses one expression.
pub(crate) fn parse(source: &str) -> Result<Expr, Fault> {
    let chars: Vec<char> = source.chars().take(MAX_SOURCE + 1).collect();
    if chars.len() > MAX_SOURCE {
        let text = format!("expression code point size exceeds limit: {MAX_SOURCE}");
        return Err(Fault::new(0, text));
    }
    let mut parser = Parser {
        tokens: tokens(&chars)?,
        next: 0,
        depth: 0,
    };
    let expr = parser.expression()?;
    match parser.peek() {
        Token::End => Ok(expr),
        other => Err(parser.unexpected(other)),
    }
}

struct Parser {
    tokens: Vec<(usize, Token)>,
    next: usize,
    depth: usize,
}

impl Parser {
    fn peek(&self) -> &Token {
        // The last token is `End` and is never passed.
        &self.tokens[self.next.min(self.tokens.len() - 1)].1
    }

    fn at(&self) -> usize {
        self.tokens[self.next.min(self.tokens.len() - 1)].0
    }

    fn take(&mut self) -> Token {
        let token = self.peek().clone();
        self.next += 1;
        token
    }

    fn accept(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), Token::Sign(found) if *found == sign);
        if found {
            self.next += 1;
        }
        found
    }

    fn expect(&mut self, sign: &str) -> Result<(), Fault> {
        if self.accept(sign) {
            return Ok(());
        }
        let found = show(self.peek());
        let text = format!("Syntax error: mismatched input '{found}' expecting '{sign}'");
        Err(Fault::new(self.at(), text))
    }

    fn unexpected(&self, token: &Token) -> Fault {
        let text = format!("Syntax error: mismatched input '{}'", show(token));
        Fault::new(self.at(), text)
    }

    fn nested<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T, Fault>) -> Result<T, Fault> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            let text = format!("expression recursion limit exceeded: {MAX_DEPTH}");
            return Err(Fault::new(self.at(), text));
        }
        let result = parse(self);
        self.depth -= 1;
        result
    }

    fn expression(&mut self) -> Result<Expr, Fault> {
        self.nested(|parser| {
            let condition = parser.disjunction()?;
            let at = parser.at();
            if !parser.accept("?") {
                return Ok(condition);
            }
            let yes = parser.disjunction()?;
            parser.expect(":")?;
            let no = parser.expression()?;
            let kind = Kind::Conditional(Box::new([condition, yes, no]));
            Expr::new(at, kind)
        })
    }

    fn disjunction(&mut self) -> Result<Expr, Fault> {
        let at = self.at();
        let mut parts = vec![self.conjunction()?];
        while self.accept("||") {
            parts.push(self.conjunction()?);
        }
        joined(at, parts, Kind::Or)
    }

    fn conjunction(&mut self) -> Result<Expr, Fault> {
        let at = self.at();
        let mut parts = vec![self.binary(0)?];
        while self.accept("&&") {
            parts.push(self.binary(0)?);
        }
        joined(at, parts, Kind::And)
    }

    /// Relations, sums and products; `level` is the weakest operator that is taken.
    fn binary(&mut self, level: usize) -> Result<Expr, Fault> {
        const LEVELS: [&[&str]; 3] = [
            &["<=", ">=", "==", "!=", "<", ">", "in"],
            &["+", "-"],
            &["*", "/", "%"],
        ];
        let Some(signs) = LEVELS.get(level) else {
            return self.unary();
        };
        let mut left = self.binary(level + 1)?;
        loop {
            let at = self.at();
            let Some(sign) = signs.iter().find(|sign| self.accept(sign)) else {
                return Ok(left);
            };
            let right = self.binary(level + 1)?;
            let function = if *sign == "in" {
                "@in".to_owned()
            } else {
                format!("_{sign}_")
            };
            left = call(at, &function, None, vec![left, right])?;
        }
    }

    fn unary(&mut self) -> Result<Expr, Fault> {
        let at = self.at();
        if self.accept("!") {
            let operand = self.nested(Self::unary)?;
            return call(at, "!_", None, vec![operand]);
        }
        if !self.accept("-") {
            return self.member();
        }
        let literal = match self.peek() {
            Token::Int(number) => Some(Literal::Int(-number)),
            Token::IntMin => Some(Literal::Int(i64::MIN)),
            Token::Double(number) => Some(Literal::Double(-number)),
            _ => None,
        };
        match literal {
            Some(literal) => {
                self.next += 1;
                let kind = Kind::Literal(literal);
                self.suffixes(Expr::new(at, kind)?)
            }
            None => {
                let operand = self.nested(Self::unary)?;
                call(at, "-_", None, vec![operand])
            }
        }
    }

    fn member(&mut self) -> Result<Expr, Fault> {
        let primary = self.primary()?;
        self.suffixes(primary)
    }

    fn suffixes(&mut self, mut expr: Expr) -> Result<Expr, Fault> {
        loop {
            let at = self.at();
            if self.accept(".") {
                let optional = self.accept("?");
                let field = match self.take() {
                    Token::Ident(field) => field,
                    // `in` is a field name here.
                    Token::Sign("in") => "in".to_owned(),
                    other => {
                        let text = format!(
                            "Syntax error: no viable alternative at input '.{}'",
                            show(&other)
                        );
                        return Err(Fault::new(at, text));
                    }
                };
                let open = self.at();
                if !optional && self.accept("(") {
                    let args = self.list(")")?;
                    expr = macros::method(open, expr, field, args)?;
                    continue;
                }
                let operand = Box::new(expr);
                let kind = Kind::Select {
                    operand,
                    field,
                    test: false,
                    optional,
                };
                expr = Expr::new(at, kind)?;
            } else if self.accept("[") {
                let optional = self.accept("?");
                let index = Box::new(self.expression()?);
                self.expect("]")?;
                let operand = Box::new(expr);
                let kind = Kind::Index {
                    operand,
                    index,
                    optional,
                };
                expr = Expr::new(at, kind)?;
            } else {
                return Ok(expr);
            }
        }
    }

    fn primary(&mut self) -> Result<Expr, Fault> {
        let at = self.at();
        // A leading dot names something from the root; there is only one container.
        let rooted = self.accept(".");
        let kind = match self.take() {
            Token::Ident(name) => return self.name(at, name),
            other if rooted => return Err(self.unexpected(&other)),
            Token::Sign("(") => {
                let inner = self.expression()?;
                self.expect(")")?;
                return Ok(inner);
            }
            Token::Sign("[") => Kind::List(self.items()?),
            Token::Sign("{") => Kind::Map(self.entries()?),
            Token::Int(number) => Kind::Literal(Literal::Int(number)),
            Token::Uint(number) => Kind::Literal(Literal::Uint(number)),
            Token::Double(number) => Kind::Literal(Literal::Double(number)),
            Token::String(text) => Kind::Literal(Literal::String(text)),
            Token::Bytes(bytes) => Kind::Literal(Literal::Bytes(bytes)),
            other => {
                let text = format!(
                    "Syntax error: mismatched input '{}' expecting an expression",
                    show(&other)
                );
                return Err(Fault::new(at, text));
            }
        };
        Expr::new(at, kind)
    }

    fn name(&mut self, at: usize, name: String) -> Result<Expr, Fault> {
        let literal = match name.as_str() {
            "true" => Some(Literal::Bool(true)),
            "false" => Some(Literal::Bool(false)),
            "null" => Some(Literal::Null),
            _ => None,
        };
        if let Some(literal) = literal {
            let kind = Kind::Literal(literal);
            return Expr::new(at, kind);
        }
        if RESERVED.contains(&name.as_str()) {
            return Err(Fault::new(at, format!("reserved identifier: {name}")));
        }
        let open = self.at();
        if self.accept("(") {
            let args = self.list(")")?;
            return macros::function(open, name, args);
        }
        let kind = Kind::Ident(name);
        Expr::new(at, kind)
    }

    /// Expressions up to the closing sign.
    fn list(&mut self, close: &str) -> Result<Vec<Expr>, Fault> {
        let mut items = Vec::new();
        while !self.accept(close) {
            items.push(self.expression()?);
            if !self.accept(",") {
                self.expect(close)?;
                break;
            }
        }
        Ok(items)
    }

    fn items(&mut self) -> Result<Vec<(Expr, bool)>, Fault> {
        let mut items = Vec::new();
        while !self.accept("]") {
            let optional = self.accept("?");
            items.push((self.expression()?, optional));
            if !self.accept(",") {
                self.expect("]")?;
                break;
            }
        }
        Ok(items)
    }

    fn entries(&mut self) -> Result<Vec<(Expr, Expr, bool)>, Fault> {
        let mut entries = Vec::new();
        while !self.accept("}") {
            let optional = self.accept("?");
            let key = self.expression()?;
            self.expect(":")?;
            entries.push((key, self.expression()?, optional));
            if !self.accept(",") {
                self.expect("}")?;
                break;
            }
        }
        Ok(entries)
    }
}

fn joined(
    at: usize,
    mut parts: Vec<Expr>,
    kind: impl FnOnce(Vec<Expr>) -> Kind,
) -> Result<Expr, Fault> {
    if parts.len() == 1 {
        return Ok(parts.remove(0));
    }
    Expr::new(at, kind(parts))
}

pub(crate) fn call(
    at: usize,
    function: &str,
    target: Option<Expr>,
    args: Vec<Expr>,
) -> Result<Expr, Fault> {
    let kind = Kind::Call {
        function: function.to_owned(),
        target: target.map(Box::new),
        args,
        pattern: None,
    };
    Expr::new(at, kind)
}

fn show(token: &Token) -> String {
    match token {
        Token::Ident(word) => word.clone(),
        Token::Int(number) => number.to_string(),
        Token::IntMin => "9223372036854775808".to_owned(),
        Token::Uint(number) => format!("{number}u"),
        Token::Double(number) => number.to_string(),
        Token::String(text) => format!("\"{text}\""),
        Token::Bytes(_) => "b\"…\"".to_owned(),
        Token::Sign(sign) => (*sign).to_owned(),
        Token::End => "<EOF>".to_owned(),
    }
}
