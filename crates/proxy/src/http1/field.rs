//! Header fields as positions in the head that was read, and what each name means to a gateway.
//!
//! A field costs no allocation: name and value are spans of the read buffer.

/// A range of the head's bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: u32,
    pub(crate) len: u32,
}

impl Span {
    /// The position of `part` inside `whole`. An empty part has no position.
    pub(crate) fn of(part: &[u8], whole: &[u8]) -> Self {
        if part.is_empty() {
            return Self::default();
        }
        let start = part.as_ptr() as usize - whole.as_ptr() as usize;
        // Heads are at most 64 KiB, see `Limits::head_bytes`.
        Self {
            start: start as u32,
            len: part.len() as u32,
        }
    }

    /// From one place to another, which is not before it.
    pub(crate) fn between(start: usize, end: usize) -> Self {
        Self {
            start: start as u32,
            len: (end - start) as u32,
        }
    }

    pub(crate) fn end(self) -> usize {
        (self.start + self.len) as usize
    }

    pub(crate) fn get(self, whole: &[u8]) -> &[u8] {
        whole
            .get(self.start as usize..self.end())
            .unwrap_or_default()
    }
}

/// One header line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    pub(crate) name: Span,
    pub(crate) value: Span,
    pub(crate) kind: Kind,
    /// Its name's place in HPACK's static table, as far as whoever read it knows.
    pub(crate) known: Known,
}

/// Where a name stands in HPACK's static table (RFC 7541, appendix A).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Known {
    /// It was not looked for.
    #[default]
    NotYet,
    At(u8),
    /// Not there, and in lower case.
    Nowhere,
}

/// What a name means to a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Forwarded as it is, unless `Connection` names it.
    Ordinary,
    Host,
    Connection,
    ContentLength,
    TransferEncoding,
    Upgrade,
    Te,
    Expect,
    KeepAlive,
    /// Meant for this hop only and of no use to us.
    HopByHop,
    ForwardedFor,
    ForwardedHost,
    ForwardedProto,
    Forwarded,
    /// Knative's own, between its components; user containers must not see them.
    Internal,
    /// What proxies say to each other of a client: Envoy's own, and the client's certificate.
    OfProxies,
}

/// Classifies a token in any case.
pub(crate) fn kind(name: &[u8]) -> Kind {
    match name.len() {
        2 if same(name, b"te") => Kind::Te,
        4 if same(name, b"host") => Kind::Host,
        6 if same(name, b"expect") => Kind::Expect,
        7 if same(name, b"upgrade") => Kind::Upgrade,
        9 if same(name, b"forwarded") => Kind::Forwarded,
        10 if same(name, b"connection") => Kind::Connection,
        10 if same(name, b"keep-alive") => Kind::KeepAlive,
        14 if same(name, b"content-length") => Kind::ContentLength,
        // Upgrading to h2c through a gateway would open a tunnel past its routes.
        14 if same(name, b"http2-settings") => Kind::HopByHop,
        15 if same(name, b"x-forwarded-for") => Kind::ForwardedFor,
        16 if same(name, b"x-forwarded-host") => Kind::ForwardedHost,
        16 if same(name, b"proxy-connection") => Kind::HopByHop,
        17 if same(name, b"transfer-encoding") => Kind::TransferEncoding,
        17 if same(name, b"x-forwarded-proto") => Kind::ForwardedProto,
        18 if same(name, b"proxy-authenticate") => Kind::HopByHop,
        19 if same(name, b"proxy-authorization") => Kind::HopByHop,
        23 if same(name, b"x-forwarded-client-cert") => Kind::OfProxies,
        12..=29 if matches!(name[0], b'k' | b'K') && is_internal(name) => Kind::Internal,
        9.. if matches!(name[0], b'x' | b'X') && same(&name[..8], b"x-envoy-") => Kind::OfProxies,
        _ => Kind::Ordinary,
    }
}

/// Whether a token is this one of small letters, digits and hyphens. Without a branch for each
/// byte: what differs from such a byte in the bit of the case alone is a capital letter or no
/// token's.
fn same<const N: usize>(name: &[u8], known: &[u8; N]) -> bool {
    name.first_chunk::<N>().is_some_and(|name| {
        let pairs = name.iter().zip(known);
        pairs.fold(0, |all, (byte, known)| all | (byte | 0x20) ^ known) == 0
    })
}

/// Knative's headers between gateway, activator, queue-proxy and probes.
pub(crate) fn is_internal(name: &[u8]) -> bool {
    const NAMES: [&str; 10] = [
        "k-network-probe",
        "k-network-hash",
        "k-proxy-request",
        "k-original-host",
        "k-kubelet-probe",
        "k-passthrough-lb",
        "knative-serving-tag",
        "knative-serving-default-route",
        "knative-serving-revision",
        "knative-serving-namespace",
    ];
    NAMES
        .iter()
        .any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
}

/// Fields that frame a message or belong to one hop: no route may change them, and no trailer
/// may carry them.
pub(crate) fn is_framing(name: &[u8]) -> bool {
    matches!(
        kind(name),
        Kind::Host
            | Kind::Connection
            | Kind::ContentLength
            | Kind::TransferEncoding
            | Kind::Upgrade
            | Kind::Te
            | Kind::KeepAlive
            | Kind::HopByHop
    )
}

/// The elements of a comma-separated list, trimmed, without empty ones.
pub(crate) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value
        .split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|element| !element.is_empty())
}

/// The bytes of a token (RFC 9110 §5.6.2).
const MARKS: &[u8] = b"!#$%&'*+-.^_`|~";
pub(crate) static TOKEN: [bool; 256] = bytes_of(MARKS);

/// Those of a name of HTTP/2 (RFC 9113 §8.2).
pub(crate) static LOWER: [bool; 256] = {
    let mut table = bytes_of(MARKS);
    let mut byte = b'A';
    while byte <= b'Z' {
        table[byte as usize] = false;
        byte += 1;
    }
    table
};

/// Letters, digits and these marks, to be looked up.
pub(crate) const fn bytes_of(marks: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut at = 0;
    while at < marks.len() {
        table[marks[at] as usize] = true;
        at += 1;
    }
    let mut byte = 0;
    while byte < 256 {
        if (byte as u8).is_ascii_alphanumeric() {
            table[byte] = true;
        }
        byte += 1;
    }
    table
}

/// Whether the text is a token.
pub(crate) fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|byte| TOKEN[usize::from(*byte)])
}
