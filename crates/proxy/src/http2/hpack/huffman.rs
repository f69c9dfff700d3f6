//! Strings in HPACK's Huffman code (RFC 7541 §5.2, Appendix B).
//!
//! The code is canonical: the lengths alone say which code a symbol has. Most symbols of a header
//! are found with one look at the next nine bits; the others by comparing with the last code of
//! each length.

/// Bits of the code of each byte; the last one ends a string and is never sent.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

const END: u16 = 256;
const LONGEST: usize = 30;
/// Bits that are looked up at once.
const QUICK: u32 = 9;

static TABLES: Tables = Tables::new();

struct Tables {
    /// By the next [`QUICK`] bits: symbol and length, 0 if the code is longer.
    quick: [(u8, u8); 1 << QUICK],
    /// By length: the code after the last one, shifted to 32 bits.
    past: [u64; LONGEST + 1],
    /// By length: what to add to a code to get its place in `symbols`.
    offset: [i64; LONGEST + 1],
    /// In the order of their codes.
    symbols: [u16; 257],
}

impl Tables {
    const fn new() -> Self {
        let mut tables = Self {
            quick: [(0, 0); 1 << QUICK],
            past: [0; LONGEST + 1],
            offset: [0; LONGEST + 1],
            symbols: [0; 257],
        };
        let (mut code, mut place, mut length) = (0u64, 0, 1);
        while length <= LONGEST {
            code <<= 1;
            tables.offset[length] = place as i64 - code as i64;
            let mut symbol = 0;
            while symbol < LENGTHS.len() {
                if LENGTHS[symbol] as usize == length {
                    tables.symbols[place] = symbol as u16;
                    if length <= QUICK as usize {
                        let free = QUICK as usize - length;
                        let mut rest = 0;
                        while rest < 1 << free {
                            tables.quick[((code as usize) << free) | rest] =
                                (symbol as u8, length as u8);
                            rest += 1;
                        }
                    }
                    place += 1;
                    code += 1;
                }
                symbol += 1;
            }
            tables.past[length] = code << (32 - length);
            length += 1;
        }
        tables
    }
}

/// Decodes a string to the end of `out`. `None`: the string is not valid.
pub(super) fn decode(input: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut bits = 0u64;
    let mut count = 0u32;
    let mut bytes = input.iter();
    loop {
        while count <= 56 {
            let Some(byte) = bytes.next() else { break };
            bits |= u64::from(*byte) << (56 - count);
            count += 8;
        }
        if count == 0 {
            return Some(());
        }
        let (symbol, length) = TABLES.quick[(bits >> (64 - QUICK)) as usize];
        let length = if length > 0 {
            u32::from(length)
        } else {
            let next = bits >> 32;
            let length = (QUICK as usize + 1..=LONGEST).find(|at| next < TABLES.past[*at])?;
            if length as u32 <= count {
                let code = (next >> (32 - length)) as i64;
                let symbol = TABLES.symbols[(code + TABLES.offset[length]) as usize];
                if symbol == END {
                    return None;
                }
                out.push(symbol as u8);
                bits <<= length;
                count -= length as u32;
                continue;
            }
            length as u32
        };
        if length > count {
            // What is left is padding: less than a byte of ones.
            return (count < 8 && bits >> (64 - count) == (1 << count) - 1).then_some(());
        }
        out.push(symbol);
        bits <<= length;
        count -= length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(input: &[u8]) -> Option<String> {
        let mut out = Vec::new();
        decode(input, &mut out)?;
        String::from_utf8(out).ok()
    }

    #[test]
    fn the_examples_of_the_rfc_decode() {
        // RFC 7541 C.4 and C.6.
        let example = [
            0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff,
        ];
        assert_eq!(text(&example).as_deref(), Some("www.example.com"));
        assert_eq!(
            text(&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf]).as_deref(),
            Some("no-cache")
        );
        assert_eq!(text(&[0x64, 0x02]).as_deref(), Some("302"));
        assert_eq!(text(&[]).as_deref(), Some(""));
    }

    #[test]
    fn wrong_padding_and_the_end_symbol_are_refused() {
        // A whole byte of padding, padding with zeros, the end of string symbol.
        for input in [&[0x1f, 0xff][..], &[0x18], &[0xff, 0xff, 0xff, 0xff]] {
            assert_eq!(text(input), None, "{input:?}");
        }
    }
}
