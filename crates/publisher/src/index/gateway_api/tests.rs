//! What changes when objects of Gateway API come, change and go.

mod attached;

use super::super::Rebuilt;
use super::*;
use crate::asked::Get;
use crate::inbox::Pending;
use routing::{BindId, BindKey, Snapshot};
use serde_json::{Value, json};

/// An index that is rebuilt after every change.
struct Rig {
    index: Index,
    now: Instant,
}

fn read<T: serde::de::DeserializeOwned>(value: Value) -> Option<Arc<T>> {
    Some(Arc::new(
        serde_json::from_value(value).expect("an object of this kind"),
    ))
}

fn name(text: &str) -> Name {
    Name::new("default", text)
}

impl Rig {
    fn new() -> Self {
        let mut rig = Self {
            index: Index::new(&crate::tests::settings(), Vec::new()),
            now: Instant::now(),
        };
        rig.apply(|pending| {
            let class =
                json!({"metadata": {"name": "c"}, "spec": {"controllerName": "a.example/b"}});
            pending.classes.insert(Name::new("", "c"), read(class));
            for service in ["one", "two"] {
                let metadata = json!({"name": service, "namespace": "default"});
                let object = json!({"metadata": metadata, "spec": {"ports": [{"port": 80}]}});
                pending.services.insert(name(service), read(object));
            }
        });
        rig
    }

    fn apply(&mut self, change: impl FnOnce(&mut Pending)) -> Rebuilt {
        let mut pending = Pending::default();
        change(&mut pending);
        self.index.apply(pending, self.now);
        self.index.rebuild(self.now)
    }

    fn gateway(&mut self, uid: &str, generation: i64, listeners: Value) -> Rebuilt {
        let object = json!({
            "metadata": {"name": "g", "namespace": "default", "uid": uid, "generation": generation},
            "spec": {"gatewayClassName": "c", "listeners": listeners},
        });
        self.apply(|pending| drop(pending.gateways.insert(name("g"), read(object))))
    }

    fn route(&mut self, of: &str, service: &str, generation: i64) -> Rebuilt {
        let host = format!("{of}.example.com");
        let object = json!({
            "metadata": {"name": of, "namespace": "default", "uid": of, "generation": generation},
            "spec": {
                "parentRefs": [{"name": "g"}], "hostnames": [host],
                "rules": [{"backendRefs": [{"name": service, "port": 80}]}],
            },
        });
        self.apply(|pending| drop(pending.http_routes.insert(name(of), read(object))))
    }

    fn snapshot(&mut self) -> Snapshot {
        self.index.compile().0
    }

    /// The id of the route that a host gets at the Gateway's bind for port 80.
    fn selected(&mut self, host: &'static str) -> Option<String> {
        let bind = BindKey::new(BindId("Gateway default/g 127.64.0.1:80".into()));
        let snapshot = self.snapshot();
        let route = snapshot.select_at(&bind, &Get::root(host))?;
        Some(route.id().to_string())
    }

    /// Routes per listener, as the Gateway's status will say.
    fn attached(&mut self) -> Vec<(String, usize)> {
        let outcomes = self.index.take_gateway_outcomes();
        let told = outcomes
            .gateways
            .into_iter()
            .find_map(|(_, outcome)| outcome);
        let attached = told.map(|outcome| outcome.attached).unwrap_or_default();
        let texts = attached
            .into_iter()
            .map(|(name, count)| (name.to_string(), count));
        texts.collect()
    }
}

fn http() -> Value {
    json!([{"name": "http", "port": 80, "protocol": "HTTP"}])
}

#[tokio::test(start_paused = true)]
async fn a_route_is_served_at_its_gateways_bind_whichever_came_first() {
    let mut rig = Rig::new();
    rig.route("early", "one", 1);
    rig.gateway("u", 1, http());
    rig.route("late", "one", 1);
    for host in ["early.example.com", "late.example.com"] {
        let id = rig.selected(host).expect("a route");
        assert!(
            id.ends_with(" 00.00 Gateway default/g 127.64.0.1:80"),
            "{id}"
        );
    }
    assert_eq!(rig.attached(), [("http".to_owned(), 2)]);
}

#[tokio::test(start_paused = true)]
async fn one_changed_route_costs_one_translation() {
    let mut rig = Rig::new();
    rig.gateway("u", 1, http());
    rig.route("a", "one", 1);
    rig.route("b", "one", 1);
    rig.snapshot();
    let rebuilt = rig.route("a", "two", 2);
    let expected = Rebuilt {
        routes: 1,
        backends: 1,
        is_dirty: true,
        ..Rebuilt::default()
    };
    assert_eq!(rebuilt, expected);
    rig.snapshot();
    // The same again, as a status write brings it, costs nothing.
    assert_eq!(rig.route("a", "two", 2), Rebuilt::default());
}

#[tokio::test(start_paused = true)]
async fn routes_are_translated_again_only_for_what_they_see_of_a_gateway() {
    let mut rig = Rig::new();
    rig.gateway("u", 1, http());
    rig.route("a", "one", 1);
    rig.snapshot();
    let rebuilt = rig.gateway("u", 2, http());
    assert_eq!((rebuilt.gateways, rebuilt.routes), (1, 0));
    let more = json!([
        {"name": "http", "port": 80, "protocol": "HTTP"},
        {"name": "other", "port": 8080, "protocol": "HTTP"},
    ]);
    let rebuilt = rig.gateway("u", 3, more);
    assert_eq!((rebuilt.gateways, rebuilt.routes), (1, 1));
    let both = [("http".to_owned(), 1), ("other".to_owned(), 1)];
    assert_eq!(rig.attached(), both);
}

#[tokio::test(start_paused = true)]
async fn what_is_deleted_is_served_no_more_and_counted_no_more() {
    let mut rig = Rig::new();
    rig.gateway("u", 1, http());
    rig.route("a", "one", 1);
    assert!(rig.selected("a.example.com").is_some());
    rig.apply(|pending| drop(pending.http_routes.insert(name("a"), None)));
    assert_eq!(rig.selected("a.example.com"), None);
    assert_eq!(rig.attached(), []);
    rig.apply(|pending| drop(pending.gateways.insert(name("g"), None)));
    assert_eq!(rig.snapshot().binds().count(), 0);
    // A Gateway of the same name is another one, and its address is free again.
    rig.gateway("v", 1, http());
    rig.route("a", "one", 1);
    assert!(rig.selected("a.example.com").is_some());
}

#[tokio::test(start_paused = true)]
async fn a_gateway_without_its_class_is_not_ours() {
    let mut rig = Rig::new();
    rig.gateway("u", 1, http());
    rig.route("a", "one", 1);
    assert!(rig.selected("a.example.com").is_some());
    rig.apply(|pending| drop(pending.classes.insert(Name::new("", "c"), None)));
    assert_eq!(rig.snapshot().binds().count(), 0);
    let outcomes = rig.index.take_gateway_outcomes();
    let told = outcomes.routes.into_iter().find_map(|(_, outcome)| outcome);
    assert_eq!(told.map(|outcome| outcome.parents), Some(Vec::new()));
}

#[tokio::test(start_paused = true)]
async fn sockets_are_opened_and_closed_with_their_gateways() {
    let mut rig = Rig::new();
    rig.gateway("u", 1, http());
    rig.index.settle_binds(rig.now).await;
    let outcomes = rig.index.take_gateway_outcomes();
    let mut told = outcomes.gateways.into_iter();
    let told = told.find_map(|(_, outcome)| outcome);
    assert!(told.expect("an outcome").failed.is_empty());
    rig.apply(|pending| drop(pending.gateways.insert(name("g"), None)));
    rig.index.settle_binds(rig.now).await;
    assert!(rig.index.gateway_api.binds.failed().is_empty());
}

mod services;
mod streams;
