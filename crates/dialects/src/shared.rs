//! Leaf functions that dialects share. They take plain values and never decide control flow.

pub(crate) mod authorities;
pub(crate) mod authority;
pub(crate) mod client;
pub(crate) mod crypto;
pub(crate) mod descriptor;
pub(crate) mod envoy_format;
pub(crate) mod go_duration;
pub(crate) mod headers;
pub(crate) mod host;
pub(crate) mod limits;
pub(crate) mod location;
pub(crate) mod matches;
pub(crate) mod preamble;
pub(crate) mod retry_on;
pub(crate) mod scheme;
pub(crate) mod selector;
pub(crate) mod stream;
pub(crate) mod text;
pub(crate) mod tls;
pub(crate) mod upstream;
pub(crate) mod variant;
