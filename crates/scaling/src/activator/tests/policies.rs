//! Backends with a policy: who is chosen, who is refused, and who is out for how long.

use std::time::Duration;

use routing::model::{
    BackendPolicy, Balancer, HealthCheck, HealthKind, Locality, OutlierDetection, SlowStart,
};

use super::*;
use crate::balance::testing::rules;
use crate::{Cause, Outcome};

pub(super) fn with(policy: BackendPolicy, endpoints: Vec<Endpoint>) -> Backend {
    Backend {
        policy: Some(Arc::new(policy)),
        ..plain(0, endpoints)
    }
}

pub(super) fn gateway() -> Gateway {
    Gateway::new(Settings::KNATIVE)
}

fn outliers(rules: OutlierDetection) -> BackendPolicy {
    BackendPolicy {
        outliers: Some(rules),
        ..BackendPolicy::default()
    }
}

pub(super) fn ready_ones(count: u16) -> Vec<Endpoint> {
    (0..count).map(ready).collect()
}

pub(super) fn get(gateway: &Gateway, backend: &Arc<Backend>) -> Result<Slot, AcquireError> {
    get_for(gateway, backend, Preference::default())
}

pub(super) fn get_for(
    gateway: &Gateway,
    backend: &Arc<Backend>,
    preference: Preference<'_>,
) -> Result<Slot, AcquireError> {
    match poll(&mut Box::pin(
        gateway.activator.acquire_for(backend, preference),
    )) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("it waits"),
    }
}

/// The endpoint's number, see [`pod`].
fn number(slot: &Slot) -> u16 {
    slot.endpoint().address.port() - 1000
}

/// How many of `count` requests, one after the other, each of `hosts` endpoints gets.
fn counts(gateway: &Gateway, backend: &Arc<Backend>, hosts: usize, count: usize) -> Vec<usize> {
    let mut counts = vec![0; hosts];
    for _ in 0..count {
        let slot = get(gateway, backend).expect("a slot");
        counts[usize::from(number(&slot))] += 1;
    }
    counts
}

/// Lets endpoint 0 fail until it is ejected; the number of failures that clients saw.
fn fail(gateway: &Gateway, backend: &Arc<Backend>) -> usize {
    let before = ejections(gateway);
    let mut failures = 0;
    for _ in 0..1_000 {
        if ejections(gateway) > before {
            return failures;
        }
        let slot = get(gateway, backend).expect("a slot");
        let fails = number(&slot) == 0;
        failures += usize::from(fails);
        slot.report(Outcome::Answered(if fails { 500 } else { 200 }));
    }
    panic!("endpoint 0 was not ejected");
}

fn ejections(gateway: &Gateway) -> u64 {
    let stats = gateway.activator.traffic();
    let of = |cause: Cause| {
        stats
            .iter()
            .map(|(_, stats)| stats.ejections[cause as usize])
            .sum::<u64>()
    };
    Cause::ALL.into_iter().map(of).sum()
}

fn is_used(gateway: &Gateway, backend: &Arc<Backend>, host: usize) -> bool {
    counts(gateway, backend, 2, 64)[host] > 0
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn three_errors_eject_for_20_seconds_and_for_longer_the_next_time() {
    let mut gateway = gateway();
    let backend = gateway.put(&with(outliers(rules()), ready_ones(2)));
    for (lasts, until) in [(20, 25), (40, 45)] {
        assert_eq!(fail(&gateway, &backend), 3);
        assert!(!is_used(&gateway, &backend, 0));
        tokio::time::advance(SECOND * lasts - Duration::from_millis(1)).await;
        assert!(!is_used(&gateway, &backend, 0), "back before {lasts} s");
        tokio::time::advance(SECOND * (until - lasts)).await;
        assert!(is_used(&gateway, &backend, 0), "not back after {until} s");
    }
}

#[tokio::test(start_paused = true)]
async fn with_all_out_requests_fail_at_once_unless_too_few_are_left_to_be_choosy() {
    let mut gateway = gateway();
    let backend = gateway.put(&with(outliers(rules()), ready_ones(2)));
    while ejections(&gateway) < 2 {
        let slot = get(&gateway, &backend).expect("a slot");
        slot.report(Outcome::Answered(503));
        slot.report(Outcome::Reset);
    }
    let refused = get(&gateway, &backend).expect_err("nobody is well");
    assert!(
        matches!(refused, AcquireError::NobodyWell { .. }),
        "{refused}"
    );
    tokio::time::advance(SECOND * 25).await;
    assert!(get(&gateway, &backend).is_ok());
    // With a least share of healthy ones, ejections below it are ignored.
    let careful = OutlierDetection {
        min_health_percent: 50,
        ..rules()
    };
    let backend = gateway.put(&with(outliers(careful), ready_ones(2)));
    fail(&gateway, &backend);
    assert!(!is_used(&gateway, &backend, 0), "half of them are enough");
    for _ in 0..3 {
        get(&gateway, &backend)
            .expect("a slot")
            .report(Outcome::TimedOut);
    }
    assert!(is_used(&gateway, &backend, 0) && is_used(&gateway, &backend, 1));
}

#[tokio::test(start_paused = true)]
async fn an_ejection_outlives_a_snapshot_and_not_its_policy() {
    let mut gateway = gateway();
    let policy = outliers(rules());
    let backend = gateway.put(&with(policy.clone(), ready_ones(2)));
    fail(&gateway, &backend);
    let backend = gateway.put(&with(policy, ready_ones(3)));
    assert_eq!(counts(&gateway, &backend, 3, 60)[0], 0);
    let backend = gateway.put(&plain(0, ready_ones(2)));
    assert!(is_used(&gateway, &backend, 0));
    assert!(gateway.activator.traffic().is_empty());
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_not_given_an_ejected_endpoint_and_is_told_when_all_are_out() {
    let mut gateway = gateway();
    let limited = Backend {
        concurrency: 1,
        ..with(outliers(rules()), ready_ones(2))
    };
    let backend = gateway.put(&limited);
    let held = [get(&gateway, &backend), get(&gateway, &backend)].map(|slot| slot.expect("a slot"));
    let (bad, good) = if number(&held[0]) == 0 {
        (0, 1)
    } else {
        (1, 0)
    };
    let mut held = held.map(Some);
    let mut first = acquire(&gateway.activator, &backend);
    let mut second = acquire(&gateway.activator, &backend);
    assert!(poll(&mut first).is_pending() && poll(&mut second).is_pending());
    let fail = |slot: Option<&Slot>| {
        (0..3).for_each(|_| slot.expect("held").report(Outcome::Answered(500)));
    };
    fail(held[bad].as_ref());
    held[bad] = None;
    assert!(
        poll(&mut first).is_pending(),
        "the place of an ejected endpoint"
    );
    held[good] = None;
    let slot = expect_slot(&mut first);
    assert_eq!(number(&slot), 1);
    fail(Some(&slot));
    assert!(matches!(
        poll(&mut second),
        Poll::Ready(Err(AcquireError::NobodyWell { .. }))
    ));
}

#[test]
fn a_key_stays_where_it_is_and_goes_elsewhere_only_if_that_was_tried() {
    let mut gateway = gateway();
    let policy = BackendPolicy {
        balancer: Balancer::Maglev { size: 65_537 },
        ..BackendPolicy::default()
    };
    let backend = gateway.put(&with(policy, ready_ones(5)));
    let key = Preference {
        hash: Some(crate::hash(b"somebody")),
        ..Preference::default()
    };
    let home = get_for(&gateway, &backend, key)
        .expect("a slot")
        .endpoint()
        .address;
    for _ in 0..20 {
        assert_eq!(
            get_for(&gateway, &backend, key)
                .expect("a slot")
                .endpoint()
                .address,
            home
        );
    }
    let again = Preference {
        avoid: &[home],
        ..key
    };
    let next = get_for(&gateway, &backend, again)
        .expect("a slot")
        .endpoint()
        .address;
    assert_ne!(next, home);
    assert_eq!(
        get_for(&gateway, &backend, again)
            .expect("a slot")
            .endpoint()
            .address,
        next
    );
    // What was tried is used if there is nothing else.
    let backend = gateway.put(&plain(0, vec![ready(3)]));
    let only = [ready(3).address];
    let again = Preference {
        avoid: &only,
        ..key
    };
    assert!(get_for(&gateway, &backend, again).is_ok());
}

#[test]
fn without_a_policy_too_another_endpoint_is_tried() {
    let mut gateway = gateway();
    for count in [2, 20] {
        let backend = gateway.put(&plain(0, ready_ones(count)));
        let tried: Vec<_> = (1..count).map(|number| ready(number).address).collect();
        let preference = Preference {
            avoid: &tried,
            ..Preference::default()
        };
        for _ in 0..10 {
            assert_eq!(
                number(&get_for(&gateway, &backend, preference).expect("a slot")),
                0
            );
        }
    }
}

#[test]
fn weights_hold_and_nothing_goes_where_the_weight_is_0() {
    let mut gateway = gateway();
    let weighted = |number, weight| Endpoint {
        weight,
        ..ready(number)
    };
    let endpoints = vec![weighted(0, 1), weighted(1, 3), weighted(2, 0)];
    for balancer in [
        Balancer::RoundRobin,
        Balancer::LeastRequest,
        Balancer::Random,
    ] {
        let policy = BackendPolicy {
            balancer,
            ..BackendPolicy::default()
        };
        let backend = gateway.put(&with(policy, endpoints.clone()));
        let counts = counts(&gateway, &backend, 3, 8_000);
        assert!(
            (1_800..2_200).contains(&counts[0]) && counts[2] == 0,
            "{counts:?}"
        );
    }
    // A weight may change while the endpoint stays.
    let policy = BackendPolicy {
        balancer: Balancer::RoundRobin,
        ..BackendPolicy::default()
    };
    let backend = gateway.put(&with(policy, vec![weighted(0, 9), weighted(1, 1)]));
    let counts = counts(&gateway, &backend, 2, 1_000);
    assert!((890..910).contains(&counts[0]), "{counts:?}");
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_could_not_be_reached_has_its_share_again_soon() {
    let mut gateway = gateway();
    let mut endpoints = ready_ones(2);
    endpoints[0].weight = 3;
    let backend = gateway.put(&with(BackendPolicy::default(), endpoints));
    let slot = (0..10)
        .map(|_| get(&gateway, &backend).expect("a slot"))
        .find(|slot| number(slot) == 0);
    slot.expect("most go to the heavy one").unreachable();
    assert_eq!(counts(&gateway, &backend, 2, 100)[0], 0);
    tokio::time::advance(SECOND).await;
    let counts = counts(&gateway, &backend, 2, 1_000);
    assert!((700..800).contains(&counts[0]), "{counts:?}");
}

fn check() -> HealthCheck {
    HealthCheck {
        kind: HealthKind::Tcp,
        interval: SECOND,
        unhealthy_interval: None,
        timeout: SECOND,
        unhealthy: 2,
        healthy: 1,
        port: None,
    }
}

#[test]
fn traffic_stays_near_and_spills_when_too_few_near_ones_are_well() {
    let mut gateway = gateway();
    let policy = BackendPolicy {
        balancer: Balancer::RoundRobin,
        locality: Some(Locality {
            overprovisioning: 140,
            panic_threshold: 0,
            failover: true,
            failover_regions: Vec::new(),
            distribute: Vec::new(),
        }),
        health_check: Some(check()),
        ..BackendPolicy::default()
    };
    let place = |number| Endpoint {
        locality: Some(if number < 4 { "eu/a" } else { "eu/b" }.into()),
        ..ready(number)
    };
    let backend = gateway.put(&with(policy, (0..8).map(place).collect()));
    let near = |gateway: &Gateway| {
        let counts = counts(gateway, &backend, 8, 4_000);
        counts[..4].iter().sum::<usize>() as f64 / 4_000.0
    };
    let is_about = |share: f64, expected: f64| (share - expected).abs() < 0.03;
    assert!(
        is_about(near(&gateway), 0.5),
        "nobody has said where we are"
    );
    gateway.activator.locate("eu/a");
    let check = |number, passes| {
        gateway
            .activator
            .checked(&backend.id, ready(number).address, passes);
    };
    assert_eq!(near(&gateway), 1.0);
    check(0, false);
    // 3 of 4 are 75 %: with the factor 1.4 still all.
    assert_eq!(near(&gateway), 1.0);
    check(1, false);
    assert!(is_about(near(&gateway), 0.7));
    check(2, false);
    assert!(is_about(near(&gateway), 0.35));
    check(3, false);
    assert_eq!(near(&gateway), 0.0);
    (0..4).for_each(|number| check(number, true));
    assert_eq!(near(&gateway), 1.0);
}

#[tokio::test(start_paused = true)]
async fn what_passes_a_check_is_not_ejected_any_more() {
    let mut gateway = gateway();
    let policy = BackendPolicy {
        health_check: Some(check()),
        ..outliers(rules())
    };
    let backend = gateway.put(&with(policy, ready_ones(2)));
    let check = |passes| {
        gateway
            .activator
            .checked(&backend.id, ready(0).address, passes)
    };
    check(false);
    assert!(!is_used(&gateway, &backend, 0));
    check(true);
    assert!(is_used(&gateway, &backend, 0));
    fail(&gateway, &backend);
    assert_eq!(gateway.activator.traffic()[0].1.ejected, 1);
    check(true);
    assert!(is_used(&gateway, &backend, 0));
}

#[tokio::test(start_paused = true)]
async fn a_new_endpoint_grows_to_its_share() {
    let mut gateway = gateway();
    let policy = BackendPolicy {
        balancer: Balancer::RoundRobin,
        slow_start: Some(SlowStart {
            window: SECOND * 100,
            aggression: 1.0,
            min_percent: 10,
        }),
        ..BackendPolicy::default()
    };
    gateway.put(&with(policy.clone(), ready_ones(1)));
    tokio::time::advance(SECOND * 200).await;
    let backend = gateway.put(&with(policy, ready_ones(2)));
    let share = |gateway: &Gateway| counts(gateway, &backend, 2, 1_100)[1];
    // 0.1 beside 1, then 0.5 beside 1, then even.
    assert!((90..=110).contains(&share(&gateway)));
    tokio::time::advance(SECOND * 50).await;
    // Turns that were planned with the old weight are taken first.
    share(&gateway);
    assert!((350..=380).contains(&share(&gateway)));
    tokio::time::advance(SECOND * 50).await;
    share(&gateway);
    assert!((545..=555).contains(&share(&gateway)));
}
