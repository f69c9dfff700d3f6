//! `suimon routes` and `suimon explain`, answered by the process that serves: it reads the very
//! snapshot that the next request will take.

mod details;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use lifecycle::Snapshots;
use routing::model::{BackendId, Bind, BindId, Match, Origin, PathMatch, TextMatch, Transport};
use routing::{
    Backend, BindKey, CompiledAction, CompiledArm, CompiledInstead, CompiledRoute, CompiledSplit,
    EndpointState, RequestView, Snapshot, Verdict, Visibility,
};
use scaling::{Activator, TrafficStats};
use serde_json::{Value, json};

/// Path of the route list on the API.
pub const ROUTES: &str = "/gateway/routes";
/// Path of explanations on the API.
pub const EXPLAIN: &str = "/gateway/explain";

/// Offers both views on the API server, behind its authentication.
pub fn serve(server: &apiserver::Server, snapshots: Snapshots<Snapshot>, activator: Activator) {
    let listed = snapshots.clone();
    server.connect_path(ROUTES, Arc::new(move |_| Ok(routes(&listed.current()))));
    server.connect_path(
        EXPLAIN,
        Arc::new(move |question| explain(&snapshots.current(), &activator, question)),
    );
}

/// Every route, host by host, in the order in which the gateway tries them.
fn routes(snapshot: &Snapshot) -> Value {
    let mut rows = Vec::new();
    let mut binds: Vec<_> = snapshot.binds().collect();
    binds.sort_by_key(|bind| &bind.id);
    rows.extend(binds.iter().filter_map(|bind| stream(snapshot, bind)));
    let bound = binds
        .into_iter()
        .flat_map(|bind| snapshot.routes_at(&BindKey::new(bind.id.clone())));
    for listed in snapshot
        .routes(Visibility::ClusterLocal)
        .into_iter()
        .chain(bound)
    {
        for route in listed.routes {
            let source = route.source();
            let address = source.bind.as_ref().and_then(|id| {
                let bind = snapshot.bind(&BindKey::new(id.clone()))?;
                Some(bind.address.to_string())
            });
            let visibility = match (address, source.visibility) {
                (Some(address), _) => address,
                (None, Visibility::External) => "external".to_owned(),
                (None, Visibility::ClusterLocal) => "cluster-local".to_owned(),
            };
            rows.push(json!({
                "host": listed.host.to_string(),
                "visibility": visibility,
                "match": matches(&route.source().matches),
                "action": action(snapshot, &route),
                "from": from(&route),
            }));
        }
    }
    json!({ "routes": rows })
}

/// Where what comes to a bind goes as it is.
fn stream(snapshot: &Snapshot, bind: &Bind) -> Option<Value> {
    let transport = match bind.stream? {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
    };
    let key = BindKey::new(bind.id.clone());
    let source = snapshot.stream_source_at(&key)?;
    let action = snapshot
        .stream_at(&key)
        .map_or_else(|| "close".to_owned(), |split| shares(snapshot, split));
    Some(json!({
        "host": "*",
        "visibility": format!("{}/{transport}", bind.address),
        "match": "any",
        "action": action,
        "from": origin(&source.origin),
    }))
}

/// Which route a request would take, and why not the others: on the bind with the address that
/// the URL names, else on the listener that it asks for.
fn explain(snapshot: &Snapshot, activator: &Activator, question: &Value) -> Result<Value, String> {
    let request = Question::read(question)?;
    let bind = request.bind(snapshot);
    let explanation = bind
        .as_ref()
        .and_then(|key| snapshot.explain_at(key, &request))
        .unwrap_or_else(|| snapshot.explain(request.visibility, &request));
    let mut lines = Vec::new();
    if request.is_secure {
        let name = Some(request.host_name());
        let found = match &bind {
            Some(key) => snapshot.tls_at(key, name),
            None => snapshot.tls(request.visibility, name),
        };
        lines.push(details::handshake(
            request.host_name(),
            found.map(|tls| &**tls),
        ));
    }
    if let Some(bind) = bind.as_ref().and_then(|key| snapshot.bind(key)) {
        lines.push(format!("{} is {}", bind.address, bind.id));
    }
    match &explanation.host {
        Some(pattern) => lines.push(format!("host {} is served as {}", request.host, pattern)),
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
    if let Some(route) = selected {
        let details = details::route(route.source());
        lines.extend(details.into_iter().map(|line| format!("  then    {line}")));
        let is_plain = !request.is_secure && request.visibility == Visibility::External;
        if is_plain && matches!(route.action, CompiledAction::ForwardSecure(_)) {
            lines.push("  redirected to https: the route wants TLS".to_owned());
        }
    }
    let stats: BTreeMap<_, _> = activator.traffic().into_iter().collect();
    if let Some(CompiledAction::Forward(split) | CompiledAction::ForwardSecure(split)) =
        selected.map(|route| &route.action)
    {
        lines.extend(
            split
                .arms()
                .map(|arm| format!("  backend {}", backend(snapshot, arm, &stats))),
        );
    }
    let route =
        selected.map(|route| json!({ "from": from(route), "action": action(snapshot, route) }));
    Ok(json!({ "route": route, "lines": lines }))
}

struct Question {
    host: String,
    /// Where the request would be sent to: the URL's own authority, whatever `Host` says.
    address: String,
    method: String,
    path: String,
    query: String,
    headers: BTreeMap<String, String>,
    /// Whose listener it comes to, unless the address is a bind's.
    visibility: Visibility,
    is_secure: bool,
    client: Option<IpAddr>,
}

impl Question {
    fn read(question: &Value) -> Result<Self, String> {
        let text = |field: &str| question[field].as_str().map(str::to_owned);
        let headers = question["headers"].as_array().into_iter().flatten();
        Ok(Self {
            host: text("host").ok_or("host is missing")?,
            address: text("address").unwrap_or_default(),
            method: text("method").unwrap_or_else(|| "GET".to_owned()),
            path: text("path").ok_or("path is missing")?,
            query: text("query").unwrap_or_default(),
            visibility: match question["clusterLocal"].as_bool() {
                Some(true) => Visibility::ClusterLocal,
                Some(false) | None => Visibility::External,
            },
            is_secure: question["secure"].as_bool() == Some(true),
            client: match text("client") {
                None => None,
                Some(client) => Some(client.parse().map_err(|_| "client is not an IP address")?),
            },
            headers: headers
                .filter_map(|pair| {
                    Some((pair[0].as_str()?.to_owned(), pair[1].as_str()?.to_owned()))
                })
                .collect(),
        })
    }
}

impl Question {
    /// The host without its port.
    fn host_name(&self) -> &str {
        match self.host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => &self.host,
        }
    }

    /// The bind that is reached at the address.
    fn bind(&self, snapshot: &Snapshot) -> Option<BindKey> {
        let address = match self.address.parse::<std::net::SocketAddr>() {
            Ok(address) => address,
            Err(_) => {
                let port = if self.is_secure { 443 } else { 80 };
                std::net::SocketAddr::new(self.address.parse().ok()?, port)
            }
        };
        let ids = snapshot.binds().filter(|bind| bind.address == address);
        let id: BindId = ids.map(|bind| bind.id.clone()).min()?;
        Some(BindKey::new(id))
    }
}

impl RequestView for Question {
    fn method(&self) -> &str {
        &self.method
    }

    fn query(&self) -> &str {
        &self.query
    }

    fn host(&self) -> &str {
        &self.host
    }

    fn path(&self) -> &str {
        &self.path
    }

    fn peer(&self) -> Option<IpAddr> {
        self.client
    }

    fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.get(name).map(String::as_bytes)
    }
}

fn from(route: &CompiledRoute) -> String {
    origin(route.origin())
}

fn origin(origin: &Origin) -> String {
    format!(
        "{} {} {}/{} {}",
        origin.dialect, origin.kind, origin.namespace, origin.name, origin.field
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
        PathMatch::Regex(expression) => format!("path ~ {expression}"),
        PathMatch::Connect => "CONNECT".to_owned(),
    });
    let method = one.method.as_ref().map(|method| format!("method {method}"));
    let text = |name: &str, value: &TextMatch| match value {
        TextMatch::Exact(exact) => format!("{name}: {exact}"),
        TextMatch::Regex(expression) => format!("{name} ~ {expression}"),
    };
    let headers = one.headers.iter().map(|it| text(&it.name, &it.value));
    let query = one
        .query
        .iter()
        .map(|it| text(&format!("?{}", it.name), &it.value));
    let other = one.other.iter().map(ToString::to_string);
    let parts = path.into_iter().chain(method).chain(headers).chain(query);
    let parts = parts.chain(other);
    let parts: Vec<String> = parts.collect();
    if parts.is_empty() {
        "any".to_owned()
    } else {
        parts.join(", ")
    }
}

fn action(snapshot: &Snapshot, route: &CompiledRoute) -> String {
    match &route.action {
        CompiledAction::Forward(split) | CompiledAction::ForwardSecure(split) => {
            shares(snapshot, split)
        }
        CompiledAction::Respond(respond) => format!("answer {}", respond.status),
        CompiledAction::Redirect(redirect) => format!("redirect {}", redirect.status),
    }
}

fn shares(snapshot: &Snapshot, split: &CompiledSplit) -> String {
    let shares = split.arms().map(|arm| share(snapshot, split, arm));
    shares.collect::<Vec<_>>().join(", ")
}

fn share(snapshot: &Snapshot, split: &CompiledSplit, arm: &CompiledArm) -> String {
    let ready = snapshot.backend_of(arm).map_or(0, |backend| ready(backend));
    let weights = split.weighted();
    let points = weights
        .filter(|(_, other)| std::ptr::eq(*other, arm))
        .map(|(weight, _)| weight)
        .sum::<u64>();
    let percent = points as f64 * 100.0 / split.total() as f64;
    match arm.instead.as_deref() {
        Some(CompiledInstead::Respond(respond)) => {
            return format!(
                "{percent:.0}% answer {} for {}",
                respond.status, arm.backend
            );
        }
        Some(CompiledInstead::Redirect(redirect)) => {
            return format!("{percent:.0}% redirect {}", redirect.status);
        }
        None => {}
    }
    format!("{percent:.0}% {} ({ready} ready)", arm.backend)
}

fn backend(
    snapshot: &Snapshot,
    arm: &CompiledArm,
    stats: &BTreeMap<BackendId, TrafficStats>,
) -> String {
    if let Some(CompiledInstead::Respond(respond)) = arm.instead.as_deref() {
        return format!("{}: {}", arm.backend, respond.body.trim_end());
    }
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
        "{}: {} ready endpoints, {limit}{cold}, {}",
        arm.backend,
        ready(backend),
        details::backend(backend, stats.get(&backend.id))
    )
}

fn ready(backend: &Backend) -> usize {
    backend
        .endpoints
        .iter()
        .filter(|endpoint| endpoint.state == EndpointState::Ready)
        .count()
}
