//! Removal of fields that a schema does not know.
