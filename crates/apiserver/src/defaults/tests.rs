//! Defaults that clients read back.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::schema::{pack, parse};
use crate::types::TypeTable;

fn defaulted(definition: &str, mut value: Value) -> Value {
    apply(&pack::schema(definition).unwrap(), &mut value);
    value
}

#[test]
fn every_row_of_the_table_names_a_field() {
    assert_eq!(builtin::stale_rows(pack::schema), Vec::<String>::new());
}

#[test]
fn a_pod_gets_what_kubernetes_gives_it() {
    let pod = json!({"spec": {
        "containers": [{
            "name": "c", "image": "registry:5000/app:1.2",
            "ports": [{"containerPort": 8080}],
            "readinessProbe": {"httpGet": {"port": 8080}},
            "livenessProbe": {"tcpSocket": {"port": 1}, "periodSeconds": 0},
            "resources": {"limits": {"cpu": "1"}},
        }],
        "volumes": [{"name": "v"}, {"name": "c", "configMap": {"name": "x"}}],
    }});
    let pod = defaulted("io.k8s.api.core.v1.Pod", pod);
    let spec = &pod["spec"];
    assert_eq!(spec["restartPolicy"], "Always");
    assert_eq!(spec["terminationGracePeriodSeconds"], 30);
    assert_eq!(spec["dnsPolicy"], "ClusterFirst");
    assert_eq!(spec["schedulerName"], "default-scheduler");
    assert_eq!(spec["securityContext"], json!({}));
    assert_eq!(spec["enableServiceLinks"], true);
    assert_eq!(pod["status"]["phase"], "Pending");
    let container = &spec["containers"][0];
    assert_eq!(container["imagePullPolicy"], "IfNotPresent");
    assert_eq!(container["terminationMessagePath"], "/dev/termination-log");
    assert_eq!(container["ports"][0]["protocol"], "TCP");
    assert_eq!(container["resources"]["requests"], json!({"cpu": "1"}));
    let probe = json!({
        "httpGet": {"port": 8080, "path": "/", "scheme": "HTTP"},
        "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3,
    });
    assert_eq!(container["readinessProbe"], probe);
    // Zero is what Knative writes for "probe as fast as possible"; it is no missing value.
    assert_eq!(container["livenessProbe"]["periodSeconds"], 0);
    assert_eq!(spec["volumes"][0]["emptyDir"], json!({}));
    assert_eq!(spec["volumes"][1]["configMap"]["defaultMode"], 420);
}

#[test]
fn images_that_may_change_are_pulled_each_time() {
    for (image, policy) in [
        ("app", "Always"),
        ("app:latest", "Always"),
        ("r:5000/app", "Always"),
        ("app:1", "IfNotPresent"),
        ("app@sha256:0", "IfNotPresent"),
    ] {
        let container = defaulted(
            "io.k8s.api.core.v1.Container",
            json!({"name": "c", "image": image}),
        );
        assert_eq!(container["imagePullPolicy"], policy, "{image}");
    }
}

#[test]
fn a_deployment_rolls_unless_it_says_otherwise() {
    let deployment = defaulted(
        "io.k8s.api.apps.v1.Deployment",
        json!({"spec": {"template": {"spec": {}}}}),
    );
    let spec = &deployment["spec"];
    assert_eq!(spec["replicas"], 1);
    assert_eq!(spec["revisionHistoryLimit"], 10);
    assert_eq!(spec["progressDeadlineSeconds"], 600);
    assert_eq!(
        spec["strategy"],
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}})
    );
    assert_eq!(spec["template"]["spec"]["restartPolicy"], "Always");
    let recreate =
        json!({"spec": {"replicas": 0, "strategy": {"type": "Recreate"}, "template": {}}});
    let recreate = defaulted("io.k8s.api.apps.v1.Deployment", recreate);
    assert_eq!(recreate["spec"]["strategy"], json!({"type": "Recreate"}));
    assert_eq!(recreate["spec"]["replicas"], 0);
}

#[test]
fn services_and_secrets_are_completed() {
    let service = defaulted(
        "io.k8s.api.core.v1.Service",
        json!({"spec": {"ports": [{"port": 80}]}}),
    );
    assert_eq!(
        service["spec"],
        json!({
            "type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
            "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
        })
    );
    let secret = json!({"stringData": {"a": "plain", "b": "new"}, "data": {"b": "b2xk"}});
    let secret = defaulted("io.k8s.api.core.v1.Secret", secret);
    assert_eq!(
        secret,
        json!({"type": "Opaque", "data": {"a": "cGxhaW4=", "b": "bmV3"}})
    );
    let namespace = defaulted(
        "io.k8s.api.core.v1.Namespace",
        json!({"metadata": {"name": "n"}}),
    );
    assert_eq!(namespace["spec"]["finalizers"], json!(["kubernetes"]));
    assert_eq!(namespace["status"]["phase"], "Active");
}

#[test]
fn null_means_not_set_unless_the_schema_says_otherwise() {
    let schema = parse(&json!({"type": "object", "properties": {
        "a": {"type": "string", "default": "x"},
        "b": {"type": "string"},
        "c": {"type": "string", "nullable": true, "default": "y"},
        "d": {"type": "object", "default": {}, "properties": {"deep": {"type": "integer", "default": 1}}},
    }}));
    let mut value = json!({"a": null, "b": null, "c": null});
    apply(&schema, &mut value);
    assert_eq!(value, json!({"a": "x", "c": null, "d": {"deep": 1}}));
}

#[test]
fn defaults_of_defaults_are_stable_for_every_kind() {
    for kind in TypeTable::builtin().iter() {
        let mut value = json!({"apiVersion": kind.api_version(), "kind": kind.kind, "spec": {"template": {"spec": {"containers": [{}]}}}});
        let schema = kind.schema.as_deref().unwrap();
        apply(schema, &mut value);
        let once = value.clone();
        apply(schema, &mut value);
        assert_eq!(value, once, "{}", kind.kind);
    }
}

proptest! {
    #[test]
    fn defaulting_twice_changes_nothing(image in "[a-z:/@]{0,12}", port in proptest::option::of(0..70000_i64), policy in "Recreate|RollingUpdate|") {
        let mut value = json!({"spec": {
            "strategy": {"type": policy},
            "template": {"spec": {"hostNetwork": true, "containers": [{"image": image, "ports": [{"containerPort": port}]}]}},
        }});
        let schema = pack::schema("io.k8s.api.apps.v1.Deployment").unwrap();
        apply(&schema, &mut value);
        let once = value.clone();
        apply(&schema, &mut value);
        prop_assert_eq!(value, once);
    }
}
