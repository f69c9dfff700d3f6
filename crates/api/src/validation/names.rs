//! Kubernetes' rules for names, as `k8s.io/apimachinery` words them.
//!
//! Each check answers `None` when the text is fine, else the sentence that says why not.

const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";

/// Longest label of a host name.
pub const LABEL_MAX: usize = 63;
/// Longest host name.
pub const SUBDOMAIN_MAX: usize = 253;

/// A name that may be one label of a host name.
pub fn dns1123_label(text: &str) -> Option<String> {
    if text.len() > LABEL_MAX {
        return Some(too_long(LABEL_MAX));
    }
    (!is_label(text)).then(|| LABEL.to_owned())
}

/// A host name: labels joined by dots.
pub fn dns1123_subdomain(text: &str) -> Option<String> {
    if text.len() > SUBDOMAIN_MAX {
        return Some(too_long(SUBDOMAIN_MAX));
    }
    (!text.split('.').all(is_label)).then(|| SUBDOMAIN.to_owned())
}

/// The name of a Kubernetes Service: a label that starts with a letter.
pub fn dns1035_label(text: &str) -> Option<String> {
    if text.len() > LABEL_MAX {
        return Some(too_long(LABEL_MAX));
    }
    let fine = is_label(text) && text.starts_with(|c: char| c.is_ascii_lowercase());
    (!fine).then(|| LABEL_1035.to_owned())
}

/// The part of a Service name before a generated suffix: may end in `-`.
pub fn dns1035_prefix(text: &str) -> Option<String> {
    dns1035_label(text.strip_suffix('-').unwrap_or(text))
}

/// A name as labels and references use it: `[prefix/]name`.
pub fn qualified_name(text: &str) -> Option<String> {
    let (prefix, name) = match text.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, text),
    };
    if let Some(problem) = prefix.and_then(dns1123_subdomain) {
        return Some(format!("prefix part {problem}"));
    }
    if name.is_empty() {
        return Some("name part must be non-empty".to_owned());
    }
    if name.len() > LABEL_MAX {
        return Some(format!("name part {}", too_long(LABEL_MAX)));
    }
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let outer = |c: char| c.is_ascii_alphanumeric();
    let fine = name.chars().all(inner) && name.starts_with(outer) && name.ends_with(outer);
    (!fine).then(|| {
        "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character".to_owned()
    })
}

fn is_label(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let fine = !text.is_empty() && text.len() <= LABEL_MAX && text.chars().all(inner);
    fine && !text.starts_with('-') && !text.ends_with('-')
}

fn too_long(max: usize) -> String {
    format!("must be no more than {max} characters")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_kubernetes_rules() {
        for good in ["a", "hello-world", "a1"] {
            assert_eq!(dns1035_label(good), None, "{good}");
        }
        for bad in ["", "1a", "Hello", "a_b", "a.b", "-a", "a-", &"a".repeat(64)] {
            assert!(dns1035_label(bad).is_some(), "{bad}");
        }
        assert_eq!(dns1123_label("1a"), None);
        assert_eq!(dns1123_subdomain("127.0.0.1.sslip.io"), None);
        assert!(dns1123_subdomain("a..b").is_some());
        assert_eq!(dns1035_prefix("hello-"), None);
        assert_eq!(qualified_name("example.com/My_Name.1"), None);
        assert!(qualified_name("a/b/c").is_some());
    }
}
