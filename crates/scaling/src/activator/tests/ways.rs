//! Endpoints and how they are reached change together.

use super::*;

fn http2(endpoints: Vec<Endpoint>) -> Backend {
    Backend {
        protocol: Protocol::H2c,
        ..plain(1, endpoints)
    }
}

fn http1(endpoints: Vec<Endpoint>) -> Backend {
    plain(1, endpoints)
}

fn refusal(future: &mut Acquire<'_>) -> AcquireError {
    match poll(future) {
        Poll::Ready(Err(error)) => error,
        other => panic!("not refused: {other:?}"),
    }
}

fn is_changed(error: &AcquireError) -> bool {
    matches!(error, AcquireError::Changed { .. })
}

#[tokio::test(start_paused = true)]
async fn a_request_that_knows_the_new_protocol_first_gets_the_new_endpoint() {
    let mut gateway = Gateway::new(Settings::KNATIVE);
    gateway.put(&http1(vec![ready(1)]));
    let new = Arc::new(http2(vec![ready(2)]));
    gateway.compiler.put_backend(Arc::clone(&new));
    // Nobody has applied it yet.
    let snapshot = Arc::new(gateway.compiler.compile().0);
    gateway.publish.publish(snapshot);
    let slot = expect_slot(&mut acquire(&gateway.activator, &new));
    assert_eq!(slot.endpoint().address.port(), 1002);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_was_made_for_the_old_protocol_gets_no_new_endpoint() {
    let mut gateway = Gateway::new(Settings::KNATIVE);
    let old = gateway.put(&http1(vec![ready(1)]));
    let new = gateway.put(&http2(vec![ready(2)]));
    assert!(is_changed(&refusal(&mut acquire(&gateway.activator, &old))));
    let slot = expect_slot(&mut acquire(&gateway.activator, &new));
    assert_eq!(slot.endpoint().address.port(), 1002);
}

#[tokio::test(start_paused = true)]
async fn endpoints_alone_change_nothing_for_those_who_wait() {
    let mut gateway = Gateway::new(Settings::KNATIVE);
    let activator = gateway.activator.clone();
    let backend = gateway.put(&http1(vec![ready(1)]));
    let _slot = expect_slot(&mut acquire(&activator, &backend));
    let mut waits = acquire(&activator, &backend);
    assert!(poll(&mut waits).is_pending());
    gateway.put(&http1(vec![ready(1), ready(2)]));
    assert_eq!(expect_slot(&mut waits).endpoint().address.port(), 1002);
}

#[tokio::test(start_paused = true)]
async fn who_waits_to_speak_the_old_protocol_is_told_to_come_again() {
    let mut gateway = Gateway::new(Settings::KNATIVE);
    let activator = gateway.activator.clone();
    let old = gateway.put(&http1(vec![ready(1)]));
    let slot = expect_slot(&mut acquire(&activator, &old));
    let mut waits = acquire(&activator, &old);
    assert!(poll(&mut waits).is_pending());
    let new = gateway.put(&http2(vec![ready(2)]));
    assert!(is_changed(&refusal(&mut waits)));
    let _other = expect_slot(&mut acquire(&activator, &new));
    // The place that becomes free now is at an endpoint of before.
    let mut waits = acquire(&activator, &new);
    assert!(poll(&mut waits).is_pending());
    drop(slot);
    assert!(poll(&mut waits).is_pending());
}

#[tokio::test(start_paused = true)]
async fn between_the_steps_of_a_snapshot_no_old_endpoint_is_handed_over() {
    let mut gateway = Gateway::new(Settings::KNATIVE);
    let old = gateway.put(&http1(vec![ready(1)]));
    let slot = expect_slot(&mut acquire(&gateway.activator, &old));
    let new = Arc::new(http2(vec![ready(2)]));
    let directory = &gateway.activator.shared.directory;
    let throttler = directory.find(&new.id, Arc::clone).expect("is known");
    let update = throttler.prepare(&new);
    let first = expect_slot(&mut acquire(&gateway.activator, &new));
    let mut waits = acquire(&gateway.activator, &new);
    assert!(poll(&mut waits).is_pending());
    drop(slot);
    assert!(poll(&mut waits).is_pending(), "it speaks HTTP/2 now");
    update.finish();
    drop(first);
    assert_eq!(expect_slot(&mut waits).endpoint().address.port(), 1002);
}
