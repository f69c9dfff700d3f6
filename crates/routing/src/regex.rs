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
}
