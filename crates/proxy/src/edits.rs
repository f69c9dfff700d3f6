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
    /// All operations, in the order in which they are made.
    fn stages(&self) -> impl Iterator<Item = &'a HeaderOps> + use<'a> {
        let first = self.extra.map(|extra| &extra.first);
        let last = self.extra.map(|extra| &extra.last);
        let own = [self.route, self.arm];
        first.into_iter().chain(own).chain(last)
    }

    /// Whether the client's values of this field are dropped.
    pub(crate) fn replaces(&self, name: &[u8]) -> bool {
        self.stages().any(|ops| touches(ops, name))
    }

    /// Whether there is any operation at all.
    pub(crate) fn has_operations(&self) -> bool {
        self.stages().any(|ops| !ops.is_empty())
    }

    /// Whether an operation names a field that tells where the request came from.
    pub(crate) fn touches_forwarded(&self) -> bool {
        let names = |ops: &'a HeaderOps| {
            let written = ops.set.iter().chain(&ops.add).map(|(name, _)| name);
            written.chain(&ops.remove)
        };
        self.stages().flat_map(names).any(|name| {
            matches!(
                kind(name.as_bytes()),
                Kind::Forwarded | Kind::ForwardedFor | Kind::ForwardedHost | Kind::ForwardedProto
            )
        })
    }

    /// Whether the operations decide about this field, so that the gateway adds nothing itself.
    pub(crate) fn decides(&self, name: &str) -> bool {
        let name = name.as_bytes();
        self.replaces(name)
            || self
                .added()
                .any(|(added, _)| added.as_bytes().eq_ignore_ascii_case(name))
    }

    /// Fields to write.
    pub(crate) fn added(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let (edits, strip) = (*self, self.strip_internal);
        let each = self.stages().enumerate().flat_map(move |(at, ops)| {
            let is_final = move |name: &str| {
                let mut later = edits.stages().skip(at + 1);
                !later.any(|later| touches(later, name.as_bytes()))
            };
            written(ops).filter(move |(name, _)| is_final(name))
        });
        each.filter(move |(name, value)| is_writable(name, value, strip))
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
        for ops in self.stages() {
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

fn written(ops: &HeaderOps) -> impl Iterator<Item = (&str, &str)> {
    ops.set
        .iter()
        .chain(&ops.add)
        .map(|(name, value)| (&**name, &**value))
}

/// Dialects refuse CR, LF and NUL; a value that carries one anyway must not split the head.
fn is_writable(name: &str, value: &str, strip_internal: bool) -> bool {
    let name = name.as_bytes();
    let splits = value.bytes().any(|byte| matches!(byte, b'\r' | b'\n' | 0));
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
            peer: &peer,
        };
        edits
            .added()
            .map(|(name, value)| format!("{name}={value}"))
            .collect()
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
