//! Decisions against values computed by hand from Knative's formulas.

use super::*;

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Knative's defaults with a target of 10 per pod.
fn spec() -> Spec {
    Spec {
        metric: Metric::Concurrency,
        aggregation: Aggregation::Linear,
        target_value: 10.0,
        total_value: 100.0,
        target_burst_capacity: 211.0,
        panic_threshold: 2.0,
        max_scale_up_rate: 1000.0,
        max_scale_down_rate: 2.0,
        stable_window: s(60),
        panic_window: s(6),
        activation_scale: 1,
        scale_down_delay: s(0),
        is_reachable: true,
    }
}

/// An autoscaler whose stable window has `stable` on average, and the panic window `panic`, at
/// second 1059.
fn with_history(spec: Spec, stable: f64, panic: f64) -> Autoscaler {
    let mut autoscaler = Autoscaler::new(spec, 1, s(999));
    let before = (stable * 60.0 - panic * 6.0) / 54.0;
    for second in 1000..1060 {
        let value = if second < 1054 { before } else { panic };
        autoscaler.record(s(second), value, value);
    }
    autoscaler
}

#[test]
fn the_stable_window_decides_while_there_is_no_surge() {
    // (stable, panic, ready) → (desired, excess burst capacity)
    let cases = [
        ((50.0, 50.0, 5), (5, 239)),  // ceil(50/10); 500 - 211 - 50
        ((51.0, 51.0, 5), (6, 238)),  // rounded up
        ((0.0, 0.0, 1), (0, -111)),   // floor(1/2) = 0 may go
        ((0.0, 0.0, 10), (5, 789)),   // not below floor(10/2)
        ((50.0, 50.0, 10), (5, 739)), // ceil(50/10) = floor(10/2)
        ((19.0, 19.0, 0), (2, -230)), // no pod counts as one for the rates
    ];
    for ((stable, panic, ready), (desired, excess)) in cases {
        let decision = with_history(
            Spec {
                panic_threshold: 10.0,
                ..spec()
            },
            stable,
            panic,
        )
        .decide(ready, s(1059));
        let text = format!("{stable} {panic} {ready}: {decision:?}");
        assert_eq!(decision.desired, desired, "{text}");
        assert_eq!(decision.excess_burst_capacity, excess, "{text}");
        assert!(!decision.is_panicking, "{text}");
    }
}

#[test]
fn a_revision_without_route_falls_to_what_it_needs_at_once() {
    let unreachable = Spec {
        is_reachable: false,
        ..spec()
    };
    assert_eq!(
        with_history(unreachable, 0.0, 0.0)
            .decide(10, s(1059))
            .desired,
        0
    );
}

#[test]
fn growth_is_limited_but_never_stuck() {
    let careful = Spec {
        max_scale_up_rate: 1.1,
        target_value: 1.0,
        panic_threshold: 100.0,
        ..spec()
    };
    // ceil(1.1 × 2) = 3
    assert_eq!(
        with_history(careful.clone(), 3.0, 3.0)
            .decide(2, s(1059))
            .desired,
        3
    );
    assert_eq!(
        with_history(careful, 30.0, 30.0).decide(2, s(1059)).desired,
        3
    );
}

#[test]
fn a_surge_starts_panic_which_never_lowers_the_count_and_ends_after_a_stable_window() {
    let mut autoscaler = with_history(spec(), 10.0, 20.0);
    // panic wants 2 for 1 ready pod: 2/1 ≥ 2.0
    let decision = autoscaler.decide(1, s(1059));
    assert!(decision.is_panicking);
    assert_eq!(decision.desired, 2);
    autoscaler.record(s(1060), 300.0, 0.0);
    // panic: (5 × 20 + 300) / 6 = 66.67 → 7 pods, stable: 15 → 2 pods
    let decision = autoscaler.decide(2, s(1060));
    assert_eq!((decision.desired, decision.panic), (7, 66.666_666));
    for second in 1061..=1120 {
        autoscaler.record(s(second), 0.0, 0.0);
        let decision = autoscaler.decide(7, s(second));
        assert_eq!(
            (decision.desired, decision.is_panicking),
            (7, true),
            "at {second}"
        );
    }
    autoscaler.record(s(1121), 0.0, 0.0);
    let decision = autoscaler.decide(7, s(1121));
    assert_eq!((decision.desired, decision.is_panicking), (3, false));
}

#[test]
fn one_report_from_nothing_wants_a_pod_and_the_activation_scale_is_respected() {
    for (activation_scale, desired) in [(1, 1), (3, 3)] {
        let spec = Spec {
            activation_scale,
            ..spec()
        };
        let mut autoscaler = Autoscaler::new(spec, 0, s(5000));
        assert_eq!(autoscaler.decide(0, s(5000)).desired, 0);
        autoscaler.record(s(5000), 1.0, 1.0);
        assert_eq!(autoscaler.decide(0, s(5000)).desired, desired);
    }
}

#[test]
fn an_autoscaler_that_finds_pods_running_keeps_them_for_a_stable_window() {
    let mut restarted = Autoscaler::new(spec(), 4, s(100));
    assert_eq!(restarted.decide(4, s(101)).desired, 4);
    assert_eq!(restarted.decide(4, s(160)).desired, 4);
    assert_eq!(restarted.decide(4, s(161)).desired, 2);
    let mut single = Autoscaler::new(spec(), 1, s(100));
    assert_eq!(single.decide(1, s(101)).desired, 0);
}

#[test]
fn a_lower_decision_waits_for_the_delay_unless_no_route_leads_here() {
    let delayed = Spec {
        scale_down_delay: s(10),
        max_scale_down_rate: 100.0,
        panic_threshold: 100.0,
        stable_window: s(6),
        ..spec()
    };
    let mut autoscaler = Autoscaler::new(delayed.clone(), 1, s(100));
    autoscaler.record(s(100), 50.0, 0.0);
    assert_eq!(autoscaler.decide(5, s(100)).desired, 5);
    let mut wanted = Vec::new();
    for second in (102..=116).step_by(2) {
        wanted.push(autoscaler.decide(5, s(second)).desired);
    }
    // Raw: ceil(50/2/10), ceil(50/4/10), 0, …: each holds for five ticks of two seconds.
    assert_eq!(wanted, [5, 5, 5, 5, 3, 2, 0, 0]);
    autoscaler.record(s(117), 50.0, 0.0);
    assert!(autoscaler.decide(5, s(117)).desired > 0);
    autoscaler.update(Spec {
        is_reachable: false,
        ..delayed
    });
    assert_eq!(autoscaler.decide(5, s(126)).desired, 0);
}

#[test]
fn requests_per_second_scale_where_they_are_the_metric() {
    let mut autoscaler = Autoscaler::new(
        Spec {
            metric: Metric::RequestsPerSecond,
            target_value: 140.0,
            total_value: 200.0,
            ..spec()
        },
        1,
        s(100),
    );
    for second in 100..110 {
        autoscaler.record(s(second), 0.5, 280.0);
    }
    let decision = autoscaler.decide(1, s(109));
    assert_eq!((decision.desired, decision.stable), (2, 280.0));
}

#[test]
fn burst_capacity_of_zero_and_unlimited_are_constants() {
    for (target_burst_capacity, excess) in [(0.0, 0), (-1.0, -1)] {
        let spec = Spec {
            target_burst_capacity,
            ..spec()
        };
        assert_eq!(
            with_history(spec, 5.0, 5.0)
                .decide(3, s(1059))
                .excess_burst_capacity,
            excess
        );
    }
}

#[test]
fn seconds_without_reports_count_as_zero_and_the_revision_becomes_idle() {
    let mut autoscaler = with_history(spec(), 60.0, 60.0);
    // The report for the second that just began is awaited, older ones are not.
    assert_eq!(autoscaler.decide(6, s(1060)).stable, 60.0);
    assert_eq!(autoscaler.decide(6, s(1089)).stable, 30.508_474); // 30 × 60 in 59 seconds
    assert!(!autoscaler.is_idle(s(1089)));
    assert_eq!(autoscaler.decide(6, s(1200)).stable, 0.0);
    assert!(autoscaler.is_idle(s(1200)));
}
