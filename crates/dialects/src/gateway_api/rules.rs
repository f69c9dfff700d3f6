//! What all kinds of routes have in common: rules, their order, and the records that they become.
//!
//! One record per match of a rule and per bind. Its id is `KIND ns/name RR.MM BIND`, and ids are
//! compared as text, so that what ties otherwise is in the API's order: by name, then by rule.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use api::gateway::filter::Filter;
use api::gateway::reason;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use routing::BindId;
use routing::model::{
    Action, HostPattern, Match, Origin, Retry, RouteId, Session, SortKey, Visibility,
};

use super::attach::{self, Applicant, Hosts, Places};
use super::backends::{Resolver, Wanted};
use super::filters::{self, Changes};
use super::http::unsupported;
use super::mesh;
use super::plan::{Finding, RouteKind};
use super::{ParentOutcome, RouteTranslation, shared};
use crate::apisix::route_policy::{self, Conditions, Target};
use crate::gloo::attached::{self, Place};
use crate::gloo::target::Listener;
use crate::objects::{Name, Objects, Reader};
use crate::overlay;
use crate::traffic_policy::{self, TargetKind};

/// A route of any kind.
pub(super) struct Route<'r> {
    pub(super) applicant: Applicant<'r>,
    pub(super) metadata: &'r ObjectMeta,
    pub(super) rules: Vec<Rule<'r>>,
}

/// A rule of any kind of route.
pub(super) struct Rule<'r> {
    /// One of these must hold.
    pub(super) alternatives: Vec<Result<Alternative, Finding>>,
    pub(super) filters: &'r [Filter],
    pub(super) backends: Vec<Wanted<'r>>,
    pub(super) limits: Result<Limits, Finding>,
    /// What the rule asks for and does not get, though it is served.
    pub(super) ignored: Option<String>,
    pub(super) session: Option<Session>,
    pub(super) name: Option<&'r str>,
}

/// One match.
#[derive(Clone)]
pub(super) struct Alternative {
    pub(super) matches: Match,
    /// The path prefix, for filters that replace it.
    pub(super) prefix: Option<Arc<str>>,
    /// Compared before the route's age.
    pub(super) precedence: Vec<i64>,
}

impl Alternative {
    /// Matches every request.
    pub(super) fn everything() -> Self {
        Self {
            matches: Match::default(),
            prefix: Some("/".into()),
            precedence: vec![2, -1, 1, 0, 0],
        }
    }
}

impl Alternative {
    /// The same with what APISIX's policies say: their priority decides among equal paths.
    fn narrowed(&self, conditions: &Conditions) -> Self {
        let mut narrowed = self.clone();
        let mut matches = vec![narrowed.matches];
        conditions.narrow(&mut matches);
        narrowed.matches = matches.pop().unwrap_or_default();
        if let Some(after_path) = narrowed.precedence.get_mut(2) {
            *after_path -= conditions.priority * WIDER;
        }
        narrowed
    }
}

/// Limits of a rule.
#[derive(Clone, Debug, Default)]
pub(super) struct Limits {
    pub(super) request: Option<Duration>,
    pub(super) one_try: Option<Duration>,
    pub(super) retry: Option<Retry>,
}

/// More than any first part of a precedence: routes with narrower hostnames come before it.
const WIDER: i64 = 1 << 20;

/// The hosts with the same nearness together.
pub(super) fn by_nearness(hosts: &Hosts) -> BTreeMap<i64, BTreeSet<HostPattern>> {
    let mut groups: BTreeMap<i64, BTreeSet<HostPattern>> = BTreeMap::new();
    for (host, wider) in hosts {
        groups.entry(*wider).or_default().insert(host.clone());
    }
    groups
}

fn record_id(
    kind: &str,
    name: &Name,
    (rule, number): (usize, usize),
    bind: &BindId,
    wider: i64,
) -> Arc<str> {
    let id = format!("{kind} {name} {rule:02}.{number:02} {bind}");
    match wider {
        0 => id.into(),
        wider => format!("{id} +{wider}").into(),
    }
}

/// Translates a route against the Gateways that it names.
pub(super) fn translate(route: Route<'_>, objects: &Objects) -> RouteTranslation {
    let reader = Reader::new(objects);
    let places = attach::attach(&route.applicant, &reader);
    if places.parents.is_empty() {
        return RouteTranslation {
            reads: reader.into_read(),
            ..RouteTranslation::default()
        };
    }
    let mut translator = Translator {
        resolver: Resolver::new(&reader, &route.applicant, places.are_services()),
        out: RouteTranslation::default(),
        dropped: Vec::new(),
        notes: Vec::new(),
        served: 0,
        route: &route,
        places: &places,
    };
    if !places.binds.is_empty() && !route.applicant.hostnames.is_empty() {
        let text = "spec.hostnames are not looked at in calls to Services".to_owned();
        translator.notes.push(text);
    }
    for (at, rule) in route.rules.iter().enumerate() {
        translator.rule(at, rule);
    }
    let mut out = translator.finish();
    out.reads = reader.into_read();
    out
}

struct Translator<'t, 'o> {
    route: &'t Route<'t>,
    places: &'t Places,
    resolver: Resolver<'t, 'o>,
    out: RouteTranslation,
    /// Why rules are not served.
    dropped: Vec<Finding>,
    notes: Vec<String>,
    /// Rules that are served.
    served: usize,
}

impl Translator<'_, '_> {
    fn rule(&mut self, at: usize, rule: &Rule<'_>) {
        self.notes.extend(rule.ignored.clone());
        let conditions = match self.conditions(at, rule) {
            Ok(conditions) => conditions,
            Err(finding) => return self.dropped.push(finding),
        };
        let alternatives: Result<Vec<_>, _> =
            rule.alternatives.iter().map(Result::as_ref).collect();
        let alternatives = match alternatives {
            Ok(alternatives) => alternatives,
            // Nobody can say which requests the rule is for: none.
            Err(finding) => return self.dropped.push(finding.clone()),
        };
        let mut broken = rule.limits.as_ref().err().cloned();
        for (number, alternative) in alternatives.into_iter().enumerate() {
            let narrowed = conditions.as_ref().map(|it| alternative.narrowed(it));
            let alternative = narrowed.as_ref().unwrap_or(alternative);
            for client in self.places.clients() {
                self.resolver.come_from(client);
                let limits = rule.limits.clone().unwrap_or_default();
                let translated = self.action(at, rule, alternative, limits);
                let (changes, action) = translated.unwrap_or_else(|finding| {
                    broken = Some(finding);
                    (Changes::default(), filters::failure())
                });
                let made = (&changes, &action);
                if let Err(finding) = self.records((at, number), alternative, client, made) {
                    broken = Some(finding);
                }
            }
        }
        match broken {
            Some(finding) => self.dropped.push(finding),
            None => self.served += 1,
        }
    }

    /// What policies of APISIX say of an HTTPRoute's rule, if they say anything.
    fn conditions(&self, at: usize, rule: &Rule<'_>) -> Result<Option<Conditions>, Finding> {
        let applicant = &self.route.applicant;
        if applicant.kind != RouteKind::Http {
            return Ok(None);
        }
        let target = (Target::HttpRoute, applicant.name);
        let said = route_policy::of(self.resolver.reader(), target, rule.name);
        let said = said.map_err(|text| {
            Finding::new(
                reason::UNSUPPORTED_VALUE,
                format!("spec.rules[{at}]: {text}"),
            )
        })?;
        Ok((said != Conditions::default()).then_some(said))
    }

    fn action(
        &mut self,
        at: usize,
        rule: &Rule<'_>,
        alternative: &Alternative,
        limits: Limits,
    ) -> Result<(Changes, Action), Finding> {
        let field = format!("spec.rules[{at}]");
        let prefix = alternative.prefix.as_ref();
        let mut changes = filters::translate(rule.filters, prefix, &mut self.resolver, &field)?;
        changes.filters.request_timeout = limits.request;
        changes.filters.try_timeout = limits.one_try;
        changes.filters.retry = limits.retry.map(Arc::new);
        let action = match (changes.respond.take(), changes.redirect.take()) {
            (Some(respond), _) => Action::Respond(respond),
            (None, Some(redirect)) => Action::Redirect(redirect),
            (None, None) => {
                self.resolver.keep(rule.session.as_ref());
                let action = self.resolver.split(&rule.backends, prefix, &field);
                self.resolver.keep(None);
                match action? {
                    Action::Forward(split) if changes.to_https => Action::ForwardSecure(split),
                    other => other,
                }
            }
        };
        Ok((changes, action))
    }

    /// One record per bind of the Gateways that show this certificate to backends, or none.
    fn records(
        &mut self,
        (rule, number): (usize, usize),
        alternative: &Alternative,
        client: Option<&Name>,
        (changes, action): (&Changes, &Action),
    ) -> Result<(), Finding> {
        let mut result = Ok(());
        let applicant = &self.route.applicant;
        let kind = applicant.kind.name();
        let hosts = self.places.hosts.iter();
        for (bind, hosts) in hosts.filter(|(bind, _)| self.places.clients.get(*bind) == client) {
            let reader = self.resolver.reader();
            let (hosts, taken) = shared::own_hosts(bind, hosts, self.route.metadata, reader);
            self.notes.extend(taken);
            if hosts.is_empty() {
                continue;
            }
            for (wider, hosts) in &by_nearness(&hosts) {
                for (listener, hosts) in &self.places.by_listener(bind, hosts) {
                    let mut id =
                        record_id(kind, applicant.name, (rule, number), bind, *wider).to_string();
                    if let Some(listener) = listener {
                        id.push_str(&format!(" of {listener}"));
                    }
                    let mut record =
                        self.record((rule, number), alternative, (bind, hosts, *wider));
                    match self.optioned((rule, listener), alternative, changes) {
                        Ok(changes) => {
                            record.request_headers = changes.request_headers;
                            record.filters = changes.filters;
                            record.action = action.clone();
                        }
                        Err(finding) => result = Err(finding),
                    }
                    let reader = self.resolver.reader();
                    self.policies(hosts).apply(&mut record, reader);
                    self.attached(&mut record);
                    shared::place(&mut record);
                    if let Some(callers) = self.places.callers(bind) {
                        mesh::confine(&mut record, callers);
                    }
                    self.out.routes.push((RouteId(id.into()), Arc::new(record)));
                }
            }
        }
        result
    }

    /// A rule's changes with what Gloo's options say over them, at one listener.
    fn optioned(
        &mut self,
        (rule, listener): (usize, &Option<&Listener>),
        alternative: &Alternative,
        changes: &Changes,
    ) -> Result<Changes, Finding> {
        let mut changes = changes.clone();
        let applicant = &self.route.applicant;
        let field = format!("spec.rules[{rule}]");
        let place = Place {
            route: applicant.name,
            is_http: applicant.kind == RouteKind::Http,
            named: &changes.options,
            path: alternative.matches.path.as_ref(),
            listener: *listener,
            id: format!("{}/{field}", self.resolver.owner()),
        };
        let reader = self.resolver.reader();
        let (headers, filters) = (&mut changes.request_headers, &mut changes.filters);
        let attached = attached::apply(reader, &place, headers, filters);
        let attached = attached.map_err(|text| unsupported(&field, &text))?;
        let notes = attached.notes.into_iter();
        self.notes
            .extend(notes.map(|note| format!("{field}: {note}")));
        self.out.specs.extend(attached.backends);
        Ok(changes)
    }

    /// What is asked of requests for these hosts.
    fn policies(&self, hosts: &BTreeSet<HostPattern>) -> overlay::Policies {
        let gateways: Vec<_> = self.places.gateways.iter().cloned().collect();
        overlay::of_hosts(self.resolver.reader(), hosts, &gateways)
    }

    /// What TrafficPolicies for the route and its Gateways say.
    fn attached(&self, record: &mut routing::model::Route) {
        let applicant = &self.route.applicant;
        let kind = match applicant.kind {
            RouteKind::Http => TargetKind::HttpRoute,
            RouteKind::Grpc => TargetKind::GrpcRoute,
            RouteKind::Tls | RouteKind::Tcp | RouteKind::Udp => return,
        };
        let gateways: Vec<_> = self.places.gateways.iter().cloned().collect();
        let target = (kind, applicant.name);
        let ask = |name: &Name, port, http2| self.resolver.asked_by_policy(name, port, http2);
        traffic_policy::apply_to_route(self.resolver.reader(), target, &gateways, record, &ask);
    }

    fn record(
        &self,
        (rule, number): (usize, usize),
        alternative: &Alternative,
        (bind, hosts, wider): (&BindId, &BTreeSet<HostPattern>, i64),
    ) -> routing::model::Route {
        let (applicant, metadata) = (&self.route.applicant, self.route.metadata);
        let created = metadata.creation_timestamp.as_ref();
        let mut key = alternative.precedence.clone();
        if let Some(first) = key.first_mut() {
            *first += wider * WIDER;
        }
        key.push(created.map_or(i64::MAX, |time| time.0.as_second()));
        let is_everything = alternative.matches == Match::default();
        routing::model::Route {
            origin: Origin {
                dialect: "gateway-api",
                kind: applicant.kind.name().into(),
                namespace: Arc::clone(&applicant.name.namespace),
                name: Arc::clone(&applicant.name.name),
                uid: metadata.uid.as_deref().unwrap_or_default().into(),
                generation: metadata.generation.unwrap_or_default(),
                field: format!("spec.rules[{rule}].matches[{number}]").into(),
            },
            bind: Some(bind.clone()),
            visibility: Visibility::External,
            hosts: hosts.iter().cloned().collect(),
            sort_key: SortKey(key),
            matches: if is_everything {
                Vec::new()
            } else {
                vec![alternative.matches.clone()]
            },
            request_headers: Default::default(),
            rewrite_host: None,
            filters: Default::default(),
            action: filters::failure(),
        }
    }

    /// What is said to every parent.
    fn finish(mut self) -> RouteTranslation {
        let unresolved = self.resolver.finding();
        let all_dropped = self.served == 0 && !self.dropped.is_empty();
        let refused = self.dropped.first().filter(|_| all_dropped).cloned();
        let partial = if all_dropped {
            None
        } else if let Some(first) = self.dropped.first() {
            let text = format!("Dropped Rule: {}", first.message);
            Some(Finding::new(first.reason, text))
        } else {
            self.notes
                .first()
                .map(|note| Finding::new(reason::UNSUPPORTED_VALUE, format!("Fall Back: {note}")))
        };
        let outcome = |attached: &attach::Attached| ParentOutcome {
            parent: attached.parent.clone(),
            controller: Arc::clone(&attached.controller),
            refused: attached.refused.clone().or_else(|| refused.clone()),
            unresolved: unresolved.clone(),
            partial: partial.clone().filter(|_| attached.refused.is_none()),
        };
        self.out.parents = self.places.parents.iter().map(outcome).collect();
        if refused.is_none() {
            self.out.attached = self.places.listeners.clone();
            self.out.attached_sets = self.places.sets.clone();
            self.out.binds = self.places.binds.clone();
            let governed = self.resolver.governed().iter();
            self.out.governed = governed
                .flat_map(|service| {
                    let gateways = self.places.gateways.iter();
                    gateways.map(move |gateway| (service.clone(), gateway.clone()))
                })
                .collect();
        }
        self.out.backends = self.resolver.into_backends();
        self.out.backends.extend(self.out.specs.keys().cloned());
        if refused.is_some() {
            // A route that is not accepted is served nowhere.
            self.out.routes.clear();
            self.out.backends.clear();
            self.out.specs.clear();
        }
        self.out
    }
}
