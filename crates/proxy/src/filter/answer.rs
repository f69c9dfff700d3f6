//! What changes in the head of an answer on its way to the client.
//!
//! Fields that frame the message or belong to the connection cannot be touched, whatever a
//! dialect wrote.

use std::borrow::Cow;
use std::sync::Arc;

use routing::CompiledRewrite;
use routing::model::{BodyEdit, HeaderOps};
use routing::template::{CompiledTemplate, Part};

use crate::downstream::Answer;
use crate::filter::template;
use crate::http1::field::is_framing;

/// Changes in the order in which they are made: what is dropped, then what is written.
#[derive(Clone, Debug, Default)]
pub(crate) struct AnswerEdits {
    dropped: Vec<Cow<'static, str>>,
    written: Vec<(Cow<'static, str>, String)>,
    /// Values that depend on the answer; they come last.
    late: Vec<Late>,
    /// Made after all that, if the answer is one that they are for.
    rewrites: Vec<Rewriting>,
    /// What the rewrites made of the answer's.
    pub(crate) status: Option<u16>,
    pub(crate) body: BodyEdit,
}

/// Fields that tell of a body as its backend sent it.
const OF_BODY: [&str; 7] = [
    "content-digest",
    "content-encoding",
    "content-md5",
    "digest",
    "etag",
    "last-modified",
    "repr-digest",
];

/// Whether answers with this status never have a body (RFC 9110 §6.4.1).
pub(crate) fn has_no_body(status: u16) -> bool {
    matches!(status, 204 | 304)
}

#[derive(Clone, Debug)]
struct Rewriting {
    rewrite: Arc<CompiledRewrite>,
    late: Vec<Late>,
}

#[derive(Clone, Debug)]
struct Late {
    name: Arc<str>,
    parts: Vec<Part>,
    append: bool,
}

impl AnswerEdits {
    /// Adds a route's operations; they hold for what was written before, too.
    pub(crate) fn apply(&mut self, ops: &HeaderOps) {
        let owned = |name: &Arc<str>| Cow::Owned(name.to_string());
        let replaced = ops
            .remove
            .iter()
            .chain(ops.set.iter().map(|(name, _)| name));
        for name in replaced.filter(|name| !is_framing(name.as_bytes())) {
            self.drop_name(owned(name));
        }
        for (name, value) in ops.set.iter().chain(&ops.add) {
            self.write(owned(name), value.to_string());
        }
    }

    /// Sets fields: each replaces what the backend says.
    pub(crate) fn extend(&mut self, fields: impl IntoIterator<Item = (&'static str, String)>) {
        for (name, value) in fields {
            self.drop_name(Cow::Borrowed(name));
            self.write(Cow::Borrowed(name), value);
        }
    }

    /// Adds a field beside what the backend says.
    pub(crate) fn append(&mut self, name: &'static str, value: &str) {
        self.write(Cow::Borrowed(name), value.to_owned());
    }

    /// Sets a field, whatever the backend says.
    pub(crate) fn set(&mut self, name: &str, value: String) {
        if !is_framing(name.as_bytes()) {
            self.drop_name(Cow::Owned(name.to_owned()));
            self.write(Cow::Owned(name.to_owned()), value);
        }
    }

    /// Adds a value that is put together; `known` says what of it is known already.
    pub(crate) fn template(&mut self, template: &CompiledTemplate, known: impl Fn(&Part) -> Part) {
        self.late.push(Late::new(template, &known));
    }

    /// Adds a rewrite that is for this request.
    pub(crate) fn rewrite(
        &mut self,
        rewrite: &Arc<CompiledRewrite>,
        known: impl Fn(&Part) -> Part,
    ) {
        let late = rewrite.templates.iter();
        self.rewrites.push(Rewriting {
            late: late.map(|template| Late::new(template, &known)).collect(),
            rewrite: Arc::clone(rewrite),
        });
    }

    /// The same changes for this answer; `None` if they do not depend on it.
    pub(crate) fn with(&self, answer: &Answer<'_>) -> Option<Self> {
        if self.late.is_empty() && self.rewrites.is_empty() {
            return None;
        }
        let mut edits = self.clone();
        edits.put(&self.late, answer);
        for Rewriting { rewrite, late } in &self.rewrites {
            if rewrite.is_for(edits.status.unwrap_or_else(|| answer.status())) {
                edits.apply(&rewrite.headers);
                edits.put(late, answer);
                edits.status = rewrite.status.or(edits.status);
                edits.body = edits.body.then(&rewrite.body);
            }
        }
        edits.settle(answer);
        Some(edits)
    }

    /// Leaves bodies as they are that cannot be changed, and drops what no longer holds of others.
    fn settle(&mut self, answer: &Answer<'_>) {
        let begins = |name: &str, prefix: &[u8]| {
            let value = answer.field(name).unwrap_or_default();
            value
                .get(..prefix.len())
                .is_some_and(|begin| begin.eq_ignore_ascii_case(prefix))
        };
        // Its end is in its trailers, and its client knows no other status (gRPC over HTTP/2).
        if begins("content-type", b"application/grpc") {
            self.status = None;
            self.body = BodyEdit::default();
        }
        let is_coded = answer
            .field("content-encoding")
            .is_some_and(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity"));
        // Text beside a coded body would spoil it.
        let is_kept = is_coded && self.body.replace.is_none();
        if is_kept || has_no_body(self.status.unwrap_or_else(|| answer.status())) {
            self.body = BodyEdit::default();
        }
        if !self.body.is_empty() {
            self.dropped.extend(OF_BODY.map(Cow::Borrowed));
        }
    }

    /// Writes values that are put together for this answer.
    fn put(&mut self, all: &[Late], answer: &Answer<'_>) {
        for late in all {
            let value = template::answer(&late.parts, answer);
            if value.is_empty() {
                continue;
            }
            let name: Cow<'static, str> = Cow::Owned(late.name.to_string());
            if !late.append && !is_framing(late.name.as_bytes()) {
                self.drop_name(name.clone());
            }
            self.write(name, value);
        }
    }

    fn drop_name(&mut self, name: Cow<'static, str>) {
        self.written
            .retain(|(other, _)| !other.eq_ignore_ascii_case(&name));
        self.dropped.push(name);
    }

    fn write(&mut self, name: Cow<'static, str>, value: String) {
        let splits = value.bytes().any(|byte| matches!(byte, b'\r' | b'\n' | 0));
        if !splits && !is_framing(name.as_bytes()) {
            self.written.push((name, value));
        }
    }

    /// Whether the backend's values of this field are dropped.
    pub(crate) fn replaces(&self, name: &[u8]) -> bool {
        let is = |dropped: &Cow<'static, str>| dropped.as_bytes().eq_ignore_ascii_case(name);
        self.dropped.iter().any(is)
    }

    /// Fields to write.
    pub(crate) fn added(&self) -> impl Iterator<Item = (&str, &str)> {
        self.written.iter().map(|(name, value)| (&**name, &**value))
    }
}

impl Late {
    fn new(template: &CompiledTemplate, known: impl Fn(&Part) -> Part) -> Self {
        Self {
            name: Arc::clone(&template.name),
            parts: template.parts.iter().map(known).collect(),
            append: template.append,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_operations_win_and_framing_is_out_of_reach() {
        let text = |name: &str, value: &str| (Arc::from(name), Arc::from(value));
        let mut edits = AnswerEdits::default();
        edits.apply(&HeaderOps {
            remove: vec!["content-length".into(), "x-gone".into()],
            set: vec![text("x-set", "1"), text("transfer-encoding", "chunked")],
            add: vec![text("x-add", "a"), text("x-split", "a\r\nb: c")],
        });
        edits.apply(&HeaderOps {
            set: vec![text("X-Set", "2")],
            ..HeaderOps::default()
        });
        let added: Vec<_> = edits.added().collect();
        assert_eq!(added, [("x-add", "a"), ("X-Set", "2")]);
        assert!(edits.replaces(b"X-Gone") && !edits.replaces(b"content-length"));
    }
}
