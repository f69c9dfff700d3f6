//! Sections that change a request or its answer: `rewritePath`, `headerTemplates`, `directResponse`.

use routing::model::{PathEdit, Respond, Template};
use routing::template;

use super::guards;
use crate::fields::Fields;
use crate::shared::headers;

/// What is changed.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Edits {
    pub(super) path: Option<PathEdit>,
    pub(super) templates: Option<Templates>,
    /// In place of whatever the rule does.
    pub(super) answer: Option<Respond>,
}

/// Headers whose values depend on the request.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Templates {
    pub(super) request: Vec<Template>,
    pub(super) response: Vec<Template>,
}

impl Edits {
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            path: self.path.or(other.path),
            templates: self.templates.or(other.templates),
            answer: self.answer.or(other.answer),
        }
    }
}

pub(super) fn read(spec: &Fields<'_>) -> Edits {
    let answer = spec.object("directResponse");
    Edits {
        path: spec.object("rewritePath").and_then(|it| path(&it)),
        templates: spec.object("headerTemplates").map(|it| Templates {
            request: templates(&it, "request"),
            response: templates(&it, "response"),
        }),
        answer: answer.map(|it| guards::answer(&it, 200, "")),
    }
}

/// One of `prefix`, `text` and `regex`, and `with`.
fn path(fields: &Fields<'_>) -> Option<PathEdit> {
    let with = fields.str("with").unwrap_or_default().into();
    let written = ["prefix", "text", "regex"].map(|key| (key, fields.text(key)));
    let there: Vec<_> = written
        .into_iter()
        .filter_map(|(key, text)| Some((key, text?)))
        .collect();
    let [(key, matched)] = there[..] else {
        let message = "write one of prefix, text and regex: the path stays";
        let path = fields.path();
        fields.findings().refuse("RewriteInvalid", path, message);
        return None;
    };
    let matched = matched.into();
    Some(match key {
        "prefix" => PathEdit::Prefix { matched, with },
        "text" => PathEdit::Text { matched, with },
        _ => {
            if let Err(error) = routing::regex::compile(&matched) {
                fields.refuse(key, "RegexInvalid", format!("{matched:?}: {error}"));
                return None;
            }
            PathEdit::Regex {
                pattern: matched,
                with,
            }
        }
    })
}

fn templates(fields: &Fields<'_>, key: &str) -> Vec<Template> {
    let mut all = Vec::new();
    for one in fields.objects(key) {
        let value = one.str("value").unwrap_or_default();
        let append = one.bool("append").unwrap_or(false);
        let name = headers::settable(one.str("name").unwrap_or_default(), value);
        match (name, template::parse(value)) {
            (Ok((name, value)), Ok(_)) => all.push(Template {
                name,
                value,
                append,
            }),
            (Err(error), _) => one.refuse("name", "HeaderInvalid", error),
            (_, Err(error)) => one.refuse("value", "TemplateInvalid", error),
        }
    }
    all
}
