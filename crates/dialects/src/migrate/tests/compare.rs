//! The records of a rule before and after, part by part.

use std::collections::BTreeSet;
use std::sync::Arc;

use routing::model::{
    Action, Backend, BackendId, BackendPolicy, Filters, Guards, HostPattern, Match, Mirror, Route,
    Split,
};

use super::super::{Note, Verdict, hoist, matching};
use super::Run;
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
        let field = format!("spec.rules[{}].", new.number);
        let written = run.after.model.routes.values();
        let written: Vec<&Route> = written
            .map(|route| &**route)
            .filter(|route| {
                let origin = &route.origin;
                *origin.name == *new.route.name
                    && *origin.namespace == *new.route.namespace
                    && origin.field.starts_with(&field)
            })
            .collect();
        if written.is_empty() {
            failures.push(format!("{}: {id} is not served", run.title));
        }
        let route = hoist::hoisted(route);
        for (part, text) in differences(run, &route, &written) {
            if !notes.iter().any(|note| says(note, part)) {
                failures.push(format!("{}: {id}: {part}: {text}", run.title));
            }
        }
    }
    failures
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
    let hosts = |routes: &[&Route]| -> BTreeSet<HostPattern> {
        let all = routes.iter().flat_map(|route| &route.hosts);
        all.cloned().collect()
    };
    let wanted: BTreeSet<HostPattern> = if before.hosts.contains(&HostPattern::Any) {
        BTreeSet::from([HostPattern::Any])
    } else {
        hosts(&[before])
    };
    put(
        "hosts",
        format!("{wanted:?}"),
        format!("{:?}", hosts(after)),
    );
    let texts = |all: Vec<Match>| -> BTreeSet<String> {
        all.iter().map(|one| format!("{one:?}")).collect()
    };
    let plain = matching::plain(&before.matches).expect("it was written");
    let there = after.iter().flat_map(|route| route.matches.clone());
    put(
        "matches",
        format!("{:?}", texts(plain)),
        format!("{:?}", texts(there.collect())),
    );
    let visibility = |route: &Route| {
        route.bind.is_none() && { route.visibility == routing::model::Visibility::ClusterLocal }
    };
    for route in after {
        put(
            "visibility",
            visibility(before).to_string(),
            visibility(route).to_string(),
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
    part("filters.cors", |it| format!("{:?}", it.cors));
    part("filters.timeouts", |it| {
        format!("{:?} {:?}", it.request_timeout, it.try_timeout)
    });
    part("filters.retry", |it| format!("{:?}", it.retry));
    part("filters.templates", |it| {
        format!("{:?} {:?}", it.request_templates, it.response_templates)
    });
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
    part("guards.breakers", |it| format!("{:?}", it.breakers));
    part("guards.quotas", |it| format!("{:?}", it.quotas));
    part("guards.ramps", |it| format!("{:?}", it.ramps));
    part("guards.concurrency", |it| format!("{:?}", it.concurrency));
    part("guards.max_body", |it| format!("{:?}", it.max_body));
    part("guards.no_upgrade", |it| format!("{:?}", it.no_upgrade));
}

/// `namespace/service:port`.
fn service(id: &BackendId) -> String {
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
