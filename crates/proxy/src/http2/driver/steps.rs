//! Any frames, in any order, on either side: they end in frames of ours or in an error, never in a
//! panic, and never in memory that has no bound. Called by tests and by a fuzz target.

use std::rc::Rc;
use std::task::Waker;

use super::*;
use crate::http2::core::{Allowance, Core, Role};

const HEAD_BYTES: usize = 1024;

/// Keeps what it is asked to serve.
#[derive(Default)]
struct Kept(Vec<u32>);

impl Requests for Kept {
    fn workspace(&mut self) -> Box<Workspace> {
        Box::default()
    }

    fn recycle(&mut self, _: Box<Workspace>) {}

    fn start(&mut self, id: u32, _: Box<Workspace>) {
        self.0.push(id);
    }
}

fn frames(role: Role) -> Frames<Kept> {
    let core = Core::new(
        role,
        Allowance {
            stream_window: 65_535,
            largest_window: 1 << 20,
            growth: 1 << 20,
            connection_window: 1 << 20,
            streams: 4,
            head_bytes: HEAD_BYTES,
            resets: 10,
            idle_frames: 100,
        },
        &Rc::default(),
    );
    Frames {
        core,
        requests: Kept::default(),
        decoder: Decoder::default(),
        is_settled: true,
        open: None,
        block: Vec::new(),
        asked: Recent::default(),
        answered: Recent::default(),
    }
}

/// What happens next: a frame, or a task that does something with a stream.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Frame(Head, Vec<u8>),
    Send(u32, usize, bool),
    Receive(u32),
    Release(u32),
}

/// Takes the steps one after the other and looks at what they leave.
pub(crate) fn run(role: Role, steps: impl IntoIterator<Item = Step>) {
    let mut frames = frames(role);
    let core = frames.core.clone();
    let cx = Context::from_waker(Waker::noop());
    if role == Role::Client {
        for _ in 0..3 {
            core.borrow_mut().open(&[0x82], false, false);
        }
    }
    let mut chunk = Vec::new();
    for step in steps {
        match step {
            Step::Frame(head, payload) => {
                if frames.handle(head, &payload).is_err() {
                    core.borrow_mut().fail();
                    break;
                }
            }
            Step::Send(id, len, ends) => {
                let mut core = core.borrow_mut();
                if let Poll::Ready(Ok(count)) = core.poll_send(&cx, id, len) {
                    let _ = core.send_data(id, &vec![0; count.min(len)], ends);
                }
            }
            Step::Receive(id) => {
                let _ = core.borrow_mut().poll_receive(&cx, id, &mut chunk);
            }
            Step::Release(id) => core.borrow_mut().release(id),
        }
        let mut core = core.borrow_mut();
        // The socket takes everything.
        let unwritten = core.unwritten().len();
        assert!(unwritten < 64 * 1024, "{unwritten} bytes for one step");
        core.wrote(unwritten);
        assert!(frames.block.len() <= HEAD_BYTES + MAX_PAYLOAD);
    }
    for id in 0..20 {
        core.borrow_mut().release(id);
    }
    assert!(core.borrow().is_idle());
}

/// The role and the steps that these bytes stand for: per step what it is, then its parts.
pub(crate) fn read(input: &[u8]) -> (Role, Vec<Step>) {
    let mut bytes = input.iter().copied();
    let role = match bytes.next() {
        Some(byte) if byte % 2 == 1 => Role::Client,
        _ => Role::Server,
    };
    let mut steps = Vec::new();
    while let (Some(step), Some(stream)) = (bytes.next(), bytes.next()) {
        let stream = u32::from(stream % 10);
        let Some(detail) = bytes.next() else { break };
        steps.push(match step {
            0..=10 => {
                let len = bytes.next().unwrap_or_default();
                let payload: Vec<u8> = bytes.by_ref().take(usize::from(len)).collect();
                let head = Head {
                    len: payload.len(),
                    kind: step,
                    flags: detail,
                    stream,
                };
                Step::Frame(head, payload)
            }
            // As much as a frame can hold.
            11 => {
                let head = Head {
                    len: MAX_PAYLOAD,
                    kind: kind::DATA,
                    flags: detail,
                    stream,
                };
                Step::Frame(head, vec![1; MAX_PAYLOAD])
            }
            12..128 => Step::Send(stream, usize::from(detail) * 128, step % 2 == 1),
            128..192 => Step::Receive(stream),
            192.. => Step::Release(stream),
        });
    }
    (role, steps)
}
