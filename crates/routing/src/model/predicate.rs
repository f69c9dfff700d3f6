//! Conditions that few routes have: any part of a request, compared in any way a dialect can say.
//!
//! The common ones (path, method, a header's value) have fields of their own in
//! [`Match`](super::Match) and are compared first.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;

/// One condition on one part of a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Predicate {
    pub subject: Subject,
    pub test: Test,
    /// The condition holds if the test does not.
    #[serde(skip_serializing_if = "is_false")]
    pub negate: bool,
    /// What is not there is compared as an empty text; otherwise the test fails.
    #[serde(skip_serializing_if = "is_false")]
    pub missing_is_empty: bool,
}

/// What is compared. Names of headers are lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Subject {
    /// As sent, without the query.
    Path,
    Method,
    /// `http` or `https`.
    Scheme,
    /// In lower case, without a port.
    Host,
    /// As sent, with its port if it has one.
    Authority,
    /// All values of the header, joined by `, `.
    Header(Arc<str>),
    /// The first value of the query parameter, decoded.
    Query(Arc<str>),
    /// The cookie of this name.
    Cookie(Arc<str>),
    /// The address at the other end of the connection.
    Peer,
    /// The client's address: the peer's, or what trusted proxies say.
    Client,
    /// The port of the listener that took the request.
    Port,
    /// The address of ours that the connection came in at.
    Destination,
    /// The host that the client named in its TLS handshake, in lower case.
    ServerName,
    /// The namespace of the pod that calls, where pods can be told apart.
    Namespace,
    /// A claim of the verified token, by its path; a claim of several values matches by any.
    Claim(Arc<[Arc<str>]>),
    /// The principal of the verified client certificate (`trust-domain/ns/x/sa/y` of its SPIFFE
    /// identity, or its first other name).
    Principal,
    /// `issuer/subject` of the verified token.
    RequestPrincipal,
}

/// How it is compared.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Test {
    /// It is there.
    Present,
    Text {
        how: TextTest,
        value: Arc<str>,
        #[serde(skip_serializing_if = "is_false")]
        ignore_case: bool,
    },
    /// It equals one of these.
    In(Arc<[Arc<str>]>),
    /// An address within one of these.
    Network(Arc<[Network]>),
    /// A decimal number: `min <= it < end`.
    Range { min: i64, end: i64 },
}

/// How a text is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum TextTest {
    Exact,
    Prefix,
    /// A prefix that ends where a path element ends.
    ElementPrefix,
    Suffix,
    Contains,
    /// The whole text matches the expression. See [`regex`](crate::regex).
    Regex,
}

/// A network by its address and the length of its prefix, in bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Network {
    address: IpAddr,
    length: u8,
}

impl Network {
    /// `None` if the prefix is longer than the address.
    pub fn new(address: IpAddr, length: u8) -> Option<Self> {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        (length <= bits).then_some(Self { address, length })
    }

    /// From `address/length`, or an address that stands for itself. `None` if it is neither.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length.parse().ok()?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let all = if address.is_ipv4() { 32 } else { 128 };
        Self::new(address, length.unwrap_or(all))
    }

    /// Whether an address is in it. An IPv4 address in an IPv6 one counts as what it stands for.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let rest = 32 - u32::from(self.length);
                let high = |address: u32| u64::from(address) >> rest;
                high(own.to_bits()) == high(other.to_bits())
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let rest = 128 - u32::from(self.length);
                let high = |address: u128| address.checked_shr(rest).unwrap_or_default();
                high(own.to_bits()) == high(other.to_bits())
            }
            _ => false,
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path => f.write_str("path"),
            Self::Method => f.write_str("method"),
            Self::Scheme => f.write_str("scheme"),
            Self::Host => f.write_str("host"),
            Self::Authority => f.write_str("authority"),
            Self::Header(name) => write!(f, "header {name}"),
            Self::Query(name) => write!(f, "query parameter {name}"),
            Self::Cookie(name) => write!(f, "cookie {name}"),
            Self::Peer => f.write_str("peer address"),
            Self::Client => f.write_str("client address"),
            Self::Port => f.write_str("port"),
            Self::Destination => f.write_str("address of the gateway"),
            Self::ServerName => f.write_str("server name"),
            Self::Namespace => f.write_str("caller's namespace"),
            Self::Claim(path) => write!(f, "claim {}", path.join(".")),
            Self::Principal => f.write_str("principal"),
            Self::RequestPrincipal => f.write_str("request principal"),
        }
    }
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Present => f.write_str("is there"),
            Self::Text { how, value, .. } => match how {
                TextTest::Exact => write!(f, "is {value}"),
                TextTest::Prefix => write!(f, "begins with {value}"),
                TextTest::ElementPrefix => write!(f, "is {value} or below it"),
                TextTest::Suffix => write!(f, "ends with {value}"),
                TextTest::Contains => write!(f, "contains {value}"),
                TextTest::Regex => write!(f, "matches {value}"),
            },
            Self::In(values) => write!(f, "is one of {}", values.join(", ")),
            Self::Network(networks) => {
                let listed: Vec<_> = networks.iter().map(Network::to_string).collect();
                write!(f, "is in {}", listed.join(", "))
            }
            Self::Range { min, end } => write!(f, "is from {min} up to {end}"),
        }
    }
}

impl fmt::Display for Predicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let not = if self.negate { "not " } else { "" };
        write!(f, "{not}{} {}", self.subject, self.test)
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature is serde's"
)]
fn is_false(value: &bool) -> bool {
    !value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_contains_the_addresses_of_its_prefix() {
        let check = |network: &str, address: &str, expected: bool| {
            let network = Network::parse(network).expect("a network");
            let address = address.parse().expect("an address");
            assert_eq!(network.contains(address), expected, "{network:?} {address}");
        };
        check("10.0.0.0/8", "10.255.1.1", true);
        check("10.0.0.0/8", "11.0.0.1", false);
        check("10.0.0.0/8", "::ffff:10.0.0.1", true);
        check("0.0.0.0/0", "1.2.3.4", true);
        check("0.0.0.0/0", "::1", false);
        check("1.2.3.4", "1.2.3.4", true);
        check("1.2.3.4", "1.2.3.5", false);
        check("::/0", "fe80::1", true);
        check("fd00::/8", "fdff::1", true);
        check("fd00::/8", "fe00::1", false);
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in ["", "10.0.0.0/33", "10.0.0.0/", "::/129", "10.0.0", "a/8"] {
            assert_eq!(Network::parse(text), None, "{text:?}");
        }
    }
}
