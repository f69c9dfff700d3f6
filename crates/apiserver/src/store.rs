//! Objects, revisions and history.
