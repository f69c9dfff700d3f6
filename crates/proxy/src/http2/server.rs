//! A client's HTTP/2 connection: its streams, until it is idle for too long, drained or broken.
//!
//! It ends in two steps (RFC 9113 §6.8): first the client learns that we are leaving, and only
//! when it must have read that, which streams are the last ones. So none is lost on the way.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use super::core::{Allowance, Core, Over, Role, SharedCore};
use super::driver::{Driver, Ended, Requests};
use super::frame::Reason;
use super::hand::{self, Job};
use super::{CONNECTION_WINDOW, PREFACE, STREAM_WINDOW};
use crate::buffer::{Buffer, SMALL};
use crate::connection::Client;
use crate::open::ConnectionGuard;
use crate::timeout::Timer;
use crate::transport::Transport;
use crate::worker::{Worker, Workspace};

/// The highest stream there can be: all are acted on, so far.
const NO_LAST: u32 = (1 << 31) - 1;
/// How long a client may take to notice that we are leaving.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes and time spent on what a client still sends when its connection is over, so that
/// closing does not destroy what it was told last.
const LINGER_BYTES: usize = 256 * 1024;
const LINGER: Duration = Duration::from_secs(2);

/// Serves a connection of which `prefix` was read already, the preface included.
pub(crate) async fn serve(
    guard: ConnectionGuard,
    mut stream: Transport,
    prefix: Vec<u8>,
    client: Rc<Client>,
) {
    let worker = Rc::clone(&guard.worker);
    let limits = &worker.limits;
    let core = Core::new(
        Role::Server,
        Allowance {
            stream_window: STREAM_WINDOW,
            largest_window: limits.stream_window,
            growth: limits.window_growth,
            connection_window: CONNECTION_WINDOW,
            streams: limits.streams,
            head_bytes: limits.head_bytes,
            resets: limits.stream_resets,
            idle_frames: limits.idle_frames,
        },
        &worker.frames,
    );
    let _over = Over(Rc::clone(&core));
    let rest = prefix.get(PREFACE.len()..).unwrap_or_default();
    let buffer = Buffer::holding(Rc::clone(&worker.buffers), rest);
    let streams = Streams {
        worker: Rc::clone(&worker),
        client: Rc::clone(&client),
        core: Rc::clone(&core),
    };
    let mut connection = Connection {
        guard: &guard,
        driver: Driver::new(Rc::clone(&core), stream.split(), buffer, streams),
        farewell: Farewell::None,
        waits_since: Cell::new(None),
        counted: 0,
    };
    let ended = connection.run().await;
    connection.count();
    let mut driver = connection.driver;
    let reason = match &ended {
        Ended::Error(reason) => *reason,
        Ended::Gone(_) | Ended::Finished => Reason::NO_ERROR,
    };
    match ended {
        Ended::Finished => {}
        Ended::Gone(_) => core.borrow_mut().fail(),
        Ended::Error(reason) => {
            worker.counters.http2_errors.add(1);
            tracing::debug!(peer = client.peer.text, %reason, "HTTP/2 connection refused");
            driver.last_words(reason);
        }
    }
    if reason != Reason::NO_ERROR || !core.borrow().is_over() {
        linger(driver).await;
    }
}

/// Ends our direction and reads until the client ends its own, within bounds.
async fn linger(driver: Driver<'_, Streams>) {
    let (mut read, mut write, mut buffer) = driver.into_halves();
    let rest = async {
        if write.shutdown().await.is_err() {
            return;
        }
        let mut left = LINGER_BYTES;
        loop {
            buffer.consume(usize::MAX);
            match buffer.read(&mut read, SMALL).await {
                Ok(count) if count > 0 && count <= left => left -= count,
                Ok(_) | Err(_) => return,
            }
        }
    };
    let _ = tokio::time::timeout(LINGER, rest).await;
}

/// How far the end of a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Farewell {
    None,
    /// The client was told and asked for a sign that it has read that.
    Announced,
    /// The last stream was named.
    Said,
}

struct Connection<'g, 's> {
    guard: &'g ConnectionGuard,
    driver: Driver<'s, Streams>,
    farewell: Farewell,
    /// When what we wait for was first seen to be missing, and what it is.
    waits_since: Cell<Option<(Wait, Instant)>>,
    /// Sent bytes that the counters know of.
    counted: u64,
}

/// What has to come in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    /// Settings, or the rest of a header block.
    Owed,
    /// A request, when there is none.
    Request,
    /// The sign that our farewell was read.
    Pong,
}

impl Connection<'_, '_> {
    async fn run(&mut self) -> Ended {
        let mut timer = Timer::default();
        poll_fn(|cx| {
            loop {
                if let Poll::Ready(ended) = self.poll(cx) {
                    return Poll::Ready(ended);
                }
                let deadline = self.deadline();
                if timer.poll_deadline(cx, &|| deadline).is_pending() {
                    return Poll::Pending;
                }
                if let Some(ended) = self.late() {
                    return Poll::Ready(ended);
                }
            }
        })
        .await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        if self.farewell == Farewell::None && self.guard.poll_drain(cx) {
            self.announce();
        }
        let polled = self.driver.poll(cx);
        self.count();
        if self.farewell == Farewell::Announced && self.driver.core.borrow().pong {
            self.say();
        }
        polled
    }

    fn count(&mut self) {
        let sent = self.driver.core.borrow().sent_bytes;
        let counter = &self.guard.worker.counters.sent_bytes;
        counter.add(sent - std::mem::replace(&mut self.counted, sent));
    }

    fn announce(&mut self) {
        self.farewell = Farewell::Announced;
        let mut core = self.driver.core.borrow_mut();
        core.leave(NO_LAST, Reason::NO_ERROR);
        core.ask_pong();
    }

    fn say(&mut self) {
        self.farewell = Farewell::Said;
        let mut core = self.driver.core.borrow_mut();
        core.leave_for_good(Reason::NO_ERROR);
    }

    fn deadline(&self) -> Option<Instant> {
        let limits = &self.guard.worker.limits;
        let (wait, limit) = if self.driver.is_owed() {
            (Wait::Owed, limits.head)
        } else if self.farewell == Farewell::Announced {
            (Wait::Pong, PATIENCE)
        } else if self.driver.core.borrow().is_idle() {
            (Wait::Request, limits.keep_alive)
        } else {
            self.waits_since.set(None);
            return None;
        };
        let since = match self.waits_since.get() {
            Some((before, since)) if before == wait => since,
            Some(_) | None => Instant::now(),
        };
        self.waits_since.set(Some((wait, since)));
        Some(since + limit)
    }

    /// What becomes of a connection that let a deadline pass.
    fn late(&mut self) -> Option<Ended> {
        match self.waits_since.take()? {
            (Wait::Owed, _) => Some(Ended::Error(Reason::SETTINGS_TIMEOUT)),
            (Wait::Pong, _) => {
                self.say();
                None
            }
            (Wait::Request, _) if self.farewell == Farewell::None => {
                self.announce();
                None
            }
            (Wait::Request, _) => Some(Ended::Finished),
        }
    }
}

/// Gives every request to a task.
struct Streams {
    worker: Rc<Worker>,
    client: Rc<Client>,
    core: SharedCore,
}

impl Requests for Streams {
    fn workspace(&mut self) -> Box<Workspace> {
        self.worker.workspace()
    }

    fn recycle(&mut self, workspace: Box<Workspace>) {
        self.worker.recycle(workspace);
    }

    fn start(&mut self, id: u32, workspace: Box<Workspace>) {
        let job = Job {
            client: Rc::clone(&self.client),
            core: Rc::clone(&self.core),
            id,
            workspace,
        };
        hand::start(&self.worker, job);
    }
}
