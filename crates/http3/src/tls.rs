//! The handshake: which configuration a client gets is chosen by the name that it asks for.
//!
//! Quinn wants to know the configuration before the first byte; rules about versions and client
//! certificates differ by name. So a session of ours gathers the client's hello, asks, and from
//! there on is the session of what was chosen.

use std::any::Any;
use std::sync::Arc;

use quinn::crypto::rustls::{NoInitialCipherSuite, QuicServerConfig};
use quinn::crypto::{
    self, ExportKeyingMaterialError, HeaderKey, KeyPair, Keys, PacketKey, UnsupportedVersion,
};
use quinn::{ConnectionId, Side};
use quinn_proto::transport_parameters::TransportParameters;
use quinn_proto::{TransportError, TransportErrorCode};
use rustls::pki_types::CertificateDer;
use rustls::server::{Acceptor, ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{AlertDescription, ServerConfig};

/// Bytes of a client hello. With post-quantum key shares they have about 2 KiB.
const MAX_HELLO: usize = 64 * 1024;
/// Bytes of a message's type and length (RFC 8446 §4).
const MESSAGE_HEAD: usize = 4;
/// Bytes of one record (RFC 8446 §5.1).
const MAX_RECORD: usize = 16 * 1024;
/// What clients ask for by ALPN.
const PROTOCOL: &[u8] = b"h3";

/// Knows the names that are served.
pub trait Choose: Send + Sync {
    /// What a client gets that asks for this name, or for none.
    ///
    /// # Errors
    /// It is not served.
    fn choose(&self, name: Option<&str>) -> Result<Chosen, Refusal>;
}

/// A name that is served.
pub struct Chosen {
    pub config: Arc<ServerConfig>,
    /// Whatever the one who chose wants to find with the connection.
    pub context: Arc<dyn Any + Send + Sync>,
}

/// Why a client is not served.
#[derive(Clone, Debug)]
pub struct Refusal {
    pub alert: AlertDescription,
    pub reason: String,
}

/// What the handshake came to.
pub struct Agreed {
    /// In lower case.
    pub server_name: Option<Box<str>>,
    pub context: Arc<dyn Any + Send + Sync>,
    /// The client's, its own first.
    pub certificates: Vec<CertificateDer<'static>>,
}

/// The configuration of an endpoint.
pub(crate) struct Names {
    choose: Arc<dyn Choose>,
    /// For what needs no certificate: keys of first packets, tags of retries.
    bare: Arc<QuicServerConfig>,
}

impl Names {
    pub(crate) fn new(choose: Arc<dyn Choose>) -> Result<Self, rustls::Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Nobody));
        let explain = |error: NoInitialCipherSuite| rustls::Error::General(error.to_string());
        let bare = QuicServerConfig::try_from(config).map_err(explain)?;
        Ok(Self {
            choose,
            bare: Arc::new(bare),
        })
    }

    fn agree(&self, hello: &ClientHello<'_>) -> Result<(Arc<QuicServerConfig>, Named), Refusal> {
        let name = hello.server_name();
        let Chosen { config, context } = self.choose.choose(name)?;
        let mut config = ServerConfig::clone(&config);
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        // What is sent early can be sent again by anybody who saw it.
        config.max_early_data_size = 0;
        let config = QuicServerConfig::try_from(config).map_err(|error| Refusal {
            alert: AlertDescription::InternalError,
            reason: error.to_string(),
        })?;
        let named = Named {
            server_name: name.map(|name| name.to_ascii_lowercase().into()),
            context,
        };
        Ok((Arc::new(config), named))
    }
}

impl crypto::ServerConfig for Names {
    fn initial_keys(&self, version: u32, id: &ConnectionId) -> Result<Keys, UnsupportedVersion> {
        crypto::ServerConfig::initial_keys(&*self.bare, version, id)
    }

    fn retry_tag(&self, version: u32, id: &ConnectionId, packet: &[u8]) -> [u8; 16] {
        crypto::ServerConfig::retry_tag(&*self.bare, version, id, packet)
    }

    fn start_session(
        self: Arc<Self>,
        version: u32,
        params: &TransportParameters,
    ) -> Box<dyn crypto::Session> {
        Box::new(Session::Waiting(Box::new(Waiting {
            names: self,
            version,
            params: *params,
            hello: Vec::new(),
        })))
    }
}

/// What is known by name.
#[derive(Clone)]
struct Named {
    server_name: Option<Box<str>>,
    context: Arc<dyn Any + Send + Sync>,
}

/// One handshake.
enum Session {
    Waiting(Box<Waiting>),
    Chosen(Box<dyn crypto::Session>, Named),
}

/// Not all of the hello is there.
struct Waiting {
    names: Arc<Names>,
    version: u32,
    params: TransportParameters,
    hello: Vec<u8>,
}

impl Waiting {
    /// Goes on if the hello is complete.
    fn choose(&mut self) -> Result<Option<Session>, TransportError> {
        if self.hello.len() > MAX_HELLO {
            return Err(refused(
                AlertDescription::DecodeError,
                "the client hello is too long",
            ));
        }
        let Some(size) = message_size(&self.hello) else {
            return Ok(None);
        };
        if self.hello.len() < MESSAGE_HEAD + size {
            return Ok(None);
        }
        let accepted = read_hello(&self.hello)?;
        let (config, named) = self
            .names
            .agree(&accepted.client_hello())
            .map_err(|refusal| refused(refusal.alert, &refusal.reason))?;
        let mut session = crypto::ServerConfig::start_session(config, self.version, &self.params);
        session.read_handshake(&self.hello)?;
        Ok(Some(Session::Chosen(session, named)))
    }
}

/// The length that a message says it has.
fn message_size(message: &[u8]) -> Option<usize> {
    let [_, high, middle, low] = message.first_chunk::<MESSAGE_HEAD>()?;
    Some(u32::from_be_bytes([0, *high, *middle, *low]) as usize)
}

/// Has the hello read by the library, which wants it in records, as over TCP.
fn read_hello(hello: &[u8]) -> Result<rustls::server::Accepted, TransportError> {
    let broken = || refused(AlertDescription::DecodeError, "this is no client hello");
    let mut acceptor = Acceptor::default();
    for part in hello.chunks(MAX_RECORD) {
        let length = (part.len() as u16).to_be_bytes();
        let record = [&[22, 3, 3, length[0], length[1]], part].concat();
        let mut rest = record.as_slice();
        while !rest.is_empty() {
            acceptor.read_tls(&mut rest).map_err(|_| broken())?;
        }
        match acceptor.accept() {
            Ok(Some(accepted)) => return Ok(accepted),
            Ok(None) => {}
            Err((error, _)) => {
                return Err(refused(AlertDescription::DecodeError, &error.to_string()));
            }
        }
    }
    Err(broken())
}

fn refused(alert: AlertDescription, reason: &str) -> TransportError {
    TransportError {
        code: TransportErrorCode::crypto(alert.into()),
        frame: None,
        reason: reason.to_owned(),
    }
}

impl crypto::Session for Session {
    fn initial_keys(&self, id: &ConnectionId, side: Side) -> Keys {
        match self {
            Self::Waiting(waiting) => {
                let bare = &*waiting.names.bare;
                let keys = crypto::ServerConfig::initial_keys(bare, waiting.version, id);
                keys.unwrap_or_else(|_| unreachable!("the version was accepted before"))
            }
            Self::Chosen(session, _) => session.initial_keys(id, side),
        }
    }

    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        match self {
            Self::Waiting(_) => None,
            Self::Chosen(_, named) => Some(Box::new(named.clone())),
        }
    }

    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        self.chosen()?.peer_identity()
    }

    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
        self.chosen()?.early_crypto()
    }

    fn early_data_accepted(&self) -> Option<bool> {
        self.chosen()?.early_data_accepted()
    }

    fn is_handshaking(&self) -> bool {
        self.chosen().is_none_or(crypto::Session::is_handshaking)
    }

    fn read_handshake(&mut self, bytes: &[u8]) -> Result<bool, TransportError> {
        match self {
            Self::Waiting(waiting) => {
                waiting.hello.extend_from_slice(bytes);
                let Some(chosen) = waiting.choose()? else {
                    return Ok(false);
                };
                *self = chosen;
                Ok(true)
            }
            Self::Chosen(session, _) => session.read_handshake(bytes).map(|_| false),
        }
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        match self.chosen() {
            None => Ok(None),
            Some(session) => session.transport_parameters(),
        }
    }

    fn write_handshake(&mut self, out: &mut Vec<u8>) -> Option<Keys> {
        self.chosen_mut()?.write_handshake(out)
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        self.chosen_mut()?.next_1rtt_keys()
    }

    fn is_valid_retry(&self, _: &ConnectionId, _: &[u8], _: &[u8]) -> bool {
        // Servers get none.
        false
    }

    fn export_keying_material(
        &self,
        output: &mut [u8],
        label: &[u8],
        context: &[u8],
    ) -> Result<(), ExportKeyingMaterialError> {
        let session = self.chosen().ok_or(ExportKeyingMaterialError)?;
        session.export_keying_material(output, label, context)
    }
}

impl Session {
    fn chosen(&self) -> Option<&dyn crypto::Session> {
        match self {
            Self::Waiting(_) => None,
            Self::Chosen(session, _) => Some(&**session),
        }
    }

    fn chosen_mut(&mut self) -> Option<&mut dyn crypto::Session> {
        match self {
            Self::Waiting(_) => None,
            Self::Chosen(session, _) => Some(&mut **session),
        }
    }
}

/// What a connection's handshake came to.
pub(crate) fn agreed(connection: &quinn::Connection) -> Option<Agreed> {
    let named = connection.handshake_data()?.downcast::<Named>().ok()?;
    let certificates = connection
        .peer_identity()
        .and_then(|certificates| certificates.downcast().ok());
    Some(Agreed {
        server_name: named.server_name,
        context: named.context,
        certificates: certificates.map_or_else(Vec::new, |certificates| *certificates),
    })
}

/// Has no certificate for anybody.
#[derive(Debug)]
struct Nobody;

impl ResolvesServerCert for Nobody {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        None
    }
}
