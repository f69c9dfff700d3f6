//! Golden cases, order independence, and the hash that probers compute.

use super::*;
use crate::{CertificateState, GatewayAddress};
use crate::{backend, testing};
use api::names::INGRESS_CLASS;
use proptest::prelude::*;
use routing::model::tls::{Certificate, PrivateKey, TlsAction};
use routing::model::{Backend, Visibility};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// Every object of a case, in the order of its documents.
#[derive(Default)]
struct Input {
    ingresses: Vec<networking::Ingress>,
    objects: Objects,
}

fn read<T: serde::de::DeserializeOwned>(value: &Value) -> Arc<T> {
    Arc::new(serde_json::from_value(value.clone()).expect("an object of this kind"))
}

fn load(documents: &[Value]) -> Input {
    let gateway = GatewayAddress {
        host: "suimon-gateway-internal.knative-serving.svc.cluster.local".into(),
        addresses: vec![([127, 0, 0, 1], 8081).into()],
    };
    let mut input = Input {
        objects: Objects::new(vec![gateway]),
        ..Input::default()
    };
    for document in documents {
        let text = |pointer: &str| {
            document
                .pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let name = Name::new(&text("/metadata/namespace"), &text("/metadata/name"));
        match text("/kind").as_str() {
            "Ingress" => {
                let ingress = Arc::unwrap_or_clone(read::<networking::Ingress>(document));
                if is_ours(&ingress, INGRESS_CLASS) {
                    input.objects.claim(&claimant(&ingress), &hosts(&ingress));
                }
                input.ingresses.push(ingress);
            }
            "Service" => drop(input.objects.put_service(&name, Some(read(document)))),
            "EndpointSlice" => drop(input.objects.put_slice(&name, Some(read(document)))),
            "Revision" => drop(input.objects.put_revision(&name, Some(read(document)))),
            "ConfigMap" => testing::model::put_config(&mut input.objects, &name, document),
            "Secret" => drop(
                input
                    .objects
                    .put_certificate(&name, Some(certificate(&name, document))),
            ),
            other => panic!("unexpected kind {other:?}"),
        }
    }
    input
}

/// What a Secret holds; `read` stands for what reading its certificate says.
fn certificate(name: &Name, secret: &Value) -> CertificateState {
    if let Some(why) = secret["read"].as_str() {
        return Err(why.into());
    }
    Ok(Arc::new(Certificate {
        name: name.to_string().into(),
        chain: vec![Box::default()],
        key: PrivateKey::new(Box::default()),
        staple: None,
    }))
}

#[derive(Debug, Default, PartialEq, Serialize)]
struct Records {
    routes: BTreeMap<RouteId, Arc<Route>>,
    tls: BTreeMap<TlsId, Arc<TlsHost>>,
    backends: Vec<Arc<Backend>>,
}

#[derive(Debug, Default, PartialEq)]
struct Output {
    records: Records,
    statuses: BTreeMap<String, Value>,
}

fn translate_all(documents: &[Value]) -> Output {
    let input = load(documents);
    let mut output = Output::default();
    let mut references = BTreeSet::new();
    for ingress in input
        .ingresses
        .iter()
        .filter(|ingress| is_ours(ingress, INGRESS_CLASS))
    {
        let translation = translate(ingress, &input.objects);
        let generation = ingress.metadata.generation.unwrap_or_default();
        let outcome = Outcome {
            generation,
            live: translation.is_complete(false).then_some(generation),
            diagnostics: translation.diagnostics.clone(),
        };
        let names = LoadBalancers {
            public: "public.example".into(),
            private: "private.example".into(),
        };
        let now = serde_json::from_value("2026-01-01T00:00:00Z".into()).expect("a time");
        let status = status(None, &outcome, &names, now);
        let name = Name::of(&ingress.metadata).to_string();
        output
            .statuses
            .insert(name, serde_json::to_value(status).expect("a status"));
        output.records.routes.extend(translation.routes);
        output.records.tls.extend(translation.tls);
        references.extend(translation.backends);
    }
    let backends = references
        .iter()
        .filter_map(|it| backend::translate(it, &input.objects).backend);
    output.records.backends = backends.collect();
    output
}

fn documents(yaml: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(yaml).expect("documents")
}

#[test]
fn each_golden_case_translates_as_recorded() {
    let count = std::cell::Cell::new(0);
    testkit::golden::each("golden/knative", |case| {
        count.set(count.get() + 1);
        let output = translate_all(&documents(&case.read("input.yaml")));
        case.check("records.yaml", &output.records);
        case.check("status.yaml", &output.statuses);
    });
    assert!(count.get() >= 40, "{} cases", count.get());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn the_order_of_the_input_does_not_matter(seed in any::<u64>()) {
        testkit::golden::each("golden/knative", |case| {
            let documents = documents(&case.read("input.yaml"));
            let mut shuffled = documents.clone();
            let mut state = seed | 1;
            for at in (1..shuffled.len()).rev() {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                shuffled.swap(at, (state >> 33) as usize % (at + 1));
            }
            assert_eq!(translate_all(&documents), translate_all(&shuffled), "{}", case.name());
        });
    }
}

fn ingress(yaml: &str) -> networking::Ingress {
    serde_json::from_value(documents(yaml).remove(0)).expect("an Ingress")
}

#[test]
fn the_hash_is_the_one_that_knative_computes() {
    // Computed with Go's encoding/json and crypto/sha256 over Knative's own struct layout.
    let ingress = ingress(
        r#"
metadata: {name: hello, namespace: default}
spec:
  httpOption: Enabled
  tls: [{hosts: [a.example.com], secretName: s, secretNamespace: default}]
  rules:
    - hosts: [a.example.com]
      http:
        paths:
          - path: /a&b
            headers: {Tag: {exact: "<x>"}}
            rewriteHost: other.example.com
            appendHeaders: {Z: "1", A: "2"}
            splits: [{serviceNamespace: default, serviceName: hello, servicePort: 80}]
          - splits:
              - {serviceNamespace: default, serviceName: one, servicePort: http, percent: 100}
              - {serviceNamespace: default, serviceName: two, servicePort: 81, appendHeaders: {K: v}}
"#,
    );
    assert_eq!(
        hash::hash(&ingress),
        "02bc75e4e5a33cff9702a89064f225dc36659356c034ab5cc80fbdd62c6b84a1"
    );
}

#[test]
fn the_class_must_match_exactly() {
    let check = |annotations: &str, expected: bool| {
        let ingress = ingress(&format!(
            "metadata: {{annotations: {annotations}}}\nspec: {{}}"
        ));
        assert_eq!(is_ours(&ingress, INGRESS_CLASS), expected, "{annotations}");
    };
    check(
        &format!("{{networking.knative.dev/ingress.class: {INGRESS_CLASS}}}"),
        true,
    );
    check("{networking.knative.dev/ingress.class: \"\"}", false);
    check("{networking.knative.dev/ingress.class: fake}", false);
    check("{}", false);
}

#[test]
fn a_status_that_says_the_same_is_the_same() {
    let names = LoadBalancers {
        public: "a".into(),
        private: "b".into(),
    };
    let at = |text: &str| -> k8s_openapi::apimachinery::pkg::apis::meta::v1::Time {
        serde_json::from_value(text.into()).expect("a time")
    };
    let outcome = Outcome {
        generation: 2,
        live: Some(2),
        diagnostics: Vec::new(),
    };
    let first = status(None, &outcome, &names, at("2026-01-01T00:00:00Z"));
    assert_eq!(
        status(Some(&first), &outcome, &names, at("2026-01-01T00:00:09Z")),
        first
    );
    assert!(
        first
            .conditions
            .iter()
            .all(|condition| condition.status == "True")
    );
}

#[test]
fn an_incomplete_generation_says_which_one_stays_live() {
    let names = LoadBalancers {
        public: "a".into(),
        private: "b".into(),
    };
    let now = serde_json::from_value("2026-01-01T00:00:00Z".into()).expect("a time");
    let waiting = Diagnostic::new(
        Effect::Waiting,
        "ServiceMissing",
        "spec",
        "Service x does not exist",
    );
    let outcome = Outcome {
        generation: 3,
        live: Some(2),
        diagnostics: vec![waiting],
    };
    let status = status(None, &outcome, &names, now);
    let ready = api::condition::find(&status.conditions, api::condition::READY).expect("written");
    assert_eq!(
        (ready.status.as_str(), ready.reason.as_deref()),
        ("Unknown", Some("ServiceMissing"))
    );
    assert_eq!(
        ready.message.as_deref(),
        Some("spec: Service x does not exist; generation 2 stays live until then")
    );
    assert_eq!(status.observed_generation, Some(3));
}

#[test]
fn with_an_authority_hosts_that_no_certificate_is_named_for_get_one_of_the_gateways() {
    let ingress = ingress(
        r#"
metadata: {name: hello, namespace: default}
spec:
  tls: [{hosts: [a.example.com], secretName: absent, secretNamespace: default}]
  rules:
    - {hosts: [a.example.com, b.example.com], visibility: ExternalIP, http: {paths: []}}
    - {hosts: [hello.default.svc.cluster.local], visibility: ClusterLocal, http: {paths: []}}
"#,
    );
    let tls = |objects| translate(&ingress, &objects).tls;
    assert!(tls(Objects::default()).is_empty());
    let own = tls(Objects::default().with_authority());
    let [(_, host)] = &own[..] else {
        panic!("{own:?}");
    };
    assert_eq!(host.names, [HostPattern::Exact("b.example.com".into())]);
    assert!(matches!(
        &host.action,
        TlsAction::Terminate(termination) if termination.certificates.is_empty()
    ));
}

#[test]
fn a_certificate_of_hosts_of_the_cluster_is_shown_inside_the_cluster_only() {
    let ingress = ingress(
        r#"
metadata: {name: hello, namespace: default}
spec:
  tls:
    - {hosts: [a.example.com], secretName: s, secretNamespace: default}
    - {hosts: [hello.default, hello.default.svc, hello.default.svc.cluster.local], secretName: s, secretNamespace: default}
  rules:
    - {hosts: [a.example.com], visibility: ExternalIP, http: {paths: []}}
    - {hosts: [hello.default, hello.default.svc, hello.default.svc.cluster.local], visibility: ClusterLocal, http: {paths: []}}
"#,
    );
    let secret = Name::new("default", "s");
    let mut objects = Objects::default();
    objects.put_certificate(&secret, Some(certificate(&secret, &Value::Null)));
    let tls = translate(&ingress, &objects).tls;
    let seen: Vec<_> = tls
        .iter()
        .map(|(_, host)| (host.visibility, host.names.len()))
        .collect();
    assert_eq!(
        seen,
        [(Visibility::External, 1), (Visibility::ClusterLocal, 3)]
    );
}
