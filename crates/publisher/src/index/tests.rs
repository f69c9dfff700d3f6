//! What each change costs, and what is served while something is missing.

use super::backends::LINGER;
use super::*;
use crate::asked::Get;
use api::networking::v1alpha1::Ingress;
use dialects::knative::Outcome;
use proptest::prelude::*;
use routing::{CompiledAction, Visibility};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::time::Duration;

/// An index that is rebuilt after every change, and the snapshot it gave last.
struct Rig {
    index: Index,
    snapshot: Snapshot,
    now: Instant,
}

impl Rig {
    fn new() -> Self {
        let index = Index::new(&crate::tests::settings(), Vec::new());
        Self {
            index,
            snapshot: Snapshot::default(),
            now: Instant::now(),
        }
    }

    fn apply(&mut self, change: impl FnOnce(&mut Pending)) -> Rebuilt {
        let mut pending = Pending::default();
        change(&mut pending);
        self.index.apply(pending, self.now);
        let rebuilt = self.index.rebuild(self.now);
        self.snapshot = self.index.compile().0;
        rebuilt
    }

    /// The backend that a host's requests go to.
    fn backend(&self, host: &'static str) -> Option<String> {
        let route = self
            .snapshot
            .select(Visibility::External, &Get::root(host))?;
        let CompiledAction::Forward(split) = &route.action else {
            panic!("not forwarded")
        };
        Some(split.at(0).backend.to_string())
    }

    fn outcome(&mut self, name: &str) -> Outcome {
        let outcomes = self.index.take_outcomes();
        let found = outcomes.into_iter().find(|(key, _)| &*key.name == name);
        found
            .and_then(|(_, outcome)| outcome)
            .expect("an outcome is due")
    }

    fn is_in_snapshot(&self, service: &str) -> bool {
        self.snapshot
            .backends()
            .any(|backend| *backend.id.0 == *format!("default/{service}:80"))
    }
}

fn name(name: &str) -> Name {
    Name::new("default", name)
}

fn object<T: serde::de::DeserializeOwned>(value: Value) -> Option<Arc<T>> {
    Some(Arc::new(serde_json::from_value(value).expect("an object")))
}

fn ingress(name: &str, generation: i64, host: &str, service: &str) -> Option<Arc<Ingress>> {
    created("2026-01-01T00:00:00Z", name, generation, host, service)
}

fn created(
    at: &str,
    name: &str,
    generation: i64,
    host: &str,
    service: &str,
) -> Option<Arc<Ingress>> {
    let split = json!({"serviceNamespace": "default", "serviceName": service, "servicePort": 80});
    object(json!({
        "metadata": {
            "name": name, "namespace": "default", "uid": format!("uid of {name} {at}"), "generation": generation,
            "creationTimestamp": at,
            "annotations": {"networking.knative.dev/ingress.class": "ours"},
        },
        "spec": {"rules": [{"hosts": [host], "http": {"paths": [{"splits": [split]}]}}]},
    }))
}

fn service(pending: &mut Pending, service: &str) {
    let value = json!({
        "metadata": {"name": service, "namespace": "default"},
        "spec": {"ports": [{"name": "http", "port": 80}]},
    });
    pending.services.insert(name(service), object(value));
}

fn slice(pending: &mut Pending, service: &str, addresses: &[&str]) {
    let endpoints: Vec<_> = addresses
        .iter()
        .map(|address| json!({"addresses": [address]}))
        .collect();
    let value = json!({
        "metadata": {
            "name": format!("{service}-slice"), "namespace": "default",
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080}],
        "endpoints": endpoints,
    });
    pending
        .slices
        .insert(name(&format!("{service}-slice")), object(value));
}

fn served(pending: &mut Pending, of: &str) {
    service(pending, of);
    slice(pending, of, &["10.0.0.1"]);
}

#[test]
fn an_endpoint_change_costs_one_backend_however_many_ingresses_there_are() {
    let mut rig = Rig::new();
    rig.apply(|pending| {
        for number in 0..500 {
            let id = format!("hello-{number}");
            served(pending, &id);
            let ingress = ingress(&id, 1, &format!("{id}.example.com"), &id);
            pending.ingresses.insert(name(&id), ingress);
        }
    });
    let before = rig.snapshot.clone();
    let rebuilt = rig.apply(|pending| slice(pending, "hello-7", &["10.0.0.1", "10.0.0.2"]));
    assert_eq!(
        rebuilt,
        Rebuilt {
            ingresses: 0,
            backends: 1,
            is_dirty: true,
            ..Rebuilt::default()
        }
    );
    let (changed, gone) = rig.snapshot.backend_changes(&before);
    assert_eq!((changed.len(), gone.len()), (1, 0));
    let rebuilt = rig.apply(|pending| slice(pending, "hello-7", &["10.0.0.1", "10.0.0.2"]));
    assert_eq!(rebuilt, Rebuilt::default(), "an equal slice is no change");
    let rebuilt = rig.apply(|pending| {
        pending.ingresses.insert(
            name("hello-9"),
            ingress("hello-9", 2, "nine.example.com", "hello-9"),
        );
    });
    assert_eq!(
        rebuilt,
        Rebuilt {
            ingresses: 1,
            backends: 0,
            is_dirty: true,
            ..Rebuilt::default()
        }
    );
    assert_eq!(
        rig.backend("nine.example.com").as_deref(),
        Some("default/hello-9:80")
    );
    assert_eq!(rig.backend("hello-9.example.com"), None);
}

#[test]
fn a_generation_that_is_incomplete_leaves_the_one_before_live() {
    let mut rig = Rig::new();
    rig.apply(|pending| {
        served(pending, "old");
        pending.ingresses.insert(
            name("hello"),
            ingress("hello", 1, "hello.example.com", "old"),
        );
    });
    assert_eq!(rig.outcome("hello").live, Some(1));
    let next = || ingress("hello", 2, "hello.example.com", "new");
    rig.apply(|pending| drop(pending.ingresses.insert(name("hello"), next())));
    assert_eq!(
        rig.backend("hello.example.com").as_deref(),
        Some("default/old:80")
    );
    let outcome = rig.outcome("hello");
    assert_eq!((outcome.generation, outcome.live), (2, Some(1)));
    assert_eq!(outcome.diagnostics[0].reason, "ServiceMissing");
    rig.apply(|pending| service(pending, "new"));
    assert_eq!(
        rig.outcome("hello").diagnostics[0].reason,
        "EndpointsNotReady"
    );
    assert_eq!(
        rig.backend("hello.example.com").as_deref(),
        Some("default/old:80")
    );
    rig.apply(|pending| slice(pending, "new", &["10.0.0.2"]));
    assert_eq!(
        rig.backend("hello.example.com").as_deref(),
        Some("default/new:80")
    );
    let outcome = rig.outcome("hello");
    assert_eq!((outcome.live, outcome.diagnostics), (Some(2), Vec::new()));
}

#[test]
fn a_live_generation_is_not_touched_when_its_pods_or_its_service_go_away() {
    let mut rig = Rig::new();
    rig.apply(|pending| {
        served(pending, "one");
        pending.ingresses.insert(
            name("hello"),
            ingress("hello", 1, "hello.example.com", "one"),
        );
    });
    let rebuilt = rig.apply(|pending| slice(pending, "one", &[]));
    assert_eq!(
        rebuilt,
        Rebuilt {
            ingresses: 0,
            backends: 1,
            is_dirty: true,
            ..Rebuilt::default()
        }
    );
    assert!(rig.is_in_snapshot("one"));
    rig.apply(|pending| drop(pending.services.insert(name("one"), None)));
    assert_eq!(
        rig.backend("hello.example.com").as_deref(),
        Some("default/one:80")
    );
    assert!(!rig.is_in_snapshot("one"));
    assert_eq!(rig.outcome("hello").diagnostics[0].reason, "ServiceMissing");
}

#[test]
fn a_backend_without_routes_stays_until_its_time_is_over() {
    let mut rig = Rig::new();
    rig.apply(|pending| {
        served(pending, "old");
        served(pending, "new");
        pending.ingresses.insert(
            name("hello"),
            ingress("hello", 1, "hello.example.com", "old"),
        );
    });
    rig.apply(|pending| {
        pending.ingresses.insert(
            name("hello"),
            ingress("hello", 2, "hello.example.com", "new"),
        );
    });
    assert_eq!(
        rig.backend("hello.example.com").as_deref(),
        Some("default/new:80")
    );
    rig.apply(|pending| drop(pending.services.insert(name("old"), None)));
    assert!(
        rig.is_in_snapshot("old"),
        "requests that chose it still get there"
    );
    rig.now = rig.index.next_expiry().expect("a time");
    rig.apply(|_| {});
    assert!(!rig.is_in_snapshot("old"));
    assert_eq!(rig.index.next_expiry(), None);
    let reads_old = |dependency: &Dependency| format!("{dependency:?}").contains("old");
    assert!(
        !rig.index.readers.keys().any(reads_old),
        "what it read is forgotten"
    );
}

#[test]
fn the_oldest_ingress_has_a_host_until_it_goes() {
    let mut rig = Rig::new();
    rig.apply(|pending| {
        served(pending, "one");
        served(pending, "two");
        let young = created(
            "2026-01-02T00:00:00Z",
            "young",
            1,
            "shared.example.com",
            "one",
        );
        pending.ingresses.insert(name("young"), young);
    });
    assert_eq!(
        rig.backend("shared.example.com").as_deref(),
        Some("default/one:80")
    );
    rig.apply(|pending| {
        let old = created(
            "2026-01-01T00:00:00Z",
            "old",
            1,
            "shared.example.com",
            "two",
        );
        pending.ingresses.insert(name("old"), old);
    });
    assert_eq!(
        rig.backend("shared.example.com").as_deref(),
        Some("default/two:80")
    );
    assert_eq!(rig.outcome("young").diagnostics[0].reason, "DomainConflict");
    rig.apply(|pending| drop(pending.ingresses.insert(name("old"), None)));
    assert_eq!(
        rig.backend("shared.example.com").as_deref(),
        Some("default/one:80")
    );
    assert_eq!(rig.outcome("young").diagnostics, []);
}

#[test]
fn a_newcomer_of_the_same_second_does_not_take_a_host_that_is_served() {
    let mut rig = Rig::new();
    rig.apply(|pending| {
        served(pending, "one");
        served(pending, "two");
        let first = ingress("vanity", 1, "shared.example.com", "one");
        pending.ingresses.insert(name("vanity"), first);
    });
    let mut live = ingress("vanity", 1, "shared.example.com", "one")
        .map(Arc::unwrap_or_clone)
        .expect("an Ingress");
    let condition = json!({"conditions": [{"type": "LoadBalancerReady", "status": "True"}]});
    live.status = serde_json::from_value(condition).expect("a status");
    rig.apply(|pending| {
        drop(
            pending
                .ingresses
                .insert(name("vanity"), Some(Arc::new(live))),
        )
    });
    rig.apply(|pending| {
        let thief = ingress("thief", 1, "shared.example.com", "two");
        pending.ingresses.insert(name("thief"), thief);
    });
    assert_eq!(
        rig.backend("shared.example.com").as_deref(),
        Some("default/one:80")
    );
    assert_eq!(rig.outcome("thief").diagnostics[0].reason, "DomainConflict");
}

#[test]
fn an_ingress_that_was_deleted_and_made_anew_starts_from_nothing() {
    let mut rig = Rig::new();
    rig.apply(|pending| {
        served(pending, "one");
        pending
            .ingresses
            .insert(name("hello"), ingress("hello", 1, "a.example.com", "one"));
    });
    rig.apply(|pending| {
        let again = created(
            "2026-02-01T00:00:00Z",
            "hello",
            1,
            "b.example.com",
            "missing",
        );
        pending.ingresses.insert(name("hello"), again);
    });
    assert_eq!(rig.backend("a.example.com"), None);
    assert_eq!(rig.outcome("hello").live, None);
}

#[test]
fn an_ingress_of_another_class_is_left_alone() {
    let mut rig = Rig::new();
    let mut other = ingress("other", 1, "other.example.com", "one")
        .map(Arc::unwrap_or_clone)
        .expect("an Ingress");
    other.metadata.annotations = None;
    let rebuilt = rig.apply(|pending| {
        drop(
            pending
                .ingresses
                .insert(name("other"), Some(Arc::new(other))),
        )
    });
    assert_eq!(rebuilt, Rebuilt::default());
    assert_eq!(rig.index.take_outcomes(), []);
}

/// Why something of an Ingress is told, of all that are to be told of now.
fn ingress_reasons(rig: &mut Rig) -> Vec<&'static str> {
    let outcomes = rig.index.take_kubernetes_outcomes().into_iter();
    let told = outcomes.flat_map(|(_, outcome)| outcome.expect("it").diagnostics);
    told.map(|one| one.reason).collect()
}

#[test]
fn an_ingress_whose_requests_are_asked_about_at_a_host_that_is_not_found_says_so() {
    let mut rig = Rig::new();
    let url = json!({"nginx.ingress.kubernetes.io/auth-url": "http://auth.example.com/"});
    let path = json!({
        "path": "/", "pathType": "Prefix",
        "backend": {"service": {"name": "web", "port": {"number": 80}}},
    });
    let ingress = object(json!({
        "metadata": {"name": "shop", "namespace": "default", "annotations": url},
        "spec": {"rules": [{"host": "shop.example.com", "http": {"paths": [path]}}]},
    }));
    rig.apply(|pending| {
        served(pending, "web");
        pending.kubernetes_ingresses.insert(name("shop"), ingress);
    });
    ingress_reasons(&mut rig);
    let is = |failure: Option<&str>| {
        let found = dialects::LookedUp {
            addresses: [[192, 0, 2, 1].into()].into(),
            failure: failure.map(Arc::from),
        };
        move |pending: &mut Pending| drop(pending.dns.insert("auth.example.com".into(), found))
    };
    let rebuilt = rig.apply(is(Some("nobody answers")));
    assert_eq!((rebuilt.ingresses, rebuilt.backends), (0, 1));
    assert_eq!(ingress_reasons(&mut rig), ["HostNotFound"]);
    rig.apply(is(None));
    let healed = rig.index.take_kubernetes_outcomes();
    let healed = healed.first().and_then(|(_, outcome)| outcome.as_ref());
    assert_eq!(healed.expect("it is told").diagnostics, []);
}

#[test]
fn a_config_map_is_shown_to_whoever_names_it_and_to_nobody_else() {
    let mut rig = Rig::new();
    let annotations = json!({
        "nginx.ingress.kubernetes.io/auth-url": "http://auth.example.com/",
        "nginx.ingress.kubernetes.io/auth-proxy-set-headers": "told",
    });
    let path = json!({
        "path": "/", "pathType": "Prefix",
        "backend": {"service": {"name": "web", "port": {"number": 80}}},
    });
    let ingress = object(json!({
        "metadata": {"name": "shop", "namespace": "default", "annotations": annotations},
        "spec": {"rules": [{"host": "shop.example.com", "http": {"paths": [path]}}]},
    }));
    let map = || object(json!({"metadata": {"name": "told", "namespace": "default"}}));
    let missing = |rig: &mut Rig| ingress_reasons(rig).contains(&"ConfigMapMissing");
    rig.apply(|pending| {
        served(pending, "web");
        pending.kubernetes_ingresses.insert(name("shop"), ingress);
    });
    assert!(missing(&mut rig));
    let rebuilt = rig.apply(|pending| drop(pending.config_maps.insert(name("other"), map())));
    assert_eq!(rebuilt.ingresses, 0);
    let rebuilt = rig.apply(|pending| drop(pending.config_maps.insert(name("told"), map())));
    assert_eq!(rebuilt.ingresses, 1);
    assert!(!missing(&mut rig));
    rig.apply(|pending| drop(pending.config_maps.insert(name("told"), None)));
    assert!(missing(&mut rig));
}

#[test]
fn a_status_update_of_a_revision_costs_nothing_and_its_limits_one_backend() {
    let mut rig = Rig::new();
    let revision = |status: Value, limit: i64| {
        object(json!({
            "metadata": {"name": "hello-00001", "namespace": "default"},
            "spec": {"containers": [], "containerConcurrency": limit},
            "status": status,
        }))
    };
    rig.apply(|pending| {
        let value = json!({
            "metadata": {
                "name": "hello-00001", "namespace": "default",
                "labels": {"serving.knative.dev/revision": "hello-00001"},
            },
            "spec": {"ports": [{"name": "http", "port": 80}]},
        });
        pending.services.insert(name("hello-00001"), object(value));
        pending
            .revisions
            .insert(name("hello-00001"), revision(json!({}), 1));
        pending.ingresses.insert(
            name("hello"),
            ingress("hello", 1, "hello.example.com", "hello-00001"),
        );
    });
    assert_eq!(
        rig.outcome("hello").live,
        Some(1),
        "a revision may be at zero"
    );
    let rebuilt = rig.apply(|pending| {
        pending.revisions.insert(
            name("hello-00001"),
            revision(json!({"actualReplicas": 1}), 1),
        );
    });
    assert_eq!(rebuilt, Rebuilt::default());
    let rebuilt = rig.apply(|pending| {
        pending
            .revisions
            .insert(name("hello-00001"), revision(json!({}), 2));
    });
    assert_eq!((rebuilt.backends, rebuilt.is_dirty), (1, true));
    assert!(
        rig.snapshot
            .backends()
            .all(|backend| backend.concurrency == 2)
    );
}

/// One step of a history: which object, and what becomes of it.
#[derive(Clone, Debug)]
enum Step {
    Ingress(usize, Option<(usize, usize)>),
    Service(usize, bool),
    Slice(usize, bool),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (
            0..4usize,
            prop::option::weighted(0.8, (0..3usize, 0..3usize))
        )
            .prop_map(|(at, to)| Step::Ingress(at, to)),
        (0..3usize, any::<bool>()).prop_map(|(at, is_there)| Step::Service(at, is_there)),
        (0..3usize, any::<bool>()).prop_map(|(at, is_there)| Step::Slice(at, is_there)),
    ]
}

const HOSTS: [&str; 3] = ["a.example.com", "b.example.com", "c.example.com"];
const SERVICES: [&str; 3] = ["one", "two", "three"];
const INGRESSES: [&str; 4] = ["i", "j", "k", "l"];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_history_ends_as_a_fresh_start_would(steps in prop::collection::vec(any_step(), 0..40)) {
        let mut rig = Rig::new();
        let mut last: HashMap<usize, Option<Arc<Ingress>>> = HashMap::new();
        for (generation, step) in (1..).zip(steps) {
            rig.apply(|pending| match step {
                Step::Ingress(at, to) => {
                    let next = to.and_then(|(host, service)| {
                        ingress(INGRESSES[at], generation, HOSTS[host], SERVICES[service])
                    });
                    last.insert(at, next.clone());
                    pending.ingresses.insert(name(INGRESSES[at]), next);
                }
                Step::Service(at, true) => service(pending, SERVICES[at]),
                Step::Service(at, false) => drop(pending.services.insert(name(SERVICES[at]), None)),
                Step::Slice(at, is_there) => {
                    slice(pending, SERVICES[at], if is_there { &["10.0.0.1"] } else { &[] });
                }
            });
            // Some other time, so that backends without users come and go as well.
            rig.now += Duration::from_secs(20);
        }
        let all = |pending: &mut Pending| SERVICES.iter().for_each(|of| served(pending, of));
        rig.apply(all);
        let mut fresh = Rig::new();
        fresh.apply(|pending| {
            all(pending);
            for (at, ingress) in last {
                pending.ingresses.insert(name(INGRESSES[at]), ingress);
            }
        });
        for host in HOSTS {
            prop_assert_eq!(rig.backend(host), fresh.backend(host));
        }
        rig.now += LINGER;
        rig.apply(|_| {});
        let ids = |rig: &Rig| rig.snapshot.backends().map(|it| it.id.clone()).collect::<BTreeSet<_>>();
        prop_assert_eq!(ids(&rig), ids(&fresh));
        let keys = |rig: &Rig| rig.index.readers.keys().cloned().collect::<HashSet<_>>();
        prop_assert_eq!(keys(&rig), keys(&fresh));
    }
}
