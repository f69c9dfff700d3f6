//! When the objects of an Ingress are served, and when those before are.

use dialects::gateway_api::Adopt;
use dialects::knative::Outcome;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use routing::{Snapshot, Visibility};
use serde_json::json;

use super::*;
use crate::asked::Get;
use crate::inbox::Pending;

const CONTOUR: &str = "contour.ingress.networking.knative.dev";
const ISTIO: &str = "istio.ingress.networking.knative.dev";
const GATEWAY_API: &str = "gateway-api.ingress.networking.knative.dev";

struct Rig {
    index: Index,
    snapshot: Snapshot,
    now: Instant,
    /// Everything in the API that was made.
    api: BTreeMap<MadeKey, Value>,
}

fn read<T: serde::de::DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).expect("an object of this kind")
}

impl Rig {
    fn new() -> Self {
        let settings = crate::Settings {
            ingress_class: "ours".into(),
            kinds: foreign::kinds(),
            adopt: Adopt::Everyone,
            ..crate::tests::settings()
        };
        let mut rig = Self {
            index: Index::new(&settings, Vec::new()),
            snapshot: Snapshot::default(),
            now: Instant::now(),
            api: BTreeMap::new(),
        };
        rig.apply(|pending| {
            for name in ["first", "second"] {
                let service: Service = read(&json!({
                    "metadata": {"name": name, "namespace": "default"},
                    "spec": {"ports": [{"name": "http", "port": 80}]},
                }));
                let slice: EndpointSlice = read(&json!({
                    "metadata": {"name": name, "namespace": "default",
                                 "labels": {"kubernetes.io/service-name": name}},
                    "addressType": "IPv4",
                    "ports": [{"name": "http", "port": 8080}],
                    "endpoints": [{"addresses": ["10.0.0.1"]}],
                }));
                let name = Name::new("default", name);
                pending
                    .services
                    .insert(name.clone(), Some(Arc::new(service)));
                pending.slices.insert(name, Some(Arc::new(slice)));
            }
            let class = read(&json!({
                "metadata": {"name": api::gateway::CLASS},
                "spec": {"controllerName": api::gateway::CONTROLLER},
            }));
            let name = Name::new("", api::gateway::CLASS);
            pending.classes.insert(name, Some(Arc::new(class)));
        });
        rig
    }

    fn apply(&mut self, change: impl FnOnce(&mut Pending)) {
        let mut pending = Pending::default();
        change(&mut pending);
        self.index.apply(pending, self.now);
        self.index.rebuild(self.now);
        self.snapshot = self.index.compile().0;
    }

    fn ingress(&mut self, class: &str, generation: i64, service: &str) {
        let split =
            json!({"serviceNamespace": "default", "serviceName": service, "servicePort": 80});
        let ingress = read(&json!({
            "metadata": {"name": "hello", "namespace": "default", "uid": "u", "generation": generation,
                "annotations": {"networking.knative.dev/ingress.class": class}},
            "spec": {"rules": [{"hosts": ["hello.example", "other.example"], "http": {"paths": [{"splits": [split]}]}}]},
        }));
        let name = Name::new("default", "hello");
        self.apply(|pending| drop(pending.ingresses.insert(name, Some(Arc::new(ingress)))));
    }

    /// What is to be written for the Ingress.
    fn writes(&mut self) -> Writes {
        let all = self.index.take_writes().into_iter();
        all.map(|(_, writes)| writes).last().unwrap_or_default()
    }

    /// Writes one object, as the watches tell it.
    fn write(&mut self, object: &Value) {
        let key = MadeKey::of(object).expect("a known kind");
        let mut object = object.clone();
        object["metadata"]["uid"] = format!("uid of {}", key.name().name).into();
        object["metadata"]["generation"] = 1.into();
        self.api.insert(key.clone(), object.clone());
        self.apply(|pending| match key {
            MadeKey::Gateway(name) => {
                drop(pending.gateways.insert(name, Some(Arc::new(read(&object)))));
            }
            MadeKey::Route(name) => {
                let route = Some(Arc::new(read(&object)));
                drop(pending.http_routes.insert(name, route));
            }
            MadeKey::Foreign(key) => {
                let object = Object::new(key.kind, object).map(Arc::new);
                drop(pending.foreign.insert(key, object));
            }
        });
    }

    fn delete(&mut self, key: &MadeKey) {
        self.api.remove(key);
        self.apply(|pending| match key.clone() {
            MadeKey::Gateway(name) => drop(pending.gateways.insert(name, None)),
            MadeKey::Route(name) => drop(pending.http_routes.insert(name, None)),
            MadeKey::Foreign(key) => drop(pending.foreign.insert(key, None)),
        });
    }

    /// Writes until there is nothing to write.
    fn settle(&mut self) {
        for _ in 0..8 {
            let writes = self.writes();
            if writes == Writes::default() {
                return;
            }
            for object in writes.create.iter().chain(&writes.apply) {
                self.write(object);
            }
            for (key, _) in &writes.delete {
                self.delete(key);
            }
        }
        panic!("there is always something to write: {:?}", self.writes());
    }

    /// Dialect and backend of who answers.
    fn served(&self) -> String {
        let get = Get::root("hello.example");
        let Some(route) = self.snapshot.select(Visibility::External, &get) else {
            return "nobody".to_owned();
        };
        let routing::CompiledAction::Forward(split) = &route.action else {
            return "not forwarded".to_owned();
        };
        let backend = split.at(0).backend.0.split('@').next().map(str::to_owned);
        format!("{} {}", route.origin().dialect, backend.unwrap_or_default())
    }

    fn outcome(&mut self) -> Outcome {
        self.index.due.insert(Name::new("default", "hello"));
        let mut all = self.index.take_outcomes();
        all.pop()
            .and_then(|(_, outcome)| outcome)
            .expect("an outcome")
    }

    fn kinds(&self) -> Vec<&str> {
        let own = self
            .api
            .iter()
            .filter(|(_, object)| object["metadata"]["ownerReferences"].is_array());
        let mut kinds: Vec<_> = own.map(|(key, _)| key.kind()).collect();
        kinds.dedup();
        kinds
    }
}

#[test]
fn an_ingress_is_live_once_all_of_its_objects_are_there() {
    for (class, dialect) in [
        (CONTOUR, "contour"),
        (ISTIO, "istio"),
        (GATEWAY_API, "gateway-api"),
        ("ambassador.ingress.networking.knative.dev", "emissary"),
        ("gloo.ingress.networking.knative.dev", "gloo"),
    ] {
        let mut rig = Rig::new();
        rig.ingress(class, 1, "first");
        assert_eq!(rig.served(), "nobody", "{class}");
        assert_eq!(rig.outcome().live, None, "{class}");
        rig.settle();
        assert_eq!(rig.served(), format!("{dialect} default/first:80"));
        let outcome = rig.outcome();
        assert_eq!(outcome.live, Some(1), "{class}");
        assert_eq!(outcome.diagnostics, [], "{class}");
    }
}

#[test]
fn a_generation_is_replaced_as_a_whole() {
    let mut rig = Rig::new();
    rig.ingress(CONTOUR, 1, "first");
    rig.settle();
    rig.ingress(CONTOUR, 2, "second");
    let writes = rig.writes();
    assert_eq!(rig.served(), "contour default/first:80");
    assert_eq!(rig.outcome().live, Some(1));
    let (last, others) = writes.apply.split_last().expect("objects");
    assert!(!others.is_empty());
    for object in others {
        rig.write(object);
    }
    assert_eq!(rig.served(), "contour default/first:80");
    rig.write(last);
    assert_eq!(rig.served(), "contour default/second:80");
    assert_eq!(rig.outcome().live, Some(2));
}

#[test]
fn another_class_takes_over_before_the_objects_of_the_one_before_go() {
    let mut rig = Rig::new();
    rig.ingress("ours", 1, "first");
    assert_eq!(rig.served(), "knative default/first:80");
    let way = [
        (CONTOUR, "contour", &["HTTPProxy"][..]),
        (GATEWAY_API, "gateway-api", &["HTTPRoute"][..]),
        ("ours", "knative", &[][..]),
    ];
    let mut before = "knative";
    for (class, dialect, kinds) in way {
        rig.ingress(class, 1, "first");
        if dialect != "knative" {
            assert_eq!(rig.served(), format!("{before} default/first:80"));
        }
        rig.settle();
        assert_eq!(rig.served(), format!("{dialect} default/first:80"));
        assert_eq!(rig.kinds(), kinds);
        before = dialect;
    }
}

#[test]
fn what_somebody_deletes_or_changes_is_written_again_and_served_all_the_time() {
    let mut rig = Rig::new();
    rig.ingress(CONTOUR, 1, "first");
    rig.settle();
    let (key, object) = rig.api.iter().next().expect("an object");
    let (key, mut object) = (key.clone(), object.clone());
    rig.delete(&key);
    assert_eq!(rig.served(), "contour default/first:80");
    rig.settle();
    assert!(rig.api.contains_key(&key));
    object["spec"]["routes"][0]["services"][0]["name"] = "second".into();
    rig.write(&object);
    assert_eq!(rig.served(), "contour default/first:80");
    rig.settle();
    assert_ne!(rig.api[&key]["spec"], object["spec"]);
}

#[test]
fn objects_go_with_their_ingress() {
    let mut rig = Rig::new();
    rig.ingress(CONTOUR, 1, "first");
    rig.settle();
    let name = Name::new("default", "hello");
    rig.apply(|pending| drop(pending.ingresses.insert(name, None)));
    assert_eq!(rig.served(), "nobody");
    rig.settle();
    assert!(rig.api.is_empty(), "{:?}", rig.api);
}

#[test]
fn an_object_of_somebody_else_is_left_alone() {
    let mut rig = Rig::new();
    rig.ingress(CONTOUR, 1, "first");
    let mut object = rig.writes().apply.remove(0);
    object["metadata"]["ownerReferences"] = json!([]);
    object["spec"]["virtualhost"]["fqdn"] = "users.example".into();
    rig.write(&object);
    rig.ingress(CONTOUR, 2, "second");
    let name = &object["metadata"]["name"];
    let writes = rig.writes();
    assert!(
        writes
            .apply
            .iter()
            .all(|it| it["metadata"]["name"] != *name)
    );
    let outcome = rig.outcome();
    assert_eq!(outcome.live, None);
    assert_eq!(outcome.diagnostics[0].reason, "NotOwned");
}
