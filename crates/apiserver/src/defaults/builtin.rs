//! Defaults of built-in kinds, as data: `(definition, field, JSON)`.
//!
//! Kubernetes computes these in code per kind; here they hang on the definitions, so a PodSpec gets
//! them wherever it appears. The few that depend on neighboring fields are functions at the end.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::schema::Schema;

mod dynamic;

const CORE: &str = "io.k8s.api.core.v1.";
const APPS: &str = "io.k8s.api.apps.v1.";
const BATCH: &str = "io.k8s.api.batch.v1.";
const ADMISSION: &str = "io.k8s.api.admissionregistration.v1.";

/// Package, definition, field, default as JSON.
#[rustfmt::skip]
const STATIC: &[(&str, &str, &str, &str)] = &[
    (CORE, "PodSpec", "restartPolicy", r#""Always""#),
    (CORE, "PodSpec", "terminationGracePeriodSeconds", "30"),
    (CORE, "PodSpec", "dnsPolicy", r#""ClusterFirst""#),
    (CORE, "PodSpec", "securityContext", "{}"),
    (CORE, "PodSpec", "schedulerName", r#""default-scheduler""#),
    (CORE, "Container", "terminationMessagePath", r#""/dev/termination-log""#),
    (CORE, "Container", "terminationMessagePolicy", r#""File""#),
    (CORE, "Container", "resources", "{}"),
    (CORE, "EphemeralContainer", "terminationMessagePath", r#""/dev/termination-log""#),
    (CORE, "EphemeralContainer", "terminationMessagePolicy", r#""File""#),
    (CORE, "EphemeralContainer", "resources", "{}"),
    (CORE, "ContainerPort", "protocol", r#""TCP""#),
    (CORE, "ServicePort", "protocol", r#""TCP""#),
    (CORE, "EndpointPort", "protocol", r#""TCP""#),
    (CORE, "Probe", "timeoutSeconds", "1"),
    (CORE, "Probe", "periodSeconds", "10"),
    (CORE, "Probe", "successThreshold", "1"),
    (CORE, "Probe", "failureThreshold", "3"),
    (CORE, "HTTPGetAction", "path", r#""/""#),
    (CORE, "HTTPGetAction", "scheme", r#""HTTP""#),
    (CORE, "GRPCAction", "service", r#""""#),
    (CORE, "ObjectFieldSelector", "apiVersion", r#""v1""#),
    (CORE, "ConfigMapVolumeSource", "defaultMode", "420"),
    (CORE, "SecretVolumeSource", "defaultMode", "420"),
    (CORE, "ProjectedVolumeSource", "defaultMode", "420"),
    (CORE, "DownwardAPIVolumeSource", "defaultMode", "420"),
    (CORE, "HostPathVolumeSource", "type", r#""""#),
    (CORE, "ServiceAccountTokenProjection", "expirationSeconds", "3600"),
    (CORE, "ServiceSpec", "sessionAffinity", r#""None""#),
    (CORE, "ServiceSpec", "type", r#""ClusterIP""#),
    (CORE, "ClientIPConfig", "timeoutSeconds", "10800"),
    (CORE, "Secret", "type", r#""Opaque""#),
    (CORE, "Namespace", "spec", "{}"),
    (CORE, "Namespace", "status", "{}"),
    (CORE, "NamespaceSpec", "finalizers", r#"["kubernetes"]"#),
    (CORE, "NamespaceStatus", "phase", r#""Active""#),
    (CORE, "PodStatus", "phase", r#""Pending""#),
    (CORE, "PersistentVolumeClaimSpec", "volumeMode", r#""Filesystem""#),
    (CORE, "PersistentVolumeClaimStatus", "phase", r#""Pending""#),
    (CORE, "PersistentVolumeSpec", "volumeMode", r#""Filesystem""#),
    (CORE, "PersistentVolumeSpec", "persistentVolumeReclaimPolicy", r#""Retain""#),
    (CORE, "PersistentVolumeStatus", "phase", r#""Pending""#),
    ("io.k8s.api.discovery.v1.", "EndpointPort", "name", r#""""#),
    ("io.k8s.api.discovery.v1.", "EndpointPort", "protocol", r#""TCP""#),
    (APPS, "DeploymentSpec", "replicas", "1"),
    (APPS, "DeploymentSpec", "strategy", "{}"),
    (APPS, "DeploymentSpec", "revisionHistoryLimit", "10"),
    (APPS, "DeploymentSpec", "progressDeadlineSeconds", "600"),
    (APPS, "RollingUpdateDeployment", "maxUnavailable", r#""25%""#),
    (APPS, "RollingUpdateDeployment", "maxSurge", r#""25%""#),
    (APPS, "ReplicaSetSpec", "replicas", "1"),
    (APPS, "StatefulSetSpec", "replicas", "1"),
    (APPS, "StatefulSetSpec", "podManagementPolicy", r#""OrderedReady""#),
    (APPS, "StatefulSetSpec", "updateStrategy", "{}"),
    (APPS, "StatefulSetSpec", "revisionHistoryLimit", "10"),
    (APPS, "StatefulSetSpec", "persistentVolumeClaimRetentionPolicy", "{}"),
    (APPS, "StatefulSetPersistentVolumeClaimRetentionPolicy", "whenDeleted", r#""Retain""#),
    (APPS, "StatefulSetPersistentVolumeClaimRetentionPolicy", "whenScaled", r#""Retain""#),
    (APPS, "RollingUpdateStatefulSetStrategy", "partition", "0"),
    (APPS, "DaemonSetSpec", "updateStrategy", "{}"),
    (APPS, "DaemonSetSpec", "revisionHistoryLimit", "10"),
    (APPS, "RollingUpdateDaemonSet", "maxUnavailable", "1"),
    (APPS, "RollingUpdateDaemonSet", "maxSurge", "0"),
    (BATCH, "JobSpec", "completionMode", r#""NonIndexed""#),
    (BATCH, "JobSpec", "suspend", "false"),
    (BATCH, "CronJobSpec", "concurrencyPolicy", r#""Allow""#),
    (BATCH, "CronJobSpec", "suspend", "false"),
    (BATCH, "CronJobSpec", "successfulJobsHistoryLimit", "3"),
    (BATCH, "CronJobSpec", "failedJobsHistoryLimit", "1"),
    ("io.k8s.api.autoscaling.v1.", "HorizontalPodAutoscalerSpec", "minReplicas", "1"),
    ("io.k8s.api.autoscaling.v2.", "HorizontalPodAutoscalerSpec", "minReplicas", "1"),
    ("io.k8s.api.autoscaling.v2.", "HorizontalPodAutoscalerSpec", "metrics", r#"[{"type":"Resource","resource":{"name":"cpu","target":{"type":"Utilization","averageUtilization":80}}}]"#),
    ("io.k8s.api.networking.v1.", "NetworkPolicyPort", "protocol", r#""TCP""#),
    ("io.k8s.api.networking.v1.", "NetworkPolicySpec", "policyTypes", r#"["Ingress"]"#),
    ("io.k8s.api.rbac.v1.", "RoleRef", "apiGroup", r#""rbac.authorization.k8s.io""#),
    ("io.k8s.api.storage.v1.", "StorageClass", "reclaimPolicy", r#""Delete""#),
    ("io.k8s.api.storage.v1.", "StorageClass", "volumeBindingMode", r#""Immediate""#),
    ("io.k8s.api.storage.v1.", "CSIDriverSpec", "attachRequired", "true"),
    ("io.k8s.api.storage.v1.", "CSIDriverSpec", "podInfoOnMount", "false"),
    ("io.k8s.api.storage.v1.", "CSIDriverSpec", "storageCapacity", "false"),
    ("io.k8s.api.storage.v1.", "CSIDriverSpec", "requiresRepublish", "false"),
    ("io.k8s.api.storage.v1.", "CSIDriverSpec", "fsGroupPolicy", r#""ReadWriteOnceWithFSType""#),
    ("io.k8s.api.storage.v1.", "CSIDriverSpec", "volumeLifecycleModes", r#"["Persistent"]"#),
    ("io.k8s.api.storage.v1.", "CSIDriverSpec", "seLinuxMount", "false"),
    ("io.k8s.api.flowcontrol.v1.", "FlowSchemaSpec", "matchingPrecedence", "1000"),
    ("io.k8s.api.flowcontrol.v1.", "LimitedPriorityLevelConfiguration", "nominalConcurrencyShares", "30"),
    ("io.k8s.api.flowcontrol.v1.", "LimitedPriorityLevelConfiguration", "lendablePercent", "0"),
    ("io.k8s.api.flowcontrol.v1.", "ExemptPriorityLevelConfiguration", "nominalConcurrencyShares", "0"),
    ("io.k8s.api.flowcontrol.v1.", "ExemptPriorityLevelConfiguration", "lendablePercent", "0"),
    ("io.k8s.api.flowcontrol.v1.", "QueuingConfiguration", "queues", "64"),
    ("io.k8s.api.flowcontrol.v1.", "QueuingConfiguration", "handSize", "8"),
    ("io.k8s.api.flowcontrol.v1.", "QueuingConfiguration", "queueLengthLimit", "50"),
    ("io.k8s.api.scheduling.v1.", "PriorityClass", "preemptionPolicy", r#""PreemptLowerPriority""#),
    (ADMISSION, "ValidatingWebhook", "failurePolicy", r#""Fail""#),
    (ADMISSION, "ValidatingWebhook", "matchPolicy", r#""Equivalent""#),
    (ADMISSION, "ValidatingWebhook", "namespaceSelector", "{}"),
    (ADMISSION, "ValidatingWebhook", "objectSelector", "{}"),
    (ADMISSION, "ValidatingWebhook", "timeoutSeconds", "10"),
    (ADMISSION, "MutatingWebhook", "failurePolicy", r#""Fail""#),
    (ADMISSION, "MutatingWebhook", "matchPolicy", r#""Equivalent""#),
    (ADMISSION, "MutatingWebhook", "namespaceSelector", "{}"),
    (ADMISSION, "MutatingWebhook", "objectSelector", "{}"),
    (ADMISSION, "MutatingWebhook", "timeoutSeconds", "10"),
    (ADMISSION, "MutatingWebhook", "reinvocationPolicy", r#""Never""#),
    (ADMISSION, "RuleWithOperations", "scope", r#""*""#),
    (ADMISSION, "NamedRuleWithOperations", "scope", r#""*""#),
    (ADMISSION, "MatchResources", "matchPolicy", r#""Equivalent""#),
    (ADMISSION, "MatchResources", "namespaceSelector", "{}"),
    (ADMISSION, "MatchResources", "objectSelector", "{}"),
    (ADMISSION, "ValidatingAdmissionPolicySpec", "failurePolicy", r#""Fail""#),
    ("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.", "CustomResourceDefinitionSpec", "conversion", r#"{"strategy":"None"}"#),
];

type Fill = fn(&mut Map<String, Value>);

const DYNAMIC: &[(&str, &str, Fill)] = &[
    (CORE, "Pod", dynamic::pod),
    (CORE, "PodSpec", dynamic::pod_spec),
    (CORE, "Container", dynamic::container),
    (CORE, "EphemeralContainer", dynamic::container),
    (CORE, "Volume", dynamic::volume),
    (CORE, "ServiceSpec", dynamic::service_spec),
    (CORE, "Secret", dynamic::secret),
    (CORE, "LimitRangeItem", dynamic::limit_range_item),
    (APPS, "Deployment", dynamic::workload),
    (APPS, "ReplicaSet", dynamic::replica_set),
    (APPS, "DeploymentStrategy", dynamic::rolling_update),
    (APPS, "StatefulSetUpdateStrategy", dynamic::rolling_update),
    (APPS, "DaemonSetUpdateStrategy", dynamic::rolling_update),
    (BATCH, "JobSpec", dynamic::job_spec),
    ("io.k8s.api.rbac.v1.", "Subject", dynamic::subject),
    (
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.",
        "CustomResourceDefinitionNames",
        dynamic::crd_names,
    ),
];

/// Hangs the defaults of `definition` on its schema.
pub(crate) fn attach(definition: &str, schema: &mut Schema) {
    let here = |package: &str, name: &str| definition.strip_prefix(package) == Some(name);
    for (package, name, field, default) in STATIC {
        if !here(package, name) {
            continue;
        }
        // A test parses every default, so a broken one cannot get here.
        let Ok(default) = serde_json::from_str::<Value>(default) else {
            continue;
        };
        if let Some(shared) = schema.properties.get(*field) {
            let mut own = shared.shallow();
            own.default = Some(default);
            schema.properties.insert((*field).into(), Arc::new(own));
        }
    }
    for (package, name, fill) in DYNAMIC {
        if here(package, name) {
            schema.dynamic_default = Some(*fill);
        }
    }
}

/// Rows of the table that name no field of the schemas; for the test that keeps it honest.
#[cfg(test)]
pub(crate) fn stale_rows(schema: impl Fn(&str) -> Option<Arc<Schema>>) -> Vec<String> {
    let mut stale = Vec::new();
    for (package, name, field, default) in STATIC {
        let known = schema(&format!("{package}{name}"));
        let known = known.is_some_and(|schema| schema.properties.contains_key(*field));
        if !known || serde_json::from_str::<Value>(default).is_err() {
            stale.push(format!("{package}{name}.{field}"));
        }
    }
    for (package, name, _) in DYNAMIC {
        if schema(&format!("{package}{name}")).is_none() {
            stale.push(format!("{package}{name}"));
        }
    }
    stale
}

/// Inserts `value` if `field` is missing.
fn default(map: &mut Map<String, Value>, field: &str, value: impl Into<Value>) {
    if !map.contains_key(field) {
        map.insert(field.to_owned(), value.into());
    }
}

/// Text of a field, or empty.
fn text<'a>(map: &'a Map<String, Value>, field: &str) -> &'a str {
    map.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// `{}` as a value.
fn empty() -> Value {
    json!({})
}
