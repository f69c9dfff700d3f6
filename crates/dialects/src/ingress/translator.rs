//! One Ingress, field by field: rules → paths → one route each, then the default backend.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::networking::v1 as networking;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use routing::model::{Action, Arm, HashKey, HostPattern, Match, Origin, PathMatch, Respond, Split};

use super::canary::Served;
use super::nginx::{self, Wishes, session};
use super::{Translation, annotations};
use crate::apisix::route_policy::{self, Conditions, Target};
use crate::backend::{self, BackendRef};
use crate::diagnostic::{Diagnostic, Effect};
use crate::foreign::BackendSpec;
use crate::objects::{Name, Objects, Reader};
use crate::overlay;
use crate::shared::{host, variant};

/// Sorts after every path: those have the negated length of the path there.
const AFTER_PATHS: i64 = 1;

pub(super) fn run(ingress: &networking::Ingress, objects: &Objects) -> Translation {
    let mut translator = Translator {
        ingress,
        reader: Reader::new(objects),
        name: Name::of(&ingress.metadata),
        created: super::created(ingress),
        wishes: Wishes::default(),
        conditions: Conditions::default(),
        out: Translation::default(),
    };
    translator.out.diagnostics = annotations::diagnose(ingress);
    let found = &mut translator.out.diagnostics;
    translator.wishes = nginx::read(ingress, &translator.reader, found);
    let spec = ingress.spec.clone().unwrap_or_default();
    for (at, entry) in spec.tls.iter().flatten().enumerate() {
        translator.tls(at, entry);
    }
    let target = (Target::Ingress, &translator.name);
    match route_policy::of(&translator.reader, target, None) {
        Ok(conditions) => translator.conditions = conditions,
        Err(why) => {
            translator.refuse("HTTPRoutePolicyInvalid", "metadata.name", why);
            return translator.finish();
        }
    }
    if translator.wishes.is_canary {
        translator.judge(&spec);
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
    pub(super) ingress: &'a networking::Ingress,
    pub(super) reader: Reader<'a>,
    pub(super) name: Name,
    /// Microseconds since the epoch.
    pub(super) created: i64,
    /// What annotations ask for.
    pub(super) wishes: Wishes,
    /// What policies of APISIX say.
    pub(super) conditions: Conditions,
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
            // Both are indexes into an object that fits into memory.
            let sort_key = [
                sort_key[0],
                sort_key[1],
                self.place(),
                at as i64,
                path_at as i64,
            ];
            self.serve(&Served {
                host: rule.host.as_deref().unwrap_or_default(),
                path,
                field,
                hosts: hosts.clone(),
                sort_key: sort_key.to_vec(),
                matches,
            });
        }
        self.app_root(&field, &hosts);
        hosts
    }

    /// The age, after the priority that policies give.
    fn place(&self) -> i64 {
        // Priorities are a thousand at most.
        self.created - (self.conditions.priority << 51)
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
        let action = Action::Respond(to);
        self.route((&field, ""), hosts.to_vec(), key, vec![root], action);
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
        let keeps = self.wishes.keeps("/");
        let own = Arc::clone(&self.name.namespace);
        let arm = self.arm(&own, backend, &field, keeps.as_ref());
        let arm = arm.map_err(|finding| self.out.diagnostics.push(finding));
        let action = arm.ok().and_then(|arm| Split::new(vec![arm]));
        let action = action.map_or_else(unusable, Action::Forward);
        // Hosts with rules are looked up alone, so what their paths leave must be said for each.
        hosts.insert(HostPattern::Any);
        let key = vec![AFTER_PATHS, self.place()];
        let hosts = hosts.into_iter().collect();
        self.route((&field, ""), hosts, key, Vec::new(), action);
    }

    /// All that goes to a Service of this namespace, with what keeps requests to its endpoints.
    pub(super) fn arm(
        &mut self,
        namespace: &str,
        wanted: &networking::IngressBackend,
        field: &str,
        keeps: Option<&HashKey>,
    ) -> Result<Arm, Diagnostic> {
        let mut reference = self.target(namespace, wanted, field)?;
        let guards = overlay::at_backend(&self.reader, &mut reference);
        let mut spec = BackendSpec::default();
        if let Some(key) = keeps {
            let (service, port) = (&reference.service, reference.port);
            spec = overlay::endpoints(&self.reader, service, port, spec);
            session::keep(key.clone(), &mut spec);
            reference.variant = Some(variant::always("ingress", &spec));
        }
        let mut arm = Arm::new(1, reference.id());
        arm.filters.guards = guards;
        self.out.backends.insert(reference, Arc::new(spec));
        Ok(arm)
    }

    pub(super) fn target(
        &self,
        namespace: &str,
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
        let name = Name::new(namespace, &service.name);
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
pub(super) fn no_service() -> Respond {
    Respond {
        status: 503,
        headers: vec![("content-type".into(), "text/plain; charset=utf-8".into())],
        body: "the Service behind this path cannot be used\n".into(),
    }
}

/// The same for a whole route.
pub(super) fn unusable() -> Action {
    Action::Respond(no_service())
}
