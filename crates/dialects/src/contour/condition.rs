//! Conditions of routes and includes: read, checked, put together along the way from the root, and
//! ordered as Contour orders its routes.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;

use routing::model::{
    HeaderMatch, Match, PathMatch, Predicate, QueryMatch, Subject, Test, TextMatch, TextTest,
};

use crate::fields::Fields;
use crate::shared::headers;

/// One entry of `conditions`: parts that must all hold.
#[derive(Clone, Debug, Default)]
pub(super) struct Condition {
    pub(super) paths: Vec<(PathKind, Arc<str>)>,
    pub(super) header: Option<Header>,
    pub(super) query: Option<Query>,
}

/// How a path is compared, most specific first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum PathKind {
    Exact,
    Regex,
    Prefix,
}

/// The path of a route: everything on the way to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Path {
    pub(super) kind: PathKind,
    pub(super) text: Arc<str>,
}

/// A header and what is asked of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Header {
    /// Lower case.
    name: Arc<str>,
    /// `None` asks nothing, which Contour takes for no condition.
    test: Option<Wanted>,
    ignore_case: bool,
    negate: bool,
    missing_is_empty: bool,
}

/// A query parameter; valid with exactly one test.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Query {
    name: Arc<str>,
    tests: Vec<Wanted>,
    ignore_case: bool,
}

/// In the order in which Contour ranks them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wanted {
    Exact(Arc<str>),
    Regex(Arc<str>),
    Prefix(Arc<str>),
    Suffix(Arc<str>),
    Contains(Arc<str>),
    Present,
}

/// Reads a list of conditions.
pub(super) fn read(fields: &Fields<'_>, key: &str) -> Vec<Condition> {
    let one = |fields: Fields<'_>| {
        let path = |kind, key| fields.text(key).map(|text| (kind, Arc::from(text)));
        let paths = [
            path(PathKind::Prefix, "prefix"),
            path(PathKind::Exact, "exact"),
            path(PathKind::Regex, "regex"),
        ];
        Condition {
            paths: paths.into_iter().flatten().collect(),
            header: fields.object("header").map(|fields| header(&fields)),
            query: fields.object("queryParameter").map(|fields| query(&fields)),
        }
    };
    fields.objects(key).into_iter().map(one).collect()
}

fn header(fields: &Fields<'_>) -> Header {
    let flag = |key, negate| {
        let asked = fields.bool(key).unwrap_or(false);
        asked.then_some((Wanted::Present, negate))
    };
    let text = |key, of: fn(Arc<str>) -> Wanted, negate| {
        fields.text(key).map(|text| (of(text.into()), negate))
    };
    let tests = [
        flag("present", false),
        flag("notpresent", true),
        text("contains", Wanted::Contains, false),
        text("notcontains", Wanted::Contains, true),
        text("exact", Wanted::Exact, false),
        text("notexact", Wanted::Exact, true),
        text("regex", Wanted::Regex, false),
    ];
    let mut tests = tests.into_iter().flatten();
    let (test, negate) = tests
        .next()
        .map_or((None, false), |(test, negate)| (Some(test), negate));
    if tests.next().is_some() {
        let text = "more than one test of a header in one condition; the first of present, \
                    notpresent, contains, notcontains, exact, notexact, regex counts";
        fields.refuse("name", "ConditionIgnored", text);
    }
    let is_text = matches!(test, Some(Wanted::Contains(_) | Wanted::Exact(_)));
    Header {
        name: fields
            .str("name")
            .unwrap_or_default()
            .to_ascii_lowercase()
            .into(),
        test,
        ignore_case: fields.bool("ignoreCase").unwrap_or(false) && is_text,
        negate,
        missing_is_empty: fields.bool("treatMissingAsEmpty").unwrap_or(false) && negate,
    }
}

fn query(fields: &Fields<'_>) -> Query {
    let text = |key, of: fn(Arc<str>) -> Wanted| fields.text(key).map(|text| of(text.into()));
    let present = fields.bool("present").unwrap_or(false);
    let tests = [
        text("exact", Wanted::Exact),
        text("prefix", Wanted::Prefix),
        text("suffix", Wanted::Suffix),
        text("regex", Wanted::Regex),
        text("contains", Wanted::Contains),
        present.then_some(Wanted::Present),
    ];
    Query {
        name: fields.str("name").unwrap_or_default().into(),
        tests: tests.into_iter().flatten().collect(),
        ignore_case: fields.bool("ignoreCase").unwrap_or(false),
    }
}

/// Conditions on headers alone, which must all hold.
pub(super) fn of_headers(fields: &Fields<'_>, key: &str) -> Result<Vec<Predicate>, String> {
    let listed = fields.objects(key).into_iter().map(|it| Condition {
        paths: Vec::new(),
        header: Some(header(&it)),
        query: None,
    });
    let listed: Vec<_> = listed.collect();
    check_headers(&listed)?;
    let headers = listed.into_iter().filter_map(|one| one.header);
    Ok(headers.flat_map(|header| predicates(&header)).collect())
}

/// Whether paths can be used: at most one in a block, from the root of the path on.
pub(super) fn check_paths(conditions: &[Condition]) -> Result<(), String> {
    let paths = conditions.iter().flat_map(|condition| &condition.paths);
    let mut count = 0;
    for (kind, text) in paths {
        count += 1;
        let word = match kind {
            PathKind::Prefix => "prefix",
            PathKind::Exact => "exact",
            PathKind::Regex => "regex",
        };
        if !text.starts_with('/') {
            return Err(format!(
                "{word} conditions must start with /, {text} was supplied"
            ));
        }
        if *kind == PathKind::Regex
            && let Err(error) = routing::regex::compile(text)
        {
            return Err(format!("supplied regex: {text} invalid. error: {error}"));
        }
    }
    if count > 1 {
        let text = "more than one prefix, exact or regex is not allowed in a condition block";
        return Err(text.to_owned());
    }
    Ok(())
}

/// Whether an include may have these.
pub(super) fn check_include(conditions: &[Condition]) -> Result<(), String> {
    for (kind, _) in conditions.iter().flat_map(|condition| &condition.paths) {
        match kind {
            PathKind::Exact => {
                return Err("exact conditions are not allowed in includes block".to_owned());
            }
            PathKind::Regex => {
                return Err("regex conditions are not allowed in includes block".to_owned());
            }
            PathKind::Prefix => {}
        }
    }
    Ok(())
}

/// Whether headers contradict each other or cannot be compared.
pub(super) fn check_headers(conditions: &[Condition]) -> Result<(), String> {
    let mut seen: BTreeSet<(&str, &Wanted, bool)> = BTreeSet::new();
    for header in conditions
        .iter()
        .filter_map(|condition| condition.header.as_ref())
    {
        if !is_pseudo(&header.name) {
            headers::name(&header.name)?;
        }
        let Some(test) = &header.test else { continue };
        if let Wanted::Regex(text) = test
            && routing::regex::compile(text).is_err()
        {
            return Err("invalid regular expression specified for 'regex' condition".to_owned());
        }
        if seen.contains(&(&*header.name, test, !header.negate)) {
            let (positive, negative) = match test {
                Wanted::Present => ("present", "notpresent"),
                Wanted::Exact(_) => ("exact", "notexact"),
                _ => ("contains", "notcontains"),
            };
            return Err(format!(
                "cannot specify contradictory '{positive}' and '{negative}' conditions for the same route and header"
            ));
        }
        let is_exact = |(name, test, negate): &(&str, &Wanted, bool)| {
            *name == &*header.name && matches!(test, Wanted::Exact(_)) && !negate
        };
        if matches!(test, Wanted::Exact(_)) && !header.negate && seen.iter().any(is_exact) {
            return Err(
                "cannot specify duplicate header 'exact match' conditions in the same route"
                    .to_owned(),
            );
        }
        seen.insert((&header.name, test, header.negate));
    }
    Ok(())
}

/// What is before the head's own headers; the path is a condition of its own.
fn is_pseudo(name: &str) -> bool {
    matches!(name, ":method" | ":authority" | ":scheme")
}

/// Whether query parameters can be compared.
pub(super) fn check_query(conditions: &[Condition]) -> Result<(), String> {
    let mut exact: BTreeSet<String> = BTreeSet::new();
    for query in conditions
        .iter()
        .filter_map(|condition| condition.query.as_ref())
    {
        let error = match &query.tests[..] {
            [] => "must specify at least one query parameter condition",
            [_, _, ..] => {
                "cannot specify more than one condition in the same match condition branch"
            }
            [Wanted::Exact(_)] if !exact.insert(query.name.to_lowercase()) => {
                "cannot specify duplicate query parameter 'exact match' conditions in the same route"
            }
            [Wanted::Regex(text)] if routing::regex::compile(text).is_err() => {
                "invalid regular expression specified for 'regex' condition"
            }
            [_] => continue,
        };
        return Err(error.to_owned());
    }
    Ok(())
}

/// Everything that a request must be, along the way from the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Conditions {
    pub(super) path: Path,
    headers: Vec<Header>,
    query: Vec<Query>,
}

/// Puts conditions together: paths one after another, without doubled slashes.
pub(super) fn merge(conditions: &[Condition]) -> Conditions {
    let paths: Vec<_> = conditions
        .iter()
        .flat_map(|condition| &condition.paths)
        .collect();
    let mut text = String::new();
    for next in paths.iter().flat_map(|(_, text)| text.chars()) {
        if next != '/' || !text.ends_with('/') {
            text.push(next);
        }
    }
    if text.is_empty() {
        text.push('/');
    }
    let kind = if paths.iter().any(|(kind, _)| *kind == PathKind::Regex) {
        PathKind::Regex
    } else {
        paths.last().map_or(PathKind::Prefix, |(kind, _)| *kind)
    };
    let headers = conditions
        .iter()
        .filter_map(|condition| condition.header.clone());
    let query = conditions
        .iter()
        .filter_map(|condition| condition.query.clone());
    Conditions {
        path: Path {
            kind,
            text: text.into(),
        },
        headers: headers.filter(|header| header.test.is_some()).collect(),
        query: query.collect(),
    }
}

impl Conditions {
    /// Whether everything passes.
    pub(super) fn is_all(&self) -> bool {
        self.path.kind == PathKind::Prefix
            && &*self.path.text == "/"
            && self.headers.is_empty()
            && self.query.is_empty()
    }

    /// The same whatever the order in which it was written.
    pub(super) fn canonical(&self) -> (PathKind, Arc<str>, Vec<Header>, Vec<Query>) {
        let (mut headers, mut query) = (self.headers.clone(), self.query.clone());
        headers.sort();
        query.sort();
        (self.path.kind, Arc::clone(&self.path.text), headers, query)
    }

    /// The numbers that decide first: kind and length of the path, a method, counts.
    pub(super) fn rank(&self) -> [i64; 5] {
        let method = self.headers.iter().any(|header| &*header.name == ":method");
        let headers = self
            .headers
            .iter()
            .filter(|header| &*header.name != ":method");
        // Lengths and counts of what fits into memory.
        [
            self.path.kind as i64,
            -(self.path.text.len() as i64),
            i64::from(!method),
            -(headers.count() as i64),
            -(self.query.len() as i64),
        ]
    }

    /// What decides among equal ranks. Paths of equal length come in reverse order, as in Contour.
    pub(super) fn compare(&self, other: &Self) -> Ordering {
        let paths = other.path.text.cmp(&self.path.text);
        let headers = || self.headers.iter().map(header_order);
        let others = || other.headers.iter().map(header_order);
        let query = || self.query.iter().cmp(other.query.iter());
        self.rank()
            .cmp(&other.rank())
            .then(paths)
            .then_with(|| headers().cmp(others()))
            .then_with(query)
    }

    /// As the model says it.
    pub(super) fn matched(&self) -> Match {
        let text = Arc::clone(&self.path.text);
        let path = match self.path.kind {
            PathKind::Exact => PathMatch::Exact(text),
            PathKind::Regex => PathMatch::Regex(text),
            PathKind::Prefix => PathMatch::StringPrefix(text),
        };
        let mut matched = Match {
            path: Some(path),
            ..Match::default()
        };
        for header in &self.headers {
            match_header(header, &mut matched);
        }
        for query in &self.query {
            match_query(query, &mut matched);
        }
        matched
    }
}

fn header_order(header: &Header) -> (&str, Option<&Wanted>, bool, bool) {
    (
        &header.name,
        header.test.as_ref(),
        header.ignore_case,
        header.negate,
    )
}

/// The part of a request that Contour takes for a header.
fn subject(header: &Header) -> Subject {
    match &*header.name {
        ":method" => Subject::Method,
        ":authority" => Subject::Authority,
        ":scheme" => Subject::Scheme,
        name => Subject::Header(name.into()),
    }
}

fn match_header(header: &Header, matched: &mut Match) {
    let subject = subject(header);
    let Some(test) = &header.test else { return };
    if !header.negate && !header.ignore_case {
        let value = match test {
            Wanted::Exact(text) => Some(TextMatch::Exact(Arc::clone(text))),
            Wanted::Regex(text) => Some(TextMatch::Regex(Arc::clone(text))),
            _ => None,
        };
        match (&subject, value) {
            (Subject::Method, Some(TextMatch::Exact(method))) if matched.method.is_none() => {
                matched.method = Some(method);
                return;
            }
            (Subject::Header(name), Some(value)) => {
                let name = Arc::clone(name);
                matched.headers.push(HeaderMatch { name, value });
                return;
            }
            _ => {}
        }
    }
    matched.other.extend(predicates(header));
}

/// What holds the same for any part of a request.
fn predicates(header: &Header) -> Vec<Predicate> {
    let subject = subject(header);
    let Some(test) = &header.test else {
        return Vec::new();
    };
    let mut all = Vec::new();
    // Envoy: a header that is missing meets no condition but that it is missing.
    if header.negate && !header.missing_is_empty && *test != Wanted::Present {
        all.push(Predicate {
            subject: subject.clone(),
            test: Test::Present,
            negate: false,
            missing_is_empty: false,
        });
    }
    all.push(Predicate {
        subject,
        test: test_of(test, header.ignore_case),
        negate: header.negate,
        missing_is_empty: header.missing_is_empty,
    });
    all
}

fn match_query(query: &Query, matched: &mut Match) {
    let name = Arc::clone(&query.name);
    let Some(test) = query.tests.first() else {
        return;
    };
    let value = match test {
        Wanted::Exact(text) if !query.ignore_case => Some(TextMatch::Exact(Arc::clone(text))),
        Wanted::Regex(text) => Some(TextMatch::Regex(Arc::clone(text))),
        _ => None,
    };
    match value {
        Some(value) => matched.query.push(QueryMatch { name, value }),
        None => matched.other.push(Predicate {
            subject: Subject::Query(name),
            test: test_of(test, query.ignore_case),
            negate: false,
            missing_is_empty: false,
        }),
    }
}

fn test_of(wanted: &Wanted, ignore_case: bool) -> Test {
    let (how, value) = match wanted {
        Wanted::Present => return Test::Present,
        Wanted::Exact(text) => (TextTest::Exact, text),
        Wanted::Regex(text) => (TextTest::Regex, text),
        Wanted::Prefix(text) => (TextTest::Prefix, text),
        Wanted::Suffix(text) => (TextTest::Suffix, text),
        Wanted::Contains(text) => (TextTest::Contains, text),
    };
    Test::Text {
        how,
        value: Arc::clone(value),
        ignore_case,
    }
}
