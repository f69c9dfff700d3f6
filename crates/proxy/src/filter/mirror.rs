//! Copies of requests for other backends. What they answer is read and dropped.
//!
//! A copy never delays the request that it is of: its body goes through a short queue, and a
//! backend that does not keep up loses the copy. One endpoint gets one copy: over HTTP/1 on a
//! connection of its own that is closed afterwards, over HTTP/2 as a stream among others.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use routing::Backend;
use routing::model::{Mirror, Protocol};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::backend;
use crate::edits::Edits;
use crate::failure::Failure;
use crate::http1::body::Framing;
use crate::http1::edit;
use crate::http2::client::{Sender, Unheeded};
use crate::http2::encode;
use crate::message::View;
use crate::rare::rare;
use crate::upstream::pool::Http1Connection;
use crate::upstream::{Connection, Freshness};
use crate::worker::Worker;

/// Pieces of body that a copy may lag behind.
const QUEUE: usize = 32;
/// A copy and its answer.
const LIMIT: Duration = Duration::from_secs(30);
/// Copies at once on one thread; further ones are not made.
const MOST: usize = 1024;

/// The bodies of the copies of one request.
#[derive(Debug, Default)]
pub(crate) struct Copies {
    queues: Vec<mpsc::Sender<Piece>>,
}

#[derive(Debug)]
enum Piece {
    Data(Vec<u8>),
    End,
}

impl Copies {
    /// Passes on what was just read of the body.
    pub(crate) fn write(&mut self, data: &[u8], is_last: bool) {
        self.queues.retain(|queue| {
            let sent = data.is_empty() || queue.try_send(Piece::Data(data.to_vec())).is_ok();
            // Without an end, the copy is cut: its backend does not take it for a whole one.
            sent && (!is_last || queue.try_send(Piece::End).is_ok())
        });
        if is_last {
            self.queues.clear();
        }
    }

    /// Whether nobody wants the body.
    pub(crate) fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }
}

/// What a copy is made of.
pub(crate) struct Original<'r> {
    pub(crate) view: View<'r>,
    pub(crate) edits: Edits<'r>,
}

/// Begins copies for those of `mirrors` that the draw hits.
pub(crate) fn begin<'m>(
    worker: &Rc<Worker>,
    snapshot: &routing::Snapshot,
    mirrors: impl Iterator<Item = &'m Mirror>,
    original: &Original<'_>,
) -> Copies {
    let Original { view, edits } = original;
    let mut copies = Copies::default();
    for mirror in mirrors {
        if !mirror.share.holds(worker.draw(mirror.share.total())) {
            continue;
        }
        let found = snapshot.backend(&mirror.backend);
        let Some(backend) = found else {
            tracing::debug!(backend = %mirror.backend, "no copy: the backend is not known");
            continue;
        };
        if Rc::strong_count(&worker.copies) > MOST {
            tracing::debug!(backend = %mirror.backend, "no copy: too many are on their way");
            continue;
        }
        let mut head = Vec::with_capacity(1024);
        match backend.protocol {
            Protocol::Http1 => edit::request(&mut head, view.head, view.bytes, edits),
            Protocol::H2c => encode::request(&mut head, *view, edits, backend.tls.is_some()),
        }
        let (queue, pieces) = mpsc::channel(QUEUE);
        if view.head.framing == Framing::None {
            // Cannot be full yet.
            let _: Result<(), TrySendError<_>> = queue.try_send(Piece::End);
        } else {
            copies.queues.push(queue);
        }
        let task = Task {
            place: Rc::clone(&worker.copies),
            worker: Rc::clone(worker),
            backend: Arc::clone(backend),
            head,
            framing: view.head.framing,
            to_head: view.has_method("HEAD"),
            pieces,
        };
        tokio::task::spawn_local(task.run());
    }
    copies
}

/// One copy on its way.
struct Task {
    place: Rc<()>,
    worker: Rc<Worker>,
    backend: Arc<Backend>,
    head: Vec<u8>,
    framing: Framing,
    to_head: bool,
    pieces: mpsc::Receiver<Piece>,
}

impl Task {
    async fn run(mut self) {
        let backend = self.backend.id.clone();
        match tokio::time::timeout(LIMIT, rare(self.send())).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%backend, %error, "a copy failed"),
            Err(_) => tracing::debug!(%backend, "a copy took too long"),
        }
        drop(self.place);
    }

    async fn send(&mut self) -> Result<(), Box<Failure>> {
        let freshness = match self.backend.protocol {
            // It is closed after the copy.
            Protocol::Http1 => Freshness::Fresh,
            Protocol::H2c => Freshness::Pooled,
        };
        let reached = backend::reach(&self.worker, &self.backend, freshness).await?;
        let endpoint = reached.slot.endpoint().address;
        match reached.connection {
            Connection::Http1(connection) => self.over_http1(connection, endpoint).await,
            Connection::Http2(sender) => self.over_http2(sender, endpoint).await,
        }
    }

    async fn over_http2(
        &mut self,
        sender: Sender,
        endpoint: SocketAddr,
    ) -> Result<(), Box<Failure>> {
        let unanswered = || Box::new(Failure::Unanswered { endpoint });
        let mut is_sent = self.framing == Framing::None;
        let copy = Unheeded::begin(sender, &self.head, self.to_head, is_sent);
        let mut copy = copy.ok_or_else(unanswered)?;
        while !is_sent {
            let (data, last) = match self.pieces.recv().await {
                Some(Piece::Data(data)) => (data, false),
                Some(Piece::End) => (Vec::new(), true),
                // The request was cut; so is its copy.
                None => return Ok(()),
            };
            copy.write(&data, last).await.map_err(|_| unanswered())?;
            is_sent = last;
        }
        copy.finish().await.map_err(|_| unanswered())
    }

    async fn over_http1(
        &mut self,
        mut connection: Box<Http1Connection>,
        endpoint: SocketAddr,
    ) -> Result<(), Box<Failure>> {
        let unanswered = |_: std::io::Error| Box::new(Failure::Unanswered { endpoint });
        let is_chunked = self.framing == Framing::Chunked;
        let stream = &mut connection.stream;
        stream
            .write_all(&closing(&self.head))
            .await
            .map_err(unanswered)?;
        loop {
            match self.pieces.recv().await {
                Some(Piece::Data(data)) if is_chunked => {
                    let size = format!("{:x}\r\n", data.len());
                    stream
                        .write_all(size.as_bytes())
                        .await
                        .map_err(unanswered)?;
                    stream.write_all(&data).await.map_err(unanswered)?;
                    stream.write_all(b"\r\n").await.map_err(unanswered)?;
                }
                Some(Piece::Data(data)) => stream.write_all(&data).await.map_err(unanswered)?,
                Some(Piece::End) if is_chunked => {
                    stream.write_all(b"0\r\n\r\n").await.map_err(unanswered)?;
                    break;
                }
                Some(Piece::End) => break,
                // The request was cut; so is its copy.
                None => return Ok(()),
            }
        }
        stream.flush().await.map_err(unanswered)?;
        let mut dropped = [0; 4096];
        while stream.read(&mut dropped).await.map_err(unanswered)? > 0 {}
        Ok(())
    }
}

/// A head that asks the server to close the connection after its answer.
fn closing(head: &[u8]) -> Vec<u8> {
    let fields = head.strip_suffix(b"\r\n").unwrap_or(head);
    [fields, b"connection: close\r\n\r\n"].concat()
}
