//! Events: what `kubectl describe pod` shows below the object.

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, ResourceExt};

use crate::pod::{Context, now};

/// Tells that something is wrong with a pod. Failures to tell are only logged.
pub(crate) async fn warn(context: &Context, reason: &str, message: &str) {
    tell(context, "Warning", reason, message).await;
}

/// Tells what is done to a pod.
pub(crate) async fn normal(context: &Context, reason: &str, message: &str) {
    tell(context, "Normal", reason, message).await;
}

async fn tell(context: &Context, type_: &str, reason: &str, message: &str) {
    let pod = &context.pod;
    let namespace = pod.namespace().unwrap_or_default();
    tracing::debug!(
        pod = pod.name_any(),
        namespace,
        reason,
        message,
        "pod event"
    );
    let now = now();
    let event = Event {
        metadata: ObjectMeta {
            // Unique enough: the pod, and the time to the nanosecond.
            name: Some(format!(
                "{}.{:x}",
                pod.name_any(),
                jiff::Timestamp::now().as_nanosecond()
            )),
            namespace: Some(namespace.clone()),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: pod.metadata.name.clone(),
            namespace: pod.metadata.namespace.clone(),
            uid: pod.metadata.uid.clone(),
            ..ObjectReference::default()
        },
        type_: Some(type_.to_owned()),
        reason: Some(reason.to_owned()),
        message: Some(message.chars().take(1024).collect()),
        count: Some(1),
        first_timestamp: Some(now.clone()),
        last_timestamp: Some(now),
        source: Some(EventSource {
            component: Some("kubelet".to_owned()),
            host: Some(context.node.settings.name.clone()),
        }),
        reporting_component: Some("kubelet".to_owned()),
        reporting_instance: Some(context.node.settings.name.clone()),
        ..Event::default()
    };
    let api: Api<Event> = Api::namespaced(context.node.client.clone(), &namespace);
    if let Err(error) = api.create(&PostParams::default(), &event).await {
        tracing::debug!(pod = pod.name_any(), %error, "cannot write an event");
    }
}
