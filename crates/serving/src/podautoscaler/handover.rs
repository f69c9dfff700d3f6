//! Takes a revision's siblings into account: bounds that its Service and the revision before it
//! set, over its own.
//!
//! What a revision took over is remembered only in this process: after a restart pods are kept
//! for a stable window anyhow.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ::reconcile::Key;
use api::autoscaling::v1alpha1::PodAutoscaler;
use api::names::label;
use api::serving::v1::{Configuration, Route, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::Autoscalers;
use super::reconcile::replicas;
use super::siblings::Siblings;
use super::spec::Resolved;
use super::status::initialized_for;
use crate::object::label;
use crate::route::rollout_duration;
use crate::settings::Config;

/// Pods that revisions took over with their traffic, until their own load is known.
#[derive(Default)]
pub(super) struct Handovers(Mutex<HashMap<Key, u32>>);

/// Where a revision stands in its handover.
#[derive(Clone, Copy, Debug)]
pub(super) struct Progress {
    /// Since it was made.
    age: Duration,
    /// Since its first pods were ready, if they were.
    initialized_for: Option<Duration>,
}

impl Handovers {
    /// Raises the bounds of a revision that takes over `pods`, first until they are ready, then
    /// for a stable window: until then its load is not known.
    pub(super) fn apply(
        &self,
        key: &Key,
        resolved: &mut Resolved,
        progress: Progress,
        timeout: Duration,
        pods: impl FnOnce() -> u32,
    ) {
        let mut taken_over = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bounds = &mut resolved.bounds;
        let most = if bounds.max == 0 {
            u32::MAX
        } else {
            bounds.max
        };
        // Who wants to start with nothing gets nothing.
        let is_over = match progress.initialized_for {
            None => progress.age >= timeout || bounds.initial == 0,
            Some(time) => time >= resolved.spec.stable_window,
        };
        if is_over || !resolved.spec.is_reachable {
            taken_over.remove(key);
            return;
        }
        if progress.initialized_for.is_none() {
            let pods = pods().min(most);
            if pods > bounds.initial {
                bounds.initial = pods;
                taken_over.insert(key.clone(), pods);
            } else {
                taken_over.remove(key);
            }
        } else if let Some(pods) = taken_over.get(key) {
            bounds.min = bounds.min.max(*pods);
        }
    }

    pub(super) fn forget(&self, key: &Key) {
        let mut taken_over = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        taken_over.remove(key);
    }
}

/// The objects around a revision.
struct Family {
    service: Arc<Service>,
    route: Arc<Route>,
    configuration: Option<Arc<Configuration>>,
}

impl Autoscalers {
    /// Bounds as the revision's Service and its other revisions have them.
    pub(super) fn with_siblings(
        &self,
        autoscaler: &PodAutoscaler,
        config: &Config,
        mut resolved: Resolved,
        now: &Time,
    ) -> Resolved {
        let key = Key::of(autoscaler);
        let Some(family) = self.family(autoscaler, &key) else {
            self.handovers.forget(&key);
            return resolved;
        };
        let siblings = family.siblings(autoscaler, &key, config);
        if resolved.spec.is_reachable {
            let bounds = &mut resolved.bounds;
            let most = if bounds.max == 0 {
                u32::MAX
            } else {
                bounds.max
            };
            bounds.min = bounds.min.max(siblings.floor().min(most));
        }
        let created = autoscaler.metadata.creation_timestamp.as_ref();
        let age = created.map(|created| now.0.duration_since(created.0));
        let progress = Progress {
            age: age
                .and_then(|age| Duration::try_from(age).ok())
                .unwrap_or_default(),
            initialized_for: initialized_for(autoscaler, now),
        };
        let timeout = config.autoscaler.prewarm_timeout;
        let size = |name: &str| self.size(&Key::new(key.namespace.clone(), name));
        self.handovers
            .apply(&key, &mut resolved, progress, timeout, || {
                siblings.taken_over(size)
            });
        resolved
    }

    /// How many pods a revision is meant to have.
    fn size(&self, key: &Key) -> u32 {
        let Some(autoscaler) = self.context.autoscalers.get(key) else {
            return 0;
        };
        let target = &autoscaler.spec.scale_target_ref.name;
        let deployment = Key::new(key.namespace.clone(), target);
        let deployment = self.context.deployments.get(&deployment);
        deployment.map_or(0, |deployment| replicas(&deployment))
    }

    fn family(&self, autoscaler: &PodAutoscaler, key: &Key) -> Option<Family> {
        let service = label(autoscaler, label::SERVICE)?;
        let service = Key::new(key.namespace.clone(), service);
        // All three have one name.
        Some(Family {
            route: self.context.routes.get(&service)?,
            configuration: self.context.configurations.get(&service),
            service: self.context.services.get(&service)?,
        })
    }
}

impl Family {
    fn siblings<'a>(
        &'a self,
        autoscaler: &PodAutoscaler,
        key: &'a Key,
        config: &Config,
    ) -> Siblings<'a> {
        // The Configuration's status would tell too late: the first pod may be faster.
        let made_from = label(autoscaler, label::CONFIGURATION_GENERATION);
        let configuration = self.configuration.as_ref();
        let newest = configuration.and_then(|it| it.metadata.generation);
        Siblings {
            revision: &key.name,
            service: &self.service,
            route: &self.route,
            is_newest: newest.is_some_and(|newest| made_from == Some(newest.to_string().as_str())),
            is_gradual: !rollout_duration(&self.route, config).is_zero(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const TIMEOUT: Duration = Duration::from_secs(60);

    /// Bounds `(min, initial)` of a revision of this age whose predecessor has `pods`.
    fn bounds(
        handovers: &Handovers,
        age: u64,
        initialized_for: Option<u64>,
        pods: u32,
    ) -> (u32, u32) {
        let annotations = json!({"autoscaling.knative.dev/max-scale": "8"});
        let autoscaler = json!({
            "apiVersion": "autoscaling.internal.knative.dev/v1alpha1", "kind": "PodAutoscaler",
            "metadata": {"name": "b", "annotations": annotations},
            "spec": {"scaleTargetRef": {"name": "b-deployment"}, "protocolType": "http1"},
        });
        let autoscaler = serde_json::from_value(autoscaler).expect("a PodAutoscaler");
        let config = api::config::Autoscaler::default();
        let mut resolved = super::super::spec::resolve(&autoscaler, &config);
        let progress = Progress {
            age: Duration::from_secs(age),
            initialized_for: initialized_for.map(Duration::from_secs),
        };
        let key = Key::new("default", "b");
        handovers.apply(&key, &mut resolved, progress, TIMEOUT, || pods);
        (resolved.bounds.min, resolved.bounds.initial)
    }

    #[test]
    fn a_new_revision_is_ready_with_the_pods_it_takes_over_and_keeps_them_for_a_stable_window() {
        let handovers = Handovers::default();
        assert_eq!(bounds(&handovers, 0, None, 5), (0, 5));
        // The other one shrinks meanwhile.
        assert_eq!(bounds(&handovers, 2, None, 4), (0, 4));
        assert_eq!(bounds(&handovers, 9, Some(0), 0), (4, 1));
        assert_eq!(bounds(&handovers, 60, Some(59), 0), (4, 1));
        assert_eq!(bounds(&handovers, 61, Some(60), 0), (0, 1));
        assert_eq!(bounds(&handovers, 62, Some(30), 0), (0, 1), "forgotten");
    }

    #[test]
    fn a_handover_ends_at_the_revisions_own_limit_and_at_the_timeout() {
        let handovers = Handovers::default();
        assert_eq!(bounds(&handovers, 0, None, 100), (0, 8));
        assert_eq!(bounds(&handovers, 60, None, 100), (0, 1));
        assert_eq!(bounds(&handovers, 61, Some(1), 100), (0, 1));
    }

    #[test]
    fn nothing_is_taken_over_from_a_revision_at_rest() {
        let handovers = Handovers::default();
        assert_eq!(bounds(&handovers, 0, None, 0), (0, 1));
        assert_eq!(bounds(&handovers, 5, Some(1), 9), (0, 1));
    }
}
