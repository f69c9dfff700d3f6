//! Golden files: cases as folders, outputs compared with what was recorded.
//!
//! `UPDATE_GOLDEN=1` rewrites the recorded outputs instead of comparing; the diff is then reviewed
//! like code.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// One folder of a golden tree.
pub struct Case {
    folder: PathBuf,
    /// Recorded files that differ, told together at the end.
    differences: std::cell::RefCell<Vec<String>>,
}

/// Runs `test` for every folder directly below `root` (relative to the crate under test), sorted
/// by name.
///
/// # Panics
/// If a folder has no files, an output differs from its recording, or there is no case at all.
pub fn each(root: impl AsRef<Path>, test: impl Fn(&Case)) {
    let root = root.as_ref();
    let entries = fs::read_dir(root)
        .unwrap_or_else(|error| panic!("cannot read {}: {error}", root.display()));
    let mut folders: Vec<_> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect();
    folders.sort();
    assert!(!folders.is_empty(), "no golden case in {}", root.display());
    let mut differences = Vec::new();
    for folder in folders {
        let case = Case {
            folder,
            differences: Default::default(),
        };
        test(&case);
        differences.extend(case.differences.into_inner());
    }
    assert!(
        differences.is_empty(),
        "{}\nUPDATE_GOLDEN=1 records the new outputs",
        differences.join("\n")
    );
}

impl Case {
    /// The name of the folder.
    pub fn name(&self) -> String {
        self.folder
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    }

    /// The text of a file of the case.
    ///
    /// # Panics
    /// If it cannot be read.
    pub fn read(&self, file: &str) -> String {
        let path = self.folder.join(file);
        fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()))
    }

    /// Compares `output`, written as YAML, with the recorded file.
    ///
    /// # Panics
    /// If it cannot be written as YAML, or the file cannot be written in update mode.
    pub fn check(&self, file: &str, output: &impl Serialize) {
        // By way of JSON: the YAML writer then only sees maps, lists and scalars.
        let value = serde_json::to_value(output).expect("a golden output can be written as JSON");
        let text = serde_saphyr::to_string(&value).expect("JSON can be written as YAML");
        let path = self.folder.join(file);
        #[allow(clippy::disallowed_methods)] // Tests have no flags; this is the recording switch.
        let update = std::env::var_os("UPDATE_GOLDEN").is_some();
        if update {
            fs::write(&path, text)
                .unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
            return;
        }
        let recorded = fs::read_to_string(&path).unwrap_or_default();
        if recorded != text {
            self.differences
                .borrow_mut()
                .push(difference(&path, &recorded, &text));
        }
    }
}

/// The first line that differs, with its neighbors.
fn difference(path: &Path, recorded: &str, output: &str) -> String {
    let same = recorded
        .lines()
        .zip(output.lines())
        .take_while(|(a, b)| a == b)
        .count();
    let show = |text: &str| {
        let from = same.saturating_sub(2);
        let lines: Vec<_> = text.lines().skip(from).take(6).collect();
        lines.join("\n    ")
    };
    let (before, after) = (show(recorded), show(output));
    format!(
        "{} line {}:\n  recorded\n    {before}\n  now\n    {after}",
        path.display(),
        same + 1
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_shows_the_line_and_its_neighbors() {
        let text = difference(Path::new("x"), "a\nb\nc\n", "a\nb\nd\n");
        assert_eq!(
            text,
            "x line 3:\n  recorded\n    a\n    b\n    c\n  now\n    a\n    b\n    d"
        );
    }
}
