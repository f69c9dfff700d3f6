//! `jwt`, `jwtStaged` and `jwtProvidersStaged`: tokens that are verified, and what of them is told.
//!
//! Of the stages before and after `extauth` one may be said for a route, and tokens are verified
//! before anybody is asked in both. Any provider's token is good. A route's stage stands in place
//! of its host's.

use std::sync::Arc;
use std::time::Duration;

use routing::model::{KeySource, TokenPlace, TokenProvider, Tokens};
use serde_json::{Value, json};

use super::extauth::settings;
use super::filter::duration;
use super::matcher::flag;
use super::status::CLOSED;
use super::upstream::{self, Backends};
use super::{policy, reference};
use crate::fields::Fields;
use crate::objects::Name;
use crate::shared::headers;

/// Gloo's, where nothing is said.
const LEEWAY: Duration = Duration::from_secs(60);
const REFRESH: Duration = Duration::from_secs(5 * 60);
const TIMEOUT: Duration = Duration::from_secs(5);

/// One of these says it.
pub(super) const KEYS: [&str; 3] = ["jwt", "jwtStaged", "jwtProvidersStaged"];
const STAGES: [&str; 2] = ["beforeExtAuth", "afterExtAuth"];

/// What options say: before and after `extauth`.
#[derive(Clone, Debug, Default)]
pub(super) struct Jwt {
    stages: [Stage; 2],
}

#[derive(Clone, Debug, Default)]
enum Stage {
    /// As the host says.
    #[default]
    Inherited,
    Off,
    Verified(Arc<Verified>),
}

#[derive(Clone, Debug)]
struct Verified {
    providers: Vec<Provider>,
    required: bool,
}

#[derive(Clone, Debug)]
struct Provider {
    token: TokenProvider,
    /// Who has its keys; the host of the URL if nobody is named.
    upstream: Option<Name>,
}

impl Jwt {
    /// Reads options of a host or a route. What is not served closes.
    pub(super) fn read(options: &Fields<'_>) -> Self {
        let mut out = Self::default();
        let mut said = KEYS.into_iter().filter(|key| options.has(key));
        let Some(key) = said.next() else {
            return out;
        };
        if let Some(other) = said.next() {
            options.ignore(other);
            options.refuse(
                other,
                CLOSED,
                format!("{key} is there, too: write one of the two"),
            );
        }
        let Some(fields) = options.object(key) else {
            return out;
        };
        if key == "jwt" {
            out.stages[1] = Stage::read(&fields);
            return out;
        }
        for (stage, key) in out.stages.iter_mut().zip(STAGES) {
            if let Some(fields) = fields.object(key) {
                *stage = Stage::read(&fields);
            }
        }
        if fields.has(STAGES[1]) && options.has("extauth") {
            let text = "tokens are verified before extauth asks anybody: one that its server puts \
                        into the request is not seen";
            fields.refuse(STAGES[1], "FieldDiffers", text);
        }
        out
    }

    /// What holds for a route of this host.
    pub(super) fn below(self, host: &Self) -> Self {
        let [before, after] = self.stages;
        let [host_before, host_after] = &host.stages;
        Self {
            stages: [before.or(host_before), after.or(host_after)],
        }
    }

    /// What is asked of requests, with the keys where their Upstreams are.
    pub(super) fn tokens(&self, backends: &Backends<'_, '_>) -> Result<Option<Tokens>, String> {
        let stages = self.stages.iter().filter_map(|stage| match stage {
            Stage::Verified(verified) => Some(verified),
            Stage::Inherited | Stage::Off => None,
        });
        let mut stages = stages;
        let Some(verified) = stages.next() else {
            return Ok(None);
        };
        if stages.next().is_some() {
            let text = "tokens are verified once: jwt before and after extauth at one route is not \
                        supported, write one stage";
            return Err(text.to_owned());
        }
        let providers = verified.providers.iter().map(|it| it.found(backends));
        Ok(Some(Tokens {
            providers: providers.collect::<Result<_, _>>()?,
            required: verified.required,
        }))
    }
}

impl Stage {
    fn read(fields: &Fields<'_>) -> Self {
        match flag(fields, "disable") {
            Some(true) => return Self::Off,
            Some(false) => return Self::Inherited,
            None => {}
        }
        let mut providers = Vec::new();
        let mut named = 0;
        if let Some(all) = fields.object("providers") {
            named = all.keys().count();
            let all = all.keys().filter_map(|name| all.object(name));
            providers.extend(all.filter_map(|one| Provider::read(&one)));
        }
        if named == 0 {
            let text = "no provider is named: without one everybody would pass";
            fields.refuse("providers", CLOSED, text);
        }
        let may_fail = flag(fields, "allowMissingOrFailedJwt").unwrap_or(false);
        let policy = fields.loose("validationPolicy");
        let (key, policy) = match policy.as_deref() {
            _ if may_fail => ("allowMissingOrFailedJwt", "ALLOW_MISSING_OR_FAILED"),
            policy => ("validationPolicy", policy.unwrap_or("REQUIRE_VALID")),
        };
        let required = match policy {
            "REQUIRE_VALID" | "0" => true,
            "ALLOW_MISSING" | "1" => false,
            "ALLOW_MISSING_OR_FAILED" | "2" => {
                let text = "a token that is wrong is answered 401, as with ALLOW_MISSING";
                fields.refuse(key, "FieldDiffers", text);
                false
            }
            other => {
                let text = format!("{other:?} is no policy: a token is asked for");
                fields.refuse(key, "FieldInvalid", text);
                true
            }
        };
        Self::Verified(Arc::new(Verified {
            providers,
            required,
        }))
    }

    fn or(self, host: &Self) -> Self {
        match self {
            Self::Inherited => host.clone(),
            own => own,
        }
    }
}

impl Provider {
    fn read(fields: &Fields<'_>) -> Option<Self> {
        let mut upstream = None;
        let jwks = fields.object("jwks");
        let local = jwks.as_ref().and_then(|jwks| jwks.object("local"));
        let remote = jwks.as_ref().and_then(|jwks| jwks.object("remote"));
        let keys = match (&local, &remote) {
            (Some(local), _) => inline(local, "key"),
            (None, Some(remote)) => {
                // Keys are fetched when the first token comes, once for all.
                remote.ignore("asyncFetch");
                let of = remote.object("upstreamRef");
                upstream = of.map(|it| reference(&it, &settings().namespace));
                self::remote(remote, "cacheDuration")
            }
            (None, None) => {
                let text = "no keys are named: write local or remote";
                fields.refuse("jwks", CLOSED, text);
                None
            }
        };
        let remedy = "the answer's status is in the access log";
        fields.unsupported("attachFailedStatusToMetadata", remedy);
        let seconds: Option<u32> = policy::number(fields, "clockSkewSeconds");
        let leeway = seconds.map_or(LEEWAY, |seconds| Duration::from_secs(seconds.into()));
        let audiences = fields.strings("audiences").into_iter();
        let token = TokenProvider {
            issuer: fields.text("issuer").map(Arc::from),
            audiences: audiences.map(Arc::from).collect(),
            from: places(fields),
            forward: fields.bool("keepToken").unwrap_or(false),
            claims_to_headers: claims(fields),
            payload_header: None,
            leeway,
            keys: keys?,
        };
        Some(Self { token, upstream })
    }

    fn found(&self, backends: &Backends<'_, '_>) -> Result<TokenProvider, String> {
        let mut token = self.token.clone();
        if let (Some(name), KeySource::Remote { uri, .. }) = (&self.upstream, &mut token.keys) {
            let base = upstream::base(name, backends)?;
            let rest = uri.split_once("://").map_or(&**uri, |(_, rest)| rest);
            let path = rest.find('/').map_or("/", |at| &rest[at..]);
            *uri = format!("{base}{path}").into();
        }
        Ok(token)
    }
}

/// Of a destination with a weight: tokens of its requests cannot be verified apart.
pub(super) fn refuse_of_destination(options: &Fields<'_>) {
    for key in KEYS.into_iter().filter(|key| options.has(key)) {
        let text = format!(
            "{key} is not supported for one of several destinations: write it into the options of \
             the route"
        );
        options.refuse(key, CLOSED, text);
    }
}

/// Where tokens are unless somebody says it.
pub(super) fn usual_places() -> Vec<TokenPlace> {
    vec![
        TokenPlace::Header {
            name: "authorization".into(),
            prefix: "Bearer ".into(),
        },
        TokenPlace::Query("access_token".into()),
    ]
}

fn places(fields: &Fields<'_>) -> Vec<TokenPlace> {
    let Some(source) = fields.object("tokenSource") else {
        return usual_places();
    };
    let mut found = Vec::new();
    for header in source.objects("headers") {
        match headers::name(header.text("header").unwrap_or_default()) {
            Ok(name) => found.push(TokenPlace::Header {
                name,
                prefix: header.str("prefix").unwrap_or_default().into(),
            }),
            Err(text) => header.refuse("header", "HeaderNotSupported", text),
        }
    }
    let names = source.strings("queryParams").into_iter();
    found.extend(names.map(|name| TokenPlace::Query(name.into())));
    if found.is_empty() {
        return usual_places();
    }
    found
}

/// `claimsToHeaders`, here and in an AuthConfig.
pub(super) fn claims(fields: &Fields<'_>) -> Vec<(Arc<str>, Arc<str>)> {
    let mut found = Vec::new();
    for entry in fields.objects("claimsToHeaders") {
        if flag(&entry, "append") == Some(true) {
            let text = "the claim stands in place of what the client sent in the header";
            entry.refuse("append", "FieldDiffers", text);
        }
        let claim = entry.text("claim");
        match headers::name(entry.text("header").unwrap_or_default()) {
            Ok(header) if claim.is_some() => {
                found.extend(claim.map(|claim| (Arc::from(claim), header)));
            }
            Ok(_) => entry.refuse("claim", "ClaimMissing", "write the claim's name"),
            Err(text) => entry.refuse("header", "HeaderNotSupported", text),
        }
    }
    found
}

/// A set of keys that is written down: a set, or one key.
pub(super) fn inline(fields: &Fields<'_>, key: &str) -> Option<KeySource> {
    let text = fields.text(key).unwrap_or_default();
    let set: Option<Value> = serde_json::from_str(text).ok();
    let set = match set {
        Some(set) if set["keys"].is_array() => Some(text.to_owned()),
        Some(one) if one["kty"].is_string() => Some(json!({"keys": [one]}).to_string()),
        _ => None,
    };
    if set.is_none() {
        let text = "it is neither a JSON Web Key nor a set of them; keys in PEM are not supported: \
                    write them as JSON Web Keys (RFC 7517)";
        fields.refuse(key, CLOSED, text);
    }
    Some(KeySource::Inline(set?.into()))
}

/// A set of keys that is fetched; `refresh` names the field that says how long it is kept.
pub(super) fn remote(fields: &Fields<'_>, refresh: &str) -> Option<KeySource> {
    let kept = fields.text(refresh);
    let kept = kept.and_then(|text| duration(fields, refresh, text));
    let url = fields.text("url").unwrap_or_default();
    if !url.starts_with("http://") && !url.starts_with("https://") {
        let text = format!("{url:?} is no URL of http:// or https://");
        fields.refuse("url", CLOSED, text);
        return None;
    }
    Some(KeySource::Remote {
        uri: url.into(),
        timeout: TIMEOUT,
        refresh: kept.filter(|kept| !kept.is_zero()).unwrap_or(REFRESH),
    })
}
