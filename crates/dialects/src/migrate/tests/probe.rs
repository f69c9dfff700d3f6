//! Requests that rules are about, before and after: they get the same rule, or notes say why not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use routing::model::{
    BindId, HostPattern, Match, Model, Origin, PathMatch, Route, RouteId, TextMatch, Visibility,
};
use routing::{BindKey, CompiledTlsAction, RequestView, Snapshot};

use super::super::{NewRule, Verdict};
use super::Run;

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Probe {
    host: String,
    path: String,
    method: String,
    headers: BTreeMap<String, String>,
    query: String,
    is_secure: bool,
}

impl RequestView for Probe {
    fn host(&self) -> &str {
        &self.host
    }
    fn path(&self) -> &str {
        &self.path
    }
    fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.get(name).map(String::as_bytes)
    }
    fn method(&self) -> &str {
        &self.method
    }
    fn query(&self) -> &str {
        &self.query
    }
    fn scheme(&self) -> &str {
        if self.is_secure { "https" } else { "http" }
    }
}

pub(super) fn hosts(host: &HostPattern) -> Vec<String> {
    match host {
        HostPattern::Exact(name) => vec![name.to_string()],
        HostPattern::Suffix(suffix) | HostPattern::Label(suffix) => {
            vec![format!("probe.{suffix}"), format!("more.probe.{suffix}")]
        }
        HostPattern::Any => vec!["nobody.example".to_owned()],
    }
}

fn paths(one: &Match) -> Vec<String> {
    match &one.path {
        None | Some(PathMatch::Regex(_) | PathMatch::Connect) => {
            vec!["/".to_owned(), "/other".to_owned()]
        }
        Some(PathMatch::Exact(path)) => vec![path.to_string(), format!("{path}/x")],
        Some(PathMatch::ElementPrefix(path) | PathMatch::StringPrefix(path)) => vec![
            path.to_string(),
            format!("{path}x"),
            format!("{}/x", path.trim_end_matches('/')),
        ],
    }
}

fn exact(value: &TextMatch) -> String {
    match value {
        TextMatch::Exact(value) | TextMatch::Regex(value) => value.to_string(),
    }
}

/// Requests with what the match asks, and without.
fn probes(route: &Route) -> BTreeSet<Probe> {
    let mut out = BTreeSet::new();
    let matches = match &route.matches[..] {
        [] => vec![Match::default()],
        all => all.to_vec(),
    };
    for host in route.hosts.iter().flat_map(hosts) {
        for one in &matches {
            for path in paths(one).into_iter().filter(|path| path.starts_with('/')) {
                let bare = Probe {
                    host: host.clone(),
                    path,
                    method: "GET".to_owned(),
                    ..Probe::default()
                };
                let headers = one.headers.iter();
                let headers = headers.map(|it| (it.name.to_string(), exact(&it.value)));
                let query = one.query.iter();
                let query: Vec<_> = query
                    .map(|it| format!("{}={}", it.name, exact(&it.value)))
                    .collect();
                out.insert(Probe {
                    method: one.method.as_deref().unwrap_or("GET").to_owned(),
                    headers: headers.collect(),
                    query: query.join("&"),
                    ..bare.clone()
                });
                out.insert(bare);
            }
        }
    }
    out
}

/// A socket of the gateway.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Door {
    bind: Option<BindId>,
    is_local: bool,
    /// Clients speak TLS.
    is_secure: bool,
}

pub(super) fn snapshot(model: &Model) -> Snapshot {
    routing::compile(model, None).0
}

/// The bind of a port that is for HTTP, or for TLS.
pub(super) fn bind_at(model: &Model, port: u16, is_tls: bool) -> Option<BindKey> {
    let mut binds = model.binds.values().filter(|bind| bind.stream.is_none());
    let bind = binds.find(|bind| bind.address.port() == port && bind.is_tls == is_tls)?;
    Some(BindKey::new(bind.id.clone()))
}

pub(super) fn failures(run: &Run) -> Vec<String> {
    let mut input = run.before.model.clone();
    input.routes = run.before.input().routes;
    let (before, after) = (snapshot(&input), snapshot(&run.after.model));
    let mut doors: BTreeMap<Door, BTreeSet<Probe>> = BTreeMap::new();
    for route in input.routes.values() {
        for door in Door::all_of(route, &input) {
            let is_secure = door.is_secure;
            let probes = probes(route).into_iter();
            let probes = probes.map(|probe| Probe { is_secure, ..probe });
            doors.entry(door).or_default().extend(probes);
        }
    }
    let known = Known::new(run, &input.routes);
    let mut failures = Vec::new();
    for (door, probes) in doors {
        for probe in probes {
            let old = match &door.bind {
                Some(bind) => before.select_at(&BindKey::new(bind.clone()), &probe),
                None if door.is_local => before.select(Visibility::ClusterLocal, &probe),
                None => before.select(Visibility::External, &probe),
            };
            let old = old.map(|route| (route.id(), route.source().as_ref()));
            // What is served inside of the cluster besides is not asked here.
            let is_local = old.is_some_and(|(_, it)| it.visibility == Visibility::ClusterLocal);
            if door.is_local && !is_local {
                continue;
            }
            let new = if door.is_local {
                after.select(Visibility::ClusterLocal, &probe)
            } else {
                let key = bind_at(&run.after.model, door.port(&input), door.is_secure);
                let ended = key
                    .as_ref()
                    .and_then(|key| after.tls_at(key, Some(&probe.host)));
                let ended = ended.map(|tls| &tls.action);
                // Who gets no answer in the handshake is asked about there.
                if door.is_secure && !matches!(ended, Some(CompiledTlsAction::Terminate(_))) {
                    continue;
                }
                key.and_then(|key| after.select_at(&key, &probe))
            };
            let new = new.map(|route| route.source().as_ref());
            failures.extend(known.judge(old, new, &probe));
        }
    }
    failures
}

impl Door {
    /// Where a route is served.
    fn all_of(route: &Route, model: &Model) -> Vec<Self> {
        let is_local = route.bind.is_none() && route.visibility == Visibility::ClusterLocal;
        let door = |is_secure| Self {
            bind: route.bind.clone(),
            is_local,
            is_secure,
        };
        match route.bind.as_ref().map(|id| model.binds.get(id)) {
            Some(bind) => vec![door(bind.is_some_and(|bind| bind.is_tls))],
            None if is_local => vec![door(false)],
            None => vec![door(false), door(true)],
        }
    }

    fn port(&self, model: &Model) -> u16 {
        let bind = self.bind.as_ref().and_then(|id| model.binds.get(id));
        let usual = if self.is_secure { 443 } else { 80 };
        bind.map_or(usual, |bind| bind.address.port())
    }
}

/// Rules by where they are written to, and what notes say of their origins.
struct Known<'r> {
    run: &'r Run,
    routes: &'r BTreeMap<RouteId, Arc<Route>>,
    /// Namespace and name of the HTTPRoute, and the rule.
    makers: BTreeMap<(&'r str, &'r str, String), &'r RouteId>,
    /// The same of those that only redirect to it.
    redirects: BTreeMap<(&'r str, &'r str, String), &'r RouteId>,
    told: BTreeSet<(&'r Origin, &'static str)>,
}

impl<'r> Known<'r> {
    fn new(run: &'r Run, routes: &'r BTreeMap<RouteId, Arc<Route>>) -> Self {
        let makers = |rules: &'r BTreeMap<RouteId, NewRule>| {
            let makers = rules.iter().map(|(id, new)| {
                let field = format!("spec.rules[{}]", new.number);
                ((&*new.route.namespace, &*new.route.name, field), id)
            });
            makers.collect()
        };
        let notes = run.migration.notes.iter();
        let notes = notes.filter(|note| note.verdict != Verdict::Kept);
        Self {
            run,
            routes,
            makers: makers(&run.migration.rules),
            redirects: makers(&run.migration.redirects),
            told: notes.map(|note| (&note.origin, note.part)).collect(),
        }
    }

    /// The rule that a written route was made of.
    fn maker(&self, route: &Route, is_secure: bool) -> Option<&'r RouteId> {
        let origin = &route.origin;
        let rule = origin.field.split(".matches").next().unwrap_or_default();
        let key = (&*origin.namespace, &*origin.name, rule.to_owned());
        if let Some(id) = self.redirects.get(&key) {
            return (!is_secure).then_some(*id);
        }
        let id = *self.makers.get(&key)?;
        // Plain HTTP must not reach what it is to be redirected to.
        let is_redirected = self.redirects.values().any(|other| *other == id);
        (is_secure || !is_redirected).then_some(id)
    }

    fn judge(
        &self,
        old: Option<(&RouteId, &Route)>,
        new: Option<&Route>,
        probe: &Probe,
    ) -> Option<String> {
        let maker = new.map(|new| self.maker(new, probe.is_secure));
        let same = match (old, maker) {
            (None, None) => true,
            (Some((id, _)), Some(Some(maker))) => id == maker,
            _ => false,
        };
        // A rule that is left out keeps its requests from others.
        let is_kept = maker == Some(None) && old.is_none();
        let told = |origin: Option<&Origin>, parts: &[&'static str]| {
            origin.is_some_and(|origin| {
                parts
                    .iter()
                    .any(|part| self.told.contains(&(origin, *part)))
            })
        };
        let maker_origin = maker.flatten().and_then(|id| self.routes.get(id));
        let is_told = told(old.map(|(_, old)| &old.origin), &["rule", "order", "hosts"])
            || told(maker_origin.map(|it| &it.origin), &["hosts"]);
        let title = &self.run.title;
        let text = format!(
            "{title}: {probe:?} was for {:?} and is for {maker:?}",
            old.map(|(id, _)| id)
        );
        (!same && !is_kept && !is_told).then_some(text)
    }
}
