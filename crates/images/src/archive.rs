//! Archives: `docker save` files and OCI image layouts, as tar files.
//!
//! A tar file is read twice: once for its index (small JSON files), once per layer. Layers are
//! streamed, never held in memory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::layers::Unpacker;
use crate::manifest::config_of;
use crate::{Config, Digest, Error};

/// Longest JSON file of an archive, in bytes.
const LONGEST_JSON: u64 = 8 << 20;

/// What an archive holds: its configuration and the names of its layers' files, lowest first.
#[derive(Debug)]
pub(crate) struct Contents {
    pub(crate) digest: Digest,
    pub(crate) config: Config,
    layers: Vec<String>,
}

/// Finds the image of this machine's architecture in an archive.
pub(crate) fn read(path: &Path) -> Result<Contents, Error> {
    let files = json_files(path)?;
    let json = |name: &str| {
        files
            .get(name)
            .and_then(|bytes| serde_json::from_slice::<Value>(bytes).ok())
    };
    if let Some(manifest) = json("manifest.json") {
        return docker(&manifest, &files);
    }
    if let Some(index) = json("index.json") {
        return oci(&index, &files);
    }
    Err(bad(
        "it has neither manifest.json (docker save) nor index.json (OCI layout)",
    ))
}

/// Unpacks the layers in order.
pub(crate) fn unpack(
    path: &Path,
    contents: &Contents,
    unpacker: &mut Unpacker,
) -> Result<(), Error> {
    for layer in &contents.layers {
        let mut archive = open(path)?;
        let mut entries = archive.entries().map_err(Error::io("read", path))?;
        let found = entries.find_map(|entry| {
            let entry = entry.ok()?;
            (name_of(&entry)? == *layer).then_some(entry)
        });
        let Some(entry) = found else {
            return Err(bad(&format!("layer {layer} is missing")));
        };
        unpacker.apply(entry)?;
    }
    Ok(())
}

fn docker(manifest: &Value, files: &BTreeMap<String, Vec<u8>>) -> Result<Contents, Error> {
    let images = manifest.as_array().map(Vec::as_slice).unwrap_or_default();
    let [image] = images else {
        return Err(bad(&format!(
            "it holds {} images; save one image per archive",
            images.len()
        )));
    };
    let config = image["Config"]
        .as_str()
        .ok_or_else(|| bad("manifest.json names no Config"))?;
    let bytes = files
        .get(config)
        .ok_or_else(|| bad("its configuration file is missing"))?;
    let layers = image["Layers"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned);
    // Docker's archives have no manifest digest; the configuration's identifies the image.
    Ok(Contents {
        digest: digest_of(bytes),
        config: config_of(bytes)?,
        layers: layers.collect(),
    })
}

fn oci(index: &Value, files: &BTreeMap<String, Vec<u8>>) -> Result<Contents, Error> {
    let mut digest = choose(index)?;
    let mut manifest = blob(&digest, files)?;
    if manifest["manifests"].is_array() {
        digest = choose(&manifest)?;
        manifest = blob(&digest, files)?;
    }
    let config = manifest["config"]["digest"]
        .as_str()
        .ok_or_else(|| bad("its manifest names no config"))?;
    let bytes = files
        .get(&blob_path(config))
        .ok_or_else(|| bad("its configuration is missing"))?;
    let layers = manifest["layers"].as_array().into_iter().flatten();
    let layers = layers
        .filter_map(|layer| layer["digest"].as_str())
        .map(blob_path)
        .collect();
    let digest =
        Digest::parse(&digest).ok_or_else(|| bad("its manifest's digest is not sha256"))?;
    Ok(Contents {
        digest,
        config: config_of(bytes)?,
        layers,
    })
}

/// The manifest for this machine, or the only one there is.
fn choose(index: &Value) -> Result<String, Error> {
    let manifests = index["manifests"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let ours = |manifest: &&Value| {
        manifest["platform"]["os"] == "linux"
            && manifest["platform"]["architecture"] == crate::manifest::architecture()
    };
    let chosen = manifests.iter().find(ours).or(match manifests {
        [only] => Some(only),
        _ => None,
    });
    let digest = chosen.and_then(|manifest| manifest["digest"].as_str());
    digest
        .map(str::to_owned)
        .ok_or_else(|| bad("it has no image for this machine's architecture"))
}

fn blob(digest: &str, files: &BTreeMap<String, Vec<u8>>) -> Result<Value, Error> {
    let bytes = files
        .get(&blob_path(digest))
        .ok_or_else(|| bad(&format!("blob {digest} is missing")))?;
    if digest_of(bytes).as_str() != digest {
        return Err(bad(&format!("blob {digest} is damaged")));
    }
    serde_json::from_slice(bytes)
        .map_err(|error| bad(&format!("blob {digest} is not JSON: {error}")))
}

fn blob_path(digest: &str) -> String {
    format!("blobs/{}", digest.replacen(':', "/", 1))
}

/// Every small file that begins like JSON, by its name in the archive.
fn json_files(path: &Path) -> Result<BTreeMap<String, Vec<u8>>, Error> {
    let mut archive = open(path)?;
    let mut files = BTreeMap::new();
    for entry in archive.entries().map_err(Error::io("read", path))? {
        let mut entry = entry.map_err(Error::io("read", path))?;
        let Some(name) = name_of(&entry) else {
            continue;
        };
        if entry.size() > LONGEST_JSON || !entry.header().entry_type().is_file() {
            continue;
        }
        let mut first = [0];
        if entry.read(&mut first).map_err(Error::io("read", path))? == 0
            || !matches!(first, [b'{' | b'['])
        {
            continue;
        }
        let mut bytes = first.to_vec();
        entry
            .read_to_end(&mut bytes)
            .map_err(Error::io("read", path))?;
        files.insert(name, bytes);
    }
    Ok(files)
}

fn open(path: &Path) -> Result<tar::Archive<File>, Error> {
    Ok(tar::Archive::new(
        File::open(path).map_err(Error::io("open", path))?,
    ))
}

fn name_of<R: Read>(entry: &tar::Entry<'_, R>) -> Option<String> {
    let path = entry.path().ok()?;
    Some(path.to_str()?.trim_start_matches("./").to_owned())
}

fn digest_of(bytes: &[u8]) -> Digest {
    Digest::of_sha256(&Sha256::digest(bytes))
}

fn bad(problem: &str) -> Error {
    Error::BadImage {
        problem: problem.to_owned(),
    }
}
