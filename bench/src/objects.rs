//! Memory of the API server alone for the objects that sleeping Services consist of.
//!
//! `objects.json` is one Service at zero as the product left it, status included. It is put
//! through the API again and again under other names, owners first, without controllers.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Args;
use futures::{StreamExt, TryStreamExt, stream};
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use kube::core::GroupVersionKind;
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use crate::machine::memory;

#[derive(Args)]
pub struct Flags {
    /// Services whose objects are created
    #[arg(long, default_value_t = 10_000)]
    services: usize,
    /// Rest before the figure, seconds: objects are compressed half a minute after their last write
    #[arg(long, default_value_t = 60)]
    settle: u64,
}

const OBJECTS: &str = include_str!("../objects.json");
/// The name of the Service in the file.
const NAME: &str = "idle-0";
const WORKERS: usize = 8;

/// The API server by itself: the example of `suimon`, beside this program.
const SERVER: &str = "examples/api-server";

pub async fn run(flags: Flags) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let mut server = start(dir.path())?;
    let pid = server.id().context("the API server runs")?;
    let client = connect(&dir.path().join("kubeconfig")).await?;
    let objects: Vec<Value> = serde_json::from_str(OBJECTS)?;
    let bytes: usize = objects.iter().map(|object| object.to_string().len()).sum();
    println!(
        "\na Service at zero: {} objects, {:.1} KB of JSON",
        objects.len(),
        bytes as f64 / 1e3
    );
    let wait = async |seconds| tokio::time::sleep(Duration::from_secs(seconds)).await;
    wait(flags.settle.min(15)).await;
    let empty = memory(pid)?.anonymous;
    let start = Instant::now();
    stream::iter(0..flags.services)
        .map(|index| create(&client, &objects, index))
        .buffer_unordered(WORKERS)
        .try_collect::<()>()
        .await?;
    let took = start.elapsed();
    let last = Instant::now();
    let mut after = u64::MAX;
    loop {
        wait(10).await;
        let now = memory(pid)?.anonymous;
        // Compressing is over when no more is given back.
        if last.elapsed().as_secs() >= flags.settle && now + now / 50 >= after {
            after = now;
            break;
        }
        after = now;
    }
    let mib = |kib: u64| kib as f64 / 1024.0;
    println!(
        "{} Services' objects in {:.0} s: {:.0} MiB, {:.1} MiB when empty, {:.1} KiB for each Service",
        flags.services,
        took.as_secs_f64(),
        mib(after),
        mib(empty),
        after.saturating_sub(empty) as f64 / flags.services as f64,
    );
    server.kill().await?;
    Ok(())
}

fn start(data: &Path) -> anyhow::Result<Child> {
    let path = std::env::current_exe()?.with_file_name(SERVER);
    ensure!(
        path.exists(),
        "{} is not there; build it with `cargo build --profile dist -p suimon --example api-server`",
        path.display()
    );
    Ok(Command::new(path).arg(data).kill_on_drop(true).spawn()?)
}

/// A client as soon as the server serves, which is when it has written this file.
async fn connect(kubeconfig: &Path) -> anyhow::Result<kube::Client> {
    let until = Instant::now() + Duration::from_secs(60);
    while !kubeconfig.exists() {
        ensure!(Instant::now() < until, "the API server did not start");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let file = Kubeconfig::read_from(kubeconfig)?;
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
    Ok(kube::Client::try_from(config)?)
}

async fn create(client: &kube::Client, objects: &[Value], index: usize) -> anyhow::Result<()> {
    let name = format!("idle-{index}");
    let mut uids: Vec<(String, String)> = Vec::new();
    for object in objects {
        let mut text = object.to_string().replace(NAME, &name);
        for (old, new) in &uids {
            text = text.replace(old, new);
        }
        let mut object: Value = serde_json::from_str(&text)?;
        let status = object["status"].take();
        let old = object["metadata"]["uid"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        for field in [
            "uid",
            "resourceVersion",
            "creationTimestamp",
            "generation",
            "managedFields",
        ] {
            if let Some(metadata) = object["metadata"].as_object_mut() {
                metadata.remove(field);
            }
        }
        let object: DynamicObject = serde_json::from_value(object)?;
        let types = object.types.clone().context("a typed object")?;
        let gvk = GroupVersionKind::try_from(&types)?;
        let api: Api<DynamicObject> =
            Api::namespaced_with(client.clone(), "default", &ApiResource::from_gvk(&gvk));
        let created = api.create(&PostParams::default(), &object).await;
        let created = created.with_context(|| format!("a {} of {name}", types.kind))?;
        if !status.is_null() {
            let change = Patch::Merge(json!({ "status": status }));
            let name = created.metadata.name.clone().unwrap_or_default();
            api.patch_status(&name, &PatchParams::default(), &change)
                .await
                .with_context(|| format!("the status of a {}", types.kind))?;
        }
        uids.push((old, created.metadata.uid.unwrap_or_default()));
    }
    Ok(())
}
