//! Columns of built-in kinds, as data.

use super::{Cell, Column, Printer, event, extension, network, node, pod, workload};

use Cell::{Age, Compute, Count, CreatedAt, Flag, Name, Number, Text};

const fn text(name: &'static str, cell: Cell) -> Column {
    Column {
        name,
        kind: "string",
        format: "",
        wide: false,
        cell,
    }
}

const fn wide(name: &'static str, cell: Cell) -> Column {
    Column {
        name,
        kind: "string",
        format: "",
        wide: true,
        cell,
    }
}

const fn int(name: &'static str, cell: Cell) -> Column {
    Column {
        name,
        kind: "integer",
        format: "",
        wide: false,
        cell,
    }
}

const fn flag(name: &'static str, pointer: &'static str) -> Column {
    Column {
        name,
        kind: "boolean",
        format: "",
        wide: false,
        cell: Flag(pointer),
    }
}

const NAME: Column = Column {
    name: "Name",
    kind: "string",
    format: "name",
    wide: false,
    cell: Name,
};
const AGE: Column = Column {
    name: "Age",
    kind: "string",
    format: "",
    wide: false,
    cell: Age,
};
const CREATED: Column = Column {
    name: "Created At",
    kind: "date",
    format: "",
    wide: false,
    cell: CreatedAt,
};
const CONTAINERS: Column = wide("Containers", Compute(workload::containers));
const IMAGES: Column = wide("Images", Compute(workload::images));
const SELECTOR: Column = wide("Selector", Compute(workload::selector));

#[rustfmt::skip]
static PRINTERS: &[(&str, &str, Printer)] = &[
    ("", "Pod", Printer { columns: &[
        NAME,
        text("Ready", Compute(pod::ready)),
        text("Status", Compute(pod::status)),
        text("Restarts", Compute(pod::restarts)),
        AGE,
        wide("IP", Text("/status/podIP", "<none>")),
        wide("Node", Text("/spec/nodeName", "<none>")),
        wide("Nominated Node", Text("/status/nominatedNodeName", "<none>")),
        wide("Readiness Gates", Compute(pod::readiness_gates)),
    ] }),
    ("apps", "Deployment", Printer { columns: &[
        NAME,
        text("Ready", Compute(workload::ready_of_wanted)),
        int("Up-to-date", Number("/status/updatedReplicas")),
        int("Available", Number("/status/availableReplicas")),
        AGE, CONTAINERS, IMAGES, SELECTOR,
    ] }),
    ("apps", "ReplicaSet", Printer { columns: &[
        NAME,
        int("Desired", Number("/spec/replicas")),
        int("Current", Number("/status/replicas")),
        int("Ready", Number("/status/readyReplicas")),
        AGE, CONTAINERS, IMAGES, SELECTOR,
    ] }),
    ("apps", "StatefulSet", Printer { columns: &[
        NAME, text("Ready", Compute(workload::ready_of_wanted)), AGE, CONTAINERS, IMAGES,
    ] }),
    ("apps", "DaemonSet", Printer { columns: &[
        NAME,
        int("Desired", Number("/status/desiredNumberScheduled")),
        int("Current", Number("/status/currentNumberScheduled")),
        int("Ready", Number("/status/numberReady")),
        int("Up-to-date", Number("/status/updatedNumberScheduled")),
        int("Available", Number("/status/numberAvailable")),
        text("Node Selector", Compute(workload::node_selector)),
        AGE, CONTAINERS, IMAGES, SELECTOR,
    ] }),
    ("apps", "ControllerRevision", Printer { columns: &[
        NAME, text("Controller", Compute(workload::controller)), int("Revision", Number("/revision")), AGE,
    ] }),
    ("batch", "Job", Printer { columns: &[
        NAME,
        text("Status", Compute(workload::job_status)),
        text("Completions", Compute(workload::completions)),
        text("Duration", Compute(workload::duration)),
        AGE, CONTAINERS, IMAGES, SELECTOR,
    ] }),
    ("batch", "CronJob", Printer { columns: &[
        NAME,
        text("Schedule", Text("/spec/schedule", "")),
        text("Timezone", Text("/spec/timeZone", "<none>")),
        text("Suspend", Compute(workload::suspended)),
        int("Active", Count("/status/active")),
        text("Last Schedule", Compute(workload::last_schedule)),
        AGE,
        wide("Containers", Compute(workload::job_containers)),
        wide("Images", Compute(workload::job_images)),
        wide("Selector", Compute(workload::job_selector)),
    ] }),
    ("autoscaling", "HorizontalPodAutoscaler", Printer { columns: &[
        NAME,
        text("Reference", Compute(workload::reference)),
        text("Targets", Compute(workload::targets)),
        text("MinPods", Text("/spec/minReplicas", "<unset>")),
        int("MaxPods", Number("/spec/maxReplicas")),
        int("Replicas", Number("/status/currentReplicas")),
        AGE,
    ] }),
    ("", "Service", Printer { columns: &[
        NAME,
        text("Type", Text("/spec/type", "")),
        text("Cluster-IP", Compute(network::cluster_ip)),
        text("External-IP", Compute(network::external_ip)),
        text("Port(s)", Compute(network::service_ports)),
        AGE,
        wide("Selector", Compute(network::service_selector)),
    ] }),
    ("", "Endpoints", Printer { columns: &[NAME, text("Endpoints", Compute(network::endpoints)), AGE] }),
    ("discovery.k8s.io", "EndpointSlice", Printer { columns: &[
        NAME,
        text("AddressType", Text("/addressType", "")),
        text("Ports", Compute(network::slice_ports)),
        text("Endpoints", Compute(network::slice_endpoints)),
        AGE,
    ] }),
    ("networking.k8s.io", "Ingress", Printer { columns: &[
        NAME,
        text("Class", Compute(network::ingress_class)),
        text("Hosts", Compute(network::ingress_hosts)),
        text("Address", Compute(network::ingress_address)),
        text("Ports", Compute(network::ingress_ports)),
        AGE,
    ] }),
    ("networking.k8s.io", "IngressClass", Printer { columns: &[
        NAME,
        text("Controller", Text("/spec/controller", "")),
        text("Parameters", Compute(network::parameters)),
        AGE,
    ] }),
    ("networking.k8s.io", "NetworkPolicy", Printer { columns: &[
        NAME, text("Pod-Selector", Compute(network::pod_selector)), AGE,
    ] }),
    ("", "Node", Printer { columns: &[
        NAME,
        text("Status", Compute(node::status)),
        text("Roles", Compute(node::roles)),
        AGE,
        text("Version", Text("/status/nodeInfo/kubeletVersion", "")),
        wide("Internal-IP", Compute(node::internal_ip)),
        wide("External-IP", Compute(node::external_ip)),
        wide("OS-Image", Text("/status/nodeInfo/osImage", "<unknown>")),
        wide("Kernel-Version", Text("/status/nodeInfo/kernelVersion", "<unknown>")),
        wide("Container-Runtime", Text("/status/nodeInfo/containerRuntimeVersion", "<unknown>")),
    ] }),
    ("", "Namespace", Printer { columns: &[NAME, text("Status", Text("/status/phase", "")), AGE] }),
    ("", "ConfigMap", Printer { columns: &[NAME, int("Data", Compute(node::config_count)), AGE] }),
    ("", "Secret", Printer { columns: &[NAME, text("Type", Text("/type", "")), int("Data", Count("/data")), AGE] }),
    ("", "ServiceAccount", Printer { columns: &[NAME, int("Secrets", Count("/secrets")), AGE] }),
    ("", "Event", Printer { columns: &[
        text("Last Seen", Compute(event::last_seen)),
        text("Type", Text("/type", "")),
        text("Reason", Text("/reason", "")),
        text("Object", Compute(event::object)),
        wide("Subobject", Text("/involvedObject/fieldPath", "")),
        wide("Source", Compute(event::source)),
        text("Message", Compute(event::message)),
        wide("First Seen", Compute(event::first_seen)),
        wide("Count", Compute(event::count)),
        Column { wide: true, ..NAME },
    ] }),
    ("events.k8s.io", "Event", Printer { columns: &[
        text("Last Seen", Compute(event::last_seen)),
        text("Type", Text("/type", "")),
        text("Reason", Text("/reason", "")),
        text("Object", Compute(event::object)),
        wide("Subobject", Text("/regarding/fieldPath", "")),
        wide("Source", Compute(event::source)),
        text("Message", Compute(event::message)),
        wide("First Seen", Compute(event::first_seen)),
        wide("Count", Compute(event::count)),
        Column { wide: true, ..NAME },
    ] }),
    ("coordination.k8s.io", "Lease", Printer { columns: &[NAME, text("Holder", Text("/spec/holderIdentity", "")), AGE] }),
    ("apiextensions.k8s.io", "CustomResourceDefinition", Printer { columns: &[NAME, CREATED] }),
    ("rbac.authorization.k8s.io", "Role", Printer { columns: &[NAME, CREATED] }),
    ("rbac.authorization.k8s.io", "ClusterRole", Printer { columns: &[NAME, CREATED] }),
    ("rbac.authorization.k8s.io", "RoleBinding", Printer { columns: &[
        NAME, text("Role", Compute(node::role)), AGE,
        wide("Users", Compute(node::users)), wide("Groups", Compute(node::groups)),
        wide("ServiceAccounts", Compute(node::service_accounts)),
    ] }),
    ("rbac.authorization.k8s.io", "ClusterRoleBinding", Printer { columns: &[
        NAME, text("Role", Compute(node::role)), AGE,
        wide("Users", Compute(node::users)), wide("Groups", Compute(node::groups)),
        wide("ServiceAccounts", Compute(node::service_accounts)),
    ] }),
    ("policy", "PodDisruptionBudget", Printer { columns: &[
        NAME,
        text("Min Available", Text("/spec/minAvailable", "N/A")),
        text("Max Unavailable", Text("/spec/maxUnavailable", "N/A")),
        int("Allowed Disruptions", Number("/status/disruptionsAllowed")),
        AGE,
    ] }),
    ("node.k8s.io", "RuntimeClass", Printer { columns: &[NAME, text("Handler", Text("/handler", "")), AGE] }),
    ("scheduling.k8s.io", "PriorityClass", Printer { columns: &[
        NAME,
        int("Value", Number("/value")),
        flag("Global-Default", "/globalDefault"),
        AGE,
        text("PreemptionPolicy", Text("/preemptionPolicy", "")),
    ] }),
    ("storage.k8s.io", "StorageClass", Printer { columns: &[
        Column { cell: Compute(extension::class_name), ..NAME },
        text("Provisioner", Text("/provisioner", "")),
        text("ReclaimPolicy", Text("/reclaimPolicy", "Delete")),
        text("VolumeBindingMode", Text("/volumeBindingMode", "Immediate")),
        flag("AllowVolumeExpansion", "/allowVolumeExpansion"),
        AGE,
    ] }),
    ("", "PersistentVolume", Printer { columns: &[
        NAME,
        text("Capacity", Text("/spec/capacity/storage", "")),
        text("Access Modes", Compute(node::access_modes)),
        text("Reclaim Policy", Text("/spec/persistentVolumeReclaimPolicy", "")),
        text("Status", Text("/status/phase", "")),
        text("Claim", Compute(node::claim)),
        text("StorageClass", Text("/spec/storageClassName", "")),
        text("Reason", Text("/status/reason", "")),
        AGE,
        wide("VolumeMode", Text("/spec/volumeMode", "<unset>")),
    ] }),
    ("", "PersistentVolumeClaim", Printer { columns: &[
        NAME,
        text("Status", Text("/status/phase", "")),
        text("Volume", Text("/spec/volumeName", "")),
        text("Capacity", Text("/status/capacity/storage", "")),
        text("Access Modes", Compute(node::access_modes)),
        text("StorageClass", Text("/spec/storageClassName", "")),
        AGE,
        wide("VolumeMode", Text("/spec/volumeMode", "<unset>")),
    ] }),
    ("networking.k8s.io", "IPAddress", Printer { columns: &[NAME, text("ParentRef", Compute(network::parent)), AGE] }),
    ("networking.k8s.io", "ServiceCIDR", Printer { columns: &[NAME, text("CIDRs", Compute(network::cidrs)), AGE] }),
    ("", "ComponentStatus", Printer { columns: &[
        NAME,
        text("Status", Compute(extension::component_status)),
        text("Message", Compute(extension::component_message)),
        text("Error", Compute(extension::component_error)),
    ] }),
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy", Printer { columns: &[
        NAME,
        int("Validations", Count("/spec/validations")),
        text("ParamKind", Compute(extension::param_kind)),
        AGE,
    ] }),
    ("admissionregistration.k8s.io", "MutatingAdmissionPolicy", Printer { columns: &[
        NAME,
        int("Mutations", Count("/spec/mutations")),
        text("ParamKind", Compute(extension::param_kind)),
        AGE,
    ] }),
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding", Printer { columns: &[
        NAME,
        text("PolicyName", Text("/spec/policyName", "")),
        text("ParamRef", Compute(extension::param_ref)),
        AGE,
    ] }),
    ("admissionregistration.k8s.io", "MutatingAdmissionPolicyBinding", Printer { columns: &[
        NAME,
        text("PolicyName", Text("/spec/policyName", "")),
        text("ParamRef", Compute(extension::param_ref)),
        AGE,
    ] }),
    ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration", Printer { columns: &[
        NAME, int("Webhooks", Count("/webhooks")), AGE,
    ] }),
    ("admissionregistration.k8s.io", "MutatingWebhookConfiguration", Printer { columns: &[
        NAME, int("Webhooks", Count("/webhooks")), AGE,
    ] }),
    ("flowcontrol.apiserver.k8s.io", "FlowSchema", Printer { columns: &[
        NAME,
        text("PriorityLevel", Text("/spec/priorityLevelConfiguration/name", "")),
        int("MatchingPrecedence", Number("/spec/matchingPrecedence")),
        text("DistinguisherMethod", Text("/spec/distinguisherMethod/type", "<none>")),
        AGE,
        text("MissingPL", Compute(extension::missing_level)),
    ] }),
    ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration", Printer { columns: &[
        NAME,
        text("Type", Text("/spec/type", "")),
        text("NominalConcurrencyShares", Compute(extension::shares)),
        text("Queues", Text("/spec/limited/limitResponse/queuing/queues", "<none>")),
        text("HandSize", Text("/spec/limited/limitResponse/queuing/handSize", "<none>")),
        text("QueueLengthLimit", Text("/spec/limited/limitResponse/queuing/queueLengthLimit", "<none>")),
        AGE,
    ] }),
    ("storage.k8s.io", "CSIDriver", Printer { columns: &[
        NAME,
        flag("AttachRequired", "/spec/attachRequired"),
        flag("PodInfoOnMount", "/spec/podInfoOnMount"),
        flag("StorageCapacity", "/spec/storageCapacity"),
        text("TokenRequests", Compute(extension::token_requests)),
        flag("RequiresRepublish", "/spec/requiresRepublish"),
        text("Modes", Compute(extension::modes)),
        AGE,
    ] }),
    ("storage.k8s.io", "CSINode", Printer { columns: &[NAME, int("Drivers", Count("/spec/drivers")), AGE] }),
    ("storage.k8s.io", "CSIStorageCapacity", Printer { columns: &[
        NAME,
        text("StorageClassName", Text("/storageClassName", "")),
        text("Capacity", Text("/capacity", "<unset>")),
    ] }),
    ("storage.k8s.io", "VolumeAttachment", Printer { columns: &[
        NAME,
        text("Attacher", Text("/spec/attacher", "")),
        text("PV", Text("/spec/source/persistentVolumeName", "")),
        text("Node", Text("/spec/nodeName", "")),
        flag("Attached", "/status/attached"),
        AGE,
    ] }),
    ("storage.k8s.io", "VolumeAttributesClass", Printer { columns: &[
        NAME, text("DriverName", Text("/driverName", "")), AGE,
    ] }),
];

/// Columns of a built-in kind, if it has own ones.
pub(crate) fn builtin(group: &str, kind: &str) -> Option<&'static Printer> {
    PRINTERS
        .iter()
        .find(|(own, name, _)| *own == group && *name == kind)
        .map(|(_, _, printer)| printer)
}
