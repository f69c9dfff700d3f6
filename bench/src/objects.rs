//! Memory of the API server alone for the objects that sleeping Services consist of.
//!
//! `objects.json` is one Service at zero as the product left it, status included. It is put
//! through the API again and again under other names, owners first, without controllers.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Args;
use futures::{StreamExt, TryStreamExt, stream};
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use lifecycle::Tasks;
use serde_json::{Value, json};

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

pub async fn run(flags: Flags) -> anyhow::Result<()> {
    // As the product does it: what was freed is given back also at rest.
    #[cfg(target_os = "linux")]
    tikv_jemalloc_ctl::background_thread::write(true)
        .map_err(|error| anyhow::anyhow!("jemalloc: {error}"))?;
    let dir = tempfile::tempdir()?;
    let tasks = Tasks::new();
    let settings = apiserver::Settings {
        data_dir: dir.path().to_owned(),
        listen: None,
        crds: api::crd::crds(),
        admission: Arc::new(apiserver::admission::AcceptAll),
        kubeconfig: PathBuf::new(),
        addresses: Vec::new(),
    };
    let server = apiserver::start(settings, &tasks).await?;
    let client = server.client();
    let objects: Vec<Value> = serde_json::from_str(OBJECTS)?;
    let bytes: usize = objects.iter().map(|object| object.to_string().len()).sum();
    println!(
        "\na Service at zero: {} objects, {:.1} KB of JSON",
        objects.len(),
        bytes as f64 / 1e3
    );
    let wait = async |seconds| tokio::time::sleep(Duration::from_secs(seconds)).await;
    wait(flags.settle.min(15)).await;
    let empty = memory(std::process::id())?.anonymous;
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
        let now = memory(std::process::id())?.anonymous;
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
    ensure!(
        tasks.drain(Duration::from_secs(60)).await == lifecycle::Outcome::Clean,
        "the API server did not end cleanly"
    );
    Ok(())
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
