//! Where the gateway listens, for dialects whose objects ask for ports.
//!
//! A port that one of the shared listeners has, or stands for, needs no bind: its routes are
//! routes of the shared listeners. Every other port is a bind of its own, and objects of all
//! dialects that ask for the same one write the same record.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use routing::model::{Bind, BindId, Preamble, Transport};

/// The shared listeners for external clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GatewayPorts {
    /// What they listen on, and binds too.
    pub address: IpAddr,
    pub http: u16,
    pub https: u16,
    /// Whether connections to both begin with a header of the PROXY protocol.
    pub has_preamble: bool,
}

impl Default for GatewayPorts {
    fn default() -> Self {
        Self {
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            http: 80,
            https: 443,
            has_preamble: false,
        }
    }
}

impl GatewayPorts {
    /// Whether plain HTTP at this port is what the shared listeners serve. Port 80 is, also where
    /// the gateway had to take another: files that name it mean "the usual port".
    pub fn is_http(&self, port: u16) -> bool {
        port == self.http || (port == 80 && self.https != 80)
    }

    /// The same for TLS and port 443.
    pub fn is_https(&self, port: u16) -> bool {
        port == self.https || (port == 443 && self.http != 443)
    }

    /// The socket at another port. Plain HTTP and TLS are different records, so that two objects
    /// that disagree about a port do not become one: the later one is told that it is taken.
    pub fn bind(&self, port: u16, is_tls: bool) -> Bind {
        let address = SocketAddr::new(self.address, port);
        let suffix = if is_tls { "/tls" } else { "" };
        Bind {
            id: BindId(format!("{address}{suffix}").into()),
            address,
            is_tls,
            preamble: None,
            sealed: Vec::new(),
            stream: None,
            gates: Vec::new(),
        }
    }

    /// The same socket behind a balancer that says who the client is. Who disagrees about that
    /// disagrees about the socket: the later one is told.
    pub fn behind(bind: Bind, preamble: Option<Preamble>) -> Bind {
        let suffix = match preamble {
            None => return bind,
            Some(Preamble::Required) => "/proxy",
            Some(Preamble::Optional) => "/proxy?",
        };
        Bind {
            id: BindId(format!("{}{suffix}", bind.id).into()),
            preamble,
            ..bind
        }
    }

    /// The socket at a port whose connections or datagrams are passed on as they are.
    pub fn stream_bind(&self, port: u16, transport: Transport) -> Bind {
        let address = SocketAddr::new(self.address, port);
        let suffix = match transport {
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
        };
        Bind {
            id: BindId(format!("{address}/{suffix}").into()),
            stream: Some(transport),
            gates: Vec::new(),
            ..self.bind(port, false)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_ports_are_the_shared_listeners_wherever_those_are() {
        let ports = GatewayPorts {
            http: 8080,
            https: 8443,
            ..GatewayPorts::default()
        };
        for (port, http, https) in [
            (80, true, false),
            (8080, true, false),
            (443, false, true),
            (8443, false, true),
            (9000, false, false),
        ] {
            assert_eq!(ports.is_http(port), http, "{port}");
            assert_eq!(ports.is_https(port), https, "{port}");
        }
    }

    #[test]
    fn who_asks_for_the_same_port_writes_the_same_record() {
        let ports = GatewayPorts::default();
        assert_eq!(ports.bind(9000, false), ports.bind(9000, false));
        assert_ne!(ports.bind(9000, false).id, ports.bind(9000, true).id);
        assert_eq!(&*ports.bind(9000, true).id.0, "127.0.0.1:9000/tls");
        let datagrams = ports.stream_bind(9000, Transport::Udp);
        assert_eq!(&*datagrams.id.0, "127.0.0.1:9000/udp");
    }
}
