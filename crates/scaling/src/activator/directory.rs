//! Throttlers by backend id, for many readers and one writer.
//!
//! A fixed number of small immutable buckets: a look-up takes no lock, and a change copies one
//! bucket, not the world (about ten entries at 10,000 backends).

use std::sync::Arc;

use arc_swap::ArcSwap;
use routing::BackendId;

use crate::throttler::Throttler;

/// A power of two.
const BUCKETS: usize = 1024;

#[derive(Debug)]
pub(super) struct Directory {
    buckets: Box<[ArcSwap<Vec<Arc<Throttler>>>]>,
}

impl Directory {
    pub(super) fn new() -> Self {
        let empty = Arc::<Vec<_>>::default();
        let buckets = (0..BUCKETS)
            .map(|_| ArcSwap::new(Arc::clone(&empty)))
            .collect();
        Self { buckets }
    }

    /// Calls `use_it` with the throttler of this id, without touching its reference count.
    pub(super) fn find<T>(
        &self,
        id: &BackendId,
        use_it: impl FnOnce(&Arc<Throttler>) -> T,
    ) -> Option<T> {
        let bucket = self.bucket(id).load();
        bucket
            .iter()
            .find(|throttler| is(throttler, id))
            .map(use_it)
    }

    /// Calls `use_it` with every throttler.
    pub(super) fn each(&self, mut use_it: impl FnMut(&Arc<Throttler>)) {
        for bucket in &self.buckets {
            bucket.load().iter().for_each(&mut use_it);
        }
    }

    /// Adds a throttler, in place of one with the same id. One writer at a time.
    pub(super) fn insert(&self, throttler: Arc<Throttler>) {
        let bucket = self.bucket(throttler.id());
        let mut entries = Vec::clone(&bucket.load());
        entries.retain(|entry| !is(entry, throttler.id()));
        entries.push(throttler);
        bucket.store(Arc::new(entries));
    }

    /// Takes a throttler out. One writer at a time.
    pub(super) fn remove(&self, id: &BackendId) -> Option<Arc<Throttler>> {
        let bucket = self.bucket(id);
        let mut entries = Vec::clone(&bucket.load());
        let at = entries.iter().position(|entry| is(entry, id))?;
        let removed = entries.swap_remove(at);
        bucket.store(Arc::new(entries));
        Some(removed)
    }

    fn bucket(&self, id: &BackendId) -> &ArcSwap<Vec<Arc<Throttler>>> {
        &self.buckets[id.table_hash() as usize % BUCKETS]
    }
}

fn is(throttler: &Throttler, id: &BackendId) -> bool {
    Arc::ptr_eq(&throttler.id().0, &id.0) || throttler.id() == id
}
