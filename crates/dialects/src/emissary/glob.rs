//! Host names with an asterisk at the beginning or the end, and expressions for hosts.

use routing::model::{HostPattern, Predicate, Subject, Test, TextTest};

/// A set of hosts; all in lower case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Glob {
    Any,
    Exact(String),
    /// `*.x`, the value is `x`.
    Suffix(String),
    /// `x*`
    Start(String),
    /// `*x` where x does not begin with a dot.
    End(String),
    Regex(String),
}

impl Glob {
    /// From a hostname. A port in it is left out: ports in authorities are ignored.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim().to_ascii_lowercase();
        let name = match text.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => &text,
        };
        let plain = |name: &str| {
            let allowed =
                |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
            name.bytes().all(allowed) && !name.is_empty()
        };
        let wrong = || {
            format!("{text:?} is no host; write a name, or an asterisk at its beginning or its end")
        };
        let glob = match (name.strip_prefix('*'), name.strip_suffix('*')) {
            (Some(""), _) => return Ok(Self::Any),
            (Some(rest), _) => match rest.strip_prefix('.') {
                Some(suffix) if plain(suffix) => Self::Suffix(suffix.to_owned()),
                None if plain(rest) => Self::End(rest.to_owned()),
                _ => return Err(wrong()),
            },
            (None, Some(start)) if plain(start) => Self::Start(start.to_owned()),
            (None, None) if plain(name) => Self::Exact(name.to_owned()),
            _ => return Err(wrong()),
        };
        Ok(glob)
    }

    /// As a text that [`Self::of_key`] reads.
    pub(super) fn key(&self) -> String {
        match self {
            Self::Any => "any".to_owned(),
            Self::Exact(text) => format!("exact {text}"),
            Self::Suffix(text) => format!("suffix {text}"),
            Self::Start(text) => format!("start {text}"),
            Self::End(text) => format!("end {text}"),
            Self::Regex(text) => format!("regex {text}"),
        }
    }

    pub(super) fn of_key(key: &str) -> Option<Self> {
        let (form, text) = key.split_once(' ').unwrap_or((key, ""));
        let text = text.to_owned();
        match form {
            "any" => Some(Self::Any),
            "exact" => Some(Self::Exact(text)),
            "suffix" => Some(Self::Suffix(text)),
            "start" => Some(Self::Start(text)),
            "end" => Some(Self::End(text)),
            "regex" => Some(Self::Regex(text)),
            _ => None,
        }
    }

    /// As the model says it; `None` if it needs a predicate.
    pub(super) fn pattern(&self) -> Option<HostPattern> {
        match self {
            Self::Any => Some(HostPattern::Any),
            Self::Exact(name) => Some(HostPattern::Exact(name.as_str().into())),
            Self::Suffix(suffix) => Some(HostPattern::Suffix(suffix.as_str().into())),
            Self::Start(_) | Self::End(_) | Self::Regex(_) => None,
        }
    }

    /// As a condition on the request's host; `None` if the pattern says all.
    pub(super) fn predicate(&self) -> Option<Predicate> {
        let (how, value) = match self {
            Self::Start(text) => (TextTest::Prefix, text),
            Self::End(text) => (TextTest::Suffix, text),
            Self::Regex(text) => (TextTest::Regex, text),
            Self::Any | Self::Exact(_) | Self::Suffix(_) => return None,
        };
        Some(Predicate {
            subject: Subject::Host,
            test: Test::Text {
                how,
                value: value.as_str().into(),
                ignore_case: false,
            },
            negate: false,
            missing_is_empty: false,
        })
    }

    /// Whether every host of `other` is one of these.
    pub(super) fn contains(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) => true,
            (Self::Exact(own), Self::Exact(host)) => own == host,
            (Self::Suffix(own), Self::Exact(name) | Self::Suffix(name) | Self::End(name)) => {
                let longer = name.strip_suffix(own.as_str());
                longer.is_some_and(|rest| rest.ends_with('.') && rest.len() > 1)
                    || matches!(other, Self::Suffix(_)) && own == name
            }
            (Self::Start(own), Self::Exact(name) | Self::Start(name)) => name.starts_with(own),
            (Self::End(own), Self::Exact(name) | Self::Suffix(name) | Self::End(name)) => {
                name.ends_with(own)
            }
            (Self::Regex(own), Self::Exact(name)) => routing::regex::compile(own)
                .is_ok_and(|expression| expression.is_match(name.as_bytes())),
            (Self::Regex(own), Self::Regex(other)) => own == other,
            _ => false,
        }
    }

    /// Whether there may be a host that both have.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        let open = |glob: &Self| !matches!(glob, Self::Exact(_));
        let is_end = |glob: &Self| matches!(glob, Self::Suffix(_) | Self::End(_));
        self.contains(other)
            || other.contains(self)
            // Both leave something open, at different ends.
            || (open(self) && open(other) && !(is_end(self) && is_end(other)))
                && !(matches!((self, other), (Self::Start(_), Self::Start(_))))
    }

    /// More specific is greater: how Envoy searches virtual hosts.
    pub(super) fn rank(&self) -> (u8, usize) {
        match self {
            Self::Exact(name) => (3, name.len()),
            Self::Suffix(name) => (2, name.len() + 1),
            Self::End(name) => (2, name.len()),
            Self::Start(name) => (1, name.len()),
            Self::Regex(_) | Self::Any => (0, 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn glob(text: &str) -> Glob {
        Glob::parse(text).expect(text)
    }

    #[test]
    fn an_asterisk_stands_at_one_end() {
        assert_eq!(glob("*"), Glob::Any);
        assert_eq!(glob("A.example"), Glob::Exact("a.example".to_owned()));
        assert_eq!(glob("a.example:8080"), Glob::Exact("a.example".to_owned()));
        assert_eq!(glob("*.example"), Glob::Suffix("example".to_owned()));
        assert_eq!(glob("*example"), Glob::End("example".to_owned()));
        assert_eq!(glob("a.*"), Glob::Start("a.".to_owned()));
        for text in ["", "a.*.b", "*.a.*", "a b", "*."] {
            assert!(Glob::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn one_glob_is_inside_another_as_their_hosts_are() {
        let check = |wide: &str, narrow: &str, inside: bool, common: bool| {
            let (wide, narrow) = (glob(wide), glob(narrow));
            assert_eq!(wide.contains(&narrow), inside, "{wide:?} {narrow:?}");
            assert_eq!(wide.overlaps(&narrow), common, "{wide:?} {narrow:?}");
            assert_eq!(narrow.overlaps(&wide), common, "{narrow:?} {wide:?}");
        };
        check("*", "a.*", true, true);
        check("*.b.c", "a.b.c", true, true);
        check("*.b.c", "b.c", false, false);
        check("*.c", "*.b.c", true, true);
        check("*.b.c", "*.c", false, true);
        check("*.c", "*.d", false, false);
        check("a.*", "a.b", true, true);
        check("a.*", "*.b", false, true);
        check("a.*", "b.*", false, false);
        check("a.b", "b.b", false, false);
    }
}
