//! One Knative Ingress, field by field: rules → paths → splits → arms.
//!
//! A field that makes its path unusable is refused and stops that path only: its neighbors are
//! served.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::names::annotation;
use api::networking::v1alpha1 as networking;
use routing::model::{
    Action, Arm, Filters, HeaderMatch, HeaderOps, HostPattern, Match, Origin, PathMatch, Protocol,
    Route, RouteId, SortKey, Split, TextMatch, Visibility,
};

use super::{Translation, hash, kourier, rule_hosts};
use crate::backend::{self, TargetKind};
use crate::diagnostic::{Diagnostic, Effect};
use crate::objects::{Name, Objects, Reader};
use crate::overlay::{self, Policies};
use crate::shared::{headers, host};

/// A prober sends this header with this value, and the gateway fills in the hash of what it serves.
/// Who answers is the backend's matter: for pods of a revision the proxy does.
pub(crate) const HASH_HEADER: &str = "k-network-hash";
const HASH_OVERRIDE: &str = "override";

/// Translates one Ingress.
pub(super) fn run(ingress: &networking::Ingress, objects: &Objects) -> Translation {
    let mut translator = Translator {
        ingress,
        reader: Reader::new(objects),
        name: Name::of(&ingress.metadata),
        hash: hash::hash(ingress).into(),
        kind: "Ingress".into(),
        uid: ingress.metadata.uid.as_deref().unwrap_or_default().into(),
        out: Translation::default(),
    };
    let redirect = translator.redirect();
    translator.tls();
    for (at, rule) in ingress.spec.rules.iter().enumerate() {
        translator.rule(at, rule, redirect);
    }
    translator.finish()
}

pub(super) struct Translator<'a> {
    pub(super) ingress: &'a networking::Ingress,
    pub(super) reader: Reader<'a>,
    pub(super) name: Name,
    hash: Arc<str>,
    kind: Arc<str>,
    uid: Arc<str>,
    pub(super) out: Translation,
}

/// What the routes of one path share.
struct PathPlan {
    visibility: Visibility,
    hosts: Vec<HostPattern>,
    path: Option<Arc<str>>,
    headers: Vec<HeaderMatch>,
    request_headers: HeaderOps,
    rewrite_host: Option<Arc<str>>,
    action: Action,
    position: [i64; 2],
    field: String,
    policies: Policies,
}

/// A field that makes its path unusable.
struct Refused;

impl Translator<'_> {
    /// Whether plain HTTP for external hosts is redirected.
    fn redirect(&mut self) -> bool {
        match self.ingress.spec.http_option.as_deref() {
            None | Some("" | "Enabled") => false,
            Some("Redirected") => true,
            Some(other) => {
                let message = format!(
                    "httpOption {other:?} is neither Enabled nor Redirected; plain HTTP is served"
                );
                self.refuse("HTTPOptionUnknown", "spec.httpOption", message);
                false
            }
        }
    }

    fn rule(&mut self, at: usize, rule: &networking::IngressRule, redirect: bool) {
        let field = format!("spec.rules[{at}]");
        let visibility = match rule.visibility.as_deref() {
            None | Some("" | "ExternalIP") => Visibility::External,
            Some("ClusterLocal") => Visibility::ClusterLocal,
            Some(other) => {
                let message = format!(
                    "visibility {other:?} is neither ExternalIP nor ClusterLocal; the rule is not served"
                );
                return self.refuse("VisibilityUnknown", &format!("{field}.visibility"), message);
            }
        };
        let hosts = self.own_hosts(rule, &field);
        let Some(http) = &rule.http else {
            return self.refuse(
                "HTTPMissing",
                &format!("{field}.http"),
                "the rule has no http section".to_owned(),
            );
        };
        if http.paths.is_empty() {
            self.refuse(
                "PathsMissing",
                &format!("{field}.http.paths"),
                "the rule has no paths".to_owned(),
            );
        }
        let redirect = redirect && visibility == Visibility::External;
        for (path_at, path) in http.paths.iter().enumerate() {
            let field = format!("{field}.http.paths[{path_at}]");
            // Both are indexes into an object that fits into memory.
            let position = [at as i64, path_at as i64];
            if let Ok(plan) = self.path(path, field, position, (visibility, &hosts), redirect)
                && !hosts.is_empty()
            {
                self.emit(plan);
            }
        }
    }

    /// The hosts of a rule that no older object claimed.
    fn own_hosts(&mut self, rule: &networking::IngressRule, field: &str) -> Vec<HostPattern> {
        for (at, text) in rule
            .hosts
            .iter()
            .enumerate()
            .filter(|(_, text)| host::expand(text).is_empty())
        {
            let message = format!("{text:?} is not a host name and is not served");
            self.refuse("HostInvalid", &format!("{field}.hosts[{at}]"), message);
        }
        let mut own = Vec::new();
        for host in rule_hosts(rule) {
            match self.reader.host_owner(&host) {
                Some(claimant) if claimant.owner != self.name => {
                    let message = format!(
                        "host {host} is already claimed by Ingress {}",
                        claimant.owner
                    );
                    let diagnostic = Diagnostic::new(
                        Effect::Conflict,
                        "DomainConflict",
                        &format!("{field}.hosts"),
                        message,
                    );
                    self.out.diagnostics.push(diagnostic);
                }
                Some(_) | None => own.push(host),
            }
        }
        own
    }

    fn path(
        &mut self,
        path: &networking::HttpIngressPath,
        field: String,
        position: [i64; 2],
        (visibility, hosts): (Visibility, &[HostPattern]),
        redirect: bool,
    ) -> Result<PathPlan, Refused> {
        let prefix = path.path.as_deref().filter(|prefix| !prefix.is_empty());
        if let Some(prefix) = prefix.filter(|prefix| !prefix.starts_with('/')) {
            self.refuse(
                "PathInvalid",
                &format!("{field}.path"),
                format!("path {prefix:?} does not begin with /"),
            );
            return Err(Refused);
        }
        let header_match =
            |(name, value): (&String, &networking::HeaderMatch)| -> Result<HeaderMatch, String> {
                Ok(HeaderMatch {
                    name: headers::name(name)?,
                    value: TextMatch::Exact(headers::value(&value.exact)?),
                })
            };
        let matches: Result<Vec<_>, String> = path.headers.iter().map(header_match).collect();
        let matches = self.or_refuse(matches, "HeaderInvalid", &format!("{field}.headers"))?;
        let request_headers = self.set(&path.append_headers, &format!("{field}.appendHeaders"))?;
        let rewrite_host = path.rewrite_host.as_deref().filter(|host| !host.is_empty());
        let rewrite = rewrite_host.map(authority).transpose();
        let rewrite_host = self.or_refuse(
            rewrite,
            "RewriteHostInvalid",
            &format!("{field}.rewriteHost"),
        )?;
        let split = self.split(&path.splits, &field)?;
        Ok(PathPlan {
            visibility,
            hosts: hosts.to_vec(),
            path: prefix.map(Arc::from),
            headers: matches,
            request_headers,
            rewrite_host,
            action: if redirect {
                Action::ForwardSecure(split)
            } else {
                Action::Forward(split)
            },
            position,
            field,
            policies: self.policies(hosts, self.named_host(path)),
        })
    }

    fn split(
        &mut self,
        splits: &[networking::IngressBackendSplit],
        field: &str,
    ) -> Result<Split, Refused> {
        let mut arms = Vec::with_capacity(splits.len());
        let mut refused = false;
        for (at, split) in splits.iter().enumerate() {
            let field = format!("{field}.splits[{at}]");
            match self.arm(split, splits.len() == 1, &field) {
                Ok(arm) => arms.push(arm),
                Err(Refused) => refused = true,
            }
        }
        if refused {
            return Err(Refused);
        }
        let total: u64 = arms.iter().map(|arm: &Arm| u64::from(arm.weight)).sum();
        if total != 100 {
            let message = format!("percentages add up to {total}, not 100; the path is not served");
            self.refuse("PercentInvalid", &format!("{field}.splits"), message);
            return Err(Refused);
        }
        Split::new(arms).ok_or(Refused)
    }

    fn arm(
        &mut self,
        split: &networking::IngressBackendSplit,
        alone: bool,
        field: &str,
    ) -> Result<Arm, Refused> {
        if *split.service_namespace != *self.name.namespace {
            let message = format!(
                "serviceNamespace {:?} is not the Ingress's own namespace {}; the path is not served",
                split.service_namespace, self.name.namespace
            );
            self.refuse(
                "NamespaceNotAllowed",
                &format!("{field}.serviceNamespace"),
                message,
            );
            return Err(Refused);
        }
        let weight = match split.percent {
            None | Some(0) if alone => Some(100),
            percent => u32::try_from(percent.unwrap_or(0))
                .ok()
                .filter(|percent| *percent <= 100),
        };
        let weight = weight.ok_or_else(|| {
            format!(
                "percent {} is not between 0 and 100",
                split.percent.unwrap_or(0)
            )
        });
        let weight = self.or_refuse(weight, "PercentInvalid", &format!("{field}.percent"))?;
        let request_headers = self.set(&split.append_headers, &format!("{field}.appendHeaders"))?;
        let service = Name::new(&split.service_namespace, &split.service_name);
        let target = match backend::resolve(&self.reader, &service, &split.service_port) {
            Ok(target) => target,
            Err(error) => {
                let effect = if error.may_appear() {
                    Effect::Waiting
                } else {
                    Effect::Refused
                };
                let field = format!("{field}.{}", error.field());
                let diagnostic = Diagnostic::new(effect, error.reason(), &field, error.to_string());
                self.out.diagnostics.push(diagnostic);
                return Err(Refused);
            }
        };
        if weight > 0 && !target.can_serve(&self.reader) {
            let message = format!("Service {service} has no ready endpoint yet");
            let diagnostic = Diagnostic::new(
                Effect::Starting,
                "EndpointsNotReady",
                &format!("{field}.serviceName"),
                message,
            );
            self.out.diagnostics.push(diagnostic);
        }
        // The pods of a revision speak what its port says, and nothing else.
        let over_http1 = self.disables_http2()
            && target.protocol() == Protocol::H2c
            && !matches!(target.kind, TargetKind::Revision(_));
        let mut reference = target.reference;
        let guards = overlay::at_backend(&self.reader, &mut reference);
        if over_http1 && reference.variant.is_none() {
            reference.variant = Some(backend::HTTP1.into());
        }
        let mut arm = Arm {
            request_headers,
            ..Arm::new(weight, reference.id())
        };
        arm.filters.guards = guards;
        self.out.backends.insert(reference);
        Ok(arm)
    }

    fn disables_http2(&self) -> bool {
        let value = self.annotation(annotation::DISABLE_HTTP2);
        value.is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    /// The host that requests are for after this path, or that their domain stands for.
    fn named_host<'p>(&'p self, path: &'p networking::HttpIngressPath) -> Option<&'p str> {
        let rewritten = path.rewrite_host.as_deref();
        rewritten.or_else(|| self.annotation(annotation::TARGET_HOST))
    }

    fn annotation(&self, key: &str) -> Option<&str> {
        let annotations = self.ingress.metadata.annotations.as_ref();
        annotations.and_then(|all| all.get(key).map(String::as_str))
    }

    /// appendHeaders replace what the client sent.
    fn set(
        &mut self,
        wanted: &BTreeMap<String, String>,
        field: &str,
    ) -> Result<HeaderOps, Refused> {
        let set = wanted.iter().map(|(name, value)| {
            headers::settable(name, value).map_err(|error| format!("{name:?}: {error}"))
        });
        let set: Result<Vec<_>, String> = set.collect();
        Ok(HeaderOps {
            set: self.or_refuse(set, "HeaderInvalid", field)?,
            ..HeaderOps::default()
        })
    }

    /// What is asked of requests for these hosts. Users name a Service by its host in the cluster,
    /// so what is said of that holds for its external hosts and its domain mappings too.
    fn policies(&self, hosts: &[HostPattern], rewrite_host: Option<&str>) -> Policies {
        let mut all: Vec<_> = hosts.to_vec();
        all.extend(rewrite_host.into_iter().flat_map(host::expand));
        let first_label = |host: &HostPattern| {
            let host = host.to_string();
            host.split_once('.').map(|(label, _)| label.to_owned())
        };
        let labels: Vec<_> = hosts.iter().map(first_label).collect();
        let cluster_local =
            |rule: &&networking::IngressRule| rule.visibility.as_deref() == Some("ClusterLocal");
        let rules = self.ingress.spec.rules.iter().filter(cluster_local);
        all.extend(
            rules
                .flat_map(rule_hosts)
                .filter(|host| labels.contains(&first_label(host))),
        );
        overlay::of_hosts(&self.reader, &all, &[])
    }

    /// The routes of a path: its probe twin, then itself.
    fn emit(&mut self, plan: PathPlan) {
        let id = format!("knative/{}/{}", self.name, plan.field);
        if let Action::Forward(split) | Action::ForwardSecure(split) = &plan.action {
            // Probes come over plain HTTP whatever users have to do.
            let action = Action::Forward(split.clone());
            let hash = HeaderMatch {
                name: HASH_HEADER.into(),
                value: TextMatch::Exact(HASH_OVERRIDE.into()),
            };
            let mut twin = self.route(&plan, vec![hash], action);
            let set = &mut twin.request_headers.set;
            set.retain(|(name, _)| **name != *HASH_HEADER);
            set.push((HASH_HEADER.into(), Arc::clone(&self.hash)));
            let id = RouteId(format!("{id}/probe").into());
            self.out.routes.push((id, Arc::new(twin)));
        }
        let route = self.route(&plan, Vec::new(), plan.action.clone());
        self.out.routes.push((RouteId(id.into()), Arc::new(route)));
    }

    /// `extra` are header predicates besides the path's own.
    fn route(&self, plan: &PathPlan, extra: Vec<HeaderMatch>, action: Action) -> Route {
        let mut headers = extra;
        headers.extend(plan.headers.iter().cloned());
        // Longest path first, then most headers, then as written.
        // No path is every path, as `/` is.
        let length = plan.path.as_ref().map_or(1, |path| path.len());
        let sort_key = vec![
            -(length as i64),
            -(headers.len() as i64),
            plan.position[0],
            plan.position[1],
        ];
        let path = plan
            .path
            .as_ref()
            .map(|path| PathMatch::StringPrefix(Arc::clone(path)));
        let unconditional = path.is_none() && headers.is_empty();
        let mut route = Route {
            origin: self.origin(&plan.field),
            bind: None,
            visibility: plan.visibility,
            hosts: plan.hosts.clone(),
            sort_key: SortKey(sort_key),
            matches: if unconditional {
                Vec::new()
            } else {
                vec![Match {
                    path,
                    headers,
                    ..Match::default()
                }]
            },
            request_headers: plan.request_headers.clone(),
            rewrite_host: plan.rewrite_host.clone(),
            filters: Filters::default(),
            action,
        };
        plan.policies.apply(&mut route, &self.reader);
        route.filters.client = kourier::client(&self.reader);
        route
    }

    pub(super) fn origin(&self, field: &str) -> Origin {
        Origin {
            dialect: "knative",
            kind: Arc::clone(&self.kind),
            namespace: Arc::clone(&self.name.namespace),
            name: Arc::clone(&self.name.name),
            uid: Arc::clone(&self.uid),
            generation: self.ingress.metadata.generation.unwrap_or_default(),
            field: field.into(),
        }
    }

    pub(super) fn refuse(&mut self, reason: &'static str, field: &str, message: String) {
        self.out
            .diagnostics
            .push(Diagnostic::new(Effect::Refused, reason, field, message));
    }

    fn or_refuse<T>(
        &mut self,
        result: Result<T, String>,
        reason: &'static str,
        field: &str,
    ) -> Result<T, Refused> {
        result.map_err(|message| {
            self.refuse(reason, field, message);
            Refused
        })
    }

    fn finish(self) -> Translation {
        let mut out = self.out;
        out.reads = self.reader.into_read();
        out.diagnostics.sort();
        out.diagnostics.dedup();
        out
    }
}

/// A host, optionally with a port, that may be sent upstream.
fn authority(text: &str) -> Result<Arc<str>, String> {
    let (name, port) = text
        .rsplit_once(':')
        .map_or((text, None), |(name, port)| (name, Some(port)));
    let port_is_number = port.is_none_or(|port| port.parse::<u16>().is_ok());
    if port_is_number && !host::expand(name).is_empty() {
        Ok(text.into())
    } else {
        Err(format!("{text:?} is not a host name"))
    }
}
