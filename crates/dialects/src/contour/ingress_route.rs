//! IngressRoute (`contour.heptio.com/v1beta1`), which HTTPProxy replaced: read as the HTTPProxy
//! that says the same.
//!
//! What is other than a name: `match` is the whole path, in objects that are delegated to as well,
//! where it must begin with the delegating route's; balancing and health checks stand at each
//! service; a request timeout of `0s` is none at all.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::{fqdn_key, include_key, root};
use crate::foreign::{Object, Translation};
use crate::objects::Objects;

/// Translates one IngressRoute.
pub(super) fn translate(object: &Object, objects: &Objects) -> Translation {
    root::translate(object, objects)
}

/// The host of a root, and the objects that it delegates to.
pub(super) fn keys(object: &Object) -> Vec<Arc<str>> {
    let spec = object.spec();
    let mut keys = Vec::new();
    if let Some(fqdn) = spec["virtualhost"]["fqdn"].as_str() {
        keys.push(fqdn_key(fqdn, super::spec::is_internal(object)));
    }
    let routes = spec["routes"].as_array().into_iter().flatten();
    let delegates = routes.map(|route| &route["delegate"]);
    for delegate in delegates.chain([&spec["tcpproxy"]["delegate"]]) {
        let namespace = delegate["namespace"]
            .as_str()
            .filter(|text| !text.is_empty());
        let namespace = namespace.unwrap_or(&object.name.namespace);
        if let Some(name) = delegate["name"].as_str() {
            keys.push(include_key(namespace, name));
        }
    }
    keys
}

/// The body of the HTTPProxy that says the same. Routes that delegate become includes, so the
/// places in both lists are not those of the user's list.
pub(super) fn as_proxy(body: &Value) -> Value {
    let mut body = body.clone();
    let Some(spec) = body.get_mut("spec").and_then(Value::as_object_mut) else {
        return body;
    };
    if let Some(routes) = spec.get_mut("routes").and_then(Value::as_array_mut) {
        let mut includes = Vec::new();
        let mut kept = Vec::new();
        for route in routes.drain(..) {
            let Value::Object(mut route) = route else {
                kept.push(route);
                continue;
            };
            let conditions = json!([{"prefix": route.remove("match").unwrap_or_default()}]);
            route.insert("conditions".to_owned(), conditions);
            match route.remove("delegate") {
                Some(Value::Object(mut delegate)) => {
                    delegate.extend(route);
                    includes.push(Value::Object(delegate));
                }
                _ => kept.push(convert(route)),
            }
        }
        *routes = kept;
        if !includes.is_empty() {
            spec.insert("includes".to_owned(), includes.into());
        }
    }
    if let Some(tcp) = spec.get_mut("tcpproxy").and_then(Value::as_object_mut) {
        rename(tcp, "delegate", "include");
    }
    body
}

fn rename(map: &mut Map<String, Value>, from: &str, to: &str) {
    if let Some(value) = map.remove(from) {
        map.insert(to.to_owned(), value);
    }
}

fn convert(mut route: Map<String, Value>) -> Value {
    if let Some(with) = route.remove("prefixRewrite") {
        let policy = json!({"replacePrefix": [{"replacement": with}]});
        route.insert("pathRewritePolicy".to_owned(), policy);
    }
    if let Some(times) = route
        .get_mut("timeoutPolicy")
        .and_then(Value::as_object_mut)
    {
        rename(times, "request", "response");
        if let Some(response) = times.get_mut("response")
            && response
                .as_str()
                .is_some_and(|text| text.trim_end_matches('s') == "0")
        {
            *response = "infinity".into();
        }
    }
    let services = route.get_mut("services").and_then(Value::as_array_mut);
    let mut hoisted = Map::new();
    for service in services
        .into_iter()
        .flatten()
        .filter_map(Value::as_object_mut)
    {
        // One policy stands for all services, so only what all of them say can be said.
        hoist(
            service,
            "strategy",
            "loadBalancerPolicy",
            &mut hoisted,
            |it| json!({"strategy": it}),
        );
        hoist(
            service,
            "healthCheck",
            "healthCheckPolicy",
            &mut hoisted,
            Value::clone,
        );
    }
    route.extend(hoisted);
    Value::Object(route)
}

/// Moves a field of a service to its route; one that differs from another service's is left where
/// it is, to be reported.
fn hoist(
    service: &mut Map<String, Value>,
    from: &str,
    to: &str,
    hoisted: &mut Map<String, Value>,
    wrap: impl Fn(&Value) -> Value,
) {
    let Some(value) = service.get(from) else {
        return;
    };
    let value = wrap(value);
    if *hoisted.entry(to).or_insert_with(|| value.clone()) == value {
        service.remove(from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_becomes_the_one_that_says_the_same() {
        let service = |strategy: &str| json!({"name": "a", "port": 80, "strategy": strategy});
        let body = json!({"spec": {"routes": [
            {"match": "/a", "delegate": {"name": "b"}},
            {"match": "/b", "prefixRewrite": "/", "timeoutPolicy": {"request": "0s"},
             "services": [service("Random"), service("Cookie")]},
            7,
        ]}});
        let expected = json!({"spec": {
            "includes": [{"name": "b", "conditions": [{"prefix": "/a"}]}],
            "routes": [
                {"conditions": [{"prefix": "/b"}],
                 "pathRewritePolicy": {"replacePrefix": [{"replacement": "/"}]},
                 "timeoutPolicy": {"response": "infinity"},
                 "loadBalancerPolicy": {"strategy": "Random"},
                 "services": [{"name": "a", "port": 80}, service("Cookie")]},
                7,
            ],
        }});
        assert_eq!(as_proxy(&body), expected);
    }
}
