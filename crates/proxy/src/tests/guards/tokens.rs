//! JSON Web Tokens at the gateway's door.

use std::sync::atomic::{AtomicUsize, Ordering};

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use routing::model::{KeySource, TokenPlace, TokenProvider, Tokens};

use super::*;

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn signed(claims: &str) -> String {
    let text = format!("{}.{}", encode(r#"{"alg":"HS256"}"#), encode(claims));
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"secret");
    let signature = hmac::sign(&key, text.as_bytes());
    format!("{text}.{}", encode(signature))
}

fn provider(keys: KeySource) -> TokenProvider {
    TokenProvider {
        issuer: Some("issuer".into()),
        audiences: Vec::new(),
        keys,
        from: vec![
            TokenPlace::Header {
                name: "authorization".into(),
                prefix: "Bearer ".into(),
            },
            TokenPlace::Query("access_token".into()),
        ],
        forward: false,
        claims_to_headers: vec![("sub".into(), "x-sub".into())],
        payload_header: Some("x-payload".into()),
        leeway: Duration::ZERO,
    }
}

fn inline() -> KeySource {
    let set = format!(r#"{{"keys":[{{"kty":"oct","k":"{}"}}]}}"#, encode("secret"));
    KeySource::Inline(set.into())
}

fn tokens(keys: KeySource, required: bool) -> Guards {
    Guards {
        tokens: Some(Arc::new(Tokens {
            providers: vec![provider(keys)],
            required,
        })),
        ..Guards::default()
    }
}

fn bearer(token: &str) -> String {
    get(
        "/",
        &format!("Authorization: Bearer {token}\r\nX-Sub: forged\r\n"),
    )
}

#[tokio::test]
async fn a_good_token_passes_and_its_claims_reach_the_backend_in_its_place() {
    let server = RawServer::echoing().await;
    let gateway = guarded(&server, tokens(inline(), true)).await;
    let claims = r#"{"iss":"issuer","sub":"alice"}"#;
    let answer = ask(gateway.address, bearer(&signed(claims))).await;
    let seen = answer.text();
    assert_eq!(answer.status(), 200, "{seen}");
    assert!(
        seen.contains("x-sub: alice\n") && !seen.contains("forged"),
        "{seen}"
    );
    assert!(
        seen.contains(&format!("x-payload: {}\n", encode(claims))),
        "{seen}"
    );
    assert!(!seen.to_lowercase().contains("authorization"), "{seen}");
    let query = get(&format!("/p?a=1&access_token={}&b=2", signed(claims)), "");
    let seen = ask(gateway.address, query).await.text();
    assert!(seen.starts_with("GET /p?a=1&b=2 HTTP/1.1\n"), "{seen}");
}

#[tokio::test]
async fn a_wrong_token_is_refused_with_the_reason_and_a_missing_one_if_it_is_required() {
    let server = RawServer::echoing().await;
    let mut gateway = guarded(&server, tokens(inline(), true)).await;
    let cases = [
        (GET.to_owned(), "Jwt is missing"),
        (
            bearer("x"),
            "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections",
        ),
        (
            bearer(&signed(r#"{"iss":"other"}"#)),
            "Jwt issuer is not configured",
        ),
        (
            bearer(&signed(r#"{"iss":"issuer","exp":1}"#)),
            "Jwt is expired",
        ),
        (
            bearer(&format!("{}x", signed(r#"{"iss":"issuer"}"#))),
            "Jwt verification fails",
        ),
    ];
    for (request, text) in &cases {
        let answer = ask(gateway.address, request.clone()).await;
        assert_eq!((answer.status(), answer.text()), (401, (*text).to_owned()));
        let challenge = answer.header("www-authenticate").unwrap_or_default();
        assert!(
            challenge.starts_with("Bearer realm=\"http://a/\""),
            "{challenge}"
        );
    }
    guard(&mut gateway, tokens(inline(), false));
    let forged = ask(gateway.address, get("/", "X-Sub: forged\r\n")).await;
    assert_eq!(forged.status(), 200);
    assert!(!forged.text().contains("forged"), "{}", forged.text());
    assert_eq!(ask(gateway.address, bearer("x")).await.status(), 401);
}

#[tokio::test]
async fn policies_may_ask_for_claims() {
    let server = RawServer::echoing().await;
    let admin = Predicate {
        subject: Subject::Claim(["role".into()].into()),
        test: Test::In(["admin".into()].into()),
        negate: false,
        missing_is_empty: false,
    };
    let guards = Guards {
        authorization: Some(Arc::new(Authorization {
            allow: Some(vec![AccessRule {
                policy: "default/admins".into(),
                all: vec![vec![vec![admin]]],
            }]),
            ..Authorization::default()
        })),
        ..tokens(inline(), false)
    };
    let gateway = guarded(&server, guards).await;
    let requests = [
        GET.to_owned(),
        bearer(&signed(r#"{"iss":"issuer","role":"dev"}"#)),
        bearer(&signed(r#"{"iss":"issuer","role":["dev","admin"]}"#)),
    ];
    assert_eq!(statuses(&gateway, &requests).await, [403, 403, 200]);
}

/// A key set for ES256, and a token of its key.
fn published(kid: &str) -> (String, String) {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
    let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
    let (x, y) = (encode(x), encode(y));
    let set =
        format!(r#"{{"keys":[{{"kty":"EC","crv":"P-256","kid":"{kid}","x":"{x}","y":"{y}"}}]}}"#);
    let header = format!(r#"{{"alg":"ES256","kid":"{kid}"}}"#);
    let text = format!("{}.{}", encode(header), encode(r#"{"iss":"issuer"}"#));
    let random = aws_lc_rs::rand::SystemRandom::new();
    let signature = pair.sign(&random, text.as_bytes()).expect("signed");
    (set, format!("{text}.{}", encode(signature)))
}

fn remote(address: std::net::SocketAddr) -> KeySource {
    KeySource::Remote {
        uri: format!("http://{address}/keys").into(),
        timeout: Duration::from_secs(5),
        refresh: Duration::from_secs(3600),
    }
}

#[tokio::test]
async fn keys_are_fetched_once_for_all_who_wait_for_them() {
    let server = RawServer::echoing().await;
    let (set, token) = published("one");
    let fetches = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&fetches);
    let issuer = RawServer::start(move |mut stream| {
        let (count, set) = (Arc::clone(&count), set.clone());
        async move {
            while stream.read_message(Body::Request).await.is_some() {
                count.fetch_add(1, Ordering::SeqCst);
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{set}\r\n0\r\n\r\n",
                    set.len()
                );
                stream.send(answer).await;
            }
        }
    })
    .await;
    let gateway = guarded(&server, tokens(remote(issuer.address), true)).await;
    let answers = at_once(&gateway, vec![bearer(&token); 8]).await;
    assert!(
        answers.iter().all(|answer| answer.status() == 200),
        "{answers:?}"
    );
    // A key that nobody has is looked for, but not for every request.
    let (_, unknown) = published("two");
    for _ in 0..5 {
        let answer = ask(gateway.address, bearer(&unknown)).await;
        assert_eq!(
            answer.text(),
            "Jwks doesn't have key to match kid or alg from Jwt"
        );
    }
    assert_eq!(fetches.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn without_keys_no_token_is_good() {
    let server = RawServer::echoing().await;
    let failing = RawServer::answering("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n").await;
    let gateway = guarded(&server, tokens(remote(failing.address), true)).await;
    let (_, token) = published("one");
    for _ in 0..3 {
        let answer = ask(gateway.address, bearer(&token)).await;
        assert_eq!(
            (answer.status(), answer.text()),
            (401, "Jwks remote fetch is failed".into())
        );
    }
    assert_eq!(
        failing.accepted(),
        1,
        "what failed is left alone for a while"
    );
}
