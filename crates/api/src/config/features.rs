//! `config-features`: which optional fields and behaviors are allowed.

use std::collections::BTreeMap;

use super::ConfigError;
use super::reader::{self, Reader};

/// State of a feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flag {
    /// On.
    Enabled,
    /// On where an object asks for it.
    Allowed,
    /// Only for `secure-pod-defaults`: secure, but root stays possible.
    AllowRootBounded,
    /// Off.
    Disabled,
}

macro_rules! features {
    ($($variant:ident $key:literal $default:ident,)*) => {
        /// One optional feature.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Feature { $(#[doc = $key] $variant,)* }

        impl Feature {
            /// Every feature with its key in `config-features` and Knative's default.
            const TABLE: &[(Self, &'static str, Flag)] = &[$((Self::$variant, $key, Flag::$default),)*];

            /// Its key in `config-features`.
            pub fn key(self) -> &'static str {
                match self { $(Self::$variant => $key,)* }
            }
        }
    };
}

features! {
    MultiContainer "multi-container" Enabled,
    MultiContainerProbing "multi-container-probing" Disabled,
    SecurePodDefaults "secure-pod-defaults" Disabled,
    Affinity "kubernetes.podspec-affinity" Disabled,
    TopologySpreadConstraints "kubernetes.podspec-topologyspreadconstraints" Disabled,
    HostAliases "kubernetes.podspec-hostaliases" Disabled,
    NodeSelector "kubernetes.podspec-nodeselector" Disabled,
    Tolerations "kubernetes.podspec-tolerations" Disabled,
    FieldRef "kubernetes.podspec-fieldref" Disabled,
    RuntimeClassName "kubernetes.podspec-runtimeclassname" Disabled,
    DnsPolicy "kubernetes.podspec-dnspolicy" Disabled,
    DnsConfig "kubernetes.podspec-dnsconfig" Disabled,
    SecurityContext "kubernetes.podspec-securitycontext" Disabled,
    ShareProcessNamespace "kubernetes.podspec-shareprocessnamespace" Disabled,
    HostIpc "kubernetes.podspec-hostipc" Disabled,
    HostPid "kubernetes.podspec-hostpid" Disabled,
    HostNetwork "kubernetes.podspec-hostnetwork" Disabled,
    PriorityClassName "kubernetes.podspec-priorityclassname" Disabled,
    SchedulerName "kubernetes.podspec-schedulername" Disabled,
    InitContainers "kubernetes.podspec-init-containers" Disabled,
    PersistentVolumeClaim "kubernetes.podspec-persistent-volume-claim" Disabled,
    PersistentVolumeWrite "kubernetes.podspec-persistent-volume-write" Disabled,
    EmptyDir "kubernetes.podspec-volumes-emptydir" Enabled,
    ImageVolume "kubernetes.podspec-volumes-image" Disabled,
    HostPath "kubernetes.podspec-volumes-hostpath" Disabled,
    EphemeralVolume "kubernetes.podspec-volumes-ephemeral" Disabled,
    CsiVolume "kubernetes.podspec-volumes-csi" Disabled,
    MountPropagation "kubernetes.podspec-volumes-mount-propagation" Disabled,
    AddCapabilities "kubernetes.containerspec-addcapabilities" Disabled,
    TagHeaderBasedRouting "tag-header-based-routing" Disabled,
    AutodetectHttp2 "autodetect-http2" Disabled,
}

/// Parsed `config-features`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Features {
    flags: BTreeMap<Feature, Flag>,
}

impl Default for Features {
    /// Knative's defaults.
    fn default() -> Self {
        Self::parse(&BTreeMap::new()).expect("the defaults are well formed")
    }
}

impl Features {
    /// # Errors
    /// All values that are no state of a feature.
    pub fn parse(data: &BTreeMap<String, String>) -> Result<Self, Vec<ConfigError>> {
        reader::parse(data, Self::read)
    }

    /// The state of a feature.
    pub fn flag(&self, feature: Feature) -> Flag {
        self.flags.get(&feature).copied().unwrap_or(Flag::Disabled)
    }

    /// Whether the feature is on without asking.
    pub fn enabled(&self, feature: Feature) -> bool {
        self.flag(feature) == Flag::Enabled
    }

    /// Whether the feature may be used at all.
    pub fn allowed(&self, feature: Feature) -> bool {
        self.flag(feature) != Flag::Disabled
    }

    pub(super) fn read(reader: &Reader<'_>) -> Self {
        const STATES: &[(&str, Flag)] = &[
            ("Enabled", Flag::Enabled),
            ("Allowed", Flag::Allowed),
            ("Disabled", Flag::Disabled),
        ];
        const SECURE: &[(&str, Flag)] = &[
            ("Enabled", Flag::Enabled),
            ("AllowRootBounded", Flag::AllowRootBounded),
            ("Disabled", Flag::Disabled),
        ];
        let flags = Feature::TABLE.iter().map(|(feature, key, default)| {
            let states = if *feature == Feature::SecurePodDefaults {
                SECURE
            } else {
                STATES
            };
            (*feature, reader.word(key, *default, states))
        });
        let flags = flags.collect();
        for key in ["queueproxy.mount-podinfo", "queueproxy.resource-defaults"] {
            reader.without_effect(key, "Suimon runs no queue-proxy sidecar");
        }
        let key = "domainmapping-direct-route-traffic";
        if reader.word(key, Flag::Enabled, STATES) == Flag::Disabled {
            let why = "domain mappings always do what the Route of their target does";
            reader.key_without_effect(key, why);
        }
        Self { flags }
    }
}
