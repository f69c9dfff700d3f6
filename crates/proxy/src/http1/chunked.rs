//! The chunked coding (RFC 9112 §7.1), decoded strictly.
//!
//! Extensions are dropped (every recipient must ignore those it does not know) and bounded, so
//! that framing cannot outweigh data. Trailer fields that frame or route are dropped too.

use super::body::Decoded;
use crate::trailers::Trailers;

/// Bytes of all chunk extensions of one body.
const MAX_EXTENSIONS: usize = 16 * 1024;
/// Bytes of a trailer section.
const MAX_TRAILERS: usize = 16 * 1024;
const MAX_TRAILER_FIELDS: usize = 64;

/// Why a chunked body is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct ChunkError(pub(crate) &'static str);

/// State between two reads.
#[derive(Debug, Default)]
pub(crate) struct Chunked {
    state: State,
    size: u64,
    digits: u8,
    extensions: usize,
    trailers: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Size,
    /// White space behind a size, which some servers pad with.
    Padding,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    Trailers,
}

impl Chunked {
    /// Decodes what is there, moving the payload together at the first chunk's place.
    pub(crate) fn decode(&mut self, input: &mut [u8]) -> Result<Decoded, ChunkError> {
        let mut out = Decoded::default();
        let mut at = 0;
        while at < input.len() {
            let byte = input[at];
            match self.state {
                State::Data => {
                    let count = usize::try_from(self.size)
                        .unwrap_or(usize::MAX)
                        .min(input.len() - at);
                    if out.len == 0 {
                        out.start = at;
                    } else {
                        input.copy_within(at..at + count, out.start + out.len);
                    }
                    out.len += count;
                    at += count;
                    self.size -= count as u64;
                    if self.size == 0 {
                        self.state = State::DataCr;
                    }
                    continue;
                }
                State::Trailers => {
                    self.trailers.push(byte);
                    at += 1;
                    if let Some(trailers) = self.trailers()? {
                        out.trailers = trailers;
                        out.last = true;
                        break;
                    }
                    continue;
                }
                State::Size => self.size_byte(byte)?,
                State::Padding => self.padding_byte(byte)?,
                State::Extension => self.extension_byte(byte)?,
                State::SizeLf => {
                    expect(byte, b'\n', "chunk size line does not end in CRLF")?;
                    self.digits = 0;
                    self.state = if self.size == 0 {
                        State::Trailers
                    } else {
                        State::Data
                    };
                }
                State::DataCr => {
                    expect(byte, b'\r', "chunk is longer than its size")?;
                    self.state = State::DataLf;
                }
                State::DataLf => {
                    expect(byte, b'\n', "chunk does not end in CRLF")?;
                    self.state = State::Size;
                }
            }
            at += 1;
        }
        out.consumed = at;
        Ok(out)
    }

    fn size_byte(&mut self, byte: u8) -> Result<(), ChunkError> {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            _ if self.digits == 0 => {
                return Err(ChunkError("chunk size is not a hexadecimal number"));
            }
            _ => return self.padding_byte(byte),
        };
        // 15 digits cannot overflow and are a petabyte.
        if self.digits == 15 {
            return Err(ChunkError("chunk size is too large"));
        }
        self.digits += 1;
        // The size of the chunk before is 0 by now.
        self.size = self.size * 16 + u64::from(digit);
        Ok(())
    }

    /// What may follow a size: nothing that another reader could take for more of it.
    fn padding_byte(&mut self, byte: u8) -> Result<(), ChunkError> {
        self.state = match byte {
            b'\r' => State::SizeLf,
            b';' => State::Extension,
            b' ' | b'\t' => {
                self.count_extension()?;
                State::Padding
            }
            _ => return Err(ChunkError("chunk size is not a hexadecimal number")),
        };
        Ok(())
    }

    fn extension_byte(&mut self, byte: u8) -> Result<(), ChunkError> {
        match byte {
            b'\r' => self.state = State::SizeLf,
            b'\t' | b' '..=0x7e | 0x80.. => self.count_extension()?,
            _ => return Err(ChunkError("chunk extension has a forbidden byte")),
        }
        Ok(())
    }

    fn count_extension(&mut self) -> Result<(), ChunkError> {
        self.extensions += 1;
        if self.extensions > MAX_EXTENSIONS {
            return Err(ChunkError("chunk extensions are too long"));
        }
        Ok(())
    }

    /// The fields once the section is complete.
    #[allow(clippy::type_complexity)]
    fn trailers(&mut self) -> Result<Option<Option<Box<Trailers>>>, ChunkError> {
        let bytes = &self.trailers;
        if bytes == b"\r\n" {
            return Ok(Some(None));
        }
        if bytes.len() > MAX_TRAILERS {
            return Err(ChunkError("trailers are too long"));
        }
        if bytes.ends_with(b"\n\n") || (bytes.ends_with(b"\n") && !bytes.ends_with(b"\r\n")) {
            return Err(ChunkError("trailer line ends in LF without CR"));
        }
        if !bytes.ends_with(b"\r\n\r\n") {
            return Ok(None);
        }
        let mut space = [httparse::EMPTY_HEADER; MAX_TRAILER_FIELDS];
        let Ok(httparse::Status::Complete((_, fields))) =
            httparse::parse_headers(bytes, &mut space)
        else {
            return Err(ChunkError("trailers are not valid"));
        };
        let mut trailers = Trailers::default();
        for field in fields {
            trailers.push(field.name.as_bytes(), field.value);
        }
        Ok(Some((!trailers.is_empty()).then(|| Box::new(trailers))))
    }
}

fn expect(byte: u8, wanted: u8, error: &'static str) -> Result<(), ChunkError> {
    if byte == wanted {
        Ok(())
    } else {
        Err(ChunkError(error))
    }
}

#[cfg(test)]
mod tests;
