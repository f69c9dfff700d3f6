//! A question to another server, over HTTP/1.1, whose whole answer is wanted: for what guards ask
//! on behalf of a request, within bounds.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::http1::body::Framing;
use crate::http1::head::ResponseHead;

/// The most bytes of an answer that are taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) head: usize,
    pub(crate) body: usize,
}

/// A whole answer.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names as sent.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// The connection can be used again.
    pub(crate) is_reusable: bool,
}

/// Sends a request, head and body, and reads its answer. The caller bounds the time.
///
/// # Errors
/// The connection's, or that the answer is no HTTP or too large.
pub(crate) async fn exchange(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    request: &[u8],
    to_head: bool,
    bounds: Bounds,
) -> io::Result<Answer> {
    /// A socket's buffer takes so much at once, even if nobody reads it.
    const SMALL: usize = 16 * 1024;
    if request.len() <= SMALL {
        stream.write_all(request).await?;
        stream.flush().await?;
        return answer(stream, to_head, bounds).await;
    }
    // A server may answer before it has read everything, and not read on.
    let (mut read, mut write) = tokio::io::split(stream);
    let sending = async {
        write.write_all(request).await?;
        write.flush().await
    };
    let mut sending = std::pin::pin!(sending);
    let mut answering = std::pin::pin!(answer(&mut read, to_head, bounds));
    let (sent, answer) = tokio::select! {
        biased;
        answer = &mut answering => (false, answer?),
        sent = &mut sending => (sent.is_ok(), answering.await?),
    };
    Ok(Answer {
        is_reusable: answer.is_reusable && sent,
        ..answer
    })
}

async fn answer(
    stream: &mut (impl AsyncRead + Unpin),
    to_head: bool,
    bounds: Bounds,
) -> io::Result<Answer> {
    let mut bytes = Vec::new();
    let mut head = ResponseHead::default();
    loop {
        if !bytes.is_empty() && is_head(&mut head, &bytes, to_head)? {
            if head.status >= 200 {
                break;
            }
            bytes.drain(..head.len);
            continue;
        }
        if bytes.len() > bounds.head {
            return Err(invalid("the head of the answer is too large"));
        }
        more(stream, &mut bytes).await?;
    }
    let mut answer = Answer {
        status: head.status,
        headers: fields(&head, &bytes),
        ..Answer::default()
    };
    let mut rest = bytes.split_off(head.len);
    let is_clean = match head.framing {
        Framing::None => rest.is_empty(),
        Framing::Length(length) => {
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            if length > bounds.body {
                return Err(too_large());
            }
            while rest.len() < length {
                more(stream, &mut rest).await?;
            }
            let is_clean = rest.len() == length;
            rest.truncate(length);
            answer.body = rest;
            is_clean
        }
        Framing::Chunked => chunks(stream, rest, &mut answer.body, bounds.body).await?,
        Framing::Close => {
            while rest.len() <= bounds.body {
                match more(stream, &mut rest).await {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
                    Err(error) => return Err(error),
                }
            }
            if rest.len() > bounds.body {
                return Err(too_large());
            }
            answer.body = rest;
            false
        }
    };
    answer.is_reusable = is_clean && head.persistent;
    Ok(answer)
}

fn is_head(head: &mut ResponseHead, bytes: &[u8], to_head: bool) -> io::Result<bool> {
    head.parse(bytes, to_head)
        .map_err(|_| invalid("the answer is not valid HTTP"))
}

fn fields(head: &ResponseHead, bytes: &[u8]) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let fields = head.fields.list.iter();
    fields
        .map(|field| (text(field.name.get(bytes)), text(field.value.get(bytes))))
        .collect()
}

/// Reads a chunked body, its trailers too; `rest` was read already. Whether nothing came after.
async fn chunks(
    stream: &mut (impl AsyncRead + Unpin),
    mut rest: Vec<u8>,
    body: &mut Vec<u8>,
    most: usize,
) -> io::Result<bool> {
    /// A line of a size, with extensions, or of a trailer.
    const LONGEST_LINE: usize = 8 * 1024;
    loop {
        let line = line(stream, &mut rest, LONGEST_LINE).await?;
        let size = line.split(|byte| *byte == b';').next().unwrap_or_default();
        let size = std::str::from_utf8(size).ok().map(str::trim_ascii);
        let size = size.filter(|size| size.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let size = size.and_then(|size| usize::from_str_radix(size, 16).ok());
        let size = size.ok_or_else(|| invalid("a chunk of the answer has no size"))?;
        if size == 0 {
            break;
        }
        if size > most.saturating_sub(body.len()) {
            return Err(too_large());
        }
        while rest.len() < size + 2 {
            more(stream, &mut rest).await?;
        }
        body.extend_from_slice(&rest[..size]);
        if &rest[size..size + 2] != b"\r\n" {
            return Err(invalid("a chunk of the answer has no end"));
        }
        rest.drain(..size + 2);
    }
    for _ in 0..100 {
        if line(stream, &mut rest, LONGEST_LINE).await?.is_empty() {
            return Ok(rest.is_empty());
        }
    }
    Err(too_large())
}

async fn line(
    stream: &mut (impl AsyncRead + Unpin),
    rest: &mut Vec<u8>,
    longest: usize,
) -> io::Result<Vec<u8>> {
    loop {
        if let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") {
            let line = rest[..end].to_vec();
            rest.drain(..end + 2);
            return Ok(line);
        }
        if rest.len() > longest {
            return Err(too_large());
        }
        more(stream, rest).await?;
    }
}

async fn more(stream: &mut (impl AsyncRead + Unpin), bytes: &mut Vec<u8>) -> io::Result<()> {
    bytes.reserve(4096);
    match stream.read_buf(bytes).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

fn too_large() -> io::Error {
    invalid("the answer is too large")
}

fn invalid(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}
