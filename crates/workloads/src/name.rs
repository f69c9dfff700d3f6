//! Names and hashes of children, in Kubernetes' alphabet without vowels and look-alikes.

use rand::Rng;
use sha2::{Digest, Sha256};

const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// Longest generated name: names of pods become host names.
const LONGEST: usize = 63;

/// A hash as ten characters that may stand in names and labels.
pub(crate) fn hash(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest
        .iter()
        .take(10)
        .map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()]))
        .collect()
}

/// `<parent>-` with five random characters, as `generateName` makes them.
pub(crate) fn random(parent: &str) -> String {
    let mut rng = rand::rng();
    let suffix: String = (0..5)
        .map(|_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())]))
        .collect();
    let base: String = format!("{parent}-").chars().take(LONGEST - 5).collect();
    format!("{base}{suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_names_keep_their_parent_and_stay_host_names() {
        let name = random("hello-00001-deployment-bcdfg");
        assert!(name.starts_with("hello-00001-deployment-bcdfg-"));
        assert_eq!(random(&"a".repeat(80)).len(), 63);
        assert_eq!(hash(b"x"), hash(b"x"));
        assert_ne!(hash(b"x"), hash(b"y"));
    }
}
