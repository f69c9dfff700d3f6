//! Where a body ends, and its bytes without framing.
//!
//! [`Reader`] is pure: it gets what was read and says which part of it is payload. Chunked
//! payload is moved together in place, so one read becomes one write whatever the chunks were.

use super::chunked::{ChunkError, Chunked};
use crate::trailers::Trailers;

/// How the end of a body is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Framing {
    #[default]
    None,
    /// Bytes; never 0.
    Length(u64),
    Chunked,
    /// Until the connection closes; responses only.
    Close,
}

/// What [`Reader::decode`] found.
#[derive(Debug, Default)]
pub(crate) struct Decoded {
    /// Payload: `input[start..start + len]`.
    pub(crate) start: usize,
    pub(crate) len: usize,
    /// Bytes of `input` that are done with once the payload is.
    pub(crate) consumed: usize,
    pub(crate) last: bool,
    pub(crate) trailers: Option<Box<Trailers>>,
}

/// Decodes one body.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    state: State,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Done,
    Length(u64),
    Chunked(Chunked),
    Close,
}

impl Reader {
    pub(crate) fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::None | Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Chunked(Chunked::default()),
            Framing::Close => State::Close,
        };
        Self { state }
    }

    /// Whether the whole body has been decoded.
    pub(crate) fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Bytes still to come, if known.
    pub(crate) fn remaining(&self) -> Option<u64> {
        match self.state {
            State::Done => Some(0),
            State::Length(left) => Some(left),
            State::Chunked(_) | State::Close => None,
        }
    }

    /// Decodes as much of `input` as there is.
    pub(crate) fn decode(&mut self, input: &mut [u8]) -> Result<Decoded, ChunkError> {
        let decoded = match &mut self.state {
            State::Done => Decoded {
                last: true,
                ..Decoded::default()
            },
            State::Length(left) => {
                let len = usize::try_from(*left)
                    .unwrap_or(usize::MAX)
                    .min(input.len());
                *left -= len as u64;
                Decoded {
                    len,
                    consumed: len,
                    last: *left == 0,
                    ..Decoded::default()
                }
            }
            State::Chunked(chunked) => chunked.decode(input)?,
            State::Close => Decoded {
                len: input.len(),
                consumed: input.len(),
                ..Decoded::default()
            },
        };
        if decoded.last {
            self.state = State::Done;
        }
        Ok(decoded)
    }

    /// The stream ended: `true` if that ends the body, `false` if the body is cut.
    pub(crate) fn end_of_stream(&mut self) -> bool {
        let complete = matches!(self.state, State::Done | State::Close);
        self.state = State::Done;
        complete
    }
}
