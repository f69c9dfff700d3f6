//! HTTP/1.1: heads, bodies and edits (pure), the two halves of a connection ([`source`],
//! [`sink`]) and a client's request ([`downstream`]).
//!
//! Strict where leniency lets two parsers disagree (RFC 9112 §11): a message that could be
//! framed in two ways is refused and its connection closed.

pub(crate) mod body;
pub(crate) mod chunked;
pub(crate) mod downstream;
pub(crate) mod edit;
pub(crate) mod field;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
pub(crate) mod head;
pub(crate) mod recent;
mod scan;
pub(crate) mod sink;
pub(crate) mod source;
