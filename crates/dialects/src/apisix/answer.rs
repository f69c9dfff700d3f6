//! Plugins that change what a Service answers, or answer in its place.

use std::sync::Arc;
use std::time::Duration;

use routing::model::{AnswerRewrite, BodyEdit, Bytes, HeaderOps, Respond};

use super::edit::{self, Changes};
use super::plugin::Effects;
use super::vars::{self, OfAnswer};
use crate::fields::Fields;
use crate::shared::authority::base64;
use crate::shared::headers;

/// `response-rewrite`.
pub(super) fn rewrite(config: &Fields<'_>, effects: &mut Effects) {
    let conditions = match config.raw("vars").map(vars::of_answer) {
        None => OfAnswer::default(),
        Some(Ok(conditions)) => conditions,
        Some(Err(error)) => {
            config.refuse(
                "vars",
                "VarsNotSupported",
                format!("{error}: answers stay as they are"),
            );
            config.pass_over();
            return;
        }
    };
    let changes = edit::header_changes(config);
    config.unsupported(
        "filters",
        "bodies are not searched; write the whole body, or change it in the Service",
    );
    let status = config.number::<u16>("status_code");
    let is_status = |status: &u16| (200..=598).contains(status);
    if status.is_some_and(|status| !is_status(&status)) {
        let message = "status_code must be between 200 and 598; the status stays";
        config.refuse("status_code", "StatusInvalid", message);
    }
    let rewrite = AnswerRewrite {
        when: conditions.when,
        statuses: conditions.statuses,
        status: status.filter(is_status),
        body: BodyEdit {
            replace: body(config),
            ..BodyEdit::default()
        },
        ..AnswerRewrite::default()
    };
    let Changes { ops, templates } = changes;
    if rewrite == AnswerRewrite::default() {
        edit::join(&mut effects.filters.response_headers, ops);
        effects.filters.response_templates.extend(templates);
        return;
    }
    effects.filters.rewrites.push(AnswerRewrite {
        headers: ops,
        templates,
        ..rewrite
    });
}

/// `body`, which may be written in base64.
fn body(config: &Fields<'_>) -> Option<Bytes> {
    let is_coded = config.bool("body_base64").unwrap_or(false);
    let body = config.str("body")?;
    if !is_coded {
        return Some(body.into());
    }
    let decoded = base64(body).filter(|bytes| !bytes.is_empty());
    if decoded.is_none() {
        let message = "body is no base64; the body stays";
        config.refuse("body", "BodyInvalid", message);
    }
    decoded.map(Bytes::from)
}

/// `echo`.
pub(super) fn echo(config: &Fields<'_>, effects: &mut Effects) {
    let text = |key: &str| config.str(key).map(Bytes::from);
    let body = BodyEdit {
        replace: text("body"),
        before: text("before_body"),
        after: text("after_body"),
    };
    let headers = HeaderOps {
        set: pairs(config, "headers"),
        ..HeaderOps::default()
    };
    effects.echoes.push(AnswerRewrite {
        headers,
        body,
        ..AnswerRewrite::default()
    });
}

/// Headers as they are written; APISIX puts no variables into these.
fn pairs(config: &Fields<'_>, key: &str) -> Vec<(Arc<str>, Arc<str>)> {
    let mut pairs = Vec::new();
    let Some(map) = config.object(key) else {
        return pairs;
    };
    for name in map.keys() {
        let value = map.loose(name).unwrap_or_default();
        match headers::settable(name, &value) {
            Ok(pair) => pairs.push(pair),
            Err(error) => map.refuse(name, "HeaderInvalid", error),
        }
    }
    pairs
}

/// `mocking`: the Service is not asked.
pub(super) fn mock(config: &Fields<'_>, effects: &mut Effects) {
    let status = config.number::<u16>("response_status").unwrap_or(200);
    let is_status = (200..=599).contains(&status);
    if !is_status {
        let message = "response_status must be between 200 and 599: it is 200";
        config.refuse("response_status", "StatusInvalid", message);
    }
    let kind = config.text("content_type");
    let kind = kind.unwrap_or("application/json;charset=utf8");
    let delay = config.int("delay").unwrap_or(0);
    let mut answered = pairs(config, "response_headers");
    if config.bool("with_mock_header").unwrap_or(true) {
        answered.push(("x-mock-by".into(), "suimon".into()));
    }
    match headers::value(kind) {
        Ok(kind) => answered.push(("content-type".into(), kind)),
        Err(error) => config.refuse("content_type", "HeaderInvalid", error),
    }
    let Some(body) = config.str("response_example") else {
        let remedy = "answers are not made up, write response_example: the Service is asked";
        config.unsupported("response_schema", remedy);
        if !config.has("response_schema") {
            let message = "response_example is missing: the Service is asked";
            config.refuse("response_example", "ExampleMissing", message);
        }
        return;
    };
    // What is said besides an example changes nothing.
    config.ignore("response_schema");
    if has_variables(body) {
        let message = "variables are not put into response_example: it is answered as it is";
        config.refuse("response_example", "FieldNotSupported", message);
    }
    // fault-injection comes before it.
    if effects.respond.is_none() {
        effects.mocked_after = u64::try_from(delay)
            .ok()
            .filter(|seconds| *seconds > 0)
            .map(Duration::from_secs);
        effects.respond = Some(Respond {
            status: if is_status { status } else { 200 },
            headers: answered,
            body: body.into(),
        });
    }
}

/// Whether APISIX would take a part of a text for the name of a variable.
fn has_variables(text: &str) -> bool {
    text.split('$').skip(1).any(|after| {
        let name = after.strip_prefix('{').unwrap_or(after);
        name.starts_with(|letter: char| letter.is_ascii_alphanumeric() || letter == '_')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dollar_sign_alone_is_no_variable() {
        for (text, expected) in [
            ("", false),
            ("costs 5 $", false),
            ("{\"a\": \"$.b\"}", false),
            ("by $remote_addr", true),
            ("${host}", true),
            ("a $ b $x", true),
        ] {
            assert_eq!(has_variables(text), expected, "{text}");
        }
    }
}
