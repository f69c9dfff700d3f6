//! One Ingress, field by field: rules → paths → one route each, then the default backend.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::networking::v1 as networking;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use routing::model::{
    Action, Arm, Filters, HeaderOps, HostPattern, Match, Origin, PathMatch, Respond, Route,
    RouteId, SortKey, Split, Visibility,
};

use super::{Translation, annotations};
use crate::backend::{self, BackendRef};
use crate::diagnostic::{Diagnostic, Effect};
use crate::objects::{Name, Objects, Reader};
use crate::overlay;
use crate::shared::host;

/// Sorts after every path: those have the negated length of the path there.
const AFTER_PATHS: i64 = 1;

pub(super) fn run(ingress: &networking::Ingress, objects: &Objects) -> Translation {
    let created = ingress.metadata.creation_timestamp.as_ref();
    let mut translator = Translator {
        ingress,
        reader: Reader::new(objects),
        name: Name::of(&ingress.metadata),
        created: created.map_or(i64::MAX, |time| time.0.as_microsecond()),
        out: Translation::default(),
    };
    translator.out.diagnostics = annotations::diagnose(ingress);
    let spec = ingress.spec.clone().unwrap_or_default();
    for (at, entry) in spec.tls.iter().flatten().enumerate() {
        translator.tls(at, entry);
    }
    let mut hosts = BTreeSet::new();
    for (at, rule) in spec.rules.iter().flatten().enumerate() {
        hosts.extend(translator.rule(at, rule, spec.default_backend.as_ref()));
    }
    if let Some(backend) = &spec.default_backend {
        translator.default_backend(backend, hosts);
    } else if spec.rules.iter().flatten().next().is_none() {
        let message = "neither rules nor a default backend: nothing is served";
        translator.refuse("RulesMissing", "spec.rules", message.to_owned());
    }
    translator.finish()
}

pub(super) struct Translator<'a> {
    ingress: &'a networking::Ingress,
    pub(super) reader: Reader<'a>,
    pub(super) name: Name,
    /// Microseconds since the epoch.
    pub(super) created: i64,
    pub(super) out: Translation,
}

/// How a path of an Ingress is matched, and its place.
struct Path {
    matches: Vec<Match>,
    sort_key: [i64; 2],
}

impl Translator<'_> {
    /// Translates a rule. Returns the hosts that it serves.
    fn rule(
        &mut self,
        at: usize,
        rule: &networking::IngressRule,
        default: Option<&networking::IngressBackend>,
    ) -> Option<HostPattern> {
        let field = format!("spec.rules[{at}]");
        let host = rule.host.as_deref().unwrap_or_default();
        let host = self.host(host, &format!("{field}.host"), "the rule is not served")?;
        let Some(http) = &rule.http else {
            // API doc: a rule without `http` sends everything to the default backend.
            if default.is_none() {
                let message = "the rule has no http section, and there is no default backend";
                self.refuse("HTTPMissing", &format!("{field}.http"), message.to_owned());
            }
            return Some(host);
        };
        for (path_at, path) in http.paths.iter().enumerate() {
            let field = format!("{field}.http.paths[{path_at}]");
            let Some(Path { matches, sort_key }) = self.path(path, &field) else {
                continue;
            };
            let action = self.action(&path.backend, &format!("{field}.backend"));
            // Both are indexes into an object that fits into memory.
            let key = vec![
                sort_key[0],
                sort_key[1],
                self.created,
                at as i64,
                path_at as i64,
            ];
            self.route(field, vec![host.clone()], key, matches, action);
        }
        Some(host)
    }

    /// A host as it is matched, unless it cannot be; `so` says what follows.
    pub(super) fn host(&mut self, text: &str, field: &str, so: &str) -> Option<HostPattern> {
        let named = |name: &str| host::is_name(name).then(|| Arc::from(name.to_ascii_lowercase()));
        let pattern = match (text, text.strip_prefix("*.")) {
            ("", _) => Some(HostPattern::Any),
            (_, Some(suffix)) => named(suffix).map(HostPattern::Label),
            (exact, None) => named(exact).map(HostPattern::Exact),
        };
        let Some(pattern) = pattern else {
            self.refuse(
                "HostInvalid",
                field,
                format!("{text:?} is not a host name; {so}"),
            );
            return None;
        };
        if let Some(owner) = self.reader.host_owner(&pattern) {
            let message = format!(
                "host {pattern} belongs to the Knative Ingress {}; {so}",
                owner.owner
            );
            let conflict = Diagnostic::new(Effect::Conflict, "DomainConflict", field, message);
            self.out.diagnostics.push(conflict);
            return None;
        }
        Some(pattern)
    }

    fn path(&mut self, path: &networking::HTTPIngressPath, field: &str) -> Option<Path> {
        let text = path.path.as_deref().unwrap_or_default();
        let is_all = text.is_empty() && path.path_type == "ImplementationSpecific";
        if !text.starts_with('/') && !is_all {
            let message = format!("path {text:?} does not begin with /; it is not served");
            self.refuse("PathInvalid", &format!("{field}.path"), message);
            return None;
        }
        // API doc: a trailing slash of a Prefix says nothing.
        let elements = text.trim_end_matches('/');
        let (matched, length, rank) = match path.path_type.as_str() {
            "Exact" => (Some(PathMatch::Exact(text.into())), text.len(), 0),
            "Prefix" if elements.is_empty() => (None, 1, 1),
            "Prefix" => {
                let matched = PathMatch::ElementPrefix(elements.into());
                (Some(matched), elements.len(), 1)
            }
            "ImplementationSpecific" if text.len() <= 1 => (None, 1, 2),
            "ImplementationSpecific" => (Some(PathMatch::StringPrefix(text.into())), text.len(), 2),
            other => {
                let message = format!(
                    "pathType {other:?} is not Exact, Prefix or ImplementationSpecific; the path is not served"
                );
                self.refuse("PathTypeUnknown", &format!("{field}.pathType"), message);
                return None;
            }
        };
        let one = matched.map(|matched| Match {
            path: Some(matched),
            ..Match::default()
        });
        Some(Path {
            matches: one.into_iter().collect(),
            sort_key: [-(length as i64), rank],
        })
    }

    fn default_backend(
        &mut self,
        backend: &networking::IngressBackend,
        mut hosts: BTreeSet<HostPattern>,
    ) {
        let field = "spec.defaultBackend".to_owned();
        let action = self.action(backend, &field);
        // Hosts with rules are looked up alone, so what their paths leave must be said for each.
        hosts.insert(HostPattern::Any);
        let key = vec![AFTER_PATHS, self.created];
        self.route(field, hosts.into_iter().collect(), key, Vec::new(), action);
    }

    /// Where a backend's requests go: to its Service, or nowhere.
    fn action(&mut self, wanted: &networking::IngressBackend, field: &str) -> Action {
        match self.target(wanted, field) {
            Ok(mut reference) => {
                let guards = overlay::at_backend(&self.reader, &mut reference);
                let mut arm = Arm::new(1, reference.id());
                arm.filters.guards = guards;
                self.out.backends.insert(reference);
                Split::new(vec![arm]).map_or_else(unusable, Action::Forward)
            }
            Err(diagnostic) => {
                self.out.diagnostics.push(diagnostic);
                unusable()
            }
        }
    }

    fn target(
        &self,
        wanted: &networking::IngressBackend,
        field: &str,
    ) -> Result<BackendRef, Diagnostic> {
        let refuse = |reason, field: &str, message: &str| {
            Diagnostic::new(Effect::Refused, reason, field, message)
        };
        let Some(service) = &wanted.service else {
            let message = match &wanted.resource {
                Some(resource) => format!(
                    "backends of kind {} are not supported; name a Service",
                    resource.kind
                ),
                None => "no Service is named".to_owned(),
            };
            return Err(refuse("BackendNotSupported", field, &message));
        };
        let port = service.port.as_ref();
        let number = port.and_then(|port| port.number).map(IntOrString::Int);
        let named = port.and_then(|port| port.name.clone());
        let Some(port) = number.or_else(|| named.map(IntOrString::String)) else {
            let field = format!("{field}.service.port");
            return Err(refuse("PortMissing", &field, "no port is named"));
        };
        let name = Name::new(&self.name.namespace, &service.name);
        match backend::resolve(&self.reader, &name, &port) {
            Ok(target) => Ok(target.reference),
            Err(error) => {
                let effect = if error.may_appear() {
                    Effect::Waiting
                } else {
                    Effect::Refused
                };
                let part = if error.field() == "servicePort" {
                    "port"
                } else {
                    "name"
                };
                let field = format!("{field}.service.{part}");
                Err(Diagnostic::new(
                    effect,
                    error.reason(),
                    &field,
                    error.to_string(),
                ))
            }
        }
    }

    fn route(
        &mut self,
        field: String,
        hosts: Vec<HostPattern>,
        sort_key: Vec<i64>,
        matches: Vec<Match>,
        action: Action,
    ) {
        let id = RouteId(format!("ingress/{}/{field}", self.name).into());
        let policies = overlay::of_hosts(&self.reader, &hosts, &[]);
        let mut route = Route {
            origin: self.origin(&field),
            bind: None,
            visibility: Visibility::External,
            hosts,
            sort_key: SortKey(sort_key),
            matches,
            request_headers: HeaderOps::default(),
            rewrite_host: None,
            filters: Filters::default(),
            action,
        };
        policies.apply(&mut route, &self.reader);
        self.out.routes.push((id, Arc::new(route)));
    }

    pub(super) fn origin(&self, field: &str) -> Origin {
        let metadata = &self.ingress.metadata;
        Origin {
            dialect: "ingress",
            kind: "Ingress".into(),
            namespace: Arc::clone(&self.name.namespace),
            name: Arc::clone(&self.name.name),
            uid: metadata.uid.as_deref().unwrap_or_default().into(),
            generation: metadata.generation.unwrap_or_default(),
            field: field.into(),
        }
    }

    pub(super) fn refuse(&mut self, reason: &'static str, field: &str, message: String) {
        self.out
            .diagnostics
            .push(Diagnostic::new(Effect::Refused, reason, field, message));
    }

    fn finish(self) -> Translation {
        let mut out = self.out;
        out.reads = self.reader.into_read();
        out.diagnostics.sort();
        out.diagnostics.dedup();
        out
    }
}

/// The answer in place of a Service that cannot be used.
fn unusable() -> Action {
    Action::Respond(Respond {
        status: 503,
        headers: vec![("content-type".into(), "text/plain; charset=utf-8".into())],
        body: "the Service behind this path cannot be used\n".into(),
    })
}
