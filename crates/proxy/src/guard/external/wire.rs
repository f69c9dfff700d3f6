//! The few messages of `envoy.service.auth.v3` that we write and read.

use otlp::Message;

use super::{Question, Refused, Verdict};
use crate::guard::protobuf::{Fields, Value, number, text};

/// `CheckRequest`. `time` is since 1970.
pub(super) fn request<'c>(
    question: &Question,
    context: impl Iterator<Item = (&'c str, &'c str)>,
    time: std::time::Duration,
) -> Vec<u8> {
    let mut request = Message::default();
    request.message(1, |attributes| {
        attributes.message(1, |from| peer(from, &question.peer, 0));
        attributes.message(2, |to| peer(to, "", question.port));
        attributes.message(4, |asked| {
            asked.message(1, |stamp| {
                stamp.count(1, time.as_secs());
                stamp.count(2, u64::from(time.subsec_nanos()));
            });
            asked.message(2, |http| head_and_body(http, question));
        });
        for (key, value) in context {
            attributes.entry(10, key, value);
        }
    });
    request.0
}

/// `AttributeContext.HttpRequest`.
fn head_and_body(http: &mut Message, question: &Question) {
    http.text(2, &question.method);
    for (name, value) in &question.headers {
        http.entry(3, name, value);
    }
    // Envoy lists these among the headers too, and policies look for them there.
    for (name, value) in [
        (":authority", question.host.as_str()),
        (":method", question.method.as_str()),
        (":path", question.target.as_str()),
        (":scheme", question.scheme),
    ] {
        http.entry(3, name, value);
    }
    http.text(4, &question.target);
    http.text(5, &question.host);
    http.text(6, question.scheme);
    // Without a body its size is not known.
    http.count(9, question.body.len() as u64);
    http.text(10, question.protocol);
    match question.as_bytes {
        _ if question.body.is_empty() => {}
        true => http.bytes(12, &question.body),
        false => http.text(11, &utf8(&question.body)),
    }
}

/// What is no text is replaced, byte by byte, as Envoy does: a message with it would be refused.
fn utf8(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        out.extend(chunk.invalid().iter().map(|_| '!'));
    }
    out
}

/// `AttributeContext.Peer`, of which the address is told.
fn peer(message: &mut Message, address: &str, port: u16) {
    message.message(1, |wrapped| {
        wrapped.message(1, |socket| {
            socket.text(2, address);
            socket.count(3, u64::from(port));
        });
    });
}

/// `CheckResponse`.
pub(super) fn response(bytes: &[u8]) -> Result<Verdict, String> {
    let (mut code, mut verdict, mut denied) = (0, Verdict::default(), None);
    let mut fields = Fields(bytes);
    while let Some(field) = fields.next()? {
        match field {
            (1, Value::Bytes(status)) => code = number(status, 1)?.unwrap_or(0),
            (2, Value::Bytes(response)) => denied = Some(refused(response)?),
            (3, Value::Bytes(response)) => allowed(response, &mut verdict)?,
            _ => {}
        }
    }
    if code != 0 {
        verdict.refusal = Some(denied.unwrap_or(Refused {
            status: 403,
            headers: Vec::new(),
            body: String::new(),
        }));
    }
    Ok(verdict)
}

fn refused(bytes: &[u8]) -> Result<Refused, String> {
    let mut refused = Refused {
        status: 403,
        headers: Vec::new(),
        body: String::new(),
    };
    let mut fields = Fields(bytes);
    while let Some(field) = fields.next()? {
        match field {
            (1, Value::Bytes(status)) => {
                let code = number(status, 1)?.and_then(|code| u16::try_from(code).ok());
                refused.status = code.filter(|code| (200..600).contains(code)).unwrap_or(403);
            }
            (2, Value::Bytes(option)) => refused.headers.push(header(option)?.0),
            (3, Value::Bytes(body)) => refused.body = text(body),
            _ => {}
        }
    }
    Ok(refused)
}

fn allowed(bytes: &[u8], verdict: &mut Verdict) -> Result<(), String> {
    let mut fields = Fields(bytes);
    while let Some(field) = fields.next()? {
        match field {
            (2, Value::Bytes(option)) => {
                let (header, appends) = header(option)?;
                let list = if appends {
                    &mut verdict.add
                } else {
                    &mut verdict.set
                };
                list.push(header);
            }
            (5, Value::Bytes(name)) => verdict.remove.push(text(name)),
            (6, Value::Bytes(option)) => verdict.answer.push(header(option)?.0),
            _ => {}
        }
    }
    Ok(())
}

/// `HeaderValueOption`: the header, and whether it goes beside what is there.
fn header(bytes: &[u8]) -> Result<((String, String), bool), String> {
    let (mut pair, mut appends) = ((String::new(), String::new()), false);
    let mut fields = Fields(bytes);
    while let Some(field) = fields.next()? {
        match field {
            (1, Value::Bytes(value)) => {
                let mut parts = Fields(value);
                while let Some(part) = parts.next()? {
                    match part {
                        (1, Value::Bytes(key)) => pair.0 = text(key),
                        (2 | 3, Value::Bytes(value)) => pair.1 = text(value),
                        _ => {}
                    }
                }
            }
            (2, Value::Bytes(flag)) => appends = number(flag, 1)? == Some(1),
            _ => {}
        }
    }
    Ok((pair, appends))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn option(message: &mut Message, name: &str, value: &str, appends: bool) {
        message.entry(1, name, value);
        message.message(2, |flag| flag.count(1, u64::from(appends)));
    }

    #[test]
    fn an_allowance_says_what_to_change() {
        let mut answer = Message::default();
        answer.message(3, |allowed| {
            allowed.message(2, |header| option(header, "x-user", "alice", false));
            allowed.message(2, |header| option(header, "x-more", "b", true));
            allowed.text(5, "cookie");
            allowed.message(6, |header| option(header, "x-seen", "yes", false));
        });
        let verdict = response(&answer.0).expect("valid");
        assert!(verdict.refusal.is_none());
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(verdict.set, [pair("x-user", "alice")]);
        assert_eq!(verdict.add, [pair("x-more", "b")]);
        assert_eq!(verdict.remove, ["cookie"]);
        assert_eq!(verdict.answer, [pair("x-seen", "yes")]);
    }

    #[test]
    fn a_refusal_has_its_status_headers_and_body_and_without_them_is_a_403() {
        let mut answer = Message::default();
        answer.message(1, |status| status.count(1, 7));
        let plain = response(&answer.0)
            .expect("valid")
            .refusal
            .expect("a refusal");
        assert_eq!(plain.status, 403);
        answer.message(2, |denied| {
            denied.message(1, |code| code.count(1, 401));
            denied.message(2, |header| option(header, "x-why", "because", false));
            denied.text(3, "no");
        });
        let refused = response(&answer.0)
            .expect("valid")
            .refusal
            .expect("a refusal");
        assert_eq!((refused.status, &*refused.body), (401, "no"));
        assert_eq!(
            refused.headers,
            [("x-why".to_owned(), "because".to_owned())]
        );
    }

    proptest! {
        #[test]
        fn no_bytes_do_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = response(&bytes);
        }
    }
}
