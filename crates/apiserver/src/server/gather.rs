//! Answers of one HTTP/2 connection that are ready at about the same time, sent as one piece.
//!
//! The HTTP/2 library flushes after each answer: a TLS record, a system call and a wake of the
//! client for each, although a commit makes many answers ready at once. So a [`Gathered`] stream
//! keeps what is flushed, and [`Gathering`], the task of the connection, sends it after the other
//! tasks that were ready had their turn. Nothing waits for a clock.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// When this much is kept it is sent at once.
const MOST: usize = 64 << 10;
/// Room that an idle connection may keep.
const IDLE: usize = 4 << 10;

struct Shared<S> {
    stream: S,
    /// What was written and not sent, from `sent` on.
    kept: Vec<u8>,
    sent: usize,
    /// Why sending failed, until the library asks.
    failed: Option<io::Error>,
}

impl<S: AsyncWrite + Unpin> Shared<S> {
    fn fails(&mut self) -> io::Result<()> {
        self.failed.take().map_or(Ok(()), Err)
    }

    /// Keeps as much as there is room for, and says how much.
    fn keep(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min((2 * MOST).saturating_sub(self.kept.len()));
        self.kept.extend_from_slice(&bytes[..taken]);
        taken
    }

    /// Sends everything.
    fn send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.kept.len() {
            let rest = &self.kept[self.sent..];
            match ready!(Pin::new(&mut self.stream).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.sent += written,
            }
        }
        self.sent = 0;
        self.kept.clear();
        self.kept.shrink_to(IDLE);
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Makes room, if too much is kept.
    fn make_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.fails()?;
        if self.kept.len() < MOST {
            return Poll::Ready(Ok(()));
        }
        self.send(cx)
    }
}

/// A stream that keeps what is written until its [`Gathering`] sends it.
pub(super) struct Gathered<S>(Arc<Mutex<Shared<S>>>);

/// A connection over a [`Gathered`] stream.
pub(super) struct Gathering<F, S> {
    connection: F,
    shared: Arc<Mutex<Shared<S>>>,
    /// Others had their turn since something was kept.
    waited: bool,
}

/// Takes a stream apart into what the connection reads and writes, and what sends it.
pub(super) fn gather<S, F>(stream: S, connect: impl FnOnce(Gathered<S>) -> F) -> Gathering<F, S> {
    let shared = Arc::new(Mutex::new(Shared {
        stream,
        kept: Vec::new(),
        sent: 0,
        failed: None,
    }));
    Gathering {
        connection: connect(Gathered(Arc::clone(&shared))),
        shared,
        waited: false,
    }
}

// Only the task of the connection takes the lock, so nobody ever waits for it.
fn lock<S>(shared: &Mutex<Shared<S>>) -> MutexGuard<'_, Shared<S>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<F: Future + Unpin, S: AsyncWrite + Unpin> Future for Gathering<F, S> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.connection).poll(cx);
        let mut shared = lock(&this.shared);
        if shared.kept.is_empty() {
            return result;
        }
        if result.is_pending() && !std::mem::replace(&mut this.waited, true) {
            // Behind the tasks that are ready now: they may have more to say.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        this.waited = false;
        if let Poll::Ready(Err(error)) = shared.send(cx) {
            shared.kept.clear();
            shared.sent = 0;
            shared.failed = Some(error);
            cx.waker().wake_by_ref();
        }
        result
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gathered<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut lock(&self.0).stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gathered<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut shared = lock(&self.0);
        ready!(shared.make_room(cx))?;
        Poll::Ready(Ok(shared.keep(bytes)))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut shared = lock(&self.0);
        ready!(shared.make_room(cx))?;
        let mut written = 0;
        for piece in pieces {
            let kept = shared.keep(piece);
            written += kept;
            if kept < piece.len() {
                break;
            }
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        lock(&self.0).make_room(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut shared = lock(&self.0);
        ready!(shared.send(cx))?;
        Pin::new(&mut shared.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods)] // Tasks of these tests end with them.

    use std::collections::VecDeque;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::mpsc;

    use super::*;

    /// Counts what reaches the socket.
    #[derive(Default)]
    struct Socket {
        writes: Vec<usize>,
        refuses: bool,
    }

    impl AsyncWrite for Socket {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            if self.refuses {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            self.writes.push(bytes.len());
            Poll::Ready(Ok(bytes.len()))
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// Writes and flushes what it is told to, as the HTTP/2 library does, and ends with an error
    /// or when nobody is left to tell it something.
    async fn connection(
        mut stream: Gathered<Socket>,
        mut told: mpsc::UnboundedReceiver<usize>,
    ) -> io::Result<()> {
        while let Some(length) = told.recv().await {
            stream.write_all(&vec![b'a'; length]).await?;
            stream.flush().await?;
        }
        stream.shutdown().await
    }

    #[tokio::test]
    async fn what_many_tasks_answer_in_one_round_is_one_write() {
        let (tell, told) = mpsc::unbounded_channel();
        let gathering = gather(Socket::default(), |stream| {
            Box::pin(connection(stream, told))
        });
        let shared = Arc::clone(&gathering.shared);
        let writes = || lock(&shared).stream.writes.clone();
        let connection = tokio::spawn(gathering);
        tokio::task::yield_now().await;
        let tasks: VecDeque<_> = (0..5)
            .map(|_| {
                let tell = tell.clone();
                tokio::spawn(async move { tell.send(100).expect("told") })
            })
            .collect();
        for task in tasks {
            task.await.expect("ended");
        }
        while writes().is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(writes(), [500]);
        tell.send(3 * MOST).expect("told");
        drop(tell);
        connection.await.expect("ended").expect("no error");
        assert_eq!(writes().iter().sum::<usize>(), 500 + 3 * MOST);
        assert!(writes().iter().all(|length| *length <= 2 * MOST));
    }

    #[tokio::test]
    async fn an_error_of_the_socket_ends_the_connection() {
        let (tell, told) = mpsc::unbounded_channel();
        let socket = Socket {
            refuses: true,
            ..Socket::default()
        };
        let gathering = gather(socket, |stream| {
            Box::pin(async move {
                let mut stream = stream;
                let mut told: mpsc::UnboundedReceiver<usize> = told;
                loop {
                    tokio::select! {
                        length = told.recv() => {
                            let length = length.expect("a length");
                            stream.write_all(&vec![b'a'; length]).await?;
                        }
                        // The library asks again whenever it is polled.
                        () = tokio::task::yield_now() => {}
                    }
                    stream.flush().await?;
                }
                #[allow(unreachable_code)]
                Ok::<(), io::Error>(())
            })
        });
        let connection = tokio::spawn(gathering);
        tell.send(10).expect("told");
        let error = connection.await.expect("ended").expect_err("refused");
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    #[tokio::test]
    async fn what_is_read_is_the_streams() {
        let (near, mut far) = tokio::io::duplex(64);
        let gathering = gather(near, |mut stream| {
            Box::pin(async move {
                let mut read = [0; 4];
                stream.read_exact(&mut read).await?;
                stream.write_all(&read).await?;
                stream.shutdown().await
            })
        });
        let connection = tokio::spawn(gathering);
        far.write_all(b"ping").await.expect("written");
        let mut answer = String::new();
        far.read_to_string(&mut answer).await.expect("read");
        assert_eq!(answer, "ping");
        connection.await.expect("ended").expect("no error");
    }
}
