//! What tokio's sockets do not offer: sockets of one address that several threads open, and
//! looking at a socket without reading from it.
//!
//! The only module of this crate that may say `unsafe`: `SO_REUSEPORT` has to be set between
//! `bind` and `listen`, peeking needs a flag, and who hands over a descriptor must own it.
#![allow(unsafe_code)]

use std::io;
use std::mem::{size_of, size_of_val};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr::from_ref;
use std::time::Duration;

use routing::model::KeepAlive;
use tokio::io::unix::AsyncFd;
use tokio::net::TcpStream;

/// Connections that wait to be accepted. The kernel lowers it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;
/// Questions without an answer that end a silent connection, and the seconds between them.
#[cfg(target_os = "linux")]
const PROBES: u32 = 4;
#[cfg(target_os = "linux")]
const PROBE_PAUSE: i32 = 15;
/// Whether sockets of one address cannot have queues of their own.
const SHARES_QUEUE: bool = !cfg!(target_os = "linux");

/// Binds `count` non-blocking listeners to one address: each with its own accept queue where the
/// system balances between them, else sharing one.
///
/// # Errors
/// Whatever `socket`, `bind` and `listen` say, for example that the port is taken.
pub(crate) fn listen(address: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    // Bound without `SO_REUSEPORT`, so that a port that somebody serves already is an error even
    // if they share it with themselves. Port 0 is resolved here.
    let first = TcpListener::from(bind(address, libc::SOCK_STREAM, false)?);
    start(&first)?;
    let address = first.local_addr()?;
    let mut listeners = vec![first];
    while listeners.len() < count {
        listeners.push(if SHARES_QUEUE {
            listeners[0].try_clone()?
        } else {
            let listener = TcpListener::from(bind(address, libc::SOCK_STREAM, true)?);
            start(&listener)?;
            listener
        });
    }
    Ok(listeners)
}

/// Binds `count` non-blocking sockets for datagrams to one address. Where the system balances
/// between them, the datagrams of one client come to one of them as long as all are open.
///
/// # Errors
/// Whatever `socket` and `bind` say, for example that the port is taken.
pub(crate) fn datagrams(address: SocketAddr, count: usize) -> io::Result<Vec<UdpSocket>> {
    let first = UdpSocket::from(bind(address, libc::SOCK_DGRAM, false)?);
    first.set_nonblocking(true)?;
    let address = first.local_addr()?;
    let mut sockets = vec![first];
    // Elsewhere one thread has them all: another would take the datagrams of its sessions.
    while sockets.len() < count && !SHARES_QUEUE {
        let socket = UdpSocket::from(bind(address, libc::SOCK_DGRAM, true)?);
        socket.set_nonblocking(true)?;
        sockets.push(socket);
    }
    Ok(sockets)
}

/// Has the kernel choose among sockets that share an address, in the order in which they were bound,
/// by a byte of each datagram: what is left of it when it is divided by their number. The byte is
/// at `near`, or at `far` if the highest bit of the datagram's first byte is set.
///
/// # Errors
/// The kernel does not take the program.
#[cfg(all(feature = "http3", target_os = "linux"))]
pub(crate) fn steer(sockets: &[UdpSocket], (near, far): (u8, u8)) -> io::Result<()> {
    let Some(first) = sockets.first() else {
        return Ok(());
    };
    let step = |code: u32, (jt, jf): (u8, u8), k: u32| libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    let load = libc::BPF_LD | libc::BPF_B | libc::BPF_ABS;
    let mut program = [
        step(load, (0, 0), 0),
        step(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, (0, 2), 0x80),
        step(load, (0, 0), far.into()),
        step(libc::BPF_JMP | libc::BPF_JA, (0, 0), 1),
        step(load, (0, 0), near.into()),
        step(
            libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K,
            (0, 0),
            sockets.len() as u32,
        ),
        step(libc::BPF_RET | libc::BPF_A, (0, 0), 0),
    ];
    let program = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: pointer and length describe `program`, and so do those in it; the kernel copies both.
    check(unsafe {
        libc::setsockopt(
            first.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            from_ref(&program).cast(),
            size_of_val(&program) as libc::socklen_t,
        )
    })?;
    Ok(())
}

/// Waits for a descriptor in the thread's event loop.
///
/// # Errors
/// The event loop takes no more.
pub(crate) fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open as long as it lives, and is always the same.
    Ok(unsafe { AsyncFd::register(fd) }?)
}

/// Whether a read would find nothing: neither bytes nor the end of the stream.
pub(crate) fn is_quiet(stream: &TcpStream) -> bool {
    let mut byte = 0u8;
    // SAFETY: the buffer is one byte long and lives across the call.
    let count = unsafe {
        libc::recv(
            stream.as_raw_fd(),
            (&raw mut byte).cast(),
            1,
            libc::MSG_PEEK | libc::MSG_DONTWAIT,
        )
    };
    count < 0 && io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock
}

/// Whether the peer has ended its direction or the connection failed, whatever is still unread.
pub(crate) fn is_closed_by_peer(stream: &TcpStream) -> bool {
    // The system's own name for the event is not the same everywhere.
    #[cfg(target_os = "linux")]
    const CLOSED: i16 = libc::POLLRDHUP;
    #[cfg(not(target_os = "linux"))]
    const CLOSED: i16 = 0;
    let mut poll = libc::pollfd {
        fd: stream.as_raw_fd(),
        events: CLOSED,
        revents: 0,
    };
    // SAFETY: the pointer is to one entry that lives across the call; no waiting.
    let count = unsafe { libc::poll(&raw mut poll, 1, 0) };
    count > 0 && poll.revents & (CLOSED | libc::POLLERR | libc::POLLHUP) != 0
}

fn bind(address: SocketAddr, kind: i32, joins: bool) -> io::Result<OwnedFd> {
    let domain = if address.is_ipv4() {
        libc::AF_INET
    } else {
        libc::AF_INET6
    };
    // SAFETY: no pointers; the result is checked before it is owned.
    let fd = check(unsafe { libc::socket(domain, kind, 0) })?;
    // SAFETY: `fd` was just made and nobody else owns it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: no pointers.
    check(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    // Of datagrams it would let several have one port.
    if kind == libc::SOCK_STREAM {
        enable(&socket, libc::SO_REUSEADDR)?;
    }
    if joins {
        enable(&socket, libc::SO_REUSEPORT)?;
    }
    match address {
        SocketAddr::V4(address) => {
            // SAFETY: all-zero is a valid `sockaddr_in`.
            let mut raw: libc::sockaddr_in = unsafe { std::mem::zeroed() };
            raw.sin_family = libc::AF_INET as libc::sa_family_t;
            raw.sin_port = address.port().to_be();
            raw.sin_addr.s_addr = u32::from_ne_bytes(address.ip().octets());
            // SAFETY: pointer and length describe `raw`.
            check(unsafe {
                libc::bind(
                    fd,
                    from_ref(&raw).cast(),
                    size_of_val(&raw) as libc::socklen_t,
                )
            })?;
        }
        SocketAddr::V6(address) => {
            // SAFETY: all-zero is a valid `sockaddr_in6`.
            let mut raw: libc::sockaddr_in6 = unsafe { std::mem::zeroed() };
            raw.sin6_family = libc::AF_INET6 as libc::sa_family_t;
            raw.sin6_port = address.port().to_be();
            raw.sin6_addr.s6_addr = address.ip().octets();
            raw.sin6_scope_id = address.scope_id();
            // SAFETY: pointer and length describe `raw`.
            check(unsafe {
                libc::bind(
                    fd,
                    from_ref(&raw).cast(),
                    size_of_val(&raw) as libc::socklen_t,
                )
            })?;
        }
    }
    if !joins && cfg!(target_os = "linux") {
        enable(&socket, libc::SO_REUSEPORT)?;
    }
    Ok(socket)
}

fn start(listener: &TcpListener) -> io::Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::listen(listener.as_raw_fd(), BACKLOG) })?;
    listener.set_nonblocking(true)
}

fn enable(socket: &impl AsRawFd, option: i32) -> io::Result<()> {
    set(socket, (libc::SOL_SOCKET, option), 1)
}

fn set(socket: &impl AsRawFd, (level, option): (i32, i32), value: i32) -> io::Result<()> {
    let length = size_of::<i32>() as libc::socklen_t;
    // SAFETY: pointer and length describe `value`.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            from_ref(&value).cast(),
            length,
        )
    })?;
    Ok(())
}

/// Has the kernel ask the other end of a silent connection for a sign of life, and end the
/// connection if there is none. What a listener accepts is as the listener.
///
/// # Errors
/// Whatever `setsockopt` says.
pub(crate) fn keep_alive(socket: &impl AsRawFd, how: KeepAlive) -> io::Result<()> {
    enable(socket, libc::SO_KEEPALIVE)?;
    #[cfg(target_os = "linux")]
    {
        // The kernel's own bounds.
        let seconds = |time: Duration| time.as_secs().clamp(1, 32_767) as i32;
        let of_tcp = |option, value| set(socket, (libc::IPPROTO_TCP, option), value);
        if let Some(time) = how.time {
            of_tcp(libc::TCP_KEEPIDLE, seconds(time))?;
        }
        let pause = how.interval.map_or(PROBE_PAUSE, seconds);
        of_tcp(libc::TCP_KEEPINTVL, pause)?;
        let probes = how.probes.unwrap_or(PROBES).clamp(1, 127);
        of_tcp(libc::TCP_KEEPCNT, probes as i32)?;
    }
    Ok(())
}

/// Probes after this silence.
pub(crate) fn probed_after(time: Duration) -> KeepAlive {
    KeepAlive {
        time: Some(time),
        ..KeepAlive::default()
    }
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_listeners_share_a_port_but_not_with_strangers() {
        let ours = listen(([127, 0, 0, 1], 0).into(), 3).expect("a free port");
        let address = ours[0].local_addr().expect("bound");
        assert!(
            ours.iter()
                .all(|listener| listener.local_addr().expect("bound") == address)
        );
        let error = listen(address, 2).expect_err("the port is taken");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    /// The number that an option of a socket has.
    fn option(socket: &impl AsRawFd, level: i32, option: i32) -> i32 {
        let (mut value, mut length) = (0_i32, size_of::<i32>() as libc::socklen_t);
        // SAFETY: pointer and length describe `value`.
        check(unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                level,
                option,
                (&raw mut value).cast(),
                &raw mut length,
            )
        })
        .expect("an option");
        value
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn what_a_listener_accepts_is_probed_as_the_listener_says() {
        let listener = listen(([127, 0, 0, 1], 0).into(), 1)
            .expect("a port")
            .remove(0);
        keep_alive(&listener, probed_after(Duration::from_secs(7))).expect("a socket");
        listener.set_nonblocking(false).expect("a socket");
        let _client = std::net::TcpStream::connect(listener.local_addr().expect("bound"));
        let (accepted, _) = listener.accept().expect("a client");
        let tcp = |name| option(&accepted, libc::IPPROTO_TCP, name);
        assert_eq!(option(&accepted, libc::SOL_SOCKET, libc::SO_KEEPALIVE), 1);
        assert_eq!(
            [libc::TCP_KEEPIDLE, libc::TCP_KEEPINTVL, libc::TCP_KEEPCNT].map(tcp),
            [7, PROBE_PAUSE, PROBES as i32]
        );
    }

    #[test]
    fn several_sockets_for_datagrams_share_a_port_but_not_with_strangers() {
        let ours = datagrams(([127, 0, 0, 1], 0).into(), 3).expect("a free port");
        let address = ours[0].local_addr().expect("bound");
        assert!(
            ours.iter()
                .all(|socket| socket.local_addr().expect("bound") == address)
        );
        let error = datagrams(address, 2).expect_err("the port is taken");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        // TCP has ports of its own; any one of them may be in use.
        let others = (0..20).map(|_| datagrams(([127, 0, 0, 1], 0).into(), 1).expect("a port"));
        let mut addresses = others.map(|sockets| sockets[0].local_addr().expect("bound"));
        assert!(addresses.any(|address| listen(address, 1).is_ok()));
    }
}
