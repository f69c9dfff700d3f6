//! Which Services a changed pod concerns, without looking at every Service of its namespace.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt;
use reconcile::{Change, Informer, Key, Queue};

/// Namespace, label key and value: one requirement of a selector.
type Requirement = (String, String, String);

#[derive(Default)]
struct Index {
    /// Services by the first requirement of their selector.
    services: HashMap<Requirement, BTreeSet<Key>>,
    /// What `services` knows of each Service.
    selectors: HashMap<Key, BTreeMap<String, String>>,
    /// Services that each pod belonged to when last seen: it may leave them by new labels.
    members: HashMap<Key, BTreeSet<Key>>,
}

/// Enqueues a Service when it changes and when a pod that it selects, or did select, changes.
pub(crate) fn watch_members(
    services: &Informer<Service>,
    pods: &Informer<Pod>,
    queue: &Queue<Key>,
) {
    let index = Arc::new(Mutex::new(Index::default()));
    let (of_services, to) = (Arc::clone(&index), queue.clone());
    services.on_change(move |change| {
        let key = Key::of(change.object().as_ref());
        let selector = match change {
            Change::Applied(service) => selector(service),
            Change::Deleted(_) => None,
        };
        let mut index = of_services.lock().unwrap_or_else(PoisonError::into_inner);
        index.set_selector(&key, selector);
        to.add(key);
    });
    let to = queue.clone();
    pods.on_change(move |change| {
        let pod = change.object();
        let key = Key::of(pod.as_ref());
        let gone = matches!(change, Change::Deleted(_));
        let mut index = index.lock().unwrap_or_else(PoisonError::into_inner);
        for service in index.concerned(&key, pod.labels(), gone) {
            to.add(service);
        }
    });
}

/// The selector of a Service whose endpoints are ours to write.
pub(super) fn selector(service: &Service) -> Option<BTreeMap<String, String>> {
    let spec = service.spec.as_ref()?;
    if spec.type_.as_deref() == Some("ExternalName") {
        return None;
    }
    spec.selector
        .clone()
        .filter(|selector| !selector.is_empty())
}

impl Index {
    fn set_selector(&mut self, service: &Key, selector: Option<BTreeMap<String, String>>) {
        if let Some(old) = self.selectors.remove(service)
            && let Some(requirement) = first(service, &old)
            && let Some(services) = self.services.get_mut(&requirement)
        {
            services.remove(service);
            if services.is_empty() {
                self.services.remove(&requirement);
            }
        }
        if let Some(selector) = selector {
            if let Some(requirement) = first(service, &selector) {
                self.services
                    .entry(requirement)
                    .or_default()
                    .insert(service.clone());
            }
            self.selectors.insert(service.clone(), selector);
        }
    }

    fn concerned(
        &mut self,
        pod: &Key,
        labels: &BTreeMap<String, String>,
        gone: bool,
    ) -> BTreeSet<Key> {
        let mut selected = BTreeSet::new();
        for (key, value) in labels {
            let requirement = (pod.namespace.clone(), key.clone(), value.clone());
            for service in self.services.get(&requirement).into_iter().flatten() {
                let selector = self.selectors.get(service);
                if selector.is_some_and(|selector| {
                    selector
                        .iter()
                        .all(|(key, value)| labels.get(key) == Some(value))
                }) {
                    selected.insert(service.clone());
                }
            }
        }
        let kept = if gone {
            BTreeSet::new()
        } else {
            selected.clone()
        };
        let before = if kept.is_empty() {
            self.members.remove(pod)
        } else {
            self.members.insert(pod.clone(), kept)
        };
        selected.extend(before.unwrap_or_default());
        selected
    }
}

fn first(service: &Key, selector: &BTreeMap<String, String>) -> Option<Requirement> {
    let (key, value) = selector.first_key_value()?;
    Some((service.namespace.clone(), key.clone(), value.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
        entries
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn a_pod_concerns_the_services_that_select_it_or_did() {
        let mut index = Index::default();
        let (web, all) = (Key::new("default", "web"), Key::new("default", "all"));
        index.set_selector(&web, Some(map(&[("app", "web"), ("tier", "front")])));
        index.set_selector(&all, Some(map(&[("app", "web")])));
        let pod = Key::new("default", "p");
        let both = BTreeSet::from([web.clone(), all.clone()]);
        assert_eq!(
            index.concerned(&pod, &map(&[("app", "web"), ("tier", "front")]), false),
            both
        );
        assert_eq!(
            index.concerned(&pod, &map(&[("app", "web")]), false),
            both,
            "it left one of them"
        );
        assert_eq!(
            index.concerned(&pod, &map(&[("app", "web")]), false),
            BTreeSet::from([all.clone()])
        );
        assert!(
            index
                .concerned(&Key::new("other", "p"), &map(&[("app", "web")]), false)
                .is_empty()
        );
        index.set_selector(&all, None);
        assert_eq!(
            index.concerned(&pod, &map(&[("app", "web")]), true),
            BTreeSet::from([all])
        );
    }
}
