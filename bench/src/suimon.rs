//! The product under measurement: the release binary on a data directory of its own.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use futures::StreamExt;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams, WatchEvent,
    WatchParams,
};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::peers::{Certificate, free_port};

/// A running `suimon up`.
pub struct Suimon {
    child: Child,
    data: TempDir,
    pub gateway: SocketAddr,
    /// Where it tells its metrics.
    pub admin: SocketAddr,
    pub client: Client,
}

/// The release binary beside this one.
pub fn binary() -> anyhow::Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name("suimon");
    if !path.exists() {
        bail!(
            "{} is not there; build it with `cargo build --release -p suimon`",
            path.display()
        );
    }
    Ok(path)
}

impl Suimon {
    /// Starts with these flags; `prefix` is put before the command (for example `taskset -c 0`).
    pub async fn start(prefix: &[&str], flags: &[&str]) -> anyhow::Result<Self> {
        Self::start_on(tempfile::tempdir()?, prefix, flags).await
    }

    /// Stops it and keeps its data.
    pub async fn stop(mut self) -> anyhow::Result<TempDir> {
        let stopped = Command::new("kill")
            .arg(self.pid().to_string())
            .status()
            .await?;
        anyhow::ensure!(stopped.success(), "it is gone already");
        tokio::time::timeout(Duration::from_secs(120), self.child.wait()).await??;
        Ok(self.data)
    }

    /// Starts on the data of another run.
    pub async fn start_on(data: TempDir, prefix: &[&str], flags: &[&str]) -> anyhow::Result<Self> {
        let binary = binary()?.display().to_string();
        let mut words: Vec<&str> = prefix.to_vec();
        words.extend([
            binary.as_str(),
            "up",
            "--http-port",
            "0",
            "--local-port",
            "0",
            "--https-port",
            "0",
            "--api-port",
            "0",
            "--admin-port",
            "0",
            "--data-dir",
        ]);
        let mut child = Command::new(words[0])
            .args(&words[1..])
            .arg(data.path())
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let mut lines = BufReader::new(child.stderr.take().context("piped")?).lines();
        let (mut gateway, mut admin) = (None, None);
        while let Some(line) =
            tokio::time::timeout(Duration::from_secs(120), lines.next_line()).await??
        {
            if let Some(address) = line.trim().strip_prefix("gateway") {
                gateway = Some(address.trim().trim_start_matches("http://").parse()?);
            }
            if let Some(address) = line.trim().strip_prefix("admin") {
                admin = Some(address.trim().trim_start_matches("http://").parse()?);
            }
            if line.trim().starts_with("kubeconfig") {
                break;
            }
        }
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let kubeconfig = Kubeconfig::read_from(data.path().join("kubeconfig"))?;
        let config =
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        let gateway = gateway.context("it did not say where the gateway is")?;
        Ok(Self {
            child,
            data,
            gateway,
            admin: admin.context("it did not say where its metrics are")?,
            client: Client::try_from(config)?,
        })
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.data.path().join("kubeconfig")
    }

    pub fn pid(&self) -> u32 {
        self.child.id().unwrap_or_default()
    }

    /// Applies any object (server-side).
    pub async fn apply(&self, plural: &str, object: &Value) -> anyhow::Result<()> {
        let params = PatchParams::apply("bench").force();
        let name = object["metadata"]["name"].as_str().context("a name")?;
        self.api(plural, object)
            .patch(name, &params, &Patch::Apply(object))
            .await?;
        Ok(())
    }

    /// Creates any object.
    pub async fn create(&self, plural: &str, object: &Value) -> anyhow::Result<()> {
        let value: DynamicObject = serde_json::from_value(object.clone())?;
        let params = PostParams::default();
        self.api(plural, object).create(&params, &value).await?;
        Ok(())
    }

    /// Changes the spec of an object that exists; lists are replaced.
    pub async fn merge_spec(&self, plural: &str, object: &Value) -> anyhow::Result<DynamicObject> {
        let patch = Patch::Merge(json!({"spec": object["spec"]}));
        let params = PatchParams::default();
        let api = self.api(plural, object);
        Ok(api.patch(name_of(object)?, &params, &patch).await?)
    }

    /// The address of a Gateway, once it has one.
    pub async fn gateway_address(&self, gateway: &Value) -> anyhow::Result<IpAddr> {
        let start = std::time::Instant::now();
        while start.elapsed() < Duration::from_secs(120) {
            let gateway = self.get("gateways", gateway).await?;
            if let Some(address) = gateway.data["status"]["addresses"][0]["value"].as_str() {
                return Ok(address.parse()?);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        bail!("the Gateway has no address")
    }

    /// Opens a Gateway with TLS, and sends what is for `host` to this Service.
    pub async fn open_tls(
        &self,
        certificate: &Certificate,
        host: &str,
        service: &str,
    ) -> anyhow::Result<SocketAddr> {
        const VERSION: &str = "gateway.networking.k8s.io/v1";
        let port = free_port()?;
        let metadata = json!({"name": "tls", "namespace": "default"});
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "kubernetes.io/tls",
            "stringData": {"tls.crt": certificate.certificate, "tls.key": certificate.key},
        });
        let gateway = json!({
            "apiVersion": VERSION, "kind": "Gateway", "metadata": metadata,
            "spec": {"gatewayClassName": "suimon", "listeners": [{
                "name": "https", "protocol": "HTTPS", "port": port,
                "tls": {"certificateRefs": [{"name": "tls"}]},
            }]},
        });
        let route = json!({
            "apiVersion": VERSION, "kind": "HTTPRoute", "metadata": metadata,
            "spec": {
                "parentRefs": [{"name": "tls"}], "hostnames": [host],
                "rules": [{"backendRefs": [{"name": service, "port": 80}]}],
            },
        });
        self.apply("secrets", &secret).await?;
        self.apply("gateways", &gateway).await?;
        self.apply("httproutes", &route).await?;
        Ok((self.gateway_address(&gateway).await?, port).into())
    }

    /// An object of this name and kind, as it is now.
    pub async fn get(&self, plural: &str, object: &Value) -> anyhow::Result<DynamicObject> {
        Ok(self.api(plural, object).get(name_of(object)?).await?)
    }

    pub async fn delete(&self, plural: &str, object: &Value) -> anyhow::Result<()> {
        let params = DeleteParams::background();
        self.api(plural, object)
            .delete(name_of(object)?, &params)
            .await?;
        Ok(())
    }

    /// How often an object was written since this revision.
    pub async fn writes_since(
        &self,
        plural: &str,
        object: &Value,
        revision: &str,
    ) -> anyhow::Result<usize> {
        let field = format!("metadata.name={}", name_of(object)?);
        let params = WatchParams::default().fields(&field);
        let api = self.api(plural, object);
        let mut events = std::pin::pin!(api.watch(&params, revision).await?);
        let mut writes = 0;
        // Past events come at once.
        while let Ok(Some(event)) =
            tokio::time::timeout(Duration::from_secs(1), events.next()).await
        {
            writes += usize::from(matches!(event?, WatchEvent::Modified(_)));
        }
        Ok(writes)
    }

    /// The Knative Service of this name, as it is now.
    pub async fn service(&self, name: &str) -> anyhow::Result<Value> {
        let object = hello(name, &json!({}));
        Ok(serde_json::to_value(
            self.api("services", &object).get(name).await?,
        )?)
    }

    /// Waits until the Service is Ready, asking every half millisecond.
    pub async fn until_ready(&self, name: &str) -> anyhow::Result<()> {
        self.until_ready_by(name, Duration::from_micros(500)).await
    }

    /// The same with another pause between the questions, where many are asked about.
    pub async fn until_ready_by(&self, name: &str, pause: Duration) -> anyhow::Result<()> {
        let start = std::time::Instant::now();
        while start.elapsed() < Duration::from_secs(120) {
            let service = self.service(name).await?;
            let conditions = service["status"]["conditions"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            if conditions
                .iter()
                .any(|c| c["type"] == "Ready" && c["status"] == "True")
            {
                return Ok(());
            }
            tokio::time::sleep(pause).await;
        }
        bail!(
            "{name} did not become Ready: {}",
            self.service(name).await?["status"]
        )
    }

    /// Pods in namespace default.
    pub async fn pods(&self) -> anyhow::Result<usize> {
        let pods = self.count("v1", "pods").await?;
        Ok(pods.0)
    }

    /// How many objects of a resource there are in namespace default, and the bytes of their JSON.
    pub async fn count(&self, api_version: &str, plural: &str) -> anyhow::Result<(usize, usize)> {
        let prefix = if api_version.contains('/') {
            "apis"
        } else {
            "api"
        };
        let (mut objects, mut bytes, mut token) = (0, 0, String::new());
        loop {
            let path = format!(
                "/{prefix}/{api_version}/namespaces/default/{plural}?limit=500&continue={token}"
            );
            let request = http::Request::get(path).body(Vec::new())?;
            let text = self.client.request_text(request).await?;
            bytes += text.len();
            let page: Value = serde_json::from_str(&text)?;
            objects += page["items"].as_array().map_or(0, Vec::len);
            token = page["metadata"]["continue"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            if token.is_empty() {
                return Ok((objects, bytes));
            }
        }
    }

    fn api(&self, plural: &str, object: &Value) -> Api<DynamicObject> {
        let api_version = object["apiVersion"].as_str().unwrap_or_default().to_owned();
        let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
        let resource = ApiResource {
            group: group.to_owned(),
            version: version.to_owned(),
            api_version: api_version.clone(),
            kind: object["kind"].as_str().unwrap_or_default().to_owned(),
            plural: plural.to_owned(),
        };
        let namespace = object["metadata"]["namespace"]
            .as_str()
            .unwrap_or("default");
        Api::namespaced_with(self.client.clone(), namespace, &resource)
    }
}

fn name_of(object: &Value) -> anyhow::Result<&str> {
    object["metadata"]["name"].as_str().context("a name")
}

/// A Service of the sample program with these template annotations.
pub fn hello(name: &str, annotations: &Value) -> Value {
    json!({
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": { "name": name, "namespace": "default" },
        "spec": { "template": {
            "metadata": { "annotations": annotations },
            "spec": { "containers": [{ "image": "suimon.dev/samples/hello" }] },
        } },
    })
}
