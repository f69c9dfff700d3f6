//! Which Events are written, counted, combined or dropped; pure.
//!
//! Memory is bounded: when too much is remembered all of it is forgotten, which at worst writes
//! an Event anew that could have been counted.

use std::collections::{HashMap, HashSet};

use jiff::{SignedDuration, Timestamp};

use super::Note;

/// Things remembered of each sort.
const MOST: usize = 4096;
/// Messages of one reason about one object before they are combined.
const SIMILAR: usize = 10;
/// How long similar messages are looked at together.
const SIMILAR_FOR: SignedDuration = SignedDuration::from_mins(10);
/// Events of one object at once, and the time after which there may be one more.
const BURST: f64 = 25.0;
const REFILL_SECONDS: f64 = 300.0;

/// What to do with a note.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Verdict {
    /// The object has had too many.
    Drop,
    /// Create the Event if `count` is one, else raise its count.
    Write {
        name: String,
        message: String,
        count: i32,
        first: Timestamp,
    },
}

#[derive(Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Timestamp,
}

struct Similar {
    messages: HashSet<String>,
    at: Timestamp,
}

struct Written {
    name: String,
    count: i32,
    first: Timestamp,
}

/// What was told lately.
#[derive(Default)]
pub(super) struct Correlator {
    buckets: HashMap<String, Bucket>,
    similar: HashMap<String, Similar>,
    written: HashMap<String, Written>,
}

impl Correlator {
    pub(super) fn judge(&mut self, note: &Note, now: Timestamp) -> Verdict {
        let object = format!(
            "{}/{}/{}/{}/{}",
            note.component,
            note.object.kind.as_deref().unwrap_or_default(),
            note.object.namespace.as_deref().unwrap_or_default(),
            note.object.name.as_deref().unwrap_or_default(),
            note.object.uid.as_deref().unwrap_or_default(),
        );
        let group = format!("{object}/{}/{}", note.warning, note.reason);
        let combined = self.is_one_of_many(&group, &note.message, now);
        let message = if combined {
            format!("(combined from similar events): {}", note.message)
        } else {
            note.message.clone()
        };
        let same = if combined {
            group
        } else {
            format!("{group}/{message}")
        };
        if !self.may_write(object, now) {
            return Verdict::Drop;
        }
        bound(&mut self.written);
        let base = note.object.name.as_deref().unwrap_or_default();
        let entry = self.written.entry(same).or_insert_with(|| Written {
            name: format!("{base}.{:x}", now.as_nanosecond()),
            count: 0,
            first: now,
        });
        entry.count = entry.count.saturating_add(1);
        Verdict::Write {
            name: entry.name.clone(),
            message,
            count: entry.count,
            first: entry.first,
        }
    }

    fn is_one_of_many(&mut self, group: &str, message: &str, now: Timestamp) -> bool {
        bound(&mut self.similar);
        let fresh = || Similar {
            messages: HashSet::new(),
            at: now,
        };
        let similar = self.similar.entry(group.to_owned()).or_insert_with(fresh);
        if now.duration_since(similar.at) > SIMILAR_FOR {
            *similar = fresh();
        }
        similar.at = now;
        if similar.messages.contains(message) {
            return false;
        }
        if similar.messages.len() + 1 >= SIMILAR {
            return true;
        }
        similar.messages.insert(message.to_owned());
        false
    }

    fn may_write(&mut self, object: String, now: Timestamp) -> bool {
        bound(&mut self.buckets);
        let bucket = self.buckets.entry(object).or_insert(Bucket {
            tokens: BURST,
            at: now,
        });
        let passed = now.duration_since(bucket.at).as_secs_f64().max(0.0);
        bucket.tokens = (bucket.tokens + passed / REFILL_SECONDS).min(BURST);
        bucket.at = now;
        if bucket.tokens < 1.0 {
            return false;
        }
        bucket.tokens -= 1.0;
        true
    }
}

fn bound<V>(map: &mut HashMap<String, V>) {
    if map.len() >= MOST {
        map.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ObjectReference;

    fn note(message: &str) -> Note {
        Note {
            object: ObjectReference {
                name: Some("web".into()),
                ..ObjectReference::default()
            },
            component: "test",
            warning: true,
            reason: "Why".into(),
            message: message.into(),
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).expect("in range")
    }

    fn count(verdict: &Verdict) -> i32 {
        match verdict {
            Verdict::Drop => 0,
            Verdict::Write { count, .. } => *count,
        }
    }

    #[test]
    fn what_repeats_is_counted_under_one_name() {
        let mut correlator = Correlator::default();
        let first = correlator.judge(&note("a"), at(0));
        let again = correlator.judge(&note("a"), at(5));
        assert_eq!((count(&first), count(&again)), (1, 2));
        let name = |verdict: &Verdict| match verdict {
            Verdict::Write { name, .. } => name.clone(),
            Verdict::Drop => String::new(),
        };
        assert_eq!(name(&first), name(&again));
        assert_eq!(count(&correlator.judge(&note("b"), at(6))), 1);
    }

    #[test]
    fn many_similar_messages_become_one_event() {
        let mut correlator = Correlator::default();
        let verdicts: Vec<_> = (0..12)
            .map(|n| correlator.judge(&note(&n.to_string()), at(n)))
            .collect();
        assert!(verdicts[..9].iter().all(|verdict| count(verdict) == 1));
        let Verdict::Write { message, count, .. } = &verdicts[11] else {
            panic!("dropped")
        };
        assert_eq!(message, "(combined from similar events): 11");
        assert_eq!(*count, 3);
    }

    #[test]
    fn one_object_has_a_budget_that_refills_slowly() {
        let mut correlator = Correlator::default();
        let written = (0..40)
            .filter(|_| correlator.judge(&note("a"), at(0)) != Verdict::Drop)
            .count();
        assert_eq!(written, 25);
        assert_eq!(correlator.judge(&note("a"), at(299)), Verdict::Drop);
        assert_ne!(correlator.judge(&note("a"), at(301)), Verdict::Drop);
    }
}
