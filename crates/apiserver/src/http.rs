//! HTTP requests to operations.
