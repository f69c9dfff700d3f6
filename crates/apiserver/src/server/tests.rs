//! The server through its doors: in this process and over TLS.

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Secret};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, ObjectMeta, Patch,
    PatchParams, PostParams, PropagationPolicy, WatchEvent, WatchParams,
};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use lifecycle::{Outcome, Tasks};
use serde_json::{Value, json};

use super::*;
use crate::admission::AcceptAll;

mod access;
mod bodies;
mod csr;
mod door;
mod ephemeral;
mod evict;
mod kubectl;
mod lifetime;
mod limits;
mod names;
mod pages;
mod rules;
mod scheduling;
mod tokens;
mod watches;

struct Test {
    client: Client,
    tasks: Tasks,
    _dir: tempfile::TempDir,
}

fn settings(dir: &std::path::Path, crds: Vec<Value>) -> Settings {
    Settings {
        data_dir: dir.to_owned(),
        listen: None,
        crds,
        admission: Arc::new(AcceptAll),
        kubeconfig: dir.join("kubeconfig"),
        addresses: Vec::new(),
    }
}

impl Test {
    async fn start() -> Self {
        let dir = tempfile::tempdir().expect("temp dir");
        let tasks = Tasks::new();
        let server = start(settings(dir.path(), vec![widget_crd()]), &tasks)
            .await
            .expect("server");
        Self {
            client: server.client(),
            tasks,
            _dir: dir,
        }
    }

    fn widgets(&self) -> Api<DynamicObject> {
        widgets(&self.client)
    }

    fn config_maps(&self) -> Api<ConfigMap> {
        Api::namespaced(self.client.clone(), "default")
    }

    async fn stop(self) {
        assert_eq!(
            self.tasks.drain(Duration::from_secs(10)).await,
            Outcome::Clean
        );
    }
}

fn widget_resource() -> ApiResource {
    ApiResource::from_gvk_with_plural(
        &GroupVersionKind::gvk("example.dev", "v1", "Widget"),
        "widgets",
    )
}

fn widgets(client: &Client) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), "default", &widget_resource())
}

fn widget_crd() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": { "name": "widgets.example.dev" },
        "spec": {
            "group": "example.dev",
            "scope": "Namespaced",
            "names": { "plural": "widgets", "kind": "Widget", "shortNames": ["wd"] },
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "subresources": { "status": {} },
                "schema": { "openAPIV3Schema": {
                    "type": "object",
                    "properties": {
                        "spec": { "type": "object", "properties": {
                            "size": { "type": "integer", "minimum": 1, "default": 3 },
                            "color": { "type": "string" },
                        }},
                        "status": { "type": "object", "x-kubernetes-preserve-unknown-fields": true },
                    },
                }},
            }],
        },
    })
}

fn widget(name: &str, spec: Value) -> DynamicObject {
    let mut widget = DynamicObject::new(name, &widget_resource());
    widget.data = json!({ "spec": spec });
    widget
}

fn config_map(name: &str, value: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.into()),
            ..ObjectMeta::default()
        },
        data: Some([("key".to_owned(), value.to_owned())].into()),
        ..ConfigMap::default()
    }
}

fn status_of<T: std::fmt::Debug>(result: kube::Result<T>) -> kube::core::Status {
    match result {
        Err(kube::Error::Api(status)) => *status,
        other => panic!("expected an API error, got {other:?}"),
    }
}

/// Waits until `check` holds for the objects of a collection, which it sees change.
async fn eventually<K>(api: &Api<K>, mut check: impl FnMut(&[K]) -> bool)
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
{
    let wait = async {
        let since = "0";
        let mut changes = api
            .watch(&WatchParams::default(), since)
            .await
            .expect("watch")
            .boxed();
        loop {
            let list = api.list(&ListParams::default()).await.expect("list");
            if check(&list.items) {
                return;
            }
            changes.next().await.expect("open").expect("event");
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait)
        .await
        .expect("the condition holds in time");
}

#[tokio::test]
async fn objects_are_created_read_updated_and_deleted() {
    let test = Test::start().await;
    let maps = test.config_maps();
    let created = maps
        .create(&PostParams::default(), &config_map("a", "1"))
        .await
        .expect("created");
    assert!(created.uid().is_some() && created.creation_timestamp().is_some());
    let mut changed = maps.get("a").await.expect("stored");
    assert_eq!(changed.resource_version(), created.resource_version());
    changed
        .data
        .get_or_insert_default()
        .insert("key".into(), "2".into());
    let updated = maps
        .replace("a", &PostParams::default(), &changed)
        .await
        .expect("updated");
    assert_ne!(updated.resource_version(), created.resource_version());
    let conflict = status_of(maps.replace("a", &PostParams::default(), &changed).await);
    assert_eq!((conflict.code, conflict.reason.as_str()), (409, "Conflict"));
    assert_eq!(
        conflict.message,
        "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes \
         to the latest version and try again"
    );
    assert!(
        maps.delete("a", &DeleteParams::default())
            .await
            .expect("deleted")
            .is_right()
    );
    let missing = status_of(maps.get("a").await);
    assert_eq!(missing.message, "configmaps \"a\" not found");
    test.stop().await;
}

#[tokio::test]
async fn a_write_that_changes_nothing_keeps_the_revision() {
    let test = Test::start().await;
    let maps = test.config_maps();
    let created = maps
        .create(&PostParams::default(), &config_map("a", "1"))
        .await
        .expect("created");
    let replaced = maps
        .replace("a", &PostParams::default(), &created)
        .await
        .expect("replaced");
    let patch = Patch::Merge(json!({ "data": { "key": "1" } }));
    let patched = maps
        .patch("a", &PatchParams::default(), &patch)
        .await
        .expect("patched");
    assert_eq!(replaced.resource_version(), created.resource_version());
    assert_eq!(patched.resource_version(), created.resource_version());
    test.stop().await;
}

#[tokio::test]
async fn names_are_generated_and_taken_names_are_refused() {
    let test = Test::start().await;
    let maps = test.config_maps();
    let mut map = config_map("", "1");
    map.metadata = ObjectMeta {
        generate_name: Some("m-".into()),
        ..ObjectMeta::default()
    };
    let first = maps
        .create(&PostParams::default(), &map)
        .await
        .expect("created");
    let second = maps
        .create(&PostParams::default(), &map)
        .await
        .expect("created");
    assert!(first.name_any().starts_with("m-"));
    assert_ne!(first.name_any(), second.name_any());
    let taken = status_of(
        maps.create(&PostParams::default(), &config_map(&first.name_any(), "1"))
            .await,
    );
    assert_eq!(taken.reason, "AlreadyExists");
    let nameless = ConfigMap::default();
    let refused = status_of(maps.create(&PostParams::default(), &nameless).await);
    assert_eq!(
        refused.message,
        "ConfigMap \"\" is invalid: metadata.name: Required value: name or generateName is required"
    );
    test.stop().await;
}

#[tokio::test]
async fn custom_resources_are_defaulted_pruned_and_validated() {
    let test = Test::start().await;
    let widgets = test.widgets();
    let sent = widget("w", json!({ "color": "red", "unknown": 1 }));
    let created = widgets
        .create(&PostParams::default(), &sent)
        .await
        .expect("created");
    assert_eq!(created.data["spec"], json!({ "color": "red", "size": 3 }));
    assert_eq!(created.metadata.generation, Some(1));
    let invalid = status_of(
        widgets
            .create(&PostParams::default(), &widget("x", json!({ "size": 0 })))
            .await,
    );
    assert_eq!((invalid.code, invalid.reason.as_str()), (422, "Invalid"));
    assert!(
        invalid
            .message
            .starts_with("Widget.example.dev \"x\" is invalid: spec.size: Invalid value: 0"),
        "{}",
        invalid.message
    );
    let strict = PatchParams {
        field_validation: Some(kube::api::ValidationDirective::Strict),
        ..PatchParams::default()
    };
    let patch = Patch::Merge(json!({ "spec": { "colour": "blue" } }));
    let refused = status_of(widgets.patch("w", &strict, &patch).await);
    assert_eq!(
        (refused.code, refused.message.as_str()),
        (400, "strict decoding error: unknown field \"spec.colour\"")
    );
    test.stop().await;
}

#[tokio::test]
async fn status_and_spec_are_written_apart_and_only_intent_counts_as_a_generation() {
    let test = Test::start().await;
    let widgets = test.widgets();
    let mut sent = widget("w", json!({ "size": 1 }));
    sent.data["status"] = json!({ "ready": true });
    let created = widgets
        .create(&PostParams::default(), &sent)
        .await
        .expect("created");
    assert!(created.data.get("status").is_none());
    let patch = Patch::Merge(json!({ "spec": { "size": 9 }, "status": { "ready": true } }));
    let with_status = widgets
        .patch_status("w", &PatchParams::default(), &patch)
        .await
        .expect("patched");
    assert_eq!(with_status.data["spec"]["size"], 1);
    assert_eq!(with_status.data["status"]["ready"], true);
    assert_eq!(with_status.metadata.generation, Some(1));
    let patch = Patch::Merge(json!({ "spec": { "size": 9 }, "status": null }));
    let changed = widgets
        .patch("w", &PatchParams::default(), &patch)
        .await
        .expect("patched");
    assert_eq!(changed.data["status"]["ready"], true);
    assert_eq!(changed.metadata.generation, Some(2));
    let label = Patch::Merge(json!({ "metadata": { "labels": { "a": "b" } } }));
    let labeled = widgets
        .patch("w", &PatchParams::default(), &label)
        .await
        .expect("patched");
    assert_eq!(labeled.metadata.generation, Some(2));
    test.stop().await;
}

#[tokio::test]
async fn an_update_of_a_custom_resource_needs_a_revision() {
    let test = Test::start().await;
    let widgets = test.widgets();
    widgets
        .create(&PostParams::default(), &widget("w", json!({})))
        .await
        .expect("created");
    let refused = status_of(
        widgets
            .replace("w", &PostParams::default(), &widget("w", json!({})))
            .await,
    );
    assert_eq!(
        refused.message,
        "widgets.example.dev \"w\" is invalid: metadata.resourceVersion: Invalid value: 0x0: must be specified for an update"
    );
    test.stop().await;
}

#[tokio::test]
async fn a_dry_run_changes_nothing() {
    let test = Test::start().await;
    let maps = test.config_maps();
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    maps.create(&dry, &config_map("a", "1"))
        .await
        .expect("would be created");
    assert_eq!(status_of(maps.get("a").await).code, 404);
    maps.create(&PostParams::default(), &config_map("a", "1"))
        .await
        .expect("created");
    assert_eq!(
        status_of(maps.create(&dry, &config_map("a", "1")).await).reason,
        "AlreadyExists"
    );
    let patch = Patch::Merge(json!({ "data": { "key": "2" } }));
    let params = PatchParams {
        dry_run: true,
        ..PatchParams::default()
    };
    let shown = maps
        .patch("a", &params, &patch)
        .await
        .expect("would be patched");
    assert_eq!(shown.data.expect("data")["key"], "2");
    assert_eq!(
        maps.get("a").await.expect("stored").data.expect("data")["key"],
        "1"
    );
    test.stop().await;
}

#[tokio::test]
async fn lists_are_paged_at_one_moment_and_selected() {
    let test = Test::start().await;
    let maps = test.config_maps();
    for n in 0..5 {
        let mut map = config_map(&format!("m{n}"), "1");
        map.metadata.labels = Some([("even".to_owned(), (n % 2 == 0).to_string())].into());
        maps.create(&PostParams::default(), &map)
            .await
            .expect("created");
    }
    let first = maps
        .list(&ListParams::default().limit(2))
        .await
        .expect("page");
    assert_eq!(first.items.len(), 2);
    assert_eq!(first.metadata.remaining_item_count, Some(3));
    maps.delete("m4", &DeleteParams::default())
        .await
        .expect("deleted");
    let mut names: Vec<_> = first.items.iter().map(ResourceExt::name_any).collect();
    let mut token = first.metadata.continue_.clone();
    while let Some(next) = token.filter(|token| !token.is_empty()) {
        let page = maps
            .list(&ListParams::default().limit(2).continue_token(&next))
            .await
            .expect("page");
        names.extend(page.items.iter().map(ResourceExt::name_any));
        assert_eq!(
            page.metadata.resource_version,
            first.metadata.resource_version
        );
        token = page.metadata.continue_;
    }
    assert_eq!(names, ["m0", "m1", "m2", "m3", "m4"]);
    let even = maps
        .list(&ListParams::default().labels("even=true"))
        .await
        .expect("list");
    assert_eq!(
        even.items
            .iter()
            .map(ResourceExt::name_any)
            .collect::<Vec<_>>(),
        ["m0", "m2"]
    );
    let one = maps
        .list(&ListParams::default().fields("metadata.name=m1"))
        .await
        .expect("list");
    assert_eq!(one.items.len(), 1);
    let refused = status_of(maps.list(&ListParams::default().fields("data.key=1")).await);
    assert_eq!(refused.code, 400);
    test.stop().await;
}

#[tokio::test]
async fn writing_into_a_missing_namespace_names_the_namespace() {
    let test = Test::start().await;
    let maps: Api<ConfigMap> = Api::namespaced(test.client.clone(), "nowhere");
    let refused = status_of(
        maps.create(&PostParams::default(), &config_map("a", "1"))
            .await,
    );
    assert_eq!(
        (refused.code, refused.message.as_str()),
        (404, "namespaces \"nowhere\" not found")
    );
    test.stop().await;
}

#[tokio::test]
async fn a_crd_is_served_by_the_write_that_creates_it_and_removed_with_its_objects() {
    let test = Test::start().await;
    let crds: Api<CustomResourceDefinition> = Api::all(test.client.clone());
    let mut crd = widget_crd();
    crd["metadata"]["name"] = json!("gadgets.example.dev");
    crd["spec"]["names"] = json!({ "plural": "gadgets", "kind": "Gadget" });
    let crd: CustomResourceDefinition = serde_json::from_value(crd).expect("CRD");
    let created = crds
        .create(&PostParams::default(), &crd)
        .await
        .expect("created");
    let conditions = created
        .status
        .expect("status")
        .conditions
        .expect("conditions");
    assert!(
        conditions
            .iter()
            .any(|condition| condition.type_ == "Established" && condition.status == "True")
    );
    let resource = ApiResource::from_gvk_with_plural(
        &GroupVersionKind::gvk("example.dev", "v1", "Gadget"),
        "gadgets",
    );
    let gadgets: Api<DynamicObject> =
        Api::namespaced_with(test.client.clone(), "default", &resource);
    gadgets
        .create(&PostParams::default(), &DynamicObject::new("g", &resource))
        .await
        .expect("served at once");
    crds.delete("gadgets.example.dev", &DeleteParams::default())
        .await
        .expect("deleted");
    eventually(&crds, |crds| {
        !crds
            .iter()
            .any(|crd| crd.name_any() == "gadgets.example.dev")
    })
    .await;
    assert_eq!(
        status_of(gadgets.get("g").await).message,
        "the server could not find the requested resource"
    );
    test.stop().await;
}

#[tokio::test]
async fn an_invalid_crd_is_refused_with_its_fields() {
    let test = Test::start().await;
    let resource = ApiResource::erase::<CustomResourceDefinition>(&());
    let crds: Api<DynamicObject> = Api::all_with(test.client.clone(), &resource);
    let mut crd: DynamicObject = serde_json::from_value(widget_crd()).expect("object");
    crd.metadata.name = Some("wrong.example.dev".into());
    let refused = status_of(crds.create(&PostParams::default(), &crd).await);
    assert_eq!(refused.code, 422);
    assert!(
        refused.message.contains("metadata.name"),
        "{}",
        refused.message
    );
    test.stop().await;
}

#[tokio::test]
async fn a_second_start_on_the_same_directory_goes_on() {
    let dir = tempfile::tempdir().expect("temp dir");
    let tasks = Tasks::new();
    let server = start(settings(dir.path(), vec![widget_crd()]), &tasks)
        .await
        .expect("server");
    let created = widgets(&server.client())
        .create(&PostParams::default(), &widget("w", json!({})))
        .await
        .expect("created");
    assert_eq!(tasks.drain(Duration::from_secs(10)).await, Outcome::Clean);
    drop(server);
    let tasks = Tasks::new();
    let server = start(settings(dir.path(), vec![widget_crd()]), &tasks)
        .await
        .expect("second server");
    let stored = widgets(&server.client()).get("w").await.expect("stored");
    assert_eq!(stored.uid(), created.uid());
    assert_eq!(stored.resource_version(), created.resource_version());
    assert_eq!(tasks.drain(Duration::from_secs(10)).await, Outcome::Clean);
}

#[tokio::test]
async fn a_definition_that_a_user_replaced_is_left_alone_at_the_next_start() {
    let replaceable = |description: &str| {
        let mut crd = widget_crd();
        crd["metadata"]["labels"] = json!({ "suimon.dev/replaceable": "true" });
        crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["description"] = json!(description);
        crd
    };
    let dir = tempfile::tempdir().expect("temp dir");
    let description = |crd: &CustomResourceDefinition| {
        let schema = crd.spec.versions[0].schema.as_ref();
        let schema = schema.and_then(|schema| schema.open_api_v3_schema.as_ref());
        schema.and_then(|schema| schema.description.clone())
    };
    // What is ours is brought up to date, what is a user's stays.
    for (replaced, categories) in [(false, "first"), (true, "second"), (false, "third")] {
        let mut ours = replaceable("ours");
        ours["spec"]["names"]["categories"] = json!([categories]);
        let tasks = Tasks::new();
        let server = start(settings(dir.path(), vec![ours]), &tasks)
            .await
            .expect("server");
        let crds: Api<CustomResourceDefinition> = Api::all(server.client());
        let mut stored = crds.get("widgets.example.dev").await.expect("stored");
        let names = stored.spec.names.categories.clone().unwrap_or_default();
        let expected = if categories == "third" {
            "second"
        } else {
            categories
        };
        assert_eq!(names, [expected]);
        if replaced {
            let theirs = &mut stored.spec.versions[0].schema;
            let theirs = theirs
                .as_mut()
                .and_then(|it| it.open_api_v3_schema.as_mut());
            theirs.expect("a schema").description = Some("theirs".into());
            crds.replace("widgets.example.dev", &PostParams::default(), &stored)
                .await
                .expect("replaced");
        } else if categories == "third" {
            assert_eq!(description(&stored).as_deref(), Some("theirs"));
        }
        assert_eq!(tasks.drain(Duration::from_secs(10)).await, Outcome::Clean);
    }
}

#[tokio::test]
async fn secrets_take_string_data_and_return_data() {
    let test = Test::start().await;
    let secrets: Api<Secret> = Api::namespaced(test.client.clone(), "default");
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some("s".into()),
            ..ObjectMeta::default()
        },
        string_data: Some([("user".to_owned(), "me".to_owned())].into()),
        ..Secret::default()
    };
    let created = secrets
        .create(&PostParams::default(), &secret)
        .await
        .expect("created");
    assert!(created.string_data.is_none());
    assert_eq!(created.data.expect("data")["user"].0, b"me");
    test.stop().await;
}
