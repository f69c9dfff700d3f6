//! Nobody grants more than they have: who writes a role must hold its rules, who binds one too.
//!
//! The exceptions are Kubernetes': the verbs `escalate` on roles and `bind` on the bound role, and
//! writes that change nothing but what the garbage collector needs.

use serde_json::Value;

use super::attributes::{Attributes, ResourceTarget};
use super::rbac::{self, GROUP, Policies};
use super::rule::{Rule, missing, quoted};
use super::{decide, is_master};
use crate::admission::User;
use crate::crud::Call;
use crate::status::{Named, Status};

/// Refuses a role or binding that grants more than its writer has. Other kinds pass.
pub(crate) fn check(
    policies: &impl Policies,
    call: &Call,
    new: &Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    if call.kind.group != GROUP || is_master(&call.user) {
        return Ok(());
    }
    if old.is_some_and(|old| essence(old) == essence(new)) {
        return Ok(());
    }
    let found = match call.kind.plural.as_str() {
        "roles" | "clusterroles" => role(policies, call, new),
        "rolebindings" | "clusterrolebindings" => binding(policies, call, new),
        _ => Ok(()),
    };
    found.map_err(|why| {
        let what = Named {
            group: GROUP,
            resource: &call.kind.plural,
            name: new["metadata"]["name"].as_str().unwrap_or_default(),
        };
        Status::forbidden(what, &why)
    })
}

/// The object without what the garbage collector may change.
fn essence(value: &Value) -> Value {
    let mut value = value.clone();
    if let Some(metadata) = value["metadata"].as_object_mut() {
        for field in [
            "ownerReferences",
            "finalizers",
            "managedFields",
            "resourceVersion",
            "generation",
        ] {
            metadata.remove(field);
        }
    }
    value
}

fn role(policies: &impl Policies, call: &Call, new: &Value) -> Result<(), String> {
    let name = new["metadata"]["name"].as_str().unwrap_or_default();
    let target = ResourceTarget {
        group: GROUP,
        resource: &call.kind.plural,
        namespace: &call.namespace,
        name,
        ..ResourceTarget::default()
    };
    if decide(
        policies,
        &call.user,
        &Attributes::resource("escalate", target),
    )
    .allowed
    {
        return Ok(());
    }
    confirm(policies, &call.user, &call.namespace, &Rule::list(new))?;
    if !new["aggregationRule"].is_object() {
        return Ok(());
    }
    let everything = [Rule::everything(), Rule::every_path()];
    confirm(policies, &call.user, "", &everything)
        .map_err(|_| "must have cluster-admin privileges to use the aggregationRule".to_owned())
}

fn binding(policies: &impl Policies, call: &Call, new: &Value) -> Result<(), String> {
    let reference = &new["roleRef"];
    let text = |field: &str| reference[field].as_str().unwrap_or_default();
    let resource = match text("kind") {
        "Role" => "roles",
        _ => "clusterroles",
    };
    let target = ResourceTarget {
        group: text("apiGroup"),
        resource,
        namespace: &call.namespace,
        name: text("name"),
        ..ResourceTarget::default()
    };
    if decide(policies, &call.user, &Attributes::resource("bind", target)).allowed {
        return Ok(());
    }
    let rules = rbac::rules_of_reference(policies, reference, &call.namespace)?;
    confirm(policies, &call.user, &call.namespace, &rules)
}

/// Whether the user holds all of `wanted` in the namespace.
fn confirm(
    policies: &impl Policies,
    user: &User,
    namespace: &str,
    wanted: &[Rule],
) -> Result<(), String> {
    let (held, errors) = rbac::rules_of(policies, user, namespace);
    let missing = missing(&held, wanted);
    if missing.is_empty() {
        return Ok(());
    }
    let mut text = format!(
        "user \"{}\" (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
        user.name,
        quoted(&user.groups),
        missing.join("\n")
    );
    if !errors.is_empty() {
        text = format!("{text}; resolution errors: [{}]", errors.join(" "));
    }
    Err(text)
}
