//! How a snapshot reaches a backend's endpoints, in two steps.
//!
//! A pod may be behind several backends: first all of them learn what there is, then all of them
//! let go of what is gone. Endpoints and how they are reached (protocol, TLS) change in one step.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use routing::{Backend, EndpointState};

use super::{AcquireError, Member, Ready, Throttler, is_reached_alike};
use crate::endpoint::Counted;

/// What a snapshot changes, between the two steps of applying it.
#[derive(Debug)]
pub(crate) struct Update {
    throttler: Arc<Throttler>,
    closing: Vec<Arc<Counted>>,
}

impl Throttler {
    /// First step of applying a snapshot: takes in the endpoints that are new. Draining ones are
    /// taken in too, so that their pods are known in every backend before the second step, in
    /// which the first of them may be drained.
    pub(crate) fn prepare(self: &Arc<Self>, backend: &Arc<Backend>) -> Update {
        // Only the writer changes either.
        let is_alike = is_reached_alike(&self.ready.load().backend, backend);
        let way = self.core.lock().way.wrapping_add(u32::from(!is_alike));
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        members.retain(|member| member.listed || !member.counted.is_retired());
        for member in members.iter_mut() {
            member.listed = false;
        }
        let mut ready = Vec::with_capacity(backend.endpoints.len());
        let mut closing = Vec::new();
        for endpoint in &backend.endpoints {
            let known = members.iter_mut().find(|member| {
                member.counted.endpoint.address == endpoint.address
                    && member.counted.endpoint.pod == endpoint.pod
            });
            let takes_requests = endpoint.state == EndpointState::Ready;
            let counted = match known {
                Some(member) if member.listed => continue, // named twice
                Some(member) if !takes_requests || member.counted.reopen() => {
                    member.listed = true;
                    Arc::clone(&member.counted)
                }
                Some(member) => {
                    *member = Member {
                        counted: Counted::open(endpoint.clone(), &self.core),
                        listed: true,
                    };
                    Arc::clone(&member.counted)
                }
                None => {
                    let counted = Counted::open(endpoint.clone(), &self.core);
                    members.push(Member {
                        counted: Arc::clone(&counted),
                        listed: true,
                    });
                    counted
                }
            };
            counted.set_way(way);
            if takes_requests {
                ready.push((counted, endpoint));
            } else {
                closing.push(counted);
            }
        }
        closing.extend(
            members
                .iter()
                .filter(|member| !member.listed)
                .map(|member| Arc::clone(&member.counted)),
        );
        drop(members);
        self.core.limit.store(backend.concurrency, Ordering::SeqCst);
        self.put_ready(self.core.balanced(backend, &ready), way);
        Update {
            throttler: Arc::clone(self),
            closing,
        }
    }

    /// Those who wait to be sent another way than to these endpoints are told to come again.
    fn put_ready(&self, ready: Ready, way: u32) {
        let ready = Arc::new(ready);
        let waiters = {
            let mut queue = self.core.lock();
            // Under the lock: who waits from here on has compared with these.
            self.ready.store(ready);
            if std::mem::replace(&mut queue.way, way) == way {
                return;
            }
            self.core.waiting.store(0, Ordering::SeqCst);
            std::mem::take(&mut queue.waiters)
        };
        self.core
            .refuse(waiters, |backend| AcquireError::Changed { backend });
    }

    /// The backend is gone: those who wait are told, requests in flight finish.
    pub(crate) fn remove(self: &Arc<Self>) -> Update {
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        let closing = members.drain(..).map(|member| member.counted).collect();
        drop(members);
        let none = Ready::none(&self.ready.load().backend);
        self.ready.store(Arc::new(none));
        self.core.lock().closed = true;
        self.core
            .refuse_all(|backend| AcquireError::Gone { backend });
        Update {
            throttler: Arc::clone(self),
            closing,
        }
    }
}

impl Update {
    /// Second step: nothing new goes to endpoints that are draining or gone, and those who wait
    /// get what is there.
    pub(crate) fn finish(self) {
        for counted in &self.closing {
            counted.close();
        }
        let Throttler {
            core,
            ready,
            waits_for_endpoints,
            came,
            ..
        } = &*self.throttler;
        came.notify_waiters();
        // Through the lock: a request that queues after this sees the new endpoints.
        if core.lock().waiters.is_empty() {
            return;
        }
        self.throttler.dispatch();
        if !waits_for_endpoints && ready.load().endpoints.is_empty() {
            core.refuse_all(|backend| AcquireError::NoEndpoint { backend });
        }
    }
}
