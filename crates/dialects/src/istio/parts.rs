//! Kinds that routes read, and kinds that are refused: what their own status says.

use super::{
    authorization, conditions, custom, destination_rule, security, service_entry, telemetry, tokens,
};
use crate::fields::{Fields, Findings};
use crate::foreign::{Object, Translation};
use crate::objects::{Objects, Reader};

/// Reads `spec` with `read`, and says in the status what was found.
fn judge(
    object: &Object,
    objects: &Objects,
    read: impl FnOnce(&Fields<'_>, &Reader<'_>),
) -> Translation {
    let reader = Reader::new(objects);
    let findings = Findings::default();
    let mut out = Translation::default();
    let body = Fields::new(&object.body, String::new(), &findings);
    if let Some(spec) = body.object("spec") {
        read(&spec, &reader);
    }
    drop(body);
    conditions::finish(&mut out, object, &findings, reader, &[]);
    out
}

pub(super) fn destination_rule(object: &Object, objects: &Objects) -> Translation {
    judge(object, objects, |spec, reader| {
        destination_rule::judge(object, spec, reader)
    })
}

pub(super) fn service_entry(object: &Object, objects: &Objects) -> Translation {
    judge(object, objects, |spec, reader| {
        service_entry::judge(object, spec, reader);
    })
}

pub(super) fn workload_entry(object: &Object, objects: &Objects) -> Translation {
    judge(object, objects, |spec, reader| {
        service_entry::judge_workload(spec, reader);
    })
}

pub(super) fn authorization_policy(object: &Object, objects: &Objects) -> Translation {
    judge(object, objects, |spec, reader| {
        target(spec);
        let place = authorization::Place {
            is_behind_gateway: false,
            ports: None,
        };
        let policy = authorization::read(object, spec, &place);
        if policy.effect == authorization::Effect::Custom && !policy.provider.is_empty() {
            custom::judge(reader, &policy.provider, spec.findings());
        }
    })
}

pub(super) fn request_authentication(object: &Object, objects: &Objects) -> Translation {
    judge(object, objects, |spec, reader| {
        target(spec);
        tokens::read(spec, reader);
    })
}

pub(super) fn telemetry(object: &Object, objects: &Objects) -> Translation {
    judge(object, objects, |spec, reader| {
        target(spec);
        telemetry::judge(object, spec, reader);
    })
}

/// `selector` and `targetRefs`: any labels may be those of a workload.
fn target(spec: &Fields<'_>) {
    if let Some(selector) = spec.object("selector") {
        selector.string_map("matchLabels");
    }
    let mut references = spec.objects("targetRefs");
    references.extend(spec.object("targetRef"));
    for reference in references {
        let group = reference.text("group").unwrap_or_default();
        reference.text("name");
        reference.unsupported(
            "namespace",
            "only objects of the policy's own namespace are targets",
        );
        let Some(kind) = reference.text("kind") else {
            continue;
        };
        if !["Gateway", "Service"].contains(&kind) {
            let message = format!("{kind} is no target; Gateway and Service are");
            reference.refuse("kind", "TargetNotSupported", message);
        } else if !security::is_group_of(kind, group) {
            let message = format!("there is no {kind} in group {group:?}: the target is not found");
            reference.refuse("group", "TargetNotSupported", message);
        }
    }
}

pub(super) fn peer_authentication(object: &Object, objects: &Objects) -> Translation {
    judge(object, objects, |spec, _| {
        let selector = spec.object("selector");
        let mut is_strict = false;
        if let Some(mtls) = spec.object("mtls") {
            is_strict |= mode(&mtls);
        }
        if let Some(ports) = spec.object("portLevelMtls") {
            let labels = selector.as_ref().and_then(|one| one.raw("matchLabels"));
            if labels.is_none_or(|labels| labels.as_object().is_none_or(|all| all.is_empty())) {
                let message = "ports count with a selector alone, as in Istio: name the workload's \
                               labels";
                spec.refuse("portLevelMtls", "SelectorMissing", message);
            }
            for port in ports.keys() {
                if let Some(mtls) = ports.object(port) {
                    is_strict |= mode(&mtls);
                }
            }
        }
        if let Some(selector) = selector {
            let labels = selector.string_map("matchLabels");
            if is_strict && !labels.is_empty() {
                let labels: Vec<_> = labels
                    .iter()
                    .map(|(key, value)| format!("{key}={value}"))
                    .collect();
                let message = format!(
                    "pods with {} are not closed to plain connections; let their program ask for \
                     certificates, or use a NetworkPolicy where the cluster's network enforces it",
                    labels.join(",")
                );
                selector.refuse("matchLabels", "MutualTLSNotSupported", message);
            }
        }
    })
}

/// Whether it asks for what is held back.
fn mode(fields: &Fields<'_>) -> bool {
    let mode = fields.text("mode");
    match mode {
        None | Some("UNSET" | "PERMISSIVE" | "DISABLE") => {}
        Some("STRICT") => {
            let message = "held back: pods are spoken to in plain, STRICT is not enforced, and who \
                           reaches a pod's address reaches the pod; there are no certificates of \
                           the mesh yet: verify clients at the gateway with a Gateway's tls.mode \
                           MUTUAL, and close the pods' addresses with a NetworkPolicy where the \
                           cluster's network enforces those (suimon up does not)";
            fields.refuse("mode", "MutualTLSNotSupported", message);
        }
        Some(other) => {
            let message = format!("{other:?} is not STRICT, PERMISSIVE, DISABLE or UNSET");
            fields.refuse("mode", "FieldInvalid", message);
        }
    }
    mode == Some("STRICT")
}

pub(super) fn sidecar(object: &Object, objects: &Objects) -> Translation {
    judge(object, objects, |spec, _| {
        if let Some(selector) = spec.object("workloadSelector") {
            selector.string_map("labels");
        }
        for egress in spec.objects("egress") {
            // Bounds what a sidecar knows; the gateway knows everything at no cost.
            egress.strings("hosts");
            for key in ["port", "bind", "captureMode"] {
                egress.unsupported(key, "pods have no sidecar; remove it");
            }
        }
        if let Some(policy) = spec.object("outboundTrafficPolicy") {
            if policy.text("mode") == Some("REGISTRY_ONLY") {
                let message = "pods reach hosts outside by themselves, nothing holds them back";
                policy.refuse("mode", "FieldNotSupported", message);
            }
            policy.unsupported("egressProxy", "there is no egress gateway");
        }
        spec.unsupported(
            "ingress",
            "pods have no sidecar; requests go to the Service's port",
        );
        spec.unsupported(
            "inboundConnectionPool",
            "write connectionPool into a DestinationRule",
        );
    })
}

/// Kinds that nothing here serves: what to use instead.
pub(super) fn refused(object: &Object, objects: &Objects) -> Translation {
    let remedy = match object.kind.kind {
        "EnvoyFilter" => {
            "there is no Envoy to patch: use ASMLocalRateLimiter for limits, a VirtualService's \
             headers, fault and corsPolicy, or a DestinationRule's connectionPool and \
             outlierDetection"
        }
        "WasmPlugin" | "TrafficExtension" => {
            "extensions are not run: use RequestAuthentication and AuthorizationPolicy for access, \
             a VirtualService's headers for changes"
        }
        "ProxyConfig" => "pods have no sidecar, and the gateway takes its settings from its flags",
        "WorkloadGroup" => "write a WorkloadEntry for each workload",
        _ => "remove the object",
    };
    judge(object, objects, |spec, _| {
        let kind = object.kind.kind;
        let message = format!("{kind} is not supported and changes nothing; {remedy}");
        spec.findings().refuse("KindNotSupported", "spec", message);
        spec.pass_over();
    })
}
