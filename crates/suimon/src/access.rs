//! How a command reaches the API: through a kubeconfig, as any other client.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use crate::cli;
use crate::settings::data_dir;

/// A connected client and the namespace that commands act in.
pub struct Access {
    pub client: Client,
    pub namespace: String,
}

impl Access {
    /// Connects with `--kubeconfig`, else `$KUBECONFIG`, else the data directory's kubeconfig.
    pub async fn connect(flags: &cli::Access) -> anyhow::Result<Self> {
        let path = kubeconfig_path(flags)?;
        if !path.exists() {
            bail!(
                "there is no kubeconfig at {}; start the API with `suimon up` or name one with --kubeconfig",
                path.display()
            );
        }
        let read = || -> anyhow::Result<Kubeconfig> { Ok(Kubeconfig::read_from(&path)?) };
        let kubeconfig = read().with_context(|| format!("cannot read {}", path.display()))?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .with_context(|| format!("{} cannot be used", path.display()))?;
        let namespace = flags
            .namespace
            .clone()
            .unwrap_or_else(|| config.default_namespace.clone());
        Ok(Self {
            client: Client::try_from(config)?,
            namespace,
        })
    }
}

fn kubeconfig_path(flags: &cli::Access) -> anyhow::Result<PathBuf> {
    if let Some(path) = &flags.kubeconfig {
        return Ok(path.clone());
    }
    // A list of files, as kubectl allows: the first that exists.
    let from_env = std::env::var_os("KUBECONFIG")
        .filter(|value| !value.is_empty() && flags.data_dir.is_none());
    if let Some(paths) = from_env {
        let first = std::env::split_paths(&paths).find(|path| path.exists());
        return Ok(first.unwrap_or_else(|| Path::new(&paths).to_owned()));
    }
    Ok(data_dir(flags.data_dir.as_deref())?.join("kubeconfig"))
}
