//! The publisher against a small fake of the API: watches with initial events, status writes.

mod foreign;
pub(crate) mod kinds;
mod server;

use super::*;
use crate::asked::Get;
use crate::issuers::Nobody;
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, StreamBody};
use lifecycle::{Snapshots, snapshot_channel};
use routing::{CompiledAction, Visibility};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Mutex;
use std::time::Duration;
use tokio::sync::mpsc;

/// Watch events of one kind, in the order in which they are sent.
type Events = mpsc::UnboundedReceiver<Value>;

struct Fake {
    /// By plural name; taken by the kind's one watch.
    watches: Mutex<HashMap<String, Events>>,
    /// Status writes, and whether the written Ingress was served at that moment.
    written: mpsc::UnboundedSender<(Value, bool)>,
    snapshots: Snapshots<Snapshot>,
}

impl Fake {
    async fn answer(
        &self,
        request: Request<kube::client::Body>,
    ) -> Response<http_body_util::combinators::BoxBody<Bytes, Infallible>> {
        let path = request.uri().path().to_owned();
        if request.method() == Method::PUT {
            let body = request.into_body().collect().await.expect("a body");
            let bytes = body.to_bytes();
            let object = serde_json::from_slice(&bytes).expect("an object");
            let is_served = endpoints(&self.snapshots).is_some();
            self.written.send((object, is_served)).expect("a listener");
            return Response::new(http_body_util::Full::new(bytes).boxed());
        }
        // `services` is a plural of two groups; only Kubernetes' own is watched here.
        let plural = match path.rsplit('/').next().unwrap_or_default() {
            "ingresses" if path.contains("/networking.k8s.io/") => KUBERNETES_INGRESSES,
            plural => plural,
        };
        let events = self.watches.lock().expect("no panic").remove(plural);
        let lines = futures::stream::unfold(events, |events| async {
            let mut events = events?;
            let event = events.recv().await?;
            let line = Bytes::from(format!("{event}\n"));
            Some((Ok(http_body::Frame::data(line)), Some(events)))
        });
        Response::new(BodyExt::boxed(StreamBody::new(lines)))
    }
}

/// The endpoints of the backend that `hello.example.com` is served by.
fn endpoints(snapshots: &Snapshots<Snapshot>) -> Option<Vec<String>> {
    let snapshot = snapshots.current_owned();
    let route = snapshot.select(Visibility::External, &Get::root("hello.example.com"))?;
    let CompiledAction::Forward(split) = &route.action else {
        return None;
    };
    let backend = snapshot.backend_of(split.at(0))?;
    let addresses = backend.endpoints.iter().map(|it| it.address.to_string());
    Some(addresses.collect())
}

/// No sockets at all.
struct NoSockets;

impl Sockets for NoSockets {
    fn open(&self, _: &routing::BindId, _: routing::model::BindSocket) -> std::io::Result<()> {
        Ok(())
    }

    fn close<'s>(&'s self, _: &'s routing::BindId) -> BoxFuture<'s, ()> {
        std::future::ready(()).boxed()
    }
}

/// For a class of Ingresses called `ours`.
pub(crate) fn settings() -> Settings {
    Settings {
        ingress_class: "ours".into(),
        external_addresses: Vec::new(),
        local_addresses: Vec::new(),
        issues_certificates: false,
        adopt: Adopt::Everyone,
        gateway_range: GatewayRange::default(),
        cluster_ips: None,
        tells_callers: true,
        sockets: Arc::new(NoSockets),
        ports: GatewayPorts::default(),
        kinds: &[],
        resolver: Arc::new(SystemResolver),
        look_up_every: LOOK_UP_EVERY,
        issuers: Arc::new(Nobody),
    }
}

/// Both kinds of Ingress have one plural.
const KUBERNETES_INGRESSES: &str = "ingresses.networking.k8s.io";

/// What the other dialects watch; nothing happens there.
const OTHERS: [(&str, &str, &str); 20] = [
    ("pods", "v1", "Pod"),
    (KUBERNETES_INGRESSES, "networking.k8s.io/v1", "Ingress"),
    ("ingressclasses", "networking.k8s.io/v1", "IngressClass"),
    ("configmaps", "v1", "ConfigMap"),
    ("namespaces", "v1", "Namespace"),
    (
        "clustertrustbundles",
        "certificates.k8s.io/v1",
        "ClusterTrustBundle",
    ),
    (
        "referencegrants",
        "gateway.networking.k8s.io/v1",
        "ReferenceGrant",
    ),
    (
        "gatewayclasses",
        "gateway.networking.k8s.io/v1",
        "GatewayClass",
    ),
    ("gateways", "gateway.networking.k8s.io/v1", "Gateway"),
    (
        "listenersets",
        "gateway.networking.k8s.io/v1",
        "ListenerSet",
    ),
    (
        "backendtlspolicies",
        "gateway.networking.k8s.io/v1",
        "BackendTLSPolicy",
    ),
    (
        "xbackendtrafficpolicies",
        "gateway.networking.x-k8s.io/v1alpha1",
        "XBackendTrafficPolicy",
    ),
    (
        "xbackends",
        "gateway.networking.x-k8s.io/v1alpha1",
        "XBackend",
    ),
    (
        "xtelemetrypolicies",
        "gateway.networking.x-k8s.io/v1alpha1",
        "XTelemetryPolicy",
    ),
    ("xmeshes", "gateway.networking.x-k8s.io/v1alpha1", "XMesh"),
    ("httproutes", "gateway.networking.k8s.io/v1", "HTTPRoute"),
    ("grpcroutes", "gateway.networking.k8s.io/v1", "GRPCRoute"),
    ("tlsroutes", "gateway.networking.k8s.io/v1", "TLSRoute"),
    ("tcproutes", "gateway.networking.k8s.io/v1", "TCPRoute"),
    ("udproutes", "gateway.networking.k8s.io/v1", "UDPRoute"),
];

struct Rig {
    senders: HashMap<&'static str, mpsc::UnboundedSender<Value>>,
    written: mpsc::UnboundedReceiver<(Value, bool)>,
    snapshots: Snapshots<Snapshot>,
    tasks: Tasks,
}

impl Rig {
    fn start() -> Self {
        let (publish, snapshots) = snapshot_channel(Snapshot::default());
        let (written_sender, written) = mpsc::unbounded_channel();
        let mut senders = HashMap::new();
        let mut watches = HashMap::new();
        let own = [
            "ingresses",
            "services",
            "endpointslices",
            "revisions",
            "secrets",
        ];
        for plural in own.into_iter().chain(OTHERS.map(|(plural, _, _)| plural)) {
            let (sender, receiver) = mpsc::unbounded_channel();
            senders.insert(plural, sender);
            watches.insert(plural.to_owned(), receiver);
        }
        let fake = Arc::new(Fake {
            watches: Mutex::new(watches),
            written: written_sender,
            snapshots: snapshots.clone(),
        });
        let service = tower::service_fn(move |request| {
            let fake = Arc::clone(&fake);
            async move { Ok::<_, Infallible>(fake.answer(request).await) }
        });
        let tasks = Tasks::new();
        let cluster = Cluster::new(kube::Client::new(service, "default"));
        let settings = settings();
        start(&cluster, settings, publish, &tasks);
        let rig = Self {
            senders,
            written,
            snapshots,
            tasks,
        };
        OTHERS.iter().for_each(|(plural, _, _)| rig.listed(plural));
        rig
    }

    fn send(&self, plural: &str, event: &str, object: Value) {
        let sender = &self.senders[plural];
        sender
            .send(json!({"type": event, "object": object}))
            .expect("a watch");
    }

    /// Ends the initial events of a watch.
    fn listed(&self, plural: &str) {
        let (api_version, kind) = match plural {
            "ingresses" => ("networking.internal.knative.dev/v1alpha1", "Ingress"),
            "services" => ("v1", "Service"),
            "secrets" => ("v1", "Secret"),
            "endpointslices" => ("discovery.k8s.io/v1", "EndpointSlice"),
            "revisions" => ("serving.knative.dev/v1", "Revision"),
            other => {
                let mut others = OTHERS.iter();
                let found = others.find(|(plural, _, _)| *plural == other);
                found
                    .map(|(_, version, kind)| (*version, *kind))
                    .expect("a kind")
            }
        };
        let annotations = json!({"k8s.io/initial-events-end": "true"});
        let meta = json!({"resourceVersion": "9", "annotations": annotations});
        let object = json!({"apiVersion": api_version, "kind": kind, "metadata": meta, "spec": {}});
        self.send(plural, "BOOKMARK", object);
    }

    /// Lets every task do what it can; time is paused, so this takes none.
    async fn settle(&self) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn ingress() -> Value {
    json!({
        "apiVersion": "networking.internal.knative.dev/v1alpha1", "kind": "Ingress",
        "metadata": {
            "name": "hello", "namespace": "default", "uid": "u", "generation": 4, "resourceVersion": "1",
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "annotations": {"networking.knative.dev/ingress.class": "ours"},
        },
        "spec": {"rules": [{"hosts": ["hello.example.com"], "http": {"paths": [{"splits": [
            {"serviceNamespace": "default", "serviceName": "hello", "servicePort": 80},
        ]}]}}]},
    })
}

fn service() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "hello", "namespace": "default", "resourceVersion": "2"},
        "spec": {"ports": [{"name": "http", "port": 80}]},
    })
}

fn slice(version: &str, addresses: &[&str]) -> Value {
    let endpoints: Vec<_> = addresses
        .iter()
        .map(|address| json!({"addresses": [address]}))
        .collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": "hello-x", "namespace": "default", "resourceVersion": version,
            "labels": {"kubernetes.io/service-name": "hello"},
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080}],
        "endpoints": endpoints,
    })
}

#[tokio::test(start_paused = true)]
async fn nothing_is_published_before_every_watch_has_told_all_and_status_comes_after_the_publish() {
    let mut rig = Rig::start();
    rig.send("ingresses", "ADDED", ingress());
    rig.send("endpointslices", "ADDED", slice("3", &["10.0.0.1"]));
    for plural in ["ingresses", "endpointslices", "revisions", "secrets"] {
        rig.listed(plural);
    }
    rig.settle().await;
    assert_eq!(endpoints(&rig.snapshots), None);
    rig.send("services", "ADDED", service());
    rig.listed("services");
    assert!(rig.snapshots.changed().await);
    assert_eq!(
        endpoints(&rig.snapshots),
        Some(vec!["10.0.0.1:8080".to_owned()])
    );
    let (written, is_served) = rig.written.recv().await.expect("a status");
    assert!(is_served, "status was written before the snapshot was live");
    let status = &written["status"];
    assert_eq!(status["observedGeneration"], 4);
    let conditions = status["conditions"].as_array().expect("conditions");
    assert!(
        conditions
            .iter()
            .all(|condition| condition["status"] == "True"),
        "{status}"
    );
    assert_eq!(
        status.pointer("/publicLoadBalancer/ingress/0/domainInternal"),
        Some(&json!("suimon-gateway.knative-serving.svc.cluster.local"))
    );
    rig.tasks.drain(Duration::from_secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_change_is_published_and_changes_no_status() {
    let mut rig = Rig::start();
    rig.send("ingresses", "ADDED", ingress());
    rig.send("services", "ADDED", service());
    rig.send("endpointslices", "ADDED", slice("3", &["10.0.0.1"]));
    for plural in [
        "services",
        "endpointslices",
        "revisions",
        "secrets",
        "ingresses",
    ] {
        rig.listed(plural);
    }
    let (mut written, _) = rig.written.recv().await.expect("a status");
    written["metadata"]["resourceVersion"] = json!("5");
    rig.send("ingresses", "MODIFIED", written);
    rig.settle().await;
    rig.send(
        "endpointslices",
        "MODIFIED",
        slice("6", &["10.0.0.1", "10.0.0.2"]),
    );
    rig.settle().await;
    assert_eq!(
        endpoints(&rig.snapshots).map(|addresses| addresses.len()),
        Some(2)
    );
    assert!(rig.written.try_recv().is_err(), "nothing else is to tell");
    rig.tasks.drain(Duration::from_secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn the_first_snapshot_comes_even_if_there_is_nothing_to_serve() {
    let mut rig = Rig::start();
    for plural in [
        "services",
        "endpointslices",
        "revisions",
        "secrets",
        "ingresses",
    ] {
        rig.listed(plural);
    }
    assert!(rig.snapshots.changed().await);
    rig.tasks.drain(Duration::from_secs(1)).await;
}
