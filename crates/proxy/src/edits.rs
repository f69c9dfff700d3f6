//! What the gateway changes in a request head: the route's edits, Knative's internal headers and
//! the authority. Protocol-neutral; [`crate::http1::edit`] and [`crate::http2::encode`] apply it.
//!
//! The route's operations come first, then the arm's; the later one wins. Neither can touch a
//! field that frames the message, whatever a dialect wrote.

use routing::model::HeaderOps;

use crate::forwarded::Peer;
use crate::http1::field::{Kind, is_framing, is_internal, kind};

/// Everything that changes between the head received and the head sent.
#[derive(Clone, Copy)]
pub(crate) struct Edits<'a> {
    pub(crate) route: &'a HeaderOps,
    pub(crate) arm: &'a HeaderOps,
    /// What guards and templates change; most routes have neither.
    pub(crate) extra: Option<&'a Extra>,
    /// The authority to send, if not the client's.
    pub(crate) host: Option<&'a str>,
    /// Path and query to send, if not the client's.
    pub(crate) target: Option<&'a str>,
    /// The backend is a user's container: Knative's own headers end here.
    pub(crate) strip_internal: bool,
    /// Whoever sent the request is not believed what only a proxy of ours could know.
    pub(crate) is_outside: bool,
    pub(crate) peer: &'a Peer,
}

/// Operations that were made for one request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Extra {
    /// Before the route's: what guards verified.
    pub(crate) first: HeaderOps,
    /// After the arm's: values that depend on the request.
    pub(crate) last: HeaderOps,
}

impl<'a> Edits<'a> {
    /// All operations, in the order in which they are made; `None` where there are none.
    fn stages(&self) -> [Option<&'a HeaderOps>; 4] {
        let some = |ops: &'a HeaderOps| (!ops.is_empty()).then_some(ops);
        let first = self.extra.and_then(|extra| some(&extra.first));
        let last = self.extra.and_then(|extra| some(&extra.last));
        [first, some(self.route), some(self.arm), last]
    }

    /// Whether the client's values of this field are dropped.
    pub(crate) fn replaces(&self, name: &[u8]) -> bool {
        let is_named = |ops: &HeaderOps| touches(ops, name);
        self.stages().into_iter().flatten().any(is_named)
    }

    /// Whether there is any operation at all.
    pub(crate) fn has_operations(&self) -> bool {
        self.stages().iter().any(Option::is_some)
    }

    /// Whether an operation names a field that tells where the request came from.
    pub(crate) fn touches_forwarded(&self) -> bool {
        let is_forwarded = |name: &str| {
            matches!(
                kind(name.as_bytes()),
                Kind::Forwarded | Kind::ForwardedFor | Kind::ForwardedHost | Kind::ForwardedProto
            )
        };
        self.stages().into_iter().flatten().any(|ops| {
            ops.set.iter().any(|(name, _)| is_forwarded(name))
                || ops.add.iter().any(|(name, _)| is_forwarded(name))
                || ops.remove.iter().any(|name| is_forwarded(name))
        })
    }

    /// Whether the operations decide about this field, so that the gateway adds nothing itself.
    pub(crate) fn decides(&self, name: &str) -> bool {
        let name = name.as_bytes();
        let mut is_added = false;
        self.each_added(|added, _| is_added |= added.as_bytes().eq_ignore_ascii_case(name));
        is_added || self.replaces(name)
    }

    /// Hands over the fields to write. Loops, not adapters: every request comes here.
    pub(crate) fn each_added(&self, mut each: impl FnMut(&'a str, &'a str)) {
        let stages = self.stages();
        for (at, ops) in stages.iter().enumerate() {
            let Some(ops) = ops else { continue };
            let later = &stages[at + 1..];
            for (name, value) in ops.set.iter().chain(&ops.add) {
                let is_touched = |ops: &HeaderOps| touches(ops, name.as_bytes());
                let is_final = !later.iter().flatten().any(|ops| is_touched(ops));
                if is_final && is_writable(name, value, self.strip_internal) {
                    each(name, value);
                }
            }
        }
    }

    /// The value that a field has after the operations, given what the client sent.
    pub(crate) fn value(&self, name: &str, sent: Option<&'a [u8]>) -> Option<&'a [u8]> {
        let written = |ops: &'a HeaderOps| {
            ops.set
                .iter()
                .chain(&ops.add)
                .find(|(set, _)| set.eq_ignore_ascii_case(name))
                .map(|(_, value)| value)
        };
        let mut last = None;
        for ops in self.stages().into_iter().flatten() {
            last = written(ops).or(last);
        }
        match last {
            Some(value) => Some(value.as_bytes()),
            None if self.replaces(name.as_bytes()) => None,
            None => sent,
        }
    }
}

fn touches(ops: &HeaderOps, name: &[u8]) -> bool {
    ops.remove
        .iter()
        .any(|removed| removed.as_bytes().eq_ignore_ascii_case(name))
        || ops
            .set
            .iter()
            .any(|(set, _)| set.as_bytes().eq_ignore_ascii_case(name))
}

/// Dialects refuse CR, LF and NUL; a value that carries one anyway must not split the head.
fn is_writable(name: &str, value: &str, strip_internal: bool) -> bool {
    let name = name.as_bytes();
    // Without an early exit the compiler compares many bytes at once.
    let splits = value.bytes().fold(false, |found, byte| {
        found | matches!(byte, b'\r' | b'\n' | 0)
    });
    let is_stripped = strip_internal && is_internal(name);
    !splits && !is_stripped && !is_framing(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(name: &str, value: &str) -> HeaderOps {
        HeaderOps {
            set: vec![(name.into(), value.into())],
            ..HeaderOps::default()
        }
    }

    fn added(route: &HeaderOps, arm: &HeaderOps, strip_internal: bool) -> Vec<String> {
        let peer = Peer::new([127, 0, 0, 1].into(), false);
        let edits = Edits {
            route,
            arm,
            extra: None,
            host: None,
            target: None,
            strip_internal,
            is_outside: false,
            peer: &peer,
        };
        let mut added = Vec::new();
        edits.each_added(|name, value| added.push(format!("{name}={value}")));
        added
    }

    #[test]
    fn the_arm_wins_over_the_route() {
        assert_eq!(added(&set("a", "1"), &set("a", "2"), false), ["a=2"]);
        let remove = HeaderOps {
            remove: vec!["a".into()],
            ..HeaderOps::default()
        };
        assert!(added(&set("a", "1"), &remove, false).is_empty());
    }

    #[test]
    fn no_operation_can_frame_or_split_a_message() {
        for (name, value) in [
            ("content-length", "0"),
            ("transfer-encoding", "chunked"),
            ("host", "x"),
            ("a", "b\r\nc: d"),
        ] {
            assert!(
                added(&set(name, value), &HeaderOps::default(), false).is_empty(),
                "{name}"
            );
        }
    }

    #[test]
    fn internal_headers_are_not_sent_to_user_containers() {
        let ops = set("knative-serving-revision", "r");
        assert!(added(&ops, &HeaderOps::default(), true).is_empty());
        assert_eq!(
            added(&ops, &HeaderOps::default(), false),
            ["knative-serving-revision=r"]
        );
    }
}
