//! What a policy is attached to.

use std::sync::Arc;

use crate::fields::{self, Fields};
use crate::foreign::Object;
use crate::objects::Name;

/// Targets that are read.
const MOST: usize = 16;

/// What may be a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TargetKind {
    Gateway,
    HttpRoute,
    GrpcRoute,
    Service,
}

impl TargetKind {
    /// As the API calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Gateway => "Gateway",
            Self::HttpRoute => "HTTPRoute",
            Self::GrpcRoute => "GRPCRoute",
            Self::Service => "Service",
        }
    }

    pub(super) fn group(self) -> &'static str {
        match self {
            Self::Gateway | Self::HttpRoute | Self::GrpcRoute => api::gateway::GROUP,
            Self::Service => "",
        }
    }

    fn read(group: &str, kind: &str) -> Option<Self> {
        [
            Self::Gateway,
            Self::HttpRoute,
            Self::GrpcRoute,
            Self::Service,
        ]
        .into_iter()
        .find(|known| known.name() == kind && known.group() == group)
    }
}

/// One target of a policy, in the policy's own namespace.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Target {
    pub(super) kind: TargetKind,
    pub(super) name: Name,
}

/// Under which policies for a target are found.
pub(super) fn key(kind: TargetKind, name: &Name) -> String {
    format!("{}/{name}", kind.name())
}

pub(super) fn keys(object: &Object) -> Vec<Arc<str>> {
    let namespace = &object.name.namespace;
    let targets = fields::quietly(object.spec(), |spec| read(spec, namespace));
    targets
        .iter()
        .map(|target| key(target.kind, &target.name).into())
        .collect()
}

/// `targetRefs`, each target once.
pub(super) fn read(spec: &Fields<'_>, namespace: &str) -> Vec<Target> {
    let mut targets: Vec<Target> = Vec::new();
    let written = spec.objects("targetRefs");
    if written.is_empty() {
        let message =
            "name a Gateway, HTTPRoute, GRPCRoute or Service: the policy is in force nowhere";
        spec.refuse("targetRefs", "TargetMissing", message);
    }
    for (at, one) in written.iter().enumerate() {
        if at >= MOST {
            one.pass_over();
            let message = format!("{MOST} targets are read, write another policy for this one");
            spec.findings()
                .refuse("TooManyTargets", one.path(), message);
            continue;
        }
        let remedy = "the policy holds for all of it: give what it is for a route of its own";
        one.unsupported("sectionName", remedy);
        one.unsupported("namespace", "targets are in the policy's own namespace");
        let (group, kind) = (one.str("group").unwrap_or_default(), one.str("kind"));
        let (kind, name) = (kind.unwrap_or_default(), one.text("name"));
        match (TargetKind::read(group, kind), name) {
            (Some(kind), Some(name)) => {
                let target = Target {
                    kind,
                    name: Name::new(namespace, name),
                };
                if !targets.contains(&target) {
                    targets.push(target);
                }
            }
            (None, _) => {
                let message = format!(
                    "{kind:?} of group {group:?} is no target: Gateway, HTTPRoute and GRPCRoute of \
                     {} and Service of \"\" are",
                    api::gateway::GROUP
                );
                one.refuse("kind", "TargetNotSupported", message);
            }
            (Some(_), None) => one.refuse("name", "TargetMissing", "the target has no name"),
        }
    }
    targets
}
