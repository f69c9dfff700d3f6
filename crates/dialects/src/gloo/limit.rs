//! `ratelimit` and `ratelimitBasic`: tokens that are kept here, and requests that are described to
//! the rate limit service of the Settings `gloo-system/default`.
//!
//! A route's own tokens stand in place of its host's. Its own descriptions do, too, unless it
//! includes the host's. A description of which a part cannot be read is left out: with less it
//! would be another one.

use std::sync::Arc;
use std::time::Duration;

use routing::model::{
    BackendId, DescriptorEntry, LimitDescriptor, LimitKey, Predicate, RateLimit, RateLimitService,
    Respond, Subject, Test, TextTest,
};

use super::extauth;
use super::filter::duration;
use super::matcher::flag;
use super::policy;
use super::upstream::{self, Backends};
use super::{SETTINGS, reference};
use crate::fields::{Fields, Findings};
use crate::objects::Name;
use crate::shared::{descriptor, headers};

/// Of descriptions that users write themselves.
const DOMAIN: &str = "custom";
/// What Gloo's proxies call themselves.
const SOURCE: &str = "gateway";
const TIMEOUT: Duration = Duration::from_millis(100);

/// What the options of a host or a route say.
#[derive(Clone, Debug, Default)]
pub(super) struct Limits {
    tokens: Option<Arc<RateLimit>>,
    basic: Option<Arc<RateLimit>>,
    descriptors: Vec<LimitDescriptor>,
    /// Where the descriptions stand.
    field: String,
    includes_host: bool,
}

impl Limits {
    /// `id` tells the buckets apart.
    pub(super) fn read(options: &Fields<'_>, id: &str) -> Self {
        let mut limits = Self {
            basic: options
                .object("ratelimitBasic")
                .and_then(|basic| self::basic(&basic, id)),
            ..Self::default()
        };
        let Some(own) = options.object("ratelimit") else {
            return limits;
        };
        let tokens = own.object("localRatelimit");
        limits.tokens = tokens.and_then(|tokens| self::tokens(&tokens, id));
        limits.includes_host = flag(&own, "includeVhRateLimits").unwrap_or(false);
        limits.field = own.at("rateLimits");
        for one in own.objects("rateLimits") {
            limits.descriptors.extend(described(&one));
        }
        limits
    }

    /// What holds for a route of this host.
    pub(super) fn below(self, host: &Self) -> Self {
        let is_own = !self.descriptors.is_empty();
        let mut descriptors = self.descriptors;
        if !is_own || self.includes_host {
            descriptors.extend(host.descriptors.iter().cloned());
        }
        Self {
            tokens: self.tokens.or_else(|| host.tokens.clone()),
            basic: self.basic.or_else(|| host.basic.clone()),
            descriptors,
            field: if is_own {
                self.field
            } else {
                host.field.clone()
            },
            includes_host: false,
        }
    }

    /// What is counted here.
    pub(super) fn counted(&self) -> Vec<Arc<RateLimit>> {
        self.tokens.iter().chain(&self.basic).cloned().collect()
    }

    /// Who is asked, or why nobody is, and the field that asks for it.
    pub(super) fn asked(
        &self,
        backends: &mut Backends<'_, '_>,
    ) -> Result<Option<Arc<RateLimitService>>, (String, String)> {
        if self.descriptors.is_empty() {
            return Ok(None);
        }
        let service = service(backends).map_err(|text| (self.field.clone(), text))?;
        Ok(Some(Arc::new(RateLimitService {
            descriptors: self.descriptors.clone(),
            ..service
        })))
    }
}

fn limited(id: String, capacity: u64, fill: u64, interval: Duration) -> RateLimit {
    RateLimit {
        id: id.into(),
        when: Vec::new(),
        keys: Vec::new(),
        capacity,
        fill,
        interval,
        per_connection: false,
        respond: Respond {
            status: 429,
            headers: vec![("content-type".into(), "text/plain".into())],
            body: "local_rate_limited".into(),
        },
    }
}

/// Envoy's token bucket.
fn tokens(fields: &Fields<'_>, id: &str) -> Option<Arc<RateLimit>> {
    let most: Option<u64> = policy::number(fields, "maxTokens");
    let fill: Option<u64> = policy::number(fields, "tokensPerFill");
    let time = fields.text("fillInterval");
    let time = match time {
        None => Some(Duration::from_secs(1)),
        Some(text) => duration(fields, "fillInterval", text),
    };
    let most = most.filter(|most| *most > 0);
    let (fill, time) = (fill.unwrap_or(1), time.filter(|time| !time.is_zero()));
    let (Some(most), Some(time), true) = (most, time, fill > 0) else {
        let text =
            "maxTokens, tokensPerFill and fillInterval must be above zero: nothing is limited";
        fields.refuse("maxTokens", "RateLimitInvalid", text);
        return None;
    };
    Some(Arc::new(limited(format!("{id}/tokens"), most, fill, time)))
}

/// So many requests of each client; who a client is behind its address is not looked at.
fn basic(fields: &Fields<'_>, id: &str) -> Option<Arc<RateLimit>> {
    let remedy =
        "write anonymousLimits, or a TrafficPolicy with rateLimits by a header of the user";
    fields.unsupported("authorizedLimits", remedy);
    let limit = fields.object("anonymousLimits")?;
    let requests: Option<u64> = policy::number(&limit, "requestsPerUnit");
    let interval = match limit.text("unit").unwrap_or_default() {
        "SECOND" => Some(1),
        "MINUTE" => Some(60),
        "HOUR" => Some(60 * 60),
        "DAY" => Some(24 * 60 * 60),
        other => {
            let text = format!("{other:?} is not SECOND, MINUTE, HOUR or DAY: nothing is limited");
            limit.refuse("unit", "RateLimitInvalid", text);
            None
        }
    };
    let requests = requests.unwrap_or(0);
    if requests == 0 {
        let text = "must be above zero: nothing is limited";
        limit.refuse("requestsPerUnit", "RateLimitInvalid", text);
        return None;
    }
    let interval = Duration::from_secs(interval?);
    Some(Arc::new(RateLimit {
        keys: vec![LimitKey::Client],
        ..limited(format!("{id}/basic"), requests, requests, interval)
    }))
}

/// One of `rateLimits`.
fn described(fields: &Fields<'_>) -> Option<LimitDescriptor> {
    let remedy = "write actions: their order is that of the descriptors";
    fields.unsupported("setActions", remedy);
    fields.unsupported("limit", "the limit is the service's own");
    let mut entries = Some(Vec::new());
    for action in fields.objects("actions") {
        match entry(&action) {
            Ok(entry) => entries.iter_mut().for_each(|all| all.push(entry.clone())),
            Err(text) => {
                action.pass_over();
                let text = format!("{text}; the description is left out");
                let findings = action.findings();
                findings.refuse("RateLimitInvalid", action.path(), text);
                entries = None;
            }
        }
    }
    let entries = entries.filter(|entries| !entries.is_empty())?;
    Some(LimitDescriptor {
        entries,
        when: Vec::new(),
        unless: Vec::new(),
        limit: None,
    })
}

fn entry(action: &Fields<'_>) -> Result<DescriptorEntry, String> {
    let keys: Vec<_> = action.keys().collect();
    let [kind] = keys[..] else {
        return Err("an action says one thing".to_owned());
    };
    let own = action.object(kind);
    let text = |key: &str| {
        let value = own.as_ref().and_then(|own| own.text(key));
        value.ok_or_else(|| format!("{kind} has no {key}"))
    };
    match kind {
        "sourceCluster" => Ok(descriptor::generic(Some("source_cluster"), SOURCE)),
        "remoteAddress" => Ok(descriptor::remote_address()),
        "genericKey" => Ok(descriptor::generic(None, text("descriptorValue")?)),
        "requestHeaders" => Ok(DescriptorEntry::Header {
            key: text("descriptorKey")?.into(),
            name: descriptor::header_name(text("headerName")?)?,
            optional: false,
        }),
        "headerValueMatch" => {
            let own = own.as_ref().ok_or("headerValueMatch is empty")?;
            let when: Result<Vec<_>, String> = own.objects("headers").iter().map(header).collect();
            Ok(DescriptorEntry::Match {
                key: descriptor::HEADER_MATCH.into(),
                value: text("descriptorValue")?.into(),
                when: when?,
                expect: flag(own, "expectMatch").unwrap_or(false),
            })
        }
        "destinationCluster" => {
            Err("destinationCluster is not supported: write a genericKey".to_owned())
        }
        other => Err(format!("{other} is not supported: write requestHeaders")),
    }
}

/// A header of `headerValueMatch`.
fn header(fields: &Fields<'_>) -> Result<Predicate, String> {
    let name = headers::name(fields.text("name").unwrap_or_default())?;
    let text = |how, value: &str| Test::Text {
        how,
        value: value.into(),
        ignore_case: false,
    };
    let mut negate = flag(fields, "invertMatch").unwrap_or(false);
    let test = if let Some(value) = fields.str("exactMatch") {
        text(TextTest::Exact, value)
    } else if let Some(value) = fields.str("prefixMatch") {
        text(TextTest::Prefix, value)
    } else if let Some(value) = fields.str("suffixMatch") {
        text(TextTest::Suffix, value)
    } else if let Some(value) = fields.str("regexMatch") {
        routing::regex::compile(value)?;
        text(TextTest::Regex, value)
    } else if let Some(range) = fields.object("rangeMatch") {
        let bound = |key: &str| {
            let value = range.loose(key).unwrap_or_else(|| "0".to_owned());
            value.parse().map_err(|_| format!("{key} is no number"))
        };
        Test::Range {
            min: bound("start")?,
            end: bound("end")?,
        }
    } else {
        negate ^= flag(fields, "presentMatch") == Some(false);
        Test::Present
    };
    Ok(Predicate {
        subject: Subject::Header(name),
        test,
        negate,
        missing_is_empty: false,
    })
}

/// The service of the Settings, without descriptions.
fn service(backends: &mut Backends<'_, '_>) -> Result<RateLimitService, String> {
    let name = extauth::settings();
    let settings = backends.reader.foreign(&SETTINGS, &name);
    let findings = Findings::default();
    let none = serde_json::Value::Null;
    let spec = settings.map_or(&none, |settings| settings.spec());
    let spec = Fields::new(spec, "spec".to_owned(), &findings);
    spec.pass_over();
    let server = spec.object("ratelimitServer");
    let read = server.map(|server| read(&server, &name.namespace));
    let (upstream, service) = read.and_then(|(upstream, service)| Some((upstream?, service)))
        .ok_or_else(|| {
            format!(
                "nothing is limited: Settings {name} have no ratelimitServer with ratelimitServerRef, \
                 which says who is asked"
            )
        })?;
    let backend = upstream::asked(&upstream, true, backends);
    let backend = backend.map_err(|text| format!("nobody can be asked, requests pass: {text}"))?;
    Ok(RateLimitService { backend, ..service })
}

/// `ratelimitServer` of Settings: who is asked, and how.
pub(super) fn read(fields: &Fields<'_>, namespace: &str) -> (Option<Name>, RateLimitService) {
    let server = fields.object("ratelimitServerRef");
    let time = fields.text("requestTimeout");
    let time = time.and_then(|text| duration(fields, "requestTimeout", text));
    if flag(fields, "rateLimitBeforeAuth") == Some(true) {
        let text = "limits are asked about after it is known who may pass";
        fields.refuse("rateLimitBeforeAuth", "FieldNotSupported", text);
    }
    if let Some(grpc) = fields.object("grpcService") {
        let text = "the server is asked by the name of its Upstream";
        grpc.unsupported("authority", text);
    }
    let service = RateLimitService {
        backend: BackendId("".into()),
        domain: DOMAIN.into(),
        timeout: time.filter(|time| !time.is_zero()).unwrap_or(TIMEOUT),
        fail_open: !flag(fields, "denyOnFail").unwrap_or(false),
        status_on_error: descriptor::STATUS_ON_ERROR,
        hits: None,
        descriptors: Vec::new(),
        quota_headers: flag(fields, "enableXRatelimitHeaders").unwrap_or(false),
        resource_exhausted: false,
    };
    (server.map(|it| reference(&it, namespace)), service)
}
