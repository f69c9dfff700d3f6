//! ResourceQuotas: what a namespace may use, refused at admission and told in their status.
//!
//! Usage is counted from what is stored, so a refusal never rests on a status that lags. One lock
//! per server makes counting and storing one step; it is taken only where a quota limits the kind.

mod scope;
mod usage;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::sync::{Mutex, MutexGuard};

use crate::crud::{self, Api, Call, resource_id};
use crate::quantity::Quantity;
use crate::status::{Named, Status};
use crate::store::{Event, Scope, Store, Subscription};
use usage::Usage;

const RESOURCE: &str = "resourcequotas";
/// Changes are collected this long before the status of quotas is written again.
const SETTLE: Duration = Duration::from_millis(50);

/// Makes counting and storing one step.
#[derive(Debug, Default)]
pub(crate) struct Lock(Mutex<()>);

impl Api {
    /// Refuses what would exceed a quota. The write must be done before the guard is dropped.
    pub(crate) async fn hold_quota(
        &self,
        call: &Call,
        new: &Value,
        old: Option<&Value>,
    ) -> Result<Option<MutexGuard<'_, ()>>, Status> {
        if call.namespace.is_empty() || !call.subresource.is_empty() {
            return Ok(None);
        }
        if quotas(&self.store, &call.namespace).is_empty() {
            return Ok(None);
        }
        let guard = self.quota.0.lock().await;
        // Quotas may have changed while this waited.
        for quota in quotas(&self.store, &call.namespace) {
            check(&self.store, call, &quota, new, old).map_err(|why| {
                let what = Named {
                    group: &call.kind.group,
                    resource: &call.kind.plural,
                    name: &call.name,
                };
                Status::forbidden(what, &why)
            })?;
        }
        Ok(Some(guard))
    }
}

fn quotas(store: &Store, namespace: &str) -> Vec<Arc<Value>> {
    let (_, quotas) = store.list(RESOURCE, &Scope::Namespace(namespace.into()));
    quotas.iter().map(|quota| quota.value()).collect()
}

fn hard(quota: &Value) -> BTreeMap<&str, Quantity> {
    let hard = quota["spec"]["hard"].as_object();
    hard.into_iter()
        .flatten()
        .filter_map(|(name, value)| Some((name.as_str(), Quantity::of(value)?)))
        .collect()
}

fn check(
    store: &Store,
    call: &Call,
    quota: &Value,
    new: &Value,
    old: Option<&Value>,
) -> Result<(), String> {
    let resource = call.resource();
    let limits: BTreeMap<&str, Quantity> = hard(quota)
        .into_iter()
        .filter(|(name, _)| usage::resource(name) == resource)
        .collect();
    if limits.is_empty() || !scope::covers(&quota["spec"], &resource, new) {
        return Ok(());
    }
    let name = quota["metadata"]["name"].as_str().unwrap_or_default();
    if old.is_none() {
        usage::required(&resource, new, limits.keys().copied())
            .map_err(|missing| format!("failed quota: {name}: must specify {missing}"))?;
    }
    let after = usage::of(&resource, new);
    let before = old.map(|old| usage::of(&resource, old)).unwrap_or_default();
    let more: Usage = after
        .into_iter()
        .filter(|(name, _)| limits.contains_key(name.as_str()))
        .map(|(name, amount)| {
            let had = before.get(&name).copied().unwrap_or_default();
            (name, amount - had)
        })
        .filter(|(_, amount)| amount.is_positive())
        .collect();
    if more.is_empty() {
        return Ok(());
    }
    let used = count(store, &call.namespace, &resource, &quota["spec"]);
    let used_of = |name: &str| used.get(name).copied().unwrap_or_default();
    let exceeded: Vec<&String> = more
        .iter()
        .filter(|(name, amount)| used_of(name) + **amount > limits[name.as_str()])
        .map(|(name, _)| name)
        .collect();
    if exceeded.is_empty() {
        return Ok(());
    }
    let show = |amount: &dyn Fn(&str) -> Quantity| {
        let texts: Vec<String> = exceeded
            .iter()
            .map(|name| format!("{name}={}", amount(name)))
            .collect();
        texts.join(",")
    };
    Err(format!(
        "exceeded quota: {name}, requested: {}, used: {}, limited: {}",
        show(&|name| more[name]),
        show(&used_of),
        show(&|name| limits[name]),
    ))
}

/// What the objects of a resource use in a namespace, as far as a quota covers them.
fn count(store: &Store, namespace: &str, resource: &str, spec: &Value) -> Usage {
    let (_, objects) = store.list(resource, &Scope::Namespace(namespace.into()));
    let mut sum = Usage::new();
    for object in objects {
        let value = object.value();
        if !scope::covers(spec, resource, &value) {
            continue;
        }
        for (name, amount) in usage::of(resource, &value) {
            let so_far = sum.entry(name).or_default();
            *so_far = *so_far + amount;
        }
    }
    sum
}

/// `status` of a quota.
fn status(store: &Store, quota: &Value) -> Value {
    let namespace = quota["metadata"]["namespace"].as_str().unwrap_or_default();
    let limits = hard(quota);
    let resources: BTreeSet<String> = limits.keys().map(|name| usage::resource(name)).collect();
    let mut used = Usage::new();
    for resource in resources {
        used.extend(count(store, namespace, &resource, &quota["spec"]));
    }
    let shown: Map<String, Value> = limits
        .keys()
        .map(|name| {
            let amount = used.get(*name).copied().unwrap_or_default();
            ((*name).to_owned(), json!(amount.to_string()))
        })
        .collect();
    json!({ "hard": quota["spec"]["hard"], "used": shown })
}

/// Keeps the status of quotas up to date until the store closes its watches.
pub(crate) async fn run(api: Arc<Api>) {
    loop {
        let Ok(mut changes) = api.store.subscribe(None, &Scope::All, api.store.revision()) else {
            continue;
        };
        let (_, all) = api.store.list(RESOURCE, &Scope::All);
        let mut dirty: BTreeSet<String> = all
            .iter()
            .filter_map(|quota| {
                let value = quota.value();
                Some(value["metadata"]["namespace"].as_str()?.to_owned())
            })
            .collect();
        loop {
            for namespace in std::mem::take(&mut dirty) {
                tell(&api, &namespace).await;
            }
            if !collect(&api, &mut changes, &mut dirty).await {
                break;
            }
        }
        if !changes.lagged() {
            return;
        }
    }
}

/// Waits for changes in namespaces that have quotas; `false` at the end of the subscription.
async fn collect(api: &Api, changes: &mut Subscription, dirty: &mut BTreeSet<String>) -> bool {
    let mut note = |event: &Event| {
        if let Some(namespace) = event.namespace()
            && !dirty.contains(namespace)
            && !quotas(&api.store, namespace).is_empty()
        {
            dirty.insert(namespace.to_owned());
        }
        !dirty.is_empty()
    };
    while let Some(event) = changes.next().await {
        if note(&event) {
            // A rollout changes many pods at once; each would count everything again.
            tokio::time::sleep(SETTLE).await;
            while let Some(event) = changes.try_next() {
                note(&event);
            }
            return true;
        }
    }
    false
}

async fn tell(api: &Api, namespace: &str) {
    let Some(kind) = api.types().get("", "v1", RESOURCE).cloned() else {
        return;
    };
    for quota in quotas(&api.store, namespace) {
        let status = status(&api.store, &quota);
        if quota["status"] == status {
            continue;
        }
        let name = quota["metadata"]["name"].as_str().unwrap_or_default();
        let mut call = Call::internal(&kind, namespace, name);
        call.subresource = "status".into();
        let mut next = (*quota).clone();
        next["status"] = status;
        let body = crud::Body {
            media_type: "application/json".into(),
            bytes: next.to_string().into(),
        };
        match api.update(&call, &body).await {
            Ok(_) => {}
            // Changed or deleted meanwhile: the event of that brings us here again.
            Err(error) if [404, 409].contains(&error.code) => {}
            Err(error) => {
                tracing::warn!(namespace, name, %error, "cannot write the status of a quota");
            }
        }
    }
}

/// The resource that a name such as `count/jobs.batch` counts.
fn counted(name: &str) -> Option<String> {
    let resource = name.strip_prefix("count/")?;
    let (plural, group) = resource.split_once('.').unwrap_or((resource, ""));
    Some(resource_id(group, plural))
}
