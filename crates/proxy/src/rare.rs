//! Keeps what happens rarely out of the futures and stack frames of what happens always.
//!
//! A future that is awaited by name becomes part of its caller: its size counts for every
//! connection, and its locals for every poll. Behind a pointer it costs an allocation when used.

use std::pin::Pin;

/// The same future behind a pointer, never inlined.
pub(crate) fn rare<'f, T>(
    future: impl Future<Output = T> + 'f,
) -> Pin<Box<dyn Future<Output = T> + 'f>> {
    Box::pin(future)
}
