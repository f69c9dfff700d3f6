//! A socket that clients connect to, and how much of what.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::{EndpointConfig, IdleTimeout, ServerConfig, TokioRuntime, TransportConfig, VarInt};

use crate::code::Code;
use crate::connection::Connection;
use crate::identifier::Place;
use crate::tls::{Choose, Names, agreed};

/// Bytes that one stream may have on its way towards us.
const STREAM_WINDOW: u32 = 256 * 1024;
/// Bytes that all streams of a connection may.
const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;
/// Bytes that a connection may have on its way towards the client.
const SEND_WINDOW: u64 = 2 * 1024 * 1024;
/// Streams of a client in one direction: three that HTTP/3 has, and some of a kind that nobody
/// knows, which are refused.
const ONE_WAY: u8 = 16;
/// How often a silent client is asked whether it is there, and after how long it is not.
const ASK: Duration = Duration::from_secs(15);
const GIVE_UP: Duration = Duration::from_secs(60);
/// Bytes of what comes for connections that were not accepted yet, of one and of all.
const WAITING: u64 = 64 * 1024;
const ALL_WAITING: u64 = 4 * 1024 * 1024;

/// What a client may have of us.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a header block.
    pub head_bytes: usize,
    /// Requests at once on one connection.
    pub streams: u32,
    /// Connections that wait to be accepted.
    pub waiting: usize,
    /// Frames that move nothing forward, at once and again every second.
    pub idle_frames: u32,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Endpoint {
    quic: quinn::Endpoint,
    limits: Limits,
}

impl Endpoint {
    /// Serves a socket, which must not block. To be called in a runtime, which has the tasks of all
    /// connections.
    ///
    /// # Errors
    /// The system refuses something.
    pub fn new(
        socket: UdpSocket,
        limits: Limits,
        place: Place,
        choose: Arc<dyn Choose>,
    ) -> io::Result<Self> {
        let server = server(&limits, choose)?;
        let mut config = EndpointConfig::default();
        config.cid_generator(move || Box::new(place));
        let runtime = Arc::new(TokioRuntime);
        let quic = quinn::Endpoint::new(config, Some(server), socket, runtime)?;
        Ok(Self { quic, limits })
    }

    /// Has somebody else choose for clients that come from now on.
    ///
    /// # Errors
    /// The provider of cryptography refuses something.
    pub fn choose_by(&self, choose: Arc<dyn Choose>) -> io::Result<()> {
        let server = server(&self.limits, choose)?;
        self.quic.set_server_config(Some(server));
        Ok(())
    }

    /// The next client. `None` once the endpoint is closed.
    pub async fn accept(&self) -> Option<Incoming> {
        let quic = self.quic.accept().await?;
        let limits = self.limits;
        Some(Incoming { quic, limits })
    }

    /// Ends all connections at once, and takes no others.
    pub fn close(&self, code: Code) {
        self.quic.close(code.wire(), b"");
    }

    /// Waits until clients were told that their connections are closed.
    pub async fn idle(&self) {
        self.quic.wait_idle().await;
    }
}

fn server(limits: &Limits, choose: Arc<dyn Choose>) -> io::Result<ServerConfig> {
    let names = Names::new(choose).map_err(io::Error::other)?;
    let mut server = ServerConfig::with_crypto(Arc::new(names));
    server
        .transport_config(Arc::new(transport(limits)))
        .max_incoming(limits.waiting)
        .incoming_buffer_size(WAITING)
        .incoming_buffer_size_total(ALL_WAITING);
    Ok(server)
}

fn transport(limits: &Limits) -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(limits.streams.into())
        .max_concurrent_uni_streams(ONE_WAY.into())
        .stream_receive_window(STREAM_WINDOW.into())
        .receive_window(CONNECTION_WINDOW.into())
        .send_window(SEND_WINDOW)
        .keep_alive_interval(Some(ASK))
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(
            GIVE_UP.as_millis() as u32,
        ))))
        // Nobody reads datagrams here.
        .datagram_receive_buffer_size(None);
    transport
}

/// A client that wants to connect. Dropping it refuses it.
#[derive(Debug)]
pub struct Incoming {
    quic: quinn::Incoming,
    limits: Limits,
}

impl Incoming {
    pub fn peer(&self) -> SocketAddr {
        self.quic.remote_address()
    }

    /// Whether the client has shown that it can be reached at its address.
    pub fn is_validated(&self) -> bool {
        self.quic.remote_address_validated()
    }

    /// Asks the client to come again with a token, which shows that it is where it says.
    pub fn retry(self) {
        // Fails only where the address is known to be right: then it is refused.
        let _ = self.quic.retry();
    }

    /// Does nothing: the client will ask again after a while.
    pub fn ignore(self) {
        self.quic.ignore();
    }

    /// Says that there is no place.
    pub fn refuse(self) {
        self.quic.refuse();
    }

    /// Shakes hands.
    ///
    /// # Errors
    /// The handshake failed.
    pub async fn accept(self) -> Result<Connection, quinn::ConnectionError> {
        let connection = self.quic.accept()?.await?;
        let Some(agreed) = agreed(&connection) else {
            connection.close(Code::INTERNAL_ERROR.wire(), b"");
            return Err(quinn::ConnectionError::LocallyClosed);
        };
        Ok(Connection::new(connection, agreed, self.limits))
    }

    /// The address of ours that it came to, as far as the system says.
    pub fn own_ip(&self) -> Option<IpAddr> {
        self.quic.local_ip()
    }
}
