//! The children of a Service, as it wants them.

use api::names::{annotation, label};
use api::serving::v1::{
    Configuration, ConfigurationSpec, Route, RouteSpec, Service, TrafficTarget,
};
use kube::ResourceExt;

use crate::object::{Strings, child_metadata};

/// The Configuration: same name, same template.
pub(super) fn configuration(service: &Service) -> Configuration {
    let [current, older] = annotation::ROLLOUT_DURATIONS;
    let annotations = annotations(service, &[annotation::LAST_APPLIED, current, older]);
    Configuration {
        metadata: child_metadata(service, service.name_any(), labels(service), annotations),
        spec: ConfigurationSpec {
            template: service.spec.template.clone(),
        },
        status: None,
    }
}

/// The Route: same name; targets without a revision follow the Service's Configuration.
pub(super) fn route(service: &Service) -> Route {
    let annotations = annotations(service, &[annotation::LAST_APPLIED]);
    Route {
        metadata: child_metadata(service, service.name_any(), labels(service), annotations),
        spec: RouteSpec {
            traffic: traffic(service),
        },
        status: None,
    }
}

fn traffic(service: &Service) -> Vec<TrafficTarget> {
    let everything_to_latest = TrafficTarget {
        latest_revision: Some(true),
        percent: Some(100),
        ..TrafficTarget::default()
    };
    let mut traffic = service.spec.traffic.clone();
    if traffic.is_empty() {
        traffic.push(everything_to_latest);
    }
    for target in &mut traffic {
        if target
            .revision_name
            .as_deref()
            .unwrap_or_default()
            .is_empty()
        {
            target.configuration_name = Some(service.name_any());
            target.latest_revision = Some(true);
        } else {
            target.latest_revision = Some(false);
        }
    }
    traffic
}

fn labels(service: &Service) -> Strings {
    let mut labels = service.labels().clone();
    labels.insert(label::SERVICE.to_owned(), service.name_any());
    labels.insert(
        label::SERVICE_UID.to_owned(),
        service.uid().unwrap_or_default(),
    );
    labels
}

fn annotations(service: &Service, without: &[&str]) -> Strings {
    let mut annotations = service.annotations().clone();
    annotations.retain(|key, _| !without.contains(&key.as_str()));
    annotations
}
