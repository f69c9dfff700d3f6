//! The thread that writes lines.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lifecycle::{Stage, Tasks};

use super::Destination;

/// Bytes of lines that may wait.
const MOST_BYTES: usize = 8 * 1024 * 1024;
/// Bytes that are not waited with.
const BATCH: usize = 64 * 1024;
/// How long lines are gathered. A thread that is woken for each of them would cost a request more
/// than everything else about its line.
const GATHER: Duration = Duration::from_millis(10);

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
pub(super) struct Sink(Arc<State>);

#[derive(Debug, Default)]
struct State {
    waiting: Mutex<Waiting>,
    /// There is something to write, or nothing will come any more.
    come: Condvar,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Waiting {
    text: String,
    lines: u64,
    /// Bytes that were taken and are not written yet.
    writing: usize,
    is_over: bool,
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
        let state = Arc::new(State::default());
        let of_writer = Arc::clone(&state);
        let thread = std::thread::Builder::new()
            .name("access log".into())
            .spawn(move || write_all(out, &of_writer))
            .map_err(SinkError::Thread)?;
        let mut shutdown = tasks.shutdown(Stage::Controllers);
        let ending = Arc::clone(&state);
        // After the last request.
        tasks.spawn("access log", Stage::Controllers, async move {
            shutdown.requested().await;
            let joined = tokio::task::spawn_blocking(move || {
                ending.waiting().is_over = true;
                ending.come.notify_one();
                thread.join()
            });
            match joined.await {
                Ok(Ok(())) => Ok(()),
                _ => Err("its thread panicked"),
            }
        });
        Ok(Self(state))
    }

    /// Takes a line, which ends as lines do.
    pub(super) fn write(&self, line: &str) {
        let Self(state) = self;
        let mut waiting = state.waiting();
        let before = waiting.text.len();
        let after = before + line.len();
        if waiting.is_over || after + waiting.writing > MOST_BYTES {
            state.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        waiting.text.push_str(line);
        waiting.lines += 1;
        drop(waiting);
        if before == 0 || (before < BATCH && after >= BATCH) {
            state.come.notify_one();
        }
    }

    pub(super) fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }
}

impl State {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for lines and takes them all in exchange for what `batch` held. How many there are,
    /// and whether they are the last.
    fn take(&self, batch: &mut String) -> (u64, bool) {
        let is_none = |waiting: &mut Waiting| waiting.text.is_empty() && !waiting.is_over;
        let is_little = |waiting: &mut Waiting| waiting.text.len() < BATCH && !waiting.is_over;
        let waiting = self.come.wait_while(self.waiting(), is_none);
        let waiting = waiting.unwrap_or_else(PoisonError::into_inner);
        let gathered = self.come.wait_timeout_while(waiting, GATHER, is_little);
        let (mut waiting, _) = gathered.unwrap_or_else(PoisonError::into_inner);
        batch.clear();
        batch.shrink_to(2 * BATCH);
        std::mem::swap(&mut waiting.text, batch);
        waiting.writing = batch.len();
        (std::mem::take(&mut waiting.lines), waiting.is_over)
    }
}

fn write_all(mut out: Box<dyn Write + Send>, state: &State) {
    let mut batch = String::new();
    let mut is_failing = false;
    loop {
        let (count, is_over) = state.take(&mut batch);
        let written = out.write_all(batch.as_bytes()).and_then(|()| out.flush());
        state.waiting().writing = 0;
        if let Err(error) = &written {
            state.dropped.fetch_add(count, Ordering::Relaxed);
            if !is_failing {
                tracing::warn!(%error, "the access log cannot be written; lines are dropped");
            }
        }
        is_failing = written.is_err();
        if is_over {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_together_and_those_beyond_the_bound_are_counted() {
        let sink = Sink(Arc::default());
        sink.write("a\n");
        sink.write("b\n");
        let mut batch = String::new();
        assert_eq!(sink.0.take(&mut batch), (2, false));
        assert_eq!(batch, "a\nb\n");
        // What is being written counts too.
        let long = "x".repeat(MOST_BYTES - 3);
        sink.write(&long);
        assert_eq!(sink.dropped(), 1);
        sink.0.waiting().writing = 0;
        sink.write(&long);
        sink.write("1234");
        assert_eq!(sink.dropped(), 2);
        assert_eq!(sink.0.take(&mut batch), (1, false));
        assert_eq!(batch.len(), long.len());
        sink.0.waiting().is_over = true;
        assert_eq!(sink.0.take(&mut batch), (0, true));
        sink.write("c\n");
        assert_eq!(sink.dropped(), 3);
    }
}
