//! One request's stream: its head, and the task that serves it.

use std::rc::Rc;

use ::http3::{Code, Fault, Receiver, Sender};
use futures::FutureExt as _;

use super::connection::Shared;
use super::downstream::Http3Downstream;
use super::qpack;
use crate::connection::Client;
use crate::http1::body::Framing;
use crate::http1::head::RequestHead;
use crate::http2::head::{Fault as HeadFault, request_of_http3};
use crate::request;
use crate::timeout::Timer;
use crate::worker::Workspace;

/// Serves a request.
pub(super) async fn serve(
    shared: Rc<Shared>,
    client: Rc<Client>,
    mut receiver: Receiver,
    mut sender: Sender,
) {
    let worker = &shared.worker;
    let mut workspace = worker.workspace();
    let Workspace {
        request: head,
        bytes,
        downstream_out,
        scratch,
        // Heads of HTTP/3 are decoded each time.
        known: _,
    } = &mut *workspace;
    let read = read_head(&shared, &mut receiver, (head, bytes));
    match tokio::time::timeout(worker.limits.head, read).await {
        Ok(Ok(())) => {
            let parts = (receiver, sender);
            let mut downstream =
                Http3Downstream::new(&shared, parts, (head, bytes), downstream_out);
            let mut timer = Timer::default();
            request::handle(worker, &client, (scratch, &mut timer), &mut downstream).await;
            downstream.finish().await;
        }
        Ok(Err(refused)) => refuse(&shared, refused, &mut receiver, &mut sender).await,
        Err(_) => {
            let refused = Refused::Fault(Fault::Stream(Code::REQUEST_INCOMPLETE));
            refuse(&shared, refused, &mut receiver, &mut sender).await;
        }
    }
    worker.recycle(workspace);
}

/// Why a request has no head that could be served.
enum Refused {
    Fault(Fault),
    Head(HeadFault),
}

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

async fn read_head(
    shared: &Shared,
    receiver: &mut Receiver,
    (head, bytes): (&mut RequestHead, &mut Vec<u8>),
) -> Result<(), Refused> {
    let block = receiver.head().await?;
    let limit = shared.worker.limits.head_bytes;
    let decoded = request_of_http3(limit, (head, bytes), |add| {
        qpack::decode(&block, |name, value| add(name, value))
    });
    match decoded {
        Err(_) => return Err(Fault::Connection(Code::DECOMPRESSION_FAILED).into()),
        Ok(Some(fault)) => return Err(Refused::Head(fault)),
        Ok(None) => {}
    }
    if head.framing != Framing::Chunked {
        return Ok(());
    }
    // The end of the request may come behind its head. A backend of HTTP/1 is told of a body
    // before it is sent, and not all take one with these methods.
    let is_bare = match head.method.get(bytes) {
        b"GET" | b"HEAD" | b"DELETE" | b"OPTIONS" | b"TRACE" => receiver.is_bare().await?,
        _ => match receiver.is_bare().now_or_never() {
            Some(is_bare) => is_bare?,
            None => false,
        },
    };
    if is_bare {
        head.framing = Framing::None;
    }
    Ok(())
}

async fn refuse(shared: &Shared, refused: Refused, receiver: &mut Receiver, sender: &mut Sender) {
    let code = match refused {
        Refused::Fault(Fault::TooLarge) | Refused::Head(HeadFault::TooLarge) => {
            let mut block = Vec::new();
            qpack::begin(&mut block, 431);
            qpack::write(&mut block, b"content-length", b"0");
            sender.head(&block);
            // Fails only if the client is gone.
            let _ = sender.end().await;
            return receiver.stop(Code::NO_ERROR);
        }
        Refused::Head(HeadFault::Malformed) => Code::MESSAGE_ERROR,
        Refused::Fault(Fault::Stream(code)) => code,
        Refused::Fault(Fault::Connection(code)) => {
            shared.fail(code);
            code
        }
        Refused::Fault(Fault::Reset(_)) => {
            shared.given_up();
            Code::REQUEST_CANCELLED
        }
        Refused::Fault(Fault::Gone) => Code::REQUEST_CANCELLED,
    };
    sender.reset(code);
    receiver.stop(code);
}
