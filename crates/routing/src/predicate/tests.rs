//! Conditions on requests, one subject and one test after another.

use super::*;

/// A request that answers everything.
#[derive(Default)]
struct Request {
    headers: Vec<(&'static str, &'static str)>,
    claims: Vec<&'static str>,
    peer: Option<IpAddr>,
}

impl RequestView for Request {
    fn host(&self) -> &str {
        "Shop.Example:8080"
    }
    fn path(&self) -> &str {
        "/a/b"
    }
    fn header(&self, name: &str) -> Option<&[u8]> {
        let mut named = self.headers.iter().filter(|(key, _)| *key == name);
        named.next().map(|(_, value)| value.as_bytes())
    }
    fn each_value(&self, name: &str, each: &mut dyn FnMut(&[u8])) {
        let named = self.headers.iter().filter(|(key, _)| *key == name);
        named.for_each(|(_, value)| each(value.as_bytes()));
    }
    fn method(&self) -> &str {
        "GET"
    }
    fn query(&self) -> &str {
        "q=x%20y&n=7"
    }
    fn scheme(&self) -> &str {
        "https"
    }
    fn peer(&self) -> Option<IpAddr> {
        self.peer
    }
    fn port(&self) -> Option<u16> {
        Some(8443)
    }
    fn destination(&self) -> Option<IpAddr> {
        Some([10, 9, 8, 7].into())
    }
    fn server_name(&self) -> Option<&str> {
        Some("sni.example")
    }
    fn namespace(&self) -> Option<&str> {
        Some("shop")
    }
    fn claims(&self, path: &[Arc<str>]) -> Vec<Cow<'_, str>> {
        let is_role = path.iter().map(|part| &**part).eq(["realm", "roles"]);
        let values = self.claims.iter().filter(|_| is_role);
        values.map(|value| Cow::Borrowed(*value)).collect()
    }
}

fn predicate(subject: Subject, test: Test) -> Predicate {
    Predicate {
        subject,
        test,
        negate: false,
        missing_is_empty: false,
    }
}

fn text(how: TextTest, value: &str) -> Test {
    Test::Text {
        how,
        value: value.into(),
        ignore_case: false,
    }
}

#[track_caller]
fn check(request: &Request, predicate: &Predicate, expected: bool) {
    let held = CompiledPredicate::new(predicate).holds(request);
    assert_eq!(held, expected, "{predicate:?}");
    let negated = Predicate {
        negate: true,
        ..predicate.clone()
    };
    let held = CompiledPredicate::new(&negated).holds(request);
    assert_eq!(held, !expected, "{negated:?}");
}

#[test]
fn every_part_of_a_request_can_be_asked_for() {
    let request = Request {
        headers: vec![
            ("x-a", "1"),
            ("x-a", "2"),
            ("cookie", "other=; session=\"abc\""),
            ("cookie", "second=d"),
        ],
        claims: vec!["dev", "admin"],
        peer: "10.1.2.3".parse().ok(),
    };
    let is = |subject, value: &str| predicate(subject, text(TextTest::Exact, value));
    for (subject, value) in [
        (Subject::Path, "/a/b"),
        (Subject::Method, "GET"),
        (Subject::Scheme, "https"),
        (Subject::Host, "shop.example"),
        (Subject::Authority, "Shop.Example:8080"),
        (Subject::Header("x-a".into()), "1, 2"),
        (Subject::Query("q".into()), "x y"),
        (Subject::Cookie("session".into()), "abc"),
        (Subject::Cookie("second".into()), "d"),
        (Subject::Cookie("other".into()), ""),
        (Subject::Peer, "10.1.2.3"),
        (Subject::Client, "10.1.2.3"),
        (Subject::Port, "8443"),
        (Subject::Destination, "10.9.8.7"),
        (Subject::ServerName, "sni.example"),
        (Subject::Namespace, "shop"),
        (
            Subject::Claim(["realm".into(), "roles".into()].into()),
            "admin",
        ),
    ] {
        check(&request, &is(subject.clone(), value), true);
        check(&request, &is(subject, "something else"), false);
    }
}

#[test]
fn every_test_holds_for_what_it_says_only() {
    let request = Request {
        headers: vec![("x", "Hello/World"), ("n", "42"), ("ip", "192.168.1.9")],
        peer: "fd00::5".parse().ok(),
        ..Request::default()
    };
    let header = |name: &str, test| predicate(Subject::Header(name.into()), test);
    use TextTest::{Contains, ElementPrefix, Exact, Prefix, Regex, Suffix};
    for (how, holding, missing) in [
        (Exact, "Hello/World", "Hello"),
        (Prefix, "Hel", "World"),
        (ElementPrefix, "Hello", "Hel"),
        (ElementPrefix, "Hello/", "World"),
        (Suffix, "ld", "Hello"),
        (Contains, "o/W", "oW"),
        (Regex, "H.*d", "H.*l"),
        (Regex, "a|Hello.World", "Hello|b"),
    ] {
        check(&request, &header("x", text(how, holding)), true);
        check(&request, &header("x", text(how, missing)), false);
        let folded = |value: &str| Test::Text {
            how,
            value: value.to_uppercase().into(),
            ignore_case: true,
        };
        // Case classes of expressions are their own: upper case would change their meaning.
        if how != Regex {
            check(&request, &header("x", folded(holding)), true);
            check(&request, &header("x", folded(missing)), false);
        }
    }
    let networks = |text: &str| Test::Network([Network::parse(text).expect("a network")].into());
    check(&request, &header("ip", networks("192.168.0.0/16")), true);
    check(&request, &header("ip", networks("10.0.0.0/8")), false);
    check(&request, &header("x", networks("0.0.0.0/0")), false);
    check(
        &request,
        &predicate(Subject::Peer, networks("fd00::/8")),
        true,
    );
    check(&request, &predicate(Subject::Peer, networks("::1")), false);
    let range = |min, end| Test::Range { min, end };
    check(&request, &header("n", range(42, 43)), true);
    check(&request, &header("n", range(0, 42)), false);
    check(&request, &header("x", range(0, 100)), false);
    let any = Test::In(["41".into(), "42".into()].into());
    check(&request, &header("n", any.clone()), true);
    check(&request, &header("x", any), false);
    check(&request, &header("x", Test::Present), true);
    check(&request, &header("y", Test::Present), false);
}

#[test]
fn what_is_missing_is_empty_only_if_that_is_said() {
    let request = Request::default();
    let mut empty = predicate(Subject::Header("y".into()), text(TextTest::Exact, ""));
    check(&request, &empty, false);
    empty.missing_is_empty = true;
    check(&request, &empty, true);
}

#[test]
fn a_broken_expression_matches_nothing() {
    let request = Request::default();
    check(
        &request,
        &predicate(Subject::Path, text(TextTest::Regex, "(")),
        false,
    );
}

#[test]
fn a_route_cannot_ask_who_the_client_is_not_even_in_the_negative() {
    let request = Request {
        claims: vec!["admin"],
        ..Request::default()
    };
    let path: Arc<[Arc<str>]> = ["realm".into(), "roles".into()].into();
    for negate in [false, true] {
        for subject in [
            Subject::Claim(Arc::clone(&path)),
            Subject::Principal,
            Subject::RequestPrincipal,
        ] {
            let one = Predicate {
                negate,
                ..predicate(subject, Test::Present)
            };
            assert!(!Predicates::of_route(&[one]).hold(&request));
        }
    }
}
