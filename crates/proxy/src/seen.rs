//! A request as routes and guards see it: what the client sent, how it came in, and what was
//! verified about who sent it.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use routing::RequestView;
use routing::model::HeaderOps;

use crate::connection::Client;
use crate::guard::token::Verified;
use crate::http1::field::{Kind, kind};
use crate::message::View;
use crate::worker::Worker;

/// See the module.
#[derive(Clone, Copy)]
pub(crate) struct Seen<'a> {
    pub(crate) view: View<'a>,
    pub(crate) client: &'a Client,
    /// `None` before its token was verified, and without one.
    pub(crate) token: Option<&'a Verified>,
    /// The path that rules compare, if not the one that was sent.
    pub(crate) path: Option<&'a str>,
    /// Headers that were changed before a route was looked for.
    pub(crate) edits: Option<&'a HeaderOps>,
    /// The client's address, if trusted proxies said it.
    pub(crate) address: Option<IpAddr>,
    /// The client is not believed what only proxies could know: such headers are not seen, as its
    /// backend will not see them.
    pub(crate) is_outside: bool,
}

impl<'a> Seen<'a> {
    /// Before anything was verified.
    pub(crate) fn new(view: View<'a>, client: &'a Client) -> Self {
        Self {
            view,
            client,
            token: None,
            path: None,
            edits: None,
            address: None,
            is_outside: false,
        }
    }

    /// As routes see it, which no route's own trust has spoken for yet: who is believed say the
    /// gateway's settings.
    pub(crate) fn unrouted(worker: &Worker, view: View<'a>, client: &'a Client) -> Self {
        Self {
            is_outside: client.is_outside(worker.client.as_ref()),
            ..Self::new(view, client)
        }
    }

    /// Whether a header that was sent is not seen.
    pub(crate) fn hides(&self, name: &str) -> bool {
        self.is_outside && is_of_proxies(name)
    }

    /// All fields, with names in lower case.
    pub(crate) fn fields(&self) -> Vec<(String, String)> {
        let mut fields = self.view.fields();
        fields.retain(|(name, _)| !self.hides(name));
        let Some(edits) = self.edits else {
            return fields;
        };
        let is_gone = |name: &str| {
            let mut set = edits.set.iter().map(|(name, _)| name);
            edits.remove.iter().any(|it| **it == *name) || set.any(|it| **it == *name)
        };
        fields.retain(|(name, _)| !is_gone(name));
        let more = edits.set.iter().chain(&edits.add);
        fields.extend(more.map(|(name, value)| (name.to_string(), value.to_string())));
        fields
    }
}

/// Whether only proxies could know what such a header says.
pub(crate) fn is_of_proxies(name: &str) -> bool {
    kind(name.as_bytes()) == Kind::OfProxies
}

impl RequestView for Seen<'_> {
    fn host(&self) -> &str {
        self.view.host()
    }

    fn path(&self) -> &str {
        self.path.unwrap_or_else(|| self.view.path())
    }

    fn header(&self, name: &str) -> Option<&[u8]> {
        let Some(edits) = self.edits else {
            return self.view.header(name).filter(|_| !self.hides(name));
        };
        let named = |list: &'_ [(Arc<str>, Arc<str>)]| {
            list.iter()
                .position(|(it, _)| it.eq_ignore_ascii_case(name))
        };
        if let Some(at) = named(&edits.set) {
            return Some(edits.set[at].1.as_bytes());
        }
        let is_gone = edits.remove.iter().any(|it| it.eq_ignore_ascii_case(name));
        let is_gone = is_gone || self.hides(name);
        let sent = self.view.header(name).filter(|_| !is_gone);
        sent.or_else(|| Some(edits.add[named(&edits.add)?].1.as_bytes()))
    }

    fn method(&self) -> &str {
        RequestView::method(&self.view)
    }

    fn is_connect(&self) -> bool {
        self.view.head.is_connect
    }

    fn query(&self) -> &str {
        self.view.query()
    }

    fn each_value(&self, name: &str, each: &mut dyn FnMut(&[u8])) {
        let Some(edits) = self.edits else {
            if !self.hides(name) {
                self.view.each_value(name, each);
            }
            return;
        };
        let is = |it: &Arc<str>| it.eq_ignore_ascii_case(name);
        let is_set = edits.set.iter().any(|(it, _)| is(it));
        if !is_set && !self.hides(name) && !edits.remove.iter().any(is) {
            self.view.each_value(name, each);
        }
        let more = edits.set.iter().chain(&edits.add);
        for (_, value) in more.filter(|(it, _)| is(it)) {
            each(value.as_bytes());
        }
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

    fn destination(&self) -> Option<IpAddr> {
        let (_, own) = self.client.peer.ends.as_deref()?;
        Some(own.ip())
    }

    fn server_name(&self) -> Option<&str> {
        self.client.server_name.as_deref()
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
