//! Who calls, and what they may do.
//!
//! Members of `system:masters` and the controllers of this process may do everything; everybody
//! else what stored roles and bindings say ([`rbac`]).

mod aggregate;
pub(crate) mod attributes;
mod bootstrap;
pub(crate) mod escalation;
pub(crate) mod impersonate;
pub(crate) mod rbac;
pub(crate) mod review;
mod rule;
pub(crate) mod token;

use std::sync::Arc;

use http::Method;
use jiff::Timestamp;
use serde_json::Value;

use crate::admission::User;
use crate::crud::{self, Call};
use crate::status::Status;
use crate::store::Store;
pub(crate) use aggregate::{run as aggregate_roles, settle as settle_roles};
use attributes::{Attributes, ResourceTarget};
pub(crate) use bootstrap::create_initial;
use rbac::{Decision, Policies};
use token::Tokens;

/// The group that may do everything.
pub const MASTERS: &str = "system:masters";
/// The group of everybody who is known.
pub(crate) const AUTHENTICATED: &str = "system:authenticated";
/// The group of everybody else.
pub(crate) const UNAUTHENTICATED: &str = "system:unauthenticated";
/// Names of service accounts as users: this, the namespace, a colon and the name.
pub(crate) const ACCOUNT_PREFIX: &str = "system:serviceaccount:";
/// The user of the in-process client.
const CONTROLLERS: &str = "system:suimon";

/// The user of the in-process client.
pub(crate) fn in_process() -> User {
    User {
        name: CONTROLLERS.into(),
        groups: vec![MASTERS.into(), AUTHENTICATED.into()],
        ..User::default()
    }
}

/// Whether a controller of this process asks. It need not wait for the disk: what it writes it
/// derives again after a crash, and the disk holds a prefix of the history, so nothing that was
/// acknowledged to a user is lost by that. Commands use other managers.
pub(crate) fn is_controller(user: &User, manager: &str) -> bool {
    is_in_process(user) && manager == "suimon"
}

/// Whether this is the user of the in-process client. A certificate may have the name, but not
/// the group.
pub(crate) fn is_in_process(user: &User) -> bool {
    &*user.name == CONTROLLERS && is_master(user)
}

/// The user that a verified client certificate names: CN is the name, O are the groups.
pub(crate) fn from_certificate(der: &[u8]) -> Option<User> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    let subject = certificate.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?;
    let mut groups: Vec<Arc<str>> = subject
        .iter_organization()
        .filter_map(|group| group.as_str().ok())
        .map(Into::into)
        .collect();
    groups.push(AUTHENTICATED.into());
    Some(User {
        name: name.into(),
        groups,
        ..User::default()
    })
}

/// Compares in a time that does not depend on where the difference is.
pub(crate) fn same_secret(a: &[u8], b: &[u8]) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(a, b).is_ok()
}

/// Whether the user may do everything, whatever is stored: so nobody can lock out the administrator.
pub(crate) fn is_master(user: &User) -> bool {
    user.groups.iter().any(|group| &**group == MASTERS)
}

/// Whether the user may do this.
pub(crate) fn decide(
    policies: &impl Policies,
    user: &User,
    attributes: &Attributes<'_>,
) -> Decision {
    if is_master(user) {
        return Decision {
            allowed: true,
            reason: String::new(),
        };
    }
    rbac::decide(policies, user, attributes)
}

/// Answers a question about identity or access.
pub(crate) fn answer(
    tokens: &Tokens,
    store: &Store,
    call: &Call,
    question: &Value,
) -> Result<Value, Status> {
    if call.kind.kind == "TokenReview" {
        return tokens.review(store, &question["spec"], Timestamp::now());
    }
    review::answer(store, call, question)
}

/// Refuses what the user may not do.
pub(crate) fn permit(
    policies: &impl Policies,
    user: &User,
    attributes: &Attributes<'_>,
) -> Result<(), Status> {
    let decision = decide(policies, user, attributes);
    if decision.allowed {
        return Ok(());
    }
    Err(attributes.forbidden(user, &decision.reason))
}

/// Refuses a request about a resource.
pub(crate) fn authorize(
    policies: &impl Policies,
    call: &Call,
    method: &Method,
) -> Result<(), Status> {
    if is_master(&call.user) {
        return Ok(());
    }
    let verb = verb(call, method);
    // As in Kubernetes: a list of one name needs no more than that name.
    let name = match call.name.as_str() {
        "" if method != Method::POST => {
            crud::single_name(&call.options.field_selector).unwrap_or_default()
        }
        name => name,
    };
    let namespaces = call.kind.group.is_empty() && call.kind.plural == "namespaces";
    let target = ResourceTarget {
        group: &call.kind.group,
        resource: &call.kind.plural,
        subresource: &call.subresource,
        // A namespace is in itself: those who may view it may read its object.
        namespace: if namespaces {
            &call.name
        } else {
            &call.namespace
        },
        name,
    };
    permit(policies, &call.user, &Attributes::resource(verb, target))
}

/// Refuses an apply that would create the object: the request itself was only allowed to patch.
pub(crate) fn authorize_create(policies: &impl Policies, call: &Call) -> Result<(), Status> {
    let target = ResourceTarget {
        group: &call.kind.group,
        resource: &call.kind.plural,
        subresource: "",
        namespace: &call.namespace,
        name: &call.name,
    };
    let attributes = Attributes::resource("create", target);
    permit(policies, &call.user, &attributes)
}

/// Refuses a request about anything else.
pub(crate) fn authorize_path(
    policies: &impl Policies,
    user: &User,
    method: &Method,
    path: &str,
) -> Result<(), Status> {
    let verb = method.as_str().to_ascii_lowercase();
    permit(policies, user, &Attributes::path(&verb, path))
}

fn verb(call: &Call, method: &Method) -> &'static str {
    let collection = call.name.is_empty();
    match method.as_str() {
        "GET" | "HEAD" if call.options.watch => "watch",
        "GET" | "HEAD" if collection => "list",
        "GET" | "HEAD" => "get",
        "POST" => "create",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" if collection => "deletecollection",
        _ => "delete",
    }
}
