//! `proxy-cookie-path` and `proxy-cookie-domain`: attributes of every cookie, replaced.

use std::sync::Arc;

use routing::model::{CookieEdit, Replaced};

use super::Annotations;

impl Annotations<'_> {
    pub(super) fn cookies(&mut self) -> Option<Arc<[CookieEdit]>> {
        let edit = CookieEdit {
            path_prefix: self.replaced("proxy-cookie-path"),
            domain_from: self.replaced("proxy-cookie-domain"),
            ..CookieEdit::default()
        };
        (edit != CookieEdit::default()).then(|| [edit].into())
    }

    /// `from to`, in texts.
    fn replaced(&mut self, short: &str) -> Option<Replaced> {
        let (key, text) = self.take(short)?;
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        let is_text = |word: &&str| {
            let bytes = word.bytes();
            word.len() <= 1024
                && !word.starts_with('~')
                && bytes
                    .into_iter()
                    .all(|byte| byte.is_ascii_graphic() && !b"$;\"'\\".contains(&byte))
        };
        match words.as_slice() {
            [] | ["off"] => None,
            [from, to] if is_text(from) && is_text(to) => Some(Replaced {
                from: (*from).into(),
                to: (*to).into(),
            }),
            _ => {
                let why = format!(
                    "{text:?} is not two texts, what is replaced and by what: expressions and \
                     variables are not supported; cookies stay as they are"
                );
                self.refuse(key, &why);
                None
            }
        }
    }
}
