//! Envoy with its routes in a file that it watches.

use serde_json::{Value, json};

use super::Config;
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
        let manager = json!({
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "b",
            "rds": {
                "route_config_name": "routes",
                "config_source": {"resource_api_version": "V3", "path_config_source": {"path": routes}},
            },
            "http_filters": [{"name": "router", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
            }}],
        });
        let cluster = |at: usize| {
            let address =
                json!({"socket_address": {"address": "127.0.0.1", "port_value": self.ports[at]}});
            json!({
                "name": NAMES[at], "type": "STATIC", "connect_timeout": "5s",
                "load_assignment": {"cluster_name": NAMES[at], "endpoints": [{
                    "lb_endpoints": [{"endpoint": {"address": address}}],
                }]},
            })
        };
        json!({
            "node": {"id": "bench", "cluster": "bench"},
            "static_resources": {
                "listeners": [{
                    "name": "l",
                    "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
                    "filter_chains": [{"filters": [{"name": "hcm", "typed_config": manager}]}],
                }],
                "clusters": [cluster(0), cluster(1)],
            },
        })
    }
}
