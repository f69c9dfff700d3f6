//! Names of backends outside of the cluster: looked up again and again by the machine's resolver,
//! which takes them from a file of the test.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::NamedTempFile;
use testkit::http::{Body, RawServer};

use crate::gateway_policies::{gateway, is, manifest, route};
use crate::gateway_xbackends::{lead, told, xbackend};
use crate::{Server, http};

/// Nobody has a name below `invalid` (RFC 6761).
const NAME: &str = "moves.e2e.invalid";
const HOST: &str = "web.example";

/// A server with a file of names that are looked up every second.
struct Rig {
    server: Server,
    names: NamedTempFile,
}

impl Rig {
    async fn start(address: &str) -> anyhow::Result<Option<Self>> {
        let names = NamedTempFile::new()?;
        let (mut sources, mut settings) = (NamedTempFile::new()?, NamedTempFile::new()?);
        std::fs::write(&names, at(address))?;
        sources.write_all(b"hosts: files\n")?;
        settings.write_all(b"limits:\n  dns-time: 1s\n")?;
        let mut files = vec![(names.path(), "/etc/hosts")];
        // Where it is missing, the file of names is asked all the same.
        if Path::new("/etc/nsswitch.conf").exists() {
            files.push((sources.path(), "/etc/nsswitch.conf"));
        }
        let config = settings.path().display().to_string();
        let server = Server::start_seeing(&files, &["--config", &config]).await?;
        Ok(server.map(|server| Self { server, names }))
    }

    /// In place: it is this file that the server sees.
    fn name_is_at(&self, address: &str) -> anyhow::Result<()> {
        std::fs::write(&self.names, at(address))?;
        Ok(())
    }

    fn name_is_gone(&self) -> anyhow::Result<()> {
        std::fs::write(&self.names, "127.0.0.1 localhost\n")?;
        Ok(())
    }

    async fn answers(&self, body: &str) -> anyhow::Result<()> {
        let wait = || async {
            let answer = http::get(self.server.gateway, HOST, "/").await?;
            Ok((answer.status == 200 && answer.body == body).then_some(()))
        };
        let what = format!("{body} answers");
        self.server.eventually(&what, wait).await
    }

    /// Waits for the state of the only condition of the ServiceEntry. Returns its message.
    async fn says(&self, status: &str, reason: &str) -> anyhow::Result<String> {
        let wait = || async {
            let entry = self.server.object(&["serviceentries", "outside"]).await?;
            let conditions = &entry["status"]["conditions"];
            let message = conditions[0]["message"].as_str().unwrap_or_default();
            let is_so = is(conditions, "Reconciled", status, reason);
            Ok(is_so.then(|| message.to_owned()))
        };
        let what = format!("it says {reason}");
        self.server.eventually(&what, wait).await
    }

    /// Waits until those who send there are told by an Event, too.
    async fn warns_of(&self, kind: &str) -> anyhow::Result<()> {
        let wait = || async {
            let events = self.server.object(&["events"]).await?;
            let mut all = events["items"].as_array().into_iter().flatten();
            let is_told = all.any(|event| {
                event["involvedObject"]["kind"] == kind && event["reason"] == "HostNotFound"
            });
            Ok(is_told.then_some(()))
        };
        let what = format!("an Event of the {kind}");
        self.server.eventually(&what, wait).await
    }
}

/// A file of names in which ours is at this address.
fn at(address: &str) -> String {
    format!("127.0.0.1 localhost\n{address} {NAME}\n")
}

async fn backend(at: SocketAddr, name: &'static str) -> RawServer {
    RawServer::start_at(at, move |mut stream| async move {
        while stream.read_message(Body::Request).await.is_some() {
            let (length, head) = (name.len(), "HTTP/1.1 200 OK\r\nContent-Length:");
            stream.send(format!("{head} {length}\r\n\r\n{name}")).await;
        }
    })
    .await
}

fn objects(port: u16) -> [Value; 3] {
    [
        json!({
            "apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry",
            "metadata": {"name": "outside"},
            "spec": {
                "hosts": [NAME], "location": "MESH_EXTERNAL", "resolution": "DNS",
                "ports": [{"number": port, "name": "http", "protocol": "HTTP"}],
            },
        }),
        json!({
            "apiVersion": "networking.istio.io/v1", "kind": "Gateway",
            "metadata": {"name": "edge"},
            "spec": {
                "selector": {"istio": "ingressgateway"},
                "servers": [{
                    "port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": [HOST],
                }],
            },
        }),
        json!({
            "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
            "metadata": {"name": "web"},
            "spec": {
                "hosts": [HOST], "gateways": ["edge"],
                "http": [{"route": [{"destination": {"host": NAME, "port": {"number": port}}}]}],
            },
        }),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_followed_to_its_new_address_and_kept_while_it_cannot_be_looked_up()
-> anyhow::Result<()> {
    let Some(rig) = Rig::start("127.0.0.2").await? else {
        return Ok(());
    };
    let first = backend(([127, 0, 0, 2], 0).into(), "first").await;
    let port = first.address.port();
    let _second = backend(([127, 0, 0, 3], port).into(), "second").await;
    rig.server.apply(&manifest(&objects(port))).await?;
    rig.answers("first").await?;
    rig.says("True", "Reconciled").await?;
    rig.name_is_at("127.0.0.3")?;
    rig.answers("second").await?;
    rig.name_is_gone()?;
    let message = rig.says("False", "HostNotFound").await?;
    assert!(message.contains(NAME), "{message}");
    assert!(message.contains("found last stay in use"), "{message}");
    rig.warns_of("VirtualService").await?;
    rig.answers("second").await?;
    rig.name_is_at("127.0.0.2")?;
    rig.says("True", "Reconciled").await?;
    rig.answers("first").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_nobody_has_yet_is_told_and_served_once_somebody_does() -> anyhow::Result<()> {
    let Some(rig) = Rig::start("127.0.0.2").await? else {
        return Ok(());
    };
    rig.name_is_gone()?;
    let only = backend(([127, 0, 0, 2], 0).into(), "only").await;
    let all = manifest(&objects(only.address.port()));
    rig.server.apply(&all).await?;
    let message = rig.says("False", "HostNotFound").await?;
    assert!(message.contains("nothing can be sent there"), "{message}");
    let answer = http::get(rig.server.gateway, HOST, "/").await?;
    assert_eq!(answer.status, 503, "{answer:?}");
    rig.name_is_at("127.0.0.2")?;
    rig.answers("only").await?;
    rig.says("True", "Reconciled").await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_xbackend_says_below_its_gateway_whether_its_name_is_found() -> anyhow::Result<()> {
    const PORT: u16 = 18_184;
    let Some(rig) = Rig::start("127.0.0.2").await? else {
        return Ok(());
    };
    let spec = json!({
        "type": "ExternalHostname", "port": {"number": 80}, "externalHostname": {"hostname": NAME},
    });
    let objects = [
        gateway(PORT, &Value::Null),
        xbackend("outside", &spec),
        route(
            "web",
            &json!({"name": "edge"}),
            &json!({"backendRefs": [lead("outside")]}),
        ),
    ];
    rig.server.apply(&objects.concat()).await?;
    let found = ("ResolvedRefs", "True", "ResolvedRefs");
    told(&rig.server, "outside", found).await?;
    rig.name_is_gone()?;
    let unfound = ("ResolvedRefs", "False", "BackendNotFound");
    told(&rig.server, "outside", unfound).await?;
    told(&rig.server, "outside", ("Accepted", "True", "Accepted")).await?;
    rig.name_is_at("127.0.0.3")?;
    told(&rig.server, "outside", found).await
}
