//! The streams of one command over a client's connection, whatever its protocol.
//!
//! WebSocket marks each message with its channel's number; SPDY has a stream per channel.

use std::io;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf, Bytes};
use tokio::sync::{Mutex, mpsc, watch};

use super::session::Activity;
use super::websocket::Event;
use super::{BoxRead, BoxWrite, QUEUE, Size, spdy, websocket};

/// Streams of a command, by WebSocket's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Channel {
    Stdin = 0,
    Stdout = 1,
    Stderr = 2,
    Error = 3,
    Resize = 4,
}

impl Channel {
    /// The channel of SPDY's `streamType`.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "stdin" => Self::Stdin,
            "stdout" => Self::Stdout,
            "stderr" => Self::Stderr,
            "error" => Self::Error,
            "resize" => Self::Resize,
            _ => return None,
        })
    }
}

/// Begin of the message that ends a channel, in `v5.channel.k8s.io`.
const CLOSE_SIGNAL: u8 = 255;
/// Longest message of the protocols that wrap bytes in text.
const LONGEST_TEXT: usize = 256 * 1024;
/// Longest size of a terminal in JSON.
const LONGEST_SIZE: usize = 1024;

/// What the protocols of one family differ in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Form {
    /// Bytes travel as text.
    pub(super) base64: bool,
    /// The client can end its input alone.
    pub(super) close_signal: bool,
    /// The end is told as a Status; else only a failure is told, as a sentence.
    pub(super) status: bool,
}

/// Where a client's streams are written.
pub(super) enum Client {
    WebSocket {
        writer: Mutex<websocket::Writer<BoxWrite>>,
        base64: bool,
    },
    Spdy {
        writer: Mutex<spdy::Writer<BoxWrite>>,
        /// Stream of each channel; 0 where there is none.
        ids: [u32; 5],
    },
}

impl Client {
    pub(super) async fn send(&self, channel: Channel, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::WebSocket {
                writer,
                base64: false,
            } => writer.lock().await.binary(&[channel as u8], bytes).await,
            Self::WebSocket { writer, .. } => {
                let text = format!("{}{}", channel as u8, STANDARD.encode(bytes));
                writer.lock().await.text(&text).await
            }
            Self::Spdy { writer, ids } => match ids[channel as usize] {
                0 => Ok(()),
                id => writer.lock().await.data(id, bytes, false).await,
            },
        }
    }

    /// Tells that nothing more comes on any channel, and closes.
    pub(super) async fn close(&self) -> io::Result<()> {
        match self {
            Self::WebSocket { writer, .. } => writer.lock().await.close().await,
            Self::Spdy { writer, ids } => {
                let mut writer = writer.lock().await;
                for id in ids.iter().filter(|id| **id != 0) {
                    writer.data(*id, &[], true).await?;
                }
                writer.close().await
            }
        }
    }

    pub(super) async fn ping(&self) -> io::Result<()> {
        match self {
            Self::WebSocket { writer, .. } => writer.lock().await.ping().await,
            Self::Spdy { writer, .. } => writer.lock().await.ping().await,
        }
    }
}

/// What a client sends, on its way to the command.
pub(super) struct Inputs {
    stdin: Option<mpsc::Sender<Bytes>>,
    size: watch::Sender<Option<Size>>,
    /// The begin of a size.
    partial: Vec<u8>,
}

/// The command's end of [`Inputs`].
pub(super) struct Received {
    pub(super) stdin: mpsc::Receiver<Bytes>,
    pub(super) size: watch::Receiver<Option<Size>>,
}

pub(super) fn inputs() -> (Inputs, Received) {
    let (stdin, input) = mpsc::channel(QUEUE);
    let (size, sizes) = watch::channel(None);
    let inputs = Inputs {
        stdin: Some(stdin),
        size,
        partial: Vec::new(),
    };
    let received = Received {
        stdin: input,
        size: sizes,
    };
    (inputs, received)
}

impl Inputs {
    /// Waits while the command has enough to read.
    pub(super) async fn stdin(&self, bytes: Bytes) {
        if let Some(stdin) = self.stdin.as_ref().filter(|_| !bytes.is_empty()) {
            // A command that reads no more has ended or closed its input.
            let _ = stdin.send(bytes).await;
        }
    }

    pub(super) fn end_stdin(&mut self) {
        self.stdin = None;
    }

    /// Sizes are JSON, one after the other, in pieces of any length.
    pub(super) fn resize(&mut self, bytes: &[u8]) {
        self.partial.extend_from_slice(bytes);
        let mut sizes =
            serde_json::Deserializer::from_slice(&self.partial).into_iter::<serde_json::Value>();
        let mut last = None;
        for size in sizes.by_ref().map_while(Result::ok) {
            let number = |field: &str| u16::try_from(size[field].as_u64()?).ok();
            last = number("Width").zip(number("Height")).or(last);
        }
        let read = sizes.byte_offset();
        self.partial.drain(..read);
        if self.partial.len() > LONGEST_SIZE {
            self.partial.clear();
        }
        if let Some((columns, rows)) = last {
            self.size.send_replace(Some(Size { columns, rows }));
        }
    }
}

/// Reads a WebSocket until the client leaves.
pub(super) async fn read_websocket(
    mut reader: websocket::Reader<BoxRead>,
    mut inputs: Inputs,
    client: &Client,
    form: Form,
    activity: &Activity,
) {
    let Client::WebSocket { writer, .. } = client else {
        return;
    };
    let mut channel = None;
    let mut text = Vec::new();
    while let Ok(Some(event)) = reader.next().await {
        let (first, last, mut bytes) = match event {
            Event::Data { first, last, bytes } => (first, last, bytes),
            Event::Ping(bytes) => match writer.lock().await.pong(&bytes).await {
                Ok(()) => continue,
                Err(_) => return,
            },
            Event::Close => return,
        };
        activity.touch();
        if first {
            channel = None;
        }
        if channel.is_none() && !bytes.is_empty() {
            let number = bytes.get_u8();
            channel = Some(if form.base64 {
                number.wrapping_sub(b'0')
            } else {
                number
            });
        }
        if form.base64 {
            text.extend_from_slice(&bytes);
            if text.len() > LONGEST_TEXT {
                return;
            }
            if !last {
                continue;
            }
            let Ok(decoded) = STANDARD.decode(&text) else {
                return;
            };
            text.clear();
            bytes = decoded.into();
        }
        match channel {
            Some(0) => inputs.stdin(bytes).await,
            Some(4) => inputs.resize(&bytes),
            Some(CLOSE_SIGNAL) if form.close_signal && bytes[..] == [0] => inputs.end_stdin(),
            _ => {}
        }
    }
}

/// Reads SPDY streams until the client leaves. `ids` as in [`Client::Spdy`].
pub(super) async fn read_spdy(
    mut reader: spdy::Reader<BoxRead>,
    mut inputs: Inputs,
    client: &Client,
    activity: &Activity,
) {
    let Client::Spdy { writer, ids } = client else {
        return;
    };
    let stdin = ids[Channel::Stdin as usize];
    let resize = ids[Channel::Resize as usize];
    while let Ok(Some(event)) = reader.next(writer).await {
        match event {
            spdy::Event::Data { id, bytes, ended } => {
                activity.touch();
                if id == stdin {
                    inputs.stdin(bytes).await;
                    if ended {
                        inputs.end_stdin();
                    }
                } else if id == resize {
                    inputs.resize(&bytes);
                }
            }
            spdy::Event::Reset { id } if id == stdin => inputs.end_stdin(),
            spdy::Event::Open { id, .. } => {
                if writer.lock().await.refuse(id).await.is_err() {
                    return;
                }
            }
            spdy::Event::Reset { .. } | spdy::Event::GoAway => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_come_in_any_pieces_and_the_last_one_counts() {
        let (mut inputs, received) = inputs();
        inputs.resize(br#"{"Width":80,"Hei"#);
        assert_eq!(*received.size.borrow(), None);
        inputs.resize(b"ght\":24}\n{\"Width\":100,\"Height\":30}\n");
        let last = Size {
            columns: 100,
            rows: 30,
        };
        assert_eq!(*received.size.borrow(), Some(last));
        inputs.resize(&[b'x'; 4 * LONGEST_SIZE]);
        assert!(inputs.partial.len() <= LONGEST_SIZE);
    }
}
