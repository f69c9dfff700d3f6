//! `oauth2` of an AuthConfig: access tokens that are verified here.
//!
//! Logins and tokens that only their issuer can read are not served: whoever refers to them is
//! closed.

use std::sync::Arc;
use std::time::Duration;

use routing::model::{
    AccessRule, Authorization, KeySource, Predicate, Subject, Test, TextTest, TokenProvider, Tokens,
};

use super::jwt;
use super::status::CLOSED;
use crate::fields::Fields;
use crate::foreign::Object;

/// What is not served, with what to do instead.
const LOGINS: [&str; 2] = ["oidcAuthorizationCode", "oauth2"];
const LOGIN: &str = "logins are not served: have a server that does them (as oauth2-proxy) asked \
                     with customAuth and httpService in the Settings, or write accessTokenValidation \
                     for clients that log in by themselves";
const OPAQUE: [&str; 2] = ["introspection", "introspectionUrl"];
const INTROSPECTION: &str = "issuers are not asked about tokens: have them issue JSON Web Tokens \
                             and write jwt, or write passThroughAuth with a server of your own that asks";

/// What is asked of access tokens.
pub(super) struct Access {
    pub(super) tokens: Tokens,
    /// Scopes that a token must have.
    pub(super) scopes: Option<Authorization>,
}

/// Reads `oauth2`; what cannot be served closes.
pub(super) fn read(fields: &Fields<'_>, object: &Object) -> Option<Access> {
    let close = |of: &Fields<'_>, key: &str, text: &str| {
        of.ignore(key);
        of.refuse(key, CLOSED, format!("{key} is not supported: {text}"));
    };
    for key in LOGINS.into_iter().filter(|key| fields.has(key)) {
        close(fields, key, LOGIN);
    }
    let Some(access) = fields.object("accessTokenValidation") else {
        if !LOGINS.iter().any(|key| fields.has(key)) {
            let text = "it asks for nothing: write accessTokenValidation";
            fields.refuse("accessTokenValidation", CLOSED, text);
        }
        return None;
    };
    // Nothing is asked of others, so there is nothing to keep.
    access.ignore("cacheTimeout");
    access.ignore("default");
    access.unsupported("azure", "claims are those in the token itself");
    access.unsupported("userinfoUrl", "claims are those in the token itself");
    let remedy = "write claimsToHeaders";
    access.unsupported("dynamicMetadataFromClaims", remedy);
    for key in OPAQUE.into_iter().filter(|key| access.has(key)) {
        close(&access, key, INTROSPECTION);
    }
    let claims_to_headers = jwt::claims(&access);
    let scopes = scopes(&access, object);
    let Some(jwt) = access.object("jwt") else {
        if !OPAQUE.iter().any(|key| access.has(key)) {
            let text = "it does not say how tokens are verified: write jwt";
            access.refuse("jwt", CLOSED, text);
        }
        return None;
    };
    let audiences = jwt.strings("audiences").into_iter();
    let provider = TokenProvider {
        issuer: jwt.text("issuer").map(Arc::from),
        audiences: audiences.map(Arc::from).collect(),
        from: jwt::usual_places(),
        forward: true,
        claims_to_headers,
        payload_header: None,
        leeway: Duration::ZERO,
        keys: keys(&jwt)?,
    };
    Some(Access {
        tokens: Tokens {
            providers: vec![provider],
            required: true,
        },
        scopes,
    })
}

fn keys(fields: &Fields<'_>) -> Option<KeySource> {
    let local = fields.object("localJwks");
    let remote = fields.object("remoteJwks");
    match (local, remote) {
        (Some(local), _) => jwt::inline(&local, "inlineString"),
        (None, Some(remote)) => jwt::remote(&remote, "refreshInterval"),
        (None, None) => {
            let text = "no keys are named: write remoteJwks or localJwks";
            fields.refuse("remoteJwks", CLOSED, text);
            None
        }
    }
}

/// Every one must be among those of the token.
fn scopes(fields: &Fields<'_>, object: &Object) -> Option<Authorization> {
    let required = fields.object("requiredScopes")?;
    let has = |scope: &str| Predicate {
        subject: Subject::Claim(["scope".into()].into()),
        test: Test::Text {
            how: TextTest::Exact,
            value: scope.into(),
            ignore_case: false,
        },
        negate: false,
        missing_is_empty: false,
    };
    let all = required.strings("scope").into_iter();
    let all: Vec<_> = all.map(|scope| vec![vec![has(scope)]]).collect();
    let rule = AccessRule {
        policy: object.name.to_string().into(),
        all,
    };
    (!rule.all.is_empty()).then(|| Authorization {
        allow: Some(vec![rule]),
        ..Authorization::default()
    })
}
