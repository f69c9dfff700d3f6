//! Header blocks: names and values, compressed with one zlib stream per direction and a
//! dictionary that both sides know (SPDY/3.1, 2.6.10).

use std::io;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::{Headers, bad};

/// Longest block when inflated: a few bytes must not become megabytes.
const LONGEST_BLOCK: usize = 16 * 1024;
/// Most headers of a stream.
const MOST_HEADERS: usize = 64;
/// Adler-32 of the dictionary, as the zlib stream names it.
const CHECKSUM: u32 = 0xe3c6_a7c2;

/// The dictionary's words, each behind its length.
#[rustfmt::skip]
const WORDS: &[&str] = &[
    "options", "head", "post", "put", "delete", "trace", "accept", "accept-charset",
    "accept-encoding", "accept-language", "accept-ranges", "age", "allow", "authorization",
    "cache-control", "connection", "content-base", "content-encoding", "content-language",
    "content-length", "content-location", "content-md5", "content-range", "content-type", "date",
    "etag", "expect", "expires", "from", "host", "if-match", "if-modified-since", "if-none-match",
    "if-range", "if-unmodified-since", "last-modified", "location", "max-forwards", "pragma",
    "proxy-authenticate", "proxy-authorization", "range", "referer", "retry-after", "server", "te",
    "trailer", "transfer-encoding", "upgrade", "user-agent", "vary", "via", "warning",
    "www-authenticate", "method", "get", "status", "200 OK", "version", "HTTP/1.1", "url",
    "public", "set-cookie", "keep-alive", "origin",
];

/// Its end, without lengths.
const TEXT: &str = concat!(
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505",
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request",
    "401 Unauthorized403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented",
    "503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 ",
    "Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,",
    "application/xml,application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=",
    "gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
);

fn dictionary() -> Vec<u8> {
    let mut out = Vec::with_capacity(1423);
    for word in WORDS {
        out.extend_from_slice(&(word.len() as u32).to_be_bytes());
        out.extend_from_slice(word.as_bytes());
    }
    out.extend_from_slice(TEXT.as_bytes());
    out
}

/// Reads the blocks of one connection, all of them and in order.
pub(super) struct Inflate(Decompress);

impl Inflate {
    pub(super) fn new() -> Self {
        Self(Decompress::new(true))
    }

    pub(super) fn block(&mut self, mut block: &[u8]) -> io::Result<Headers> {
        let mut out = Vec::with_capacity(LONGEST_BLOCK);
        while !block.is_empty() {
            let before = (self.0.total_in(), self.0.total_out());
            let result = self
                .0
                .decompress_vec(block, &mut out, FlushDecompress::Sync);
            let read = usize::try_from(self.0.total_in() - before.0).unwrap_or(usize::MAX);
            block = block.get(read..).unwrap_or_default();
            match result {
                Err(error) if error.needs_dictionary() == Some(CHECKSUM) => {
                    self.0
                        .set_dictionary(&dictionary())
                        .map_err(|_| bad("a header block's dictionary is not SPDY's"))?;
                }
                Err(_) => return Err(bad("a header block is not a zlib stream")),
                Ok(Status::StreamEnd) if !block.is_empty() => {
                    return Err(bad("a header block goes on after its end"));
                }
                Ok(_) if before == (self.0.total_in(), self.0.total_out()) => {
                    return Err(bad("a header block is too long"));
                }
                Ok(_) => {}
            }
        }
        if out.len() == out.capacity() {
            return Err(bad("a header block is too long"));
        }
        parse(&out)
    }
}

fn parse(mut block: &[u8]) -> io::Result<Headers> {
    let count = number(&mut block)?;
    if count > MOST_HEADERS {
        return Err(bad("a header block has too many headers"));
    }
    let mut headers = Headers::with_capacity(count);
    for _ in 0..count {
        let name = text(&mut block)?.to_ascii_lowercase();
        headers.push((name, text(&mut block)?));
    }
    if block.is_empty() {
        Ok(headers)
    } else {
        Err(bad("a header block is longer than its headers"))
    }
}

fn number(block: &mut &[u8]) -> io::Result<usize> {
    let (head, rest) = block
        .split_first_chunk::<4>()
        .ok_or_else(|| bad("a header block is too short"))?;
    *block = rest;
    Ok(u32::from_be_bytes(*head) as usize)
}

fn text(block: &mut &[u8]) -> io::Result<String> {
    let length = number(block)?;
    let (head, rest) = block
        .split_at_checked(length)
        .ok_or_else(|| bad("a header block is too short"))?;
    *block = rest;
    String::from_utf8(head.to_vec()).map_err(|_| bad("a header is not text"))
}

/// Writes the blocks of one connection.
pub(super) struct Deflate {
    zlib: Compress,
    begun: bool,
}

impl Deflate {
    pub(super) fn new() -> Self {
        Self {
            zlib: Compress::new(Compression::fast(), true),
            begun: false,
        }
    }

    pub(super) fn block(&mut self, headers: &[(&str, &str)]) -> io::Result<Vec<u8>> {
        if !self.begun {
            self.zlib.set_dictionary(&dictionary())?;
            self.begun = true;
        }
        let mut plain = (headers.len() as u32).to_be_bytes().to_vec();
        for part in headers.iter().flat_map(|(name, value)| [name, value]) {
            plain.extend_from_slice(&(part.len() as u32).to_be_bytes());
            plain.extend_from_slice(part.as_bytes());
        }
        // Room for the worst case, so that one call writes everything.
        let mut out = Vec::with_capacity(plain.len() + plain.len() / 8 + 64);
        self.zlib
            .compress_vec(&plain, &mut out, FlushCompress::Sync)?;
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dictionary_is_the_one_that_clients_have() {
        let mut zlib = Compress::new(Compression::fast(), true);
        assert_eq!(zlib.set_dictionary(&dictionary()).expect("fresh"), CHECKSUM);
    }

    #[test]
    fn blocks_are_one_stream_in_both_directions() {
        let (mut out, mut back) = (Deflate::new(), Inflate::new());
        for port in ["80", "8080"] {
            let block = out
                .block(&[("StreamType", "data"), ("port", port)])
                .expect("fits");
            let headers = back.block(&block).expect("a block");
            assert_eq!(headers[0], ("streamtype".to_owned(), "data".to_owned()));
            assert_eq!(headers[1], ("port".to_owned(), port.to_owned()));
        }
    }

    #[test]
    fn a_block_that_inflates_to_more_than_a_few_kilobytes_is_refused() {
        let long = "a".repeat(LONGEST_BLOCK);
        let block = Deflate::new().block(&[("x", &long)]).expect("fits");
        assert!(block.len() < 1024);
        assert!(Inflate::new().block(&block).is_err());
    }

    #[test]
    fn garbage_truncation_and_lies_about_lengths_are_errors() {
        assert!(Inflate::new().block(b"not zlib at all").is_err());
        assert!(parse(&[0, 0, 0, 1]).is_err());
        assert!(parse(&[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff]).is_err());
        assert!(parse(&[0xff, 0xff, 0xff, 0xff]).is_err());
        assert!(parse(&[0, 0, 0, 0, 7]).is_err());
        assert_eq!(parse(&[0, 0, 0, 0]).expect("empty"), Headers::new());
    }
}
