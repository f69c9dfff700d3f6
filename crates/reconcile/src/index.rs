//! Secondary keys into a cache: which objects of a namespace mention a term.
//!
//! Keeps look-ups flat when a namespace holds thousands of objects. Handlers of an informer run
//! in the order in which they were added, so an index made before the controllers start is up
//! to date whenever they are told of a change.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::{Arc, PoisonError, RwLock};

use kube::Resource;
use serde::de::DeserializeOwned;

use crate::{Change, Informer, Key};

/// Objects of kind `K` by the terms that they mention. Clone freely; clones are one index.
pub struct Index<K> {
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

/// Terms and objects as `namespace/text`. There is an entry or two for each of very many objects,
/// so they are kept in the smallest form.
#[derive(Default)]
struct Terms {
    /// Term and object.
    objects_of: BTreeSet<(Arc<str>, Arc<str>)>,
    terms_of: BTreeMap<Arc<str>, Box<[Arc<str>]>>,
}

impl<K> Index<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    /// Follows a cache. `terms` lists what an object mentions; objects are found in their own
    /// namespace.
    pub fn follow(
        objects: &Informer<K>,
        terms: impl Fn(&K) -> Vec<String> + Send + Sync + 'static,
    ) -> Self {
        Self::start(objects, move |object| {
            let namespace = object.meta().namespace.clone().unwrap_or_default();
            let path = |term: String| Key::new(namespace.clone(), term).path();
            terms(object).into_iter().map(path).collect()
        })
    }

    /// The same for terms that are asked for across namespaces, with an empty one.
    pub fn follow_anywhere(
        objects: &Informer<K>,
        terms: impl Fn(&K) -> Vec<String> + Send + Sync + 'static,
    ) -> Self {
        Self::start(objects, terms)
    }

    fn start(
        objects: &Informer<K>,
        terms: impl Fn(&K) -> Vec<String> + Send + Sync + 'static,
    ) -> Self {
        let index = Self {
            objects: objects.clone(),
            terms: Arc::default(),
        };
        let known = Arc::clone(&index.terms);
        objects.on_change(move |change| {
            let object = change.object();
            let mentioned = match change {
                Change::Applied(object) => terms(object),
                Change::Deleted(_) => Vec::new(),
            };
            let mut known = known.write().unwrap_or_else(PoisonError::into_inner);
            known.set(&Key::of(object.as_ref()), &mentioned);
        });
        index
    }

    /// Keys of the objects that mention a term.
    pub fn keys(&self, namespace: &str, term: &str) -> Vec<Key> {
        let terms = self.terms.read().unwrap_or_else(PoisonError::into_inner);
        terms.find(&Key::new(namespace, term))
    }

    /// The objects that mention a term, ordered by name.
    pub fn get(&self, namespace: &str, term: &str) -> Vec<Arc<K>> {
        let keys = self.keys(namespace, term);
        keys.iter()
            .filter_map(|key| self.objects.get(key))
            .collect()
    }
}

impl Terms {
    fn find(&self, term: &Key) -> Vec<Key> {
        let term = term.path();
        let first: (Arc<str>, Arc<str>) = (term.as_str().into(), "".into());
        let range = self.objects_of.range(first..);
        range
            .take_while(|(of, _)| **of == *term)
            .map(|(_, object)| Key::at(object))
            .collect()
    }

    /// The terms are those that [`Self::find`] is asked for, with their namespace.
    fn set(&mut self, object: &Key, mentioned: &[String]) {
        let path: Arc<str> = object.path().into();
        let terms: Box<[Arc<str>]> = mentioned.iter().map(|term| term.as_str().into()).collect();
        if self
            .terms_of
            .get(&path)
            .is_some_and(|known| *known == terms)
        {
            return;
        }
        if let Some((path, terms)) = self.terms_of.remove_entry(&path) {
            for term in terms {
                self.objects_of.remove(&(term, Arc::clone(&path)));
            }
        }
        for term in &terms {
            self.objects_of
                .insert((Arc::clone(term), Arc::clone(&path)));
        }
        if !terms.is_empty() {
            self.terms_of.insert(path, terms);
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
        terms.set(&a, &["ns/x".into(), "ns/y".into()]);
        terms.set(&b, &["ns/x".into()]);
        terms.set(&a, &["ns/y".into()]);
        let found = |terms: &Terms, term: &str| terms.find(&Key::new("ns", term));
        assert_eq!(found(&terms, "x"), [b]);
        assert_eq!(found(&terms, "y"), std::slice::from_ref(&a));
        terms.set(&a, &[]);
        assert!(found(&terms, "y").is_empty());
        assert_eq!((terms.objects_of.len(), terms.terms_of.len()), (1, 1));
    }
}
