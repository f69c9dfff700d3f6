//! Why a request got its route and not another: the data behind `suimon explain`.
//!
//! Runs beside [`Snapshot::select`], not inside it: explaining may allocate, selecting may not.

use std::fmt;
use std::sync::Arc;

use crate::matcher::header_holds;
use crate::model::{HostPattern, Match, PathMatch, Visibility};
use crate::snapshot::{CompiledRoute, RequestView, Snapshot};

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
    Header {
        name: Arc<str>,
        wanted: Arc<str>,
        sent: Option<String>,
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
            Self::Header {
                name,
                wanted,
                sent: None,
            } => write!(f, "header {name} is missing, wanted {wanted}"),
            Self::Header {
                name,
                wanted,
                sent: Some(sent),
            } => write!(f, "header {name} is {sent}, wanted {wanted}"),
        }
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
    /// Which route a request would take on a listener of this visibility, and why not the others.
    pub fn explain(&self, listener: Visibility, request: &impl RequestView) -> Explanation {
        let Some((host, table)) = self.host(listener, request.host()) else {
            let cluster_local_only = self
                .host(Visibility::ClusterLocal, request.host())
                .is_some();
            return Explanation {
                host: None,
                cluster_local_only,
                considered: Vec::new(),
            };
        };
        let mut selected = false;
        let considered = table.routes.iter().map(|route| {
            let missed = missed(route, request);
            let verdict = match missed {
                Some(missed) => Verdict::Missed(missed),
                None if selected => Verdict::Later,
                None => Verdict::Selected,
            };
            selected |= verdict == Verdict::Selected;
            Considered {
                route: Arc::clone(route),
                verdict,
            }
        });
        let considered = considered.collect();
        Explanation {
            host: Some(host.pattern.clone()),
            cluster_local_only: false,
            considered,
        }
    }
}

/// `None` if the route applies.
fn missed(route: &CompiledRoute, request: &impl RequestView) -> Option<Vec<Vec<Mismatch>>> {
    let alternatives = &route.source().matches;
    if alternatives.is_empty() {
        return None;
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
    let path = request.path();
    let wrong_path = one.path.as_ref().filter(|wanted| match wanted {
        PathMatch::Exact(exact) => **exact != *path,
        PathMatch::StringPrefix(prefix) => !path.starts_with(&**prefix),
        PathMatch::ElementPrefix(prefix) => {
            let rest = path.strip_prefix(prefix.trim_end_matches('/'));
            !rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }
    });
    let mut found: Vec<_> = wrong_path
        .map(|wanted| Mismatch::Path {
            wanted: wanted.clone(),
        })
        .into_iter()
        .collect();
    let wrong_headers = one
        .headers
        .iter()
        .filter(|header| !header_holds(header, request));
    found.extend(wrong_headers.map(|header| {
        Mismatch::Header {
            name: Arc::clone(&header.name),
            wanted: Arc::clone(&header.value),
            sent: request
                .header(&header.name)
                .map(|value| String::from_utf8_lossy(value).into_owned()),
        }
    }));
    found
}
