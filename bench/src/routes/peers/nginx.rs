//! nginx with its routes in its configuration.

use std::fmt::Write as _;
use std::path::Path;

use super::Config;
use crate::peers::nginx;
use crate::routes::NAMES;

impl Config {
    pub(super) fn nginx(&self, port: u16, dir: &Path) -> String {
        let mut text = [0, 1]
            .map(|at| nginx::upstream(NAMES[at], &[self.ports[at]]))
            .concat();
        let to = |at: usize| NAMES[self.to[at]];
        if self.place.one_host {
            let _ = writeln!(text, "server {{ listen 127.0.0.1:{port};");
            for at in 0..self.to.len() {
                let path = self.place.path(at);
                let _ = writeln!(text, "location {path} {{ proxy_pass http://{}; }}", to(at));
            }
            text.push_str("}\n");
        } else {
            for at in 0..self.to.len() {
                let host = self.place.host(at);
                let _ = writeln!(
                    text,
                    "server {{ listen 127.0.0.1:{port}; server_name {host}; location / {{ proxy_pass http://{}; }} }}",
                    to(at)
                );
            }
        }
        let processes = format!("worker_processes {};", self.workers);
        nginx::frame(dir, &processes, &text)
    }
}
