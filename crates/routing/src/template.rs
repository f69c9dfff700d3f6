//! Header values that are put together for each request: text with the parts of the request and
//! its answer that Envoy calls operators.

use std::sync::Arc;

use crate::model::Template;

/// One part of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    Text(Arc<str>),
    /// A header of the request, in lower case; `:authority`, `:path`, `:method` and `:scheme` too.
    Request(Arc<str>),
    /// A header of the answer, in lower case.
    Response(Arc<str>),
    /// The peer's address.
    RemoteAddress,
    /// `HTTP/1.1` or `HTTP/2`.
    Protocol,
    Host,
    /// With the query.
    Path,
    Method,
    Scheme,
}

/// A [`Template`] in parts.
#[derive(Clone, Debug)]
pub struct CompiledTemplate {
    pub name: Arc<str>,
    pub parts: Box<[Part]>,
    pub append: bool,
}

impl CompiledTemplate {
    /// What does not parse, which dialects refuse, stands for itself.
    pub(crate) fn new(template: &Template) -> Self {
        let parts = parse(&template.value);
        Self {
            name: Arc::clone(&template.name),
            parts: parts.map_or_else(
                |_| [Part::Text(Arc::clone(&template.value))].into(),
                Into::into,
            ),
            append: template.append,
        }
    }
}

/// Whether a value has operators at all; without, it is a plain text.
pub fn is_template(value: &str) -> bool {
    value.contains('%')
}

/// The parts of a value.
///
/// # Errors
/// What is wrong with it, for the user who wrote it.
pub fn parse(value: &str) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut text = String::new();
    let mut rest = value;
    while let Some((before, after)) = rest.split_once('%') {
        text.push_str(before);
        let (operator, after) = after.split_once('%').ok_or_else(|| {
            format!("{value:?}: a % has no second one, write %% for the sign itself")
        })?;
        rest = after;
        if operator.is_empty() {
            text.push('%');
            continue;
        }
        if !text.is_empty() {
            parts.push(Part::Text(std::mem::take(&mut text).into()));
        }
        parts.push(part(operator)?);
    }
    text.push_str(rest);
    if !text.is_empty() {
        parts.push(Part::Text(text.into()));
    }
    Ok(parts)
}

fn part(operator: &str) -> Result<Part, String> {
    let argument = |name: &str| {
        let rest = operator.strip_prefix(name)?;
        let header = rest.strip_prefix('(')?.strip_suffix(')')?;
        (!header.is_empty() && !header.contains('?'))
            .then(|| Arc::from(header.to_ascii_lowercase()))
    };
    Ok(match operator {
        "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => Part::RemoteAddress,
        "PROTOCOL" => Part::Protocol,
        "HOST" => Part::Host,
        "PATH" => Part::Path,
        "METHOD" => Part::Method,
        "SCHEME" => Part::Scheme,
        _ => match (argument("REQ"), argument("RESP")) {
            (Some(name), _) => Part::Request(name),
            (None, Some(name)) => Part::Response(name),
            (None, None) => return Err(format!("%{operator}% is not supported")),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_text_and_operators_and_a_doubled_sign_is_text() {
        let text = |text: &str| Part::Text(text.into());
        assert_eq!(parse("plain"), Ok(vec![text("plain")]));
        assert_eq!(parse("100%% of it"), Ok(vec![text("100% of it")]));
        assert_eq!(
            parse("%REQ(X-Id)%-%RESP(server)%:%PROTOCOL%"),
            Ok(vec![
                Part::Request("x-id".into()),
                text("-"),
                Part::Response("server".into()),
                text(":"),
                Part::Protocol,
            ])
        );
        assert_eq!(parse(""), Ok(vec![]));
    }

    #[test]
    fn what_is_no_operator_is_refused() {
        for value in ["%", "50%", "%UNKNOWN%", "%REQ()%", "%REQ(a%", "%REQ(a?b)%"] {
            assert!(parse(value).is_err(), "{value}");
        }
    }
}
