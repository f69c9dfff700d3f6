//! The body of a request, without base64.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::message::{Chunk, Source, SourceError};

const MALFORMED: SourceError = SourceError::Malformed("the gRPC-Web text is not base64");

/// What a client sends. Parts of it may be padded each for itself: a client encodes as it flushes.
pub(crate) struct WebBody<'d, S> {
    inner: &'d mut S,
    text: Option<Box<Decoder>>,
}

#[derive(Debug, Default)]
struct Decoder {
    /// The beginning of a group of four characters.
    rest: Vec<u8>,
    decoded: Vec<u8>,
}

impl<'d, S> WebBody<'d, S> {
    pub(super) fn new(inner: &'d mut S, is_text: bool) -> Self {
        let text = is_text.then(Box::default);
        Self { inner, text }
    }
}

impl<S: Source> Source for WebBody<'_, S> {
    async fn next(&mut self) -> Result<Chunk<'_>, SourceError> {
        let Some(decoder) = &mut self.text else {
            return self.inner.next().await;
        };
        loop {
            let chunk = self.inner.next().await?;
            let (last, trailers) = (chunk.last, chunk.trailers);
            decoder.decode(chunk.data, last)?;
            if last || !decoder.decoded.is_empty() {
                return Ok(Chunk {
                    data: &decoder.decoded,
                    last,
                    trailers,
                });
            }
        }
    }

    fn has_input(&self) -> bool {
        self.inner.has_input()
    }

    async fn gone(&mut self) {
        self.inner.gone().await;
    }
}

impl Decoder {
    /// Decodes what is complete, in place of what was decoded before.
    fn decode(&mut self, data: &[u8], last: bool) -> Result<(), SourceError> {
        self.decoded.clear();
        let missing = (4 - self.rest.len()) % 4;
        let (part, data) = data.split_at(missing.min(data.len()));
        self.rest.extend_from_slice(part);
        if self.rest.len() == 4 {
            let group = std::mem::take(&mut self.rest);
            self.groups(&group)?;
        }
        let (groups, after) = data.split_at(data.len() / 4 * 4);
        self.groups(groups)?;
        self.rest.extend_from_slice(after);
        if last && !self.rest.is_empty() {
            return Err(MALFORMED);
        }
        Ok(())
    }

    /// Decodes whole groups; one that is padded ends a run of them.
    fn groups(&mut self, mut groups: &[u8]) -> Result<(), SourceError> {
        while !groups.is_empty() {
            let padded = groups.iter().position(|byte| *byte == b'=');
            let end = padded.map_or(groups.len(), |at| (at / 4 + 1) * 4);
            let (run, rest) = groups.split_at(end);
            let decoded = STANDARD.decode_vec(run, &mut self.decoded);
            decoded.map_err(|_| MALFORMED)?;
            groups = rest;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(text: &str, size: usize) -> Option<Vec<u8>> {
        let mut decoder = Decoder::default();
        let mut all = Vec::new();
        let parts = text.len().div_ceil(size);
        for (at, part) in text.as_bytes().chunks(size).enumerate() {
            decoder.decode(part, at + 1 == parts).ok()?;
            all.extend_from_slice(&decoder.decoded);
        }
        Some(all)
    }

    #[test]
    fn parts_may_be_cut_and_padded_anywhere() {
        let text = "AAAAAAM=YWI=Yw==AAAAAAA=";
        for size in 1..=text.len() {
            let expected = b"\0\0\0\0\x03abc\0\0\0\0\0".to_vec();
            assert_eq!(decoded(text, size), Some(expected), "{size}");
        }
    }

    #[test]
    fn what_is_no_base64_is_refused() {
        for text in ["AAA", "A", "AA=A", "====", "AAAA\r\n==", "A===", "AAAA="] {
            for size in 1..=text.len() {
                assert_eq!(decoded(text, size), None, "{text} {size}");
            }
        }
    }
}
