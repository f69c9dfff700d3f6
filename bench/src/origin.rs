//! The program behind every proxy: answers any request with 1 KB, one thread, kept alive.
//! `GET /bytes/N` is answered with N bytes; the body of a `PUT` is read first.

use std::net::Ipv4Addr;
use std::rc::Rc;

use anyhow::{Context, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const BODY: usize = 1024;
/// Larger bodies are sent and taken in parts of so many bytes.
const PART: usize = 256 * 1024;
static BYTES: [u8; PART] = [b'x'; PART];

/// Serves until killed. `is_named`: answers say which port it is.
pub fn serve(port: u16, is_named: bool) -> anyhow::Result<()> {
    let name = if is_named {
        format!("x-origin: {port}\r\n")
    } else {
        String::new()
    };
    let head = head(&name, BODY);
    let whole: Rc<[u8]> = [head.as_bytes(), &[b'x'; BODY]].concat().into();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::task::spawn_local(answer(stream, Rc::clone(&whole)));
        }
    })
}

fn head(name: &str, length: usize) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n{name}content-length: {length}\r\n\r\n")
}

async fn answer(mut stream: TcpStream, answer: Rc<[u8]>) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; 16 * 1024];
    let mut part = Vec::new();
    let mut filled = 0;
    loop {
        match stream.read(&mut buffer[filled..]).await? {
            0 => return Ok(()),
            read => filled += read,
        }
        while let Some(end) = buffer[..filled]
            .windows(4)
            .position(|window| window == b"\r\n\r\n")
        {
            let request = &buffer[..end];
            let mut used = end + 4;
            if let Some(path) = request.strip_prefix(b"GET /bytes/") {
                send(&mut stream, number(path)?).await?;
            } else {
                if request.starts_with(b"PUT ") {
                    let length = content_length(request)?;
                    used += length.min(filled - used);
                    take(&mut stream, &mut part, length - (used - end - 4)).await?;
                }
                stream.write_all(&answer).await?;
            }
            buffer.copy_within(used..filled, 0);
            filled -= used;
        }
        if filled == buffer.len() {
            bail!("the head is too long");
        }
    }
}

/// The number that a text begins with.
fn number(text: &[u8]) -> anyhow::Result<usize> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    Ok(std::str::from_utf8(&text[..digits])?.parse()?)
}

fn content_length(request: &[u8]) -> anyhow::Result<usize> {
    let text = std::str::from_utf8(request)?.to_ascii_lowercase();
    let mut fields = text.lines().filter_map(|line| line.split_once(':'));
    let field = fields.find(|(name, _)| *name == "content-length");
    Ok(field.context("no content-length")?.1.trim().parse()?)
}

async fn send(stream: &mut TcpStream, length: usize) -> anyhow::Result<()> {
    stream.write_all(head("", length).as_bytes()).await?;
    let mut left = length;
    while left > 0 {
        let next = left.min(PART);
        stream.write_all(&BYTES[..next]).await?;
        left -= next;
    }
    Ok(())
}

async fn take(stream: &mut TcpStream, part: &mut Vec<u8>, length: usize) -> anyhow::Result<()> {
    part.resize(PART, 0);
    let mut left = length;
    while left > 0 {
        let next = left.min(PART);
        match stream.read(&mut part[..next]).await? {
            0 => bail!("the body ended early"),
            read => left -= read,
        }
    }
    Ok(())
}
