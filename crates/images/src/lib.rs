//! The local image store: programs, archives and registry pulls, unpacked into layers.
//!
//! Start at [`Store`]. A store is one directory; the command line and a running server may use
//! it at the same time. An image is either a *program* (one executable file, added with
//! [`Store::add_binary`]) or *layers*; both carry the same [`Config`].
//!
//! Rooms: `reference` (names), `image` (what an image is), `store` (the directory), `index`
//! (which names and digests it holds), `archive` and `registry` (where images come from),
//! `layers` (how they become a root file system).

mod archive;
mod error;
mod image;
mod index;
mod layers;
mod manifest;
mod reference;
mod registry;
mod store;

pub use error::Error;
pub use image::{Config, Credentials, Digest, Image, Listed};
pub use reference::{Reference, Selector};
pub use store::Store;
