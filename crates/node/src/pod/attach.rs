//! The standard streams of a running container, for everybody who attaches to it.
//!
//! Output goes to the log first and then to those who are attached. Who does not read for a while
//! is let go, so that nobody's stopped terminal stops the program. Input of all who are attached
//! goes into one; with `stdinOnce` the first one's end is the program's.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{FuturesUnordered, poll_fn};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_util::io::StreamReader;

use crate::stdio::{BoxRead, BoxWrite};

/// Pieces that wait for a slow reader.
const QUEUE: usize = 64;
/// How long a reader may stop reading.
const STALL: Duration = Duration::from_secs(30);
/// Bytes of input that wait for a slow program.
const INPUT: usize = 32 * 1024;
/// How long output may still come after the program has ended, from one piece to the next.
const LAST_OUTPUT: Duration = Duration::from_millis(500);
/// So many times that pause at most.
const MOST_ROUNDS: usize = 20;
/// Clients whose input has not been taken up yet.
const NEW: usize = 16;

/// An output of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    Stdout,
    Stderr,
}

/// Who gets which output.
type Clients = Vec<(Output, mpsc::Sender<Bytes>)>;

/// Copies a program's output to those who are attached.
pub(crate) struct Tap {
    /// `None` once the output has ended.
    clients: Mutex<Option<Clients>>,
    /// Nobody is waited for any more.
    hurry: watch::Sender<bool>,
    /// Pieces that have been handed out, twice, and once more while one is being handed out.
    moves: AtomicU64,
}

impl Tap {
    pub(crate) fn new() -> Self {
        Self {
            clients: Mutex::new(Some(Vec::new())),
            hurry: watch::channel(false).0,
            moves: AtomicU64::new(0),
        }
    }

    /// What comes from now on.
    pub(crate) fn attach(&self, output: Output) -> BoxRead {
        let (sender, mut receiver) = mpsc::channel::<Bytes>(QUEUE);
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(clients) = clients.as_mut() {
            clients.retain(|(_, client)| !client.is_closed());
            clients.push((output, sender));
        }
        let pieces = poll_fn(move |cx| {
            receiver
                .poll_recv(cx)
                .map(|piece| piece.map(Ok::<_, std::io::Error>))
        });
        Box::new(StreamReader::new(pieces))
    }

    /// Whether anybody is attached.
    pub(crate) fn is_used(&self) -> bool {
        let clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        clients.as_ref().is_some_and(|clients| !clients.is_empty())
    }

    /// Hands out a piece.
    pub(crate) async fn send(&self, output: Output, piece: Bytes) {
        self.moves.fetch_add(1, Ordering::Relaxed);
        // An empty piece would be taken for the end.
        let clients = if piece.is_empty() {
            Vec::new()
        } else {
            let clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
            clients.clone().unwrap_or_default()
        };
        for (_, client) in clients.iter().filter(|(wanted, _)| *wanted == output) {
            let mut hurry = self.hurry.subscribe();
            let sent = tokio::select! {
                biased;
                sent = client.send(piece.clone()) => sent.is_ok(),
                () = tokio::time::sleep(STALL) => false,
                _ = hurry.wait_for(|hurry| *hurry) => false,
            };
            if !sent {
                self.let_go(client);
            }
        }
        self.moves.fetch_add(1, Ordering::Relaxed);
    }

    fn let_go(&self, gone: &mpsc::Sender<Bytes>) {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(clients) = clients.as_mut() {
            clients.retain(|(_, client)| !client.same_channel(gone));
        }
    }

    /// The program has ended: lets `pump` go on as long as output comes. A process that was left
    /// behind may keep it open for ever; and a slow reader must not keep it from the log.
    pub(crate) async fn finish(&self, mut pump: impl Future + Unpin) {
        for _ in 0..MOST_ROUNDS {
            let before = self.moves.load(Ordering::Relaxed);
            if timeout(LAST_OUTPUT, &mut pump).await.is_ok() {
                return;
            }
            let sending = before % 2 == 1;
            if self.moves.load(Ordering::Relaxed) == before && !sending {
                return;
            }
        }
        self.hurry.send_replace(true);
        // Nothing is lost that could still be read.
        let _ = timeout(LAST_OUTPUT, pump).await;
    }

    /// The output has ended.
    pub(crate) fn close(&self) {
        *self.clients.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Where those who are attached bring their input.
pub(crate) struct Door(mpsc::Sender<DuplexStream>);

impl Door {
    pub(crate) fn new() -> (Self, mpsc::Receiver<DuplexStream>) {
        let (sender, receiver) = mpsc::channel(NEW);
        (Self(sender), receiver)
    }

    /// The input of one more client. An error means that too many come at once.
    pub(crate) fn attach(&self) -> Result<BoxWrite, String> {
        let (near, far) = tokio::io::duplex(INPUT);
        self.0
            .try_send(far)
            .map_err(|_| "the container's input is busy or closed".to_owned())?;
        Ok(Box::new(near))
    }
}

/// Writes the input of all clients, for ever.
pub(crate) async fn feed(
    stdin: BoxWrite,
    mut clients: mpsc::Receiver<DuplexStream>,
    once: bool,
) -> std::convert::Infallible {
    let stdin = tokio::sync::Mutex::new(Some(stdin));
    let mut feeding = FuturesUnordered::new();
    loop {
        tokio::select! {
            Some(client) = clients.recv() => feeding.push(feed_one(&stdin, client)),
            Some(()) = feeding.next() => {
                if once {
                    *stdin.lock().await = None;
                }
            }
            else => return std::future::pending().await,
        }
    }
}

async fn feed_one(stdin: &tokio::sync::Mutex<Option<BoxWrite>>, mut client: DuplexStream) {
    let mut piece = vec![0; 4096];
    while let Ok(length @ 1..) = client.read(&mut piece).await {
        let mut stdin = stdin.lock().await;
        if let Some(open) = stdin.as_mut()
            && open.write_all(&piece[..length]).await.is_err()
        {
            *stdin = None; // The program has closed its input.
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_does_not_read_is_let_go_and_the_others_have_everything() {
        let tap = Tap::new();
        let stopped = tap.attach(Output::Stdout);
        let mut reading = tap.attach(Output::Stdout);
        let mut errors = tap.attach(Output::Stderr);
        let write = async {
            for _ in 0..=QUEUE {
                tap.send(Output::Stdout, Bytes::from_static(b"x")).await;
            }
            tap.close();
        };
        let mut text = String::new();
        let (_, read) = tokio::join!(write, reading.read_to_string(&mut text));
        assert_eq!(read.expect("read"), QUEUE + 1);
        assert_eq!(errors.read(&mut [0; 8]).await.expect("ended"), 0);
        drop(stopped);
    }

    #[tokio::test]
    async fn the_end_of_the_program_does_not_wait_for_a_slow_reader() {
        let tap = Tap::new();
        let _stopped = tap.attach(Output::Stdout);
        tap.hurry.send_replace(true);
        for _ in 0..2 * QUEUE {
            tap.send(Output::Stdout, Bytes::from_static(b"x")).await;
        }
        assert!(!tap.is_used());
    }

    #[tokio::test]
    async fn the_first_clients_end_closes_the_input_only_if_the_pod_says_once() {
        for once in [true, false] {
            let (theirs, mut program) = tokio::io::duplex(64);
            let (door, clients) = Door::new();
            let mut first = door.attach().expect("room");
            let read = async {
                first.write_all(b"one").await.expect("written");
                drop(first);
                let mut three = [0; 3];
                program.read_exact(&mut three).await.expect("read");
                if !once {
                    let mut second = door.attach().expect("room");
                    second.write_all(b"two").await.expect("written");
                    program.read_exact(&mut three).await.expect("read");
                    return three == *b"two";
                }
                program.read(&mut three).await.expect("ended") == 0
            };
            let served = tokio::select! {
                served = read => served,
                never = feed(Box::new(theirs), clients, once) => match never {},
            };
            assert!(served, "once: {once}");
        }
    }
}
