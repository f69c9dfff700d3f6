//! The store in memory and on disk.

mod durable;

use serde_json::json;

use super::*;

fn put<'a>(resource: &'a str, key: &'a str, expect: Expect, value: Value) -> Write<'a> {
    Write {
        resource,
        key,
        expect,
        guard: Guard::None,
        value: Some(value),
        growth: Growth::Free,
        durability: Durability::Durable,
    }
}

fn object(name: &str, n: u64) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name, "uid": name }, "data": { "n": n } })
}

fn create(store: &Store, key: &str, n: u64) -> u64 {
    store
        .write(put("configmaps", key, Expect::Absent, object(key, n)))
        .expect("absent")
        .revision
}

fn update(store: &Store, key: &str, n: u64) -> u64 {
    let revision = store.get("configmaps", key).expect("stored").revision();
    store
        .write(put(
            "configmaps",
            key,
            Expect::Revision(revision),
            object(key, n),
        ))
        .expect("current")
        .revision
}

fn delete(store: &Store, key: &str) -> u64 {
    let revision = store.get("configmaps", key).expect("stored").revision();
    let write = Write {
        value: None,
        ..put("configmaps", key, Expect::Revision(revision), json!({}))
    };
    store.write(write).expect("current").revision
}

fn memory() -> Store {
    Store::in_memory(Limits::standard())
}

#[test]
fn the_stored_bytes_carry_the_revision_of_the_write() {
    let store = memory();
    let revision = create(&store, "a", 1);
    let stored = store.get("configmaps", "a").expect("stored");
    let parsed: Value = serde_json::from_slice(&stored.bytes()).expect("JSON");
    assert_eq!(parsed, *stored.value());
    assert_eq!(parsed["metadata"]["resourceVersion"], revision.to_string());
    assert!(stored.bytes().starts_with(b"{\"apiVersion\":\"v1\""));
}

#[test]
fn an_object_that_nobody_writes_is_kept_compressed_and_read_as_before() {
    let store = memory();
    for name in ["a", "b", "c"] {
        let mut value = object(name, 1);
        for field in 0..100 {
            value["data"][format!("field-{field}")] = json!("x".repeat(field));
        }
        let write = put("configmaps", name, Expect::Absent, value);
        store.write(write).expect("absent");
    }
    let stored = store.get("configmaps", "b").expect("stored");
    let (bytes, value) = (stored.bytes(), stored.value());
    for _ in 0..3 {
        store.tidy();
    }
    assert!(stored.is_packed());
    assert_eq!(stored.bytes(), bytes);
    assert_eq!(stored.size(), bytes.len());
    assert_eq!(*stored.value(), *value);
    update(&store, "b", 2);
    let newest = store.get("configmaps", "b").expect("stored");
    assert!(!newest.is_packed(), "it was just written");
    assert_eq!(newest.value()["data"]["n"], 2);
}

#[test]
fn after_a_burst_the_oldest_are_compressed_at_once_and_the_newest_are_not() {
    let store = memory();
    let mut value = object("all", 1);
    for field in 0..30 {
        value["data"][format!("field-{field}")] = json!("x".repeat(500));
    }
    let name = |n: usize| format!("n-{n:04}");
    for n in 0..3000 {
        let name = name(n);
        let write = put("configmaps", &name, Expect::Absent, value.clone());
        store.write(write).expect("absent");
    }
    let stored = |n: usize| store.get("configmaps", &name(n)).expect("stored");
    let (first, middle, last) = (stored(0), stored(1900), stored(2999));
    let (bytes, parsed) = (first.bytes(), Arc::downgrade(&middle.value()));
    store.relieve();
    assert!(first.is_packed(), "though it was read just now");
    assert_eq!(first.bytes(), bytes);
    assert!(
        parsed.upgrade().is_none() && !middle.is_packed(),
        "no room for its parsed form"
    );
    assert!(!last.is_packed());
    let plain = || (0..3000).map(stored).filter(|object| !object.is_packed());
    let all = plain().map(|object| object.size()).sum::<usize>();
    let newest = 128 * bytes.len();
    assert!((15 << 20..17 << 20).contains(&(all - newest)), "{all}");
    store.relieve();
    assert!(!last.is_packed(), "nothing is crowded any more");
    for _ in 0..3 {
        store.tidy();
    }
    assert_eq!(plain().count(), 0);
}

#[test]
fn a_store_takes_no_more_than_it_may_and_deletions_give_room() {
    let store = memory();
    store.bound(1 << 20);
    // No two are alike and none is text: they are not compressed.
    let large = |n: u64| {
        let mut seed = n + 1;
        let noise = std::iter::repeat_with(|| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            char::from(b'!' + (seed >> 33) as u8 % 90)
        });
        let mut value = object(&n.to_string(), n);
        value["data"]["x"] = json!(noise.take(100_000).collect::<String>());
        value
    };
    let write = |key: &str, expect, value| {
        store.write(Write {
            growth: Growth::Bounded,
            value,
            ..put("configmaps", key, expect, Value::Null)
        })
    };
    let key = |n: u64| n.to_string();
    let taken = (0..100).take_while(|n| write(&key(*n), Expect::Absent, Some(large(*n))).is_ok());
    let taken = taken.count() as u64;
    assert!((8..=12).contains(&taken), "{taken}");
    let (held, most) = store.room();
    assert!(
        most == 1 << 20 && (held..held + 120_000).contains(&most),
        "{held}"
    );
    let next = || write("next", Expect::Absent, Some(large(taken)));
    assert!(matches!(next(), Err(Refused::Full(_))));
    let revision = store.get("configmaps", "0").expect("stored").revision();
    write("0", Expect::Revision(revision), Some(object("0", 1))).expect("smaller");
    next().expect("room again");
    assert!(matches!(
        write("last", Expect::Absent, Some(large(taken + 1))),
        Err(Refused::Full(_))
    ));
    for n in 0..taken {
        let revision = store.get("configmaps", &key(n)).expect("stored").revision();
        write(&key(n), Expect::Revision(revision), None).expect("deleted");
    }
    assert!(store.room().0 < 120_000, "history does not count");
    for _ in 0..4 {
        store.relieve();
        store.tidy();
    }
    assert!(store.room().0 < 120_000, "nor once it is compressed");
}

#[test]
fn large_objects_are_compressed_before_they_are_many() {
    let store = memory();
    let mut value = object("all", 1);
    value["data"]["x"] = json!("x".repeat(500_000));
    for n in 0..100 {
        let name = n.to_string();
        let write = put("configmaps", &name, Expect::Absent, value.clone());
        store.write(write).expect("absent");
        store.relieve();
    }
    let all = store.list("configmaps", &Scope::All).1;
    let plain = all.iter().filter(|object| !object.is_packed());
    let bytes = plain.map(|object| object.size()).sum::<usize>();
    assert!(bytes <= 25 << 20, "{bytes}");
}

#[test]
fn what_is_written_all_the_time_is_not_compressed_in_vain() {
    let store = memory();
    let mut value = object("all", 1);
    value["data"]["x"] = json!("x".repeat(4000));
    let name = |n: usize| format!("n-{:03}", n % 500);
    for n in 0..500 {
        let name = name(n);
        let write = put("configmaps", &name, Expect::Absent, value.clone());
        store.write(write).expect("absent");
    }
    for n in 0..20_000 {
        let name = name(n);
        let held = store.get("configmaps", &name).expect("stored");
        let expect = Expect::Revision(held.revision());
        assert!(!held.is_packed(), "write {n}");
        let write = put("configmaps", &name, expect, value.clone());
        store.write(write).expect("nobody else writes");
        if n % 2500 == 0 {
            store.relieve();
        }
        if n % 2000 == 0 {
            store.tidy();
        }
    }
}

#[test]
fn what_an_object_owns_is_found_by_its_uid() {
    let store = memory();
    create(&store, "owner", 1);
    for key in ["ns/a", "ns/b"] {
        let mut value = object(key, 1);
        value["metadata"]["ownerReferences"] = json!([{ "uid": "owner" }, { "uid": "nobody" }]);
        let write = put("configmaps", key, Expect::Absent, value);
        store.write(write).expect("absent");
    }
    let keys = |uid: &str| -> Vec<String> {
        let found = store.dependents(uid).into_iter();
        found.map(|(_, key)| key.to_string()).collect()
    };
    assert_eq!(keys("owner"), ["ns/a", "ns/b"]);
    assert_eq!(keys("nobody"), ["ns/a", "ns/b"]);
    delete(&store, "ns/a");
    assert_eq!(keys("owner"), ["ns/b"]);
    assert!(keys("own").is_empty());
}

#[test]
fn a_state_that_was_replaced_keeps_only_its_bytes() {
    let store = memory();
    create(&store, "a", 1);
    let first = store.get("configmaps", "a").expect("stored");
    let parsed = Arc::downgrade(&first.value());
    assert!(parsed.upgrade().is_some(), "kept while it is the newest");
    update(&store, "a", 2);
    assert!(parsed.upgrade().is_none());
    assert_eq!(first.value()["data"]["n"], object("a", 1)["data"]["n"]);
}

#[test]
fn a_write_that_expects_something_else_is_refused() {
    let store = memory();
    let first = create(&store, "a", 1);
    let again = store.write(put("configmaps", "a", Expect::Absent, object("a", 2)));
    assert!(matches!(again, Err(Refused::Exists)));
    update(&store, "a", 2);
    let old = store.write(put(
        "configmaps",
        "a",
        Expect::Revision(first),
        object("a", 3),
    ));
    assert!(matches!(old, Err(Refused::Conflict)));
    let missing = store.write(put("configmaps", "b", Expect::Revision(1), object("b", 1)));
    assert!(matches!(missing, Err(Refused::Missing)));
}

#[test]
fn a_page_shows_the_moment_of_its_revision() {
    let store = memory();
    for key in ["ns/a", "ns/b", "ns/c"] {
        create(&store, key, 1);
    }
    let then = store.revision();
    update(&store, "ns/b", 2);
    update(&store, "ns/b", 3);
    delete(&store, "ns/c");
    create(&store, "ns/d", 1);
    let scope = Scope::Namespace("ns".into());
    let page = store
        .page("configmaps", &scope, then, "ns/a")
        .expect("in the history");
    let seen: Vec<_> = page
        .objects
        .iter()
        .map(|(key, object)| (key.to_string(), object.value()["data"]["n"].clone()))
        .collect();
    assert_eq!(
        seen,
        [("ns/b".to_owned(), json!(1)), ("ns/c".to_owned(), json!(1))]
    );
}

#[test]
fn a_page_past_the_end_of_its_scope_is_empty() {
    let store = memory();
    create(&store, "ns/a", 1);
    let page = store
        .page(
            "configmaps",
            &Scope::Namespace("ns".into()),
            store.revision(),
            "zz",
        )
        .expect("current");
    assert!(page.objects.is_empty());
}

#[test]
fn namespaces_that_share_a_prefix_do_not_mix() {
    let store = memory();
    for key in ["a/x", "a-b/x", "a0/x", "ab/x"] {
        create(&store, key, 1);
    }
    assert_eq!(
        store
            .list("configmaps", &Scope::Namespace("a".into()))
            .1
            .len(),
        1
    );
    assert_eq!(store.populated(Some("a-b")).len(), 1);
    assert!(store.populated(Some("a-")).is_empty());
}

#[tokio::test]
async fn a_subscription_sees_every_event_of_its_scope_in_order() {
    let store = memory();
    create(&store, "ns/a", 1);
    let since = store.revision();
    update(&store, "ns/a", 2);
    let mut events = store
        .subscribe(Some("configmaps"), &Scope::Namespace("ns".into()), since)
        .expect("in history");
    create(&store, "other/a", 1);
    delete(&store, "ns/a");
    let first = events.next().await.expect("open");
    assert!(first.object.is_some() && first.prev.is_some());
    let second = events.next().await.expect("open");
    assert!(second.object.is_none());
    let gone: Value = serde_json::from_slice(second.deleted_bytes()).expect("JSON");
    assert_eq!(
        gone["metadata"]["resourceVersion"],
        second.revision.to_string()
    );
    store.close_watches();
    assert!(events.next().await.is_none());
    assert!(!events.lagged());
}

#[tokio::test]
async fn a_slow_subscription_catches_up_from_the_history() {
    let store = Store::in_memory(Limits {
        queue: 2,
        ..Limits::standard()
    });
    let mut events = store
        .subscribe(None, &Scope::All, store.revision())
        .expect("current");
    for n in 0..10 {
        create(&store, &format!("c{n}"), n);
    }
    let mut seen = 0;
    while let Some(event) = events.next().await {
        seen = event.revision;
    }
    assert!(events.lagged());
    let mut rest = store
        .subscribe(None, &Scope::All, events.seen())
        .expect("in the history");
    let mut count = 0;
    while let Some(event) = rest.try_next() {
        assert_eq!(event.revision, seen + 1);
        seen = event.revision;
        count += 1;
    }
    assert_eq!(count, 8);
}

#[test]
fn a_revision_older_than_the_history_is_expired() {
    let store = Store::in_memory(Limits {
        events: 3,
        ..Limits::standard()
    });
    let start = store.revision();
    for n in 0..10 {
        create(&store, &format!("c{n}"), n);
    }
    assert!(store.subscribe(None, &Scope::All, start).is_err());
    assert!(store.page("configmaps", &Scope::All, start, "").is_err());
    assert!(
        store
            .subscribe(None, &Scope::All, store.revision() - 3)
            .is_ok()
    );
}

#[test]
fn dependents_follow_the_owner_references() {
    let store = memory();
    let mut child = object("child", 1);
    child["metadata"]["ownerReferences"] = json!([{ "uid": "parent" }]);
    store
        .write(put("configmaps", "child", Expect::Absent, child))
        .expect("absent");
    assert_eq!(store.dependents("parent").len(), 1);
    assert!(store.by_uid("child").is_some());
    update(&store, "child", 2);
    assert!(store.dependents("parent").is_empty());
    delete(&store, "child");
    assert!(store.by_uid("child").is_none());
}

#[test]
fn a_namespace_guard_is_checked_with_the_write() {
    let store = memory();
    let guarded = |store: &Store| {
        let guard = Guard::NamespaceActive("ns".into());
        store.write(Write {
            guard,
            ..put("configmaps", "ns/a", Expect::Absent, object("a", 1))
        })
    };
    assert!(matches!(guarded(&store), Err(Refused::NamespaceMissing)));
    store
        .write(put("namespaces", "ns", Expect::Absent, object("ns", 1)))
        .expect("absent");
    guarded(&store).expect("the namespace is active");
    let revision = store.get("namespaces", "ns").expect("stored").revision();
    let guard = Guard::NamespaceEmpty("ns".into());
    let write = Write {
        guard,
        value: None,
        ..put("namespaces", "ns", Expect::Revision(revision), json!({}))
    };
    assert!(matches!(
        store.write(write),
        Err(Refused::NamespaceNotEmpty)
    ));
}
