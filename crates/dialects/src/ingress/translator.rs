//! One Ingress, field by field: rules → paths → one route each, then the default backend.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::networking::v1 as networking;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use routing::model::{
    Action, Arm, Filters, HeaderOps, HostPattern, Match, Origin, PathMatch, Respond, Route,
    RouteId, SortKey, Split, Visibility,
};

use super::nginx::{self, Redirected, Wishes};
use super::{Translation, annotations};
use crate::backend::{self, BackendRef};
use crate::diagnostic::{Diagnostic, Effect};
use crate::objects::{Name, Objects, Reader};
use crate::overlay;
use crate::shared::{host, scheme};

/// Sorts after every path: those have the negated length of the path there.
const AFTER_PATHS: i64 = 1;

pub(super) fn run(ingress: &networking::Ingress, objects: &Objects) -> Translation {
    let created = ingress.metadata.creation_timestamp.as_ref();
    let mut translator = Translator {
        ingress,
        reader: Reader::new(objects),
        name: Name::of(&ingress.metadata),
        created: created.map_or(i64::MAX, |time| time.0.as_microsecond()),
        wishes: Wishes::default(),
        out: Translation::default(),
    };
    translator.out.diagnostics = annotations::diagnose(ingress);
    let found = &mut translator.out.diagnostics;
    translator.wishes = nginx::read(ingress, &translator.reader, found);
    let spec = ingress.spec.clone().unwrap_or_default();
    for (at, entry) in spec.tls.iter().flatten().enumerate() {
        translator.tls(at, entry);
    }
    if translator.wishes.is_canary {
        return translator.finish();
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
    /// What annotations ask for.
    wishes: Wishes,
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
    ) -> Vec<HostPattern> {
        let field = format!("spec.rules[{at}]");
        let hosts = self.hosts(rule, &format!("{field}.host"));
        if hosts.is_empty() {
            return hosts;
        }
        let Some(http) = &rule.http else {
            // API doc: a rule without `http` sends everything to the default backend.
            if default.is_none() {
                let message = "the rule has no http section, and there is no default backend";
                self.refuse("HTTPMissing", &format!("{field}.http"), message.to_owned());
            }
            return hosts;
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
            self.route(field, hosts.clone(), key, matches, action);
        }
        self.app_root(&field, &hosts);
        hosts
    }

    /// The host of a rule, with its other names.
    fn hosts(&mut self, rule: &networking::IngressRule, field: &str) -> Vec<HostPattern> {
        let host = rule.host.as_deref().unwrap_or_default();
        let own = self.host(host, field, "the rule is not served");
        let mut hosts: Vec<_> = own.into_iter().collect();
        if hosts.is_empty() {
            return hosts;
        }
        let key = "metadata.annotations[nginx.ingress.kubernetes.io/server-alias]";
        for alias in self.wishes.aliases.clone() {
            hosts.extend(self.host(&alias, key, "the rule is not served there"));
        }
        hosts.sort();
        hosts.dedup();
        hosts
    }

    /// Requests for `/` are sent to where the application begins.
    fn app_root(&mut self, rule: &str, hosts: &[HostPattern]) {
        let Some(root) = &self.wishes.app_root else {
            return;
        };
        let to = Respond {
            status: 302,
            headers: vec![("location".into(), root.as_str().into())],
            body: "".into(),
        };
        let root = Match {
            path: Some(PathMatch::Exact("/".into())),
            ..Match::default()
        };
        // Before every other path of these hosts that takes it, whatever Ingress that is of.
        let key = vec![-1, -1, self.created];
        let field = format!("{rule}.app-root");
        self.route(field, hosts.to_vec(), key, vec![root], Action::Respond(to));
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
        let matched = if self.wishes.is_regex {
            Some(self.expression(text, field)?)
        } else {
            matched
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

    /// A path that NGINX compares as an expression: from its beginning, in any case.
    fn expression(&mut self, text: &str, field: &str) -> Option<PathMatch> {
        let whole = format!("(?i)(?:{text}).*");
        match routing::regex::compile(&whole) {
            Ok(_) => Some(PathMatch::Regex(whole.into())),
            Err(error) => {
                let message = format!(
                    "path {text:?} is no expression, as which use-regex and rewrite-target have \
                     it read: {error}; it is not served"
                );
                self.refuse("RegexInvalid", &format!("{field}.path"), message);
                None
            }
        }
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
        self.redirect(&mut route, &field);
        self.wishes.apply(&mut route);
        policies.apply(&mut route, &self.reader);
        self.out.routes.push((id, Arc::new(route)));
    }

    /// Plain HTTP of a route is sent to HTTPS, if that is asked for its hosts, before the route.
    fn redirect(&mut self, route: &mut Route, field: &str) {
        let hosts: Vec<_> = match self.wishes.to_https {
            None => return,
            Some(Redirected::All) => route.hosts.clone(),
            Some(Redirected::WithCertificate) => {
                let named = |host: &&HostPattern| self.has_certificate(host);
                route.hosts.iter().filter(named).cloned().collect()
            }
        };
        if hosts.is_empty() {
            return;
        }
        let mut sent = Route {
            hosts,
            matches: scheme::over_http(&route.matches),
            action: Action::Redirect(nginx::to_https()),
            ..route.clone()
        };
        sent.sort_key.0.push(0);
        route.sort_key.0.push(1);
        let id = RouteId(format!("ingress/{}/{field}/https", self.name).into());
        self.out.routes.push((id, Arc::new(sent)));
    }

    /// Whether `spec.tls` names a host, or is for every one.
    fn has_certificate(&self, host: &HostPattern) -> bool {
        let spec = self.ingress.spec.iter();
        let mut entries = spec.flat_map(|spec| spec.tls.iter().flatten());
        let name = host.to_string();
        entries.any(|entry| {
            let hosts = entry.hosts.as_deref().unwrap_or_default();
            hosts.is_empty() || hosts.iter().any(|it| it.eq_ignore_ascii_case(&name))
        })
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
