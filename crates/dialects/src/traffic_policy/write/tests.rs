//! What the golden policies say is written again as it was said.

use routing::model::{BackendPolicy, FilterSet, Filters};

use super::*;
use crate::objects::Name;
use crate::testing;

/// What a policy's sections put on a route that has nothing of its own.
fn filters(said: &Said) -> Filters {
    let mut filters = Filters::from(FilterSet {
        cors: said.cors.clone(),
        request_timeout: said.request_timeout,
        try_timeout: said.try_timeout,
        retry: said.retry.clone(),
        client: said.client.clone(),
        rewrite_path: said.edits.path.clone(),
        ..FilterSet::default()
    });
    let templates = said.edits.templates.clone().unwrap_or_default();
    filters.request_templates = templates.request;
    filters.response_templates = templates.response;
    let mut guards = said.guards.clone().all();
    let external = said.external.as_ref();
    guards.external = external.map(|it| Arc::new(it.settings.clone()));
    let limits = said.limits.iter();
    let limits = limits.map(|it| Arc::new(it.settings.clone()));
    guards.limit_services = limits.collect();
    filters.guards = (!guards.is_empty()).then(|| Arc::new(guards));
    filters
}

/// What is said, and whether all of it is right.
fn read_again(spec: &Value) -> (Said, bool) {
    let findings = Findings::default();
    let said = {
        let fields = Fields::new(spec, String::new(), &findings);
        read::read(&fields, "", "")
    };
    (said, findings.take().is_empty())
}

#[test]
fn every_section_of_the_golden_cases_is_written_as_it_was_said() {
    let auth = BackendRef {
        service: Name::new("default", "auth"),
        port: 80,
        http2: false,
        stream: None,
        variant: None,
    };
    let service = |_: &BackendId| Some(&auth);
    let place = Place {
        namespace: "default",
        service: &service,
        is_known: true,
    };
    testkit::golden::each("golden/traffic_policy", |case| {
        for policy in testing::documents(&case.read("input.yaml")) {
            if policy["kind"] != "TrafficPolicy" {
                continue;
            }
            let (said, is_right) = read_again(&policy["spec"]);
            if !is_right {
                continue;
            }
            let answer = said.edits.answer.clone();
            let before = filters(&said);
            let written = of_route(&before, answer.as_ref(), &place);
            assert_eq!(written.missing, [], "{}", case.name());
            let (again, _) = read_again(&Value::Object(written.spec));
            assert_eq!(plain(&filters(&again)), plain(&before), "{}", case.name());
            let timeouts = said.backend.timeouts;
            let endpoints = said.backend.merged();
            let written = of_backend(&endpoints, timeouts.as_ref(), true);
            assert_eq!(written.missing, [], "{}", case.name());
            let (again, _) = read_again(&Value::Object(written.spec));
            assert_eq!(again.backend.timeouts, timeouts, "{}", case.name());
            assert_eq!(again.backend.merged(), endpoints, "{}", case.name());
        }
    });
}

#[test]
fn what_a_section_cannot_say_is_missed_and_not_written_in_part() {
    let place = Place {
        namespace: "default",
        service: &|_| None,
        is_known: true,
    };
    let filters = Filters::from(FilterSet {
        try_timeout: Some(Duration::ZERO),
        request_timeout: Some(Duration::from_secs(3)),
        ..FilterSet::default()
    });
    let written = of_route(&filters, None, &place);
    assert!(written.spec.is_empty(), "{:?}", written.spec);
    let parts: Vec<_> = written.missing.iter().map(|it| it.part).collect();
    assert_eq!(parts, ["filters.timeouts"]);
}

#[test]
fn nothing_is_written_for_other_gateways() {
    let policy = BackendPolicy {
        connect_timeout: Some(Duration::from_secs(1)),
        ..BackendPolicy::default()
    };
    let written = of_backend(&policy, None, false);
    assert!(written.spec.is_empty());
    assert_eq!(written.missing[0].why, "Gateway API has no place for it");
}
