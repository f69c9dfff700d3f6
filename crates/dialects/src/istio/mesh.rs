//! The mesh configuration: ConfigMap `istio` in the root namespace, key `mesh`.
//!
//! It is no object of a dialect and has no status. What is read of it: who is asked for
//! authorization and takes lines and spans (`extensionProviders`, `defaultProviders`), the shape of
//! lines (`accessLogFormat`, `accessLogEncoding`), the share of traces
//! (`defaultConfig.tracing.sampling`), how many proxies are in front of the gateway and whether they
//! speak the PROXY protocol (`numTrustedProxies` and `proxyProtocol` of
//! `defaultConfig.gatewayTopology`).

use std::collections::BTreeMap;
use std::sync::Arc;

use routing::model::{ClientSource, Preamble};
use serde_json::{Value, json};

use super::ROOT_NAMESPACE;
use crate::foreign::{Kind, Object};
use crate::objects::{Dependency, Name, Objects, Reader};
use crate::shared::client;

/// For looking it up among the objects; users write a ConfigMap.
static CONFIG: Kind = Kind::config_map("istio");

fn name() -> Name {
    Name::new(ROOT_NAMESPACE, "istio")
}

/// Takes in a ConfigMap (`Some`) or that there is none; any other than the mesh's changes nothing.
/// Returns what changed, or what is wrong with it: then the one before stays in force.
///
/// # Errors
/// If the text is no YAML, or no map.
pub fn put(
    objects: &mut Objects,
    map: &Name,
    data: Option<&BTreeMap<String, String>>,
) -> Result<Vec<Dependency>, String> {
    if *map != name() {
        return Ok(Vec::new());
    }
    let text = data.and_then(|data| data.get("mesh"));
    let object = match text {
        None => None,
        Some(text) => Some(read(map, text)?),
    };
    Ok(objects.put_foreign(&CONFIG, map, object.map(Arc::new)))
}

fn read(map: &Name, text: &str) -> Result<Object, String> {
    let mesh: Value = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    if !mesh.is_object() && !mesh.is_null() {
        return Err("it is no map".to_owned());
    }
    let json = json!({
        "metadata": {"namespace": &*map.namespace, "name": &*map.name},
        "spec": mesh,
    });
    Object::new(&CONFIG, json).ok_or_else(|| "it has no name".to_owned())
}

fn config<'o>(reader: &Reader<'o>) -> Option<&'o Value> {
    let object = reader.foreign(&CONFIG, &name())?;
    Some(object.spec())
}

/// Who may say the client's address to the gateway.
pub(super) fn client(reader: &Reader<'_>) -> Option<Arc<ClientSource>> {
    let topology = &config(reader)?["defaultConfig"]["gatewayTopology"];
    let hops = topology["numTrustedProxies"].as_u64()?;
    client::behind(u32::try_from(hops).ok()?)
}

/// Whether a balancer in front says who the client is.
pub(super) fn preamble(reader: &Reader<'_>) -> Option<Preamble> {
    let topology = &config(reader)?["defaultConfig"]["gatewayTopology"];
    let wanted = topology["proxyProtocol"].is_object();
    wanted.then_some(Preamble::Required)
}

/// The extension provider with this name, whatever its case.
pub(super) fn provider<'o>(reader: &Reader<'o>, name: &str) -> Option<&'o Value> {
    let all = config(reader)?["extensionProviders"].as_array()?;
    all.iter().find(|one| {
        let own = one["name"].as_str();
        own.is_some_and(|own| own.eq_ignore_ascii_case(name))
    })
}

/// The first of `defaultProviders` for this.
pub(super) fn default_provider<'o>(reader: &Reader<'o>, section: &str) -> Option<&'o str> {
    config(reader)?["defaultProviders"][section][0].as_str()
}

/// The share of requests that are traced, in percent: `defaultConfig.tracing.sampling`.
pub(super) fn sampling(reader: &Reader<'_>) -> Option<f64> {
    let set = config(reader)?["defaultConfig"]["tracing"]["sampling"].as_f64();
    set.filter(|percent| (0.0..=100.0).contains(percent))
}

/// A text of the mesh configuration.
pub(super) fn text<'o>(reader: &Reader<'o>, key: &str) -> Option<&'o str> {
    config(reader)?[key].as_str()
}
