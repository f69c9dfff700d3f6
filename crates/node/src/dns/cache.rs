//! Upstream's answers, for as long as they hold.

use std::collections::HashMap;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use std::time::Duration;
use tokio::time::Instant;

/// Answers that are kept; when there are more, the ones that end first go.
const MOST: usize = 4096;
/// No answer is kept for longer, in seconds.
const LONGEST: u32 = 300;
/// An unknown name is forgotten after this many seconds at the latest.
const LONGEST_UNKNOWN: u32 = 30;

/// What is asked: the name in lower case and the type.
pub(super) type Question = (Name, RecordType);

#[derive(Default)]
pub(super) struct Cache {
    answers: HashMap<Question, Kept>,
}

struct Kept {
    answer: Message,
    at: Instant,
    until: Instant,
}

impl Cache {
    /// The answer, its times to live counted down.
    pub(super) fn get(&self, question: &Question, now: Instant) -> Option<Message> {
        let kept = self.answers.get(question).filter(|kept| kept.until > now)?;
        let age = u32::try_from((now - kept.at).as_secs()).unwrap_or(u32::MAX);
        let mut answer = kept.answer.clone();
        for record in answer.answers.iter_mut().chain(&mut answer.authorities) {
            record.decrement_ttl(age);
        }
        Some(answer)
    }

    /// Keeps an answer if it may be kept.
    pub(super) fn put(&mut self, question: Question, answer: &Message, now: Instant) {
        let Some(seconds) = lifetime(answer).filter(|seconds| *seconds > 0) else {
            return;
        };
        if self.answers.len() >= MOST {
            self.make_room(now);
        }
        let kept = Kept {
            answer: answer.clone(),
            at: now,
            until: now + Duration::from_secs(seconds.into()),
        };
        self.answers.insert(question, kept);
    }

    fn make_room(&mut self, now: Instant) {
        self.answers.retain(|_, kept| kept.until > now);
        if self.answers.len() < MOST {
            return;
        }
        let mut ends: Vec<_> = self.answers.values().map(|kept| kept.until).collect();
        let middle = ends.len() / 2;
        let (_, median, _) = ends.select_nth_unstable(middle);
        let median = *median;
        self.answers.retain(|_, kept| kept.until > median);
    }
}

/// How long an answer holds, in seconds; `None` if it must not be kept.
fn lifetime(answer: &Message) -> Option<u32> {
    if answer.metadata.truncation {
        return None;
    }
    let shortest = answer.answers.iter().map(|record| record.ttl).min();
    match (answer.metadata.response_code, shortest) {
        (ResponseCode::NoError, Some(ttl)) => Some(ttl.min(LONGEST)),
        // RFC 2308: the start of authority says how long nothing is there.
        (ResponseCode::NoError | ResponseCode::NXDomain, _) => {
            let soa = answer
                .authorities
                .iter()
                .find_map(|record| match &record.data {
                    RData::SOA(soa) => Some(record.ttl.min(soa.minimum)),
                    _ => None,
                });
            Some(soa?.min(LONGEST_UNKNOWN))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::OpCode;
    use hickory_proto::rr::Record;
    use hickory_proto::rr::rdata::A;

    fn answer(ttl: u32) -> Message {
        let mut answer = Message::response(1, OpCode::Query);
        let data = RData::A(A([1, 2, 3, 4].into()));
        answer.add_answer(Record::from_rdata(Name::root(), ttl, data));
        answer
    }

    #[test]
    fn an_answer_is_kept_for_its_time_and_counted_down() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        let question = (Name::root(), RecordType::A);
        cache.put(question.clone(), &answer(60), now);
        let later = cache
            .get(&question, now + Duration::from_secs(20))
            .expect("kept");
        assert_eq!(later.answers[0].ttl, 40);
        assert!(
            cache
                .get(&question, now + Duration::from_secs(61))
                .is_none()
        );
        cache.put(question.clone(), &answer(0), now + Duration::from_secs(61));
        assert!(
            cache
                .get(&question, now + Duration::from_secs(61))
                .is_none()
        );
    }

    #[test]
    fn it_never_holds_more_than_its_bound() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        for number in 0..3 * MOST {
            let name = Name::from_ascii(format!("n{number}.example.")).expect("a name");
            cache.put((name, RecordType::A), &answer(1 + number as u32 % 250), now);
            assert!(cache.answers.len() <= MOST);
        }
    }
}
