//! Name formats (RFC 1123, RFC 1035, label and annotation keys) with Kubernetes' explanations.
//!
//! Each check returns the text that follows `Invalid value: "…": `.

const LABEL_1123: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN_1123: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const QUALIFIED: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const CONFIG_KEY: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
const ENV_NAME: &str = "a valid environment variable name must consist only of printable ASCII characters other than '='";

fn lower(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

fn label(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.first().is_some_and(|byte| lower(*byte))
        && bytes.last().is_some_and(|byte| lower(*byte))
        && bytes.iter().all(|byte| lower(*byte) || *byte == b'-')
}

fn too_long(most: usize) -> String {
    format!("must be no more than {most} bytes")
}

/// A DNS-1123 label: most names that end up in host names.
pub fn dns_label(text: &str) -> Result<(), String> {
    match text {
        long if long.len() > 63 => Err(too_long(63)),
        good if label(good) => Ok(()),
        _ => Err(LABEL_1123.into()),
    }
}

/// A DNS-1123 subdomain: the names of most objects.
pub fn dns_subdomain(text: &str) -> Result<(), String> {
    match text {
        long if long.len() > 253 => Err(too_long(253)),
        good if good.split('.').all(label) => Ok(()),
        _ => Err(SUBDOMAIN_1123.into()),
    }
}

/// A DNS-1035 label: the names of Services.
pub fn dns_1035(text: &str) -> Result<(), String> {
    match text {
        long if long.len() > 63 => Err(too_long(63)),
        good if label(good) && good.starts_with(|first: char| first.is_ascii_lowercase()) => Ok(()),
        _ => Err(LABEL_1035.into()),
    }
}

/// A name that is one segment of a path, as RBAC objects have.
pub fn path_segment(text: &str) -> Result<(), String> {
    match text {
        "." | ".." => Err(format!("may not be '{text}'")),
        _ if text.contains('/') => Err("may not contain '/'".into()),
        _ if text.contains('%') => Err("may not contain '%'".into()),
        _ => Ok(()),
    }
}

/// A label or annotation key: `[prefix/]name`.
pub fn qualified(text: &str) -> Result<(), String> {
    let (prefix, name) = match text.rsplit_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, text),
    };
    match prefix {
        Some("") => return Err("prefix part must be non-empty".into()),
        Some(prefix) => dns_subdomain(prefix).map_err(|why| format!("prefix part {why}"))?,
        None => {}
    }
    if name.is_empty() {
        return Err("name part must be non-empty".into());
    }
    if name.len() > 63 {
        return Err("name part must be no more than 63 bytes".into());
    }
    if word(name) {
        Ok(())
    } else {
        Err(QUALIFIED.into())
    }
}

/// A label's value.
pub fn label_value(text: &str) -> Result<(), String> {
    match text {
        "" => Ok(()),
        long if long.len() > 63 => Err(too_long(63)),
        good if word(good) => Ok(()),
        _ => Err(LABEL_VALUE.into()),
    }
}

fn word(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

/// A key of a ConfigMap or Secret: it may become a file name.
pub fn config_key(text: &str) -> Result<(), String> {
    let good = text
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    match text {
        long if long.len() > 253 => Err(too_long(253)),
        "." | ".." => Err(format!("must not be '{text}'")),
        parent if parent.starts_with("..") => Err("must not start with '..'".into()),
        "" => Err(CONFIG_KEY.into()),
        _ if good => Ok(()),
        _ => Err(CONFIG_KEY.into()),
    }
}

/// The name of an environment variable.
pub fn env_name(text: &str) -> Result<(), String> {
    let good = !text.is_empty()
        && text
            .bytes()
            .all(|byte| (b' '..=b'~').contains(&byte) && byte != b'=');
    if good { Ok(()) } else { Err(ENV_NAME.into()) }
}

/// The name of a port (IANA_SVC_NAME).
pub fn port_name(text: &str) -> Result<(), String> {
    if text.is_empty() || text.len() > 15 {
        return Err("must be no more than 15 characters".into());
    }
    if !text.bytes().all(|byte| lower(byte) || byte == b'-') {
        return Err(
            "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".into(),
        );
    }
    if !text.bytes().any(|byte| byte.is_ascii_lowercase()) {
        return Err("must contain at least one letter (a-z)".into());
    }
    if text.contains("--") {
        return Err("must not contain consecutive hyphens".into());
    }
    if text.starts_with('-') || text.ends_with('-') {
        return Err("must not begin or end with a hyphen".into());
    }
    Ok(())
}
