//! Label and field selectors, as queries and as objects carry them.
//!
//! Parsing follows Kubernetes' grammar and error texts; matching reads JSON objects.

mod fields;
mod labels;

pub use fields::Fields;
pub use labels::Labels;
