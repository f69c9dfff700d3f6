//! Kubernetes Ingresses by the hosts of their rules, for those that alter one another: an Ingress
//! that is a canary alters the paths of the others, in whatever namespace.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::networking::v1::{Ingress, IngressClass};

use super::{Dependency, Name, Objects, Reader};
use crate::ingress;
use crate::small_set::SmallSet;

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Ingresses {
    by_name: HashMap<Name, Arc<Ingress>>,
    canaries: HashMap<Arc<str>, SmallSet<Name>>,
    /// Those that are no canaries.
    mains: HashMap<Arc<str>, SmallSet<Name>>,
    classes: BTreeMap<Arc<str>, Class>,
}

/// A class of Kubernetes Ingresses.
#[derive(Debug, Default, PartialEq)]
struct Class {
    controller: Option<Arc<str>>,
    /// For what names no class.
    is_default: bool,
    parameters: Option<Parameters>,
}

/// What else a class says: an object of its controller's.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Parameters {
    pub(crate) group: Arc<str>,
    pub(crate) kind: Arc<str>,
    pub(crate) namespace: Option<Arc<str>>,
    pub(crate) name: Arc<str>,
}

/// Whether a class is for what names none.
const DEFAULT: &str = "ingressclass.kubernetes.io/is-default-class";
/// APISIX's way to say the namespace of a class's parameters.
const NAMESPACE: &str = "apisix.apache.org/parameters-namespace";

impl Class {
    fn of(class: &IngressClass) -> Self {
        let annotations = class.metadata.annotations.as_ref();
        let annotation = |key: &str| annotations.and_then(|all| all.get(key)).map(String::as_str);
        let spec = class.spec.as_ref();
        let parameters = spec.and_then(|spec| spec.parameters.as_ref());
        let parameters = parameters.map(|it| Parameters {
            group: it.api_group.as_deref().unwrap_or_default().into(),
            kind: it.kind.as_str().into(),
            namespace: annotation(NAMESPACE)
                .filter(|namespace| !namespace.is_empty())
                .or(it.namespace.as_deref())
                .map(Arc::from),
            name: it.name.as_str().into(),
        });
        Self {
            controller: spec
                .and_then(|spec| spec.controller.as_deref())
                .map(Arc::from),
            is_default: annotation(DEFAULT) == Some("true"),
            parameters,
        }
    }
}

impl Ingresses {
    fn of(&mut self, is_canary: bool) -> &mut HashMap<Arc<str>, SmallSet<Name>> {
        if is_canary {
            &mut self.canaries
        } else {
            &mut self.mains
        }
    }

    fn add(&mut self, name: &Name, ingress: &Ingress) {
        let by_host = self.of(ingress::is_canary(ingress));
        for host in hosts(ingress) {
            by_host.entry(host).or_default().insert(name.clone());
        }
    }

    fn remove(&mut self, name: &Name, ingress: &Ingress) {
        let by_host = self.of(ingress::is_canary(ingress));
        for host in hosts(ingress) {
            if let Some(names) = by_host.get_mut(&host) {
                names.remove(name);
                if names.is_empty() {
                    by_host.remove(&host);
                }
            }
        }
    }
}

/// Of the rules, in lower case; of one without it is empty.
fn hosts(ingress: &Ingress) -> impl Iterator<Item = Arc<str>> {
    let rules = ingress.spec.iter().flat_map(|spec| &spec.rules);
    let hosts = rules.flatten().map(|rule| rule.host.as_deref());
    hosts.map(|host| host.unwrap_or_default().to_ascii_lowercase().into())
}

impl Objects {
    /// Sets or removes a class of Kubernetes Ingresses. Returns what changed.
    pub fn put_ingress_class(
        &mut self,
        name: &Arc<str>,
        class: Option<&IngressClass>,
    ) -> Vec<Dependency> {
        let classes = &mut self.ingresses.classes;
        let own = class.map(Class::of);
        let before = match own {
            Some(own) => classes.insert(Arc::clone(name), own),
            None => classes.remove(name),
        };
        let after = classes.get(name);
        let controller = |class: Option<&Class>| class.and_then(|class| class.controller.clone());
        let mut changed = Vec::new();
        if controller(before.as_ref()) != controller(after) {
            changed.push(Dependency::IngressClass(Arc::clone(name)));
        }
        let parameters = |class: Option<&Class>| -> (bool, Option<Parameters>) {
            let parameters = class.and_then(|class| class.parameters.clone());
            (class.is_some_and(|class| class.is_default), parameters)
        };
        if parameters(before.as_ref()) != parameters(after) {
            changed.push(Dependency::ClassParameters);
        }
        changed
    }

    /// Sets or removes a Kubernetes Ingress. Returns what changed for others.
    pub fn put_ingress(&mut self, name: &Name, object: Option<Arc<Ingress>>) -> Vec<Dependency> {
        let known = &mut self.ingresses;
        let before = match &object {
            Some(object) => known.by_name.insert(name.clone(), Arc::clone(object)),
            None => known.by_name.remove(name),
        };
        if let (Some(old), Some(new)) = (&before, &object)
            && old.spec == new.spec
            && old.metadata.annotations == new.metadata.annotations
            && old.metadata.creation_timestamp == new.metadata.creation_timestamp
        {
            return Vec::new();
        }
        let had_canaries = !known.canaries.is_empty();
        let mut changed = Vec::new();
        let mut note = |ingress: &Ingress| {
            let of = if ingress::is_canary(ingress) {
                Dependency::CanariesOf
            } else {
                Dependency::MainsOf
            };
            changed.extend(hosts(ingress).map(of));
        };
        if let Some(old) = &before {
            note(old);
            known.remove(name, old);
        }
        if let Some(new) = &object {
            note(new);
            known.add(name, new);
        }
        if had_canaries == known.canaries.is_empty() {
            changed.push(Dependency::Canaries);
        }
        changed
    }
}

impl<'a> Reader<'a> {
    /// Who serves Ingresses of a class, if it says so.
    pub(crate) fn controller_of(&self, class: &str) -> Option<&'a str> {
        self.note(Dependency::IngressClass(class.into()));
        let class = self.objects.ingresses.classes.get(class);
        class.and_then(|class| class.controller.as_deref())
    }

    /// The parameters of a class, or of the default one: the first that has some.
    pub(crate) fn class_parameters(&self, class: Option<&str>) -> Option<&'a Parameters> {
        self.note(Dependency::ClassParameters);
        let classes = &self.objects.ingresses.classes;
        match class {
            Some(class) => classes.get(class)?.parameters.as_ref(),
            None => {
                let mut defaults = classes.values().filter(|class| class.is_default);
                defaults.find_map(|class| class.parameters.as_ref())
            }
        }
    }

    /// The parameters of all classes.
    pub(crate) fn all_class_parameters(&self) -> impl Iterator<Item = &'a Parameters> + use<'a> {
        self.note(Dependency::ClassParameters);
        let classes = self.objects.ingresses.classes.values();
        classes.filter_map(|class| class.parameters.as_ref())
    }

    /// The canaries that have a rule for this host (in lower case, as it is written), oldest first.
    pub(crate) fn canaries_of(&self, host: &str) -> Vec<&'a Ingress> {
        let known = &self.objects.ingresses;
        if known.canaries.is_empty() {
            self.note(Dependency::Canaries);
            return Vec::new();
        }
        self.note(Dependency::CanariesOf(host.into()));
        self.by_age(known.canaries.get(host))
    }

    /// The same for Ingresses that are no canaries.
    pub(crate) fn mains_of(&self, host: &str) -> Vec<&'a Ingress> {
        self.note(Dependency::MainsOf(host.into()));
        self.by_age(self.objects.ingresses.mains.get(host))
    }

    fn by_age(&self, names: Option<&SmallSet<Name>>) -> Vec<&'a Ingress> {
        let by_name = &self.objects.ingresses.by_name;
        let found = names.into_iter().flatten();
        let mut found: Vec<&Ingress> = found
            .filter_map(|name| by_name.get(name))
            .map(Arc::as_ref)
            .collect();
        // Those of one age are in the order of their names.
        found.sort_by_key(|ingress| ingress::created(ingress));
        found
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ingress(host: &str, canary: bool) -> Arc<Ingress> {
        let annotation = ("nginx.ingress.kubernetes.io/canary", canary.to_string());
        let ingress = json!({
            "metadata": {"annotations": {annotation.0: annotation.1}},
            "spec": {"rules": [{"host": host}]},
        });
        Arc::new(serde_json::from_value(ingress).expect("an Ingress"))
    }

    #[test]
    fn who_alters_whom_is_found_by_host_and_told_when_it_changes() {
        let mut objects = Objects::new(Vec::new());
        let (main, canary) = (Name::new("a", "main"), Name::new("b", "canary"));
        let of = |host: &str| [Dependency::CanariesOf(host.into()), Dependency::Canaries];
        objects.put_ingress(&main, Some(ingress("shop.example", false)));
        assert!(Reader::new(&objects).canaries_of("shop.example").is_empty());
        let changed = objects.put_ingress(&canary, Some(ingress("Shop.example", true)));
        assert_eq!(changed, of("shop.example"));
        let same = objects.put_ingress(&canary, Some(ingress("Shop.example", true)));
        assert!(same.is_empty(), "{same:?}");
        let reader = Reader::new(&objects);
        assert_eq!(reader.canaries_of("shop.example").len(), 1);
        assert_eq!(reader.mains_of("shop.example").len(), 1);
        assert_eq!(reader.canaries_of("other.example").len(), 0);
        // It is a canary no more.
        let changed = objects.put_ingress(&canary, Some(ingress("shop.example", false)));
        let [first, second] = of("shop.example");
        let mains = Dependency::MainsOf("shop.example".into());
        assert_eq!(changed, [first, mains, second]);
        let reader = Reader::new(&objects);
        assert_eq!(reader.mains_of("shop.example").len(), 2);
        objects.put_ingress(&canary, None);
        objects.put_ingress(&main, None);
        assert!(objects.ingresses.by_name.is_empty() && objects.ingresses.mains.is_empty());
    }
}
