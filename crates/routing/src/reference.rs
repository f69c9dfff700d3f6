//! Slow and obviously right: what [`crate::Snapshot::select`] must agree with.
//!
//! Written from the model's documentation alone, without any of the compiler's code.

use std::net::IpAddr;

use crate::model::{
    BindId, HostPattern, Match, Model, PathMatch, Predicate, Route, RouteId, Subject, Test,
    TextMatch, TextTest, Visibility,
};
use crate::view::RequestView;

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
        let is_always = route.matches.is_empty() && request.method() != "CONNECT";
        is_always || route.matches.iter().any(|one| match_holds(one, request))
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
        Some(PathMatch::Connect) => request.method() == "CONNECT",
        _ if request.method() == "CONNECT" => false,
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
        && one.other.iter().all(|it| predicate_holds(it, request))
}

fn predicate_holds(one: &Predicate, request: &impl RequestView) -> bool {
    let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let value = match &one.subject {
        Subject::Path => Some(request.path().to_owned()),
        Subject::Method => Some(request.method().to_owned()),
        Subject::Scheme => Some(request.scheme().to_owned()),
        Subject::Host => Some(host_only(request.host())),
        Subject::Authority => Some(request.host().to_owned()),
        Subject::Header(name) => {
            let mut values = Vec::new();
            request.each_value(name, &mut |value| values.push(lossy(value)));
            (!values.is_empty()).then(|| values.join(", "))
        }
        Subject::Query(name) => crate::query::first(request.query(), name).map(|it| lossy(&it)),
        Subject::Cookie(name) => {
            let mut pairs = Vec::new();
            request.each_value("cookie", &mut |value| {
                pairs.extend(lossy(value).split(';').map(|pair| pair.trim().to_owned()));
            });
            let named = pairs.iter().filter_map(|pair| pair.split_once('='));
            let mut named = named.filter(|(key, _)| key.trim_end() == &**name);
            named
                .next()
                .map(|(_, value)| match value.strip_prefix('"') {
                    Some(quoted) if quoted.ends_with('"') => quoted[..quoted.len() - 1].to_owned(),
                    _ => value.to_owned(),
                })
        }
        Subject::Peer => request.peer().map(|peer| peer.to_canonical().to_string()),
        Subject::Client => request.client().map(|peer| peer.to_canonical().to_string()),
        Subject::Port => request.port().map(|port| port.to_string()),
        Subject::Destination => {
            let own = request.destination();
            own.map(|own| own.to_canonical().to_string())
        }
        Subject::ServerName => request.server_name().map(str::to_owned),
        Subject::Namespace => request.namespace().map(str::to_owned),
        // Not known when a route is selected.
        Subject::Claim(_) | Subject::Principal | Subject::RequestPrincipal => return false,
    };
    let value = match value {
        None if one.missing_is_empty => Some(String::new()),
        other => other,
    };
    value.is_some_and(|value| test_holds(&one.test, &value)) != one.negate
}

fn test_holds(test: &Test, value: &str) -> bool {
    match test {
        Test::Present => true,
        Test::Text {
            how: TextTest::Regex,
            value: expression,
            ignore_case,
        } => {
            let folded = format!("(?i:{expression})");
            let expression = if *ignore_case { &folded } else { &**expression };
            crate::regex::compile(expression).is_ok_and(|it| it.is_match(value.as_bytes()))
        }
        Test::Text {
            how,
            value: wanted,
            ignore_case,
        } => {
            let fold = |text: &str| match ignore_case {
                true => text.to_ascii_lowercase(),
                false => text.to_owned(),
            };
            let (wanted, value) = (fold(wanted), fold(value));
            match how {
                TextTest::Exact | TextTest::Regex => wanted == value,
                TextTest::Prefix => value.starts_with(&wanted),
                TextTest::ElementPrefix => {
                    let wanted = wanted.trim_end_matches('/');
                    value == wanted || value.starts_with(&format!("{wanted}/"))
                }
                TextTest::Suffix => value.ends_with(&wanted),
                TextTest::Contains => value.contains(&wanted),
            }
        }
        Test::In(values) => values.iter().any(|one| **one == *value),
        Test::Network(networks) => value
            .trim()
            .parse::<IpAddr>()
            .is_ok_and(|address| networks.iter().any(|network| network.contains(address))),
        Test::Range { min, end } => value
            .trim()
            .parse::<i64>()
            .is_ok_and(|number| *min <= number && number < *end),
    }
}

fn text_holds(wanted: &TextMatch, value: &[u8]) -> bool {
    match wanted {
        TextMatch::Exact(exact) => exact.as_bytes() == value,
        TextMatch::Regex(expression) => {
            crate::regex::compile(expression).is_ok_and(|it| it.is_match(value))
        }
    }
}
