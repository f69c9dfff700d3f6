//! Roles and bindings that exist from the first start, with the names that clients expect.
//!
//! As in Kubernetes a start puts back what is missing from them and leaves what was added, unless
//! the object says `rbac.authorization.kubernetes.io/autoupdate: "false"`.

use serde_json::{Value, json};

use super::rbac::GROUP;
use super::rule::{Rule, uncovered};
use crate::crud::{self, Api, Call, Content};
use crate::status::Status;

const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";
const AGGREGATE_TO: &str = "rbac.authorization.k8s.io/aggregate-to-";

const READ: &str = "get list watch";
const WRITE: &str = "create delete deletecollection patch update";
const ALL: &str = "create delete deletecollection get list patch update watch";

/// Verbs, groups and resources, or verbs, `url` and paths; separated by spaces. The core group is `core`.
type Row = (&'static str, &'static str, &'static str);

#[derive(Clone, Copy)]
struct Role {
    name: &'static str,
    /// The role that takes the rules of this one.
    into: &'static str,
    /// The role takes the rules of those that name it.
    collects: bool,
    rules: &'static [Row],
}

const ROLE: Role = Role {
    name: "",
    into: "",
    collects: false,
    rules: &[],
};

const APPS_STATUS: &str = "controllerrevisions daemonsets daemonsets/status deployments deployments/scale deployments/status replicasets replicasets/scale replicasets/status statefulsets statefulsets/scale statefulsets/status";
const APPS: &str = "daemonsets deployments deployments/rollback deployments/scale replicasets replicasets/scale statefulsets statefulsets/scale";
const CONNECTED: &str = "pods/attach pods/exec pods/portforward pods/proxy";

#[rustfmt::skip]
const ROLES: &[Role] = &[
    Role { name: "cluster-admin", rules: &[("*", "*", "*"), ("*", "url", "*")], ..ROLE },
    Role { name: "admin", collects: true, ..ROLE },
    Role { name: "edit", into: "admin", collects: true, ..ROLE },
    Role { name: "view", into: "edit", collects: true, ..ROLE },
    Role { name: "system:aggregate-to-admin", into: "admin", rules: &[
        ("create", "authorization.k8s.io", "localsubjectaccessreviews"),
        (ALL, GROUP, "rolebindings roles"),
    ], ..ROLE },
    Role { name: "system:aggregate-to-edit", into: "edit", rules: &[
        (READ, "core", "pods/attach pods/exec pods/portforward pods/proxy secrets services/proxy"),
        ("impersonate", "core", "serviceaccounts"),
        (WRITE, "core", "pods"),
        (WRITE, "core", CONNECTED),
        ("create", "core", "pods/eviction"),
        (WRITE, "core", "configmaps events persistentvolumeclaims secrets serviceaccounts services services/proxy"),
        ("create", "core", "serviceaccounts/token"),
        (WRITE, "apps", APPS),
        (WRITE, "autoscaling", "horizontalpodautoscalers"),
        (WRITE, "batch", "cronjobs jobs"),
        (WRITE, "policy", "poddisruptionbudgets"),
        (WRITE, "networking.k8s.io", "ingresses networkpolicies"),
        (ALL, "coordination.k8s.io", "leases"),
    ], ..ROLE },
    Role { name: "system:aggregate-to-view", into: "view", rules: &[
        (READ, "core", "configmaps endpoints persistentvolumeclaims persistentvolumeclaims/status pods serviceaccounts services services/status"),
        (READ, "core", "bindings events limitranges namespaces/status pods/log pods/status resourcequotas resourcequotas/status"),
        (READ, "core", "namespaces"),
        (READ, "discovery.k8s.io", "endpointslices"),
        (READ, "apps", APPS_STATUS),
        (READ, "autoscaling", "horizontalpodautoscalers horizontalpodautoscalers/status"),
        (READ, "batch", "cronjobs cronjobs/status jobs jobs/status"),
        (READ, "policy", "poddisruptionbudgets poddisruptionbudgets/status"),
        (READ, "networking.k8s.io", "ingresses ingresses/status networkpolicies"),
    ], ..ROLE },
    Role { name: "system:basic-user", rules: &[
        ("create", "authorization.k8s.io", "selfsubjectaccessreviews selfsubjectrulesreviews"),
        ("create", "authentication.k8s.io", "selfsubjectreviews"),
    ], ..ROLE },
    Role { name: "system:discovery", rules: &[
        ("get", "url", "/api /api/* /apis /apis/* /healthz /livez /openapi /openapi/* /readyz /version /version/"),
    ], ..ROLE },
    Role { name: "system:public-info-viewer", rules: &[
        ("get", "url", "/healthz /livez /readyz /version /version/"),
    ], ..ROLE },
    Role { name: "system:monitoring", rules: &[
        ("get", "url", "/healthz /healthz/* /livez /livez/* /metrics /metrics/slis /readyz /readyz/*"),
    ], ..ROLE },
    Role { name: "system:auth-delegator", rules: &[
        ("create", "authentication.k8s.io", "tokenreviews"),
        ("create", "authorization.k8s.io", "subjectaccessreviews"),
    ], ..ROLE },
    Role { name: "system:service-account-issuer-discovery", rules: &[
        ("get", "url", "/.well-known/openid-configuration /.well-known/openid-configuration/ /openid/v1/jwks /openid/v1/jwks/"),
    ], ..ROLE },
];

/// Role and the groups that have it in the whole cluster.
const BINDINGS: &[(&str, &[&str])] = &[
    ("cluster-admin", &[super::MASTERS]),
    ("system:basic-user", &[super::AUTHENTICATED]),
    ("system:discovery", &[super::AUTHENTICATED]),
    (
        "system:public-info-viewer",
        &[super::AUTHENTICATED, super::UNAUTHENTICATED],
    ),
    ("system:monitoring", &["system:monitoring"]),
    (
        "system:service-account-issuer-discovery",
        &["system:serviceaccounts"],
    ),
];

/// Makes the roles and bindings, or completes stored ones.
pub(crate) async fn create_initial(api: &Api) -> Result<(), Status> {
    for role in ROLES {
        put(api, "clusterroles", &role.value(), complete_role).await?;
    }
    for (role, groups) in BINDINGS {
        let binding = binding(role, groups);
        put(api, "clusterrolebindings", &binding, complete_binding).await?;
    }
    Ok(())
}

impl Role {
    fn value(&self) -> Value {
        let mut labels = json!({ "kubernetes.io/bootstrapping": "rbac-defaults" });
        if !self.into.is_empty() {
            labels[format!("{AGGREGATE_TO}{}", self.into)] = json!("true");
        }
        let rules: Vec<Value> = self.rules.iter().map(rule).collect();
        let mut value = json!({
            "metadata": { "name": self.name, "labels": labels, "annotations": { AUTOUPDATE: "true" } },
            "rules": rules,
        });
        if self.collects {
            let label = format!("{AGGREGATE_TO}{}", self.name);
            value["aggregationRule"] =
                json!({ "clusterRoleSelectors": [{ "matchLabels": { label: "true" } }] });
        }
        value
    }
}

fn rule((verbs, group, things): &Row) -> Value {
    let texts = |text: &str| text.split(' ').map(ToOwned::to_owned).collect::<Vec<_>>();
    let mut rule = Rule {
        verbs: texts(verbs),
        ..Rule::default()
    };
    if *group == "url" {
        rule.urls = texts(things);
    } else {
        let group = if *group == "core" { "" } else { group };
        rule.groups = vec![group.to_owned()];
        rule.resources = texts(things);
    }
    rule.to_value()
}

fn binding(role: &str, groups: &[&str]) -> Value {
    let subjects: Vec<Value> = groups
        .iter()
        .map(|group| json!({ "kind": "Group", "apiGroup": GROUP, "name": group }))
        .collect();
    json!({
        "metadata": {
            "name": role,
            "labels": { "kubernetes.io/bootstrapping": "rbac-defaults" },
            "annotations": { AUTOUPDATE: "true" },
        },
        "roleRef": { "apiGroup": GROUP, "kind": "ClusterRole", "name": role },
        "subjects": subjects,
    })
}

/// Adds to a stored role what is missing of `wanted`; whether anything was.
fn complete_role(stored: &mut Value, wanted: &Value) -> bool {
    if stored["aggregationRule"].is_object() && wanted["aggregationRule"].is_object() {
        return false;
    }
    let missing = uncovered(&Rule::list(stored), &Rule::list(wanted));
    let mut rules = stored["rules"].as_array().cloned().unwrap_or_default();
    rules.extend(missing.iter().map(Rule::to_value));
    stored["rules"] = json!(rules);
    !missing.is_empty()
}

fn complete_binding(stored: &mut Value, wanted: &Value) -> bool {
    let mut subjects = stored["subjects"].as_array().cloned().unwrap_or_default();
    let before = subjects.len();
    for subject in wanted["subjects"].as_array().into_iter().flatten() {
        if !subjects.contains(subject) {
            subjects.push(subject.clone());
        }
    }
    let changed = subjects.len() > before;
    stored["subjects"] = json!(subjects);
    changed
}

async fn put(
    api: &Api,
    plural: &str,
    wanted: &Value,
    complete: fn(&mut Value, &Value) -> bool,
) -> Result<(), Status> {
    let types = api.types();
    let Some(kind) = types.get(GROUP, "v1", plural) else {
        return Err(Status::internal(format!("the type table has no {plural}")));
    };
    let body = |value: &Value| crud::Body {
        media_type: "application/json".into(),
        bytes: value.to_string().into(),
    };
    let name = wanted["metadata"]["name"].as_str().unwrap_or_default();
    let call = Call::internal(kind, "", name);
    match api.get(&call) {
        Err(_) => {
            api.create(&Call::internal(kind, "", ""), &body(wanted))
                .await?;
        }
        Ok(reply) => {
            let Content::Object(stored) = reply.content else {
                return Ok(());
            };
            let mut next = (*stored.value()).clone();
            let kept = next["metadata"]["annotations"][AUTOUPDATE] == "false";
            if !kept && complete(&mut next, wanted) {
                api.update(&call, &body(&next)).await?;
            }
        }
    }
    Ok(())
}
