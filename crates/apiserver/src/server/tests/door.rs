//! The TLS door: who gets in, what is said to those who do not, and what is bounded.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

pub(super) struct Door {
    pub(super) server: Server,
    pub(super) tasks: Tasks,
    dir: tempfile::TempDir,
}

pub(super) async fn open() -> Door {
    let dir = tempfile::tempdir().expect("temp dir");
    let tasks = Tasks::new();
    let mut settings = settings(dir.path(), vec![widget_crd()]);
    settings.listen = Some(([127, 0, 0, 1], 0).into());
    let server = start(settings, &tasks).await.expect("server");
    Door { server, tasks, dir }
}

impl Door {
    fn roots(&self) -> rustls::RootCertStore {
        let ca = std::fs::read(self.dir.path().join("pki/ca.crt")).expect("CA");
        let mut roots = rustls::RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(&ca).expect("PEM"))
            .expect("certificate");
        roots
    }

    pub(super) fn builder(
        &self,
    ) -> rustls::ConfigBuilder<rustls::ClientConfig, rustls::client::WantsClientCert> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(self.roots())
    }

    /// Sends one HTTP/1.1 request and returns everything that comes back.
    pub(super) async fn send(&self, config: rustls::ClientConfig, request: &str) -> String {
        let tcp = TcpStream::connect(self.server.address().expect("address"))
            .await
            .expect("connected");
        let name = ServerName::try_from("localhost").expect("name");
        let mut tls = tokio_rustls::TlsConnector::from(Arc::new(config))
            .connect(name, tcp)
            .await
            .expect("handshake");
        tls.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = Vec::new();
        // The server may end without a TLS goodbye; what it said is what counts.
        let _ = tls.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    pub(super) async fn get(&self, path: &str, headers: &str) -> String {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n");
        self.send(self.builder().with_no_client_auth(), &request)
            .await
    }
}

#[tokio::test]
async fn without_credentials_only_health_and_version_answer() {
    let door = open().await;
    for path in ["/healthz", "/livez", "/readyz", "/version"] {
        assert!(
            door.get(path, "").await.starts_with("HTTP/1.1 200"),
            "{path}"
        );
    }
    for path in ["/api/v1/namespaces", "/apis", "/openapi/v3", "/nothing"] {
        let answer = door.get(path, "").await;
        assert!(answer.starts_with("HTTP/1.1 401"), "{path}: {answer}");
        assert!(
            answer.contains("\"reason\":\"Unauthorized\"") && answer.contains("www-authenticate"),
            "{answer}"
        );
    }
    door.tasks.drain(Duration::from_secs(10)).await;
}

#[tokio::test]
async fn the_token_opens_the_door_and_a_wrong_one_does_not() {
    let door = open().await;
    let token = door.server.token().expect("token").to_owned();
    let index = door
        .get("/", &format!("Authorization: Bearer {token}\r\n"))
        .await;
    for path in ["\"/apis/apps/v1\"", "\"/api/v1\"", "\"/openapi/v3\""] {
        assert!(index.contains(path), "{path} in {index}");
    }
    let right = door
        .get(
            "/api/v1/namespaces/default",
            &format!("Authorization: Bearer {token}\r\n"),
        )
        .await;
    assert!(right.starts_with("HTTP/1.1 200"), "{right}");
    let wrong = door
        .get("/api/v1/namespaces/default", "Authorization: Bearer x\r\n")
        .await;
    assert!(wrong.starts_with("HTTP/1.1 401"), "{wrong}");
    door.tasks.drain(Duration::from_secs(10)).await;
}

#[tokio::test]
async fn a_certificate_of_another_group_is_known_but_may_do_nothing() {
    let door = open().await;
    let pki = door.dir.path().join("pki");
    let read = |file: &str| std::fs::read_to_string(pki.join(file)).expect("file");
    let key = rcgen::KeyPair::from_pem(&read("ca.key")).expect("key");
    let issuer = rcgen::Issuer::from_ca_cert_pem(&read("ca.crt"), key).expect("CA");
    let mut params = rcgen::CertificateParams::default();
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "jane");
    params
        .distinguished_name
        .push(rcgen::DnType::OrganizationName, "devs");
    let key = rcgen::KeyPair::generate().expect("key");
    let certificate = params.signed_by(&key, &issuer).expect("certificate");
    let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).expect("PEM");
    let config = door
        .builder()
        .with_client_auth_cert(vec![certificate.der().clone()], key)
        .expect("config");
    let request = "GET /api/v1/namespaces/default/pods HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let answer = door.send(config, request).await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    let expected = r#"pods is forbidden: User \"jane\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\""#;
    assert!(answer.contains(expected), "{answer}");
    door.tasks.drain(Duration::from_secs(10)).await;
}

#[tokio::test]
async fn a_body_above_three_mebibytes_is_refused() {
    let door = open().await;
    let token = door.server.token().expect("token").to_owned();
    let size = (3 << 20) + 1;
    let head = format!(
        "POST /api/v1/namespaces/default/configmaps HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Authorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: {size}\r\n\r\n"
    );
    let answer = door
        .send(
            door.builder().with_no_client_auth(),
            &(head + &" ".repeat(size)),
        )
        .await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    door.tasks.drain(Duration::from_secs(10)).await;
}

#[tokio::test]
async fn yaml_bodies_are_read_and_large_lists_are_zipped() {
    let door = open().await;
    let token = door.server.token().expect("token").to_owned();
    let yaml = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: big\ndata:\n  text: {}\n",
        "x".repeat(200_000)
    );
    let request = format!(
        "POST /api/v1/namespaces/default/configmaps HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Authorization: Bearer {token}\r\nContent-Type: application/yaml\r\nContent-Length: {}\r\n\r\n{yaml}",
        yaml.len()
    );
    let created = door
        .send(door.builder().with_no_client_auth(), &request)
        .await;
    assert!(created.starts_with("HTTP/1.1 201"), "{created}");
    let headers = format!("Authorization: Bearer {token}\r\nAccept-Encoding: gzip\r\n");
    let list = door
        .get("/api/v1/namespaces/default/configmaps", &headers)
        .await;
    assert!(
        list.contains("content-encoding: gzip") && list.len() < 20_000,
        "{} bytes",
        list.len()
    );
    door.tasks.drain(Duration::from_secs(10)).await;
}

#[cfg(unix)]
#[tokio::test]
async fn secrets_on_disk_are_readable_by_the_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let door = open().await;
    for file in ["kubeconfig", "store.redb", "pki/ca.key", "pki/token"] {
        let mode = std::fs::metadata(door.dir.path().join(file))
            .expect("file")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    door.tasks.drain(Duration::from_secs(10)).await;
}

#[tokio::test]
async fn the_ca_and_the_token_survive_a_restart() {
    let door = open().await;
    let (ca, token) = (door.roots(), door.server.token().map(ToOwned::to_owned));
    assert_eq!(
        door.tasks.drain(Duration::from_secs(10)).await,
        Outcome::Clean
    );
    let Door { dir, server, .. } = door;
    drop(server);
    let tasks = Tasks::new();
    let mut settings = settings(dir.path(), vec![]);
    settings.listen = Some(([127, 0, 0, 1], 0).into());
    let server = start(settings, &tasks).await.expect("second server");
    let door = Door { server, tasks, dir };
    assert_eq!(door.roots().roots, ca.roots);
    assert_eq!(door.server.token().map(ToOwned::to_owned), token);
    door.tasks.drain(Duration::from_secs(10)).await;
}

#[tokio::test]
async fn a_connector_answers_a_subresource() {
    let door = open().await;
    let handler: Connector = Arc::new(|request| {
        Box::pin(async move {
            let text = format!(
                "log of {} {:?}",
                request.name,
                request.parameter("container")
            );
            Ok(http::Response::new(crate::connect::Body::full(text)))
        })
    });
    door.server.connect("pods", "log", handler);
    let pods: Api<Pod> = Api::namespaced(door.server.client(), "default");
    let pod = json!({ "metadata": { "name": "p" }, "spec": { "containers": [{ "name": "c", "image": "i" }] } });
    pods.create(
        &PostParams::default(),
        &serde_json::from_value(pod).expect("pod"),
    )
    .await
    .expect("created");
    let params = kube::api::LogParams {
        container: Some("c".into()),
        ..Default::default()
    };
    assert_eq!(
        pods.logs("p", &params).await.expect("logs"),
        "log of p Some(\"c\")"
    );
    assert_eq!(
        status_of(pods.logs("q", &params).await).message,
        "pods \"q\" not found"
    );
    door.tasks.drain(Duration::from_secs(10)).await;
}
