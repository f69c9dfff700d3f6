//! `suimon image`: the local image store, reached directly in the data directory; a running
//! server sees the changes.

use std::process::ExitCode;

use serde_json::json;

use crate::cli::{self, Image};
use crate::output;
use crate::output::say;
use crate::roles::system;
use crate::settings::data_dir;

pub async fn run(command: Image, access: &cli::Access) -> anyhow::Result<ExitCode> {
    let store = open(access)?;
    match command {
        Image::Add {
            name,
            binary: Some(path),
            ..
        } => {
            let image = store.add_binary(&name, &path)?;
            say!("{name}@{}", image.digest);
        }
        Image::Add {
            name,
            archive: Some(path),
            ..
        } => {
            let image = store.add_archive(&name, &path)?;
            say!("{name}@{}", image.digest);
        }
        Image::Add { .. } => {
            anyhow::bail!("name a program with --binary or an archive with --archive")
        }
        Image::Pull { name } => {
            let image = store.pull(&name, &images::Credentials::Anonymous).await?;
            say!("{name}@{}", image.digest);
        }
        Image::List { format } => list(&store, format)?,
        Image::Remove { name } => {
            store.remove(&name)?;
            say!("{name} removed");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The store of the data directory.
pub fn open(access: &cli::Access) -> anyhow::Result<images::Store> {
    system::open_images(&data_dir(access.data_dir.as_deref())?)
}

fn name(image: &images::Listed) -> String {
    match &image.tag {
        Some(tag) => format!("{}:{tag}", image.repository),
        None => format!("{}@{}", image.repository, image.digest),
    }
}

fn list(store: &images::Store, format: cli::Format) -> anyhow::Result<()> {
    let images = store.list()?;
    if let Some(encoding) = format.output {
        let items: Vec<_> = images
            .iter()
            .map(|image| json!({ "name": name(image), "digest": image.digest, "sizeBytes": image.size_bytes }))
            .collect();
        return output::encoded(&json!({ "items": items }), encoding);
    }
    let header = ["IMAGE", "DIGEST", "SIZE"].map(str::to_owned);
    let rows: Vec<Vec<String>> = images
        .iter()
        .map(|image| {
            let digest: String = image.digest.as_str().chars().take(19).collect();
            vec![
                name(image),
                digest,
                format!("{:.1} MiB", image.size_bytes as f64 / f64::from(1 << 20)),
            ]
        })
        .collect();
    output::table(&header, &rows);
    Ok(())
}
