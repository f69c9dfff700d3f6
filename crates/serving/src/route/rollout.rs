//! Gradual rollout: how much of a configuration's traffic its newest revision has right now.
//!
//! The state lives in an annotation of the KIngress, in Knative's form, so that a restart goes on
//! where it was. [`step`] is pure: state, goal and time in, state and time of the next step out.
//! A new revision starts with one percent; how long the gateway takes to serve that gives the
//! shortest step, see [`Rollout::observe_ready`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Key of the state on the KIngress.
pub(super) const ANNOTATION: &str = "networking.internal.knative.dev/rollout";

const SECOND: f64 = 1e9;

/// The rollouts of one Route, ordered by tag, then by configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Rollout {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) configurations: Vec<Progress>,
}

/// One configuration under one host of the Route.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Progress {
    pub(super) configuration_name: String,
    /// Empty for the Route's own host.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) tag: String,
    /// What all its revisions have together.
    pub(super) percent: i64,
    /// Oldest first; more than one only while a rollout is under way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) revisions: Vec<Part>,
    #[serde(default)]
    step_params: Steps,
}

/// The share of one revision, in percent of the host's traffic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Part {
    pub(super) revision_name: String,
    pub(super) percent: i64,
}

/// Times in nanoseconds; zero means not known yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Steps {
    #[serde(rename = "starttime", default, skip_serializing_if = "is_zero")]
    start_time: i64,
    #[serde(default, skip_serializing_if = "is_zero")]
    next_step_time: i64,
    #[serde(default, skip_serializing_if = "is_zero")]
    step_duration: i64,
    #[serde(default, skip_serializing_if = "is_zero")]
    step_size: i64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(value: &i64) -> bool {
    *value == 0
}

impl Rollout {
    /// Reads the annotation; `None` if it says nothing that adds up.
    pub(super) fn read(annotation: Option<&str>) -> Option<Self> {
        let rollout: Self = serde_json::from_str(annotation?).ok()?;
        let adds_up = |progress: &Progress| {
            let mut parts = progress.revisions.iter().map(|part| part.percent);
            let total = parts.try_fold(0_i64, |sum, part| {
                sum.checked_add(part).filter(|_| part >= 0)
            });
            total == Some(progress.percent)
                && (0..=100).contains(&progress.percent)
                && (0..=progress.percent).contains(&progress.step_params.step_size)
        };
        rollout
            .configurations
            .iter()
            .all(adds_up)
            .then_some(rollout)
    }

    /// The annotation's text.
    pub(super) fn text(&self) -> String {
        serde_json::to_string(self).expect("plain data without maps encodes")
    }

    /// What the traffic asks for when nothing rolls out.
    pub(super) fn goal(parts: impl IntoIterator<Item = (String, String, String, i64)>) -> Self {
        let mut goal = Self::default();
        for (tag, configuration, revision, percent) in parts {
            let known = goal.configurations.iter_mut().find(|progress| {
                progress.tag == tag && progress.configuration_name == configuration
            });
            match known {
                Some(progress) => {
                    progress.percent += percent;
                    progress.revisions[0].percent += percent;
                }
                None => goal.configurations.push(Progress {
                    configuration_name: configuration,
                    tag,
                    percent,
                    revisions: vec![Part {
                        revision_name: revision,
                        percent,
                    }],
                    step_params: Steps::default(),
                }),
            }
        }
        goal.configurations
            .sort_by(|a, b| (&a.tag, &a.configuration_name).cmp(&(&b.tag, &b.configuration_name)));
        goal
    }

    /// Whether no traffic is on its way to another revision.
    pub(super) fn is_done(&self) -> bool {
        self.configurations
            .iter()
            .all(|progress| progress.revisions.len() < 2)
    }

    /// The parts of a configuration under a host.
    pub(super) fn parts(&self, tag: &str, configuration: &str) -> Option<&[Part]> {
        let mut all = self.configurations.iter();
        let progress = all.find(|it| it.tag == tag && it.configuration_name == configuration)?;
        Some(&progress.revisions)
    }

    /// The gateway serves the first percent: size and time of the steps follow from how long
    /// that took.
    pub(super) fn observe_ready(&mut self, now: i64, duration: Duration) {
        for progress in &mut self.configurations {
            let steps = &progress.step_params;
            if steps.step_duration == 0 && steps.start_time > 0 {
                let took = (now.saturating_sub(steps.start_time) as f64 / SECOND).ceil();
                progress.plan_steps(now, took.max(1.0), duration.as_secs_f64());
            }
        }
    }
}

/// The state at `now`, and when it changes next by time alone.
pub(super) fn step(goal: Rollout, previous: Option<Rollout>, now: i64) -> (Rollout, Option<i64>) {
    let Some(previous) = previous.filter(|previous| !previous.configurations.is_empty()) else {
        return (goal, None);
    };
    let mut next = Rollout::default();
    for goal in goal.configurations {
        let before = previous.configurations.iter().find(|before| {
            before.tag == goal.tag && before.configuration_name == goal.configuration_name
        });
        match (before, goal.percent) {
            (_, 0) => {}
            // One percent is all that a rollout would begin with.
            (_, 1) | (None, _) => next.configurations.push(goal),
            (Some(before), _) => next.configurations.push(goal.after(before, now)),
        }
    }
    let times = next.configurations.iter();
    let times = times.map(|progress| progress.step_params.next_step_time);
    let soonest = times.filter(|time| *time > 0).min();
    (next, soonest)
}

impl Progress {
    /// This goal, reached from `before` as far as it goes now.
    fn after(mut self, before: &Self, now: i64) -> Self {
        let mut parts = before.revisions.clone();
        resize(&mut parts, self.percent - before.percent);
        let Some(wanted) = self.revisions.first().cloned() else {
            return self;
        };
        let Some(newest) = parts.last() else {
            return self;
        };
        if newest.revision_name != wanted.revision_name {
            self.step_params.start_time = now;
            self.revisions = begin(parts, wanted.revision_name);
            return self;
        }
        if parts.len() > 1 {
            self.revisions = parts;
            self.step_params = before.step_params.clone();
            self.advance(now);
        }
        self
    }

    /// Moves one step of traffic to the newest revision, if it is time.
    fn advance(&mut self, now: i64) {
        let size = self.step_params.step_size;
        if size == 0 || now < self.step_params.next_step_time {
            return;
        }
        let Some((newest, older)) = self.revisions.split_last_mut() else {
            return;
        };
        let mut left = size;
        for part in older.iter_mut().rev() {
            let cut = part.percent.min(left);
            part.percent -= cut;
            left -= cut;
        }
        let rest: i64 = older.iter().map(|part| part.percent).sum();
        newest.percent = self.percent - rest;
        self.revisions.retain(|part| part.percent > 0);
        if self.revisions.len() > 1 {
            self.step_params.next_step_time = now.saturating_add(self.step_params.step_duration);
        } else {
            self.step_params = Steps::default();
        }
    }

    fn plan_steps(&mut self, now: i64, shortest: f64, duration: f64) {
        // The first percent took its part of the duration already.
        let duration = (duration - shortest).max(1.0);
        let rest = (self.percent - 1) as f64;
        let steps = (duration / shortest).max(1.0).min(rest);
        let every = duration / steps * SECOND;
        self.step_params.step_duration = every as i64;
        self.step_params.step_size = (rest / steps).round() as i64;
        self.step_params.next_step_time = now.saturating_add(every as i64);
    }
}

/// Fits the parts to another total: the newest gets more, the oldest lose first.
fn resize(parts: &mut Vec<Part>, difference: i64) {
    if difference > 0
        && let Some(newest) = parts.last_mut()
    {
        newest.percent += difference;
    }
    let mut left = -difference;
    for part in parts.iter_mut() {
        let cut = part.percent.min(left.max(0));
        part.percent -= cut;
        left -= cut;
    }
    if difference < 0 {
        parts.retain(|part| part.percent > 0);
    }
}

/// Gives one percent of the newest revision that has any to a still newer one.
fn begin(mut parts: Vec<Part>, revision_name: String) -> Vec<Part> {
    let giver = parts.iter_mut().rev().find(|part| part.percent > 0);
    if let Some(giver) = giver {
        giver.percent -= 1;
    }
    parts.retain(|part| part.percent > 0);
    parts.push(Part {
        revision_name,
        percent: 1,
    });
    parts
}

#[cfg(test)]
mod tests;
