//! Malformed requests to the API: bodies of every content type, broken in every way that a seeded
//! generator thinks of, at paths and with options that are as odd.
//!
//! Whatever comes, the server answers: never with a bare 5xx, never by a panic, and without its
//! memory growing. `E2E_FUZZ_SECONDS` says how long (3 by default), `E2E_FUZZ_SEED` from where.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use http::{Method, Request};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};

use crate::Server;

/// Requests at the same time.
const LANES: usize = 16;
/// Resident memory that is enough for this, in MiB.
const MEMORY: u64 = 400;

#[tokio::test(flavor = "multi_thread")]
async fn the_api_answers_whatever_it_is_sent() -> anyhow::Result<()> {
    let number = |name: &str, default: u64| {
        let text = std::env::var(name).ok();
        text.and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let time = Duration::from_secs(number("E2E_FUZZ_SECONDS", 3));
    let mut random = Random(number("E2E_FUZZ_SEED", 0x5eed));
    let server = Server::start_with_processes().await?;
    let kubeconfig = Kubeconfig::read_from(server.kubeconfig())?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    let client = Client::try_from(config)?;
    let start = Instant::now();
    let mut running = FuturesUnordered::new();
    let (mut sent, mut classes) = (0u64, [0u64; 6]);
    while start.elapsed() < time || !running.is_empty() {
        while running.len() < LANES && start.elapsed() < time {
            sent += 1;
            running.push(send(&client, random.request()));
        }
        let answered = running.next().await.transpose();
        let Some(status) = answered.with_context(|| server.said())? else {
            continue;
        };
        classes[usize::from(status / 100).min(5)] += 1;
    }
    let said = server.said();
    ensure!(!said.contains("panicked"), "{said}");
    let status = tokio::fs::read_to_string(format!("/proc/{}/status", server.pid())).await?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let resident = resident.and_then(|text| text.trim().strip_suffix(" kB"));
    let resident: u64 = resident.context("VmRSS")?.trim().parse()?;
    println!(
        "{sent} requests: {classes:?} by class; {} MiB resident",
        resident / 1024
    );
    ensure!(resident / 1024 < MEMORY, "{} MiB resident", resident / 1024);
    let version = server.suimon(&["get", "namespaces"]).await?;
    ensure!(version.status.success(), "it still answers: {version:?}");
    Ok(())
}

/// The status; an error if it is a 5xx that says nothing.
async fn send(client: &Client, request: Request<Vec<u8>>) -> anyhow::Result<u16> {
    let what = format!("{} {}", request.method(), request.uri());
    let headers = format!("{:?}", request.headers());
    let sent =
        String::from_utf8_lossy(&request.body()[..request.body().len().min(600)]).into_owned();
    let request = request.map(kube::client::Body::from);
    // A watch ends by its own timeout, which the requests set; the rest at once.
    let answer = tokio::time::timeout(Duration::from_secs(60), client.send(request)).await;
    let answer = answer.with_context(|| format!("no answer to {what}"))?;
    let answer = answer.with_context(|| format!("{what} {headers} {sent}"))?;
    let status = answer.status().as_u16();
    if status >= 500 {
        let body = answer.into_body().collect_bytes().await.unwrap_or_default();
        let told: Value = serde_json::from_slice(&body).unwrap_or_default();
        let reason = told["reason"].as_str().unwrap_or_default();
        ensure!(
            status != 500 && !reason.is_empty(),
            "{what} {headers} {sent}\nanswered {status}: {}",
            String::from_utf8_lossy(&body)
        );
    }
    Ok(status)
}

/// A small generator (xorshift64*): the same seed sends the same requests.
struct Random(u64);

const PATHS: &[&str] = &[
    "/api/v1/namespaces/default/pods",
    "/api/v1/namespaces/default/pods/NAME",
    "/api/v1/namespaces/default/pods/NAME/status",
    "/api/v1/namespaces/default/pods/NAME/eviction",
    "/api/v1/namespaces/default/pods/NAME/ephemeralcontainers",
    "/api/v1/namespaces/default/persistentvolumeclaims",
    "/api/v1/namespaces/default/persistentvolumeclaims/NAME",
    "/api/v1/persistentvolumes/NAME",
    "/apis/storage.k8s.io/v1/storageclasses",
    "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas",
    "/api/v1/componentstatuses/NAME",
    "/api/v1/nodes/suimon/proxy/NAME",
    "/api/v1/nodes/suimon/proxy/logs/pods/NAME",
    "/api/v1/nodes/suimon/proxy/containerLogs/default/NAME/c",
    "/metrics",
    "/readyz/NAME",
    "/api/v1/namespaces/default/configmaps",
    "/api/v1/namespaces/default/configmaps/NAME",
    "/api/v1/namespaces/default/serviceaccounts/default/token",
    "/api/v1/namespaces/NAME",
    "/apis/apps/v1/namespaces/default/deployments",
    "/apis/apps/v1/namespaces/default/deployments/NAME",
    "/apis/apps/v1/namespaces/default/deployments/NAME/scale",
    "/apis/serving.knative.dev/v1/namespaces/default/services",
    "/apis/serving.knative.dev/v1/namespaces/default/services/NAME",
    "/apis/gateway.networking.k8s.io/v1/namespaces/default/httproutes/NAME",
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/NAME",
    "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies",
    "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
    "/apis/authentication.k8s.io/v1/tokenreviews",
    "/apis/certificates.k8s.io/v1/certificatesigningrequests",
    "/openapi/v3/apis/apps/v1",
    "/apis",
    "/api/v1/namespaces/default/services/NAME:1/proxy/x",
];

/// Part of a path, and what its objects are.
const KINDS: &[(&str, &str, &str)] = &[
    ("eviction", "policy/v1", "Eviction"),
    ("/scale", "autoscaling/v1", "Scale"),
    ("/token", "authentication.k8s.io/v1", "TokenRequest"),
    ("tokenreviews", "authentication.k8s.io/v1", "TokenReview"),
    ("/proxy/", "v1", "Pod"),
    ("persistentvolumeclaims", "v1", "PersistentVolumeClaim"),
    ("persistentvolumes", "v1", "PersistentVolume"),
    ("storageclasses", "storage.k8s.io/v1", "StorageClass"),
    (
        "flowschemas",
        "flowcontrol.apiserver.k8s.io/v1",
        "FlowSchema",
    ),
    ("pods", "v1", "Pod"),
    ("configmaps", "v1", "ConfigMap"),
    ("deployments", "apps/v1", "Deployment"),
    ("serving.knative.dev", "serving.knative.dev/v1", "Service"),
    ("httproutes", "gateway.networking.k8s.io/v1", "HTTPRoute"),
    (
        "customresourcedefinitions",
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
    ),
    (
        "validatingadmissionpolicies",
        "admissionregistration.k8s.io/v1",
        "ValidatingAdmissionPolicy",
    ),
    (
        "selfsubjectaccessreviews",
        "authorization.k8s.io/v1",
        "SelfSubjectAccessReview",
    ),
    (
        "certificatesigningrequests",
        "certificates.k8s.io/v1",
        "CertificateSigningRequest",
    ),
    ("/namespaces/NAME", "v1", "Namespace"),
    ("nothing", "a/b/c", ""),
];

const QUERIES: &[&str] = &[
    "limit=1",
    "limit=-1",
    "limit=x",
    "continue=e30",
    "continue=%00",
    "resourceVersion=0",
    "resourceVersion=99999999999999999999",
    "resourceVersionMatch=Exact",
    "watch=1&timeoutSeconds=1",
    "labelSelector=a%20in%20(b",
    "labelSelector=%ff",
    "fieldSelector=metadata.name%3Dx",
    "fieldSelector=%3D%3D",
    "fieldManager=f&force=true",
    "fieldManager=f",
    "dryRun=All",
    "dryRun=x",
    "fieldValidation=Strict",
    "fieldValidation=x",
    "propagationPolicy=Foreground",
    "pretty=1",
    "gracePeriodSeconds=-5",
    "sendInitialEvents=true&watch=1&timeoutSeconds=1",
    "a=%zz",
];

const TYPES: &[&str] = &[
    "application/json",
    "application/yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
    "application/vnd.kubernetes.protobuf",
    "application/apply-patch+cbor",
    "text/plain",
    "",
];

const ACCEPTS: &[&str] = &[
    "application/json",
    "application/json;as=Table;v=v1;g=meta.k8s.io",
    "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
    "application/vnd.kubernetes.protobuf,application/json",
    "application/com.github.proto-openapi.spec.v3@v1.0+protobuf",
    "*/*;q=9",
    "x",
];

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        // Both fit: lengths of things in memory.
        (self.next() % end.max(1) as u64) as usize
    }

    fn of<'t>(&mut self, texts: &[&'t str]) -> &'t str {
        texts[self.below(texts.len())]
    }

    fn request(&mut self) -> Request<Vec<u8>> {
        let names = [
            "a",
            "b",
            "fuzz-1",
            "UPPER",
            "a..b",
            "%2e%2e",
            "x%00y",
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        ];
        let path = self.of(PATHS);
        let kind = KINDS.iter().find(|(part, ..)| path.contains(part));
        let mut uri = path.replace("NAME", self.of(&names));
        for at in 0..self.below(5).saturating_sub(2) {
            uri.push(if at == 0 { '?' } else { '&' });
            uri.push_str(self.of(QUERIES));
        }
        let method = match self.below(12) {
            0 | 1 => Method::GET,
            2 => Method::DELETE,
            3 | 4 => Method::PUT,
            5..=8 => Method::PATCH,
            _ => Method::POST,
        };
        let media = match (self.below(3), &method) {
            (0, _) => self.of(TYPES),
            (_, &Method::PATCH) => self.of(&TYPES[2..6]),
            _ => TYPES[0],
        };
        let builder = Request::builder()
            .method(method)
            .uri(uri)
            .header("accept", self.of(ACCEPTS))
            .header("content-type", media);
        let body = self.body(kind);
        builder.body(body).unwrap_or_default()
    }

    fn body(&mut self, kind: Option<&(&str, &'static str, &'static str)>) -> Vec<u8> {
        let mut bytes = match self.below(10) {
            0 => Vec::new(),
            1 => [b"k8s\0".as_slice(), &self.noise(200)].concat(),
            2 => self.noise(300),
            3 => self.deep(),
            4 => json!([{"op": self.of(&["add", "remove", "replace", "move", "copy", "test", "x"]),
                "path": self.of(&["/spec", "/", "", "/metadata/name", "/spec/containers/0", "/a/-", "~2", "/spec/containers/99999999999"]),
                "from": "/metadata", "value": self.value(3)}]).to_string().into_bytes(),
            _ => self.object(kind).to_string().into_bytes(),
        };
        let breaks = self.below(7).saturating_sub(3);
        for _ in 0..breaks {
            self.break_somewhere(&mut bytes);
        }
        bytes
    }

    fn noise(&mut self, most: usize) -> Vec<u8> {
        (0..self.below(most))
            .map(|_| self.next().to_le_bytes()[0])
            .collect()
    }

    /// Nesting that would end a stack.
    fn deep(&mut self) -> Vec<u8> {
        let depth = self.below(40_000);
        let (open, close) = if self.below(2) == 0 {
            ("[", "]")
        } else {
            ("{\"a\":", "}")
        };
        format!(
            "{{\"metadata\":{}1{}}}",
            open.repeat(depth),
            close.repeat(depth)
        )
        .into_bytes()
    }

    fn break_somewhere(&mut self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let at = self.below(bytes.len());
        match self.below(5) {
            0 => bytes[at] = self.next().to_le_bytes()[0],
            1 => bytes.truncate(at),
            2 => bytes.insert(at, b"{}[],:\"\\\0\xff-&*"[self.below(13)]),
            3 => {
                let end = (at + self.below(20)).min(bytes.len());
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
            _ => {
                let end = (at + self.below(8)).min(bytes.len());
                bytes.drain(at..end);
            }
        }
    }

    /// Mostly of the kind that belongs to the path.
    fn object(&mut self, kind: Option<&(&str, &'static str, &'static str)>) -> Value {
        let at_random = KINDS[self.below(KINDS.len())];
        let (_, version, kind) = match kind {
            Some(kind) if self.below(8) != 0 => *kind,
            _ => at_random,
        };
        let mut object = json!({
            "apiVersion": version, "kind": kind,
            "metadata": {"name": self.of(&["a", "b", "fuzz-1", "UPPER", ""]), "labels": {"a": "b"}},
            "spec": {
                "replicas": 0,
                "selector": {"matchLabels": {"a": "b"}},
                "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
                "ephemeralContainers": [{"name": "e", "image": "i", "targetContainerName": "c"}],
                "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}, "capacity": {"storage": "1Mi"},
                "claimRef": {"namespace": "default", "name": "a"}, "hostPath": {"path": "/nothing/here", "type": "Directory"},
                "containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80}], "resources": {"limits": {"cpu": "1"}}}],
                "group": "fuzz.dev", "scope": "Namespaced", "names": {"plural": "things", "kind": "Thing"},
                "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object",
                    "x-kubernetes-validations": [{"rule": self.of(&["self.a == 1", "((((", "self.all(x, x.y > 1)", "1 in"])}]}}}],
                "validations": [{"expression": self.of(&["true", "object.spec.replicas < 5", "\"", "a.b.c.d"])}],
            },
            "data": {"a": "b"},
            "provisioner": self.of(&["suimon.dev/directory", "x"]),
        });
        for _ in 0..self.below(5) {
            let value = self.value(4);
            self.put(&mut object, value);
        }
        object
    }

    /// Replaces something in a tree.
    fn put(&mut self, tree: &mut Value, value: Value) {
        let stop = self.below(4) == 0;
        let next = match tree {
            Value::Object(map) if !stop && !map.is_empty() => {
                let at = self.below(map.len());
                map.values_mut().nth(at)
            }
            Value::Array(list) if !stop && !list.is_empty() => {
                let at = self.below(list.len());
                list.get_mut(at)
            }
            _ => None,
        };
        match next {
            Some(next) => self.put(next, value),
            None => *tree = value,
        }
    }

    fn value(&mut self, depth: usize) -> Value {
        match self.below(if depth == 0 { 8 } else { 10 }) {
            0 => Value::Null,
            1 => json!(self.below(2) == 0),
            2 => json!(self.next()),
            3 => json!(-1),
            4 => json!(1e300),
            5 => json!("x".repeat(self.below(5000))),
            6 => json!(self.of(&[
                "",
                "1Gi",
                "-1",
                "2020-01-01T00:00:00Z",
                "\u{0}",
                "é",
                "../..",
                "$(A)"
            ])),
            7 => json!(i64::MIN),
            8 => (0..self.below(6)).map(|_| self.value(depth - 1)).collect(),
            _ => {
                let keys = [
                    "a",
                    "name",
                    "spec",
                    "$patch",
                    "$setElementOrder/containers",
                    "$retainKeys",
                    "metadata",
                    "",
                ];
                let entries =
                    (0..self.below(4)).map(|_| (self.of(&keys).to_owned(), self.value(depth - 1)));
                Value::Object(entries.collect())
            }
        }
    }
}
