//! The floor under every proxy: bytes from one socket to another and back, one thread, no splice.

use std::net::Ipv4Addr;

use tokio::net::{TcpListener, TcpStream};

/// As many as a read takes.
const BUFFER: usize = 256 * 1024;

/// Serves until killed.
pub fn serve(port: u16, origin: u16) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        loop {
            let (client, _) = listener.accept().await?;
            tokio::task::spawn_local(both(client, origin));
        }
    })
}

async fn both(mut client: TcpStream, origin: u16) -> std::io::Result<()> {
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, origin)).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    tokio::io::copy_bidirectional_with_sizes(&mut client, &mut server, BUFFER, BUFFER).await?;
    Ok(())
}
