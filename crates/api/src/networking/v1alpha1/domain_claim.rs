//! ClusterDomainClaim: which namespace may map a domain. Its name is the domain.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "networking.internal.knative.dev",
    version = "v1alpha1",
    kind = "ClusterDomainClaim",
    plural = "clusterdomainclaims",
    shortname = "cdc",
    category = "knative-internal",
    category = "networking",
    derive = "PartialEq",
    derive = "Default"
)]
#[serde(rename_all = "camelCase")]
/// Who has the domain.
pub struct ClusterDomainClaimSpec {
    pub namespace: String,
}
