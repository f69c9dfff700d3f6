//! Events of our objects, as `kubectl describe` shows them (core/v1).
//!
//! A finding that repeats is one Event whose `count` grows. Events are told aside from the
//! reconcile, through a bounded queue: when it is full the Event is dropped and logged, since a
//! lost Event never makes a state wrong.

use std::hash::{DefaultHasher, Hash, Hasher};

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource, ResourceExt};
use lifecycle::{Stage, Tasks};
use reconcile::{Error, Key, write};
use serde_json::json;
use tokio::sync::mpsc;

const LONGEST_QUEUE: usize = 1024;

/// Something that happened to an object, worth telling its user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    pub(crate) warning: bool,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

impl Note {
    /// Progress.
    pub(crate) fn normal(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            warning: false,
            reason,
            message: message.into(),
        }
    }

    /// Something that needs attention.
    pub(crate) fn warning(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            warning: true,
            reason,
            message: message.into(),
        }
    }
}

/// Where controllers leave their Notes. Clone freely.
#[derive(Clone)]
pub(crate) struct Recorder {
    queue: mpsc::Sender<Event>,
}

impl Recorder {
    /// Starts the task that writes Events.
    pub(crate) fn start(client: kube::Client, tasks: &Tasks) -> Self {
        let (queue, mut waiting) = mpsc::channel::<Event>(LONGEST_QUEUE);
        let mut shutdown = tasks.shutdown(Stage::Controllers);
        tasks.spawn("events of serving", Stage::Controllers, async move {
            loop {
                let event = tokio::select! {
                    event = waiting.recv() => event,
                    () = shutdown.requested() => None,
                };
                let Some(event) = event else {
                    return Ok::<(), Error>(());
                };
                if let Err(error) = publish(&client, event).await {
                    tracing::debug!(%error, "cannot write an event");
                }
            }
        });
        Self { queue }
    }

    /// Tells what happened to an object.
    pub(crate) fn tell<K: Resource<DynamicType = ()>>(&self, object: &K, notes: &[Note]) {
        for note in notes {
            if self.queue.try_send(event(object, note)).is_err() {
                tracing::warn!(object = %Key::of(object), reason = note.reason, "too many events, dropped one");
            }
        }
    }
}

fn event<K: Resource<DynamicType = ()>>(object: &K, note: &Note) -> Event {
    let now = reconcile::now();
    let mut hasher = DefaultHasher::new();
    (object.meta().uid.as_deref(), note.reason, &note.message).hash(&mut hasher);
    let namespace = object.namespace().unwrap_or_else(|| "default".to_owned());
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{}.{:016x}", object.name_any(), hasher.finish())),
            namespace: Some(namespace),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: Some(K::api_version(&()).into_owned()),
            kind: Some(K::kind(&()).into_owned()),
            name: Some(object.name_any()),
            namespace: object.namespace(),
            uid: object.uid(),
            ..ObjectReference::default()
        },
        reason: Some(note.reason.to_owned()),
        message: Some(note.message.clone()),
        type_: Some(if note.warning { "Warning" } else { "Normal" }.to_owned()),
        count: Some(1),
        first_timestamp: Some(now.clone()),
        last_timestamp: Some(now),
        source: Some(EventSource {
            component: Some("suimon-serving".to_owned()),
            host: None,
        }),
        reporting_component: Some("suimon-serving".to_owned()),
        ..Event::default()
    }
}

async fn publish(client: &kube::Client, event: Event) -> Result<(), Error> {
    if write::create_if_absent(client, &event).await?.is_some() {
        return Ok(());
    }
    let key = Key::of(&event);
    let known = write::api::<Event>(client, &key.namespace)
        .get(&key.name)
        .await?;
    let patch = json!({
        "count": known.count.unwrap_or(1).saturating_add(1),
        "lastTimestamp": event.last_timestamp,
    });
    write::merge::<Event>(client, &key, &patch).await.map(drop)
}
