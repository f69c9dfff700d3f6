//! The allocator, and when it gives memory back (docs/decisions/013-memory.md).
//!
//! Every object is written a few times, looked at for some seconds, and then kept for hours in a
//! small form. glibc's allocator keeps the pages that such a burst leaves behind half empty:
//! three quarters of its heap were free, and could not be given back.

#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Lets a thread of the allocator give back what was freed, also while this process does nothing.
/// Not for the hidden roles: some of them must have a single thread.
#[cfg(target_os = "linux")]
pub fn give_back_at_rest() {
    use tikv_jemalloc_ctl::{background_thread, max_background_threads};
    let started = max_background_threads::write(1).and_then(|()| background_thread::write(true));
    if let Err(error) = started {
        tracing::warn!(%error, "memory is given back only while more is asked for");
    }
}

/// The platform's allocator knows by itself.
#[cfg(not(target_os = "linux"))]
pub fn give_back_at_rest() {}
