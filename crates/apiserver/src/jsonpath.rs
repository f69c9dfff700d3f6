//! JSONPath as printer columns use it.
