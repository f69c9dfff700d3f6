//! What a policy's status says, for each of its targets.

use serde_json::{Value, json};

use super::target::{self, Target, TargetKind};
use super::{TRAFFIC_POLICY, governing, read, said};
use crate::diagnostic::{Diagnostic, Effect, joined};
use crate::fields::{Fields, Findings};
use crate::foreign::{Object, Translation};
use crate::gateway_api::RouteKind;
use crate::objects::{Name, Objects, Reader};

/// Bytes of a condition's message.
const MOST_TEXT: usize = 4096;

pub(super) fn judge(object: &Object, objects: &Objects) -> Translation {
    let reader = Reader::new(objects);
    let findings = Findings::default();
    let mut targets = Vec::new();
    {
        let body = Fields::new(&object.body, String::new(), &findings);
        body.ignore("spec");
        let spec = Fields::new(object.spec(), "spec".to_owned(), &findings);
        targets.extend(target::read(&spec, &object.name.namespace));
        // For its findings; what it says is asked for by what it is in force on.
        let said = read::read(&spec, "", "");
        let external = said.external.and_then(|external| external.service);
        let limits = said.limits.and_then(|limits| limits.service);
        let asked = [
            ("externalAuthorization.service", external),
            ("rateLimitService.service", limits),
        ];
        for (key, service) in asked {
            let Some((name, _)) = service else { continue };
            let service = Name::new(&object.name.namespace, &name);
            if reader.service(&service).is_none() {
                let message = format!("Service {service} does not exist: nobody can be asked");
                let field = spec.at(key);
                spec.findings()
                    .say(Effect::Waiting, "ServiceMissing", &field, message);
            }
        }
        let is_for = |kind| targets.iter().any(|target| target.kind == kind);
        let for_services = is_for(TargetKind::Service);
        let for_routes = targets
            .iter()
            .any(|target| target.kind != TargetKind::Service);
        for key in read::OF_ROUTES {
            if for_services && spec.has(key) {
                let message = "it is for Gateways and routes: a Service's requests keep to what their route says";
                spec.refuse(key, "TargetNotSupported", message);
            }
        }
        for key in read::OF_SERVICES {
            if for_routes && spec.has(key) {
                let message = "it is for Services: write a policy whose targets are Services";
                spec.refuse(key, "TargetNotSupported", message);
            }
        }
    }
    let diagnostics = findings.take();
    let ancestors: Vec<_> = targets
        .iter()
        .map(|target| ancestor(object, target, &reader, &diagnostics))
        .collect();
    Translation {
        status: Some(json!({"ancestors": ancestors})),
        diagnostics,
        reads: reader.into_read(),
        ..Translation::default()
    }
}

fn ancestor(
    object: &Object,
    target: &Target,
    reader: &Reader<'_>,
    diagnostics: &[Diagnostic],
) -> Value {
    let name = &target.name;
    let first = governing(reader, target.kind, name);
    let first = first.filter(|first| first.name != object.name);
    let is_there = match target.kind {
        TargetKind::Gateway => reader.plan(name).is_some(),
        TargetKind::Service => reader.service(name).is_some(),
        TargetKind::HttpRoute => reader.has_route(RouteKind::Http, name),
        TargetKind::GrpcRoute => reader.has_route(RouteKind::Grpc, name),
    };
    let mut partial = None;
    let (status, reason, message) = if let Some(first) = first {
        let kind = target.kind.name();
        let text = format!(
            "{} {} is about {kind} {name} too and comes first: nothing of this one is in force there",
            TRAFFIC_POLICY.kind, first.name
        );
        ("False", "Conflicted", text)
    } else if !is_there {
        let text = format!("{} {name} does not exist", target.kind.name());
        ("False", "TargetNotFound", text)
    } else if diagnostics.is_empty() {
        ("True", "Accepted", String::new())
    } else if said(object, target.kind, name).is_in_force(target.kind) {
        // Gateway API has a condition for it beside Accepted.
        partial = Some(format!("{}; the rest is in force", told(diagnostics)));
        ("True", "Accepted", String::new())
    } else {
        let text = format!("{}; nothing is in force", told(diagnostics));
        ("False", "Invalid", text)
    };
    let mut conditions = vec![json!({
        "type": "Accepted",
        "status": status,
        "reason": reason,
        "message": message,
        "observedGeneration": object.generation,
    })];
    conditions.extend(partial.map(|message| {
        json!({
            "type": "PartiallyInvalid",
            "status": "True",
            "reason": "UnsupportedValue",
            "message": message,
            "observedGeneration": object.generation,
        })
    }));
    json!({
        "ancestorRef": {
            "group": target.kind.group(),
            "kind": target.kind.name(),
            "namespace": &*name.namespace,
            "name": &*name.name,
        },
        "controllerName": api::gateway::CONTROLLER,
        "conditions": conditions,
    })
}

fn told(diagnostics: &[Diagnostic]) -> String {
    let texts = diagnostics.iter();
    let texts = texts.map(|one| format!("{}: {}", one.field, one.message));
    joined(texts, MOST_TEXT)
}
