//! Names of backends that differ from what their Service says.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::foreign::BackendSpec;

/// A name by content: equal specifications of one port are one backend, whoever wrote them. `None`
/// if nothing differs.
pub(crate) fn of(dialect: &str, spec: &BackendSpec) -> Option<Arc<str>> {
    if *spec == BackendSpec::default() {
        return None;
    }
    let digest = Sha256::digest(format!("{spec:?}"));
    Some(format!("{dialect}/{}", hex::encode(&digest[..5])).into())
}
