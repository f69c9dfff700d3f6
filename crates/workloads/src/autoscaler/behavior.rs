//! How far and how fast an autoscaler may go: windows, policies, bounds; pure.

use std::collections::VecDeque;
use std::time::Duration;

use k8s_openapi::api::autoscaling::v2::{
    HPAScalingPolicy, HPAScalingRules, HorizontalPodAutoscalerSpec,
};
use tokio::time::Instant;

use super::usage::Tolerance;
use crate::quantity;

/// Longest time that is remembered (Kubernetes allows no longer window or period).
const LONGEST: Duration = Duration::from_secs(3600);
/// Entries that are remembered at most: one every fifteen seconds, and then some.
const MOST: usize = 512;
const DEFAULT_DOWN_WINDOW: i32 = 300;
const DEFAULT_TOLERANCE: f64 = 0.1;

/// What one autoscaler proposed and did. Lost with the process, as in Kubernetes.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    proposals: VecDeque<(Instant, i32)>,
    /// Replicas added (above zero) and taken away.
    changes: VecDeque<(Instant, i32)>,
}

/// Reason and message of a condition.
pub(super) type Words = (&'static str, &'static str);

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) replicas: i32,
    /// Of the condition `AbleToScale`.
    pub(super) able: Words,
    /// Of the condition `ScalingLimited`, and whether it is so.
    pub(super) limited: (bool, Words),
}

/// The tolerances, each of its direction.
pub(super) fn tolerance(spec: &HorizontalPodAutoscalerSpec) -> Tolerance {
    let behavior = spec.behavior.as_ref();
    let of = |rules: Option<&HPAScalingRules>| {
        let milli = rules.and_then(|rules| quantity::milli(rules.tolerance.as_ref()?));
        milli.map_or(DEFAULT_TOLERANCE, |milli| milli as f64 / 1000.0)
    };
    Tolerance {
        up: of(behavior.and_then(|behavior| behavior.scale_up.as_ref())),
        down: of(behavior.and_then(|behavior| behavior.scale_down.as_ref())),
    }
}

impl Memory {
    /// Notes a change of the target's size.
    pub(super) fn changed(&mut self, from: i32, to: i32, now: Instant) {
        remember(&mut self.changes, to - from, now);
    }

    /// Bounds a proposal by what the autoscaler's behavior allows now, and notes it.
    pub(super) fn bound(
        &mut self,
        spec: &HorizontalPodAutoscalerSpec,
        current: i32,
        proposed: i32,
        now: Instant,
    ) -> Verdict {
        if self.proposals.is_empty() {
            // Nothing is known of the time before: the size that is there was right.
            remember(&mut self.proposals, current, now);
        }
        remember(&mut self.proposals, proposed, now);
        let behavior = spec.behavior.as_ref();
        let up = behavior.and_then(|behavior| behavior.scale_up.as_ref());
        let down = behavior.and_then(|behavior| behavior.scale_down.as_ref());
        let (stable, able) = self.stabilize(up, down, current, proposed, now);
        let least = spec.min_replicas.unwrap_or(1);
        let (replicas, limited) = if stable > current {
            let limit = self.most(up, current, now).max(current);
            if stable > limit.min(spec.max_replicas) {
                (
                    limit.min(spec.max_replicas),
                    Some(limit < spec.max_replicas),
                )
            } else {
                (stable, None)
            }
        } else if stable < current {
            let limit = self.fewest(down, current, now).min(current);
            if stable < limit.max(least) {
                (limit.max(least), Some(limit > least))
            } else {
                (stable, None)
            }
        } else {
            (stable, None)
        };
        let limited = words(limited, stable > current);
        Verdict {
            replicas,
            able,
            limited,
        }
    }

    /// The least proposal of the window upwards, the highest of the window downwards.
    fn stabilize(
        &self,
        up: Option<&HPAScalingRules>,
        down: Option<&HPAScalingRules>,
        current: i32,
        proposed: i32,
        now: Instant,
    ) -> (i32, Words) {
        let window = |rules: Option<&HPAScalingRules>, default: i32| {
            let seconds = rules.and_then(|rules| rules.stabilization_window_seconds);
            Duration::from_secs(u64::try_from(seconds.unwrap_or(default)).unwrap_or(0))
        };
        let within = |window: Duration| {
            let recent = self
                .proposals
                .iter()
                .filter(move |(at, _)| now - *at < window);
            recent.map(|(_, replicas)| *replicas)
        };
        let lowest = within(window(up, 0)).fold(proposed, i32::min);
        let highest = within(window(down, DEFAULT_DOWN_WINDOW)).fold(proposed, i32::max);
        let stable = if current < lowest {
            lowest
        } else if current > highest {
            highest
        } else {
            current
        };
        let words = if stable == proposed {
            ("ReadyForNewScale", "recommended size matches current size")
        } else if stable < proposed {
            (
                "ScaleUpStabilized",
                "recent recommendations were lower than current one, applying the lowest recent recommendation",
            )
        } else {
            (
                "ScaleDownStabilized",
                "recent recommendations were higher than current one, applying the highest recent recommendation",
            )
        };
        (stable, words)
    }

    /// The most replicas that the policies allow now.
    fn most(&self, rules: Option<&HPAScalingRules>, current: i32, now: Instant) -> i32 {
        let default = [policy("Percent", 100, 15), policy("Pods", 4, 15)];
        let limits = self.limits(rules, &default, current, now, |start, policy| match policy
            .type_
            .as_str()
        {
            "Pods" => start.saturating_add(policy.value),
            _ => scaled(start, 100 + i64::from(policy.value), 99),
        });
        match rules.and_then(|rules| rules.select_policy.as_deref()) {
            Some("Disabled") => current,
            Some("Min") => limits.into_iter().min().unwrap_or(current),
            _ => limits.into_iter().max().unwrap_or(current),
        }
    }

    /// The fewest replicas that the policies allow now.
    fn fewest(&self, rules: Option<&HPAScalingRules>, current: i32, now: Instant) -> i32 {
        let default = [policy("Percent", 100, 15)];
        let limits = self.limits(rules, &default, current, now, |start, policy| match policy
            .type_
            .as_str()
        {
            "Pods" => start.saturating_sub(policy.value),
            _ => scaled(start, 100 - i64::from(policy.value), 0),
        });
        match rules.and_then(|rules| rules.select_policy.as_deref()) {
            Some("Disabled") => current,
            // The policy that allows the least change.
            Some("Min") => limits.into_iter().max().unwrap_or(current),
            _ => limits.into_iter().min().unwrap_or(current),
        }
    }

    fn limits(
        &self,
        rules: Option<&HPAScalingRules>,
        default: &[HPAScalingPolicy],
        current: i32,
        now: Instant,
        limit: impl Fn(i32, &HPAScalingPolicy) -> i32,
    ) -> Vec<i32> {
        let given = rules.and_then(|rules| rules.policies.as_deref());
        let policies = given
            .filter(|policies| !policies.is_empty())
            .unwrap_or(default);
        let of = policies.iter().map(|policy| {
            let period = Duration::from_secs(u64::try_from(policy.period_seconds).unwrap_or(0));
            let recent = self.changes.iter().filter(|(at, _)| now - *at < period);
            let changed: i32 = recent
                .map(|(_, change)| *change)
                .fold(0, i32::saturating_add);
            limit(current.saturating_sub(changed), policy)
        });
        of.collect()
    }
}

/// Of the condition `ScalingLimited`: by the rate (`Some(true)`), by the bounds, or not at all.
fn words(limited: Option<bool>, up: bool) -> (bool, Words) {
    let words = match (limited, up) {
        (None, _) => (
            "DesiredWithinRange",
            "the desired count is within the acceptable range",
        ),
        (Some(true), true) => (
            "ScaleUpLimit",
            "the desired replica count is increasing faster than the maximum scale rate",
        ),
        (Some(true), false) => (
            "ScaleDownLimit",
            "the desired replica count is decreasing faster than the maximum scale rate",
        ),
        (Some(false), true) => (
            "TooManyReplicas",
            "the desired replica count is more than the maximum replica count",
        ),
        (Some(false), false) => (
            "TooFewReplicas",
            "the desired replica count is less than the minimum replica count",
        ),
    };
    (limited.is_some(), words)
}

/// A percentage of a size; `rest` of 99 rounds up.
fn scaled(size: i32, percent: i64, rest: i64) -> i32 {
    let scaled = (i64::from(size).saturating_mul(percent.max(0)) + rest) / 100;
    i32::try_from(scaled).unwrap_or(i32::MAX)
}

fn policy(type_: &str, value: i32, period_seconds: i32) -> HPAScalingPolicy {
    HPAScalingPolicy {
        type_: type_.to_owned(),
        value,
        period_seconds,
    }
}

fn remember(entries: &mut VecDeque<(Instant, i32)>, value: i32, now: Instant) {
    while entries.front().is_some_and(|(at, _)| now - *at > LONGEST) || entries.len() >= MOST {
        entries.pop_front();
    }
    entries.push_back((now, value));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn spec(behavior: Value) -> HorizontalPodAutoscalerSpec {
        serde_json::from_value(json!({
            "minReplicas": 1, "maxReplicas": 50, "scaleTargetRef": {"kind": "Deployment", "name": "web"},
            "behavior": behavior,
        }))
        .expect("a spec")
    }

    #[tokio::test(start_paused = true)]
    async fn it_doubles_or_adds_four_at_first_and_waits_before_it_shrinks() {
        let mut memory = Memory::default();
        let plain = spec(json!({}));
        let now = Instant::now();
        let first = memory.bound(&plain, 1, 40, now);
        assert_eq!((first.replicas, first.limited.1.0), (5, "ScaleUpLimit"));
        memory.changed(1, 5, now);
        assert_eq!(
            memory
                .bound(&plain, 5, 40, now + Duration::from_secs(5))
                .replicas,
            5,
            "in the same period"
        );
        assert_eq!(
            memory
                .bound(&plain, 5, 40, now + Duration::from_secs(16))
                .replicas,
            10
        );
        let later = now + Duration::from_secs(100);
        let held = memory.bound(&plain, 10, 2, later);
        assert_eq!((held.replicas, held.able.0), (10, "ScaleDownStabilized"));
        let down = memory.bound(&plain, 10, 2, later + Duration::from_secs(300));
        assert_eq!((down.replicas, down.able.0), (2, "ReadyForNewScale"));
    }

    #[tokio::test(start_paused = true)]
    async fn policies_windows_and_bounds_are_kept() {
        let mut memory = Memory::default();
        let slow = spec(json!({
            "scaleUp": {"stabilizationWindowSeconds": 60, "policies": [{"type": "Pods", "value": 2, "periodSeconds": 60}]},
            "scaleDown": {"stabilizationWindowSeconds": 0, "policies": [
                {"type": "Percent", "value": 10, "periodSeconds": 60}, {"type": "Pods", "value": 5, "periodSeconds": 60}], "selectPolicy": "Min"},
        }));
        let now = Instant::now();
        let held = memory.bound(&slow, 10, 20, now);
        assert_eq!((held.replicas, held.able.0), (10, "ScaleUpStabilized"));
        let up = memory.bound(&slow, 10, 20, now + Duration::from_secs(61));
        assert_eq!(up.replicas, 12);
        let down = memory.bound(&slow, 20, 1, now + Duration::from_secs(62));
        assert_eq!((down.replicas, down.limited.1.0), (18, "ScaleDownLimit"));
        let never = spec(
            json!({"scaleDown": {"selectPolicy": "Disabled", "stabilizationWindowSeconds": 0}}),
        );
        assert_eq!(Memory::default().bound(&never, 5, 1, now).replicas, 5);
        let most = Memory::default().bound(&spec(json!({})), 40, 70, now);
        assert_eq!((most.replicas, most.limited.1.0), (50, "TooManyReplicas"));
        let fast = spec(json!({"scaleDown": {"stabilizationWindowSeconds": 0}}));
        let least = Memory::default().bound(&fast, 2, 0, now);
        assert_eq!((least.replicas, least.limited.1.0), (1, "TooFewReplicas"));
        let close = tolerance(&spec(json!({"scaleUp": {"tolerance": "0.05"}})));
        assert_eq!(
            close,
            Tolerance {
                up: 0.05,
                down: 0.1
            }
        );
    }
}
