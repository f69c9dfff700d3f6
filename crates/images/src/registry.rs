//! Pulling from a registry (OCI distribution specification), through `oci-client`.
//!
//! TLS always, but for registries on loopback when plain HTTP is asked for. Blobs are written to
//! the store's staging directory and checked against their digests before they are unpacked.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference as Remote};

use crate::layers::Unpacker;
use crate::manifest::config_of;
use crate::{Config, Credentials, Digest, Error, Reference};

const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// Longest silence while a blob flows.
const READ_LIMIT: Duration = Duration::from_secs(60);
/// Attempts per blob: a long download may break.
const ATTEMPTS: u32 = 3;

/// An image on a registry: found, not yet fetched.
pub(crate) struct Found {
    client: Client,
    remote: Remote,
    pub(crate) digest: Digest,
    pub(crate) config: Config,
    layers: Vec<oci_client::manifest::OciDescriptor>,
}

/// Asks the registry for the image's manifest and configuration.
pub(crate) async fn find(reference: &Reference, credentials: &Credentials) -> Result<Found, Error> {
    let failed = |source| Error::Pull {
        reference: reference.to_string(),
        problem: explain(source),
    };
    let remote: Remote = reference.to_string().parse().map_err(|error| Error::Pull {
        reference: reference.to_string(),
        problem: format!("{error}"),
    })?;
    let client = client(reference)?;
    let auth = match credentials {
        Credentials::Anonymous => RegistryAuth::Anonymous,
        Credentials::Basic { user, password } => {
            RegistryAuth::Basic(user.clone(), password.clone())
        }
    };
    let (manifest, digest, config, list) = client
        .pull_manifest_and_config_and_list_digest(&remote, &auth)
        .await
        .map_err(failed)?;
    let digest = list.unwrap_or(digest);
    let digest = Digest::parse(&digest).ok_or_else(|| Error::Pull {
        reference: reference.to_string(),
        problem: format!("the registry gave the digest {digest}, not a sha256 one"),
    })?;
    Ok(Found {
        client,
        remote,
        digest,
        config: config_of(config.as_bytes())?,
        layers: manifest.layers,
    })
}

impl Found {
    /// Fetches and unpacks every layer. `scratch` is a file of the caller's that is overwritten.
    pub(crate) async fn fetch(&self, scratch: &Path, mut unpacker: Unpacker) -> Result<u64, Error> {
        for layer in &self.layers {
            self.fetch_blob(layer, scratch).await?;
            let path = scratch.to_owned();
            // Unpacking is file system work: it must not hold up the runtime's threads.
            let unpacked = tokio::task::spawn_blocking(move || {
                let file = File::open(&path).map_err(Error::io("open", &path))?;
                unpacker.apply(file)?;
                Ok::<_, Error>(unpacker)
            });
            unpacker = unpacked
                .await
                .map_err(|error| self.failed(format!("unpacking ended early: {error}")))??;
        }
        Ok(unpacker.bytes)
    }

    async fn fetch_blob(
        &self,
        layer: &oci_client::manifest::OciDescriptor,
        path: &Path,
    ) -> Result<(), Error> {
        let mut attempt = 1;
        loop {
            let file = tokio::fs::File::create(path)
                .await
                .map_err(Error::io("create", path))?;
            match self.client.pull_blob(&self.remote, layer, file).await {
                Ok(()) => return Ok(()),
                Err(error) if attempt < ATTEMPTS => {
                    tracing::warn!(image = %self.remote, layer = %layer.digest, %error, attempt, "fetching a layer failed, trying again");
                    attempt += 1;
                }
                Err(error) => return Err(self.failed(explain(error))),
            }
        }
    }

    fn failed(&self, problem: String) -> Error {
        Error::Pull {
            reference: self.remote.to_string(),
            problem,
        }
    }
}

/// Loopback registries are asked without TLS, as Docker does; everything else needs TLS.
fn client(reference: &Reference) -> Result<Client, Error> {
    // Fails only if a provider is installed already, which is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let host = reference
        .registry
        .rsplit_once(':')
        .map_or(reference.registry.as_str(), |(host, _)| host);
    let loopback = host == "localhost" || host == "[::1]" || host.starts_with("127.");
    let config = ClientConfig {
        protocol: if loopback {
            ClientProtocol::Http
        } else {
            ClientProtocol::Https
        },
        connect_timeout: Some(CONNECT_LIMIT),
        read_timeout: Some(READ_LIMIT),
        user_agent: concat!("suimon/", env!("CARGO_PKG_VERSION")),
        ..ClientConfig::default()
    };
    Client::try_from(config).map_err(|error| Error::Pull {
        reference: reference.to_string(),
        problem: explain(error),
    })
}

/// The registry's answer in a few words, with its causes: the first line alone says too little.
fn explain(error: oci_client::errors::OciDistributionError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(next) = cause {
        let words = next.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = next.source();
    }
    text
}
