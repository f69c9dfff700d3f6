//! A client's connection: requests as they come, and our side of its control stream.

use std::cell::Cell;
use std::net::SocketAddr;
use std::time::Duration;

use quinn::{SendStream, VarInt};

use crate::code::Code;
use crate::control;
use crate::endpoint::Limits;
use crate::frame::{GOAWAY, SETTINGS, write_head, write_integer};
use crate::receive::Receiver;
use crate::send::Sender;
use crate::tls::Agreed;

/// The setting for bytes of a header block (RFC 9114 §7.2.4.1). Those of tables default to none.
const MAX_FIELD_SECTION_SIZE: u64 = 6;

/// A request's stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamId(u64);

impl StreamId {
    pub const FIRST: Self = Self(0);
    /// Larger than that of any request.
    pub const LAST: Self = Self((1 << 62) - 4);

    pub(crate) fn of(id: quinn::StreamId) -> Self {
        Self(VarInt::from(id).into_inner())
    }

    /// The one that a client opens after this.
    #[must_use]
    pub fn next(self) -> Self {
        Self((self.0 + 4).min(Self::LAST.0))
    }
}

/// See the module.
pub struct Connection {
    quic: quinn::Connection,
    agreed: Agreed,
    limits: Limits,
    /// Our control stream, once it is open.
    control: Cell<Option<SendStream>>,
}

impl Connection {
    pub(crate) fn new(quic: quinn::Connection, agreed: Agreed, limits: Limits) -> Self {
        Self {
            quic,
            agreed,
            limits,
            control: Cell::new(None),
        }
    }

    pub fn agreed(&self) -> &Agreed {
        &self.agreed
    }

    /// Where the client is now.
    pub fn peer(&self) -> SocketAddr {
        self.quic.remote_address()
    }

    pub fn round_trip(&self) -> Duration {
        self.quic.rtt()
    }

    /// The next request. Cancel-safe.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn request(&self) -> Result<(Receiver, Sender), quinn::ConnectionError> {
        let (send, receive) = self.quic.accept_bi().await?;
        Ok((
            Receiver::new(receive, self.limits.head_bytes),
            Sender::new(send),
        ))
    }

    /// Says what we want to be known and reads what the client says beside its requests, until it
    /// must not go on: then why, or `None` if it is gone. To be run all the time.
    pub async fn converse(&self) -> Option<Code> {
        let ours = async {
            let mut stream = self.quic.open_uni().await.ok()?;
            let mut settings = Vec::new();
            write_integer(&mut settings, MAX_FIELD_SECTION_SIZE);
            write_integer(&mut settings, self.limits.head_bytes as u64);
            let mut out = Vec::new();
            write_integer(&mut out, control::CONTROL);
            write_head(&mut out, SETTINGS, settings.len());
            out.extend_from_slice(&settings);
            stream.write_all(&out).await.ok()?;
            let stopped = stream.stopped();
            self.control.set(Some(stream));
            // Without this stream nothing can be said any more (RFC 9114 §6.2.1).
            stopped.await.ok()?;
            Some(Code::CLOSED_CRITICAL_STREAM)
        };
        let theirs = control::read(&self.quic, self.limits.idle_frames);
        tokio::select! {
            code = ours => code,
            code = theirs => code,
        }
    }

    /// Says that requests from this one on are not served.
    pub async fn go_away(&self, from: StreamId) {
        let Some(mut stream) = self.control.take() else {
            return;
        };
        let mut id = Vec::new();
        write_integer(&mut id, from.0);
        let mut out = Vec::new();
        write_head(&mut out, GOAWAY, id.len());
        out.extend_from_slice(&id);
        if stream.write_all(&out).await.is_ok() {
            self.control.set(Some(stream));
        }
    }

    /// Ends everything at once.
    pub fn close(&self, code: Code) {
        self.quic.close(code.wire(), b"");
    }
}
