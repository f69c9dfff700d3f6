//! `RequestAuthentication` → which tokens are verified. A request without a token passes: an
//! AuthorizationPolicy has to ask for one.

use std::sync::Arc;
use std::time::Duration;

use routing::model::{KeySource, TokenPlace, TokenProvider};

use super::values;
use crate::fields::Fields;
use crate::shared::headers;

const TIMEOUT: Duration = Duration::from_secs(5);
/// How long fetched keys are kept, and by how much clocks may differ: Istio's.
const REFRESH: Duration = Duration::from_secs(20 * 60);
const LEEWAY: Duration = Duration::from_secs(60);
/// A set that verifies nothing.
const NO_KEYS: &str = r#"{"keys":[]}"#;

/// The issuers of a policy.
pub(super) fn read(spec: &Fields<'_>) -> Vec<TokenProvider> {
    spec.objects("jwtRules").iter().map(rule).collect()
}

fn rule(rule: &Fields<'_>) -> TokenProvider {
    let issuer = rule.text("issuer");
    if issuer.is_none() {
        rule.refuse("issuer", "IssuerMissing", "a rule needs an issuer");
    }
    let texts = |key: &str| rule.strings(key).into_iter().map(Arc::from).collect();
    let mut from = places(rule);
    if from.is_empty() {
        from = vec![
            TokenPlace::Header {
                name: "authorization".into(),
                prefix: "Bearer ".into(),
            },
            TokenPlace::Query("access_token".into()),
        ];
    }
    let header = rule.text("outputPayloadToHeader");
    let payload_header = header.and_then(|name| match headers::name(name) {
        Ok(name) => Some(name),
        Err(error) => {
            rule.refuse("outputPayloadToHeader", "HeaderInvalid", error);
            None
        }
    });
    rule.unsupported("spaceDelimitedClaims", "scope is taken apart by itself");
    TokenProvider {
        issuer: issuer.map(Arc::from),
        audiences: texts("audiences"),
        keys: keys(rule),
        from,
        forward: rule.bool("forwardOriginalToken").unwrap_or(false),
        claims_to_headers: claims(rule),
        payload_header,
        leeway: LEEWAY,
    }
}

fn keys(rule: &Fields<'_>) -> KeySource {
    let uri = rule.text("jwksUri").or_else(|| rule.text("jwks_uri"));
    let timeout = rule.parse("timeout", values::duration).unwrap_or(TIMEOUT);
    match (rule.text("jwks"), uri) {
        (Some(jwks), _) => KeySource::Inline(jwks.into()),
        (None, Some(uri)) => KeySource::Remote {
            uri: uri.into(),
            timeout,
            refresh: REFRESH,
        },
        (None, None) => {
            let message = "keys are not discovered by the issuer; write jwksUri or jwks, until \
                           then tokens of this issuer are refused";
            rule.refuse("jwksUri", "KeysMissing", message);
            KeySource::Inline(NO_KEYS.into())
        }
    }
}

fn places(rule: &Fields<'_>) -> Vec<TokenPlace> {
    let mut found = Vec::new();
    for header in rule.objects("fromHeaders") {
        match headers::name(header.text("name").unwrap_or_default()) {
            Ok(name) => found.push(TokenPlace::Header {
                name,
                prefix: header.str("prefix").unwrap_or_default().into(),
            }),
            Err(error) => header.refuse("name", "HeaderInvalid", error),
        }
    }
    let texts = |key: &str| rule.strings(key).into_iter().map(Arc::from);
    found.extend(texts("fromParams").map(TokenPlace::Query));
    found.extend(texts("fromCookies").map(TokenPlace::Cookie));
    found
}

fn claims(rule: &Fields<'_>) -> Vec<(Arc<str>, Arc<str>)> {
    let mut found = Vec::new();
    for entry in rule.objects("outputClaimToHeaders") {
        let claim = entry.text("claim");
        match (
            headers::name(entry.text("header").unwrap_or_default()),
            claim,
        ) {
            (Ok(header), Some(claim)) => found.push((Arc::from(claim), header)),
            (Ok(_), None) => entry.refuse("claim", "ClaimMissing", "write the claim's name"),
            (Err(error), _) => entry.refuse("header", "HeaderInvalid", error),
        }
    }
    found
}
