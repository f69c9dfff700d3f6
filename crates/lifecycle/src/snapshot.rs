//! A value that one writer replaces and many readers use without a lock.
//!
//! A swap is visible to every reader's next [`Snapshots::current`], whichever thread it runs on:
//! when [`Publish::publish`] returns, the new value is the one that is served.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use tokio::sync::watch;

/// Creates the two ends of a snapshot channel, starting at generation 0 with `first`.
pub fn snapshot_channel<T>(first: T) -> (Publish<T>, Snapshots<T>) {
    let value = Arc::new(ArcSwap::from_pointee(first));
    let (changed, watch) = watch::channel(0);
    (
        Publish {
            value: Arc::clone(&value),
            changed,
        },
        Snapshots { value, watch },
    )
}

/// The writing end; there is one.
#[derive(Debug)]
pub struct Publish<T> {
    value: Arc<ArcSwap<T>>,
    changed: watch::Sender<u64>,
}

impl<T> Publish<T> {
    /// Replaces the value. Returns its generation.
    pub fn publish(&self, next: Arc<T>) -> u64 {
        self.value.store(next);
        let mut generation = 0;
        self.changed.send_modify(|current| {
            *current += 1;
            generation = *current;
        });
        generation
    }

    /// The value that readers see now.
    pub fn current(&self) -> Arc<T> {
        self.value.load_full()
    }
}

/// The reading end.
#[derive(Debug)]
pub struct Snapshots<T> {
    value: Arc<ArcSwap<T>>,
    watch: watch::Receiver<u64>,
}

impl<T> Clone for Snapshots<T> {
    fn clone(&self) -> Self {
        Self {
            value: Arc::clone(&self.value),
            watch: self.watch.clone(),
        }
    }
}

impl<T> Snapshots<T> {
    /// The value now, without touching its reference count: cheap enough for every request.
    /// Do not hold it across an `.await`; use [`Self::current_owned`] for that.
    pub fn current(&self) -> Guard<Arc<T>> {
        self.value.load()
    }

    /// The value now, to keep.
    pub fn current_owned(&self) -> Arc<T> {
        self.value.load_full()
    }

    /// Waits for a value that this reader has not been told of. `false` once the writer is gone.
    pub async fn changed(&mut self) -> bool {
        self.watch.changed().await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_reader_sees_the_new_value_and_is_told_once() {
        let (publish, mut snapshots) = snapshot_channel(1);
        assert_eq!(**snapshots.current(), 1);
        assert_eq!(publish.publish(Arc::new(2)), 1);
        assert!(snapshots.changed().await);
        assert_eq!(*snapshots.current_owned(), 2);
        drop(publish);
        assert!(!snapshots.changed().await);
    }
}
