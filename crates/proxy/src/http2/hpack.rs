//! HPACK (RFC 7541): header blocks in and out.
//!
//! Decoding keeps the dynamic table that the peer builds, within the size that we announced.
//! Encoding uses the static table only and adds nothing to a dynamic one: a block is then valid
//! on any connection and at any time, so a request that must be sent again is not encoded again.

mod huffman;
mod tables;

use std::collections::VecDeque;

use crate::http1::field::Known;

pub(crate) use tables::static_name;

/// Bytes of the dynamic table that a peer may fill; HTTP/2's default.
pub(crate) const TABLE_SIZE: usize = 4096;
/// Says that the encoder's table has no room for anything (RFC 7541 §6.3).
pub(crate) const NO_TABLE: [u8; 1] = [0x20];
/// What an entry counts beyond its bytes (RFC 7541 §4.1).
const ENTRY_OVERHEAD: usize = 32;

/// A header block is not valid; the connection cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Invalid;

/// Decodes the header blocks of one connection, in their order.
#[derive(Debug)]
pub(crate) struct Decoder {
    /// Youngest first.
    table: VecDeque<Entry>,
    size: usize,
    limit: usize,
    name: Vec<u8>,
    value: Vec<u8>,
    /// Where `name` stands.
    known: Known,
    changes: u64,
}

/// A field of the dynamic table.
#[derive(Debug)]
struct Entry {
    bytes: Box<[u8]>,
    name: usize,
    known: Known,
}

impl Entry {
    fn size(&self) -> usize {
        self.bytes.len() + ENTRY_OVERHEAD
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Self {
            table: VecDeque::new(),
            size: 0,
            limit: TABLE_SIZE,
            name: Vec::new(),
            value: Vec::new(),
            known: Known::NotYet,
            changes: 0,
        }
    }
}

impl Decoder {
    /// Bytes that the table counts.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// How often the table was changed: while it is not, a block means what it meant.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    /// Decodes a whole block and hands every field, name and value, to `field`, and what is known
    /// of its name.
    pub(crate) fn decode(
        &mut self,
        mut block: &[u8],
        mut field: impl FnMut(&[u8], &[u8], Known),
    ) -> Result<(), Invalid> {
        let mut may_resize = true;
        while let Some(first) = block.first().copied() {
            if first & 0x80 != 0 {
                let index = integer(&mut block, 7)?;
                let (name, value, known) = self.get(index).ok_or(Invalid)?;
                field(name, value, known);
            } else if first & 0xe0 == 0x20 {
                // RFC 7541 §4.2: only at the beginning of a block.
                let limit = integer(&mut block, 5)?;
                if !may_resize || limit > TABLE_SIZE {
                    return Err(Invalid);
                }
                self.limit = limit;
                self.changes += 1;
                self.evict(limit);
                continue;
            } else {
                let is_indexed = first & 0x40 != 0;
                self.literal(&mut block, if is_indexed { 6 } else { 4 })?;
                field(&self.name, &self.value, self.known);
                if is_indexed {
                    self.insert();
                }
            }
            may_resize = false;
        }
        Ok(())
    }

    /// Reads a literal field into `name` and `value`.
    fn literal(&mut self, block: &mut &[u8], prefix: u32) -> Result<(), Invalid> {
        let index = integer(block, prefix)?;
        let mut name = std::mem::take(&mut self.name);
        name.clear();
        if index == 0 {
            string(block, 7, &mut name)?;
            self.known = Known::NotYet;
        } else {
            let (known_name, _, known) = self.get(index).ok_or(Invalid)?;
            name.extend_from_slice(known_name);
            self.known = known;
        }
        self.name = name;
        self.value.clear();
        string(block, 7, &mut self.value)
    }

    fn get(&self, index: usize) -> Option<(&[u8], &[u8], Known)> {
        let at = index.checked_sub(1)?;
        if let Some((name, value)) = tables::STATIC.get(at) {
            // There are 61.
            return Some((name.as_bytes(), value.as_bytes(), Known::At(index as u8)));
        }
        let entry = self.table.get(at - tables::STATIC.len())?;
        let (name, value) = entry.bytes.split_at(entry.name);
        Some((name, value, entry.known))
    }

    fn insert(&mut self) {
        self.changes += 1;
        let size = self.name.len() + self.value.len() + ENTRY_OVERHEAD;
        // An entry that is larger than the table empties it (RFC 7541 §4.4).
        self.evict(self.limit.saturating_sub(size));
        if size <= self.limit {
            let bytes = [self.name.as_slice(), self.value.as_slice()].concat();
            // Once for all requests that will name it.
            let known = match (self.known, static_name(&self.name)) {
                (Known::NotYet, Some(index)) => Known::At(index),
                (Known::NotYet, None) if !self.name.iter().any(u8::is_ascii_uppercase) => {
                    Known::Nowhere
                }
                (known, _) => known,
            };
            self.size += size;
            self.table.push_front(Entry {
                bytes: bytes.into(),
                name: self.name.len(),
                known,
            });
        }
    }

    fn evict(&mut self, limit: usize) {
        while self.size > limit {
            match self.table.pop_back() {
                Some(entry) => self.size -= entry.size(),
                None => self.size = 0,
            }
        }
    }
}

/// An integer with a prefix of `bits` bits (RFC 7541 §5.1), at most a few MiB.
pub(crate) fn integer(block: &mut &[u8], bits: u32) -> Result<usize, Invalid> {
    let (first, mut rest) = block.split_first().ok_or(Invalid)?;
    let mask = (1usize << bits) - 1;
    let mut value = usize::from(*first) & mask;
    if value == mask {
        let mut shift = 0;
        loop {
            let (next, after) = rest.split_first().ok_or(Invalid)?;
            rest = after;
            // Four bytes are enough for anything that could be valid here.
            if shift > 21 {
                return Err(Invalid);
            }
            value += usize::from(next & 0x7f) << shift;
            shift += 7;
            if next & 0x80 == 0 {
                break;
            }
        }
    }
    *block = rest;
    Ok(value)
}

/// A string whose length has a prefix of `bits` bits; the bit before says how it is coded.
pub(crate) fn string(block: &mut &[u8], bits: u32, out: &mut Vec<u8>) -> Result<(), Invalid> {
    let is_huffman = block.first().is_some_and(|first| first & (1 << bits) != 0);
    let length = integer(block, bits)?;
    let (bytes, rest) = block.split_at_checked(length).ok_or(Invalid)?;
    *block = rest;
    if is_huffman {
        huffman::decode(bytes, out).ok_or(Invalid)
    } else {
        out.extend_from_slice(bytes);
        Ok(())
    }
}

/// Writes one field. `name` may be in any case and is written in lower case.
pub(crate) fn write(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    write_name(out, name);
    write_value(out, value);
}

/// Writes one field whose value is made on the spot.
pub(crate) fn write_with(out: &mut Vec<u8>, name: &[u8], value: impl FnOnce(&mut Vec<u8>)) {
    write_name(out, name);
    write_value_with(out, value);
}

/// Writes the value of a field whose name was written.
pub(crate) fn write_value_with(out: &mut Vec<u8>, value: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.push(0);
    value(out);
    let len = out.len() - at - 1;
    if len < 0x7f {
        out[at] = len as u8;
    } else {
        let mut length = Vec::with_capacity(4);
        write_integer(&mut length, len, 7, 0);
        out.splice(at..=at, length);
    }
}

/// Writes one field as it was read, by what is known of its name.
pub(crate) fn write_known(out: &mut Vec<u8>, (name, known): (&[u8], Known), value: &[u8]) {
    match known {
        Known::NotYet => write_name(out, name),
        Known::At(index) => write_index(out, index),
        Known::Nowhere => {
            out.push(0);
            write_value(out, name);
        }
    }
    write_value(out, value);
}

fn write_name(out: &mut Vec<u8>, name: &[u8]) {
    match static_name(name) {
        Some(index) => write_index(out, index),
        None => {
            out.push(0);
            write_integer(out, name.len(), 7, 0);
            let at = out.len();
            out.extend_from_slice(name);
            out[at..].make_ascii_lowercase();
        }
    }
}

/// Literal without indexing, name from the table. What may be a secret asks everybody behind us
/// not to index it either (RFC 7541 §7.1.3): authorization and cookies.
fn write_index(out: &mut Vec<u8>, index: u8) {
    let first = if matches!(index, 23 | 32 | 55) {
        0x10
    } else {
        0
    };
    write_integer(out, usize::from(index), 4, first);
}

pub(crate) fn write_value(out: &mut Vec<u8>, value: &[u8]) {
    write_integer(out, value.len(), 7, 0);
    out.extend_from_slice(value);
}

/// Writes `:status`.
pub(crate) fn write_status(out: &mut Vec<u8>, status: u16) {
    let index = match status {
        200 => 8,
        204 => 9,
        206 => 10,
        304 => 11,
        400 => 12,
        404 => 13,
        500 => 14,
        _ => {
            // Literal without indexing, three digits.
            out.extend_from_slice(&[8, 3]);
            return crate::http1::edit::number(out, u64::from(status));
        }
    };
    out.push(0x80 | index);
}

/// Writes `:method`, `:scheme`, `:authority` and `:path`.
pub(crate) fn write_target(
    out: &mut Vec<u8>,
    (method, is_secure): (&[u8], bool),
    authority: &[u8],
    path: &[u8],
) {
    match method {
        b"GET" => out.push(0x82),
        b"POST" => out.push(0x83),
        _ => {
            out.push(2);
            write_value(out, method);
        }
    }
    out.push(if is_secure { 0x87 } else { 0x86 });
    if !authority.is_empty() {
        out.push(1);
        write_value(out, authority);
    }
    match path {
        b"/" => out.push(0x84),
        _ => {
            out.push(4);
            write_value(out, path);
        }
    }
}

/// The pseudo fields of a CONNECT request (RFC 9113 §8.5).
pub(crate) fn write_connect(out: &mut Vec<u8>, authority: &[u8]) {
    out.push(2);
    write_value(out, b"CONNECT");
    out.push(1);
    write_value(out, authority);
}

pub(crate) fn write_integer(out: &mut Vec<u8>, value: usize, bits: u32, first: u8) {
    let mask = (1usize << bits) - 1;
    if value < mask {
        return out.push(first | value as u8);
    }
    out.push(first | mask as u8);
    let mut rest = value - mask;
    while rest >= 0x80 {
        out.push(0x80 | (rest & 0x7f) as u8);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[cfg(test)]
mod tests;
