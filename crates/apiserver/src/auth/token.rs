//! Tokens of service accounts: signed here, and good while what they name exists.
//!
//! A token is a JWT with the claims of Kubernetes. Whoever shows one is looked up at every request:
//! a deleted account, or a deleted pod that the token is bound to, ends it before it expires.

mod key;
mod request;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::impersonate::account_groups;
use super::review::user_info;
use super::{ACCOUNT_PREFIX, AUTHENTICATED, in_process, same_secret};
use crate::admission::User;
use crate::crud::object_key;
use crate::status::Status;
use crate::store::Store;

pub(crate) use key::{Key, new_key};
pub(crate) use request::create;

/// Who issues tokens, and the audience of those that are for this server.
pub(crate) const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
/// Claim with what only Kubernetes has.
const CLAIM: &str = "kubernetes.io";
/// A longer token is refused unread; ours have less than 2 KiB.
const LONGEST: usize = 16 << 10;
/// Seconds by which a clock may be behind ours.
const LEEWAY: i64 = 60;
const EXTRA: &str = "authentication.kubernetes.io/";
const ACCOUNTS: &str = "serviceaccounts";

/// Knows whose a token is.
#[derive(Debug)]
pub(crate) struct Tokens {
    key: Key,
    /// The administrator's token, once the server listens.
    admin: OnceLock<Arc<str>>,
}

/// A token that is good.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) user: User,
    /// Those that the token is for and that were asked for.
    pub(crate) audiences: Vec<String>,
}

impl Tokens {
    pub(crate) fn new(key: Key) -> Self {
        Self {
            key,
            admin: OnceLock::new(),
        }
    }

    /// Accepts the administrator's token from now on.
    pub(crate) fn set_admin(&self, token: Arc<str>) {
        // A second call would be a second listener, which has the same token.
        let _ = self.admin.set(token);
    }

    /// Whose a token is, or why it is not accepted. `audiences`: for whom it must be.
    pub(crate) fn identify(
        &self,
        store: &Store,
        token: &str,
        audiences: &[String],
        now: Timestamp,
    ) -> Result<Known, String> {
        let admin = self.admin.get();
        if admin.is_some_and(|admin| same_secret(token.as_bytes(), admin.as_bytes())) {
            return administrator(audiences);
        }
        if token.len() > LONGEST {
            return Err("the token is too long".into());
        }
        let claims = self.key.verify(token)?;
        let audiences = check_claims(&claims, audiences, now)?;
        let user = user_of(store, &claims, now)?;
        Ok(Known { user, audiences })
    }

    /// `/.well-known/openid-configuration`; `address` is where this server was reached.
    pub(crate) fn discovery(address: &str) -> Value {
        json!({
            "issuer": ISSUER,
            "jwks_uri": format!("https://{address}/openid/v1/jwks"),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": [key::ALGORITHM],
        })
    }

    /// `/openid/v1/jwks`.
    pub(crate) fn key_set(&self) -> Value {
        json!({ "keys": [self.key.public()] })
    }

    /// Status of a TokenReview.
    pub(crate) fn review(
        &self,
        store: &Store,
        spec: &Value,
        now: Timestamp,
    ) -> Result<Value, Status> {
        let token = spec["token"].as_str().unwrap_or_default();
        if token.is_empty() {
            return Err(Status::bad_request(
                "token is required for TokenReview in authentication",
            ));
        }
        let mut audiences: Vec<String> = spec["audiences"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|audience| audience.as_str().map(ToOwned::to_owned))
            .collect();
        if audiences.is_empty() {
            audiences.push(ISSUER.to_owned());
        }
        Ok(match self.identify(store, token, &audiences, now) {
            Ok(known) => json!({
                "authenticated": true,
                "user": user_info(&known.user),
                "audiences": known.audiences,
            }),
            Err(why) => json!({ "user": {}, "error": format!("[invalid bearer token, {why}]") }),
        })
    }
}

/// The administrator is known to this server only, not to those who verify tokens themselves.
fn administrator(audiences: &[String]) -> Result<Known, String> {
    if !audiences.iter().any(|audience| audience == ISSUER) {
        return Err("the token is for the API server only".into());
    }
    let user = User {
        name: "suimon-admin".into(),
        groups: in_process().groups,
        ..User::default()
    };
    Ok(Known {
        user,
        audiences: vec![ISSUER.to_owned()],
    })
}

/// Time, issuer and audiences; returns the audiences that fit.
fn check_claims(claims: &Value, wanted: &[String], now: Timestamp) -> Result<Vec<String>, String> {
    if claims["iss"] != ISSUER {
        return Err(format!("the token was issued by {}", claims["iss"]));
    }
    let now = now.as_second();
    if claims["exp"].as_i64().is_none_or(|expires| expires <= now) {
        return Err("service account token has expired".into());
    }
    if claims["nbf"]
        .as_i64()
        .is_some_and(|begins| begins > now + LEEWAY)
    {
        return Err("service account token is not valid yet".into());
    }
    let own = claims["aud"].as_array().map_or(&[][..], Vec::as_slice);
    let fit: Vec<String> = wanted
        .iter()
        .filter(|audience| own.iter().any(|one| one == audience.as_str()))
        .cloned()
        .collect();
    if fit.is_empty() {
        return Err(format!(
            "token audiences {} is invalid for the target audiences {wanted:?}",
            claims["aud"]
        ));
    }
    Ok(fit)
}

/// The account of a token, if it and what the token is bound to still exist.
fn user_of(store: &Store, claims: &Value, now: Timestamp) -> Result<User, String> {
    let own = &claims[CLAIM];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let namespace = text(&own["namespace"]);
    let (name, uid) = (
        text(&own["serviceaccount"]["name"]),
        text(&own["serviceaccount"]["uid"]),
    );
    alive(store, ACCOUNTS, &namespace, &name, &uid, now)
        .map_err(|why| format!("service account token: the service account {name} {why}"))?;
    for (field, resource) in [("pod", "pods"), ("secret", "secrets")] {
        let bound = &own[field];
        if bound.is_object() {
            let (name, uid) = (text(&bound["name"]), text(&bound["uid"]));
            alive(store, resource, &namespace, &name, &uid, now)
                .map_err(|why| format!("service account token: the {field} {name} {why}"))?;
        }
    }
    let mut groups = account_groups(&namespace);
    groups.push(AUTHENTICATED.into());
    Ok(User {
        name: format!("{ACCOUNT_PREFIX}{namespace}:{name}").into(),
        groups,
        uid: uid.into(),
        extra: extra(claims),
    })
}

/// Whether an object with this uid exists, or was deleted less than a minute ago: a pod that
/// stops may still say so.
fn alive(
    store: &Store,
    resource: &str,
    namespace: &str,
    name: &str,
    uid: &str,
    now: Timestamp,
) -> Result<(), &'static str> {
    let Some(object) = store.get(resource, &object_key(namespace, name)) else {
        return Err("has been deleted");
    };
    if object.uid() != uid {
        return Err("has been deleted and made again since the token was issued");
    }
    let value = object.value();
    let deleted: Option<Timestamp> = value["metadata"]["deletionTimestamp"]
        .as_str()
        .and_then(|at| at.parse().ok());
    if deleted.is_some_and(|at| at.as_second() + LEEWAY < now.as_second()) {
        return Err("has been deleted");
    }
    Ok(())
}

/// What reviews show beside name and groups.
fn extra(claims: &Value) -> BTreeMap<String, Vec<String>> {
    let own = &claims[CLAIM];
    let mut extra = BTreeMap::new();
    let mut put = |key: &str, value: &Value| {
        if let Some(value) = value.as_str() {
            extra.insert(format!("{EXTRA}{key}"), vec![value.to_owned()]);
        }
    };
    if let Some(id) = claims["jti"].as_str() {
        put("credential-id", &json!(format!("JTI={id}")));
    }
    put("pod-name", &own["pod"]["name"]);
    put("pod-uid", &own["pod"]["uid"]);
    put("node-name", &own["node"]["name"]);
    put("node-uid", &own["node"]["uid"]);
    extra
}
