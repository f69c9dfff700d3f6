//! Backends in the index: each is there while a route sends to it, and a moment longer.

use std::sync::Arc;
use std::time::Duration;

use dialects::Dependency;
use dialects::backend::{self, BackendRef};
use dialects::foreign::BackendSpec;
use tokio::time::Instant;

use super::{Consumer, Index};
use crate::few::Few;

/// How long a backend that no route uses any more stays in the snapshot: requests that chose it
/// a moment ago, or wait for one of its pods, still get there.
pub(super) const LINGER: Duration = Duration::from_secs(60);
/// The same once its Service is gone too.
const GONE_LINGER: Duration = Duration::from_secs(1);

/// One backend in the snapshot.
#[derive(Default)]
pub(super) struct Used {
    /// Ingresses whose live generation sends there.
    pub(super) users: usize,
    /// What they say about it, if that differs from its Service.
    pub(super) spec: Option<Arc<BackendSpec>>,
    /// When it is dropped, if it has no user.
    pub(super) until: Option<Instant>,
    pub(super) reads: Few<Dependency>,
}

impl Index {
    pub(super) fn use_backend(&mut self, reference: &BackendRef) {
        let used = self.backends.entry(reference.clone()).or_default();
        used.users += 1;
        used.until = None;
        self.dirty.insert(Consumer::Backend(reference.clone()));
    }

    /// An object sends to other backends than before.
    pub(super) fn change_backends(
        &mut self,
        before: &Few<BackendRef>,
        references: &Few<BackendRef>,
        now: Instant,
    ) {
        for reference in references.minus(before) {
            self.use_backend(reference);
        }
        for reference in before.minus(references) {
            self.release_backend(reference, now);
        }
    }

    pub(super) fn release_backend(&mut self, reference: &BackendRef, now: Instant) {
        let Some(used) = self.backends.get_mut(reference) else {
            return;
        };
        used.users = used.users.saturating_sub(1);
        if used.users == 0 {
            used.until = Some(now + LINGER);
            self.retired.insert((now + LINGER, reference.clone()));
        }
    }

    pub(super) fn translate_backend(&mut self, reference: &BackendRef, now: Instant) {
        let Some(used) = self.backends.get_mut(reference) else {
            return;
        };
        let translation = backend::translate_as(reference, used.spec.as_deref(), &self.objects);
        let reads = Few::from(translation.reads);
        let before = std::mem::replace(&mut used.reads, reads.clone());
        match translation.backend {
            Some(backend) => self.compiler.put_backend(backend),
            // Requests that chose it before its routes went away keep what there was, for a
            // moment: its pods wait for us to let go of them.
            None if used.users == 0 => {
                let until = now + GONE_LINGER;
                if used.until.is_none_or(|at| at > until) {
                    if let Some(later) = used.until.replace(until) {
                        self.retired.remove(&(later, reference.clone()));
                    }
                    self.retired.insert((until, reference.clone()));
                }
            }
            None => self.compiler.remove_backend(&reference.id()),
        }
        self.set_reads(&Consumer::Backend(reference.clone()), &before, &reads);
    }

    /// Drops backends that had no user for long enough.
    pub(super) fn expire(&mut self, now: Instant) {
        while self.retired.first().is_some_and(|(at, _)| *at <= now) {
            let Some((at, reference)) = self.retired.pop_first() else {
                return;
            };
            // It may have been used again since, and given up again later.
            let is_over = |used: &Used| used.until == Some(at);
            if !self.backends.get(&reference).is_some_and(is_over) {
                continue;
            }
            if let Some(used) = self.backends.remove(&reference) {
                self.compiler.remove_backend(&reference.id());
                let consumer = Consumer::Backend(reference);
                self.set_reads(&consumer, &used.reads, &Few::default());
            }
        }
    }
}
