//! Conditions as Knative words them (`knative.dev/pkg/apis`, duck type `Status`).
//!
//! A condition set has one happy condition (`Ready`) that is True only while every dependent is
//! True, False as soon as one dependent is False, and Unknown otherwise.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The type of the aggregate condition of every Knative kind.
pub const READY: &str = "Ready";

/// One finding about an object, as shown by `kubectl describe`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What the condition is about, for example `Ready`.
    #[serde(rename = "type")]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Empty for an error; `Info` conditions do not pull `Ready` down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<String>,
    /// When `status` last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<Time>,
    /// One word in CamelCase for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// A sentence for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// The three values of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// The condition holds.
    True,
    /// The condition does not hold; `reason` and `message` say why.
    False,
    /// Not decided yet.
    Unknown,
}

impl Truth {
    /// The value as the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl Condition {
    /// Whether the condition has this value.
    pub fn is(&self, truth: Truth) -> bool {
        self.status == truth.as_str()
    }
}

/// The condition of this type, if it was ever written.
pub fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// Conditions of one object while a reconciler plans them.
///
/// `now` is only stamped on conditions whose status differs from the stored one, whatever they
/// were marked in between, so a plan that changes nothing equals the stored status and no write
/// follows.
#[derive(Debug)]
pub struct Conditions {
    now: Time,
    dependents: &'static [&'static str],
    stored: Vec<Condition>,
    entries: Vec<Condition>,
}

impl Conditions {
    /// Starts from the stored conditions. `dependents` are the types that make up `Ready`;
    /// those never written before start as Unknown.
    pub fn new(stored: &[Condition], dependents: &'static [&'static str], now: Time) -> Self {
        let mut conditions = Self {
            now,
            dependents,
            stored: stored.to_vec(),
            entries: stored.to_vec(),
        };
        for type_ in dependents {
            if find(&conditions.entries, type_).is_none() {
                conditions.put(type_, Truth::Unknown, None, "", "");
            }
        }
        conditions.aggregate();
        conditions
    }

    /// Marks a condition True without a reason.
    pub fn mark_true(&mut self, type_: &str) {
        self.put(type_, Truth::True, None, "", "");
        self.aggregate();
    }

    /// Marks a condition True and says why (for example `TLSNotEnabled`).
    pub fn mark_true_because(&mut self, type_: &str, reason: &str, message: &str) {
        self.put(type_, Truth::True, None, reason, message);
        self.aggregate();
    }

    /// Marks a condition False with its reason and message.
    pub fn mark_false(&mut self, type_: &str, reason: &str, message: &str) {
        self.put(type_, Truth::False, None, reason, message);
        self.aggregate();
    }

    /// Marks a condition Unknown with its reason and message.
    pub fn mark_unknown(&mut self, type_: &str, reason: &str, message: &str) {
        self.put(type_, Truth::Unknown, None, reason, message);
        self.aggregate();
    }

    /// Marks an informational condition: it never changes `Ready`.
    pub fn mark_info(&mut self, type_: &str, truth: Truth, reason: &str, message: &str) {
        self.put(type_, truth, Some("Info"), reason, message);
    }

    /// Copies a child's aggregate condition onto one of ours.
    pub fn propagate(&mut self, type_: &str, child: Option<&Condition>) {
        match child {
            None => self.put(type_, Truth::Unknown, None, "", ""),
            Some(child) => {
                let truth = match child.status.as_str() {
                    "True" => Truth::True,
                    "False" => Truth::False,
                    _ => Truth::Unknown,
                };
                let reason = child.reason.clone().unwrap_or_default();
                let message = child.message.clone().unwrap_or_default();
                self.put(type_, truth, None, &reason, &message);
            }
        }
        self.aggregate();
    }

    /// Forgets a condition (for example one that only exists during a rollout).
    pub fn remove(&mut self, type_: &str) {
        self.entries.retain(|condition| condition.type_ != type_);
        self.aggregate();
    }

    /// The current value, if written.
    pub fn get(&self, type_: &str) -> Option<&Condition> {
        find(&self.entries, type_)
    }

    /// Whether `Ready` is True.
    pub fn is_ready(&self) -> bool {
        self.get(READY).is_some_and(|ready| ready.is(Truth::True))
    }

    /// The finished list, sorted by type as Knative writes it.
    pub fn into_vec(mut self) -> Vec<Condition> {
        self.entries.sort_by(|a, b| a.type_.cmp(&b.type_));
        self.entries
    }

    /// `Ready` follows the most severe dependent: the first False, else the first Unknown.
    fn aggregate(&mut self) {
        let worst = |truth: Truth| {
            let found = self
                .dependents
                .iter()
                .filter_map(|type_| self.get(type_))
                .find(|c| c.is(truth));
            found.map(|c| {
                (
                    c.reason.clone().unwrap_or_default(),
                    c.message.clone().unwrap_or_default(),
                )
            })
        };
        if let Some((reason, message)) = worst(Truth::False) {
            self.put(READY, Truth::False, None, &reason, &message);
        } else if let Some((reason, message)) = worst(Truth::Unknown) {
            self.put(READY, Truth::Unknown, None, &reason, &message);
        } else if !self.dependents.is_empty() {
            self.put(READY, Truth::True, None, "", "");
        }
    }

    fn put(
        &mut self,
        type_: &str,
        truth: Truth,
        severity: Option<&str>,
        reason: &str,
        message: &str,
    ) {
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let mut condition = Condition {
            type_: type_.to_owned(),
            status: truth.as_str().to_owned(),
            severity: severity.map(str::to_owned),
            last_transition_time: None,
            reason: text(reason),
            message: text(message),
        };
        let before = find(&self.stored, type_).filter(|stored| stored.status == condition.status);
        let since = before.and_then(|stored| stored.last_transition_time.clone());
        condition.last_transition_time = since.or_else(|| Some(self.now.clone()));
        match self.entries.iter_mut().find(|entry| entry.type_ == type_) {
            Some(entry) => *entry = condition,
            None => self.entries.push(condition),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Time {
        serde_json::from_value(serde_json::json!(format!("2026-01-01T00:00:{second:02}Z")))
            .expect("a time")
    }

    #[test]
    fn ready_is_unknown_until_every_dependent_is_true() {
        let mut conditions = Conditions::new(&[], &["A", "B"], at(1));
        conditions.mark_true("A");
        assert!(conditions.get(READY).is_some_and(|c| c.is(Truth::Unknown)));
        conditions.mark_true("B");
        assert!(conditions.is_ready());
    }

    #[test]
    fn ready_takes_reason_and_message_of_the_first_false_dependent() {
        let mut conditions = Conditions::new(&[], &["A", "B"], at(1));
        conditions.mark_unknown("A", "Waiting", "wait");
        conditions.mark_false("B", "Broken", "it broke");
        let ready = conditions.get(READY).expect("written");
        assert_eq!(ready.status, "False");
        assert_eq!(ready.reason.as_deref(), Some("Broken"));
        assert_eq!(ready.message.as_deref(), Some("it broke"));
    }

    #[test]
    fn the_transition_time_changes_only_with_the_status() {
        let mut first = Conditions::new(&[], &["A"], at(1));
        first.mark_true("A");
        let stored = first.into_vec();
        let mut second = Conditions::new(&stored, &["A"], at(9));
        second.mark_true("A");
        assert_eq!(second.into_vec(), stored);
        let mut third = Conditions::new(&stored, &["A"], at(9));
        third.mark_false("A", "Broken", "");
        assert_eq!(
            third.get("A").and_then(|c| c.last_transition_time.clone()),
            Some(at(9))
        );
    }

    #[test]
    fn a_condition_that_returns_to_its_stored_status_keeps_its_transition_time() {
        let mut first = Conditions::new(&[], &["A"], at(1));
        first.mark_false("A", "Broken", "");
        let stored = first.into_vec();
        let mut second = Conditions::new(&stored, &["A"], at(9));
        second.mark_true("A");
        second.mark_false("A", "Broken", "");
        assert_eq!(second.into_vec(), stored);
    }

    #[test]
    fn informational_conditions_do_not_pull_ready_down() {
        let mut conditions = Conditions::new(&[], &["A"], at(1));
        conditions.mark_true("A");
        conditions.mark_info(
            "Active",
            Truth::False,
            "NoTraffic",
            "The target is not receiving traffic.",
        );
        assert!(conditions.is_ready());
    }
}
