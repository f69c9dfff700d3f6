//! The regular expressions of matches: RE2's syntax, whole text, linear time, bounded memory.

use regex::RegexBuilder;

/// Compiled bytes that one expression may take.
const SIZE: usize = 256 * 1024;

/// Compiles an expression that must match the whole of a text.
///
/// # Errors
/// What is wrong with it, in one line, for the user who wrote it.
pub fn compile(expression: &str) -> Result<regex::bytes::Regex, String> {
    // Alone first: an unbalanced parenthesis must not pair with ours.
    let parsed = RegexBuilder::new(expression).size_limit(SIZE).build();
    parsed.map_err(|error| one_line(&error))?;
    regex::bytes::RegexBuilder::new(&format!("^(?:{expression})$"))
        .size_limit(SIZE)
        .build()
        .map_err(|error| one_line(&error))
}

/// Replaces whatever the expression finds. In `with`, `\\0` to `\\9` stand for what the groups found
/// and `\\\\` for a backslash, as in RE2. An expression that does not compile finds nothing.
#[must_use]
pub fn replace(expression: &str, with: &str, text: &str) -> String {
    let Ok(expression) = RegexBuilder::new(expression).size_limit(SIZE).build() else {
        return text.to_owned();
    };
    let put = |found: &regex::Captures<'_>| {
        let mut out = String::new();
        let mut rest = with.chars();
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
    };
    expression.replace_all(text, put).into_owned()
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
