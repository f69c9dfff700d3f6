//! `suimon delete`: by kind and name, or what manifests name.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use kube::Client;
use kube::api::DeleteParams;

use super::apply::api_error;
use super::kind_and_name;
use crate::access::Access;
use crate::cli;
use crate::manifest;
use crate::resources::{Kind, Resources};

pub async fn run(flags: cli::Delete, access: &cli::Access) -> anyhow::Result<ExitCode> {
    let access = Access::connect(access).await?;
    let resources = Resources::discover(&access.client).await?;
    let mut targets: Vec<(&Kind, String, String)> = Vec::new();
    if !flags.files.is_empty() {
        for document in manifest::read(&flags.files)? {
            let text = |pointer: &str| document.field(pointer).unwrap_or_default().to_owned();
            let namespace = document
                .field("/metadata/namespace")
                .unwrap_or(&access.namespace)
                .to_owned();
            targets.push((
                resources.of(&text("/apiVersion"), &text("/kind"))?,
                namespace,
                text("/metadata/name"),
            ));
        }
    } else {
        let (kind, first) = kind_and_name(
            flags.kind.as_deref().context("name a kind or a file")?,
            None,
        );
        let kind = resources.find(&kind)?;
        let names: Vec<String> = first.into_iter().chain(flags.names).collect();
        if names.is_empty() {
            bail!("name the {} to delete", kind.resource.plural);
        }
        targets.extend(
            names
                .into_iter()
                .map(|name| (kind, access.namespace.clone(), name)),
        );
    }
    for (kind, namespace, name) in &targets {
        let params = if flags.wait {
            DeleteParams::foreground()
        } else {
            DeleteParams::background()
        };
        kind.api(&access.client, namespace)
            .delete(name, &params)
            .await
            .map_err(api_error)?;
        if flags.wait {
            until_gone(&access.client, kind, namespace, name).await?;
        }
        println!("{} \"{name}\" deleted", kind.display());
    }
    Ok(ExitCode::SUCCESS)
}

async fn until_gone(
    client: &Client,
    kind: &Kind,
    namespace: &str,
    name: &str,
) -> anyhow::Result<()> {
    let api = kind.api(client, namespace);
    while api.get_opt(name).await.map_err(api_error)?.is_some() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}
