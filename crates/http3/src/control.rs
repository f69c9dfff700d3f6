//! What a client says beside its requests (RFC 9114 §6.2): settings, that it leaves, and what its
//! compression is up to, which is nothing, since ours has no table for it.

use std::cell::RefCell;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{FuturesUnordered, StreamExt as _};
use quinn::RecvStream;
use tokio::time::Instant;

use crate::code::Code;
use crate::frame::{
    CANCEL_PUSH, DATA, GOAWAY, HEADERS, Head, MAX_PUSH_ID, PUSH_PROMISE, SETTINGS, integer,
    is_of_http2,
};

/// Kinds of streams in one direction.
pub(crate) const CONTROL: u64 = 0;
const PUSH: u64 = 1;
const ENCODER: u64 = 2;
const DECODER: u64 = 3;

/// Bytes of a frame that is kept until all of it is there.
const MOST_KEPT: u64 = 4 * 1024;
/// Bytes that are taken from a stream at once.
const MOST: usize = 16 * 1024;

/// Reads all streams that a client opens in one direction. Ends with what is wrong, or with `None`
/// if the connection is gone.
pub(crate) async fn read(quic: &quinn::Connection, idle_frames: u32) -> Option<Code> {
    let seen = RefCell::new(Seen::default());
    let budget = RefCell::new(Budget::new(idle_frames));
    let mut streams = FuturesUnordered::new();
    loop {
        tokio::select! {
            opened = quic.accept_uni() => {
                // Streams of kinds that nobody knows cost something, too.
                if budget.borrow_mut().spend().is_err() {
                    return Some(Code::EXCESSIVE_LOAD);
                }
                streams.push(one(opened.ok()?, &seen, &budget));
            }
            Some(read) = streams.next() => {
                if let Err(Wrong::Code(code)) = read {
                    return Some(code);
                }
            }
        }
    }
}

/// Streams of which there may be one each.
#[derive(Default)]
struct Seen {
    control: bool,
    encoder: bool,
    decoder: bool,
}

/// Why a stream is not read on.
enum Wrong {
    /// It has ended, or its connection has.
    Ended,
    Code(Code),
}

impl From<Code> for Wrong {
    fn from(code: Code) -> Self {
        Self::Code(code)
    }
}

async fn one(
    stream: RecvStream,
    seen: &RefCell<Seen>,
    budget: &RefCell<Budget>,
) -> Result<(), Wrong> {
    let mut bytes = Input {
        stream,
        chunk: Bytes::new(),
    };
    let kind = bytes.kind().await?;
    {
        let mut seen = seen.borrow_mut();
        let place = match kind {
            CONTROL => &mut seen.control,
            ENCODER => &mut seen.encoder,
            DECODER => &mut seen.decoder,
            PUSH => return Err(Code::STREAM_CREATION_ERROR.into()),
            _ => {
                // RFC 9114 §6.2.3. Fails only if it has ended.
                let _ = bytes.stream.stop(Code::STREAM_CREATION_ERROR.wire());
                return Ok(());
            }
        };
        if std::mem::replace(place, true) {
            return Err(Code::STREAM_CREATION_ERROR.into());
        }
    }
    let read = match kind {
        CONTROL => control(&mut bytes, budget).await,
        ENCODER => encoder(&mut bytes).await,
        _ => decoder(&mut bytes, budget).await,
    };
    match read {
        Err(Wrong::Ended) => Err(Code::CLOSED_CRITICAL_STREAM.into()),
        other => other,
    }
}

/// Bytes of a stream, one by one.
struct Input {
    stream: RecvStream,
    chunk: Bytes,
}

impl Input {
    async fn next(&mut self) -> Result<u8, Wrong> {
        self.fill().await?;
        Ok(self.chunk.split_to(1)[0])
    }

    async fn fill(&mut self) -> Result<(), Wrong> {
        while self.chunk.is_empty() {
            let read = self.stream.read_chunk(MOST, true).await;
            let Ok(Some(chunk)) = read else {
                return Err(Wrong::Ended);
            };
            self.chunk = chunk.bytes;
        }
        Ok(())
    }

    async fn kind(&mut self) -> Result<u64, Wrong> {
        let mut bytes = Vec::new();
        loop {
            bytes.push(self.next().await?);
            if let Some((kind, _)) = integer(&bytes) {
                return Ok(kind);
            }
        }
    }

    async fn skip(&mut self, mut count: u64) -> Result<(), Wrong> {
        while count > 0 {
            self.fill().await?;
            let size = self
                .chunk
                .len()
                .min(usize::try_from(count).unwrap_or(usize::MAX));
            drop(self.chunk.split_to(size));
            count -= size as u64;
        }
        Ok(())
    }
}

/// Frames of the control stream. Returns only with what is wrong.
async fn control(bytes: &mut Input, budget: &RefCell<Budget>) -> Result<(), Wrong> {
    let mut head = Head::default();
    let mut is_first = true;
    let (mut least_left, mut most_push) = (u64::MAX, None);
    loop {
        let (kind, length) = loop {
            if let Some(frame) = head.push(bytes.next().await?) {
                break frame;
            }
        };
        if is_first != (kind == SETTINGS) {
            return Err(match is_first {
                true => Code::MISSING_SETTINGS.into(),
                false => Code::FRAME_UNEXPECTED.into(),
            });
        }
        is_first = false;
        let spent = budget.borrow_mut().spend();
        spent.map_err(|()| Code::EXCESSIVE_LOAD)?;
        match kind {
            SETTINGS | GOAWAY | MAX_PUSH_ID | CANCEL_PUSH => {
                if length > MOST_KEPT {
                    return Err(Code::EXCESSIVE_LOAD.into());
                }
                let mut payload = Vec::with_capacity(length as usize);
                while (payload.len() as u64) < length {
                    payload.push(bytes.next().await?);
                }
                match kind {
                    SETTINGS => settings(&payload)?,
                    GOAWAY => {
                        let id = only(&payload)?;
                        if id > std::mem::replace(&mut least_left, id) {
                            return Err(Code::ID_ERROR.into());
                        }
                    }
                    MAX_PUSH_ID => {
                        let id = only(&payload)?;
                        if most_push.replace(id).is_some_and(|before| id < before) {
                            return Err(Code::ID_ERROR.into());
                        }
                    }
                    // We promise nothing that could be canceled.
                    _ => return Err(Code::ID_ERROR.into()),
                }
            }
            DATA | HEADERS | PUSH_PROMISE => return Err(Code::FRAME_UNEXPECTED.into()),
            kind if is_of_http2(kind) => return Err(Code::FRAME_UNEXPECTED.into()),
            _ => bytes.skip(length).await?,
        }
    }
}

/// The one integer that a frame consists of.
fn only(payload: &[u8]) -> Result<u64, Code> {
    let read = integer(payload).filter(|(_, length)| *length == payload.len());
    read.map(|(value, _)| value).ok_or(Code::FRAME_ERROR)
}

/// Nothing that a client may set concerns us; what it must not set does (RFC 9114 §7.2.4).
fn settings(mut payload: &[u8]) -> Result<(), Code> {
    let mut seen = Vec::new();
    while !payload.is_empty() {
        let (id, length) = integer(payload).ok_or(Code::FRAME_ERROR)?;
        payload = &payload[length..];
        let (_, length) = integer(payload).ok_or(Code::FRAME_ERROR)?;
        payload = &payload[length..];
        if matches!(id, 2..=5) || seen.contains(&id) || seen.len() == 64 {
            return Err(Code::SETTINGS_ERROR);
        }
        seen.push(id);
    }
    Ok(())
}

/// Instructions for a table that has no room: it may be given that room, nothing else.
async fn encoder(bytes: &mut Input) -> Result<(), Wrong> {
    loop {
        // RFC 9204 §4.3.1: a capacity of zero.
        if bytes.next().await? != 0x20 {
            return Err(Code::ENCODER_STREAM_ERROR.into());
        }
    }
}

/// What the client's decoder says: that it gave a stream up. It has nothing to acknowledge.
async fn decoder(bytes: &mut Input, budget: &RefCell<Budget>) -> Result<(), Wrong> {
    loop {
        let first = bytes.next().await?;
        // RFC 9204 §4.4.2.
        if first & 0xc0 != 0x40 {
            return Err(Code::DECODER_STREAM_ERROR.into());
        }
        let spent = budget.borrow_mut().spend();
        spent.map_err(|()| Code::EXCESSIVE_LOAD)?;
        if first & 0x3f == 0x3f {
            while bytes.next().await? & 0x80 != 0 {}
        }
    }
}

/// Frames that move nothing forward.
struct Budget {
    left: u32,
    most: u32,
    since: Option<Instant>,
}

impl Budget {
    fn new(most: u32) -> Self {
        Self {
            left: most,
            most,
            since: None,
        }
    }

    /// The clock is looked at only by who has spent everything.
    fn spend(&mut self) -> Result<(), ()> {
        if self.left == 0 {
            let now = Instant::now();
            let second = Duration::from_secs(1);
            if self
                .since
                .is_none_or(|since| now.duration_since(since) >= second)
            {
                self.since = Some(now);
                self.left = self.most;
            }
        }
        self.left = self.left.checked_sub(1).ok_or(())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_are_not_allowed_are_told_from_those_that_nobody_knows() {
        assert_eq!(settings(&[]), Ok(()));
        assert_eq!(settings(&[1, 0, 6, 0x40, 0xff, 0x21, 7]), Ok(()));
        assert_eq!(settings(&[2, 0]), Err(Code::SETTINGS_ERROR));
        assert_eq!(settings(&[1, 0, 1, 0]), Err(Code::SETTINGS_ERROR));
        assert_eq!(settings(&[1]), Err(Code::FRAME_ERROR));
        assert_eq!(only(&[0x40, 8]), Ok(8));
        assert_eq!(only(&[1, 2]), Err(Code::FRAME_ERROR));
        assert_eq!(only(&[]), Err(Code::FRAME_ERROR));
    }

    #[tokio::test(start_paused = true)]
    async fn who_spends_too_much_waits_for_the_next_second() {
        let mut budget = Budget::new(10);
        // One refill is free: nobody looked at the clock before.
        assert_eq!((0..100).take_while(|_| budget.spend().is_ok()).count(), 20);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(budget.spend(), Ok(()));
    }
}
