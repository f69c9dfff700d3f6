//! Events of objects, as `kubectl describe` shows them (core/v1).
//!
//! Told aside from the reconcile, through a bounded queue: when it is full the Event is dropped
//! and logged, since a lost Event never makes a state wrong. What repeats is counted instead of
//! written anew, what only differs in its message is combined after the tenth, and one object
//! cannot fill the list: the same rules and numbers as client-go's.

mod correlate;

use std::borrow::Cow;

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource, ResourceExt};
use lifecycle::{Stage, Tasks};
use serde_json::json;
use tokio::sync::mpsc;

use crate::{Error, Key, write};
use correlate::{Correlator, Verdict};

const LONGEST_QUEUE: usize = 1024;
/// Longest message that is kept (Kubernetes' limit).
const LONGEST_MESSAGE: usize = 1024;

/// What happened to which object.
#[derive(Clone, Debug, PartialEq)]
struct Note {
    object: ObjectReference,
    component: &'static str,
    warning: bool,
    reason: Cow<'static, str>,
    message: String,
}

/// Where controllers tell what happened. Clone freely.
#[derive(Clone)]
pub struct Recorder {
    component: &'static str,
    queue: mpsc::Sender<Note>,
}

impl Recorder {
    /// Starts the task that writes Events.
    pub fn start(client: kube::Client, component: &'static str, tasks: &Tasks) -> Self {
        let (queue, mut waiting) = mpsc::channel::<Note>(LONGEST_QUEUE);
        let mut shutdown = tasks.shutdown(Stage::Controllers);
        tasks.spawn(
            format!("events of {component}"),
            Stage::Controllers,
            async move {
                let mut correlator = Correlator::default();
                loop {
                    let note = tokio::select! {
                        note = waiting.recv() => note,
                        () = shutdown.requested() => None,
                    };
                    let Some(note) = note else {
                        return Ok::<(), Error>(());
                    };
                    let verdict = correlator.judge(&note, jiff::Timestamp::now());
                    if let Err(error) = publish(&client, &note, verdict).await {
                        tracing::debug!(%error, "cannot write an event");
                    }
                }
            },
        );
        Self { component, queue }
    }

    /// The same queue for a controller of another name, which `kubectl describe` shows as From.
    pub fn of(&self, component: &'static str) -> Self {
        Self {
            component,
            queue: self.queue.clone(),
        }
    }

    /// Tells of progress.
    pub fn normal<K: Resource<DynamicType = ()>>(
        &self,
        object: &K,
        reason: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
    ) {
        self.tell(object, false, reason.into(), message.into());
    }

    /// Tells of something that needs attention.
    pub fn warning<K: Resource<DynamicType = ()>>(
        &self,
        object: &K,
        reason: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
    ) {
        self.tell(object, true, reason.into(), message.into());
    }

    /// The same about an object of a kind that this program has no type for.
    pub fn warning_about(
        &self,
        object: ObjectReference,
        reason: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
    ) {
        self.note(object, true, reason.into(), message.into());
    }

    fn tell<K: Resource<DynamicType = ()>>(
        &self,
        object: &K,
        warning: bool,
        reason: Cow<'static, str>,
        message: String,
    ) {
        let object = ObjectReference {
            api_version: Some(K::api_version(&()).into_owned()),
            kind: Some(K::kind(&()).into_owned()),
            name: Some(object.name_any()),
            namespace: object.namespace(),
            uid: object.uid(),
            resource_version: object.resource_version(),
            ..ObjectReference::default()
        };
        self.note(object, warning, reason, message);
    }

    fn note(
        &self,
        object: ObjectReference,
        warning: bool,
        reason: Cow<'static, str>,
        message: String,
    ) {
        let note = Note {
            object,
            component: self.component,
            warning,
            reason,
            message: message.chars().take(LONGEST_MESSAGE).collect(),
        };
        if let Err(error) = self.queue.try_send(note) {
            let object = error.into_inner().object.name.unwrap_or_default();
            tracing::warn!(object, "too many events, dropped one");
        }
    }
}

async fn publish(client: &kube::Client, note: &Note, verdict: Verdict) -> Result<(), Error> {
    let (name, message, count, first) = match verdict {
        Verdict::Drop => return Ok(()),
        Verdict::Write {
            name,
            message,
            count,
            first,
        } => (name, message, count, first),
    };
    let event = event(note, name, message, count, first);
    if count > 1 {
        let key = Key::of(&event);
        let patch = json!({
            "count": count, "message": event.message, "lastTimestamp": event.last_timestamp,
        });
        match write::merge::<Event>(client, &key, &patch).await {
            // It has expired: it starts anew under its name.
            Err(error) if error.is_not_found() => {}
            other => return other.map(drop),
        }
    }
    write::create_if_absent(client, &event).await.map(drop)
}

fn event(note: &Note, name: String, message: String, count: i32, first: jiff::Timestamp) -> Event {
    let namespace = note.object.namespace.clone();
    Event {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: Some(namespace.unwrap_or_else(|| "default".to_owned())),
            ..ObjectMeta::default()
        },
        involved_object: note.object.clone(),
        reason: Some(note.reason.clone().into_owned()),
        message: Some(message),
        type_: Some(if note.warning { "Warning" } else { "Normal" }.to_owned()),
        count: Some(count),
        first_timestamp: Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(first)),
        last_timestamp: Some(crate::now()),
        source: Some(EventSource {
            component: Some(note.component.to_owned()),
            host: None,
        }),
        reporting_component: Some(note.component.to_owned()),
        ..Event::default()
    }
}
