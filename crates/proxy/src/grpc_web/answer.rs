//! Answers of gRPC as gRPC-Web tells them.

use super::frame::{self, Borders, Text};
use super::{CONTENT_TYPE, Form};
use crate::downstream::{Answer, Responder, percent_encode};
use crate::failure::Failure;
use crate::filter::answer::AnswerEdits;
use crate::guard::refusal;
use crate::http1::body::Framing;
use crate::http1::field::Kind;
use crate::http1::head::{ResponseHead, Version};
use crate::message::{Chunk, Sink, SinkError};
use crate::trailers::Trailers;

/// Bytes that are told of an answer that is no gRPC.
const MOST_TEXT: usize = 1024;
/// gRPC's code of answers that break the protocol.
const INTERNAL: u8 = 13;

/// Where an answer goes.
pub(crate) struct WebResponder<'d, R> {
    inner: &'d mut R,
    form: &'d Form,
    content: Content,
    borders: Borders,
    text: Text,
    /// What is sent in place of a part.
    out: String,
    /// A part may have been sent to its half.
    is_writing: bool,
}

/// What comes after the head.
#[derive(Debug)]
enum Content {
    /// Nothing: the head tells how the call ended, or will be told by somebody else.
    Nothing,
    Messages {
        /// The head has told how the call ended.
        is_told: bool,
    },
    /// Something else, as proxies and web servers answer.
    Other {
        status: u16,
        /// Its beginning, if it can be read.
        text: Option<Vec<u8>>,
    },
}

impl<'d, R: Responder> WebResponder<'d, R> {
    pub(super) fn new(inner: &'d mut R, form: &'d Form) -> Self {
        Self {
            inner,
            form,
            content: Content::Nothing,
            borders: Borders::default(),
            text: Text::default(),
            out: String::new(),
            is_writing: false,
        }
    }

    /// Ends an answer that has begun with the status of a failure; `false` if its client is in the
    /// midst of a message.
    pub(super) async fn end(&mut self, failure: &Failure) -> bool {
        let takes_more = !matches!(self.content, Content::Nothing);
        if !takes_more || self.is_writing || !self.borders.is_between() {
            return false;
        }
        let mut data = Vec::new();
        frame::end(&mut data, self.form.takes_text, |lines| {
            let message = percent_encode(&failure.to_string());
            frame::status(lines, failure.grpc_status(), &message);
        });
        self.inner.end_with(&data).await
    }

    async fn pass(&mut self, chunk: Chunk<'_>) -> Result<(), SinkError> {
        self.is_writing = true;
        self.inner.write(chunk).await?;
        self.is_writing = false;
        Ok(())
    }

    /// Passes a part of the messages on.
    async fn messages(&mut self, chunk: Chunk<'_>, is_told: bool) -> Result<(), SinkError> {
        self.borders.pass(chunk.data);
        let is_between = self.borders.is_between();
        let ends = is_between || chunk.last;
        let mut last = Vec::new();
        // A message that is cut is no place for the status: its client notices.
        if chunk.last && is_between && !is_told {
            frame::end(&mut last, self.form.takes_text, |lines| {
                status(lines, chunk.trailers.as_deref());
            });
        }
        let mut out = std::mem::take(&mut self.out);
        out.clear();
        let data = if self.form.takes_text {
            self.text.push(&mut out, chunk.data, ends);
            out.as_bytes()
        } else {
            chunk.data
        };
        let part = |data, last| Chunk {
            data,
            last,
            trailers: None,
        };
        if !data.is_empty() || last.is_empty() {
            self.pass(part(data, chunk.last && last.is_empty())).await?;
        }
        if !last.is_empty() {
            self.pass(part(&last, true)).await?;
        }
        self.out = out;
        Ok(())
    }
}

/// Writes how the call ended.
fn status(lines: &mut Vec<u8>, trailers: Option<&Trailers>) {
    let trailers = trailers.filter(|trailers| !trailers.is_empty());
    let is_status = |name: &[u8]| name == b"grpc-status";
    if !trailers.is_some_and(|trailers| trailers.iter().any(|(name, _)| is_status(name))) {
        frame::status(
            lines,
            INTERNAL,
            "the backend ended its answer without a status",
        );
    }
    lines.extend_from_slice(trailers.map_or(&[], |trailers| trailers.lines()));
}

/// Whether an answer's body is messages of gRPC.
fn is_grpc(answer: &Answer<'_>) -> bool {
    let kind = answer.field(CONTENT_TYPE).unwrap_or_default();
    answer.status() == 200 && kind.to_ascii_lowercase().starts_with(b"application/grpc")
}

impl<R: Responder> Sink for WebResponder<'_, R> {
    async fn write(&mut self, chunk: Chunk<'_>) -> Result<(), SinkError> {
        match &mut self.content {
            Content::Nothing => {
                let last = chunk.last;
                let end = Chunk {
                    last,
                    ..Chunk::default()
                };
                self.pass(end).await
            }
            Content::Messages { is_told } => {
                let is_told = *is_told;
                self.messages(chunk, is_told).await
            }
            Content::Other { status, text } => {
                if let Some(text) = text {
                    let room = MOST_TEXT.saturating_sub(text.len()).min(chunk.data.len());
                    text.extend_from_slice(&chunk.data[..room]);
                }
                if !chunk.last {
                    return Ok(());
                }
                let told = String::from_utf8_lossy(text.as_deref().unwrap_or_default());
                let told = match told.trim() {
                    "" => format!("the backend answered {status}, which is no gRPC"),
                    told => format!("the backend answered {status}: {told}"),
                };
                let (told, code) = (percent_encode(&told), refusal::grpc_status(*status));
                let mut data = Vec::new();
                frame::end(&mut data, self.form.takes_text, |lines| {
                    frame::status(lines, code, &told);
                });
                let end = Chunk {
                    data: &data,
                    last: true,
                    trailers: None,
                };
                self.pass(end).await
            }
        }
    }

    async fn flush(&mut self) -> Result<(), SinkError> {
        self.inner.flush().await
    }
}

impl<R: Responder> Responder for WebResponder<'_, R> {
    async fn inform(&mut self, answer: Answer<'_>) -> Result<(), SinkError> {
        self.inner.inform(answer).await
    }

    fn respond(
        &mut self,
        answer: Answer<'_>,
        edits: Option<&AnswerEdits>,
        request_complete: bool,
    ) -> Result<(), SinkError> {
        let is_told = answer.field("grpc-status").is_some();
        let has_body = !matches!(answer.head.framing, Framing::None | Framing::Length(0));
        let mut head = answer.head.clone();
        self.content = if is_told && !has_body {
            Content::Nothing
        } else {
            head.framing = Framing::Chunked;
            if is_grpc(&answer) {
                Content::Messages { is_told }
            } else {
                strange(&mut head, &answer)
            }
        };
        for field in &mut head.fields.list {
            if field.kind == Kind::ContentLength {
                field.kind = Kind::HopByHop;
            }
        }
        head.fields.content_length = None;
        let mut edits = edits.cloned().unwrap_or_default();
        edits.set(CONTENT_TYPE, self.form.answer_type());
        let told = Answer {
            head: &head,
            ..answer
        };
        self.inner.respond(told, Some(&edits), request_complete)
    }

    fn has_begun(&self) -> bool {
        self.inner.has_begun()
    }

    async fn end_with(&mut self, data: &[u8]) -> bool {
        self.inner.end_with(data).await
    }

    async fn gone(&mut self) {
        self.inner.gone().await;
    }
}

/// Makes the head one of gRPC-Web; the status is told at the end, with the beginning of the body if
/// that can be read.
fn strange(head: &mut ResponseHead, answer: &Answer<'_>) -> Content {
    let status = head.status;
    head.status = 200;
    // No phrase of its own: the backend's belongs to the other status.
    head.version = Version::Http2;
    for field in &mut head.fields.list {
        let name = field.name.get(answer.bytes);
        if name.eq_ignore_ascii_case(b"content-encoding") {
            field.kind = Kind::HopByHop;
        }
    }
    let coding = answer.field("content-encoding").unwrap_or_default();
    let is_plain = coding.is_empty() || coding.eq_ignore_ascii_case(b"identity");
    let text = is_plain.then(Vec::new);
    Content::Other { status, text }
}
