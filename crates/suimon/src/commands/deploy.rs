//! `suimon deploy`: create or update a Service from a few flags, wait and print its URL.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::{Value, json};

use super::apply::{self, Applied};
use super::image;
use crate::access::Access;
use crate::cli;
use crate::manifest::Document;
use crate::output;

pub async fn run(flags: cli::Deploy, access: &cli::Access) -> anyhow::Result<ExitCode> {
    let connected = Access::connect(access).await?;
    let (image, arguments) = match (&flags.image, flags.program.split_first()) {
        (Some(image), _) => (image.clone(), flags.program.clone()),
        (None, Some((program, arguments))) => {
            let name = format!("dev.local/{}", flags.name);
            let store = image::open(access)?;
            store.add_binary(&name, &find(program)?)?;
            (name, arguments.to_vec())
        }
        (None, None) => bail!("name an image with --image or a program after --"),
    };
    let service = service(&flags, &connected.namespace, &image, &arguments)?;
    let document = Document {
        place: format!("Service {}", flags.name),
        value: service,
    };
    let namespace = connected.namespace.clone();
    let services: Vec<Applied> =
        apply::documents_of(&connected.client, &namespace, vec![document]).await?;
    let ready = apply::wait_for(
        &connected.client,
        &services,
        Duration::from_secs(flags.timeout),
    )
    .await?;
    if let Some(encoding) = flags.format.output {
        let resources = crate::resources::Resources::discover(&connected.client).await?;
        let object = super::get::object(&connected, resources.find("ksvc")?, &flags.name).await?;
        output::encoded(&object, encoding)?;
    }
    Ok(if ready {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn service(
    flags: &cli::Deploy,
    namespace: &str,
    image: &str,
    arguments: &[String],
) -> anyhow::Result<Value> {
    let mut env = Vec::new();
    for pair in &flags.env {
        let Some((name, value)) = pair.split_once('=') else {
            bail!("--env {pair}: write NAME=VALUE")
        };
        env.push(json!({ "name": name, "value": value }));
    }
    let mut container = json!({ "image": image, "env": env, "args": arguments });
    if let Some(port) = flags.port {
        container["ports"] = json!([{ "containerPort": port }]);
    }
    let mut spec = json!({ "containers": [container] });
    if let Some(concurrency) = flags.concurrency {
        spec["containerConcurrency"] = json!(concurrency);
    }
    Ok(json!({
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": { "name": flags.name, "namespace": namespace },
        "spec": { "template": { "spec": spec } },
    }))
}

/// A program by path, or by name on `$PATH` as a shell finds it.
fn find(program: &str) -> anyhow::Result<PathBuf> {
    if program.contains('/') {
        return Ok(PathBuf::from(program));
    }
    let path = std::env::var_os("PATH").context("PATH is not set")?;
    let found = std::env::split_paths(&path)
        .map(|dir| dir.join(program))
        .find(|file| Path::is_file(file));
    found.with_context(|| format!("no program \"{program}\" on PATH"))
}
