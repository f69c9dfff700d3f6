//! `certificates.k8s.io`: bundles of authorities' certificates that a whole cluster shares.

use kube::CustomResource;
use serde::{Deserialize, Serialize};

/// Their API group.
pub const GROUP: &str = "certificates.k8s.io";

#[derive(CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[kube(
    group = "certificates.k8s.io",
    version = "v1",
    kind = "ClusterTrustBundle",
    plural = "clustertrustbundles",
    schema = "disabled",
    derive = "PartialEq",
    derive = "Default"
)]
#[serde(rename_all = "camelCase")]
/// Certificates of authorities.
pub struct ClusterTrustBundleSpec {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signer_name: Option<String>,
    /// In PEM form.
    #[serde(default)]
    pub trust_bundle: String,
}
