//! The records of a rule before and after, part by part.

use std::collections::BTreeSet;
use std::sync::Arc;

use routing::model::{
    Action, Backend, BackendId, BackendPolicy, Filters, Guards, HostPattern, Match, Mirror, Route,
    RouteId, Split, Visibility,
};

use super::super::{NewRule, Note, Verdict, door, hoist, matching, scheme};
use super::Run;
use crate::gateway_api::covers;
use crate::traffic_policy::write;

/// Parts that differ and that no note names.
pub(super) fn failures(run: &Run) -> Vec<String> {
    let mut failures = Vec::new();
    for (id, route) in &run.before.input().routes {
        let notes: Vec<&Note> = run
            .migration
            .notes
            .iter()
            .filter(|note| note.origin == route.origin && note.verdict != Verdict::Kept)
            .collect();
        let Some(new) = run.migration.rules.get(id) else {
            if !notes.iter().any(|note| note.part == "rule") {
                failures.push(format!("{}: {id} is nowhere", run.title));
            }
            continue;
        };
        let written = written(run, new);
        if written.is_empty() {
            failures.push(format!("{}: {id} is not served", run.title));
        }
        let mut route = hoist::hoisted(route);
        if let Action::ForwardSecure(split) = &route.action
            && is_secure(run, id, &route)
        {
            route.action = Action::Forward(split.clone());
        }
        for (part, text) in differences(run, &route, &written) {
            if !notes.iter().any(|note| says(note, part)) {
                failures.push(format!("{}: {id}: {part}: {text}", run.title));
            }
        }
    }
    failures
}

/// What a rule that was written comes to.
fn written<'r>(run: &'r Run, new: &NewRule) -> Vec<&'r Route> {
    let field = format!("spec.rules[{}].", new.number);
    let routes = run.after.model.routes.values().map(|route| &**route);
    let own = routes.filter(|route| {
        let origin = &route.origin;
        *origin.name == *new.route.name
            && *origin.namespace == *new.route.namespace
            && origin.field.starts_with(&field)
    });
    own.collect()
}

/// Whether a rule that is for HTTPS is there alone: plain HTTP is redirected, or there is none.
fn is_secure(run: &Run, id: &RouteId, route: &Route) -> bool {
    let is_redirect = |route: &&Route| match &route.action {
        Action::Redirect(it) => {
            it.status == 301 && it.scheme.as_deref() == Some("https") && it.host.is_none()
        }
        _ => false,
    };
    let redirects = run.migration.redirects.get(id).map(|new| written(run, new));
    let is_redirected = redirects.is_some_and(|all| !all.is_empty() && all.iter().all(is_redirect));
    let bind = route
        .bind
        .as_ref()
        .and_then(|id| run.before.model.binds.get(id));
    is_redirected || is_local(route) || bind.is_some_and(|bind| bind.is_tls)
}

fn is_local(route: &Route) -> bool {
    route.bind.is_none() && route.visibility == Visibility::ClusterLocal
}

/// Hosts where there is no TLS; where there is, listeners have narrower ones.
fn hosts_of(run: &Run, before: &Route, after: &[&Route]) -> BTreeSet<HostPattern> {
    let is_tls = |route: &&Route| {
        let bind = route
            .bind
            .as_ref()
            .and_then(|id| run.after.model.binds.get(id));
        bind.is_some_and(|bind| bind.is_tls)
    };
    let (secure, plain): (Vec<&Route>, Vec<&Route>) = after.iter().copied().partition(is_tls);
    let mut hosts: BTreeSet<_> = plain.iter().flat_map(|it| it.hosts.clone()).collect();
    let wanted = before.hosts.iter().map(door::wide);
    for host in secure.iter().flat_map(|it| &it.hosts) {
        let is_ours = wanted.clone().any(|wide| covers(&wide, host));
        if !is_ours {
            hosts.insert(host.clone());
        }
    }
    if plain.is_empty() && hosts.is_empty() {
        hosts.extend(wanted);
    }
    hosts
}

/// Whether a note is about a part.
fn says(note: &Note, part: &str) -> bool {
    note.part == part
        || note.part == "backend" && part.starts_with("backend.")
        // A port for TLS that nobody speaks TLS to is refused.
        || note.part == "backend.tls" && part == "action"
        || note.part == "guards.max_body" && part == "guards.no_upgrade"
}

type Difference = (&'static str, String);

fn differences(run: &Run, before: &Route, after: &[&Route]) -> Vec<Difference> {
    let mut out = Vec::new();
    let mut put = |part, a: String, b: String| {
        if a != b {
            out.push((part, format!("\n    {a}\n    {b}")));
        }
    };
    let wanted: BTreeSet<HostPattern> = if before.hosts.contains(&HostPattern::Any) {
        BTreeSet::from([HostPattern::Any])
    } else {
        before.hosts.iter().cloned().collect()
    };
    put(
        "hosts",
        format!("{wanted:?}"),
        format!("{:?}", hosts_of(run, before, after)),
    );
    let texts = |all: Vec<Match>| -> BTreeSet<String> {
        all.iter().map(|one| format!("{one:?}")).collect()
    };
    let split = |all: &[Match]| scheme::split(all).expect("one scheme").1;
    let plain = matching::plain(&split(&before.matches)).expect("it was written");
    // What stands for the listeners inside of the cluster tells schemes apart by conditions.
    let there = after.iter().flat_map(|route| match is_local(route) {
        true => matching::plain(&split(&route.matches)).expect("it was written"),
        false => route.matches.clone(),
    });
    put(
        "matches",
        format!("{:?}", texts(plain)),
        format!("{:?}", texts(there.collect())),
    );
    for route in after {
        put(
            "visibility",
            is_local(before).to_string(),
            is_local(route).to_string(),
        );
        put(
            "request_headers",
            format!("{:?}", before.request_headers),
            format!("{:?}", route.request_headers),
        );
        filters(before, route, &mut put);
        actions(run, (&before.action, &route.action), &mut put);
    }
    out
}

type Put<'p> = &'p mut dyn FnMut(&'static str, String, String);

fn filters(before: &Route, after: &Route, put: Put<'_>) {
    let host = |route: &Route| {
        let own = route.filters.rewrite_host.clone();
        format!("{:?}", own.or_else(|| route.rewrite_host.clone()))
    };
    put("filters.rewrite_host", host(before), host(after));
    let both = [before, after].map(|route| write::plain(&route.filters));
    let [a, b] = &both;
    let mut part = |name, read: fn(&Filters) -> String| put(name, read(a), read(b));
    part("filters.response_headers", |it| {
        format!("{:?}", it.response_headers)
    });
    part("filters.rewrite_path", |it| {
        format!("{:?}", it.rewrite_path)
    });
    part("filters.cookies", |it| format!("{:?}", it.cookies));
    part("filters.cors", |it| format!("{:?}", it.cors));
    part("filters.timeouts", |it| {
        format!("{:?} {:?}", it.request_timeout, it.try_timeout)
    });
    part("filters.retry", |it| format!("{:?}", it.retry));
    part("filters.templates", |it| {
        format!("{:?} {:?}", it.request_templates, it.response_templates)
    });
    part("filters.rewrites", |it| format!("{:?}", it.rewrites));
    part("filters.client", |it| format!("{:?}", it.client));
    part("filters.telemetry", |it| format!("{:?}", it.telemetry));
    part("filters.mirrors", |it| {
        let mirrors = it.mirrors.iter();
        let mirrors = mirrors.map(|Mirror { backend, share }| (service(backend), *share));
        format!("{:?}", mirrors.collect::<Vec<_>>())
    });
    let both = both.map(|filters| filters.guards.as_deref().cloned().unwrap_or_default());
    let [a, b] = &both;
    let mut part = |name, read: fn(&Guards) -> String| put(name, read(a), read(b));
    part("guards.fault", |it| format!("{:?}", it.fault));
    part("guards.tokens", |it| format!("{:?}", it.tokens));
    part("guards.authorization", |it| {
        format!("{:?}", it.authorization)
    });
    part("guards.credentials", |it| format!("{:?}", it.credentials));
    part("guards.external", |it| {
        let mut external = it.external.clone();
        if let Some(external) = &mut external {
            let own = Arc::make_mut(external);
            own.backend = BackendId(service(&own.backend).into());
        }
        format!("{external:?}")
    });
    part("guards.rate_limits", |it| format!("{:?}", it.rate_limits));
    part("guards.limit_services", |it| {
        let services = it.limit_services.iter();
        let services = services.map(|it| {
            let mut own = (**it).clone();
            own.backend = BackendId(service(&own.backend).into());
            own
        });
        format!("{:?}", services.collect::<Vec<_>>())
    });
    part("guards.breakers", |it| format!("{:?}", it.breakers));
    part("guards.quotas", |it| format!("{:?}", it.quotas));
    part("guards.flights", |it| format!("{:?}", it.flights));
    part("guards.ramps", |it| format!("{:?}", it.ramps));
    part("guards.concurrency", |it| format!("{:?}", it.concurrency));
    part("guards.max_body", |it| format!("{:?}", it.max_body));
    part("guards.no_upgrade", |it| format!("{:?}", it.no_upgrade));
}

/// `namespace/service:port`.
pub(super) fn service(id: &BackendId) -> String {
    let id = id.0.split('@').next().unwrap_or_default();
    id.strip_suffix("/h2c").unwrap_or(id).to_owned()
}

fn actions(run: &Run, (before, after): (&Action, &Action), put: Put<'_>) {
    let text = |action: &Action| match action {
        Action::Respond(respond) => {
            let mut respond = respond.clone();
            respond.headers.sort();
            format!("{respond:?}")
        }
        Action::ForwardSecure(split) => format!("secure {:?}", arms(split)),
        Action::Forward(split) => format!("{:?}", arms(split)),
        Action::Redirect(redirect) => format!("{redirect:?}"),
    };
    put("action", text(before), text(after));
    let (
        Action::Forward(before) | Action::ForwardSecure(before),
        Action::Forward(after) | Action::ForwardSecure(after),
    ) = (before, after)
    else {
        return;
    };
    for (before, after) in before.arms().iter().zip(after.arms()) {
        let before = run.before.model.backends.get(&before.backend);
        let after = run.after.model.backends.get(&after.backend);
        if let Some((before, after)) = before.zip(after) {
            backends(before, after, put);
        }
    }
}

fn arms(split: &Split) -> Vec<String> {
    let arms = split.arms().iter().map(|arm| {
        format!(
            "{} {} {:?} {:?} {:?}",
            arm.weight,
            service(&arm.backend),
            arm.instead,
            arm.request_headers,
            write::plain(&arm.filters)
        )
    });
    arms.collect()
}

fn backends(before: &Backend, after: &Backend, put: Put<'_>) {
    let both = [before, after];
    let mut part = |name, read: fn(&Backend) -> String| {
        let [a, b] = both.map(read);
        put(name, a, b);
    };
    part("backend.protocol", |it| format!("{:?}", it.protocol));
    part("backend.timeouts", |it| format!("{:?}", it.timeouts));
    part("backend.tls", |it| format!("{:?}", it.tls));
    part("backend.endpoints", |it| format!("{:?}", it.endpoints));
    let both = both.map(|it| it.policy.as_deref().cloned().unwrap_or_default());
    let mut part = |name, read: fn(&BackendPolicy) -> String| {
        let [a, b] = &both;
        put(name, read(a), read(b));
    };
    part("backend.balancer", |it| {
        format!("{:?} {:?}", it.balancer, it.hash)
    });
    part("backend.slow_start", |it| format!("{:?}", it.slow_start));
    part("backend.outliers", |it| format!("{:?}", it.outliers));
    part("backend.retry_budget", |it| {
        format!("{:?}", it.limits.retry_budget)
    });
    part("backend.connections", |it| {
        let mut limits = it.limits.clone();
        limits.retry_budget = None;
        let times = (it.connect_timeout, it.idle_timeout);
        format!("{limits:?} {times:?} {:?}", it.requests_per_connection)
    });
    part("backend.locality", |it| format!("{:?}", it.locality));
    part("backend.health_check", |it| {
        format!("{:?}", it.health_check)
    });
    part("backend.proxy_protocol", |it| {
        format!("{:?}", it.proxy_protocol)
    });
}
