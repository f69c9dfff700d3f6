//! Other gateways' kinds against the embedded API server: watched, served, told about.

use std::time::Duration;

use api::names::INGRESS_CLASS;
use k8s_openapi::api::core::v1::Event;
use kube::Api;
use kube::api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use lifecycle::{Snapshots, Tasks, snapshot_channel};
use reconcile::Cluster;
use routing::{Snapshot, Visibility};
use serde_json::{Value, json};

use super::kinds::KINDS;
use crate::asked::Get;

struct Rig {
    client: kube::Client,
    snapshots: Snapshots<Snapshot>,
    tasks: Tasks,
    _data: tempfile::TempDir,
}

impl Rig {
    async fn start(crds: Vec<Value>) -> Self {
        let tasks = Tasks::new();
        let data = tempfile::tempdir().expect("a directory");
        let mut all = api::crd::crds();
        all.extend(crds);
        let settings = apiserver::Settings {
            data_dir: data.path().to_owned(),
            listen: None,
            crds: all,
            admission: std::sync::Arc::new(apiserver::admission::AcceptAll),
            kubeconfig: data.path().join("kubeconfig"),
            addresses: Vec::new(),
        };
        let server = apiserver::start(settings, &tasks).await.expect("a server");
        let (publish, snapshots) = snapshot_channel(Snapshot::default());
        let settings = crate::Settings {
            ingress_class: INGRESS_CLASS.into(),
            kinds: KINDS,
            ..super::settings()
        };
        let cluster = Cluster::new(server.client());
        crate::start(&cluster, settings, publish, &tasks);
        Self {
            client: server.client(),
            snapshots,
            tasks,
            _data: data,
        }
    }

    fn things(&self, version: &str, kind: &str, plural: &str) -> Api<DynamicObject> {
        let resource = ApiResource {
            group: "things.example.dev".to_owned(),
            version: version.to_owned(),
            api_version: format!("things.example.dev/{version}"),
            kind: kind.to_owned(),
            plural: plural.to_owned(),
        };
        Api::namespaced_with(self.client.clone(), "default", &resource)
    }

    async fn apply(&self, api: &Api<DynamicObject>, object: Value) {
        let name = object["metadata"]["name"].as_str().expect("a name");
        let params = PatchParams::apply("test").force();
        api.patch(name, &params, &Patch::Apply(&object))
            .await
            .expect("applied");
    }

    /// Waits until the host is served, or is not.
    async fn serves(&self, host: &'static str, wanted: bool) {
        let mut snapshots = self.snapshots.clone();
        let is_served = |snapshots: &Snapshots<Snapshot>| {
            let snapshot = snapshots.current_owned();
            let route = snapshot.select(Visibility::External, &Get::root(host));
            route.is_some() == wanted
        };
        let reached = async {
            while !is_served(&snapshots) {
                snapshots.changed().await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(20), reached).await;
        waited.unwrap_or_else(|_| panic!("{host} served: not {wanted}"));
    }

    /// Waits until the object's status says this phase; the whole status then.
    async fn phase(&self, api: &Api<DynamicObject>, name: &str, phase: &str) -> Value {
        let says = |object: Option<&DynamicObject>| {
            object.is_some_and(|object| object.data["status"]["phase"] == phase)
        };
        let waited = kube::runtime::wait::await_condition(api.clone(), name, says);
        let object = tokio::time::timeout(Duration::from_secs(20), waited).await;
        let object = object.expect("in time").expect("a watch");
        object.expect("an object").data["status"].clone()
    }
}

fn thing(kind: &str, name: &str, host: &str) -> Value {
    json!({
        "apiVersion": "things.example.dev/v1", "kind": kind,
        "metadata": {"name": name},
        "spec": {"host": host, "service": "app", "odd": true},
    })
}

#[tokio::test]
async fn an_object_is_served_and_its_status_is_written_once() {
    let rig = Rig::start(dialects::foreign::definitions(KINDS)).await;
    let things = rig.things("v1", "Thing", "things");
    rig.apply(&things, thing("Thing", "one", "one.example.com"))
        .await;
    rig.serves("one.example.com", true).await;
    let status = rig.phase(&things, "one", "Accepted").await;
    let since = status["conditions"][0]["lastTransitionTime"].clone();
    assert!(since.is_string(), "{status}");
    let before = things.get("one").await.expect("there").metadata;
    let managers = before.managed_fields.unwrap_or_default();
    let is_ours = |manager: Option<&str>| manager == Some("suimon-test");
    assert!(managers.iter().any(|it| is_ours(it.manager.as_deref())));
    // A new generation with the same status changes neither the status nor its times.
    rig.apply(&things, thing("Thing", "one", "other.example.com"))
        .await;
    rig.serves("other.example.com", true).await;
    rig.serves("one.example.com", false).await;
    let after = rig.phase(&things, "one", "Accepted").await;
    assert_eq!(after["conditions"][0]["lastTransitionTime"], since);
    things
        .delete("one", &DeleteParams::default())
        .await
        .expect("deleted");
    rig.serves("other.example.com", false).await;
    rig.tasks.drain(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_kind_without_a_status_has_its_diagnostics_in_events() {
    let rig = Rig::start(dialects::foreign::definitions(KINDS)).await;
    let mutes = rig.things("v2", "Mute", "mutes");
    let mut mute = thing("Mute", "mute", "mute.example.com");
    mute["apiVersion"] = json!("things.example.dev/v2");
    rig.apply(&mutes, mute).await;
    let events: Api<Event> = Api::namespaced(rig.client.clone(), "default");
    let told = async {
        loop {
            let all = events.list(&Default::default()).await.expect("events");
            let mut ours = all.items.iter().filter(|event| {
                event.involved_object.kind.as_deref() == Some("Mute")
                    && event.reason.as_deref() == Some("FieldNotSupported")
            });
            if let Some(event) = ours.next() {
                return event.message.clone().unwrap_or_default();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let message = tokio::time::timeout(Duration::from_secs(20), told).await;
    assert_eq!(
        message.expect("in time"),
        "spec.odd: spec.odd is not supported"
    );
    rig.tasks.drain(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_kind_is_watched_once_its_definition_is_there_in_whatever_version_it_has() {
    let rig = Rig::start(Vec::new()).await;
    let mut snapshots = rig.snapshots.clone();
    assert!(snapshots.changed().await, "missing kinds hold nothing up");
    let mut definition = dialects::foreign::definitions(&KINDS[..1]).remove(0);
    // As an older release of its project has it: only the older version.
    let versions = definition["spec"]["versions"].as_array_mut();
    let versions = versions.expect("versions");
    versions.remove(0);
    versions[0]["storage"] = json!(true);
    let resource = ApiResource {
        group: "apiextensions.k8s.io".to_owned(),
        version: "v1".to_owned(),
        api_version: "apiextensions.k8s.io/v1".to_owned(),
        kind: "CustomResourceDefinition".to_owned(),
        plural: "customresourcedefinitions".to_owned(),
    };
    let definitions: Api<DynamicObject> = Api::all_with(rig.client.clone(), &resource);
    let definition = serde_json::from_value(definition).expect("a definition");
    definitions
        .create(&PostParams::default(), &definition)
        .await
        .expect("created");
    let things = rig.things("v1", "Thing", "things");
    rig.apply(&things, thing("Thing", "one", "one.example.com"))
        .await;
    rig.serves("one.example.com", true).await;
    rig.phase(&things, "one", "Accepted").await;
    definitions
        .delete("things.things.example.dev", &DeleteParams::default())
        .await
        .expect("deleted");
    rig.serves("one.example.com", false).await;
    rig.tasks.drain(Duration::from_secs(5)).await;
}
