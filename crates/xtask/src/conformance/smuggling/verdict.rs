//! What the witnesses of one exchange prove: pure, and strict.
//!
//! The gateway is at fault if it passes on what two readers may read in two ways, if it reads what
//! a case says that it must not, if the server behind it reads anything else than it sent, if it
//! reads what the front did not send as a request, or if somebody gets another's answer.

use super::case::{Case, May, Sent};
use super::client::Answer;
use super::mark;
use super::message::{Carried, Request};
use super::witness::Seen;

/// What was seen of one exchange.
#[derive(Clone, Debug, Default)]
pub(super) struct Evidence {
    pub(super) answers: Vec<Answer>,
    /// What another client got afterwards, over the same connections behind.
    pub(super) other: Option<Answer>,
    /// What a front sent to the gateway, if there is one.
    pub(super) fronted: Option<Vec<Carried>>,
    /// What the gateway sent.
    pub(super) passed: Vec<Carried>,
    /// What the last server read.
    pub(super) seen: Vec<Seen>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// How the gateway read it, in a word.
    pub(super) reading: &'static str,
    /// Faults of the gateway.
    pub(super) faults: Vec<Fault>,
    /// What only a peer does.
    pub(super) remarks: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) text: String,
    /// Something did not come, which a slow machine explains too.
    pub(super) is_absence: bool,
}

impl Verdict {
    fn fault(&mut self, text: impl Into<String>) {
        self.faults.push(Fault {
            text: text.into(),
            is_absence: false,
        });
    }

    fn absence(&mut self, text: impl Into<String>) {
        self.faults.push(Fault {
            text: text.into(),
            is_absence: true,
        });
    }
}

pub(super) fn judge(case: &Case, evidence: &Evidence) -> Verdict {
    let mut verdict = Verdict::default();
    let passed = requests(&evidence.passed);
    for why in bad(&evidence.passed) {
        verdict.fault(format!("it passes on {why}"));
    }
    let marks = marks(case, &passed);
    verdict.reading = reading(&marks, evidence.fronted.is_some());
    match &evidence.fronted {
        None => {
            judge_reading(&mut verdict, case, &marks);
            judge_request(&mut verdict, case, &passed);
        }
        Some(fronted) => judge_behind(&mut verdict, case, fronted, &passed),
    }
    judge_server(&mut verdict, &evidence.seen, &passed);
    judge_answers(&mut verdict, case, evidence);
    verdict
}

fn requests(carried: &[Carried]) -> Vec<&Request> {
    carried.iter().flat_map(|it| &it.requests).collect()
}

fn bad(carried: &[Carried]) -> impl Iterator<Item = &'static str> {
    carried.iter().filter_map(|it| it.bad)
}

/// What requests are marked with, but for the one that is asked afterwards. Marks of other cases
/// stay whole.
fn marks(case: &Case, requests: &[&Request]) -> Vec<String> {
    let marks = requests.iter().map(|request| {
        let mark = mark(&request.target).unwrap_or_else(|| request.target.clone());
        match mark
            .strip_prefix(&case.id)
            .and_then(|it| it.strip_prefix('-'))
        {
            Some(rest) => rest.to_owned(),
            None => mark,
        }
    });
    let mut marks: Vec<String> = marks.filter(|mark| mark != "other").collect();
    marks.sort_unstable();
    marks
}

fn reading(marks: &[String], has_front: bool) -> &'static str {
    let has = |wanted: &str| marks.iter().any(|mark| mark == wanted);
    match (has("case"), has("smuggled")) {
        (true, false) => "one",
        (true, true) => "two",
        (false, true) => "smuggled",
        (false, false) if has_front => "-",
        (false, false) => "refused",
    }
}

fn judge_reading(verdict: &mut Verdict, case: &Case, marks: &[String]) {
    let allowed = case.may.iter().map(|may| wanted(*may));
    let is_frames = matches!(case.sent, Sent::Frames(_));
    let mut is_absence = false;
    for wanted in allowed {
        // What goes on after a refused stream, or does not, is right.
        let is_right = marks == wanted || is_frames && wanted.is_empty() && marks == ["next"];
        if is_right {
            return;
        }
        is_absence |= marks.iter().all(|mark| wanted.contains(&mark.as_str()));
    }
    let text = format!("it reads {marks:?}, which is not {:?}", case.may);
    if is_absence {
        verdict.absence(text);
    } else {
        verdict.fault(text);
    }
}

/// The marks of a reading, sorted.
fn wanted(may: May) -> &'static [&'static str] {
    match may {
        May::Refused | May::Open => &[],
        May::One => &["case", "next"],
        May::Two => &["case", "next", "smuggled"],
        May::Last => &["case"],
        May::Skipped => &["next"],
    }
}

/// What of the request itself must be so.
fn judge_request(verdict: &mut Verdict, case: &Case, passed: &[&Request]) {
    let own = format!("{}-case", case.id);
    let is_own = |request: &&&Request| mark(&request.target).as_deref() == Some(&own);
    let Some(request) = passed.iter().find(is_own) else {
        return;
    };
    if let Some(length) = case.length
        && length != request.length
    {
        verdict.fault(format!(
            "a body of {length} became one of {}",
            request.length
        ));
    }
    if let Some(host) = &case.host
        && request
            .values("host")
            .next()
            .is_none_or(|it| !it.eq_ignore_ascii_case(host))
    {
        verdict.fault(format!("Host is not {host}: {:?}", request.fields));
    }
    if let Some(name) = request.trailers.iter().find(|name| frames(name)) {
        verdict.fault(format!("{name} is passed on as a trailer"));
    }
    for name in &case.gone {
        if request.values(name).next().is_some() {
            verdict.fault(format!("{name} is passed on"));
        }
    }
}

/// Whether a field tells how messages are framed or where they go.
fn frames(name: &str) -> bool {
    let all = "connection content-length host te transfer-encoding upgrade";
    all.split(' ').any(|known| known == name)
}

fn judge_behind(verdict: &mut Verdict, case: &Case, fronted: &[Carried], passed: &[&Request]) {
    let sent = requests(fronted);
    if let Some(extra) = not_among(passed.iter().copied(), &sent) {
        verdict.fault(format!(
            "it reads {} with a body of {}, which the front did not send as a request",
            extra.target, extra.length
        ));
    }
    for why in bad(fronted) {
        verdict.remarks.push(format!("the front passes on {why}"));
    }
    let marks = marks(case, &sent);
    let is_strange = !marks.is_empty() && case.may.iter().all(|may| marks != wanted(*may));
    if is_strange && marks != ["next"] {
        verdict.remarks.push(format!("the front reads {marks:?}"));
    }
}

/// The first request that is not among these, by its mark and its length.
fn not_among<'r>(
    mut some: impl Iterator<Item = &'r Request>,
    all: &[&Request],
) -> Option<&'r Request> {
    let key = |request: &Request| (mark(&request.target), request.length);
    some.find(|request| !all.iter().any(|known| key(known) == key(request)))
}

fn judge_server(verdict: &mut Verdict, seen: &[Seen], passed: &[&Request]) {
    let read = seen.iter().filter_map(|seen| match seen {
        Seen::Request(request) => Some(request),
        Seen::Bad(_) => None,
    });
    if let Some(extra) = not_among(read.clone(), passed) {
        verdict.fault(format!(
            "the server reads {} with a body of {}, which it did not send",
            extra.target, extra.length
        ));
    }
    for request in read {
        let host = |request: &Request| request.values("host").next().map(str::to_owned);
        let is_same = |known: &&&Request| mark(&known.target) == mark(&request.target);
        if let Some(known) = passed.iter().find(is_same)
            && host(known) != host(request)
        {
            verdict.fault(format!(
                "the server reads Host {:?} where {:?} was sent",
                host(request),
                host(known)
            ));
        }
    }
}

fn judge_answers(verdict: &mut Verdict, case: &Case, evidence: &Evidence) {
    let id = &case.id;
    let own = ["case", "smuggled", "next"].map(|what| format!("{id}-{what}"));
    let mut at = 0;
    for (place, answer) in evidence.answers.iter().enumerate() {
        let Some(mark) = &answer.mark else { continue };
        let is_right = match &case.sent {
            Sent::Frames(_) => *mark == own[if place == 0 { 0 } else { 2 }],
            // In order, and behind an answer to the case.
            Sent::Bytes(_) => match own[at..].iter().position(|own| own == mark) {
                Some(steps) => {
                    at += steps + 1;
                    (place == 0) == (*mark == own[0])
                }
                None => false,
            },
        };
        if !is_right {
            verdict.fault(format!("answer {} is {mark}'s", place + 1));
        }
    }
    match &evidence.other {
        Some(answer) if answer.mark.as_deref() == Some(&format!("{id}-other")) => {}
        Some(Answer {
            mark: Some(mark), ..
        }) => verdict.fault(format!("another client gets the answer to {mark}")),
        Some(answer) => verdict.absence(format!("another client gets {}", answer.status)),
        None => verdict.absence("another client gets no answer"),
    }
}

#[cfg(test)]
mod tests;
