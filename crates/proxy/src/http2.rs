//! HTTP/2 without TLS, on both sides, through the `h2` crate.
//!
//! A client's connection is recognized by its preface on the same port as HTTP/1. Each stream is
//! a task of its own that runs [`crate::request`], as an HTTP/1 connection does for each request.

pub(crate) mod client;
pub(crate) mod downstream;
pub(crate) mod headers;
pub(crate) mod server;
pub(crate) mod stream;

/// What a client sends first (RFC 9113 §3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes that one stream may have in flight towards us. Bounds the memory of a slow stream.
pub(crate) const STREAM_WINDOW: u32 = 256 * 1024;
/// Bytes that all streams of a connection may have in flight towards us.
pub(crate) const CONNECTION_WINDOW: u32 = 1024 * 1024;
