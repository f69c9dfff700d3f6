//! All controllers together against the embedded API server, with a node that only pretends.

mod batch;
mod volume;
mod world;

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{ConfigMap, Endpoints, Event, Pod, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt;
use serde_json::{Value, json};

use world::World;

fn deployment(replicas: i32, image: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "replicas": replicas,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": image, "ports": [{"name": "user-port", "containerPort": 8080}]}]},
            },
        },
    })
}

fn service(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": "user-port"}]},
    })
}

fn replicas(count: i32) -> Value {
    json!({"spec": {"replicas": count}})
}

fn available(world: &World) -> i32 {
    let deployment = world.get::<Deployment>("default", "web");
    deployment
        .and_then(|web| web.status.clone()?.available_replicas)
        .unwrap_or(0)
}

/// Addresses with ports that new requests may go to.
fn ready_endpoints(world: &World) -> BTreeSet<(String, i32)> {
    let mut found = BTreeSet::new();
    for slice in world.list::<EndpointSlice>() {
        let port = slice
            .ports
            .as_ref()
            .and_then(|ports| ports.first()?.port)
            .unwrap_or(0);
        for endpoint in slice.endpoints.iter().flatten() {
            if endpoint
                .conditions
                .as_ref()
                .and_then(|conditions| conditions.ready)
                == Some(true)
            {
                found.insert((endpoint.addresses[0].clone(), port));
            }
        }
    }
    found
}

fn active(world: &World) -> Vec<std::sync::Arc<Pod>> {
    world
        .list::<Pod>()
        .into_iter()
        .filter(|pod| crate::pod::is_active(pod))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_wakes_serves_and_sleeps() {
    let world = World::start().await;
    world.create::<Service>(service("web")).await;
    world.create::<Deployment>(deployment(0, "v1")).await;
    world
        .eventually("a ReplicaSet without pods", |world| {
            world.list::<ReplicaSet>().len() == 1
        })
        .await;
    assert!(active(&world).is_empty());

    world.patch::<Deployment>("web", replicas(1)).await;
    world
        .eventually("one ready endpoint", |world| {
            ready_endpoints(world).len() == 1
        })
        .await;
    world
        .eventually("availability", |world| available(world) == 1)
        .await;
    let endpoints = |world: &World| {
        let endpoints = world.get::<Endpoints>("default", "web")?;
        Some(
            endpoints
                .subsets
                .as_ref()?
                .first()?
                .addresses
                .as_ref()?
                .len(),
        )
    };
    world
        .eventually("core/v1 Endpoints", |world| endpoints(world) == Some(1))
        .await;

    world.patch::<Deployment>("web", replicas(0)).await;
    world
        .eventually("no pods", |world| world.list::<Pod>().is_empty())
        .await;
    world
        .eventually("no endpoints", |world| {
            world.list::<EndpointSlice>().is_empty()
        })
        .await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scaling_creates_exactly_the_pods_asked_for() {
    let world = World::start().await;
    world.create::<Deployment>(deployment(25, "v1")).await;
    world
        .eventually("25 available", |world| available(world) == 25)
        .await;
    assert_eq!(world.most_pods.load(Ordering::SeqCst), 25);
    world.patch::<Deployment>("web", replicas(40)).await;
    world.patch::<Deployment>("web", replicas(3)).await;
    world.patch::<Deployment>("web", replicas(30)).await;
    world
        .eventually("30 available", |world| {
            available(world) == 30 && active(world).len() == 30
        })
        .await;
    assert!(world.most_pods.load(Ordering::SeqCst) <= 40);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_replaces_every_pod_and_is_never_short_of_one() {
    let world = World::start().await;
    world.create::<Service>(service("web")).await;
    world.create::<Deployment>(deployment(3, "v1")).await;
    world
        .eventually("3 available", |world| {
            available(world) == 3 && ready_endpoints(world).len() == 3
        })
        .await;
    world.watch_least_ready();
    world
        .patch::<Deployment>(
            "web",
            json!({"spec": {"template": deployment(3, "v2")["spec"]["template"]}}),
        )
        .await;
    let all_new = |world: &World| {
        let pods = world.list::<Pod>();
        let image = |pod: &Pod| {
            pod.spec
                .as_ref()
                .and_then(|spec| spec.containers[0].image.clone())
        };
        pods.len() == 3
            && pods.iter().all(|pod| image(pod).as_deref() == Some("v2"))
            && available(world) == 3
    };
    world.eventually("3 new pods", all_new).await;
    assert!(world.least_ready.load(Ordering::SeqCst) >= 3);
    let scaled = told(&world, "web");
    assert!(
        scaled.iter().any(|event| event
            .starts_with("ScalingReplicaSet: Scaled up replica set web-")
            && event.ends_with(" from 0 to 3")),
        "{scaled:?}"
    );
    assert!(world.most_pods.load(Ordering::SeqCst) <= 4);
    let revision = |world: &World| {
        let web = world.get::<Deployment>("default", "web")?;
        web.annotations()
            .get("deployment.kubernetes.io/revision")
            .cloned()
    };
    assert_eq!(revision(&world).as_deref(), Some("2"));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_and_failed_pods_are_replaced() {
    let world = World::start().await;
    world.create::<Deployment>(deployment(2, "v1")).await;
    world
        .eventually("2 available", |world| available(world) == 2)
        .await;
    let before: BTreeSet<String> = active(&world).iter().map(|pod| pod.name_any()).collect();
    let mut names = before.iter();
    world.delete::<Pod>(names.next().expect("a pod")).await;
    world.fail_pod(names.next().expect("another pod")).await;
    let replaced = |world: &World| {
        let now: BTreeSet<String> = active(world).iter().map(|pod| pod.name_any()).collect();
        now.len() == 2 && now.is_disjoint(&before) && available(world) == 2
    };
    world.eventually("two other pods", replaced).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn services_get_addresses_and_namespaces_an_account_and_foreign_pods_a_node() {
    let world = World::start().await;
    for name in ["a", "b", "c"] {
        world.create::<Service>(service(name)).await;
    }
    let addresses = |world: &World| -> BTreeSet<String> {
        let services = world.list::<Service>();
        let of = |name: &str| {
            services
                .iter()
                .find(|service| service.name_any() == name)?
                .spec
                .clone()?
                .cluster_ip
        };
        ["a", "b", "c"]
            .into_iter()
            .filter_map(of)
            .filter(|ip| !ip.is_empty())
            .collect()
    };
    world
        .eventually("three addresses", |world| addresses(world).len() == 3)
        .await;
    assert!(
        addresses(&world)
            .iter()
            .all(|address| address.starts_with("10.96."))
    );
    world
        .eventually("an account", |world| {
            world.get::<ServiceAccount>("default", "default").is_some()
        })
        .await;
    let root_ca = |world: &World| {
        let map = world.get::<ConfigMap>("default", "kube-root-ca.crt")?;
        map.data.clone()?.get("ca.crt").cloned()
    };
    world
        .eventually("the CA", |world| {
            root_ca(world).as_deref() == Some("the CA")
        })
        .await;
    let other = json!({"data": {"ca.crt": "another"}});
    world.patch::<ConfigMap>("kube-root-ca.crt", other).await;
    world
        .eventually("the CA again", |world| {
            root_ca(world).as_deref() == Some("the CA")
        })
        .await;
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "mine", "namespace": "default"},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    });
    world.create::<Pod>(pod).await;
    let node = |world: &World| world.get::<Pod>("default", "mine")?.spec.clone()?.node_name;
    world
        .eventually("a node", |world| node(world).as_deref() == Some("here"))
        .await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_deployment_takes_its_pods_along() {
    let world = World::start().await;
    world.create::<Deployment>(deployment(2, "v1")).await;
    world
        .eventually("2 available", |world| available(world) == 2)
        .await;
    world.delete::<Deployment>("web").await;
    let gone =
        |world: &World| world.list::<ReplicaSet>().is_empty() && world.list::<Pod>().is_empty();
    world.eventually("nothing", gone).await;
    world.stop().await;
}

/// Reasons and messages told of an object.
fn told(world: &World, name: &str) -> Vec<String> {
    let events = world.list::<Event>();
    let about = events
        .iter()
        .filter(|event| event.involved_object.name.as_deref() == Some(name));
    about
        .map(|event| {
            let text = |part: &Option<String>| part.clone().unwrap_or_default();
            format!("{}: {}", text(&event.reason), text(&event.message))
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_does_not_fit_says_why_and_starts_once_there_is_room() {
    let world = World::start().await;
    let pod = |name: &str, cpu: &str| {
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
            "spec": {"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}}]},
        })
    };
    world.create::<Pod>(pod("first", "3")).await;
    let node =
        |world: &World, name: &str| world.get::<Pod>("default", name)?.spec.clone()?.node_name;
    world
        .eventually("a place", |world| node(world, "first").is_some())
        .await;
    world.create::<Pod>(pod("second", "2")).await;
    let why = "FailedScheduling: 0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.";
    world
        .eventually("the reason", |world| {
            told(world, "second").iter().any(|event| event == why)
        })
        .await;
    assert_eq!(node(&world, "second"), None);
    world.delete::<Pod>("first").await;
    world
        .eventually("room", |world| {
            node(world, "second").as_deref() == Some("here")
        })
        .await;
    world
        .eventually("word of it", |world| {
            told(world, "second")
                .iter()
                .any(|event| event == "Scheduled: Successfully assigned default/second to here")
        })
        .await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_are_adopted_by_their_labels_and_released_with_them() {
    let world = World::start().await;
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "mine", "namespace": "default", "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    });
    world.create::<Pod>(pod).await;
    let set = json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "replicas": 1, "selector": {"matchLabels": {"app": "web"}},
            "template": deployment(1, "v1")["spec"]["template"],
        },
    });
    let owner = |world: &World| {
        let pod = world.get::<Pod>("default", "mine")?;
        Some(pod.metadata.owner_references.clone()?.first()?.name.clone())
    };
    world
        .eventually("a pod", |world| !world.list::<Pod>().is_empty())
        .await;
    world.create::<ReplicaSet>(set).await;
    world
        .eventually("adoption", |world| owner(world).as_deref() == Some("web"))
        .await;
    assert_eq!(world.list::<Pod>().len(), 1, "it needs no other pod");
    let other = json!({"metadata": {"labels": {"app": "other"}}});
    world.patch::<Pod>("mine", other).await;
    world
        .eventually("release and replacement", |world| {
            owner(world).is_none() && world.list::<Pod>().len() == 2
        })
        .await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_autoscaler_keeps_its_bounds_and_says_what_it_cannot_measure() {
    let world = World::start().await;
    world.create::<Deployment>(deployment(1, "v1")).await;
    let autoscaler = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"minReplicas": 2, "maxReplicas": 4, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}},
    });
    world.create::<HorizontalPodAutoscaler>(autoscaler).await;
    world
        .eventually("the least", |world| available(world) == 2)
        .await;
    let why =
        "SuccessfulRescale: New size: 2; reason: Current number of replicas below Spec.MinReplicas";
    world
        .eventually("why", |world| {
            told(world, "web").iter().any(|event| event == why)
        })
        .await;
    let reason = |world: &World| {
        let autoscaler = world.get::<HorizontalPodAutoscaler>("default", "web")?;
        let conditions = autoscaler.status.clone()?.conditions?;
        let active = conditions
            .into_iter()
            .find(|condition| condition.type_ == "ScalingActive")?;
        active.reason
    };
    let most = json!({"spec": {"minReplicas": 1}});
    world.patch::<HorizontalPodAutoscaler>("web", most).await;
    world
        .eventually("what is missing", |world| {
            reason(world).as_deref() == Some("FailedGetResourceMetric")
        })
        .await;
    world.stop().await;
}
