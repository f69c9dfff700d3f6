//! A request as routes and guards see it: what the client sent, how it came in, and what was
//! verified about who sent it.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use routing::RequestView;

use crate::connection::Client;
use crate::guard::token::Verified;
use crate::message::View;

/// See the module.
#[derive(Clone, Copy)]
pub(crate) struct Seen<'a> {
    pub(crate) view: View<'a>,
    pub(crate) client: &'a Client,
    /// `None` before its token was verified, and without one.
    pub(crate) token: Option<&'a Verified>,
    /// The path that rules compare, if not the one that was sent.
    pub(crate) path: Option<&'a str>,
    /// The client's address, if trusted proxies said it.
    pub(crate) address: Option<IpAddr>,
}

impl<'a> Seen<'a> {
    /// Before anything was verified.
    pub(crate) fn new(view: View<'a>, client: &'a Client) -> Self {
        Self {
            view,
            client,
            token: None,
            path: None,
            address: None,
        }
    }
}

impl RequestView for Seen<'_> {
    fn host(&self) -> &str {
        self.view.host()
    }

    fn path(&self) -> &str {
        self.path.unwrap_or_else(|| self.view.path())
    }

    fn header(&self, name: &str) -> Option<&[u8]> {
        self.view.header(name)
    }

    fn method(&self) -> &str {
        RequestView::method(&self.view)
    }

    fn query(&self) -> &str {
        self.view.query()
    }

    fn each_value(&self, name: &str, each: &mut dyn FnMut(&[u8])) {
        self.view.each_value(name, each);
    }

    fn scheme(&self) -> &str {
        if self.client.peer.is_secure {
            "https"
        } else {
            "http"
        }
    }

    fn peer(&self) -> Option<IpAddr> {
        Some(self.client.peer.address)
    }

    fn client(&self) -> Option<IpAddr> {
        self.address.or_else(|| self.peer())
    }

    fn port(&self) -> Option<u16> {
        Some(self.client.entry.port)
    }

    fn namespace(&self) -> Option<&str> {
        self.client.namespace.as_deref()
    }

    fn claims(&self, path: &[Arc<str>]) -> Vec<Cow<'_, str>> {
        self.token.map_or_else(Vec::new, |token| token.values(path))
    }

    fn principal(&self) -> Option<&str> {
        self.client.principal.as_deref()
    }

    fn request_principal(&self) -> Option<&str> {
        self.token?.principal.as_deref()
    }
}
