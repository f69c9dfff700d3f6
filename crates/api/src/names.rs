//! Names, labels, annotations and namespaces that more than one controller reads or writes.
//!
//! Knative's spelling wherever Knative has one; `suimon.dev` only for what Knative does not name.

use md5::{Digest, Md5};

/// Namespace of the system's ConfigMaps and of the gateway's Service.
pub const SYSTEM_NAMESPACE: &str = "knative-serving";
/// Cluster domain of Kubernetes Services.
pub const CLUSTER_DOMAIN: &str = "cluster.local";
/// Class of Ingresses that this gateway serves when `config-network` names none.
pub const INGRESS_CLASS: &str = "suimon.ingress.networking.knative.dev";
/// Class of Certificates that the local authority answers.
pub const CERTIFICATE_CLASS: &str = "suimon.certificate.networking.knative.dev";
/// Classes of Certificates that a public authority signs by ACME: ours, and that of Knative's
/// net-http01.
pub const ACME_CERTIFICATE_CLASSES: [&str; 2] = [
    "acme.certificate.networking.knative.dev",
    "net-http01.certificate.networking.knative.dev",
];
/// Class of PodAutoscalers that the built-in autoscaler drives.
pub const KPA_CLASS: &str = "kpa.autoscaling.knative.dev";
/// Class of PodAutoscalers that a HorizontalPodAutoscaler drives.
pub const HPA_CLASS: &str = "hpa.autoscaling.knative.dev";
/// Name of the gateway's Service in [`SYSTEM_NAMESPACE`], for external traffic.
pub const GATEWAY_SERVICE: &str = "suimon-gateway";
/// Name of the gateway's Service in [`SYSTEM_NAMESPACE`], for cluster-local traffic.
pub const GATEWAY_LOCAL_SERVICE: &str = "suimon-gateway-internal";
/// Name of the container that the user's first container gets by default.
pub const USER_CONTAINER: &str = "user-container";
/// Name of the pod's port that serves requests; Services of revisions target it by this name.
pub const USER_PORT: &str = "user-port";

/// By a cookie that the gateway sets, or by the client's address.
pub const SESSION_AFFINITIES: [&str; 2] = ["Cookie", "ClientIP"];

/// Label keys.
pub mod label {
    pub const SERVICE: &str = "serving.knative.dev/service";
    pub const SERVICE_UID: &str = "serving.knative.dev/serviceUID";
    pub const CONFIGURATION: &str = "serving.knative.dev/configuration";
    pub const CONFIGURATION_UID: &str = "serving.knative.dev/configurationUID";
    pub const CONFIGURATION_GENERATION: &str = "serving.knative.dev/configurationGeneration";
    pub const REVISION: &str = "serving.knative.dev/revision";
    pub const REVISION_UID: &str = "serving.knative.dev/revisionUID";
    pub const ROUTE: &str = "serving.knative.dev/route";
    pub const ROUTE_NAMESPACE: &str = "serving.knative.dev/routeNamespace";
    pub const ROUTING_STATE: &str = "serving.knative.dev/routingState";
    pub const VISIBILITY: &str = "networking.knative.dev/visibility";
    /// On a Service: the pods behind it belong to this PodAutoscaler and may be at zero.
    pub const POD_AUTOSCALER: &str = "suimon.dev/podautoscaler";
}

/// Annotation keys.
pub mod annotation {
    pub const CREATOR: &str = "serving.knative.dev/creator";
    pub const LAST_MODIFIER: &str = "serving.knative.dev/lastModifier";
    pub const ROUTES: &str = "serving.knative.dev/routes";
    pub const ROUTING_STATE_MODIFIED: &str = "serving.knative.dev/routingStateModified";
    pub const ROLLOUT_DURATION: &str = "serving.knative.dev/rollout-duration";
    /// Both spellings, the current one first.
    pub const ROLLOUT_DURATIONS: [&str; 2] =
        [ROLLOUT_DURATION, "serving.knative.dev/rolloutDuration"];
    pub const INGRESS_CLASS: &str = "networking.knative.dev/ingress.class";
    /// Both spellings, the current one first.
    pub const CERTIFICATE_CLASSES: [&str; 2] = [
        "networking.knative.dev/certificate.class",
        "networking.knative.dev/certificate-class",
    ];
    /// All spellings of: this Route wants no certificate.
    pub const DISABLE_EXTERNAL_DOMAIN_TLS: [&str; 3] = [
        "networking.knative.dev/disable-external-domain-tls",
        "networking.knative.dev/disable-auto-tls",
        "networking.knative.dev/disableAutoTLS",
    ];
    /// Kourier's: backends of this Ingress are spoken to over HTTP/1.1, whatever their port says.
    pub const DISABLE_HTTP2: &str = "kourier.knative.dev/disable-http2";
    /// Ours, on the KIngress of a DomainMapping that does what its target's Route does: the target's
    /// host in the cluster, for what is asked of that host is asked of the mapping too.
    pub const TARGET_HOST: &str = "gateway.suimon.dev/target-host";
    pub const HTTP_PROTOCOL: &str = "networking.knative.dev/http-protocol";
    /// Ours, on a revision's template: which clients stay with one pod. Its values are
    /// [`SESSION_AFFINITIES`](super::SESSION_AFFINITIES).
    pub const SESSION_AFFINITY: &str = "gateway.suimon.dev/session-affinity";
    pub const AUTOSCALING_CLASS: &str = "autoscaling.knative.dev/class";
    pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
    /// On a Pod of the `process` runtime, written by the node before the pod is Ready: a JSON
    /// object from container port to the host port that stands for it, for example
    /// `{"8080":31007}`. Without it a container port is reached at the pod's own IP.
    pub const HOST_PORTS: &str = "node.suimon.dev/host-ports";

    /// A yes or no, in the spellings of Go's `strconv.ParseBool`.
    pub fn parse_bool(text: &str) -> Option<bool> {
        match text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
            _ => None,
        }
    }
}

/// Condition on a terminating Pod of a revision: True once no gateway sends it requests and
/// none is in flight. The node delays SIGTERM until then, within the pod's grace period.
pub const POD_DRAINED: &str = "gateway.suimon.dev/Drained";

/// `parent` + `suffix`, shortened when it would pass Kubernetes' 63 characters by the rule of
/// `knative.dev/pkg/kmeta.ChildName`, letter for letter: tools and stored objects name children so.
pub fn child_name(parent: &str, suffix: &str) -> String {
    const LONGEST: usize = 63;
    /// What an MD5 in hexadecimal digits leaves.
    const HEAD: usize = LONGEST - 32;
    if parent.len() + suffix.len() <= LONGEST {
        return format!("{parent}{suffix}");
    }
    if let Some(keep) = HEAD.checked_sub(suffix.len()).filter(|keep| *keep > 0) {
        return format!("{}{}{suffix}", start(parent, keep), md5_of(&[parent]));
    }
    let mut name = format!("{}{}", start(parent, HEAD), md5_of(&[parent, suffix]));
    let left = LONGEST.saturating_sub(name.len());
    name.push_str(start(suffix, left));
    let fine = |c: char| c.is_ascii_alphanumeric();
    name.trim_end_matches(|c| !fine(c)).to_owned()
}

/// The first `most` bytes, or fewer where they would cut a character in two.
fn start(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len())).rev();
    let end = end.into_iter().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or_default()]
}

fn md5_of(parts: &[&str]) -> String {
    let mut hash = Md5::new();
    for part in parts {
        hash.update(part);
    }
    let digits = hash.finalize();
    digits.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::child_name;

    #[test]
    fn short_names_are_joined_and_long_ones_stay_within_63_characters() {
        assert_eq!(child_name("hello", "-00001"), "hello-00001");
        let long = child_name(&"a".repeat(63), "-deployment");
        assert_eq!(long.len(), 63);
        assert!(long.ends_with("-deployment"));
        assert_ne!(long, child_name(&"a".repeat(62), "-deployment"));
    }

    #[test]
    fn a_long_name_is_the_one_that_knative_gives() {
        let revision = "autoscale-sustaining-aggregation-linear-lwbruejw-00001";
        assert_eq!(
            child_name(revision, "-deployment"),
            "autoscale-sustaining247a27200290086447f12eecdf0bf62a-deployment"
        );
        let suffix = format!("-{}", "b".repeat(40));
        assert_eq!(
            child_name(&"a".repeat(40), &suffix),
            format!("{}96475b7fadc8061c8e88a97b14c2074e", "a".repeat(31))
        );
        assert_eq!(
            child_name(&"ä".repeat(40), "-deployment").len(),
            63,
            "a name that admission would refuse does not cut a character in two"
        );
    }
}
