//! Any frames, in any order, on either side: they end in frames of ours or in an error, never in a
//! panic, and never in memory that has no bound.

use std::rc::Rc;
use std::task::Waker;

use proptest::prelude::*;

use super::*;
use crate::http2::core::{Allowance, Core, Role};
use crate::http2::hpack;

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
    }
}

/// What happens next: a frame, or a task that does something with a stream.
#[derive(Clone, Debug)]
enum Step {
    Frame(Head, Vec<u8>),
    Send(u32, usize, bool),
    Receive(u32),
    Release(u32),
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    let mut request = Vec::new();
    hpack::write_target(&mut request, (b"POST", false), b"a", b"/");
    prop_oneof![
        2 => Just(request),
        2 => Just(vec![0x88]),
        2 => prop::collection::vec(any::<u8>(), 0..40),
        1 => prop::collection::vec(0..2u8, 4..=6),
        1 => Just(vec![0; 8]),
        1 => Just(vec![1; 16_384]),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let frame =
        (0..11u8, any::<u8>(), 0..10u32, payload()).prop_map(|(kind, flags, stream, payload)| {
            let len = payload.len();
            Step::Frame(
                Head {
                    len,
                    kind,
                    flags,
                    stream,
                },
                payload,
            )
        });
    let id = (0..5u32).prop_map(|number| number * 2 + 1);
    prop_oneof![
        8 => frame,
        1 => (id.clone(), 0..20_000usize, any::<bool>()).prop_map(|(id, len, ends)| Step::Send(id, len, ends)),
        1 => id.clone().prop_map(Step::Receive),
        1 => id.prop_map(Step::Release),
    ]
}

fn run(role: Role, steps: Vec<Step>) -> Result<(), TestCaseError> {
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
        prop_assert!(unwritten < 64 * 1024, "{unwritten} bytes for one step");
        core.wrote(unwritten);
        prop_assert!(frames.block.len() <= HEAD_BYTES + MAX_PAYLOAD);
    }
    for id in 0..20 {
        core.borrow_mut().release(id);
    }
    prop_assert!(core.borrow().is_idle());
    Ok(())
}

proptest! {
    #[test]
    fn a_server_survives_any_frames(steps in prop::collection::vec(step(), 0..200)) {
        run(Role::Server, steps)?;
    }

    #[test]
    fn a_client_survives_any_frames(steps in prop::collection::vec(step(), 0..200)) {
        run(Role::Client, steps)?;
    }
}
