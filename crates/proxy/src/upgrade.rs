//! Bytes both ways after a 101, until both sides have ended.
//!
//! The end of one direction is passed on as such and leaves the other open: some protocols say
//! "no more from me" by closing half of a connection.

use crate::http1::body::Framing;
use crate::http1::sink::Http1Sink;
use crate::http1::source::Http1Source;
use crate::message::{Sink, SinkError, Source, SourceError};
use crate::timeout::Deadlines;

/// Copies until both directions have ended or one failed. What was read past the heads is in the
/// sources already and goes first.
pub(crate) async fn copy_both(
    client: (&mut Http1Source<'_>, &mut Http1Sink<'_>),
    server: (&mut Http1Source<'_>, &mut Http1Sink<'_>),
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
    from: &mut Http1Source<'_>,
    to: &mut Http1Sink<'_>,
    moved: impl Fn(),
) -> Result<(), SinkError> {
    to.begin_body(Framing::Close);
    loop {
        let chunk = match from.next().await {
            Ok(chunk) => chunk,
            Err(SourceError::Gone | SourceError::Malformed(_) | SourceError::Reset(_)) => {
                return Err(SinkError);
            }
        };
        let last = chunk.last;
        moved();
        to.write(chunk).await?;
        if last {
            return Ok(to.shutdown().await?);
        }
    }
}
