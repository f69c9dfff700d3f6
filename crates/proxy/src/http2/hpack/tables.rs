//! The static table (RFC 7541 Appendix A).

/// Names and values from index 1.
pub(super) const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

/// The index of a name that headers often have; in any case.
pub(crate) fn static_name(name: &[u8]) -> Option<u8> {
    let candidates: &[u8] = match name.len() {
        3 => &[21, 60],
        4 => &[33, 59, 34, 37, 38, 45],
        5 => &[22, 50],
        6 => &[19, 32, 54, 35],
        7 => &[36, 51, 52],
        8 => &[39, 42, 46],
        10 => &[58, 55],
        11 => &[53],
        12 => &[31, 47],
        13 => &[24, 18, 23, 30, 41, 44],
        14 => &[28, 15],
        15 => &[16, 17],
        16 => &[26, 27, 29, 61],
        17 => &[40, 57],
        18 => &[48],
        19 => &[25, 43, 49],
        25 => &[56],
        27 => &[20],
        _ => &[],
    };
    candidates.iter().copied().find(|index| {
        STATIC[usize::from(*index) - 1]
            .0
            .as_bytes()
            .eq_ignore_ascii_case(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_names_have_the_index_of_their_name() {
        for (name, _) in STATIC.iter().filter(|(name, _)| !name.starts_with(':')) {
            let index = static_name(name.to_uppercase().as_bytes()).expect("a known name");
            assert_eq!(STATIC[usize::from(index) - 1].0, *name);
        }
        assert_eq!(static_name(b"x-other"), None);
    }
}
