//! What a log service is told of one request: `HTTPAccessLogEntry` and `TCPAccessLogEntry` of
//! `envoy.data.accesslog.v3`.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::message::Message;

/// One request that has ended. Texts that do not exist are empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogEntry {
    /// Nanoseconds since the Unix epoch.
    pub start: u64,
    pub took: Duration,
    /// The client, as far as proxies in front may say who it is.
    pub client: Option<Client>,
    /// The other end of the connection.
    pub peer: Option<SocketAddr>,
    /// This end of it.
    pub local: Option<SocketAddr>,
    /// The name that the client asked for in TLS; `None` without TLS.
    pub server_name: Option<String>,
    pub endpoint: Option<SocketAddr>,
    pub backend: String,
    pub route: String,
    /// Why the gateway answered itself: a field of `ResponseFlags`.
    pub flag: Option<u64>,
    /// The gateway's own word for that.
    pub details: String,
    pub method: String,
    pub scheme: &'static str,
    pub authority: String,
    pub path: String,
    /// Such as `HTTP/1.1`.
    pub protocol: &'static str,
    pub user_agent: String,
    pub referer: String,
    pub forwarded_for: String,
    pub request_id: String,
    /// Bytes of the bodies.
    pub received: u64,
    pub sent: u64,
    pub status: u16,
    /// Names in lower case, with their values.
    pub request_headers: Vec<(String, String)>,
    pub response_headers: Vec<(String, String)>,
    pub response_trailers: Vec<(String, String)>,
}

/// An address, with the port if it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    pub address: IpAddr,
    pub port: u16,
}

/// `ResponseFlags.unauthorized_details`, which is a message.
pub const UNAUTHORIZED: u64 = 13;

/// `core.v3.RequestMethod`.
const METHODS: [&str; 9] = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
];

impl LogEntry {
    /// `HTTPAccessLogEntry`.
    pub(crate) fn http(&self, message: &mut Message) {
        message.message(1, |common| self.common(common));
        let version = match self.protocol {
            "HTTP/1.0" => 1,
            "HTTP/1.1" => 2,
            "HTTP/2.0" | "HTTP/2" => 3,
            _ => 0,
        };
        message.count(2, version);
        message.some(3, |request| {
            let method = METHODS.iter().position(|known| *known == self.method);
            request.count(1, method.map_or(0, |at| at as u64 + 1));
            request.text(2, self.scheme);
            request.text(3, &self.authority);
            request.text(5, &self.path);
            request.text(6, &self.user_agent);
            request.text(7, &self.referer);
            request.text(8, &self.forwarded_for);
            request.text(9, &self.request_id);
            request.count(12, self.received);
            entries(request, 13, &self.request_headers);
        });
        message.some(4, |response| {
            response.some(1, |status| status.count(1, self.status.into()));
            response.count(3, self.sent);
            entries(response, 4, &self.response_headers);
            entries(response, 5, &self.response_trailers);
            response.text(6, &self.details);
        });
    }

    /// `TCPAccessLogEntry`.
    pub(crate) fn tcp(&self, message: &mut Message) {
        message.message(1, |common| self.common(common));
        message.some(2, |connection| {
            connection.count(1, self.received);
            connection.count(2, self.sent);
        });
    }

    /// `AccessLogCommon`.
    fn common(&self, common: &mut Message) {
        let client = self.client.map(|it| (it.address, it.port));
        let of = |address: SocketAddr| (address.ip(), address.port());
        for (field, end) in [
            (2, client.or_else(|| self.peer.map(of))),
            (3, self.local.map(of)),
            (13, self.endpoint.map(of)),
            (20, self.peer.map(of)),
        ] {
            if let Some(end) = end {
                common.message(field, |message| address(message, end));
            }
        }
        if let Some(name) = &self.server_name {
            common.message(4, |tls| tls.text(3, name));
        }
        let whole = Duration::from_nanos(self.start);
        common.some(5, |time| moment(time, whole));
        common.some(12, |time| moment(time, self.took));
        common.some(23, |time| moment(time, self.took));
        common.text(15, &self.backend);
        if let Some(flag) = self.flag {
            common.message(16, |flags| match flag {
                UNAUTHORIZED => flags.message(flag, |reason| reason.number(1, 1)),
                flag => flags.number(flag, 1),
            });
        }
        common.text(19, &self.route);
    }

    /// About as many bytes as it has when it is encoded.
    pub(crate) fn size(&self) -> usize {
        let lists = [
            &self.request_headers,
            &self.response_headers,
            &self.response_trailers,
        ];
        let fields = lists.into_iter().flatten();
        let fields: usize = fields
            .map(|(name, value)| name.len() + value.len() + 6)
            .sum();
        let texts = [
            &self.backend,
            &self.route,
            &self.authority,
            &self.path,
            &self.user_agent,
            &self.referer,
            &self.forwarded_for,
            &self.request_id,
        ];
        160 + fields + texts.into_iter().map(String::len).sum::<usize>()
    }
}

fn entries(message: &mut Message, field: u64, entries: &[(String, String)]) {
    for (name, value) in entries {
        message.entry(field, name, value);
    }
}

/// `core.v3.Address` of a TCP socket.
fn address(message: &mut Message, (address, port): (IpAddr, u16)) {
    message.message(1, |socket| {
        socket.text(2, &address.to_string());
        socket.count(3, port.into());
    });
}

/// `google.protobuf.Timestamp` and `Duration`.
fn moment(message: &mut Message, since: Duration) {
    message.count(1, since.as_secs());
    message.count(2, since.subsec_nanos().into());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(fill: impl FnOnce(&mut Message)) -> Vec<u8> {
        let mut message = Message::default();
        fill(&mut message);
        message.0
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        // An empty AccessLogCommon is there: an entry always has one.
        assert_eq!(bytes(|it| LogEntry::default().http(it)), [0x0a, 0]);
        assert_eq!(bytes(|it| LogEntry::default().tcp(it)), [0x0a, 0]);
    }

    #[test]
    fn fields_stand_where_envoy_has_them() {
        let entry = LogEntry {
            took: Duration::from_nanos(3_000_000_005),
            peer: Some(SocketAddr::from(([10, 0, 0, 1], 81))),
            flag: Some(UNAUTHORIZED),
            method: "POST".into(),
            protocol: "HTTP/1.1",
            status: 403,
            sent: 7,
            response_headers: vec![("a".into(), "b".into())],
            ..LogEntry::default()
        };
        let address = [b"\x0a\x0c\x12\x0810.0.0.1\x18\x51".as_slice()].concat();
        let mut common = Vec::new();
        common.extend([0x12, 14]);
        common.extend(&address);
        common.extend([0xa2, 0x01, 14]);
        common.extend(&address);
        // time_to_last_downstream_tx_byte, duration: 3 s and 5 ns.
        common.extend([0x62, 4, 8, 3, 16, 5, 0xba, 0x01, 4, 8, 3, 16, 5]);
        // unauthorized_details.reason: EXTERNAL_SERVICE.
        common.extend([0x82, 0x01, 4, 0x6a, 2, 8, 1]);
        let mut expected = vec![0x0a, u8::try_from(common.len()).expect("short")];
        expected.extend(common);
        expected.extend([0x10, 2]);
        expected.extend([0x1a, 2, 8, 3]);
        expected.extend([0x22, 15, 0x0a, 3, 8, 0x93, 3, 0x18, 7, 0x22, 6]);
        expected.extend([0x0a, 1, b'a', 0x12, 1, b'b']);
        assert_eq!(bytes(|it| entry.http(it)), expected);
    }
}
