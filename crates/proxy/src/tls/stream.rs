//! TLS over one TCP connection, polled like a socket.
//!
//! Records are encrypted into rustls' queue and written from there; what the socket does not take
//! at once goes out with the next write or flush. Reading may have to write too (a key update is
//! acknowledged), so both directions belong to one task.
//!
//! Rustls reads 4 KiB at most from a socket. Where such a read was full, the next ones go through
//! memory of our own, which takes many records at once and is held only while something is in it.

use std::future::poll_fn;
use std::io::{self, IoSlice, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustls::Connection;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Bytes that rustls reads at once.
const SHORT: usize = 4 * 1024;
/// Bytes that are read at once of what is longer. With more, uploads cost as much.
const AHEAD: usize = 64 * 1024;

/// See the module.
pub(crate) struct TlsStream {
    socket: TcpStream,
    session: Connection,
    /// We said goodbye.
    has_ended: bool,
    /// Decrypted data may be left that no read has taken.
    has_plaintext: bool,
    /// The last read took as much as it could: more is probably there.
    is_long: bool,
    /// What was read and not decrypted begins at `taken`.
    ahead: Vec<u8>,
    taken: usize,
}

/// The socket as rustls wants it: an error instead of waiting.
struct Blocking<'a, 'cx> {
    socket: &'a mut TcpStream,
    cx: &'a mut Context<'cx>,
}

impl TlsStream {
    /// A stream whose handshake is still to be done, see [`Self::handshake`].
    pub(crate) fn new(socket: TcpStream, session: impl Into<Connection>) -> Self {
        Self {
            socket,
            session: session.into(),
            has_ended: false,
            has_plaintext: true,
            is_long: false,
            ahead: Vec::new(),
            taken: 0,
        }
    }

    pub(crate) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    pub(crate) fn session(&self) -> &Connection {
        &self.session
    }

    /// Sends and receives until both sides agree. The caller bounds the time.
    pub(crate) async fn handshake(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_handshake(cx)).await
    }

    fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            // The last flight also has to leave before the handshake counts as done.
            ready!(self.poll_send(cx))?;
            if !self.session.is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            if ready!(self.poll_receive(cx))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        loop {
            if self.has_plaintext {
                match self.session.reader().read(buf.initialize_unfilled()) {
                    Ok(count) => {
                        buf.advance(count);
                        if count == 0 || self.ahead.is_empty() || buf.remaining() == 0 {
                            return Poll::Ready(Ok(()));
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        self.has_plaintext = false;
                    }
                    Err(error) => return Poll::Ready(Err(error)),
                }
                continue;
            }
            let has_some = buf.filled().len() > before;
            if has_some && self.ahead.is_empty() {
                return Poll::Ready(Ok(()));
            }
            match ready!(self.poll_receive(cx)) {
                Ok(_) => self.has_plaintext = true,
                // What came before it counts, and rustls says it again.
                Err(_) if has_some => return Poll::Ready(Ok(())),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Decrypts what was read, or reads once from the socket. 0 is the end of the TCP stream.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.is_long && self.ahead.is_empty() {
            ready!(self.poll_ahead(cx))?;
        }
        let count = if self.ahead.is_empty() {
            let mut blocking = Blocking {
                socket: &mut self.socket,
                cx,
            };
            match self.session.read_tls(&mut blocking) {
                Ok(count) => {
                    self.is_long = count >= SHORT;
                    count
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error)),
            }
        } else {
            self.take()?
        };
        let processed = self.session.process_new_packets();
        // An alert, or the answer to a key update; best effort, it is not what we were asked for.
        let _ = self.poll_send(cx);
        match processed {
            Ok(_) => Poll::Ready(Ok(count)),
            Err(error) => Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error))),
        }
    }

    /// Reads ahead. Nothing is there afterwards at the end of the TCP stream, which rustls has to
    /// see for itself.
    fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.socket.poll_read_ready(cx))?;
            self.ahead.reserve_exact(AHEAD);
            let read = self.socket.try_read_buf(&mut self.ahead);
            if !matches!(read, Ok(1..)) {
                self.ahead = Vec::new();
            }
            match read {
                Ok(count) => {
                    self.is_long = count >= SHORT;
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Gives rustls as much of what was read ahead as it takes.
    fn take(&mut self) -> io::Result<usize> {
        let count = self.session.read_tls(&mut &self.ahead[self.taken..])?;
        self.taken += count;
        // After the peer's goodbye nothing is taken any more.
        if count == 0 || self.taken == self.ahead.len() {
            (self.ahead, self.taken) = (Vec::new(), 0);
        }
        Ok(count)
    }

    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            // Takes as much as its bound on unsent records lets it.
            let count = self.session.writer().write_vectored(data)?;
            let sent = self.poll_send(cx);
            if count > 0 || data.iter().all(|part| part.is_empty()) {
                return match sent {
                    Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                    Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(count)),
                };
            }
            ready!(sent)?;
        }
    }

    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_send(cx)
    }

    /// Says goodbye and ends our direction of the TCP stream.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.has_ended {
            self.has_ended = true;
            self.session.send_close_notify();
        }
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }

    /// Writes what is encrypted and not sent.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.session.wants_write() {
            let mut blocking = Blocking {
                socket: &mut self.socket,
                cx,
            };
            match self.session.write_tls(&mut blocking) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Whether the peer neither closed nor sent data. Takes in what is no data.
    pub(crate) fn is_quiet(&mut self, cx: &mut Context<'_>) -> bool {
        loop {
            match self.poll_receive(cx) {
                Poll::Pending => return true,
                Poll::Ready(Ok(count)) if count > 0 => {}
                Poll::Ready(_) => return false,
            }
            let mut byte = [0];
            match self.session.reader().read(&mut byte) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(_) | Err(_) => return false,
            }
        }
    }
}

impl Read for Blocking<'_, '_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut buf = ReadBuf::new(buf);
        match Pin::new(&mut *self.socket).poll_read(self.cx, &mut buf) {
            Poll::Ready(Ok(())) => Ok(buf.filled().len()),
            Poll::Ready(Err(error)) => Err(error),
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl Write for Blocking<'_, '_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.finished(|socket, cx| Pin::new(socket).poll_write(cx, data))
    }

    fn write_vectored(&mut self, data: &[IoSlice<'_>]) -> io::Result<usize> {
        // One record, most of the time: the kernel has no list to read then.
        if let [record] = data {
            return self.write(record);
        }
        self.finished(|socket, cx| Pin::new(socket).poll_write_vectored(cx, data))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Blocking<'_, '_> {
    fn finished(
        &mut self,
        write: impl FnOnce(&mut TcpStream, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> io::Result<usize> {
        match write(&mut *self.socket, &mut *self.cx) {
            Poll::Ready(result) => result,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}
