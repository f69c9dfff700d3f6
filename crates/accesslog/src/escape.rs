//! What makes a value fit where the template puts it.

use std::fmt::Write as _;

/// A function of the template language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escape {
    /// For a string of JavaScript, without its quotes; as Go's.
    Js,
    /// A whole JSON string, with its quotes.
    Json,
    /// For text of HTML; as Go's.
    Html,
    /// For a query of a URL; as Go's.
    UrlQuery,
    /// Nothing, as Go's `print` of one value.
    Print,
}

impl Escape {
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "js" => Self::Js,
            "json" => Self::Json,
            "html" => Self::Html,
            "urlquery" => Self::UrlQuery,
            "print" => Self::Print,
            _ => return None,
        })
    }

    pub(crate) fn apply(self, value: &str) -> String {
        let mut out = String::with_capacity(value.len() + 8);
        match self {
            Self::Print => out.push_str(value),
            Self::Json => {
                out.push('"');
                value.chars().for_each(|c| json(&mut out, c));
                out.push('"');
            }
            Self::Js => value.chars().for_each(|c| js(&mut out, c)),
            Self::Html => value.chars().for_each(|c| html(&mut out, c)),
            Self::UrlQuery => value.bytes().for_each(|byte| url(&mut out, byte)),
        }
        out
    }
}

// Writing to a string cannot fail, here and below.
fn json(out: &mut String, c: char) {
    match c {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        // Controls of Latin-1 too: they would be blanked in the line.
        c if c.is_control() => {
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        }
        c => out.push(c),
    }
}

fn js(out: &mut String, c: char) {
    match c {
        '\\' => out.push_str("\\\\"),
        '\'' => out.push_str("\\'"),
        '"' => out.push_str("\\\""),
        '<' | '>' | '&' | '=' => {
            let _ = write!(out, "\\u{:04X}", u32::from(c));
        }
        c if c.is_control() => {
            let _ = write!(out, "\\u{:04X}", u32::from(c));
        }
        c => out.push(c),
    }
}

fn html(out: &mut String, c: char) {
    match c {
        '\0' => out.push('\u{FFFD}'),
        '"' => out.push_str("&#34;"),
        '\'' => out.push_str("&#39;"),
        '&' => out.push_str("&amp;"),
        '<' => out.push_str("&lt;"),
        '>' => out.push_str("&gt;"),
        c => out.push(c),
    }
}

fn url(out: &mut String, byte: u8) {
    match byte {
        b' ' => out.push('+'),
        _ if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) => out.push(byte.into()),
        _ => {
            let _ = write!(out, "%{byte:02X}");
        }
    }
}
