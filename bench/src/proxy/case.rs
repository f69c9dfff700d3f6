//! The cases, and what is asked in each.

use crate::peers::{Shape, Table};

#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// What it is chosen by.
    pub name: &'static str,
    pub title: &'static str,
    pub load: Load,
    pub shape: Shape,
    pub table: Option<Table>,
    pub tls: bool,
    pub kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One origin behind each proxy.
    Standard,
    /// 100 routes, without changes and with 100 of them a second.
    Churn,
    /// A revision with everything on, and a plain route to the same pod.
    Knative,
}

#[derive(Clone, Copy, Debug)]
pub enum Load {
    /// 1 KB answers over so many connections that stay.
    Requests(usize),
    /// Bodies from the origin.
    Down {
        bytes: usize,
        connections: usize,
    },
    /// Bodies to the origin.
    Up {
        bytes: usize,
        connections: usize,
    },
    /// One request on each connection.
    Handshakes {
        resume: bool,
    },
    WebSocket,
    Streams,
}

impl Load {
    /// What is counted.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Requests(_) | Self::Down { .. } | Self::Up { .. } => "request",
            Self::Handshakes { .. } => "connection",
            Self::WebSocket | Self::Streams => "message",
        }
    }

    pub fn connections(self) -> usize {
        match self {
            Self::Requests(connections)
            | Self::Down { connections, .. }
            | Self::Up { connections, .. } => connections,
            Self::Handshakes { .. } => 16,
            Self::WebSocket => 64,
            Self::Streams => 8,
        }
    }

    /// The size of a body that is large.
    pub fn bytes(self) -> Option<usize> {
        match self {
            Self::Down { bytes, .. } | Self::Up { bytes, .. } => Some(bytes),
            _ => None,
        }
    }
}

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

pub const CASES: [Case; 19] = [
    case("http1-64", "HTTP/1.1, 64 connections", Load::Requests(64)),
    case(
        "http1-512",
        "HTTP/1.1, 512 connections",
        Load::Requests(512),
    ),
    case("routes", "100 routes × 200 hosts", Load::Requests(64)).with_table(200, 100),
    case("hosts", "10,000 hosts", Load::Requests(64)).with_table(10_000, 1),
    case("down-128k", "128 KB down", down(128 * KIB, 16)),
    case("down-1m", "1 MB down", down(MIB, 16)),
    case("down-100m", "100 MB down", down(100 * MIB, 4)),
    case("up-128k", "128 KB up", up(128 * KIB, 16)),
    case("up-1m", "1 MB up", up(MIB, 16)),
    case("up-100m", "100 MB up", up(100 * MIB, 4)),
    case(
        "tls",
        "TLS 1.3, 64 connections that stay",
        Load::Requests(64),
    )
    .with_tls(),
    case("tls-full", "TLS 1.3, full handshakes", handshakes(false)).with_tls(),
    case("tls-resumed", "TLS 1.3, resumed", handshakes(true)).with_tls(),
    case("tls-down-1m", "1 MB down, TLS 1.3", down(MIB, 16)).with_tls(),
    case("tls-up-1m", "1 MB up, TLS 1.3", up(MIB, 16)).with_tls(),
    case("websocket", "WebSocket, 64 connections", Load::WebSocket),
    case("grpc-streams", "gRPC, 8 × 8 streams", Load::Streams).with_grpc(),
    case("churn", "100 routes", Load::Requests(64)).of(Kind::Churn),
    case("knative", "a revision", Load::Requests(64)).of(Kind::Knative),
];

const fn case(name: &'static str, title: &'static str, load: Load) -> Case {
    Case {
        name,
        title,
        load,
        shape: Shape::Http1,
        table: None,
        tls: false,
        kind: Kind::Standard,
    }
}

const fn down(bytes: usize, connections: usize) -> Load {
    Load::Down { bytes, connections }
}

const fn up(bytes: usize, connections: usize) -> Load {
    Load::Up { bytes, connections }
}

const fn handshakes(resume: bool) -> Load {
    Load::Handshakes { resume }
}

impl Case {
    const fn with_table(mut self, hosts: usize, routes: usize) -> Self {
        self.table = Some(Table { hosts, routes });
        self
    }

    const fn with_tls(mut self) -> Self {
        self.tls = true;
        self
    }

    const fn with_grpc(mut self) -> Self {
        self.shape = Shape::Grpc;
        self
    }

    const fn of(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    /// Which origin is behind it.
    pub fn origin(&self) -> &'static str {
        match self.load {
            Load::WebSocket => "websocket",
            Load::Streams => "streams",
            _ => "http1",
        }
    }
}
