//! What a rule is for: hosts, paths, methods, addresses and expressions, and its place.

use std::collections::BTreeSet;
use std::sync::Arc;

use routing::model::{HostPattern, Match, Network, PathMatch, Predicate, Subject, Test};

use super::{ROUTE, vars};
use crate::fields::Fields;
use crate::foreign::Object;
use crate::objects::Reader;

/// Family of the keys of routes with a rule that names a host; the hosts follow.
const HOSTS: &str = "host";

/// A route is found by the hosts that it names.
pub(super) fn keys(object: &Object) -> Vec<Arc<str>> {
    let hosts: BTreeSet<_> = named(object).collect();
    let keys = hosts.iter().map(|host| format!("{HOSTS} {host}").into());
    keys.collect()
}

/// The hosts that an object's rules name.
fn named(object: &Object) -> impl Iterator<Item = HostPattern> {
    let rules = object.spec()["http"].as_array().into_iter().flatten();
    let hosts = rules.flat_map(|rule| rule["match"]["hosts"].as_array().into_iter().flatten());
    hosts.filter_map(|host| pattern(host.as_str()?).ok())
}

fn pattern(text: &str) -> Result<HostPattern, String> {
    let lower = text.to_ascii_lowercase();
    let is_plain = |name: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        !name.is_empty() && name.bytes().all(allowed)
    };
    match (lower.as_str(), lower.strip_prefix("*.")) {
        ("*", _) => Ok(HostPattern::Any),
        (_, Some(suffix)) if is_plain(suffix) => Ok(HostPattern::Suffix(suffix.into())),
        (name, None) if is_plain(name) => Ok(HostPattern::Exact(name.into())),
        _ => Err(format!("{text:?} is no host name and no `*.` name")),
    }
}

/// When a rule applies: the product of these.
#[derive(Clone, Debug)]
pub(super) struct Matching {
    pub(super) hosts: Vec<HostPattern>,
    pub(super) paths: Vec<PathMatch>,
    /// One per method; one for all if none is named.
    methods: Vec<Option<Arc<str>>>,
    conditions: Vec<Predicate>,
    pub(super) priority: i64,
}

/// `None` if a condition cannot be read: without it the rule would be for more than it says.
pub(super) fn read(rule: &Fields<'_>) -> Option<Matching> {
    let priority = rule.int("priority").unwrap_or_default();
    let Some(fields) = rule.object("match") else {
        let message = "match is missing: the rule is not served";
        rule.refuse("match", "MatchMissing", message);
        return None;
    };
    // Each is read, so that everything that is wrong is told.
    let (hosts, paths, conditions) = (hosts(&fields), paths(&fields), conditions(&fields));
    let methods = fields.strings("methods").into_iter();
    let mut methods: Vec<_> = methods
        .map(|method| Some(Arc::from(method.to_ascii_uppercase())))
        .collect();
    if methods.is_empty() {
        methods.push(None);
    }
    Some(Matching {
        hosts: hosts?,
        paths: paths?,
        methods,
        conditions: conditions?,
        priority,
    })
}

/// What makes the rule not be served.
fn spoil<T>(fields: &Fields<'_>, key: &str, reason: &'static str, why: &str) -> Option<T> {
    fields.refuse(key, reason, format!("{why}; the rule is not served"));
    None
}

fn hosts(fields: &Fields<'_>) -> Option<Vec<HostPattern>> {
    let texts = fields.list("hosts");
    let mut hosts = Vec::new();
    for text in fields.strings("hosts") {
        match pattern(text) {
            Ok(host) => hosts.push(host),
            Err(error) => {
                let message = format!("{error}; it is left out");
                fields.refuse("hosts", "HostInvalid", message);
            }
        }
    }
    if hosts.is_empty() && !texts.is_empty() {
        return spoil(fields, "hosts", "HostInvalid", "no host is left");
    }
    if hosts.is_empty() {
        hosts.push(HostPattern::Any);
    }
    Some(hosts)
}

fn paths(fields: &Fields<'_>) -> Option<Vec<PathMatch>> {
    let mut paths = Vec::new();
    for text in fields.strings("paths") {
        match path(text) {
            Ok(path) => paths.push(path),
            Err(error) => {
                let message = format!("{error}; it is left out");
                fields.refuse("paths", "PathInvalid", message);
            }
        }
    }
    if paths.is_empty() {
        return spoil(fields, "paths", "PathMissing", "no path is left");
    }
    Some(paths)
}

fn conditions(fields: &Fields<'_>) -> Option<Vec<Predicate>> {
    let mut conditions = Some(Vec::new());
    let mut add = |condition: Option<Predicate>| match (&mut conditions, condition) {
        (Some(list), Some(condition)) => list.push(condition),
        (all, _) => *all = None,
    };
    let addresses: Result<Vec<_>, _> = fields
        .strings("remoteAddrs")
        .into_iter()
        .map(|text| Network::parse(text).ok_or_else(|| format!("{text:?} is no network")))
        .collect();
    match addresses {
        Ok(addresses) if addresses.is_empty() => {}
        Ok(addresses) => add(Some(Predicate {
            subject: Subject::Client,
            test: Test::Network(addresses.into()),
            negate: false,
            missing_is_empty: false,
        })),
        Err(error) => add(spoil(fields, "remoteAddrs", "NetworkInvalid", &error)),
    }
    for expr in fields.objects("exprs") {
        match vars::expr(&expr) {
            Ok(condition) => add(Some(condition)),
            Err(error) => {
                expr.pass_over();
                add(spoil(fields, "exprs", "ExpressionNotSupported", &error));
            }
        }
    }
    if fields.raw("filter_func").is_some() {
        let why = "filter_func is not supported: no scripts are run, write exprs";
        add(spoil(fields, "filter_func", "FieldNotSupported", why));
    }
    conditions
}

fn path(text: &str) -> Result<PathMatch, String> {
    if !text.starts_with('/') {
        return Err(format!("path {text:?} does not begin with /"));
    }
    match text.strip_suffix('*') {
        Some(prefix) if !prefix.contains('*') => Ok(PathMatch::StringPrefix(prefix.into())),
        None if !text.contains('*') => Ok(PathMatch::Exact(text.into())),
        _ => Err(format!("path {text:?} has a * that is not its last letter")),
    }
}

impl Matching {
    /// The alternatives of a path, with further conditions.
    pub(super) fn matches(&self, path: &PathMatch, also: &[Predicate]) -> Vec<Match> {
        let one = |method: &Option<Arc<str>>| Match {
            path: Some(path.clone()),
            method: method.clone(),
            other: self.conditions.iter().chain(also).cloned().collect(),
            ..Match::default()
        };
        self.methods.iter().map(one).collect()
    }
}

/// Lower comes first: the host, then the path, then the priority.
pub(super) fn order(host: &HostPattern, path: &PathMatch, priority: i64) -> Vec<i64> {
    let length = |length: usize| -(length.min(1 << 30) as i64);
    let (host_rank, host_length) = match host {
        HostPattern::Exact(_) => (0, 0),
        HostPattern::Suffix(name) | HostPattern::Label(name) => (1, length(name.len())),
        HostPattern::Any => (2, 0),
    };
    let (path_rank, path_length) = match path {
        PathMatch::Exact(text) => (0, length(text.len())),
        PathMatch::StringPrefix(text) | PathMatch::ElementPrefix(text) | PathMatch::Regex(text) => {
            (1, length(text.len()))
        }
        PathMatch::Connect => (1, 0),
    };
    vec![
        host_rank,
        host_length,
        path_rank,
        path_length,
        priority.saturating_neg(),
    ]
}

/// A host pattern with every narrower one that a rule names. A request is looked up in the most
/// specific table only, while APISIX goes on to wider hosts.
pub(super) fn spread(reader: &Reader<'_>, own: &HostPattern) -> BTreeSet<HostPattern> {
    let mut all = BTreeSet::from([own.clone()]);
    if matches!(own, HostPattern::Exact(_)) {
        return all;
    }
    let named = reader.foreign_keys(&ROUTE, HOSTS);
    let named = named.filter_map(|host| pattern(host).ok());
    all.extend(named.filter(|other| contains(own, other)));
    all
}

fn contains(wide: &HostPattern, narrow: &HostPattern) -> bool {
    match (wide, narrow) {
        (HostPattern::Any, _) => true,
        (HostPattern::Suffix(own), HostPattern::Exact(name) | HostPattern::Suffix(name)) => {
            let rest = name.strip_suffix(&**own);
            rest.is_some_and(|rest| rest.ends_with('.') && rest.len() > 1)
        }
        _ => false,
    }
}
