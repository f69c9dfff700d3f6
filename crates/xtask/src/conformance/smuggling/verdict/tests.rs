//! Each kind of fault is found, and what is none is not.

use super::super::message;
use super::*;

fn case(may: May) -> Case {
    Case {
        id: "c001".into(),
        name: "n".into(),
        class: "c".into(),
        sent: Sent::Bytes(Vec::new()),
        may: vec![may],
        length: None,
        host: None,
        gone: Vec::new(),
    }
}

fn carried(requests: &[&str]) -> Vec<Carried> {
    let bytes: String = requests.iter().map(|mark| request(mark, "")).collect();
    vec![message::all(bytes.as_bytes())]
}

fn request(mark: &str, body: &str) -> String {
    format!(
        "POST /c001-{mark} HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn answer(mark: &str) -> Answer {
    Answer {
        status: 200,
        mark: Some(format!("c001-{mark}")),
    }
}

fn evidence(requests: &[&str]) -> Evidence {
    let passed = carried(requests);
    let seen = passed.iter().flat_map(|it| it.requests.clone());
    Evidence {
        answers: requests.iter().map(|mark| answer(mark)).collect(),
        other: Some(answer("other")),
        fronted: None,
        seen: seen.map(Seen::Request).collect(),
        passed,
    }
}

fn faults(case: &Case, evidence: &Evidence) -> Vec<String> {
    let faults = judge(case, evidence).faults;
    faults.into_iter().map(|fault| fault.text).collect()
}

#[test]
fn what_is_as_it_must_be_is_no_fault() {
    for (may, requests) in [
        (May::One, &["case", "next"][..]),
        (May::Two, &["case", "smuggled", "next"]),
        (May::Last, &["case"]),
        (May::Refused, &[]),
    ] {
        assert_eq!(faults(&case(may), &evidence(requests)), [""; 0], "{may:?}");
    }
}

#[test]
fn another_reading_is_a_fault() {
    let check = |may, requests: &[&str], is_absence: bool| {
        let found = judge(&case(may), &evidence(requests)).faults;
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].is_absence, is_absence);
    };
    check(May::Refused, &["case", "next"], false);
    check(May::One, &["case", "smuggled", "next"], false);
    check(May::One, &["case"], true);
    check(May::Two, &["case", "next"], true);
}

#[test]
fn what_can_be_read_in_two_ways_must_not_be_passed_on() {
    let mut given = evidence(&["case", "next"]);
    given.passed = vec![message::all(
        b"GET /c001-case HTTP/1.1\r\nHost: h\r\nX: y\n\r\n\r\n",
    )];
    given.seen.clear();
    let found = faults(&case(May::Refused), &given);
    assert_eq!(found, ["it passes on an LF without CR"]);
}

#[test]
fn a_server_that_reads_what_was_not_sent_is_found() {
    let mut given = evidence(&["case", "next"]);
    let hidden = carried(&["smuggled"])[0].requests[0].clone();
    given.seen.push(Seen::Request(hidden));
    assert_eq!(faults(&case(May::One), &given).len(), 1);
    // As is one that reads another body.
    let mut given = evidence(&["case", "next"]);
    let longer = message::all(request("case", "abc").as_bytes());
    given.seen[0] = Seen::Request(longer.requests[0].clone());
    assert_eq!(faults(&case(May::One), &given).len(), 1);
}

#[test]
fn behind_a_front_only_what_the_front_sent_is_a_request() {
    let mut given = evidence(&["case", "smuggled", "next"]);
    given.fronted = Some(carried(&["case", "smuggled", "next"]));
    let verdict = judge(&case(May::One), &given);
    assert_eq!((verdict.faults.len(), verdict.remarks.len()), (0, 1));
    let body = request("smuggled", "");
    let hidden = format!("{}{}", request("case", &body), request("next", ""));
    given.fronted = Some(vec![message::all(hidden.as_bytes())]);
    assert_eq!(faults(&case(May::One), &given).len(), 1);
}

#[test]
fn an_answer_that_is_another_request_s_is_found() {
    let mut given = evidence(&["case", "next"]);
    given.other = Some(answer("next"));
    assert_eq!(
        faults(&case(May::One), &given),
        ["another client gets the answer to c001-next"]
    );
    let mut given = evidence(&["case", "next"]);
    given.answers = vec![answer("smuggled"), answer("case")];
    assert_eq!(faults(&case(May::One), &given).len(), 2);
}

#[test]
fn what_a_case_says_of_its_request_is_looked_at() {
    let wanted = Case {
        length: Some(3),
        host: Some("other".into()),
        gone: vec!["content-length".into()],
        ..case(May::One)
    };
    assert_eq!(faults(&wanted, &evidence(&["case", "next"])).len(), 3);
}
