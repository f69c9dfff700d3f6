//! Test helpers: golden files, in-process HTTP servers and clients.

pub mod golden;
pub mod http;
