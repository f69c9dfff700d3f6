//! Pulling from a real registry: Debian's `docker-registry`, on loopback.

use std::io::Write;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use flate2::Compression;
use flate2::write::GzEncoder;
use images::{Credentials, Store};
use oci_client::client::{ClientConfig, ClientProtocol, Config, ImageLayer};
use oci_client::manifest::{IMAGE_CONFIG_MEDIA_TYPE, IMAGE_LAYER_GZIP_MEDIA_TYPE};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};

struct Registry {
    child: Child,
    port: u16,
    _data: tempfile::TempDir,
}

impl Registry {
    /// `None`, loudly, where the program is not installed.
    fn start() -> Option<Self> {
        let data = tempfile::tempdir().expect("temp dir");
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .and_then(|s| s.local_addr())
            .expect("a free port")
            .port();
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n",
            data.path().display()
        );
        let file = data.path().join("config.yml");
        std::fs::write(&file, config).expect("written");
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(child) = child else {
            eprintln!("SKIPPED: docker-registry is not installed, no image was pulled");
            return None;
        };
        let registry = Self {
            child,
            port,
            _data: data,
        };
        for _ in 0..1000 {
            if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
                return Some(registry);
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("docker-registry does not listen");
    }

    fn name(&self, image: &str) -> String {
        format!("127.0.0.1:{}/{image}", self.port)
    }

    /// Pushes an image of two layers; the second hides a file of the first. Returns its digest.
    async fn push(&self, image: &str, greeting: &str) -> String {
        let layers = [
            layer(&[("bin/hello", greeting), ("etc/secret", "x")]),
            layer(&[
                ("etc/.wh.secret", ""),
                ("etc/passwd", "app:x:65532:65532::/:/bin/sh\n"),
            ]),
        ];
        let layers =
            layers.map(|data| ImageLayer::new(data, IMAGE_LAYER_GZIP_MEDIA_TYPE.to_owned(), None));
        let architecture = if cfg!(target_arch = "aarch64") {
            "arm64"
        } else {
            "amd64"
        };
        let config = format!(
            r#"{{"architecture":"{architecture}","os":"linux","config":{{"Entrypoint":["/bin/hello"],"Env":["A=b"],"User":"app"}},"rootfs":{{"type":"layers","diff_ids":[]}},"history":[]}}"#
        );
        let config = Config::new(
            config.into_bytes(),
            IMAGE_CONFIG_MEDIA_TYPE.to_owned(),
            None,
        );
        let client = Client::new(ClientConfig {
            protocol: ClientProtocol::Http,
            ..ClientConfig::default()
        });
        let reference: Reference = self.name(image).parse().expect("a reference");
        let auth = RegistryAuth::Anonymous;
        client
            .push(&reference, &layers, config, &auth, None)
            .await
            .expect("pushed");
        client
            .fetch_manifest_digest(&reference, &auth)
            .await
            .expect("there")
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn layer(files: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_cksum();
        builder
            .append_data(&mut header, path, content.as_bytes())
            .expect("appended");
    }
    let mut encoder = builder.into_inner().expect("finished");
    encoder.flush().expect("flushed");
    encoder.finish().expect("finished")
}

fn store(dir: &Path) -> Store {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Store::open(dir.join("images")).expect("opened")
}

#[tokio::test]
async fn a_pulled_image_has_the_registrys_digest_its_files_and_its_configuration() {
    let dir = tempfile::tempdir().expect("temp dir");
    let store = store(dir.path());
    let Some(registry) = Registry::start() else {
        return;
    };
    let digest = registry.push("team/hello:v1", "one").await;
    let name = registry.name("team/hello:v1");
    let image = store
        .pull(&name, &Credentials::Anonymous)
        .await
        .expect("pulled");
    assert_eq!(image.digest.as_str(), digest);
    assert_eq!(image.config.entrypoint, ["/bin/hello"]);
    assert_eq!(
        (image.config.user.as_str(), image.config.env.as_slice()),
        ("app", ["A=b".to_owned()].as_slice())
    );
    let root = &image.layers[0];
    assert_eq!(
        std::fs::read_to_string(root.join("bin/hello")).expect("there"),
        "one"
    );
    assert!(
        !root.join("etc/secret").exists(),
        "hidden by the second layer"
    );
    assert_eq!(store.resolve(&name).expect("read"), Some(image));
}

#[tokio::test]
async fn a_tag_that_moves_is_followed_and_the_old_digest_stays() {
    let dir = tempfile::tempdir().expect("temp dir");
    let store = store(dir.path());
    let Some(registry) = Registry::start() else {
        return;
    };
    let name = registry.name("hello:latest");
    registry.push("hello:latest", "one").await;
    let old = store
        .pull(&name, &Credentials::Anonymous)
        .await
        .expect("pulled");
    registry.push("hello:latest", "two").await;
    let new = store
        .pull(&name, &Credentials::Anonymous)
        .await
        .expect("pulled");
    assert_ne!(old.digest, new.digest);
    let pinned = format!("{}@{}", registry.name("hello"), old.digest);
    assert_eq!(store.resolve(&pinned).expect("read"), Some(old));
    assert_eq!(store.resolve(&name).expect("read"), Some(new));
}

#[tokio::test]
async fn an_image_that_is_not_there_is_told_with_its_name_and_leaves_nothing() {
    let dir = tempfile::tempdir().expect("temp dir");
    let store = store(dir.path());
    let Some(registry) = Registry::start() else {
        return;
    };
    let name = registry.name("no/such:image");
    let error = store
        .pull(&name, &Credentials::Anonymous)
        .await
        .expect_err("nothing there");
    assert!(error.to_string().contains(&name), "{error}");
    assert!(store.list().expect("read").is_empty());
    assert_eq!(
        std::fs::read_dir(store.dir().join("staging"))
            .expect("there")
            .count(),
        0
    );
}
