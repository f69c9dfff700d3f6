//! GatewayProxy: plugins for all rules of the classes that name it in `spec.parameters`.
//!
//! There is no control plane of APISIX to tell: the gateway serves them itself, as those of an
//! ApisixGlobalRule.

use serde_json::{Map, Value};

use super::instance::{self, Outcome};
use super::plugin::{self, Named};
use super::{GATEWAY_PROXY, extension};
use crate::fields::{self, Fields};
use crate::foreign::{Object, Translation};
use crate::objects::{Objects, Parameters, Reader};

/// The namespace of a class's parameters that say none.
const USUAL: &str = "default";

fn is_about(parameters: &Parameters, object: &Object) -> bool {
    let namespace = parameters.namespace.as_deref().unwrap_or(USUAL);
    let is_kind = *parameters.group == *extension::GROUP && *parameters.kind == *object.kind.kind;
    is_kind && *namespace == *object.name.namespace && parameters.name == object.name.name
}

/// The plugins in force for all rules of an ApisixRoute: those of its class, or of the default one.
pub(super) fn of_route(route: &Object, reader: &Reader<'_>) -> Vec<Named> {
    if !reader.any_foreign(&GATEWAY_PROXY) {
        return Vec::new();
    }
    let class = route.spec()["ingressClassName"].as_str();
    let Some(parameters) = reader.class_parameters(class.filter(|class| !class.is_empty())) else {
        return Vec::new();
    };
    let mut all = reader.foreign_all(&GATEWAY_PROXY);
    let Some(proxy) = all.find(|object| is_about(parameters, object)) else {
        return Vec::new();
    };
    fields::quietly(proxy.spec(), |spec| listed(spec, false))
}

/// Plugins are off unless it is said that they are on.
fn listed(spec: &Fields<'_>, is_own: bool) -> Vec<Named> {
    let mut all = Vec::new();
    for fields in spec.objects("plugins") {
        let config = fields.raw("config").cloned();
        let config = config.unwrap_or_else(|| Value::Object(Map::new()));
        let is_on = fields.bool("enabled") == Some(true);
        match fields.text("name") {
            Some(name) if is_on => {
                all.push(Named::new(name, config, fields.at("config"), is_own));
            }
            Some(_) => {}
            None => fields.refuse("name", "PluginInvalid", "the plugin has no name"),
        }
    }
    all
}

/// A GatewayProxy by itself.
pub(super) fn judge(object: &Object, objects: &Objects) -> Translation {
    instance::translate(object, objects, |spec, reader, _| {
        let remedy = "no control plane of APISIX is told: the gateway serves plugins itself";
        spec.unsupported("provider", remedy);
        for key in ["publishService", "statusAddress"] {
            spec.unsupported(key, "the addresses in statuses are the gateway's own");
        }
        if let Some(metadata) = spec.object("pluginMetadata") {
            for name in metadata.keys() {
                let remedy = plugin::remedy(name);
                let text = format!("metadata of plugin {name} is not supported; {remedy}");
                metadata.ignore(name);
                metadata.refuse(name, "PluginNotSupported", text);
            }
        }
        plugin::check(&listed(spec, true), spec, object, reader);
        let mut classes = reader.all_class_parameters();
        if !classes.any(|parameters| is_about(parameters, object)) {
            let text = "no IngressClass names it in spec.parameters: its plugins are in force \
                        nowhere";
            spec.findings().refuse("ClassMissing", "spec", text);
        }
        Outcome::Served
    })
}
