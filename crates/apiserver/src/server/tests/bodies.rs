//! Bodies of the wrong shape are refused; ownership and notices reach the client.

use super::*;

async fn send(
    test: &Test,
    method: &str,
    path: &str,
    media: &str,
    body: &str,
) -> kube::Result<Value> {
    let request = ::http::Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", media)
        .body(body.as_bytes().to_vec())
        .expect("request");
    test.client.request::<Value>(request).await
}

#[tokio::test]
async fn bodies_of_the_wrong_shape_are_refused_and_the_server_goes_on() {
    let test = Test::start().await;
    let maps = "/api/v1/namespaces/default/configmaps";
    let json = "application/json";
    send(&test, "POST", maps, json, r#"{"metadata":{"name":"c"}}"#)
        .await
        .expect("create");
    for (method, path, media, body) in [
        ("POST", maps, json, "3"),
        ("POST", maps, json, r#"{"metadata":"x"}"#),
        (
            "POST",
            maps,
            json,
            r#"{"metadata":{"name":"d","labels":["x"]}}"#,
        ),
        (
            "POST",
            maps,
            json,
            r#"{"metadata":{"name":"d"},"data":[1]}"#,
        ),
        (
            "POST",
            "/api/v1/namespaces",
            json,
            r#"{"metadata":{"name":"n","labels":"x"}}"#,
        ),
        (
            "POST",
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
            json,
            r#"{"metadata":{"name":"n"},"spec":"x"}"#,
        ),
        (
            "POST",
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
            json,
            r#"{"metadata":{"name":"n"},"spec":{"names":7}}"#,
        ),
        (
            "PATCH",
            "/api/v1/namespaces/default/configmaps/c",
            "application/json-patch+json",
            r#"[{"op":"replace","path":"","value":3}]"#,
        ),
        (
            "PATCH",
            "/api/v1/namespaces/default/configmaps/c?fieldManager=m",
            "application/apply-patch+yaml",
            "[]",
        ),
        (
            "PATCH",
            "/api/v1/namespaces/default/configmaps/new?fieldManager=m",
            "application/apply-patch+yaml",
            "text",
        ),
        (
            "PATCH",
            "/api/v1/namespaces/default/configmaps/c",
            "application/strategic-merge-patch+json",
            "[]",
        ),
        (
            "PATCH",
            "/api/v1/namespaces/default/configmaps/c",
            "application/merge-patch+json",
            "[]",
        ),
        (
            "PATCH",
            "/api/v1/namespaces/default/configmaps/c",
            "application/json-patch+json",
            r#"[{"op":"replace","path":"/metadata","value":[]}]"#,
        ),
    ] {
        let refused = send(&test, method, path, media, body).await;
        let kube::Error::Api(status) = refused.expect_err(body) else {
            panic!("{method} {path} {body}: no status")
        };
        assert!((400..500).contains(&status.code), "{body}: {status:?}");
    }
    assert!(test.config_maps().get("c").await.is_ok());
    test.stop().await;
}

#[tokio::test]
async fn an_object_created_by_apply_belongs_to_its_applier() {
    let test = Test::start().await;
    let apply = |data: Value| {
        let api = test.config_maps();
        async move {
            let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": data});
            api.patch("c", &PatchParams::apply("me"), &Patch::Apply(object))
                .await
        }
    };
    apply(json!({"a": "1", "b": "1"})).await.expect("create");
    let changed = apply(json!({"a": "2"}))
        .await
        .expect("no conflict with oneself");
    assert_eq!(
        changed.data.expect("data").into_iter().collect::<Vec<_>>(),
        [("a".into(), "2".into())]
    );
    let same = apply(json!({"a": "2"})).await.expect("again");
    assert_eq!(
        same.metadata.resource_version,
        changed.metadata.resource_version
    );
    let managers = same.metadata.managed_fields.expect("managers");
    assert_eq!(managers.len(), 1);
    assert_eq!(managers[0].operation.as_deref(), Some("Apply"));
    test.stop().await;
}

#[tokio::test]
async fn an_applied_configuration_may_name_the_revision_it_means() {
    let test = Test::start().await;
    let api = test.config_maps();
    let apply = |revision: String| {
        let metadata = json!({"name": "c", "resourceVersion": revision});
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"a": revision}});
        let api = api.clone();
        async move {
            api.patch("c", &PatchParams::apply("me"), &Patch::Apply(object))
                .await
        }
    };
    let created = api
        .create(&PostParams::default(), &config_map("c", "1"))
        .await
        .expect("create");
    let revision = created.metadata.resource_version.expect("revision");
    assert_eq!(status_of(apply("1".into()).await).code, 409);
    apply(revision.clone()).await.expect("the right revision");
    assert_eq!(status_of(apply(revision).await).code, 409);
    test.stop().await;
}

#[tokio::test]
async fn what_a_built_in_kind_fixes_cannot_be_changed() {
    let test = Test::start().await;
    let path = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
    let role = |name: &str| {
        json!({"metadata": {"name": "b"}, "roleRef": {"kind": "ClusterRole", "name": name}})
            .to_string()
    };
    send(&test, "POST", path, "application/json", &role("one"))
        .await
        .expect("create");
    let refused = send(
        &test,
        "PUT",
        &format!("{path}/b"),
        "application/json",
        &role("two"),
    )
    .await;
    assert_eq!(status_of(refused).code, 422);
    test.stop().await;
}
