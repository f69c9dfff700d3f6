//! ListenerSets and policies that come, change and go.

use super::*;
use dialects::gateway_api::PolicyKind;

fn open() -> Value {
    json!({
        "metadata": {"name": "g", "namespace": "default", "uid": "u", "generation": 1},
        "spec": {
            "gatewayClassName": "c", "listeners": http(),
            "allowedListeners": {"namespaces": {"from": "Same"}},
        },
    })
}

fn set(generation: i64, host: &str) -> Value {
    json!({
        "metadata": {"name": "s", "namespace": "default", "uid": "s", "generation": generation},
        "spec": {
            "parentRef": {"name": "g"},
            "listeners": [{"name": "web", "port": 80, "protocol": "HTTP", "hostname": host}],
        },
    })
}

fn route_to_set() -> Value {
    json!({
        "metadata": {"name": "r", "namespace": "default", "uid": "r", "generation": 1},
        "spec": {
            "parentRefs": [{"kind": "ListenerSet", "name": "s"}],
            "rules": [{"backendRefs": [{"name": "one", "port": 80}]}],
        },
    })
}

impl Rig {
    /// What is told about the set: its generation, why it is refused, and its routes.
    fn set_told(&mut self) -> Option<(i64, Option<&'static str>, usize)> {
        let outcomes = self.index.take_gateway_outcomes();
        let told = outcomes.sets.into_iter().find_map(|(_, outcome)| outcome)?;
        let refused = told.plan.refused.as_ref().map(|finding| finding.reason);
        Some((told.generation, refused, told.attached.values().sum()))
    }
}

#[tokio::test(start_paused = true)]
async fn a_set_is_served_at_its_gateways_bind_and_told_when_that_goes() {
    let mut rig = Rig::new();
    rig.apply(|pending| {
        pending.http_routes.insert(name("r"), read(route_to_set()));
        pending
            .listener_sets
            .insert(name("s"), read(set(1, "a.example.com")));
    });
    assert_eq!(rig.set_told(), None);
    rig.apply(|pending| drop(pending.gateways.insert(name("g"), read(open()))));
    assert!(rig.selected("a.example.com").is_some());
    assert_eq!(rig.selected("b.example.com"), None);
    assert_eq!(rig.set_told(), Some((1, None, 1)));
    rig.apply(|pending| {
        let changed = set(2, "b.example.com");
        drop(pending.listener_sets.insert(name("s"), read(changed)));
    });
    assert_eq!(rig.selected("a.example.com"), None);
    assert!(rig.selected("b.example.com").is_some());
    assert_eq!(rig.set_told(), Some((2, None, 1)));
    rig.apply(|pending| drop(pending.gateways.insert(name("g"), None)));
    assert_eq!(rig.set_told(), Some((2, Some("ParentNotAccepted"), 0)));
}

#[tokio::test(start_paused = true)]
async fn a_policy_is_told_below_the_gateways_whose_routes_use_its_service() {
    let mut rig = Rig::new();
    rig.gateway("u", 1, http());
    rig.route("a", "one", 1);
    let policy = json!({
        "metadata": {"name": "p", "namespace": "default", "uid": "p", "generation": 4},
        "spec": {
            "targetRefs": [{"group": "", "kind": "Service", "name": "one"}],
            "validation": {"hostname": "one.internal", "wellKnownCACertificates": "System"},
        },
    });
    let ancestors = |rig: &mut Rig| {
        let outcomes = rig.index.take_gateway_outcomes();
        let told = outcomes
            .policies
            .into_iter()
            .find(|(key, _)| key.kind == PolicyKind::BackendTls && *key.name.name == *"p");
        let told = told.and_then(|(_, told)| told)?;
        let names = told.ancestors.iter();
        let names: Vec<_> = names.map(|(gateway, _)| gateway.to_string()).collect();
        Some((told.generation, names))
    };
    rig.apply(|pending| drop(pending.backend_tls_policies.insert(name("p"), read(policy))));
    let there = Some((4, vec!["default/g".to_owned()]));
    assert_eq!(ancestors(&mut rig), there);
    let id = |rig: &mut Rig| {
        let snapshot = rig.snapshot();
        let mut backends = snapshot.backends();
        backends.any(|backend| backend.tls.is_some())
    };
    assert!(id(&mut rig));
    // The route goes elsewhere: the policy has nobody to be told about.
    rig.route("a", "two", 2);
    assert_eq!(ancestors(&mut rig), Some((4, Vec::new())));
}
