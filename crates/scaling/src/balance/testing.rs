//! What the tests of the balancers share.

use std::time::Duration;

use routing::model::OutlierDetection;

use super::hash::hash;

const KEYS: u64 = 100_000;

/// Scenario 3.3: three errors in a row, every 5 s, for 20 s, all may be out.
pub(crate) fn rules() -> OutlierDetection {
    OutlierDetection {
        consecutive_5xx: 3,
        consecutive_gateway: 0,
        consecutive_local: None,
        interval: Duration::from_secs(5),
        base_ejection: Duration::from_secs(20),
        max_ejection: Duration::from_secs(300),
        max_ejection_percent: 100,
        always_eject_one: false,
        min_health_percent: 0,
        success_rate: None,
        failure_percentage: None,
    }
}

/// Addresses with these weights.
pub(crate) fn addresses(weights: &[u32]) -> Vec<(String, u32)> {
    let numbered = weights.iter().enumerate();
    let named = numbered.map(|(number, weight)| (format!("10.0.0.{number}:80"), *weight));
    named.collect()
}

fn keys() -> impl Iterator<Item = u64> {
    (0..KEYS).map(|key| hash(&key.to_le_bytes()))
}

/// Which part of all keys each of `hosts` endpoints has.
pub(crate) fn shares(hosts: usize, pick: impl Fn(u64) -> usize) -> Vec<f64> {
    let mut counts = vec![0_u32; hosts];
    for key in keys() {
        counts[pick(key)] += 1;
    }
    let part = |count| f64::from(count) / KEYS as f64;
    counts.into_iter().map(part).collect()
}

/// Which part of all keys belonged to the endpoint that leaves, and which part of the others
/// moved.
pub(crate) fn moved(
    leaves: usize,
    before: impl Fn(u64) -> usize,
    after: impl Fn(u64) -> usize,
) -> (f64, f64) {
    let (own, rest): (Vec<_>, Vec<_>) = keys().partition(|key| before(*key) == leaves);
    let others = rest
        .iter()
        .filter(|key| before(**key) != after(**key))
        .count();
    (
        own.len() as f64 / KEYS as f64,
        others as f64 / rest.len() as f64,
    )
}
