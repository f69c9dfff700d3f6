//! Golden cases: objects of several kinds in, records and statuses out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::gateway::v1::{Gateway, GatewayClass, GrpcRoute, HttpRoute, TcpRoute, TlsRoute, UdpRoute};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use routing::model::tls::TlsAction;
use routing::model::{Backend, Bind, Model};
use serde::Serialize;
use serde_json::Value;

mod extra;

use super::*;
use crate::backend;
use crate::objects::Objects;

#[derive(Default)]
struct Input {
    objects: Objects,
    classes: Vec<GatewayClass>,
    gateways: Vec<Gateway>,
    http_routes: Vec<HttpRoute>,
    grpc_routes: Vec<GrpcRoute>,
    extra: extra::Input,
    tls_routes: Vec<TlsRoute>,
    tcp_routes: Vec<TcpRoute>,
    udp_routes: Vec<UdpRoute>,
}

#[derive(Debug, Default, PartialEq, Serialize)]
struct Records {
    binds: Vec<Arc<Bind>>,
    routes: BTreeMap<RouteId, Arc<Route>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    tls: BTreeMap<TlsId, Arc<TlsHost>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    streams: BTreeMap<StreamId, Arc<Stream>>,
    backends: Vec<Arc<Backend>>,
}

#[derive(Debug, Default, PartialEq)]
struct Output {
    records: Records,
    /// How HTTPS ends is the same everywhere, and not recorded.
    https: BTreeMap<TlsId, Arc<TlsHost>>,
    statuses: BTreeMap<String, Value>,
}

fn read<T: serde::de::DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).expect("an object of this kind")
}

fn load(documents: &[Value]) -> Input {
    let mut input = Input::default();
    input.objects.tell_callers(true);
    input.objects.adopt(Adopt::Named(BTreeSet::from([
        "example.com/adopted".to_owned()
    ])));
    for document in documents {
        let text = |pointer: &str| {
            let found = document.pointer(pointer).and_then(Value::as_str);
            found.unwrap_or_default().to_owned()
        };
        let name = Name::new(&text("/metadata/namespace"), &text("/metadata/name"));
        let objects = &mut input.objects;
        match text("/kind").as_str() {
            "GatewayClass" => {
                let class: GatewayClass = read(document);
                objects.put_gateway_class(&name.name, Some(Arc::new(class.clone())));
                input.classes.push(class);
            }
            "Namespace" => {
                let namespace: Namespace = read(document);
                let labels = namespace.metadata.labels.unwrap_or_default();
                objects.put_namespace(&name.name, Some(labels));
            }
            "ReferenceGrant" => drop(objects.put_grant(&name, Some(read(document)))),
            "Service" => drop(objects.put_service(&name, Some(read(document)))),
            "EndpointSlice" => drop(objects.put_slice(&name, Some(read(document)))),
            "Gateway" => input.gateways.push(read(document)),
            "HTTPRoute" => input.http_routes.push(read(document)),
            "GRPCRoute" => input.grpc_routes.push(read(document)),
            "TLSRoute" => input.tls_routes.push(read(document)),
            "TCPRoute" => input.tcp_routes.push(read(document)),
            "UDPRoute" => input.udp_routes.push(read(document)),
            kind if input.extra.load(kind, &name, document, objects) => {}
            other => {
                let mut kinds = crate::foreign::kinds().iter();
                let group = text("/apiVersion");
                let group = group.split('/').next().unwrap_or_default();
                let kind = kinds.find(|kind| kind.kind == other && kind.group == group);
                let kind = kind.unwrap_or_else(|| panic!("unexpected kind {other:?}"));
                let object = crate::foreign::Object::new(kind, document.clone());
                objects.put_foreign(kind, &name, object.map(Arc::new));
            }
        }
    }
    input
}

fn now() -> Time {
    serde_json::from_value("2026-01-01T00:00:00Z".into()).expect("a time")
}

fn translate_all(documents: &[Value]) -> Output {
    let mut input = load(documents);
    input
        .gateways
        .sort_by_key(|gateway| gateway.metadata.name.clone());
    let mut output = Output::default();
    let mut plans = Vec::new();
    for (at, gateway) in (1u8..).zip(&input.gateways) {
        let assigned = Assigned {
            addresses: vec![[127, 64, 0, at].into()],
            ..Assigned::default()
        };
        let translation = translate_gateway(gateway, &assigned, &input.objects);
        output.records.binds.extend(translation.binds);
        for (id, host) in &translation.tls {
            let records = match host.action {
                TlsAction::Terminate(_) => &mut output.https,
                _ => &mut output.records.tls,
            };
            records.insert(id.clone(), Arc::clone(host));
        }
        let name = Name::of(&gateway.metadata);
        input.objects.put_plan(&name, translation.plan.clone());
        input
            .extra
            .plans(&mut input.objects, translation.sets, translation.tls);
        plans.push((gateway.clone(), translation.plan));
    }
    let mut references = BTreeSet::new();
    let mut at_services = BTreeMap::new();
    let mut attached: BTreeMap<Name, BTreeMap<Arc<str>, usize>> = BTreeMap::new();
    let http = input.http_routes.iter().map(|route| {
        let translation = translate_http(route, &input.objects);
        ("HTTPRoute", &route.metadata, translation)
    });
    let grpc = input.grpc_routes.iter().map(|route| {
        let translation = translate_grpc(route, &input.objects);
        ("GRPCRoute", &route.metadata, translation)
    });
    let tls = input.tls_routes.iter().map(|route| {
        let translation = translate_tls(route, &input.objects);
        ("TLSRoute", &route.metadata, translation)
    });
    let tcp = input.tcp_routes.iter().map(|route| {
        let translation = translate_tcp(route, &input.objects);
        ("TCPRoute", &route.metadata, translation)
    });
    let udp = input.udp_routes.iter().map(|route| {
        let translation = translate_udp(route, &input.objects);
        ("UDPRoute", &route.metadata, translation)
    });
    let streams = tls.chain(tcp).chain(udp);
    for (kind, metadata, translation) in http.chain(grpc).chain(streams) {
        for (gateway, listener) in &translation.attached {
            let counts = attached.entry(gateway.clone()).or_default();
            *counts.entry(Arc::clone(listener)).or_default() += 1;
        }
        input.extra.count(&translation);
        let generation = metadata.generation.unwrap_or_default();
        let status = route_status(None, generation, &translation.parents, |_| true, &now());
        let name = format!("{kind} {}", Name::of(metadata));
        let status = serde_json::to_value(status).expect("a status");
        output.statuses.insert(name, status);
        output.records.routes.extend(translation.routes);
        for place in translation.binds {
            // Several routes may want the same one.
            at_services.insert(place.bind.id.clone(), place.bind);
            references.insert(place.backend);
        }
        output.records.tls.extend(translation.tls);
        output.records.streams.extend(translation.streams);
        references.extend(translation.backends);
    }
    output.records.binds.extend(at_services.into_values());
    for (gateway, plan) in plans {
        let name = Name::of(&gateway.metadata);
        let Some(plan) = plan else { continue };
        let counts = attached.get(&name).cloned().unwrap_or_default();
        let counts = counts
            .iter()
            .map(|(name, count)| (&**name, *count))
            .collect();
        let status = gateway_status(&gateway, &plan, &counts, &BTreeMap::new(), &now());
        let status = serde_json::to_value(status).expect("a status");
        output.statuses.insert(format!("Gateway {name}"), status);
    }
    output
        .statuses
        .extend(input.extra.statuses(&input.objects, &now()));
    let translated = references
        .iter()
        .map(|it| backend::translate(it, &input.objects));
    output.records.backends = translated.filter_map(|it| it.backend).collect();
    output
}

/// Records and statuses of documents, as a text.
pub(crate) fn everything(documents: &[Value]) -> String {
    let output = translate_all(documents);
    let records = serde_json::to_string(&output.records).expect("JSON");
    let classes = load(documents).classes;
    let classes: Vec<_> = classes
        .iter()
        .map(|class| class_status(class, now()))
        .collect();
    format!(
        "{records}\n{:?}\n{:?}\n{classes:?}",
        output.https, output.statuses
    )
}

/// Why a document is no object of its kind, which the API server would refuse.
pub(crate) fn mistyped(document: &Value) -> Option<String> {
    fn of<T: serde::de::DeserializeOwned>(document: &Value) -> Option<String> {
        let read: Result<T, _> = serde_json::from_value(document.clone());
        read.err().map(|error| error.to_string())
    }
    match document["kind"].as_str()? {
        "GatewayClass" => of::<GatewayClass>(document),
        "Gateway" => of::<Gateway>(document),
        "HTTPRoute" => of::<HttpRoute>(document),
        "GRPCRoute" => of::<GrpcRoute>(document),
        "TLSRoute" => of::<TlsRoute>(document),
        "TCPRoute" => of::<TcpRoute>(document),
        "UDPRoute" => of::<UdpRoute>(document),
        "ListenerSet" => of::<api::gateway::v1::ListenerSet>(document),
        "BackendTLSPolicy" => of::<api::gateway::v1::BackendTlsPolicy>(document),
        "ReferenceGrant" => of::<api::gateway::v1::ReferenceGrant>(document),
        "XBackendTrafficPolicy" => of::<api::gateway::v1alpha1::BackendTrafficPolicy>(document),
        _ => None,
    }
}

fn documents(yaml: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(yaml).expect("documents")
}

#[test]
fn each_golden_case_translates_as_recorded() {
    let count = std::cell::Cell::new(0);
    testkit::golden::each("golden/gateway_api", |case| {
        count.set(count.get() + 1);
        let output = translate_all(&documents(&case.read("input.yaml")));
        case.check("records.yaml", &output.records);
        case.check("status.yaml", &output.statuses);
    });
    assert!(count.get() >= 40, "{} cases", count.get());
}

#[test]
fn the_order_of_the_input_does_not_matter() {
    testkit::golden::each("golden/gateway_api", |case| {
        let documents = documents(&case.read("input.yaml"));
        let mut reversed = documents.clone();
        reversed.reverse();
        assert_eq!(
            translate_all(&documents),
            translate_all(&reversed),
            "{}",
            case.name()
        );
    });
}

mod streams;

/// A request for a host and path.
struct Get<'r>(&'r str, &'r str, Option<(&'r str, &'r str)>);

impl routing::RequestView for Get<'_> {
    fn host(&self) -> &str {
        self.0
    }
    fn path(&self) -> &str {
        self.1
    }
    fn header(&self, name: &str) -> Option<&[u8]> {
        self.2
            .filter(|(of, _)| *of == name)
            .map(|(_, value)| value.as_bytes())
    }
    fn method(&self) -> &str {
        "GET"
    }
    fn query(&self) -> &str {
        ""
    }
}

/// The id of the route that a request at the first bind of these objects gets.
fn selected(documents: &[Value], request: &Get<'_>) -> String {
    let output = translate_all(documents);
    let bind = routing::BindKey::new(output.records.binds[0].id.clone());
    let model = Model {
        binds: output
            .records
            .binds
            .into_iter()
            .map(|bind| (bind.id.clone(), bind))
            .collect(),
        routes: output.records.routes,
        ..Model::default()
    };
    let (snapshot, _) = routing::compile(&model, None);
    let route = snapshot.select_at(&bind, request);
    let id = route.map_or_else(|| "none".to_owned(), |route| route.id().to_string());
    id.split(" Gateway ").next().unwrap_or_default().to_owned()
}

fn route(name: &str, created: &str, listener: &str, hostnames: &str, matches: &str) -> String {
    format!(
        "---
kind: HTTPRoute
metadata: {{name: {name}, namespace: ns, creationTimestamp: '{created}'}}
spec:
  parentRefs: [{{name: g{listener}}}]
  hostnames: {hostnames}
  rules: [{{matches: {matches}}}]
"
    )
}

const GATEWAY: &str = "
kind: GatewayClass
metadata: {name: c}
spec: {controllerName: suimon.dev/gateway-controller}
---
kind: Gateway
metadata: {name: g, namespace: ns}
spec:
  gatewayClassName: c
  listeners:
    - {name: any, port: 80, protocol: HTTP}
    - {name: wide, port: 80, protocol: HTTP, hostname: '*.example.com'}
    - {name: narrow, port: 80, protocol: HTTP, hostname: '*.foo.example.com'}
    - {name: exact, port: 80, protocol: HTTP, hostname: abc.foo.example.com}
";

#[test]
fn a_request_belongs_to_the_most_specific_listener_and_to_no_other() {
    let everything = "[{path: {type: PathPrefix, value: /}}]";
    let old = "2026-01-01T00:00:00Z";
    let at = |name: &str| format!(", sectionName: {name}");
    let mut yaml = GATEWAY.to_owned();
    for name in ["any", "wide", "narrow", "exact"] {
        let matches = format!("[{{path: {{type: PathPrefix, value: /{name}}}}}]");
        yaml.push_str(&route(name, old, &at(name), "[]", &matches));
    }
    // A host of a narrower listener, at a wider one: nobody asks the wider one for it.
    yaml.push_str(&route(
        "lost",
        old,
        &at("any"),
        "[x.example.com]",
        everything,
    ));
    let documents = documents(&yaml);
    let check = |host: &str, path: &str, expected: &str| {
        let found = selected(&documents, &Get(host, path, None));
        assert_eq!(found, expected, "{host}{path}");
    };
    check("bar.com", "/any", "HTTPRoute ns/any 00.00");
    check("bar.com", "/wide", "none");
    check("bar.example.com", "/wide", "HTTPRoute ns/wide 00.00");
    check("bar.example.com", "/any", "none");
    check("x.example.com", "/", "none");
    check(
        "bar.foo.example.com",
        "/narrow",
        "HTTPRoute ns/narrow 00.00",
    );
    check("bar.foo.example.com", "/wide", "none");
    check("abc.foo.example.com", "/exact", "HTTPRoute ns/exact 00.00");
    check("abc.foo.example.com", "/narrow", "none");
}

#[test]
fn rules_of_all_routes_are_tried_in_the_order_of_the_api() {
    let mut yaml = GATEWAY.to_owned();
    let (old, new) = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
    let mut add = |name: &str, created: &str, hostnames: &str, matches: &str| {
        yaml.push_str(&route(
            name,
            created,
            ", sectionName: any",
            hostnames,
            matches,
        ));
    };
    add("newer", new, "[a.org]", "[{path: {value: /v1}}]");
    add("older", old, "[a.org]", "[{path: {value: /v1}}]");
    add("b", old, "[a.org]", "[{path: {value: /v2}}]");
    add("a", old, "[a.org]", "[{path: {value: /v2}}]");
    add("longer", new, "[a.org]", "[{path: {value: /v1/long}}]");
    add(
        "exact",
        new,
        "[a.org]",
        "[{path: {type: Exact, value: /v1/long}}]",
    );
    add(
        "headers",
        new,
        "[a.org]",
        "[{path: {value: /v1}, headers: [{name: X-A, value: '1'}]}]",
    );
    add(
        "wildcard",
        old,
        "['*.org']",
        "[{path: {type: Exact, value: /v1}}, {path: {value: /only}}]",
    );
    let documents = documents(&yaml);
    let check = |request: Get<'_>, expected: &str| {
        let found = selected(&documents, &request);
        assert_eq!(found, expected, "{}{}", request.0, request.1);
    };
    check(Get("a.org", "/v1", None), "HTTPRoute ns/older 00.00");
    check(Get("a.org", "/v1x", None), "none");
    check(Get("a.org", "/v1/long", None), "HTTPRoute ns/exact 00.00");
    check(
        Get("a.org", "/v1/long/x", None),
        "HTTPRoute ns/longer 00.00",
    );
    check(Get("a.org", "/v2/", None), "HTTPRoute ns/a 00.00");
    check(
        Get("a.org:8080", "/v1", Some(("x-a", "1"))),
        "HTTPRoute ns/headers 00.00",
    );
    // A longer host comes first, but what it does not match is not lost for the others.
    check(Get("a.org", "/only", None), "HTTPRoute ns/wildcard 00.01");
    check(Get("b.a.org", "/v1", None), "HTTPRoute ns/wildcard 00.00");
}
