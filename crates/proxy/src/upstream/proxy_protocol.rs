//! What a connection begins with to tell its server whom it is for (PROXY protocol, versions 1
//! and 2, HAProxy's `doc/proxy-protocol.txt`).

use std::net::{IpAddr, SocketAddr};

use routing::model::ProxyVersion;

/// Client and the address that it connected to.
pub(crate) type Ends = (SocketAddr, SocketAddr);

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, command PROXY.
const PROXY: u8 = 0x21;
/// Version 2, command LOCAL: there is no client to tell of.
const LOCAL: u8 = 0x20;

/// What a connection for this client begins with.
pub(crate) fn header(version: ProxyVersion, ends: Option<Ends>) -> Vec<u8> {
    match version {
        ProxyVersion::V1 => v1(ends),
        ProxyVersion::V2 => v2(ends),
    }
}

/// The line of version 1.
fn v1(ends: Option<Ends>) -> Vec<u8> {
    let Some((from, to)) = ends.map(canonical) else {
        return b"PROXY UNKNOWN\r\n".to_vec();
    };
    let family = match (from.ip(), to.ip()) {
        (IpAddr::V4(_), IpAddr::V4(_)) => "TCP4",
        (IpAddr::V6(_), IpAddr::V6(_)) => "TCP6",
        _ => return b"PROXY UNKNOWN\r\n".to_vec(),
    };
    let (source, target) = (from.ip(), to.ip());
    let line = format!(
        "PROXY {family} {source} {target} {} {}\r\n",
        from.port(),
        to.port()
    );
    line.into_bytes()
}

/// The block of version 2.
fn v2(ends: Option<Ends>) -> Vec<u8> {
    let mut addresses = Vec::new();
    let family: u8 = match ends.map(canonical) {
        Some((SocketAddr::V4(from), SocketAddr::V4(to))) => {
            addresses.extend(from.ip().octets());
            addresses.extend(to.ip().octets());
            0x11
        }
        Some((SocketAddr::V6(from), SocketAddr::V6(to))) => {
            addresses.extend(from.ip().octets());
            addresses.extend(to.ip().octets());
            0x21
        }
        _ => 0,
    };
    if let Some((from, to)) = ends.filter(|_| family != 0) {
        addresses.extend(from.port().to_be_bytes());
        addresses.extend(to.port().to_be_bytes());
    }
    let mut out = SIGNATURE.to_vec();
    out.extend([if family == 0 { LOCAL } else { PROXY }, family]);
    out.extend((addresses.len() as u16).to_be_bytes());
    out.extend(addresses);
    out
}

/// A dual-stack socket shows IPv4 peers as mapped addresses.
fn canonical((from, to): Ends) -> Ends {
    let plain = |end: SocketAddr| SocketAddr::new(end.ip().to_canonical(), end.port());
    (plain(from), plain(to))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(from: &str, to: &str) -> Option<Ends> {
        Some((
            from.parse().expect("an address"),
            to.parse().expect("an address"),
        ))
    }

    #[test]
    fn version_1_is_a_line() {
        let line = |ends| String::from_utf8(v1(ends)).expect("text");
        assert_eq!(
            line(ends("192.168.0.1:56324", "192.168.0.11:443")),
            "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n"
        );
        assert_eq!(
            line(ends("[::ffff:10.0.0.1]:1", "10.0.0.2:2")),
            "PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n"
        );
        assert_eq!(
            line(ends("[2001:db8::1]:1", "[::1]:2")),
            "PROXY TCP6 2001:db8::1 ::1 1 2\r\n"
        );
        assert_eq!(line(None), "PROXY UNKNOWN\r\n");
        assert_eq!(line(ends("10.0.0.1:1", "[::1]:2")), "PROXY UNKNOWN\r\n");
    }

    #[test]
    fn version_2_is_a_block() {
        let block = v2(ends("127.0.0.1:4660", "127.0.0.2:80"));
        assert_eq!(block[..12], SIGNATURE);
        assert_eq!(
            block[12..],
            [
                0x21, 0x11, 0, 12, 127, 0, 0, 1, 127, 0, 0, 2, 0x12, 0x34, 0, 80
            ]
        );
        let block = v2(ends("[::1]:1", "[::2]:2"));
        assert_eq!((block[13], block[15], block.len()), (0x21, 36, 16 + 36));
        assert_eq!(v2(None)[12..], [0x20, 0, 0, 0]);
    }
}
