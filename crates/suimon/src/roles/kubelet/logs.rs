//! `/logs/`: the files that the containers' output is in, as a kubelet shows `/var/log`.
//!
//! Of the machine's own logs nothing is shown. A path may name what a listing shows and nothing
//! else: no links, nothing above.

use std::fs;
use std::io::Read;
use std::path::Path;

use apiserver::connect::Body;
use apiserver::status::Status;
use http::Response;

/// The one directory below `/logs/`.
const PODS: &str = "pods";
/// Longest file that is sent, and longest list.
const MOST_BYTES: u64 = 16 << 20;
const MOST_NAMES: usize = 10_000;

/// A listing of a directory, or a file.
pub(super) fn answer(dir: &Path, below: &[&str]) -> Result<Response<Body>, Status> {
    let below: Vec<&str> = below
        .iter()
        .copied()
        .filter(|part| !part.is_empty())
        .collect();
    let gone = || {
        Status::new(
            404,
            "NotFound",
            format!("the node has no log {:?}", below.join("/")),
        )
    };
    let mut place = dir.to_owned();
    match below.as_slice() {
        [] => return listing(vec![format!("{PODS}/")]),
        [PODS, parts @ ..] => {
            for part in parts {
                // A name of one component that a listing shows; a file's name may hold `%`.
                if matches!(*part, "." | "..") || part.contains(['\0', '\\', '%']) {
                    return Err(gone());
                }
                place.push(part);
                let found = fs::symlink_metadata(&place).map_err(|_| gone())?;
                if found.file_type().is_symlink() {
                    return Err(gone());
                }
            }
        }
        _ => return Err(gone()),
    }
    if place.is_dir() {
        return listing(names(&place).map_err(|_| gone())?);
    }
    let file = fs::File::open(&place).map_err(|_| gone())?;
    let mut bytes = Vec::new();
    file.take(MOST_BYTES)
        .read_to_end(&mut bytes)
        .map_err(|error| Status::internal(error.to_string()))?;
    super::respond("text/plain; charset=utf-8", bytes)
}

fn names(dir: &Path) -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)?.take(MOST_NAMES) {
        let entry = entry?;
        let slash = if entry.file_type()?.is_dir() { "/" } else { "" };
        names.push(format!("{}{slash}", entry.file_name().to_string_lossy()));
    }
    names.sort_unstable();
    Ok(names)
}

fn listing(names: Vec<String>) -> Result<Response<Body>, Status> {
    // Names of namespaces, pods, containers and numbers: none needs escapes.
    let lines = names
        .iter()
        .map(|name| format!("<a href=\"{name}\">{name}</a>\n"));
    let page = format!(
        "<!doctype html>\n<pre>\n{}</pre>\n",
        lines.collect::<String>()
    );
    super::respond("text/html; charset=utf-8", page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_below_the_directory_is_shown() {
        let dir = tempfile::tempdir().expect("a directory");
        let logs = dir.path().join("logs");
        fs::create_dir_all(logs.join("n_p_u/c")).expect("made");
        fs::write(logs.join("n_p_u/c/0.log"), "words").expect("written");
        fs::write(dir.path().join("secret"), "secret").expect("written");
        std::os::unix::fs::symlink(dir.path().join("secret"), logs.join("link")).expect("linked");
        let code = |below: &[&str]| answer(&logs, below).map_or_else(|status| status.code, |_| 200);
        assert_eq!(code(&[""]), 200);
        assert_eq!(code(&["pods", ""]), 200);
        assert_eq!(code(&["pods", "n_p_u", "c", "0.log"]), 200);
        for bad in [
            &["pods", "..", "secret"][..],
            &["pods", "link"],
            &["pods", "n_p_u", "%2e%2e"],
            &["syslog"],
        ] {
            assert_eq!(code(bad), 404, "{bad:?}");
        }
    }
}
