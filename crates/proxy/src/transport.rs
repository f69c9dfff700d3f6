//! A connection's byte stream: TCP, or TLS over it.
//!
//! Everything above reads and writes a [`Transport`] or its halves and never asks which it is. The
//! plain path costs one predictable branch; TLS lives behind a pointer, so that it costs memory
//! only where it is used. Both halves belong to one task.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, tcp};

use crate::socket;
use crate::tls::stream::TlsStream;

/// How often a connection whose buffers are full is asked whether its peer went away.
const LOOK: Duration = Duration::from_millis(250);

/// See the module.
pub(crate) enum Transport {
    Plain(TcpStream),
    Tls(Box<RefCell<TlsStream>>),
}

/// The reading half.
pub(crate) enum ReadHalf<'s> {
    Plain(tcp::ReadHalf<'s>),
    Tls(&'s RefCell<TlsStream>),
}

/// The writing half.
pub(crate) enum WriteHalf<'s> {
    Plain(tcp::WriteHalf<'s>),
    Tls(&'s RefCell<TlsStream>),
}

impl Transport {
    pub(crate) fn tls(stream: TlsStream) -> Self {
        Self::Tls(Box::new(RefCell::new(stream)))
    }

    /// Both directions, for one task.
    pub(crate) fn split(&mut self) -> (ReadHalf<'_>, WriteHalf<'_>) {
        match self {
            Self::Plain(stream) => {
                let (read, write) = stream.split();
                (ReadHalf::Plain(read), WriteHalf::Plain(write))
            }
            Self::Tls(stream) => (ReadHalf::Tls(stream), WriteHalf::Tls(stream)),
        }
    }

    /// Whether nothing came and the peer has not closed. With `look` the socket is asked; without,
    /// what the event loop saw last has to do.
    pub(crate) fn is_quiet(&mut self, look: bool) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        match self {
            Self::Plain(stream) => {
                stream.poll_read_ready(&mut cx).is_pending() && (!look || socket::is_quiet(stream))
            }
            // What came may be no more than the server's session tickets.
            Self::Tls(stream) => stream.get_mut().is_quiet(&mut cx),
        }
    }

    /// Makes closing a reset: the peer must not take what it has for complete.
    pub(crate) fn reset_on_close(&self) {
        // Fails only if the connection is gone already.
        let _ = match self {
            Self::Plain(stream) => stream.set_zero_linger(),
            Self::Tls(stream) => stream.borrow().socket().set_zero_linger(),
        };
    }

    /// Tells the peer that this is the end, as far as that needs no waiting.
    pub(crate) fn end(&mut self) {
        if let Self::Tls(stream) = self {
            let mut cx = Context::from_waker(Waker::noop());
            let _ = stream.get_mut().poll_shutdown(&mut cx);
        }
    }
}

impl ReadHalf<'_> {
    /// Resolves when the peer has closed, without reading. Cancel-safe.
    pub(crate) async fn closed(&self) {
        loop {
            let is_closed = match self {
                Self::Plain(read) => match read.as_ref().ready(Interest::READABLE).await {
                    Ok(ready) => ready.is_read_closed(),
                    Err(_) => true,
                },
                Self::Tls(stream) => socket::is_closed_by_peer(stream.borrow().socket()),
            };
            if is_closed {
                return;
            }
            // There is no event for this alone.
            tokio::time::sleep(LOOK).await;
        }
    }
}

impl AsyncRead for ReadHalf<'_> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(read) => Pin::new(read).poll_read(cx, buf),
            Self::Tls(stream) => stream.borrow_mut().poll_read(cx, buf),
        }
    }
}

impl WriteHalf<'_> {
    /// Writes what a socket without TLS takes at once, which is nearly always all of it: nothing
    /// has to be prepared for waiting then.
    pub(crate) fn write_now(&mut self, data: &[u8]) -> io::Result<usize> {
        let Self::Plain(write) = self else {
            return Ok(0);
        };
        match write.try_write(data) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            other => other,
        }
    }
}

impl AsyncWrite for WriteHalf<'_> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(write) => Pin::new(write).poll_write(cx, data),
            Self::Tls(stream) => stream.borrow_mut().poll_write(cx, &[IoSlice::new(data)]),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(write) => Pin::new(write).poll_write_vectored(cx, data),
            Self::Tls(stream) => stream.borrow_mut().poll_write(cx, data),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Tls(stream) => stream.borrow_mut().poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(write) => Pin::new(write).poll_shutdown(cx),
            Self::Tls(stream) => stream.borrow_mut().poll_shutdown(cx),
        }
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => stream.get_mut().poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, data),
            Self::Tls(stream) => stream.get_mut().poll_write(cx, &[IoSlice::new(data)]),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, data),
            Self::Tls(stream) => stream.get_mut().poll_write(cx, data),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Tls(stream) => stream.get_mut().poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => stream.get_mut().poll_shutdown(cx),
        }
    }
}
