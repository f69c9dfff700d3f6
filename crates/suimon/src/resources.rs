//! What the API serves: from the names that users type to kinds and paths.

use anyhow::{Context, bail};
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject};
use serde_json::Value;

const DISCOVERY: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// One kind of the API.
#[derive(Clone, Debug)]
pub struct Kind {
    pub resource: ApiResource,
    pub namespaced: bool,
    singular: String,
    short_names: Vec<String>,
}

/// Every kind that the API serves, in its preferred version.
#[derive(Debug)]
pub struct Resources {
    kinds: Vec<Kind>,
}

impl Resources {
    /// Asks the API what it serves (aggregated discovery, two requests).
    pub async fn discover(client: &Client) -> anyhow::Result<Self> {
        let mut kinds = Vec::new();
        for path in ["/api", "/apis"] {
            let request = http::Request::get(path)
                .header("accept", DISCOVERY)
                .body(Vec::new())?;
            let list: Value = client
                .request(request)
                .await
                .context("cannot ask the API what it serves")?;
            for group in list["items"].as_array().into_iter().flatten() {
                kinds_of(group, &mut kinds);
            }
        }
        Ok(Self { kinds })
    }

    /// The kind that a user means by `name`: plural, singular, kind, short name, with or without
    /// `.group`.
    pub fn find(&self, name: &str) -> anyhow::Result<&Kind> {
        let (plain, group) = name
            .split_once('.')
            .map_or((name, None), |(plain, group)| (plain, Some(group)));
        let wanted = plain.to_ascii_lowercase();
        let matches = |kind: &&Kind| {
            let named = kind.resource.plural == wanted
                || kind.singular == wanted
                || kind.resource.kind.to_ascii_lowercase() == wanted
                || kind.short_names.contains(&wanted);
            named && group.is_none_or(|group| kind.resource.group == group)
        };
        // `service` alone means Kubernetes' own, as with kubectl; `ksvc` means Knative's.
        let mut found: Vec<_> = self.kinds.iter().filter(matches).collect();
        found.sort_by_key(|kind| !kind.resource.group.is_empty());
        match found.first() {
            Some(kind) => Ok(kind),
            None => bail!("the API serves no kind \"{name}\""),
        }
    }

    /// The kind of a manifest's `apiVersion` and `kind`.
    pub fn of(&self, api_version: &str, kind: &str) -> anyhow::Result<&Kind> {
        let found = self
            .kinds
            .iter()
            .find(|k| k.resource.api_version == api_version && k.resource.kind == kind);
        match found {
            Some(kind) => Ok(kind),
            None => bail!("the API serves no kind \"{kind}\" in \"{api_version}\""),
        }
    }
}

impl Kind {
    /// The API of this kind; the namespace only counts for namespaced kinds.
    pub fn api(&self, client: &Client, namespace: &str) -> Api<DynamicObject> {
        if self.namespaced {
            Api::namespaced_with(client.clone(), namespace, &self.resource)
        } else {
            Api::all_with(client.clone(), &self.resource)
        }
    }

    /// The path of the collection, in one namespace or in all.
    pub fn path(&self, namespace: Option<&str>) -> String {
        let group = if self.resource.group.is_empty() {
            "/api/v1".to_owned()
        } else {
            format!("/apis/{}", self.resource.api_version)
        };
        match namespace.filter(|_| self.namespaced) {
            Some(namespace) => format!("{group}/namespaces/{namespace}/{}", self.resource.plural),
            None => format!("{group}/{}", self.resource.plural),
        }
    }

    /// `service.serving.knative.dev`, as kubectl names kinds in its answers.
    pub fn display(&self) -> String {
        if self.resource.group.is_empty() {
            self.singular.clone()
        } else {
            format!("{}.{}", self.singular, self.resource.group)
        }
    }
}

fn kinds_of(group: &Value, kinds: &mut Vec<Kind>) {
    let group_name = group
        .pointer("/metadata/name")
        .and_then(Value::as_str)
        .unwrap_or_default();
    for version in group["versions"].as_array().into_iter().flatten() {
        let Some(version_name) = version["version"].as_str() else {
            continue;
        };
        for resource in version["resources"].as_array().into_iter().flatten() {
            let text = |field: &str| resource[field].as_str().unwrap_or_default().to_owned();
            let kind = resource
                .pointer("/responseKind/kind")
                .and_then(Value::as_str)
                .unwrap_or_default();
            let api_version = if group_name.is_empty() {
                version_name.to_owned()
            } else {
                format!("{group_name}/{version_name}")
            };
            let short_names = resource["shortNames"].as_array().into_iter().flatten();
            kinds.push(Kind {
                resource: ApiResource {
                    group: group_name.to_owned(),
                    version: version_name.to_owned(),
                    api_version,
                    kind: kind.to_owned(),
                    plural: text("resource"),
                },
                namespaced: resource["scope"] == "Namespaced",
                singular: text("singularResource"),
                short_names: short_names
                    .filter_map(Value::as_str)
                    .map(str::to_owned)
                    .collect(),
            });
        }
    }
}
