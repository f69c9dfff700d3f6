//! The state of one HTTP/2 connection, either side of it. Knows no socket.
//!
//! One task, the [`super::driver`], reads and writes the socket; each stream is another task of
//! the same thread. Whatever they send is appended to one buffer that the driver writes once per
//! turn of the event loop, so that many streams share a system call. Frames that come in are
//! handled in [`super::receive`], windows in [`super::flow`].

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasherDefault;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::flood::Flood;
use super::frame::{self, Reason, setting};
use super::head::Came;
use super::memory::Memory;
use super::state::{End, NumberHasher, Stream};

/// Bytes of DATA that wait for the socket; beyond it senders wait.
pub(super) const OUT_HIGH: usize = 128 * 1024;
/// Bytes of anything that wait for the socket; beyond it nothing is read from the peer, who
/// makes us answer but does not take the answers.
const OUT_MOST: usize = 1024 * 1024;
/// HTTP/2's window before anybody said something else.
const DEFAULT_WINDOW: i64 = 65_535;
/// Streams that we reset and whose frames may still be on their way.
const REMEMBERED: usize = 128;

/// Which side of the connection we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The peer opens streams.
    Server,
    /// We open streams.
    Client,
}

/// What we allow the peer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowance {
    /// Bytes that a new stream may have in flight towards us.
    pub(crate) stream_window: u32,
    /// Bytes that a stream may have in flight whose data is taken as fast as it comes.
    pub(crate) largest_window: u32,
    /// What all streams together may have beyond `stream_window`.
    pub(crate) growth: usize,
    /// Bytes that all streams may have on their way; not what bounds memory, see [`super::flow`].
    pub(crate) connection_window: u32,
    /// Streams that the peer may have open, or that we open.
    pub(crate) streams: u32,
    /// Bytes of a decoded header block.
    pub(crate) head_bytes: usize,
    /// Streams that the peer may give up in a second.
    pub(crate) resets: u32,
    /// Frames that move nothing forward, in a second.
    pub(crate) idle_frames: u32,
}

/// See the module.
pub(crate) struct Core {
    pub(super) role: Role,
    pub(super) allowance: Allowance,
    /// Frames for the socket; the first `written` bytes are there already.
    out: Vec<u8>,
    written: usize,
    /// Where memory for frames and bodies comes from.
    pub(super) memory: Rc<Memory>,
    /// Bytes that the socket took since the connection began.
    pub(crate) sent_bytes: u64,
    driver: Option<Waker>,
    /// The driver has been woken and has not run since.
    is_driver_awake: Cell<bool>,
    pub(super) streams: HashMap<u32, Stream, BuildHasherDefault<NumberHasher>>,
    /// The highest stream that the peer opened, or that we opened.
    pub(super) last_opened: u32,
    next: u32,
    pub(super) send_window: i64,
    /// Bytes that the peer may still send.
    pub(super) receive_window: i64,
    pub(super) credit: usize,
    /// What is left of the allowance for windows to grow.
    pub(super) growth: usize,
    /// Streams that wait for the connection's window, in their order.
    pub(super) window_queue: VecDeque<u32>,
    pub(super) room_queue: Vec<u32>,
    pub(super) peer_window: i64,
    pub(super) peer_streams: u32,
    /// The peer made its table smaller than HPACK's default: the next block has to say that we
    /// follow (RFC 7541 §4.2), although we never use the table.
    pub(super) owes_resize: bool,
    /// The last stream that the peer will act on, once it is leaving.
    pub(super) leaving: Option<u32>,
    /// The last stream that we will act on, once we are leaving.
    left: Option<u32>,
    /// That was not only an announcement.
    has_said_last: bool,
    pub(super) reset_by_us: VecDeque<u32>,
    pub(super) flood: Flood,
    /// Our last PING was answered: the peer has read everything before it.
    pub(super) pong: bool,
    /// Nobody will open another stream; client role only.
    is_retired: bool,
    is_over: bool,
}

/// How tasks share it.
pub(crate) type SharedCore = Rc<RefCell<Core>>;

/// Whoever moves a connection's frames holds it: however that ends, no stream waits for more.
pub(super) struct Over(pub(super) SharedCore);

impl Drop for Over {
    fn drop(&mut self) {
        // Its own panic may have come while the core was in use; that use has ended by now.
        if let Ok(mut core) = self.0.try_borrow_mut()
            && !core.is_over()
        {
            core.fail();
        }
    }
}

impl Core {
    /// A connection whose preface is about to be sent.
    pub(crate) fn new(role: Role, allowance: Allowance, memory: &Rc<Memory>) -> SharedCore {
        let mut out = memory.take_out();
        let window = (setting::INITIAL_WINDOW_SIZE, allowance.stream_window);
        let list = (setting::MAX_HEADER_LIST_SIZE, allowance.head_bytes as u32);
        match role {
            Role::Server => {
                let streams = (setting::MAX_CONCURRENT_STREAMS, allowance.streams);
                let connect = (setting::ENABLE_CONNECT_PROTOCOL, 1);
                frame::settings(&mut out, &[streams, window, list, connect]);
            }
            Role::Client => {
                out.extend_from_slice(super::PREFACE);
                frame::settings(&mut out, &[(setting::ENABLE_PUSH, 0), window, list]);
            }
        }
        let more = i64::from(allowance.connection_window) - DEFAULT_WINDOW;
        if more > 0 {
            frame::window_update(&mut out, 0, more as u32);
        }
        Rc::new(RefCell::new(Self {
            role,
            allowance,
            out,
            written: 0,
            memory: Rc::clone(memory),
            sent_bytes: 0,
            driver: None,
            is_driver_awake: Cell::new(false),
            streams: HashMap::default(),
            last_opened: 0,
            next: 1,
            send_window: DEFAULT_WINDOW,
            receive_window: i64::from(allowance.connection_window).max(DEFAULT_WINDOW),
            credit: 0,
            growth: allowance.growth,
            window_queue: VecDeque::new(),
            room_queue: Vec::new(),
            peer_window: DEFAULT_WINDOW,
            // What a server allows until it says so (RFC 9113 §6.5.2 recommends at least this).
            peer_streams: 100,
            owes_resize: false,
            leaving: None,
            left: None,
            has_said_last: false,
            reset_by_us: VecDeque::new(),
            flood: Flood::new(allowance.idle_frames, allowance.resets),
            pong: false,
            is_retired: false,
            is_over: false,
        }))
    }

    /// Remembers the task that reads and writes, which runs now.
    pub(super) fn driven_by(&mut self, cx: &Context<'_>) {
        self.is_driver_awake.set(false);
        match &mut self.driver {
            Some(driver) => driver.clone_from(cx.waker()),
            None => self.driver = Some(cx.waker().clone()),
        }
    }

    /// Something is to be written.
    pub(super) fn wake_driver(&self) {
        if let Some(driver) = &self.driver
            && !self.is_driver_awake.replace(true)
        {
            driver.wake_by_ref();
        }
    }

    /// Where frames for the socket are appended.
    pub(super) fn out(&mut self) -> &mut Vec<u8> {
        if self.out.capacity() == 0 {
            self.out = self.memory.take_out();
        }
        &mut self.out
    }

    /// Bytes for the socket.
    pub(super) fn unwritten(&self) -> &[u8] {
        &self.out[self.written..]
    }

    /// Notes that the socket took bytes.
    pub(super) fn wrote(&mut self, count: usize) {
        self.written += count;
        self.sent_bytes += count as u64;
        if self.written < self.out.len() {
            return;
        }
        self.written = 0;
        self.memory.put_out(&mut self.out);
        if self.out.capacity() > 2 * OUT_HIGH || self.streams.is_empty() {
            self.out = Vec::new();
        }
        for id in std::mem::take(&mut self.room_queue) {
            if let Some(stream) = self.streams.get_mut(&id) {
                stream.waits_for_room = false;
                stream.wake();
            }
        }
    }

    /// Whether the peer has to take something before more is read from it.
    pub(super) fn is_choked(&self) -> bool {
        self.unwritten().len() >= OUT_MOST
    }

    /// Whether nothing can be sent or received any more.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Whether no stream is there.
    pub(crate) fn is_idle(&self) -> bool {
        self.streams.is_empty()
    }

    /// Whether no stream can be opened any more.
    pub(crate) fn is_closing(&self) -> bool {
        self.is_over || self.leaving.is_some() || self.left.is_some()
    }

    /// Whether everything has ended and nobody will begin anything. A client that was told only
    /// that we are leaving may still have sent a request.
    pub(super) fn is_finished(&self) -> bool {
        let is_left = match self.role {
            Role::Server => self.has_said_last,
            Role::Client => self.is_retired || self.leaving.is_some(),
        };
        self.is_idle() && (is_left || self.is_over)
    }

    /// Whether another stream may be opened; client role.
    pub(crate) fn has_room(&self) -> bool {
        !self.is_closing()
            && self.streams.len() < self.peer_streams.min(self.allowance.streams) as usize
            && self.next < (1 << 31) - 1
    }

    /// Whether the peer may open another stream. One that is over counts until its task has
    /// ended, but only against twice the limit: the peer may believe that it is gone.
    pub(super) fn takes_another(&self) -> bool {
        let most = self.allowance.streams as usize;
        let count = self.streams.len();
        let open = || self.streams.values().filter(|stream| stream.is_open());
        count < most || (count < 2 * most && open().count() < most)
    }

    /// Adds a stream.
    pub(super) fn insert(&mut self, id: u32, expected: Option<u64>, remote_closed: bool) {
        let stream = Stream {
            receive_window: i64::from(self.allowance.stream_window),
            send_window: self.peer_window,
            expected,
            remote_closed,
            ..Stream::default()
        };
        self.streams.insert(id, stream);
    }

    /// Opens a stream with a request; `None` if the connection takes no more.
    pub(crate) fn open(&mut self, block: &[u8], to_head: bool, ends: bool) -> Option<u32> {
        if !self.has_room() {
            return None;
        }
        let id = self.next;
        self.next += 2;
        self.last_opened = id;
        self.insert(id, None, false);
        let stream = self.streams.get_mut(&id)?;
        (stream.local_closed, stream.to_head) = (ends, to_head);
        self.write_head(id, block, ends);
        Some(id)
    }

    /// Sends a head or trailers.
    pub(crate) fn send_head(&mut self, id: u32, block: &[u8], ends: bool) -> Result<(), End> {
        let stream = self.sending(id)?;
        stream.local_closed = ends;
        self.write_head(id, block, ends);
        Ok(())
    }

    /// Answers a request that is not let in; its stream never exists.
    pub(super) fn refuse(&mut self, id: u32, block: &[u8], is_complete: bool) {
        self.write_head(id, block, true);
        if !is_complete {
            // RFC 9113 §8.1: a whole answer before the whole request is no error.
            self.write_reset(id, Reason::NO_ERROR);
        }
    }

    fn write_head(&mut self, id: u32, block: &[u8], ends: bool) {
        if std::mem::take(&mut self.owes_resize) {
            let resized = [&super::hpack::NO_TABLE, block].concat();
            frame::headers(self.out(), id, &resized, ends);
        } else {
            frame::headers(self.out(), id, block, ends);
        }
        self.wake_driver();
    }

    pub(super) fn sending(&mut self, id: u32) -> Result<&mut Stream, End> {
        let stream = self.streams.get_mut(&id).ok_or(End::Gone)?;
        match stream.end {
            Some(end) => Err(end),
            None if stream.local_closed => Err(End::Gone),
            None => Ok(stream),
        }
    }

    /// The next head of an answer; client role.
    pub(crate) fn poll_head(&mut self, cx: &Context<'_>, id: u32) -> Poll<Result<Came, End>> {
        let Some(stream) = self.streams.get_mut(&id) else {
            return Poll::Ready(Err(End::Gone));
        };
        if let Some(head) = stream.heads.pop() {
            return Poll::Ready(Ok(head));
        }
        match stream.end {
            Some(end) => Poll::Ready(Err(end)),
            None => stream.wait(cx),
        }
    }

    /// Whether the request of a stream was HEAD; client role.
    pub(super) fn is_to_head(&self, id: u32) -> bool {
        self.streams.get(&id).is_some_and(|stream| stream.to_head)
    }

    /// Bytes of a decoded header block.
    pub(super) fn head_bytes(&self) -> usize {
        self.allowance.head_bytes
    }

    /// Takes memory of a head back.
    pub(crate) fn recycle(&self, head: Came) {
        if let Came::New(head) = head {
            self.memory.put_head(head);
        }
    }

    /// Resolves when the stream cannot be answered any more.
    pub(crate) fn poll_ended(&mut self, cx: &Context<'_>, id: u32) -> Poll<()> {
        match self.streams.get_mut(&id) {
            Some(stream) if stream.end.is_none() => stream.wait(cx),
            _ => Poll::Ready(()),
        }
    }

    /// Gives a stream up.
    pub(crate) fn reset(&mut self, id: u32, reason: Reason) {
        if let Some(stream) = self.streams.get_mut(&id)
            && stream.is_open()
        {
            stream.end = Some(End::Reset(reason));
            stream.wake();
            self.write_reset(id, reason);
        }
    }

    pub(super) fn write_reset(&mut self, id: u32, reason: Reason) {
        if self.reset_by_us.len() == REMEMBERED {
            self.reset_by_us.pop_front();
        }
        self.reset_by_us.push_back(id);
        frame::reset(self.out(), id, reason);
        self.wake_driver();
    }

    /// Forgets a stream whose task has ended; what is not finished is given up.
    pub(crate) fn release(&mut self, id: u32) {
        self.leave_queue(id);
        let Some(mut stream) = self.streams.remove(&id) else {
            return;
        };
        self.memory.put(std::mem::take(&mut stream.received));
        self.growth += stream.grown;
        if stream.is_open() && !self.is_over {
            // RFC 9113 §8.1: a whole answer before the whole request is no error.
            let reason = match self.role {
                Role::Server if stream.local_closed => Reason::NO_ERROR,
                Role::Server => Reason::INTERNAL_ERROR,
                Role::Client => Reason::CANCEL,
            };
            self.write_reset(id, reason);
        }
        self.wake_next();
        if self.streams.is_empty() {
            if self.out.is_empty() {
                // What a long body needed.
                self.out = Vec::new();
            }
            self.wake_driver();
        }
    }

    /// Announces that no stream after `last` is acted on.
    pub(crate) fn leave(&mut self, last: u32, reason: Reason) {
        self.left = Some(last);
        frame::go_away(self.out(), last, reason);
        self.wake_driver();
    }

    /// The same, as the last thing that is said.
    pub(super) fn leave_for_good(&mut self, reason: Reason) {
        // The streams that the peer opened; a client's peer opens none.
        let last = match self.role {
            Role::Server => self.last_opened,
            Role::Client => 0,
        };
        self.has_said_last = true;
        self.leave(last, reason);
    }

    /// Whether a stream was announced not to be acted on.
    pub(super) fn is_left(&self, id: u32) -> bool {
        self.left.is_some_and(|last| id > last)
    }

    /// Asks for a sign that the peer has read everything so far.
    pub(super) fn ask_pong(&mut self) {
        self.pong = false;
        frame::ping(self.out(), 0, *b"suimon\0\0");
        self.wake_driver();
    }

    /// Nobody will open another stream.
    pub(crate) fn retire(&mut self) {
        self.is_retired = true;
        self.wake_driver();
    }

    /// The connection is gone: every stream learns it.
    pub(crate) fn fail(&mut self) {
        self.is_over = true;
        for stream in self.streams.values_mut() {
            if self.role == Role::Client && stream.remote_closed {
                // The answer is complete.
                stream.local_closed = true;
            } else {
                stream.end.get_or_insert(End::Gone);
            }
            stream.wake();
        }
        self.wake_driver();
    }
}
