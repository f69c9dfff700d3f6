//! The sample program behind the image `suimon.dev/samples/hello`.
//!
//! It listens on `$PORT` and answers `Hello $TARGET!`. It is part of this binary so that the
//! first `suimon up` needs nothing else; it uses threads and the standard library only, so that
//! it starts at once. `/sleep?ms=N` answers after N ms (at most 60,000), to try scaling.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

/// First argument that selects this role.
pub const ROLE: &str = "__sample-hello";
/// The image name under which the store offers this program.
pub const IMAGE: &str = "suimon.dev/samples/hello";

/// Longest head and body that the sample reads, in bytes.
const LIMIT: u64 = 1 << 20;

/// Serves until killed.
pub fn main() -> ExitCode {
    let port = std::env::var("PORT")
        .ok()
        .and_then(|port| port.parse().ok())
        .unwrap_or(8080_u16);
    let target = std::env::var("TARGET").unwrap_or_else(|_| "World".to_owned());
    let listener = match TcpListener::bind(("0.0.0.0", port)) {
        Ok(listener) => listener,
        Err(error) => {
            println!("cannot listen on port {port}: {error}");
            return ExitCode::FAILURE;
        }
    };
    println!("listening on port {port}");
    for stream in listener.incoming().flatten() {
        let body = format!("Hello {target}!\n");
        std::thread::spawn(move || serve(stream, &body));
    }
    ExitCode::SUCCESS
}

/// Answers the requests of one connection until it closes; any error ends the connection.
fn serve(stream: TcpStream, body: &str) {
    let _ = stream.set_nodelay(true);
    let Ok(mut writer) = stream.try_clone() else {
        return;
    };
    let mut reader = BufReader::new(stream);
    while let Some(request) = read_request(&mut reader) {
        if let Some(pause) = request.pause {
            std::thread::sleep(pause);
        }
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\n\r\n{}",
            body.len(),
            if request.head { "" } else { body },
        );
        if writer.write_all(answer.as_bytes()).is_err() || request.close {
            return;
        }
    }
}

struct Request {
    head: bool,
    close: bool,
    pause: Option<Duration>,
}

fn read_request(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut head = reader.take(LIMIT);
    let mut line = String::new();
    head.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let mut parts = line.split_whitespace();
    let (method, path) = (parts.next()?, parts.next()?);
    let pause = path
        .strip_prefix("/sleep?ms=")
        .and_then(|ms| ms.parse::<u64>().ok());
    let mut request = Request {
        head: method == "HEAD",
        close: parts.next() == Some("HTTP/1.0"),
        pause: pause.map(|ms| Duration::from_millis(ms.min(60_000))),
    };
    let mut length = 0;
    loop {
        let mut line = String::new();
        head.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let header = line.trim_end().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        request.close |= header == "connection: close" || header.starts_with("transfer-encoding:");
    }
    std::io::copy(
        &mut reader.take(u64::min(length, LIMIT)),
        &mut std::io::sink(),
    )
    .ok()?;
    Some(request)
}
