//! Watches: a stream of events since a revision, one JSON document per line.
//!
//! A frame is encoded once per event and shared by all watchers of the stored version. A watcher
//! that falls behind catches up from the history; only one that falls behind the history itself
//! is told `410 Expired` and closed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rand::Rng;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::connect::Body;
use crate::crud::{Api, Call, Selector};
use crate::http::negotiate::Form;
use crate::http::render;
use crate::status::Status;
use crate::store::{Event, Object, Scope, Subscription};

/// Time between bookmarks.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// Watches without `timeoutSeconds` end after this to twice this, as in Kubernetes.
const MIN_TIMEOUT: u64 = 1800;
/// Frames are joined into one piece up to this size.
const PIECE_BYTES: usize = 64 << 10;

const ADDED: (usize, &str) = (0, "ADDED");
const MODIFIED: (usize, &str) = (1, "MODIFIED");
const DELETED: (usize, &str) = (2, "DELETED");

struct Watch {
    api: Arc<Api>,
    call: Call,
    form: Form,
    selector: Selector,
    scope: Scope,
    resource: String,
    /// Objects that existed at the start and are still to be sent.
    initial: VecDeque<Arc<Object>>,
    /// A bookmark ends the initial objects.
    announce_end: bool,
    start: u64,
    subscription: Option<Subscription>,
    columns_sent: bool,
    next_bookmark: Instant,
    deadline: Instant,
    /// Events sent.
    sent: Arc<AtomicU64>,
}

/// Starts a watch. Errors about its start are sent in the stream if they concern revisions, as
/// the API server does.
pub(crate) fn start(api: &Arc<Api>, call: Call, form: Form) -> Result<Body, Status> {
    call.options.check_list()?;
    let (selector, scope) = Selector::of(&call)?;
    let resource = call.resource();
    let wanted = call.options.revision()?.unwrap_or_default();
    let current = api.store.revision();
    if wanted > current {
        return Ok(failed(&Status::too_large_resource_version(wanted, current)));
    }
    // Without a revision, or with 0, a watch begins with everything that exists.
    let everything = match call.options.send_initial_events {
        Some(everything) => everything,
        None => wanted == 0,
    };
    let (start, initial, subscription) = if everything {
        let (revision, objects, subscription) = api.store.list_and_subscribe(&resource, &scope);
        (revision, objects.into(), subscription)
    } else {
        let since = if wanted == 0 { current } else { wanted };
        match api.store.subscribe(Some(&resource), &scope, since) {
            Ok(subscription) => (since, VecDeque::new(), subscription),
            Err(expired) => {
                let text = format!("too old resource version: {since} ({})", expired.oldest);
                return Ok(failed(&Status::expired(text)));
            }
        }
    };
    let seconds = call.options.timeout_seconds.filter(|seconds| *seconds > 0);
    let seconds = seconds.unwrap_or_else(|| rand::rng().random_range(MIN_TIMEOUT..2 * MIN_TIMEOUT));
    let now = Instant::now();
    let watch = Watch {
        api: Arc::clone(api),
        announce_end: call.options.send_initial_events == Some(true),
        sent: api.metrics.watch_events(&call.kind),
        call,
        form,
        selector,
        scope,
        resource,
        initial,
        start,
        subscription: Some(subscription),
        columns_sent: false,
        next_bookmark: now + BOOKMARK_EVERY,
        // A day is longer than any client keeps a watch; an absurd number must not overflow.
        deadline: now + Duration::from_secs(seconds.min(86_400)),
    };
    Ok(Body::stream(futures::stream::unfold(
        watch,
        |mut watch| async move { watch.next().await.map(|piece| (piece, watch)) },
    )))
}

/// A stream that only tells why there is no watch.
fn failed(status: &Status) -> Body {
    Body::full(error_frame(status))
}

fn error_frame(status: &Status) -> Bytes {
    let mut text = json!({ "type": "ERROR", "object": status.to_value() }).to_string();
    text.push('\n');
    text.into()
}

fn frame(kind: &str, object: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(object.len() + 32);
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(b"\",\"object\":");
    out.extend_from_slice(object);
    out.extend_from_slice(b"}\n");
    out.freeze()
}

impl Watch {
    /// The next piece of the stream; `None` ends it.
    async fn next(&mut self) -> Option<Bytes> {
        while !self.initial.is_empty() || self.announce_end {
            if let Some(piece) = self.initial_piece() {
                return Some(piece);
            }
        }
        loop {
            let subscription = self.subscription.as_mut()?;
            let wake = self.next_bookmark.min(self.deadline);
            let event = tokio::select! {
                biased;
                event = subscription.next() => event,
                () = tokio::time::sleep_until(wake) => {
                    if let Some(piece) = self.timer_piece() {
                        return Some(piece);
                    }
                    continue;
                }
            };
            let piece = match event {
                Some(event) => self.piece(&event),
                None if subscription.lagged() => self.catch_up(),
                None => return None,
            };
            if piece.is_some() {
                return piece;
            }
        }
    }

    fn initial_piece(&mut self) -> Option<Bytes> {
        let mut out = BytesMut::new();
        while out.len() < PIECE_BYTES
            && let Some(object) = self.initial.pop_front()
        {
            if self.selector.matches(&object) {
                self.sent.fetch_add(1, Ordering::Relaxed);
                out.extend_from_slice(&self.object_frame(ADDED.1, &object.bytes()));
            }
        }
        if self.initial.is_empty() && self.announce_end {
            self.announce_end = false;
            out.extend_from_slice(&self.bookmark(self.start, true));
        }
        (!out.is_empty()).then(|| out.freeze())
    }

    /// An event and those that are already behind it, as one piece.
    fn piece(&mut self, first: &Arc<Event>) -> Option<Bytes> {
        let first = self.event_frame(first);
        let mut joined: Option<BytesMut> = None;
        loop {
            let size = joined.as_ref().map_or(0, BytesMut::len);
            if size >= PIECE_BYTES {
                break;
            }
            let Some(event) = self.subscription.as_mut().and_then(Subscription::try_next) else {
                break;
            };
            if let Some(frame) = self.event_frame(&event) {
                let joined = joined.get_or_insert_with(|| {
                    let mut out = BytesMut::new();
                    out.extend_from_slice(first.as_deref().unwrap_or_default());
                    out
                });
                joined.extend_from_slice(&frame);
            }
        }
        joined.map(BytesMut::freeze).or(first)
    }

    /// Subscribes again where the queue overflowed.
    fn catch_up(&mut self) -> Option<Bytes> {
        let since = self
            .subscription
            .take()
            .map_or(self.start, |subscription| subscription.seen());
        match self
            .api
            .store
            .subscribe(Some(&self.resource), &self.scope, since)
        {
            Ok(subscription) => {
                self.subscription = Some(subscription);
                None
            }
            Err(expired) => {
                let text = format!("too old resource version: {since} ({})", expired.oldest);
                Some(error_frame(&Status::expired(text)))
            }
        }
    }

    /// A bookmark, the end of the watch, or nothing.
    fn timer_piece(&mut self) -> Option<Bytes> {
        let now = Instant::now();
        let ends = now >= self.deadline;
        self.next_bookmark = now + BOOKMARK_EVERY;
        // Everything up to this revision must be sent before a bookmark may name it.
        let revision = self.api.store.revision();
        let event = self.subscription.as_mut().and_then(Subscription::try_next);
        let mut out = BytesMut::new();
        if let Some(event) = event {
            if let Some(piece) = self.piece(&event) {
                out.extend_from_slice(&piece);
            }
        } else if self.call.options.allow_bookmarks {
            out.extend_from_slice(&self.bookmark(revision, false));
        }
        if ends {
            self.subscription = None;
        }
        (!out.is_empty()).then(|| out.freeze())
    }

    fn event_frame(&mut self, event: &Event) -> Option<Bytes> {
        let now = event
            .object
            .as_ref()
            .filter(|object| self.selector.matches(object));
        let before = event
            .prev
            .as_ref()
            .filter(|prev| self.selector.matches(prev));
        let ((slot, kind), bytes, shared) = match (now, before) {
            (Some(now), None) => (ADDED, now.bytes(), event.prev.is_none()),
            (Some(now), Some(_)) => (MODIFIED, now.bytes(), true),
            (None, Some(_)) if event.object.is_none() => {
                (DELETED, event.deleted_bytes().clone(), true)
            }
            // The object is no longer selected: for this watcher that is a deletion.
            (None, Some(prev)) => (DELETED, prev.at_revision(event.revision), false),
            (None, None) => return None,
        };
        self.sent.fetch_add(1, Ordering::Relaxed);
        let plain = self.form == Form::Json && render::is_version(&bytes, &self.call.kind);
        if plain && shared {
            return Some(event.frame(slot, || frame(kind, &bytes)));
        }
        Some(self.object_frame(kind, &bytes))
    }

    fn object_frame(&mut self, kind: &str, bytes: &Bytes) -> Bytes {
        let columns = !std::mem::replace(&mut self.columns_sent, true);
        frame(
            kind,
            &render::watched(&self.call, &self.form, bytes, columns),
        )
    }

    fn bookmark(&self, revision: u64, end_of_initial: bool) -> Bytes {
        let mut metadata =
            json!({ "resourceVersion": revision.to_string(), "creationTimestamp": Value::Null });
        if end_of_initial {
            metadata["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
        }
        let (api_version, kind) = render::type_of(&self.call, &self.form);
        let object = json!({ "kind": kind, "apiVersion": api_version, "metadata": metadata });
        frame("BOOKMARK", object.to_string().as_bytes())
    }
}
