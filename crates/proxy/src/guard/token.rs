//! JSON Web Tokens: found, verified and passed on as the route says.
//!
//! A token that is there and that no provider accepts is refused; the texts are Envoy's. Only
//! what the keys are for is accepted: a token's header chooses a key, never an algorithm for it.

mod fetch;
mod keys;
pub(crate) mod source;

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use routing::RequestView;
use routing::model::{TokenPlace, TokenProvider, Tokens};
use routing::predicate;
use serde_json::Value;

use super::{Held, Kind, Passage, Refusal};
use crate::seen::Seen;
use crate::worker::Worker;
use keys::Signed;
use source::KeyState;

/// A longer token is refused unread.
const LONGEST: usize = 16 * 1024;

/// A token that was accepted.
#[derive(Debug)]
pub(crate) struct Verified {
    claims: Value,
    /// `issuer/subject`.
    pub(crate) principal: Option<String>,
}

impl Verified {
    fn new(claims: Value) -> Self {
        let text = |name: &str| claims.get(name).and_then(Value::as_str);
        let principal = text("iss")
            .zip(text("sub"))
            .map(|(issuer, subject)| format!("{issuer}/{subject}"));
        Self { claims, principal }
    }

    /// The values of a claim: of a list each, of a number or truth value its text.
    pub(crate) fn values(&self, path: &[Arc<str>]) -> Vec<Cow<'_, str>> {
        let mut at = &self.claims;
        for part in path {
            let Some(next) = at.get(&**part) else {
                return Vec::new();
            };
            at = next;
        }
        let mut values: Vec<Cow<'_, str>> = match at {
            Value::Array(list) => list.iter().filter_map(scalar).collect(),
            one => scalar(one).into_iter().collect(),
        };
        // OAuth's lists are texts (RFC 8693 §4.2); Istio reads these two so.
        if let (Value::String(list), [name]) = (at, path)
            && matches!(&**name, "scope" | "permission")
            && list.contains(' ')
        {
            values.extend(list.split_ascii_whitespace().map(Cow::Borrowed));
        }
        values
    }
}

fn scalar(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Number(number) => Some(Cow::Owned(number.to_string())),
        Value::Bool(truth) => Some(Cow::Borrowed(if *truth { "true" } else { "false" })),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Tokens that a request has, each with the provider that it is for and its place.
pub(super) struct Found(Vec<(usize, TokenPlace, String)>);

/// Looks in the places of every provider, in their order.
pub(super) fn find(tokens: &Tokens, seen: &Seen<'_>) -> Found {
    let mut found = Vec::new();
    for (at, provider) in tokens.providers.iter().enumerate() {
        for place in &provider.from {
            if let Some(token) = at_place(place, seen) {
                found.push((at, place.clone(), token));
            }
        }
    }
    Found(found)
}

/// What a request has at a place; without the prefix, it has nothing there.
pub(super) fn at_place(place: &TokenPlace, seen: &Seen<'_>) -> Option<String> {
    let text = |bytes: &[u8]| {
        std::str::from_utf8(bytes)
            .ok()
            .map(|it| it.trim().to_owned())
    };
    let token = match place {
        TokenPlace::Header { name, prefix } => {
            let value = seen.header(name)?;
            let begin = value.get(..prefix.len())?;
            // Schemes of `authorization` have no case (RFC 9110 §11.1).
            if !begin.eq_ignore_ascii_case(prefix.as_bytes()) {
                return None;
            }
            text(&value[prefix.len()..])
        }
        TokenPlace::Query(name) => text(&predicate::query_value(seen, name)?),
        TokenPlace::Cookie(name) => text(&predicate::cookie(seen, name)?),
    };
    token.filter(|token| !token.is_empty())
}

/// What verification gave.
pub(super) enum Checked<'a> {
    /// There was no token, and none is needed.
    Nothing { tokens: &'a Tokens },
    Accepted {
        tokens: &'a Tokens,
        provider: &'a TokenProvider,
        place: TokenPlace,
        payload: String,
        token: Arc<Verified>,
    },
}

/// Verifies until a provider accepts a token. Waits only for keys that are not here yet.
pub(super) async fn check<'a>(
    worker: &Rc<Worker>,
    tokens: &'a Tokens,
    keys: &[Arc<KeyState>],
    found: Found,
) -> Result<Checked<'a>, Denied> {
    if found.0.is_empty() {
        return match tokens.required {
            true => Err(Denied::Missing),
            false => Ok(Checked::Nothing { tokens }),
        };
    }
    let mut worst = Denied::Issuer;
    for (at, place, text) in found.0 {
        let (provider, keys) = (&tokens.providers[at], &keys[at]);
        match verify(worker, provider, keys, &text).await {
            Ok(token) => {
                let payload = match provider.payload_header {
                    Some(_) => text.split('.').nth(1).unwrap_or_default().to_owned(),
                    None => String::new(),
                };
                return Ok(Checked::Accepted {
                    tokens,
                    provider,
                    place,
                    payload,
                    token,
                });
            }
            // What a provider says about its own tokens tells more than that it has others.
            Err(Denied::Issuer) => {}
            Err(denied) => worst = denied,
        }
    }
    Err(worst)
}

async fn verify(
    worker: &Rc<Worker>,
    provider: &TokenProvider,
    state: &KeyState,
    text: &str,
) -> Result<Arc<Verified>, Denied> {
    if text.len() > LONGEST {
        return Err(Denied::Form);
    }
    let digest = keys::digest(text);
    if let Some(token) = state.recall(&digest, worker.guards.now()) {
        check_issuer(provider, &token.claims)?;
        check_claims(provider, &token.claims, worker.guards.wall_clock())?;
        return Ok(token);
    }
    let signed = Signed::parse(text)?;
    // Before its signature counts for anything, the claims only choose what to check it against.
    check_issuer(provider, &signed.claims)?;
    let set = source::get(worker, state, &signed).await?;
    set.verify(&signed, &digest)?;
    check_claims(provider, &signed.claims, worker.guards.wall_clock())?;
    let token = Arc::new(Verified::new(signed.claims));
    set.keep(&digest, text, &token);
    Ok(token)
}

fn check_issuer(provider: &TokenProvider, claims: &Value) -> Result<(), Denied> {
    let issuer = claims.get("iss").and_then(Value::as_str);
    match provider.issuer.as_deref() {
        Some(wanted) if Some(wanted) != issuer => Err(Denied::Issuer),
        _ => Ok(()),
    }
}

/// `now` in seconds since 1970.
fn check_claims(provider: &TokenProvider, claims: &Value, now: f64) -> Result<(), Denied> {
    let leeway = provider.leeway.as_secs_f64();
    let time = |name: &str| match claims.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_f64().map(Some).ok_or(Denied::Form),
    };
    if time("nbf")?.is_some_and(|begin| now + leeway < begin) {
        return Err(Denied::Early);
    }
    if time("exp")?.is_some_and(|end| now - leeway >= end) {
        return Err(Denied::Expired);
    }
    if provider.audiences.is_empty() {
        return Ok(());
    }
    // A trailing slash makes no difference, as in Envoy.
    let plain = |text: &'_ str| text.trim_end_matches('/').len();
    let is_wanted = |value: &Value| {
        let Some(audience) = value.as_str() else {
            return false;
        };
        let audience = &audience[..plain(audience)];
        let mut wanted = provider.audiences.iter();
        wanted.any(|one| one[..plain(one)] == *audience)
    };
    let holds = match claims.get("aud") {
        Some(Value::Array(list)) => list.iter().any(is_wanted),
        Some(one) => is_wanted(one),
        None => false,
    };
    if holds { Ok(()) } else { Err(Denied::Audience) }
}

impl Checked<'_> {
    /// Tells the backend, and nobody else may have told it.
    pub(super) fn apply(self, passage: &mut Passage) {
        let tokens = match &self {
            Self::Nothing { tokens } | Self::Accepted { tokens, .. } => *tokens,
        };
        for provider in &tokens.providers {
            let names = provider.claims_to_headers.iter().map(|(_, header)| header);
            let ops = &mut passage.extra.first;
            ops.remove
                .extend(names.chain(&provider.payload_header).cloned());
        }
        let Self::Accepted {
            provider,
            place,
            payload,
            token,
            ..
        } = self
        else {
            return;
        };
        for (claim, header) in &provider.claims_to_headers {
            let whole: [Arc<str>; 1] = [Arc::clone(claim)];
            let parts: Vec<Arc<str>> = claim.split('.').map(Arc::from).collect();
            let mut values = token.values(&whole);
            if values.is_empty() {
                values = token.values(&parts);
            }
            if let Some(value) = values.first() {
                passage.set(Arc::clone(header), value.as_ref().into());
            }
        }
        if let Some(header) = &provider.payload_header {
            passage.set(Arc::clone(header), payload.into());
        }
        if !provider.forward {
            hide(&place, passage);
        }
        passage.token = Some(token);
    }
}

/// Keeps what was at a place from the backend. Cookies stay: they hold more than that.
pub(super) fn hide(place: &TokenPlace, passage: &mut Passage) {
    match place {
        TokenPlace::Header { name, .. } => passage.extra.first.remove.push(Arc::clone(name)),
        TokenPlace::Query(name) => passage.hidden_query = Some(Arc::clone(name)),
        TokenPlace::Cookie(_) => {}
    }
}

/// Why a token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Denied {
    Missing,
    Form,
    Algorithm,
    Issuer,
    Audience,
    Early,
    Expired,
    NoKey,
    NoKeys,
    Fetch,
    Signature,
}

impl Denied {
    fn text(self) -> &'static str {
        match self {
            Self::Missing => "Jwt is missing",
            Self::Form => {
                "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections"
            }
            Self::Algorithm => "Jwt header [alg] is not supported",
            Self::Issuer => "Jwt issuer is not configured",
            Self::Audience => "Audiences in Jwt are not allowed",
            Self::Early => "Jwt not yet valid",
            Self::Expired => "Jwt is expired",
            Self::NoKey => "Jwks doesn't have key to match kid or alg from Jwt",
            Self::NoKeys => "Jwks doesn't have any valid public key",
            Self::Fetch => "Jwks remote fetch is failed",
            Self::Signature => "Jwt verification fails",
        }
    }
}

/// The answer to a request whose token is not accepted.
pub(super) fn refused(denied: Denied, realm: &str) -> Held {
    let error = match denied {
        Denied::Missing => "",
        _ => ", error=\"invalid_token\"",
    };
    // A token for somebody else is good, but not here.
    let status = if denied == Denied::Audience { 403 } else { 401 };
    let refusal = Refusal::new(Kind::Token, status, denied.text());
    let challenge = format!("Bearer realm=\"{realm}\"{error}");
    match status {
        401 => refusal.header("www-authenticate", challenge).into(),
        _ => refusal.into(),
    }
}

/// One part of a token.
fn decode(part: &str) -> Result<Vec<u8>, Denied> {
    let part = part.trim_end_matches('=');
    URL_SAFE_NO_PAD.decode(part).map_err(|_| Denied::Form)
}

#[cfg(test)]
mod tests;
