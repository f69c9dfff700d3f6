//! One HTTP/1.1 GET for a probe. Only the status line of the answer is read.
//!
//! As for the kubelet, 200 to 399 is success; redirects are not followed, since a server that
//! answers with one is up.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longest status line that is read.
const LONGEST_LINE: usize = 4 * 1024;

/// Succeeds if the server answers with a status from 200 to 399. The caller bounds the time.
pub(super) async fn get(
    address: SocketAddr,
    host: Option<&str>,
    path: &str,
    headers: &[(String, String)],
) -> Result<(), String> {
    let request = request(address, host, path, headers)?;
    let mut stream = TcpStream::connect(address)
        .await
        .map_err(|error| format!("dial tcp {address}: {error}"))?;
    stream
        .write_all(request.as_bytes())
        .await
        .map_err(|error| format!("GET {path}: {error}"))?;
    let status = status(&mut stream)
        .await
        .map_err(|error| format!("GET {path}: {error}"))?;
    if (200..400).contains(&status) {
        return Ok(());
    }
    Err(format!("HTTP probe failed with statuscode: {status}"))
}

fn request(
    address: SocketAddr,
    host: Option<&str>,
    path: &str,
    headers: &[(String, String)],
) -> Result<String, String> {
    let slash = if path.starts_with('/') { "" } else { "/" };
    let host = host.map_or_else(|| address.to_string(), str::to_owned);
    let mut request =
        format!("GET {slash}{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
    let given = |name: &str| {
        headers
            .iter()
            .any(|(known, _)| known.eq_ignore_ascii_case(name))
    };
    if !given("User-Agent") {
        request.push_str("User-Agent: kube-probe/1.36\r\n");
    }
    if !given("Accept") {
        request.push_str("Accept: */*\r\n");
    }
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    let lines =
        headers.len() + 4 + usize::from(!given("User-Agent")) + usize::from(!given("Accept"));
    // A line break inside a value would smuggle headers.
    match request.matches(['\r', '\n']).count() == 2 * lines && !path.contains(' ') {
        true => Ok(request),
        false => Err(
            "the probe's path, host or headers hold a space or line break where none may be"
                .to_owned(),
        ),
    }
}

async fn status(stream: &mut TcpStream) -> Result<u16, String> {
    let mut line = Vec::with_capacity(256);
    while !line.contains(&b'\n') {
        if line.len() > LONGEST_LINE {
            return Err("the answer does not start with a status line".to_owned());
        }
        if stream
            .read_buf(&mut line)
            .await
            .map_err(|error| error.to_string())?
            == 0
        {
            return Err("the server closed the connection without an answer".to_owned());
        }
    }
    let text = String::from_utf8_lossy(&line);
    let status = text
        .strip_prefix("HTTP/")
        .and_then(|rest| rest.split(' ').nth(1))
        .and_then(|code| code.get(..3)?.parse().ok());
    status.ok_or_else(|| "the answer is not HTTP/1".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_the_probe_s_host_and_headers_and_refuses_line_breaks() {
        let address = "127.0.0.1:80".parse().expect("an address");
        let header = |value: &str| vec![("X-A".to_owned(), value.to_owned())];
        let text =
            request(address, Some("example.com"), "healthz?x=1", &header("1")).expect("valid");
        assert!(
            text.starts_with("GET /healthz?x=1 HTTP/1.1\r\nHost: example.com\r\n"),
            "{text}"
        );
        assert!(text.contains("\r\nX-A: 1\r\n"));
        assert!(request(address, None, "/", &header("1\r\nX-B: 2")).is_err());
        assert!(request(address, None, "/ HTTP/1.1", &[]).is_err());
    }
}
