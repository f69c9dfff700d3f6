//! Policies that are attached to Services: which there are, and which one governs a port.
//!
//! XBackends are kept beside them: their status, too, stands below the Gateways whose routes lead
//! to what they are about, which is themselves.
//!
//! Of two that name the same port the older one counts, then the one whose name sorts first; one
//! that names a port by name counts before one for all ports. The loser is told so in its status.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use api::gateway::reason;
use api::gateway::v1::{
    BackendTlsPolicy, ParentReference, PolicyAncestorStatus, PolicyStatus, PolicyTarget,
};
use api::gateway::v1alpha1::{Backend, BackendTrafficPolicy, TelemetryPolicy};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use reason::condition;

use super::plan::Finding;
use super::status::Conditions;
use super::{backend_tls, telemetry, traffic, xbackend};
use crate::objects::{Dependency, Name, Objects, Reader};

/// Ancestors that a status can hold.
const MAX_ANCESTORS: usize = 16;
/// The same for an XBackend.
const MAX_ANCESTORS_OF_BACKEND: usize = 32;

/// A kind of policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PolicyKind {
    BackendTls,
    Traffic,
    /// No policy, but what routes lead to.
    Backend,
    /// Of Gateways.
    Telemetry,
}

impl PolicyKind {
    /// As the API calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::BackendTls => "BackendTLSPolicy",
            Self::Traffic => "XBackendTrafficPolicy",
            Self::Backend => "XBackend",
            Self::Telemetry => "XTelemetryPolicy",
        }
    }
}

/// Identity of a policy of any kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyKey {
    pub kind: PolicyKind,
    pub name: Name,
}

/// A policy of any kind.
#[derive(Clone, Debug)]
pub enum Policy {
    BackendTls(Arc<BackendTlsPolicy>),
    Traffic(Arc<BackendTrafficPolicy>),
    Backend(Arc<Backend>),
    Telemetry(Arc<TelemetryPolicy>),
}

impl Policy {
    pub fn metadata(&self) -> &ObjectMeta {
        match self {
            Self::BackendTls(policy) => &policy.metadata,
            Self::Traffic(policy) => &policy.metadata,
            Self::Backend(backend) => &backend.metadata,
            Self::Telemetry(policy) => &policy.metadata,
        }
    }

    fn kind(&self) -> PolicyKind {
        match self {
            Self::BackendTls(_) => PolicyKind::BackendTls,
            Self::Traffic(_) => PolicyKind::Traffic,
            Self::Backend(_) => PolicyKind::Backend,
            Self::Telemetry(_) => PolicyKind::Telemetry,
        }
    }

    fn targets(&self) -> &[PolicyTarget] {
        match self {
            Self::BackendTls(policy) => &policy.spec.target_refs,
            Self::Traffic(policy) => &policy.spec.target_refs,
            Self::Backend(_) => &[],
            Self::Telemetry(policy) => &policy.spec.target_refs,
        }
    }

    /// The Services that it names; an XBackend names itself.
    pub fn services(&self) -> BTreeSet<Name> {
        if let Self::Backend(backend) = self {
            return BTreeSet::from([stands_as(&Name::of(&backend.metadata))]);
        }
        let namespace = self.metadata().namespace.as_deref().unwrap_or_default();
        let targets = self.targets().iter();
        let names = targets.filter_map(|target| place(self.kind(), target, namespace));
        names.collect()
    }

    /// The Gateways that it names.
    pub fn gateways(&self) -> BTreeSet<Name> {
        let namespace = self.metadata().namespace.as_deref().unwrap_or_default();
        let targets = self.targets().iter().filter(|target| is_gateway(target));
        let names = targets.map(|target| Name::new(namespace, &target.name));
        let is_about = self.kind() == PolicyKind::Telemetry;
        names.filter(|_| is_about).collect()
    }

    /// Whether nothing changed that anybody but its own status could see.
    pub fn is_same(&self, other: &Self) -> bool {
        let same_spec = match (self, other) {
            (Self::BackendTls(a), Self::BackendTls(b)) => a.spec == b.spec,
            (Self::Traffic(a), Self::Traffic(b)) => a.spec == b.spec,
            (Self::Backend(a), Self::Backend(b)) => a.spec == b.spec,
            (Self::Telemetry(a), Self::Telemetry(b)) => a.spec == b.spec,
            // A key is of one kind.
            (Self::BackendTls(_) | Self::Traffic(_) | Self::Backend(_) | Self::Telemetry(_), _) => {
                false
            }
        };
        let (a, b) = (self.metadata(), other.metadata());
        same_spec && a.uid == b.uid && a.creation_timestamp == b.creation_timestamp
    }

    /// Older first, then by name.
    fn rank(&self) -> (i64, Name) {
        let created = self.metadata().creation_timestamp.as_ref();
        let age = created.map_or(i64::MAX, |time| time.0.as_second());
        (age, Name::of(self.metadata()))
    }
}

fn is_service(target: &PolicyTarget) -> bool {
    target.group.is_empty() && target.kind == "Service"
}

fn is_gateway(target: &PolicyTarget) -> bool {
    target.group == api::gateway::GROUP && target.kind == "Gateway"
}

/// What a target stands for among the Services that policies name.
fn place(kind: PolicyKind, target: &PolicyTarget, namespace: &str) -> Option<Name> {
    let name = Name::new(namespace, &target.name);
    match kind {
        PolicyKind::Telemetry => is_gateway(target).then(|| gateway_stands_as(&name)),
        PolicyKind::BackendTls | PolicyKind::Traffic | PolicyKind::Backend => {
            is_service(target).then_some(name)
        }
    }
}

/// A Gateway among the Services that policies name. No Service has such a name.
fn gateway_stands_as(gateway: &Name) -> Name {
    Name::new(&gateway.namespace, &format!("gateway/{}", gateway.name))
}

fn section(target: &PolicyTarget) -> Option<&str> {
    target
        .section_name
        .as_deref()
        .filter(|name| !name.is_empty())
}

/// An XBackend among the Services that policies name. No Service has such a name.
pub(super) fn stands_as(backend: &Name) -> Name {
    Name::new(&backend.namespace, &format!("xbackend/{}", backend.name))
}

/// All policies.
#[derive(Debug, Default)]
pub(super) struct Policies {
    by_key: HashMap<PolicyKey, Policy>,
    by_service: HashMap<Name, BTreeSet<PolicyKey>>,
}

impl Objects {
    /// Sets (`Some`) or removes (`None`) a policy. Returns what changed.
    pub fn put_policy(&mut self, key: &PolicyKey, policy: Option<Policy>) -> Vec<Dependency> {
        let known = &mut self.gateway_api.policies;
        let was_empty = known.by_key.is_empty();
        let after = policy.as_ref().map(Policy::services).unwrap_or_default();
        let is_new = policy.is_some();
        let before = match policy.clone() {
            Some(policy) => known.by_key.insert(key.clone(), policy),
            None => known.by_key.remove(key),
        };
        match (&before, &policy) {
            (None, None) => return Vec::new(),
            (Some(before), Some(policy)) if before.is_same(policy) => return Vec::new(),
            _ => {}
        }
        let before = before.as_ref().map(Policy::services).unwrap_or_default();
        for service in before.difference(&after) {
            if let Some(keys) = known.by_service.get_mut(service) {
                keys.remove(key);
                if keys.is_empty() {
                    known.by_service.remove(service);
                }
            }
        }
        for service in &after {
            let keys = known.by_service.entry(service.clone()).or_default();
            keys.insert(key.clone());
        }
        let touched = before.union(&after).cloned();
        let mut changed: Vec<_> = touched.map(Dependency::PoliciesOf).collect();
        if was_empty && is_new {
            changed.push(Dependency::Policies);
        }
        changed
    }

    /// The policies that name a Service.
    pub fn policies_of<'a>(
        &'a self,
        service: &Name,
    ) -> impl Iterator<Item = &'a PolicyKey> + use<'a> {
        let keys = self.gateway_api.policies.by_service.get(service);
        keys.into_iter().flatten()
    }

    /// The policies that name a Gateway.
    pub fn policies_of_gateway<'a>(
        &'a self,
        gateway: &Name,
    ) -> impl Iterator<Item = &'a PolicyKey> + use<'a> {
        self.policies_of(&gateway_stands_as(gateway))
    }
}

/// The policies of a kind that name a Service, the first in rank first.
fn of_service<'a>(reader: &Reader<'a>, service: &Name, kind: PolicyKind) -> Vec<&'a Policy> {
    let known = &reader.objects().gateway_api.policies;
    if known.by_key.is_empty() {
        // One thing to remember for all routes of those who use no policies.
        reader.note(Dependency::Policies);
        return Vec::new();
    }
    reader.note(Dependency::PoliciesOf(service.clone()));
    let keys = known.by_service.get(service).into_iter().flatten();
    let of_kind = keys.filter(|key| key.kind == kind);
    let mut policies: Vec<_> = of_kind.filter_map(|key| known.by_key.get(key)).collect();
    policies.sort_by_cached_key(|policy| policy.rank());
    policies
}

/// The XBackend of this name.
pub(super) fn xbackend<'a>(reader: &Reader<'a>, name: &Name) -> Option<&'a Arc<Backend>> {
    let found = of_service(reader, &stands_as(name), PolicyKind::Backend);
    match found.first()? {
        Policy::Backend(backend) => Some(backend),
        Policy::BackendTls(_) | Policy::Traffic(_) | Policy::Telemetry(_) => None,
    }
}

/// Whether some policy names a Service.
pub(super) fn is_governed(reader: &Reader<'_>, service: &Name) -> bool {
    [PolicyKind::BackendTls, PolicyKind::Traffic]
        .into_iter()
        .any(|kind| !of_service(reader, service, kind).is_empty())
}

/// The policy of a kind that counts for a port of a Service.
pub(super) fn governing<'a>(
    reader: &Reader<'a>,
    service: &Name,
    port_name: &str,
    kind: PolicyKind,
) -> Option<&'a Policy> {
    let policies = of_service(reader, service, kind);
    let naming = |wanted: Option<&str>| {
        policies.iter().copied().find(|policy| {
            let mut targets = policy.targets().iter();
            targets.any(|target| {
                is_service(target) && *target.name == *service.name && section(target) == wanted
            })
        })
    };
    naming(Some(port_name).filter(|name| !name.is_empty())).or_else(|| naming(None))
}

/// What became of a policy.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PolicyOutcome {
    /// Why it is not in force, or not everywhere.
    pub refused: Option<Finding>,
    /// What it refers to that cannot be used.
    pub unresolved: Option<Finding>,
}

/// Judges one policy, and says what was read.
pub fn judge_policy(policy: &Policy, objects: &Objects) -> (PolicyOutcome, BTreeSet<Dependency>) {
    let reader = Reader::new(objects);
    let mut outcome = match policy {
        Policy::BackendTls(policy) => backend_tls::judge(policy, &reader),
        Policy::Traffic(policy) => traffic::judge(policy),
        Policy::Backend(backend) => xbackend::judge(backend, &reader),
        Policy::Telemetry(policy) => telemetry::judge(policy),
    };
    if let Some(lost) = lost(policy, &reader) {
        outcome.refused = Some(lost);
    }
    (outcome, reader.into_read())
}

/// The first of its targets that another policy has.
fn lost(policy: &Policy, reader: &Reader<'_>) -> Option<Finding> {
    let own = Name::of(policy.metadata());
    let kind = policy.kind();
    let mut lost = policy.targets().iter().filter_map(|target| {
        let service = place(kind, target, &own.namespace)?;
        let has_it = |other: &&Policy| {
            let mut targets = other.targets().iter();
            targets.any(|it| {
                place(kind, it, &own.namespace).as_ref() == Some(&service)
                    && section(it) == section(target)
            })
        };
        let first = of_service(reader, &service, policy.kind())
            .into_iter()
            .find(has_it)?;
        let first = Name::of(first.metadata());
        (first != own).then(|| {
            let text = format!(
                "{} {first} is about {} {}/{} too and comes first",
                kind.name(),
                target.kind,
                own.namespace,
                target.name
            );
            Finding::new(reason::CONFLICTED, text)
        })
    });
    lost.next()
}

/// The status of a policy below the Gateways (with their controllers) whose routes use what it is
/// about. Entries of other controllers stay as they are.
pub fn policy_status(
    stored: Option<&PolicyStatus>,
    (kind, generation): (PolicyKind, i64),
    outcome: &PolicyOutcome,
    ancestors: &[(Name, Arc<str>)],
    is_ours: impl Fn(&str) -> bool,
    now: &Time,
) -> PolicyStatus {
    let entries = stored.map_or(&[][..], |status| &status.ancestors);
    let others = entries
        .iter()
        .filter(|entry| !is_ours(&entry.controller_name));
    let ours = ancestors.iter().map(|(gateway, controller)| {
        let ancestor_ref = ParentReference {
            group: api::gateway::GROUP.to_owned(),
            kind: "Gateway".to_owned(),
            namespace: Some(gateway.namespace.to_string()),
            name: gateway.name.to_string(),
            ..ParentReference::default()
        };
        let before = entries.iter().find(|entry| {
            entry.ancestor_ref == ancestor_ref && *entry.controller_name == **controller
        });
        let before = before.map_or(&[][..], |entry| &entry.conditions);
        let mut conditions = Conditions::new(before, generation, now.clone());
        let refused = outcome.refused.as_ref();
        conditions.unless(condition::ACCEPTED, refused, reason::ACCEPTED);
        if matches!(kind, PolicyKind::BackendTls | PolicyKind::Backend) {
            let unresolved = outcome.unresolved.as_ref();
            conditions.unless(condition::RESOLVED_REFS, unresolved, reason::RESOLVED_REFS);
        }
        PolicyAncestorStatus {
            ancestor_ref,
            controller_name: controller.to_string(),
            conditions: conditions.into_vec(),
        }
    });
    let most = match kind {
        PolicyKind::Backend => MAX_ANCESTORS_OF_BACKEND,
        PolicyKind::BackendTls | PolicyKind::Traffic | PolicyKind::Telemetry => MAX_ANCESTORS,
    };
    PolicyStatus {
        ancestors: others.cloned().chain(ours).take(most).collect(),
    }
}
