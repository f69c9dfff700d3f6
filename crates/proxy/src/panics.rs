//! A fault of ours in one request, or in one duty of a thread, ends that and nothing else.
//!
//! Whatever a panic unwinds gives back what it held: places in queues, slots and connections are
//! guards. Here is what has to go on afterwards: the request is answered, counted and logged, and a
//! duty begins again.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::worker::Worker;

/// Before a duty begins again: one that always fails must not keep its thread busy.
const PAUSE: Duration = Duration::from_millis(100);

/// Its message went where those of all panics go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Panicked;

/// Polls a future until it is done or panics; then it must only be dropped.
pub(crate) async fn caught<F: Future>(mut future: Pin<&mut F>) -> Result<F::Output, Panicked> {
    poll_fn(move |cx| poll_caught(future.as_mut(), cx)).await
}

/// The same, polled once.
pub(crate) fn poll_caught<F: Future>(
    future: Pin<&mut F>,
    cx: &mut Context<'_>,
) -> Poll<Result<F::Output, Panicked>> {
    match catch_unwind(AssertUnwindSafe(|| future.poll(cx))) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
        Err(_) => Poll::Ready(Err(Panicked)),
    }
}

/// Does a thread's duty until it is over, and begins again if it panics.
pub(crate) async fn enduring<F: Future>(
    worker: &Rc<Worker>,
    duty: &'static str,
    mut begin: impl FnMut() -> F,
) -> F::Output {
    loop {
        let done = caught(pin!(begin())).await;
        match done {
            Ok(output) => return output,
            Err(Panicked) => tell(worker, duty).await,
        }
    }
}

/// Tells of a duty that panicked, and waits until it may begin again.
pub(crate) async fn tell(worker: &Worker, duty: &'static str) {
    worker.counters.panics.add(1);
    tracing::error!(duty, "a fault of the gateway ended this, it begins again");
    tokio::time::sleep(PAUSE).await;
}

/// What tests break on purpose.
#[cfg(test)]
pub(crate) mod faults {
    use std::sync::atomic::{AtomicU16, Ordering};

    /// The next connection that is accepted at this port.
    pub(crate) static ACCEPT: AtomicU16 = AtomicU16::new(0);

    /// A request whose field `x-break` names this place.
    pub(crate) fn request(view: crate::message::View<'_>, place: &str) {
        let named = view.field("x-break");
        assert!(named != Some(place.as_bytes()), "broken on purpose");
    }

    /// An answer that does.
    pub(crate) fn answer(answer: &crate::downstream::Answer<'_>, place: &str) {
        let named = answer.head.fields.get(answer.bytes, "x-break");
        assert!(named != Some(place.as_bytes()), "broken on purpose");
    }

    /// A frame of this type.
    pub(crate) fn frame(kind: u8) {
        assert!(kind != 0xee, "broken on purpose");
    }

    pub(crate) fn accepting(listener: &tokio::net::TcpListener) {
        let port = listener.local_addr().map_or(0, |address| address.port());
        let breaks = ACCEPT.compare_exchange(port, 0, Ordering::SeqCst, Ordering::SeqCst);
        assert!(breaks.is_err(), "broken on purpose");
    }
}
