//! Objects of other gateways' kinds: by name, and by the keys that each kind gives its objects.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use super::{Dependency, Name, Objects, Reader};
use crate::foreign::{Kind, Object};
use crate::overlay;
use crate::small_set::SmallSet;

/// Ends the family of a key; see [`Reader::foreign_keys`].
const FAMILY: char = ' ';

/// The objects of one kind.
#[derive(Debug, Default)]
pub(super) struct ForeignKind {
    by_name: BTreeMap<Name, Arc<Object>>,
    by_key: BTreeMap<Arc<str>, SmallSet<Name>>,
}

impl Objects {
    /// Sets or removes an object of another gateway's kind. Returns what changed.
    pub fn put_foreign(
        &mut self,
        kind: &'static Kind,
        name: &Name,
        object: Option<Arc<Object>>,
    ) -> Vec<Dependency> {
        let known = self.foreign.entry(kind).or_default();
        let was_empty = known.by_name.is_empty();
        let before = match &object {
            Some(object) => known.by_name.insert(name.clone(), Arc::clone(object)),
            None => known.by_name.remove(name),
        };
        match (&before, &object) {
            (None, None) => return Vec::new(),
            (Some(old), Some(new)) if old.is_same(new) => return Vec::new(),
            _ => {}
        }
        let keys = |object: &Option<Arc<Object>>| -> BTreeSet<Arc<str>> {
            let keys = object.as_ref().map(|object| (kind.keys)(object));
            keys.into_iter().flatten().collect()
        };
        let (old, new) = (keys(&before), keys(&object));
        let mut changed = vec![
            Dependency::Foreign(kind, name.clone()),
            Dependency::ForeignAll(kind),
        ];
        let family = |key: &str| {
            let (family, _) = key.split_once(FAMILY)?;
            Some(Dependency::ForeignKeys(kind, family.into()))
        };
        for key in old.difference(&new) {
            if let Some(names) = known.by_key.get_mut(key) {
                names.remove(name);
                if names.is_empty() {
                    known.by_key.remove(key);
                    changed.extend(family(key));
                }
            }
        }
        for key in new.difference(&old) {
            let names = known.by_key.entry(Arc::clone(key)).or_default();
            if names.is_empty() {
                changed.extend(family(key));
            }
            names.insert(name.clone());
        }
        let keys = old.union(&new).cloned();
        changed.extend(keys.map(|key| Dependency::ForeignKey(kind, key)));
        if was_empty != known.by_name.is_empty() && overlay::is_overlay(kind) {
            changed.push(Dependency::Overlays);
        }
        changed
    }

    pub(super) fn has_foreign(&self, kind: &'static Kind) -> bool {
        self.foreign
            .get(kind)
            .is_some_and(|known| !known.by_name.is_empty())
    }
}

impl<'a> Reader<'a> {
    /// An object of another gateway's kind.
    pub fn foreign(&self, kind: &'static Kind, name: &Name) -> Option<&'a Arc<Object>> {
        self.note(Dependency::Foreign(kind, name.clone()));
        self.objects.foreign.get(kind)?.by_name.get(name)
    }

    /// The objects of the kind that have this key, by name.
    pub fn foreign_by_key(
        &self,
        kind: &'static Kind,
        key: &str,
    ) -> impl Iterator<Item = &'a Arc<Object>> + use<'a> {
        self.note(Dependency::ForeignKey(kind, key.into()));
        let known = self.objects.foreign.get(kind);
        let names = known.and_then(|known| known.by_key.get(key));
        let names = names.into_iter().flatten();
        names.filter_map(move |name| known?.by_name.get(name))
    }

    /// What follows `family` in the keys `family rest` that objects of the kind have, in order.
    /// Which objects have them does not matter: changes of those cost nothing.
    pub(crate) fn foreign_keys(
        &self,
        kind: &'static Kind,
        family: &'static str,
    ) -> impl Iterator<Item = &'a str> + use<'a> {
        self.note(Dependency::ForeignKeys(kind, family.into()));
        let known = self.objects.foreign.get(kind);
        let from = (Bound::Included(family), Bound::Unbounded);
        let keys = known.map(|known| known.by_key.range::<str, _>(from));
        let keys = keys.into_iter().flatten().map(|(key, _)| &**key);
        // Other families may begin the same: `host` and `host-only`.
        let of_family = keys.take_while(move |key| key.starts_with(family));
        of_family.filter_map(move |key| key.strip_prefix(family)?.strip_prefix(FAMILY))
    }

    /// All objects of the kind, by name. Every change of one costs a translation: prefer keys.
    pub fn foreign_all(
        &self,
        kind: &'static Kind,
    ) -> impl Iterator<Item = &'a Arc<Object>> + use<'a> {
        self.note(Dependency::ForeignAll(kind));
        let known = self.objects.foreign.get(kind);
        known.into_iter().flat_map(|known| known.by_name.values())
    }

    /// Whether there is any object of the kind. Who asks about keys only then is asked again when
    /// the first one comes.
    pub(crate) fn any_foreign(&self, kind: &'static Kind) -> bool {
        let is_any = self.objects.has_foreign(kind);
        if !is_any {
            self.note(Dependency::ForeignAll(kind));
        }
        is_any
    }

    /// Whether there is any object that says something about routes of other dialects.
    pub(crate) fn has_overlays(&self) -> bool {
        let is_any = overlay::kinds()
            .iter()
            .any(|kind| self.objects.has_foreign(kind));
        if !is_any {
            self.note(Dependency::Overlays);
        }
        is_any
    }
}
