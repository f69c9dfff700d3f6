//! `RequestAuthentication` → which tokens are verified. A request without a token passes: an
//! AuthorizationPolicy has to ask for one.

use std::sync::Arc;
use std::time::Duration;

use routing::model::{KeySource, TokenPlace, TokenProvider};

use super::values;
use crate::fields::Fields;
use crate::objects::Reader;
use crate::shared::headers;

const TIMEOUT: Duration = Duration::from_secs(5);
/// How long fetched keys are kept, and by how much clocks may differ: Istio's.
const REFRESH: Duration = Duration::from_secs(20 * 60);
const LEEWAY: Duration = Duration::from_secs(60);
/// A set that verifies nothing.
const NO_KEYS: &str = r#"{"keys":[]}"#;

/// The issuers of a policy.
pub(super) fn read(spec: &Fields<'_>, reader: &Reader<'_>) -> Vec<TokenProvider> {
    let rules = spec.objects("jwtRules");
    rules.iter().map(|one| rule(one, reader)).collect()
}

fn rule(rule: &Fields<'_>, reader: &Reader<'_>) -> TokenProvider {
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
        keys: keys(rule, issuer, reader),
        from,
        forward: rule.bool("forwardOriginalToken").unwrap_or(false),
        claims_to_headers: claims(rule),
        payload_header,
        leeway: LEEWAY,
    }
}

fn keys(rule: &Fields<'_>, issuer: Option<&str>, reader: &Reader<'_>) -> KeySource {
    let uri = rule.text("jwksUri").or_else(|| rule.text("jwks_uri"));
    let timeout = rule.parse("timeout", values::duration).unwrap_or(TIMEOUT);
    let remote = |uri: Arc<str>| KeySource::Remote {
        uri,
        timeout,
        refresh: REFRESH,
    };
    if let Some(jwks) = rule.text("jwks") {
        return KeySource::Inline(jwks.into());
    }
    if let Some(uri) = uri {
        return remote(uri.into());
    }
    let none = KeySource::Inline(NO_KEYS.into());
    // Without an issuer there is nobody to ask, and that is told already.
    let Some(issuer) = issuer else { return none };
    if !is_url(issuer) {
        let message = "the issuer is no URL, so its keys cannot be discovered; write jwksUri or \
                       jwks, until then tokens of this issuer are refused";
        rule.refuse("jwksUri", "KeysMissing", message);
        return none;
    }
    match reader.issuer(&issuer.into()) {
        Some(Ok(uri)) => remote(Arc::clone(uri)),
        Some(Err(why)) => {
            let message = format!(
                "keys are not found: {why}; tokens of this issuer are refused until they are. \
                 Check the issuer, or write jwksUri or jwks"
            );
            rule.refuse("issuer", "DiscoveryFailed", message);
            none
        }
        // It is being asked.
        None => none,
    }
}

/// An issuer that publishes its keys is a URL without query and fragment (OpenID Connect Core 1.0,
/// section 2). Plain HTTP is for issuers within the cluster.
fn is_url(issuer: &str) -> bool {
    let Some((scheme, rest)) = issuer.split_once("://") else {
        return false;
    };
    let is_known = ["https", "http"]
        .iter()
        .any(|it| scheme.eq_ignore_ascii_case(it));
    let host = rest.split('/').next().unwrap_or_default();
    let is_odd = |byte: u8| byte.is_ascii_control() || b" ?#\\\"<>".contains(&byte);
    is_known && !host.is_empty() && !host.contains('@') && !rest.bytes().any(is_odd)
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fields::Findings;
    use crate::objects::{Dependency, Discovered, Objects};

    const ISSUER: &str = "https://issuer.example/realm";

    /// The source of a rule's keys, and what is told about it.
    fn source(rule: serde_json::Value, found: Option<Discovered>) -> (KeySource, Vec<String>) {
        let mut objects = Objects::default();
        drop(objects.put_issuer(&ISSUER.into(), found));
        let spec = json!({"jwtRules": [rule]});
        let findings = Findings::default();
        let mut providers = {
            let fields = Fields::new(&spec, "spec".to_owned(), &findings);
            read(&fields, &Reader::new(&objects))
        };
        let told = findings.take().into_iter();
        let told = told.map(|it| format!("{}: {}", it.reason, it.message));
        (providers.remove(0).keys, told.collect())
    }

    fn remote(uri: &str, timeout: Duration) -> KeySource {
        KeySource::Remote {
            uri: uri.into(),
            timeout,
            refresh: REFRESH,
        }
    }

    #[test]
    fn keys_are_where_the_issuer_says_unless_the_rule_says_it() {
        let found: Discovered = Ok("https://issuer.example/keys".into());
        let plain = json!({"issuer": ISSUER, "timeout": "2s"});
        let (keys, told) = source(plain, Some(found.clone()));
        let expected = remote("https://issuer.example/keys", Duration::from_secs(2));
        assert_eq!((keys, told), (expected, Vec::new()));
        let said = json!({"issuer": ISSUER, "jwksUri": "https://other.example/keys"});
        let (keys, told) = source(said, Some(found));
        let expected = remote("https://other.example/keys", TIMEOUT);
        assert_eq!((keys, told), (expected, Vec::new()));
    }

    #[test]
    fn until_keys_are_found_no_token_is_good_and_a_failure_is_told() {
        let none = KeySource::Inline(NO_KEYS.into());
        let rule = json!({"issuer": ISSUER});
        assert_eq!(source(rule.clone(), None), (none.clone(), Vec::new()));
        let failed: Discovered = Err("it is away".into());
        let (keys, told) = source(rule, Some(failed));
        assert_eq!(keys, none);
        assert!(told[0].starts_with("DiscoveryFailed: keys are not found: it is away;"));
        let (keys, told) = source(json!({"issuer": "testing@secure.istio.io"}), None);
        assert_eq!(keys, none);
        assert!(told[0].starts_with("KeysMissing: the issuer is no URL"));
    }

    #[test]
    fn only_who_is_asked_is_read() {
        let reads = |rule: serde_json::Value| {
            let objects = Objects::default();
            let reader = Reader::new(&objects);
            let spec = json!({"jwtRules": [rule]});
            let findings = Findings::default();
            read(&Fields::new(&spec, "spec".to_owned(), &findings), &reader);
            reader
                .into_read()
                .contains(&Dependency::Issuer(ISSUER.into()))
        };
        assert!(reads(json!({"issuer": ISSUER})));
        assert!(!reads(json!({"issuer": ISSUER, "jwks": "{}"})));
    }

    #[test]
    fn urls_are_told_from_names() {
        for good in ["https://a", "http://a:8080/x", "HTTPS://a.example/"] {
            assert!(is_url(good), "{good}");
        }
        for bad in [
            "a",
            "a@b.c",
            "https://",
            "https:///x",
            "ftp://a",
            "https://a/?q",
            "https://a b",
            "https://me@a",
            "https://a#f",
            "urn://a",
        ] {
            assert!(!is_url(bad), "{bad}");
        }
    }
}
