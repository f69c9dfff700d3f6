//! IP addresses, networks and URLs.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use crate::functions::{Out, Rows, text, unfit};
use crate::value::{Map, Value};

/// A network: an address and the length of its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

/// A URL with a scheme, or a path from the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    scheme: String,
    host: String,
    path: String,
    query: BTreeMap<String, Vec<String>>,
}

pub(crate) const ROWS: Rows = &[
    ("ip(string): IP", |_, a| match ip(text(a, 0)?) {
        Some(address) => Ok(Value::Ip(address)),
        None => Err(format!(
            "IP Address {:?} parse error during conversion from string",
            text(a, 0)?
        )
        .into()),
    }),
    ("isIP(string): bool", |_, a| {
        Ok(Value::Bool(ip(text(a, 0)?).is_some()))
    }),
    ("ip.isCanonical(string): bool", |_, a| {
        match ip(text(a, 0)?) {
            Some(address) => Ok(Value::Bool(address.to_string() == text(a, 0)?)),
            None => Err(format!(
                "IP Address {:?} parse error during conversion from string",
                text(a, 0)?
            )
            .into()),
        }
    }),
    ("IP.family(): int", |_, a| {
        of_ip(a, |ip| Value::Int(if ip.is_ipv4() { 4 } else { 6 }))
    }),
    ("IP.isUnspecified(): bool", |_, a| {
        of_ip(a, |ip| Value::Bool(ip.is_unspecified()))
    }),
    ("IP.isLoopback(): bool", |_, a| {
        of_ip(a, |ip| Value::Bool(ip.is_loopback()))
    }),
    ("IP.isLinkLocalMulticast(): bool", |_, a| {
        of_ip(a, |ip| {
            Value::Bool(match ip {
                IpAddr::V4(ip) => ip.octets()[..3] == [224, 0, 0],
                IpAddr::V6(ip) => ip.segments()[0] & 0xff0f == 0xff02,
            })
        })
    }),
    ("IP.isLinkLocalUnicast(): bool", |_, a| {
        of_ip(a, |ip| {
            Value::Bool(match ip {
                IpAddr::V4(ip) => ip.is_link_local(),
                IpAddr::V6(ip) => ip.segments()[0] & 0xffc0 == 0xfe80,
            })
        })
    }),
    ("IP.isGlobalUnicast(): bool", |_, a| {
        of_ip(a, |ip| Value::Bool(is_global(ip)))
    }),
    ("cidr(string): CIDR", |_, a| match cidr(text(a, 0)?) {
        Some(network) => Ok(Value::Cidr(network)),
        None => Err(format!(
            "network address parse error during conversion from string: {:?}",
            text(a, 0)?
        )
        .into()),
    }),
    ("isCIDR(string): bool", |_, a| {
        Ok(Value::Bool(cidr(text(a, 0)?).is_some()))
    }),
    ("CIDR.containsIP(IP): bool", |_, a| match a {
        [Value::Cidr(network), Value::Ip(address)] => Ok(Value::Bool(network.contains(*address))),
        _ => unfit(),
    }),
    ("CIDR.containsIP(string): bool", |_, a| {
        match (a.first(), ip(text(a, 1)?)) {
            (Some(Value::Cidr(network)), Some(address)) => {
                Ok(Value::Bool(network.contains(address)))
            }
            (_, None) => Err(format!(
                "IP Address {:?} parse error during conversion from string",
                text(a, 1)?
            )
            .into()),
            _ => unfit(),
        }
    }),
    ("CIDR.containsCIDR(CIDR): bool", |_, a| match a {
        [Value::Cidr(outer), Value::Cidr(inner)] => Ok(Value::Bool(outer.covers(inner))),
        _ => unfit(),
    }),
    ("CIDR.containsCIDR(string): bool", |_, a| {
        match (a.first(), cidr(text(a, 1)?)) {
            (Some(Value::Cidr(outer)), Some(inner)) => Ok(Value::Bool(outer.covers(&inner))),
            (_, None) => Err(format!(
                "network address parse error during conversion from string: {:?}",
                text(a, 1)?
            )
            .into()),
            _ => unfit(),
        }
    }),
    ("CIDR.ip(): IP", |_, a| {
        of_cidr(a, |network| Value::Ip(network.address))
    }),
    ("CIDR.prefixLength(): int", |_, a| {
        of_cidr(a, |network| Value::Int(i64::from(network.prefix)))
    }),
    ("CIDR.masked(): CIDR", |_, a| {
        of_cidr(a, |network| {
            let address = mask(network.address, network.prefix);
            Value::Cidr(Cidr {
                address,
                ..*network
            })
        })
    }),
    ("url(string): URL", |b, a| {
        b.spend_text(text(a, 0)?.len())?;
        match url(text(a, 0)?) {
            Some(url) => Ok(Value::Url(Arc::new(url))),
            None => Err(format!("URL parse error during conversion from string: parse {:?}: invalid URI for request", text(a, 0)?).into()),
        }
    }),
    ("isURL(string): bool", |b, a| {
        b.spend_text(text(a, 0)?.len())?;
        Ok(Value::Bool(url(text(a, 0)?).is_some()))
    }),
    ("URL.getScheme(): string", |_, a| {
        of_url(a, |url| Value::text(url.scheme.as_str()))
    }),
    ("URL.getHost(): string", |_, a| {
        of_url(a, |url| Value::text(url.host.as_str()))
    }),
    ("URL.getHostname(): string", |_, a| {
        of_url(a, |url| {
            Value::text(split_port(&url.host).0.trim_matches(['[', ']']))
        })
    }),
    ("URL.getPort(): string", |_, a| {
        of_url(a, |url| Value::text(split_port(&url.host).1))
    }),
    ("URL.getEscapedPath(): string", |_, a| {
        of_url(a, |url| Value::text(url.path.as_str()))
    }),
    ("URL.getQuery(): map<string,list<string>>", |_, a| {
        of_url(a, |url| {
            let entry = |(key, values): (&String, &Vec<String>)| {
                let values = values
                    .iter()
                    .map(|value| Value::text(value.as_str()))
                    .collect();
                (Value::text(key.as_str()), Value::list(values))
            };
            Value::Map(Map::Made(url.query.iter().map(entry).collect()))
        })
    }),
];

fn of_ip<'a>(args: &[Value<'a>], read: fn(&IpAddr) -> Value<'static>) -> Out<'a> {
    match args.first() {
        Some(Value::Ip(address)) => Ok(read(address)),
        _ => unfit(),
    }
}

fn of_cidr<'a>(args: &[Value<'a>], read: fn(&Cidr) -> Value<'static>) -> Out<'a> {
    match args.first() {
        Some(Value::Cidr(network)) => Ok(read(network)),
        _ => unfit(),
    }
}

fn of_url<'a>(args: &[Value<'a>], read: fn(&Url) -> Value<'static>) -> Out<'a> {
    match args.first() {
        Some(Value::Url(url)) => Ok(read(url)),
        _ => unfit(),
    }
}

/// Kubernetes takes no zones and no IPv4 addresses in the form of IPv6.
fn ip(text: &str) -> Option<IpAddr> {
    match text.parse().ok()? {
        IpAddr::V6(address) if address.to_ipv4_mapped().is_some() => None,
        address => Some(address),
    }
}

fn is_global(address: &IpAddr) -> bool {
    let link_local = match address {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.segments()[0] & 0xffc0 == 0xfe80,
    };
    !(address.is_unspecified() || address.is_loopback() || address.is_multicast() || link_local)
}

fn cidr(text: &str) -> Option<Cidr> {
    let (address, length) = text.split_once('/')?;
    let address = ip(address)?;
    let canonical = !length.is_empty()
        && length.bytes().all(|byte| byte.is_ascii_digit())
        && (length == "0" || !length.starts_with('0'));
    let prefix: u8 = length.parse().ok().filter(|_| canonical)?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    (prefix <= most).then_some(Cidr { address, prefix })
}

fn mask(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(ip) => {
            let kept = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(ip.to_bits() & kept))
        }
        IpAddr::V6(ip) => {
            let kept = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & kept))
        }
    }
}

impl Cidr {
    fn contains(&self, address: IpAddr) -> bool {
        self.address.is_ipv4() == address.is_ipv4()
            && mask(self.address, self.prefix) == mask(address, self.prefix)
    }

    fn covers(&self, inner: &Self) -> bool {
        inner.prefix >= self.prefix && self.contains(inner.address)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

fn url(text: &str) -> Option<Url> {
    if text
        .chars()
        .any(|letter| letter.is_control() || letter == ' ')
    {
        return None;
    }
    let (scheme, rest) = if text.starts_with('/') {
        ("", text)
    } else {
        let (scheme, rest) = text.split_once(':')?;
        let mut letters = scheme.chars();
        let valid = letters.next()?.is_ascii_alphabetic()
            && letters.all(|letter| letter.is_ascii_alphanumeric() || "+-.".contains(letter));
        if !valid {
            return None;
        }
        (scheme, rest)
    };
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (host, path) = match rest.strip_prefix("//") {
        Some(rest) if !scheme.is_empty() => {
            let end = rest.find('/').unwrap_or(rest.len());
            let authority = &rest[..end];
            // User and password are not a part of the host.
            let host = authority
                .rsplit_once('@')
                .map_or(authority, |(_, host)| host);
            (host, &rest[end..])
        }
        _ => ("", rest),
    };
    let (_, port) = split_port(host);
    if !port.bytes().all(|byte| byte.is_ascii_digit()) || !is_escaped(path) {
        return None;
    }
    let mut pairs: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        pairs
            .entry(unescape(key))
            .or_default()
            .push(unescape(value));
    }
    Some(Url {
        scheme: scheme.to_ascii_lowercase(),
        host: host.to_owned(),
        path: path.to_owned(),
        query: pairs,
    })
}

fn split_port(host: &str) -> (&str, &str) {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, port),
        _ => (host, ""),
    }
}

/// Whether every `%` begins an escape.
fn is_escaped(path: &str) -> bool {
    path.split('%').skip(1).all(|part| {
        let digits: Vec<char> = part.chars().take(2).collect();
        digits.len() == 2 && digits.iter().all(char::is_ascii_hexdigit)
    })
}

fn unescape(text: &str) -> String {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        match byte {
            b'+' => out.push(b' '),
            b'%' => {
                let (high, low) = (digit(bytes.next()), digit(bytes.next()));
                let code = high
                    .zip(low)
                    .and_then(|(high, low)| u8::try_from(high * 16 + low).ok());
                out.extend(code);
            }
            byte => out.push(byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
