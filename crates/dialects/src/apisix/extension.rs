//! PluginConfig (v1alpha1): plugins that a filter of an HTTPRoute refers to.
//!
//! What asks a backend of its own, or sends elsewhere, has a place in the HTTPRoute itself: such a
//! plugin is refused with that place. A filter with a plugin that guards and cannot be served
//! spoils its rule, as every filter does that cannot.

use std::sync::Arc;

use routing::model::{Filters, HeaderOps, Redirect, Respond};

use super::GATEWAY_PLUGIN_CONFIG;
use super::instance::{self, Outcome};
use super::plugin::{self, Effects, Named};
use crate::fields::{self, Fields};
use crate::foreign::{Object, Translation};
use crate::objects::{Name, Objects, Reader};

/// What a filter may refer to.
pub(crate) const GROUP: &str = "apisix.apache.org";
pub(crate) const KIND: &str = "PluginConfig";

/// Plugins that have a place in the HTTPRoute.
const ELSEWHERE: [(&str, &str); 4] = [
    ("forward-auth", "write a filter ExternalAuth"),
    (
        "grpc-web",
        "write a GRPCRoute without it, which takes gRPC-Web in any case",
    ),
    ("proxy-mirror", "write a filter RequestMirror"),
    ("traffic-split", "write weights of backendRefs"),
];

/// What plugins make of a rule, over what its other filters do.
#[derive(Default)]
pub(crate) struct Extended {
    pub(crate) request_headers: HeaderOps,
    pub(crate) filters: Filters,
    pub(crate) redirect: Option<Redirect>,
    /// Plain HTTP is redirected.
    pub(crate) to_https: bool,
    pub(crate) respond: Option<Respond>,
}

/// Applies a PluginConfig over what is known; `id` sets the buckets of this rule apart. An error
/// says why the rule cannot be served.
pub(crate) fn apply(
    reader: &Reader<'_>,
    name: &Name,
    id: &str,
    known: Extended,
) -> Result<Extended, String> {
    let Some(object) = reader.foreign(&GATEWAY_PLUGIN_CONFIG, name) else {
        return Err(format!("{KIND} {name} does not exist"));
    };
    let run = |spec: &Fields<'_>| run(spec, &name.namespace, (id, reader), known);
    fields::quietly(object.spec(), run).map_err(|why| format!("{KIND} {name}: {why}"))
}

fn run(
    spec: &Fields<'_>,
    namespace: &Arc<str>,
    (id, reader): (&str, &Reader<'_>),
    mut known: Extended,
) -> Result<Extended, String> {
    let plugins = plugin::listed(spec, namespace, reader, true);
    for plugin in &plugins {
        if let Some((name, remedy)) = elsewhere(plugin) {
            return Err(format!("plugin {name} is not served here: {remedy}"));
        }
    }
    let guards = known.filters.guards.take();
    let mut effects = Effects {
        request_headers: known.request_headers,
        filters: known.filters,
        guards: guards.map(Arc::unwrap_or_clone).unwrap_or_default(),
        redirect: known.redirect,
        to_https: known.to_https,
        respond: known.respond,
        ..Effects::default()
    };
    plugin::apply_alone(&plugins, spec, &mut effects, (id, namespace, reader));
    if let Some(closed) = effects.closed {
        return Err(format!("plugin {closed} cannot be served"));
    }
    if !effects.guards.is_empty() {
        effects.filters.guards = Some(Arc::new(effects.guards));
    }
    Ok(Extended {
        request_headers: effects.request_headers,
        filters: effects.filters,
        redirect: effects.redirect,
        to_https: effects.to_https,
        respond: effects.respond,
    })
}

fn elsewhere(plugin: &Named) -> Option<(&'static str, &'static str)> {
    let mut known = ELSEWHERE.into_iter();
    known.find(|(name, _)| *name == plugin.name())
}

/// A PluginConfig by itself.
pub(super) fn judge(object: &Object, objects: &Objects) -> Translation {
    instance::translate(object, objects, |spec, reader, _| {
        let namespace = &object.name.namespace;
        let result = run(spec, namespace, ("", reader), Extended::default());
        let Err(why) = result else {
            return Outcome::Served;
        };
        let message = format!("{why}; rules whose filters refer to it answer 500");
        spec.findings()
            .refuse("PluginNotSupported", "spec.plugins", message);
        Outcome::Refused
    })
}
