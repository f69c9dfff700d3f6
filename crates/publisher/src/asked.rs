//! What the tests ask a snapshot: a GET of a host and a path, and nothing else.

use routing::RequestView;

/// The host, and the path.
pub(crate) struct Get(pub(crate) &'static str, pub(crate) &'static str);

impl Get {
    /// The first page of a host.
    pub(crate) fn root(host: &'static str) -> Self {
        Self(host, "/")
    }
}

impl RequestView for Get {
    fn host(&self) -> &str {
        self.0
    }
    fn path(&self) -> &str {
        self.1
    }
    fn header(&self, _: &str) -> Option<&[u8]> {
        None
    }
    fn method(&self) -> &str {
        "GET"
    }
    fn query(&self) -> &str {
        ""
    }
}
