//! A client's HTTP/2 connection: accepts streams until it is idle for too long or drained.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::downstream::Http2Downstream;
use super::stream::Http2Source;
use super::{CONNECTION_WINDOW, STREAM_WINDOW};
use crate::connection::Client;
use crate::request;
use crate::timeout::Timer;
use crate::transport::Transport;
use crate::worker::ConnectionGuard;

/// Streams that one client may have open.
const MAX_STREAMS: u32 = 256;
/// Bytes that we hold for a client that does not take them, per stream.
const SEND_BUFFER: usize = 256 * 1024;

/// Serves a connection of which `prefix` was read already.
pub(crate) async fn serve(
    guard: ConnectionGuard,
    stream: Transport,
    prefix: Vec<u8>,
    client: Rc<Client>,
) {
    let worker = Rc::clone(&guard.worker);
    let handshake = h2::server::Builder::new()
        .max_concurrent_streams(MAX_STREAMS)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(worker.limits.head_bytes as u32)
        .max_send_buffer_size(SEND_BUFFER)
        .handshake::<_, Bytes>(Replay {
            prefix,
            at: 0,
            stream,
        });
    let handshake = tokio::time::timeout(worker.limits.head, handshake).await;
    let Ok(Ok(mut connection)) = handshake else {
        return;
    };
    let mut is_ending = false;
    loop {
        // Whichever comes first; the idle limit counts only without streams.
        let accepted = tokio::time::timeout(worker.limits.keep_alive, async {
            tokio::select! {
                biased;
                accepted = connection.accept() => Some(accepted),
                () = drain(&guard), if !is_ending => None,
            }
        });
        match accepted.await {
            Ok(Some(Some(Ok((request, respond))))) => {
                let (parts, body) = request.into_parts();
                let (worker, client) = (Rc::clone(&worker), Rc::clone(&client));
                tokio::task::spawn_local(async move {
                    let mut downstream =
                        Http2Downstream::new(&worker, parts, Http2Source::new(body), respond);
                    let mut workspace = worker.workspace();
                    let mut timer = Timer::default();
                    request::handle(
                        &worker,
                        &client,
                        (&mut workspace.scratch, &mut timer),
                        &mut downstream,
                    )
                    .await;
                    worker.recycle(workspace);
                });
            }
            Ok(Some(Some(Err(error)))) => {
                tracing::debug!(peer = client.peer.text, %error, "HTTP/2 connection failed");
                return;
            }
            Ok(Some(None)) => return,
            Ok(None) => {
                is_ending = true;
                connection.graceful_shutdown();
            }
            Err(_) if !connection.has_streams() && !is_ending => {
                is_ending = true;
                connection.graceful_shutdown();
            }
            Err(_) if !connection.has_streams() => return,
            Err(_) => {}
        }
    }
}

async fn drain(guard: &ConnectionGuard) {
    poll_fn(|cx| {
        if guard.poll_drain(cx) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}

/// A stream whose first bytes were read by somebody else.
struct Replay {
    prefix: Vec<u8>,
    at: usize,
    stream: Transport,
}

impl AsyncRead for Replay {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.at < self.prefix.len() {
            let count = buf.remaining().min(self.prefix.len() - self.at);
            buf.put_slice(&self.prefix[self.at..self.at + count]);
            self.at += count;
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Replay {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, data)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, data)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
