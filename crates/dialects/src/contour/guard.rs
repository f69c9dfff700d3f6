//! What holds requests back: rate limits, addresses, tokens.

use std::sync::Arc;
use std::time::Duration;

use routing::model::{
    AccessRule, Authorization, KeySource, Network, Predicate, RateLimit, Respond, Subject, Test,
    TokenPlace, TokenProvider,
};

use super::certificates;
use super::limit::Global;
use super::policy;
use super::status::{Problem, Told, kind};
use crate::fields::Fields;
use crate::objects::{Name, Reader};
use crate::shared::{go_duration, headers};

/// Envoy's allowance for clocks that differ.
const LEEWAY: Duration = Duration::from_secs(60);

/// What a `rateLimitPolicy` says.
#[derive(Clone, Debug, Default)]
pub(super) struct Limits {
    pub(super) local: Option<Arc<RateLimit>>,
    pub(super) global: Global,
}

/// `rateLimitPolicy`. `id` says whose buckets they are.
pub(super) fn limits(fields: &Fields<'_>, id: &str) -> Result<Limits, String> {
    let global = fields.object("global");
    let global = global.map_or(Ok(Global::Unsaid), |it| Global::read(&it));
    let local = rate_limit(fields, id)?;
    Ok(Limits {
        local,
        global: global?,
    })
}

fn rate_limit(fields: &Fields<'_>, id: &str) -> Result<Option<Arc<RateLimit>>, String> {
    let Some(local) = fields.object("local") else {
        return Ok(None);
    };
    let requests = local.number::<u32>("requests").unwrap_or(0);
    let unit = local.str("unit").unwrap_or_default();
    let burst = local.number::<u32>("burst").unwrap_or(0);
    let status = local.number::<u16>("responseStatusCode");
    let mut extra = Vec::new();
    let mut error = None;
    for header in local.objects("responseHeadersToAdd") {
        let (name, value) = (header.str("name"), header.str("value"));
        match headers::settable(name.unwrap_or_default(), value.unwrap_or_default()) {
            Ok((name, _)) if extra.iter().any(|(known, _)| *known == name) => {
                error = Some(format!("duplicate header addition: {name:?}"));
            }
            Ok(pair) => extra.push(pair),
            Err(text) => error = Some(format!("invalid header: {text}")),
        }
    }
    if requests == 0 {
        return Err("invalid requests value 0 in local rate limit policy".to_owned());
    }
    let interval = match unit {
        "second" => 1,
        "minute" => 60,
        "hour" => 3600,
        _ => return Err(format!("invalid unit {unit:?} in local rate limit policy")),
    };
    if let Some(error) = error {
        return Err(error);
    }
    let mut respond = policy::respond(status.filter(|code| *code >= 400).unwrap_or(429), LIMITED);
    respond.headers.extend(extra);
    Ok(Some(Arc::new(RateLimit {
        id: id.into(),
        when: Vec::new(),
        keys: Vec::new(),
        capacity: u64::from(requests) + u64::from(burst),
        fill: u64::from(requests),
        interval: Duration::from_secs(interval),
        per_connection: false,
        respond,
    })))
}

/// What Envoy says.
const LIMITED: &str = "local_rate_limited";

/// `ipAllowPolicy` and `ipDenyPolicy` of `policy`, the object's name.
pub(super) fn addresses(fields: &Fields<'_>, policy: &Name) -> Told<Option<Authorization>> {
    let allow = fields.objects("ipAllowPolicy");
    let deny = fields.objects("ipDenyPolicy");
    let field = fields.at("ipAllowPolicy");
    let both = !allow.is_empty() && !deny.is_empty();
    let is_allow = !allow.is_empty();
    let mut lists = Vec::new();
    let mut error = None;
    for entry in allow.into_iter().chain(deny) {
        match network(&entry) {
            Ok(predicate) => lists.push(vec![predicate]),
            Err(problem) => error = error.or(Some(problem)),
        }
    }
    if both {
        let text = "cannot specify both `ipAllowPolicy` and `ipDenyPolicy`";
        let reason = "IncompatibleIPAddressFilters";
        return Err(Problem::new(kind::IP_FILTER, reason, &field, text));
    }
    if let Some(problem) = error {
        return Err(problem);
    }
    if lists.is_empty() {
        return Ok(None);
    }
    let rule = AccessRule {
        policy: policy.to_string().into(),
        all: vec![lists],
    };
    let mut out = Authorization {
        denied: Some(denied()),
        ..Authorization::default()
    };
    if is_allow {
        out.allow = Some(vec![rule]);
    } else {
        out.deny.push(rule);
    }
    Ok(Some(out))
}

/// What Envoy answers.
fn denied() -> Respond {
    policy::respond(403, "RBAC: access denied")
}

fn network(entry: &Fields<'_>) -> Told<Predicate> {
    let source = entry.str("source").unwrap_or_default();
    let text = entry.str("cidr").unwrap_or_default();
    let invalid =
        |message: String| Problem::new(kind::IP_FILTER, "InvalidCIDR", &entry.at("cidr"), message);
    let network = Network::parse(text).ok_or_else(|| {
        invalid(format!(
            "{text} failed to parse: it is no address or network"
        ))
    })?;
    let subject = match source {
        "Remote" => Subject::Client,
        "Peer" => Subject::Peer,
        other => {
            return Err(invalid(format!(
                "source {other:?} is neither Peer nor Remote"
            )));
        }
    };
    Ok(Predicate {
        subject,
        test: Test::Network([network].into()),
        negate: false,
        missing_is_empty: false,
    })
}

/// One of `jwtProviders`.
pub(super) struct Provider {
    pub(super) name: String,
    pub(super) field: String,
    pub(super) is_default: bool,
    pub(super) tokens: Told<TokenProvider>,
}

pub(super) fn provider(fields: &Fields<'_>, reader: &Reader<'_>, namespace: &str) -> Provider {
    let name = fields.str("name").unwrap_or_default().to_owned();
    let audiences = fields
        .strings("audiences")
        .into_iter()
        .map(Arc::from)
        .collect();
    let issuer = fields.text("issuer").map(Arc::from);
    let forward = fields.bool("forwardJWT").unwrap_or(false);
    let keys = keys(fields, &name, reader, namespace);
    Provider {
        is_default: fields.bool("default").unwrap_or(false),
        field: fields.path().to_owned(),
        tokens: keys.map(|keys| TokenProvider {
            issuer,
            audiences,
            keys,
            from: vec![
                TokenPlace::Header {
                    name: "authorization".into(),
                    prefix: "Bearer ".into(),
                },
                TokenPlace::Query("access_token".into()),
            ],
            forward,
            claims_to_headers: Vec::new(),
            payload_header: None,
            leeway: LEEWAY,
        }),
        name,
    }
}

fn keys(fields: &Fields<'_>, name: &str, reader: &Reader<'_>, namespace: &str) -> Told<KeySource> {
    let remote = fields.object("remoteJWKS");
    let local = fields.object("localJWKS");
    let problem = |reason, text: String| Problem::new(kind::JWT, reason, fields.path(), text);
    let provider = format!("Spec.VirtualHost.JWTProviders for provider {name:?} is invalid");
    match (remote, local) {
        (Some(remote), Some(local)) => {
            remote.pass_over();
            local.pass_over();
            let text = "at most one of remoteJWKS or localJWKS may be set";
            Err(problem("JWKSSourceConflict", format!("{provider}: {text}")))
        }
        (None, None) => {
            let text = "exactly one of remoteJWKS or localJWKS must be set";
            Err(problem("JWKSSourceMissing", format!("{provider}: {text}")))
        }
        (None, Some(local)) => {
            let secret = local.str("secretName").unwrap_or_default();
            let key = local.str("key").unwrap_or_default();
            let set = certificates::key_set(reader, &Name::new(namespace, secret), key);
            set.map(KeySource::Inline).map_err(|why| {
                let text = format!("{provider}: localJWKS: {why}");
                problem("LocalJWKSInvalid", text)
            })
        }
        (Some(remote), None) => remote_keys(&remote),
    }
}

fn remote_keys(remote: &Fields<'_>) -> Told<KeySource> {
    let problem = |reason, text: String| Problem::new(kind::JWT, reason, remote.path(), text);
    let uri = remote.str("uri").unwrap_or_default();
    let time = |key| remote.str(key).filter(|text| !text.is_empty());
    let (timeout, cache) = (time("timeout"), time("cacheDuration"));
    let validation = remote.object("validation");
    remote.ignore("dnsLookupFamily"); // Addresses of both families are looked up and tried.
    let scheme = uri.split_once("://").map_or("", |(scheme, _)| scheme);
    if !matches!(scheme, "http" | "https") {
        let text = format!("remoteJWKS.uri has invalid scheme {scheme:?}, must be http or https");
        validation.iter().for_each(Fields::pass_over);
        return Err(problem("RemoteJWKSSchemeInvalid", text));
    }
    if let Some(validation) = validation {
        validation.pass_over();
        let text = "remoteJWKS.validation is not supported: keys are fetched from whom the \
                    machine's authorities trust";
        return Err(problem(
            "RemoteJWKSUpstreamValidationInvalid",
            text.to_owned(),
        ));
    }
    let timeout = timeout.map_or(Ok(Duration::from_secs(1)), go_duration::parse);
    let timeout = timeout.map_err(|error| problem("RemoteJWKSTimeoutInvalid", error))?;
    let refresh = cache.map_or(Ok(Duration::from_secs(300)), go_duration::parse);
    let refresh = refresh.map_err(|error| problem("RemoteJWKSCacheDurationInvalid", error))?;
    Ok(KeySource::Remote {
        uri: uri.into(),
        timeout,
        refresh,
    })
}
