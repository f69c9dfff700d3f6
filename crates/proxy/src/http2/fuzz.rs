//! What must hold of any HTTP/2 connection; called by tests and by the fuzz targets.

use super::driver::steps;
use super::head;
use super::hpack::Decoder;
use crate::http1;
use crate::http1::head::RequestHead;

/// Bytes of a decoded header block.
const LIMIT: usize = 4096;

/// Frames and what streams do between them.
pub(crate) fn frames(input: &[u8]) {
    let (role, steps) = steps::read(input);
    steps::run(role, steps);
}

/// Header blocks of one connection, each with its length before it: a head that is taken can go to
/// an HTTP/1 server without anything in it becoming a line of its own.
pub(crate) fn heads(mut input: &[u8]) {
    let mut decoder = Decoder::default();
    let (mut head, mut bytes) = (RequestHead::default(), Vec::new());
    while let Some((len, rest)) = input.split_first() {
        let (block, rest) = rest.split_at(usize::from(*len).min(rest.len()));
        input = rest;
        let ends = len % 2 == 0;
        match head::request(&mut decoder, (block, LIMIT), ends, (&mut head, &mut bytes)) {
            // The connection is over.
            Err(_) => return,
            Ok(Some(_)) => {}
            Ok(None) => http1::fuzz::passed_on(&head, &bytes),
        }
        assert!(bytes.len() <= 2 * LIMIT, "{} bytes of a head", bytes.len());
        assert!(decoder.size() <= super::hpack::TABLE_SIZE);
    }
}
