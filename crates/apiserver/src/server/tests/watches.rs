//! Watches through the in-process client.

use super::*;

async fn next(
    stream: &mut (impl futures::Stream<Item = kube::Result<WatchEvent<ConfigMap>>> + Unpin),
) -> (String, String) {
    let event = tokio::time::timeout(Duration::from_secs(10), stream.next())
        .await
        .expect("an event in time");
    match event.expect("open").expect("event") {
        WatchEvent::Added(map) => ("ADDED".into(), map.name_any()),
        WatchEvent::Modified(map) => ("MODIFIED".into(), map.name_any()),
        WatchEvent::Deleted(map) => ("DELETED".into(), map.name_any()),
        WatchEvent::Bookmark(_) => ("BOOKMARK".into(), String::new()),
        WatchEvent::Error(status) => ("ERROR".into(), status.reason.clone()),
    }
}

fn is(kind: &str, name: &str) -> (String, String) {
    (kind.into(), name.into())
}

#[tokio::test]
async fn a_watch_resumes_from_a_revision() {
    let test = Test::start().await;
    let maps = test.config_maps();
    let first = maps
        .create(&PostParams::default(), &config_map("a", "1"))
        .await
        .expect("created");
    maps.create(&PostParams::default(), &config_map("b", "1"))
        .await
        .expect("created");
    let since = first.resource_version().expect("revision");
    let mut events = maps
        .watch(&WatchParams::default(), &since)
        .await
        .expect("watch")
        .boxed();
    assert_eq!(next(&mut events).await, is("ADDED", "b"));
    maps.delete("a", &DeleteParams::default())
        .await
        .expect("deleted");
    assert_eq!(next(&mut events).await, is("DELETED", "a"));
    test.stop().await;
}

#[tokio::test]
async fn an_object_that_leaves_or_enters_the_selection_is_deleted_or_added() {
    let test = Test::start().await;
    let maps = test.config_maps();
    maps.create(&PostParams::default(), &config_map("a", "1"))
        .await
        .expect("created");
    let params = WatchParams::default().labels("on=yes");
    let since = maps
        .list(&ListParams::default())
        .await
        .expect("list")
        .metadata
        .resource_version
        .expect("revision");
    let mut events = maps.watch(&params, &since).await.expect("watch").boxed();
    let label = |value: Value| Patch::Merge(json!({ "metadata": { "labels": { "on": value } } }));
    for (value, expected) in [
        (json!("yes"), "ADDED"),
        (json!("no"), "DELETED"),
        (json!("yes"), "ADDED"),
    ] {
        maps.patch("a", &PatchParams::default(), &label(value))
            .await
            .expect("patched");
        assert_eq!(next(&mut events).await, is(expected, "a"));
    }
    test.stop().await;
}

#[tokio::test]
async fn a_streaming_list_ends_its_initial_objects_with_a_bookmark() {
    let test = Test::start().await;
    let maps = test.config_maps();
    for name in ["a", "b"] {
        maps.create(&PostParams::default(), &config_map(name, "1"))
            .await
            .expect("created");
    }
    let mut events = Box::pin(watcher(
        maps.clone(),
        watcher::Config::default().streaming_lists(),
    ));
    let mut seen = Vec::new();
    while let Some(event) = events.try_next().await.expect("watch") {
        match event {
            watcher::Event::Init => seen.push("init".to_owned()),
            watcher::Event::InitApply(map) => seen.push(map.name_any()),
            watcher::Event::InitDone => break,
            other => panic!("unexpected {other:?}"),
        }
    }
    assert_eq!(seen, ["init", "a", "b"]);
    maps.create(&PostParams::default(), &config_map("c", "1"))
        .await
        .expect("created");
    let live = events.try_next().await.expect("watch");
    assert!(matches!(live, Some(watcher::Event::Apply(map)) if map.name_any() == "c"));
    test.stop().await;
}

#[tokio::test]
async fn a_list_and_watch_sees_every_object_once() {
    let test = Test::start().await;
    let maps = test.config_maps();
    maps.create(&PostParams::default(), &config_map("a", "1"))
        .await
        .expect("created");
    let mut objects = Box::pin(watcher(maps.clone(), watcher::Config::default()).applied_objects());
    assert_eq!(
        objects
            .try_next()
            .await
            .expect("watch")
            .expect("object")
            .name_any(),
        "a"
    );
    maps.create(&PostParams::default(), &config_map("b", "1"))
        .await
        .expect("created");
    assert_eq!(
        objects
            .try_next()
            .await
            .expect("watch")
            .expect("object")
            .name_any(),
        "b"
    );
    test.stop().await;
}

#[tokio::test]
async fn a_watch_from_a_lost_revision_is_told_that_it_expired() {
    let test = Test::start().await;
    let maps = test.config_maps();
    // Revision 1 was before the first object that this server made.
    let pods: Api<Pod> = Api::all(test.client.clone());
    let mut events = maps
        .watch(&WatchParams::default(), "1")
        .await
        .expect("watch")
        .boxed();
    drop(pods);
    maps.create(&PostParams::default(), &config_map("a", "1"))
        .await
        .expect("created");
    assert_eq!(
        next(&mut events).await,
        is("ADDED", "a"),
        "a new store knows its whole history"
    );
    let newest = maps
        .get("a")
        .await
        .expect("stored")
        .resource_version()
        .expect("revision");
    let future = (newest.parse::<u64>().expect("number") + 1000).to_string();
    let mut events = maps
        .watch(&WatchParams::default(), &future)
        .await
        .expect("watch")
        .boxed();
    assert_eq!(next(&mut events).await, is("ERROR", "Timeout"));
    test.stop().await;
}

#[tokio::test]
async fn watches_end_when_the_server_stops() {
    let test = Test::start().await;
    let maps = test.config_maps();
    let mut events = maps
        .watch(&WatchParams::default(), "0")
        .await
        .expect("watch")
        .boxed();
    maps.create(&PostParams::default(), &config_map("a", "1"))
        .await
        .expect("created");
    assert_eq!(next(&mut events).await, is("ADDED", "a"));
    test.stop().await;
    assert!(events.next().await.is_none());
}
