//! Routes that were read, before the order among them and the host's own policies are known.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use routing::model::{Authorization, Filters, HeaderOps, Origin, PathEdit, Respond, Split};

use super::condition::{Conditions, Path, PathKind};
use super::guard::Limits;
use super::policy::Elsewhere;

/// A route of some object below a root.
#[derive(Clone, Debug)]
pub(super) struct Planned {
    /// Where it is, from the root on: `includes[0]/routes[2]`.
    pub(super) id: String,
    pub(super) origin: Origin,
    pub(super) conditions: Conditions,
    /// What takes the place of the prefix.
    pub(super) replacement: Option<Arc<str>>,
    pub(super) request_headers: HeaderOps,
    pub(super) rewrite_host: Option<Arc<str>>,
    /// Without the path's edit and without guards.
    pub(super) filters: Filters,
    pub(super) no_upgrade: bool,
    pub(super) limits: Limits,
    pub(super) addresses: Option<Authorization>,
    /// The provider whose tokens are asked for.
    pub(super) provider: Option<String>,
    pub(super) authorization: AuthorizationChoice,
    /// Plain HTTP is redirected.
    pub(super) secure_only: bool,
    pub(super) action: Planning,
}

/// `authPolicy` of a route.
#[derive(Clone, Debug, Default)]
pub(super) struct AuthorizationChoice {
    /// `None` is as the host says.
    pub(super) disabled: Option<bool>,
    pub(super) context: BTreeMap<String, String>,
}

/// What a route does.
#[derive(Clone, Debug)]
pub(super) enum Planning {
    Forward(Split),
    Respond(Respond),
    Redirect(Elsewhere),
}

impl Planned {
    /// How the path changes.
    pub(super) fn edit(&self) -> Option<PathEdit> {
        let with = self.replacement.clone()?;
        Some(PathEdit::Text {
            matched: Arc::clone(&self.conditions.path.text),
            with,
        })
    }
}

/// Makes two of a route that replaces a prefix: what comes after `/foo` and what comes after
/// `/foo/` need replacements of their own, or slashes are doubled or lost. If somebody wrote both,
/// that is left to them.
pub(super) fn expand(routes: Vec<Planned>) -> Vec<Planned> {
    let mut groups: BTreeMap<Arc<str>, usize> = BTreeMap::new();
    let prefix = |route: &Planned| -> Option<Arc<str>> {
        let path = &route.conditions.path;
        (path.kind == PathKind::Prefix).then(|| trimmed(&path.text).into())
    };
    for key in routes.iter().filter_map(prefix) {
        *groups.entry(key).or_default() += 1;
    }
    let mut out = Vec::with_capacity(routes.len());
    for mut route in routes {
        let alone = prefix(&route).filter(|key| groups.get(key) == Some(&1));
        let (Some(key), Some(with)) = (alone, route.replacement.clone()) else {
            out.push(route);
            continue;
        };
        if &*key == "/" {
            out.push(route);
            continue;
        }
        let with = with.trim_end_matches('/');
        let mut slash = route.clone();
        slash.id.push('/');
        slash.replacement = Some(format!("{with}/").into());
        slash.conditions.path.text = format!("{key}/").into();
        route.replacement = Some(if with.is_empty() { "/" } else { with }.into());
        route.conditions.path.text = key;
        out.push(route);
        out.push(slash);
    }
    out
}

fn trimmed(prefix: &str) -> &str {
    let trimmed = prefix.trim_end_matches('/');
    if trimmed.is_empty() { "/" } else { trimmed }
}

/// In Contour's order, each with its sort key. Of routes with the same conditions the last written
/// one is left: the others could never be reached.
pub(super) fn order(routes: Vec<Planned>) -> Vec<(Vec<i64>, Planned)> {
    let mut unique = BTreeMap::new();
    for (at, route) in routes.into_iter().enumerate() {
        unique.insert(route.conditions.canonical(), (at, route));
    }
    let mut routes: Vec<_> = unique.into_values().collect();
    routes.sort_by(|(at, a), (other, b)| a.conditions.compare(&b.conditions).then(at.cmp(other)));
    let mut ordered: Vec<(Vec<i64>, Planned)> = Vec::with_capacity(routes.len());
    let mut tie = 0;
    for (_, route) in routes {
        let rank = route.conditions.rank();
        let same = ordered
            .last()
            .is_some_and(|(_, before)| before.conditions.rank() == rank);
        tie = if same { tie + 1 } else { 0 };
        let mut key = rank.to_vec();
        key.push(tie);
        ordered.push((key, route));
    }
    ordered
}

/// Whether a path replacement can be for this path.
pub(super) fn replacement_for(
    path: &Path,
    replacements: &[(Arc<str>, Arc<str>)],
) -> Option<Arc<str>> {
    let exact = replacements.iter().find(|(prefix, _)| *prefix == path.text);
    let default = || replacements.iter().find(|(prefix, _)| prefix.is_empty());
    exact.or_else(default).map(|(_, with)| Arc::clone(with))
}

/// Whether replacements say each prefix once.
pub(super) fn check_replacements(
    replacements: &[(Arc<str>, Arc<str>)],
) -> Result<(), (&'static str, String)> {
    let mut sorted: Vec<_> = replacements.iter().map(|(prefix, _)| prefix).collect();
    sorted.sort();
    let twice = sorted
        .windows(2)
        .find(|pair| pair[0].cmp(pair[1]) == Ordering::Equal);
    match twice {
        None => Ok(()),
        Some(pair) if pair[0].is_empty() => Err((
            "AmbiguousReplacement",
            "ambiguous prefix replacement".to_owned(),
        )),
        Some(pair) => Err((
            "DuplicateReplacement",
            format!("duplicate replacement prefix '{}'", pair[0]),
        )),
    }
}
