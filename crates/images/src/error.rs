//! What can go wrong with an image or its store, in words for the person at the command line.

use std::io;
use std::path::{Path, PathBuf};

/// A failed operation on the store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name is not a Docker reference.
    #[error("image reference {reference:?} is not valid: {problem}")]
    Reference {
        reference: String,
        problem: &'static str,
    },
    /// The file that should become an image cannot.
    #[error("{path} cannot be an image: {problem}")]
    NotAProgram {
        path: PathBuf,
        problem: &'static str,
    },
    /// An archive or a pulled image is not usable.
    #[error("the image cannot be used: {problem}")]
    BadImage { problem: String },
    /// The registry refused, or could not be reached.
    #[error("cannot pull {reference}: {problem}")]
    Pull { reference: String, problem: String },
    /// Nothing in the store has this name or digest.
    #[error("image {reference} is not in the store, see `suimon image list`")]
    Unknown { reference: String },
    /// The index was written by something else, or damaged.
    #[error("the image index {path} cannot be read; move it away and add the images again")]
    Index {
        path: PathBuf,
        source: serde_json::Error,
    },
    /// The file system refused.
    #[error("cannot {action} {path}")]
    Io {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
}

impl Error {
    /// For `map_err`: names the action and the path of an I/O error.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}
