//! The subset of Go's text templates that Knative's ConfigMaps use for names:
//! `{{.Name}}`, `{{.Namespace}}`, `{{.Domain}}`, `{{.Tag}}`, `{{index .Annotations "key"}}` and
//! `{{.Annotations.key}}` (the same for Labels), with `{{-` and `-}}` trimming.
//!
//! Anything else is refused when the ConfigMap is admitted, never at a route's reconciliation.

use std::collections::BTreeMap;

/// A value that a template may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    Name,
    Namespace,
    Domain,
    Tag,
}

impl Field {
    fn spelling(self) -> &'static str {
        match self {
            Self::Name => ".Name",
            Self::Namespace => ".Namespace",
            Self::Domain => ".Domain",
            Self::Tag => ".Tag",
        }
    }
}

/// What a template is rendered with. Fields that a template may not use stay empty.
#[derive(Clone, Copy, Debug, Default)]
pub struct Values<'a> {
    pub name: &'a str,
    pub namespace: &'a str,
    pub domain: &'a str,
    pub tag: &'a str,
    pub annotations: Option<&'a BTreeMap<String, String>>,
    pub labels: Option<&'a BTreeMap<String, String>>,
}

/// A parsed template.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    Field(Field),
    Annotation(String),
    Label(String),
}

/// Why a template is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    #[error("the template has \"{{{{\" without \"}}}}\"")]
    Unclosed,
    #[error(
        "the template action {{{{{action}}}}} is not supported, use {allowed} or index .Annotations \"key\""
    )]
    Unsupported { action: String, allowed: String },
}

impl Template {
    /// Parses a template that may use `fields`, annotations and labels.
    ///
    /// # Errors
    /// When an action is not closed or not in the supported subset.
    pub fn parse(text: &str, fields: &[Field]) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut rest = text;
        let mut trim_next = false;
        while let Some((before, after)) = rest.split_once("{{") {
            let (action, after) = after.split_once("}}").ok_or(TemplateError::Unclosed)?;
            // Go wants white space beside the trim marker; `{{-3}}` would be a number.
            let trim_before = action.starts_with("- ");
            let trim_after = action.ends_with(" -");
            let before = if trim_next {
                before.trim_start()
            } else {
                before
            };
            push_literal(
                &mut parts,
                if trim_before {
                    before.trim_end()
                } else {
                    before
                },
            );
            let inner = action
                .strip_prefix('-')
                .filter(|_| trim_before)
                .unwrap_or(action);
            let inner = inner
                .strip_suffix('-')
                .filter(|_| trim_after)
                .unwrap_or(inner);
            let part =
                parse_action(inner.trim(), fields).ok_or_else(|| TemplateError::Unsupported {
                    action: action.trim().to_owned(),
                    allowed: fields
                        .iter()
                        .map(|field| field.spelling())
                        .collect::<Vec<_>>()
                        .join(", "),
                })?;
            parts.push(part);
            trim_next = trim_after;
            rest = after;
        }
        push_literal(&mut parts, if trim_next { rest.trim_start() } else { rest });
        Ok(Self { parts })
    }

    /// The text for these values; a missing annotation or label is empty, as in Go.
    pub fn render(&self, values: &Values<'_>) -> String {
        let look_up = |map: Option<&BTreeMap<String, String>>, key: &str| {
            map.and_then(|map| map.get(key))
                .cloned()
                .unwrap_or_default()
        };
        self.parts
            .iter()
            .map(|part| match part {
                Part::Literal(text) => text.clone(),
                Part::Field(Field::Name) => values.name.to_owned(),
                Part::Field(Field::Namespace) => values.namespace.to_owned(),
                Part::Field(Field::Domain) => values.domain.to_owned(),
                Part::Field(Field::Tag) => values.tag.to_owned(),
                Part::Annotation(key) => look_up(values.annotations, key),
                Part::Label(key) => look_up(values.labels, key),
            })
            .collect()
    }

    /// Whether the text depends on annotations or labels.
    pub fn reads_metadata(&self) -> bool {
        self.parts
            .iter()
            .any(|part| matches!(part, Part::Annotation(_) | Part::Label(_)))
    }
}

fn push_literal(parts: &mut Vec<Part>, text: &str) {
    if !text.is_empty() {
        parts.push(Part::Literal(text.to_owned()));
    }
}

fn parse_action(action: &str, fields: &[Field]) -> Option<Part> {
    if let Some(field) = fields.iter().find(|field| field.spelling() == action) {
        return Some(Part::Field(*field));
    }
    let identifier = |key: &str| {
        (!key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
            .then(|| key.to_owned())
    };
    if let Some(key) = action.strip_prefix(".Annotations.") {
        return identifier(key).map(Part::Annotation);
    }
    if let Some(key) = action.strip_prefix(".Labels.") {
        return identifier(key).map(Part::Label);
    }
    let arguments = action.strip_prefix("index")?.trim_start();
    let (map, key) = arguments.split_once(char::is_whitespace)?;
    let key = key.trim();
    let key = ['"', '`']
        .iter()
        .find_map(|quote| key.strip_prefix(*quote)?.strip_suffix(*quote))?;
    // Escapes in keys are not worth a Go string parser: no annotation key needs one.
    if key.contains(['\\', '"', '`']) {
        return None;
    }
    match map {
        ".Annotations" => Some(Part::Annotation(key.to_owned())),
        ".Labels" => Some(Part::Label(key.to_owned())),
        _ => None,
    }
}
