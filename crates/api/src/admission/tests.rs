//! Admission through its one door: a manifest in, the stored object or Knative's message out.

use super::*;

/// Admits a create with these ConfigMaps; answers the object as it would be stored.
fn create_with(maps: &[(&str, &[(&str, &str)])], manifest: &str) -> Result<Value, String> {
    let mut object: Value = serde_saphyr::from_str(manifest).expect("YAML");
    admit_with(maps, Operation::Create, "alice", &mut object, None).map(|_| object)
}

fn create(manifest: &str) -> Result<Value, String> {
    create_with(&[], manifest)
}

fn update(old: &Value, user: &str, edit: impl FnOnce(&mut Value)) -> Result<Value, String> {
    let mut object = old.clone();
    edit(&mut object);
    admit_with(&[], Operation::Update, user, &mut object, Some(old)).map(|_| object)
}

fn admit_with(
    maps: &[(&str, &[(&str, &str)])],
    operation: Operation,
    user: &str,
    object: &mut Value,
    old: Option<&Value>,
) -> Result<Vec<String>, String> {
    let kind = json::text(object, "kind").to_owned();
    let version = json::text(object, "apiVersion").to_owned();
    let group = version.split_once('/').map_or("", |(group, _)| group);
    let namespace = json::text(&object["metadata"], "namespace").to_owned();
    let name = json::text(&object["metadata"], "name").to_owned();
    let config_map = |wanted: &str| {
        let found = maps.iter().find(|(name, _)| *name == wanted)?;
        Some(
            found
                .1
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
        )
    };
    let mut request = Request {
        operation,
        group,
        kind: &kind,
        subresource: "",
        namespace: &namespace,
        name: &name,
        user,
        object,
        old,
        has_preamble: false,
        config_map: &config_map,
    };
    admit(&mut request).map_err(|rejection| rejection.message)
}

fn service(template_spec: &str) -> String {
    format!(
        "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {{name: hello, namespace: default}}\n\
         spec: {{template: {{spec: {template_spec}}}}}\n"
    )
}

/// Checks the message for a Service with this pod.
fn refuses(template_spec: &str, want: &str) {
    assert_eq!(
        create(&service(template_spec)).expect_err(template_spec),
        format!("validation failed: {want}"),
        "{template_spec}"
    );
}

const HELLO: &str = "{containers: [{image: ko.local/hello}]}";

#[test]
fn a_plain_service_gets_knatives_defaults() {
    let object = create(&service(HELLO)).expect("admitted");
    let spec = &object["spec"]["template"]["spec"];
    assert_eq!(spec["timeoutSeconds"], 300);
    assert_eq!(spec["containerConcurrency"], 0);
    assert_eq!(spec["enableServiceLinks"], false);
    assert!(
        spec.get("responseStartTimeoutSeconds").is_none(),
        "300 is not below the timeout"
    );
    let container = &spec["containers"][0];
    assert_eq!(container["name"], "user-container");
    assert_eq!(
        container["readinessProbe"],
        json!({"successThreshold": 1, "tcpSocket": {"port": 0}})
    );
    assert_eq!(container["resources"], json!({}));
    assert_eq!(
        object["spec"]["traffic"],
        json!([{"latestRevision": true, "percent": 100}])
    );
    let annotations = &object["metadata"]["annotations"];
    assert_eq!(annotations[annotation::CREATOR], "alice");
    assert_eq!(annotations[annotation::LAST_MODIFIER], "alice");
}

#[test]
fn defaulting_twice_changes_nothing() {
    let once = create(&service(
        "{containers: [{image: a, resources: {limits: {cpu: 1}}}], volumes: []}",
    ))
    .expect("admitted");
    assert_eq!(
        once["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"],
        "1"
    );
    assert_eq!(update(&once, "bob", |_| ()).expect("admitted"), once);
}

#[test]
fn config_defaults_drive_the_defaults() {
    let map: &[(&str, &str)] = &[
        ("revision-timeout-seconds", "120"),
        ("revision-idle-timeout-seconds", "30"),
        ("revision-cpu-request", "100m"),
        ("container-name-template", "{{.Name}}-app"),
        ("container-concurrency", "7"),
    ];
    let object = create_with(&[("config-defaults", map)], &service(HELLO)).expect("admitted");
    let spec = &object["spec"]["template"]["spec"];
    assert_eq!(spec["timeoutSeconds"], 120);
    assert_eq!(spec["idleTimeoutSeconds"], 30);
    assert_eq!(spec["containerConcurrency"], 7);
    assert_eq!(spec["containers"][0]["name"], "hello-app");
    assert_eq!(
        spec["containers"][0]["resources"]["requests"]["cpu"],
        "100m"
    );
}

#[test]
fn unnamed_containers_are_numbered_and_only_the_serving_one_is_probed() {
    let object = create(&service(
        "{containers: [{image: a, ports: [{containerPort: 8080}]}, {image: b}]}",
    ))
    .expect("admitted");
    let containers = &object["spec"]["template"]["spec"]["containers"];
    assert_eq!(containers[0]["name"], "user-container-0");
    assert_eq!(containers[1]["name"], "user-container-1");
    assert!(containers[1].get("readinessProbe").is_none());
}

#[test]
fn missing_fields_are_named_by_their_path() {
    refuses(
        "{containers: [{name: a}]}",
        "missing field(s): spec.template.spec.containers[0].image",
    );
    refuses("{}", "missing field(s): spec.template.spec.containers");
    let bare = "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: hello, namespace: default}\n";
    assert_eq!(
        create(bare).expect_err("no spec"),
        "validation failed: missing field(s): spec.template.spec.containers"
    );
}

#[test]
fn fields_that_knative_does_not_allow_are_refused() {
    refuses(
        "{nodeName: one, terminationGracePeriodSeconds: 0, containers: [{image: a, stdin: true, lifecycle: {preStop: {exec: {command: [a]}}}}]}",
        "must not set the field(s): spec.template.spec.containers[0].lifecycle, spec.template.spec.containers[0].stdin, \
         spec.template.spec.nodeName, spec.template.spec.terminationGracePeriodSeconds",
    );
    refuses(
        "{automountServiceAccountToken: true, containers: [{image: a}]}",
        "must not set the field(s): spec.template.spec.automountServiceAccountToken",
    );
    refuses(
        "{nodeSelector: {a: b}, containers: [{image: a}]}",
        "must not set the field(s): spec.template.spec.nodeSelector\n\
         \"kubernetes.podspec-nodeselector\" of config-features is off",
    );
    refuses(
        "{containers: [{image: a, env: [{name: X, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]}]}",
        "must not set the field(s): spec.template.spec.containers[0].env[0].valueFrom.fieldRef\n\
         \"kubernetes.podspec-fieldref\" of config-features is off",
    );
}

#[test]
fn a_feature_opens_its_field() {
    let manifest =
        service("{nodeSelector: {a: b}, initContainers: [{image: b}], containers: [{image: a}]}");
    let features: &[(&str, &str)] = &[
        ("kubernetes.podspec-nodeselector", "Enabled"),
        ("kubernetes.podspec-init-containers", "allowed"),
    ];
    let object = create_with(&[("config-features", features)], &manifest).expect("admitted");
    assert_eq!(
        object["spec"]["template"]["spec"]["initContainers"][0]["name"],
        "init-container"
    );
}

#[test]
fn ports_are_at_most_one_and_not_reserved() {
    refuses(
        "{containers: [{image: a, ports: [{containerPort: 1}, {containerPort: 2}]}]}",
        "more than one container port is set: spec.template.spec.containers[*].ports\nOnly a single port is allowed across all containers",
    );
    refuses(
        "{containers: [{image: a, ports: [{containerPort: 1}]}, {image: b, ports: [{containerPort: 2}]}]}",
        "more than one container port is set: spec.template.spec.containers[*].ports\nOnly a single port is allowed across all containers",
    );
    refuses(
        "{containers: [{image: a}, {image: b}]}",
        "missing field(s): spec.template.spec.containers[*].ports",
    );
    refuses(
        "{containers: [{image: a, ports: [{containerPort: 8012}]}]}",
        "invalid value: 8012 is a reserved port: spec.template.spec.containers[0].ports.containerPort\n\
         8012 is a reserved port, please use a different value",
    );
    refuses(
        "{containers: [{image: a, ports: [{name: grpc, containerPort: 80}]}]}",
        "Port name grpc is not allowed: spec.template.spec.containers[0].ports\nName must be empty, or one of: 'h2c', 'http1'",
    );
}

#[test]
fn reserved_names_and_bad_images_are_refused() {
    refuses(
        "{containers: [{name: queue-proxy, image: a, env: [{name: PORT, value: '1'}]}]}",
        "\"PORT\" is a reserved environment variable: spec.template.spec.containers[0].env[0].name\n\
         \"queue-proxy\" is a reserved container name: spec.template.spec.containers[0].name",
    );
    let error = create(&service("{containers: [{image: 'My App'}]}")).expect_err("bad image");
    assert!(error.starts_with("validation failed: Failed to parse image reference: spec.template.spec.containers[0].image\nimage: \"My App\""), "{error}");
}

#[test]
fn probes_follow_knatives_rules() {
    refuses(
        "{containers: [{image: a, readinessProbe: {failureThreshold: 2, timeoutSeconds: 1}}]}",
        "failureThreshold is disallowed when periodSeconds is zero: spec.template.spec.containers[0].readinessProbe.failureThreshold\n\
         timeoutSeconds is disallowed when periodSeconds is zero: spec.template.spec.containers[0].readinessProbe.timeoutSeconds",
    );
    refuses(
        "{containers: [{image: a, livenessProbe: {httpGet: {path: /}, exec: {command: [a]}}}]}",
        "expected exactly one, got both: spec.template.spec.containers[0].livenessProbe.exec, spec.template.spec.containers[0].livenessProbe.httpGet",
    );
    refuses(
        "{containers: [{image: a, readinessProbe: {tcpSocket: {port: web}}}]}",
        "invalid value: web: spec.template.spec.containers[0].readinessProbe.tcpSocket.port\nProbe port must match container port",
    );
    let object = create(&service(
        "{containers: [{image: a, readinessProbe: {periodSeconds: 5, httpGet: {path: /healthz}}}]}",
    ))
    .expect("admitted");
    let probe = &object["spec"]["template"]["spec"]["containers"][0]["readinessProbe"];
    assert_eq!(probe["failureThreshold"], 3);
    assert_eq!(probe["timeoutSeconds"], 1);
    assert_eq!(probe["httpGet"]["port"], 0);
}

#[test]
fn volumes_must_be_mounted_and_of_an_allowed_kind() {
    let mount = "volumeMounts: [{name: v, mountPath: /v}]";
    let object = create(&service(&format!(
        "{{containers: [{{image: a, {mount}}}], volumes: [{{name: v, secret: {{secretName: s}}}}]}}"
    )));
    assert_eq!(
        object.expect("admitted")["spec"]["template"]["spec"]["containers"][0]["volumeMounts"][0]["readOnly"],
        true
    );
    refuses(
        &format!(
            "{{containers: [{{image: a, {mount}}}], volumes: [{{name: v, hostPath: {{path: /}}}}]}}"
        ),
        "must not set the field(s): spec.template.spec.volumes[0].hostPath\n\
         \"kubernetes.podspec-volumes-hostpath\" of config-features is off",
    );
    refuses(
        "{containers: [{image: a}], volumes: [{name: v, emptyDir: {}}]}",
        "volume with name \"v\" not mounted: spec.template.spec.volumes[0].name",
    );
    refuses(
        &format!("{{containers: [{{image: a, {mount}}}]}}"),
        "volumeMount has no matching volume: spec.template.spec.containers[0].volumeMounts[0].name",
    );
    refuses(
        &format!(
            "{{containers: [{{image: a, {mount}}}], volumes: [{{name: v, emptyDir: {{}}, secret: {{secretName: s}}}}]}}"
        ),
        "expected exactly one, got both: spec.template.spec.volumes[0].emptyDir, spec.template.spec.volumes[0].secret",
    );
}

#[test]
fn times_and_concurrency_have_bounds() {
    refuses(
        "{timeoutSeconds: 601, containers: [{image: a}]}",
        "expected 0 <= 601 <= 600: spec.template.spec.timeoutSeconds",
    );
    refuses(
        "{containerConcurrency: -1, containers: [{image: a}]}",
        "expected 0 <= -1 <= 1000: spec.template.spec.containerConcurrency",
    );
    refuses(
        "{timeoutSeconds: 10, responseStartTimeoutSeconds: 11, containers: [{image: a}]}",
        "expected 0 <= 11 <= 10: spec.template.spec.responseStartTimeoutSeconds",
    );
}

/// Checks the message for a Service with these template annotations.
fn refuses_annotation(key: &str, value: &str, want: &str) {
    let manifest = format!(
        "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {{name: hello, namespace: default}}\n\
         spec: {{template: {{metadata: {{annotations: {{{key}: '{value}'}}}}, spec: {HELLO}}}}}\n"
    );
    assert_eq!(
        create(&manifest).expect_err(key),
        format!("validation failed: {want}")
    );
}

#[test]
fn autoscaling_annotations_have_bounds() {
    let path = "spec.template.metadata.annotations.autoscaling.knative.dev";
    for (key, value, want) in [
        ("window", "5s", "expected 6s <= 5s <= 1h0m0s"),
        ("window", "soon", "invalid value: soon"),
        ("minScale", "-1", "expected 0 <= -1 <= 2147483647"),
        ("target", "0", "target 0 should be at least 0.01"),
        (
            "target-utilization-percentage",
            "0",
            "expected 1 <= 0 <= 100",
        ),
        (
            "panic-threshold-percentage",
            "100",
            "expected 110 <= 100 <= 1000",
        ),
        (
            "activation-scale",
            "1",
            "activation-scale=1 must be greater than 1",
        ),
        ("metric", "cpu", "invalid value: cpu"),
        (
            "class",
            "x.autoscaling.knative.dev",
            "invalid value: x.autoscaling.knative.dev",
        ),
        ("target-burst-capacity", "-2", "invalid value: -2"),
    ] {
        refuses_annotation(
            &format!("autoscaling.knative.dev/{key}"),
            value,
            &format!("{want}: {path}/{key}"),
        );
    }
    refuses_annotation(
        "autoscaling.knative.dev/initial-scale",
        "0",
        &format!("invalid value: 0: {path}/initial-scale=0 not allowed by cluster"),
    );
    refuses_annotation(
        "networking.knative.dev/nope",
        "1",
        "invalid key name \"networking.knative.dev/nope\": spec.template.metadata.annotations",
    );
}

#[test]
fn autoscaling_annotations_on_the_service_are_refused() {
    let manifest = service(HELLO).replace(
        "namespace: default",
        "namespace: default, annotations: {autoscaling.knative.dev/min-scale: '1'}",
    );
    assert_eq!(
        create(&manifest).expect_err("wrong level"),
        "validation failed: invalid key name \"autoscaling.knative.dev/min-scale\": metadata.annotations\n\
         autoscaling annotations must be put under \"spec.template.metadata.annotations\" to work"
    );
}

fn refuses_traffic(traffic: &str, want: &str) {
    let manifest = service(HELLO).replace(
        "spec: {template",
        &format!("spec: {{traffic: {traffic}, template"),
    );
    assert_eq!(
        create(&manifest).expect_err(traffic),
        format!("validation failed: {want}")
    );
}

#[test]
fn traffic_of_a_service_is_checked() {
    refuses_traffic(
        "[{percent: 90}]",
        "Traffic targets sum to 90, want 100: spec.traffic",
    );
    refuses_traffic(
        "[{percent: 100, revisionName: a, latestRevision: true}]",
        "may not set revisionName \"a\" when latestRevision is true: spec.traffic[0].latestRevision",
    );
    refuses_traffic(
        "[{percent: 100, configurationName: a}]",
        "must not set the field(s): spec.traffic[0].configurationName",
    );
    refuses_traffic(
        "[{percent: 50, tag: a}, {percent: 50, tag: a}]",
        "Multiple definitions for \"a\": spec.traffic[0].tag, spec.traffic[1].tag",
    );
    refuses_traffic(
        "[{percent: 101}, {percent: -1}]",
        "expected 0 <= -1 <= 100: spec.traffic[1].percent\nexpected 0 <= 101 <= 100: spec.traffic[0].percent",
    );
    refuses_traffic(
        "[{percent: 100, url: 'http://x'}]",
        "must not set the field(s): spec.traffic[0].url",
    );
}

#[test]
fn a_route_of_its_own_names_a_revision_or_a_configuration() {
    let route = |traffic: &str| {
        create(&format!(
            "apiVersion: serving.knative.dev/v1\nkind: Route\nmetadata: {{name: r, namespace: default}}\nspec: {{traffic: {traffic}}}\n"
        ))
    };
    assert_eq!(
        route("[{percent: 100}]").expect_err("neither"),
        "validation failed: expected exactly one, got neither: spec.traffic[0].configurationName, spec.traffic[0].revisionName"
    );
    assert_eq!(
        route("[{percent: 100, revisionName: a, configurationName: b}]").expect_err("both"),
        "validation failed: expected exactly one, got both: spec.traffic[0].configurationName, spec.traffic[0].revisionName"
    );
    assert_eq!(
        route("[{percent: 100, configurationName: b}]").expect("admitted")["spec"]["traffic"][0]["latestRevision"],
        true
    );
}

#[test]
fn a_name_given_to_a_revision_starts_with_its_services_name_and_stands_for_one_template() {
    let manifest = |name: &str| {
        service(HELLO).replace(
            "template: {",
            &format!("template: {{metadata: {{name: {name}}}, "),
        )
    };
    assert_eq!(
        create(&manifest("other-v1")).expect_err("prefix"),
        "validation failed: invalid value: \"other-v1\" must have prefix \"hello-\": spec.template.metadata.name"
    );
    let stored = create(&manifest("hello-v1")).expect("admitted");
    let error = update(&stored, "bob", |object| {
        object["spec"]["template"]["spec"]["containers"][0]["image"] = "b".into();
    });
    assert_eq!(
        error.expect_err("same name"),
        "validation failed: Saw the following changes without a name change (-old +new): spec.template.metadata.name\n\
         spec.containers[0].image:\n\t-: \"ko.local/hello\"\n\t+: \"b\""
    );
    assert!(update(&stored, "bob", |_| ()).is_ok());
}

#[test]
fn the_creator_is_immutable_and_the_last_modifier_follows_the_spec() {
    let stored = create(&service(HELLO)).expect("admitted");
    let same = update(&stored, "bob", |object| {
        object["metadata"]["labels"] = json!({"a": "b"})
    })
    .expect("admitted");
    assert_eq!(
        same["metadata"]["annotations"][annotation::LAST_MODIFIER],
        "alice"
    );
    let changed = update(&stored, "bob", |object| {
        object["spec"]["template"]["spec"]["timeoutSeconds"] = 9.into()
    })
    .expect("admitted");
    assert_eq!(
        changed["metadata"]["annotations"][annotation::LAST_MODIFIER],
        "bob"
    );
    assert_eq!(
        changed["metadata"]["annotations"][annotation::CREATOR],
        "alice"
    );
    let error = update(&stored, "bob", |object| {
        object["metadata"]["annotations"][annotation::CREATOR] = "bob".into()
    });
    assert_eq!(
        error.expect_err("immutable"),
        "validation failed: annotation value is immutable: metadata.annotations.serving.knative.dev/creator"
    );
    let replaced = update(&stored, "bob", |object| {
        object["metadata"]["annotations"] = Value::Null
    })
    .expect("admitted");
    assert_eq!(
        replaced["metadata"]["annotations"],
        stored["metadata"]["annotations"]
    );
}

#[test]
fn a_stored_revisions_spec_is_immutable_but_its_annotations_are_not() {
    let manifest = "apiVersion: serving.knative.dev/v1\nkind: Revision\nmetadata: {name: hello-00001, namespace: default}\n\
                    spec: {containers: [{image: a}]}\n";
    let stored = create(manifest).expect("admitted");
    let error = update(&stored, "bob", |object| {
        object["spec"]["containerConcurrency"] = 5.into()
    });
    assert_eq!(
        error.expect_err("immutable"),
        "validation failed: Immutable fields changed (-old +new): spec\ncontainerConcurrency:\n\t-: 0\n\t+: 5"
    );
    let annotated = update(&stored, "bob", |object| {
        object["metadata"]["annotations"] = json!({"autoscaling.knative.dev/min-scale": "2"});
    });
    assert!(annotated.is_ok());
}

#[test]
fn names_must_be_usable_as_names_of_kubernetes_services() {
    let error = create(&service(HELLO).replace("name: hello", "name: 1hello")).expect_err("name");
    assert!(
        error.starts_with(
            "validation failed: not a DNS 1035 label: [a DNS-1035 label must consist of"
        ),
        "{error}"
    );
    assert!(error.ends_with("metadata.name"), "{error}");
}

#[test]
fn a_field_of_the_wrong_type_is_named() {
    assert_eq!(
        create(&service("{containers: {image: a}}")).expect_err("type"),
        "mutation failed: cannot decode incoming new object: spec.template.spec.containers: must be of type array"
    );
}

#[test]
fn bad_config_maps_of_the_system_namespace_are_refused() {
    let map = |name: &str, namespace: &str, data: &str| {
        let mut object: Value = serde_saphyr::from_str(&format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: {namespace}}}\ndata: {data}\n"
        ))
        .expect("YAML");
        admit_with(&[], Operation::Create, "alice", &mut object, None)
    };
    let error = map(
        "config-autoscaler",
        "knative-serving",
        "{stable-window: 1s, max-scale: x}",
    )
    .expect_err("bad");
    assert_eq!(
        error,
        "validation failed: failed to parse data: failed to parse \"max-scale\": \
         strconv.ParseInt: parsing \"x\": invalid syntax; \
         stable-window = 1s, must be in [6s; 1h0m0s] range"
    );
    assert_eq!(
        map("config-autoscaler", "default", "{stable-window: 1s}"),
        Ok(Vec::new())
    );
    assert_eq!(
        map(
            "config-autoscaler",
            "knative-serving",
            "{stable-window: 30s}"
        ),
        Ok(Vec::new())
    );
    let warnings = map("config-network", "knative-serving", "{typo: x}").expect("admitted");
    assert_eq!(
        warnings,
        ["config-network: unknown key \"typo\" has no effect"]
    );
}

#[test]
fn what_is_set_of_kourier_is_judged_and_what_changes_nothing_is_told() {
    let map = |data: &str| {
        let mut object: Value = serde_saphyr::from_str(&format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: config-kourier, namespace: knative-serving}}\ndata: {data}\n"
        ))
        .expect("YAML");
        admit_with(&[], Operation::Create, "alice", &mut object, None)
    };
    let as_served =
        "{enable-proxy-protocol: 'false', stream-idle-timeout: 0s, trusted-hops-count: '0'}";
    assert_eq!(map(as_served), Ok(Vec::new()));
    let clients = "{trusted-hops-count: '2', use-remote-address: 'true'}";
    assert_eq!(map(clients), Ok(Vec::new()));
    for bad in [
        "{enable-proxy-protocol: maybe}",
        "{stream-idle-timeout: soon}",
        "{trusted-hops-count: '-1'}",
        "{trusted-hops-count: '1001'}",
        "{use-remote-address: perhaps}",
        "{listen-ip-addresses: nowhere}",
        "{certs-secret-name: cert}",
        "{extauthz-timeout: x}",
        "{extauthz-protocol: carrier-pigeon}",
        "{tracing-sampling-rate: '2'}",
        // Requests must not pass unasked.
        "{extauthz-host: 'auth.default:8080'}",
    ] {
        assert!(map(bad).is_err(), "{bad}");
    }
    for told in [
        "{enable-proxy-protocol: 'true'}",
        "{stream-idle-timeout: 5s}",
        "{cipher-suites: ECDHE-ECDSA-AES128-GCM-SHA256}",
        "{tracing-endpoint: 'http://otel:4318'}",
        "{enable-service-access-logging: 'true'}",
        "{service-access-log-template: '%PROTOCOL%'}",
        "{typo: x}",
    ] {
        let warnings = map(told).expect(told);
        assert_eq!(warnings.len(), 1, "{told}");
        assert!(warnings[0].contains("has no effect"), "{warnings:?}");
    }
}

fn ingress(spec: &str) -> Result<Value, String> {
    create(&format!(
        "apiVersion: networking.internal.knative.dev/v1alpha1\nkind: Ingress\nmetadata: {{name: i, namespace: default}}\nspec: {spec}\n"
    ))
}

#[test]
fn an_ingress_gets_defaults_and_is_checked() {
    let split = |more: &str| {
        format!("{{serviceName: s, serviceNamespace: default, servicePort: 80{more}}}")
    };
    let rules = |splits: &str| {
        format!("{{rules: [{{hosts: [a.b], http: {{paths: [{{splits: [{splits}]}}]}}}}]}}")
    };
    let object = ingress(&rules(&split(""))).expect("admitted");
    let rule = &object["spec"]["rules"][0];
    assert_eq!(rule["visibility"], "ExternalIP");
    assert_eq!(rule["http"]["paths"][0]["splits"][0]["percent"], 100);
    assert_eq!(object["spec"]["httpOption"], "Enabled");
    let two = format!("{}, {}", split(", percent: 40"), split(", percent: 40"));
    assert_eq!(
        ingress(&rules(&two)).expect_err("sum"),
        "validation failed: traffic split percentage must total to 100, but was 80: spec.rules[0].http.paths[0].splits"
    );
    assert_eq!(
        ingress("{}").expect_err("empty"),
        "validation failed: missing field(s): spec.rules"
    );
    let foreign = split("").replace("default", "other");
    assert_eq!(
        ingress(&rules(&foreign)).expect_err("namespace"),
        "validation failed: service namespace must match ingress namespace: spec.rules[0].http.paths[0].splits[0].serviceNamespace"
    );
}

#[test]
fn a_domain_mapping_names_a_domain_and_a_target_of_its_own_namespace() {
    let mapping = |name: &str, reference: &str| {
        create(&format!(
            "apiVersion: serving.knative.dev/v1beta1\nkind: DomainMapping\n\
             metadata: {{name: {name}, namespace: default}}\nspec: {{ref: {reference}}}\n"
        ))
    };
    let target = "{kind: Service, name: hello, apiVersion: serving.knative.dev/v1}";
    let stored = mapping("www.example.com", target).expect("valid");
    assert_eq!(stored["spec"]["ref"]["namespace"], "default");
    let creator = &stored["metadata"]["annotations"]["serving.knative.dev/creator"];
    assert_eq!(creator, "alice");
    for (name, reference, text) in [
        ("example", target, "at least two segments"),
        ("a.svc.cluster.local", target, "cluster local domain"),
        (
            "www.example.com",
            "{kind: Service, name: hello}",
            "spec.ref.apiVersion",
        ),
        ("www.example.com", "{}", "missing field(s): spec.ref"),
        (
            "www.example.com",
            "{kind: Service, name: hello, apiVersion: v1, namespace: other}",
            "mismatched namespaces: spec.ref.namespace",
        ),
    ] {
        let refused = mapping(name, reference).expect_err(text);
        assert!(refused.contains(text), "{refused}");
    }
}

#[test]
fn kinds_that_nobody_acts_on_are_told_about() {
    let warnings = |version: &str, kind: &str| {
        let mut object = serde_json::json!({
            "apiVersion": version, "kind": kind, "metadata": {"name": "x", "namespace": "default"},
        });
        admit_with(&[], Operation::Create, "alice", &mut object, None).expect("admitted")
    };
    let told = warnings("gateway.networking.x-k8s.io/v1alpha1", "XTomorrow");
    assert!(told[0].starts_with("XTomorrow is stored, but"), "{told:?}");
    for kind in ["HTTPRoute", "TLSRoute", "TCPRoute", "UDPRoute"] {
        assert!(warnings("gateway.networking.k8s.io/v1", kind).is_empty());
    }
    assert!(warnings("example.com/v1", "XTomorrow").is_empty());
}

#[test]
fn mappings_in_an_annotation_are_told_about() {
    let mut service = serde_json::json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "name": "quote", "namespace": "default",
            "annotations": {"getambassador.io/config": "kind: Mapping"},
        },
    });
    let told = |object: &mut Value| {
        admit_with(&[], Operation::Create, "alice", object, None).expect("admitted")
    };
    let warnings = told(&mut service);
    assert!(warnings[0].contains("write each document"), "{warnings:?}");
    service["metadata"]["annotations"] = serde_json::json!({"other.dev/config": "x"});
    assert!(told(&mut service).is_empty());
}

#[test]
fn networking_annotations_have_values_that_somebody_understands() {
    let annotated = |key: &str, value: &str| {
        let mut object = service_object();
        object["metadata"]["annotations"] = json!({key: value});
        admit_with(&[], Operation::Create, "alice", &mut object, None).map(drop)
    };
    for (name, fine, wrong) in [
        ("http-protocol", "redirected", "https"),
        ("httpOption", "Enabled", "off"),
        ("disable-external-domain-tls", "T", "yes"),
        ("disableAutoTLS", "false", "no"),
    ] {
        let key = format!("networking.knative.dev/{name}");
        assert_eq!(annotated(&key, fine), Ok(()));
        assert_eq!(annotated(&key, ""), Ok(()), "as if it were not there");
        let refused = annotated(&key, wrong).expect_err(name);
        assert!(refused.contains(&key), "{refused}");
    }
}

#[test]
fn features_of_the_sidecar_are_told_about() {
    let told = |key: &str, value: &str| {
        let mut object = service_object();
        object["spec"]["template"]["metadata"] = json!({"annotations": {key: value}});
        admit_with(&[], Operation::Create, "alice", &mut object, None).expect("admitted")
    };
    let duplex = "features.knative.dev/http-full-duplex";
    assert!(told(duplex, "Enabled").is_empty(), "it is always on");
    assert_eq!(told(duplex, "Disabled").len(), 1);
    assert_eq!(
        told("features.knative.dev/queueproxy-podinfo", "a=b").len(),
        1
    );
}

fn service_object() -> Value {
    serde_saphyr::from_str(&service(HELLO)).expect("YAML")
}
