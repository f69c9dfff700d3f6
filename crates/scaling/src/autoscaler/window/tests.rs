//! Windows against values computed by hand.

use super::*;

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn linear(length: u64, values: &[(f64, f64)]) -> Window {
    let mut window = Window::new(Duration::from_secs(length), Aggregation::Linear);
    for (at, value) in values {
        window.record(seconds(*at), *value);
    }
    window
}

#[test]
fn a_window_that_is_not_full_averages_over_the_seconds_it_has() {
    let window = linear(6, &[(100.2, 3.0), (101.2, 5.0)]);
    assert_eq!(window.average(seconds(101.9)), 4.0);
    // The report of second 102 is not in yet.
    assert_eq!(window.average(seconds(102.1)), 4.0);
}

#[test]
fn a_full_window_forgets_its_oldest_second() {
    let values: Vec<_> = (0..10).map(|at| (f64::from(at), f64::from(at))).collect();
    // 4 + 5 + … + 9 = 39 over 6 seconds.
    assert_eq!(linear(6, &values).average(seconds(9.0)), 6.5);
}

#[test]
fn reports_of_one_second_add_up_and_missing_seconds_are_zero() {
    let window = linear(6, &[(10.1, 2.0), (10.9, 4.0), (13.0, 6.0)]);
    assert_eq!(window.average(seconds(13.0)), 3.0); // (6 + 0 + 0 + 6) / 4
}

#[test]
fn averages_are_cut_after_six_digits() {
    let window = linear(6, &[(10.0, 1.0), (11.0, 0.0), (12.0, 0.0)]);
    assert_eq!(window.average(seconds(12.0)), 0.333_333);
}

#[test]
fn silence_of_a_whole_window_restarts_it_unless_it_was_settled() {
    let mut window = linear(6, &[(10.0, 6.0)]);
    assert_eq!(window.average(seconds(16.0)), 0.0);
    let mut settled = window.clone();
    window.record(seconds(17.0), 6.0);
    assert_eq!(window.average(seconds(17.0)), 6.0);
    settled.settle(seconds(17.0));
    settled.record(seconds(17.0), 6.0);
    assert_eq!(settled.average(seconds(17.0)), 1.0);
}

#[test]
fn the_current_second_is_not_settled() {
    let mut window = linear(6, &[(10.0, 4.0)]);
    window.settle(seconds(12.5));
    assert_eq!(window.average(seconds(12.5)), 2.0); // seconds 10 and 11
}

#[test]
fn a_late_report_still_counts_and_one_from_before_the_window_does_not() {
    let mut window = linear(3, &[(10.0, 3.0), (12.0, 3.0)]);
    window.record(seconds(11.0), 3.0);
    window.record(seconds(9.0), 99.0);
    assert_eq!(window.average(seconds(12.0)), 3.0);
}

#[test]
fn weights_decay_from_the_newest_second() {
    let mut window = Window::new(Duration::from_secs(6), Aggregation::WeightedExponential);
    for at in 0..6 {
        window.record(Duration::from_secs(at), 10.0);
    }
    // 1 - 0.0001^(1/6) = 0.784557; all six weights add up to 1 - 0.0001.
    let average = window.average(Duration::from_secs(5));
    assert!((average - 9.999).abs() < 1e-9, "{average}");
    let mut spike = Window::new(Duration::from_secs(60), Aggregation::WeightedExponential);
    spike.record(Duration::from_secs(99), 100.0);
    spike.record(Duration::from_secs(100), 0.0);
    // 1 - 0.0001^(1/60) = 0.1423, so the least smoothing 0.2 holds: 100 × 0.2 × 0.8.
    let average = spike.average(Duration::from_secs(100));
    assert!((average - 16.0).abs() < 1e-9, "{average}");
}

#[test]
fn a_resized_window_keeps_what_fits() {
    let window = linear(6, &[(10.0, 1.0), (11.0, 2.0), (12.0, 3.0), (13.0, 4.0)]);
    let shorter = window.resized(Duration::from_secs(2), Aggregation::Linear);
    assert_eq!(shorter.average(seconds(13.0)), 3.5);
    let longer = window.resized(Duration::from_secs(60), Aggregation::Linear);
    assert_eq!(longer.average(seconds(13.0)), 2.5);
}

#[test]
fn the_maximum_falls_once_the_highest_value_is_old() {
    let mut maximum = Maximum::over(Duration::from_secs(6), Duration::from_secs(2)).expect("slots");
    for (at, value, expected) in [
        (0, 5, 5),
        (2, 7, 7),
        (4, 2, 7),
        (6, 3, 7),
        (8, 1, 3),
        (14, 0, 0),
    ] {
        maximum.record(Duration::from_secs(at), value);
        assert_eq!(maximum.current(), expected, "at {at}");
    }
    assert!(Maximum::over(Duration::ZERO, Duration::from_secs(2)).is_none());
}
