//! Who may see and change the objects of the kinds that are not Kubernetes' own: whoever has the
//! cluster roles `view`, `edit` and `admin`, which collect these rules.

use std::collections::{BTreeMap, BTreeSet};

use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};

const READ: [&str; 3] = ["get", "list", "watch"];
const WRITE: [&str; 5] = ["create", "delete", "deletecollection", "patch", "update"];

/// Creates these roles, or brings them up to date.
pub async fn create(client: &Client, cluster_roles: &[Value]) -> anyhow::Result<()> {
    let resource = ApiResource {
        group: "rbac.authorization.k8s.io".to_owned(),
        version: "v1".to_owned(),
        api_version: "rbac.authorization.k8s.io/v1".to_owned(),
        kind: "ClusterRole".to_owned(),
        plural: "clusterroles".to_owned(),
    };
    let roles: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    let params = PatchParams::apply("suimon-system").force();
    for role in cluster_roles {
        let name = role["metadata"]["name"].as_str().unwrap_or_default();
        roles.patch(name, &params, &Patch::Apply(role)).await?;
    }
    Ok(())
}

/// One role to see what these definitions define and one to change it. What is not in a
/// namespace is for those who administer the cluster.
pub fn cluster_roles(definitions: &[Value]) -> [Value; 2] {
    let mut plurals: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let namespaced = definitions.iter().map(|definition| &definition["spec"]);
    for spec in namespaced.filter(|spec| spec["scope"] == "Namespaced") {
        let group = spec["group"].as_str().unwrap_or_default();
        let plural = spec["names"]["plural"].as_str().unwrap_or_default();
        let resources = plurals.entry(group).or_default();
        resources.extend([plural.to_owned(), format!("{plural}/status")]);
    }
    let rules = |verbs: &[&str], with_status: bool| -> Vec<Value> {
        let of = |resources: &BTreeSet<String>| -> Vec<String> {
            let wanted = |it: &&String| with_status || !it.ends_with("/status");
            resources.iter().filter(wanted).cloned().collect()
        };
        let rules = plurals.iter().map(|(group, resources)| {
            json!({"apiGroups": [group], "resources": of(resources), "verbs": verbs})
        });
        rules.collect()
    };
    let role = |name: &str, into: &str, rules: Vec<Value>| {
        let mut labels = json!({"app.kubernetes.io/managed-by": "suimon"});
        labels[format!("rbac.authorization.k8s.io/aggregate-to-{into}")] = json!("true");
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": name, "labels": labels},
            "rules": rules,
        })
    };
    [
        role("suimon-view", "view", rules(&READ, true)),
        role("suimon-edit", "edit", rules(&WRITE, false)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::roles::system;

    #[test]
    fn who_may_view_sees_every_kind_of_a_namespace_and_its_status_and_changes_none() {
        let [view, edit] = cluster_roles(&system::definitions());
        let rule = |role: &Value, group: &str| -> Value {
            let rules = role["rules"].as_array().expect("rules").iter();
            let mut of_group = rules.filter(|rule| rule["apiGroups"][0] == group);
            of_group.next().cloned().expect("a rule")
        };
        let has = |rule: &Value, field: &str, wanted: &str| -> bool {
            let all = rule[field].as_array().expect("a list").iter();
            all.clone().any(|it| it == wanted)
        };
        let group = "serving.knative.dev";
        let (view, edit) = (rule(&view, group), rule(&edit, group));
        assert!(has(&view, "resources", "services") && has(&view, "resources", "services/status"));
        assert!(has(&view, "verbs", "watch") && !has(&view, "verbs", "patch"));
        assert!(has(&edit, "verbs", "patch") && !has(&edit, "resources", "services/status"));
        let cluster = definitions_in_cluster_scope();
        assert!(!cluster.is_empty());
        let gateway = rule(
            &cluster_roles(&system::definitions())[0],
            "gateway.networking.k8s.io",
        );
        assert!(
            cluster
                .iter()
                .all(|plural| !has(&gateway, "resources", plural))
        );
    }

    fn definitions_in_cluster_scope() -> Vec<String> {
        let all = system::definitions();
        let cluster = all.iter().filter(|it| it["spec"]["scope"] == "Cluster");
        let names = cluster.map(|it| it["spec"]["names"]["plural"].as_str().unwrap_or_default());
        names.map(str::to_owned).collect()
    }
}
