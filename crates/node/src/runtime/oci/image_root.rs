//! What the runtime reads from an image's files: who a user name is.
//!
//! The files are the image author's, so nothing is followed out of the image and nothing long
//! is read.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use images::Image;

/// Longest `/etc/passwd` that is read, in bytes.
const LONGEST: u64 = 1 << 20;

/// User and group id of a name in the image's `/etc/passwd`.
pub(crate) fn user(image: &Image, name: &str) -> Option<(u32, u32)> {
    let text = match image.layers.first() {
        Some(root) => read(&root.join("etc/passwd"), root)?,
        // A program image shows the host's own files.
        None => fs::read_to_string("/etc/passwd").ok()?,
    };
    let line = text
        .lines()
        .find(|line| line.split(':').next() == Some(name))?;
    let mut fields = line.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

fn read(path: &Path, root: &Path) -> Option<String> {
    let real = path.canonicalize().ok()?;
    if !real.starts_with(root.canonicalize().ok()?) {
        return None;
    }
    let mut text = String::new();
    File::open(real)
        .ok()?
        .take(LONGEST)
        .read_to_string(&mut text)
        .ok()?;
    Some(text)
}
