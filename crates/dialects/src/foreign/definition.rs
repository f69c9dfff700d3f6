//! CustomResourceDefinitions of other gateways' kinds, so that users' files apply as they are.
//!
//! They allow everything below `spec` and `status`: what a translator does not serve is told in
//! the object's status, with what to do, which a schema cannot say. A user may put the published
//! definitions in their place; the description of the schema tells ours from theirs.

use serde_json::{Map, Value, json};

use super::Kind;
use crate::traffic_policy::{self, schema};

/// On definitions that users may replace by the published ones: the API server then leaves those.
pub const REPLACEABLE: &str = "suimon.dev/replaceable";
/// Where the kinds of a group are among those of other groups with the same name; higher first.
pub const PRIORITY: &str = "suimon.dev/group-priority";

/// Who shares a kind's name gets it in this order: `kubectl get virtualservices` means Istio's.
const ORDER: [&str; 6] = ["suimon", "istio", "contour", "emissary", "gloo", "apisix"];

/// A printed column: its name and what it shows.
type Column = (&'static str, &'static str);

/// What kinds show in lists, besides name and age, by `plural.group`.
const COLUMNS: &[(&str, &[Column])] = &[
    (
        "virtualservices.networking.istio.io",
        &[("Gateways", ".spec.gateways"), ("Hosts", ".spec.hosts")],
    ),
    (
        "destinationrules.networking.istio.io",
        &[("Host", ".spec.host")],
    ),
    (
        "serviceentries.networking.istio.io",
        &[
            ("Hosts", ".spec.hosts"),
            ("Location", ".spec.location"),
            ("Resolution", ".spec.resolution"),
        ],
    ),
    (
        "workloadentries.networking.istio.io",
        &[("Address", ".spec.address")],
    ),
    (
        "peerauthentications.security.istio.io",
        &[("Mode", ".spec.mtls.mode")],
    ),
    (
        "authorizationpolicies.security.istio.io",
        &[("Action", ".spec.action")],
    ),
    (
        "httpproxies.projectcontour.io",
        &[
            ("FQDN", ".spec.virtualhost.fqdn"),
            ("TLS Secret", ".spec.virtualhost.tls.secretName"),
            ("Status", ".status.currentStatus"),
            ("Status Description", ".status.description"),
        ],
    ),
    (
        "ingressroutes.contour.heptio.com",
        &[
            ("FQDN", ".spec.virtualhost.fqdn"),
            ("Status", ".status.currentStatus"),
            ("Status Description", ".status.description"),
        ],
    ),
    (
        "mappings.getambassador.io",
        &[
            ("Source Host", ".spec.hostname"),
            ("Source Prefix", ".spec.prefix"),
            ("Dest Service", ".spec.service"),
            ("State", ".status.state"),
            ("Reason", ".status.reason"),
        ],
    ),
    (
        "hosts.getambassador.io",
        &[
            ("Hostname", ".spec.hostname"),
            ("State", ".status.state"),
            ("Phase Completed", ".status.phaseCompleted"),
        ],
    ),
    (
        "listeners.getambassador.io",
        &[
            ("Port", ".spec.port"),
            ("Protocol", ".spec.protocol"),
            ("Stack", ".spec.protocolStack"),
        ],
    ),
    (
        "tcpmappings.getambassador.io",
        &[
            ("Source Host", ".spec.host"),
            ("Source Port", ".spec.port"),
            ("Dest Service", ".spec.service"),
        ],
    ),
    (
        "apisixroutes.apisix.apache.org",
        &[
            ("Hosts", ".spec.http[0].match.hosts"),
            ("URIs", ".spec.http[0].match.paths"),
        ],
    ),
    (
        "apisixtlses.apisix.apache.org",
        &[
            ("SNIs", ".spec.hosts"),
            ("Secret Name", ".spec.secret.name"),
        ],
    ),
];

/// The definition of each kind, ready to be created, as `apiextensions.k8s.io/v1` JSON.
pub fn definitions(kinds: &[&Kind]) -> Vec<Value> {
    kinds.iter().map(|kind| definition(kind)).collect()
}

fn definition(kind: &Kind) -> Value {
    let versions: Vec<_> = kind
        .versions
        .iter()
        .enumerate()
        .map(|(at, version)| self::version(kind, version, at == 0))
        .collect();
    let mut names = json!({
        "kind": kind.kind,
        "listKind": format!("{}List", kind.kind),
        "plural": kind.plural,
        "singular": kind.kind.to_lowercase(),
    });
    let categories = categories(kind);
    if !categories.is_empty() {
        names["categories"] = json!(categories);
    }
    if !kind.short.is_empty() {
        names["shortNames"] = json!(kind.short);
    }
    let scope = if kind.is_cluster_scoped {
        "Cluster"
    } else {
        "Namespaced"
    };
    let mut labels = json!({"app.kubernetes.io/managed-by": "suimon"});
    if *kind != traffic_policy::TRAFFIC_POLICY {
        labels[REPLACEABLE] = json!("true");
    }
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": kind.id(),
            "labels": labels,
            "annotations": {PRIORITY: priority(kind.dialect).to_string()},
        },
        "spec": {
            "group": kind.group,
            "names": names,
            "scope": scope,
            "versions": versions,
            "conversion": {"strategy": "None"},
        },
    })
}

/// What `kubectl get CATEGORY` lists, as in the published definitions.
fn categories(kind: &Kind) -> Vec<String> {
    match kind.dialect {
        "istio" => vec!["istio-io".to_owned(), kind.group.replace('.', "-")],
        "emissary" => vec!["ambassador-crds".to_owned()],
        _ => Vec::new(),
    }
}

/// Below the kinds of Gateway API and Knative, which have none.
fn priority(dialect: &str) -> i64 {
    let place = ORDER.iter().position(|it| *it == dialect);
    -1 - i64::try_from(place.unwrap_or(ORDER.len())).unwrap_or(0)
}

fn version(kind: &Kind, name: &str, is_stored: bool) -> Value {
    let free = |description: &str| {
        json!({
            "type": "object",
            "description": description,
            "x-kubernetes-preserve-unknown-fields": true,
        })
    };
    let (spec, status) = if *kind == traffic_policy::TRAFFIC_POLICY {
        // Ours, and nobody else publishes it.
        (schema::spec(), schema::status())
    } else {
        (
            free("As the gateway whose kind this is documents it."),
            free("What became of it."),
        )
    };
    let mut version = json!({
        "name": name,
        "served": true,
        "storage": is_stored,
        "schema": {"openAPIV3Schema": {
            "type": "object",
            "description": describe(kind),
            "properties": {
                "spec": spec,
                "status": status,
            },
        }},
        "additionalPrinterColumns": columns(kind),
    });
    if kind.has_status {
        let mut subresources = Map::new();
        subresources.insert("status".to_owned(), json!({}));
        version["subresources"] = Value::Object(subresources);
    }
    version
}

/// Tells our definition from the published one: never changed, or stored ones become somebody's.
fn describe(kind: &Kind) -> String {
    if *kind == traffic_policy::TRAFFIC_POLICY {
        return "What the gateway can do and Gateway API cannot say.".to_owned();
    }
    let told = if kind.has_status {
        "in the status"
    } else {
        "in Events"
    };
    format!(
        "{} of {}, read by this gateway: every field is kept, and what is not served is told {told}.",
        kind.kind, kind.group
    )
}

fn columns(kind: &Kind) -> Vec<Value> {
    let id = kind.id();
    let own = COLUMNS.iter().find(|(of, _)| *of == id);
    let own = own.map_or(&[][..], |(_, columns)| columns);
    let texts = own
        .iter()
        .map(|(name, path)| json!({"name": name, "type": "string", "jsonPath": path}));
    let age = json!({"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"});
    texts.chain([age]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::foreign::{Role, Translation, kinds, no_keys};
    use std::collections::BTreeSet;

    static KIND: Kind = Kind {
        dialect: "istio",
        group: "networking.istio.io",
        versions: &["v1", "v1beta1"],
        kind: "VirtualService",
        plural: "virtualservices",
        short: &["vs"],
        is_cluster_scoped: false,
        has_status: true,
        role: Role::Root(|_, _| Translation::default()),
        keys: no_keys,
    };

    #[test]
    fn a_definition_serves_every_version_and_keeps_every_field() {
        let made = definition(&KIND);
        assert_eq!(
            made["metadata"]["name"],
            "virtualservices.networking.istio.io"
        );
        let versions = made["spec"]["versions"].as_array().expect("versions");
        let stored: Vec<_> = versions.iter().map(|it| it["storage"] == true).collect();
        assert_eq!(stored, [true, false]);
        for version in versions {
            let schema = &version["schema"]["openAPIV3Schema"];
            for field in ["spec", "status"] {
                let free = &schema["properties"][field];
                assert_eq!(free["x-kubernetes-preserve-unknown-fields"], true);
            }
            assert!(version["subresources"]["status"].is_object());
        }
        let columns = versions[0]["additionalPrinterColumns"].as_array();
        let names: Vec<_> = columns
            .expect("columns")
            .iter()
            .filter_map(|column| column["name"].as_str())
            .collect();
        assert_eq!(names, ["Gateways", "Hosts", "Age"]);
        let categories = &made["spec"]["names"]["categories"];
        assert_eq!(*categories, json!(["istio-io", "networking-istio-io"]));
    }

    /// One that the API server does not take keeps it from starting.
    #[test]
    fn the_path_of_a_column_has_only_names_and_numbers() {
        for (kind, columns) in COLUMNS {
            for (_, path) in *columns {
                let fits = path.strip_prefix('.').is_some_and(|path| {
                    path.split(['.', '[']).all(|part| {
                        let number = part.strip_suffix(']');
                        match number {
                            Some(number) => number.parse::<usize>().is_ok(),
                            None => part.chars().all(char::is_alphanumeric) && !part.is_empty(),
                        }
                    })
                });
                assert!(fits, "{kind} {path}");
            }
        }
    }

    #[test]
    fn every_kind_has_one_definition_and_a_version() {
        let names: BTreeSet<_> = kinds().iter().map(|kind| kind.id()).collect();
        assert_eq!(names.len(), kinds().len());
        assert!(kinds().iter().all(|kind| !kind.versions.is_empty()));
    }

    #[test]
    fn istios_kinds_come_before_others_of_their_name() {
        assert!(priority("istio") > priority("gloo"));
        assert!(priority("gloo") > priority("unheard of"));
        assert!(priority("istio") < 0);
    }
}
