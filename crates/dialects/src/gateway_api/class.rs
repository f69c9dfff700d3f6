//! GatewayClasses and XMeshes: whose they are, and what is said about them.

use std::collections::BTreeSet;

use api::gateway::v1::{GatewayClass, GatewayClassStatus, ParametersReference, SupportedFeature};
use api::gateway::v1alpha1::Mesh;
use api::gateway::{CONTROLLER, reason};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::features::{CONSUMER_ROUTES, FEATURES, MESH_FEATURES};
use super::plan::Finding;
use super::status::Conditions;

/// Whose GatewayClasses are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Adopt {
    /// Of every controller: there is nobody else here.
    Everyone,
    /// Ours, and those of these controllers.
    Named(BTreeSet<String>),
}

impl Default for Adopt {
    fn default() -> Self {
        Self::Named(BTreeSet::new())
    }
}

impl Adopt {
    /// Whether classes of this controller are served.
    pub fn takes(&self, controller: &str) -> bool {
        match self {
            Self::Everyone => true,
            Self::Named(names) => controller == CONTROLLER || names.contains(controller),
        }
    }
}

/// Why Gateways of a class are not served.
pub(super) fn refusal(class: &GatewayClass) -> Option<Finding> {
    no_parameters(class.spec.parameters_ref.as_ref())
}

fn no_parameters(parameters: Option<&ParametersReference>) -> Option<Finding> {
    let parameters = parameters?;
    Some(Finding::new(
        reason::INVALID_PARAMETERS,
        format!(
            "parametersRef names {} {:?}; no kind of parameters is supported, leave it out",
            parameters.kind, parameters.name
        ),
    ))
}

/// The status of a class of ours. Equal to the stored one if there is nothing to tell.
pub fn class_status(class: &GatewayClass, now: Time) -> GatewayClassStatus {
    let stored = class.status.clone().unwrap_or_default();
    let generation = class.metadata.generation.unwrap_or_default();
    let mut conditions = Conditions::new(&stored.conditions, generation, now);
    match refusal(class) {
        Some(finding) => conditions.no(reason::condition::ACCEPTED, &finding),
        None => conditions.yes(reason::condition::ACCEPTED, reason::ACCEPTED),
    }
    conditions.yes(
        reason::condition::SUPPORTED_VERSION,
        reason::SUPPORTED_VERSION,
    );
    GatewayClassStatus {
        conditions: conditions.into_vec(),
        supported_features: supported(FEATURES),
    }
}

/// The status of an XMesh of ours. Equal to the stored one if there is nothing to tell.
pub fn mesh_status(mesh: &Mesh, tells_callers: bool, now: Time) -> GatewayClassStatus {
    let stored = mesh.status.clone().unwrap_or_default();
    let generation = mesh.metadata.generation.unwrap_or_default();
    let mut conditions = Conditions::new(&stored.conditions, generation, now);
    match no_parameters(mesh.spec.parameters_ref.as_ref()) {
        Some(finding) => conditions.no(reason::condition::ACCEPTED, &finding),
        None => conditions.yes(reason::condition::ACCEPTED, reason::ACCEPTED),
    }
    let mut features = MESH_FEATURES.to_vec();
    if tells_callers {
        features.push(CONSUMER_ROUTES);
        features.sort_unstable();
    }
    GatewayClassStatus {
        conditions: conditions.into_vec(),
        supported_features: supported(&features),
    }
}

fn supported(features: &[&str]) -> Vec<SupportedFeature> {
    let feature = |name: &&str| SupportedFeature {
        name: (*name).to_owned(),
    };
    features.iter().map(feature).collect()
}
