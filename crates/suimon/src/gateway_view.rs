//! `suimon routes` and `suimon explain`, answered by the process that serves: it reads the very
//! snapshot that the next request will take.

use std::collections::BTreeMap;
use std::sync::Arc;

use lifecycle::Snapshots;
use routing::model::{HostPattern, Match, PathMatch};
use routing::{
    Backend, CompiledAction, CompiledArm, CompiledRoute, CompiledSplit, EndpointState, RequestView,
    Snapshot, Verdict, Visibility,
};
use serde_json::{Value, json};

/// Path of the route list on the API.
pub const ROUTES: &str = "/gateway/routes";
/// Path of explanations on the API.
pub const EXPLAIN: &str = "/gateway/explain";

/// Offers both views on the API server, behind its authentication.
pub fn serve(server: &apiserver::Server, snapshots: Snapshots<Snapshot>) {
    let listed = snapshots.clone();
    server.connect_path(ROUTES, Arc::new(move |_| Ok(routes(&listed.current()))));
    server.connect_path(
        EXPLAIN,
        Arc::new(move |question| explain(&snapshots.current(), question)),
    );
}

/// Every route, host by host, in the order in which the gateway tries them.
fn routes(snapshot: &Snapshot) -> Value {
    let mut rows = Vec::new();
    for listed in snapshot.routes(Visibility::ClusterLocal) {
        for route in listed.routes {
            let visibility = match route.source().visibility {
                Visibility::External => "external",
                Visibility::ClusterLocal => "cluster-local",
            };
            rows.push(json!({
                "host": host(listed.host),
                "visibility": visibility,
                "match": matches(&route.source().matches),
                "action": action(snapshot, route),
                "from": from(route),
            }));
        }
    }
    json!({ "routes": rows })
}

/// Which route a request would take on the external listener, and why not the others.
fn explain(snapshot: &Snapshot, question: &Value) -> Result<Value, String> {
    let request = Question::read(question)?;
    let explanation = snapshot.explain(Visibility::External, &request);
    let mut lines = Vec::new();
    match &explanation.host {
        Some(pattern) => lines.push(format!(
            "host {} is served as {}",
            request.host,
            host(pattern)
        )),
        None if explanation.cluster_local_only => {
            lines.push(format!(
                "host {} is only served inside the cluster (visibility cluster-local): 404",
                request.host
            ));
        }
        None => lines.push(format!("no route has host {}: 404", request.host)),
    }
    for considered in &explanation.considered {
        let route = &considered.route;
        let name = format!("{} [{}]", from(route), matches(&route.source().matches));
        match &considered.verdict {
            Verdict::Selected => {
                lines.push(format!("  takes   {name}: {}", action(snapshot, route)))
            }
            Verdict::Later => lines.push(format!("  later   {name}: an earlier route matched")),
            Verdict::Missed(alternatives) => {
                let why: Vec<String> = alternatives
                    .iter()
                    .map(|mismatches| {
                        mismatches
                            .iter()
                            .map(ToString::to_string)
                            .collect::<Vec<_>>()
                            .join(" and ")
                    })
                    .collect();
                lines.push(format!("  misses  {name}: {}", why.join("; or ")));
            }
        }
    }
    let selected = explanation.selected();
    if let Some(CompiledAction::Forward(split)) = selected.map(|route| &route.action) {
        lines.extend(
            split
                .arms()
                .map(|arm| format!("  backend {}", backend(snapshot, arm))),
        );
    }
    let route =
        selected.map(|route| json!({ "from": from(route), "action": action(snapshot, route) }));
    Ok(json!({ "route": route, "lines": lines }))
}

struct Question {
    host: String,
    path: String,
    headers: BTreeMap<String, String>,
}

impl Question {
    fn read(question: &Value) -> Result<Self, String> {
        let text = |field: &str| question[field].as_str().map(str::to_owned);
        let headers = question["headers"].as_array().into_iter().flatten();
        Ok(Self {
            host: text("host").ok_or("host is missing")?,
            path: text("path").ok_or("path is missing")?,
            headers: headers
                .filter_map(|pair| {
                    Some((pair[0].as_str()?.to_owned(), pair[1].as_str()?.to_owned()))
                })
                .collect(),
        })
    }
}

impl RequestView for Question {
    fn host(&self) -> &str {
        &self.host
    }

    fn path(&self) -> &str {
        &self.path
    }

    fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.get(name).map(String::as_bytes)
    }
}

fn host(pattern: &HostPattern) -> String {
    match pattern {
        HostPattern::Exact(name) => name.to_string(),
        HostPattern::Suffix(suffix) => format!("*.{suffix}"),
        HostPattern::Any => "*".to_owned(),
    }
}

fn from(route: &CompiledRoute) -> String {
    let origin = route.origin();
    format!(
        "{} {}/{} {}",
        origin.kind, origin.namespace, origin.name, origin.field
    )
}

fn matches(alternatives: &[Match]) -> String {
    if alternatives.is_empty() {
        return "any".to_owned();
    }
    alternatives
        .iter()
        .map(one_match)
        .collect::<Vec<_>>()
        .join(" or ")
}

fn one_match(one: &Match) -> String {
    let path = one.path.as_ref().map(|path| match path {
        PathMatch::Exact(path) => format!("path = {path}"),
        PathMatch::StringPrefix(prefix) => format!("path {prefix}*"),
        PathMatch::ElementPrefix(prefix) => format!("path {prefix}[/*]"),
    });
    let headers = one
        .headers
        .iter()
        .map(|header| format!("{}: {}", header.name, header.value));
    let parts: Vec<String> = path.into_iter().chain(headers).collect();
    if parts.is_empty() {
        "any".to_owned()
    } else {
        parts.join(", ")
    }
}

fn action(snapshot: &Snapshot, route: &CompiledRoute) -> String {
    match &route.action {
        CompiledAction::Forward(split) => split
            .arms()
            .map(|arm| share(snapshot, split, arm))
            .collect::<Vec<_>>()
            .join(", "),
        CompiledAction::Respond(respond) => format!("answer {}", respond.status),
        CompiledAction::RedirectToHttps => "redirect to https".to_owned(),
    }
}

fn share(snapshot: &Snapshot, split: &CompiledSplit, arm: &CompiledArm) -> String {
    let ready = snapshot.backend_of(arm).map_or(0, |backend| ready(backend));
    let points = (0..split.total())
        .filter(|point| std::ptr::eq(split.at(*point), arm))
        .count();
    let percent = points as f64 * 100.0 / split.total() as f64;
    format!("{percent:.0}% {} ({ready} ready)", arm.backend)
}

fn backend(snapshot: &Snapshot, arm: &CompiledArm) -> String {
    let Some(backend) = snapshot.backend_of(arm) else {
        return format!("{}: unknown", arm.backend);
    };
    let limit = match backend.concurrency {
        0 => "no limit of requests in flight".to_owned(),
        limit => format!("{limit} requests in flight per endpoint"),
    };
    let cold = match (&backend.activation, ready(backend)) {
        (Some(activation), 0) => format!(
            ", at zero: the request wakes revision {}",
            activation.revision
        ),
        _ => String::new(),
    };
    format!(
        "{}: {} ready endpoints, {limit}{cold}",
        arm.backend,
        ready(backend)
    )
}

fn ready(backend: &Backend) -> usize {
    backend
        .endpoints
        .iter()
        .filter(|endpoint| endpoint.state == EndpointState::Ready)
        .count()
}
