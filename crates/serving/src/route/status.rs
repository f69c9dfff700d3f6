//! Conditions of a Route: AllTrafficAssigned, IngressReady and CertificateProvisioned make up
//! Ready.

use api::condition::{Conditions, READY, Truth, find};
use api::networking::v1alpha1::Ingress;
use api::serving::v1::{Addressable, Route, RouteStatus, TrafficTarget};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::host::Name;
use super::traffic::{Problem, Share, Target};
use crate::certificate::{self, Ports, Secured};
use crate::settings::Config;

const TRAFFIC: &str = "AllTrafficAssigned";
const INGRESS: &str = "IngressReady";
const DEPENDENTS: &[&str] = &[TRAFFIC, INGRESS, certificate::CONDITION];

/// How URLs are spelled.
pub(super) struct Urls<'a> {
    pub(super) secured: &'a Secured,
    pub(super) config: &'a Config,
    pub(super) ports: Ports,
}

impl Urls<'_> {
    fn of(&self, name: &Name) -> String {
        let scheme = match &name.public {
            Some(host) => self.secured.scheme(host, self.config),
            None => self.secured.local_scheme(&name.local),
        };
        name.url(scheme, self.ports.of(scheme))
    }
}

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
    pub(super) fn located(&mut self, own: &Name, urls: &Urls<'_>) {
        self.status.url = Some(urls.of(own));
        self.status.address = Some(Addressable {
            url: Some(format!(
                "{}://{}",
                urls.secured.local_scheme(&own.local),
                own.local
            )),
        });
    }

    /// All targets are resolved.
    pub(super) fn assigned(&mut self, targets: &[Target], names: &[Name], urls: &Urls<'_>) {
        let url_of = |tag: &str| {
            let mut names = names.iter();
            let name = names.find(|name| name.tag.as_deref() == Some(tag))?;
            Some(urls.of(name))
        };
        let of = |target: &Target, share: &Share| TrafficTarget {
            tag: target.tag.clone(),
            revision_name: Some(share.revision.clone()),
            configuration_name: None,
            latest_revision: Some(target.is_latest()),
            percent: target.percent.map(|_| share.percent),
            url: target.tag.as_deref().and_then(url_of),
        };
        let shares = targets
            .iter()
            .flat_map(|target| target.shares.iter().map(move |share| of(target, share)));
        self.status.traffic = shares.collect();
        self.conditions.mark_true(TRAFFIC);
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

    /// The gateway serves the newest split, which is not the last one.
    pub(super) fn rolling_out(&mut self) {
        let message = "A gradual rollout of the latest revision(s) is in progress.";
        self.conditions
            .mark_unknown(INGRESS, "RolloutInProgress", message);
    }

    /// The status to store.
    pub(super) fn finish(mut self, route: &Route) -> RouteStatus {
        self.status.observed_generation = route.metadata.generation;
        self.status.conditions = self.conditions.into_vec();
        self.status
    }
}
