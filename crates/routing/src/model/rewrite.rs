//! What an answer of a backend becomes, besides the headers that change in every answer.
//!
//! Each rewrite holds for the answers that it names; more than one are made in their order.

use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::{HeaderOps, Predicate, Template};

/// Changes of the answers that it holds for. Those that the gateway gives itself are none of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct AnswerRewrite {
    /// Of the request; all hold.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub when: Vec<Predicate>,
    /// Of the answer: the first and the last of each range of statuses; `None` is every answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub statuses: Option<Vec<(u16, u16)>>,
    /// In place of the backend's; between 200 and 599.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    pub headers: HeaderOps,
    /// After `headers`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub templates: Vec<Template>,
    #[serde(skip_serializing_if = "BodyEdit::is_empty")]
    pub body: BodyEdit,
}

impl AnswerRewrite {
    /// Whether it is for answers with this status.
    pub fn is_for(&self, status: u16) -> bool {
        let statuses = self.statuses.as_deref();
        statuses.is_none_or(|all| {
            all.iter()
                .any(|(first, last)| (*first..=*last).contains(&status))
        })
    }
}

/// A change of a body. What says something about the body that is no longer so (its length, its
/// coding, its validators) goes with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BodyEdit {
    /// In place of the backend's body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replace: Option<Bytes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Bytes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Bytes>,
}

impl BodyEdit {
    /// Whether the body stays as it is.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Both changes, this one first.
    #[must_use]
    pub fn then(&self, next: &Self) -> Self {
        if next.replace.is_some() {
            return next.clone();
        }
        let joined = |first: &Option<Bytes>, second: &Option<Bytes>| match (first, second) {
            (Some(first), Some(second)) => Some([&*first.0, &*second.0].concat().into()),
            (one, other) => one.as_ref().or(other.as_ref()).cloned(),
        };
        Self {
            replace: self.replace.clone(),
            before: joined(&next.before, &self.before),
            after: joined(&self.after, &next.after),
        }
    }
}

/// Part of a body. Reads as text where it is written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bytes(pub Arc<[u8]>);

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl From<&str> for Bytes {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().into())
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&String::from_utf8_lossy(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edit(replace: Option<&str>, before: Option<&str>, after: Option<&str>) -> BodyEdit {
        BodyEdit {
            replace: replace.map(Bytes::from),
            before: before.map(Bytes::from),
            after: after.map(Bytes::from),
        }
    }

    #[test]
    fn a_later_change_is_around_the_earlier_one_and_a_new_body_ends_it() {
        let first = edit(None, Some("b1"), Some("a1"));
        let second = edit(None, Some("b2"), None);
        assert_eq!(first.then(&second), edit(None, Some("b2b1"), Some("a1")));
        let new = edit(Some("x"), None, Some("!"));
        assert_eq!(first.then(&new), new);
        assert_eq!(new.then(&second), edit(Some("x"), Some("b2"), Some("!")));
        let both = new.then(&edit(None, None, Some("?")));
        assert_eq!(both, edit(Some("x"), None, Some("!?")));
    }

    #[test]
    fn it_is_for_the_statuses_that_it_names_or_for_all() {
        let of = |statuses: Option<Vec<(u16, u16)>>| AnswerRewrite {
            statuses,
            ..AnswerRewrite::default()
        };
        assert!(of(None).is_for(404));
        assert!(of(Some(vec![(200, 200), (500, 599)])).is_for(503));
        assert!(!of(Some(vec![(200, 200), (500, 599)])).is_for(404));
        assert!(!of(Some(Vec::new())).is_for(200));
    }
}
