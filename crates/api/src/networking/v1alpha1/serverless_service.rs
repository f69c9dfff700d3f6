//! ServerlessService: the two ways to a revision, straight to its pods or through the activator.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::autoscaling::v1alpha1::ScaleTargetRef;
use crate::condition::Condition;

#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "networking.internal.knative.dev",
    version = "v1alpha1",
    kind = "ServerlessService",
    plural = "serverlessservices",
    shortname = "sks",
    category = "knative-internal",
    category = "networking",
    namespaced,
    status = "ServerlessServiceStatus",
    derive = "PartialEq",
    derive = "Default",
    printcolumn = r#"{"name":"Mode","type":"string","jsonPath":".spec.mode"}"#,
    printcolumn = r#"{"name":"Activators","type":"integer","jsonPath":".spec.numActivators"}"#,
    printcolumn = r#"{"name":"ServiceName","type":"string","jsonPath":".status.serviceName"}"#,
    printcolumn = r#"{"name":"PrivateServiceName","type":"string","jsonPath":".status.privateServiceName"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].status"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].reason"}"#
)]
#[serde(rename_all = "camelCase")]
/// How requests reach a revision. Condition Ready = EndpointsPopulated.
pub struct ServerlessServiceSpec {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<ServerlessMode>,
    /// What is scaled.
    pub object_ref: ScaleTargetRef,
    /// `http1` or `h2c`.
    pub protocol_type: String,
    /// 0 means all there are.
    #[serde(default)]
    pub num_activators: i32,
}

/// Who is in the path of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ServerlessMode {
    /// Pods alone: there is capacity to spare.
    #[default]
    Serve,
    /// The activator: there are no pods, or too few for a burst.
    Proxy,
}

/// What a ServerlessService reports.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServerlessServiceStatus {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The Service under which routes reach the revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_name: Option<String>,
    /// The Service that selects the revision's pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_service_name: Option<String>,
}
