//! Reads caches, decides, then writes: replicas first, because a request may be waiting.

use std::sync::Arc;

use ::reconcile::{Action, Error, Key, write};
use api::autoscaling::v1alpha1::PodAutoscaler;
use api::names::{HPA_CLASS, KPA_CLASS};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use scaling::Step;
use scaling::autoscaler::scale::Activity;
use scaling::autoscaler::{Decision, TICK};
use serde_json::json;

use super::brain::Pods;
use super::plan::{Observed, Plan, plan, plan_foreign};
use super::serverless::is_ours;
use super::spec::Resolved;
use super::status::activity;
use super::{Autoscalers, serverless, spec, wake};
use crate::object::{is_deleting, perform_some, write_status};

impl Autoscalers {
    /// Decides for one PodAutoscaler and writes what follows.
    pub(super) async fn reconcile(&self, key: &Key) -> Result<Action, Error> {
        let autoscaler = self.context.autoscalers.get(key);
        let Some(autoscaler) = autoscaler.filter(|it| !is_deleting(it.as_ref())) else {
            self.brain.forget(key);
            self.handovers.forget(key);
            self.busy.forget(key);
            self.wakes.forget(&wake::revision(key));
            return Ok(Action::Await);
        };
        let config = self.context.config.current();
        let now = ::reconcile::now();
        let class = spec::class(&autoscaler, &config.autoscaler);
        let horizontal = self.horizontal(&autoscaler, class).await?;
        if class != KPA_CLASS && class != HPA_CLASS {
            self.brain.forget(key);
            if let Some(plan) = plan_foreign(&autoscaler, class, &now) {
                self.apply(&autoscaler, &plan).await?;
            }
            return Ok(Action::Await);
        }
        let resolved = spec::resolve(&autoscaler, &config.autoscaler);
        let resolved = self.with_siblings(&autoscaler, &config, resolved, &now);
        let target = Key::new(
            key.namespace.clone(),
            &autoscaler.spec.scale_target_ref.name,
        );
        let deployment = self.context.deployments.get(&target);
        let service = self.context.kubernetes_services.get(key);
        let serverless = self.context.serverless_services.get(key);
        let metric = self.context.metrics.get(key);
        let ready = self.pods.ready(key);
        let decision = deployment.as_deref().and_then(|deployment| {
            let replicas = replicas(deployment);
            self.decide(key, &autoscaler, &resolved, replicas, &now)
        });
        let observed = Observed {
            deployment: deployment.as_deref(),
            service: service.as_deref(),
            ready,
            decision,
            serverless: serverless.as_deref(),
            metric: metric.as_deref(),
            horizontal: horizontal.as_deref(),
        };
        let plan = plan(&autoscaler, &resolved, observed, &now);
        self.apply(&autoscaler, &plan).await?;
        let tick = self.brain.is_following(key).then_some(TICK);
        let next = [tick, plan.recheck].into_iter().flatten().min();
        Ok(next.map_or(Action::Await, Action::After))
    }

    /// The autoscaler's decision, of a revision that requests scale.
    fn decide(
        &self,
        key: &Key,
        autoscaler: &PodAutoscaler,
        resolved: &Resolved,
        replicas: u32,
        now: &Time,
    ) -> Option<Decision> {
        if !resolved.follows_requests() {
            self.brain.forget(key);
            return None;
        }
        let ready = self.pods.ready(key);
        let pods = Pods {
            replicas,
            // How many more there are is the HorizontalPodAutoscaler's matter.
            ready: match resolved.horizontal {
                Some(_) => ready.min(1),
                None => ready,
            },
            // One that has a minimum is not at rest, although nobody asks for it.
            is_inactive: resolved.bounds.min == 0
                && matches!(activity(autoscaler, now), Activity::Inactive(_)),
        };
        let decision = self.brain.decide(key, &resolved.spec, pods);
        tracing::debug!(revision = %key, ?pods, ?decision, "decided");
        decision
    }

    /// The revision's HorizontalPodAutoscaler. That of a revision of another class goes: two would
    /// scale it.
    async fn horizontal(
        &self,
        autoscaler: &PodAutoscaler,
        class: &str,
    ) -> Result<Option<Arc<HorizontalPodAutoscaler>>, Error> {
        let key = Key::of(autoscaler);
        let existing = self.context.horizontal_autoscalers.get(&key);
        if class == HPA_CLASS {
            return Ok(existing);
        }
        let existing = existing.filter(|it| is_ours(it.as_ref(), autoscaler));
        if let Some(existing) = existing.filter(|it| !is_deleting(it.as_ref())) {
            let uid = existing.metadata.uid.as_deref().unwrap_or_default();
            let client = &self.context.client;
            write::delete_exactly::<HorizontalPodAutoscaler>(client, &key, uid).await?;
        }
        Ok(None)
    }

    async fn apply(&self, autoscaler: &PodAutoscaler, plan: &Plan) -> Result<(), Error> {
        let client = &self.context.client;
        if let Some(replicas) = plan.replicas {
            let namespace = autoscaler.metadata.namespace.clone().unwrap_or_default();
            let target = Key::new(namespace, &autoscaler.spec.scale_target_ref.name);
            self.choose_idle(autoscaler, replicas).await;
            let patch = json!({"spec": {"replicas": replicas}});
            let scaled = write::merge(client, &target, &patch).await?;
            self.context.deployments.learn(scaled);
            let revision = wake::revision(&Key::of(autoscaler));
            self.wakes.reached(&revision, Step::Decide);
            tracing::info!(deployment = %target, replicas, "scaled");
        }
        if let Some(service) = &plan.service {
            let applied = write::apply(client, service).await?;
            self.context.kubernetes_services.learn(applied);
        }
        let cache = &self.context.horizontal_autoscalers;
        perform_some(client, cache, plan.horizontal.as_ref()).await?;
        let current = autoscaler.status.as_ref();
        let cache = &self.context.autoscalers;
        write_status(client, cache, autoscaler, current, &plan.status).await?;
        self.tell(autoscaler, plan).await
    }

    /// Writes what is there for people to look at: no request waits for it.
    async fn tell(&self, autoscaler: &PodAutoscaler, plan: &Plan) -> Result<(), Error> {
        let key = &Key::of(autoscaler);
        let client = &self.context.client;
        let now = ::reconcile::now();
        let cache = &self.context.serverless_services;
        perform_some(client, cache, plan.serverless.as_ref()).await?;
        let ours = cache.get(key).filter(|it| is_ours(it.as_ref(), autoscaler));
        if let Some(serverless) = ours {
            let status = serverless::serverless_status(&serverless, self.pods.ready(key), &now);
            let stored = serverless.status.as_ref();
            write_status(client, cache, serverless.as_ref(), stored, &status).await?;
        }
        let cache = &self.context.metrics;
        perform_some(client, cache, plan.metric.as_ref()).await?;
        let ours = cache.get(key).filter(|it| is_ours(it.as_ref(), autoscaler));
        if let Some(metric) = ours {
            let status = serverless::metric_status(&metric, &now);
            let stored = metric.status.as_ref();
            write_status(client, cache, metric.as_ref(), stored, &status).await?;
        }
        Ok(())
    }
}

/// The replicas that a Deployment asks for; 1 is Kubernetes' default.
pub(super) fn replicas(deployment: &Deployment) -> u32 {
    let asked = deployment.spec.as_ref().and_then(|spec| spec.replicas);
    u32::try_from(asked.unwrap_or(1)).unwrap_or(0)
}
