//! The few messages of `envoy.service.ratelimit.v3` that we write and read.

use otlp::Message;
use routing::model::{LimitOverride, LimitUnit};

use super::{Entry, Status, Verdict};
use crate::guard::protobuf::{Fields, Value, number, text};
use crate::http1::field::is_framing;

/// `RateLimitResponse.Code.OVER_LIMIT`.
const OVER_LIMIT: u64 = 2;
/// Statuses and headers that are read of one answer, each; more are passed over.
const MOST: usize = 64;

/// `RateLimitRequest`.
pub(super) fn request(
    domain: &str,
    descriptors: &[(Vec<Entry>, Option<LimitOverride>)],
    hits: Option<u32>,
) -> Vec<u8> {
    let mut request = Message::default();
    request.text(1, domain);
    for (entries, limit) in descriptors {
        request.message(2, |descriptor| {
            for (key, value) in entries {
                descriptor.entry(1, key, value);
            }
            if let Some(limit) = limit {
                descriptor.message(2, |message| {
                    message.count(1, limit.requests.into());
                    message.count(2, unit(limit.unit));
                });
            }
        });
    }
    request.count(3, hits.unwrap_or(0).into());
    request.0
}

/// `envoy.type.v3.RateLimitUnit`.
fn unit(unit: LimitUnit) -> u64 {
    match unit {
        LimitUnit::Second => 1,
        LimitUnit::Minute => 2,
        LimitUnit::Hour => 3,
        LimitUnit::Day => 4,
        LimitUnit::Month => 5,
        LimitUnit::Year => 6,
    }
}

/// The seconds of `RateLimitResponse.RateLimit.Unit`; months and years as Envoy counts them.
fn seconds(unit: u64) -> u64 {
    const DAY: u64 = 24 * 60 * 60;
    match unit {
        1 => 1,
        2 => 60,
        3 => 60 * 60,
        4 => DAY,
        5 => 30 * DAY,
        6 => 365 * DAY,
        7 => 7 * DAY,
        _ => 0,
    }
}

/// `RateLimitResponse`.
pub(super) fn response(bytes: &[u8]) -> Result<Verdict, String> {
    let mut verdict = Verdict::default();
    let mut fields = Fields(bytes);
    while let Some(field) = fields.next()? {
        match field {
            (1, Value::Number(code)) => verdict.is_over = code == OVER_LIMIT,
            (2, Value::Bytes(bytes)) => {
                let status = status(bytes)?.filter(|_| verdict.statuses.len() < MOST);
                verdict.statuses.extend(status);
            }
            (3, Value::Bytes(bytes)) if verdict.answer.len() < MOST => {
                verdict.answer.extend(header(bytes)?);
            }
            (4, Value::Bytes(bytes)) if verdict.request.len() < MOST => {
                verdict.request.extend(header(bytes)?);
            }
            (5, Value::Bytes(body)) => verdict.body = text(body),
            _ => {}
        }
    }
    Ok(verdict)
}

/// `DescriptorStatus`; `None` if there is no limit for its descriptor.
fn status(bytes: &[u8]) -> Result<Option<Status>, String> {
    let (mut status, mut has_limit) = (Status::default(), false);
    let mut fields = Fields(bytes);
    while let Some(field) = fields.next()? {
        match field {
            (2, Value::Bytes(limit)) => {
                has_limit = true;
                let mut parts = Fields(limit);
                while let Some(part) = parts.next()? {
                    match part {
                        (1, Value::Number(requests)) => status.requests = requests,
                        (2, Value::Number(unit)) => status.window = seconds(unit),
                        (3, Value::Bytes(name)) => status.name = text(name).replace('"', ""),
                        _ => {}
                    }
                }
            }
            (3, Value::Number(remaining)) => status.remaining = remaining,
            (4, Value::Bytes(duration)) => status.reset = number(duration, 1)?.unwrap_or(0),
            _ => {}
        }
    }
    Ok(has_limit.then_some(status))
}

/// `HeaderValue`. `None` if it is none that can be written, or one that frames a message.
fn header(bytes: &[u8]) -> Result<Option<(String, String)>, String> {
    let mut pair = (String::new(), String::new());
    let mut fields = Fields(bytes);
    while let Some(field) = fields.next()? {
        match field {
            (1, Value::Bytes(name)) => pair.0 = text(name),
            (2 | 3, Value::Bytes(value)) => pair.1 = text(value),
            _ => {}
        }
    }
    let (name, value) = &pair;
    let is_name = http::HeaderName::from_bytes(name.as_bytes()).is_ok();
    let is_value = http::HeaderValue::from_str(value).is_ok();
    let is_own = is_framing(name.as_bytes());
    Ok((is_name && is_value && !is_own).then_some(pair))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_request_is_written_as_the_service_reads_it() {
        let entry = |key: &str, value: &str| (key.into(), value.to_owned());
        let limit = LimitOverride {
            requests: 5,
            unit: LimitUnit::Minute,
        };
        let descriptors = [
            (vec![entry("k", "v"), entry("e", "")], None),
            (vec![entry("a", "b")], Some(limit)),
        ];
        let message = request("d", &descriptors, Some(3));
        let wanted: &[u8] = b"\x0a\x01d\
            \x12\x0d\x0a\x06\x0a\x01k\x12\x01v\x0a\x03\x0a\x01e\
            \x12\x0e\x0a\x06\x0a\x01a\x12\x01b\x12\x04\x08\x05\x10\x02\
            \x18\x03";
        assert_eq!(message, wanted);
    }

    #[test]
    fn an_answer_is_read_with_its_statuses_and_headers() {
        let bytes: &[u8] = b"\x08\x02\
            \x12\x02\x08\x01\
            \x12\x13\x08\x02\x12\x09\x08\x0a\x10\x02\x1a\x03a\"b\x18\x04\x22\x02\x08\x1e\
            \x1a\x06\x0a\x01x\x12\x01y\
            \x1a\x07\x0a\x02te\x12\x01y\
            \x1a\x07\x0a\x01z\x12\x02\x0d\x0a\
            \x22\x06\x0a\x01r\x1a\x01s\
            \x2a\x02no";
        let pair = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
        let verdict = response(bytes).expect("valid");
        let wanted = Verdict {
            is_over: true,
            statuses: vec![Status {
                requests: 10,
                window: 60,
                name: "ab".to_owned(),
                remaining: 4,
                reset: 30,
            }],
            answer: pair("x", "y"),
            request: pair("r", "s"),
            body: "no".to_owned(),
        };
        assert_eq!(verdict, wanted);
        assert_eq!(response(b""), Ok(Verdict::default()));
        assert!(response(b"\x08").is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_do_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = response(&bytes);
        }
    }
}
