//! The same request again on one connection: what becomes of it was planned before.
//!
//! Who calls one method over and over sends one head over and over ([`RequestHead::again`]). Its
//! route, its backend and the head for the next hop are the same, as long as the snapshot is and
//! nothing about the route depends on more than the head and the connection.
//!
//! [`RequestHead::again`]: crate::http1::head::RequestHead::again

use std::cell::RefCell;
use std::net::IpAddr;
use std::num::NonZeroU64;
use std::rc::Rc;
use std::sync::{Arc, Weak};

use routing::{Backend, CompiledAction, CompiledArm, CompiledRoute, Snapshot};

use crate::connection::Client;
use crate::filter::template::Sender;
use crate::forward::Forward;
use crate::message::View;
use crate::plan::client_source;
use crate::traffic::Traffic;
use crate::worker::{Scratch, Worker};

/// Bytes of a head for the next hop that is kept.
const LARGEST: usize = 4096;

/// What became of the last request whose head had come before. One per connection.
#[derive(Default)]
pub(crate) struct Known(RefCell<Option<Box<Planned>>>);

struct Planned {
    /// Of the client's head.
    again: NonZeroU64,
    /// Held by its memory only, so that no other snapshot can come to lie where it was.
    snapshot: Weak<Snapshot>,
    route: Arc<CompiledRoute>,
    backend: Arc<Backend>,
    /// The client's address, if trusted proxies said it.
    client: Option<IpAddr>,
    /// For the next hop.
    head: Rc<[u8]>,
}

impl Known {
    /// Forgets it, for a connection that is silent.
    pub(crate) fn forget(&self) {
        self.0.take();
    }

    /// What was planned for this head, as long as nothing has changed.
    pub(crate) fn recall(
        &self,
        worker: &Worker,
        client: &Client,
        scratch: &mut Scratch,
        view: View<'_>,
    ) -> Option<Forward> {
        let again = view.head.again?;
        let known = self.0.borrow();
        let planned = known.as_deref().filter(|it| it.again == again)?;
        // A span's number is in the head; a challenge may be asked for at any path.
        if scratch.span.is_some() || worker.challenges.is_on() {
            return None;
        }
        let snapshot = Arc::as_ptr(&worker.snapshots.current());
        if !std::ptr::eq(snapshot, planned.snapshot.as_ptr()) {
            return None;
        }
        let arm = only_arm(&planned.route)?;
        scratch.client = planned.client;
        scratch.series = worker.series.of_arm(&planned.route, arm, &planned.backend);
        scratch.known_head = Some(Rc::clone(&planned.head));
        let sender = Sender {
            view,
            client,
            address: planned.client,
            is_outside: client.is_outside(client_source(worker, client, &planned.route)),
        };
        let traffic = Traffic::plan(worker, &planned.backend, &sender, None);
        Some(Forward::plain(&planned.backend, view, traffic))
    }

    /// Keeps what was planned for a request, if it will be planned so again.
    pub(crate) fn remember(
        &self,
        scratch: &Scratch,
        (snapshot, route): (&Arc<Snapshot>, &Arc<CompiledRoute>),
        forward: &Forward,
        view: View<'_>,
    ) {
        let Some(again) = view.head.again else {
            return;
        };
        let is_kept = only_arm(route).is_some()
            && forward.is_plain()
            && scratch.span.is_none()
            && scratch.upstream_head.len() <= LARGEST;
        let planned = is_kept.then(|| {
            Box::new(Planned {
                again,
                snapshot: Arc::downgrade(snapshot),
                route: Arc::clone(route),
                backend: Arc::clone(&forward.backend),
                client: scratch.client,
                head: scratch.upstream_head.as_slice().into(),
            })
        });
        *self.0.borrow_mut() = planned;
    }
}

/// The arm that every request of a route takes, if neither it nor the route does more with a
/// request than pass it on.
fn only_arm(route: &CompiledRoute) -> Option<&CompiledArm> {
    let (CompiledAction::Forward(split) | CompiledAction::ForwardSecure(split)) = &route.action
    else {
        return None;
    };
    let mut arms = split.arms();
    let arm = arms.next().filter(|_| arms.len() == 0)?;
    let is_plain = route.filters().is_none() && arm.filters().is_none() && arm.instead.is_none();
    is_plain.then_some(arm)
}
