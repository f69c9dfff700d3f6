//! Who calls: client certificates and bearer tokens.
