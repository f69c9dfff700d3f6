//! `grpc-web`: browsers before a backend that speaks gRPC.

use std::sync::Arc;
use std::time::Duration;

use routing::model::{Cors, Filters, Origins, PathEdit, PathMatch};

use super::edit::words;
use super::plugin::Effects;
use crate::fields::Fields;

/// What a page may send, as APISIX has it.
const HEADERS: &str = "content-type,x-grpc-web,x-user-agent,grpc-accept-encoding";
/// What it may read.
const EXPOSED: &str = "grpc-status,grpc-message";

/// What the plugin says.
#[derive(Clone, Debug)]
pub(super) struct Plugin {
    /// The path is sent as it came, with what the rule's path says before its `*`.
    keeps_path: bool,
    headers: Vec<Arc<str>>,
}

pub(super) fn read(config: &Fields<'_>, effects: &mut Effects) {
    // Always, as the protocol wants it.
    config.ignore("enable_in_body_trailers_on_success");
    let headers = config.text("cors_allow_headers").unwrap_or(HEADERS);
    effects.grpc_web = Some(Plugin {
        keeps_path: config.bool("strip_path").unwrap_or(false),
        headers: words(Some(headers)),
    });
}

/// Lets pages of every origin read answers, unless `cors` says which.
pub(super) fn show(effects: &mut Effects) {
    let Some(plugin) = &effects.grpc_web else {
        return;
    };
    let expose = words(Some(EXPOSED));
    let cors = match effects.filters.cors.as_deref() {
        Some(said) => Cors {
            expose,
            ..said.clone()
        },
        None => Cors {
            origins: vec![Origins::Any],
            methods: words(Some("POST,OPTIONS")),
            headers: plugin.headers.clone(),
            expose,
            credentials: false,
            max_age: Duration::from_secs(5),
        },
    };
    effects.filters.cors = Some(Arc::new(cors));
}

impl Plugin {
    /// The path that a call is sent with: what the rule's `*` stands for.
    pub(super) fn edit(&self, path: &PathMatch, filters: &mut Filters) {
        if let PathMatch::StringPrefix(prefix) = path
            && **prefix != *"/"
            && !self.keeps_path
            && filters.rewrite_path.is_none()
        {
            filters.rewrite_path = Some(PathEdit::Text {
                matched: Arc::clone(prefix),
                with: "/".into(),
            });
        }
    }
}
