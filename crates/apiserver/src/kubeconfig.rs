//! The kubeconfig file: everything a client needs, and readable by the owner only.

use std::net::SocketAddr;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::server::Error;
use crate::tls::{Credentials, write_private};

/// Writes the kubeconfig for a server at `address`, with one context named `suimon`.
pub(crate) fn write(
    path: &Path,
    address: SocketAddr,
    credentials: &Credentials,
) -> Result<(), Error> {
    if let Some(parent) = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
    {
        std::fs::create_dir_all(parent).map_err(|source| Error::File {
            path: parent.to_owned(),
            source,
        })?;
    }
    write_private(path, &render(address, credentials))
}

fn render(address: SocketAddr, credentials: &Credentials) -> String {
    let mut address = address;
    if address.ip().is_unspecified() {
        // "Everywhere" is not an address that a client can dial.
        address.set_ip(if address.is_ipv4() {
            [127, 0, 0, 1].into()
        } else {
            std::net::Ipv6Addr::LOCALHOST.into()
        });
    }
    let encode = |text: &str| STANDARD.encode(text);
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: suimon\nclusters:\n- name: suimon\n  cluster:\n    \
         server: https://{address}\n    certificate-authority-data: {}\ncontexts:\n- name: suimon\n  context:\n    \
         cluster: suimon\n    user: suimon\n    namespace: default\nusers:\n- name: suimon\n  user:\n    \
         client-certificate-data: {}\n    client-key-data: {}\n",
        encode(&credentials.ca),
        encode(&credentials.certificate),
        encode(&credentials.key),
    )
}
