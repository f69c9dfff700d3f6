//! Golden cases, the order of routes against the compiled ones, and that no input and no order of
//! inputs does harm.

use proptest::prelude::*;
use routing::Snapshot;
use routing::model::Model;
use serde_json::json;

use super::*;
use crate::objects::Objects;
use crate::testing::{self, Records, documents, translate_only as translate};

#[test]
fn each_golden_case_translates_as_recorded() {
    testkit::golden::each("golden/gloo", |case| {
        let records = translate(&documents(&case.read("input.yaml")));
        case.check("records.yaml", &records);
    });
}

#[test]
fn each_golden_case_of_other_routes_translates_as_recorded() {
    let kinds = [&ROUTE_OPTION, &VIRTUAL_HOST_OPTION];
    testing::routes::golden("golden/gloo_routes", &kinds);
}

fn snapshot(records: &Records) -> Snapshot {
    let mut model = Model::default();
    for (id, route) in &records.routes {
        let mut route = (**route).clone();
        // Which scheme a request has is not what these tests are about.
        for matched in &mut route.matches {
            matched
                .other
                .retain(|it| it.subject != routing::model::Subject::Scheme);
        }
        model.routes.insert(id.clone(), Arc::new(route));
    }
    routing::compile(&model, None).0
}

fn taken(snapshot: &Snapshot, path: &str) -> String {
    testing::selected(snapshot, testing::Get("shop.example", path))
}

#[test]
fn routes_match_in_the_order_in_which_they_are_written() {
    let respond = |prefix: &str| json!({"matchers": [{"prefix": prefix}], "directResponseAction": {"status": 200}});
    let routes = json!([respond("/a"), respond("/a/b"), respond("/")]);
    let records = translate(&[json!({
        "apiVersion": "gateway.solo.io/v1", "kind": "VirtualService",
        "metadata": {"name": "vs", "namespace": "default"},
        "spec": {"virtualHost": {"domains": ["shop.example"], "routes": routes}},
    })]);
    let snapshot = snapshot(&records);
    assert_eq!(taken(&snapshot, "/a/b"), "vs spec.virtualHost.routes[0]");
    assert_eq!(taken(&snapshot, "/ab"), "vs spec.virtualHost.routes[0]");
    assert_eq!(taken(&snapshot, "/b"), "vs spec.virtualHost.routes[2]");
}

#[test]
fn route_tables_come_by_weight_and_equal_ones_are_merged_by_path() {
    let input = include_str!("../../golden/gloo/weights-of-tables/input.yaml");
    let snapshot = snapshot(&translate(&documents(input)));
    assert_eq!(taken(&snapshot, "/a/first"), "first spec.routes[0]");
    assert_eq!(taken(&snapshot, "/a/x/y"), "longer spec.routes[0]");
    assert_eq!(taken(&snapshot, "/a/x"), "shorter spec.routes[0]");
}

/// Words that lead into the translators' branches.
fn any_text() -> impl Strategy<Value = String> {
    let known = [
        "",
        "/",
        "/a",
        "root",
        "child",
        "default",
        "web",
        "shop.example",
        "*",
        "10s",
        "5xx",
        "cert",
        "default-web-80",
        "FOUND",
        "V1",
        "Equals",
        "%REQ(x)%",
        "(",
        "::",
        "h2",
    ];
    prop_oneof![
        8 => proptest::sample::select(known.to_vec()).prop_map(str::to_owned),
        1 => any::<String>(),
    ]
}

const KEYS: &str = "virtualHost domains routes options sslConfig secretRef name namespace matchers \
    prefix exact regex headers value invertMatch methods routeAction single multi destinations \
    destination weight upstream kube ref port upstreamGroup redirectAction prefixRewrite \
    responseCode directResponseAction status delegateAction selector labels expressions key \
    operator values inheritableMatchers prefixRewrite timeout retries retryOn cors allowOrigin \
    headerManipulation requestHeadersToAdd header faults abort percentage httpStatus shadowing \
    lbHash hashPolicies cookie ttl bindPort ssl httpGateway virtualServices serviceName \
    servicePort static hosts addr loadBalancerConfig ringHash healthChecks httpHealthCheck \
    outlierDetection maxEjectionPercent extauth bufferPerRoute buffer maxRequestBytes spec";

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (0..1000i64).prop_map(Value::from),
        any_text().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 40, 5, |inner| {
        let keys: Vec<&str> = KEYS.split_whitespace().collect();
        let key = proptest::sample::select(keys);
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            proptest::collection::vec((key, inner), 0..5).prop_map(|pairs| {
                let pairs = pairs
                    .into_iter()
                    .map(|(key, value)| (key.to_owned(), value));
                Value::Object(pairs.collect())
            }),
        ]
    })
}

proptest! {
    #[test]
    fn no_object_makes_a_translation_panic(spec in any_json(), part in any_json(), kind in 0..KINDS.len()) {
        let mut objects = Objects::default();
        let object = |kind: &'static Kind, name: &str, spec: &Value| {
            let metadata = json!({"name": name, "namespace": "default"});
            Object::new(kind, json!({"metadata": metadata, "spec": spec})).expect("an object")
        };
        let all = [
            object(&VIRTUAL_SERVICE, "root", &spec),
            object(KINDS[kind], "child", &part),
        ];
        for one in &all {
            objects.put_foreign(one.kind, &one.name, Some(Arc::new(one.clone())));
        }
        for one in &all {
            let translation = one.translate(&objects);
            prop_assert!(translation.status.is_some());
        }
    }

    #[test]
    fn the_order_in_which_objects_arrive_changes_nothing(
        documents in proptest::sample::select(testing::inputs("golden/gloo")),
        seed in any::<prop::sample::Index>(),
    ) {
        let mut shuffled = documents.clone();
        let at = seed.index(documents.len());
        shuffled.rotate_left(at);
        shuffled.reverse();
        prop_assert_eq!(translate(&documents), translate(&shuffled));
    }
}
