//! LimitRanges: what containers get that name nothing, and between which bounds objects must be.
//!
//! Applied to new pods and claims only, as in Kubernetes: a changed LimitRange leaves what runs alone.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::crud::Call;
use crate::quantity::Quantity;
use crate::status::{Named, Status};
use crate::store::{Scope, Store};

const RESOURCE: &str = "limitranges";
const ANNOTATION: &str = "kubernetes.io/limit-ranger";

/// Fills in and checks a new object. Others than pods and claims pass.
pub(crate) fn admit(store: &Store, call: &Call, value: &mut Value) -> Result<(), Status> {
    let resource = call.resource();
    if call.namespace.is_empty() || !["pods", "persistentvolumeclaims"].contains(&&*resource) {
        return Ok(());
    }
    let (_, ranges) = store.list(RESOURCE, &Scope::Namespace(call.namespace.as_str().into()));
    if ranges.is_empty() {
        return Ok(());
    }
    let ranges: Vec<Arc<Value>> = ranges.iter().map(|range| range.value()).collect();
    let items = || {
        ranges
            .iter()
            .flat_map(|range| range["spec"]["limits"].as_array().into_iter().flatten())
    };
    let mut errors = Vec::new();
    if resource == "pods" {
        fill_in(value, items());
        for item in items() {
            check_pod(item, &value["spec"], &mut errors);
        }
    } else {
        let requests = &value["spec"]["resources"]["requests"];
        for item in items().filter(|item| item["type"] == "PersistentVolumeClaim") {
            check_claim(item, requests, &mut errors);
        }
    }
    let why = match errors.as_slice() {
        [] => return Ok(()),
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    };
    let what = Named {
        group: "",
        resource: &call.kind.plural,
        name: &call.name,
    };
    Err(Status::forbidden(what, &why))
}

/// Gives containers the defaults for what they do not name.
fn fill_in<'a>(pod: &mut Value, items: impl Iterator<Item = &'a Value>) {
    let (mut limits, mut requests) = (Map::new(), Map::new());
    for item in items.filter(|item| item["type"] == "Container") {
        for (list, from) in [(&mut limits, "default"), (&mut requests, "defaultRequest")] {
            for (name, quantity) in item[from].as_object().into_iter().flatten() {
                list.insert(name.clone(), quantity.clone());
            }
        }
    }
    let mut told = Vec::new();
    for (field, what) in [
        ("containers", "container"),
        ("initContainers", "init container"),
    ] {
        let containers = pod
            .pointer_mut(&format!("/spec/{field}"))
            .and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            let name = container["name"].as_str().unwrap_or_default().to_owned();
            for (list, defaults, kind) in [
                ("requests", &requests, "request"),
                ("limits", &limits, "limit"),
            ] {
                let set = merge(container, list, defaults);
                if !set.is_empty() {
                    told.push(format!("{} {kind} for {what} {name}", set.join(", ")));
                }
            }
        }
    }
    if told.is_empty() {
        return;
    }
    let text = format!("LimitRanger plugin set: {}", told.join("; "));
    if let Some(annotations) = pod
        .get_mut("metadata")
        .and_then(|metadata| object_at(metadata, "annotations"))
    {
        annotations.insert(ANNOTATION.into(), json!(text));
    }
}

/// The object in a field, made if it is missing; `None` if something else is there, which the
/// schema will refuse.
fn object_at<'a>(value: &'a mut Value, field: &str) -> Option<&'a mut Map<String, Value>> {
    let own = value.as_object_mut()?;
    let inner = own.entry(field).or_insert_with(|| json!({}));
    if inner.is_null() {
        *inner = json!({});
    }
    inner.as_object_mut()
}

/// The names that were missing.
fn merge(container: &mut Value, list: &str, defaults: &Map<String, Value>) -> Vec<String> {
    let mut set = Vec::new();
    if defaults.is_empty() || object_at(container, "resources").is_none() {
        return set;
    }
    let Some(amounts) = object_at(&mut container["resources"], list) else {
        return set;
    };
    for (name, quantity) in defaults {
        if !amounts.contains_key(name) {
            amounts.insert(name.clone(), quantity.clone());
            set.push(name.clone());
        }
    }
    set
}

fn check_pod(item: &Value, spec: &Value, errors: &mut Vec<String>) {
    match item["type"].as_str() {
        Some("Container") => {
            for list in ["containers", "initContainers"] {
                for container in spec[list].as_array().into_iter().flatten() {
                    let resources = &container["resources"];
                    let bounds = Bounds {
                        item,
                        kind: "Container",
                    };
                    bounds.check(
                        &|name| Quantity::of(&resources["requests"][name]),
                        &|name| Quantity::of(&resources["limits"][name]),
                        errors,
                    );
                }
            }
        }
        Some("Pod") => {
            let sum = |list: &str, name: &str| {
                let amounts = spec["containers"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(|container| Quantity::of(&container["resources"][list][name]));
                amounts.reduce(|sum, amount| sum + amount)
            };
            let bounds = Bounds { item, kind: "Pod" };
            bounds.check(
                &|name| sum("requests", name),
                &|name| sum("limits", name),
                errors,
            );
        }
        _ => {}
    }
}

fn check_claim(item: &Value, requests: &Value, errors: &mut Vec<String>) {
    let kind = "PersistentVolumeClaim";
    for (field, word, bad) in [("min", "minimum", -1), ("max", "maximum", 1)] {
        for (name, bound) in item[field].as_object().into_iter().flatten() {
            let Some(bound) = Quantity::of(bound) else {
                continue;
            };
            let start = format!("{word} {name} usage per {kind} is {bound}");
            match Quantity::of(&requests[name]) {
                None => errors.push(format!("{start}.  No request is specified")),
                Some(request) if request.cmp(&bound) as i8 == bad => {
                    errors.push(format!("{start}, but request is {request}"));
                }
                Some(_) => {}
            }
        }
    }
}

type Amounts<'a> = &'a dyn Fn(&str) -> Option<Quantity>;

/// One item of a LimitRange.
struct Bounds<'a> {
    item: &'a Value,
    kind: &'a str,
}

impl Bounds<'_> {
    fn check(&self, requests: Amounts<'_>, limits: Amounts<'_>, errors: &mut Vec<String>) {
        let fields = ["min", "max", "maxLimitRequestRatio"];
        let names: BTreeSet<&String> = fields
            .iter()
            .filter_map(|field| self.item[*field].as_object())
            .flat_map(Map::keys)
            .collect();
        for name in names {
            let (request, limit) = (requests(name), limits(name));
            let found = [
                self.minimum(name, request, limit),
                self.maximum(name, request, limit),
                self.ratio(name, request, limit),
            ];
            errors.extend(found.into_iter().flatten());
        }
    }

    fn bound(&self, field: &str, name: &str) -> Option<Quantity> {
        Quantity::of(&self.item[field][name])
    }

    fn minimum(
        &self,
        name: &str,
        request: Option<Quantity>,
        limit: Option<Quantity>,
    ) -> Option<String> {
        let bound = self.bound("min", name)?;
        let start = format!("minimum {name} usage per {} is {bound}", self.kind);
        match (request, limit) {
            (None, _) => Some(format!("{start}.  No request is specified")),
            (Some(request), _) if request < bound => {
                Some(format!("{start}, but request is {request}"))
            }
            (_, Some(limit)) if limit < bound => Some(format!("{start}, but limit is {limit}")),
            _ => None,
        }
    }

    fn maximum(
        &self,
        name: &str,
        request: Option<Quantity>,
        limit: Option<Quantity>,
    ) -> Option<String> {
        let bound = self.bound("max", name)?;
        let start = format!("maximum {name} usage per {} is {bound}", self.kind);
        match (request, limit) {
            (_, None) => Some(format!("{start}.  No limit is specified")),
            (_, Some(limit)) if limit > bound => Some(format!("{start}, but limit is {limit}")),
            (Some(request), _) if request > bound => {
                Some(format!("{start}, but request is {request}"))
            }
            _ => None,
        }
    }

    fn ratio(
        &self,
        name: &str,
        request: Option<Quantity>,
        limit: Option<Quantity>,
    ) -> Option<String> {
        let bound = self.bound("maxLimitRequestRatio", name)?;
        let start = format!(
            "{name} max limit to request ratio per {} is {bound}",
            self.kind
        );
        let Some(request) = request.filter(|request| !request.is_zero()) else {
            return Some(format!(
                "{start}, but no request is specified or request is 0"
            ));
        };
        let Some(limit) = limit.filter(|limit| !limit.is_zero()) else {
            return Some(format!("{start}, but no limit is specified or limit is 0"));
        };
        let ratio = limit.ratio(request);
        (ratio > bound.ratio(Quantity::whole(1)))
            .then(|| format!("{start}, but provided ratio is {ratio:.6}"))
    }
}

#[cfg(test)]
mod tests;
