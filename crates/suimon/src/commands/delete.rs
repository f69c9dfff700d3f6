//! `suimon delete`: by kind and name, or what manifests name.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use futures::{StreamExt, stream};
use kube::Client;
use kube::api::DeleteParams;

use super::apply::api_error;
use super::kind_and_name;
use crate::access::Access;
use crate::cli;
use crate::manifest;
use crate::output::say;
use crate::resources::{Kind, Resources};

/// Objects of one kind that are deleted, or waited for, at once.
const AT_ONCE: usize = 8;
/// Pause between looks at an object that is not gone yet.
const LOOK_EVERY: Duration = Duration::from_millis(100);

pub async fn run(flags: cli::Delete, access: &cli::Access) -> anyhow::Result<ExitCode> {
    let access = Access::connect(access).await?;
    let resources = Resources::discover(&access.client).await?;
    let mut targets: Vec<Target<'_>> = Vec::new();
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
    let failed = all(&access.client, &targets, flags.wait).await;
    if !failed.is_empty() {
        bail!("{}", failed.join("\n       "));
    }
    Ok(ExitCode::SUCCESS)
}

/// An object to delete: kind, namespace and name.
type Target<'k> = (&'k Kind, String, String);

/// Deletes targets in order, neighbors of one kind together. With `wait`, returns when they are
/// gone. One that cannot be deleted does not keep the others; returns what went wrong.
async fn all(client: &Client, targets: &[Target<'_>], wait: bool) -> Vec<String> {
    let mut failed = Vec::new();
    let mut waiting = Vec::new();
    let same_kind = |a: &Target<'_>, b: &Target<'_>| std::ptr::eq(a.0, b.0);
    for run in targets.chunk_by(same_kind) {
        let mut results = stream::iter(run)
            .map(|target| one(client, target, wait))
            .buffered(AT_ONCE);
        let mut targets = run.iter();
        while let (Some(result), Some(target)) = (results.next().await, targets.next()) {
            match result {
                Ok(Some(uid)) if wait => waiting.push((target, uid)),
                Ok(_) => say!("{} \"{}\" deleted", target.0.display(), target.2),
                Err(error) => failed.push(format!("{error:#}")),
            }
        }
    }
    let mut results = stream::iter(&waiting)
        .map(|(target, uid)| until_gone(client, target, uid))
        .buffered(AT_ONCE);
    let mut targets = waiting.iter();
    while let (Some(result), Some((target, _))) = (results.next().await, targets.next()) {
        match result {
            Ok(()) => say!("{} \"{}\" deleted", target.0.display(), target.2),
            Err(error) => failed.push(format!("{error:#}")),
        }
    }
    failed
}

/// Asks for the deletion of an object. Returns its uid if it is not gone at once.
async fn one(
    client: &Client,
    (kind, namespace, name): &Target<'_>,
    wait: bool,
) -> anyhow::Result<Option<String>> {
    let params = if wait {
        DeleteParams::foreground()
    } else {
        DeleteParams::background()
    };
    let api = kind.api(client, namespace);
    let deleted = api.delete(name, &params).await.map_err(api_error)?;
    Ok(deleted.left().and_then(|object| object.metadata.uid))
}

/// Another object of the name may be there by then.
async fn until_gone(
    client: &Client,
    (kind, namespace, name): &Target<'_>,
    uid: &str,
) -> anyhow::Result<()> {
    let api = kind.api(client, namespace);
    let is_there = async || -> anyhow::Result<bool> {
        let object = api.get_opt(name).await.map_err(api_error)?;
        Ok(object.is_some_and(|object| object.metadata.uid.as_deref() == Some(uid)))
    };
    while is_there().await? {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}
