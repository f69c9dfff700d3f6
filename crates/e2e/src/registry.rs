//! A pod whose image is pulled from a real registry: Debian's `docker-registry`, on loopback.

use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::Stdio;

use anyhow::Context;
use flate2::Compression;
use flate2::write::GzEncoder;
use oci_client::client::{ClientConfig, ClientProtocol, Config, ImageLayer};
use oci_client::manifest::{IMAGE_CONFIG_MEDIA_TYPE, IMAGE_LAYER_GZIP_MEDIA_TYPE};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use tokio::process::{Child, Command};

use crate::program::program;
use crate::server::text;
use crate::{Server, guest};

/// A registry that ends with the test.
struct Registry {
    _child: Child,
    _data: tempfile::TempDir,
    address: String,
}

impl Registry {
    /// `None`, loudly, where the program is not installed.
    async fn start() -> anyhow::Result<Option<Self>> {
        let data = tempfile::tempdir()?;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
            .local_addr()?
            .port();
        let address = format!("127.0.0.1:{port}");
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '{address}'}}\n",
            data.path().display()
        );
        let file = data.path().join("config.yml");
        std::fs::write(&file, config)?;
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        let Ok(child) = child else {
            eprintln!("SKIPPED: docker-registry is not installed, no pod pulled an image");
            return Ok(None);
        };
        for _ in 0..1000 {
            if tokio::net::TcpStream::connect(&address).await.is_ok() {
                return Ok(Some(Self {
                    _child: child,
                    _data: data,
                    address,
                }));
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        anyhow::bail!("docker-registry does not listen")
    }

    /// Pushes the guest program as an image of one layer. Returns its name and its digest.
    async fn push_guest(&self) -> anyhow::Result<(String, String)> {
        let name = format!("{}/team/guest:v1", self.address);
        let layer = ImageLayer::new(layer()?, IMAGE_LAYER_GZIP_MEDIA_TYPE.to_owned(), None);
        let architecture = match cfg!(target_arch = "aarch64") {
            true => "arm64",
            false => "amd64",
        };
        let config = format!(
            r#"{{"architecture":"{architecture}","os":"linux","config":{{"Entrypoint":["/bin/guest"],"Env":["FROM_IMAGE=yes"],"User":"65532"}},"rootfs":{{"type":"layers","diff_ids":[]}},"history":[]}}"#
        );
        let config = Config::new(
            config.into_bytes(),
            IMAGE_CONFIG_MEDIA_TYPE.to_owned(),
            None,
        );
        // Its HTTP client wants one even where nothing is encrypted.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let client = Client::new(ClientConfig {
            protocol: ClientProtocol::Http,
            ..ClientConfig::default()
        });
        let reference: Reference = name.parse()?;
        let auth = RegistryAuth::Anonymous;
        client
            .push(&reference, &[layer], config, &auth, None)
            .await?;
        let digest = client.fetch_manifest_digest(&reference, &auth).await?;
        Ok((name, digest))
    }
}

/// The guest with the libraries that it names, where it looks for them.
fn layer() -> anyhow::Result<Vec<u8>> {
    let guest = program("guest")?;
    let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    builder.append_path_with_name(&guest, "bin/guest")?;
    let listed = std::process::Command::new("ldd").arg(&guest).output()?;
    for word in text(&listed.stdout).split_whitespace() {
        if word.starts_with('/') {
            let inside = word.trim_start_matches('/');
            builder.append_path_with_name(Path::new(word).canonicalize()?, inside)?;
        }
    }
    let mut gzip = builder.into_inner()?;
    gzip.flush()?;
    Ok(gzip.finish()?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_pulls_its_image_and_the_revision_holds_its_digest() -> anyhow::Result<()> {
    let Some(registry) = Registry::start().await? else {
        return Ok(());
    };
    let Some(server) = Server::start_with_containers().await? else {
        return Ok(());
    };
    let (name, digest) = registry.push_guest().await?;
    let manifest = |service: &str, image: &str| {
        guest::service(service, "", "").replace(guest::IMAGE, &format!("'{image}'"))
    };
    server.apply(&manifest("pulled", &name)).await?;
    let answer = server.get("pulled", "/env/FROM_IMAGE").await?;
    assert_eq!((answer.status, answer.body.as_str()), (200, "yes"));
    let revision = server.object(&["revision", "pulled-00001"]).await?;
    let resolved = revision["status"]["containerStatuses"][0]["imageDigest"]
        .as_str()
        .context("a resolved image")?;
    assert!(
        resolved.ends_with(&digest),
        "{resolved} should end with {digest}"
    );

    let absent = name.replace("guest:v1", "guest:v2");
    let refused = server.try_apply(&manifest("absent", &absent)).await?;
    assert!(!refused.status.success(), "{refused:?}");
    let said = text(&refused.stderr);
    assert!(said.contains("guest:v2"), "the image is named: {said}");
    Ok(())
}
