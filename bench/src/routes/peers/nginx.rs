//! nginx with its routes in its configuration.

use std::fmt::Write as _;
use std::path::Path;

use super::Config;
use crate::routes::NAMES;

impl Config {
    pub(super) fn nginx(&self, port: u16, dir: &Path) -> String {
        let dir = dir.display();
        let upstream = |at: usize| {
            format!(
                "upstream {} {{ server 127.0.0.1:{}; keepalive 64; }}\n",
                NAMES[at], self.ports[at]
            )
        };
        let mut text = format!(
            "worker_processes 2; daemon off; pid {dir}/nginx.pid; error_log /dev/null crit;
events {{ worker_connections 4096; }}
http {{ access_log off; server_names_hash_max_size 65536; server_names_hash_bucket_size 128;
client_body_temp_path {dir}/b; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_set_header Host $host;
{}{}",
            upstream(0),
            upstream(1),
        );
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
        text.push_str("}\n");
        text
    }
}
