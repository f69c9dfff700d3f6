//! Golden cases, the rules of the dialect's documentation against compiled routes, properties.

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::testing::{self, Get};

const CASES: &str = "golden/apisix";

#[test]
fn each_golden_case_translates_as_recorded() {
    testing::golden(CASES, 40);
}

fn route(name: &str, rules: &Value) -> Value {
    let mut rules = rules.clone();
    for rule in rules.as_array_mut().into_iter().flatten() {
        rule["backends"] = json!([{"serviceName": "web", "servicePort": 80}]);
    }
    json!({
        "apiVersion": "apisix.apache.org/v2", "kind": "ApisixRoute",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"http": rules},
    })
}

#[test]
fn the_host_decides_then_an_exact_path_then_the_longest_prefix_then_the_priority() {
    let documents = [
        route(
            "a",
            &json!([
                {"match": {"paths": ["/*"]}},
                {"match": {"paths": ["/x*", "/xy/z"]}},
                {"match": {"paths": ["/xyz*"]}, "priority": -5},
                {"match": {"paths": ["/same"]}},
                {"match": {"paths": ["/same"]}, "priority": 7},
            ]),
        ),
        route(
            "b",
            &json!([
                {"match": {"paths": ["/x*"], "hosts": ["a.example"]}},
                {"match": {"paths": ["/only", "/same*"], "hosts": ["*.example"]}},
            ]),
        ),
    ];
    let snapshot = testing::snapshot(&documents);
    let check = |host: &str, path: &str, expected: &str| {
        let found = testing::selected(&snapshot, Get(host, path));
        assert_eq!(found, expected, "{host}{path}");
    };
    check("any", "/", "a spec.http[0]");
    check("any", "/x", "a spec.http[1]");
    check("any", "/xy/z", "a spec.http[1]");
    check("any", "/xyz/q", "a spec.http[2]");
    check("any", "/same", "a spec.http[4]");
    check("any", "/same/", "a spec.http[0]");
    // A host comes before the length of the path, and is fallen through.
    check("a.example", "/xyz", "b spec.http[0]");
    check("a.example", "/only", "b spec.http[1]");
    check("a.example", "/other", "a spec.http[0]");
    check("b.c.example", "/same", "b spec.http[1]");
    check("b.c.example", "/xyz", "a spec.http[2]");
    check("example", "/only", "a spec.http[0]");
}

#[test]
fn what_a_path_says_without_an_asterisk_is_exact() {
    let documents = [route("a", &json!([{"match": {"paths": ["/left"]}}]))];
    let snapshot = testing::snapshot(&documents);
    assert_eq!(
        testing::selected(&snapshot, Get("h", "/left")),
        "a spec.http[0]"
    );
    assert_eq!(testing::selected(&snapshot, Get("h", "/left/x")), "");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn no_object_makes_a_translation_panic(
        specs in prop::collection::vec(testing::any_json(testing::vocabulary(CASES)), 7),
    ) {
        let objects = super::KINDS.iter().zip(specs).map(|(kind, spec)| json!({
            "apiVersion": "apisix.apache.org/v2", "kind": kind.kind,
            "metadata": {"name": "web", "namespace": "default"},
            "spec": spec,
        }));
        testing::translate_all(&objects.collect::<Vec<_>>());
    }

    #[test]
    fn a_spoiled_object_is_translated_alike_in_every_order(
        case in any::<prop::sample::Index>(),
        document in any::<prop::sample::Index>(),
        at in any::<usize>(),
        with in testing::any_json(testing::vocabulary(CASES)),
    ) {
        let inputs = testing::inputs(CASES);
        let mut documents = case.get(&inputs).clone();
        let at_document = document.index(documents.len());
        if matches!(documents[at_document]["kind"].as_str(), Some("Service" | "Secret" | "IngressClass")) {
            return Ok(());
        }
        let spec = testing::mutated(&documents[at_document]["spec"], at, &with);
        documents[at_document]["spec"] = spec;
        let records = testing::translate_all(&documents);
        documents.rotate_left(1);
        prop_assert_eq!(&records, &testing::translate_all(&documents));
        documents.reverse();
        prop_assert_eq!(&records, &testing::translate_all(&documents));
    }
}

#[test]
fn each_golden_case_of_other_routes_translates_as_recorded() {
    let kinds = [&super::HTTP_ROUTE_POLICY, &super::GATEWAY_PLUGIN_CONFIG];
    testing::routes::golden("golden/apisix_routes", &kinds);
}
