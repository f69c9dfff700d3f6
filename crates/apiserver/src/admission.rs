//! Admission: the hook that defaults and validates what users send.
