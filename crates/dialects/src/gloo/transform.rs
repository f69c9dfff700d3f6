//! `transformations` and `stagedTransformations`, as far as they are about heads and about answers
//! whose body is known beforehand.
//!
//! Of a stage one entry is in force, the first that matches; entries for some requests only are
//! told. Early transformations of requests come before regular ones, those of answers after them.

use std::sync::Arc;

use routing::model::{AnswerRewrite, BodyEdit, Bytes, Template};
use serde_json::{Map, Value};

use super::inja::{self, Text};
use super::matcher::flag;
use crate::fields::Fields;
use crate::shared::headers;

mod change;

pub(super) use change::Change;

const STAGED: &str = "stagedTransformations";
const TWICE: &str = "stagedTransformations are there, too: these are not made";
const LISTS: [&str; 2] = ["requestTransforms", "responseTransforms"];

/// What becomes of requests and answers.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Transformed {
    pub(super) request: Change,
    pub(super) response: Change,
    status: Option<u16>,
    body: Option<Bytes>,
}

impl Transformed {
    /// What becomes of an answer besides its head.
    pub(super) fn rewrites(&self) -> Vec<AnswerRewrite> {
        let rewrite = AnswerRewrite {
            status: self.status,
            body: BodyEdit {
                replace: self.body.clone(),
                ..BodyEdit::default()
            },
            ..AnswerRewrite::default()
        };
        let is_none = rewrite == AnswerRewrite::default();
        if is_none { Vec::new() } else { vec![rewrite] }
    }

    /// `None` if the options say nothing of it.
    pub(super) fn read(options: &Fields<'_>) -> Option<Self> {
        let staged = options.object(STAGED).map(|stages| {
            for key in ["logRequestResponseInfo", "inheritTransformation"] {
                stages.ignore(key);
            }
            escapes(&stages);
            stages.unsupported("postRouting", "write it into regular");
            let read = |key| stages.object(key).map(|it| Stage::read(&it));
            let early = read("early").unwrap_or_default();
            let regular = read("regular").unwrap_or_default();
            early.around(regular)
        });
        let plain = options.object("transformations").map(|it| {
            if staged.is_some() {
                options.refuse("transformations", "TransformationTwice", TWICE);
                it.pass_over();
            }
            Stage {
                matched: Some(Entry::read(&it)),
                answer: None,
            }
            .around(Stage::default())
        });
        staged.or(plain)
    }

    /// Those of a route below a host with these, which are read as `parent`.
    pub(super) fn of_route(options: &Fields<'_>, host: &Value, parent: &Self) -> Self {
        let own = options.raw(STAGED).filter(|own| inherits(own));
        let Some(own) = own.filter(|_| host.get(STAGED).is_some()) else {
            return Self::read(options).unwrap_or_else(|| parent.clone());
        };
        let mut merged = own.clone();
        join(&mut merged, &host[STAGED]);
        let mut all = Map::new();
        all.insert(STAGED.to_owned(), merged);
        let path = options.path().to_owned();
        let all = Value::Object(all);
        let merged = Fields::new(&all, path, options.findings());
        if options.raw("transformations").is_some() {
            options.refuse("transformations", "TransformationTwice", TWICE);
        }
        Self::read(&merged).unwrap_or_default()
    }
}

/// What options say of it, for routes that say a part of their own.
pub(super) fn raw(options: &Fields<'_>) -> Value {
    let keys = [STAGED, "transformations"].into_iter();
    let said = keys.filter_map(|key| Some((key.to_owned(), options.raw(key)?.clone())));
    Value::Object(said.collect())
}

fn inherits(staged: &Value) -> bool {
    staged.get("inheritTransformation") == Some(&Value::Bool(true))
}

/// Options of a route that its parent's are taken over into: its transformations before the
/// parent's, if it wants those.
pub(super) fn inherit(own: &mut Value, parent: &Value) {
    let Some(own) = own.get_mut(STAGED).filter(|own| inherits(own)) else {
        return;
    };
    if let Some(parent) = parent.get(STAGED) {
        join(own, parent);
        if !inherits(parent) {
            own["inheritTransformation"] = Value::Bool(false);
        }
    }
}

/// Puts the entries of `parent` behind the own ones.
fn join(own: &mut Value, parent: &Value) {
    for stage in ["early", "regular"] {
        for list in LISTS {
            let Some(more) = parent[stage][list].as_array() else {
                continue;
            };
            let Some(stages) = own.as_object_mut() else {
                return;
            };
            let stage = stages
                .entry(stage)
                .or_insert_with(|| Value::Object(Map::new()));
            let Some(stage) = stage.as_object_mut() else {
                return;
            };
            let entries = stage
                .entry(list)
                .or_insert_with(|| Value::Array(Vec::new()));
            if let Some(entries) = entries.as_array_mut() {
                entries.extend(more.iter().cloned());
            }
        }
    }
}

/// What is made at one place of the way.
#[derive(Debug, Default)]
struct Stage {
    matched: Option<Entry>,
    /// Made if the entry that matched says nothing of answers.
    answer: Option<Transformation>,
}

#[derive(Debug, Default)]
struct Entry {
    request: Option<Transformation>,
    answer: Option<Transformation>,
}

#[derive(Debug, Default)]
struct Transformation {
    change: Change,
    status: Option<u16>,
    body: Option<Bytes>,
}

impl Stage {
    fn read(fields: &Fields<'_>) -> Self {
        let mut out = Self::default();
        for entry in fields.objects("requestTransforms") {
            // Only the first that matches is made.
            if out.matched.is_some() {
                entry.pass_over();
            } else if is_for_all(&entry) {
                out.matched = Some(Entry::read(&entry));
            }
        }
        for entry in fields.objects("responseTransforms") {
            let is_some = |key: &str| {
                let empty = |value: &Value| value == "" || value == &Value::Array(Vec::new());
                entry.raw(key).is_some_and(|value| !empty(value))
            };
            let matchers = is_some("matchers");
            if out.answer.is_some() {
                entry.pass_over();
            } else if matchers || is_some("responseCodeDetails") {
                entry.pass_over();
                let text = "transformations are for all answers or for none: this one is not made";
                let findings = entry.findings();
                findings.refuse("MatcherNotSupported", entry.path(), text);
            } else {
                let read = entry.object("responseTransformation");
                out.answer = read.map(|it| Transformation::read(&it, true));
            }
        }
        out
    }

    /// This one is nearer to the client than the other.
    fn around(self, inner: Self) -> Transformed {
        let take = |stage: Self| {
            let entry = stage.matched.unwrap_or_default();
            let answer = entry.answer.or(stage.answer);
            (
                entry.request.unwrap_or_default(),
                answer.unwrap_or_default(),
            )
        };
        let (outer_request, outer) = take(self);
        let (inner_request, inner) = take(inner);
        Transformed {
            request: outer_request.change.then(inner_request.change),
            response: inner.change.then(outer.change),
            status: outer.status.or(inner.status),
            body: outer.body.or(inner.body),
        }
    }
}

fn escapes(fields: &Fields<'_>) {
    if flag(fields, "escapeCharacters").unwrap_or(false) {
        let text = "values are copied as they are, nothing in them is escaped";
        fields.refuse("escapeCharacters", "FieldNotSupported", text);
    }
}

/// Whether an entry is for every request; others are told.
fn is_for_all(entry: &Fields<'_>) -> bool {
    let is_it = match entry.raw("matcher") {
        None => true,
        Some(Value::Object(map)) => {
            let mut said = map.iter();
            said.all(|(key, value)| key == "prefix" && value == "/")
        }
        Some(_) => false,
    };
    if !is_it {
        entry.pass_over();
        let text = "transformations are for all requests of a route: this one is not made; \
                    write a route with this matcher and put it there";
        let findings = entry.findings();
        findings.refuse("MatcherNotSupported", entry.path(), text);
    }
    is_it
}

impl Entry {
    fn read(fields: &Fields<'_>) -> Self {
        if flag(fields, "clearRouteCache").unwrap_or(false) {
            let text = "the route is chosen by what the client sent, before it is transformed";
            fields.refuse("clearRouteCache", "FieldNotSupported", text);
        }
        let read = |key, is_answer| {
            let written = fields.object(key);
            written.map(|it| Transformation::read(&it, is_answer))
        };
        Self {
            request: read("requestTransformation", false),
            answer: read("responseTransformation", true),
        }
    }
}

impl Transformation {
    fn read(fields: &Fields<'_>, is_answer: bool) -> Self {
        fields.ignore("logRequestResponseInfo");
        for key in ["headerBodyTransform", "xsltTransformation"] {
            fields.unsupported(
                key,
                "bodies are passed on as they are; do it in the Service",
            );
        }
        let template = fields.object("transformationTemplate");
        template.map_or_else(Self::default, |it| Self::template(&it, is_answer))
    }

    fn template(fields: &Fields<'_>, is_answer: bool) -> Self {
        // Bodies are not looked into, so how they would be read changes nothing.
        for key in [
            "advancedTemplates",
            "ignoreErrorOnParse",
            "parseBodyBehavior",
        ] {
            fields.ignore(key);
        }
        fields.object("passthrough");
        escapes(fields);
        let remedy = "headers are copied whole and bodies not looked into; do it in the Service";
        for key in ["extractors", "mergeExtractorsToBody", "mergeJsonKeys"] {
            fields.unsupported(key, remedy);
        }
        fields.unsupported("dynamicMetadataValues", "there is no metadata of requests");
        fields.unsupported("spanTransformer", "spans have the names of their routes");
        let mut out = Self::default();
        let mut set = Change::default();
        if let Some(map) = fields.object("headers") {
            for name in map.keys() {
                let text = map.object(name).and_then(|it| it.str("text"));
                let text = text.unwrap_or_default();
                let done = if is_answer && name == ":status" {
                    status(text).map(|status| out.status = Some(status))
                } else {
                    put(&mut set, (name, text), is_answer, false)
                };
                if let Err(text) = done {
                    map.refuse(name, "TemplateNotSupported", text);
                }
            }
        }
        let mut removed = Change::default();
        for name in fields.strings("headersToRemove") {
            match headers::name(name) {
                Ok(name) => removed.ops.remove.push(name),
                Err(text) => fields.refuse("headersToRemove", "HeaderNotSupported", text),
            }
        }
        let mut added = Change::default();
        for entry in fields.objects("headersToAppend") {
            let text = entry.object("value").and_then(|it| it.str("text"));
            let pair = (
                entry.str("key").unwrap_or_default(),
                text.unwrap_or_default(),
            );
            if let Err(text) = put(&mut added, pair, is_answer, true) {
                entry.refuse("value", "TemplateNotSupported", text);
            }
        }
        out.change = set.then(removed).then(added);
        out.body = body(fields, is_answer);
        out
    }
}

fn status(text: &str) -> Result<u16, String> {
    let status = text.trim().parse();
    let status = status.ok().filter(|status| (200..600).contains(status));
    status.ok_or_else(|| format!("the status {text:?} is no number between 200 and 599"))
}

/// The body of answers, if it is a text.
fn body(fields: &Fields<'_>, is_answer: bool) -> Option<Bytes> {
    let written = fields.object("body")?;
    let text = written.str("text").unwrap_or_default();
    let why = match inja::read(text, is_answer) {
        Ok(Text::Plain(text)) if is_answer => return Some(text.as_str().into()),
        Ok(_) if is_answer => "bodies of answers are texts without variables".to_owned(),
        Ok(_) => "bodies of requests are passed on as they are".to_owned(),
        Err(why) => why,
    };
    let text = format!("{why}; the body stays, change it in the Service");
    written.refuse("text", "TemplateNotSupported", text);
    None
}

/// Sets a header or adds one; nothing is not sent.
fn put(
    change: &mut Change,
    (name, value): (&str, &str),
    is_answer: bool,
    append: bool,
) -> Result<(), String> {
    let value = inja::read(value, is_answer)?;
    if name.starts_with(':') || name.eq_ignore_ascii_case("host") {
        return Err(format!(
            "{name} is no header that can be set; write prefixRewrite, regexRewrite or hostRewrite"
        ));
    }
    let (name, _) = headers::settable(name, "")?;
    match value {
        Text::Plain(value) => {
            let value = headers::value(&value)?;
            match (value.is_empty(), append) {
                (true, true) => {}
                (true, false) => change.ops.remove.push(name),
                (false, true) => change.ops.add.push((name, value)),
                (false, false) => change.ops.set.push((name, value)),
            }
        }
        Text::Template(value) => {
            if !append {
                // A value of nothing takes the header away.
                change.ops.remove.push(Arc::clone(&name));
            }
            change.templates.push(Template {
                name,
                value: value.into(),
                append,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
