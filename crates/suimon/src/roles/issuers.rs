//! Issuers of tokens, asked over HTTPS where their keys are.
//!
//! Certificates are verified against the machine's authorities. An issuer that is spoken to over
//! HTTPS cannot send us to plain HTTP, neither by a redirect nor for its keys.

use std::sync::OnceLock;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use publisher::Discover;
use reqwest::redirect::Policy;
use serde_json::Value;

/// Bytes of an issuer's document; the well-known ones have a few thousand.
const LARGEST: usize = 256 * 1024;
const MOST_REDIRECTS: usize = 5;
/// The publisher waits no longer; this ends what it gave up.
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks the issuers themselves.
#[derive(Debug, Default)]
pub struct WellKnown {
    /// Made for the first question: it reads the machine's authorities, and most have no issuer.
    client: OnceLock<Result<reqwest::Client, String>>,
}

impl WellKnown {
    fn client(&self) -> Result<&reqwest::Client, String> {
        let made = self.client.get_or_init(|| {
            let made = Self::make();
            made.map_err(|error| chain(&error))
        });
        made.as_ref().map_err(String::clone)
    }

    fn make() -> reqwest::Result<reqwest::Client> {
        let redirect = Policy::custom(|attempt| {
            let from = attempt.previous().last();
            let is_downgrade = from.is_some_and(|from| from.scheme() == "https")
                && attempt.url().scheme() != "https";
            if attempt.previous().len() > MOST_REDIRECTS {
                attempt.error("it redirects too often")
            } else if is_downgrade {
                attempt.error("it redirects to plain HTTP")
            } else {
                attempt.follow()
            }
        });
        reqwest::Client::builder()
            .redirect(redirect)
            .timeout(PATIENCE)
            .user_agent("suimon")
            // One question in many minutes: a connection that is kept would only age.
            .pool_max_idle_per_host(0)
            .build()
    }

    async fn ask(&self, issuer: &str) -> Result<String, String> {
        let client = self.client()?;
        let at = publisher::document(issuer);
        let failed = |error: reqwest::Error| format!("{at}: {}", chain(&error.without_url()));
        let mut answer = client.get(&at).send().await.map_err(failed)?;
        if !answer.status().is_success() {
            let status = answer.status().as_u16();
            return Err(format!("{at}: the answer has status {status}"));
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > LARGEST {
                return Err(format!("{at}: the answer is longer than {LARGEST} bytes"));
            }
            body.extend_from_slice(&chunk);
        }
        keys(issuer, &body).map_err(|why| format!("{at}: {why}"))
    }
}

impl Discover for WellKnown {
    fn keys_of<'d>(&'d self, issuer: &'d str) -> BoxFuture<'d, Result<String, String>> {
        self.ask(issuer).boxed()
    }
}

/// The `jwks_uri` of an issuer's document.
fn keys(issuer: &str, document: &[u8]) -> Result<String, String> {
    let document: Value =
        serde_json::from_slice(document).map_err(|error| format!("it is no JSON: {error}"))?;
    let uri = document["jwks_uri"].as_str();
    let uri = uri.ok_or("it has no jwks_uri")?;
    let scheme = uri.split_once("://").map(|(scheme, _)| scheme);
    let is_secure = |scheme: &str| scheme.eq_ignore_ascii_case("https");
    match scheme {
        Some(scheme) if is_secure(scheme) => Ok(uri.to_owned()),
        Some(scheme) if scheme.eq_ignore_ascii_case("http") => {
            let asked = issuer.split_once("://").map(|(scheme, _)| scheme);
            if asked.is_some_and(is_secure) {
                return Err(format!("its jwks_uri {uri:?} is plain HTTP"));
            }
            Ok(uri.to_owned())
        }
        _ => Err(format!("its jwks_uri {uri:?} is neither https nor http")),
    }
}

/// An error with what caused it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut at = error.source();
    while let Some(source) = at {
        text.push_str(&format!(": {source}"));
        at = source.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_where_the_document_says_and_never_less_secure_than_the_issuer() {
        let ask = |issuer: &str, document: &str| keys(issuer, document.as_bytes());
        let secure = r#"{"issuer": "x", "jwks_uri": "https://k.example/keys"}"#;
        let plain = r#"{"jwks_uri": "http://k.example/keys"}"#;
        for issuer in ["https://i.example", "http://i.example"] {
            assert_eq!(ask(issuer, secure).as_deref(), Ok("https://k.example/keys"));
        }
        assert_eq!(
            ask("http://i.example", plain).as_deref(),
            Ok("http://k.example/keys")
        );
        let refused = [
            ("https://i.example", plain, "is plain HTTP"),
            ("HTTPS://i.example", plain, "is plain HTTP"),
            ("https://i.example", "{}", "no jwks_uri"),
            ("https://i.example", r#"{"jwks_uri": 5}"#, "no jwks_uri"),
            (
                "https://i.example",
                r#"{"jwks_uri": "file:///etc"}"#,
                "neither",
            ),
            ("https://i.example", "<html>", "no JSON"),
        ];
        for (issuer, document, expected) in refused {
            let why = ask(issuer, document).expect_err(document);
            assert!(why.contains(expected), "{why}");
        }
    }
}
