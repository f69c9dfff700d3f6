//! Image names as Docker reads them: a missing registry is `docker.io`, a missing tag `latest`.
//!
//! Grammar: `distribution/reference`. Two names that mean the same image are equal after
//! parsing, so nothing else in the product compares image strings.

use std::fmt;

use crate::{Digest, Error};

/// A normalized image name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reference {
    /// Host, with port if it was written.
    pub registry: String,
    /// Path on the registry, `library/hello` for Docker Hub's own.
    pub path: String,
    pub selector: Selector,
}

/// Which image of a repository.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Selector {
    /// The image that the tag names now.
    Tag(String),
    /// This image and no other. A tag beside a digest says nothing and is dropped.
    Digest(Digest),
}

impl Reference {
    /// Parses and normalizes a name.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let invalid = |problem| Error::Reference {
            reference: text.to_owned(),
            problem,
        };
        if text.is_empty() || text.len() > 512 {
            return Err(invalid("it must have 1 to 512 characters"));
        }
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => {
                let digest = Digest::parse(digest).ok_or_else(|| {
                    invalid(
                        "the digest after @ must be sha256: and 64 lower-case hexadecimal digits",
                    )
                })?;
                (name, Some(digest))
            }
            None => (text, None),
        };
        let (name, tag) = split_tag(name);
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(invalid(
                "the tag may have letters, digits, '_', '.' and '-', at most 128",
            ));
        }
        let (registry, path) = split_registry(name);
        if !is_registry(registry) {
            return Err(invalid(
                "the registry before the first '/' must be a host name, with a port if needed",
            ));
        }
        if !path.split('/').all(is_component) {
            return Err(invalid(
                "the name must be lower-case letters and digits, separated by '.', '_', '-' or '/'",
            ));
        }
        let selector = match digest {
            Some(digest) => Selector::Digest(digest),
            None => Selector::Tag(tag.unwrap_or("latest").to_owned()),
        };
        let official = registry == "docker.io" && !path.contains('/');
        let path = if official {
            format!("library/{path}")
        } else {
            path.to_owned()
        };
        Ok(Self {
            registry: registry.to_owned(),
            path,
            selector,
        })
    }

    /// Registry and path, without tag or digest.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.registry, self.path)
    }

    /// The last component of the path.
    pub fn short_name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.selector {
            Selector::Tag(tag) => write!(f, "{}/{}:{tag}", self.registry, self.path),
            Selector::Digest(digest) => write!(f, "{}/{}@{digest}", self.registry, self.path),
        }
    }
}

/// A colon after the last slash starts a tag; an earlier one belongs to the registry's port.
fn split_tag(name: &str) -> (&str, Option<&str>) {
    match name.rsplit_once(':') {
        Some((head, tag)) if !tag.contains('/') => (head, Some(tag)),
        _ => (name, None),
    }
}

/// The first component is a registry only if it could not be a Docker Hub user.
fn split_registry(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some(("index.docker.io", path)) => ("docker.io", path),
        Some((first, path)) if first == "localhost" || first.contains(['.', ':']) => (first, path),
        _ => ("docker.io", name),
    }
}

fn is_registry(host: &str) -> bool {
    let bytes = host.as_bytes();
    bytes
        .first()
        .is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'[')
        && bytes
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']'))
}

fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    tag.len() <= 128
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

fn is_component(part: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = part.as_bytes();
    bytes.first().is_some_and(|b| alphanumeric(*b))
        && bytes.last().is_some_and(|b| alphanumeric(*b))
        && bytes
            .iter()
            .all(|b| alphanumeric(*b) || matches!(b, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(
            Reference::parse(text)
                .map(|r| r.to_string())
                .expect("valid"),
            expected
        );
    }

    #[test]
    fn names_are_normalized_as_docker_does() {
        check("hello", "docker.io/library/hello:latest");
        check("hello:v1", "docker.io/library/hello:v1");
        check("user/hello", "docker.io/user/hello:latest");
        check("gcr.io/x/y", "gcr.io/x/y:latest");
        check("gcr.io/x/y:latest", "gcr.io/x/y:latest");
        check("localhost/y", "localhost/y:latest");
        check("registry:5000/y", "registry:5000/y:latest");
        check(
            "index.docker.io/library/hello",
            "docker.io/library/hello:latest",
        );
        let digest = format!("sha256:{}", "0".repeat(64));
        check(
            &format!("hello:v1@{digest}"),
            &format!("docker.io/library/hello@{digest}"),
        );
    }

    #[test]
    fn what_is_not_a_reference_is_refused() {
        for text in [
            "",
            "Hello",
            "a//b",
            "a/",
            "hello:",
            "hello@sha256:12",
            "hello:a b",
            "-a",
            "../x",
            "a/../b",
        ] {
            assert!(Reference::parse(text).is_err(), "{text:?}");
        }
    }
}
