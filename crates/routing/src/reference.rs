//! Slow and obviously right: what [`crate::Snapshot::select`] must agree with.
//!
//! Written from the model's documentation alone, without any of the compiler's code.

use crate::model::{
    BindId, HostPattern, Match, Model, PathMatch, Route, RouteId, TextMatch, Visibility,
};
use crate::snapshot::RequestView;

/// The route that a request on a shared listener of this visibility gets.
pub fn select<'a>(
    model: &'a Model,
    listener: Visibility,
    request: &impl RequestView,
) -> Option<&'a RouteId> {
    let served = |route: &Route| {
        let is_open = listener == Visibility::ClusterLocal;
        route.bind.is_none() && (is_open || route.visibility == Visibility::External)
    };
    let claims = claims(model, served, request);
    let most = claims.iter().map(|(specificity, ..)| *specificity).max()?;
    first(&claims, most, request)
}

/// The route that a request on a bind gets.
pub fn select_at<'a>(
    model: &'a Model,
    bind: &BindId,
    request: &impl RequestView,
) -> Option<&'a RouteId> {
    let host = host_only(request.host());
    let sealed = &model.binds.get(bind)?.sealed;
    let claims = claims(model, |route| route.bind.as_ref() == Some(bind), request);
    let end = sealed
        .iter()
        .filter_map(|pattern| specificity(pattern, &host))
        .max();
    let mut levels: Vec<_> = claims
        .iter()
        .map(|(specificity, ..)| *specificity)
        .collect();
    levels.retain(|level| end.is_none_or(|end| *level >= end));
    levels.sort_unstable();
    levels
        .into_iter()
        .rev()
        .find_map(|level| first(&claims, level, request))
}

type Specificity = (u8, usize);

fn claims<'a>(
    model: &'a Model,
    served: impl Fn(&Route) -> bool,
    request: &impl RequestView,
) -> Vec<(Specificity, &'a RouteId, &'a Route)> {
    let host = host_only(request.host());
    let mut claims = Vec::new();
    for (id, route) in model.routes.iter().filter(|(_, route)| served(route)) {
        let matching = route
            .hosts
            .iter()
            .filter_map(|pattern| specificity(pattern, &host));
        claims.extend(matching.map(|specificity| (specificity, id, &**route)));
    }
    claims
}

fn first<'a>(
    claims: &[(Specificity, &'a RouteId, &'a Route)],
    level: Specificity,
    request: &impl RequestView,
) -> Option<&'a RouteId> {
    let mut of_host: Vec<_> = claims
        .iter()
        .filter(|(specificity, ..)| *specificity == level)
        .collect();
    of_host.sort_by(|(_, a_id, a), (_, b_id, b)| (&a.sort_key, a_id).cmp(&(&b.sort_key, b_id)));
    let first = of_host.into_iter().find(|(_, _, route)| {
        route.matches.is_empty() || route.matches.iter().any(|one| match_holds(one, request))
    });
    first.map(|(_, id, _)| *id)
}

fn host_only(authority: &str) -> String {
    let lower = authority.to_lowercase();
    let host = if lower.starts_with('[') && lower.contains(']') {
        lower
            .split_inclusive(']')
            .next()
            .unwrap_or_default()
            .to_owned()
    } else {
        lower.split(':').next().unwrap_or_default().to_owned()
    };
    if host.len() > 1 && host.ends_with('.') {
        host[..host.len() - 1].to_owned()
    } else {
        host
    }
}

/// Larger is more specific; patterns of one kind that match one host and have one length are equal.
fn specificity(pattern: &HostPattern, host: &str) -> Option<Specificity> {
    match pattern {
        HostPattern::Exact(name) => (host_only(name) == host).then_some((3, 0)),
        HostPattern::Suffix(suffix) => {
            let suffix = host_only(suffix);
            let matches = host.ends_with(&format!(".{suffix}")) && host.len() > suffix.len() + 1;
            matches.then_some((1, suffix.len()))
        }
        HostPattern::Label(suffix) => {
            let (label, rest) = host.split_once('.')?;
            (!label.is_empty() && rest == host_only(suffix)).then_some((2, 0))
        }
        HostPattern::Any => Some((0, 0)),
    }
}

fn match_holds(one: &Match, request: &impl RequestView) -> bool {
    let path = request.path();
    let path_holds = match &one.path {
        None => true,
        Some(PathMatch::Exact(exact)) => path == &**exact,
        Some(PathMatch::StringPrefix(prefix)) => path.starts_with(&**prefix),
        Some(PathMatch::ElementPrefix(prefix)) => {
            let prefix = prefix.trim_end_matches('/');
            path == prefix || path.starts_with(&format!("{prefix}/"))
        }
        Some(PathMatch::Regex(expression)) => {
            text_holds(&TextMatch::Regex(expression.clone()), path.as_bytes())
        }
    };
    let method_holds = one
        .method
        .as_deref()
        .is_none_or(|it| it == request.method());
    let header_holds = |name: &str, wanted: &TextMatch| {
        request
            .header(name)
            .is_some_and(|value| text_holds(wanted, value))
    };
    let query_holds = |name: &str, wanted: &TextMatch| {
        let value = crate::query::first(request.query(), name);
        value.is_some_and(|value| text_holds(wanted, &value))
    };
    path_holds
        && method_holds
        && one
            .headers
            .iter()
            .all(|it| header_holds(&it.name, &it.value))
        && one.query.iter().all(|it| query_holds(&it.name, &it.value))
}

fn text_holds(wanted: &TextMatch, value: &[u8]) -> bool {
    match wanted {
        TextMatch::Exact(exact) => exact.as_bytes() == value,
        TextMatch::Regex(expression) => {
            crate::regex::compile(expression).is_ok_and(|it| it.is_match(value))
        }
    }
}
