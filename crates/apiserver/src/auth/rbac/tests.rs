//! Evaluation against roles and bindings in a map.

use serde_json::json;

use super::*;
use crate::auth::attributes::ResourceTarget;

#[derive(Default)]
struct Fixed {
    cluster_roles: Vec<Value>,
    roles: Vec<(&'static str, Value)>,
    cluster_bindings: Vec<Value>,
    bindings: Vec<(&'static str, Value)>,
}

impl Policies for Fixed {
    fn cluster_role(&self, name: &str) -> Option<Arc<Value>> {
        let role = self
            .cluster_roles
            .iter()
            .find(|role| role["metadata"]["name"] == name);
        role.cloned().map(Arc::new)
    }

    fn role(&self, namespace: &str, name: &str) -> Option<Arc<Value>> {
        let role = self
            .roles
            .iter()
            .find(|(place, role)| *place == namespace && role["metadata"]["name"] == name);
        role.map(|(_, role)| Arc::new(role.clone()))
    }

    fn cluster_bindings(&self) -> Vec<Arc<Value>> {
        self.cluster_bindings
            .iter()
            .cloned()
            .map(Arc::new)
            .collect()
    }

    fn bindings(&self, namespace: &str) -> Vec<Arc<Value>> {
        self.bindings
            .iter()
            .filter(|(place, _)| *place == namespace)
            .map(|(_, binding)| Arc::new(binding.clone()))
            .collect()
    }
}

fn reader(name: &str) -> Value {
    json!({ "metadata": { "name": name }, "rules": [
        { "apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"] },
    ]})
}

fn binding(role: &str, kind: &str, subject: Value) -> Value {
    json!({ "metadata": { "name": "b" }, "roleRef": { "kind": kind, "name": role }, "subjects": [subject] })
}

fn user(name: &str, groups: &[&str]) -> User {
    User {
        name: name.into(),
        groups: groups.iter().map(|group| (*group).into()).collect(),
        ..User::default()
    }
}

fn lists_pods(policies: &Fixed, user: &User, namespace: &str) -> Decision {
    let target = ResourceTarget {
        resource: "pods",
        namespace,
        ..ResourceTarget::default()
    };
    decide(policies, user, &Attributes::resource("list", target))
}

#[test]
fn a_cluster_binding_holds_everywhere_and_a_binding_in_its_namespace() {
    let policies = Fixed {
        cluster_roles: vec![reader("reader")],
        cluster_bindings: vec![binding(
            "reader",
            "ClusterRole",
            json!({ "kind": "User", "name": "jane" }),
        )],
        bindings: vec![(
            "a",
            binding(
                "reader",
                "ClusterRole",
                json!({ "kind": "Group", "name": "team" }),
            ),
        )],
        ..Fixed::default()
    };
    let jane = lists_pods(&policies, &user("jane", &[]), "");
    assert_eq!(
        jane.reason,
        "RBAC: allowed by ClusterRoleBinding \"b\" of ClusterRole \"reader\" to User \"jane\""
    );
    let joe = user("joe", &["team"]);
    assert!(!lists_pods(&policies, &joe, "").allowed);
    assert!(!lists_pods(&policies, &joe, "b").allowed);
    assert_eq!(
        lists_pods(&policies, &joe, "a").reason,
        "RBAC: allowed by RoleBinding \"b/a\" of ClusterRole \"reader\" to Group \"team\""
    );
}

#[test]
fn a_service_account_without_a_namespace_is_one_of_the_bindings_namespace() {
    let policies = Fixed {
        roles: vec![("a", reader("reader"))],
        bindings: vec![(
            "a",
            binding(
                "reader",
                "Role",
                json!({ "kind": "ServiceAccount", "name": "robot" }),
            ),
        )],
        ..Fixed::default()
    };
    assert!(lists_pods(&policies, &user("system:serviceaccount:a:robot", &[]), "a").allowed);
    assert!(!lists_pods(&policies, &user("system:serviceaccount:b:robot", &[]), "a").allowed);
    assert!(!lists_pods(&policies, &user("robot", &[]), "a").allowed);
}

#[test]
fn a_missing_role_is_told_when_nothing_else_allows() {
    let policies = Fixed {
        cluster_bindings: vec![binding(
            "gone",
            "ClusterRole",
            json!({ "kind": "User", "name": "jane" }),
        )],
        ..Fixed::default()
    };
    let decision = lists_pods(&policies, &user("jane", &[]), "a");
    assert_eq!(
        decision,
        Decision {
            allowed: false,
            reason: "RBAC: clusterrole.rbac.authorization.k8s.io \"gone\" not found".into()
        }
    );
}
