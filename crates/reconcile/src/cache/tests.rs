//! Objects that are here, and objects that are held.

use std::sync::Mutex;

use k8s_openapi::api::core::v1::ConfigMap;

use super::*;

fn at(name: &str, version: u64) -> Arc<ConfigMap> {
    let mut object = ConfigMap::default();
    object.metadata.namespace = Some("ns".into());
    object.metadata.name = Some(name.into());
    object.metadata.resource_version = Some(version.to_string());
    Arc::new(object)
}

fn put(objects: &mut Objects<ConfigMap>, path: &str, object: &Arc<ConfigMap>) {
    assert!(objects.put(path, object, Source::List, true), "{path}");
}

fn held(revision: u64) -> Held {
    let handle = Arc::new(());
    Held { revision, handle }
}

fn is_here(objects: &Objects<ConfigMap>, path: &str) -> bool {
    matches!(objects.known[path].state, State::Here { .. })
}

#[test]
fn an_object_that_nobody_uses_is_held_and_one_that_is_used_stays() {
    let mut objects = Objects::new();
    put(&mut objects, "ns/a", &at("a", 4));
    put(&mut objects, "ns/b", &at("b", 5));
    let revisions = |path: &str| Some(held(if path == "ns/a" { 4 } else { 5 }));
    objects.age(revisions);
    assert!(is_here(&objects, "ns/a"), "it came since the last time");
    drop(objects.get("ns/b"));
    objects.age(revisions);
    assert!(!is_here(&objects, "ns/a"));
    assert!(is_here(&objects, "ns/b"));
}

#[test]
fn a_state_that_is_not_the_newest_is_not_held() {
    let mut objects = Objects::new();
    put(&mut objects, "ns/a", &at("a", 4));
    for _ in 0..3 {
        objects.age(|_| Some(held(9)));
        objects.age(|_| None);
    }
    assert!(is_here(&objects, "ns/a"));
}

#[test]
fn what_is_held_comes_back_unless_another_state_came_meanwhile() {
    let mut objects = Objects::new();
    put(&mut objects, "ns/a", &at("a", 4));
    objects.age(|_| Some(held(4)));
    objects.age(|_| Some(held(4)));
    let Some(State::Held(then)) = objects.get("ns/a") else {
        panic!("it was not used");
    };
    objects.warm_up("ns/a", &then, &at("a", 4));
    assert!(is_here(&objects, "ns/a"));
    put(&mut objects, "ns/a", &at("a", 7));
    objects.warm_up("ns/a", &then, &at("a", 4));
    let Some(State::Here { object, .. }) = objects.get("ns/a") else {
        panic!("it is here");
    };
    assert_eq!(object.metadata.resource_version.as_deref(), Some("7"));
}

#[test]
fn a_held_object_is_news_only_in_another_revision() {
    let mut objects = Objects::new();
    put(&mut objects, "ns/a", &at("a", 4));
    objects.age(|_| Some(held(4)));
    objects.age(|_| Some(held(4)));
    let mut is_news = |version, source| objects.put("ns/a", &at("a", version), source, true);
    assert!(!is_news(4, Source::List));
    assert!(!is_news(4, Source::Watch));
    assert!(!is_news(3, Source::Watch), "it is older");
    assert!(is_news(5, Source::Watch));
    assert!(is_news(3, Source::List), "the server's history went back");
}

#[test]
fn many_objects_at_once_are_held_before_anyone_tidies() {
    let mut objects = Objects::new();
    let asked = Mutex::new(0);
    for n in 0..4 * MOST_WARM {
        let name = format!("n{n}");
        put(&mut objects, &format!("ns/{name}"), &at(&name, 4));
        objects.trim(|_| {
            *asked.lock().expect("not poisoned") += 1;
            Some(held(4))
        });
    }
    assert_eq!(objects.warm.len(), MOST_WARM);
    // Once for each that went.
    assert_eq!(*asked.lock().expect("not poisoned"), 3 * MOST_WARM);
}

#[test]
fn children_are_found_by_their_controller_in_their_namespace_only() {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
    let mut objects = Objects::new();
    for (path, uid) in [
        ("ns/a", "u1"),
        ("ns/b", "u1"),
        ("other/c", "u1"),
        ("ns/d", "u2"),
    ] {
        let mut object = ConfigMap::clone(&at(path, 4));
        object.metadata.owner_references = Some(vec![OwnerReference {
            controller: Some(true),
            uid: uid.into(),
            ..OwnerReference::default()
        }]);
        objects.put(path, &Arc::new(object), Source::List, false);
    }
    objects.put("ns/e", &at("e", 4), Source::List, false);
    let keys = |namespace, uid| {
        let found = objects.controlled(namespace, uid).into_iter();
        found.map(|path| path.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(keys("ns", "u1"), ["ns/a", "ns/b"]);
    assert_eq!(keys("ns", "u2"), ["ns/d"]);
    assert_eq!(keys("ns", ""), ["ns/e"]);
    objects.put("ns/a", &at("a", 5), Source::List, false);
    assert_eq!(objects.controlled("ns", "u1").len(), 1);
    objects.remove("ns/b");
    assert!(objects.controlled("ns", "u1").is_empty());
}

#[test]
fn what_was_asked_for_stays_longer_than_what_only_came() {
    let mut objects = Objects::new();
    put(&mut objects, "ns/asked", &at("asked", 4));
    drop(objects.get("ns/asked"));
    for n in 0..MOST_WARM + 2 {
        let name = format!("n{n}");
        put(&mut objects, &format!("ns/{name}"), &at(&name, 4));
        objects.trim(|_| Some(held(4)));
    }
    assert!(is_here(&objects, "ns/asked"));
    assert!(!is_here(&objects, "ns/n0"));
    assert_eq!(objects.warm.len(), MOST_WARM);
}
