//! Steps as proptest makes them; what must hold is said in [`super::steps`].

use proptest::prelude::*;

use super::steps::{Step, run};
use super::*;
use crate::http2::core::Role;
use crate::http2::hpack;

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

proptest! {
    #[test]
    fn a_server_survives_any_frames(steps in prop::collection::vec(step(), 0..200)) {
        run(Role::Server, steps);
    }

    #[test]
    fn a_client_survives_any_frames(steps in prop::collection::vec(step(), 0..200)) {
        run(Role::Client, steps);
    }
}
