//! Subresources that are streams, such as pod logs.
