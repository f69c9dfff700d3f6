//! HAProxy with its routes in a map, which its runtime API changes, as its ingress controller does.

use std::fmt::Write as _;
use std::path::Path;

use super::Config;
use crate::routes::NAMES;

impl Config {
    /// What the map knows a route by.
    fn haproxy_key(&self, route: usize) -> String {
        if self.place.one_host {
            self.place.path(route)
        } else {
            self.place.host(route)
        }
    }

    pub(super) fn haproxy_map(&self) -> String {
        let mut text = String::new();
        for route in 0..self.to.len() {
            let to = NAMES[self.to[route]];
            let _ = writeln!(text, "{} {to}", self.haproxy_key(route));
        }
        text
    }

    /// The command that sends a route to where it goes now.
    pub(super) fn haproxy_change(&self, dir: &Path, route: usize) -> String {
        let (key, to) = (self.haproxy_key(route), NAMES[self.to[route]]);
        format!("set map {}/routes.map {key} {to}\n", dir.display())
    }

    pub(super) fn haproxy(&self, port: u16, dir: &Path) -> String {
        let dir = dir.display();
        let by = if self.place.one_host {
            "path,map_beg"
        } else {
            "req.hdr(host),field(1,:),lower,map"
        };
        let mut text = format!(
            "global
 nbthread 2
 stats socket {dir}/admin.sock level admin
defaults
 mode http
 timeout connect 5s
 timeout client 60s
 timeout server 60s
frontend all
 bind 127.0.0.1:{port}
 use_backend %[{by}({dir}/routes.map)]
"
        );
        for (name, port) in NAMES.iter().zip(self.ports) {
            let _ = writeln!(text, "backend {name}\n server one 127.0.0.1:{port}");
        }
        text
    }
}
