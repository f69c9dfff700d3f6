//! From a decision to a replica count: bounds, the initial scale and the way to zero.
//!
//! A revision goes to zero in two steps. After a stable window of activity without need it is
//! marked inactive while one pod stays; once it has been inactive for its retention period, and
//! requests have gone through an activator for the grace period, the last pod goes. Here every
//! gateway is an activator, so the grace period only matters for a revision younger than it.

use std::time::Duration;

/// Limits of the replica count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub min: u32,
    /// 0 means no limit.
    pub max: u32,
    /// Pods that must have been ready once before the revision counts as initialized.
    pub initial: u32,
}

/// How long the revision has been what its `Active` condition says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// Unknown: pods are on their way.
    Activating(Duration),
    Active(Duration),
    Inactive(Duration),
}

/// When a revision may lose its last pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZeroRules {
    pub is_enabled: bool,
    pub stable_window: Duration,
    pub grace_period: Duration,
    /// How long the last pod stays after the revision became inactive.
    pub retention: Duration,
    /// How long an activation may take before it is given up.
    pub activation_timeout: Duration,
}

/// What is known when the replica count is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Situation {
    /// The autoscaler's decision; `None` if it knows nothing of the revision.
    pub desired: Option<u32>,
    pub activity: Activity,
    /// Whether the initial scale was reached once.
    pub is_initialized: bool,
    /// Whether a route may send traffic. If not, the initial scale holds nothing up.
    pub is_reachable: bool,
    /// Since when every request of the revision goes through an activator.
    pub activator_in_path: Duration,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The scale that status shows and that conditions follow; `None` if not known.
    pub want: Option<u32>,
    /// Whether `want` is to be written to the scale target now.
    pub write: bool,
    /// When the answer changes by time alone.
    pub recheck: Option<Duration>,
}

impl Bounds {
    fn apply(self, desired: u32) -> u32 {
        if desired < self.min {
            self.min
        } else if self.max != 0 && desired > self.max {
            self.max
        } else {
            desired
        }
    }
}

/// Chooses the replica count.
pub fn next(situation: &Situation, bounds: Bounds, zero: &ZeroRules) -> Step {
    let mut bounds = bounds;
    if !situation.is_initialized && situation.is_reachable && bounds.initial > 1 {
        bounds.min = bounds.min.max(bounds.initial);
    }
    let desired = match (situation.desired, situation.activity) {
        (Some(desired), _) => bounds.apply(desired),
        // Without knowledge only a revision that is starting is held to its bounds.
        (None, Activity::Activating(_)) if bounds.min > 0 => bounds.min,
        (None, _) => return Step::wait(None, None),
    };
    if desired > 0 {
        return Step::write(desired);
    }
    if !zero.is_enabled {
        return Step::write(1);
    }
    to_zero(situation, zero)
}

fn to_zero(situation: &Situation, zero: &ZeroRules) -> Step {
    match situation.activity {
        Activity::Activating(time) => match left(zero.activation_timeout, time) {
            Some(rest) => Step::wait(None, Some(rest)),
            None => Step::write(0),
        },
        Activity::Active(time) => match left(zero.stable_window, time) {
            // At most one pod for the rest of the window.
            Some(rest) => Step {
                recheck: Some(rest),
                ..Step::write(1)
            },
            // Not written: zero in status marks the revision inactive first.
            None => Step::wait(Some(0), None),
        },
        Activity::Inactive(time) => {
            // Long enough whatever else: nothing can still bypass the activator.
            if time >= zero.grace_period.max(zero.retention) {
                return Step::write(0);
            }
            if let Some(rest) = left(zero.retention, time) {
                return Step::wait(Some(0), Some(rest));
            }
            match left(zero.grace_period, situation.activator_in_path) {
                Some(rest) => Step::wait(Some(0), Some(rest)),
                None => Step::write(0),
            }
        }
    }
}

/// What is left of a period; `None` once it is over.
fn left(period: Duration, passed: Duration) -> Option<Duration> {
    period.checked_sub(passed).filter(|rest| !rest.is_zero())
}

impl Step {
    fn write(scale: u32) -> Self {
        Self {
            want: Some(scale),
            write: true,
            recheck: None,
        }
    }

    fn wait(want: Option<u32>, recheck: Option<Duration>) -> Self {
        Self {
            want,
            write: false,
            recheck,
        }
    }
}

#[cfg(test)]
mod tests;
