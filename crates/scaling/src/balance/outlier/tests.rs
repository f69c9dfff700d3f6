//! Ejection times, shares that may be out, and the two statistics, over time that tests set.

use super::*;
use crate::balance::health::Outcome;
use crate::balance::testing::rules;

fn hosts(count: usize) -> Vec<Health> {
    (0..count).map(|_| Health::new(1)).collect()
}

fn ejected(hosts: &[Health]) -> Vec<usize> {
    let numbered = hosts.iter().enumerate();
    let out = numbered.filter(|(_, host)| host.is_ejected());
    out.map(|(number, _)| number).collect()
}

/// Tells of answers at `now`; whether the host was ejected.
fn answer(rules: &OutlierDetection, hosts: &[Health], host: usize, status: u16, now: u64) -> bool {
    let cause = hosts[host].record(rules, Outcome::Answered(status));
    cause.is_some() && eject(rules, hosts.iter(), &hosts[host], now)
}

#[test]
fn no_more_than_the_percentage_may_be_out_with_the_next_one() {
    for (count, percent, always, expected) in [
        (10, 10, false, 1),
        (9, 10, false, 0),
        (9, 10, true, 1),
        (10, 55, false, 5),
        (3, 100, false, 3),
        (2, 50, false, 1),
        (100, 0, false, 0),
        (100, 0, true, 1),
    ] {
        let rules = OutlierDetection {
            max_ejection_percent: percent,
            always_eject_one: always,
            ..rules()
        };
        let hosts = hosts(count);
        for host in &hosts {
            eject(&rules, hosts.iter(), host, 1);
        }
        assert_eq!(
            ejected(&hosts).len(),
            expected,
            "{count} hosts, {percent} %, {always}"
        );
    }
}

/// A host that fails for good, asked once every 100 ms whenever it is in: how long it was out
/// each time, in ms.
fn absences(rules: &OutlierDetection, until: u64) -> Vec<u64> {
    let hosts = hosts(2);
    let interval = millis(rules.interval);
    let (mut next, mut out_since, mut absences) = (interval, None, Vec::new());
    for now in (0..until).step_by(100) {
        if now >= next {
            let (_, is_back) = sweep(rules, hosts.iter(), next, now);
            next += interval;
            if is_back {
                absences.extend(out_since.take().map(|since| now - since));
            }
        }
        if out_since.is_none() && answer(rules, &hosts, 0, 500, now) {
            out_since = Some(now);
        }
    }
    absences
}

#[test]
fn each_ejection_is_longer_than_the_last_up_to_the_longest() {
    let rules = OutlierDetection {
        max_ejection: Duration::from_secs(65),
        ..rules()
    };
    let absences = absences(&rules, 1_000_000);
    // 20, 40, 60, 65, 65 s, each until the sweep that follows.
    let expected = [20_000, 40_000, 60_000, 65_000, 65_000];
    for (absence, expected) in absences.iter().zip(expected) {
        assert!(
            (expected..expected + 5_000).contains(absence),
            "{absences:?}"
        );
    }
    assert!(absences.len() > 10, "{absences:?}");
    assert!(
        absences.iter().all(|absence| *absence < 70_000),
        "{absences:?}"
    );
}

#[test]
fn a_longest_time_below_the_base_does_not_shorten_it() {
    let rules = OutlierDetection {
        max_ejection: Duration::from_secs(1),
        ..rules()
    };
    let absences = absences(&rules, 200_000);
    assert!(
        absences
            .iter()
            .all(|absence| (20_000..25_000).contains(absence)),
        "{absences:?}"
    );
}

#[test]
fn every_sweep_in_health_forgives_one_ejection() {
    let (rules, hosts) = (rules(), hosts(1));
    for _ in 0..3 {
        assert!(eject(&rules, hosts.iter(), &hosts[0], 0));
        readmit(&hosts[0], 0);
    }
    assert_eq!(hosts[0].multiplier.load(Relaxed), 3);
    sweep(&rules, hosts.iter(), 5_000, 5_000);
    assert_eq!(hosts[0].multiplier.load(Relaxed), 2);
    // Sweeps that nobody waited for are made up for.
    sweep(&rules, hosts.iter(), 10_000, 16_000);
    assert_eq!(hosts[0].multiplier.load(Relaxed), 0);
}

#[test]
fn late_sweeps_do_what_sweeps_in_time_would_have_done() {
    let rules = rules();
    for step in [5_000, 15_000, 60_000] {
        let hosts = hosts(1);
        for _ in 0..4 {
            eject(&rules, hosts.iter(), &hosts[0], 0);
            readmit(&hosts[0], 0);
        }
        // Out for 5 × 20 s; back at 100 s, then four sweeps until 120 s.
        assert!(eject(&rules, hosts.iter(), &hosts[0], 0));
        let mut first = 5_000;
        for now in (step..=120_000).step_by(step as usize) {
            sweep(&rules, hosts.iter(), first, now);
            first = now / 5_000 * 5_000 + 5_000;
        }
        assert_eq!(
            hosts[0].multiplier.load(Relaxed),
            1,
            "swept every {step} ms"
        );
        assert_eq!(hosts[0].age(120_000), 20_000);
    }
}

#[test]
fn a_host_that_is_back_begins_anew() {
    let (rules, hosts) = (rules(), hosts(2));
    for number in 0..3 {
        assert_eq!(answer(&rules, &hosts, 0, 500, number), number == 2);
    }
    // What was on its way when it was ejected does not count twice.
    assert!(!answer(&rules, &hosts, 0, 500, 3));
    assert!(!sweep(&rules, hosts.iter(), 5_000, 20_000).1);
    assert!(sweep(&rules, hosts.iter(), 25_000, 25_000).1);
    assert!(!answer(&rules, &hosts, 0, 500, 25_001));
    assert!(!answer(&rules, &hosts, 0, 500, 25_001));
    assert!(answer(&rules, &hosts, 0, 500, 25_001));
}

fn record(rules: &OutlierDetection, host: &Health, good: u32, bad: u32) {
    for _ in 0..good {
        host.record(rules, Outcome::Answered(200));
    }
    for _ in 0..bad {
        host.record(rules, Outcome::Answered(500));
    }
}

#[test]
fn a_success_rate_far_below_the_mean_ejects() {
    let rules = OutlierDetection {
        consecutive_5xx: 0,
        success_rate: Some(SuccessRate {
            min_hosts: 5,
            min_requests: 100,
            stdev_factor_thousandths: 1_900,
        }),
        ..rules()
    };
    // Five of 100 %, 98, 98, 97, 96 and 50: mean 89.83, deviation 17.84 → below 55.9.
    let run = |bad: &[u32]| {
        let hosts = hosts(bad.len());
        for (host, bad) in hosts.iter().zip(bad) {
            record(&rules, host, 100 - bad, *bad);
        }
        let (causes, _) = sweep(&rules, hosts.iter(), 5_000, 5_000);
        assert_eq!(causes.len(), ejected(&hosts).len());
        ejected(&hosts)
    };
    assert_eq!(run(&[0, 2, 2, 3, 4, 50]), [5]);
    assert_eq!(run(&[0, 2, 2, 3, 4, 5]), [0; 0]);
    assert_eq!(run(&[0, 0, 0, 50]), [0; 0], "too few hosts");
}

#[test]
fn a_failure_percentage_ejects_whatever_the_others_do() {
    let rules = OutlierDetection {
        consecutive_5xx: 0,
        failure_percentage: Some(FailurePercentage {
            threshold: 85,
            min_hosts: 3,
            min_requests: 50,
        }),
        ..rules()
    };
    let hosts = hosts(4);
    record(&rules, &hosts[0], 14, 86);
    record(&rules, &hosts[1], 16, 84);
    record(&rules, &hosts[2], 100, 0);
    // Too few requests to judge.
    record(&rules, &hosts[3], 0, 49);
    let (causes, _) = sweep(&rules, hosts.iter(), 5_000, 5_000);
    assert_eq!(
        (causes, ejected(&hosts)),
        (vec![Cause::FailurePercentage], vec![0])
    );
    // An interval counts for itself.
    record(&rules, &hosts[1], 0, 3);
    assert!(sweep(&rules, hosts.iter(), 10_000, 10_000).0.is_empty());
}
