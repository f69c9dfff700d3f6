//! A service that is asked as NGINX's `auth_request` asks: at a place of its own, with all headers
//! of the request, and about its head alone.
//!
//! 2xx allows, 401 and 403 refuse; anything else is a failure of the service.

use routing::model::{AuthRequest, ExternalAuthorization, UrlPart};

use super::{Question, Refused, Verdict};
use crate::guard::ask::Answer;
use crate::http1::field::is_framing;

/// What the request says in these is not passed on: they are the gateway's to say, or speak of a
/// body that is not sent.
const OWN: [&str; 11] = [
    "content-length",
    "cookie",
    "expect",
    "x-auth-request-redirect",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-original-method",
    "x-original-uri",
    "x-original-url",
    "x-real-ip",
    "x-scheme",
];

/// The request, and whether it is HEAD.
pub(super) fn message(asked: &AuthRequest, question: &Question) -> (Vec<u8>, bool) {
    let Question {
        method,
        target,
        host,
        scheme,
        peer,
        ..
    } = question;
    let mut head = format!(
        "{} {} HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\n\
         X-Original-URL: {scheme}://{host}{target}\r\nX-Original-Method: {method}\r\n\
         X-Original-URI: {target}\r\nX-Scheme: {scheme}\r\nX-Real-IP: {peer}\r\n\
         X-Forwarded-For: {peer}\r\nX-Auth-Request-Redirect: {}\r\n",
        asked.method,
        url(&asked.target, question),
        asked.host,
        url(&asked.redirect, question),
    );
    let is_fine = |value: &str| !value.bytes().any(|byte| matches!(byte, b'\r' | b'\n' | 0));
    let headers = question.headers.iter();
    let headers = headers.filter(|(_, value)| is_fine(value));
    let mut cookies = Vec::new();
    for (name, value) in headers {
        let is_own = OWN.iter().any(|own| own.eq_ignore_ascii_case(name));
        if name.eq_ignore_ascii_case("cookie") {
            // HTTP/2 may send them apart.
            cookies.push(value.as_str());
        } else if !is_own && !is_framing(name.as_bytes()) && !name.starts_with(':') {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    if !cookies.is_empty() {
        head.push_str(&format!("cookie: {}\r\n", cookies.join("; ")));
    }
    head.push_str("\r\n");
    (head.into_bytes(), &*asked.method == "HEAD")
}

/// What its answer means.
pub(super) fn verdict(
    asked: &AuthRequest,
    external: &ExternalAuthorization,
    question: &Question,
    answer: &Answer,
) -> Result<Verdict, String> {
    let named = |name: &'static str| {
        let headers = answer.headers.iter();
        headers.filter(move |(other, _)| other.eq_ignore_ascii_case(name))
    };
    let cookies = || named("set-cookie").cloned();
    let refused = |status, headers| {
        Ok(Verdict {
            refusal: Some(Refused {
                status,
                headers,
                body: String::new(),
            }),
            ..Verdict::default()
        })
    };
    match answer.status {
        200..=299 => {
            let wanted = |name: &str| {
                let mut names = external.upstream_headers.iter();
                names.any(|wanted| wanted.eq_ignore_ascii_case(name))
            };
            let set = answer.headers.iter().filter(|(name, _)| wanted(name));
            Ok(Verdict {
                set: set.cloned().collect(),
                // What the client sent in them is not what the service says.
                remove: external
                    .upstream_headers
                    .iter()
                    .map(ToString::to_string)
                    .collect(),
                answer: cookies().collect(),
                ..Verdict::default()
            })
        }
        401 if !asked.sign_in.is_empty() => {
            let location = ("Location".to_owned(), url(&asked.sign_in, question));
            refused(302, cookies().chain([location]).collect())
        }
        401 => refused(401, named("www-authenticate").cloned().collect()),
        403 => refused(403, Vec::new()),
        status => Err(format!("the answer has status {status}")),
    }
}

/// A URL for this request.
fn url(parts: &[UrlPart], question: &Question) -> String {
    let mut url = String::new();
    for part in parts {
        match part {
            UrlPart::Text(text) => url.push_str(text),
            UrlPart::Scheme => url.push_str(question.scheme),
            UrlPart::Host => url.push_str(&question.host_name),
            UrlPart::Authority => url.push_str(&question.host),
            UrlPart::Target => url.push_str(&question.target),
            UrlPart::EscapedTarget => escape(&question.target, &mut url),
        }
    }
    url
}

/// As a value within a query: what is not unreserved (RFC 3986, 2.3) is percent-encoded.
fn escape(text: &str, into: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            into.push(char::from(byte));
        } else {
            into.push_str(&format!("%{byte:02X}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_within_a_query_is_one_value() {
        let mut out = String::new();
        escape("/a b?c=d&e=~é", &mut out);
        assert_eq!(out, "%2Fa%20b%3Fc%3Dd%26e%3D~%C3%A9");
    }
}
