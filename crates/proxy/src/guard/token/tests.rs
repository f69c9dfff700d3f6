//! Tokens, verified.
