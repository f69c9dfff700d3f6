//! Aggregated ClusterRoles: `rules` are those of the ClusterRoles that the selectors choose.
//!
//! One pass computes every aggregated role from what is stored; passes repeat until none changes,
//! because a role may collect one that collects others (`admin` takes `edit`, which takes `view`).

use std::sync::Arc;

use serde_json::{Value, json};

use super::rbac::{CLUSTER_ROLES, GROUP};
use crate::crud::{self, Api, Call};
use crate::selector::Labels;
use crate::store::Scope;

/// Passes at most; more would be roles that collect each other, which settle as well.
const PASSES: usize = 16;

/// Keeps aggregated roles up to date until the store closes its watches.
pub(crate) async fn run(api: Arc<Api>) {
    loop {
        let scope = Scope::All;
        let (_, _, mut changes) = api.store.list_and_subscribe(CLUSTER_ROLES, &scope);
        settle(&api).await;
        while changes.next().await.is_some() {
            while changes.try_next().is_some() {}
            settle(&api).await;
        }
        if !changes.lagged() {
            return;
        }
    }
}

/// Brings the aggregated roles up to date.
pub(crate) async fn settle(api: &Api) {
    for _ in 0..PASSES {
        if !pass(api).await {
            return;
        }
    }
}

/// Whether a role was changed.
async fn pass(api: &Api) -> bool {
    let (_, stored) = api.store.list(CLUSTER_ROLES, &Scope::All);
    let roles: Vec<Arc<Value>> = stored.iter().map(|role| role.value()).collect();
    let Some(kind) = api.types().get(GROUP, "v1", "clusterroles").cloned() else {
        return false;
    };
    let mut changed = false;
    for role in roles
        .iter()
        .filter(|role| role["aggregationRule"].is_object())
    {
        let rules = collect(role, &roles);
        if role["rules"].as_array().is_some_and(|old| *old == rules) {
            continue;
        }
        let mut next = (**role).clone();
        next["rules"] = json!(rules);
        let name = next["metadata"]["name"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let body = crud::Body {
            media_type: "application/json".into(),
            bytes: next.to_string().into(),
        };
        match api.update(&Call::internal(&kind, "", &name), &body).await {
            Ok(_) => changed = true,
            // Changed or deleted meanwhile: the event of that brings us here again.
            Err(status) if [404, 409].contains(&status.code) => {}
            Err(error) => tracing::warn!(role = name, %error, "cannot aggregate a ClusterRole"),
        }
    }
    changed
}

/// The rules that a role collects, each once, in order of the roles' names.
fn collect(role: &Value, roles: &[Arc<Value>]) -> Vec<Value> {
    let selectors = role["aggregationRule"]["clusterRoleSelectors"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    let selectors: Vec<Labels> = selectors
        .iter()
        .filter_map(|selector| Labels::from_selector(selector).ok())
        .collect();
    let mut rules: Vec<Value> = Vec::new();
    for other in roles {
        let chosen = other["metadata"]["name"] != role["metadata"]["name"]
            && selectors.iter().any(|selector| selector.matches(other));
        if !chosen {
            continue;
        }
        for rule in other["rules"].as_array().into_iter().flatten() {
            if !rules.contains(rule) {
                rules.push(rule.clone());
            }
        }
    }
    rules
}
