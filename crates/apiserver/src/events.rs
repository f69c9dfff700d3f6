//! Events are short-lived: they are removed after an hour, and the oldest first if there are many.
//!
//! Clients write them freely, so without this they would fill memory and disk.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use crate::store::{Durability, Expect, Growth, Guard, Object, Store, Write};

const RESOURCE: &str = "events";
/// How long an event is kept after it was last seen, as in Kubernetes.
const KEPT: SignedDuration = SignedDuration::from_hours(1);
/// Events kept at most.
const MOST: usize = 10_000;

/// Removes events that are old or too many.
#[derive(Default)]
pub(crate) struct Expiry {
    /// When the events were last seen, by revision: an event is read once, not every time.
    seen: HashMap<u64, Timestamp>,
}

/// Where an event tells when it was seen, the best place first.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Times {
    series: Option<Series>,
    last_timestamp: Option<String>,
    event_time: Option<String>,
    metadata: Metadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Series {
    last_observed_time: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    creation_timestamp: Option<String>,
}

impl Expiry {
    /// Looks once at all events.
    pub(crate) fn run(&mut self, store: &Store, now: Timestamp) {
        let events = store.entries(RESOURCE);
        let mut known = std::mem::take(&mut self.seen);
        let mut seen: Vec<_> = events
            .iter()
            .map(|(key, event)| {
                let at = known.remove(&event.revision());
                (at.unwrap_or_else(|| last_seen(event)), key, event)
            })
            .collect();
        seen.sort_by_key(|(at, _, event)| (*at, event.revision()));
        let surplus = seen.len().saturating_sub(MOST);
        for (index, (at, key, event)) in seen.into_iter().enumerate() {
            if index < surplus || now.duration_since(at) > KEPT {
                remove(store, key, event);
            } else {
                self.seen.insert(event.revision(), at);
            }
        }
    }
}

fn last_seen(event: &Object) -> Timestamp {
    let times = event.read::<Times>().and_then(|times| {
        let series = times.series.and_then(|series| series.last_observed_time);
        let created = times.metadata.creation_timestamp;
        [series, times.last_timestamp, times.event_time, created]
            .into_iter()
            .flatten()
            .find_map(|text| text.parse().ok())
    });
    times.unwrap_or(Timestamp::UNIX_EPOCH)
}

fn remove(store: &Store, key: &str, event: &Object) {
    let write = Write {
        resource: RESOURCE,
        key,
        expect: Expect::Revision(event.revision()),
        guard: Guard::None,
        value: None,
        growth: Growth::Free,
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
                growth: Growth::Free,
                durability: Durability::Lazy,
            };
            store.write(write).expect("stored");
        }
        Expiry::default().run(&store, "2026-01-01T01:10:00Z".parse().expect("time"));
        assert!(store.get(RESOURCE, "ns/old").is_none());
        assert!(store.get(RESOURCE, "ns/new").is_some());
    }
}
