//! Why a request got its route and not another: the data behind `suimon explain`.
//!
//! Runs beside [`Snapshot::select`], not inside it: explaining may allocate, selecting may not.

use std::fmt;
use std::sync::Arc;

use crate::matcher::RouteTable;
use crate::model::{HostPattern, Match, PathMatch, Predicate, TextMatch, Visibility};
use crate::predicate::Predicates;
use crate::query;
use crate::route::CompiledRoute;
use crate::rule::text_holds;
use crate::snapshot::{BindKey, Host, Hosts, Snapshot};
use crate::view::RequestView;

/// Everything selection looked at for one request.
#[derive(Debug)]
pub struct Explanation {
    /// The pattern that claimed the request's host; `None` if no pattern of this listener did.
    pub host: Option<HostPattern>,
    /// The host is served, but only on cluster-local listeners.
    pub cluster_local_only: bool,
    /// The routes of the host in the order in which they are tried.
    pub considered: Vec<Considered>,
}

/// One route of the host.
#[derive(Debug)]
pub struct Considered {
    pub route: Arc<CompiledRoute>,
    pub verdict: Verdict,
}

/// What became of a route.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The request takes it.
    Selected,
    /// It would match, but an earlier route did.
    Later,
    /// Why each of its alternatives does not apply, one list per alternative.
    Missed(Vec<Vec<Mismatch>>),
}

/// One predicate that does not hold.
#[derive(Debug, PartialEq, Eq)]
pub enum Mismatch {
    Path {
        wanted: PathMatch,
    },
    /// It has no path, and the route is not for CONNECT.
    Connect,
    Method {
        wanted: Arc<str>,
    },
    Header {
        name: Arc<str>,
        wanted: TextMatch,
        sent: Option<String>,
    },
    Query {
        name: Arc<str>,
        wanted: TextMatch,
        sent: Option<String>,
    },
    Other {
        wanted: Predicate,
    },
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path {
                wanted: PathMatch::Exact(path),
            } => write!(f, "path is not {path}"),
            Self::Path {
                wanted: PathMatch::StringPrefix(prefix),
            } => write!(f, "path does not begin with {prefix}"),
            Self::Path {
                wanted: PathMatch::ElementPrefix(prefix),
            } => write!(f, "path is not {prefix} or below it"),
            Self::Path {
                wanted: PathMatch::Regex(expression),
            } => write!(f, "path does not match {expression}"),
            Self::Path {
                wanted: PathMatch::Connect,
            } => f.write_str("method is not CONNECT"),
            Self::Connect => f.write_str("is not for CONNECT"),
            Self::Method { wanted } => write!(f, "method is not {wanted}"),
            Self::Header { name, wanted, sent } => differs(f, "header", name, wanted, sent),
            Self::Query { name, wanted, sent } => differs(f, "query parameter", name, wanted, sent),
            Self::Other { wanted } => write!(f, "not true: {wanted}"),
        }
    }
}

fn differs(
    f: &mut fmt::Formatter<'_>,
    what: &str,
    name: &str,
    wanted: &TextMatch,
    sent: &Option<String>,
) -> fmt::Result {
    match sent {
        None => write!(f, "{what} {name} is missing, wanted ")?,
        Some(sent) => write!(f, "{what} {name} is {sent}, wanted ")?,
    }
    match wanted {
        TextMatch::Exact(exact) => f.write_str(exact),
        TextMatch::Regex(expression) => write!(f, "a match of {expression}"),
    }
}

impl Explanation {
    /// The route that the request takes.
    pub fn selected(&self) -> Option<&Arc<CompiledRoute>> {
        self.considered
            .iter()
            .find(|considered| considered.verdict == Verdict::Selected)
            .map(|it| &it.route)
    }
}

impl Snapshot {
    /// Which route a request would take on a shared listener of this visibility, and why not the
    /// others.
    pub fn explain(&self, listener: Visibility, request: &impl RequestView) -> Explanation {
        let mut explanation = explain(&self.hosts, listener, request);
        if explanation.host.is_none() {
            let local = explain(&self.hosts, Visibility::ClusterLocal, request);
            explanation.cluster_local_only = local.host.is_some();
        }
        explanation
    }

    /// The same for a bind. `None` if there is no such bind.
    pub fn explain_at(&self, bind: &BindKey, request: &impl RequestView) -> Option<Explanation> {
        let bound = self.bound(bind)?;
        Some(explain(&bound.hosts, Visibility::ClusterLocal, request))
    }
}

fn explain(hosts: &Hosts, listener: Visibility, request: &impl RequestView) -> Explanation {
    let mut found: Vec<(&Host, &RouteTable)> = Vec::new();
    hosts.visit(listener, request.host(), |host, table| {
        found.push((host, table));
        host.is_sealed
    });
    let mut selected = false;
    let routes = found.iter().flat_map(|(_, table)| table.routes());
    let considered = routes.map(|route| {
        let missed = missed(&route, request);
        let verdict = match missed {
            Some(missed) => Verdict::Missed(missed),
            None if selected => Verdict::Later,
            None => Verdict::Selected,
        };
        selected |= verdict == Verdict::Selected;
        Considered { route, verdict }
    });
    let considered = considered.collect();
    Explanation {
        host: found.first().map(|(host, _)| host.pattern.clone()),
        cluster_local_only: false,
        considered,
    }
}

/// `None` if the route applies.
fn missed(route: &CompiledRoute, request: &impl RequestView) -> Option<Vec<Vec<Mismatch>>> {
    let alternatives = &route.source().matches;
    if alternatives.is_empty() {
        return request.is_connect().then(|| vec![vec![Mismatch::Connect]]);
    }
    let missed: Vec<_> = alternatives
        .iter()
        .map(|one| mismatches(one, request))
        .collect();
    missed
        .iter()
        .all(|mismatches| !mismatches.is_empty())
        .then_some(missed)
}

fn mismatches(one: &Match, request: &impl RequestView) -> Vec<Mismatch> {
    if request.is_connect() && one.path != Some(PathMatch::Connect) {
        return vec![Mismatch::Connect];
    }
    let path = request.path();
    let wrong_path = one.path.as_ref().filter(|wanted| match wanted {
        PathMatch::Exact(exact) => **exact != *path,
        PathMatch::StringPrefix(prefix) => !path.starts_with(&**prefix),
        PathMatch::ElementPrefix(prefix) => {
            let rest = path.strip_prefix(prefix.trim_end_matches('/'));
            !rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }
        PathMatch::Regex(expression) => {
            !text_holds(&TextMatch::Regex(Arc::clone(expression)), path.as_bytes())
        }
        PathMatch::Connect => !request.is_connect(),
    });
    let mut found: Vec<_> = wrong_path
        .map(|wanted| Mismatch::Path {
            wanted: wanted.clone(),
        })
        .into_iter()
        .collect();
    if let Some(wanted) = one.method.as_ref().filter(|it| ***it != *request.method()) {
        found.push(Mismatch::Method {
            wanted: Arc::clone(wanted),
        });
    }
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    for header in &one.headers {
        let sent = request.header(&header.name);
        if !sent.is_some_and(|value| text_holds(&header.value, value)) {
            found.push(Mismatch::Header {
                name: Arc::clone(&header.name),
                wanted: header.value.clone(),
                sent: sent.map(text),
            });
        }
    }
    for parameter in &one.query {
        let sent = query::first(request.query(), &parameter.name);
        if !sent
            .as_deref()
            .is_some_and(|value| text_holds(&parameter.value, value))
        {
            found.push(Mismatch::Query {
                name: Arc::clone(&parameter.name),
                wanted: parameter.value.clone(),
                sent: sent.as_deref().map(text),
            });
        }
    }
    let failing = one.other.iter().filter(|wanted| {
        let alone = std::slice::from_ref(*wanted);
        !Predicates::of_route(alone).hold(request)
    });
    found.extend(failing.map(|wanted| Mismatch::Other {
        wanted: wanted.clone(),
    }));
    found
}
