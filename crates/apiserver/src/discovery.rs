//! Discovery documents: what groups, versions and resources the server has.
//!
//! Two forms of the same table: the older lists, one request per group and version, and the
//! aggregated one (`APIGroupDiscoveryList`, v2) that says everything in one answer.

use serde_json::{Map, Value, json};

use crate::types::{ResourceType, TypeTable, api_version};

/// Media type parameters that ask for the aggregated form; the answer's type repeats them.
pub const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// Verbs of `status` and `scale`.
const SUBRESOURCE_VERBS: &[&str] = &["get", "patch", "update"];

/// `/`: every path that says what the server has or how it does, in order.
pub fn index(table: &TypeTable) -> Value {
    const FIXED: [&str; 11] = [
        "/.well-known/openid-configuration",
        "/api",
        "/api/v1",
        "/apis",
        "/healthz",
        "/livez",
        "/metrics",
        "/openapi/v3",
        "/openid/v1/jwks",
        "/readyz",
        "/version",
    ];
    let mut paths: Vec<_> = FIXED.iter().map(|path| (*path).to_owned()).collect();
    for group in table.groups().filter(|group| !group.is_empty()) {
        paths.push(format!("/apis/{group}"));
        let versions = table.versions(group).into_iter();
        paths.extend(versions.map(|version| format!("/apis/{group}/{version}")));
    }
    paths.sort_unstable();
    json!({ "paths": paths })
}

/// `/api`: `address` is where the server is reached, as `host:port`.
pub fn api_versions(address: &str) -> Value {
    json!({
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
    })
}

/// `/apis`.
pub fn group_list(table: &TypeTable) -> Value {
    let groups: Vec<_> = table
        .groups()
        .filter(|group| !group.is_empty())
        .map(|name| group_body(table, name))
        .collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `/apis/<group>`; `None` for a group that is not served.
pub fn group(table: &TypeTable, name: &str) -> Option<Value> {
    if name.is_empty() || table.versions(name).is_empty() {
        return None;
    }
    let mut body = group_body(table, name);
    body["kind"] = "APIGroup".into();
    body["apiVersion"] = "v1".into();
    Some(body)
}

fn group_body(table: &TypeTable, name: &str) -> Value {
    let versions: Vec<_> = table
        .versions(name)
        .into_iter()
        .map(|version| json!({"groupVersion": api_version(name, version), "version": version}))
        .collect();
    json!({"name": name, "preferredVersion": versions.first(), "versions": versions})
}

/// `/api/v1` and `/apis/<group>/<version>`; `None` for one that is not served.
pub fn resource_list(table: &TypeTable, group: &str, version: &str) -> Option<Value> {
    let mut resources = Vec::new();
    for kind in table.resources(group, version) {
        resources.push(resource(kind));
        resources.extend(subresources(kind).into_iter().map(|sub| {
            let mut body = json!({
                "name": format!("{}/{}", kind.plural, sub.name),
                "singularName": "",
                "namespaced": kind.namespaced,
                "kind": sub.kind,
                "verbs": sub.verbs,
            });
            if sub.group != kind.group || sub.version != kind.version {
                body["group"] = sub.group.into();
                body["version"] = sub.version.into();
            }
            body
        }));
    }
    if resources.is_empty() {
        return None;
    }
    Some(json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": api_version(group, version),
        "resources": resources,
    }))
}

fn resource(kind: &ResourceType) -> Value {
    let mut body = json!({
        "name": kind.plural,
        "singularName": kind.singular,
        "namespaced": kind.namespaced,
        "kind": kind.kind,
        "verbs": kind.verbs,
    });
    extras(kind, &mut body);
    body
}

fn extras(kind: &ResourceType, body: &mut Value) {
    if !kind.short_names.is_empty() {
        body["shortNames"] = kind.short_names.clone().into();
    }
    if !kind.categories.is_empty() {
        body["categories"] = kind.categories.clone().into();
    }
}

struct Subresource<'a> {
    name: &'a str,
    group: &'a str,
    version: &'a str,
    kind: &'a str,
    verbs: &'a [&'a str],
}

fn subresources(kind: &ResourceType) -> Vec<Subresource<'_>> {
    let own = |name, verbs| Subresource {
        name,
        group: &kind.group,
        version: &kind.version,
        kind: &kind.kind,
        verbs,
    };
    let other = |(name, verbs): &(&'static str, &'static [&'static str])| {
        let (group, version, kind) = match *name {
            "token" => ("authentication.k8s.io", "v1", "TokenRequest"),
            "eviction" => ("policy", "v1", "Eviction"),
            "binding" => ("", "v1", "Binding"),
            name => return own(name, verbs),
        };
        Subresource {
            name,
            group,
            version,
            kind,
            verbs,
        }
    };
    let mut out: Vec<_> = kind.subresources.others.iter().map(other).collect();
    if kind.subresources.scale.is_some() {
        out.push(Subresource {
            name: "scale",
            group: "autoscaling",
            version: "v1",
            kind: "Scale",
            verbs: SUBRESOURCE_VERBS,
        });
    }
    if kind.subresources.status {
        out.push(own("status", SUBRESOURCE_VERBS));
    }
    out
}

/// The aggregated form of `/api` (`core`) or `/apis`.
pub fn aggregated(table: &TypeTable, core: bool) -> Value {
    let groups = table.groups().filter(|group| group.is_empty() == core);
    let items: Vec<_> = groups.map(|group| aggregated_group(table, group)).collect();
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": items,
    })
}

fn aggregated_group(table: &TypeTable, group: &str) -> Value {
    let version = |version: &str| {
        let resources: Vec<_> = table
            .resources(group, version)
            .map(|kind| aggregated_resource(kind))
            .collect();
        json!({"version": version, "freshness": "Current", "resources": resources})
    };
    let versions: Vec<_> = table.versions(group).into_iter().map(version).collect();
    let mut metadata = Map::new();
    metadata.insert("creationTimestamp".into(), Value::Null);
    if !group.is_empty() {
        metadata.insert("name".into(), group.into());
    }
    json!({"metadata": metadata, "versions": versions})
}

fn aggregated_resource(kind: &ResourceType) -> Value {
    let mut body = json!({
        "resource": kind.plural,
        "responseKind": {"group": kind.group, "version": kind.version, "kind": kind.kind},
        "scope": if kind.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": kind.singular,
        "verbs": kind.verbs,
    });
    extras(kind, &mut body);
    let subresources: Vec<_> = subresources(kind)
        .into_iter()
        .map(|sub| {
            json!({
                "subresource": sub.name,
                "responseKind": {"group": sub.group, "version": sub.version, "kind": sub.kind},
                "verbs": sub.verbs,
            })
        })
        .collect();
    if !subresources.is_empty() {
        body["subresources"] = subresources.into();
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_say_the_same_resources() {
        let table = TypeTable::builtin();
        let aggregated = aggregated(&table, false);
        let apps = aggregated["items"]
            .as_array()
            .unwrap()
            .iter()
            .find(|group| group["metadata"]["name"] == "apps");
        let apps = apps.unwrap();
        let new: Vec<_> = apps["versions"][0]["resources"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| &one["resource"])
            .collect();
        let old = resource_list(&table, "apps", "v1").unwrap();
        let old: Vec<_> = old["resources"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| &one["name"])
            .collect();
        let old: Vec<_> = old
            .into_iter()
            .filter(|name| !name.as_str().unwrap().contains('/'))
            .collect();
        assert_eq!(new, old);
        assert_eq!(
            old,
            [
                "controllerrevisions",
                "daemonsets",
                "deployments",
                "replicasets",
                "statefulsets"
            ]
        );
    }

    #[test]
    fn scale_belongs_to_the_autoscaling_group() {
        let list = resource_list(&TypeTable::builtin(), "apps", "v1").unwrap();
        let scale = list["resources"]
            .as_array()
            .unwrap()
            .iter()
            .find(|one| one["name"] == "deployments/scale")
            .unwrap();
        assert_eq!(
            (&scale["group"], &scale["kind"]),
            (&json!("autoscaling"), &json!("Scale"))
        );
    }

    #[test]
    fn core_is_no_group_of_apis() {
        let table = TypeTable::builtin();
        assert!(group(&table, "").is_none());
        assert!(group(&table, "nope.dev").is_none());
        assert_eq!(
            group(&table, "apps").unwrap()["preferredVersion"]["groupVersion"],
            "apps/v1"
        );
        assert_eq!(
            aggregated(&table, true)["items"][0]["metadata"],
            json!({"creationTimestamp": null})
        );
    }
}
