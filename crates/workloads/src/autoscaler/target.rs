//! What an autoscaler reads and writes through the API: the target's scale, and what pods use.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::autoscaling::v2::CrossVersionObjectReference;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::{Client, ResourceExt};
use reconcile::Key;
use serde_json::{Value, json};

use super::usage::Sample;
use crate::quantity;

/// Something with a size.
pub(super) struct Target {
    api: Api<DynamicObject>,
    name: String,
}

/// Its size.
#[derive(Clone, Debug)]
pub(super) struct Scale {
    pub(super) replicas: i32,
    /// Labels that its pods have.
    labels: BTreeMap<String, String>,
    expressions: Vec<Requirement>,
}

/// One part of a selector's text that is no plain equality.
#[derive(Clone, Debug, PartialEq)]
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Absent(String),
}

impl Target {
    /// Finds out how the kind is served.
    pub(super) async fn find(
        client: &Client,
        key: &Key,
        reference: &CrossVersionObjectReference,
    ) -> Result<Self, String> {
        let version = reference.api_version.as_deref().unwrap_or("v1");
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        let kind = GroupVersionKind::gvk(group, version, &reference.kind);
        let found = kube::discovery::pinned_kind(client, &kind).await;
        let (resource, _) = found.map_err(|error| {
            format!("unable to determine resource for scale target reference: {error}")
        })?;
        Ok(Self {
            api: Api::namespaced_with(client.clone(), &key.namespace, &resource),
            name: reference.name.clone(),
        })
    }

    pub(super) async fn scale(&self) -> Result<Scale, String> {
        let scale = self
            .api
            .get_scale(&self.name)
            .await
            .map_err(|error| words(&error))?;
        let replicas = scale
            .spec
            .as_ref()
            .and_then(|spec| spec.replicas)
            .unwrap_or(0);
        let selector = scale
            .status
            .and_then(|status| status.selector)
            .unwrap_or_default();
        if selector.is_empty() {
            return Err("the target's scale has no selector, its pods cannot be found".to_owned());
        }
        Ok(Scale::parse(replicas, &selector))
    }

    pub(super) async fn resize(&self, replicas: i32) -> Result<(), String> {
        let patch = json!({"spec": {"replicas": replicas}});
        let params = PatchParams {
            field_manager: Some(reconcile::MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let written = self
            .api
            .patch_scale(&self.name, &params, &Patch::Merge(&patch))
            .await;
        written.map(drop).map_err(|error| words(&error))
    }
}

impl Scale {
    /// Reads the selector as `status.selector` has it: `a=b,c in (d,e),f,!g`.
    fn parse(replicas: i32, selector: &str) -> Self {
        let mut scale = Self {
            replicas,
            labels: BTreeMap::new(),
            expressions: Vec::new(),
        };
        let mut depth = 0;
        let parts = selector.split(|c: char| {
            match c {
                '(' => depth += 1,
                ')' => depth -= 1,
                _ => {}
            }
            c == ',' && depth == 0
        });
        for part in parts.map(str::trim) {
            let set = |operator: &str| {
                let (key, values) = part.split_once(operator)?;
                let values = values.trim().trim_matches(['(', ')']).split(',');
                Some((
                    key.trim().to_owned(),
                    values.map(|value| value.trim().to_owned()).collect(),
                ))
            };
            if let Some((key, values)) = set(" notin ") {
                scale.expressions.push(Requirement::NotIn(key, values));
            } else if let Some((key, values)) = set(" in ") {
                scale.expressions.push(Requirement::In(key, values));
            } else if let Some((key, value)) = part.split_once("!=") {
                let values = vec![value.to_owned()];
                scale
                    .expressions
                    .push(Requirement::NotIn(key.to_owned(), values));
            } else if let Some((key, value)) = part.split_once('=') {
                let value = value.trim_start_matches('=');
                scale.labels.insert(key.to_owned(), value.to_owned());
            } else if let Some(key) = part.strip_prefix('!') {
                scale.expressions.push(Requirement::Absent(key.to_owned()));
            } else {
                scale.expressions.push(Requirement::Exists(part.to_owned()));
            }
        }
        scale
    }

    pub(super) fn selects(&self, pod: &Pod) -> bool {
        let labels = pod.labels();
        let holds = |requirement: &Requirement| match requirement {
            Requirement::In(key, values) => {
                labels.get(key).is_some_and(|value| values.contains(value))
            }
            Requirement::NotIn(key, values) => {
                labels.get(key).is_none_or(|value| !values.contains(value))
            }
            Requirement::Exists(key) => labels.contains_key(key),
            Requirement::Absent(key) => !labels.contains_key(key),
        };
        self.labels
            .iter()
            .all(|(key, value)| labels.get(key) == Some(value))
            && self.expressions.iter().all(holds)
    }
}

/// What every pod of a namespace uses, by name.
pub(super) async fn samples(
    client: &Client,
    namespace: &str,
) -> Result<BTreeMap<String, Sample>, String> {
    let failed = |error: &dyn std::fmt::Display| {
        format!("unable to fetch metrics from resource metrics API: {error}")
    };
    let path = format!("/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods");
    let request = http::Request::get(path).body(Vec::new());
    let request = request.map_err(|error| failed(&error))?;
    let list: Value = client
        .request(request)
        .await
        .map_err(|error| match &error {
            kube::Error::Api(status) if status.code == 404 => failed(
                &"the server could not find the requested resource (get pods.metrics.k8s.io)",
            ),
            other => failed(&words(other)),
        })?;
    let items = list["items"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let read = items
        .iter()
        .filter_map(|item| Some((item["metadata"]["name"].as_str()?.to_owned(), sample(item)?)));
    Ok(read.collect())
}

fn sample(item: &Value) -> Option<Sample> {
    let at: Time = serde_json::from_value(item["timestamp"].clone()).ok()?;
    let window = item["window"].as_str().and_then(window).unwrap_or_default();
    let containers = item["containers"]
        .as_array()?
        .iter()
        .filter_map(|container| {
            let usage = container["usage"]
                .as_object()?
                .iter()
                .filter_map(|(name, amount)| {
                    let amount = quantity::milli(&Quantity(amount.as_str()?.to_owned()))?;
                    Some((name.clone(), amount))
                });
            Some((container["name"].as_str()?.to_owned(), usage.collect()))
        });
    Some(Sample {
        at,
        window,
        containers: containers.collect(),
    })
}

/// A duration of Go as metrics write it: `15s`, `1m0s`, `10.5s`.
fn window(text: &str) -> Option<Duration> {
    if let Some(millis) = text.strip_suffix("ms") {
        return Some(Duration::from_millis(millis.parse().ok()?));
    }
    let (minutes, rest) = match text.split_once('m') {
        Some((minutes, rest)) => (minutes.parse::<u64>().ok()?, rest),
        None => (0, text),
    };
    let seconds = match rest.strip_suffix('s') {
        Some(seconds) => seconds.parse::<f64>().ok()?,
        None => 0.0,
    };
    Duration::try_from_secs_f64(seconds)
        .ok()?
        .checked_add(Duration::from_secs(minutes * 60))
}

fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_read_as_the_scale_writes_them() {
        let scale = Scale::parse(
            1,
            "app=web,tier in (a, b),env notin (test),ready,!old,zone!=x",
        );
        let selects = |labels: Value| {
            let pod =
                serde_json::from_value(json!({"metadata": {"labels": labels}})).expect("a Pod");
            scale.selects(&pod)
        };
        assert!(selects(json!({"app": "web", "tier": "b", "ready": ""})));
        for missing in [
            json!({"app": "web", "tier": "c", "ready": ""}),
            json!({"app": "web", "tier": "a"}),
            json!({"app": "web", "tier": "a", "ready": "", "old": "1"}),
            json!({"app": "web", "tier": "a", "ready": "", "env": "test"}),
            json!({"app": "web", "tier": "a", "ready": "", "zone": "x"}),
        ] {
            assert!(!selects(missing.clone()), "{missing}");
        }
    }

    #[test]
    fn measurements_are_read_as_metrics_are_served() {
        let item = json!({
            "metadata": {"name": "a"}, "timestamp": "2026-03-10T10:07:30Z", "window": "1m15s",
            "containers": [{"name": "c", "usage": {"cpu": "2500u", "memory": "10Mi"}}],
        });
        let sample = sample(&item).expect("a sample");
        assert_eq!(sample.window, Duration::from_secs(75));
        assert_eq!(sample.containers["c"]["cpu"], 3);
        assert_eq!(sample.containers["c"]["memory"], 10 * 1024 * 1024 * 1000);
    }
}
