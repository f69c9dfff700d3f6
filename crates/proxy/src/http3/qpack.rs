//! QPACK (RFC 9204) without a dynamic table: header blocks that stand by themselves.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::tables::STATIC;
use crate::http1::edit::number;
use crate::http2::hpack::{Invalid, integer, string, write_integer, write_value_with};

/// What a block begins with: it needs no entries of a table (RFC 9204 §4.5.1).
const PREFIX: [u8; 2] = [0, 0];

/// Where names stand first.
static NAMES: LazyLock<HashMap<&[u8], usize>> = LazyLock::new(|| {
    let names = STATIC.iter().enumerate().rev();
    names
        .map(|(index, (name, _))| (name.as_bytes(), index))
        .collect()
});

/// Decodes a whole block and hands every field, name and value, to `field`.
pub(super) fn decode(block: &[u8], mut field: impl FnMut(&[u8], &[u8])) -> Result<(), Invalid> {
    // Without entries there is no base to count from.
    let mut rest = block;
    if integer(&mut rest, 8)? != 0 {
        return Err(Invalid);
    }
    integer(&mut rest, 7)?;
    let (mut name, mut value) = (Vec::new(), Vec::new());
    while let Some(first) = rest.first().copied() {
        match first {
            // An indexed field; of the static table only.
            0xc0.. => {
                let (name, value) = get(integer(&mut rest, 6)?)?;
                field(name, value);
            }
            // A literal with the name of a field of the static table.
            0x50..=0x5f | 0x70..=0x7f => {
                let (name, _) = get(integer(&mut rest, 4)?)?;
                value.clear();
                string(&mut rest, 7, &mut value)?;
                field(name, &value);
            }
            // A literal.
            0x20..=0x3f => {
                name.clear();
                value.clear();
                string(&mut rest, 3, &mut name)?;
                string(&mut rest, 7, &mut value)?;
                field(&name, &value);
            }
            // What is left points into a table that is empty.
            _ => return Err(Invalid),
        }
    }
    Ok(())
}

fn get(index: usize) -> Result<(&'static [u8], &'static [u8]), Invalid> {
    let (name, value) = STATIC.get(index).ok_or(Invalid)?;
    Ok((name.as_bytes(), value.as_bytes()))
}

/// Begins a block with `:status`.
pub(super) fn begin(out: &mut Vec<u8>, status: u16) {
    out.clear();
    begin_trailers(out);
    let index = match status {
        100 => 63,
        103 => 24,
        200 => 25,
        204 => 64,
        206 => 65,
        302 => 66,
        304 => 26,
        400 => 67,
        403 => 68,
        404 => 27,
        500 => 71,
        503 => 28,
        _ => {
            write_integer(out, 24, 4, 0x50);
            return write_value_with(out, |out| number(out, status.into()));
        }
    };
    write_integer(out, index, 6, 0xc0);
}

/// Begins a block that has no pseudo fields.
pub(super) fn begin_trailers(out: &mut Vec<u8>) {
    out.extend_from_slice(&PREFIX);
}

/// Writes one field. `name` may be in any case and is written in lower case.
pub(super) fn write(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    write_with(out, name, |out| out.extend_from_slice(value));
}

/// Writes one field whose value is made on the spot.
pub(super) fn write_with(out: &mut Vec<u8>, name: &[u8], value: impl FnOnce(&mut Vec<u8>)) {
    let mut lower = [0; 64];
    let lower = lower.get_mut(..name.len()).map(|lower| {
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        &*lower
    });
    match lower.and_then(|lower| NAMES.get(lower)) {
        // What may be a secret asks everybody behind us not to index it (RFC 9204 §7.1.3).
        Some(14) => write_integer(out, 14, 4, 0x70),
        Some(index) => write_integer(out, *index, 4, 0x50),
        None => {
            write_integer(out, name.len(), 3, 0x20);
            let at = out.len();
            out.extend_from_slice(name);
            out[at..].make_ascii_lowercase();
        }
    }
    write_value_with(out, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(block: &[u8]) -> Result<Vec<(String, String)>, Invalid> {
        let mut fields = Vec::new();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        decode(block, |name, value| fields.push((text(name), text(value))))?;
        Ok(fields)
    }

    #[test]
    fn what_is_written_is_read() {
        let long = "v".repeat(1_000);
        let pairs = [
            ("Content-Type", "text/plain"),
            ("X-Other", ""),
            ("set-cookie", "a=b"),
            ("x-long", &long),
        ];
        let statuses = [
            100, 103, 200, 204, 206, 302, 304, 400, 403, 404, 500, 503, 201, 599,
        ];
        for status in statuses {
            let mut block = vec![1];
            begin(&mut block, status);
            for (name, value) in pairs {
                write(&mut block, name.as_bytes(), value.as_bytes());
            }
            let read = fields(&block).expect("a block");
            assert_eq!(read[0], (":status".to_owned(), status.to_string()));
            for ((name, value), read) in pairs.iter().zip(&read[1..]) {
                assert_eq!(*read, (name.to_lowercase(), (*value).to_owned()));
            }
        }
    }

    #[test]
    fn the_example_of_the_standard_is_read() {
        // RFC 9204 §B.1.
        let block = b"\x00\x00\x51\x0b/index.html";
        let expected = (":path".to_owned(), "/index.html".to_owned());
        assert_eq!(fields(block), Ok(vec![expected]));
    }

    #[test]
    fn every_static_field_has_its_number() {
        for (index, (name, value)) in STATIC.iter().enumerate() {
            let mut block = PREFIX.to_vec();
            write_integer(&mut block, index, 6, 0xc0);
            let expected = ((*name).to_owned(), (*value).to_owned());
            assert_eq!(fields(&block), Ok(vec![expected]));
        }
    }

    #[test]
    fn what_needs_a_table_is_refused() {
        for block in [
            &b""[..],
            b"\x00",
            // An insert count.
            b"\x01\x00\xd1",
            // Dynamic fields, before and after the base, and names of them.
            b"\x00\x00\x80",
            b"\x00\x00\x10",
            b"\x00\x00\x40\x01a",
            b"\x00\x00\x00\x01a",
            // Beyond the static table.
            b"\x00\x00\xff\x24",
            b"\x00\x00\x5f\x54\x01a",
            // Cut.
            b"\x00\x00\x51",
            b"\x00\x00\x51\x0b/index",
            b"\x00\x00\x27",
        ] {
            assert_eq!(fields(block), Err(Invalid), "{block:?}");
        }
    }
}
