//! The regular expressions of matches: RE2's syntax, whole text, linear time, bounded memory.

use regex::RegexBuilder;

/// Compiled bytes that one expression may take.
const SIZE: usize = 256 * 1024;

/// Compiles an expression that must match the whole of a text.
///
/// # Errors
/// What is wrong with it, in one line, for the user who wrote it.
pub fn compile(expression: &str) -> Result<regex::bytes::Regex, String> {
    whole(expression, false)
}

/// The same for texts whose case does not matter.
///
/// # Errors
/// As for [`compile`].
pub fn compile_ignoring_case(expression: &str) -> Result<regex::bytes::Regex, String> {
    whole(expression, true)
}

fn whole(expression: &str, ignore_case: bool) -> Result<regex::bytes::Regex, String> {
    // Alone first: an unbalanced parenthesis must not pair with ours.
    let parsed = RegexBuilder::new(expression).size_limit(SIZE).build();
    parsed.map_err(|error| one_line(&error))?;
    regex::bytes::RegexBuilder::new(&format!("^(?:{expression})$"))
        .size_limit(SIZE)
        .case_insensitive(ignore_case)
        .build()
        .map_err(|error| one_line(&error))
}

/// Replaces whatever the expression finds. In `with`, `\\0` to `\\9` stand for what the groups found
/// and `\\\\` for a backslash, as in RE2. An expression that does not compile finds nothing.
/// Compiles the expression every time: what runs per request keeps a [`Replacement`].
#[must_use]
pub fn replace(expression: &str, with: &str, text: &str) -> String {
    match Replacement::new(expression, with) {
        Ok(replacement) => replacement.apply(text),
        Err(_) => text.to_owned(),
    }
}

/// What [`replace`] does, compiled once.
#[derive(Clone, Debug)]
pub struct Replacement {
    expression: regex::Regex,
    with: Box<str>,
}

impl Replacement {
    /// Compiles the expression.
    ///
    /// # Errors
    /// As for [`compile`].
    pub fn new(expression: &str, with: &str) -> Result<Self, String> {
        let compiled = RegexBuilder::new(expression).size_limit(SIZE).build();
        Ok(Self {
            expression: compiled.map_err(|error| one_line(&error))?,
            with: with.into(),
        })
    }

    /// The text with everything replaced that the expression finds.
    pub fn apply(&self, text: &str) -> String {
        let put = |found: &regex::Captures<'_>| self.put(found);
        self.expression.replace_all(text, put).into_owned()
    }

    fn put(&self, found: &regex::Captures<'_>) -> String {
        let mut out = String::new();
        let mut rest = self.with.chars();
        while let Some(next) = rest.next() {
            if next != '\\' {
                out.push(next);
                continue;
            }
            match rest.next() {
                Some(digit) if digit.is_ascii_digit() => {
                    let group = digit.to_digit(10).unwrap_or_default() as usize;
                    out.push_str(found.get(group).map_or("", |group| group.as_str()));
                }
                Some(other) => out.push(other),
                None => out.push('\\'),
            }
        }
        out
    }
}

fn one_line(error: &regex::Error) -> String {
    let text = error.to_string();
    text.lines().last().unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_matches_the_whole_text_or_is_refused() {
        let matches = |expression: &str, text: &str| {
            compile(expression)
                .expect(expression)
                .is_match(text.as_bytes())
        };
        assert!(matches("/a|/b", "/b"));
        assert!(!matches("/a|/b", "/bc"));
        assert!(!matches("b", "abc"));
        assert!(compile("a)(b").is_err());
        assert!(compile("(").is_err());
        assert!(compile("(?:a{1000}){1000}").is_err());
    }

    #[test]
    fn what_is_found_is_replaced_with_its_groups() {
        let check = |expression: &str, with: &str, expected: &str| {
            assert_eq!(replace(expression, with, "/v1/items/7"), expected);
        };
        check("^/v1/(.*)$", r"/v2/\1", "/v2/items/7");
        check("/", r"\0\\", r"/\v1/\items/\7");
        check("[0-9]", "n", "/vn/items/n");
        check("(", "x", "/v1/items/7");
        check("7$", r"\2", "/v1/items/");
    }
}
