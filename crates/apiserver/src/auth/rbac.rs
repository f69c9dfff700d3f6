//! Roles and bindings: which rules a user has in a place, and whether one allows a request.
//!
//! Reads through [`Policies`], so that evaluation is a function of what is stored at this moment:
//! a binding works from the write that stores it, and there is no cache to be stale.

use std::sync::Arc;

use serde_json::Value;

use super::attributes::{Attributes, Target};
use super::rule::Rule;
use crate::admission::User;
use crate::crud::object_key;
use crate::store::{Scope, Store};

/// API group of roles and bindings.
pub(crate) const GROUP: &str = "rbac.authorization.k8s.io";
pub(crate) const CLUSTER_ROLES: &str = "clusterroles.rbac.authorization.k8s.io";
const CLUSTER_ROLE_BINDINGS: &str = "clusterrolebindings.rbac.authorization.k8s.io";
const ROLES: &str = "roles.rbac.authorization.k8s.io";
const ROLE_BINDINGS: &str = "rolebindings.rbac.authorization.k8s.io";

/// Where roles and bindings are read.
pub(crate) trait Policies {
    /// A ClusterRole.
    fn cluster_role(&self, name: &str) -> Option<Arc<Value>>;
    /// A Role.
    fn role(&self, namespace: &str, name: &str) -> Option<Arc<Value>>;
    /// All ClusterRoleBindings.
    fn cluster_bindings(&self) -> Vec<Arc<Value>>;
    /// The RoleBindings of a namespace.
    fn bindings(&self, namespace: &str) -> Vec<Arc<Value>>;
}

impl Policies for Store {
    fn cluster_role(&self, name: &str) -> Option<Arc<Value>> {
        self.get(CLUSTER_ROLES, name).map(|role| role.value())
    }

    fn role(&self, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.get(ROLES, &object_key(namespace, name))
            .map(|role| role.value())
    }

    fn cluster_bindings(&self) -> Vec<Arc<Value>> {
        let (_, bindings) = self.list(CLUSTER_ROLE_BINDINGS, &Scope::All);
        bindings.iter().map(|binding| binding.value()).collect()
    }

    fn bindings(&self, namespace: &str) -> Vec<Arc<Value>> {
        let (_, bindings) = self.list(ROLE_BINDINGS, &Scope::Namespace(namespace.into()));
        bindings.iter().map(|binding| binding.value()).collect()
    }
}

/// The answer to a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) allowed: bool,
    /// Which binding allows it, or what could not be evaluated.
    pub(crate) reason: String,
}

/// Whether the user's roles allow a request.
pub(crate) fn decide(
    policies: &impl Policies,
    user: &User,
    attributes: &Attributes<'_>,
) -> Decision {
    let namespace = match &attributes.target {
        Target::Resource(target) => target.namespace,
        Target::Path(_) => "",
    };
    let mut decision = Decision::default();
    let errors = visit(policies, user, namespace, |source, rules| {
        decision.allowed = rules.iter().any(|rule| rule.allows(attributes));
        if decision.allowed {
            decision.reason = format!("RBAC: allowed by {source}");
        }
        !decision.allowed
    });
    if !decision.allowed && !errors.is_empty() {
        decision.reason = format!("RBAC: {}", aggregate(&errors));
    }
    decision
}

/// The rules that a user has in a namespace, and what could not be evaluated.
pub(crate) fn rules_of(
    policies: &impl Policies,
    user: &User,
    namespace: &str,
) -> (Vec<Rule>, Vec<String>) {
    let mut held = Vec::new();
    let errors = visit(policies, user, namespace, |_, rules| {
        held.extend(rules);
        true
    });
    (held, errors)
}

/// The rules of the role that a binding in `namespace` names, or why there are none.
pub(crate) fn rules_of_reference(
    policies: &impl Policies,
    reference: &Value,
    namespace: &str,
) -> Result<Vec<Rule>, String> {
    let text = |field: &str| reference[field].as_str().unwrap_or_default();
    let (kind, name) = (text("kind"), text("name"));
    let role = match kind {
        "ClusterRole" => policies.cluster_role(name),
        "Role" => policies.role(namespace, name),
        other => return Err(format!("unsupported role reference kind: {other:?}")),
    };
    role.map(|role| Rule::list(&role))
        .ok_or_else(|| format!("{}.{GROUP} \"{name}\" not found", kind.to_lowercase()))
}

/// Several errors as Go prints them.
pub(crate) fn aggregate(errors: &[String]) -> String {
    match errors {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    }
}

/// Shows the rules of each binding of the user until `next` says that it is enough; returns what
/// could not be evaluated.
fn visit(
    policies: &impl Policies,
    user: &User,
    namespace: &str,
    mut next: impl FnMut(String, Vec<Rule>) -> bool,
) -> Vec<String> {
    let mut errors = Vec::new();
    let mut bindings: Vec<(&str, Arc<Value>)> = policies
        .cluster_bindings()
        .into_iter()
        .map(|binding| ("", binding))
        .collect();
    if !namespace.is_empty() {
        bindings.extend(
            policies
                .bindings(namespace)
                .into_iter()
                .map(|binding| (namespace, binding)),
        );
    }
    for (place, binding) in bindings {
        let Some(subject) = subject_of(&binding, user, place) else {
            continue;
        };
        match rules_of_reference(policies, &binding["roleRef"], place) {
            Ok(rules) => {
                if !next(describe(&binding, subject, place), rules) {
                    return errors;
                }
            }
            Err(error) => errors.push(error),
        }
    }
    errors
}

/// The subject of a binding that the user is.
fn subject_of<'a>(binding: &'a Value, user: &User, namespace: &str) -> Option<&'a Value> {
    let subjects = binding["subjects"].as_array()?;
    subjects.iter().find(|subject| {
        let text = |field: &str| subject[field].as_str().unwrap_or_default();
        let name = text("name");
        match text("kind") {
            "User" => *user.name == *name,
            "Group" => user.groups.iter().any(|group| **group == *name),
            "ServiceAccount" => {
                let namespace = match text("namespace") {
                    "" => namespace,
                    own => own,
                };
                !namespace.is_empty() && is_account(user, namespace, name)
            }
            _ => false,
        }
    })
}

fn is_account(user: &User, namespace: &str, name: &str) -> bool {
    user.name
        .strip_prefix(super::ACCOUNT_PREFIX)
        .and_then(|rest| rest.split_once(':'))
        == Some((namespace, name))
}

fn describe(binding: &Value, subject: &Value, namespace: &str) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let name = text(&binding["metadata"]["name"]);
    let (kind, name) = if namespace.is_empty() {
        ("ClusterRoleBinding", name)
    } else {
        ("RoleBinding", format!("{name}/{namespace}"))
    };
    let mut who = text(&subject["name"]);
    if subject["kind"] == "ServiceAccount" {
        let own = text(&subject["namespace"]);
        let place = if own.is_empty() { namespace } else { &own };
        who = format!("{who}/{place}");
    }
    format!(
        "{kind} \"{name}\" of {} \"{}\" to {} \"{who}\"",
        text(&binding["roleRef"]["kind"]),
        text(&binding["roleRef"]["name"]),
        text(&subject["kind"]),
    )
}

#[cfg(test)]
mod tests;
