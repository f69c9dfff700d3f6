//! Two futures at once, on the path of every request: no turns, no budget, nothing to count.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use futures::future::Either;

/// Waits for the one that is ready first. `left` is asked first, and `right` only while it is
/// pending.
pub(crate) fn first<L: Future, R: Future>(
    mut left: Pin<&mut L>,
    mut right: Pin<&mut R>,
) -> impl Future<Output = Either<L::Output, R::Output>> {
    poll_fn(move |cx| match left.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Either::Left(done)),
        Poll::Pending => right.as_mut().poll(cx).map(Either::Right),
    })
}
