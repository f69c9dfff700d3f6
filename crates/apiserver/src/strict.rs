//! JSON reading that reports duplicate fields.
