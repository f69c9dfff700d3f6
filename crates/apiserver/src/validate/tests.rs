//! Findings carry Kubernetes' texts and paths.

use serde_json::{Value, json};

use super::*;
use crate::schema::{pack, parse};

fn texts(errors: &[FieldError]) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

fn check_against(schema: &Value, value: &Value, expected: &[&str]) {
    assert_eq!(
        texts(&object(&parse(schema), value, None)),
        expected,
        "{value}"
    );
}

fn check_builtin(definition: &str, value: &Value, expected: &[&str]) {
    let mut value = value.clone();
    let schema = pack::schema(definition).unwrap();
    crate::defaults::apply(&schema, &mut value);
    assert_eq!(texts(&object(&schema, &value, None)), expected, "{value}");
}

#[test]
fn value_limits_are_explained() {
    let schema = json!({"type": "object", "required": ["name"], "properties": {"spec": {"type": "object", "properties": {
        "count": {"type": "integer", "minimum": 0, "maximum": 10},
        "mode": {"type": "string", "enum": ["a", "b"]},
        "host": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 5},
        "port": {"x-kubernetes-int-or-string": true},
        "list": {"type": "array", "maxItems": 1, "items": {"type": "string"}},
        "time": {"type": "string", "format": "date-time"},
    }}}});
    check_against(
        &schema,
        &json!({"name": 1, "spec": {"count": 3, "mode": "a", "host": "abc", "port": "http"}}),
        &[],
    );
    check_against(
        &schema,
        &json!({"spec": {"count": -1, "mode": "c", "host": "ABCDEF", "port": 1.5, "list": ["x", "y"], "time": "now"}}),
        &[
            "name: Required value",
            "spec.count: Invalid value: -1: spec.count in body should be greater than or equal to 0",
            "spec.host: Invalid value: \"ABCDEF\": spec.host in body should match '^[a-z]+$'",
            "spec.host: Too long: may not be more than 5 bytes",
            "spec.list: Too many: 2: must have at most 1 items",
            "spec.mode: Unsupported value: \"c\": supported values: \"a\", \"b\"",
            "spec.port: Invalid value: \"number\": spec.port in body must be of type integer,string: \"number\"",
            "spec.time: Invalid value: \"now\": spec.time in body must be of type date-time: \"now\"",
        ],
    );
    check_against(
        &schema,
        &json!({"name": "n", "spec": {"count": "many", "list": [1]}}),
        &[
            "spec.count: Invalid value: \"string\": spec.count in body must be of type integer: \"string\"",
            "spec.list[0]: Invalid value: \"integer\": spec.list[0] in body must be of type string: \"integer\"",
        ],
    );
}

#[test]
fn junctors_hold() {
    let schema = json!({"type": "object", "properties": {
        "one": {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
            "oneOf": [{"required": ["a"]}, {"required": ["b"]}]},
        "not": {"type": "string", "not": {"enum": ["bad"]}},
    }});
    check_against(&schema, &json!({"one": {"a": ""}, "not": "good"}), &[]);
    check_against(
        &schema,
        &json!({"one": {}, "not": "bad"}),
        &[
            "not: Invalid value: \"bad\": \"not\" must not validate the schema (not)",
            "one: Invalid value: {}: \"one\" must validate one and only one schema (oneOf). Found none valid",
        ],
    );
}

#[test]
fn keys_of_lists_are_unique() {
    let schema = json!({"type": "object", "properties": {
        "map": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["n", "p"],
            "items": {"type": "object", "properties": {"n": {"type": "integer"}, "p": {"type": "string", "default": "TCP"}}}},
        "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
    }});
    check_against(
        &schema,
        &json!({"map": [{"n": 1}, {"n": 2}, {"n": 1, "p": "TCP"}], "set": ["a", "a"]}),
        &[
            "map[2]: Duplicate value: {\"n\":1,\"p\":\"TCP\"}",
            "set[1]: Duplicate value: \"a\"",
        ],
    );
}

#[test]
fn what_did_not_change_is_not_judged_again() {
    let schema = parse(&json!({"type": "object", "properties": {
        "old": {"type": "string", "maxLength": 1}, "new": {"type": "string", "maxLength": 1},
    }}));
    let stored = json!({"old": "long", "new": ""});
    let changed = json!({"old": "long", "new": "long"});
    assert_eq!(
        texts(&object(&schema, &changed, Some(&stored))),
        ["new: Too long: may not be more than 1 bytes"]
    );
}

#[test]
fn pods_that_cannot_run_are_refused() {
    let pod = "io.k8s.api.core.v1.Pod";
    check_builtin(
        pod,
        &json!({"spec": {"containers": [{"name": "c", "image": "i"}]}}),
        &[],
    );
    check_builtin(pod, &json!({}), &["spec.containers: Required value"]);
    check_builtin(
        pod,
        &json!({"spec": {"containers": []}}),
        &["spec.containers: Required value"],
    );
    check_builtin(
        pod,
        &json!({"spec": {"containers": [
            {"name": "C", "image": ""},
            {"name": "d", "image": "i", "ports": [{"containerPort": 0}], "volumeMounts": [{"name": "v", "mountPath": "/v"}]},
            {"name": "d", "image": "i", "readinessProbe": {}},
        ]}}),
        &[
            "spec.containers[2].name: Duplicate value: \"d\"",
            "spec.containers[1].volumeMounts[0].name: Not found: \"v\"",
            "spec.containers[0].name: Invalid value: \"C\": a lowercase RFC 1123 label must consist of lower case \
             alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  \
             or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
            "spec.containers[0].image: Required value",
            "spec.containers[1].ports[0].containerPort: Invalid value: 0: must be between 1 and 65535, inclusive",
            "spec.containers[2].readinessProbe: Required value: must specify a handler type",
        ],
    );
}

#[test]
fn selectors_must_find_the_pods_of_the_template() {
    let deployment = |labels: Value| {
        json!({"spec": {
            "selector": {"matchLabels": {"app": "a"}},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
        }})
    };
    check_builtin(
        "io.k8s.api.apps.v1.Deployment",
        &deployment(json!({"app": "a", "x": "y"})),
        &[],
    );
    check_builtin(
        "io.k8s.api.apps.v1.Deployment",
        &deployment(json!({"app": "b"})),
        &[
            "spec.template.metadata.labels: Invalid value: {\"app\":\"b\"}: `selector` does not match template `labels`",
        ],
    );
    let old = deployment(json!({"app": "a"}));
    let mut new = old.clone();
    new["spec"]["selector"]["matchLabels"]["app"] = "b".into();
    assert_eq!(
        texts(&builtin::update(
            "io.k8s.api.apps.v1.Deployment",
            &new,
            &old
        )),
        ["spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"b\"}}: field is immutable"]
    );
}

#[test]
fn services_need_ports_and_keep_their_address() {
    let service = "io.k8s.api.core.v1.Service";
    check_builtin(
        service,
        &json!({"spec": {}}),
        &["spec.ports: Required value"],
    );
    check_builtin(service, &json!({"spec": {"clusterIP": "None"}}), &[]);
    check_builtin(
        service,
        &json!({"spec": {"type": "ExternalName", "externalName": "a.b"}}),
        &[],
    );
    check_builtin(
        service,
        &json!({"spec": {"ports": [{"port": 80}, {"port": 70000, "name": "b"}], "type": "Odd"}}),
        &[
            "spec.type: Unsupported value: \"Odd\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\"",
            "spec.ports[0].name: Required value",
            "spec.ports[1].port: Invalid value: 70000: must be between 1 and 65535, inclusive",
            "spec.ports[1].targetPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
        ],
    );
    let old = json!({"spec": {"clusterIP": "10.0.0.1"}});
    let new = json!({"spec": {"clusterIP": "10.0.0.2"}});
    assert_eq!(
        texts(&builtin::update(service, &new, &old)),
        ["spec.clusterIP: Invalid value: \"10.0.0.2\": field is immutable"]
    );
}

#[test]
fn quantities_are_amounts() {
    for good in [
        "1", "0.5", ".5", "500m", "64Mi", "1e3", "1E-2", "+2k", "-1", "1E",
    ] {
        assert!(format::matches("quantity", good), "{good}");
    }
    let pod = |cpu: &str| {
        let container = json!({"name": "c", "image": "i", "resources": {"limits": {"cpu": cpu}, "requests": {"cpu": "1"}}});
        json!({"spec": {"containers": [container]}})
    };
    check_builtin("io.k8s.api.core.v1.Pod", &pod("100m"), &[]);
    for bad in ["", "much", "1.2.3", "5 Mi", "1Xi", "m"] {
        assert!(!format::matches("quantity", bad), "{bad}");
    }
    check_builtin(
        "io.k8s.api.core.v1.Pod",
        &pod("much"),
        &[
            "spec.containers[0].resources.limits.cpu: Invalid value: \"much\": quantities must match the regular \
           expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ],
    );
}

#[test]
fn running_pods_keep_their_spec() {
    let old = json!({"spec": {"containers": [{"name": "c", "image": "i"}]}});
    let mut new = old.clone();
    new["spec"]["containers"][0]["image"] = "j".into();
    new["spec"]["nodeName"] = "n".into();
    assert_eq!(builtin::update("io.k8s.api.core.v1.Pod", &new, &old), []);
    new["spec"]["containers"][0]["command"] = json!(["x"]);
    let errors = builtin::update("io.k8s.api.core.v1.Pod", &new, &old);
    assert!(
        errors[0]
            .to_string()
            .starts_with("spec: Forbidden: pod updates may not change fields other than")
    );
}

#[test]
fn metadata_is_checked_on_create_and_update() {
    let good =
        json!({"metadata": {"name": "a.b", "namespace": "n", "labels": {"k8s.io/x": "Y_1"}}});
    assert_eq!(meta::create(&good, meta::NameRule::Subdomain, true), []);
    let bad = json!({"metadata": {"name": "A", "labels": {"/x": "", "y": "-"}}});
    let errors = meta::create(&bad, meta::NameRule::Label, true);
    let fields: Vec<_> = errors.iter().map(|error| error.field.as_str()).collect();
    assert_eq!(
        fields,
        [
            "metadata.name",
            "metadata.namespace",
            "metadata.labels",
            "metadata.labels"
        ]
    );
    let old = json!({"metadata": {"name": "a", "uid": "1", "deletionTimestamp": "x", "finalizers": ["a/b"]}});
    let new = json!({"metadata": {"name": "a", "uid": "2", "deletionTimestamp": "x", "finalizers": ["a/b", "c/d"]}});
    assert_eq!(
        texts(&meta::update(&new, &old)),
        [
            "metadata.uid: Invalid value: \"2\": field is immutable",
            "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, \
             found new finalizers []string{\"c/d\"}",
        ]
    );
}

#[test]
fn formats_are_those_of_kubernetes() {
    for (format, good, bad) in [
        ("date-time", "2026-01-02T03:04:05Z", "2026-01-02"),
        ("ipv4", "10.0.0.1", "10.0.0.256"),
        ("cidr", "10.0.0.0/8", "10.0.0.0/33"),
        ("uri", "https://a.b/c", "no uri"),
        ("duration", "1h30m", "soon"),
        ("byte", "aGk=", "%"),
        ("uuid", "6ba7b810-9dad-11d1-80b4-00c04fd430c8", "6ba7b810"),
        ("hostname", "a.example", "-a"),
    ] {
        assert!(format::matches(format, good), "{format} {good}");
        assert!(!format::matches(format, bad), "{format} {bad}");
    }
    assert_eq!(format::go_duration("1.5s"), Some(1.5e9));
}
