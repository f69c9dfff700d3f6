//! Connections into pods, for port-forward.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;

/// How long a pod may take to accept a connection.
const PATIENCE: Duration = Duration::from_secs(10);

/// Connects from the machine.
pub(super) async fn connect(address: SocketAddr) -> Result<TcpStream, String> {
    let connected = tokio::time::timeout(PATIENCE, TcpStream::connect(address)).await;
    let stream = connected
        .map_err(|_| format!("no answer from {address} within {PATIENCE:?}"))?
        .map_err(|error| format!("cannot connect to {address}: {error}"))?;
    // What is typed should not wait for more.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

/// Connects to the loopback address of a network namespace, named by a path; `None` is the
/// machine's own. IPv4 first, as the kubelet.
#[cfg(target_os = "linux")]
pub(super) async fn connect_inside(
    namespace: Option<std::path::PathBuf>,
    port: u16,
) -> Result<TcpStream, String> {
    use std::net::{Ipv4Addr, Ipv6Addr};

    let (tell, connected) = tokio::sync::oneshot::channel();
    // A thread of its own: a namespace is a thread's, and this one must not be used again.
    let thread = std::thread::Builder::new().name("port-forward".to_owned());
    let started = thread.spawn(move || {
        let four = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
        let six = SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port);
        let stream = enter(namespace).and_then(|()| {
            let first = std::net::TcpStream::connect_timeout(&four, PATIENCE);
            first.or_else(|one| {
                std::net::TcpStream::connect_timeout(&six, PATIENCE)
                    .map_err(|two| format!("cannot connect to {four}: {one}, nor to {six}: {two}"))
            })
        });
        // Nobody waits if the client has left.
        let _ = tell.send(stream);
    });
    started.map_err(|error| format!("cannot start a thread: {error}"))?;
    let stream = connected
        .await
        .map_err(|_| "the thread that connects has ended".to_owned())??;
    stream
        .set_nonblocking(true)
        .and_then(|()| TcpStream::from_std(stream))
        .and_then(|stream| stream.set_nodelay(true).map(|()| stream))
        .map_err(|error| format!("cannot use the connection: {error}"))
}

#[cfg(target_os = "linux")]
fn enter(namespace: Option<std::path::PathBuf>) -> Result<(), String> {
    let Some(path) = namespace else {
        return Ok(());
    };
    std::fs::File::open(path)
        .and_then(|namespace| crate::sys::enter_network_namespace(&namespace))
        .map_err(|error| format!("cannot enter the pod's network: {error}"))
}
