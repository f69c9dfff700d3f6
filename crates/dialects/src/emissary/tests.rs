//! Golden cases, the rules of the dialect's documentation against compiled routes, properties.

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::GatewayPorts;
use crate::testing::{self, Get};

const CASES: &str = "golden/emissary";

#[test]
fn each_golden_case_translates_as_recorded() {
    testing::golden(CASES, 40);
}

fn mapping(name: &str, spec: &Value) -> Value {
    let mut spec = spec.clone();
    if let Some(spec) = spec.as_object_mut() {
        spec.entry("hostname").or_insert(json!("*"));
        spec.entry("service").or_insert(json!("web"));
    }
    json!({
        "apiVersion": "getambassador.io/v3alpha1", "kind": "Mapping",
        "metadata": {"name": name, "namespace": "default"},
        "spec": spec,
    })
}

fn host(name: &str, hostname: &str, spec: &Value) -> Value {
    let mut spec = spec.clone();
    spec["hostname"] = json!(hostname);
    json!({
        "apiVersion": "getambassador.io/v3alpha1", "kind": "Host",
        "metadata": {"name": name, "namespace": "default"},
        "spec": spec,
    })
}

fn check(documents: &[Value], requests: &[(&str, &str, &str)]) {
    let snapshot = testing::snapshot(documents);
    for (host, path, expected) in requests {
        let found = testing::selected(&snapshot, Get(host, path));
        let found = found.split(' ').next().unwrap_or_default();
        assert_eq!(found, *expected, "{host}{path}");
    }
}

#[test]
fn precedence_then_the_length_of_the_prefix_decide_across_hosts() {
    let documents = [
        mapping("root", &json!({"prefix": "/"})),
        mapping("short", &json!({"prefix": "/a", "hostname": "x.example"})),
        mapping("long", &json!({"prefix": "/a/long"})),
        mapping("first", &json!({"prefix": "/a/l", "precedence": 1})),
        mapping("exact", &json!({"prefix": "/only", "prefix_exact": true})),
        mapping(
            "regex",
            &json!({"prefix": "/r[0-9]+", "prefix_regex": true}),
        ),
    ];
    check(
        &documents,
        &[
            ("x.example", "/a", "short"),
            ("x.example", "/abc", "short"),
            // A longer prefix of a Mapping for all hosts comes before a host of its own.
            ("x.example", "/a/m", "short"),
            ("x.example", "/a/long", "first"),
            ("x.example", "/b", "root"),
            ("y.example", "/a", "root"),
            ("y.example", "/only", "exact"),
            ("y.example", "/only/", "root"),
            ("y.example", "/r17", "regex"),
            ("y.example", "/r", "root"),
        ],
    );
    let without = [&documents[..3], &documents[4..]].concat();
    check(&without, &[("x.example", "/a/long/x", "long")]);
}

#[test]
fn a_mapping_is_served_where_a_host_takes_it_and_nowhere_else() {
    let labeled = host(
        "labeled",
        "l.example",
        &json!({"mappingSelector": {"matchLabels": {"team": "a"}}}),
    );
    let mut of_team = mapping("team", &json!({"prefix": "/team"}));
    of_team["metadata"]["labels"] = json!({"team": "a"});
    let documents = [
        host("wide", "*.example", &json!({})),
        host("narrow", "n.example", &json!({})),
        labeled,
        of_team,
        mapping("all", &json!({"prefix": "/"})),
        mapping("own", &json!({"prefix": "/own", "hostname": "n.example"})),
        mapping("glob", &json!({"prefix": "/glob", "hostname": "n.*"})),
    ];
    check(
        &documents,
        &[
            ("n.example", "/own", "own"),
            ("n.example", "/x", "all"),
            ("n.example", "/glob", "glob"),
            ("m.example", "/own", "all"),
            ("l.example", "/team", "team"),
            ("l.example", "/x", ""),
            ("a.b.example", "/x", "all"),
            ("example", "/x", ""),
            ("n.other", "/x", ""),
        ],
    );
}

#[test]
fn a_change_of_one_mapping_does_not_cost_mappings_of_other_groups() {
    let documents = [
        mapping("one", &json!({"prefix": "/one"})),
        mapping("two", &json!({"prefix": "/two"})),
        mapping(
            "three",
            &json!({"prefix": "/three", "hostname": "x.example"}),
        ),
    ];
    let (mut objects, mut mappings) = testing::load(&documents);
    let reads = |at: usize| {
        let mapping = &mappings[at];
        super::mapping::translate(mapping, &objects).reads
    };
    let (one, three) = (reads(0), reads(2));
    let mut changed = mappings.remove(1);
    changed.body["spec"]["prefix"] = json!("/other");
    let name = changed.name.clone();
    let changes = objects.put_foreign(&super::MAPPING, &name, Some(changed.into()));
    assert!(!changes.is_empty());
    for change in &changes {
        assert!(
            !one.contains(change) && !three.contains(change),
            "{change:?}"
        );
    }
}

#[test]
fn weights_are_shared_between_mappings_as_percents() {
    let shares = |weights: &[Option<u32>]| {
        let mappings = weights.iter().enumerate().map(|(at, weight)| {
            let mut spec = json!({"prefix": "/"});
            if let Some(weight) = weight {
                spec["weight"] = json!(weight);
            }
            mapping(&format!("m{at}"), &spec)
        });
        let records = testing::translate_all(&mappings.collect::<Vec<_>>());
        let route = records.routes.into_values().next().expect("a route");
        let routing::model::Action::Forward(split) = &route.action else {
            panic!("{:?}", route.action);
        };
        let weights = split.arms().iter().map(|arm| u64::from(arm.weight));
        weights
            .map(|weight| weight * 10_000 / split.total())
            .collect::<Vec<_>>()
    };
    assert_eq!(shares(&[Some(20), None]), [2000, 8000]);
    assert_eq!(shares(&[None, None, None]), [3333, 3333, 3333]);
    assert_eq!(
        shares(&[Some(10), None, Some(30), None]),
        [1000, 3000, 3000, 3000]
    );
    assert_eq!(shares(&[Some(5)]), [10_000]);
    assert_eq!(shares(&[Some(100), None]), [10_000, 0]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn no_object_makes_a_translation_panic(
        specs in prop::collection::vec(testing::any_json(testing::vocabulary(CASES)), 14),
    ) {
        let objects = super::KINDS.iter().zip(specs).map(|(kind, spec)| json!({
            "apiVersion": "getambassador.io/v3alpha1", "kind": kind.kind,
            "metadata": {"name": "ambassador", "namespace": "default"},
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
        if documents[at_document]["kind"] == json!("Service") || documents[at_document]["kind"] == json!("Secret") {
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
fn what_is_told_of_the_proxy_protocol_is_what_the_gateway_does() {
    let told = |wanted: bool, has_preamble: bool| {
        let module = json!({
            "apiVersion": "getambassador.io/v3alpha1", "kind": "Module",
            "metadata": {"name": "ambassador", "namespace": "default"},
            "spec": {"config": {"use_proxy_proto": wanted}},
        });
        let (mut objects, all) = testing::load(&[module]);
        objects.set_gateway_ports(GatewayPorts {
            has_preamble,
            ..GatewayPorts::default()
        });
        let found = all.iter().flat_map(|it| it.translate(&objects).diagnostics);
        found.map(|it| it.message).collect::<String>()
    };
    assert_eq!(told(true, true), "");
    assert_eq!(told(false, false), "");
    assert!(told(true, false).contains("only if it is started with --proxy-protocol"));
    assert!(told(false, true).contains("is started with --proxy-protocol"));
}
