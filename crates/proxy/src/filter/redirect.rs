//! Where a redirect leads, made from the request and from what the route says.

use routing::model::RedirectPort;
use routing::{CompiledRedirect, RequestView};

use crate::connection::Client;
use crate::downstream::Reply;
use crate::message::View;

/// The answer to a request of this client.
pub(crate) fn reply(redirect: &CompiledRedirect, view: View<'_>, client: &Client) -> Reply {
    Reply {
        status: redirect.status,
        headers: vec![("Location".into(), location(redirect, view, client))],
        ..Reply::default()
    }
}

fn location(redirect: &CompiledRedirect, view: View<'_>, client: &Client) -> String {
    let own = if client.tls.is_some() {
        "https"
    } else {
        "http"
    };
    let scheme = redirect.scheme.as_deref().unwrap_or(own);
    let well_known = match scheme {
        "https" => Some(443),
        "http" => Some(80),
        _ => None,
    };
    let port = match redirect.port {
        RedirectPort::Number(number) => Some(number),
        RedirectPort::WellKnown => well_known,
        RedirectPort::Listener => Some(client.entry.port),
    };
    let host = redirect.host.as_deref().unwrap_or_else(|| host(view));
    let mut location = format!("{scheme}://{host}");
    if let Some(port) = port.filter(|port| Some(*port) != well_known) {
        location.push_str(&format!(":{port}"));
    }
    match &redirect.path {
        None => location.push_str(view.path()),
        Some(edit) => location.push_str(&edit.apply(view.path())),
    }
    if let Some((_, query)) = view.target().split_once('?')
        && !redirect.strip_query
    {
        location.push('?');
        location.push_str(query);
    }
    location
}

/// The authority without its port.
fn host<'v>(view: View<'v>) -> &'v str {
    let authority = view.authority();
    match authority.rfind(':') {
        Some(colon) if !authority[colon..].contains(']') => &authority[..colon],
        _ => authority,
    }
}

/// 301 to the same place under `https`. The port that was asked for speaks `http`.
pub(crate) fn to_https(view: View<'_>, port: Option<u16>) -> Reply {
    let port = port.map_or_else(String::new, |port| format!(":{port}"));
    let location = format!("https://{}{port}{}", host(view), view.target());
    Reply {
        status: 301,
        headers: vec![("Location".into(), location)],
        ..Reply::default()
    }
}
