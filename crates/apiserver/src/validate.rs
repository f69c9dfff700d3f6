//! Validation against schemas.
