//! The same for routes without HTTP.

use super::*;
use api::gateway::v1::{RouteStatus, TcpRoute, TlsRoute, UdpRoute};
use dialects::gateway_api;
use routing::{CompiledSplit, CompiledTlsAction};

fn listeners() -> Value {
    json!([
        {"name": "tcp", "port": 53, "protocol": "TCP"},
        {"name": "udp", "port": 53, "protocol": "UDP"},
        {"name": "tls", "port": 443, "protocol": "TLS", "tls": {"mode": "Passthrough"}},
    ])
}

fn route(of: &str, created: &str, service: &str, hostnames: Value) -> Value {
    let mut route = json!({
        "metadata": {"name": of, "namespace": "default", "uid": of, "generation": 1, "creationTimestamp": created},
        "spec": {
            "parentRefs": [{"name": "g"}],
            "rules": [{"backendRefs": [{"name": service, "port": 80}]}],
        },
    });
    if !hostnames.is_null() {
        route["spec"]["hostnames"] = hostnames;
    }
    route
}

fn backend(split: &CompiledSplit) -> String {
    let arm = split.at(0);
    match arm.instead.as_deref() {
        Some(_) => "closed".to_owned(),
        None => arm.backend.to_string(),
    }
}

impl Rig {
    fn tcp(&mut self, of: &str, created: &str, service: &str) {
        let object: Option<Arc<TcpRoute>> = read(route(of, created, service, Value::Null));
        self.apply(|pending| drop(pending.tcp_routes.insert(name(of), object)));
    }

    /// Where a bind leads; `None` if nothing says so.
    fn stream(&mut self, bind: &str) -> Option<String> {
        let bind = BindKey::new(BindId(
            format!("Gateway default/g 127.64.0.1:{bind}").into(),
        ));
        self.snapshot().stream_at(&bind).map(|split| backend(split))
    }
}

const OLD: &str = "2026-01-01T00:00:00Z";
const NEW: &str = "2026-01-02T00:00:00Z";

#[tokio::test(start_paused = true)]
async fn a_listener_passes_on_to_its_oldest_route_and_then_to_the_next() {
    let mut rig = Rig::new();
    rig.tcp("a-new", NEW, "two");
    rig.gateway("u", 1, listeners());
    rig.tcp("b-old", OLD, "one");
    assert_eq!(rig.stream("53").as_deref(), Some("default/one:80/tcp"));
    assert_eq!(rig.stream("53/udp"), None);
    assert_eq!(rig.attached(), [("tcp".to_owned(), 2)]);
    rig.apply(|pending| drop(pending.tcp_routes.insert(name("b-old"), None)));
    assert_eq!(rig.stream("53").as_deref(), Some("default/two:80/tcp"));
    assert_eq!(rig.attached(), [("tcp".to_owned(), 1)]);
    rig.tcp("a-new", NEW, "gone");
    assert_eq!(rig.stream("53").as_deref(), Some("closed"));
    // A Gateway that is gone takes its binds with it.
    rig.apply(|pending| drop(pending.gateways.insert(name("g"), None)));
    assert_eq!(rig.stream("53"), None);
}

#[tokio::test(start_paused = true)]
async fn datagrams_and_connections_of_one_number_have_routes_of_their_own() {
    let mut rig = Rig::new();
    rig.gateway("u", 1, listeners());
    rig.apply(|pending| {
        let metadata = json!({"name": "names", "namespace": "default"});
        let ports =
            json!([{"name": "a", "port": 80}, {"name": "b", "port": 80, "protocol": "UDP"}]);
        let service = json!({"metadata": metadata, "spec": {"ports": ports}});
        pending.services.insert(name("names"), read(service));
        let object: Option<Arc<UdpRoute>> = read(route("u", OLD, "names", Value::Null));
        pending.udp_routes.insert(name("u"), object);
    });
    rig.tcp("t", OLD, "names");
    assert_eq!(rig.stream("53").as_deref(), Some("default/names:80/tcp"));
    assert_eq!(
        rig.stream("53/udp").as_deref(),
        Some("default/names:80/udp")
    );
    let counts = [("tcp".to_owned(), 1), ("udp".to_owned(), 1)];
    assert_eq!(rig.attached(), counts);
}

#[tokio::test(start_paused = true)]
async fn tls_goes_by_name_and_what_is_deleted_is_refused() {
    let mut rig = Rig::new();
    rig.gateway("u", 1, listeners());
    let object: Option<Arc<TlsRoute>> = read(route("s", OLD, "one", json!(["*.example.com"])));
    rig.apply(|pending| drop(pending.tls_routes.insert(name("s"), object)));
    let bind = BindKey::new(BindId("Gateway default/g 127.64.0.1:443".into()));
    let asked = |snapshot: &Snapshot, name: &str| match &snapshot.tls_at(&bind, Some(name))?.action
    {
        CompiledTlsAction::Passthrough(split) => Some(backend(split)),
        CompiledTlsAction::Refuse => Some("refused".to_owned()),
        CompiledTlsAction::Terminate(_) | CompiledTlsAction::Relay(..) => None,
    };
    let snapshot = rig.snapshot();
    let found = asked(&snapshot, "a.example.com");
    assert_eq!(found.as_deref(), Some("default/one:80/tcp"));
    assert_eq!(asked(&snapshot, "example.org").as_deref(), Some("refused"));
    rig.apply(|pending| drop(pending.tls_routes.insert(name("s"), None)));
    let snapshot = rig.snapshot();
    assert_eq!(
        asked(&snapshot, "a.example.com").as_deref(),
        Some("refused")
    );
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_is_taken_back_closes_what_it_allowed() {
    let mut rig = Rig::new();
    rig.gateway("u", 1, listeners());
    rig.apply(|pending| {
        let there = Name::new("other", "one");
        let metadata = json!({"name": "one", "namespace": "other"});
        let service = json!({"metadata": metadata, "spec": {"ports": [{"port": 80}]}});
        pending.services.insert(there, read(service));
        let grant = json!({"metadata": {"name": "g", "namespace": "other"}, "spec": {
            "from": [{"group": "gateway.networking.k8s.io", "kind": "TCPRoute", "namespace": "default"}],
            "to": [{"group": "", "kind": "Service"}],
        }});
        pending.grants.insert(Name::new("other", "g"), read(grant));
        let mut route = route("t", OLD, "one", Value::Null);
        route["spec"]["rules"][0]["backendRefs"][0]["namespace"] = json!("other");
        let object: Option<Arc<TcpRoute>> = read(route);
        pending.tcp_routes.insert(name("t"), object);
    });
    assert_eq!(rig.stream("53").as_deref(), Some("other/one:80/tcp"));
    rig.apply(|pending| drop(pending.grants.insert(Name::new("other", "g"), None)));
    assert_eq!(rig.stream("53").as_deref(), Some("closed"));
    let outcomes = rig.index.take_gateway_outcomes();
    let mut told = outcomes.routes.into_iter();
    let told = told.find_map(|(_, outcome)| outcome).expect("it is due");
    let now = serde_json::from_value(OLD.into()).expect("a time");
    let status: RouteStatus =
        gateway_api::route_status(None, told.generation, &told.parents, |_| true, &now);
    let conditions = &status.parents[0].conditions;
    let reason = |type_: &str| {
        let found = conditions.iter().find(|it| it.type_ == type_);
        found.map(|it| (it.status.as_str(), it.reason.as_str()))
    };
    assert_eq!(reason("Accepted"), Some(("True", "Accepted")));
    assert_eq!(reason("ResolvedRefs"), Some(("False", "RefNotPermitted")));
}
