//! Plans of DomainMappings: claims, KIngresses and conditions.

use std::sync::Arc;

use api::names::annotation;
use api::networking::v1alpha1::{ClusterDomainClaim, Ingress};
use api::serving::v1::Route;
use api::serving::v1beta1::DomainMapping;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::direct::Source;
use super::plan::{Observed, Plan, plan};
use crate::fixture::{self, at, config, object, told, written};
use crate::settings::Config;

const LOCAL: &str = "http://hello.default.svc.cluster.local";

fn mapping(spec: Value) -> DomainMapping {
    object(json!({
        "apiVersion": "serving.knative.dev/v1beta1", "kind": "DomainMapping",
        "metadata": {
            "name": "www.example.com", "namespace": "default", "uid": "dm-1", "generation": 1,
        },
        "spec": spec,
    }))
}

fn to_hello() -> Value {
    json!({"ref": {"kind": "Service", "name": "hello", "apiVersion": "serving.knative.dev/v1"}})
}

fn claim(namespace: &str) -> Option<ClusterDomainClaim> {
    Some(object(json!({
        "apiVersion": "networking.internal.knative.dev/v1alpha1", "kind": "ClusterDomainClaim",
        "metadata": {"name": "www.example.com"}, "spec": {"namespace": namespace},
    })))
}

fn claimed() -> Observed {
    Observed {
        claim: claim("default"),
        address: Some(Ok(LOCAL.to_owned())),
        certificate: None,
        ingress: None,
        source: Some(hello_route()),
    }
}

fn autocreating() -> Config {
    let mut config = config();
    config.network.autocreate_cluster_domain_claims = true;
    config
}

fn decide_with(mapping: &DomainMapping, observed: &Observed, config: &Config) -> Plan {
    plan(
        mapping,
        observed,
        config,
        crate::certificate::Ports::default(),
        &at(60),
    )
}

fn decide(mapping: &DomainMapping, observed: &Observed) -> Plan {
    decide_with(mapping, observed, &config())
}

fn condition<'a>(plan: &'a Plan, type_: &str) -> (&'a str, &'a str, &'a str) {
    told(&plan.status.conditions, type_)
}

/// Service `hello` with its Route, whose KIngress sends 40 % to one revision and 60 % to another.
fn hello_route() -> Source {
    let split = |revision: &str, percent: i32| {
        json!({
            "serviceNamespace": "default", "serviceName": revision, "servicePort": 80,
            "percent": percent, "appendHeaders": {"Knative-Serving-Revision": revision},
        })
    };
    let http = json!({"paths": [{"splits": [split("hello-00001", 40), split("hello-00002", 60)]}]});
    Source {
        service: Some(Arc::new(fixture::service())),
        name: "default/hello".to_owned(),
        route: Some(Arc::new(fixture::route(json!([])))),
        ingress: Some(Arc::new(object(json!({
            "apiVersion": "networking.internal.knative.dev/v1alpha1", "kind": "Ingress",
            "metadata": {
                "name": "hello", "namespace": "default",
                "ownerReferences": [fixture::owner("Route", "hello", "route-1")],
            },
            "spec": {"rules": [
                {"hosts": ["hello.default.example.com"], "visibility": "ExternalIP",
                 "http": {"paths": []}},
                {"hosts": ["hello.default", "hello.default.svc.cluster.local"],
                 "visibility": "ClusterLocal", "http": http},
            ]},
        })))),
    }
}

#[test]
fn a_claimed_domain_does_what_the_targets_route_does_under_its_own_host() {
    let mapping = mapping(to_hello());
    let plan = decide(&mapping, &claimed());
    let ingress = written(&plan.ingress);
    assert_eq!(ingress.metadata.name.as_deref(), Some("www.example.com"));
    let [rule] = ingress.spec.rules.as_slice() else {
        panic!("one rule: {:?}", ingress.spec.rules);
    };
    assert_eq!(rule.hosts, ["www.example.com"]);
    assert_eq!(rule.visibility.as_deref(), Some("ExternalIP"));
    let path = &rule.http.as_ref().expect("paths").paths[0];
    assert_eq!(path.rewrite_host, None, "programs see the domain");
    let splits = path.splits.iter();
    let splits: Vec<_> = splits
        .map(|split| (split.service_name.as_str(), split.percent))
        .collect();
    assert_eq!(
        splits,
        [("hello-00001", Some(40)), ("hello-00002", Some(60))]
    );
    for split in &path.splits {
        assert_eq!(split.append_headers["K-Original-Host"], "www.example.com");
        let revision = &split.append_headers["Knative-Serving-Revision"];
        assert_eq!(*revision, split.service_name);
    }
    let target = ingress.annotations().get(annotation::TARGET_HOST);
    assert_eq!(
        target.map(String::as_str),
        Some("hello.default.svc.cluster.local")
    );
    assert_eq!(plan.status.url.as_deref(), Some("http://www.example.com"));
    assert_eq!(condition(&plan, "Ready").1, "IngressNotConfigured");
    assert_eq!(
        condition(&plan, "CertificateProvisioned").1,
        "TLSNotEnabled"
    );
}

#[test]
fn a_kubernetes_service_gets_requests_under_its_own_host() {
    let mapping = mapping(json!({"ref": {"kind": "Service", "name": "hello", "apiVersion": "v1"}}));
    let observed = Observed {
        source: None,
        ..claimed()
    };
    let ingress = written(&decide(&mapping, &observed).ingress);
    let path = &ingress.spec.rules[0].http.as_ref().expect("paths").paths[0];
    let host = Some("hello.default.svc.cluster.local");
    assert_eq!(path.rewrite_host.as_deref(), host);
    let split = &path.splits[0];
    assert_eq!(
        (split.service_name.as_str(), split.percent),
        ("hello", Some(100))
    );
    assert_eq!(split.append_headers["K-Original-Host"], "www.example.com");
    assert!(!ingress.annotations().contains_key(annotation::TARGET_HOST));
}

#[test]
fn a_target_without_a_route_of_its_own_is_waited_for_or_told() {
    let source = hello_route;
    let of_other = |mut ingress: Ingress| {
        ingress.metadata.owner_references = None;
        Some(Arc::new(ingress))
    };
    let ingress = source().ingress.as_deref().cloned().expect("an Ingress");
    let mut hidden = ingress.clone();
    hidden.spec.rules.pop();
    let cases = [
        (
            Source {
                route: None,
                ..source()
            },
            (
                "Unknown",
                "IngressNotConfigured",
                "Waiting for target Route default/hello to be created.",
            ),
        ),
        (
            Source {
                ingress: None,
                ..source()
            },
            (
                "Unknown",
                "IngressNotConfigured",
                "Waiting for target Route default/hello to configure Ingress default/hello.",
            ),
        ),
        (
            Source {
                ingress: Some(Arc::new(hidden)),
                ..source()
            },
            (
                "Unknown",
                "IngressNotConfigured",
                "Ingress default/hello has no cluster-local rule for host \"hello.default.svc.cluster.local\".",
            ),
        ),
        (
            Source {
                ingress: of_other(ingress),
                ..source()
            },
            (
                "False",
                "NotOwned",
                "Route default/hello does not own Ingress default/hello.",
            ),
        ),
        (
            Source {
                route: Some(Arc::new(Route::default())),
                ..source()
            },
            (
                "False",
                "NotOwned",
                "Service default/hello does not own Route default/hello.",
            ),
        ),
    ];
    for (source, wanted) in cases {
        let observed = Observed {
            source: Some(source),
            ..claimed()
        };
        let plan = decide(&mapping(to_hello()), &observed);
        assert_eq!(condition(&plan, "IngressReady"), wanted);
        assert_eq!(condition(&plan, "ReferenceResolved").0, "True");
        assert!(plan.ingress.is_none(), "what is served stays");
    }
}

#[test]
fn a_mapping_is_ready_when_the_gateway_serves_its_newest_ingress() {
    let mapping = mapping(to_hello());
    let mut observed = claimed();
    let mut ingress = written(&decide(&mapping, &observed).ingress)
        .as_ref()
        .clone();
    ingress.metadata.generation = Some(2);
    let mut served = |seen: i64| {
        ingress.status = Some(object(json!({
            "observedGeneration": seen, "conditions": [{"type": "Ready", "status": "True"}],
        })));
        observed.ingress = Some(ingress.clone());
        decide(&mapping, &observed)
    };
    assert_eq!(condition(&served(1), "Ready").0, "Unknown");
    let plan = served(2);
    assert_eq!(condition(&plan, "Ready").0, "True");
    assert!(plan.ingress.is_none());
}

#[test]
fn without_a_claim_nothing_is_written() {
    let mapping = mapping(to_hello());
    for claim in [None, claim("other")] {
        let observed = Observed { claim, ..claimed() };
        let plan = decide(&mapping, &observed);
        assert_eq!(condition(&plan, "Ready").1, "DomainAlreadyClaimed");
        assert!(plan.ingress.is_none() && plan.claim.is_none());
    }
}

#[test]
fn a_claim_is_made_where_the_configuration_says_so_and_never_taken_from_others() {
    let mapping = mapping(to_hello());
    let free = Observed {
        claim: None,
        ..claimed()
    };
    let plan = decide_with(&mapping, &free, &autocreating());
    assert!(plan.hold);
    assert_eq!(plan.claim.expect("a claim").spec.namespace, "default");
    assert!(plan.ingress.is_none(), "the claim comes first");
    let taken = Observed {
        claim: claim("other"),
        ..claimed()
    };
    let plan = decide_with(&mapping, &taken, &autocreating());
    assert_eq!(condition(&plan, "DomainClaimed").1, "DomainAlreadyClaimed");
}

#[test]
fn a_target_that_cannot_be_served_is_told() {
    let mapping = mapping(to_hello());
    let cases = [
        (Some(Err("gone".to_owned())), "gone"),
        (
            Some(Ok("http://a.b.svc.cluster.local".to_owned())),
            "same namespace",
        ),
        (
            Some(Ok("http://example.org".to_owned())),
            "must be of the form",
        ),
        (Some(Ok(format!("{LOCAL}/path"))), "contains a path"),
        (None, "has no address here"),
    ];
    for (address, text) in cases {
        let observed = Observed {
            address,
            ..claimed()
        };
        let plan = decide(&mapping, &observed);
        let (status, reason, message) = condition(&plan, "ReferenceResolved");
        assert_eq!((status, reason), ("False", "ResolveFailed"), "{text}");
        assert!(message.contains(text), "{message}");
        assert!(plan.ingress.is_none());
    }
}

#[test]
fn a_certificate_of_the_user_is_handed_to_the_gateway() {
    let mut spec = to_hello();
    spec["tls"] = json!({"secretName": "cert"});
    let plan = decide(&mapping(spec), &claimed());
    let tls = &written(&plan.ingress).spec.tls[0];
    assert_eq!(tls.secret_name.as_deref(), Some("cert"));
    assert_eq!(plan.status.url.as_deref(), Some("https://www.example.com"));
    let (_, reason, _) = condition(&plan, "CertificateProvisioned");
    assert_eq!(reason, "CertificateExternallyProvided");
}

#[test]
fn with_external_domain_tls_a_mapping_asks_for_a_certificate_once_the_domain_is_its_own() {
    let mapping = mapping(to_hello());
    let mut config = config();
    config.network.external_domain_tls = true;
    let taken = Observed {
        claim: claim("other"),
        ..claimed()
    };
    let plan = decide_with(&mapping, &taken, &config);
    assert!(plan.certificates.is_empty(), "it is another's domain");

    let plan = decide_with(&mapping, &claimed(), &config);
    assert_eq!(
        condition(&plan, "CertificateProvisioned").1,
        "HTTPDowngrade"
    );
    assert_eq!(plan.status.url.as_deref(), Some("http://www.example.com"));
    let mut made = plan.certificates[0].object().clone();
    assert_eq!(made.spec.dns_names, ["www.example.com"]);
    made.status = Some(object(json!({
        "conditions": [{"type": "Ready", "status": "True"}],
    })));
    let ready = Observed {
        certificate: Some(Arc::new(made)),
        ..claimed()
    };
    let plan = decide_with(&mapping, &ready, &config);
    assert_eq!(condition(&plan, "CertificateProvisioned").0, "True");
    assert_eq!(plan.status.url.as_deref(), Some("https://www.example.com"));
    let tls = &written(&plan.ingress).spec.tls[0];
    assert_eq!(tls.secret_name.as_deref(), Some("www.example.com"));
}
