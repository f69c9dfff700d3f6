//! RouteTables and objects with options: read for others, and judged for their own status.

use std::sync::Arc;

use super::action::RouteSpec;
use super::attached::{CONNECT_ELSEWHERE, OF_DESTINATIONS};
use super::gateway::listener_remedy;
use super::options::{HostOptions, Options};
use super::status::Judgement;
use super::upgrades::Allowed;
use super::{ROUTE_OPTION, target};
use crate::fields::{Fields, Findings};
use crate::foreign::{Object, Translation};
use crate::objects::{Objects, Reader};

/// Labels, by which selectors may look for it.
pub(super) fn labels(object: &Object) -> Vec<Arc<str>> {
    let pairs = object.labels.iter();
    pairs
        .map(|(key, value)| format!("{key}={value}").into())
        .collect()
}

/// The routes of a table, and what is wrong with it before it is put below a parent.
pub(super) fn table(object: &Object) -> (Vec<RouteSpec>, Judgement) {
    let findings = Findings::default();
    let root = Fields::new(&object.body, String::new(), &findings);
    let mut routes = Vec::new();
    if let Some(spec) = root.object("spec") {
        spec.ignore("weight");
        let all = spec.objects("routes").into_iter();
        routes = all
            .map(|it| RouteSpec::read(&it, &object.name.namespace))
            .collect();
    }
    drop(root);
    let mut judgement = Judgement::default();
    judgement.absorb(&findings);
    (routes, judgement)
}

/// The status of a RouteTable: mistakes of its own. Where it does not fit below a parent is said
/// of the VirtualService.
pub(super) fn judge_table(object: &Object, _: &Objects) -> Translation {
    let (routes, mut judgement) = table(object);
    let findings = Findings::default();
    for route in &routes {
        if let Err(text) = &route.matchers {
            judgement.error("RouteInvalid", &route.field, text);
        }
        if let super::action::Action::Invalid(text) = &route.action {
            judgement.error("RouteInvalid", &route.field, text);
        }
        let fields = Fields::new(
            &route.options,
            format!("{}.options", route.field),
            &findings,
        );
        Options::read(
            &fields,
            &HostOptions::default(),
            Allowed::default(),
            (&object.name.namespace, ""),
        );
    }
    judgement.absorb(&findings);
    told(&judgement)
}

/// The status of a RouteOption.
pub(super) fn judge_route_option(object: &Object, objects: &Objects) -> Translation {
    judge_options(object, objects, |options, namespace| {
        let host = HostOptions::default();
        let own = (namespace, "");
        let (_, says_connect) = Options::read(options, &host, Allowed::default(), own).connect;
        says_connect
    })
}

/// The status of a VirtualHostOption.
pub(super) fn judge_host_option(object: &Object, objects: &Objects) -> Translation {
    judge_options(object, objects, |options, _| {
        HostOptions::read(options, "");
        false
    })
}

/// `read` says whether the options enable CONNECT.
fn judge_options(
    object: &Object,
    objects: &Objects,
    read: impl Fn(&Fields<'_>, &str) -> bool,
) -> Translation {
    let reader = Reader::new(objects);
    let findings = Findings::default();
    let root = Fields::new(&object.body, String::new(), &findings);
    let mut targets = Vec::new();
    if let Some(spec) = root.object("spec") {
        targets = target::read(&spec, object);
        if let Some(options) = spec.object("options") {
            let says_connect = read(&options, &object.name.namespace);
            if says_connect && !targets.is_empty() {
                options.refuse(
                    "upgrades",
                    "FieldNotSupported",
                    CONNECT_ELSEWHERE.to_owned(),
                );
            }
            for (key, remedy) in OF_DESTINATIONS {
                if !targets.is_empty() && *object.kind == ROUTE_OPTION && options.has(key) {
                    let text = format!("{key} is for destinations of VirtualServices: {remedy}");
                    options.refuse(key, "FieldNotSupported", text);
                }
            }
        }
    }
    drop(root);
    let mut judgement = Judgement::default();
    judgement.absorb(&findings);
    for target in &targets {
        if let Some((reason, text)) = target::without_effect(target, object, &reader) {
            judgement.warn(reason, "spec.targetRefs", text);
        }
    }
    Translation {
        reads: reader.into_read(),
        ..told(&judgement)
    }
}

/// The status of options of listeners: none of them has an effect.
pub(super) fn judge_listener_option(object: &Object, _: &Objects) -> Translation {
    let findings = Findings::default();
    let root = Fields::new(&object.body, String::new(), &findings);
    if let Some(spec) = root.object("spec") {
        let remedy = "listeners have settings of the gateway's own";
        spec.unsupported("targetRefs", remedy);
        if let Some(options) = spec.object("options") {
            for key in options.keys() {
                options.unsupported(key, listener_remedy(key));
            }
        }
    }
    drop(root);
    let mut judgement = Judgement::default();
    judgement.absorb(&findings);
    told(&judgement)
}

fn told(judgement: &Judgement) -> Translation {
    Translation {
        diagnostics: judgement.diagnostics(),
        status: Some(judgement.status("gateway")),
        ..Translation::default()
    }
}
