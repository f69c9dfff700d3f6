//! A request as matching sees it: the one door through which the model's rules read it.
//!
//! The proxy implements it for what came over the wire, tests for what they make up. Nothing here
//! allocates, and what a request does not have is said with `None` or an empty value.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

/// What selection reads of a request.
pub trait RequestView {
    /// The authority as sent; a port is allowed.
    fn host(&self) -> &str;
    /// The path as sent, without the query.
    fn path(&self) -> &str;
    /// The value of the header with this lower-case name; the first if it was sent more than once.
    fn header(&self, name: &str) -> Option<&[u8]>;
    /// The method as sent.
    fn method(&self) -> &str;
    /// Whether this is a CONNECT request, which has no path.
    fn is_connect(&self) -> bool {
        self.method() == "CONNECT"
    }
    /// What follows the first `?` of the target; empty if there is none.
    fn query(&self) -> &str;

    /// Every value of the header with this lower-case name, in their order.
    fn each_value(&self, name: &str, each: &mut dyn FnMut(&[u8])) {
        if let Some(value) = self.header(name) {
            each(value);
        }
    }
    /// `http` or `https`: how the client reached us.
    fn scheme(&self) -> &str {
        "http"
    }
    /// The address at the other end of the connection.
    fn peer(&self) -> Option<IpAddr> {
        None
    }
    /// The client's address: the peer's, or what trusted proxies say.
    fn client(&self) -> Option<IpAddr> {
        self.peer()
    }
    /// The port of the listener that took the request.
    fn port(&self) -> Option<u16> {
        None
    }
    /// The address of ours that the connection came in at.
    fn destination(&self) -> Option<IpAddr> {
        None
    }
    /// The host that the client named in its TLS handshake, in lower case.
    fn server_name(&self) -> Option<&str> {
        None
    }
    /// The namespace of the pod that calls; `None` if it is no pod, or nobody knows.
    fn namespace(&self) -> Option<&str> {
        None
    }

    // What was verified. Only guards know it; a route's match never holds by it.

    /// The values of a claim of the verified token.
    fn claims(&self, _path: &[Arc<str>]) -> Vec<Cow<'_, str>> {
        Vec::new()
    }
    /// Who the client's certificate is for.
    fn principal(&self) -> Option<&str> {
        None
    }
    /// `issuer/subject` of the verified token.
    fn request_principal(&self) -> Option<&str> {
        None
    }
}
