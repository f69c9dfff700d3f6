//! Certificates for clients: requested, approved, and used.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::door::open;
use super::*;

fn request(name: &str, group: &str, key: &rcgen::KeyPair) -> Value {
    let mut params = rcgen::CertificateParams::default();
    let mut subject = rcgen::DistinguishedName::new();
    subject.push(rcgen::DnType::CommonName, name);
    subject.push(rcgen::DnType::OrganizationName, group);
    params.distinguished_name = subject;
    let pem = params
        .serialize_request(key)
        .and_then(|request| request.pem())
        .expect("request");
    json!({
        "metadata": { "name": name },
        "spec": {
            "request": STANDARD.encode(pem),
            "signerName": "kubernetes.io/kube-apiserver-client",
            "usages": ["client auth"],
            "expirationSeconds": 3600,
            "username": "somebody-else",
        },
    })
}

/// Writes to `approval`.
async fn decide(
    requests: &Api<CertificateSigningRequest>,
    made: &CertificateSigningRequest,
) -> CertificateSigningRequest {
    requests
        .replace_subresource("approval", &made.name_any(), &PostParams::default(), made)
        .await
        .expect("decided")
}

#[tokio::test]
async fn an_approved_request_is_a_certificate_that_opens_the_door() {
    let door = open().await;
    let requests: Api<CertificateSigningRequest> = Api::all(door.server.client());
    let key = rcgen::KeyPair::generate().expect("key");
    let create = async |value: Value| {
        let request = serde_json::from_value(value).expect("request");
        requests.create(&PostParams::default(), &request).await
    };
    let masters = status_of(create(request("eve", "system:masters", &key)).await);
    assert_eq!(masters.code, 422, "{}", masters.message);
    let mut made = create(request("jane", "devs", &key)).await.expect("stored");
    // Who asks is what the server saw, not what was sent.
    assert_eq!(made.spec.username.as_deref(), Some("system:suimon"));
    assert!(
        made.status
            .clone()
            .unwrap_or_default()
            .certificate
            .is_none()
    );
    let condition =
        json!({ "type": "Approved", "status": "True", "reason": "Test", "message": "yes" });
    let status = json!({ "conditions": [condition] });
    made.status = serde_json::from_value(status).expect("status");
    let approved = decide(&requests, &made).await;
    let pem = approved.status.and_then(|status| status.certificate);
    let pem = pem.expect("certificate").0;
    let chain = vec![CertificateDer::from_pem_slice(&pem).expect("PEM")];
    let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).expect("PEM");
    let config = door
        .builder()
        .with_client_auth_cert(chain, key)
        .expect("config");
    let body = "{}";
    let question = format!(
        "POST /apis/authentication.k8s.io/v1/selfsubjectreviews HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = door.send(config, &question).await;
    assert!(
        answer.contains(r#""username":"jane""#) && answer.contains(r#""devs""#),
        "{answer}"
    );
    door.tasks.drain(Duration::from_secs(10)).await;
}

#[tokio::test]
async fn a_denied_request_and_one_for_another_signer_get_no_certificate() {
    let door = open().await;
    let requests: Api<CertificateSigningRequest> = Api::all(door.server.client());
    let key = rcgen::KeyPair::generate().expect("key");
    let mut foreign = request("bob", "devs", &key);
    foreign["spec"]["signerName"] = json!("example.dev/signer");
    for (value, kind) in [
        (request("jane", "devs", &key), "Denied"),
        (foreign, "Approved"),
    ] {
        let request: CertificateSigningRequest = serde_json::from_value(value).expect("request");
        let mut made = requests
            .create(&PostParams::default(), &request)
            .await
            .expect("stored");
        let condition = json!({ "type": kind, "status": "True", "reason": "Test" });
        made.status = serde_json::from_value(json!({ "conditions": [condition] })).expect("status");
        let decided = decide(&requests, &made).await;
        let status = decided.status.expect("status");
        assert!(status.certificate.is_none());
        assert_eq!(status.conditions.expect("conditions")[0].type_, kind);
    }
    let mut wrong = request("eve", "devs", &key);
    wrong["spec"]["request"] = json!(STANDARD.encode("not a request"));
    let wrong = serde_json::from_value(wrong).expect("request");
    let refused = status_of(requests.create(&PostParams::default(), &wrong).await);
    assert!(
        refused.message.contains("spec.request"),
        "{}",
        refused.message
    );
    door.tasks.drain(Duration::from_secs(10)).await;
}
