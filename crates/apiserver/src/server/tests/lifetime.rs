//! Finalizers, grace, owners and namespaces.

use super::*;

fn owned(name: &str, owner: &ConfigMap, block: bool) -> ConfigMap {
    let mut map = config_map(name, "1");
    map.metadata.owner_references = Some(vec![
        k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference {
            api_version: "v1".into(),
            kind: "ConfigMap".into(),
            name: owner.name_any(),
            uid: owner.uid().expect("uid"),
            block_owner_deletion: Some(block),
            controller: None,
        },
    ]);
    map
}

#[tokio::test]
async fn a_finalizer_keeps_a_deleted_object_until_it_is_removed() {
    let test = Test::start().await;
    let maps = test.config_maps();
    let mut map = config_map("a", "1");
    map.metadata.finalizers = Some(vec!["example.dev/hold".into()]);
    maps.create(&PostParams::default(), &map)
        .await
        .expect("created");
    let marked = maps
        .delete("a", &DeleteParams::default())
        .await
        .expect("marked")
        .left()
        .expect("the object");
    assert!(marked.metadata.deletion_timestamp.is_some());
    let add = Patch::Merge(
        json!({ "metadata": { "finalizers": ["example.dev/hold", "example.dev/more"] } }),
    );
    let refused = status_of(maps.patch("a", &PatchParams::default(), &add).await);
    assert!(
        refused
            .message
            .contains("no new finalizers can be added if the object is being deleted")
    );
    let remove = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
    maps.patch("a", &PatchParams::default(), &remove)
        .await
        .expect("removed");
    assert_eq!(status_of(maps.get("a").await).code, 404);
    test.stop().await;
}

#[tokio::test]
async fn preconditions_protect_another_object_of_the_same_name() {
    let test = Test::start().await;
    let maps = test.config_maps();
    maps.create(&PostParams::default(), &config_map("a", "1"))
        .await
        .expect("created");
    let params = DeleteParams::default().preconditions(kube::api::Preconditions {
        uid: Some("other".into()),
        resource_version: None,
    });
    assert_eq!(status_of(maps.delete("a", &params).await).code, 409);
    assert!(maps.get("a").await.is_ok());
    test.stop().await;
}

#[tokio::test]
async fn a_scheduled_pod_stays_until_its_node_deletes_it() {
    let test = Test::start().await;
    let pods: Api<Pod> = Api::namespaced(test.client.clone(), "default");
    let pod = |name: &str, node: Option<&str>| -> Pod {
        serde_json::from_value(json!({
            "metadata": { "name": name },
            "spec": { "nodeName": node, "containers": [{ "name": "c", "image": "i" }] },
        }))
        .expect("pod")
    };
    let created = pods
        .create(&PostParams::default(), &pod("p", Some("n")))
        .await
        .expect("created");
    assert_eq!(
        created.status.expect("status").phase.as_deref(),
        Some("Pending")
    );
    let marked = pods
        .delete("p", &DeleteParams::default())
        .await
        .expect("marked")
        .left()
        .expect("the pod");
    assert_eq!(marked.metadata.deletion_grace_period_seconds, Some(30));
    assert!(pods.get("p").await.is_ok());
    pods.delete("p", &DeleteParams::default().grace_period(0))
        .await
        .expect("removed");
    assert_eq!(status_of(pods.get("p").await).code, 404);
    pods.create(&PostParams::default(), &pod("q", None))
        .await
        .expect("created");
    pods.delete("q", &DeleteParams::default())
        .await
        .expect("removed");
    assert_eq!(status_of(pods.get("q").await).code, 404);
    test.stop().await;
}

#[tokio::test]
async fn dependents_go_with_their_owner() {
    let test = Test::start().await;
    let maps = test.config_maps();
    let owner = maps
        .create(&PostParams::default(), &config_map("owner", "1"))
        .await
        .expect("created");
    let child = maps
        .create(&PostParams::default(), &owned("child", &owner, false))
        .await
        .expect("created");
    maps.create(&PostParams::default(), &owned("grandchild", &child, false))
        .await
        .expect("created");
    maps.delete("owner", &DeleteParams::background())
        .await
        .expect("deleted");
    eventually(&maps, |maps| maps.is_empty()).await;
    test.stop().await;
}

/// A write between the collector's look and its delete is no reason to forget the object: what that
/// write changed names nothing to look at.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[allow(clippy::disallowed_methods)] // The writers end with the test.
async fn dependents_that_are_written_all_the_time_go_with_their_owner() {
    let test = Test::start().await;
    let maps = test.config_maps();
    for round in 0..20 {
        let owner = config_map(&format!("owner-{round}"), "1");
        let owner = maps.create(&PostParams::default(), &owner).await;
        let owner = owner.expect("created");
        let child = format!("child-{round}");
        maps.create(&PostParams::default(), &owned(&child, &owner, false))
            .await
            .expect("created");
        let writing: Vec<_> = (0..4)
            .map(|_| {
                let (maps, child) = (maps.clone(), child.clone());
                tokio::spawn(async move {
                    // Until it is gone, or so often that the collector had its chances.
                    for number in 0..300 {
                        let data = json!({ "data": { "n": format!("{number}") } });
                        let params = PatchParams::default();
                        let written = maps.patch(&child, &params, &Patch::Merge(data)).await;
                        if written
                            .is_err_and(|error| status_of::<ConfigMap>(Err(error)).code == 404)
                        {
                            return;
                        }
                    }
                })
            })
            .collect();
        let name = owner.name_any();
        let deleted = maps.delete(&name, &DeleteParams::background()).await;
        for written in writing {
            written.await.expect("written");
        }
        deleted.expect("deleted");
    }
    eventually(&maps, |maps| maps.is_empty()).await;
    test.stop().await;
}

#[tokio::test]
async fn an_object_whose_owner_never_existed_is_deleted() {
    let test = Test::start().await;
    let maps = test.config_maps();
    let mut ghost = config_map("ghost", "1");
    ghost.metadata.uid = Some("00000000-0000-0000-0000-000000000000".into());
    maps.create(&PostParams::default(), &owned("child", &ghost, false))
        .await
        .expect("created");
    eventually(&maps, |maps| maps.is_empty()).await;
    test.stop().await;
}

#[tokio::test]
async fn an_owner_deleted_in_the_foreground_waits_for_its_blocking_dependents() {
    let test = Test::start().await;
    let maps = test.config_maps();
    let owner = maps
        .create(&PostParams::default(), &config_map("owner", "1"))
        .await
        .expect("created");
    let mut child = owned("child", &owner, true);
    child.metadata.finalizers = Some(vec!["example.dev/hold".into()]);
    maps.create(&PostParams::default(), &child)
        .await
        .expect("created");
    let params = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Foreground),
        ..DeleteParams::default()
    };
    maps.delete("owner", &params).await.expect("marked");
    eventually(&maps, |maps| {
        maps.iter()
            .any(|map| map.name_any() == "child" && map.metadata.deletion_timestamp.is_some())
    })
    .await;
    assert!(maps.get("owner").await.is_ok());
    let remove = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
    maps.patch("child", &PatchParams::default(), &remove)
        .await
        .expect("removed");
    eventually(&maps, |maps| maps.is_empty()).await;
    test.stop().await;
}

#[tokio::test]
async fn orphans_stay_without_their_owner() {
    let test = Test::start().await;
    let maps = test.config_maps();
    let owner = maps
        .create(&PostParams::default(), &config_map("owner", "1"))
        .await
        .expect("created");
    maps.create(&PostParams::default(), &owned("child", &owner, false))
        .await
        .expect("created");
    let params = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Orphan),
        ..DeleteParams::default()
    };
    maps.delete("owner", &params).await.expect("marked");
    eventually(&maps, |maps| maps.len() == 1).await;
    let child = maps.get("child").await.expect("kept");
    assert!(child.owner_references().is_empty());
    test.stop().await;
}

#[tokio::test]
async fn a_deleted_namespace_is_emptied_and_removed() {
    let test = Test::start().await;
    let namespaces: Api<Namespace> = Api::all(test.client.clone());
    let namespace: Namespace =
        serde_json::from_value(json!({ "metadata": { "name": "work" } })).expect("namespace");
    let created = namespaces
        .create(&PostParams::default(), &namespace)
        .await
        .expect("created");
    assert_eq!(
        created.status.expect("status").phase.as_deref(),
        Some("Active")
    );
    let maps: Api<ConfigMap> = Api::namespaced(test.client.clone(), "work");
    let mut held = config_map("held", "1");
    held.metadata.finalizers = Some(vec!["example.dev/hold".into()]);
    maps.create(&PostParams::default(), &held)
        .await
        .expect("created");
    maps.create(&PostParams::default(), &config_map("free", "1"))
        .await
        .expect("created");
    namespaces
        .delete("work", &DeleteParams::default())
        .await
        .expect("marked");
    eventually(&maps, |maps| maps.len() == 1).await;
    let refused = status_of(
        maps.create(&PostParams::default(), &config_map("late", "1"))
            .await,
    );
    assert_eq!(
        refused.message,
        "configmaps \"late\" is forbidden: unable to create new content in namespace work because it is being terminated"
    );
    let terminating = namespaces.get("work").await.expect("kept");
    assert_eq!(
        terminating.status.expect("status").phase.as_deref(),
        Some("Terminating")
    );
    eventually(&namespaces, |namespaces| {
        let work = namespaces
            .iter()
            .find(|namespace| namespace.name_any() == "work");
        let conditions = work.and_then(|work| work.status.as_ref()?.conditions.clone());
        let messages = conditions.into_iter().flatten().filter(|condition| condition.status == "True");
        let messages: Vec<_> = messages.filter_map(|condition| condition.message).collect();
        messages == [
            "Some resources are remaining: configmaps. has 1 resource instances",
            "Some content in the namespace has finalizers remaining: example.dev/hold in 1 resource instances",
        ]
    })
    .await;
    let remove = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
    maps.patch("held", &PatchParams::default(), &remove)
        .await
        .expect("removed");
    eventually(&namespaces, |namespaces| {
        !namespaces
            .iter()
            .any(|namespace| namespace.name_any() == "work")
    })
    .await;
    test.stop().await;
}
