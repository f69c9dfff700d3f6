//! Slow and obviously right: what [`crate::Snapshot::select`] must agree with.
//!
//! Written from the model's documentation alone, without any of the compiler's code.

use crate::model::{HostPattern, Match, Model, PathMatch, Route, RouteId, Visibility};
use crate::snapshot::RequestView;

/// The route that a request on a listener of this visibility gets.
pub fn select<'a>(
    model: &'a Model,
    listener: Visibility,
    request: &impl RequestView,
) -> Option<&'a RouteId> {
    let host = host_only(request.host());
    let served = |route: &Route| {
        listener == Visibility::ClusterLocal || route.visibility == Visibility::External
    };
    let claims = model
        .routes
        .iter()
        .filter(|(_, route)| served(route))
        .flat_map(|(id, route)| {
            let matching = route
                .hosts
                .iter()
                .filter_map(|pattern| specificity(pattern, &host));
            matching.map(move |specificity| (specificity, id, route))
        });
    let claims: Vec<_> = claims.collect();
    let most = claims.iter().map(|(specificity, ..)| *specificity).max()?;
    let mut of_host: Vec<_> = claims
        .into_iter()
        .filter(|(specificity, ..)| *specificity == most)
        .collect();
    of_host.sort_by(|(_, a_id, a), (_, b_id, b)| (&a.sort_key, a_id).cmp(&(&b.sort_key, b_id)));
    let first = of_host.into_iter().find(|(_, _, route)| {
        route.matches.is_empty() || route.matches.iter().any(|one| match_holds(one, request))
    });
    first.map(|(_, id, _)| id)
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
fn specificity(pattern: &HostPattern, host: &str) -> Option<(u8, usize)> {
    match pattern {
        HostPattern::Exact(name) => (host_only(name) == host).then_some((2, 0)),
        HostPattern::Suffix(suffix) => {
            let suffix = host_only(suffix);
            let matches = host.ends_with(&format!(".{suffix}")) && host.len() > suffix.len() + 1;
            matches.then_some((1, suffix.len()))
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
    };
    path_holds
        && one
            .headers
            .iter()
            .all(|header| request.header(&header.name) == Some(header.value.as_bytes()))
}
