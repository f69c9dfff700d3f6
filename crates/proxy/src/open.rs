//! Open connections of one thread: each is counted, is woken when it has to end, and learns when
//! it has been silent for long enough to be parked ([`crate::parked`]).

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Duration;

use tokio::sync::Notify;

use crate::entry::Entry;
use crate::per_client::Counted;
use crate::worker::Worker;

/// The connections that run as tasks, by slot.
pub(crate) struct Slots {
    seats: RefCell<Seats>,
    /// The turn of [`Slots::look`]; never 0.
    turn: Cell<u32>,
    /// The first connection is there.
    busy: Notify,
}

#[derive(Default)]
struct Seats {
    all: Vec<Option<Rc<Seat>>>,
    free: Vec<usize>,
}

/// What a connection shows of itself.
#[derive(Default)]
struct Seat {
    /// Wakes it between requests.
    waker: Cell<Option<Waker>>,
    /// The turn in which it began to wait for a request; 0 while it does not.
    since: Cell<u32>,
}

impl Default for Slots {
    fn default() -> Self {
        Self {
            seats: RefCell::default(),
            turn: Cell::new(1),
            busy: Notify::new(),
        }
    }
}

impl Slots {
    fn enter(&self) -> (usize, Rc<Seat>) {
        let seat = Rc::<Seat>::default();
        let mut seats = self.seats.borrow_mut();
        if seats.all.len() == seats.free.len() {
            self.busy.notify_one();
        }
        let slot = seats.free.pop().unwrap_or(seats.all.len());
        if slot == seats.all.len() {
            seats.all.push(None);
        }
        seats.all[slot] = Some(Rc::clone(&seat));
        (slot, seat)
    }

    fn leave(&self, slot: usize) {
        let mut seats = self.seats.borrow_mut();
        seats.all[slot] = None;
        seats.free.push(slot);
    }

    fn is_empty(&self) -> bool {
        let seats = self.seats.borrow();
        seats.all.len() == seats.free.len()
    }

    /// Lets connections that wait find out that they are to end.
    pub(crate) fn wake(&self) {
        for seat in self.seats.borrow().all.iter().flatten() {
            if let Some(waker) = seat.waker.take() {
                waker.wake();
            }
        }
    }

    /// Wakes those that have waited for `rest`, to a half of it more, as long as the thread runs.
    /// Sleeps while there are none.
    pub(crate) async fn look(&self, rest: Duration) {
        let turn = rest / 2;
        loop {
            while self.is_empty() {
                self.busy.notified().await;
            }
            tokio::time::sleep(turn).await;
            self.turn.set(self.turn.get().wrapping_add(1).max(1));
            for seat in self.seats.borrow().all.iter().flatten() {
                if self.is_due(seat)
                    && let Some(waker) = seat.waker.take()
                {
                    waker.wake();
                }
            }
        }
    }

    fn is_due(&self, seat: &Seat) -> bool {
        let since = seat.since.get();
        since != 0 && self.turn.get().wrapping_sub(since) > 2
    }
}

/// One open downstream connection.
pub(crate) struct ConnectionGuard {
    pub(crate) worker: Rc<Worker>,
    place: Place,
    count: Count,
}

/// A slot of its own, as long as it runs.
struct Place {
    worker: Rc<Worker>,
    slot: usize,
    seat: Rc<Seat>,
}

/// One open downstream connection, whether it runs or is parked.
pub(crate) struct Count {
    pub(crate) worker: Rc<Worker>,
    counted: Counted,
    /// Where it came in.
    entry: Option<Rc<Entry>>,
}

impl ConnectionGuard {
    /// Counts a connection for as long as the guard lives; whose it is says
    /// [`Self::belongs_to`].
    pub(crate) fn new(worker: &Rc<Worker>) -> Self {
        worker.count_open();
        Self::of(Count {
            worker: Rc::clone(worker),
            counted: Counted::default(),
            entry: None,
        })
    }

    /// One that was counted before.
    pub(crate) fn of(count: Count) -> Self {
        let worker = Rc::clone(&count.worker);
        let (slot, seat) = worker.slots.enter();
        let place = Place {
            worker: Rc::clone(&worker),
            slot,
            seat,
        };
        Self {
            worker,
            place,
            count,
        }
    }

    /// Ties the connection to the place where it came in.
    pub(crate) fn came_by(&mut self, entry: &Rc<Entry>) {
        if entry.refuses.is_some() {
            self.worker.refused.set(self.worker.refused.get() + 1);
        } else {
            entry.counts.connections.add(1);
            entry.counts.connections_open.add(1);
        }
        self.count.entry = Some(Rc::clone(entry));
    }

    /// Counts the connection as one of this client's; `false` if the client has too many.
    pub(crate) fn belongs_to(&mut self, client: IpAddr) -> bool {
        let Some(counted) = self.worker.per_client.enter(client) else {
            self.worker.counters.connections_refused.add(1);
            return false;
        };
        self.count.counted = counted;
        true
    }

    /// Asks to be woken when the drain begins, of the gateway or of the place where the connection
    /// came in. `true` if it has begun.
    pub(crate) fn poll_drain(&self, cx: &mut Context<'_>) -> bool {
        if self.count.is_ending() {
            return true;
        }
        let waker = &self.place.seat.waker;
        let known = waker.take().filter(|known| known.will_wake(cx.waker()));
        waker.set(Some(known.unwrap_or_else(|| cx.waker().clone())));
        false
    }

    /// From here on it waits for a request. Who asks for the drain is woken after a while of that
    /// too.
    pub(crate) fn begin_rest(&self) {
        // Those who are refused have little time.
        if self.count.is_refused() {
            return;
        }
        self.place.seat.since.set(self.worker.slots.turn.get());
    }

    pub(crate) fn end_rest(&self) {
        self.place.seat.since.set(0);
    }

    /// Whether it has waited for a while.
    pub(crate) fn is_rested(&self) -> bool {
        self.worker.slots.is_due(&self.place.seat)
    }

    /// Keeps the count alone.
    pub(crate) fn park(self) -> Count {
        self.count
    }
}

impl Count {
    fn is_refused(&self) -> bool {
        let entry = self.entry.as_ref();
        entry.is_some_and(|entry| entry.refuses.is_some())
    }

    /// Whether the connection has to end once it is idle.
    pub(crate) fn is_ending(&self) -> bool {
        let entry = self.entry.as_ref();
        self.worker.is_draining() || entry.is_some_and(|entry| entry.is_closed())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.worker.counters.panics.add(1);
        }
        self.worker.slots.leave(self.slot);
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        if self.is_refused() {
            self.worker.refused.set(self.worker.refused.get() - 1);
        } else if let Some(entry) = &self.entry {
            entry.counts.connections_open.sub(1);
        }
        self.worker.count_closed();
    }
}
