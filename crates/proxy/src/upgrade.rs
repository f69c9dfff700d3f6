//! Bytes both ways after a protocol was switched, until both sides have ended.
//!
//! The end of one direction is passed on as such and leaves the other open: some protocols say
//! "no more from me" by closing half of a connection.

use crate::http1::body::Framing;
use crate::http1::sink::Http1Sink;
use crate::http2::stream::{Http2Sink, Place};
use crate::message::{Chunk, Sink, SinkError, Source};
use crate::timeout::Deadlines;

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

/// Copies until both directions have ended or one failed. What was read past the heads is in the
/// sources already and goes first.
pub(crate) async fn copy_both(
    client: (&mut impl Source, &mut impl Outlet),
    server: (&mut impl Source, &mut impl Outlet),
    deadlines: &Deadlines<'_>,
) -> Result<(), SinkError> {
    tokio::try_join!(
        copy(client.0, server.1, || deadlines.progress()),
        copy(server.0, client.1, || deadlines.answered()),
    )?;
    Ok(())
}

/// `moved` is told of every part.
async fn copy(
    from: &mut impl Source,
    to: &mut impl Outlet,
    moved: impl Fn(),
) -> Result<(), SinkError> {
    to.open();
    loop {
        let chunk = from.next().await.map_err(|_| SinkError)?;
        let last = chunk.last;
        moved();
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
