//! The HTTP/2 program behind every proxy: answers any request with 1 KB, one thread.
//!
//! As little as frames allow, so that the proxies are measured and not this: answers are appended
//! while a read's frames are gone through and leave in one write. Trusts its peers.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const BODY: usize = 1024;
const PREFACE: usize = 24;
const HEAD: usize = 9;

/// Serves until killed. With `grpc`, answers end with trailers.
pub fn serve(port: u16, grpc: bool) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, port)).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::task::spawn_local(Connection::new(grpc).run(stream));
        }
    })
}

struct Connection {
    grpc: bool,
    out: Vec<u8>,
    /// Bytes of DATA that the peer still takes.
    window: usize,
    /// Streams to be answered when it takes more.
    waiting: std::collections::VecDeque<u32>,
    /// Bytes of DATA that came since the last update.
    received: u32,
}

impl Connection {
    fn new(grpc: bool) -> Self {
        Self {
            grpc,
            out: Vec::new(),
            window: 65_535,
            waiting: std::collections::VecDeque::new(),
            received: 0,
        }
    }

    async fn run(mut self, mut stream: TcpStream) {
        let _ = stream.set_nodelay(true);
        // SETTINGS: 1,000 streams.
        self.frame(4, 0, 0, &[0, 3, 0, 0, 3, 232]);
        let mut buffer = vec![0; 256 * 1024];
        let (mut filled, mut skip) = (0, PREFACE);
        loop {
            if stream.write_all(&self.out).await.is_err() {
                return;
            }
            self.out.clear();
            match stream.read(&mut buffer[filled..]).await {
                Ok(read) if read > 0 => filled += read,
                _ => return,
            }
            let mut at = skip.min(filled);
            if at < skip {
                continue;
            }
            skip = 0;
            while at + HEAD <= filled {
                let head: [u8; HEAD] = buffer[at..at + HEAD].try_into().expect("nine bytes");
                let len = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
                if at + HEAD + len > filled {
                    break;
                }
                let payload = &buffer[at + HEAD..at + HEAD + len];
                let id = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
                self.handle(head[3], head[4], id, payload);
                at += HEAD + len;
            }
            buffer.copy_within(at..filled, 0);
            filled -= at;
            if self.received > 30_000 {
                let received = std::mem::take(&mut self.received);
                self.frame(8, 0, 0, &received.to_be_bytes());
            }
        }
    }

    fn handle(&mut self, kind: u8, flags: u8, id: u32, payload: &[u8]) {
        match kind {
            0 => self.received += payload.len() as u32,
            4 if flags & 1 == 0 => self.frame(4, 1, 0, &[]),
            6 if flags & 1 == 0 => self.frame(6, 1, 0, payload),
            8 if id == 0 => {
                let more = payload.try_into().map_or(0, u32::from_be_bytes);
                self.window += more as usize;
                self.answer_waiting();
            }
            _ => {}
        }
        // END_STREAM of HEADERS or DATA.
        if kind <= 1 && flags & 1 != 0 {
            self.waiting.push_back(id);
            self.answer_waiting();
        }
    }

    fn answer_waiting(&mut self) {
        while self.window >= BODY {
            let Some(id) = self.waiting.pop_front() else {
                return;
            };
            self.window -= BODY;
            // `:status: 200`, then `content-type` as a literal.
            if self.grpc {
                self.frame(1, 4, id, b"\x88\x0f\x10\x10application/grpc");
                // A message of gRPC: not compressed, its length, its bytes.
                let mut message = [b'x'; BODY];
                message[0] = 0;
                message[1..5].copy_from_slice(&(BODY as u32 - 5).to_be_bytes());
                self.frame(0, 0, id, &message);
                self.frame(1, 5, id, b"\x00\x0bgrpc-status\x010");
            } else {
                self.frame(1, 4, id, b"\x88\x0f\x10\x0atext/plain");
                self.frame(0, 1, id, &[b'x'; BODY]);
            }
        }
    }

    fn frame(&mut self, kind: u8, flags: u8, id: u32, payload: &[u8]) {
        let [_, l0, l1, l2] = (payload.len() as u32).to_be_bytes();
        self.out.extend_from_slice(&[l0, l1, l2, kind, flags]);
        self.out.extend_from_slice(&id.to_be_bytes());
        self.out.extend_from_slice(payload);
    }
}
