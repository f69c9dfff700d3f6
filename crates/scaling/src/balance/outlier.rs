//! Passive health: who is taken out for what it answers, for how long, and when it is back.
//!
//! The rules are Envoy's. One ejection lasts the base time times how often it happened lately;
//! a sweep every interval brings back those whose time is over and forgives the others one
//! ejection each. Sweeps are made up for when the next request comes: between two requests
//! nobody can tell. Time is an argument, in ms.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use routing::model::{FailurePercentage, OutlierDetection, SuccessRate};

use super::health::{Cause, Health};

/// Takes an endpoint out, if as many may be out; `hosts` are all of them. `false` if it stays.
pub(crate) fn eject<'h>(
    rules: &OutlierDetection,
    hosts: impl Iterator<Item = &'h Health>,
    host: &Health,
    now: u64,
) -> bool {
    if host.is_ejected() {
        return false;
    }
    let (mut total, mut ejected) = (0_u64, 0_u64);
    for host in hosts {
        total += 1;
        ejected += u64::from(host.is_ejected());
    }
    let is_within = (ejected + 1) * 100 <= u64::from(rules.max_ejection_percent) * total;
    let is_the_one = rules.always_eject_one && ejected == 0;
    if !is_within && !is_the_one {
        return false;
    }
    let (base, most) = (millis(rules.base_ejection), millis(rules.max_ejection));
    let before = host.multiplier.load(Relaxed);
    // It does not grow past the longest time: forgiving would have no effect for long.
    let times = if u64::from(before).saturating_mul(base) < most.saturating_add(base) {
        before + 1
    } else {
        before
    };
    host.multiplier.store(times, Relaxed);
    let lasts = u64::from(times).saturating_mul(base).min(most.max(base));
    host.ejected_until
        .store(now.saturating_add(lasts).max(1), Relaxed);
    true
}

/// Makes the sweeps that were due from `first` until `now`. What was ejected, and whether any
/// endpoint came back.
pub(crate) fn sweep<'h>(
    rules: &OutlierDetection,
    hosts: impl Iterator<Item = &'h Health> + Clone,
    first: u64,
    now: u64,
) -> (Vec<Cause>, bool) {
    let interval = millis(rules.interval).max(1);
    let count = now.saturating_sub(first) / interval + 1;
    let mut is_back = false;
    for host in hosts.clone() {
        let until = host.ejected_until.load(Relaxed);
        let mut forgiven = count;
        if until != 0 {
            // The first sweep that is not before its time.
            let at = until.saturating_sub(first).div_ceil(interval);
            if at >= count {
                continue;
            }
            readmit(host, first + at * interval);
            is_back = true;
            forgiven = count - at - 1;
        }
        let times = host.multiplier.load(Relaxed);
        let forgiven = u32::try_from(forgiven).unwrap_or(u32::MAX);
        host.multiplier
            .store(times.saturating_sub(forgiven), Relaxed);
    }
    let rates: Vec<_> = hosts
        .clone()
        .map(|host| (host, host.take_interval()))
        .filter(|(host, _)| !host.is_ejected())
        .collect();
    let mut ejected = Vec::new();
    if let Some(rate) = &rules.success_rate {
        for host in below_the_others(rate, &rates) {
            if eject(rules, hosts.clone(), host, now) {
                ejected.push(Cause::SuccessRate);
            }
        }
    }
    if let Some(failures) = &rules.failure_percentage {
        for host in too_often(failures, &rates) {
            if eject(rules, hosts.clone(), host, now) {
                ejected.push(Cause::FailurePercentage);
            }
        }
    }
    (ejected, is_back)
}

/// Brings an endpoint back.
pub(crate) fn readmit(host: &Health, now: u64) {
    host.ejected_until.store(0, Relaxed);
    host.since.store(now, Relaxed);
    host.forget();
}

type Rated<'h> = (&'h Health, (u32, u32));

fn busy<'r, 'h>(
    rates: &'r [Rated<'h>],
    (min_hosts, min_requests): (u32, u32),
) -> impl Iterator<Item = (&'h Health, f64)> + Clone + use<'r, 'h> {
    let busy = rates
        .iter()
        .filter(move |(_, (requests, _))| *requests >= min_requests.max(1));
    let is_enough = busy.clone().count() >= min_hosts as usize;
    let percent = |(host, (requests, successes)): &Rated<'h>| {
        (*host, 100.0 * f64::from(*successes) / f64::from(*requests))
    };
    busy.filter(move |_| is_enough).map(percent)
}

fn below_the_others<'h>(rules: &SuccessRate, rates: &[Rated<'h>]) -> Vec<&'h Health> {
    let busy = busy(rates, (rules.min_hosts, rules.min_requests));
    let count = busy.clone().count().max(1) as f64;
    let mean = busy.clone().map(|(_, rate)| rate).sum::<f64>() / count;
    let variance = busy
        .clone()
        .map(|(_, rate)| (rate - mean).powi(2))
        .sum::<f64>()
        / count;
    let threshold = mean - variance.sqrt() * f64::from(rules.stdev_factor_thousandths) / 1_000.0;
    let below = busy.filter(|(_, rate)| *rate < threshold);
    below.map(|(host, _)| host).collect()
}

fn too_often<'h>(rules: &FailurePercentage, rates: &[Rated<'h>]) -> Vec<&'h Health> {
    let busy = busy(rates, (rules.min_hosts, rules.min_requests));
    let failing = busy.filter(|(_, rate)| 100.0 - rate >= f64::from(rules.threshold));
    failing.map(|(host, _)| host).collect()
}

/// Whole ms of a time.
pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
