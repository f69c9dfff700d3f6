//! The other side of a program's terminal: what is written is typed, what is read is shown.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::spawner::Stdio;
use crate::sys::{event, socket, terminal};

/// A socket on which a terminal arrives once its program runs.
pub(crate) struct Console(OwnedFd);

impl Console {
    /// Ours, and what the program is started with.
    pub(crate) fn new() -> io::Result<(Self, Stdio)> {
        let (ours, console) = socket::packet_pair()?;
        socket::set_nonblocking(ours.as_fd())?;
        Ok((Self(ours), Stdio::Terminal { console }))
    }

    /// The terminal of the program, which has been started.
    pub(crate) fn terminal(self) -> io::Result<Terminal> {
        // It was sent before the program was executed, so there is nothing to wait for.
        let (_, fds) = socket::receive(self.0.as_fd(), &mut [0; 8])?;
        let fd = fds.into_iter().next();
        let fd = fd.ok_or_else(|| io::Error::other("the program sent no terminal"))?;
        socket::set_nonblocking(fd.as_fd())?;
        Ok(Terminal {
            file: Arc::new(File::from(fd.try_clone()?)),
            ready: Arc::new(event::watch(fd)?),
        })
    }
}

/// A terminal as its user has it. Clones are the same terminal.
#[derive(Clone)]
pub(crate) struct Terminal {
    file: Arc<File>,
    ready: Arc<AsyncFd<OwnedFd>>,
}

impl Terminal {
    /// Tells the programs in it its size.
    pub(crate) fn resize(&self, columns: u16, rows: u16) {
        if let Err(error) = terminal::resize(self.file.as_fd(), columns, rows) {
            tracing::debug!(%error, "cannot resize a terminal");
        }
    }
}

impl AsyncRead for Terminal {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.ready.poll_read_ready(cx))?;
            match guard.try_io(|_| (&*self.file).read(buffer.initialize_unfilled())) {
                Ok(Ok(length)) => {
                    buffer.advance(length);
                    return Poll::Ready(Ok(()));
                }
                // How the kernel says that no program has the terminal open any more.
                Ok(Err(error)) if error.raw_os_error() == Some(libc::EIO) => {
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_not_ready) => {}
            }
        }
    }
}

impl AsyncWrite for Terminal {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.ready.poll_write_ready(cx))?;
            if let Ok(result) = guard.try_io(|_| (&*self.file).write(bytes)) {
                return Poll::Ready(result);
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
