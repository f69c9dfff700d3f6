//! Bytes both ways after a protocol was switched or a CONNECT was agreed to, until both sides have
//! ended.
//!
//! The end of one direction is passed on as such and leaves the other open: some protocols say
//! "no more from me" by closing half of a connection.

use crate::failure::Failure;
use crate::http1::body::Framing;
use crate::http1::sink::Http1Sink;
use crate::http2::stream::{Http2Sink, Place};
use crate::message::{Chunk, Sink, SinkError, Source};
use crate::rare::rare;
use crate::timeout::Timer;
use crate::upstream::exchange::Exchange;

/// Where bytes go to after a switch.
pub(crate) trait Outlet: Sink {
    /// What is written from here on is bytes.
    fn open(&mut self);
    /// Ends this direction.
    async fn close(&mut self) -> Result<(), SinkError>;
}

impl Outlet for Http1Sink<'_> {
    fn open(&mut self) {
        self.begin_body(Framing::Close);
    }

    async fn close(&mut self) -> Result<(), SinkError> {
        Ok(self.shutdown().await?)
    }
}

impl<P: AsRef<Place>> Outlet for Http2Sink<P> {
    fn open(&mut self) {}

    async fn close(&mut self) -> Result<(), SinkError> {
        self.write(Chunk::end(None)).await
    }
}

/// Runs what makes and serves a tunnel, until it ends or is silent for too long.
pub(crate) async fn run(
    exchange: &Exchange<'_>,
    timer: &mut Timer,
    tunnel: impl Future<Output = Result<(), SinkError>>,
) -> Result<(), Box<Failure>> {
    let counters = &exchange.worker.counters;
    counters.tunnels_open.add(1);
    let deadlines = exchange.deadlines;
    deadlines.upgraded();
    exchange.slot.tunnel();
    let ended = timer.limit(|| deadlines.next(), rare(tunnel)).await;
    counters.tunnels_open.sub(1);
    match ended {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(Failure::ClientGone.into()),
        Err(_) => Err(deadlines.passed().into()),
    }
}

/// Copies until both directions have ended or one failed. What was read past the heads is in the
/// sources already and goes first.
pub(crate) async fn copy_both(
    client: (&mut impl Source, &mut impl Outlet),
    server: (&mut impl Source, &mut impl Outlet),
    exchange: &Exchange<'_>,
) -> Result<(), SinkError> {
    let Exchange {
        deadlines,
        progress,
        ..
    } = exchange;
    tokio::try_join!(
        copy(client.0, server.1, |bytes| {
            deadlines.progress();
            progress.tunneled.set(progress.tunneled.get() + bytes);
        }),
        copy(server.0, client.1, |bytes| {
            deadlines.answered();
            let passed = &progress.answer_bytes;
            passed.set(passed.get() + bytes);
        }),
    )?;
    Ok(())
}

/// `moved` is told how many bytes each part has.
async fn copy(
    from: &mut impl Source,
    to: &mut impl Outlet,
    moved: impl Fn(u64),
) -> Result<(), SinkError> {
    to.open();
    loop {
        let chunk = from.next().await.map_err(|_| SinkError)?;
        let last = chunk.last;
        moved(chunk.data.len() as u64);
        // Trailers are no bytes.
        let bytes = Chunk {
            data: chunk.data,
            last: false,
            trailers: None,
        };
        to.write(bytes).await?;
        if last {
            return to.close().await;
        }
    }
}
