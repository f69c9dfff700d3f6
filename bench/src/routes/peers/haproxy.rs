//! HAProxy with its routes in a map, which its runtime API changes, as its ingress controller does.

use std::fmt::Write as _;
use std::path::Path;

use super::Config;
use crate::peers::haproxy;
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
        let by = if self.place.one_host {
            "path,map_beg"
        } else {
            "req.hdr(host),field(1,:),lower,map"
        };
        let bind = format!("127.0.0.1:{port}");
        let frontend = format!(
            " use_backend %[{by}({dir}/routes.map)]\n",
            dir = dir.display()
        );
        let backends = [0, 1]
            .map(|at| haproxy::backend(NAMES[at], &[format!("127.0.0.1:{}", self.ports[at])]));
        haproxy::frame(dir, self.workers, &bind, &frontend, &backends.concat())
    }
}
