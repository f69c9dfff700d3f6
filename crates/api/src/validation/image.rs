//! Image references: `[registry/]repository[:tag][@digest]`.

/// Why a reference cannot name an image; `None` if it can.
pub(super) fn problem(reference: &str) -> Option<String> {
    let (rest, digest) = match reference.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (reference, None),
    };
    if let Some(digest) = digest {
        let hex = digest.strip_prefix("sha256:").unwrap_or_default();
        if hex.len() != 64
            || !hex
                .chars()
                .all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c))
        {
            return Some(format!(
                "the digest {digest:?} must be sha256: and 64 hexadecimal digits"
            ));
        }
    }
    // A colon behind the last slash starts a tag; before it, a registry's port.
    let name_start = rest.rfind('/').map_or(0, |slash| slash + 1);
    let (path, tag) = match rest[name_start..].find(':') {
        Some(colon) => (
            &rest[..name_start + colon],
            Some(&rest[name_start + colon + 1..]),
        ),
        None => (rest, None),
    };
    if let Some(tag) = tag {
        let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if tag.is_empty() || tag.len() > 127 || !tag.chars().all(fine) {
            return Some(format!(
                "the tag {tag:?} must be 1 to 127 letters, digits, '_', '-' or '.'"
            ));
        }
    }
    let (registry, repository) = match path.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => {
            (Some(first), rest)
        }
        _ => (None, path),
    };
    if let Some(registry) = registry {
        let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | ':' | '[' | ']');
        if !registry.chars().all(fine) {
            return Some(format!("the registry {registry:?} is not a host name"));
        }
    }
    let fine = |c: char| {
        c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-' | '.' | '/')
    };
    let segments = repository.split('/').all(|segment| !segment.is_empty());
    if repository.is_empty() || repository.len() > 255 || !segments || !repository.chars().all(fine)
    {
        return Some(format!(
            "the repository {repository:?} must be lower case letters, digits, '_', '-', '.' and '/'"
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::problem;

    #[test]
    fn references_to_images_are_told_from_other_text() {
        let digest = format!("app@sha256:{}", "a".repeat(64));
        for good in [
            "app",
            "ko.local/app",
            "ghcr.io/knative/helloworld-go:latest",
            "localhost:5000/a/b:v1",
            &digest,
        ] {
            assert_eq!(problem(good), None, "{good}");
        }
        for bad in [
            "App",
            "app:",
            "app:a b",
            "a b",
            "app@sha256:12",
            "registry.io/",
            "a//b",
            "my image:latest",
        ] {
            assert!(problem(bad).is_some(), "{bad}");
        }
    }
}
