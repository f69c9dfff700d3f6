//! Frames as bytes: variable-length integers (RFC 9000 §16), types and lengths (RFC 9114 §7).

/// Types of frames.
pub(crate) const DATA: u64 = 0;
pub(crate) const HEADERS: u64 = 1;
pub(crate) const CANCEL_PUSH: u64 = 3;
pub(crate) const SETTINGS: u64 = 4;
pub(crate) const PUSH_PROMISE: u64 = 5;
pub(crate) const GOAWAY: u64 = 7;
pub(crate) const MAX_PUSH_ID: u64 = 0xd;

/// Types that had a meaning in HTTP/2 and must not be used (RFC 9114 §7.2.8).
pub(crate) fn is_of_http2(kind: u64) -> bool {
    matches!(kind, 2 | 6 | 8 | 9)
}

/// Whether a frame of this type may not come on a request's stream.
pub(crate) fn is_of_control(kind: u64) -> bool {
    is_of_http2(kind)
        || matches!(
            kind,
            CANCEL_PUSH | SETTINGS | PUSH_PROMISE | GOAWAY | MAX_PUSH_ID
        )
}

/// The integer that `bytes` begin with, and its length. `None` if it is not all there.
pub(crate) fn integer(bytes: &[u8]) -> Option<(u64, usize)> {
    let first = *bytes.first()?;
    let length = 1 << (first >> 6);
    let rest = bytes.get(1..length)?;
    let value = rest.iter().fold(u64::from(first & 0x3f), |value, byte| {
        value << 8 | u64::from(*byte)
    });
    Some((value, length))
}

/// Writes an integer below 2⁶², as short as it can be.
pub(crate) fn write_integer(out: &mut Vec<u8>, value: u64) {
    match value {
        0..0x40 => out.push(value as u8),
        0x40..0x4000 => out.extend_from_slice(&(value as u16 | 0x4000).to_be_bytes()),
        0x4000..0x4000_0000 => out.extend_from_slice(&(value as u32 | 0x8000_0000).to_be_bytes()),
        _ => out.extend_from_slice(&(value | 0xc000_0000_0000_0000).to_be_bytes()),
    }
}

/// Writes what precedes a frame's payload.
pub(crate) fn write_head(out: &mut Vec<u8>, kind: u64, length: usize) {
    write_integer(out, kind);
    write_integer(out, length as u64);
}

/// A type and a length of which the bytes come one by one.
#[derive(Debug, Default)]
pub(crate) struct Head {
    bytes: [u8; 16],
    filled: usize,
}

impl Head {
    /// Takes a byte; both integers, once they are complete.
    pub(crate) fn push(&mut self, byte: u8) -> Option<(u64, u64)> {
        // Two integers have 16 bytes at most, so the last of them completes both.
        self.bytes[self.filled] = byte;
        self.filled += 1;
        let bytes = &self.bytes[..self.filled];
        let (kind, length) = integer(bytes)?;
        let (size, _) = integer(&bytes[length..])?;
        self.filled = 0;
        Some((kind, size))
    }

    /// Whether it is in the middle of one.
    pub(crate) fn is_partial(&self) -> bool {
        self.filled > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_read_as_they_are_written() {
        for value in [
            0,
            63,
            64,
            16_383,
            16_384,
            (1 << 30) - 1,
            1 << 30,
            (1 << 62) - 1,
        ] {
            let mut out = Vec::new();
            write_integer(&mut out, value);
            assert_eq!(integer(&out), Some((value, out.len())));
            let end = out.len() - 1;
            assert_eq!(integer(&out[..end]), None, "{value} without its end");
        }
        // RFC 9000 §A.1: the same value may be longer than it need be.
        assert_eq!(integer(&[0x40, 0x25]), Some((37, 2)));
        assert_eq!(integer(&[]), None);
    }

    #[test]
    fn a_head_comes_in_pieces() {
        let mut wire = Vec::new();
        write_head(&mut wire, 0xf0700, 1 << 40);
        write_head(&mut wire, DATA, 0);
        let mut head = Head::default();
        let found: Vec<_> = wire.iter().filter_map(|byte| head.push(*byte)).collect();
        assert_eq!(found, [(0xf0700, 1 << 40), (DATA, 0)]);
        assert!(!head.is_partial());
        let longest = [0xff; 16];
        let found: Vec<_> = longest.iter().filter_map(|byte| head.push(*byte)).collect();
        assert_eq!(found, [((1 << 62) - 1, (1 << 62) - 1)]);
        assert_eq!(head.push(0x40), None);
        assert!(head.is_partial());
    }
}
