//! Secondary keys into a cache: which objects of a namespace mention a term.
//!
//! Keeps look-ups flat when a namespace holds thousands of objects. Handlers of an informer run
//! in the order in which they were added, so an index made before the controllers start is up
//! to date whenever they are told of a change.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Debug;
use std::sync::{Arc, PoisonError, RwLock};

use kube::Resource;
use reconcile::{Change, Informer, Key};
use serde::de::DeserializeOwned;

/// Objects of kind `K` by the terms that they mention. Clone freely; clones are one index.
pub(crate) struct Index<K> {
    objects: Informer<K>,
    terms: Arc<RwLock<Terms>>,
}

impl<K> Clone for Index<K> {
    fn clone(&self) -> Self {
        Self {
            objects: self.objects.clone(),
            terms: Arc::clone(&self.terms),
        }
    }
}

#[derive(Default)]
struct Terms {
    /// A term is a key too: the namespace and the text.
    objects_of: HashMap<Key, BTreeSet<Key>>,
    terms_of: HashMap<Key, Vec<Key>>,
}

impl<K> Index<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    /// Follows a cache. `terms` lists what an object mentions.
    pub(crate) fn follow(objects: &Informer<K>, terms: fn(&K) -> Vec<String>) -> Self {
        let index = Self {
            objects: objects.clone(),
            terms: Arc::default(),
        };
        let known = Arc::clone(&index.terms);
        objects.on_change(move |change| {
            let object = change.object();
            let key = Key::of(object.as_ref());
            let mentioned = match change {
                Change::Applied(object) => terms(object),
                Change::Deleted(_) => Vec::new(),
            };
            let mut known = known.write().unwrap_or_else(PoisonError::into_inner);
            known.set(&key, mentioned);
        });
        index
    }

    /// Keys of the objects that mention a term.
    pub(crate) fn keys(&self, namespace: &str, term: &str) -> Vec<Key> {
        let terms = self.terms.read().unwrap_or_else(PoisonError::into_inner);
        let found = terms.objects_of.get(&Key::new(namespace, term));
        found.into_iter().flatten().cloned().collect()
    }

    /// The objects that mention a term, ordered by name.
    pub(crate) fn get(&self, namespace: &str, term: &str) -> Vec<Arc<K>> {
        let keys = self.keys(namespace, term);
        keys.iter()
            .filter_map(|key| self.objects.get(key))
            .collect()
    }
}

impl Terms {
    fn set(&mut self, object: &Key, mentioned: Vec<String>) {
        let mentioned: Vec<Key> = mentioned
            .into_iter()
            .map(|term| Key::new(object.namespace.clone(), term))
            .collect();
        if self
            .terms_of
            .get(object)
            .is_some_and(|known| *known == mentioned)
        {
            return;
        }
        for term in self.terms_of.remove(object).unwrap_or_default() {
            if let Some(objects) = self.objects_of.get_mut(&term) {
                objects.remove(object);
                if objects.is_empty() {
                    self.objects_of.remove(&term);
                }
            }
        }
        for term in &mentioned {
            let objects = self.objects_of.entry(term.clone()).or_default();
            objects.insert(object.clone());
        }
        if !mentioned.is_empty() {
            self.terms_of.insert(object.clone(), mentioned);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_found_by_what_it_mentions_now() {
        let mut terms = Terms::default();
        let (a, b) = (Key::new("ns", "a"), Key::new("ns", "b"));
        terms.set(&a, vec!["x".into(), "y".into()]);
        terms.set(&b, vec!["x".into()]);
        terms.set(&a, vec!["y".into()]);
        let found = |term| terms.objects_of.get(&Key::new("ns", term));
        assert_eq!(found("x"), Some(&BTreeSet::from([b])));
        assert_eq!(found("y"), Some(&BTreeSet::from([a.clone()])));
        terms.set(&a, Vec::new());
        assert!(!terms.objects_of.contains_key(&Key::new("ns", "y")));
        assert!(!terms.terms_of.contains_key(&a));
    }
}
