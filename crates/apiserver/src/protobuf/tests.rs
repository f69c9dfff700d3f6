//! Protobuf bodies, as clients send them.

use proptest::prelude::*;

use super::*;

/// A length-delimited field.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u8::try_from(bytes.len()).expect("short");
    assert!(number < 16 && length < 128);
    [&[number << 3 | 2, length], bytes].concat()
}

fn body(kind: &str, object: &[u8]) -> Vec<u8> {
    let meta = [field(1, b"v1"), field(2, kind.as_bytes())].concat();
    [MAGIC, &field(1, &meta), &field(2, object)].concat()
}

const CONFIG_MAP: &str = "io.k8s.api.core.v1.ConfigMap";

#[test]
fn a_body_becomes_the_json_that_go_would_write() {
    // Zero values that Go writes for fields that are no pointers: name, creationTimestamp.
    let metadata = [field(1, b"cm"), field(2, b""), field(8, b"")].concat();
    let data = [field(1, b"a"), field(2, b"b")].concat();
    let object = [field(1, &metadata), field(2, &data)].concat();
    let expected = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "cm" }, "data": { "a": "b" } });
    assert_eq!(parse(CONFIG_MAP, &body("ConfigMap", &object)), Ok(expected));
}

#[test]
fn a_zero_behind_a_pointer_is_kept_and_another_is_not() {
    // DeploymentSpec: replicas (1, pointer) = 0, minReadySeconds (5) = 0.
    let spec = [0x08, 0, 0x28, 0];
    let parsed = parse(
        "io.k8s.api.apps.v1.Deployment",
        &body("Deployment", &field(2, &spec)),
    )
    .expect("valid");
    assert_eq!(parsed["spec"], json!({ "replicas": 0 }));
}

#[test]
fn ports_quantities_and_inlined_sources_have_their_json_form() {
    // ServicePort: port (3) = 80, targetPort (4) = IntOrString { type 1, strVal "http" }.
    let target = [&[0x08, 1][..], &field(3, b"http")].concat();
    let port = [&[0x18, 80][..], &field(4, &target)].concat();
    let parsed = parse(
        "io.k8s.api.core.v1.Service",
        &body("Service", &field(2, &field(1, &port))),
    )
    .expect("valid");
    assert_eq!(
        parsed["spec"]["ports"][0],
        json!({ "port": 80, "targetPort": "http" })
    );
    // Volume: name (1), VolumeSource inline (2) with emptyDir (2) empty.
    let volume = [field(1, b"v"), field(2, &field(2, b""))].concat();
    let parsed = parse(
        "io.k8s.api.core.v1.Pod",
        &body("Pod", &field(2, &field(1, &volume))),
    )
    .expect("valid");
    assert_eq!(
        parsed["spec"]["volumes"][0],
        json!({ "name": "v", "emptyDir": {} })
    );
}

#[test]
fn damaged_bodies_are_refused() {
    assert_eq!(parse(CONFIG_MAP, b"{}"), Err(Error::Magic));
    assert_eq!(parse(CONFIG_MAP, b"k8s\0\x12\xff"), Err(Error::Malformed));
    assert!(matches!(
        parse("io.example.Thing", &body("Thing", b"")),
        Err(Error::Unknown(_))
    ));
}

proptest! {
    #[test]
    fn no_body_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse("io.k8s.api.core.v1.Pod", &body("Pod", &bytes[..bytes.len().min(120)]));
        let _ = parse("io.k8s.api.core.v1.Pod", &[MAGIC, &bytes].concat());
    }
}

#[test]
fn a_schema_of_a_crd_may_be_a_flag_or_a_schema() {
    const SCHEMA: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";
    // additionalProperties is field 30: its key takes two bytes.
    let additional = |union: &[u8]| {
        let length = u8::try_from(union.len()).expect("short");
        [&[0xf2, 0x01, length], union].concat()
    };
    let parse = |object: &[u8]| parse(SCHEMA, &body("", object)).expect("valid");
    let text = field(5, b"string");
    let flag = additional(&[0x08, 1]);
    assert_eq!(parse(&flag)["additionalProperties"], json!(true));
    let schema = additional(&[&[0x08, 1], &field(2, &text)[..]].concat());
    assert_eq!(
        parse(&schema)["additionalProperties"],
        json!({ "type": "string" })
    );
    // default (8) is a message around JSON text.
    let default = field(8, &field(1, b"{\"a\":1}"));
    assert_eq!(parse(&default)["default"], json!({ "a": 1 }));
}
