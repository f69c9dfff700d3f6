//! Matchers of a route: read, held against those of the route that delegates, and ordered where
//! several route tables are merged.

use std::cmp::Ordering;
use std::sync::Arc;

use routing::model::{
    HeaderMatch, Match, PathMatch, Predicate, QueryMatch, Subject, Test, TextMatch, TextTest,
};

use crate::fields::Fields;
use crate::shared::headers;

/// One alternative.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Matcher {
    /// Nothing is said of a path: a prefix of `/`.
    pub(super) has_path: bool,
    pub(super) path: PathKind,
    pub(super) text: Arc<str>,
    /// As it is written; nothing is sensitive.
    case_sensitive: Option<bool>,
    headers: Vec<Field>,
    query: Vec<Field>,
    methods: Vec<Arc<str>>,
}

/// In the order of merged route tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum PathKind {
    Exact,
    Regex,
    Prefix,
    /// CONNECT requests, which have no path.
    Connect,
}

/// A header or query parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Field {
    name: Arc<str>,
    /// Empty: it must be there.
    value: Arc<str>,
    regex: bool,
    invert: bool,
}

impl Matcher {
    /// What a route without matchers has.
    pub(super) fn all() -> Self {
        Self {
            has_path: false,
            path: PathKind::Prefix,
            text: "/".into(),
            case_sensitive: None,
            headers: Vec::new(),
            query: Vec::new(),
            methods: Vec::new(),
        }
    }

    /// An error is one that rejects the object.
    pub(super) fn read(fields: &Fields<'_>) -> Result<Self, String> {
        let mut out = Self::all();
        let kinds = [
            ("exact", PathKind::Exact),
            ("regex", PathKind::Regex),
            ("prefix", PathKind::Prefix),
        ];
        let mut paths = 0;
        for (key, kind) in kinds {
            if let Some(text) = fields.text(key) {
                (out.path, out.text, out.has_path) = (kind, text.into(), true);
                paths += 1;
            }
        }
        out.case_sensitive = flag(fields, "caseSensitive");
        out.headers = read_fields(fields, "headers")?;
        out.query = read_fields(fields, "queryParameters")?;
        out.methods = fields
            .strings("methods")
            .into_iter()
            .map(Arc::from)
            .collect();
        if let Some(connect) = fields.object("connectMatcher") {
            connect.pass_over(); // It has no fields.
            (out.path, out.text, out.has_path) = (PathKind::Connect, "".into(), true);
            paths += 1;
        }
        if paths > 1 {
            let text = "only one of prefix, exact, regex and connectMatcher may be said";
            return Err(text.to_owned());
        }
        if out.path == PathKind::Regex
            && let Err(error) = routing::regex::compile(&out.text)
        {
            return Err(format!("expression {:?} cannot be used: {error}", out.text));
        }
        Ok(out)
    }

    /// Takes over from the route that delegates.
    pub(super) fn inherit_path(&mut self, parent: &Self) {
        (self.path, self.text) = (parent.path, Arc::clone(&parent.text));
        (self.case_sensitive, self.has_path) = (parent.case_sensitive, true);
    }

    /// The same for everything else.
    pub(super) fn inherit_rest(&mut self, parent: &Self) {
        self.headers.splice(0..0, parent.headers.iter().cloned());
        self.query.splice(0..0, parent.query.iter().cloned());
        self.methods.splice(0..0, parent.methods.iter().cloned());
    }

    /// Whether it is within what its parent delegates.
    pub(super) fn check(&self, parent: &Self) -> Result<(), String> {
        let wrong = |what: &str| {
            Err(format!(
                "invalid route: route table matchers must {what} their parent route's matcher"
            ))
        };
        if !self.text.starts_with(&*parent.text) {
            let text = format!(
                "required prefix: {}, prefix: {}: invalid route: route table matchers must begin with the prefix of their parent route's matcher",
                parent.text, self.text
            );
            return Err(text);
        }
        if self.case_sensitive != parent.case_sensitive {
            return wrong("have the same case sensitivity of");
        }
        let has = |own: &[Field], wanted: &[Field]| wanted.iter().all(|one| own.contains(one));
        if !has(&self.headers, &parent.headers) {
            return wrong("have all headers that were specified on");
        }
        if !has(&self.query, &parent.query) {
            return wrong("have all query params that were specified on");
        }
        if !parent
            .methods
            .iter()
            .all(|method| self.methods.contains(method))
        {
            return wrong("have all methods that were specified on");
        }
        Ok(())
    }

    /// Which of two comes first where route tables of one weight are merged.
    pub(super) fn order(&self, other: &Self) -> Ordering {
        let methods = other.methods.len().cmp(&self.methods.len());
        methods
            .then(self.path.cmp(&other.path))
            .then_with(|| other.text.cmp(&self.text))
    }

    pub(super) fn is_connect(&self) -> bool {
        self.path == PathKind::Connect
    }

    pub(super) fn ignores_case(&self) -> bool {
        let is_text = !matches!(self.path, PathKind::Regex | PathKind::Connect);
        self.case_sensitive == Some(false) && is_text
    }

    /// As the model says it.
    pub(super) fn matched(&self) -> Match {
        let mut out = Match::default();
        let text = Arc::clone(&self.text);
        if self.ignores_case() {
            let how = match self.path {
                PathKind::Exact => TextTest::Exact,
                PathKind::Regex | PathKind::Prefix | PathKind::Connect => TextTest::Prefix,
            };
            let test = Test::Text {
                how,
                value: text,
                ignore_case: true,
            };
            out.other.push(predicate(Subject::Path, test, false));
        } else {
            out.path = Some(match self.path {
                PathKind::Exact => PathMatch::Exact(text),
                PathKind::Regex => PathMatch::Regex(text),
                PathKind::Prefix => PathMatch::StringPrefix(text),
                PathKind::Connect => PathMatch::Connect,
            });
        }
        match &self.methods[..] {
            [] => {}
            [one] => out.method = Some(Arc::clone(one)),
            many => {
                let test = Test::In(many.into());
                out.other.push(predicate(Subject::Method, test, false));
            }
        }
        for header in &self.headers {
            match (header.text(), header.invert) {
                (Some(value), false) => out.headers.push(HeaderMatch {
                    name: Arc::clone(&header.name),
                    value,
                }),
                _ => header.predicates(Subject::Header(Arc::clone(&header.name)), &mut out),
            }
        }
        for query in &self.query {
            match query.text() {
                Some(value) => out.query.push(QueryMatch {
                    name: Arc::clone(&query.name),
                    value,
                }),
                None => query.predicates(Subject::Query(Arc::clone(&query.name)), &mut out),
            }
        }
        out
    }
}

impl Field {
    fn text(&self) -> Option<TextMatch> {
        let value = Arc::clone(&self.value);
        match (self.value.is_empty(), self.regex) {
            (true, false) => None,
            (_, true) => Some(TextMatch::Regex(value)),
            (false, false) => Some(TextMatch::Exact(value)),
        }
    }

    fn predicates(&self, subject: Subject, out: &mut Match) {
        let Some(text) = self.text() else {
            out.other
                .push(predicate(subject, Test::Present, self.invert));
            return;
        };
        let (how, value) = match text {
            TextMatch::Exact(value) => (TextTest::Exact, value),
            TextMatch::Regex(value) => (TextTest::Regex, value),
        };
        // Envoy: what is missing meets no condition but that it is missing.
        let present = predicate(subject.clone(), Test::Present, false);
        let test = Test::Text {
            how,
            value,
            ignore_case: false,
        };
        out.other
            .extend([present, predicate(subject, test, self.invert)]);
    }
}

pub(super) fn predicate(subject: Subject, test: Test, negate: bool) -> Predicate {
    Predicate {
        subject,
        test,
        negate,
        missing_is_empty: false,
    }
}

/// A flag, which may be wrapped.
pub(super) fn flag(fields: &Fields<'_>, key: &str) -> Option<bool> {
    let value = fields.unwrapped(key)?.as_bool();
    if value.is_none() {
        fields.refuse(key, "FieldInvalid", "must be true or false");
    }
    value
}

fn read_fields(fields: &Fields<'_>, key: &str) -> Result<Vec<Field>, String> {
    let mut out = Vec::new();
    for entry in fields.objects(key) {
        let name = entry.str("name").unwrap_or_default();
        let value = entry.loose("value").unwrap_or_default();
        let regex = entry.bool("regex").unwrap_or(false);
        let invert = key == "headers" && flag(&entry, "invertMatch").unwrap_or(false);
        let name = if key == "headers" {
            headers::name(name)?
        } else {
            name.into()
        };
        if regex && let Err(error) = routing::regex::compile(&value) {
            return Err(format!("expression {value:?} cannot be used: {error}"));
        }
        out.push(Field {
            name,
            value: value.into(),
            regex,
            invert,
        });
    }
    Ok(out)
}
