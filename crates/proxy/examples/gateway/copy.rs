//! Bytes from one socket to another and back.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, tcp};

/// As many as a read takes: large bodies reach the floor with this.
const BUFFER: usize = 256 * 1024;

/// Accepts until it fails.
pub(crate) async fn serve(listen: SocketAddr, origin: SocketAddr) -> Result<(), crate::Error> {
    let listener = TcpListener::bind(listen).await?;
    loop {
        let (client, _) = listener.accept().await?;
        tokio::task::spawn_local(both(client, origin));
    }
}

async fn both(mut client: TcpStream, origin: SocketAddr) -> io::Result<()> {
    let mut server = TcpStream::connect(origin).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    tokio::try_join!(one(from_client, to_server), one(from_server, to_client))?;
    Ok(())
}

async fn one(mut from: tcp::ReadHalf<'_>, mut to: tcp::WriteHalf<'_>) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..count]).await?;
    }
}
