//! Impersonation: acting as somebody else, by `Impersonate-*` headers (`kubectl --as`).
//!
//! Every part of the other identity needs a permission of its own: the name, each group, the uid
//! and each extra value.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::HeaderMap;

use super::attributes::{Attributes, ResourceTarget};
use super::rbac::Policies;
use super::{ACCOUNT_PREFIX, AUTHENTICATED, UNAUTHENTICATED, permit};
use crate::admission::User;
use crate::http::path::percent_decode;
use crate::status::Status;

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";
const ANONYMOUS: &str = "system:anonymous";
const AUTHENTICATION: &str = "authentication.k8s.io";

/// The user as whom a request acts; `None` if it has no such headers.
pub(crate) fn user(
    policies: &impl Policies,
    caller: &User,
    headers: &HeaderMap,
) -> Result<Option<User>, Status> {
    let Some(wanted) = wanted(headers)? else {
        return Ok(None);
    };
    check(policies, caller, &wanted)?;
    Ok(Some(complete(wanted)))
}

/// What the headers ask for.
fn wanted(headers: &HeaderMap) -> Result<Option<User>, Status> {
    let text = |value: &http::HeaderValue| {
        value
            .to_str()
            .map(ToOwned::to_owned)
            .map_err(|_| Status::bad_request("an Impersonate header is not text"))
    };
    let first = |name: &str| headers.get(name).map(text).transpose();
    let name = first(USER)?.unwrap_or_default();
    let uid = first(UID)?.unwrap_or_default();
    let mut groups: Vec<Arc<str>> = Vec::new();
    for group in headers.get_all(GROUP) {
        groups.push(text(group)?.into());
    }
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (header, value) in headers {
        if let Some(key) = header.as_str().strip_prefix(EXTRA) {
            let key = percent_decode(key, false).unwrap_or_else(|| key.to_owned());
            extra.entry(key).or_default().push(text(value)?);
        }
    }
    if name.is_empty() {
        if groups.is_empty() && uid.is_empty() && extra.is_empty() {
            return Ok(None);
        }
        return Err(Status::internal(
            "groups, a uid or extra values cannot be impersonated without a user",
        ));
    }
    Ok(Some(User {
        name: name.into(),
        groups,
        uid: uid.into(),
        extra,
    }))
}

fn check(policies: &impl Policies, caller: &User, wanted: &User) -> Result<(), Status> {
    let may = |target| {
        permit(
            policies,
            caller,
            &Attributes::resource("impersonate", target),
        )
    };
    may(match account(&wanted.name) {
        Some((namespace, name)) => ResourceTarget {
            resource: "serviceaccounts",
            namespace,
            name,
            ..ResourceTarget::default()
        },
        None => ResourceTarget {
            resource: "users",
            name: &wanted.name,
            ..ResourceTarget::default()
        },
    })?;
    for group in &wanted.groups {
        may(ResourceTarget {
            resource: "groups",
            name: group,
            ..ResourceTarget::default()
        })?;
    }
    if !wanted.uid.is_empty() {
        may(ResourceTarget {
            group: AUTHENTICATION,
            resource: "uids",
            name: &wanted.uid,
            ..ResourceTarget::default()
        })?;
    }
    for (key, values) in &wanted.extra {
        for value in values {
            may(ResourceTarget {
                group: AUTHENTICATION,
                resource: "userextras",
                subresource: key,
                name: value,
                ..ResourceTarget::default()
            })?;
        }
    }
    Ok(())
}

/// Adds the groups that come with a name.
fn complete(mut user: User) -> User {
    if let Some((namespace, _)) = account(&user.name)
        && user.groups.is_empty()
    {
        user.groups = account_groups(namespace);
    }
    let known = user
        .groups
        .iter()
        .any(|group| [AUTHENTICATED, UNAUTHENTICATED].contains(&&**group));
    if !known {
        let group = if &*user.name == ANONYMOUS {
            UNAUTHENTICATED
        } else {
            AUTHENTICATED
        };
        user.groups.push(group.into());
    }
    user
}

/// Namespace and name of a service account, if the user is one.
fn account(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix(ACCOUNT_PREFIX)?.split_once(':')?;
    (!namespace.is_empty() && !name.is_empty() && !name.contains(':')).then_some((namespace, name))
}

/// The groups of the service accounts of a namespace, but for [`AUTHENTICATED`].
pub(crate) fn account_groups(namespace: &str) -> Vec<Arc<str>> {
    vec![
        "system:serviceaccounts".into(),
        format!("system:serviceaccounts:{namespace}").into(),
    ]
}
