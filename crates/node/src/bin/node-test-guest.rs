//! A small HTTP server for this crate's tests: what a user's program would be.
//!
//! `GET /env/NAME` answers with a variable, `/fail` makes `/health` fail from then on, `/exit/N`
//! ends the program with that code, anything else says hello. It listens on `$PORT`.

#![allow(clippy::disallowed_methods)] // A guest of tests: it reads its environment as programs do.
#![allow(clippy::print_stdout)] // Its output is what log tests read.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};

static HEALTHY: AtomicBool = AtomicBool::new(true);

fn main() -> std::io::Result<()> {
    let port = std::env::var("PORT")
        .ok()
        .and_then(|port| port.parse().ok())
        .unwrap_or(8080);
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    println!("listening on {port}");
    for stream in listener.incoming() {
        // A client that went away, such as a TCP probe, is nobody's problem.
        let _ = answer(stream?);
    }
    Ok(())
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line)?;
    let path = line.split(' ').nth(1).unwrap_or("/");
    let (status, body) = match path.split('/').collect::<Vec<_>>().as_slice() {
        ["", "env", name] => (200, std::env::var(name).unwrap_or_default()),
        ["", "fail"] => {
            HEALTHY.store(false, Ordering::Relaxed);
            (200, "failing".to_owned())
        }
        ["", "exit", code] => {
            println!("asked to exit with {code}");
            std::process::exit(code.parse().unwrap_or(1))
        }
        ["", "health"] if !HEALTHY.load(Ordering::Relaxed) => (500, "sick".to_owned()),
        _ => (200, "hello".to_owned()),
    };
    write!(
        stream,
        "HTTP/1.1 {status} OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}
