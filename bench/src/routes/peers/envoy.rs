//! Envoy with its routes in a file that it watches.

use serde_json::{Value, json};

use super::Config;
use crate::peers::envoy;
use crate::routes::NAMES;

impl Config {
    pub(super) fn envoy_routes(&self, version: usize) -> Value {
        let route = |route: usize| {
            let path = self.place.path(route);
            json!({"match": {"prefix": path}, "route": {"cluster": NAMES[self.to[route]]}})
        };
        let all = 0..self.to.len();
        let hosts: Vec<Value> = if self.place.one_host {
            let routes: Vec<Value> = all.map(route).collect();
            vec![json!({"name": "all", "domains": [self.place.host(0)], "routes": routes})]
        } else {
            let host = |at: usize| {
                let name = format!("r{at}");
                json!({"name": name, "domains": [self.place.host(at)], "routes": [route(at)]})
            };
            all.map(host).collect()
        };
        json!({
            "version_info": version.to_string(),
            "resources": [{
                "@type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
                "name": "routes", "virtual_hosts": hosts,
            }],
        })
    }

    pub(super) fn envoy(&self, port: u16, routes: &str) -> Value {
        let source = json!({"resource_api_version": "V3", "path_config_source": {"path": routes}});
        let manager = json!({"rds": {"route_config_name": "routes", "config_source": source}});
        let clusters = [0, 1].map(|at| envoy::fixed(NAMES[at], self.ports[at]));
        envoy::frame(port, None, manager, clusters.to_vec())
    }
}
