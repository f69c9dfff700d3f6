//! Bounds of a policy: who is refused, and that every count returns to nothing.

use routing::model::{BackendPolicy, Limits};

use super::policies::{gateway, get, get_for, ready_ones, with};
use super::*;
use crate::balance::random::{PerThread, Random};
use crate::{Limit, Outcome};

#[test]
fn what_is_beyond_a_limit_is_refused_until_somebody_leaves() {
    let mut gateway = gateway();
    let limits = Limits {
        requests: Some(2),
        retries: Some(1),
        ..Limits::default()
    };
    let policy = BackendPolicy {
        limits,
        ..BackendPolicy::default()
    };
    let backend = gateway.put(&with(policy, ready_ones(2)));
    let retry = Preference {
        is_retry: true,
        ..Preference::default()
    };
    let refused = |preference| match get_for(&gateway, &backend, preference) {
        Err(AcquireError::Overflow { limit, .. }) => limit,
        other => panic!("{other:?}"),
    };
    let first = get_for(&gateway, &backend, retry).expect("a slot");
    assert_eq!(refused(retry), Limit::Retries);
    let second = get(&gateway, &backend).expect("a slot");
    assert_eq!(refused(Preference::default()), Limit::Requests);
    drop(first);
    let third = get_for(&gateway, &backend, retry).expect("a slot");
    drop((second, third));
    let stats = gateway.activator.traffic().remove(0).1;
    assert_eq!(stats.overflows, [0, 0, 1, 1, 0]);
}

#[test]
fn a_request_that_stops_waiting_is_counted_out() {
    let mut gateway = gateway();
    let policy = BackendPolicy {
        limits: Limits {
            requests: Some(1),
            ..Limits::default()
        },
        ..BackendPolicy::default()
    };
    let cold = Backend {
        policy: Some(Arc::new(policy)),
        ..revision(0, Vec::new())
    };
    let (backend, activator) = (gateway.put(&cold), gateway.activator.clone());
    let mut waiting = acquire(&activator, &backend);
    assert!(poll(&mut waiting).is_pending());
    assert!(matches!(
        get(&gateway, &backend),
        Err(AcquireError::Overflow { .. })
    ));
    drop(waiting);
    let mut waiting = acquire(&activator, &backend);
    assert!(poll(&mut waiting).is_pending());
    let warm = Backend {
        endpoints: ready_ones(1),
        ..cold
    };
    let backend = gateway.put(&warm);
    let slot = expect_slot(&mut waiting);
    assert!(matches!(
        get(&gateway, &backend),
        Err(AcquireError::Overflow { .. })
    ));
    drop(slot);
    assert!(get(&gateway, &backend).is_ok());
}

#[test]
fn connections_are_counted_and_a_thread_without_one_may_have_one() {
    let mut gateway = gateway();
    let policy = BackendPolicy {
        limits: Limits {
            connections: Some(1),
            connections_per_endpoint: Some(2),
            pending: Some(1),
            ..Limits::default()
        },
        ..BackendPolicy::default()
    };
    let backend = gateway.put(&with(policy, ready_ones(1)));
    let slot = get(&gateway, &backend).expect("a slot");
    let refused = |result: Result<_, AcquireError>| match result {
        Err(AcquireError::Overflow { limit, .. }) => limit,
        _ => panic!("it was not refused"),
    };
    let first = slot.link(true).expect("the first");
    assert_eq!(refused(slot.link(false)), Limit::Connections);
    let second = slot.link(true).expect("another thread's first");
    assert_eq!(refused(slot.link(true)), Limit::ConnectionsPerEndpoint);
    let pending = slot.pending().expect("one may wait");
    assert_eq!(
        refused(slot.pending().map(|_| crate::Link::default())),
        Limit::Pending
    );
    let mut wait = Box::pin(pending.until(|| slot.link(false).ok()));
    assert!(poll(&mut wait).is_pending());
    drop(first);
    assert!(
        poll(&mut wait).is_pending(),
        "the other thread's is still there"
    );
    drop(second);
    assert!(poll(&mut wait).is_ready());
}

#[test]
fn a_bound_holds_while_threads_come_and_go_and_endpoints_are_ejected() {
    const BOUND: usize = 2;
    let mut gateway = gateway();
    let policy = BackendPolicy {
        limits: Limits {
            requests: Some(BOUND as u32),
            connections: Some(3),
            ..Limits::default()
        },
        outliers: Some(crate::balance::testing::rules()),
        ..BackendPolicy::default()
    };
    let limited = Backend {
        concurrency: 2,
        ..with(policy, ready_ones(8))
    };
    let backend = gateway.put(&limited);
    let active = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..3_000 {
                    let mut wish = acquire(&gateway.activator, &backend);
                    let Poll::Ready(Ok(slot)) = poll(&mut wish) else {
                        continue;
                    };
                    assert!(active.fetch_add(1, Ordering::SeqCst) < BOUND);
                    let link = slot.link(false);
                    let fails = PerThread.below(3) == 0;
                    slot.report(Outcome::Answered(if fails { 500 } else { 200 }));
                    active.fetch_sub(1, Ordering::SeqCst);
                    drop((link, slot));
                }
            });
        }
    });
    let found = gateway
        .activator
        .shared
        .directory
        .find(&backend.id, Arc::clone);
    let throttler = found.expect("it is known");
    let usage = &throttler.core().traffic.get().expect("a policy").usage;
    for count in [
        &usage.requests,
        &usage.retries,
        &usage.pending,
        &usage.connections,
    ] {
        assert_eq!(count.load(Ordering::SeqCst), 0);
    }
}

#[test]
fn a_slot_is_small_for_every_request_has_one() {
    assert!(size_of::<Slot>() <= 16, "{}", size_of::<Slot>());
}
