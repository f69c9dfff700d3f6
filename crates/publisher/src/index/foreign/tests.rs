//! What a change of one object costs, and what the index has at hand for translations.

use std::io;
use std::net::IpAddr;

use futures::FutureExt;
use futures::future::BoxFuture;
use routing::model::BindSocket;
use routing::{CompiledAction, Snapshot, Visibility};
use serde_json::json;

use super::*;
use crate::Sockets;
use crate::asked::Get;
use crate::inbox::Pending;
use crate::index::Rebuilt;
use crate::tests::kinds::{self, MUTE, POLICY, THING};

/// Port 9 is taken, all others are free.
struct Ports;

impl Sockets for Ports {
    fn open(&self, _: &BindId, socket: BindSocket) -> io::Result<()> {
        match socket.address.port() {
            9 => Err(io::ErrorKind::AddrInUse.into()),
            _ => Ok(()),
        }
    }

    fn close<'s>(&'s self, _: &'s BindId) -> BoxFuture<'s, ()> {
        std::future::ready(()).boxed()
    }
}

struct Rig {
    index: Index,
    snapshot: Snapshot,
    now: Instant,
}

impl Rig {
    fn new() -> Self {
        let settings = crate::Settings {
            sockets: Arc::new(Ports),
            ..crate::tests::settings()
        };
        Self {
            index: Index::new(&settings, Vec::new()),
            snapshot: Snapshot::default(),
            now: Instant::now(),
        }
    }

    fn apply(&mut self, change: impl FnOnce(&mut Pending)) -> Rebuilt {
        let mut pending = Pending::default();
        change(&mut pending);
        self.index.apply(pending, self.now);
        self.rebuild()
    }

    fn rebuild(&mut self) -> Rebuilt {
        let rebuilt = self.index.rebuild(self.now);
        self.snapshot = self.index.compile().0;
        rebuilt
    }

    fn put(&mut self, kind: &'static Kind, name: &str, generation: i64, spec: Value) -> Rebuilt {
        self.apply(|pending| put(pending, kind, name, generation, spec))
    }

    fn delete(&mut self, kind: &'static Kind, name: &str) -> Rebuilt {
        self.apply(|pending| drop(pending.foreign.insert(key(kind, name), None)))
    }

    fn backend(&self, host: &'static str) -> Option<Arc<routing::Backend>> {
        let route = self
            .snapshot
            .select(Visibility::External, &Get::root(host))?;
        let CompiledAction::Forward(split) = &route.action else {
            panic!("not forwarded")
        };
        self.snapshot.backend_of(split.at(0)).cloned()
    }

    /// What is told, by name.
    fn told(&mut self) -> HashMap<String, Option<ForeignOutcome>> {
        let outcomes = self.index.take_foreign_outcomes().into_iter();
        outcomes
            .map(|(key, outcome)| (key.name.name.to_string(), outcome))
            .collect()
    }

    fn phase(&mut self, name: &str) -> String {
        let mut told = self.told();
        let outcome = told.remove(name).flatten().expect("it is told about");
        let status = outcome.status.expect("it has a status");
        status["phase"].as_str().unwrap_or_default().to_owned()
    }
}

fn key(kind: &'static Kind, name: &str) -> ForeignKey {
    let name = Name::new("default", name);
    ForeignKey { kind, name }
}

fn put(pending: &mut Pending, kind: &'static Kind, name: &str, generation: i64, spec: Value) {
    let object = kinds::object(kind, name, generation, spec);
    pending.foreign.insert(key(kind, name), Some(object));
}

fn service(pending: &mut Pending, name: &str) {
    let service = json!({
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"ports": [{"name": "http", "port": 80}]},
    });
    let service = serde_json::from_value(service).expect("a Service");
    pending
        .services
        .insert(Name::new("default", name), Some(Arc::new(service)));
}

fn thing(host: &str, service: &str) -> Value {
    json!({"host": host, "service": service})
}

#[test]
fn one_change_among_ten_thousand_objects_costs_one_translation() {
    let mut rig = Rig::new();
    let rebuilt = rig.apply(|pending| {
        for number in 0..10_000 {
            let name = format!("thing-{number}");
            let service_name = format!("service-{}", number % 100);
            if number < 100 {
                service(pending, &service_name);
            }
            let spec = thing(&format!("{name}.example.com"), &service_name);
            put(pending, &THING, &name, 1, spec);
        }
    });
    assert_eq!(rebuilt.foreign, 10_000);
    rig.told();
    let rebuilt = rig.put(
        &THING,
        "thing-7",
        2,
        thing("seven.example.com", "service-8"),
    );
    let one = Rebuilt {
        foreign: 1,
        backends: 1,
        is_dirty: true,
        ..Rebuilt::default()
    };
    assert_eq!(rebuilt, one);
    let backend = rig.backend("seven.example.com").expect("a backend");
    assert_eq!(&*backend.id.0, "default/service-8:80");
    assert!(rig.backend("thing-7.example.com").is_none());
    assert_eq!(rig.told().len(), 1);
    // The same again, as a renewed watch tells it, costs nothing.
    let rebuilt = rig.put(
        &THING,
        "thing-7",
        2,
        thing("seven.example.com", "service-8"),
    );
    assert_eq!(rebuilt, Rebuilt::default());
    // A part costs those that asked for it, and its own status.
    let policy = json!({"service": "service-3", "seconds": 5});
    let rebuilt = rig.put(&POLICY, "policy", 1, policy);
    assert_eq!(rebuilt.foreign, 101);
    let rebuilt = rig.delete(&THING, "thing-7");
    assert_eq!((rebuilt.foreign, rebuilt.is_dirty), (0, true));
    assert!(rig.backend("seven.example.com").is_none());
}

#[test]
fn what_a_part_says_reaches_the_backend_and_goes_with_the_part() {
    let mut rig = Rig::new();
    rig.apply(|pending| {
        service(pending, "app");
        put(pending, &THING, "thing", 1, thing("a.example.com", "app"));
    });
    assert_eq!(
        &*rig.backend("a.example.com").expect("one").id.0,
        "default/app:80"
    );
    for seconds in [5, 7] {
        let policy = json!({"service": "app", "seconds": seconds});
        rig.put(&POLICY, "policy", seconds, policy);
        let backend = rig.backend("a.example.com").expect("a backend");
        assert_eq!(&*backend.id.0, "default/app:80@test/default/thing");
        let limit = backend.timeouts.request.expect("a limit");
        assert_eq!(limit.as_secs(), seconds.unsigned_abs());
    }
    rig.delete(&POLICY, "policy");
    assert_eq!(
        &*rig.backend("a.example.com").expect("one").id.0,
        "default/app:80"
    );
}

#[test]
fn a_secret_is_at_hand_once_somebody_asked_for_it() {
    let mut rig = Rig::new();
    let secret = |pending: &mut Pending| {
        let secret =
            json!({"metadata": {"name": "s", "namespace": "default"}, "data": {"k": "dg=="}});
        let secret = serde_json::from_value(secret).expect("a Secret");
        let name = Name::new("default", "s");
        pending.secrets.insert(name, Some(Arc::new(secret)));
    };
    rig.apply(secret);
    let mut spec = thing("a.example.com", "app");
    spec["secret"] = json!("s");
    let rebuilt = rig.put(&THING, "thing", 1, spec);
    assert_eq!(rebuilt.foreign, 2, "the first that asks runs twice");
    assert_eq!(rig.phase("thing"), "Accepted");
    let name = Name::new("default", "s");
    rig.apply(|pending| drop(pending.secrets.insert(name, None)));
    assert_eq!(rig.phase("thing"), "SecretMissing");
    rig.apply(secret);
    assert_eq!(rig.phase("thing"), "Accepted");
}

#[test]
fn names_that_backends_ask_for_are_looked_up_until_nobody_asks() {
    let mut rig = Rig::new();
    let mut spec = thing("a.example.com", "app");
    spec["outside"] = json!("api.example.net");
    rig.put(&THING, "thing", 1, spec);
    let host: Arc<str> = "api.example.net".into();
    let wanted = NameChange::Wanted(Arc::clone(&host));
    assert_eq!(rig.index.take_name_changes(), [wanted]);
    assert!(
        rig.backend("a.example.com")
            .expect("one")
            .endpoints
            .is_empty()
    );
    let is = |addresses: &[IpAddr], failure: Option<&str>| {
        let (host, found) = (
            Arc::clone(&host),
            dialects::LookedUp {
                addresses: addresses.into(),
                failure: failure.map(Arc::from),
            },
        );
        move |pending: &mut Pending| drop(pending.dns.insert(host, found))
    };
    let unfound = |rig: &mut Rig| {
        let told = rig.told().remove("thing").flatten();
        let told = told.map(|told| told.unfound).unwrap_or_default();
        told.into_iter().map(|it| it.message).collect::<Vec<_>>()
    };
    rig.apply(is(&[], Some("nobody answers")));
    assert_eq!(
        unfound(&mut rig),
        [
            "host api.example.net cannot be looked up: nobody answers; nothing can be sent there \
             until it can"
        ]
    );
    let first = [IpAddr::from([192, 0, 2, 1])];
    let rebuilt = rig.apply(is(&first, None));
    assert!(unfound(&mut rig).is_empty());
    assert_eq!((rebuilt.foreign, rebuilt.backends), (0, 1));
    let backend = rig.backend("a.example.com").expect("a backend");
    assert_eq!(backend.endpoints[0].address.to_string(), "192.0.2.1:8080");
    rig.apply(is(&first, Some("nobody answers")));
    assert!(unfound(&mut rig)[0].ends_with("found last stay in use"));
    let backend = rig.backend("a.example.com").expect("a backend");
    assert_eq!(backend.endpoints.len(), 1);
    rig.delete(&THING, "thing");
    assert_eq!(rig.index.take_name_changes(), []);
    rig.now += super::super::backends::LINGER;
    rig.rebuild();
    let unwanted = NameChange::Unwanted(host);
    assert_eq!(rig.index.take_name_changes(), [unwanted]);
}

#[test]
fn issuers_that_policies_name_are_asked_until_nobody_names_them() {
    let mut rig = Rig::new();
    let mut kinds = dialects::foreign::kinds().iter();
    let kind = kinds.find(|it| it.kind == "RequestAuthentication");
    let kind = kind.expect("a kind that is served");
    let issuer: Arc<str> = "https://issuer.example".into();
    let reasons = |rig: &mut Rig| {
        let told = rig.told().remove("jwt").flatten().expect("told");
        let told = told.diagnostics.into_iter();
        told.map(|it| it.reason).collect::<Vec<_>>()
    };
    rig.put(kind, "jwt", 1, json!({"jwtRules": [{"issuer": issuer}]}));
    let wanted = NameChange::Wanted(Arc::clone(&issuer));
    assert_eq!(rig.index.take_issuer_changes(), [wanted]);
    assert!(reasons(&mut rig).is_empty(), "nobody knows yet");
    let says = |found: dialects::Discovered| {
        let issuer = Arc::clone(&issuer);
        move |pending: &mut Pending| drop(pending.issuers.insert(issuer, found))
    };
    rig.apply(says(Err("it is away".into())));
    assert_eq!(reasons(&mut rig), ["DiscoveryFailed"]);
    rig.apply(says(Ok("https://issuer.example/keys".into())));
    assert!(reasons(&mut rig).is_empty());
    rig.delete(kind, "jwt");
    let unwanted = NameChange::Unwanted(Arc::clone(&issuer));
    assert_eq!(rig.index.take_issuer_changes(), [unwanted]);
    let rebuilt = rig.apply(says(Err("it is away".into())));
    assert_eq!(rebuilt.foreign, 0, "nobody asks any more");
}

#[tokio::test]
async fn a_socket_is_shared_by_those_who_want_it_and_its_failure_is_told_to_them() {
    let mut rig = Rig::new();
    let at = |host: &str, port: u16| {
        let mut spec = thing(host, "app");
        spec["port"] = json!(port);
        spec
    };
    rig.put(&THING, "one", 1, at("a.example.com", 9000));
    rig.put(&THING, "two", 1, at("b.example.com", 9000));
    rig.put(&THING, "three", 1, at("c.example.com", 9));
    rig.index.settle_binds(rig.now).await;
    assert_eq!(rig.snapshot.binds().count(), 2);
    assert!(rig.index.is_behind(), "who failed is translated again");
    rig.rebuild();
    let told = rig.told();
    let unbound = |name: &str| told[name].as_ref().expect("there").unbound.len();
    assert_eq!(
        (unbound("one"), unbound("two"), unbound("three")),
        (0, 0, 1)
    );
    let status = told["three"].as_ref().and_then(|it| it.status.clone());
    assert_eq!(status.expect("a status")["phase"], "Unbound");
    rig.delete(&THING, "one");
    assert_eq!(rig.snapshot.binds().count(), 2);
    rig.delete(&THING, "two");
    assert_eq!(rig.snapshot.binds().count(), 1);
    // Another port: nothing is left of the failure.
    rig.put(&THING, "three", 2, at("c.example.com", 9001));
    rig.index.settle_binds(rig.now).await;
    rig.rebuild();
    assert_eq!(rig.phase("three"), "Accepted");
}

#[test]
fn an_object_that_is_gone_is_told_as_gone() {
    let mut rig = Rig::new();
    rig.put(&MUTE, "mute", 1, thing("a.example.com", "app"));
    assert!(rig.told()["mute"].is_some());
    rig.delete(&MUTE, "mute");
    assert!(rig.told()["mute"].is_none());
}
