//! Built-in kinds as data. A kind is here only if storing it means something: a controller or the
//! node reads it, or clients use it as plain storage.

use super::{
    ALL_VERBS, ASK, Columns, Description, Durability, MEASURED, ResourceType, Scale, Storage,
    Subresources,
};
use crate::schema::pack;
use crate::table;
use crate::validate::meta::NameRule;

struct Row {
    definition: &'static str,
    group: &'static str,
    version: &'static str,
    plural: &'static str,
    short: &'static [&'static str],
    categories: &'static [&'static str],
    cluster: bool,
    status: bool,
    scale: bool,
    lazy: bool,
    /// Answered and never stored.
    question: bool,
    /// Measured when it is read, and never stored.
    measured: bool,
    others: &'static [(&'static str, &'static [&'static str])],
    selectable: &'static [&'static str],
    rule: NameRule,
    warning: Option<&'static str>,
}

const ROW: Row = Row {
    definition: "",
    group: "",
    version: "v1",
    plural: "",
    short: &[],
    categories: &[],
    cluster: false,
    status: false,
    scale: false,
    lazy: false,
    question: false,
    measured: false,
    others: &[],
    selectable: &[],
    rule: NameRule::Subdomain,
    warning: None,
};

const EVENT_FIELDS: &[&str] = &[
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "reason",
    "reportingComponent",
    "source",
    "type",
];

/// Names of the newer event API, and of the stored core events.
const EVENT_RENAMED: &[(&str, &str)] = &[
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("reportingController", "reportingComponent"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
];

const ALL: &[&str] = &["all"];
const API: &[&str] = &["api-extensions"];
const HOOKS: &str =
    "this server calls no admission webhooks: the configuration is stored and has no effect";
const MUTATIONS: &str =
    "this server applies no mutating admission policies: the object is stored and has no effect";
const FLOWS: &str = "this server limits requests by their number only: the configuration is stored and has no effect";
const DRIVERS: &str = "this server runs no CSI drivers: the object is stored and has no effect";
const COMPONENTS: &str = "v1 ComponentStatus is deprecated in v1.19+";

#[rustfmt::skip]
const ROWS: &[Row] = &[
    Row { definition: "io.k8s.api.core.v1.Namespace", plural: "namespaces", short: &["ns"], cluster: true, status: true, others: &[("finalize", &["update"])], selectable: &["status.phase"], rule: NameRule::Label, ..ROW },
    Row { definition: "io.k8s.api.core.v1.ComponentStatus", plural: "componentstatuses", short: &["cs"], cluster: true, measured: true, warning: Some(COMPONENTS), ..ROW },
    Row { definition: "io.k8s.api.core.v1.Pod", plural: "pods", short: &["po"], categories: ALL, status: true, lazy: true, others: &[("attach", &["create", "get"]), ("binding", &["create"]), ("ephemeralcontainers", &["get", "patch", "update"]), ("eviction", &["create"]), ("exec", &["create", "get"]), ("log", &["get"]), ("portforward", &["create", "get"]), ("proxy", &["create", "delete", "get", "patch", "update"]), ("resize", &["get", "patch", "update"])], selectable: &["spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName", "spec.hostNetwork", "status.phase", "status.podIP", "status.nominatedNodeName"], ..ROW },
    Row { definition: "io.k8s.api.core.v1.Service", plural: "services", short: &["svc"], categories: ALL, status: true, others: &[("proxy", &["create", "delete", "get", "patch", "update"])], selectable: &["spec.clusterIP", "spec.type"], rule: NameRule::Label1035, ..ROW },
    Row { definition: "io.k8s.api.core.v1.Endpoints", plural: "endpoints", short: &["ep"], lazy: true, warning: Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"), ..ROW },
    Row { definition: "io.k8s.api.core.v1.ConfigMap", plural: "configmaps", short: &["cm"], ..ROW },
    Row { definition: "io.k8s.api.core.v1.Secret", plural: "secrets", selectable: &["type"], ..ROW },
    Row { definition: "io.k8s.api.core.v1.ServiceAccount", plural: "serviceaccounts", short: &["sa"], others: &[("token", &["create"])], ..ROW },
    Row { definition: "io.k8s.api.core.v1.PodTemplate", plural: "podtemplates", ..ROW },
    Row { definition: "io.k8s.api.core.v1.ReplicationController", plural: "replicationcontrollers", short: &["rc"], categories: ALL, status: true, scale: true, ..ROW },
    Row { definition: "io.k8s.api.core.v1.ResourceQuota", plural: "resourcequotas", short: &["quota"], status: true, ..ROW },
    Row { definition: "io.k8s.api.core.v1.LimitRange", plural: "limitranges", short: &["limits"], ..ROW },
    Row { definition: "io.k8s.api.core.v1.Node", plural: "nodes", short: &["no"], cluster: true, status: true, others: &[("proxy", &["create", "delete", "get", "patch", "update"])], selectable: &["spec.unschedulable"], ..ROW },
    Row { definition: "io.k8s.api.core.v1.Event", plural: "events", short: &["ev"], lazy: true, selectable: EVENT_FIELDS, ..ROW },
    Row { definition: "io.k8s.api.core.v1.PersistentVolume", plural: "persistentvolumes", short: &["pv"], cluster: true, status: true, ..ROW },
    Row { definition: "io.k8s.api.core.v1.PersistentVolumeClaim", plural: "persistentvolumeclaims", short: &["pvc"], status: true, ..ROW },
    Row { definition: "io.k8s.api.admissionregistration.v1.MutatingAdmissionPolicy", group: "admissionregistration.k8s.io", plural: "mutatingadmissionpolicies", categories: API, cluster: true, warning: Some(MUTATIONS), ..ROW },
    Row { definition: "io.k8s.api.admissionregistration.v1.MutatingAdmissionPolicyBinding", group: "admissionregistration.k8s.io", plural: "mutatingadmissionpolicybindings", categories: API, cluster: true, warning: Some(MUTATIONS), ..ROW },
    Row { definition: "io.k8s.api.admissionregistration.v1.MutatingWebhookConfiguration", group: "admissionregistration.k8s.io", plural: "mutatingwebhookconfigurations", categories: API, cluster: true, warning: Some(HOOKS), ..ROW },
    Row { definition: "io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicy", group: "admissionregistration.k8s.io", plural: "validatingadmissionpolicies", categories: API, cluster: true, status: true, ..ROW },
    Row { definition: "io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicyBinding", group: "admissionregistration.k8s.io", plural: "validatingadmissionpolicybindings", categories: API, cluster: true, ..ROW },
    Row { definition: "io.k8s.api.admissionregistration.v1.ValidatingWebhookConfiguration", group: "admissionregistration.k8s.io", plural: "validatingwebhookconfigurations", categories: API, cluster: true, warning: Some(HOOKS), ..ROW },
    Row { definition: "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1.APIService", group: "apiregistration.k8s.io", plural: "apiservices", categories: API, cluster: true, status: true, ..ROW },
    Row { definition: "io.k8s.api.apps.v1.Deployment", group: "apps", plural: "deployments", short: &["deploy"], categories: ALL, status: true, scale: true, ..ROW },
    Row { definition: "io.k8s.api.apps.v1.ReplicaSet", group: "apps", plural: "replicasets", short: &["rs"], categories: ALL, status: true, scale: true, lazy: true, selectable: &["status.replicas"], ..ROW },
    Row { definition: "io.k8s.api.apps.v1.StatefulSet", group: "apps", plural: "statefulsets", short: &["sts"], categories: ALL, status: true, scale: true, ..ROW },
    Row { definition: "io.k8s.api.apps.v1.DaemonSet", group: "apps", plural: "daemonsets", short: &["ds"], categories: ALL, status: true, ..ROW },
    Row { definition: "io.k8s.api.apps.v1.ControllerRevision", group: "apps", plural: "controllerrevisions", ..ROW },
    Row { definition: "io.k8s.api.batch.v1.Job", group: "batch", plural: "jobs", categories: ALL, status: true, selectable: &["status.successful"], ..ROW },
    Row { definition: "io.k8s.api.batch.v1.CronJob", group: "batch", plural: "cronjobs", short: &["cj"], categories: ALL, status: true, ..ROW },
    Row { definition: "io.k8s.api.authentication.v1.SelfSubjectReview", group: "authentication.k8s.io", plural: "selfsubjectreviews", cluster: true, question: true, ..ROW },
    Row { definition: "io.k8s.api.authentication.v1.TokenReview", group: "authentication.k8s.io", plural: "tokenreviews", cluster: true, question: true, ..ROW },
    Row { definition: "io.k8s.api.authorization.v1.LocalSubjectAccessReview", group: "authorization.k8s.io", plural: "localsubjectaccessreviews", question: true, ..ROW },
    Row { definition: "io.k8s.api.authorization.v1.SelfSubjectAccessReview", group: "authorization.k8s.io", plural: "selfsubjectaccessreviews", cluster: true, question: true, ..ROW },
    Row { definition: "io.k8s.api.authorization.v1.SelfSubjectRulesReview", group: "authorization.k8s.io", plural: "selfsubjectrulesreviews", cluster: true, question: true, ..ROW },
    Row { definition: "io.k8s.api.authorization.v1.SubjectAccessReview", group: "authorization.k8s.io", plural: "subjectaccessreviews", cluster: true, question: true, ..ROW },
    Row { definition: "io.k8s.api.autoscaling.v1.HorizontalPodAutoscaler", group: "autoscaling", plural: "horizontalpodautoscalers", short: &["hpa"], categories: ALL, status: true, ..ROW },
    Row { definition: "io.k8s.api.autoscaling.v2.HorizontalPodAutoscaler", group: "autoscaling", version: "v2", plural: "horizontalpodautoscalers", short: &["hpa"], categories: ALL, status: true, ..ROW },
    Row { definition: "io.k8s.api.certificates.v1.CertificateSigningRequest", group: "certificates.k8s.io", plural: "certificatesigningrequests", short: &["csr"], cluster: true, status: true, others: &[("approval", &["get", "patch", "update"])], selectable: &["spec.signerName"], ..ROW },
    Row { definition: "io.k8s.api.certificates.v1.ClusterTrustBundle", group: "certificates.k8s.io", plural: "clustertrustbundles", cluster: true, selectable: &["spec.signerName"], rule: NameRule::PathSegment, ..ROW },
    Row { definition: "io.k8s.api.coordination.v1.Lease", group: "coordination.k8s.io", plural: "leases", lazy: true, ..ROW },
    Row { definition: "io.k8s.api.discovery.v1.EndpointSlice", group: "discovery.k8s.io", plural: "endpointslices", lazy: true, ..ROW },
    Row { definition: "io.k8s.api.events.v1.Event", group: "events.k8s.io", plural: "events", lazy: true, ..ROW },
    Row { definition: "io.k8s.api.flowcontrol.v1.FlowSchema", group: "flowcontrol.apiserver.k8s.io", plural: "flowschemas", cluster: true, status: true, warning: Some(FLOWS), ..ROW },
    Row { definition: "io.k8s.api.flowcontrol.v1.PriorityLevelConfiguration", group: "flowcontrol.apiserver.k8s.io", plural: "prioritylevelconfigurations", cluster: true, status: true, warning: Some(FLOWS), ..ROW },
    Row { definition: "io.k8s.metrics.pkg.apis.metrics.v1beta1.NodeMetrics", group: "metrics.k8s.io", version: "v1beta1", plural: "nodes", cluster: true, measured: true, ..ROW },
    Row { definition: "io.k8s.metrics.pkg.apis.metrics.v1beta1.PodMetrics", group: "metrics.k8s.io", version: "v1beta1", plural: "pods", measured: true, ..ROW },
    Row { definition: "io.k8s.api.networking.v1.IPAddress", group: "networking.k8s.io", plural: "ipaddresses", short: &["ip"], cluster: true, measured: true, ..ROW },
    Row { definition: "io.k8s.api.networking.v1.ServiceCIDR", group: "networking.k8s.io", plural: "servicecidrs", cluster: true, measured: true, ..ROW },
    Row { definition: "io.k8s.api.networking.v1.Ingress", group: "networking.k8s.io", plural: "ingresses", short: &["ing"], status: true, ..ROW },
    Row { definition: "io.k8s.api.networking.v1.IngressClass", group: "networking.k8s.io", plural: "ingressclasses", cluster: true, ..ROW },
    Row { definition: "io.k8s.api.networking.v1.NetworkPolicy", group: "networking.k8s.io", plural: "networkpolicies", short: &["netpol"], ..ROW },
    Row { definition: "io.k8s.api.node.v1.RuntimeClass", group: "node.k8s.io", plural: "runtimeclasses", cluster: true, ..ROW },
    Row { definition: "io.k8s.api.policy.v1.PodDisruptionBudget", group: "policy", plural: "poddisruptionbudgets", short: &["pdb"], status: true, ..ROW },
    Row { definition: "io.k8s.api.rbac.v1.Role", group: "rbac.authorization.k8s.io", plural: "roles", rule: NameRule::PathSegment, ..ROW },
    Row { definition: "io.k8s.api.rbac.v1.RoleBinding", group: "rbac.authorization.k8s.io", plural: "rolebindings", rule: NameRule::PathSegment, ..ROW },
    Row { definition: "io.k8s.api.rbac.v1.ClusterRole", group: "rbac.authorization.k8s.io", plural: "clusterroles", cluster: true, rule: NameRule::PathSegment, ..ROW },
    Row { definition: "io.k8s.api.rbac.v1.ClusterRoleBinding", group: "rbac.authorization.k8s.io", plural: "clusterrolebindings", cluster: true, rule: NameRule::PathSegment, ..ROW },
    Row { definition: "io.k8s.api.scheduling.v1.PriorityClass", group: "scheduling.k8s.io", plural: "priorityclasses", short: &["pc"], cluster: true, ..ROW },
    Row { definition: "io.k8s.api.storage.v1.CSIDriver", group: "storage.k8s.io", plural: "csidrivers", cluster: true, warning: Some(DRIVERS), ..ROW },
    Row { definition: "io.k8s.api.storage.v1.CSINode", group: "storage.k8s.io", plural: "csinodes", cluster: true, warning: Some(DRIVERS), ..ROW },
    Row { definition: "io.k8s.api.storage.v1.CSIStorageCapacity", group: "storage.k8s.io", plural: "csistoragecapacities", warning: Some(DRIVERS), ..ROW },
    Row { definition: "io.k8s.api.storage.v1.StorageClass", group: "storage.k8s.io", plural: "storageclasses", short: &["sc"], cluster: true, ..ROW },
    Row { definition: "io.k8s.api.storage.v1.VolumeAttachment", group: "storage.k8s.io", plural: "volumeattachments", cluster: true, status: true, warning: Some(DRIVERS), ..ROW },
    Row { definition: "io.k8s.api.storage.v1.VolumeAttributesClass", group: "storage.k8s.io", plural: "volumeattributesclasses", short: &["vac"], cluster: true, warning: Some(DRIVERS), ..ROW },
    Row { definition: "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition", group: "apiextensions.k8s.io", plural: "customresourcedefinitions", short: &["crd", "crds"], categories: &["api-extensions"], cluster: true, status: true, ..ROW },
];

pub(super) fn all() -> impl Iterator<Item = ResourceType> {
    ROWS.iter().map(entry)
}

fn entry(row: &Row) -> ResourceType {
    let kind = row.definition.rsplit('.').next().unwrap_or_default();
    let texts = |list: &[&str]| {
        list.iter()
            .map(|text| (*text).to_owned())
            .collect::<Vec<_>>()
    };
    let scale = row.scale.then(|| Scale {
        spec_replicas: "/spec/replicas".into(),
        status_replicas: "/status/replicas".into(),
        selector: Some("/spec/selector".into()),
    });
    ResourceType {
        group: row.group.into(),
        version: row.version.into(),
        kind: kind.into(),
        list_kind: format!("{kind}List"),
        plural: row.plural.into(),
        singular: kind.to_ascii_lowercase(),
        short_names: texts(row.short),
        categories: texts(row.categories),
        namespaced: !row.cluster,
        subresources: Subresources {
            status: row.status,
            scale,
            others: row.others.to_vec(),
        },
        schema: pack::schema(row.definition),
        rules: None,
        description: Description::Definition(row.definition),
        columns: table::builtin(row.group, kind).map_or(Columns::Plain, Columns::Builtin),
        durability: if row.lazy {
            Durability::Lazy
        } else {
            Durability::Durable
        },
        selectable: texts(row.selectable),
        verbs: match (row.question, row.measured) {
            (true, _) => ASK,
            (_, true) => MEASURED,
            _ => ALL_VERBS,
        },
        name_rule: row.rule,
        storage: storage(row),
        custom: false,
        priority: 0,
        warning: row.warning.map(Into::into),
    }
}

fn storage(row: &Row) -> Storage {
    let events = row.group == "events.k8s.io";
    let older_autoscaler = row.group == "autoscaling" && row.version == "v1";
    Storage {
        group: if events {
            String::new()
        } else {
            row.group.into()
        },
        plural: row.plural.into(),
        version: if older_autoscaler {
            "v2".into()
        } else {
            row.version.into()
        },
        older_autoscaler,
        renamed: if events { EVENT_RENAMED } else { &[] },
    }
}
