//! What changes in the attributes of cookies that answers set (RFC 6265 §4.1).

use std::sync::Arc;

use serde::Serialize;

/// A change to one cookie. What it does not say stays as the backend said it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct CookieEdit {
    /// The cookie's; case counts. Empty: every cookie.
    pub name: Arc<str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<Arc<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<Arc<str>>,
    /// Whether the attribute is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secure: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub same_site: Option<SameSite>,
    /// A path that begins with the one begins with the other. Case counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_prefix: Option<Replaced>,
    /// The domain, without a dot before it, that becomes the other. Case does not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain_from: Option<Replaced>,
}

/// One text in place of another.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Replaced {
    pub from: Arc<str>,
    pub to: Arc<str>,
}

/// Which requests from other sites carry a cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum SameSite {
    Strict,
    Lax,
    None,
}

impl SameSite {
    /// As it is written in a field.
    pub fn text(self) -> &'static str {
        match self {
            Self::Strict => "Strict",
            Self::Lax => "Lax",
            Self::None => "None",
        }
    }
}

impl CookieEdit {
    /// What all edits of a cookie say together; a later one wins. `None` if none is about it.
    fn joined<'e>(edits: impl Iterator<Item = &'e Self>, name: &[u8]) -> Option<Joined<'e>> {
        let mut joined = None;
        let is_meant = |edit: &&Self| edit.name.is_empty() || edit.name.as_bytes() == name;
        for edit in edits.filter(is_meant) {
            let all: &mut Joined<'e> = joined.get_or_insert_default();
            all.path = edit.path.as_deref().or(all.path);
            all.domain = edit.domain.as_deref().or(all.domain);
            all.secure = edit.secure.or(all.secure);
            all.same_site = edit.same_site.or(all.same_site);
            all.path_prefix = edit.path_prefix.as_ref().or(all.path_prefix);
            all.domain_from = edit.domain_from.as_ref().or(all.domain_from);
        }
        joined
    }

    /// The value of a `Set-Cookie` field after these edits, of which a later one wins; `None` if
    /// none is about its cookie. An attribute that is changed comes after those that are kept, once.
    pub fn rewrite<'e>(edits: impl Iterator<Item = &'e Self>, value: &[u8]) -> Option<Vec<u8>> {
        let mut parts = value.split(|byte| *byte == b';');
        let pair = parts.next()?.trim_ascii();
        let end = pair.iter().position(|byte| *byte == b'=')?;
        let joined = Self::joined(edits, pair[..end].trim_ascii())?;
        let mut out = Vec::with_capacity(value.len() + joined.room());
        out.extend_from_slice(pair);
        for part in parts.map(<[u8]>::trim_ascii) {
            if !part.is_empty() && !joined.replaces(part) {
                out.extend_from_slice(b"; ");
                match joined.moved(part) {
                    Some(moved) => out.extend_from_slice(&moved),
                    None => out.extend_from_slice(part),
                }
            }
        }
        joined.write(&mut out);
        Some(out)
    }
}

/// All that is said of one cookie.
#[derive(Clone, Copy, Default)]
struct Joined<'e> {
    path: Option<&'e str>,
    domain: Option<&'e str>,
    secure: Option<bool>,
    same_site: Option<SameSite>,
    path_prefix: Option<&'e Replaced>,
    domain_from: Option<&'e Replaced>,
}

impl<'e> Joined<'e> {
    /// An attribute whose value is replaced.
    fn moved(&self, part: &[u8]) -> Option<Vec<u8>> {
        let end = part.iter().position(|byte| *byte == b'=')?;
        let (name, value) = (part[..end].trim_ascii_end(), part[end + 1..].trim_ascii());
        let (to, rest) = if name.eq_ignore_ascii_case(b"path") {
            let replaced = self.path_prefix?;
            (&replaced.to, value.strip_prefix(replaced.from.as_bytes())?)
        } else if name.eq_ignore_ascii_case(b"domain") {
            let replaced = self.domain_from?;
            let plain = |text: &'e [u8]| text.strip_prefix(b".").unwrap_or(text);
            let from = plain(replaced.from.as_bytes());
            let own = value.strip_prefix(b".").unwrap_or(value);
            (
                &replaced.to,
                own.eq_ignore_ascii_case(from).then_some(&[][..])?,
            )
        } else {
            return None;
        };
        Some([name, b"=", to.as_bytes(), rest].concat())
    }

    /// Whether an attribute is left out, to be written anew or not at all.
    fn replaces(&self, part: &[u8]) -> bool {
        let end = part.iter().position(|byte| *byte == b'=');
        let name = part[..end.unwrap_or(part.len())].trim_ascii_end();
        let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
        self.path.is_some() && is(b"path")
            || self.domain.is_some() && is(b"domain")
            || self.secure.is_some() && is(b"secure")
            || self.same_site.is_some() && is(b"samesite")
    }

    /// Attributes with a value.
    fn values(&self) -> [(&'static str, Option<&'e str>); 3] {
        let same_site = self.same_site.map(SameSite::text);
        [
            ("; Path=", self.path),
            ("; Domain=", self.domain),
            ("; SameSite=", same_site),
        ]
    }

    /// Most bytes that are written.
    fn room(&self) -> usize {
        let values = self.values().into_iter();
        let values = values.filter_map(|(name, value)| Some(name.len() + value?.len()));
        values.sum::<usize>() + SECURE.len()
    }

    fn write(&self, out: &mut Vec<u8>) {
        for (name, value) in self.values() {
            let Some(value) = value else { continue };
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(value.as_bytes());
        }
        if self.secure == Some(true) {
            out.extend_from_slice(SECURE);
        }
    }
}

const SECURE: &[u8] = b"; Secure";

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> CookieEdit {
        CookieEdit {
            name: "a".into(),
            path: Some("/new".into()),
            domain: Some("new.example".into()),
            secure: Some(true),
            same_site: Some(SameSite::None),
            ..CookieEdit::default()
        }
    }

    fn check(edits: &[CookieEdit], value: &str, expected: Option<&str>) {
        let rewritten = CookieEdit::rewrite(edits.iter(), value.as_bytes());
        let text = rewritten.map(|it| String::from_utf8(it).expect("a text"));
        assert_eq!(text.as_deref(), expected, "{value}");
    }

    #[test]
    fn attributes_are_replaced_and_added_and_others_stay() {
        let after = "; Path=/new; Domain=new.example; SameSite=None; Secure";
        for (value, kept) in [
            ("a=1", "a=1"),
            (
                "a=1; Path=/; HttpOnly; Max-Age=5",
                "a=1; HttpOnly; Max-Age=5",
            ),
            // In any case, with any space (RFC 6265 §5.2), and more than once.
            (
                " a = 1;path = /;DOMAIN=x;secure;SameSite=Lax;Path=/y",
                "a = 1",
            ),
            (
                "a=\"x=y\"; pathological=1; Secured",
                "a=\"x=y\"; pathological=1; Secured",
            ),
            ("a=;;", "a="),
        ] {
            check(&[all()], value, Some(&format!("{kept}{after}")));
        }
    }

    #[test]
    fn every_cookie_below_a_path_or_of_a_domain_is_moved() {
        let replaced = |from: &str, to: &str| {
            Some(Replaced {
                from: from.into(),
                to: to.into(),
            })
        };
        let edit = CookieEdit {
            path_prefix: replaced("/app/", "/"),
            domain_from: replaced("inner.example", "outer.example"),
            ..CookieEdit::default()
        };
        for (value, expected) in [
            ("a=1; Path=/app/x; HttpOnly", "a=1; Path=/x; HttpOnly"),
            ("b=1; path = /app/", "b=1; path=/"),
            ("c=1; Path=/APP/x", "c=1; Path=/APP/x"),
            ("d=1; Path=/x/app/", "d=1; Path=/x/app/"),
            ("e=1; Domain=.Inner.example", "e=1; Domain=outer.example"),
            ("f=1; Domain=x.inner.example", "f=1; Domain=x.inner.example"),
            ("g=1; Path", "g=1; Path"),
        ] {
            check(std::slice::from_ref(&edit), value, Some(expected));
        }
    }

    #[test]
    fn other_cookies_and_what_is_no_cookie_stay() {
        for value in ["", "a", "A=1", "ab=1", "=a", "b=a=1; Path=/", "x; a=1"] {
            check(&[all()], value, None);
        }
        check(&[], "a=1", None);
    }

    #[test]
    fn what_is_not_said_stays_and_the_later_edit_wins() {
        let insecure = CookieEdit {
            name: "a".into(),
            secure: Some(false),
            ..CookieEdit::default()
        };
        check(
            std::slice::from_ref(&insecure),
            "a=1; Secure; Path=/; SECURE",
            Some("a=1; Path=/"),
        );
        let moved = CookieEdit {
            path: Some("/x".into()),
            ..insecure.clone()
        };
        let secure = CookieEdit {
            secure: Some(true),
            ..insecure
        };
        check(&[moved, secure], "a=1", Some("a=1; Path=/x; Secure"));
    }
}
