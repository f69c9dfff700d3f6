//! Which Services a changed pod concerns, without looking at every Service of its namespace.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::ResourceExt;
use reconcile::{Change, Informer, Key, Queue};

use crate::candidates::Candidates;

#[derive(Default)]
struct Index {
    services: Candidates,
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
    let services = services.clone();
    pods.on_change(move |change| {
        let pod = change.object();
        let key = Key::of(pod.as_ref());
        let gone = matches!(change, Change::Deleted(_));
        let selects = |service: &Key| {
            let selector = services.get(service).and_then(|service| selector(&service));
            selector.is_some_and(|selector| selects(&selector, pod.labels()))
        };
        let mut index = index.lock().unwrap_or_else(PoisonError::into_inner);
        for service in index.concerned(&key, pod.labels(), gone, selects) {
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
        let selector = selector.map(|labels| LabelSelector {
            match_labels: Some(labels),
            match_expressions: None,
        });
        self.services.set(service, selector.as_ref());
    }

    fn concerned(
        &mut self,
        pod: &Key,
        labels: &BTreeMap<String, String>,
        gone: bool,
        selects: impl Fn(&Key) -> bool,
    ) -> BTreeSet<Key> {
        let candidates = self.services.of(&pod.namespace, labels).into_iter();
        let mut selected: BTreeSet<Key> = candidates.filter(selects).collect();
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

fn selects(selector: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    selector
        .iter()
        .all(|(key, value)| labels.get(key) == Some(value))
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
        let mut selectors = HashMap::from([
            (web.clone(), map(&[("app", "web"), ("tier", "front")])),
            (all.clone(), map(&[("app", "web")])),
        ]);
        for (service, selector) in &selectors {
            index.set_selector(service, Some(selector.clone()));
        }
        let pod = Key::new("default", "p");
        type Selectors = HashMap<Key, BTreeMap<String, String>>;
        let mut check = |selectors: &Selectors, pod: &Key, labels: &[(&str, &str)], gone: bool| {
            let labels = map(labels);
            let selects = |service: &Key| selects(&selectors[service], &labels);
            index.concerned(pod, &labels, gone, selects)
        };
        let both = BTreeSet::from([web.clone(), all.clone()]);
        let full = [("app", "web"), ("tier", "front")];
        assert_eq!(check(&selectors, &pod, &full, false), both);
        let less = [("app", "web")];
        let left = check(&selectors, &pod, &less, false);
        assert_eq!(left, both, "it left one of them");
        let only = BTreeSet::from([all.clone()]);
        assert_eq!(check(&selectors, &pod, &less, false), only);
        let other = Key::new("other", "p");
        assert!(check(&selectors, &other, &less, false).is_empty());
        selectors.insert(all.clone(), map(&[("app", "none")]));
        let gone = check(&selectors, &pod, &less, true);
        assert_eq!(gone, only, "it was one of its members");
    }
}
