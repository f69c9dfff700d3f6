//! `grpc.health.v1.Health/Check` over HTTP/2 without TLS.
//!
//! Request and answer have one field each, so their protobuf encoding is written out here.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderValue, Request};
use tokio::net::TcpStream;

/// `HealthCheckResponse.ServingStatus.SERVING`.
const SERVING: u8 = 1;

/// Succeeds if the server says SERVING. The caller bounds the time.
pub(super) async fn check(address: SocketAddr, service: &str) -> Result<(), String> {
    let stream = TcpStream::connect(address)
        .await
        .map_err(|error| format!("dial tcp {address}: {error}"))?;
    let (client, connection) = h2::client::handshake(stream)
        .await
        .map_err(|error| format!("not HTTP/2: {error}"))?;
    let call = call(client, address, service);
    tokio::select! {
        result = call => result,
        ended = connection => Err(match ended {
            Ok(()) => "the server closed the connection".to_owned(),
            Err(error) => format!("HTTP/2: {error}"),
        }),
    }
}

async fn call(
    client: h2::client::SendRequest<Bytes>,
    address: SocketAddr,
    service: &str,
) -> Result<(), String> {
    let h2_failed = |error: h2::Error| format!("gRPC: {error}");
    let mut client = client.ready().await.map_err(h2_failed)?;
    let request = Request::post(format!("http://{address}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "kube-probe/1.36")
        .body(())
        .map_err(|error| error.to_string())?;
    let (answer, mut body) = client.send_request(request, false).map_err(h2_failed)?;
    body.send_data(message(service), true).map_err(h2_failed)?;
    let (head, mut body) = answer.await.map_err(h2_failed)?.into_parts();
    let mut bytes = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.map_err(h2_failed)?;
        // A health answer has 7 bytes; what is longer is not read, nor is more window given.
        bytes.extend_from_slice(&data[..data.len().min(64_usize.saturating_sub(bytes.len()))]);
    }
    let trailers = body.trailers().await.map_err(h2_failed)?;
    let status = head
        .headers
        .get("grpc-status")
        .or_else(|| trailers.as_ref()?.get("grpc-status"))
        .cloned();
    verdict(status.as_ref(), &bytes)
}

/// gRPC frame around `HealthCheckRequest { service = 1 }`.
fn message(service: &str) -> Bytes {
    let mut field = Vec::new();
    if !service.is_empty() {
        field.push(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            field.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        field.push(length as u8);
        field.extend_from_slice(service.as_bytes());
    }
    let mut frame = vec![0];
    frame.extend_from_slice(&u32::try_from(field.len()).unwrap_or(u32::MAX).to_be_bytes());
    frame.extend_from_slice(&field);
    frame.into()
}

fn verdict(status: Option<&HeaderValue>, bytes: &[u8]) -> Result<(), String> {
    match status.and_then(|value| value.to_str().ok()) {
        Some("0") => {}
        Some("12") => {
            return Err(
                "this server does not implement the grpc health protocol (grpc.health.v1.Health)"
                    .to_owned(),
            );
        }
        Some("5") => return Err("the server does not know this health service".to_owned()),
        Some(code) => return Err(format!("health check failed with gRPC status {code}")),
        None => return Err("the answer is not gRPC: it has no grpc-status".to_owned()),
    }
    // Frame of 5 bytes, then `HealthCheckResponse { status = 1 }`; a missing field is UNKNOWN.
    match bytes.get(5..7) {
        Some([0x08, SERVING]) => Ok(()),
        Some([0x08, other]) => Err(format!(
            "service unhealthy (responded with serving status {other})"
        )),
        _ => Err("service unhealthy (responded with status UNKNOWN)".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_and_answers_have_the_health_protocol_s_encoding() {
        assert_eq!(message("").as_ref(), [0, 0, 0, 0, 0]);
        assert_eq!(message("ab").as_ref(), [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        let ok = HeaderValue::from_static("0");
        assert!(verdict(Some(&ok), &[0, 0, 0, 0, 2, 8, 1]).is_ok());
        assert!(verdict(Some(&ok), &[0, 0, 0, 0, 2, 8, 2]).is_err());
        assert!(verdict(Some(&ok), &[0, 0, 0, 0, 0]).is_err());
        assert!(verdict(None, &[0, 0, 0, 0, 2, 8, 1]).is_err());
        assert!(verdict(Some(&HeaderValue::from_static("12")), &[]).is_err());
    }
}
