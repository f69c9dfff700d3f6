//! Certificates of a Route: asked for, waited for, and what URLs and the KIngress say meanwhile.

use api::networking::v1alpha1::Certificate;

use super::*;

fn secure(more: &[(&str, &str)]) -> Config {
    configured(("external-domain-tls", "Enabled"), more)
}

/// With certificates inside the cluster.
fn inside(more: &[(&str, &str)]) -> Config {
    configured(("cluster-local-domain-tls", "Enabled"), more)
}

fn configured(first: (&str, &str), more: &[(&str, &str)]) -> Config {
    let mut config = config();
    let data = std::iter::once(&first).chain(more);
    let data = data.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    config.network = Network::parse(&data.collect()).expect("valid");
    config
}

fn ready(observed: &mut Observed, certificate: &Certificate) {
    let mut certificate = certificate.clone();
    certificate.metadata.generation = Some(1);
    certificate.status = Some(object(json!({
        "observedGeneration": 1, "conditions": [{"type": "Ready", "status": "True"}],
    })));
    let name = certificate.name_any();
    observed.certificates.insert(name, Arc::new(certificate));
}

fn seen() -> Observed {
    observed(
        Some(following("hello-00001", "True")),
        vec![revision(1, "True")],
    )
}

#[test]
fn plain_http_serves_until_the_certificate_is_ready_and_then_the_url_is_https() {
    let (mut observed, config) = (seen(), secure(&[]));
    let plan = decide_with(&latest(), &observed, &config);
    let made = plan.certificates[0].object().clone();
    assert_eq!(made.spec.dns_names, ["hello.default.example.com"]);
    assert_eq!(made.spec.domain.as_deref(), Some("example.com"));
    let name = made.name_any();
    assert_eq!(
        (name.as_str(), made.spec.secret_name.as_str()),
        ("route-route-1", "route-route-1")
    );
    let class = &made.annotations()["networking.knative.dev/certificate.class"];
    assert_eq!(class, api::names::CERTIFICATE_CLASS);
    let message = "Certificate route-route-1 is not ready downgrade HTTP.";
    assert_eq!(
        condition(&plan, "CertificateProvisioned"),
        ("True", "HTTPDowngrade", message)
    );
    let url = plan.status.url.as_deref();
    assert_eq!(url, Some("http://hello.default.example.com:8080"));
    assert!(written(&plan.ingress).spec.tls.is_empty());

    ready(&mut observed, &made);
    let plan = decide_with(&latest(), &observed, &config);
    assert!(plan.certificates.is_empty());
    assert_eq!(condition(&plan, "CertificateProvisioned"), ("True", "", ""));
    let url = plan.status.url.as_deref();
    assert_eq!(url, Some("https://hello.default.example.com:8443"));
    let tls = &written(&plan.ingress).spec.tls[0];
    assert_eq!(tls.hosts, ["hello.default.example.com"]);
    assert_eq!(tls.secret_name.as_deref(), Some("route-route-1"));
    assert_eq!(tls.secret_namespace.as_deref(), Some("default"));
}

#[test]
fn where_http_is_redirected_the_route_waits_for_its_certificate() {
    let config = secure(&[("http-protocol", "Redirected")]);
    let plan = decide_with(&latest(), &seen(), &config);
    let message = "Certificate route-route-1 is not ready.";
    assert_eq!(
        condition(&plan, "CertificateProvisioned"),
        ("Unknown", "CertificateNotReady", message)
    );
    let url = plan.status.url.as_deref();
    assert_eq!(url, Some("https://hello.default.example.com:8443"));
    let ingress = written(&plan.ingress);
    assert_eq!(ingress.spec.http_option.as_deref(), Some("Redirected"));

    let mut observed = seen();
    let mut told = |status: &str, reason: &str| {
        let mut made = plan.certificates[0].object().clone();
        made.metadata.generation = Some(1);
        made.status = Some(object(json!({
            "observedGeneration": 1,
            "conditions": [{"type": "Ready", "status": status, "reason": reason}],
        })));
        let name = made.name_any();
        observed.certificates.insert(name, Arc::new(made));
        decide_with(&latest(), &observed, &config)
    };
    let waits = told("Unknown", "OrderPending");
    let message = "Certificate route-route-1 is not ready: OrderPending";
    assert_eq!(
        condition(&waits, "CertificateProvisioned"),
        ("Unknown", "CertificateNotReady", message)
    );
    let failed = told("False", "RateLimited");
    let message = "Certificate route-route-1 fails to be provisioned: RateLimited";
    assert_eq!(
        condition(&failed, "CertificateProvisioned"),
        ("False", "CertificateProvisionFailed", message)
    );
}

#[test]
fn every_tag_has_a_certificate_and_that_of_a_tag_that_went_is_deleted() {
    let (mut observed, config) = (seen(), secure(&[]));
    let tagged = route(json!([
        {"configurationName": "hello", "latestRevision": true, "percent": 100, "tag": "next"},
    ]));
    let plan = decide_with(&tagged, &observed, &config);
    let names: Vec<_> = plan
        .certificates
        .iter()
        .map(|it| it.object().name_any())
        .collect();
    let of_tag = format!("route-route-1-{}", crate::certificate::adler32("next"));
    assert_eq!(names, ["route-route-1", &of_tag]);
    for certificate in &plan.certificates {
        ready(&mut observed, certificate.object());
    }
    let url = |plan: &Plan| plan.status.traffic[0].url.clone();
    let plan = decide_with(&tagged, &observed, &config);
    let https = "https://next-hello.default.example.com:8443".to_owned();
    assert_eq!(url(&plan), Some(https));
    assert!(plan.stale_certificates.is_empty());
    let plan = decide_with(&latest(), &observed, &config);
    assert_eq!(plan.stale_certificates, [of_tag]);
}

#[test]
fn a_route_can_do_without_and_never_takes_over_anothers_certificate() {
    let (mut observed, config) = (seen(), secure(&[]));
    let mut without = latest();
    let key = "networking.knative.dev/disable-external-domain-tls".to_owned();
    without.annotations_mut().insert(key, "true".to_owned());
    let plan = decide_with(&without, &observed, &config);
    assert_eq!(
        condition(&plan, "CertificateProvisioned").1,
        "TLSNotEnabled"
    );
    assert!(plan.certificates.is_empty());

    let made = decide_with(&latest(), &observed, &config);
    let mut foreign = made.certificates[0].object().clone();
    foreign.metadata.owner_references = None;
    ready(&mut observed, &foreign);
    let plan = decide_with(&latest(), &observed, &config);
    assert_eq!(
        condition(&plan, "CertificateProvisioned").1,
        "CertificateNotOwned"
    );
    assert!(plan.certificates.is_empty());
    assert!(written(&plan.ingress).spec.tls.is_empty());
}

#[test]
fn a_route_without_a_public_host_asks_for_no_certificate_and_says_so() {
    let mut local = latest();
    let (key, value) = ("networking.knative.dev/visibility", "cluster-local");
    local.labels_mut().insert(key.to_owned(), value.to_owned());
    let plan = decide_with(&local, &seen(), &secure(&[]));
    assert!(plan.certificates.is_empty());
    let message = "TLS is not enabled for cluster-local";
    assert_eq!(
        condition(&plan, "CertificateProvisioned"),
        ("True", "TLSNotEnabled", message)
    );
}

#[test]
fn hosts_of_the_cluster_have_certificates_of_their_own() {
    let (mut observed, config) = (seen(), inside(&[]));
    let plan = decide_with(&latest(), &observed, &config);
    let [made] = &plan.certificates[..] else {
        panic!("{:?}", plan.certificates);
    };
    let made = made.object().clone();
    let hosts = [
        "hello.default",
        "hello.default.svc",
        "hello.default.svc.cluster.local",
    ];
    assert_eq!(made.spec.dns_names, hosts);
    assert_eq!(made.spec.domain.as_deref(), Some("svc.cluster.local"));
    assert_eq!(made.name_any(), "route-route-1-local");
    let kind = &made.labels()["networking.knative.dev/certificate-type"];
    assert_eq!(kind, "cluster-local-domain");
    // Nobody is served what the status does not say: the address changes with the certificate.
    assert_eq!(
        condition(&plan, "CertificateProvisioned"),
        (
            "Unknown",
            "CertificateNotReady",
            "Certificate route-route-1-local is not ready."
        )
    );
    assert_eq!(address(&plan), "http://hello.default.svc.cluster.local");
    assert!(written(&plan.ingress).spec.tls.is_empty());

    ready(&mut observed, &made);
    let plan = decide_with(&latest(), &observed, &config);
    assert_eq!(condition(&plan, "CertificateProvisioned"), ("True", "", ""));
    assert_eq!(address(&plan), "https://hello.default.svc.cluster.local");
    let url = plan.status.url.as_deref();
    assert_eq!(url, Some("http://hello.default.example.com:8080"));
    let tls = &written(&plan.ingress).spec.tls[0];
    assert_eq!(tls.hosts, hosts);
    assert_eq!(tls.secret_name.as_deref(), Some("route-route-1-local"));
}

#[test]
fn a_route_for_the_cluster_only_has_its_certificate_in_its_url() {
    let (mut observed, config) = (seen(), inside(&[("external-domain-tls", "Enabled")]));
    let mut local = latest();
    let label = "networking.knative.dev/visibility".to_owned();
    local.labels_mut().insert(label, "cluster-local".to_owned());
    let plan = decide_with(&local, &observed, &config);
    assert_eq!(plan.certificates.len(), 1, "{:?}", plan.certificates);
    ready(&mut observed, &plan.certificates[0].object().clone());
    let plan = decide_with(&local, &observed, &config);
    assert_eq!(condition(&plan, "CertificateProvisioned"), ("True", "", ""));
    let url = plan.status.url.as_deref();
    assert_eq!(url, Some("https://hello.default.svc.cluster.local"));
}

#[test]
fn a_failed_certificate_of_the_cluster_is_never_done_without() {
    let (mut observed, config) = (seen(), inside(&[]));
    let plan = decide_with(&latest(), &observed, &config);
    let mut made = plan.certificates[0].object().clone();
    made.metadata.generation = Some(1);
    made.status = Some(object(json!({
        "observedGeneration": 1,
        "conditions": [{"type": "Ready", "status": "False", "reason": "SecretNotOwned"}],
    })));
    observed
        .certificates
        .insert(made.name_any(), Arc::new(made));
    let plan = decide_with(&latest(), &observed, &config);
    let message = "Certificate route-route-1-local fails to be provisioned: SecretNotOwned";
    assert_eq!(
        condition(&plan, "CertificateProvisioned"),
        ("False", "CertificateProvisionFailed", message)
    );
}

#[test]
fn a_public_authority_is_not_asked_for_hosts_of_the_cluster() {
    let acme = api::names::ACME_CERTIFICATE_CLASSES[0];
    let config = inside(&[
        ("external-domain-tls", "Enabled"),
        ("certificate-class", acme),
    ]);
    let plan = decide_with(&latest(), &seen(), &config);
    let classes: Vec<_> = plan
        .certificates
        .iter()
        .map(|it| it.object().annotations()["networking.knative.dev/certificate.class"].as_str())
        .collect();
    assert_eq!(classes, [acme, api::names::CERTIFICATE_CLASS]);
}

#[test]
fn the_certificate_of_a_tag_goes_with_it_and_all_stay_when_the_setting_is_turned_off() {
    let (mut observed, config) = (seen(), inside(&[]));
    let tagged = route(json!([
        {"configurationName": "hello", "latestRevision": true, "percent": 100, "tag": "next"},
    ]));
    for certificate in decide_with(&tagged, &observed, &config).certificates {
        ready(&mut observed, certificate.object());
    }
    let plan = decide_with(&latest(), &observed, &config);
    let of_tag = crate::certificate::adler32("next");
    assert_eq!(
        plan.stale_certificates,
        [format!("route-route-1-{of_tag}-local")]
    );
    let plan = decide_with(&latest(), &observed, &crate::fixture::config());
    assert!(plan.stale_certificates.is_empty());
    assert_eq!(address(&plan), "http://hello.default.svc.cluster.local");
}

fn address(plan: &Plan) -> &str {
    let address = plan.status.address.as_ref();
    let url = address.and_then(|address| address.url.as_deref());
    url.unwrap_or_default()
}
