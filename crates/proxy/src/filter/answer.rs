//! What changes in the head of an answer on its way to the client.
//!
//! Fields that frame the message or belong to the connection cannot be touched, whatever a
//! dialect wrote.

use std::borrow::Cow;
use std::sync::Arc;

use routing::model::{CookieEdit, HeaderOps};
use routing::template::{CompiledTemplate, Part};

use crate::downstream::Answer;
use crate::filter::template;
use crate::http1::field::{Field, Span, is_framing};

/// Changes in the order in which they are made: what is dropped, then what is written.
#[derive(Clone, Debug, Default)]
pub(crate) struct AnswerEdits {
    dropped: Vec<Cow<'static, str>>,
    written: Vec<(Cow<'static, str>, String)>,
    /// Values that depend on the answer; they come last.
    late: Vec<Late>,
    /// Changes to cookies: the route's, then the arm's.
    cookie_edits: [Option<Arc<[CookieEdit]>>; 2],
    /// The answer's cookies that change: where each value was, and what it becomes.
    cookies: Vec<(Span, Vec<u8>)>,
}

const SET_COOKIE: &str = "set-cookie";

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
        self.late.push(Late {
            name: Arc::clone(&template.name),
            parts: template.parts.iter().map(known).collect(),
            append: template.append,
        });
    }

    /// Adds changes to cookies, whoever sets them: the backend, the route or the gateway.
    pub(crate) fn cookies(
        &mut self,
        route: Option<&Arc<[CookieEdit]>>,
        arm: Option<&Arc<[CookieEdit]>>,
    ) {
        self.cookie_edits = [route.cloned(), arm.cloned()];
    }

    /// The same changes for this answer; `None` if they do not depend on it.
    pub(crate) fn with(&self, answer: &Answer<'_>) -> Option<Self> {
        let cookies = self.rewritten(answer);
        let is_plain = self.late.is_empty() && cookies.is_empty();
        if is_plain && !self.rewrites_own() {
            return None;
        }
        let mut edits = self.clone();
        for late in &self.late {
            let value = template::answer(&late.parts, answer);
            if value.is_empty() {
                continue;
            }
            let name: Cow<'static, str> = Cow::Owned(late.name.to_string());
            if !late.append && !is_framing(late.name.as_bytes()) {
                edits.drop_name(name.clone());
            }
            edits.write(name, value);
        }
        if !edits.replaces(SET_COOKIE.as_bytes()) {
            edits.cookies = cookies;
        }
        edits.rewrite_own();
        Some(edits)
    }

    fn cookie_edits(&self) -> impl Iterator<Item = &CookieEdit> {
        self.cookie_edits
            .iter()
            .flatten()
            .flat_map(|edits| &**edits)
    }

    /// A cookie's value after the changes, if there are any.
    fn rewrite(&self, value: &[u8]) -> Option<Vec<u8>> {
        let splits = |byte: &u8| matches!(byte, b'\r' | b'\n' | 0);
        let value = CookieEdit::rewrite(self.cookie_edits(), value);
        value.filter(|value| !value.iter().any(splits))
    }

    /// The cookies of an answer that change. A head is bounded, and so is what comes of it.
    fn rewritten(&self, answer: &Answer<'_>) -> Vec<(Span, Vec<u8>)> {
        if self.cookie_edits().next().is_none() {
            return Vec::new();
        }
        let Answer { head, bytes } = *answer;
        let sets = |field: &&Field| {
            let name = field.name.get(bytes);
            name.eq_ignore_ascii_case(SET_COOKIE.as_bytes())
                && !head.fields.is_named(bytes, field.name)
        };
        let cookies = head.fields.list.iter().filter(sets);
        let cookies = cookies.filter_map(|field| {
            let value = self.rewrite(field.value.get(bytes))?;
            Some((field.value, value))
        });
        cookies.collect()
    }

    /// Whether cookies that are written here may change.
    fn rewrites_own(&self) -> bool {
        let mut names = self.written.iter().map(|(name, _)| name);
        self.cookie_edits().next().is_some()
            && names.any(|name| name.eq_ignore_ascii_case(SET_COOKIE))
    }

    fn rewrite_own(&mut self) {
        if !self.rewrites_own() {
            return;
        }
        let mut written = std::mem::take(&mut self.written);
        for (name, value) in &mut written {
            if name.eq_ignore_ascii_case(SET_COOKIE)
                && let Some(changed) = self.rewrite(value.as_bytes())
            {
                *value = String::from_utf8_lossy(&changed).into_owned();
            }
        }
        self.written = written;
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

    /// Whether a field of the backend's is dropped.
    pub(crate) fn drops(&self, field: &Field, bytes: &[u8]) -> bool {
        self.replaces(field.name.get(bytes))
            || self.cookies.iter().any(|(value, _)| *value == field.value)
    }

    /// Whether the backend's values of this field are dropped.
    fn replaces(&self, name: &[u8]) -> bool {
        let is = |dropped: &Cow<'static, str>| dropped.as_bytes().eq_ignore_ascii_case(name);
        self.dropped.iter().any(is)
    }

    /// Fields to write.
    pub(crate) fn added(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let cookies = self.cookies.iter();
        let cookies = cookies.map(|(_, value)| (SET_COOKIE, &**value));
        let written = self.written.iter();
        cookies.chain(written.map(|(name, value)| (&**name, value.as_bytes())))
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
        assert_eq!(added, [("x-add", &b"a"[..]), ("X-Set", b"2")]);
        assert!(edits.replaces(b"X-Gone") && !edits.replaces(b"content-length"));
    }
}
