//! Which of very many selectors may find a pod, in a few bytes per selector.
//!
//! Only a hash of one label that a selector needs is kept. So what is found here is a candidate:
//! the caller reads the object and asks its selector.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use reconcile::Key;

type Labels = BTreeMap<String, String>;

#[derive(Default)]
pub(crate) struct Candidates {
    hasher: RandomState,
    /// Hash of a needed label, and who needs it.
    by_label: BTreeSet<(u64, Arc<str>)>,
    label_of: BTreeMap<Arc<str>, u64>,
}

impl Candidates {
    /// Notes whose selector this is; `None` if it has none or is gone.
    pub(crate) fn set(&mut self, key: &Key, selector: Option<&LabelSelector>) {
        let path: Arc<str> = key.path().into();
        if let Some((path, hash)) = self.label_of.remove_entry(&path) {
            self.by_label.remove(&(hash, path));
        }
        let Some(selector) = selector else { return };
        let needed = selector.match_labels.as_ref();
        // Without a label that must be equal, it is a candidate for everything in its namespace.
        let hash = match needed.and_then(BTreeMap::first_key_value) {
            Some((label, value)) => self.hash(&key.namespace, label, value),
            None => self.hash(&key.namespace, "", ""),
        };
        self.by_label.insert((hash, Arc::clone(&path)));
        self.label_of.insert(path, hash);
    }

    /// Whose selectors may find an object with these labels.
    pub(crate) fn of(&self, namespace: &str, labels: &Labels) -> Vec<Key> {
        let labels = labels.iter().map(|(k, v)| (k.as_str(), v.as_str()));
        let hashes: BTreeSet<u64> = labels
            .chain([("", "")])
            .map(|(label, value)| self.hash(namespace, label, value))
            .collect();
        let of = |hash: u64| {
            let range = self.by_label.range((hash, Arc::from(""))..);
            range.take_while(move |(found, _)| *found == hash)
        };
        hashes
            .into_iter()
            .flat_map(of)
            .map(|(_, path)| Key::at(path))
            .collect()
    }

    fn hash(&self, namespace: &str, label: &str, value: &str) -> u64 {
        self.hasher.hash_one((namespace, label, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_selector_is_a_candidate_for_what_has_its_first_label_in_its_namespace() {
        let mut candidates = Candidates::default();
        let mut set = |key: &Key, selector: serde_json::Value| {
            let selector: Option<LabelSelector> =
                serde_json::from_value(selector).expect("a selector or null");
            candidates.set(key, selector.as_ref());
        };
        let key = |name: &str| Key::new("ns", name);
        set(
            &key("web"),
            json!({"matchLabels": {"app": "web", "tier": "x"}}),
        );
        set(&key("old"), json!({"matchLabels": {"app": "web"}}));
        set(&key("old"), json!({"matchLabels": {"app": "new"}}));
        set(&key("gone"), json!({"matchLabels": {"app": "web"}}));
        set(&key("gone"), json!(null));
        let any = json!({"matchExpressions": [{"key": "app", "operator": "Exists"}]});
        set(&key("any"), any);
        let labels: Labels = [("app".to_owned(), "web".to_owned())].into();
        let mut found = candidates.of("ns", &labels);
        found.sort();
        assert_eq!(found, [key("any"), key("web")]);
        assert!(candidates.of("other", &labels).is_empty());
    }
}
