//! The program behind every proxy: answers any request with 1 KB, one thread, kept alive.

use std::net::Ipv4Addr;
use std::rc::Rc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const BODY: usize = 1024;

/// Serves until killed. `is_named`: answers say which port it is.
pub fn serve(port: u16, is_named: bool) -> anyhow::Result<()> {
    let name = if is_named {
        format!("x-origin: {port}\r\n")
    } else {
        String::new()
    };
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n{name}content-length: {BODY}\r\n\r\n"
    );
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

async fn answer(mut stream: TcpStream, answer: Rc<[u8]>) {
    let _ = stream.set_nodelay(true);
    let mut buffer = vec![0; 16 * 1024];
    let mut filled = 0;
    loop {
        match stream.read(&mut buffer[filled..]).await {
            Ok(read) if read > 0 => filled += read,
            _ => return,
        }
        while let Some(end) = buffer[..filled]
            .windows(4)
            .position(|window| window == b"\r\n\r\n")
        {
            if stream.write_all(&answer).await.is_err() {
                return;
            }
            buffer.copy_within(end + 4..filled, 0);
            filled -= end + 4;
        }
        if filled == buffer.len() {
            return;
        }
    }
}
