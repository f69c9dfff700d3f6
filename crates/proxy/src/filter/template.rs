//! Header values put together for one request.

use std::borrow::Cow;
use std::net::IpAddr;

use routing::RequestView;
use routing::model::HeaderOps;
use routing::predicate;
use routing::template::{CompiledTemplate, Part};

use crate::connection::Client;
use crate::downstream::Answer;
use crate::message::View;
use crate::seen::Seen;

/// Who sent a request.
pub(crate) struct Sender<'a> {
    pub(crate) view: View<'a>,
    pub(crate) client: &'a Client,
    /// The client's address, if trusted proxies said it.
    pub(crate) address: Option<IpAddr>,
    /// See [`Seen::is_outside`].
    pub(crate) is_outside: bool,
}

impl<'a> Sender<'a> {
    /// What was sent, as far as the sender is believed.
    pub(crate) fn seen(&self) -> Seen<'a> {
        Seen {
            address: self.address,
            is_outside: self.is_outside,
            ..Seen::new(self.view, self.client)
        }
    }

    /// The client's address.
    pub(crate) fn address(&self) -> Cow<'_, str> {
        match self.address {
            None => Cow::Borrowed(&self.client.peer.text),
            Some(address) => Cow::Owned(address.to_string()),
        }
    }
}

/// The value for a request. What it does not have is left out, and so is what only its answer
/// will have.
pub(crate) fn request(parts: &[Part], sender: &Sender<'_>) -> String {
    let mut value = String::new();
    for part in parts {
        write(&mut value, part, sender);
    }
    value
}

/// A part of an answer's value as far as the request decides it.
pub(crate) fn known(part: &Part, sender: &Sender<'_>) -> Part {
    match part {
        Part::Response(name) => Part::Response(name.clone()),
        other => {
            let mut text = String::new();
            write(&mut text, other, sender);
            Part::Text(text.into())
        }
    }
}

/// The value for an answer; its parts were [`known`].
pub(crate) fn answer(parts: &[Part], answer: &Answer<'_>) -> String {
    let mut value = String::new();
    for part in parts {
        match part {
            Part::Response(name) => {
                let sent = answer.field(name).unwrap_or_default();
                value.push_str(&String::from_utf8_lossy(sent));
            }
            Part::Text(text) => value.push_str(text),
            _ => {}
        }
    }
    value
}

/// Appends one part.
fn write(value: &mut String, part: &Part, sender: &Sender<'_>) {
    let Sender { view, client, .. } = *sender;
    let scheme = || {
        if client.peer.is_secure {
            "https"
        } else {
            "http"
        }
    };
    match part {
        Part::Text(text) => value.push_str(text),
        Part::Request(name) => match &**name {
            ":authority" => value.push_str(view.authority()),
            ":path" => value.push_str(view.target()),
            ":method" => value.push_str(view.method()),
            ":scheme" => value.push_str(scheme()),
            name => {
                let seen = sender.seen();
                let sent = predicate::joined(&seen, name).unwrap_or_default();
                value.push_str(&String::from_utf8_lossy(&sent));
            }
        },
        Part::Response(_) => {}
        Part::RemoteAddress => value.push_str(&sender.address()),
        Part::Protocol => value.push_str(view.protocol()),
        Part::Host => value.push_str(&predicate::host(&view)),
        Part::Path => value.push_str(view.target()),
        Part::Method => value.push_str(RequestView::method(&view)),
        Part::Scheme => value.push_str(scheme()),
    }
}

/// Writes a value as its template says. An empty one is not written, as in Envoy.
pub(crate) fn put(ops: &mut HeaderOps, template: &CompiledTemplate, value: String) {
    if value.is_empty() {
        return;
    }
    let field = (template.name.clone(), value.into());
    if template.append {
        ops.add.push(field);
    } else {
        ops.set.push(field);
    }
}
