//! One program for all doors of `proxy::fuzz`; `FUZZ_DOOR` names the one that inputs go to.
//!
//! `cargo xtask fuzz` builds it with coverage and runs it with the corpus of each door.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use proxy::fuzz::{DOORS, Door};

static CHOSEN: LazyLock<Door> = LazyLock::new(|| {
    let wanted = std::env::var("FUZZ_DOOR").unwrap_or_default();
    let found = DOORS.iter().find(|(name, _)| *name == wanted);
    found.map_or_else(
        || {
            panic!(
                "FUZZ_DOOR is {wanted:?}, which is none of {:?}",
                DOORS.iter().map(|door| door.0).collect::<Vec<_>>()
            )
        },
        |(_, door)| *door,
    )
});

fuzz_target!(|input: &[u8]| CHOSEN(input));
