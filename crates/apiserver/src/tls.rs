//! The server's certificates.
