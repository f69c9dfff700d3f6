//! Golden cases, the published order of routes against the compiled ones, and that no input and no
//! order of inputs does harm.

use std::collections::BTreeMap;

use proptest::prelude::*;
use routing::model::tls::{Certificate, PrivateKey};
use routing::model::{HostPattern, Model, Visibility};
use routing::{RequestView, Snapshot};
use serde_json::{Value, json};

use super::*;
use crate::objects::{Claimant, Name, Objects};
use crate::testing::{self, Records, documents, translate_only as translate};

#[test]
fn each_golden_case_translates_as_recorded() {
    testkit::golden::each("golden/contour", |case| {
        let records = translate(&documents(&case.read("input.yaml")));
        case.check("records.yaml", &records);
    });
}

struct Request<'a>(&'a str, &'a str, &'a str, Option<(&'a str, &'a str)>);

impl RequestView for Request<'_> {
    fn method(&self) -> &str {
        self.0
    }
    fn host(&self) -> &str {
        self.1
    }
    fn path(&self) -> &str {
        self.2
    }
    fn header(&self, name: &str) -> Option<&[u8]> {
        let (own, value) = self.3?;
        (own == name).then_some(value.as_bytes())
    }
    fn query(&self) -> &str {
        ""
    }
}

fn snapshot(records: &Records) -> Snapshot {
    let model = Model {
        routes: records.routes.clone(),
        ..Model::default()
    };
    routing::compile(&model, None).0
}

fn proxy(routes: Value) -> Value {
    json!({
        "apiVersion": "projectcontour.io/v1", "kind": "HTTPProxy",
        "metadata": {"name": "root", "namespace": "default"},
        "spec": {"virtualhost": {"fqdn": "shop.example"}, "routes": routes},
    })
}

fn answer(conditions: Value) -> Value {
    json!({"conditions": conditions, "directResponsePolicy": {"statusCode": 200}})
}

#[test]
fn the_more_specific_route_is_taken_whatever_the_order() {
    let routes = [
        answer(json!([{"prefix": "/"}])),
        answer(json!([{"prefix": "/blog"}])),
        answer(json!([{"regex": "/b.*"}])),
        answer(json!([{"exact": "/blog"}])),
        answer(json!([{"prefix": "/a"}, {"header": {"name": "x-a", "exact": "1"}}])),
        answer(json!([{"prefix": "/a"}, {"header": {"name": ":method", "exact": "POST"}}])),
        answer(json!([{"prefix": "/a"}])),
    ];
    for turn in 0..routes.len() {
        let mut turned: Vec<_> = routes.iter().cloned().enumerate().collect();
        turned.rotate_left(turn);
        let list: Vec<_> = turned.iter().map(|(_, route)| route.clone()).collect();
        let snapshot = snapshot(&translate(&[proxy(list.into())]));
        let check = |method, path, header, expected: usize| {
            let request = Request(method, "shop.example:8080", path, header);
            let found = snapshot.select(Visibility::External, &request).expect(path);
            let at = turned
                .iter()
                .position(|(own, _)| *own == expected)
                .expect("there");
            let field = format!("spec.routes[{at}]");
            assert_eq!(&*found.origin().field, field, "{method} {path}");
        };
        check("GET", "/", None, 0);
        check("GET", "/blog", None, 3);
        // A regular expression comes before every prefix.
        check("GET", "/blogger", None, 2);
        check("GET", "/ax", None, 6);
        check("GET", "/a", Some(("x-a", "1")), 4);
        check("POST", "/a", Some(("x-a", "1")), 5);
    }
}

#[test]
fn a_prefix_is_a_text() {
    let routes = json!([answer(json!([{"prefix": "/blog"}]))]);
    let snapshot = snapshot(&translate(&[proxy(routes)]));
    let get = |path| {
        snapshot.select(
            Visibility::External,
            &Request("GET", "shop.example", path, None),
        )
    };
    assert!(get("/blogger").is_some());
    assert!(get("/blo").is_none());
}

#[test]
fn a_replaced_prefix_keeps_its_slashes() {
    let check = |prefix: &str, with: &str, path: &str, expected: &str| {
        let route = json!({
            "conditions": [{"prefix": prefix}],
            "pathRewritePolicy": {"replacePrefix": [{"replacement": with}]},
            "directResponsePolicy": {"statusCode": 200},
        });
        let snapshot = snapshot(&translate(&[proxy(json!([route]))]));
        let request = Request("GET", "shop.example", path, None);
        let found = snapshot
            .select(Visibility::External, &request)
            .expect("a route");
        let edit = found
            .source()
            .filters
            .rewrite_path
            .as_ref()
            .expect("an edit");
        assert_eq!(edit.apply(path), expected, "{prefix} {with} {path}");
    };
    check("/foo", "/", "/foo/v1", "/v1");
    check("/foo", "/", "/foo", "/");
    check("/foo/", "/bar", "/foo/type", "/bar/type");
    check("/foo/", "/bar", "/foo", "/bar");
    check("/foo", "/bar/", "/foosball", "/barsball");
    check("/foo/", "/bar/", "/foo/type", "/bar/type");
    check("/", "/bar", "/x", "/barx");
}

#[test]
fn a_host_of_a_knative_ingress_is_only_for_what_was_made_for_it() {
    let pattern = HostPattern::Exact("shop.example".into());
    let claimant = Claimant {
        created: 0,
        is_newcomer: false,
        owner: Name::new("default", "hello"),
    };
    let mut objects = Objects::default();
    objects.claim(&claimant, [&pattern]);
    let mut document = proxy(json!([answer(json!([]))]));
    let stranger = Object::new(&HTTP_PROXY, document.clone()).expect("an object");
    assert!(root::translate(&stranger, &objects).routes.is_empty());
    document["metadata"]["labels"] = json!({"contour.networking.knative.dev/parent": "hello"});
    let own = Object::new(&HTTP_PROXY, document).expect("an object");
    assert_eq!(root::translate(&own, &objects).routes.len(), 1);
}

#[test]
fn includes_that_multiply_are_followed_so_often_and_no_more() {
    let object = |name: &str, spec: Value| {
        json!({
            "apiVersion": "projectcontour.io/v1", "kind": "HTTPProxy",
            "metadata": {"name": name, "namespace": "default"}, "spec": spec,
        })
    };
    let twice = |next: &str| {
        let include = |prefix| json!({"name": next, "conditions": [{"prefix": prefix}]});
        json!([include("/a"), include("/b")])
    };
    let fqdn = json!({"fqdn": "shop.example"});
    let mut documents = vec![object(
        "root",
        json!({"virtualhost": fqdn, "includes": twice("c0")}),
    )];
    for at in 0..25 {
        let next = format!("c{}", at + 1);
        documents.push(object(&format!("c{at}"), json!({"includes": twice(&next)})));
    }
    documents.push(object("c25", json!({"routes": [answer(json!([]))]})));
    let records = translate(&documents[..1]);
    assert_eq!(records.routes.len(), 2); // 502 for what is missing.
    let mut objects = Objects::default();
    for document in &documents {
        let object = Object::new(&HTTP_PROXY, document.clone()).expect("an object");
        let name = object.name.clone();
        objects.put_foreign(&HTTP_PROXY, &name, Some(Arc::new(object)));
    }
    let object = Object::new(&HTTP_PROXY, documents[0].clone()).expect("an object");
    assert!(root::translate(&object, &objects).routes.len() <= 10_000);
}

fn certificate() -> Arc<Certificate> {
    Arc::new(Certificate {
        name: "default/cert".into(),
        chain: vec![Box::from(*b"chain")],
        key: PrivateKey::new(Box::from(*b"key")),
        staple: None,
    })
}

/// Words that lead into the translators' branches.
fn any_text() -> impl Strategy<Value = String> {
    let known = [
        "",
        "/",
        "/a",
        "//",
        "root",
        "child",
        "default",
        "web",
        "shop.example",
        "*.example",
        "10s",
        "infinity",
        "5xx",
        "cert",
        "other/cert",
        "%REQ(x)%",
        "100%",
        "Cookie",
        "RequestHash",
        "h2",
        "tls",
        "contour-internal",
        "second",
        "*",
        "10.0.0.0/8",
        "Peer",
        "http",
        "https://x/y",
        "(",
    ];
    prop_oneof![
        8 => proptest::sample::select(known.to_vec()).prop_map(str::to_owned),
        1 => any::<String>(),
    ]
}

const KEYS: &str = "virtualhost fqdn tls secretName passthrough clientValidation caSecret \
    authorization extensionRef name namespace corsPolicy allowOrigin allowMethods rateLimitPolicy \
    local requests unit jwtProviders remoteJWKS uri localJWKS ipAllowPolicy cidr source routes \
    conditions prefix exact regex header present contains queryParameter services port weight \
    protocol mirror validation subjectName requestHeadersPolicy set remove value slowStartPolicy \
    window timeoutPolicy response idle retryPolicy count retryOn pathRewritePolicy replacePrefix \
    replacement requestRedirectPolicy path statusCode directResponsePolicy loadBalancerPolicy \
    strategy requestHashPolicies headerHashOptions includes tcpproxy include delegations \
    targetNamespaces healthCheckPolicy expectedStatuses start end match delegate httpproxy \
    cookieRewritePolicies pathRewrite domainRewrite secure sameSite";

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0..1000i64).prop_map(Value::from),
        any_text().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 5, |inner| {
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
    fn no_object_makes_a_translation_panic(spec in any_json(), child in any_json(), kind in 0..KINDS.len()) {
        let mut objects = Objects::default();
        let name = Name::new("default", "cert");
        objects.put_certificate(&name, Some(Ok(certificate())));
        let object = |kind: &'static Kind, name: &str, spec: &Value| {
            let metadata = json!({"name": name, "namespace": "default"});
            Object::new(kind, json!({"metadata": metadata, "spec": spec})).expect("an object")
        };
        let kind = KINDS[kind];
        for one in [object(kind, "root", &spec), object(kind, "child", &child)] {
            objects.put_foreign(kind, &one.name.clone(), Some(Arc::new(one)));
        }
        for one in [object(kind, "root", &spec), object(kind, "child", &child)] {
            let translation = one.translate(&objects);
            prop_assert!(translation.status.is_some());
        }
    }

    #[test]
    fn the_order_in_which_objects_arrive_changes_nothing(
        documents in proptest::sample::select(testing::inputs("golden/contour")),
        seed in any::<prop::sample::Index>(),
    ) {
        let mut shuffled = documents.clone();
        let at = seed.index(documents.len());
        shuffled.rotate_left(at);
        shuffled.reverse();
        prop_assert_eq!(translate(&documents), translate(&shuffled));
    }
}

/// Every type of error that Contour knows, and every condition of the status, is in some case.
#[test]
fn every_type_of_error_has_a_case() {
    let mut seen: BTreeMap<&str, bool> = status::kind::ALL.iter().map(|it| (*it, false)).collect();
    for documents in testing::inputs("golden/contour") {
        let records = translate(&documents);
        let text = serde_json::to_string(&records.statuses).expect("JSON");
        for (kind, is_seen) in &mut seen {
            *is_seen |= text.contains(&format!("\"type\":\"{kind}\""));
        }
    }
    let missing: Vec<_> = seen.iter().filter(|(_, is_seen)| !**is_seen).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
