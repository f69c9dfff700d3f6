//! A key set from where its issuer publishes it.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use http::Uri;
use routing::model::tls::{TlsVersion, TlsVersions, Trust, UpstreamTls};
use routing::model::{Crypto, Protocol};
use tokio::net::TcpStream;

use crate::guard::ask::{self, Bounds};
use crate::rare::rare;
use crate::tls;
use crate::transport::Transport;
use crate::worker::Worker;

/// Bytes of a key set; the well-known ones have a few thousand.
const LARGEST: usize = 512 * 1024;

/// The body of a 200. The caller bounds the time.
///
/// # Errors
/// What went wrong, for the log.
pub(super) async fn get(worker: &Rc<Worker>, uri: &str) -> Result<Vec<u8>, String> {
    let text = |error: io::Error| error.to_string();
    let parsed: Uri = uri.parse().map_err(|_| "it is no URI".to_owned())?;
    let host = parsed.host().ok_or("it has no host")?;
    let is_tls = match parsed.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err("its scheme is neither https nor http".to_owned()),
    };
    let port = parsed.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let name = host.trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((name, port)).await.map_err(text)?;
    let mut stream = if is_tls {
        let tls = Arc::new(UpstreamTls {
            server_name: name.into(),
            accepted_names: Vec::new(),
            trust: Trust::System,
            client: None,
            versions: TlsVersions {
                min: TlsVersion::V1_2,
                max: TlsVersion::V1_3,
            },
            crypto: Crypto::ANY,
        });
        let connecting = tls::connect(&worker.tls_clients, &tls, Protocol::Http1, stream);
        Transport::tls(rare(connecting).await.map_err(text)?)
    } else {
        Transport::Plain(stream)
    };
    let target = parsed
        .path_and_query()
        .map_or("/", |target| target.as_str());
    let authority = parsed
        .authority()
        .map_or(host, |authority| authority.as_str());
    let request = format!(
        "GET {target} HTTP/1.1\r\nHost: {authority}\r\nAccept: application/json\r\n\
         User-Agent: suimon\r\nConnection: close\r\n\r\n"
    );
    let bounds = Bounds {
        head: worker.limits.head_bytes,
        body: LARGEST,
    };
    let asking = ask::exchange(&mut stream, request.as_bytes(), false, bounds);
    let answer = rare(asking).await.map_err(text)?;
    match answer.status {
        200 => Ok(answer.body),
        status => Err(format!("the answer has status {status}")),
    }
}
