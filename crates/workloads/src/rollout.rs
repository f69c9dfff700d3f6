//! The arithmetic of a rollout: how many replicas each ReplicaSet of a Deployment gets next.
//!
//! Pure, and in the terms of Kubernetes' Deployment controller: never more than
//! `replicas + maxSurge` pods, never fewer than `replicas - maxUnavailable` available ones.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// What a rollout may do at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) replicas: i32,
    pub(crate) max_surge: i32,
    pub(crate) max_unavailable: i32,
}

/// One ReplicaSet as the arithmetic sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    /// `spec.replicas`.
    pub(crate) replicas: i32,
    /// `status.availableReplicas`.
    pub(crate) available: i32,
}

impl Limits {
    /// Resolves both values against `replicas`; percentages of the surge are rounded up, those
    /// of the unavailable ones down, and at least one of the two is above zero.
    pub(crate) fn new(
        replicas: i32,
        surge: Option<&IntOrString>,
        unavailable: Option<&IntOrString>,
    ) -> Self {
        let quarter = IntOrString::String("25%".to_owned());
        let max_surge = resolve(surge.unwrap_or(&quarter), replicas, true);
        let max_unavailable =
            resolve(unavailable.unwrap_or(&quarter), replicas, false).min(replicas);
        // Percentages can both come to nothing; a rollout must be able to move.
        let max_unavailable = if max_surge == 0 && max_unavailable == 0 {
            1
        } else {
            max_unavailable
        };
        Self {
            replicas,
            max_surge,
            max_unavailable,
        }
    }

    /// Pods that must stay available.
    pub(crate) fn least_available(self) -> i32 {
        (self.replicas - self.max_unavailable).max(0)
    }

    /// The next size of the new ReplicaSet.
    pub(crate) fn grow_new(self, new: i32, all: i32) -> i32 {
        if new > self.replicas {
            return self.replicas;
        }
        let room = self.replicas.saturating_add(self.max_surge) - all;
        new + room.clamp(0, self.replicas - new)
    }

    /// The next sizes of the old ReplicaSets, oldest first, given the new one.
    pub(crate) fn shrink_old(self, new: Size, old: &[Size]) -> Vec<i32> {
        let mut next: Vec<i32> = old.iter().map(|size| size.replicas).collect();
        let all = new.replicas + next.iter().sum::<i32>();
        let new_unavailable = (new.replicas - new.available).max(0);
        let mut budget = (all - self.least_available() - new_unavailable).max(0);
        // Pods that are not available cost nothing to give up.
        for (next, size) in next.iter_mut().zip(old) {
            let take = (*next - size.available).clamp(0, budget);
            *next -= take;
            budget -= take;
        }
        let available = new.available + old.iter().map(|size| size.available).sum::<i32>();
        let mut spare = (available - self.least_available()).clamp(0, budget);
        for next in &mut next {
            let take = (*next).min(spare);
            *next -= take;
            spare -= take;
        }
        next
    }
}

/// Sizes after `replicas` changed while several ReplicaSets have pods: each keeps its share.
/// `sizes` are `(replicas, replicas + surge when it was last sized)`, newest first.
pub(crate) fn proportional(limits: Limits, sizes: &[(i32, i32)]) -> Vec<i32> {
    let allowed = if limits.replicas > 0 {
        limits.replicas.saturating_add(limits.max_surge)
    } else {
        0
    };
    let total: i32 = sizes.iter().map(|(replicas, _)| replicas).sum();
    let change = allowed - total;
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    // The larger first; among equals the newer grows first and the older shrinks first.
    if change > 0 {
        order.sort_by_key(|index| (std::cmp::Reverse(sizes[*index].0), *index));
    } else {
        order.sort_by_key(|index| {
            (
                std::cmp::Reverse(sizes[*index].0),
                std::cmp::Reverse(*index),
            )
        });
    }
    let mut next: Vec<i32> = sizes.iter().map(|(replicas, _)| *replicas).collect();
    let mut rest = change;
    for index in &order {
        let (replicas, was_allowed) = sizes[*index];
        let share = f64::from(replicas) * f64::from(allowed) / f64::from(was_allowed.max(1));
        #[allow(clippy::cast_possible_truncation)] // bounded by `rest`, which is an i32
        let wanted = share.round() as i32 - replicas;
        let step = if change > 0 {
            wanted.clamp(0, rest.max(0))
        } else {
            wanted.clamp(rest.min(0), 0)
        };
        next[*index] += step;
        rest -= step;
    }
    if let Some(first) = order.first() {
        next[*first] = (next[*first] + rest).max(0);
    }
    next
}

pub(crate) fn resolve(value: &IntOrString, replicas: i32, up: bool) -> i32 {
    match value {
        IntOrString::Int(number) => (*number).max(0),
        IntOrString::String(text) => {
            let percent = text
                .strip_suffix('%')
                .and_then(|number| number.parse::<i64>().ok())
                .unwrap_or(0);
            let hundredths = i64::from(replicas.max(0)) * percent.max(0);
            let whole = hundredths / 100 + i64::from(up && hundredths % 100 != 0);
            i32::try_from(whole).unwrap_or(i32::MAX)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(replicas: i32, max_surge: i32, max_unavailable: i32) -> Limits {
        Limits {
            replicas,
            max_surge,
            max_unavailable,
        }
    }

    fn size(replicas: i32, available: i32) -> Size {
        Size {
            replicas,
            available,
        }
    }

    #[test]
    fn percentages_resolve_as_in_kubernetes() {
        let text = |text: &str| IntOrString::String(text.to_owned());
        assert_eq!(Limits::new(10, None, None), limits(10, 3, 2));
        assert_eq!(
            Limits::new(1, Some(&text("25%")), Some(&IntOrString::Int(0))),
            limits(1, 1, 0)
        );
        assert_eq!(
            Limits::new(1, Some(&text("0%")), Some(&text("50%"))),
            limits(1, 0, 1)
        );
    }

    #[test]
    fn the_new_set_grows_into_the_surge_and_never_past_the_replicas() {
        assert_eq!(limits(3, 1, 0).grow_new(0, 3), 1);
        assert_eq!(limits(3, 1, 0).grow_new(1, 4), 1);
        assert_eq!(limits(3, 1, 0).grow_new(0, 0), 3);
        assert_eq!(limits(3, 1, 0).grow_new(5, 5), 3);
    }

    #[test]
    fn old_pods_go_only_when_new_ones_are_available() {
        assert_eq!(limits(3, 1, 0).shrink_old(size(1, 0), &[size(3, 3)]), [3]);
        assert_eq!(limits(3, 1, 0).shrink_old(size(1, 1), &[size(3, 3)]), [2]);
        assert_eq!(limits(3, 1, 1).shrink_old(size(1, 0), &[size(3, 3)]), [2]);
    }

    #[test]
    fn broken_old_pods_make_room_first() {
        assert_eq!(
            limits(3, 1, 0).shrink_old(size(1, 1), &[size(2, 0), size(1, 1)]),
            [1, 1]
        );
        assert_eq!(limits(2, 1, 1).shrink_old(size(1, 0), &[size(2, 0)]), [1]);
    }

    #[test]
    fn a_rollout_that_is_stepped_reaches_its_end_within_its_limits() {
        for (replicas, surge, unavailable) in [(1, 1, 0), (5, 2, 0), (5, 0, 1), (10, 3, 2)] {
            let limits = limits(replicas, surge, unavailable);
            let (mut new, mut old) = (0, replicas);
            for _ in 0..100 {
                // Every pod becomes available before the next step.
                new = limits.grow_new(new, new + old);
                assert!(new + old <= replicas + surge);
                old = limits.shrink_old(size(new, new), &[size(old, old)])[0];
                assert!(new + old >= replicas - unavailable);
            }
            assert_eq!((new, old), (replicas, 0));
        }
    }

    #[test]
    fn scaling_in_a_rollout_keeps_the_shares() {
        assert_eq!(
            proportional(limits(20, 2, 0), &[(6, 12), (6, 12)]),
            [11, 11]
        );
        assert_eq!(proportional(limits(5, 1, 0), &[(6, 12), (6, 12)]), [3, 3]);
        assert_eq!(proportional(limits(0, 1, 0), &[(2, 4), (2, 4)]), [0, 0]);
    }
}
