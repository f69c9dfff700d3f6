//! Cases from the definition, and a simulation of a server with a fixed number of workers.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::*;

const RULE: GradientRule = GradientRule {
    percentile: 0.5,
    max: 1000,
    update: Duration::from_millis(100),
    interval: Duration::from_secs(60),
    jitter: 0.0,
    requests: 50,
    min: 3,
    buffer: 0.25,
};

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Serves `count` requests one after the other, each of which takes `took`; the time afterwards.
fn serve(gradient: &mut Gradient, mut now: Duration, count: u32, took: Duration) -> Duration {
    for _ in 0..count {
        assert!(gradient.admit(&RULE, now));
        let start = now;
        now += took;
        gradient.ended(&RULE, start, now, 0.0);
    }
    now
}

#[test]
fn the_limit_after_a_window_is_the_published_formula() {
    // limit, minRTT and sample in milliseconds, and what follows by hand.
    let cases = [
        // Nothing takes longer: 2 is the most. 100 * 1.25 + sqrt(125) = 136.18.
        (100, 100, 100, 136),
        // Within the buffer the limit only grows by its headroom: 100 * 1 + 10.
        (100, 100, 125, 110),
        // Twice as long: 100 * 0.625 + sqrt(62.5) = 70.4.
        (100, 100, 200, 70),
        // Never below a half: 100 * 0.5 + sqrt(50) = 57.07.
        (100, 100, 10_000, 57),
        // Never above twice: 100 * 2 + sqrt(200) = 214.1.
        (100, 100, 1, 214),
        (3, 100, 10_000, 3),
        (900, 100, 50, 1000),
        (10, 40, 40, 16),
    ];
    for (limit, min_rtt, sample, wanted) in cases {
        let found = next(&RULE, limit, millis(min_rtt), millis(sample));
        assert_eq!(found, wanted, "{limit} {min_rtt} {sample}");
    }
}

#[test]
fn a_measurement_pins_the_limit_and_takes_as_many_requests_as_it_says() {
    let mut gradient = Gradient::new(&RULE, Duration::ZERO);
    let admitted = (0..5).filter(|_| gradient.admit(&RULE, Duration::ZERO));
    assert_eq!(admitted.count(), 3);
    for _ in 0..3 {
        gradient.given_up();
    }
    let now = serve(&mut gradient, Duration::ZERO, 49, millis(10));
    assert_eq!(gradient.min_rtt(), None);
    serve(&mut gradient, now, 1, millis(10));
    let found = gradient.min_rtt().expect("measured");
    assert!(
        found.abs_diff(millis(10)) < Duration::from_micros(100),
        "{found:?}"
    );
    assert_eq!((gradient.limit(), gradient.in_flight()), (3, 0));
}

#[test]
fn the_limit_comes_back_after_a_measurement_which_is_due_after_the_interval() {
    let mut gradient = Gradient::new(&RULE, Duration::ZERO);
    let now = serve(&mut gradient, Duration::ZERO, 50, millis(10));
    let now = serve(&mut gradient, now, 100, millis(10));
    let grown = gradient.limit();
    assert!(grown > 10, "{grown}");
    let due = now + RULE.interval;
    assert!(gradient.admit(&RULE, due));
    assert_eq!(gradient.limit(), 3);
    // It began before the measurement, or with it; what counts is what begins from now on.
    gradient.ended(&RULE, due, due + millis(10), 0.0);
    let done = serve(&mut gradient, due + millis(10), 49, millis(10));
    assert!(gradient.limit() >= grown);
    let later = done + RULE.interval - millis(1);
    assert!(gradient.admit(&RULE, later));
    assert!(gradient.limit() >= grown, "not due yet");
}

#[test]
fn a_window_without_requests_changes_nothing_and_a_stuck_limit_is_measured_again() {
    let mut gradient = Gradient::new(&RULE, Duration::ZERO);
    let mut now = serve(&mut gradient, Duration::ZERO, 50, millis(10));
    let limit = gradient.limit();
    now += millis(10_000);
    assert!(gradient.admit(&RULE, now));
    gradient.given_up();
    assert_eq!(gradient.limit(), limit);
    // Requests take a hundred times as long from now on: five windows at the lowest limit.
    for _ in 0..4 {
        now = serve(&mut gradient, now, 1, millis(1000));
    }
    let before = gradient.min_rtt();
    serve(&mut gradient, now, 60, millis(1000));
    let after = gradient.min_rtt();
    assert!(after > before, "{before:?} {after:?}");
}

#[test]
fn samples_are_kept_within_a_percent() {
    for micros in [
        0,
        1,
        255,
        256,
        257,
        1_000,
        123_456,
        99_999_999,
        u64::MAX / 2,
    ] {
        let found = middle(bin(micros));
        let error = found.abs_diff(micros) as f64;
        assert!(error <= 0.01 * micros as f64, "{micros} {found}");
    }
}

/// A server with `workers`, each of which takes `took` for a request; clients that ask at `rate`
/// per second. What of the last half was served, and the longest that one of those took.
fn simulate(workers: usize, took: Duration, rate: u64, seconds: u64) -> (u64, Duration, u32) {
    let mut gradient = Gradient::new(&RULE, Duration::ZERO);
    // When each worker is free, and who is being served until when.
    let mut free: BinaryHeap<Reverse<Duration>> = vec![Reverse(Duration::ZERO); workers].into();
    let mut open: BinaryHeap<Reverse<(Duration, Duration)>> = BinaryHeap::new();
    let (mut served, mut longest) = (0, Duration::ZERO);
    for at in 0..rate * seconds {
        let now = Duration::from_secs_f64(at as f64 / rate as f64);
        while let Some(Reverse((end, start))) = open.peek().copied()
            && end <= now
        {
            open.pop();
            gradient.ended(&RULE, start, end, 0.0);
            if end > Duration::from_secs(seconds / 2) {
                served += 1;
                longest = longest.max(end - start);
            }
        }
        if gradient.admit(&RULE, now) {
            let Reverse(worker) = free.pop().expect("a worker");
            let end = worker.max(now) + took;
            free.push(Reverse(end));
            open.push(Reverse((end, now)));
        }
    }
    (served, longest, gradient.limit())
}

#[test]
fn an_overloaded_server_is_kept_busy_without_a_queue_that_grows() {
    // 10 workers at 20 ms serve 500 a second; three times as many come.
    let (served, longest, limit) = simulate(10, millis(20), 1500, 30);
    assert!(served > 500 * 15 * 95 / 100, "{served}");
    // Without a limit the queue would be seconds long.
    assert!(longest < millis(80), "{longest:?}");
    assert!((8..40).contains(&limit), "{limit}");
}

#[test]
fn a_server_that_keeps_up_is_not_held_back() {
    let (served, longest, limit) = simulate(100, millis(20), 1500, 30);
    assert!(served > 1500 * 15 * 95 / 100, "{served}");
    assert!(longest < millis(21), "{longest:?}");
    assert!(limit > 30, "{limit}");
}
