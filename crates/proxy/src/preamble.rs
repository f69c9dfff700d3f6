//! The PROXY protocol, versions 1 and 2: who connected to the balancer in front of us.
//!
//! It is read on listeners that are told to, and required there unless they say otherwise: a client
//! that could leave it out could also claim any address. What it says of other families than TCP over IP is skipped.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// Begins every header of version 2.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Begins every header of version 1.
const PROXY: &[u8] = b"PROXY ";
/// Between two looks at the beginning of what may be a header.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
/// The shortest header of version 1, `PROXY UNKNOWN` and the end of the line. It is shorter than
/// any of version 2, so this much is always the header's.
const SHORTEST: usize = 15;
/// The longest line of version 1, with its end.
const LONGEST_LINE: usize = 107;
/// Bytes of addresses and extensions in version 2.
const MAX_EXTENSIONS: usize = 4096;

/// Why there is no header.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PreambleError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("no PROXY protocol header: {0}")]
    Invalid(&'static str),
}

use PreambleError::Invalid;

/// Whether what comes is a header, as far as its first bytes tell. Nothing is taken from the
/// socket; bytes that could become one are waited for. The caller bounds the time.
pub(crate) async fn begins(socket: &TcpStream) -> io::Result<bool> {
    let mut ahead = [0; SIGNATURE.len()];
    let mut pause = SHORTEST_PAUSE;
    loop {
        let count = socket.peek(&mut ahead).await?;
        let seen = &ahead[..count];
        let is_whole = seen.starts_with(PROXY) || seen == SIGNATURE;
        let may_become = PROXY.starts_with(seen) || SIGNATURE.starts_with(seen);
        // Without any byte the client has gone.
        if is_whole || seen.is_empty() || !may_become {
            return Ok(is_whole);
        }
        // A socket that holds a part of it is ready at once, again and again.
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Reads the header and nothing past it. Returns the client's address, or `None` if the balancer
/// speaks for itself or does not say. The caller bounds the time.
pub(crate) async fn read(socket: &mut TcpStream) -> Result<Option<SocketAddr>, PreambleError> {
    let mut head = [0; SHORTEST];
    socket.read_exact(&mut head).await?;
    if head.starts_with(&SIGNATURE) {
        let low = socket.read_u8().await?;
        let length = usize::from(u16::from_be_bytes([head[14], low]));
        if length > MAX_EXTENSIONS {
            return Err(Invalid("its extensions are too long"));
        }
        let mut rest = vec![0; length];
        socket.read_exact(&mut rest).await?;
        return version2(head[12], head[13], &rest);
    }
    if !head.starts_with(PROXY) {
        return Err(Invalid("it begins otherwise"));
    }
    let mut line = head.to_vec();
    // What is peeked at before the end of the line is the header's, and is taken at once.
    while !line.ends_with(b"\r\n") {
        let mut ahead = [0; LONGEST_LINE];
        let room = LONGEST_LINE - line.len();
        if room == 0 {
            return Err(Invalid("its line is too long"));
        }
        let count = socket.peek(&mut ahead[..room]).await?;
        let end = ahead[..count].iter().position(|byte| *byte == b'\n');
        let take = end.map_or(count, |end| end + 1);
        if take == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        socket.read_exact(&mut ahead[..take]).await?;
        line.extend_from_slice(&ahead[..take]);
        if end.is_some() && !line.ends_with(b"\r\n") {
            return Err(Invalid("its line ends without CR"));
        }
    }
    version1(&line[..line.len() - 2])
}

/// The same for a header that is there as a whole; called by tests and by a fuzz target.
#[cfg(any(test, fuzzing))]
pub(crate) fn fuzz(input: &[u8]) {
    match input {
        [0, line @ ..] => {
            if let Ok(Some(address)) = version1(line) {
                let family = if address.is_ipv4() { "TCP4" } else { "TCP6" };
                let again = format!("PROXY {family} {0} {0} {1} 1", address.ip(), address.port());
                let read = version1(again.as_bytes()).ok().flatten();
                assert_eq!(read, Some(address), "{again}");
            }
        }
        [_, command, family, rest @ ..] => {
            let read = version2(*command, *family, rest);
            let is_local = matches!(read, Ok(None)) && *command == 0x20;
            assert!(is_local || *command == 0x21 || read.is_err());
        }
        _ => {}
    }
}

fn version1(line: &[u8]) -> Result<Option<SocketAddr>, PreambleError> {
    let text = std::str::from_utf8(line).map_err(|_| Invalid("it is not text"))?;
    let fields: Vec<&str> = text.split(' ').collect();
    let is_four = match fields.get(1) {
        Some(&"UNKNOWN") => return Ok(None),
        Some(&"TCP4") => true,
        Some(&"TCP6") => false,
        _ => return Err(Invalid("its family is unknown")),
    };
    let [_, _, source, target, source_port, target_port] = fields[..] else {
        return Err(Invalid("it has not six fields"));
    };
    let address = |ip: &str, port: &str| {
        let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse().ok().filter(|_| is_number)?;
        let ip = if is_four {
            ip.parse::<Ipv4Addr>().ok()?.into()
        } else {
            ip.parse::<Ipv6Addr>().ok()?.into()
        };
        Some(SocketAddr::new(ip, port))
    };
    let both = address(source, source_port).zip(address(target, target_port));
    let (source, _) = both.ok_or(Invalid("it holds no address"))?;
    Ok(Some(source))
}

fn version2(command: u8, family: u8, rest: &[u8]) -> Result<Option<SocketAddr>, PreambleError> {
    match command {
        // The balancer itself, for example a health check.
        0x20 => return Ok(None),
        0x21 => {}
        _ => return Err(Invalid("its command is unknown")),
    }
    let address = match family {
        0x11 => match rest {
            [a, b, c, d, _, _, _, _, high, low, _, _, ..] => Some(SocketAddr::new(
                Ipv4Addr::new(*a, *b, *c, *d).into(),
                u16::from_be_bytes([*high, *low]),
            )),
            _ => return Err(Invalid("it is too short")),
        },
        0x21 => {
            let (Some(source), Some(port)) = (rest.first_chunk::<16>(), rest.get(32..36)) else {
                return Err(Invalid("it is too short"));
            };
            let port = u16::from_be_bytes([port[0], port[1]]);
            Some(SocketAddr::new(Ipv6Addr::from(*source).into(), port))
        }
        _ => None,
    };
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    /// What is read from a client that sends this, and what is left for whoever reads on.
    async fn sent(bytes: &[u8]) -> (Result<Option<SocketAddr>, String>, Vec<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let mut client = TcpStream::connect(address).await.expect("a connection");
        let (mut server, _) = listener.accept().await.expect("accepted");
        client.write_all(bytes).await.expect("sent");
        drop(client);
        let read = read(&mut server).await.map_err(|error| error.to_string());
        let mut left = Vec::new();
        // After a failure the connection may be reset.
        let _ = server.read_to_end(&mut left).await;
        (read, left)
    }

    fn version2_header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).expect("short").to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, rest].concat()
    }

    #[tokio::test]
    async fn both_versions_name_the_client_and_take_no_byte_of_the_request() {
        let address = |text: &str| Some(text.parse::<SocketAddr>().expect("an address"));
        let four = [
            &[192, 0, 2, 1, 198, 51, 100, 1, 0xdc, 0x04, 1, 0xbb][..],
            b"\x04\x00\x01x",
        ];
        let mut six = vec![0; 36];
        (six[0], six[15], six[32], six[33]) = (0xfe, 1, 0x1f, 0x90);
        for (header, expected) in [
            (
                b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n".to_vec(),
                address("192.0.2.1:56324"),
            ),
            (
                b"PROXY TCP6 fe00::1 ::2 8080 443\r\n".to_vec(),
                address("[fe00::1]:8080"),
            ),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN whatever this is\r\n".to_vec(), None),
            (
                version2_header(0x21, 0x11, &four.concat()),
                address("192.0.2.1:56324"),
            ),
            (version2_header(0x21, 0x21, &six), address("[fe00::1]:8080")),
            (version2_header(0x20, 0, b""), None),
            (version2_header(0x21, 0x31, &[0; 216]), None),
        ] {
            let (read, left) = sent(&[&header[..], b"GET / HTTP/1.1\r\n"].concat()).await;
            assert_eq!(
                (read, &left[..]),
                (Ok(expected), &b"GET / HTTP/1.1\r\n"[..])
            );
        }
    }

    #[tokio::test]
    async fn what_is_no_header_is_refused() {
        let long = [&b"PROXY TCP4 "[..], &[b'1'; 200]].concat();
        for bytes in [
            &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
            b"PROXY TCP4 192.0.2.1 198.51.100.1 56324\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.1 +1 443\r\n",
            b"PROXY TCP4 fe00::1 ::2 8080 443\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.1 1 65536\r\n",
            b"PROXY UDP4 192.0.2.1 198.51.100.1 1 2\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.1 1 2\n",
            b"PROXY TCP4 192.0.2",
            &long,
            &version2_header(0x22, 0x11, &[0; 12]),
            &version2_header(0x21, 0x11, &[0; 11]),
            &version2_header(0x21, 0x21, &[0; 35]),
            &version2_header(0x21, 0x11, &[0; 5000]),
        ] {
            let (read, _) = sent(bytes).await;
            assert!(read.is_err(), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            line in proptest::collection::vec(any::<u8>(), 0..120),
            command in any::<u8>(),
            family in any::<u8>(),
        ) {
            let _ = version1(&line);
            let _ = version2(command, family, &line);
        }
    }
}
