//! A finding about one field of one user object.
//!
//! Every input field ends as translated or as a diagnostic; diagnostics end as conditions.

use std::fmt::Write as _;

use serde::Serialize;

/// What is wrong, where, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Diagnostic {
    pub effect: Effect,
    /// JSON path inside the root object.
    pub field: String,
    /// One word in CamelCase: the reason of the condition.
    pub reason: &'static str,
    /// A sentence for people.
    pub message: String,
}

/// What a diagnostic means for the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Effect {
    /// Something that the object names is not there yet. The object's last complete generation
    /// stays live until it is.
    Waiting,
    /// Nobody would answer yet. Keeps a new generation from going live; once it is live, this is
    /// a matter between the backend and its requests, not of the object's status.
    Starting,
    /// This field is not served as written. The rest of the object is.
    Refused,
    /// The host belongs to another object. The rest of the object is served.
    Conflict,
}

impl Diagnostic {
    pub(crate) fn new(
        effect: Effect,
        reason: &'static str,
        field: &str,
        message: impl Into<String>,
    ) -> Self {
        Self {
            effect,
            reason,
            field: field.to_owned(),
            message: message.into(),
        }
    }
}

/// Texts as one, for a status. Once they are longer than `most` bytes, the rest is counted.
pub(crate) fn joined<T: AsRef<str>>(
    texts: impl ExactSizeIterator<Item = T>,
    most: usize,
) -> String {
    let count = texts.len();
    let mut all = String::new();
    for (at, text) in texts.enumerate() {
        if all.len() > most {
            // A String takes whatever is written.
            let _ = write!(all, "; and {} more", count - at);
            break;
        }
        if at > 0 {
            all.push_str("; ");
        }
        all.push_str(text.as_ref());
    }
    all
}
