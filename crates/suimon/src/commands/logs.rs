//! `suimon logs`: of a Service, a Revision or a Pod.

use std::process::ExitCode;

use anyhow::bail;
use api::names::label;
use futures::{AsyncBufReadExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, LogParams};
use kube::{Api, ResourceExt};

use super::apply::api_error;
use crate::access::Access;
use crate::cli;
use crate::output::say;

pub async fn run(flags: cli::Logs, access: &cli::Access) -> anyhow::Result<ExitCode> {
    let access = Access::connect(access).await?;
    let pods: Api<Pod> = Api::namespaced(access.client.clone(), &access.namespace);
    let (kind, name) = flags.name.split_once('/').unwrap_or(("ksvc", &flags.name));
    let names = match kind {
        "pod" | "pods" | "po" => vec![name.to_owned()],
        "revision" | "revisions" | "rev" => pods_of(&pods, label::REVISION, name).await?,
        "ksvc" | "service" | "kservice" => pods_of(&pods, label::SERVICE, name).await?,
        other => bail!("logs come from ksvc/NAME, revision/NAME or pod/NAME, not from \"{other}\""),
    };
    if names.is_empty() {
        bail!(
            "{kind} {name} has no pod in namespace {}; it is scaled to zero or does not exist",
            access.namespace
        );
    }
    let params = LogParams {
        follow: flags.follow,
        container: flags.container.clone(),
        tail_lines: flags.tail,
        previous: flags.previous,
        ..LogParams::default()
    };
    let many = names.len() > 1;
    let prints = names
        .into_iter()
        .map(|pod| print(&pods, pod, &params, many));
    futures::future::try_join_all(prints).await?;
    Ok(ExitCode::SUCCESS)
}

async fn pods_of(pods: &Api<Pod>, label: &str, name: &str) -> anyhow::Result<Vec<String>> {
    let list = pods
        .list(&ListParams::default().labels(&format!("{label}={name}")))
        .await
        .map_err(api_error)?;
    Ok(list.items.iter().map(ResourceExt::name_any).collect())
}

async fn print(
    pods: &Api<Pod>,
    pod: String,
    params: &LogParams,
    prefixed: bool,
) -> anyhow::Result<()> {
    let mut lines = pods
        .log_stream(&pod, params)
        .await
        .map_err(api_error)?
        .lines();
    while let Some(line) = lines.try_next().await? {
        if prefixed {
            say!("[{pod}] {line}");
        } else {
            say!("{line}");
        }
    }
    Ok(())
}
