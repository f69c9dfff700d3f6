//! What a client is sent for one request: header blocks, data, perhaps trailers.
//!
//! A message that was not ended when this is dropped is reset: QUIC would end it otherwise, and the
//! client would take it for complete.

use std::future::Future;

use quinn::SendStream;

use crate::code::Code;
use crate::frame::{DATA, HEADERS, write_head};

/// Bytes of data that are copied beside a head, so that both are one write.
const SMALL: usize = 8 * 1024;

/// The client or its stream is gone, or something is half written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stream cannot be written to")]
pub struct Closed;

/// See the module.
#[derive(Debug)]
pub struct Sender {
    stream: SendStream,
    /// What goes first.
    out: Vec<u8>,
    /// A write was begun and not ended.
    is_torn: bool,
    is_ended: bool,
    sent_bytes: u64,
}

impl Sender {
    pub(crate) fn new(stream: SendStream) -> Self {
        Self {
            stream,
            out: Vec::new(),
            is_torn: false,
            is_ended: false,
            sent_bytes: 0,
        }
    }

    /// Queues a header block: a head, or trailers.
    pub fn head(&mut self, block: &[u8]) {
        write_head(&mut self.out, HEADERS, block.len());
        self.out.extend_from_slice(block);
    }

    /// Sends data behind what is queued, as fast as the client takes it. Must not be given up, or
    /// nothing more can be sent.
    ///
    /// # Errors
    /// The client wants no more.
    pub async fn data(&mut self, data: &[u8]) -> Result<(), Closed> {
        if !data.is_empty() {
            write_head(&mut self.out, DATA, data.len());
        }
        if data.len() <= SMALL {
            self.out.extend_from_slice(data);
            return self.flush().await;
        }
        self.flush().await?;
        self.is_torn = true;
        self.stream.write_all(data).await.map_err(|_| Closed)?;
        self.is_torn = false;
        self.sent_bytes += data.len() as u64;
        Ok(())
    }

    /// Sends what is queued.
    ///
    /// # Errors
    /// As [`Self::data`].
    pub async fn flush(&mut self) -> Result<(), Closed> {
        if self.is_torn {
            return Err(Closed);
        }
        if !self.out.is_empty() {
            self.is_torn = true;
            self.stream.write_all(&self.out).await.map_err(|_| Closed)?;
            self.is_torn = false;
            self.sent_bytes += self.out.len() as u64;
            self.out.clear();
        }
        Ok(())
    }

    /// Ends the message.
    ///
    /// # Errors
    /// As [`Self::data`].
    pub async fn end(&mut self) -> Result<(), Closed> {
        self.flush().await?;
        self.is_ended = true;
        self.stream.finish().map_err(|_| Closed)
    }

    /// Breaks the message off.
    pub fn reset(&mut self, code: Code) {
        if !self.is_ended {
            self.is_ended = true;
            // Fails if the client has stopped it.
            let _ = self.stream.reset(code.wire());
        }
    }

    /// Whether the message was ended or broken off.
    pub fn is_ended(&self) -> bool {
        self.is_ended
    }

    /// Whether a write waits for the client, or was given up while it did.
    pub fn is_torn(&self) -> bool {
        self.is_torn
    }

    /// Bytes that were handed over so far.
    pub fn sent_bytes(&self) -> u64 {
        self.sent_bytes
    }

    /// Resolves when the client wants no answer any more or is gone.
    pub fn stopped(&self) -> impl Future<Output = ()> + use<> {
        let stopped = self.stream.stopped();
        async move {
            // It has all that was sent: then it cannot stop anything.
            if let Ok(None) = stopped.await {
                std::future::pending::<()>().await;
            }
        }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.reset(Code::INTERNAL_ERROR);
    }
}
