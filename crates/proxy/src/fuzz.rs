//! The doors of the fuzz targets in `fuzz/`: each takes any bytes and panics if a rule is broken.
//!
//! Built for tests and for fuzzing only. The tests here give every door what fuzzing found worth
//! keeping, so that what was mended once stays mended.

use crate::{http1, http2, preamble, tls};

/// A door.
pub type Door = fn(&[u8]);

/// All of them, by name.
pub const DOORS: &[(&str, Door)] = &[
    ("request-head", http1::fuzz::request),
    ("response-head", http1::fuzz::response),
    ("chunked", http1::fuzz::chunked),
    ("http2-frames", http2::fuzz::frames),
    ("http2-heads", http2::fuzz::heads),
    ("proxy-protocol", preamble::fuzz),
    ("client-hello", tls::accept::fuzz),
];

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// The inputs of a pack: each with its length before it, in two bytes, the low one first.
    fn unpack(mut pack: &[u8]) -> Vec<&[u8]> {
        let mut inputs = Vec::new();
        while let Some((len, rest)) = pack.split_first_chunk() {
            let (input, rest) = rest.split_at(usize::from(u16::from_le_bytes(*len)));
            inputs.push(input);
            pack = rest;
        }
        assert!(pack.is_empty(), "a byte too many");
        inputs
    }

    #[test]
    fn what_fuzzing_kept_breaks_no_rule() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
        for (name, door) in DOORS {
            let path = corpus.join(format!("{name}.pack"));
            let pack = std::fs::read(path).expect("a pack for every door");
            let inputs = unpack(&pack);
            assert!(!inputs.is_empty(), "nothing is kept for {name}");
            for input in inputs {
                door(input);
            }
        }
    }
}
