//! Why a reconcile did not finish. Every error is retried with backoff.

use crate::Key;

/// A failed reconcile.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A call to the API failed.
    #[error("{}", words(.0))]
    Api(#[from] kube::Error),
    /// An object could not be encoded.
    #[error("cannot encode {what}")]
    Encode {
        what: String,
        source: serde_json::Error,
    },
    /// Something that is expected to appear soon is missing.
    #[error("{what} is missing for {key}")]
    Missing { key: Key, what: String },
}

/// The API's own message; the rest of a status is for programs.
fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

impl Error {
    /// Another writer was faster; the next try reads the newer object.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Api(kube::Error::Api(status)) if status.code == 409)
    }

    /// The object is gone.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Api(kube::Error::Api(status)) if status.code == 404)
    }
}
