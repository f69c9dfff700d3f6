//! Plans of DomainMappings: claims, KIngresses and conditions.

use api::networking::v1alpha1::ClusterDomainClaim;
use api::serving::v1beta1::DomainMapping;
use serde_json::{Value, json};

use super::plan::{Observed, Plan, plan};
use crate::fixture::{at, config, object, told, written};
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

#[test]
fn a_claimed_domain_goes_to_the_target_under_the_targets_own_host() {
    let mapping = mapping(to_hello());
    let plan = decide(&mapping, &claimed());
    let ingress = written(&plan.ingress);
    assert_eq!(ingress.metadata.name.as_deref(), Some("www.example.com"));
    let rule = &ingress.spec.rules[0];
    assert_eq!(
        (rule.hosts.as_slice(), rule.visibility.as_deref()),
        (
            ["www.example.com".to_owned()].as_slice(),
            Some("ExternalIP")
        )
    );
    let path = &rule.http.as_ref().expect("paths").paths[0];
    let host = Some("hello.default.svc.cluster.local");
    assert_eq!(path.rewrite_host.as_deref(), host);
    assert_eq!(path.splits[0].service_name, "hello");
    let original = &path.splits[0].append_headers["K-Original-Host"];
    assert_eq!(original, "www.example.com");
    assert_eq!(plan.status.url.as_deref(), Some("http://www.example.com"));
    assert_eq!(condition(&plan, "Ready").1, "IngressNotConfigured");
    assert_eq!(
        condition(&plan, "CertificateProvisioned").1,
        "TLSNotEnabled"
    );
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
        certificate: Some(std::sync::Arc::new(made)),
        ..claimed()
    };
    let plan = decide_with(&mapping, &ready, &config);
    assert_eq!(condition(&plan, "CertificateProvisioned").0, "True");
    assert_eq!(plan.status.url.as_deref(), Some("https://www.example.com"));
    let tls = &written(&plan.ingress).spec.tls[0];
    assert_eq!(tls.secret_name.as_deref(), Some("www.example.com"));
}
