//! Who calls, and what they may do.
//!
//! Members of `system:masters` may do everything; nobody else may do anything yet, so a
//! certificate or token for another group is known but refused.

use std::sync::Arc;

use http::Method;

use crate::admission::User;
use crate::crud::Call;
use crate::status::{Named, Status};

/// The group that may do everything.
pub const MASTERS: &str = "system:masters";
/// The user of the in-process client.
const CONTROLLERS: &str = "system:suimon";

/// The user of the in-process client.
pub(crate) fn in_process() -> User {
    User {
        name: CONTROLLERS.into(),
        groups: vec![MASTERS.into(), "system:authenticated".into()],
    }
}

/// Whether a controller of this process asks. It need not wait for the disk: what it writes it
/// derives again after a crash, and the disk holds a prefix of the history, so nothing that was
/// acknowledged to a user is lost by that. Commands use other managers.
pub(crate) fn is_controller(user: &User, manager: &str) -> bool {
    &*user.name == CONTROLLERS && manager == "suimon"
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
    groups.push("system:authenticated".into());
    Some(User {
        name: name.into(),
        groups,
    })
}

/// Compares in a time that does not depend on where the difference is.
pub(crate) fn same_secret(a: &[u8], b: &[u8]) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(a, b).is_ok()
}

fn is_master(user: &User) -> bool {
    user.groups.iter().any(|group| &**group == MASTERS)
}

/// Refuses a request about a resource.
pub(crate) fn authorize(call: &Call, method: &Method) -> Result<(), Status> {
    if is_master(&call.user) {
        return Ok(());
    }
    let verb = verb(call, method);
    let mut resource = call.kind.plural.to_string();
    if !call.subresource.is_empty() {
        resource = format!("{resource}/{}", call.subresource);
    }
    let place = if call.namespace.is_empty() {
        "at the cluster scope".to_owned()
    } else {
        format!("in the namespace \"{}\"", call.namespace)
    };
    let cause = format!(
        "User \"{}\" cannot {verb} resource \"{resource}\" in API group \"{}\" {place}",
        call.user.name, call.kind.group
    );
    Err(Status::forbidden(
        Named {
            group: &call.kind.group,
            resource: &call.kind.plural,
            name: &call.name,
        },
        &cause,
    ))
}

/// Refuses a request about anything else.
pub(crate) fn authorize_path(user: &User, method: &Method, path: &str) -> Result<(), Status> {
    if is_master(user) {
        return Ok(());
    }
    let verb = method.as_str().to_ascii_lowercase();
    let message = format!(
        "forbidden: User \"{}\" cannot {verb} path \"{path}\"",
        user.name
    );
    Err(Status::new(403, "Forbidden", message))
}

fn verb(call: &Call, method: &Method) -> &'static str {
    let collection = call.name.is_empty();
    match method.as_str() {
        "GET" if call.options.watch => "watch",
        "GET" if collection => "list",
        "GET" => "get",
        "POST" => "create",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" if collection => "deletecollection",
        _ => "delete",
    }
}
