//! Tunnels that end here: a CONNECT whose backend gets the bytes alone.
//!
//! The gateway connects to an endpoint of the route's backend and agrees; which authority the
//! client named plays no part in that. A CONNECT that its backend is to agree to is an exchange
//! like any other ([`crate::upstream::send`]).

use crate::buffer::Buffer;
use crate::downstream::{Answer, Carrier};
use crate::failure::Failure;
use crate::http1::body::Framing;
use crate::http1::field::Span;
use crate::http1::head::ResponseHead;
use crate::http1::sink::Http1Sink;
use crate::http1::source::Http1Source;
use crate::timeout::Timer;
use crate::upgrade;
use crate::upstream::exchange::Exchange;
use crate::upstream::pool::Http1Connection;

const AGREED: u16 = 200;

/// Tells the client that it is connected and copies both ways until both sides have ended.
pub(crate) async fn terminate<D: Carrier>(
    exchange: &Exchange<'_>,
    mut connection: Box<Http1Connection>,
    timer: &mut Timer,
    downstream: &mut D,
) -> Result<(), Box<Failure>> {
    let progress = exchange.progress;
    progress.status.set(AGREED);
    progress.accepted.set(true);
    progress.answered.set(true);
    exchange.slot.answered();
    let (bytes, reason) = (b"OK\r\n", Span { start: 0, len: 2 });
    let head = ResponseHead {
        len: bytes.len(),
        status: AGREED,
        reason,
        framing: Framing::Close,
        ..ResponseHead::default()
    };
    let answer = Answer { head: &head, bytes };
    if let Some(heard) = exchange.heard {
        heard.head(&answer);
    }
    let result = {
        let (read, write) = connection.stream.split();
        let buffer = Buffer::new(exchange.worker.buffers.clone());
        let mut source = Http1Source::new(read, buffer);
        source.begin_body(0, Framing::Close);
        let mut sink = Http1Sink::new(write, exchange.worker.buffers.clone());
        let tunnel = async {
            downstream.switch(answer, exchange.edits).await?;
            downstream.tunnel((&mut source, &mut sink), exchange).await
        };
        upgrade::run(exchange, timer, tunnel).await
    };
    if result.is_err() {
        // The backend must not take what it has for all.
        connection.stream.reset_on_close();
    }
    result
}
