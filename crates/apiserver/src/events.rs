//! Events are short-lived: they are removed after an hour, and the oldest first if there are many.
//!
//! Clients write them freely, so without this they would fill memory and disk.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::store::{Durability, Expect, Guard, Object, Scope, Store, Write};

const RESOURCE: &str = "events";
/// How long an event is kept after it was last seen, as in Kubernetes.
const KEPT: SignedDuration = SignedDuration::from_hours(1);
/// Events kept at most.
const MOST: usize = 10_000;

/// Removes events that are old or too many.
pub(crate) fn expire(store: &Store, now: Timestamp) {
    let (_, events) = store.list(RESOURCE, &Scope::All);
    let mut seen: Vec<_> = events
        .iter()
        .map(|event| (last_seen(event), event))
        .collect();
    seen.sort_by_key(|(at, event)| (*at, event.revision()));
    let surplus = seen.len().saturating_sub(MOST);
    for (index, (at, event)) in seen.into_iter().enumerate() {
        if index < surplus || now.duration_since(at) > KEPT {
            remove(store, event);
        }
    }
}

fn last_seen(event: &Object) -> Timestamp {
    let value = event.value();
    let places = [
        "/series/lastObservedTime",
        "/lastTimestamp",
        "/eventTime",
        "/metadata/creationTimestamp",
    ];
    let time = |place: &&str| value.pointer(place).and_then(Value::as_str)?.parse().ok();
    places
        .iter()
        .find_map(time)
        .unwrap_or(Timestamp::UNIX_EPOCH)
}

fn remove(store: &Store, event: &Object) {
    let value = event.value();
    let text = |field: &str| value["metadata"][field].as_str().unwrap_or_default();
    let write = Write {
        resource: RESOURCE,
        key: &crate::crud::object_key(text("namespace"), text("name")),
        expect: Expect::Revision(event.revision()),
        guard: Guard::None,
        value: None,
        durability: Durability::Lazy,
    };
    // An event that was written meanwhile is not old any more; anything else is tried again soon.
    let _ = store.write(write);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::store::Limits;

    #[test]
    fn an_event_goes_an_hour_after_it_was_last_seen() {
        let store = Store::in_memory(Limits::standard());
        for (name, at) in [
            ("old", "2026-01-01T00:00:00Z"),
            ("new", "2026-01-01T00:30:00Z"),
        ] {
            let value = json!({
                "metadata": { "name": name, "namespace": "ns", "creationTimestamp": "2025-01-01T00:00:00Z" },
                "lastTimestamp": at,
            });
            let key = format!("ns/{name}");
            let write = Write {
                resource: RESOURCE,
                key: &key,
                expect: Expect::Absent,
                guard: Guard::None,
                value: Some(value),
                durability: Durability::Lazy,
            };
            store.write(write).expect("stored");
        }
        expire(&store, "2026-01-01T01:10:00Z".parse().expect("time"));
        assert!(store.get(RESOURCE, "ns/old").is_none());
        assert!(store.get(RESOURCE, "ns/new").is_some());
    }
}
