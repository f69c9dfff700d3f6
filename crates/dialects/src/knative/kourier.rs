//! What of Kourier's configuration, the ConfigMap `config-kourier`, is about requests: who is
//! believed about the client's address.
//!
//! It holds for every Knative Ingress that the gateway serves by itself: for those of other classes
//! their own objects say it.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::config::{Kourier, name};
use api::names::SYSTEM_NAMESPACE;
use routing::model::ClientSource;
use serde_json::json;

use crate::foreign::{Kind, Object};
use crate::objects::{Dependency, Name, Objects, Reader};
use crate::shared::client;

/// For looking it up among the objects; users write a ConfigMap.
static CONFIG: Kind = Kind::config_map("knative");

fn config() -> Name {
    Name::new(SYSTEM_NAMESPACE, name::KOURIER)
}

/// Takes in a ConfigMap (`Some`) or that there is none; any other than Kourier's changes nothing,
/// and neither does one with mistakes. Returns what changed.
pub fn put(
    objects: &mut Objects,
    map: &Name,
    data: Option<&BTreeMap<String, String>>,
) -> Vec<Dependency> {
    if *map != config() {
        return Vec::new();
    }
    let read = match data.map(Kourier::parse) {
        None => None,
        Some(Ok(read)) => Some(read),
        Some(Err(_)) => return Vec::new(),
    };
    let object = read.filter(|read| *read != Kourier::default());
    let object = object.and_then(|read| {
        let json = json!({
            "metadata": {"namespace": &*map.namespace, "name": &*map.name},
            "spec": {"clientHops": read.client_hops},
        });
        Object::new(&CONFIG, json)
    });
    objects.put_foreign(&CONFIG, map, object.map(Arc::new))
}

/// Who may say the client's address to the gateway.
pub(super) fn client(reader: &Reader<'_>) -> Option<Arc<ClientSource>> {
    let hops = reader.foreign(&CONFIG, &config())?.spec()["clientHops"].as_u64()?;
    client::behind(u32::try_from(hops).ok()?)
}
