//! Texts of Inja's in transformations, as far as they copy headers.
//!
//! Statements, other functions and values out of bodies are refused: nothing is run.

/// A text of Inja's.
#[derive(Debug, PartialEq)]
pub(super) enum Text {
    Plain(String),
    /// As the model writes it.
    Template(String),
}

/// # Errors
/// What of it is not supported, for the user who wrote it.
pub(super) fn read(text: &str, is_answer: bool) -> Result<Text, String> {
    let is_statement = |line: &str| line.trim_start().starts_with("##");
    if text.contains("{%") || text.contains("{#") || text.lines().any(is_statement) {
        return Err(
            "statements of templates are not supported; header(\"name\") and \
                    request_header(\"name\") are"
                .to_owned(),
        );
    }
    let (mut plain, mut template) = (String::new(), String::new());
    let mut has_call = false;
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once("{{") {
        let (inner, after) = behind
            .split_once("}}")
            .ok_or_else(|| format!("{text:?} has a {{{{ without an end"))?;
        template.push_str(&before.replace('%', "%%"));
        template.push_str(&call(inner, is_answer)?);
        has_call = true;
        rest = after;
    }
    plain.push_str(rest);
    template.push_str(&rest.replace('%', "%%"));
    Ok(if has_call {
        Text::Template(template)
    } else {
        Text::Plain(plain)
    })
}

/// A header that a template asks for.
fn call(inner: &str, is_answer: bool) -> Result<String, String> {
    let wrong = || {
        format!(
            "{:?} is not supported in templates; header(\"name\") and request_header(\"name\") are",
            inner.trim()
        )
    };
    let (function, argument) = inner.split_once('(').ok_or_else(wrong)?;
    let argument = argument.trim().strip_suffix(')').ok_or_else(wrong)?.trim();
    let quoted = |quote: char| argument.strip_prefix(quote)?.strip_suffix(quote);
    let name = quoted('"').or_else(|| quoted('\'')).ok_or_else(wrong)?;
    let name = name.to_ascii_lowercase();
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let is_name = !name.is_empty() && name.bytes().all(allowed);
    let is_part = matches!(&*name, ":authority" | ":method" | ":path" | ":scheme");
    match function.trim() {
        "header" if is_answer && is_name => Ok(format!("%RESP({name})%")),
        "request_header" if is_name || is_part => Ok(format!("%REQ({name})%")),
        "header" if !is_answer && (is_name || is_part) => Ok(format!("%REQ({name})%")),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_may_ask_for_headers_and_for_nothing_else() {
        let check = |written: &str, is_answer: bool, expected: &str| {
            let expected = Text::Template(expected.to_owned());
            assert_eq!(read(written, is_answer), Ok(expected), "{written}");
        };
        check("{{ header(\"X-A\") }}", false, "%REQ(x-a)%");
        check("{{header('x-a')}} 5%", true, "%RESP(x-a)% 5%%");
        check("{{ request_header(\":path\") }}", true, "%REQ(:path)%");
        check(
            "a-{{ header(\"b\") }}-{{ header(\"c\") }}",
            false,
            "a-%REQ(b)%-%REQ(c)%",
        );
        assert_eq!(read("5%", false), Ok(Text::Plain("5%".to_owned())));
        for wrong in [
            "{{ name }}",
            "{{ extraction(\"a\") }}",
            "{{ env(\"HOME\") }}",
            "{{ header(\"a\") ",
            "{{ header(a) }}",
            "{{ header(\"a)%b\") }}",
            "{{ upper(header(\"a\")) }}",
            "{% if true %}a{% endif %}",
            "{# note #}",
            "## if x",
        ] {
            assert!(read(wrong, false).is_err(), "{wrong}");
        }
        // An answer has no path, and its status is no header here.
        assert!(read("{{ header(\":path\") }}", true).is_err());
        assert!(read("{{ header(\":status\") }}", true).is_err());
    }
}
