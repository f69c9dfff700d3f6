//! Small texts that dialects are written in: expressions and durations.

use std::time::Duration;

/// An expression that finds exactly this text.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        // An escaped angle bracket is a word boundary.
        if letter.is_ascii_punctuation() && letter != '<' && letter != '>' {
            out.push('\\');
        }
        out.push(letter);
    }
    out
}

/// A duration as Go writes it: `1h2m3.5s`, `300ms`; a bare `0` is none.
pub(crate) fn go_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a duration such as 1m30s or 250ms");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest
            .find(|letter: char| !letter.is_ascii_digit() && letter != '.')
            .ok_or_else(wrong)?;
        let number: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let letters = rest
            .find(|letter: char| letter.is_ascii_digit() || letter == '.')
            .unwrap_or(rest.len());
        seconds += number
            * match &rest[..letters] {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "µs" => 1e-6,
                "ns" => 1e-9,
                _ => return Err(wrong()),
            };
        rest = &rest[letters..];
    }
    let parsed = Duration::try_from_secs_f64(seconds);
    parsed.ok().filter(|_| !text.is_empty()).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        let check = |text: &str, millis: Option<u128>| {
            let read = go_duration(text).ok().map(|it| it.as_millis());
            assert_eq!(read, millis, "{text:?}");
        };
        check("1h2m3.5s", Some(3_723_500));
        check("250ms", Some(250));
        check("0", Some(0));
        check("", None);
        check("5", None);
        check("5 s", None);
        check("-5s", None);
        check("5x", None);
    }

    #[test]
    fn an_escaped_text_finds_itself_only() {
        let expression = routing::regex::compile(&escape("/a.b+(c)")).expect("an expression");
        assert!(expression.is_match(b"/a.b+(c)"));
        assert!(!expression.is_match(b"/axb+(c)"));
    }
}
