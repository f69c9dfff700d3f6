//! The host inside an authority, and the hash that finds it.
//!
//! Case, port and one trailing dot never matter; nothing is copied, so this runs on every request.

use crate::model::HostPattern;

/// The host of `authority`: without port, without the dot of a fully qualified name.
pub(crate) fn host(authority: &str) -> &str {
    let host = match authority.strip_prefix('[').and_then(|rest| rest.find(']')) {
        // An IPv6 literal keeps its brackets; its colons are not a port.
        Some(end) => &authority[..end + 2],
        // Hosts are short: a search made for long texts would cost more.
        None => match authority.bytes().position(|byte| byte == b':') {
            Some(at) => &authority[..at],
            None => authority,
        },
    };
    match host.strip_suffix('.') {
        Some(stripped) if !stripped.is_empty() => stripped,
        _ => host,
    }
}

/// A host as tables hold it.
pub(crate) fn normalize(host_text: &str) -> String {
    host(host_text).to_ascii_lowercase()
}

/// Running FNV-1a hash. Not keyed: only those who may create routes can choose what is stored, and
/// entries of equal hash cost a comparison each, no more.
#[derive(Clone, Copy)]
pub(crate) struct Hash(u64);

impl Hash {
    pub(crate) const EMPTY: Self = Self(0xcbf2_9ce4_8422_2325);

    pub(crate) fn push(self, bytes: &[u8]) -> Self {
        Self(bytes.iter().fold(self.0, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        }))
    }

    /// FNV's high bits are weak for short texts; tables take bits from both ends.
    pub(crate) fn finish(self) -> u64 {
        let mixed = (self.0 ^ (self.0 >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^ (mixed >> 29)
    }
}

/// Hash of a whole text as it is. Not the running one's: this takes eight bytes at a time.
pub(crate) fn hash(text: &str) -> u64 {
    words(text.as_bytes(), 0)
}

/// Hash that is equal for texts that differ only in ASCII case. So is that of a few others, which
/// have to be compared anyway.
pub(crate) fn hash_ignoring_case(text: &str) -> u64 {
    words(text.as_bytes(), 0x2020_2020_2020_2020)
}

/// Hashes words with these bits set.
fn words(bytes: &[u8], set: u64) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let add = |hash: u64, word: u64| {
        let mixed = (hash ^ (word | set)).wrapping_mul(FACTOR);
        mixed ^ (mixed >> 32)
    };
    // Texts that differ in zeros at their end only have different lengths.
    let start = bytes.len() as u64;
    let (whole, rest) = bytes.as_chunks::<8>();
    let hash = whole
        .iter()
        .fold(start, |hash, word| add(hash, u64::from_le_bytes(*word)));
    let last = rest
        .iter()
        .fold(0, |word, byte| (word << 8) | u64::from(*byte));
    add(hash, last)
}

/// A host as tables spell it.
pub(crate) fn normal(pattern: &HostPattern) -> HostPattern {
    match pattern {
        HostPattern::Exact(name) => HostPattern::Exact(normalize(name).into()),
        HostPattern::Suffix(name) => HostPattern::Suffix(normalize(name).into()),
        HostPattern::Label(name) => HostPattern::Label(normalize(name).into()),
        HostPattern::Any => HostPattern::Any,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_and_trailing_dot_are_not_part_of_the_host() {
        let check = |input: &str, expected: &str| assert_eq!(host(input), expected);
        check("hello.example", "hello.example");
        check("hello.example:8080", "hello.example");
        check("hello.example.", "hello.example");
        check("hello.example.:80", "hello.example");
        check("[::1]:80", "[::1]");
        check("[::1]", "[::1]");
        check("[::1", "[");
        check("", "");
        check(".", ".");
    }

    #[test]
    fn case_does_not_change_the_hash() {
        let check = |one: &str, two: &str, is_same: bool| {
            let same = hash_ignoring_case(one) == hash_ignoring_case(two);
            assert_eq!(same, is_same, "{one} {two}");
        };
        check("Hello.Example", "hello.example", true);
        check(
            "A-long-name.of-MANY-letters.example",
            "a-long-name.of-many-LETTERS.example",
            true,
        );
        check("", "", true);
        check("hello.example", "hello.examplf", false);
        check("a", "aa", false);
    }
}
