//! One rule: what of it a rule of an HTTPRoute says, and what a policy.

use std::collections::BTreeSet;
use std::sync::Arc;

use routing::model::{
    Action, BackendId, FilterSet, Filters, Guards, Match, Respond, Route, RouteId, Split,
    Visibility,
};
use serde_json::{Map, Value, json};

use super::door::Door;
use super::scheme::{NO_HTTPS, Served};
use super::{Role, Verdict, Writer, filter, hoist, matching, service};
use crate::backend::BackendRef;
use crate::foreign::BackendSpec;
use crate::traffic_policy::write::{self, Missing, Place};

/// Parts without which a rule would let in whom it keeps out, or do something else.
const NEEDED: [&str; 6] = [
    "guards.tokens",
    "guards.authorization",
    "guards.credentials",
    "guards.external",
    "filters.rewrite_path",
    "action",
];

/// A rule that can be written.
pub(super) struct Rule<'i> {
    pub(super) id: &'i RouteId,
    pub(super) route: &'i Arc<Route>,
    pub(super) value: Value,
    /// Sections of the policy for it.
    pub(super) policy: Map<String, Value>,
    /// What it counts in.
    pub(super) buckets: BTreeSet<Arc<str>>,
    pub(super) matches: Vec<Match>,
    pub(super) backends: Vec<BackendId>,
    /// Where it is served, and what of the requests there.
    pub(super) doors: Vec<Door>,
    pub(super) scheme: Option<&'static str>,
    pub(super) role: Role,
}

impl Rule<'_> {
    /// Rules with the same one may have one policy.
    pub(super) fn identity(&self) -> String {
        let policy = serde_json::to_string(&self.policy).unwrap_or_default();
        format!("{policy} {:?}", self.buckets)
    }
}

impl<'i> Writer<'i> {
    /// The rule, and what redirects to it.
    ///
    /// # Errors
    /// Why it is left out.
    pub(super) fn rules(
        &mut self,
        id: &'i RouteId,
        route: &'i Arc<Route>,
    ) -> Result<Vec<Rule<'i>>, String> {
        if route.visibility == Visibility::ClusterLocal && !self.is_ours {
            return Err("it is served inside of the cluster alone".to_owned());
        }
        let served = self.served(route)?;
        if served.doors.is_empty() {
            return Err(NO_HTTPS.to_owned());
        }
        self.tell_preamble(&route.origin, route.bind.as_ref());
        let redirect = redirect(id, route, &served)?;
        let rule = self.rule(id, route, served)?;
        Ok(std::iter::once(rule).chain(redirect).collect())
    }

    /// # Errors
    /// Why it is left out.
    fn rule(
        &mut self,
        id: &'i RouteId,
        original: &'i Arc<Route>,
        served: Served,
    ) -> Result<Rule<'i>, String> {
        let route = &hoist::hoisted(original);
        let matches = matching::plain(&served.matches)?;
        let mut value = Map::new();
        if !matches.is_empty() {
            let matches: Vec<_> = matches.iter().map(matching::written).collect();
            value.insert("matches".to_owned(), matches.into());
        }
        let mut filters = filter::headers("RequestHeaderModifier", &route.request_headers);
        let written = filter::filters(route, self)?;
        filters.extend(written.filters);
        let mut rest = written.rest;
        let mut answer = None;
        let mut backends = Vec::new();
        match &route.action {
            // Plain HTTP does not reach it.
            Action::Forward(split) | Action::ForwardSecure(split) => {
                backends = self.forward(route, split, &mut value)?;
            }
            Action::Redirect(redirect) => {
                let (filter, changed) = filter::redirect(redirect, route)?;
                filters.push(filter);
                if let Some(text) = changed {
                    self.note(&route.origin, Verdict::Changed, "action", text);
                }
            }
            Action::Respond(respond) => answer = Some(respond),
        }
        self.limits(&mut rest, &mut value);
        let policy = self.policy(route, &rest, answer)?;
        if !filters.is_empty() {
            value.insert("filters".to_owned(), filters.into());
        }
        Ok(Rule {
            id,
            route: original,
            value: Value::Object(value),
            policy,
            buckets: rest.guards.as_deref().map(buckets).unwrap_or_default(),
            matches,
            backends,
            doors: served.doors,
            scheme: served.scheme,
            role: Role::Kept,
        })
    }

    /// In place of a rule that is left out: without backends it answers 500, so that its requests
    /// do not reach a rule that protects less. Plain HTTP is redirected where it was.
    pub(super) fn blocked(&self, id: &'i RouteId, route: &'i Arc<Route>) -> Vec<Rule<'i>> {
        let is_local = route.visibility == Visibility::ClusterLocal;
        if is_local && !self.is_ours {
            return Vec::new();
        }
        let Ok(served) = self.served(route) else {
            return Vec::new();
        };
        let redirect = redirect(id, route, &served).ok().flatten();
        let blocked = bare(id, route, &served.matches).ok();
        let blocked = blocked.filter(|_| !served.doors.is_empty());
        let blocked = blocked.map(|rule| Rule {
            doors: served.doors,
            scheme: served.scheme,
            ..rule
        });
        blocked.into_iter().chain(redirect).collect()
    }

    /// Sections for what no rule says; what they do not say either is told.
    fn policy(
        &mut self,
        route: &Route,
        rest: &Filters,
        answer: Option<&Respond>,
    ) -> Result<Map<String, Value>, String> {
        let input = self.input;
        let service = |id: &BackendId| {
            let (reference, spec) = input.backends.get(id)?;
            let is_plain = spec
                .as_deref()
                .is_none_or(|spec| *spec == Default::default());
            // Over gRPC it is asked over HTTP/2 in any case.
            let is_usual = reference.variant.is_none() && reference.stream.is_none();
            (is_plain && is_usual).then_some(reference)
        };
        let place = Place {
            namespace: &route.origin.namespace,
            service: &service,
            is_known: self.is_ours,
        };
        let written = write::of_route(rest, answer, &place);
        let needed = |missing: &&Missing| NEEDED.contains(&missing.part);
        if let Some(missing) = written.missing.iter().find(needed) {
            return Err(format!("{}: {}", called(missing.part), missing.why));
        }
        for missing in &written.missing {
            let text = format!("{}: {}", called(missing.part), missing.why);
            self.note(&route.origin, Verdict::Lost, missing.part, &text);
        }
        Ok(written.spec)
    }

    fn limits(&mut self, rest: &mut Filters, value: &mut Map<String, Value>) {
        let limits = filter::timeouts(rest);
        if !limits.is_empty() {
            value.insert("timeouts".to_owned(), Value::Object(limits));
        }
        // A policy says more exactly when.
        let retry = rest.retry.as_deref().filter(|_| !self.is_ours);
        if let Some(retry) = retry.and_then(filter::retry) {
            value.insert("retry".to_owned(), retry);
            rest.retry = None;
        }
    }

    /// The backends that it sends to.
    fn forward(
        &mut self,
        route: &Route,
        split: &Split,
        value: &mut Map<String, Value>,
    ) -> Result<Vec<BackendId>, String> {
        let mut references = Vec::new();
        if split.arms().iter().any(|arm| arm.grpc_web) {
            let text = "clients that speak gRPC-Web: Gateway API has no place for them, and this \
                        gateway translates for GRPCRoutes; write one for the methods that they call";
            self.note(&route.origin, Verdict::Lost, "grpc_web", text);
        }
        for arm in split.arms() {
            if arm.instead.is_some() {
                return Err("a share of the requests is answered or redirected".to_owned());
            }
            let mut reference = self.reference(route, &arm.backend)?;
            reference["weight"] = arm.weight.into();
            let mut filters = filter::headers("RequestHeaderModifier", &arm.request_headers);
            let response = &arm.filters.response_headers;
            filters.extend(filter::headers("ResponseHeaderModifier", response));
            let others = Filters::from(FilterSet {
                response_headers: Default::default(),
                ..FilterSet::clone(&arm.filters)
            });
            if !others.is_empty() {
                return Err(
                    "a share of the requests is changed otherwise than in headers".to_owned(),
                );
            }
            if !filters.is_empty() {
                reference["filters"] = json!(filters);
            }
            references.push(reference);
        }
        value.insert("backendRefs".to_owned(), json!(references));
        let arms = split.arms().iter();
        Ok(arms.map(|arm| arm.backend.clone()).collect())
    }

    /// A Service as a route names it.
    pub(super) fn reference(&mut self, route: &Route, id: &BackendId) -> Result<Value, String> {
        let BackendRef {
            service,
            port,
            stream,
            ..
        } = reference(self.input, id)?;
        if stream.is_some() {
            return Err(format!("{id} is not spoken to over HTTP"));
        }
        let spec = spec_of_service(self.input, id)?;
        if spec.is_some_and(|spec| {
            spec.tls
                .as_deref()
                .is_some_and(|tls| !service::is_plain(tls))
        }) {
            return Err(format!(
                "connections to {id} are encrypted, with who is trusted, shown or allowed as no BackendTLSPolicy can be written here: write one and the rule"
            ));
        }
        self.let_send(&route.origin.namespace, "HTTPRoute", service);
        Ok(json!({"name": service.name, "namespace": service.namespace, "port": port}))
    }
}

/// What sends plain HTTP to where the rule is.
fn redirect<'i>(
    id: &'i RouteId,
    route: &'i Arc<Route>,
    served: &Served,
) -> Result<Option<Rule<'i>>, String> {
    if served.redirected.is_empty() {
        return Ok(None);
    }
    let mut rule = bare(id, route, &served.matches)?;
    let redirect = json!({"scheme": "https", "statusCode": 301});
    rule.value["filters"] = json!([{"type": "RequestRedirect", "requestRedirect": redirect}]);
    rule.doors.clone_from(&served.redirected);
    rule.scheme = Some("http");
    rule.role = Role::Redirect;
    Ok(Some(rule))
}

/// A rule that matches and does nothing yet.
fn bare<'i>(id: &'i RouteId, route: &'i Arc<Route>, matches: &[Match]) -> Result<Rule<'i>, String> {
    let matches = matching::plain(matches)?;
    let written: Vec<_> = matches.iter().map(matching::written).collect();
    Ok(Rule {
        id,
        route,
        value: if written.is_empty() {
            json!({})
        } else {
            json!({"matches": written})
        },
        policy: Map::new(),
        buckets: BTreeSet::new(),
        matches,
        backends: Vec::new(),
        doors: Vec::new(),
        scheme: None,
        role: Role::Blocked,
    })
}

/// What is said about a backend, which must be all pods of a Service.
pub(super) fn spec_of_service<'i>(
    input: &'i super::Input,
    id: &BackendId,
) -> Result<Option<&'i BackendSpec>, String> {
    let spec = input.backends.get(id).and_then(|(_, spec)| spec.as_deref());
    let Some(said) = spec else { return Ok(None) };
    let what = match (said.hosts.is_empty(), said.labels.is_empty()) {
        (true, true) => return Ok(spec),
        (true, false) => "only some pods of the Service",
        (false, _) => "hosts outside of the cluster",
    };
    Err(format!("{id} is {what}: make a Service of it first"))
}

/// The Service behind a backend.
pub(super) fn reference<'i>(
    input: &'i super::Input,
    id: &BackendId,
) -> Result<&'i BackendRef, String> {
    let found = input.backends.get(id).map(|(reference, _)| reference);
    found.ok_or_else(|| format!("{id} is no Service"))
}

/// Identities of what is counted.
fn buckets(guards: &Guards) -> BTreeSet<Arc<str>> {
    let limits = guards.rate_limits.iter().map(|it| &it.id);
    let breakers = guards.breakers.iter().map(|it| &it.id);
    let quotas = guards.quotas.iter().map(|it| &it.id);
    let concurrency = guards.concurrency.iter().map(|it| &it.id);
    let ramps = guards.ramps.iter().map(|it| &it.id);
    let all = limits.chain(breakers).chain(quotas).chain(concurrency);
    let flights = guards.flights.iter().map(|it| &it.id);
    let all = all.chain(ramps).chain(flights);
    all.cloned().collect()
}

/// A part of the model in words.
pub(super) fn called(part: &str) -> &str {
    match part {
        "guards.fault" => "fault injection",
        "guards.tokens" => "JSON Web Tokens",
        "guards.authorization" => "authorization",
        "guards.credentials" => "credentials",
        "guards.external" => "external authorization",
        "guards.rate_limits" => "rate limits",
        "guards.limit_services" => "limits of a rate limit service",
        "guards.breakers" => "circuit breakers",
        "guards.quotas" => "quotas",
        "guards.flights" => "limits of requests in flight",
        "guards.concurrency" => "adaptive concurrency",
        "guards.ramps" => "load ramps",
        "guards.max_body" => "the limit of the body",
        "guards.no_upgrade" => "the refusal of upgrades",
        "filters.cookies" => "changes of cookies",
        "filters.cors" => "CORS",
        "filters.timeouts" => "timeouts",
        "filters.retry" => "retries",
        "filters.client" => "who may say the client's address",
        "filters.telemetry" => "what lines and spans tell",
        "filters.rewrite_path" => "the change of the path",
        "filters.rewrites" => "other statuses and bodies of answers",
        "filters.templates" => "headers whose values depend on the request",
        "backend.balancer" => "the balancer",
        "backend.slow_start" => "slow start",
        "backend.outliers" => "outlier ejection",
        "backend.connections" => "limits of connections",
        "backend.retry_budget" => "the budget of retries",
        "backend.locality" => "locality",
        "backend.timeouts" => "times for answers",
        "backend.health_check" => "health checks",
        "backend.proxy_protocol" => "the PROXY protocol",
        "action" => "an answer of its own",
        other => other,
    }
}
