//! Sections that hold requests back.

use std::sync::Arc;
use std::time::Duration;

use routing::model::{
    Abort, AdaptiveConcurrency, Authorization, Breaker, Fault, Flights, Guards, KeySource,
    LimitKey, Quota, Ramp, RateLimit, Respond, Share, TokenPlace, TokenProvider, Tokens,
};

use super::read::time;
use super::{load, ramp};
use crate::fields::Fields;
use crate::istio::{authorization, values};
use crate::shared::headers;

/// What is asked of requests, each by itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Sections {
    rate_limits: Option<Vec<Arc<RateLimit>>>,
    breaker: Option<Arc<Breaker>>,
    fault: Option<Arc<Fault>>,
    tokens: Option<Arc<Tokens>>,
    authorization: Option<Arc<Authorization>>,
    quota: Option<Arc<Quota>>,
    flights: Option<Vec<Arc<Flights>>>,
    concurrency: Option<Arc<AdaptiveConcurrency>>,
    ramp: Option<Arc<Ramp>>,
    limits: Option<RequestLimits>,
}

/// What a request may be.
#[derive(Clone, Copy, Debug, PartialEq)]
struct RequestLimits {
    max_body: Option<u64>,
    no_upgrade: bool,
}

impl Sections {
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(super) fn or(self, other: Self) -> Self {
        Self {
            rate_limits: self.rate_limits.or(other.rate_limits),
            breaker: self.breaker.or(other.breaker),
            fault: self.fault.or(other.fault),
            tokens: self.tokens.or(other.tokens),
            authorization: self.authorization.or(other.authorization),
            quota: self.quota.or(other.quota),
            flights: self.flights.or(other.flights),
            concurrency: self.concurrency.or(other.concurrency),
            ramp: self.ramp.or(other.ramp),
            limits: self.limits.or(other.limits),
        }
    }

    /// Whose ramp it is: one that is made anew begins anew.
    pub(super) fn made_as(&mut self, uid: &str) {
        if let Some(ramp) = self.ramp.as_mut().filter(|_| !uid.is_empty()) {
            let ramp = Arc::make_mut(ramp);
            ramp.id = format!("{}/{uid}", ramp.id).into();
        }
    }

    pub(super) fn all(self) -> Guards {
        Guards {
            fault: self.fault,
            tokens: self.tokens,
            authorization: self.authorization,
            rate_limits: self.rate_limits.unwrap_or_default(),
            breakers: self.breaker.into_iter().collect(),
            quotas: self.quota.into_iter().collect(),
            flights: self.flights.unwrap_or_default(),
            ramps: self.ramp.into_iter().collect(),
            concurrency: self.concurrency,
            max_body: self.limits.and_then(|limits| limits.max_body),
            no_upgrade: self.limits.is_some_and(|limits| limits.no_upgrade),
            ..Guards::default()
        }
    }
}

pub(super) fn read(spec: &Fields<'_>, policy: &str, id: &str) -> Sections {
    let limits = spec.objects("rateLimits");
    let limits = limits.iter().enumerate().filter_map(|(at, limit)| {
        let limit = rate_limit(limit, &format!("{id}/{at}"))?;
        Some(Arc::new(limit))
    });
    let limits: Vec<_> = limits.collect();
    let flights = spec.objects("concurrencyLimits");
    let flights = flights.iter().enumerate().filter_map(|(at, limit)| {
        let limit = load::flights(limit, &format!("{id}/flights/{at}"))?;
        Some(Arc::new(limit))
    });
    let flights: Vec<_> = flights.collect();
    let breaker = spec.object("circuitBreaker");
    let (quota, concurrency) = (spec.object("quota"), spec.object("adaptiveConcurrency"));
    let ramp = spec.object("loadRamp");
    Sections {
        rate_limits: spec.has("rateLimits").then_some(limits),
        breaker: breaker.and_then(|it| self::breaker(&it, id)).map(Arc::new),
        fault: spec.object("fault").map(|it| Arc::new(fault(&it))),
        tokens: spec.object("jwt").map(|it| Arc::new(tokens(&it))),
        authorization: spec
            .object("authorization")
            .map(|it| Arc::new(authorize(&it, policy))),
        quota: quota.and_then(|it| load::quota(&it, id)).map(Arc::new),
        flights: spec.has("concurrencyLimits").then_some(flights),
        concurrency: concurrency.map(|it| Arc::new(load::concurrency(&it, id))),
        ramp: ramp.and_then(|it| ramp::read(&it, id)).map(Arc::new),
        limits: spec.object("requestLimits").map(|it| RequestLimits {
            max_body: it.number("maxBodyBytes"),
            no_upgrade: it.bool("refuseUpgrades").unwrap_or(false),
        }),
    }
}

/// `response`: what is answered in place of the Service.
pub(super) fn response(fields: &Fields<'_>, status: u16, body: &str) -> Respond {
    match fields.object("response") {
        Some(written) => answer(&written, status, body),
        None => values::plain(status, body),
    }
}

/// `status`, `body` and `headers`.
pub(super) fn answer(written: &Fields<'_>, status: u16, body: &str) -> Respond {
    let number = written.number::<u16>("status");
    let is_one = |status: &u16| (200..600).contains(status);
    if number.is_some_and(|number| !is_one(&number)) {
        written.refuse(
            "status",
            "FieldInvalid",
            "it is not the status of an answer",
        );
    }
    let body = written.str("body").unwrap_or(body);
    let mut respond = values::plain(number.filter(is_one).unwrap_or(status), body);
    for (name, value) in written.string_map("headers") {
        match headers::settable(name, value) {
            Ok(pair) => {
                respond.headers.retain(|(known, _)| *known != pair.0);
                respond.headers.push(pair);
            }
            Err(error) => written.refuse("headers", "HeaderInvalid", error),
        }
    }
    respond
}

/// `per`: parts of a request; `otherwise` says what follows where one cannot be read.
pub(super) fn keys(fields: &Fields<'_>, otherwise: &str) -> Vec<LimitKey> {
    let mut keys = Vec::new();
    for key in fields.objects("per") {
        let flag = |name: &str| key.bool(name) == Some(true);
        let named = |name: &str| key.text(name);
        let found = if flag("client") {
            Some(LimitKey::Client)
        } else if flag("host") {
            Some(LimitKey::Host)
        } else if flag("path") {
            Some(LimitKey::Path)
        } else if let Some(name) = named("header") {
            headers::name(name).ok().map(LimitKey::Header)
        } else if let Some(name) = named("cookie") {
            Some(LimitKey::Cookie(name.into()))
        } else {
            named("query").map(|name| LimitKey::Query(name.into()))
        };
        match found {
            Some(found) => keys.push(found),
            None => {
                let message = format!(
                    "write client: true, host: true, path: true, or the name of a header, cookie or \
                     query parameter; {otherwise}"
                );
                key.findings().refuse("KeyInvalid", key.path(), message);
            }
        }
    }
    keys
}

fn rate_limit(fields: &Fields<'_>, id: &str) -> Option<RateLimit> {
    let requests = fields.number::<u64>("requests").filter(|count| *count > 0);
    let interval = time(fields, "interval");
    let burst = fields.number::<u64>("burst").filter(|count| *count > 0);
    let keys = keys(fields, "all share one bucket without it");
    let when = fields.object("match").map(|it| load::when(&it));
    let when = when.unwrap_or_default();
    let per_connection = fields.bool("perConnection").unwrap_or(false);
    let respond = response(fields, 429, "local_rate_limited");
    let (Some(requests), Some(interval)) = (requests, interval) else {
        let message = "requests and interval are needed: nothing is limited by it";
        fields
            .findings()
            .refuse("LimitInvalid", fields.path(), message);
        return None;
    };
    Some(RateLimit {
        id: id.into(),
        when,
        keys,
        capacity: burst.unwrap_or(requests),
        fill: requests,
        interval,
        per_connection,
        respond,
    })
}

fn breaker(fields: &Fields<'_>, id: &str) -> Option<Breaker> {
    let percent = fields.number::<u32>("errorPercent");
    let slow = fields.object("slowRequests").and_then(|slow| {
        let count = slow.number::<u64>("count").unwrap_or(1).max(1);
        Some((time(&slow, "after")?, count))
    });
    let average = time(fields, "averageAbove");
    let breaker = Breaker {
        id: format!("{id}/breaker").into(),
        window: time(fields, "window").unwrap_or(Duration::from_secs(10)),
        open_for: time(fields, "openFor").unwrap_or(Duration::from_secs(30)),
        min_requests: fields.number("minRequests").unwrap_or(10),
        slow,
        average,
        error_percent: percent.map(|percent| percent.clamp(1, 100)),
        respond: response(fields, 503, "circuit open"),
    };
    if percent.is_none() && slow.is_none() && average.is_none() {
        let message = "write errorPercent, slowRequests or averageAbove: it never opens";
        fields
            .findings()
            .refuse("BreakerInvalid", fields.path(), message);
        return None;
    }
    Some(breaker)
}

fn share(fields: &Fields<'_>) -> Option<Share> {
    const PARTS: u32 = 10_000;
    let percent = fields.float("percent").unwrap_or(100.0);
    // At most a million, which `percent` was compared with.
    let parts = (percent.clamp(0.0, 100.0) * f64::from(PARTS)).round() as u32;
    if !(0.0..=100.0).contains(&percent) {
        fields.refuse("percent", "FieldInvalid", "it must be between 0 and 100");
    }
    Share::new(parts, 100 * PARTS)
}

fn fault(fields: &Fields<'_>) -> Fault {
    let delay = fields.object("delay");
    let delay = delay.and_then(|it| {
        let (duration, share) = (time(&it, "duration"), share(&it));
        Some((duration?, share?))
    });
    let abort = fields.object("abort").and_then(|it| {
        let share = share(&it);
        let http = it.number::<u16>("status");
        let grpc = it.number::<u32>("grpcStatus");
        let http = http.filter(|status| (200..600).contains(status));
        let share = share?;
        match (http, grpc) {
            (_, Some(status)) => Some((Abort::Grpc(status), share)),
            (Some(status), None) => Some((Abort::Http(status), share)),
            (None, None) => {
                let message = "write status (200 to 599) or grpcStatus: nothing is failed";
                it.refuse("status", "FieldInvalid", message);
                None
            }
        }
    });
    Fault { delay, abort }
}

fn tokens(fields: &Fields<'_>) -> Tokens {
    let providers = fields.objects("providers");
    if providers.is_empty() {
        let message = "no provider is named: no token is good";
        fields.refuse("providers", "ProvidersMissing", message);
    }
    Tokens {
        providers: providers.iter().filter_map(provider).collect(),
        required: fields.bool("required").unwrap_or(true),
    }
}

fn provider(fields: &Fields<'_>) -> Option<TokenProvider> {
    let inline = fields.text("jwks").map(|set| KeySource::Inline(set.into()));
    let remote = fields.object("remoteJwks").and_then(|remote| {
        let uri = remote.text("uri");
        let uri = uri.filter(|uri| uri.starts_with("http://") || uri.starts_with("https://"));
        if uri.is_none() {
            remote.refuse("uri", "FieldInvalid", "it must be http:// or https://");
        }
        Some(KeySource::Remote {
            timeout: time(&remote, "timeout").unwrap_or(Duration::from_secs(5)),
            refresh: time(&remote, "refresh").unwrap_or(Duration::from_secs(300)),
            uri: uri?.into(),
        })
    });
    let from = fields.objects("from");
    let mut from: Vec<_> = from.iter().filter_map(place).collect();
    if from.is_empty() {
        from.push(TokenPlace::Header {
            name: "authorization".into(),
            prefix: "Bearer ".into(),
        });
    }
    let mut claims_to_headers = Vec::new();
    for claim in fields.objects("claimsToHeaders") {
        let (name, header) = (claim.text("claim"), claim.text("header"));
        match headers::name(header.unwrap_or_default()) {
            Ok(header) => claims_to_headers.push((name.unwrap_or_default().into(), header)),
            Err(error) => claim.refuse("header", "HeaderInvalid", error),
        }
    }
    let payload = fields.text("payloadHeader").map(headers::name);
    if let Some(Err(error)) = &payload {
        fields.refuse("payloadHeader", "HeaderInvalid", error.clone());
    }
    let audiences = fields.strings("audiences").into_iter();
    let provider = TokenProvider {
        issuer: fields.text("issuer").map(Arc::from),
        audiences: audiences.map(Arc::from).collect(),
        from,
        forward: fields.bool("forward").unwrap_or(false),
        claims_to_headers,
        payload_header: payload.and_then(Result::ok),
        leeway: time(fields, "leeway").unwrap_or(Duration::from_secs(60)),
        keys: match inline.or(remote) {
            Some(keys) => keys,
            None => {
                let message = "write jwks or remoteJwks: none of its tokens is good";
                fields
                    .findings()
                    .refuse("KeysMissing", fields.path(), message);
                return None;
            }
        },
    };
    Some(provider)
}

fn place(fields: &Fields<'_>) -> Option<TokenPlace> {
    let prefix = fields.str("prefix");
    if let Some(name) = fields.text("header") {
        let prefix = prefix.unwrap_or_default().into();
        return match headers::name(name) {
            Ok(name) => Some(TokenPlace::Header { name, prefix }),
            Err(error) => {
                fields.refuse("header", "HeaderInvalid", error);
                None
            }
        };
    }
    if prefix.is_some() {
        fields.refuse("prefix", "FieldInvalid", "it is of a header: name one");
    }
    let query = fields.text("query").map(|it| TokenPlace::Query(it.into()));
    query.or_else(|| Some(TokenPlace::Cookie(fields.text("cookie")?.into())))
}

/// `allow`, `deny` and `audit`, each a list of rules as in an AuthorizationPolicy of Istio.
fn authorize(fields: &Fields<'_>, policy: &str) -> Authorization {
    Authorization {
        deny: authorization::rules(fields, "deny", policy, true),
        allow: fields
            .has("allow")
            .then(|| authorization::rules(fields, "allow", policy, false)),
        audit: authorization::rules(fields, "audit", policy, false),
        denied: Some(response(fields, 403, "access denied")),
    }
}
