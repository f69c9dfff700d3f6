//! Changes of attributes of the cookies that an answer sets.

use std::sync::Arc;

use routing::model::CookieEdit;

use super::AnswerEdits;
use crate::downstream::Answer;
use crate::http1::field::{Field, Span};

pub(super) const SET_COOKIE: &str = "set-cookie";

impl AnswerEdits {
    /// Adds changes to cookies, whoever sets them: the backend, the route or the gateway.
    pub(crate) fn cookies(
        &mut self,
        route: Option<&Arc<[CookieEdit]>>,
        arm: Option<&Arc<[CookieEdit]>>,
    ) {
        self.cookie_edits = [route.cloned(), arm.cloned()];
    }

    fn cookie_edits(&self) -> impl Iterator<Item = &CookieEdit> {
        self.cookie_edits
            .iter()
            .flatten()
            .flat_map(|edits| &**edits)
    }

    /// A cookie's value after the changes, if there are any.
    fn changed(&self, value: &[u8]) -> Option<Vec<u8>> {
        let splits = |byte: &u8| matches!(byte, b'\r' | b'\n' | 0);
        let value = CookieEdit::rewrite(self.cookie_edits(), value);
        value.filter(|value| !value.iter().any(splits))
    }

    /// The cookies of an answer that change. A head is bounded, and so is what comes of it.
    pub(super) fn rewritten(&self, answer: &Answer<'_>) -> Vec<(Span, Vec<u8>)> {
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
            let value = self.changed(field.value.get(bytes))?;
            Some((field.value, value))
        });
        cookies.collect()
    }

    /// Whether cookies that are written here may change.
    pub(super) fn rewrites_own(&self) -> bool {
        let mut names = self.written.iter().map(|(name, _)| name);
        self.cookie_edits().next().is_some()
            && names.any(|name| name.eq_ignore_ascii_case(SET_COOKIE))
    }

    pub(super) fn rewrite_own(&mut self) {
        if !self.rewrites_own() {
            return;
        }
        let mut written = std::mem::take(&mut self.written);
        for (name, value) in &mut written {
            if name.eq_ignore_ascii_case(SET_COOKIE)
                && let Some(changed) = self.changed(value.as_bytes())
            {
                *value = String::from_utf8_lossy(&changed).into_owned();
            }
        }
        self.written = written;
    }
}
