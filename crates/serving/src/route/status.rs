//! Conditions of a Route: AllTrafficAssigned, IngressReady and CertificateProvisioned make up
//! Ready.

use std::time::Duration;

use api::condition::{Condition, Conditions, READY, Truth, find};
use api::names::annotation;
use api::networking::v1alpha1::Ingress;
use api::serving::v1::{Addressable, Route, RouteStatus, TrafficTarget};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::host::Name;
use super::traffic::{Problem, Target};
use crate::object;
use crate::settings::Config;

const TRAFFIC: &str = "AllTrafficAssigned";
const INGRESS: &str = "IngressReady";
const CERTIFICATE: &str = "CertificateProvisioned";
const DEPENDENTS: &[&str] = &[TRAFFIC, INGRESS, CERTIFICATE];

/// Informational: a gradual rollout was asked for.
pub(crate) const ROLLOUT: &str = "GradualRollout";

/// A Route's status while it is planned.
pub(super) struct Draft {
    pub(super) conditions: Conditions,
    pub(super) status: RouteStatus,
}

impl Draft {
    /// Starts from what is stored.
    pub(super) fn new(route: &Route, now: Time) -> Self {
        let status = route.status.clone().unwrap_or_default();
        Self {
            conditions: Conditions::new(&status.conditions, DEPENDENTS, now),
            status,
        }
    }

    /// A host template or a setting does not work for this Route.
    pub(super) fn bad_configuration(&mut self, why: &str) {
        self.conditions.mark_false(TRAFFIC, "ErrorConfig", why);
    }

    /// A target is missing or not ready.
    pub(super) fn unassigned(&mut self, problem: &Problem) {
        let (truth, reason, message) = problem.condition();
        if truth == Truth::False {
            self.conditions.mark_false(TRAFFIC, reason, &message);
        } else {
            self.conditions.mark_unknown(TRAFFIC, reason, &message);
        }
    }

    /// Where the Route will be reached; known before its traffic is.
    pub(super) fn located(&mut self, own: &Name, config: &Config, port: Option<u16>) {
        let scheme = &config.network.default_external_scheme;
        self.status.url = Some(own.url(scheme, port));
        self.status.address = Some(Addressable {
            url: Some(format!("http://{}", own.local)),
        });
    }

    /// All targets are resolved.
    pub(super) fn assigned(
        &mut self,
        targets: &[Target],
        names: &[Name],
        config: &Config,
        port: Option<u16>,
    ) {
        let scheme = &config.network.default_external_scheme;
        let url_of = |tag: &str| {
            let mut names = names.iter();
            let name = names.find(|name| name.tag.as_deref() == Some(tag))?;
            Some(name.url(scheme, port))
        };
        let target = |target: &Target| TrafficTarget {
            tag: target.tag.clone(),
            revision_name: Some(target.revision.clone()),
            configuration_name: None,
            latest_revision: Some(target.latest),
            percent: target.percent,
            url: target.tag.as_deref().and_then(url_of),
        };
        self.status.traffic = targets.iter().map(target).collect();
        self.conditions.mark_true(TRAFFIC);
    }

    /// Certificates are not issued yet, and the status says so when they are asked for.
    pub(super) fn without_tls(&mut self, config: &Config) {
        if config.network.external_domain_tls {
            let message = "external-domain-tls is enabled, but certificates are not issued yet: \
                           the route is served without TLS";
            self.conditions
                .mark_true_because(CERTIFICATE, "HTTPDowngrade", message);
        } else {
            let message = "external-domain-tls is not enabled";
            self.conditions
                .mark_true_because(CERTIFICATE, "TLSNotEnabled", message);
        }
    }

    /// A child's name is taken, or a child cannot be made.
    pub(super) fn ingress_failed(&mut self, reason: &str, message: &str) {
        self.conditions.mark_false(INGRESS, reason, message);
    }

    /// The gateway has not looked at the newest split yet.
    pub(super) fn ingress_out_of_date(&mut self) {
        let message = "Ingress has not yet been reconciled.";
        self.conditions
            .mark_unknown(INGRESS, "IngressNotConfigured", message);
    }

    /// Takes over what an up-to-date KIngress says. Returns whether it is served.
    pub(super) fn follow_ingress(&mut self, ingress: &Ingress) -> bool {
        let status = ingress.status.as_ref();
        match status.and_then(|status| find(&status.conditions, READY)) {
            Some(ready) => self.conditions.propagate(INGRESS, Some(ready)),
            None => self.ingress_out_of_date(),
        }
        self.conditions
            .get(INGRESS)
            .is_some_and(|it| it.is(Truth::True))
    }

    /// Says that a gradual rollout is not done, if one is asked for. Returns whether that is news.
    pub(super) fn judge_rollout(&mut self, route: &Route, config: &Config) -> bool {
        let asked = object::annotation(route, annotation::ROLLOUT_DURATION);
        let duration = match asked {
            Some(asked) => api::duration::parse(asked).unwrap_or_default(),
            None => config.network.rollout_duration,
        };
        let follows_latest = |target: &TrafficTarget| target.latest_revision == Some(true);
        if duration == Duration::ZERO || !route.spec.traffic.iter().any(follows_latest) {
            self.conditions.remove(ROLLOUT);
            return false;
        }
        let is_news = self.conditions.get(ROLLOUT).is_none();
        self.conditions
            .mark_info(ROLLOUT, Truth::False, "NotSupported", ROLLOUT_MESSAGE);
        is_news
    }

    /// The status to store.
    pub(super) fn finish(mut self, route: &Route) -> RouteStatus {
        self.status.observed_generation = route.metadata.generation;
        self.status.conditions = self.conditions.into_vec();
        self.status
    }
}

/// Why `rollout-duration` changes nothing.
pub(super) const ROLLOUT_MESSAGE: &str = "rollout-duration is not supported yet: all traffic \
     moves at once when the new revision is ready. Use percentages in spec.traffic for steps.";

/// Shows the Route's remark about gradual rollouts on its Service, too.
pub(crate) fn copy_rollout(conditions: &mut Conditions, of_route: Option<&Condition>) {
    match of_route {
        Some(_) => conditions.mark_info(ROLLOUT, Truth::False, "NotSupported", ROLLOUT_MESSAGE),
        None => conditions.remove(ROLLOUT),
    }
}
