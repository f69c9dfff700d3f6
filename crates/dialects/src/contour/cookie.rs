//! `cookieRewritePolicies`: which attributes of cookies change on their way to the client.
//!
//! The rules of Contour's definition hold here too, so that a file says the same wherever it is
//! read: a value with a semicolon would be more than one attribute.

use std::collections::BTreeSet;
use std::sync::Arc;

use routing::model::{CookieEdit, SameSite};

use crate::fields::Fields;

/// Contour's reason for what is wrong with a policy.
pub(super) const INVALID: &str = "CookieRewritePoliciesInvalid";

/// Longest name or value, in bytes.
const LONGEST: usize = 4096;

/// Reads the policies of a route or a service. An error is one that makes its object invalid.
pub(super) fn read(fields: &Fields<'_>) -> Result<Option<Arc<[CookieEdit]>>, String> {
    let mut seen = BTreeSet::new();
    let mut edits = Vec::new();
    let mut first_error = Ok(());
    for entry in fields.objects("cookieRewritePolicies") {
        let name = entry.str("name").unwrap_or_default();
        let edit = edit(&entry, name);
        if seen.insert(name.to_owned()) {
            match edit {
                Ok(edit) => edits.push(edit),
                Err(text) => first_error = first_error.and(Err(text)),
            }
        } else {
            let text = format!("duplicate cookie rewrite rule for cookie {name:?}");
            first_error = first_error.and(Err(text));
        }
    }
    first_error.map(|()| (!edits.is_empty()).then(|| edits.into()))
}

fn edit(entry: &Fields<'_>, name: &str) -> Result<CookieEdit, String> {
    let value = |key, is_valid: fn(&str) -> bool| {
        let Some(rewrite) = entry.object(key) else {
            return Ok(None);
        };
        let value = rewrite.str("value").unwrap_or_default();
        if is_valid(value) && value.len() <= LONGEST {
            return Ok(Some(Arc::from(value)));
        }
        Err(format!("invalid {key} {value:?} for cookie {name:?}"))
    };
    let path = value("pathRewrite", is_path);
    let domain = value("domainRewrite", is_domain);
    let same_site = match entry.str("sameSite") {
        None => Ok(None),
        Some("Strict") => Ok(Some(SameSite::Strict)),
        Some("Lax") => Ok(Some(SameSite::Lax)),
        Some("None") => Ok(Some(SameSite::None)),
        Some(other) => Err(format!("invalid sameSite {other:?} for cookie {name:?}")),
    };
    let edit = CookieEdit {
        name: name.into(),
        secure: entry.bool("secure"),
        path: path?,
        domain: domain?,
        same_site: same_site?,
        ..CookieEdit::default()
    };
    if !is_name(name) || name.len() > LONGEST {
        return Err(format!("invalid cookie name {name:?}"));
    }
    let said = CookieEdit {
        name: Arc::clone(&edit.name),
        ..CookieEdit::default()
    };
    if edit == said {
        return Err(format!("no attributes rewritten for cookie {name:?}"));
    }
    Ok(edit)
}

/// A token (RFC 9110 §5.6.2), or letters beyond ASCII.
fn is_name(name: &str) -> bool {
    let separates = |byte: u8| b"()<>@,;:\\\"/[]?={} ".contains(&byte) || byte.is_ascii_control();
    !name.is_empty() && !name.bytes().any(separates)
}

fn is_path(value: &str) -> bool {
    let ends = |byte: u8| byte == b';' || byte.is_ascii_control();
    !value.is_empty() && !value.bytes().any(ends)
}

/// Labels of small letters, digits and hyphens.
fn is_domain(value: &str) -> bool {
    value.split('.').all(|label| {
        let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        label.bytes().all(|byte| byte == b'-' || is_inner(byte))
            && label.bytes().next().is_some_and(is_inner)
            && label.bytes().last().is_some_and(is_inner)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_what_contours_definition_lets_through() {
        for good in ["a", "my-cookie", "__Host-x", "é", "a.b"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "a b", "a=b", "a;b", "a\tb", "{a}", "a\u{7f}"] {
            assert!(!is_name(bad), "{bad}");
        }
        for (text, is_good) in [
            ("/", true),
            ("", false),
            ("/a; Secure", false),
            ("/a\r\n", false),
        ] {
            assert_eq!(is_path(text), is_good, "{text:?}");
        }
        for good in ["example.com", "a", "1.a-b.c"] {
            assert!(is_domain(good), "{good}");
        }
        for bad in [
            "",
            ".example.com",
            "Example.com",
            "a-.b",
            "-a",
            "a..b",
            "a_b",
            "a;b",
        ] {
            assert!(!is_domain(bad), "{bad}");
        }
    }
}
