//! One entry of `routes`: read whole, then judged in Contour's order. The first thing that is
//! wrong takes the whole object out of service, as in Contour; a missing Service only itself.

use std::sync::Arc;

use routing::model::{
    Authorization, CookieEdit, FilterSet, HealthCheck, Mirror, Respond, Share, Split,
};

use super::balance::{self, Balancing};
use super::condition::{self, Condition, PathKind};
use super::guard::{self, Limits};
use super::plan::{self, AuthorizationChoice, Planned, Planning};
use super::policy::{self, Elsewhere, Retries, Times};
use super::service::{self, Service, Way};
use super::status::{Judgement, Problem, Told, kind};
use super::walk::Facts;
use super::{DIALECT, cookie, header};
use crate::fields::Fields;
use crate::foreign::Object;

/// A route as it is written.
pub(super) struct RouteSpec {
    pub(super) field: String,
    pub(super) conditions: Vec<Condition>,
    services: Vec<Service>,
    redirect: Option<Result<Elsewhere, String>>,
    direct: Option<Respond>,
    websockets: bool,
    permit_insecure: bool,
    authorization: AuthorizationChoice,
    times: Result<Times, String>,
    retries: Retries,
    health: Option<Result<HealthCheck, String>>,
    balancing: Balancing,
    replacements: Vec<(Arc<str>, Arc<str>)>,
    request: Result<header::Policy, String>,
    response: Result<header::Policy, String>,
    cookies: Result<Option<Arc<[CookieEdit]>>, String>,
    limits: Result<Limits, String>,
    require: Option<String>,
    no_tokens: bool,
    addresses: Told<Option<Authorization>>,
}

impl RouteSpec {
    pub(super) fn read(fields: &Fields<'_>, object: &Object) -> Self {
        let namespace = &*object.name.namespace;
        let services = fields.objects("services").into_iter();
        let headers = |key, may_set_host| {
            fields.object(key).map_or_else(
                || Ok(header::Policy::default()),
                |fields| header::read(&fields, may_set_host, &[("CONTOUR_NAMESPACE", namespace)]),
            )
        };
        let limit = fields.object("rateLimitPolicy");
        let limit_id = format!("{DIALECT}/{}/{}", object.name, fields.at("rateLimitPolicy"));
        let redirect = fields.object("requestRedirectPolicy");
        let tokens = fields.object("jwtVerificationPolicy");
        let require = tokens
            .as_ref()
            .and_then(|it| it.text("require"))
            .map(str::to_owned);
        let no_tokens = tokens.as_ref().and_then(|it| it.bool("disabled"));
        not_served(fields);
        Self {
            field: fields.path().to_owned(),
            conditions: condition::read(fields, "conditions"),
            services: services.map(|it| Service::read(&it, namespace)).collect(),
            redirect: redirect.map(|it| Elsewhere::read(&it)),
            direct: fields
                .object("directResponsePolicy")
                .map(|it| policy::answer(&it)),
            websockets: fields.bool("enableWebsockets").unwrap_or(false),
            permit_insecure: fields.bool("permitInsecure").unwrap_or(false),
            authorization: choice(fields.object("authPolicy").as_ref()),
            times: policy::times(fields.object("timeoutPolicy").as_ref()),
            retries: fields
                .object("retryPolicy")
                .map_or_else(Retries::default, |it| policy::retries(&it)),
            health: fields
                .object("healthCheckPolicy")
                .map(|it| balance::health(&it)),
            balancing: fields
                .object("loadBalancerPolicy")
                .map_or_else(Balancing::default, |it| Balancing::read(&it)),
            replacements: replacements(fields),
            request: headers("requestHeadersPolicy", true),
            response: headers("responseHeadersPolicy", false),
            cookies: cookie::read(fields),
            limits: limit.map_or_else(|| Ok(Limits::default()), |it| guard::limits(&it, &limit_id)),
            require,
            no_tokens: no_tokens.unwrap_or(false),
            addresses: guard::addresses(fields, &object.name),
        }
    }

    fn problem(&self, reason: &'static str, text: impl Into<String>) -> Problem {
        Problem::new(kind::ROUTE, reason, &self.field, text)
    }

    /// The route below these conditions, which end with its own.
    pub(super) fn plan(
        &self,
        object: &Object,
        conditions: &[Condition],
        facts: &mut Facts<'_, '_>,
        judgement: &mut Judgement,
    ) -> Told<Planned> {
        self.check_action()?;
        let path = condition::check_paths(&self.conditions);
        path.map_err(|text| self.problem("PathMatchConditionsNotValid", format!("route: {text}")))?;
        check_matches(conditions, &self.field)?;
        let merged = condition::merge(conditions);
        let request = self.request.clone().map_err(|text| {
            self.problem(
                "RequestHeadersPolicyInvalid",
                format!("{text} on request headers"),
            )
        })?;
        let response = self.response.clone().map_err(|text| {
            self.problem(
                "ResponseHeaderPolicyInvalid",
                format!("{text} on response headers"),
            )
        })?;
        let cookies = self.cookies.clone().map_err(|text| {
            self.problem(
                cookie::INVALID,
                format!("{text} on route cookie rewrite rules"),
            )
        })?;
        let times = self.times.clone().map_err(|text| {
            let text = format!("route.timeoutPolicy failed to parse: {text}");
            self.problem("TimeoutPolicyNotValid", text)
        })?;
        let limits = self.limits.clone().map_err(|text| {
            let text = format!("route.rateLimitPolicy is invalid: {text}");
            self.problem("RateLimitPolicyNotValid", text)
        })?;
        self.balancing
            .warnings
            .iter()
            .for_each(|one| judgement.warn(one.clone()));
        let mut planned = Planned {
            id: self.field.trim_start_matches("spec.").to_owned(),
            origin: object.origin(&self.field),
            conditions: merged,
            replacement: None,
            request_headers: request.ops,
            rewrite_host: request.host,
            filters: FilterSet {
                response_headers: response.ops,
                cookies,
                request_timeout: times.response,
                try_timeout: self.retries.try_timeout,
                retry: self.retries.retry.clone(),
                request_templates: request.templates,
                response_templates: response.templates,
                ..FilterSet::default()
            }
            .into(),
            no_upgrade: !self.websockets,
            limits,
            addresses: None,
            provider: None,
            authorization: self.authorization.clone(),
            secure_only: facts.enforces_tls(self.permit_insecure),
            action: Planning::Respond(policy::respond(503, "")),
        };
        let redirect = self.redirect.clone().transpose().map_err(|text| {
            let text = format!("route.requestRedirectPolicy is invalid: {text}");
            self.problem("RequestRedirectPolicy", text)
        })?;
        planned.replacement = self.replacement(&planned)?;
        self.services(&mut planned, &times, facts, judgement)?;
        if let Some(redirect) = redirect {
            planned.action = Planning::Redirect(redirect);
        } else if let Some(direct) = &self.direct {
            planned.action = Planning::Respond(direct.clone());
        }
        planned.provider = self.provider(facts)?;
        planned.addresses = self.addresses.clone()?;
        Ok(planned)
    }

    fn check_action(&self) -> Told<()> {
        let actions = [
            !self.services.is_empty(),
            self.redirect.is_some(),
            self.direct.is_some(),
        ];
        if actions.iter().filter(|is_set| **is_set).count() == 1 {
            return Ok(());
        }
        let text = "must set exactly one of route.services or route.requestRedirectPolicy or \
                    route.directResponsePolicy";
        Err(self.problem("RouteActionCountNotValid", text))
    }

    fn replacement(&self, planned: &Planned) -> Told<Option<Arc<str>>> {
        if self.replacements.is_empty() {
            return Ok(None);
        }
        let problem = |reason, text: String| {
            let field = format!("{}.pathRewritePolicy", self.field);
            Problem::new(kind::PREFIX_REPLACE, reason, &field, text)
        };
        let path = &planned.conditions.path;
        if path.kind != PathKind::Prefix {
            let text = "cannot specify prefix replacements without a prefix condition";
            return Err(problem("MustHavePrefix", text.to_owned()));
        }
        let check = plan::check_replacements(&self.replacements);
        check.map_err(|(reason, text)| problem(reason, text))?;
        Ok(plan::replacement_for(path, &self.replacements))
    }

    fn services(
        &self,
        planned: &mut Planned,
        times: &Times,
        facts: &mut Facts<'_, '_>,
        judgement: &mut Judgement,
    ) -> Told<()> {
        let health = self.health.clone().transpose();
        let health = health.map_err(|text| self.problem("HealthCheckPolicyInvalid", text))?;
        let way = Way {
            balancing: &self.balancing,
            times,
            health: health.as_ref(),
            host: planned.rewrite_host.as_ref(),
        };
        let mut arms = Vec::new();
        for service in &self.services {
            let port = u16::try_from(service.port).ok().filter(|port| *port > 0);
            let Some(port) = port else {
                let name = &service.name.name;
                let text = format!("service {name:?}: port must be in the range 1-65535");
                return Err(service.problem("ServicePortInvalid", text));
            };
            let target = match service::find(facts.backends.reader, &service.name, port) {
                Ok(target) => target,
                Err(error) => {
                    let text = format!("Spec.Routes unresolved service reference: {error}");
                    judgement.error(service.problem("ServiceUnresolvedReference", text));
                    continue;
                }
            };
            let arm = service.arm(target, &way, &mut facts.backends)?;
            if !service.mirror {
                arms.push(arm);
            } else if planned.filters.mirrors.is_empty() {
                let percent = if service.weight == 0 {
                    100
                } else {
                    service.weight
                };
                planned.filters.mirrors.push(Mirror {
                    backend: arm.backend,
                    share: Share::new(percent, 100).unwrap_or(Share::ALL),
                });
            } else {
                let text = "only one service per route may be nominated as mirror";
                return Err(service.problem("OnlyOneMirror", text));
            }
        }
        if arms.iter().all(|arm| arm.weight == 0) {
            arms.iter_mut().for_each(|arm| arm.weight = 1);
        }
        if let Some(split) = Split::new(arms) {
            planned.action = Planning::Forward(split);
        }
        Ok(())
    }

    fn provider(&self, facts: &Facts<'_, '_>) -> Told<Option<String>> {
        match (&self.require, self.no_tokens) {
            (Some(_), true) => {
                let text = "route's JWT verification policy cannot specify both require and \
                            disabled";
                let field = format!("{}.jwtVerificationPolicy", self.field);
                let reason = "InvalidJWTVerificationPolicy";
                Err(Problem::new(kind::JWT, reason, &field, text))
            }
            (Some(name), false) => Ok(Some(name.clone())),
            (None, true) => Ok(None),
            (None, false) => Ok(facts.default_provider.clone()),
        }
    }
}

/// Headers and query parameters along the whole way.
pub(super) fn check_matches(conditions: &[Condition], field: &str) -> Told<()> {
    let headers = condition::check_headers(conditions);
    let reason = "HeaderMatchConditionsNotValid";
    headers.map_err(|text| Problem::new(kind::ROUTE, reason, field, text))?;
    let query = condition::check_query(conditions);
    let reason = "QueryParameterMatchConditionsNotValid";
    query.map_err(|text| Problem::new(kind::ROUTE, reason, field, text))
}

/// Fields that nothing here can do.
fn not_served(fields: &Fields<'_>) {
    fields.unsupported(
        "internalRedirectPolicy",
        "redirects of backends are passed on to clients",
    );
}

/// `authPolicy`.
pub(super) fn choice(fields: Option<&Fields<'_>>) -> AuthorizationChoice {
    let context = fields.map(|fields| fields.string_map("context"));
    let context = context.into_iter().flatten();
    AuthorizationChoice {
        disabled: fields.map(|fields| fields.bool("disabled").unwrap_or(false)),
        context: context
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect(),
    }
}

/// `pathRewritePolicy`: prefix, if it is said, and what takes its place.
fn replacements(fields: &Fields<'_>) -> Vec<(Arc<str>, Arc<str>)> {
    let Some(policy) = fields.object("pathRewritePolicy") else {
        return Vec::new();
    };
    let one = |entry: Fields<'_>| {
        let prefix = entry.str("prefix").unwrap_or_default();
        let with = entry.str("replacement").unwrap_or_default();
        (Arc::from(prefix), Arc::from(with))
    };
    policy
        .objects("replacePrefix")
        .into_iter()
        .map(one)
        .collect()
}
