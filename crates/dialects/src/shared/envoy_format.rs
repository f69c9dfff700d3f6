//! Envoy's variables in values of headers: `%REQ(name)%` and its like, as templates.
//!
//! [`read`] takes a value as Envoy itself does; [`expand`] takes it as Contour does, for which what
//! is between percent signs and no variable is text.

use super::headers;

/// A value after its variables.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Expanded {
    Plain(String),
    Template(String),
    /// A variable of Envoy's that templates do not have.
    Unknown(String),
}

/// Variables of Envoy's that templates do not have.
const NOT_SERVED: [&str; 24] = [
    "DOWNSTREAM_LOCAL_ADDRESS",
    "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT",
    "DOWNSTREAM_LOCAL_PORT",
    "DOWNSTREAM_LOCAL_SUBJECT",
    "DOWNSTREAM_LOCAL_URI_SAN",
    "DOWNSTREAM_PEER_CERT",
    "DOWNSTREAM_PEER_CERT_V_END",
    "DOWNSTREAM_PEER_CERT_V_START",
    "DOWNSTREAM_PEER_FINGERPRINT_1",
    "DOWNSTREAM_PEER_FINGERPRINT_256",
    "DOWNSTREAM_PEER_ISSUER",
    "DOWNSTREAM_PEER_SERIAL",
    "DOWNSTREAM_PEER_SUBJECT",
    "DOWNSTREAM_PEER_URI_SAN",
    "DOWNSTREAM_REMOTE_ADDRESS",
    "DOWNSTREAM_TLS_CIPHER",
    "DOWNSTREAM_TLS_SESSION_ID",
    "DOWNSTREAM_TLS_VERSION",
    "HOSTNAME",
    "RESPONSE_CODE_DETAILS",
    "RESPONSE_FLAGS",
    "TLS_JA3_FINGERPRINT",
    "TLS_JA4_FINGERPRINT",
    "UPSTREAM_REMOTE_ADDRESS",
];

/// Puts variables in, where `variables` are the ones that are known beforehand.
pub(crate) fn expand(value: &str, variables: &[(&str, &str)]) -> Expanded {
    // `plain` is the value without variables; `template` has percent signs doubled.
    let (mut plain, mut template) = (String::new(), String::new());
    let mut has_variable = false;
    let mut rest = value;
    while let Some((before, behind)) = rest.split_once('%') {
        plain.push_str(before);
        template.push_str(before);
        rest = behind;
        let Some((name, after)) = behind.split_once('%') else {
            plain.push('%');
            template.push_str("%%");
            continue;
        };
        if let Some((_, text)) = variables.iter().find(|(known, _)| *known == name) {
            plain.push_str(text);
            template.push_str(&text.replace('%', "%%"));
            rest = after;
        } else if let Some(served) = served(name) {
            template.push_str(&served);
            has_variable = true;
            rest = after;
        } else if NOT_SERVED.contains(&name) || request_header(name).is_some() {
            return Expanded::Unknown(name.to_owned());
        } else {
            plain.push('%');
            template.push_str("%%");
        }
    }
    plain.push_str(rest);
    template.push_str(rest);
    if has_variable {
        Expanded::Template(template)
    } else {
        Expanded::Plain(plain)
    }
}

/// Envoy's own reading: a percent sign is written twice, and what is no variable is wrong.
/// `responds` says whether the answer's headers are known, too.
pub(crate) fn read(value: &str, responds: bool) -> Result<Expanded, String> {
    let (mut plain, mut template) = (String::new(), String::new());
    let mut has_variable = false;
    let mut rest = value;
    while let Some((before, behind)) = rest.split_once('%') {
        let (name, after) = behind.split_once('%').ok_or_else(|| {
            format!("{value:?} has a % without an end; write %% for a percent sign")
        })?;
        plain.push_str(before);
        template.push_str(before);
        rest = after;
        if name.is_empty() {
            plain.push('%');
            template.push_str("%%");
        } else if let Some(served) = served(name).or_else(|| answered(name).filter(|_| responds)) {
            template.push_str(&served);
            has_variable = true;
        } else {
            return Ok(Expanded::Unknown(name.to_owned()));
        }
    }
    plain.push_str(rest);
    template.push_str(rest);
    Ok(if has_variable {
        Expanded::Template(template)
    } else {
        Expanded::Plain(plain)
    })
}

/// The template of a header of the answer.
fn answered(name: &str) -> Option<String> {
    let name = name.strip_prefix("RESP(")?.strip_suffix(')')?;
    let name = headers::name(name).ok()?;
    Some(format!("%RESP({name})%"))
}

/// The template of a variable.
fn served(name: &str) -> Option<String> {
    if matches!(name, "PROTOCOL" | "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT") {
        return Some(format!("%{name}%"));
    }
    match request_header(name)? {
        ":authority" => Some("%HOST%".to_owned()),
        ":path" => Some("%PATH%".to_owned()),
        ":method" => Some("%METHOD%".to_owned()),
        ":scheme" => Some("%SCHEME%".to_owned()),
        name => {
            let name = headers::name(name).ok()?;
            name_only(&name).then(|| format!("%REQ({name})%"))
        }
    }
}

fn name_only(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    name.bytes().all(allowed)
}

/// What stands in `REQ(..)`, with its alternative and its length, if it has those.
fn request_header(name: &str) -> Option<&str> {
    let inner = name.strip_prefix("REQ(")?;
    let (inner, length) = inner.rsplit_once(')')?;
    let allowed =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b':' | b'?');
    let is_length = |text: &str| {
        let digits = text.strip_prefix(':');
        digits.is_some_and(|text| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()))
    };
    let valid = !inner.is_empty() && inner.bytes().all(allowed);
    if valid && is_length(length) {
        // Told as not served: the text is no header name.
        return Some("?");
    }
    (valid && length.is_empty()).then_some(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn envoy_itself_wants_percent_signs_twice() {
        let check = |value: &str, expected: Expanded| {
            assert_eq!(read(value, false), Ok(expected), "{value}");
        };
        check("100%% of it", Expanded::Plain("100% of it".to_owned()));
        let template = "%REQ(x-a)% 100%%".to_owned();
        check("%REQ(X-A)% 100%%", Expanded::Template(template));
        let template = "%REQ(x-id)%-%HOST%".to_owned();
        check(
            "%REQ(X-Id)%-%REQ(:authority)%",
            Expanded::Template(template),
        );
        for unknown in ["NO_SUCH", "REQ(a?b)", "REQ(a):3", "START_TIME"] {
            let text = format!("%{unknown}%");
            check(&text, Expanded::Unknown(unknown.to_owned()));
        }
        check("%RESP(a)%", Expanded::Unknown("RESP(a)".to_owned()));
        let template = Expanded::Template("%RESP(a)%".to_owned());
        assert_eq!(read("%RESP(A)%", true), Ok(template));
        assert!(read("50%", false).is_err());
    }

    #[test]
    fn variables_are_kept_and_other_percent_signs_are_text() {
        let check = |value: &str, expected: Expanded| {
            let variables = [("CONTOUR_NAMESPACE", "a%b")];
            assert_eq!(expand(value, &variables), expected, "{value}");
        };
        let plain = |text: &str| Expanded::Plain(text.to_owned());
        let template = |text: &str| Expanded::Template(text.to_owned());
        check("100%", plain("100%"));
        check("%NO_SUCH%", plain("%NO_SUCH%"));
        check("x%CONTOUR_NAMESPACE%y", plain("xa%by"));
        check("%PROTOCOL% 5%", template("%PROTOCOL% 5%%"));
        check("%REQ(X-A)%", template("%REQ(x-a)%"));
        check("%REQ(:path)%", template("%PATH%"));
        check("%CONTOUR_NAMESPACE%%PROTOCOL%", template("a%%b%PROTOCOL%"));
        check("%HOSTNAME%", Expanded::Unknown("HOSTNAME".to_owned()));
        check("%REQ(a?b)%", Expanded::Unknown("REQ(a?b)".to_owned()));
        check("%REQ(a):3%", Expanded::Unknown("REQ(a):3".to_owned()));
        check("%REQ()%", plain("%REQ()%"));
    }
}
