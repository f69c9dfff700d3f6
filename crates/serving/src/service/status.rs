//! Conditions of a Service: ConfigurationsReady and RoutesReady make up Ready.

use api::condition::{Conditions, Truth};
use api::serving::v1::{Configuration, Route, Service, ServiceStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use reconcile::Error;

pub(super) const CONFIGURATIONS_READY: &str = "ConfigurationsReady";
pub(super) const ROUTES_READY: &str = "RoutesReady";

const DEPENDENTS: &[&str] = &[CONFIGURATIONS_READY, ROUTES_READY];

/// A Service's status while it is planned.
pub(super) struct Draft {
    pub(super) conditions: Conditions,
    status: ServiceStatus,
}

impl Draft {
    /// Starts from what is stored.
    pub(super) fn new(service: &Service, now: Time) -> Self {
        let status = service.status.clone().unwrap_or_default();
        Self {
            conditions: Conditions::new(&status.conditions, DEPENDENTS, now),
            status,
        }
    }

    /// The Configuration has not looked at its newest spec yet.
    pub(super) fn configuration_out_of_date(&mut self) {
        self.conditions.mark_unknown(
            CONFIGURATIONS_READY,
            "OutOfDate",
            "The Configuration is still working to reflect the latest desired specification.",
        );
    }

    /// The Route has not looked at its newest spec yet.
    pub(super) fn route_out_of_date(&mut self) {
        self.conditions.mark_unknown(
            ROUTES_READY,
            "OutOfDate",
            "The Route is still working to reflect the latest desired specification.",
        );
    }

    /// Takes over what an up-to-date Configuration says.
    pub(super) fn follow_configuration(&mut self, configuration: &Configuration) {
        let Some(status) = &configuration.status else {
            return self.configuration_out_of_date();
        };
        self.status.latest_created_revision_name = status.latest_created_revision_name.clone();
        self.status.latest_ready_revision_name = status.latest_ready_revision_name.clone();
        let ready = api::condition::find(&status.conditions, api::condition::READY);
        self.conditions.propagate(CONFIGURATIONS_READY, ready);
    }

    /// Takes over what an up-to-date Route says, and checks that it serves what is wanted.
    pub(super) fn follow_route(&mut self, route: &Route, configuration: &Configuration) {
        let Some(status) = &route.status else {
            return self.route_out_of_date();
        };
        self.status.url = status.url.clone();
        self.status.address = status.address.clone();
        self.status.traffic = status.traffic.clone();
        let ready = api::condition::find(&status.conditions, api::condition::READY);
        self.conditions.propagate(ROUTES_READY, ready);
        let serves = self
            .conditions
            .get(ROUTES_READY)
            .is_some_and(|condition| condition.is(Truth::True));
        if serves && !is_migrated(route, configuration) {
            self.conditions.mark_unknown(
                ROUTES_READY,
                "TrafficNotMigrated",
                "Traffic is not yet migrated to the latest revision.",
            );
        }
    }

    /// The status to store.
    pub(super) fn finish(mut self, service: &Service) -> ServiceStatus {
        self.status.observed_generation = service.metadata.generation;
        self.status.conditions = self.conditions.into_vec();
        self.status
    }
}

/// Whether the Route's reported traffic is what its spec and the latest ready revision imply.
fn is_migrated(route: &Route, configuration: &Configuration) -> bool {
    let served = route
        .status
        .as_ref()
        .map(|status| status.traffic.as_slice());
    let served = served.unwrap_or_default();
    let latest = configuration
        .status
        .as_ref()
        .and_then(|status| status.latest_ready_revision_name.as_deref());
    let wanted = &route.spec.traffic;
    wanted.len() == served.len()
        && wanted.iter().zip(served).all(|(wanted, served)| {
            let revision = match &wanted.configuration_name {
                Some(name) if Some(name) == configuration.metadata.name.as_ref() => latest,
                _ => wanted.revision_name.as_deref(),
            };
            revision == served.revision_name.as_deref()
                && wanted.tag == served.tag
                && wanted.percent == served.percent
        })
}

/// A child could not be written: the condition of the children says so, not only a log.
pub(super) fn child_failed(status: &mut ServiceStatus, error: &Error, now: Time) {
    if error.is_conflict() {
        return; // the next try, milliseconds away, reads the newer child
    }
    let mut conditions = Conditions::new(&status.conditions, DEPENDENTS, now);
    let message = format!("Cannot write the Configuration or Route of this Service: {error}.");
    conditions.mark_unknown(CONFIGURATIONS_READY, "ReconcileFailed", &message);
    status.conditions = conditions.into_vec();
}
