//! What policies do to routes and backends, and what their status says.

use std::collections::BTreeMap;
use std::time::Duration;

use routing::model::{Balancer, Model, Route};
use serde_json::{Value, json};

use crate::foreign::Object;
use crate::objects::Objects;
use crate::testing::documents;
use crate::testing::model::{self, Made};

fn policy(name: &str, created: u8, targets: &Value, sections: &Value) -> Value {
    let mut spec = sections.clone();
    spec["targetRefs"] = targets.clone();
    json!({
        "apiVersion": "gateway.suimon.dev/v1alpha1", "kind": "TrafficPolicy",
        "metadata": {
            "name": name, "namespace": "default", "generation": 3,
            "creationTimestamp": format!("2026-01-0{created}T00:00:00Z"),
        },
        "spec": spec,
    })
}

fn to(group: &str, kind: &str, name: &str) -> Value {
    json!([{"group": group, "kind": kind, "name": name}])
}

const GROUP: &str = "gateway.networking.k8s.io";

fn to_gateway() -> Value {
    to(GROUP, "Gateway", "edge")
}

fn to_route() -> Value {
    to(GROUP, "HTTPRoute", "shop")
}

fn to_service() -> Value {
    to("", "Service", "web")
}

fn made(policies: &[Value]) -> Made {
    let mut documents = model::services();
    documents.extend([
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass",
            "metadata": {"name": "suimon"},
            "spec": {"controllerName": "suimon.dev/gateway-controller"},
        }),
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
            "metadata": {
                "name": "edge", "namespace": "default", "generation": 1,
                "labels": {"networking.knative.dev/visibility": "external"},
            },
            "spec": {
                "gatewayClassName": "suimon",
                "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}],
            },
        }),
    ]);
    documents.extend(policies.iter().cloned());
    documents.push(json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {"name": "shop", "namespace": "default", "generation": 1},
        "spec": {
            "parentRefs": [{"name": "edge"}],
            "rules": [
                {"backendRefs": [{"name": "web", "port": 80}]},
                {
                    "matches": [{"path": {"type": "PathPrefix", "value": "/own"}}],
                    "backendRefs": [{"name": "web", "port": 80}],
                    "timeouts": {"request": "9s"},
                },
            ],
        },
    }));
    model::of(&documents, &mut Objects::default())
}

/// The route of a rule.
fn route(model: &Model, rule: usize) -> &Route {
    let field = format!("spec.rules[{rule}]");
    let mut routes = model.routes.values();
    let found = routes.find(|route| route.origin.field.starts_with(&field));
    found.unwrap_or_else(|| panic!("no route of {field}: {:?}", model.routes.keys()))
}

fn limits(route: &Route) -> Vec<(u64, u64)> {
    let guards = route.filters.guards.as_deref();
    let limits = guards.map_or(&[][..], |guards| &guards.rate_limits);
    limits
        .iter()
        .map(|limit| (limit.fill, limit.capacity))
        .collect()
}

fn condition(made: &Made, name: &str) -> (String, String, String) {
    let title = format!("TrafficPolicy default/{name}: ");
    let mut statuses = made.statuses.iter();
    let text = statuses.find_map(|status| status.strip_prefix(&title));
    let status: Value = serde_json::from_str(text.expect("a status")).expect("JSON");
    let ancestor = &status["ancestors"][0];
    assert_eq!(ancestor["controllerName"], "suimon.dev/gateway-controller");
    let conditions = ancestor["conditions"].as_array().expect("conditions");
    let [condition, partial @ ..] = &conditions[..] else {
        panic!("no condition")
    };
    assert_eq!(condition["observedGeneration"], 3);
    let text = |of: &Value, key: &str| of[key].as_str().unwrap_or_default().to_owned();
    let Some(partial) = partial.first() else {
        let message = text(condition, "message");
        return (
            text(condition, "status"),
            text(condition, "reason"),
            message,
        );
    };
    let kind = text(partial, "type");
    (text(condition, "status"), kind, text(partial, "message"))
}

fn limit(requests: u64) -> Value {
    json!({"rateLimits": [{"requests": requests, "interval": "1s"}]})
}

/// What a case comes to.
#[derive(serde::Serialize)]
struct Records {
    /// What routes say, by name.
    routes: BTreeMap<String, Value>,
    backends: BTreeMap<String, Value>,
    statuses: BTreeMap<String, Value>,
}

#[test]
fn each_golden_case_translates_as_recorded() {
    testkit::golden::each("golden/traffic_policy", |case| {
        let own = documents(&case.read("input.yaml"));
        let mut all = super::base();
        all.extend(own.iter().cloned());
        let mut objects = Objects::default();
        let made = model::of(&all, &mut objects);
        let policies = own
            .iter()
            .filter_map(|one| Object::new(&super::TRAFFIC_POLICY, one.clone()));
        // Again, now that every target is there.
        let statuses = policies.map(|policy| {
            let translation = policy.translate(&objects);
            (
                policy.name.to_string(),
                translation.status.unwrap_or_default(),
            )
        });
        let routes = made.model.routes.iter();
        let backends = made.model.backends.iter();
        case.check(
            "records.yaml",
            &Records {
                routes: routes
                    .map(|(id, route)| (id.0.to_string(), json!(route.filters)))
                    .collect(),
                backends: backends
                    .map(|(id, backend)| (id.0.to_string(), json!(backend.policy)))
                    .collect(),
                statuses: statuses.collect(),
            },
        );
    });
}

#[test]
fn a_section_of_the_routes_own_policy_comes_before_that_of_its_gateway() {
    let both = json!({
        "rateLimits": [{"requests": 5, "interval": "1s", "burst": 8}],
        "timeouts": {"request": "3s"},
    });
    let made = made(&[
        policy("edge", 1, &to_gateway(), &both),
        policy("shop", 2, &to_route(), &limit(7)),
    ]);
    let first = route(&made.model, 0);
    assert_eq!(limits(first), [(7, 7)]);
    assert_eq!(first.filters.request_timeout, Some(Duration::from_secs(3)));
    // What the route itself says comes before any policy.
    let own = route(&made.model, 1);
    assert_eq!(own.filters.request_timeout, Some(Duration::from_secs(9)));
    assert_eq!(condition(&made, "shop").1, "Accepted");
}

#[test]
fn of_two_policies_for_one_target_the_older_is_in_force_and_the_other_is_told() {
    let made = made(&[
        policy(
            "young",
            2,
            &to_route(),
            &json!({"timeouts": {"request": "1s"}}),
        ),
        policy("old", 1, &to_route(), &limit(7)),
    ]);
    let first = route(&made.model, 0);
    assert_eq!(limits(first), [(7, 7)]);
    assert_eq!(first.filters.request_timeout, None);
    assert_eq!(condition(&made, "old").1, "Accepted");
    let (status, reason, message) = condition(&made, "young");
    assert_eq!((&*status, &*reason), ("False", "Conflicted"));
    assert!(message.contains("default/old"), "{message}");
}

#[test]
fn a_services_policy_holds_for_whatever_reaches_it() {
    let sections = json!({
        "rateLimits": [{"requests": 4, "interval": "1s"}],
        "loadBalancer": {"type": "Maglev", "hash": [{"header": "X-User"}]},
        "outlierEjection": {"consecutive5xx": 3},
        "connections": {"maxRequests": 9, "connectTimeout": "2s"},
        "slowStart": {"window": "10s"},
    });
    let made = made(&[policy("web", 1, &to_service(), &sections)]);
    assert_eq!(condition(&made, "web").1, "Accepted");
    assert_eq!(limits(route(&made.model, 0)), [(4, 4)]);
    let mut policies = made
        .model
        .backends
        .values()
        .filter_map(|it| it.policy.clone());
    let policy = policies.next().expect("a policy");
    assert!(matches!(policy.balancer, Balancer::Maglev { .. }));
    assert_eq!(policy.limits.requests, Some(9));
    assert_eq!(policy.connect_timeout, Some(Duration::from_secs(2)));
    assert!(policy.slow_start.is_some());
    let outliers = policy.outliers.as_ref().expect("ejection");
    assert_eq!(outliers.consecutive_5xx, 3);
}

#[test]
fn every_section_of_requests_becomes_a_guard_or_a_filter() {
    let sections = json!({
        "circuitBreaker": {"errorPercent": 50, "response": {"status": 502, "body": "later"}},
        "fault": {"delay": {"duration": "1s", "percent": 10}, "abort": {"grpcStatus": 14}},
        "jwt": {"providers": [{"issuer": "i", "jwks": "{\"keys\":[]}", "from": [{"query": "t"}],
            "claimsToHeaders": [{"claim": "sub", "header": "X-Sub"}]}]},
        "authorization": {"deny": [{"to": [{"operation": {"methods": ["DELETE"]}}]}], "allow": []},
        "cors": {"allowOrigins": ["https://*.example"], "allowMethods": ["get"]},
        "retries": {"attempts": 2, "on": ["5xx"], "statuses": [429]},
        "timeouts": {"perTry": "1s"},
    });
    let made = made(&[policy("shop", 1, &to_route(), &sections)]);
    let (_, reason, message) = condition(&made, "shop");
    assert_eq!(reason, "Accepted", "{message}");
    let filters = &route(&made.model, 0).filters;
    let guards = filters.guards.as_deref().expect("guards");
    assert_eq!(guards.breakers[0].respond.status, 502);
    assert!(guards.fault.as_ref().is_some_and(|it| it.delay.is_some()));
    let tokens = guards.tokens.as_ref().expect("tokens");
    assert!(tokens.required && tokens.providers.len() == 1);
    let authorization = guards.authorization.as_ref().expect("authorization");
    assert_eq!(authorization.deny.len(), 1);
    assert_eq!(authorization.allow.as_deref(), Some(&[][..]));
    assert_eq!(filters.cors.as_ref().map(|it| &*it.methods[0]), Some("GET"));
    let retry = filters.retry.as_ref().expect("retries");
    assert_eq!((retry.attempts, &retry.statuses[..]), (2, &[429][..]));
    assert_eq!(filters.try_timeout, Some(Duration::from_secs(1)));
}

#[test]
fn what_cannot_be_in_force_is_told_and_the_rest_is() {
    let check = |targets: &Value, sections: &Value, reason: &str, parts: &[&str]| {
        let made = made(&[policy("one", 1, targets, sections)]);
        let (status, found, message) = condition(&made, "one");
        let wanted = if reason == "PartiallyInvalid" {
            "True"
        } else {
            "False"
        };
        assert_eq!((&*status, &*found), (wanted, reason), "{message}");
        for part in parts {
            assert!(message.contains(part), "{part}: {message}");
        }
        made
    };
    let made = check(
        &to_route(),
        &json!({
            "rateLimits": [{"requests": 5}, {"requests": 6, "interval": "1m"}],
            "timeouts": {"request": "soon"},
            "externalAuthorization": {"backendRef": {"name": "auth"}},
            "quota": {"requests": 1},
            "loadBalancer": {"type": "Random"},
            "invented": true,
        }),
        "PartiallyInvalid",
        &[
            "spec.rateLimits[0]",
            "spec.timeouts.request",
            "spec.externalAuthorization.service",
            "spec.externalAuthorization.backendRef",
            "spec.quota",
            "for Services",
            "spec.invented",
        ],
    );
    assert_eq!(limits(route(&made.model, 0)), [(6, 6)]);
    check(
        &to_service(),
        &json!({"retries": {"attempts": 1}}),
        "Invalid",
        &["spec.retries"],
    );
    let gone = to("", "Service", "gone");
    check(&gone, &limit(1), "TargetNotFound", &["default/gone"]);
    for kind in ["HTTPRoute", "GRPCRoute"] {
        let gone = to(GROUP, kind, "gone");
        check(&gone, &limit(1), "TargetNotFound", &["default/gone"]);
    }
    let gone = to(GROUP, "Gateway", "gone");
    check(&gone, &limit(1), "TargetNotFound", &["default/gone"]);
}

#[test]
fn what_decides_who_passes_lets_nobody_pass_when_it_cannot_be_read() {
    let sections = json!({
        "jwt": {"providers": [{"issuer": "i"}]},
        "authorization": {"allow": [{"from": [{"source": {"ipBlocks": ["nowhere"]}}]}]},
    });
    let made = made(&[policy("shop", 1, &to_route(), &sections)]);
    assert_eq!(condition(&made, "shop").1, "PartiallyInvalid");
    let guards = route(&made.model, 0).filters.guards.as_deref();
    let guards = guards.expect("guards");
    let tokens = guards.tokens.as_ref().expect("tokens");
    assert!(tokens.required && tokens.providers.is_empty());
    let authorization = guards.authorization.as_ref().expect("authorization");
    assert_eq!(authorization.allow.as_deref(), Some(&[][..]));
}
