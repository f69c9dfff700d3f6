//! A small API server for tests of the whole controller: objects in memory, watches with initial
//! events, patches, optimistic concurrency on status. It remembers every write in order.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::mpsc;

type Answer = Response<BoxBody<Bytes, Infallible>>;

/// The fake. Clone freely; clones are one.
#[derive(Clone, Default)]
pub(super) struct FakeApi {
    state: Arc<Mutex<State>>,
    /// Told of every write.
    pub(super) written: Arc<tokio::sync::Notify>,
}

#[derive(Default)]
struct State {
    /// By path, without the server: `/api/v1/namespaces/default/pods/p`.
    objects: BTreeMap<String, Value>,
    version: u64,
    watches: HashMap<String, Vec<mpsc::UnboundedSender<Value>>>,
    writes: Vec<(String, Value)>,
}

impl FakeApi {
    pub(super) fn client(&self) -> kube::Client {
        let fake = self.clone();
        let service = tower::service_fn(move |request| {
            let fake = fake.clone();
            async move { Ok::<_, Infallible>(fake.answer(request).await) }
        });
        kube::Client::new(service, "default")
    }

    /// Puts an object as a user or another controller would.
    pub(super) fn put(&self, path: &str, object: Value) {
        self.lock().store(path, object);
    }

    pub(super) fn delete(&self, path: &str) {
        let mut state = self.lock();
        if let Some(object) = state.objects.remove(path) {
            state.tell(path, "DELETED", &object);
        }
    }

    pub(super) fn get(&self, path: &str) -> Value {
        self.lock().objects.get(path).cloned().unwrap_or_default()
    }

    /// The writes since the last call: `METHOD path` and body.
    pub(super) fn writes(&self) -> Vec<(String, Value)> {
        std::mem::take(&mut self.lock().writes)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics with the lock")
    }

    async fn answer(&self, request: Request<Body>) -> Answer {
        let (parts, body) = request.into_parts();
        let bytes = body.collect().await.expect("a body").to_bytes();
        let path = parts.uri.path().to_owned();
        if parts.method == Method::GET {
            return self.watch(&path);
        }
        let body: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let kind = parts.headers.get("content-type");
        let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let answer = self.lock().write(&parts.method, &path, kind, body);
        self.written.notify_one();
        answer
    }

    fn watch(&self, path: &str) -> Answer {
        let (sender, events) = mpsc::unbounded_channel();
        let plural = path.rsplit('/').next().unwrap_or_default();
        let mut state = self.lock();
        let group = path.trim_end_matches(plural);
        for (at, object) in &state.objects {
            if at.starts_with(group) && at.split('/').rev().nth(1) == Some(plural) {
                let _ = sender.send(json!({"type": "ADDED", "object": object}));
            }
        }
        let end = json!({"k8s.io/initial-events-end": "true"});
        let metadata = json!({"resourceVersion": "1", "annotations": end});
        let bookmark = json!({"apiVersion": "v1", "kind": "Any", "metadata": metadata});
        let _ = sender.send(json!({"type": "BOOKMARK", "object": bookmark}));
        state
            .watches
            .entry(path.to_owned())
            .or_default()
            .push(sender);
        let lines = futures::stream::unfold(events, |mut events| async {
            let line = Bytes::from(format!("{}\n", events.recv().await?));
            Some((Ok(http_body::Frame::data(line)), events))
        });
        Response::new(BodyExt::boxed(StreamBody::new(lines)))
    }
}

impl State {
    fn write(&mut self, method: &Method, path: &str, kind: &str, body: Value) -> Answer {
        self.writes.push((format!("{method} {path}"), body.clone()));
        let target = path.trim_end_matches("/status").to_owned();
        if *method == Method::POST {
            let name = body["metadata"]["name"].as_str().unwrap_or_default();
            let path = format!("{path}/{name}");
            return reply(201, &self.store(&path, body));
        }
        let Some(mut object) = self.objects.get(&target).cloned() else {
            if kind == "application/apply-patch+yaml" {
                return reply(201, &self.store(&target, body));
            }
            return reply(404, &failure(404, "NotFound"));
        };
        match (method, kind) {
            (&Method::PUT, _) => {
                if object["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"] {
                    return reply(409, &failure(409, "Conflict"));
                }
                if path.ends_with("/status") {
                    object["status"] = body["status"].clone();
                } else {
                    object = body;
                }
            }
            (_, "application/json-patch+json") => {
                let patch: json_patch::Patch = serde_json::from_value(body).expect("a patch");
                if json_patch::patch(&mut object, &patch).is_err() {
                    return reply(422, &failure(422, "Invalid"));
                }
            }
            (_, _) => json_patch::merge(&mut object, &body),
        }
        reply(200, &self.store(&target, object))
    }

    fn store(&mut self, path: &str, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let is_new = self
            .objects
            .insert(path.to_owned(), object.clone())
            .is_none();
        self.tell(path, if is_new { "ADDED" } else { "MODIFIED" }, &object);
        object
    }

    fn tell(&mut self, path: &str, event: &str, object: &Value) {
        let mut parts = path.rsplit('/');
        let plural = parts.nth(1).unwrap_or_default();
        for (watched, senders) in &mut self.watches {
            let group = watched.trim_end_matches(plural);
            if watched.ends_with(&format!("/{plural}")) && path.starts_with(group) {
                let event = json!({"type": event, "object": object});
                senders.retain(|sender| sender.send(event.clone()).is_ok());
            }
        }
    }
}

fn failure(code: u16, reason: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure",
        "code": code, "reason": reason, "message": reason, "metadata": {},
    })
}

fn reply(code: u16, body: &Value) -> Answer {
    let body = Full::new(Bytes::from(body.to_string())).boxed();
    Response::builder()
        .status(code)
        .body(body)
        .expect("a valid answer")
}
