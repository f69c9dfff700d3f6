//! Golden cases of kinds that say something about routes of the Gateway API.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{documents, model};
use crate::foreign::{Kind, Object};
use crate::objects::Objects;
use crate::shared::variant;
use crate::traffic_policy;

/// What a case comes to.
#[derive(serde::Serialize)]
struct Records {
    /// Matches, place, filters and action, by name.
    routes: BTreeMap<String, Value>,
    /// Those that differ from what their Services say.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    backends: BTreeMap<String, Value>,
    /// What is said about fields and objects.
    told: Vec<String>,
    statuses: BTreeMap<String, Value>,
}

/// Compares every case below `folder` with what was recorded; the statuses are those of `kinds`.
pub(crate) fn golden(folder: &str, kinds: &[&'static Kind]) {
    testkit::golden::each(folder, |case| {
        let own = documents(&case.read("input.yaml"));
        let mut all = traffic_policy::base();
        all.extend(own.iter().cloned());
        let mut objects = Objects::default();
        let made = model::of(&all, &mut objects);
        let policies = own.iter().filter_map(|one| {
            let kind = kinds.iter().find(|it| one["kind"] == it.kind)?;
            Object::new(kind, one.clone())
        });
        // Again, now that every target is there.
        let statuses = policies.map(|policy| {
            let translation = policy.translate(&objects);
            let name = format!("{} {}", policy.kind.kind, policy.name);
            (name, translation.status.unwrap_or_default())
        });
        let route = |route: &routing::model::Route| {
            json!({
                "matches": route.matches, "order": route.sort_key, "filters": route.filters,
                "request_headers": route.request_headers, "action": route.action,
            })
        };
        let routes = made.model.routes.iter();
        let backends = made.references.iter();
        let backends = backends.filter_map(|(id, (_, spec))| {
            let spec = spec.as_ref()?;
            Some((id.to_string(), variant::said(spec)))
        });
        case.check(
            "records.yaml",
            &Records {
                routes: routes
                    .map(|(id, one)| (id.0.to_string(), route(one)))
                    .collect(),
                backends: backends.collect(),
                told: made.told,
                statuses: statuses.collect(),
            },
        );
    });
}
