//! Statuses of what is attached to Gateways or Services besides routes: ListenerSets and policies.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use api::gateway::v1::{BackendTlsPolicy, PolicyStatus};
use api::gateway::v1alpha1::{Backend, BackendTrafficPolicy, TelemetryPolicy};
use dialects::Name;
use dialects::gateway_api::{self, PolicyKey};
use k8s_openapi::api::core::v1::Service;
use kube::Resource;
use reconcile::{Action, Error, Informer, Key};

use super::{Due, Shared};
use crate::backend_service;
use crate::index::PolicyTold;

impl Shared {
    pub(super) async fn write_set(&self, name: &Name) -> Result<Action, Error> {
        let outcome = self.held().sets.get(name).cloned();
        let key = Key::new(&*name.namespace, &*name.name);
        let (Some(outcome), Some(set)) = (outcome, self.caches.listener_sets.get(&key)) else {
            return Ok(Action::Await);
        };
        if set.metadata.generation.unwrap_or_default() != outcome.generation {
            return Ok(Action::Await);
        }
        let attached: BTreeMap<&str, usize> = outcome
            .attached
            .iter()
            .map(|(name, count)| (&**name, *count))
            .collect();
        let next = gateway_api::listener_set_status(
            &set,
            &outcome.plan,
            &attached,
            &outcome.failed,
            &reconcile::now(),
        );
        let current = set.status.as_ref();
        let due = Due::Set(name.clone());
        if let Some(later) = self.pace.later(&due, current, &next) {
            return Ok(Action::After(later));
        }
        let written =
            reconcile::write::replaced_status(&self.client, &*set, current, &next).await?;
        if let Some(written) = written {
            self.caches.listener_sets.learn(written);
        }
        Ok(Action::Await)
    }

    /// Makes the Service that finds the pods of an XBackend what it should be. It goes with its
    /// XBackend, or when that does not look for pods any more.
    pub(super) async fn apply_backend_service(&self, name: &Name) -> Result<(), Error> {
        let own = Key::new(&*name.namespace, &*name.name);
        let held = || self.pods_of.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(backend) = self.caches.backends.get(&own) else {
            held().remove(name);
            return Ok(());
        };
        let wanted = backend_service::service(&backend);
        if held().get(name) == Some(&wanted) {
            return Ok(());
        }
        match &wanted {
            Some(service) => drop(reconcile::write::apply(&self.client, service).await?),
            None => {
                let name = gateway_api::xbackend_service(&backend);
                let service = Key::new(&*name.namespace, &*name.name);
                reconcile::write::delete::<Service>(&self.client, &service).await?;
            }
        }
        held().insert(name.clone(), wanted);
        Ok(())
    }

    pub(super) async fn write_policy<K>(
        &self,
        policies: &Informer<K>,
        key: &PolicyKey,
        told: &PolicyTold,
    ) -> Result<(), Error>
    where
        K: Governing,
    {
        let own = Key::new(&*key.name.namespace, &*key.name.name);
        let Some(policy) = policies.get(&own) else {
            return Ok(());
        };
        if policy.meta().generation.unwrap_or_default() != told.generation {
            return Ok(());
        }
        let controllers = self.controllers();
        let current = policy.status();
        let next = gateway_api::policy_status(
            current,
            (key.kind, told.generation),
            &told.outcome,
            &told.ancestors,
            |controller| controllers.iter().any(|it| it == controller),
            &reconcile::now(),
        );
        if current.is_none() && next.ancestors.is_empty() {
            return Ok(());
        }
        reconcile::write::status(&self.client, policy.as_ref(), current, &next).await?;
        Ok(())
    }
}

/// A kind of policy, or a backend.
pub(super) trait Governing:
    reconcile::write::Object + Resource<DynamicType = ()> + Send + Sync + 'static
{
    fn status(&self) -> Option<&PolicyStatus>;
}

impl Governing for Backend {
    fn status(&self) -> Option<&PolicyStatus> {
        self.status.as_ref()
    }
}

impl Governing for TelemetryPolicy {
    fn status(&self) -> Option<&PolicyStatus> {
        self.status.as_ref()
    }
}

impl Governing for BackendTlsPolicy {
    fn status(&self) -> Option<&PolicyStatus> {
        self.status.as_ref()
    }
}

impl Governing for BackendTrafficPolicy {
    fn status(&self) -> Option<&PolicyStatus> {
        self.status.as_ref()
    }
}
