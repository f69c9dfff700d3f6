//! What all shares of a route have in common belongs to the route: Gateway API says more of a rule
//! than of one of its backends.

use std::sync::Arc;

use routing::model::{Action, Arm, CookieEdit, FilterSet, Filters, Route, Split};

/// The same route, with the changes that all of its arms agree on moved to the route.
pub(super) fn hoisted(route: &Route) -> Route {
    let mut out = route.clone();
    let split = match &mut out.action {
        Action::Forward(split) | Action::ForwardSecure(split) => split,
        Action::Respond(_) | Action::Redirect(_) => return out,
    };
    let Some(common) = split.arms().first().map(others) else {
        return out;
    };
    let agree = split.arms().iter().all(|arm| others(arm) == common);
    // Both would be in force, one after the other.
    let twice = common.guards.is_some() && route.filters.guards.is_some();
    if common.is_empty() || !agree || twice {
        return out;
    }
    let arms = split.arms().iter().cloned().map(|arm| Arm {
        filters: FilterSet {
            response_headers: FilterSet::from(arm.filters).response_headers,
            ..FilterSet::default()
        }
        .into(),
        ..arm
    });
    if let Some(plain) = Split::new(arms.collect()) {
        *split = plain;
        out.filters = joined(&route.filters, common);
    }
    out
}

/// What an arm changes besides headers of the answer, which a backend's filters can say.
fn others(arm: &Arm) -> Filters {
    Filters::from(FilterSet {
        response_headers: Default::default(),
        ..FilterSet::clone(&arm.filters)
    })
}

/// The arm's wins where only one can be.
fn joined(route: &Filters, arm: Filters) -> Filters {
    let arm = FilterSet::from(arm);
    let both = |route: &[_], arm: Vec<_>| route.iter().cloned().chain(arm).collect();
    let templates = |route: &[_], arm: Vec<_>| route.iter().cloned().chain(arm).collect();
    let rewrites = route.rewrites.iter().cloned().chain(arm.rewrites);
    Filters::from(FilterSet {
        response_headers: route.response_headers.clone(),
        cookies: cookies(route.cookies.as_deref(), arm.cookies.as_deref()),
        rewrite_path: arm.rewrite_path.or_else(|| route.rewrite_path.clone()),
        rewrite_host: arm.rewrite_host.or_else(|| route.rewrite_host.clone()),
        cors: arm.cors.or_else(|| route.cors.clone()),
        request_timeout: arm.request_timeout.or(route.request_timeout),
        try_timeout: arm.try_timeout.or(route.try_timeout),
        retry: arm.retry.or_else(|| route.retry.clone()),
        mirrors: both(&route.mirrors, arm.mirrors),
        request_templates: templates(&route.request_templates, arm.request_templates),
        response_templates: templates(&route.response_templates, arm.response_templates),
        rewrites: rewrites.collect(),
        guards: arm.guards.or_else(|| route.guards.clone()),
        client: route.client.clone(),
        telemetry: arm.telemetry.or_else(|| route.telemetry.clone()),
        connect: route.connect,
    })
}

/// The route's, then the arm's: of the same cookie the later edit wins.
fn cookies(route: Option<&[CookieEdit]>, arm: Option<&[CookieEdit]>) -> Option<Arc<[CookieEdit]>> {
    let all = [route, arm].into_iter().flatten().flatten().cloned();
    let all: Arc<[_]> = all.collect();
    (!all.is_empty()).then_some(all)
}
