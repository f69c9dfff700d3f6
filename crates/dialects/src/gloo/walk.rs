//! From a VirtualService along its delegations: every route, with what it inherits, in order.

use std::collections::BTreeMap;
use std::sync::Arc;

use routing::model::{Mirror, Origin, Respond, Split};

use super::action::{Action, Delegate, Elsewhere, RouteSpec};
use super::auth_config;
use super::matcher::{Matcher, PathKind};
use super::options::{self, HostOptions, Options};
use super::status::{CLOSED, Judgement};
use super::transform;
use super::upgrades::{self, Allowed};
use super::upstream::{self, Backends, Destination, Way};
use super::{ROUTE_OPTION, ROUTE_TABLE, part, unwrapped};
use crate::fields::{Fields, Findings};
use crate::foreign::Object;
use crate::objects::Name;

/// Delegations of delegations, at most.
const DEEPEST: usize = 32;
/// Route tables that one VirtualService visits, at most, counting each visit.
const MOST: usize = 10_000;

/// What a route that delegates hands down.
struct Parent {
    matcher: Matcher,
    options: serde_json::Value,
    inherits: bool,
    inherits_paths: bool,
}

/// A route with everything that it inherits.
pub(super) struct Planned {
    /// Where it is, from the root on.
    pub(super) id: String,
    pub(super) origin: Origin,
    pub(super) matchers: Vec<Matcher>,
    pub(super) options: Options,
    pub(super) act: Act,
}

/// What it does.
pub(super) enum Act {
    Forward(Split),
    Respond(Respond),
    Redirect(Box<Elsewhere>),
}

/// The walk of one VirtualService.
pub(super) struct Walk<'r, 'o> {
    pub(super) backends: Backends<'r, 'o>,
    pub(super) judgement: Judgement,
    pub(super) host: HostOptions,
    pub(super) allowed: Allowed,
    /// Clients may speak gRPC-Web.
    pub(super) grpc_web: bool,
    way: Vec<Name>,
    steps: usize,
}

impl<'r, 'o> Walk<'r, 'o> {
    pub(super) fn new(backends: Backends<'r, 'o>) -> Self {
        Self {
            backends,
            judgement: Judgement::default(),
            host: HostOptions::default(),
            allowed: Allowed::default(),
            grpc_web: false,
            way: Vec::new(),
            steps: 0,
        }
    }

    /// The routes of the VirtualService itself.
    pub(super) fn root(&mut self, object: &Object, routes: Vec<RouteSpec>) -> Vec<Planned> {
        self.visit(object, routes, None, "")
    }

    fn visit(
        &mut self,
        object: &Object,
        routes: Vec<RouteSpec>,
        parent: Option<&Parent>,
        at: &str,
    ) -> Vec<Planned> {
        let mut out = Vec::new();
        for (index, route) in routes.into_iter().enumerate() {
            let at = format!("{at}routes[{index}]");
            let field = route.field.clone();
            match self.route(object, route, parent, &at) {
                Ok(planned) => out.extend(planned),
                Err(Trouble::Error(text)) => {
                    let text = self.told(object, &text);
                    self.judgement.error("RouteInvalid", &field, text);
                }
                Err(Trouble::Warning(text)) => {
                    let text = self.told(object, &text);
                    self.judgement.warn("RouteLeftOut", &field, text);
                }
            }
        }
        out
    }

    /// What is wrong with a route table is said of the VirtualService too.
    fn told(&self, object: &Object, text: &str) -> String {
        if *object.kind == ROUTE_TABLE {
            format!(
                "on sub route table {}.{}: {text}",
                object.name.namespace, object.name.name
            )
        } else {
            text.to_owned()
        }
    }

    fn route(
        &mut self,
        object: &Object,
        route: RouteSpec,
        parent: Option<&Parent>,
        at: &str,
    ) -> Result<Vec<Planned>, Trouble> {
        let mut options = route.options;
        for name in &route.option_refs {
            match self.backends.reader.foreign(&ROUTE_OPTION, name) {
                Some(other) => options::merge(&mut options, &other.spec()["options"]),
                None => {
                    let text = self.told(object, &format!("RouteOption {name} does not exist"));
                    self.judgement.warn("OptionsMissing", &route.field, text);
                }
            }
        }
        let mut matchers = route.matchers.map_err(Trouble::Error)?;
        let inherited = |own: Option<bool>, of: fn(&Parent) -> bool| {
            own.unwrap_or_else(|| parent.is_some_and(of))
        };
        let inherits = inherited(route.inherits, |parent| parent.inherits);
        let inherits_paths = inherited(route.inherits_paths, |parent| parent.inherits_paths);
        if let Some(parent) = parent {
            inherit(&mut matchers, parent, inherits, inherits_paths)?;
            transform::inherit(&mut options, &parent.options);
            options::merge(&mut options, &parent.options);
        } else if matchers.is_empty() {
            matchers.push(Matcher::all());
        }
        if let Action::Delegate(delegate) = &route.action {
            let parent = Parent {
                matcher: delegating(matchers)?,
                options,
                inherits,
                inherits_paths,
            };
            return self.delegate(object, delegate, &parent, at);
        }
        let field = route.field;
        let mut options = self.options(object, &options, &field);
        if matches!(route.action, Action::Forward(_) | Action::Group(_))
            && let Some(text) = upgrades::settle(&matchers, &mut options)
        {
            let text = self.told(object, text);
            let field = format!("{field}.options.upgrades");
            self.judgement.warn("ConnectNotServed", &field, text);
        }
        let (act, options) = self.act(object, route.action, options, &field)?;
        Ok(vec![Planned {
            id: at.to_owned(),
            origin: object.origin(&field),
            matchers,
            options,
            act,
        }])
    }

    fn options(&mut self, object: &Object, value: &serde_json::Value, field: &str) -> Options {
        let findings = Findings::default();
        let fields = Fields::new(value, format!("{field}.options"), &findings);
        let namespace = &object.name.namespace;
        let id = format!(
            "{}/{} {}/{field}",
            self.host.id, object.kind.kind, object.name
        );
        let own = (&**namespace, &*id);
        let mut options = Options::read(&fields, &self.host, self.allowed, own);
        drop(fields);
        self.judgement.absorb(&findings);
        if let Err(text) = auth_config::ask(&mut options, &mut self.backends) {
            let field = format!("{field}.options.extauth");
            let text = self.told(object, &text);
            self.judgement.error(CLOSED, &field, text);
        }
        match options.limits.asked(&mut self.backends) {
            Ok(service) => options.guards.limit_services.extend(service),
            Err((at, text)) => {
                let text = self.told(object, &text);
                self.judgement.warn("RateLimitServiceMissing", &at, text);
            }
        }
        options
    }

    fn act(
        &mut self,
        object: &Object,
        action: Action,
        mut options: Options,
        field: &str,
    ) -> Result<(Act, Options), Trouble> {
        let way_hash = options.hash.clone();
        let way = Way {
            hash: &way_hash,
            idle: options.idle,
            auto_host: options.auto_host,
            grpc_web: self.grpc_web,
        };
        let destinations = match action {
            Action::Invalid(text) => return Err(Trouble::Error(text)),
            Action::Redirect(elsewhere) => return Ok((Act::Redirect(elsewhere), options)),
            Action::Respond(respond) => return Ok((Act::Respond(respond), options)),
            // Taken apart by the caller.
            Action::Delegate(_) => return Ok((Act::Respond(unavailable()), options)),
            Action::Forward(destinations) => destinations,
            Action::Group(name) => upstream::group(self.backends.reader, &name)
                .ok_or_else(|| Trouble::Error(format!("UpstreamGroup {name} does not exist")))?,
        };
        let mut arms = Vec::with_capacity(destinations.len());
        for destination in &destinations {
            match destination.resolve(&way, &mut self.backends) {
                Ok(arm) => {
                    if !way.hash.is_empty() && !self.backends.hashes(&arm.backend) {
                        let text = "lbHash changes nothing here: the destination's loadBalancerConfig is neither ringHash nor maglev";
                        let text = self.told(object, text);
                        let field = format!("{field}.options.lbHash");
                        self.judgement.warn("FieldDiffers", &field, text);
                    }
                    arms.push(arm);
                }
                Err(text) => {
                    let text = self.told(object, &text);
                    self.judgement
                        .warn("DestinationMissing", &destination.field, text);
                    arms.push(nobody(destination.weight));
                }
            }
        }
        if let Some((name, share)) = &options.mirror {
            let destination = Destination::upstream(name.clone(), field);
            match destination.resolve(&way, &mut self.backends) {
                Ok(arm) => options.filters.mirrors.push(Mirror {
                    backend: arm.backend,
                    share: *share,
                }),
                Err(text) => {
                    let text = self.told(object, &text);
                    self.judgement.warn("DestinationMissing", field, text);
                }
            }
        }
        let split = Split::new(arms);
        let text = "invalid route: the destinations have no weight";
        let split = split.ok_or_else(|| Trouble::Error(text.to_owned()))?;
        Ok((Act::Forward(split), options))
    }

    fn delegate(
        &mut self,
        object: &Object,
        delegate: &Delegate,
        parent: &Parent,
        at: &str,
    ) -> Result<Vec<Planned>, Trouble> {
        let mut by_weight: BTreeMap<i64, Vec<&Arc<Object>>> = BTreeMap::new();
        for table in self.tables(object, delegate)? {
            let weight = unwrapped(&table.spec()["weight"]).as_i64().unwrap_or(0);
            by_weight.entry(weight).or_default().push(table);
        }
        let mut out = Vec::new();
        for tables in by_weight.into_values() {
            let mut routes = Vec::new();
            let is_merged = tables.len() > 1;
            for table in tables {
                routes.extend(self.table(table, parent, at));
            }
            if is_merged {
                // What is more specific must not be hidden by another table's wider prefix.
                routes.sort_by(|a, b| smallest(&a.matchers).order(&smallest(&b.matchers)));
            }
            out.extend(routes);
        }
        Ok(out)
    }

    fn tables(
        &self,
        object: &Object,
        delegate: &Delegate,
    ) -> Result<Vec<&'o Arc<Object>>, Trouble> {
        let reader = self.backends.reader;
        let tables: Vec<_> = match delegate {
            Delegate::To(name) => {
                let missing = || Trouble::Warning(format!("route table {name} missing"));
                vec![reader.foreign(&ROUTE_TABLE, name).ok_or_else(missing)?]
            }
            Delegate::Selected(namespaces, selector) => {
                let everywhere = namespaces.iter().any(|it| it == "*");
                let is_in = |namespace: &str| match &namespaces[..] {
                    [] => namespace == &*object.name.namespace,
                    _ => everywhere || namespaces.iter().any(|it| it == namespace),
                };
                let all = reader.foreign_all(&ROUTE_TABLE);
                all.filter(|table| is_in(&table.name.namespace))
                    .filter(|table| selector.selects(&table.labels))
                    .collect()
            }
        };
        if tables.is_empty() {
            let text = "no route table matches the given selector";
            return Err(Trouble::Warning(text.to_owned()));
        }
        Ok(tables)
    }

    fn table(&mut self, table: &Arc<Object>, parent: &Parent, at: &str) -> Vec<Planned> {
        let name = &table.name;
        self.steps += 1;
        if self.way.contains(name) {
            let way: Vec<_> = self
                .way
                .iter()
                .chain([name])
                .map(|it| format!("[{it}]"))
                .collect();
            let text = format!(
                "invalid route: delegation cycle detected: {}",
                way.join(" -> ")
            );
            let text = self.told(table, &text);
            self.judgement.error("DelegationCycle", "spec", text);
            return Vec::new();
        }
        if self.way.len() >= DEEPEST || self.steps > MOST {
            let text =
                format!("delegations are followed {DEEPEST} deep and {MOST} times; {name} is not");
            self.judgement.error("DelegationTooDeep", "spec", text);
            return Vec::new();
        }
        let (routes, own) = part::table(table);
        if own.is_rejected() {
            let text = self.told(table, "a field of it cannot be read, see its status");
            self.judgement.error("RouteTableInvalid", "spec", text);
            return Vec::new();
        }
        self.way.push(name.clone());
        let at = format!("{at}/{name}/");
        let planned = self.visit(table, routes, Some(parent), &at);
        self.way.pop();
        planned
    }
}

/// Why a route is not served.
enum Trouble {
    /// Nothing of its VirtualService is.
    Error(String),
    /// The others are.
    Warning(String),
}

/// The answer of a destination that is not there.
fn nobody(weight: u32) -> routing::model::Arm {
    let mut arm = routing::model::Arm::new(weight, routing::model::BackendId("".into()));
    arm.instead = Some(Box::new(routing::model::Instead::Respond(unavailable())));
    arm
}

fn unavailable() -> Respond {
    Respond {
        status: 503,
        headers: Vec::new(),
        body: "".into(),
    }
}

fn inherit(
    matchers: &mut Vec<Matcher>,
    parent: &Parent,
    inherits: bool,
    inherits_paths: bool,
) -> Result<(), Trouble> {
    if matchers.is_empty() {
        matchers.push(Matcher::all());
    }
    for matcher in matchers {
        if inherits_paths {
            matcher.inherit_path(&parent.matcher);
        }
        if inherits {
            matcher.inherit_rest(&parent.matcher);
        }
        matcher.check(&parent.matcher).map_err(Trouble::Warning)?;
    }
    Ok(())
}

/// The one matcher of a route that delegates.
fn delegating(mut matchers: Vec<Matcher>) -> Result<Matcher, Trouble> {
    let text = match (matchers.pop(), matchers.is_empty()) {
        (Some(only), true) if only.path == PathKind::Prefix => return Ok(only),
        (Some(_), true) => "invalid route: routes with delegate actions must use a prefix matcher",
        _ => "invalid route: routes with delegate actions must omit or specify a single matcher",
    };
    Err(Trouble::Error(text.to_owned()))
}

fn smallest(matchers: &[Matcher]) -> Matcher {
    let smallest = matchers.iter().min_by(|a, b| a.order(b));
    smallest.cloned().unwrap_or_else(Matcher::all)
}
