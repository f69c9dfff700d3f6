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
        "{} {} HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\n",
        asked.method,
        url(&asked.target, question),
        asked.host,
    );
    let said = [
        ("X-Original-URL", format!("{scheme}://{host}{target}")),
        ("X-Original-Method", method.clone()),
        ("X-Original-URI", target.clone()),
        ("X-Scheme", (*scheme).to_owned()),
        ("X-Real-IP", peer.clone()),
        ("X-Forwarded-For", peer.clone()),
        ("X-Auth-Request-Redirect", url(&asked.redirect, question)),
    ];
    let is_set = |name: &str| {
        let mut set = asked.headers.iter();
        set.any(|(own, _)| own.eq_ignore_ascii_case(name))
    };
    for (name, value) in said.iter().filter(|(name, _)| !is_set(name)) {
        push(&mut head, name, value);
    }
    for (name, value) in &question.headers {
        let is_own = OWN.iter().any(|own| own.eq_ignore_ascii_case(name));
        if !is_own && !is_framing(name.as_bytes()) && !name.starts_with(':') && !is_set(name) {
            push(&mut head, name, value);
        }
    }
    let cookies = all(question, "cookie");
    if !cookies.is_empty() && !is_set("cookie") {
        push(&mut head, "cookie", &cookies);
    }
    for (name, value) in &asked.headers {
        let value = url(value, question);
        if !value.is_empty() {
            push(&mut head, name, &value);
        }
    }
    head.push_str("\r\n");
    (head.into_bytes(), &*asked.method == "HEAD")
}

/// A header with a line break in its value would be two.
fn push(head: &mut String, name: &str, value: &str) {
    if !value.bytes().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
}

/// All values of a header of the request: HTTP/2 may send cookies apart.
fn all(question: &Question, name: &str) -> String {
    let is_cookie = name.eq_ignore_ascii_case("cookie");
    let between = if is_cookie { "; " } else { ", " };
    let headers = question.headers.iter();
    let values = headers.filter(|(own, _)| own.eq_ignore_ascii_case(name));
    let values: Vec<_> = values.map(|(_, value)| value.as_str()).collect();
    values.join(between)
}

/// The value of the first cookie with this name.
fn cookie(question: &Question, name: &str) -> String {
    let cookies = all(question, "cookie");
    let mut pairs = cookies.split(';').filter_map(|pair| pair.split_once('='));
    let pair = pairs.find(|(own, _)| own.trim_ascii() == name);
    pair.map_or_else(String::new, |(_, value)| value.trim_ascii().to_owned())
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

/// A URL, or the value of a header, for this request.
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
            UrlPart::Method => url.push_str(&question.method),
            UrlPart::Client => url.push_str(&question.peer),
            UrlPart::Header(name) => url.push_str(&all(question, name)),
            UrlPart::Cookie(name) => url.push_str(&cookie(question, name)),
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
