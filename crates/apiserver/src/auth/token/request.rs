//! TokenRequests: who may get a token of an account, for whom and for how long.

use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest};
use serde_json::{Value, json};

use super::{ACCOUNT_PREFIX, ACCOUNTS, CLAIM, ISSUER, Tokens};
use crate::crud::{new_uid, object_key, timestamp};
use crate::status::{FieldError, Named, Status};
use crate::store::Store;

const SHORTEST: i64 = 10 * 60;
const LONGEST: i64 = 1 << 32;
const STANDARD: i64 = 60 * 60;

/// Answers a TokenRequest for an account.
pub(crate) fn create(
    tokens: &Tokens,
    store: &Store,
    (namespace, name): (&str, &str),
    mut question: Value,
    now: Timestamp,
) -> Result<Value, Status> {
    let account = store
        .get(ACCOUNTS, &object_key(namespace, name))
        .ok_or_else(|| not_found(ACCOUNTS, name))?;
    let request: TokenRequest = serde_json::from_value(question.clone()).map_err(|error| {
        Status::bad_request(format!("the TokenRequest cannot be read: {error}"))
    })?;
    let named = request.metadata.name.as_deref().unwrap_or_default();
    if !named.is_empty() && named != name {
        return Err(Status::bad_request(format!(
            "the name of the object ({named}) does not match the name on the URL ({name})"
        )));
    }
    let spec = request.spec.unwrap_or_default();
    let seconds = lifetime(spec.expiration_seconds)?;
    let audiences = match spec.audiences {
        Some(audiences) if !audiences.is_empty() => audiences,
        _ => vec![ISSUER.to_owned()],
    };
    let (issued, expires) = (now.as_second(), now.as_second() + seconds);
    let mut own = json!({
        "namespace": namespace,
        "serviceaccount": { "name": name, "uid": account.uid() },
    });
    if let Some(reference) = &spec.bound_object_ref {
        bind(store, (namespace, name), reference, &mut own)?;
    }
    let token = tokens.key.sign(&json!({
        "aud": audiences,
        "exp": expires,
        "iat": issued,
        "iss": ISSUER,
        "jti": new_uid(),
        CLAIM: own,
        "nbf": issued,
        "sub": format!("{ACCOUNT_PREFIX}{namespace}:{name}"),
    }))?;
    let expires = Timestamp::from_second(expires).map_err(Status::internal)?;
    question["metadata"] = json!({
        "name": name,
        "namespace": namespace,
        "creationTimestamp": timestamp(now),
    });
    question["spec"]["audiences"] = json!(audiences);
    question["spec"]["expirationSeconds"] = json!(seconds);
    question["status"] = json!({ "token": token, "expirationTimestamp": timestamp(expires) });
    Ok(question)
}

fn lifetime(asked: Option<i64>) -> Result<i64, Status> {
    let seconds = asked.unwrap_or(STANDARD);
    let wrong = if seconds < SHORTEST {
        "may not specify a duration less than 10 minutes"
    } else if seconds > LONGEST {
        "may not specify a duration larger than 2^32 seconds"
    } else {
        return Ok(seconds);
    };
    let error = FieldError::invalid("spec.expirationSeconds", &json!(seconds), wrong);
    Err(Status::invalid(
        "authentication.k8s.io",
        "TokenRequest",
        "",
        &[error],
    ))
}

/// Adds the object that the token is bound to, with whose deletion it ends.
fn bind(
    store: &Store,
    (namespace, account): (&str, &str),
    reference: &BoundObjectReference,
    own: &mut Value,
) -> Result<(), Status> {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let (kind, name, uid) = (
        text(&reference.kind),
        text(&reference.name),
        text(&reference.uid),
    );
    let (field, resource, place) = match (text(&reference.api_version).as_str(), kind.as_str()) {
        ("v1", "Pod") => ("pod", "pods", namespace),
        ("v1", "Secret") => ("secret", "secrets", namespace),
        ("v1", "Node") => ("node", "nodes", ""),
        (version, _) => {
            return Err(Status::bad_request(format!(
                "cannot bind token to object of type {version}, Kind={kind}"
            )));
        }
    };
    let object = store
        .get(resource, &object_key(place, &name))
        .ok_or_else(|| not_found(resource, &name))?;
    if !uid.is_empty() && uid != object.uid() {
        let what = Named {
            group: "",
            resource,
            name: &name,
        };
        let why = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        );
        return Err(Status::conflict(what, &why));
    }
    let value = object.value();
    if field == "pod" {
        if value["spec"]["serviceAccountName"]
            .as_str()
            .unwrap_or("default")
            != account
        {
            return Err(Status::bad_request(format!(
                "cannot bind token for serviceaccount {account:?} to pod running with different serviceaccount name."
            )));
        }
        let node = value["spec"]["nodeName"].as_str().unwrap_or_default();
        if let Some(node) = store.get("nodes", node) {
            let value = node.value();
            own["node"] = json!({ "name": value["metadata"]["name"], "uid": node.uid() });
        }
    }
    own[field] = json!({ "name": name, "uid": object.uid() });
    Ok(())
}

fn not_found(resource: &str, name: &str) -> Status {
    Status::not_found(Named {
        group: "",
        resource,
        name,
    })
}
