//! The thread that writes lines.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};

use lifecycle::{Stage, Tasks};

use super::Destination;

/// Lines, and bytes of them, that may wait.
const MOST_LINES: usize = 8 * 1024;
const MOST_BYTES: usize = 8 * 1024 * 1024;
/// Bytes that are written at once.
const BATCH: usize = 64 * 1024;

/// Why lines cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    #[error("cannot open {} for the access log: {source}", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("cannot start the thread that writes the access log: {0}")]
    Thread(io::Error),
}

/// Takes lines without waiting.
#[derive(Debug)]
pub(super) struct Sink {
    lines: SyncSender<Message>,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    waiting_bytes: AtomicUsize,
    dropped: AtomicU64,
}

#[derive(Debug)]
enum Message {
    Line(String),
    End,
}

impl Sink {
    /// Lines that were taken are written before `tasks` has drained.
    pub(super) fn start(destination: &Destination, tasks: &Tasks) -> Result<Self, SinkError> {
        let out: Box<dyn Write + Send> = match destination {
            Destination::Stdout => Box::new(io::stdout()),
            Destination::File(path) => {
                let file = OpenOptions::new().append(true).create(true).open(path);
                Box::new(file.map_err(|source| SinkError::Open {
                    path: path.clone(),
                    source,
                })?)
            }
        };
        let (lines, taken) = sync_channel(MOST_LINES);
        let state = Arc::new(State::default());
        let of_writer = Arc::clone(&state);
        let thread = std::thread::Builder::new()
            .name("access log".into())
            .spawn(move || write_all(out, &taken, &of_writer))
            .map_err(SinkError::Thread)?;
        let mut shutdown = tasks.shutdown(Stage::Controllers);
        let ending = lines.clone();
        // After the last request.
        tasks.spawn("access log", Stage::Controllers, async move {
            shutdown.requested().await;
            let joined = tokio::task::spawn_blocking(move || {
                // Fails only if the thread has ended already.
                let _ = ending.send(Message::End);
                thread.join()
            });
            match joined.await {
                Ok(Ok(())) => Ok(()),
                _ => Err("its thread panicked"),
            }
        });
        Ok(Self { lines, state })
    }

    pub(super) fn write(&self, line: String) {
        let len = line.len();
        let waiting = self.state.waiting_bytes.fetch_add(len, Ordering::Relaxed);
        if waiting + len > MOST_BYTES || self.lines.try_send(Message::Line(line)).is_err() {
            self.state.waiting_bytes.fetch_sub(len, Ordering::Relaxed);
            self.state.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn dropped(&self) -> u64 {
        self.state.dropped.load(Ordering::Relaxed)
    }
}

fn write_all(mut out: Box<dyn Write + Send>, lines: &Receiver<Message>, state: &State) {
    let mut batch = String::new();
    let mut is_failing = false;
    loop {
        let mut count = 0;
        let mut is_over = false;
        let mut next = lines.recv().map_err(|_| TryRecvError::Disconnected);
        loop {
            match next {
                Ok(Message::Line(line)) => {
                    batch.push_str(&line);
                    count += 1;
                }
                Ok(Message::End) | Err(TryRecvError::Disconnected) => is_over = true,
                Err(TryRecvError::Empty) => break,
            }
            if is_over || batch.len() >= BATCH {
                break;
            }
            next = lines.try_recv();
        }
        let written = out.write_all(batch.as_bytes()).and_then(|()| out.flush());
        state
            .waiting_bytes
            .fetch_sub(batch.len(), Ordering::Relaxed);
        if let Err(error) = &written {
            state.dropped.fetch_add(count, Ordering::Relaxed);
            if !is_failing {
                tracing::warn!(%error, "the access log cannot be written; lines are dropped");
            }
        }
        is_failing = written.is_err();
        batch.clear();
        batch.shrink_to(2 * BATCH);
        if is_over {
            return;
        }
    }
}
