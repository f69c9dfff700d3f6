//! `Forwarded` and `X-Forwarded-*`, as Knative's data path writes them.
//!
//! `X-Forwarded-For` gets the peer appended; `-Host` and `-Proto` are written unless a trusted
//! hop before us did; `Forwarded` is made from them unless it is there already (knative/serving,
//! `pkg/queue/forwarded_shim.go`). What a client claims is passed on, as Knative does: who needs
//! it to be true puts a hop in front that overwrites it.

use std::net::{IpAddr, SocketAddr};

use crate::http1::field::is_token;

/// The other end of a downstream connection, rendered once.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) text: String,
    pub(crate) address: IpAddr,
    /// It spoke TLS to us.
    pub(crate) is_secure: bool,
    /// Its address and the one that it connected to, as far as they are known. Boxed, because
    /// every idle connection has one.
    pub(crate) ends: Option<Box<(SocketAddr, SocketAddr)>>,
}

impl Peer {
    pub(crate) fn new(address: IpAddr, is_secure: bool) -> Self {
        // A dual-stack socket shows IPv4 peers as mapped addresses.
        let address = address.to_canonical();
        Self {
            text: address.to_string(),
            address,
            is_secure,
            ends: None,
        }
    }

    /// Its address and the one that it connected to.
    pub(crate) fn ends(&self) -> Option<(SocketAddr, SocketAddr)> {
        self.ends.as_deref().copied()
    }

    /// As [`Self::new`], for the peer of a socket with this address of its own.
    pub(crate) fn of(peer: SocketAddr, own: Option<SocketAddr>, is_secure: bool) -> Self {
        Self {
            ends: own.map(|own| Box::new((peer, own))),
            ..Self::new(peer.ip(), is_secure)
        }
    }
}

/// The scheme to report: what was claimed, if it is one, else ours.
pub(crate) fn proto(claimed: Option<&[u8]>, peer: &Peer) -> &'static str {
    match claimed {
        Some(value) if value.eq_ignore_ascii_case(b"https") => "https",
        Some(value) if value.eq_ignore_ascii_case(b"http") => "http",
        _ if peer.is_secure => "https",
        _ => "http",
    }
}

/// Writes the value of `X-Forwarded-For`.
pub(crate) fn write_for<'v>(
    out: &mut Vec<u8>,
    claimed: impl Iterator<Item = &'v [u8]>,
    peer: &Peer,
) {
    for value in claimed.filter(|value| !value.is_empty()) {
        out.extend_from_slice(value);
        out.extend_from_slice(b", ");
    }
    out.extend_from_slice(peer.text.as_bytes());
}

/// Writes the value of `Forwarded` for a request that has none: one element per hop, host and
/// scheme in the first.
pub(crate) fn write_forwarded<'v>(
    out: &mut Vec<u8>,
    claimed: impl Iterator<Item = &'v [u8]>,
    peer: &'v Peer,
    host: &[u8],
    proto: &str,
) {
    let hops = claimed
        .flat_map(crate::http1::field::list)
        .chain(std::iter::once(peer.text.as_bytes()));
    for (at, hop) in hops.enumerate() {
        out.extend_from_slice(if at == 0 { b"for=" } else { b", for=" });
        // Most peers, and the last hop of every request, are this.
        if peer.address.is_ipv4() && std::ptr::eq(hop, peer.text.as_bytes()) {
            out.extend_from_slice(hop);
        } else {
            write_node(out, hop);
        }
        if at == 0 {
            if !host.is_empty() {
                out.extend_from_slice(b";host=");
                write_value(out, host);
            }
            out.extend_from_slice(b";proto=");
            out.extend_from_slice(proto.as_bytes());
        }
    }
}

/// RFC 7239 §6: an IPv6 address is bracketed and quoted; what is no address is `unknown`, so
/// that a claimed value cannot add parameters.
fn write_node(out: &mut Vec<u8>, node: &[u8]) {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let is_ipv4 = |byte: &u8| byte.is_ascii_digit() || *byte == b'.';
    if node.iter().all(is_ipv4) || node.iter().all(is_plain) {
        return out.extend_from_slice(node);
    }
    if !node
        .iter()
        .all(|byte| is_plain(byte) || matches!(byte, b':' | b'[' | b']'))
    {
        return out.extend_from_slice(b"unknown");
    }
    let is_bare_v6 =
        !node.starts_with(b"[") && node.iter().filter(|byte| **byte == b':').count() > 1;
    out.extend_from_slice(if is_bare_v6 { b"\"[" } else { b"\"" });
    out.extend_from_slice(node);
    out.extend_from_slice(if is_bare_v6 { b"]\"" } else { b"\"" });
}

/// A token, or a quoted string if it is none (a host with a port).
fn write_value(out: &mut Vec<u8>, value: &[u8]) {
    if is_token(value) {
        return out.extend_from_slice(value);
    }
    out.push(b'"');
    let is_escaped = |byte: u8| matches!(byte, b'"' | b'\\');
    // Without an early exit the compiler compares many bytes at once.
    if !value
        .iter()
        .fold(false, |any, byte| any | is_escaped(*byte))
    {
        out.extend_from_slice(value);
        return out.push(b'"');
    }
    // Pieces that begin with what has to be escaped, but for the first.
    let mut from = 0;
    for (at, _) in value
        .iter()
        .enumerate()
        .filter(|(_, byte)| is_escaped(**byte))
    {
        out.extend_from_slice(&value[from..at]);
        out.push(b'\\');
        from = at;
    }
    out.extend_from_slice(&value[from..]);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forwarded(claimed: &[&str], peer: &str, host: &str) -> String {
        let mut out = Vec::new();
        let peer = Peer::new(peer.parse().expect("address"), false);
        write_forwarded(
            &mut out,
            claimed.iter().map(|value| value.as_bytes()),
            &peer,
            host.as_bytes(),
            "http",
        );
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn forwarded_lists_every_hop_and_says_host_and_scheme_once() {
        assert_eq!(
            forwarded(&[], "10.0.0.1", "a.example"),
            "for=10.0.0.1;host=a.example;proto=http"
        );
        assert_eq!(
            forwarded(
                &["1.2.3.4, 2001:db8::1", "5.6.7.8"],
                "::ffff:10.0.0.1",
                "a.example:8080"
            ),
            "for=1.2.3.4;host=\"a.example:8080\";proto=http, for=\"[2001:db8::1]\", for=5.6.7.8, for=10.0.0.1"
        );
    }

    #[test]
    fn a_claimed_hop_cannot_add_parameters() {
        assert_eq!(
            forwarded(&["1.2.3.4;host=evil"], "10.0.0.1", "a"),
            "for=unknown;host=a;proto=http, for=10.0.0.1"
        );
    }

    #[test]
    fn the_peer_is_appended_to_every_claimed_value() {
        let mut out = Vec::new();
        write_for(
            &mut out,
            [&b"1.1.1.1"[..], b"", b"2.2.2.2"].into_iter(),
            &Peer::new([3, 3, 3, 3].into(), false),
        );
        assert_eq!(out, b"1.1.1.1, 2.2.2.2, 3.3.3.3");
    }
}
