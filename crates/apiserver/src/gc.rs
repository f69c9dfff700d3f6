//! Garbage collection by owner references, driven by the store's events.
//!
//! The store indexes owners by uid, so there is no graph to build: an event names what to look
//! at. After a start, or if events were missed, everything is looked at once.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::crd;
use crate::crud::{self, Api, Call};
use crate::namespace::{self, kind_of};
use crate::store::{Event, Object, Scope, Subscription};

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// One thing to look at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Work {
    /// Are the owners of this object still there?
    Owners(Arc<str>, Arc<str>),
    /// This object is being deleted: what about those it owns?
    Dependents(Arc<str>, Arc<str>),
    /// Is this namespace empty?
    Namespace(Arc<str>),
    /// Are the objects of this CRD gone?
    Crd(Arc<str>),
}

/// Work in order, each thing once.
#[derive(Debug, Default)]
struct Queue {
    order: VecDeque<Work>,
    known: HashSet<Work>,
}

impl Queue {
    fn push(&mut self, work: Work) {
        if self.known.insert(work.clone()) {
            self.order.push_back(work);
        }
    }

    fn pop(&mut self) -> Option<Work> {
        let work = self.order.pop_front()?;
        self.known.remove(&work);
        Some(work)
    }
}

/// Collects until the store closes its watches.
pub(crate) async fn run(api: Arc<Api>) {
    let mut queue = Queue::default();
    let mut subscription = start_over(&api, &mut queue);
    loop {
        while let Some(event) = subscription.try_next() {
            note(&api, &event, &mut queue);
        }
        if let Some(work) = queue.pop() {
            // Boxed: the futures of a delete are large, and this loop lives forever.
            Box::pin(look_at(&api, work, &mut queue)).await;
            continue;
        }
        match subscription.next().await {
            Some(event) => note(&api, &event, &mut queue),
            None if subscription.lagged() => {
                let seen = subscription.seen();
                subscription = match api.store.subscribe(None, &Scope::All, seen) {
                    Ok(subscription) => subscription,
                    Err(_) => start_over(&api, &mut queue),
                };
            }
            None => return,
        }
    }
}

/// Subscribes to everything and queues everything that could need work.
fn start_over(api: &Api, queue: &mut Queue) -> Subscription {
    loop {
        let revision = api.store.revision();
        for resource in api.store.populated(None) {
            for (key, object) in api.store.entries(&resource) {
                if object.deleting() || !object.owners().is_empty() {
                    note_object(&resource, &key, &object, queue);
                }
            }
        }
        if let Ok(subscription) = api.store.subscribe(None, &Scope::All, revision) {
            return subscription;
        }
    }
}

fn note(api: &Api, event: &Event, queue: &mut Queue) {
    if let Some(object) = &event.object {
        // Most writes change neither owners nor deletion, and those need no look.
        let same = |prev: &Object| prev.owners() == object.owners() && !object.deleting();
        if !event.prev.as_deref().is_some_and(same) {
            note_object(&event.resource, &event.key, object, queue);
        }
        return;
    }
    let Some(gone) = &event.prev else { return };
    for (resource, key) in api.store.dependents(gone.uid()) {
        queue.push(Work::Owners(resource, key));
    }
    // An owner may wait for this one.
    for owner in gone.owners() {
        if let Some((resource, key)) = api.store.by_uid(owner) {
            queue.push(Work::Dependents(resource, key));
        }
    }
    if let Some(namespace) = event.namespace()
        && api
            .store
            .get("namespaces", namespace)
            .is_some_and(|namespace| namespace.deleting())
    {
        queue.push(Work::Namespace(namespace.into()));
    }
    if api
        .store
        .get(crd::RESOURCE, &event.resource)
        .is_some_and(|crd| crd.deleting())
    {
        queue.push(Work::Crd(Arc::clone(&event.resource)));
    }
}

fn note_object(resource: &Arc<str>, key: &Arc<str>, object: &Object, queue: &mut Queue) {
    if !object.owners().is_empty() && !object.deleting() {
        queue.push(Work::Owners(Arc::clone(resource), Arc::clone(key)));
    }
    if object.deleting() {
        match &**resource {
            "namespaces" => queue.push(Work::Namespace(Arc::clone(key))),
            crd::RESOURCE => queue.push(Work::Crd(Arc::clone(key))),
            _ => {}
        }
        queue.push(Work::Dependents(Arc::clone(resource), Arc::clone(key)));
    }
}

async fn look_at(api: &Api, work: Work, queue: &mut Queue) {
    match &work {
        Work::Owners(resource, key) => {
            if check_owners(api, resource, key).await == Done::Conflict {
                queue.push(work);
            }
        }
        Work::Dependents(resource, key) => {
            if check_dependents(api, resource, key, queue).await == Done::Conflict {
                queue.push(work);
            }
        }
        Work::Namespace(name) => namespace::empty(api, name).await,
        Work::Crd(name) => namespace::empty_crd(api, name).await,
    }
}

/// Whether a look was enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Done {
    Whole,
    /// Somebody else wrote the object meanwhile: look again. The event of that write may name
    /// nothing to look at.
    Conflict,
}

/// What an owner reference leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Present,
    Absent,
    /// It is deleted in the foreground and waits for its dependents.
    Waiting,
}

fn owner_state(api: &Api, namespace: Option<&str>, uid: &str) -> Owner {
    let Some((resource, key)) = api.store.by_uid(uid) else {
        return Owner::Absent;
    };
    // An owner in another namespace counts as absent, as in Kubernetes.
    let owner_namespace = key.split_once('/').map(|(namespace, _)| namespace);
    if owner_namespace.is_some() && owner_namespace != namespace {
        return Owner::Absent;
    }
    match api.store.get(&resource, &key) {
        None => Owner::Absent,
        Some(owner) if owner.deleting() && has_finalizer(&owner, FOREGROUND) => Owner::Waiting,
        Some(_) => Owner::Present,
    }
}

fn has_finalizer(object: &Object, finalizer: &str) -> bool {
    crud::finalizers(&object.value())
        .iter()
        .any(|name| name == finalizer)
}

/// Deletes an object whose owners are all gone; drops references to those that are gone.
async fn check_owners(api: &Api, resource: &str, key: &str) -> Done {
    let Some(object) = api
        .store
        .get(resource, key)
        .filter(|object| !object.deleting())
    else {
        return Done::Whole;
    };
    let namespace = key.split_once('/').map(|(namespace, _)| namespace);
    // The common case, told from what the store knows: nothing is parsed.
    let present = |uid: &Arc<str>| owner_state(api, namespace, uid) == Owner::Present;
    if object.owners().iter().all(present) {
        return Done::Whole;
    }
    let value = object.value();
    let references = value["metadata"]["ownerReferences"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let states: Vec<_> = references
        .iter()
        .map(|reference| {
            let uid = reference["uid"].as_str().unwrap_or_default();
            owner_state(api, namespace, uid)
        })
        .collect();
    if states.contains(&Owner::Present) {
        let kept: Vec<_> = references
            .iter()
            .zip(&states)
            .filter(|(_, state)| **state == Owner::Present)
            .map(|(r, _)| r)
            .collect();
        return set_owners(api, resource, &object, &json!(kept)).await;
    }
    let own_dependents = !api.store.dependents(object.uid()).is_empty();
    let policy = if states.contains(&Owner::Waiting) && own_dependents {
        "Foreground"
    } else {
        "Background"
    };
    delete(api, resource, &object, policy).await
}

/// Goes on with a deletion in the foreground, or one that leaves orphans.
async fn check_dependents(api: &Api, resource: &str, key: &str, queue: &mut Queue) -> Done {
    let Some(object) = api
        .store
        .get(resource, key)
        .filter(|object| object.deleting())
    else {
        return Done::Whole;
    };
    let dependents = api.store.dependents(object.uid());
    if has_finalizer(&object, ORPHAN) {
        for (resource, key) in &dependents {
            if let Some(dependent) = api.store.get(resource, key) {
                let value = dependent.value();
                let references = value["metadata"]["ownerReferences"]
                    .as_array()
                    .map(Vec::as_slice)
                    .unwrap_or_default();
                let kept: Vec<_> = references
                    .iter()
                    .filter(|reference| reference["uid"] != object.uid())
                    .collect();
                if set_owners(api, resource, &dependent, &json!(kept)).await == Done::Conflict {
                    // It must not be an orphan that still names its owner.
                    return Done::Conflict;
                }
            }
        }
        return unfinish(api, resource, &object, ORPHAN).await;
    } else if has_finalizer(&object, FOREGROUND) {
        let mut blocked = false;
        for (resource, key) in dependents {
            if let Some(dependent) = api.store.get(&resource, &key) {
                blocked |= blocks(&dependent, object.uid());
                queue.push(Work::Owners(resource, key));
            }
        }
        if !blocked {
            return unfinish(api, resource, &object, FOREGROUND).await;
        }
    }
    Done::Whole
}

/// Whether a dependent keeps its owner until it is gone.
fn blocks(dependent: &Object, owner: &str) -> bool {
    let value = dependent.value();
    let references = value["metadata"]["ownerReferences"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    references
        .iter()
        .any(|reference| reference["uid"] == owner && reference["blockOwnerDeletion"] == true)
}

async fn delete(api: &Api, resource: &str, object: &Object, policy: &str) -> Done {
    let Some(call) = call_for(api, resource, object) else {
        return Done::Whole;
    };
    let options = json!({
        "propagationPolicy": policy,
        // Whoever wrote it meanwhile may have given it an owner that exists.
        "preconditions": { "uid": object.uid(), "resourceVersion": object.revision().to_string() },
    });
    let body = crud::Body {
        media_type: "application/json".into(),
        bytes: options.to_string().into(),
    };
    report(api.delete(&call, &body).await, resource)
}

async fn set_owners(api: &Api, resource: &str, object: &Object, owners: &Value) -> Done {
    let owners = if owners.as_array().is_some_and(Vec::is_empty) {
        &Value::Null
    } else {
        owners
    };
    patch(api, resource, object, json!({ "ownerReferences": owners })).await
}

/// Removes one finalizer; whoever calls looks again at each event of the object.
pub(crate) async fn remove_finalizer(api: &Api, resource: &str, object: &Object, finalizer: &str) {
    unfinish(api, resource, object, finalizer).await;
}

async fn unfinish(api: &Api, resource: &str, object: &Object, finalizer: &str) -> Done {
    let mut kept = crud::finalizers(&object.value());
    kept.retain(|name| name != finalizer);
    let kept = if kept.is_empty() {
        Value::Null
    } else {
        json!(kept)
    };
    patch(api, resource, object, json!({ "finalizers": kept })).await
}

async fn patch(api: &Api, resource: &str, object: &Object, mut metadata: Value) -> Done {
    let Some(call) = call_for(api, resource, object) else {
        return Done::Whole;
    };
    metadata["uid"] = json!(object.uid());
    metadata["resourceVersion"] = json!(object.revision().to_string());
    let body = crud::Body {
        media_type: "application/merge-patch+json".into(),
        bytes: json!({ "metadata": metadata }).to_string().into(),
    };
    report(api.patch(&call, &body).await, resource)
}

fn call_for(api: &Api, resource: &str, object: &Object) -> Option<Call> {
    let kind = kind_of(api, resource)?;
    let value = object.value();
    let text = |field: &str| value["metadata"][field].as_str().unwrap_or_default();
    Some(Call::internal(&kind, text("namespace"), text("name")))
}

fn report(result: Result<crud::Reply, crate::Status>, resource: &str) -> Done {
    match result {
        Err(error) if error.code == 409 => return Done::Conflict,
        Err(error) if error.code != 404 => {
            tracing::warn!(resource, %error, "garbage collection could not write");
        }
        _ => {}
    }
    Done::Whole
}
