//! Source text → tokens. Linear in the source, without recursion.

use crate::Fault;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Token {
    Ident(String),
    Int(i64),
    /// The one integer that exists only with a minus sign.
    IntMin,
    Uint(u64),
    Double(f64),
    String(String),
    Bytes(Vec<u8>),
    /// An operator or a delimiter.
    Sign(&'static str),
    End,
}

/// Longest first, so that the first match is the right one.
const SIGNS: [&str; 26] = [
    "==", "!=", "<=", ">=", "&&", "||", "<", ">", "+", "-", "*", "/", "%", "!", "?", ":", ".", ",",
    "(", ")", "[", "]", "{", "}", "=", "in",
];

struct Lexer<'a> {
    chars: &'a [char],
    at: usize,
}

/// All tokens with their places; the last one is [`Token::End`].
pub(crate) fn tokens(source: &[char]) -> Result<Vec<(usize, Token)>, Fault> {
    let mut lexer = Lexer {
        chars: source,
        at: 0,
    };
    let mut tokens = Vec::new();
    loop {
        lexer.skip_space();
        let at = lexer.at;
        if at >= source.len() {
            tokens.push((at, Token::End));
            return Ok(tokens);
        }
        let token = lexer.token()?;
        tokens.push((at, token));
    }
}

impl Lexer<'_> {
    fn peek(&self, ahead: usize) -> char {
        self.chars.get(self.at + ahead).copied().unwrap_or('\0')
    }

    fn skip_space(&mut self) {
        loop {
            let ahead = self.peek(0);
            if matches!(ahead, ' ' | '\t' | '\n' | '\r' | '\x0c') {
                self.at += 1;
            } else if ahead == '/' && self.peek(1) == '/' {
                while self.at < self.chars.len() && self.peek(0) != '\n' {
                    self.at += 1;
                }
            } else {
                return;
            }
        }
    }

    fn fault(&self, text: impl Into<String>) -> Fault {
        Fault::new(self.at, format!("Syntax error: {}", text.into()))
    }

    fn token(&mut self) -> Result<Token, Fault> {
        let first = self.peek(0);
        if first.is_ascii_digit() || first == '.' && self.peek(1).is_ascii_digit() {
            return self.number();
        }
        if let Some((length, raw, bytes)) = self.string_prefix() {
            self.at += length;
            return self.string(raw, bytes);
        }
        if first.is_ascii_alphabetic() || first == '_' {
            return Ok(self.word());
        }
        if first == '`' {
            return self.quoted_field();
        }
        for sign in SIGNS {
            if sign.chars().enumerate().all(|(i, c)| self.peek(i) == c) {
                self.at += sign.len();
                return Ok(Token::Sign(sign));
            }
        }
        Err(self.fault(format!("token recognition error at: '{first}'")))
    }

    fn word(&mut self) -> Token {
        let start = self.at;
        while self.peek(0).is_ascii_alphanumeric() || self.peek(0) == '_' {
            self.at += 1;
        }
        let word: String = self.chars[start..self.at].iter().collect();
        if word == "in" {
            Token::Sign("in")
        } else {
            Token::Ident(word)
        }
    }

    /// A field name between backticks.
    fn quoted_field(&mut self) -> Result<Token, Fault> {
        let start = self.at + 1;
        let end = self.chars[start..].iter().position(|c| *c == '`');
        let Some(length) = end.filter(|length| *length > 0) else {
            return Err(self.fault("unterminated quoted field"));
        };
        self.at = start + length + 1;
        Ok(Token::Ident(
            self.chars[start..start + length].iter().collect(),
        ))
    }

    fn number(&mut self) -> Result<Token, Fault> {
        let start = self.at;
        let hexadecimal = self.peek(0) == '0' && matches!(self.peek(1), 'x' | 'X');
        if hexadecimal {
            self.at += 2;
            while self.peek(0).is_ascii_hexdigit() {
                self.at += 1;
            }
            let digits: String = self.chars[start + 2..self.at].iter().collect();
            return self.integer(&digits, 16);
        }
        let mut float = false;
        while self.peek(0).is_ascii_digit() {
            self.at += 1;
        }
        if self.peek(0) == '.' && self.peek(1).is_ascii_digit() {
            float = true;
            self.at += 1;
            while self.peek(0).is_ascii_digit() {
                self.at += 1;
            }
        }
        let signed = usize::from(matches!(self.peek(1), '+' | '-'));
        if matches!(self.peek(0), 'e' | 'E') && self.peek(1 + signed).is_ascii_digit() {
            float = true;
            self.at += 1 + signed;
            while self.peek(0).is_ascii_digit() {
                self.at += 1;
            }
        }
        let digits: String = self.chars[start..self.at].iter().collect();
        if float {
            let parsed = digits.parse();
            return parsed
                .map(Token::Double)
                .map_err(|_| self.fault("invalid double literal"));
        }
        self.integer(&digits, 10)
    }

    fn integer(&mut self, digits: &str, radix: u32) -> Result<Token, Fault> {
        let Ok(number) = u64::from_str_radix(digits, radix) else {
            return Err(self.fault("invalid int literal"));
        };
        if matches!(self.peek(0), 'u' | 'U') {
            self.at += 1;
            return Ok(Token::Uint(number));
        }
        match i64::try_from(number) {
            Ok(number) => Ok(Token::Int(number)),
            Err(_) if number == 1 << 63 => Ok(Token::IntMin),
            Err(_) => Err(self.fault("invalid int literal")),
        }
    }

    /// Length of the prefix letters of a string, and what they mean.
    fn string_prefix(&self) -> Option<(usize, bool, bool)> {
        let (mut raw, mut bytes) = (false, false);
        for length in 0..3 {
            match self.peek(length) {
                '"' | '\'' => return Some((length, raw, bytes)),
                'r' | 'R' if !raw => raw = true,
                'b' | 'B' if !bytes => bytes = true,
                _ => return None,
            }
        }
        None
    }

    fn string(&mut self, raw: bool, bytes: bool) -> Result<Token, Fault> {
        let quote = self.peek(0);
        let triple = self.peek(1) == quote && self.peek(2) == quote;
        let width = if triple { 3 } else { 1 };
        self.at += width;
        let mut out = Vec::new();
        loop {
            let next = self.peek(0);
            if self.at >= self.chars.len() || !triple && matches!(next, '\n' | '\r') {
                return Err(self.fault("unterminated string literal"));
            }
            if (0..width).all(|i| self.peek(i) == quote) {
                self.at += width;
                break;
            }
            if next == '\\' && !raw {
                self.escape(bytes, &mut out)?;
            } else {
                self.at += 1;
                out.extend_from_slice(next.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        if bytes {
            return Ok(Token::Bytes(out));
        }
        String::from_utf8(out)
            .map(Token::String)
            .map_err(|_| self.fault("invalid string literal"))
    }

    fn escape(&mut self, bytes: bool, out: &mut Vec<u8>) -> Result<(), Fault> {
        let letter = self.peek(1);
        let simple = match letter {
            'a' => Some(7),
            'b' => Some(8),
            'f' => Some(12),
            'n' => Some(b'\n'),
            'r' => Some(b'\r'),
            't' => Some(b'\t'),
            'v' => Some(11),
            '\\' | '\'' | '"' | '`' | '?' => Some(letter as u8),
            _ => None,
        };
        if let Some(byte) = simple {
            self.at += 2;
            out.push(byte);
            return Ok(());
        }
        let (skip, digits, radix) = match letter {
            'x' | 'X' => (2, 2, 16),
            'u' => (2, 4, 16),
            'U' => (2, 8, 16),
            '0'..='3' => (1, 3, 8),
            _ => return Err(self.fault("invalid escape sequence")),
        };
        let mut code = 0_u32;
        for index in 0..digits {
            let digit = self.peek(skip + index).to_digit(radix);
            let digit = digit.ok_or_else(|| self.fault("invalid escape sequence"))?;
            code = (code << if radix == 16 { 4 } else { 3 }) | digit;
        }
        self.at += skip + digits;
        match u8::try_from(code) {
            Ok(byte) if bytes => out.push(byte),
            _ => {
                let letter =
                    char::from_u32(code).ok_or_else(|| self.fault("invalid code point"))?;
                out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        Ok(())
    }
}
