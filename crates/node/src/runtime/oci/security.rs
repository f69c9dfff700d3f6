//! What a container may do: capabilities, the filter of system calls, and what is refused.
//!
//! The default is that of container engines without MKNOD and NET_RAW; a pod may drop more, or
//! add by name. What cannot be granted is refused with a message: silence would look like
//! success.

use k8s_openapi::api::core::v1::{Container, Pod, SecurityContext};

use crate::runtime::{Failure, Start};

/// Linux's numbers (linux/capability.h), in order.
const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// What container engines leave by default, without MKNOD and NET_RAW.
const DEFAULT_CAPABILITIES: [&str; 12] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

pub(super) fn capabilities(container: &Container) -> Result<u64, Failure> {
    let bit = |name: &str| {
        let plain = name.strip_prefix("CAP_").unwrap_or(name);
        let number = CAPABILITIES.iter().position(|known| *known == plain);
        number
            .map(|number| 1_u64 << number)
            .ok_or_else(|| Failure::config(format!("there is no capability {name}")))
    };
    let all = (1_u64 << CAPABILITIES.len()) - 1;
    let mut set = DEFAULT_CAPABILITIES
        .iter()
        .filter_map(|name| bit(name).ok())
        .fold(0, |set, bit| set | bit);
    let asked = container
        .security_context
        .as_ref()
        .and_then(|context| context.capabilities.as_ref());
    for name in asked.iter().flat_map(|asked| asked.drop.iter().flatten()) {
        set &= if name == "ALL" { 0 } else { !bit(name)? };
    }
    for name in asked.iter().flat_map(|asked| asked.add.iter().flatten()) {
        set |= if name == "ALL" { all } else { bit(name)? };
    }
    Ok(set)
}

pub(super) fn security(
    container: &Container,
    field: impl Fn(&SecurityContext) -> Option<bool>,
) -> bool {
    container.security_context.as_ref().and_then(field) == Some(true)
}

pub(super) fn is_unconfined(start: &Start<'_>) -> bool {
    let container = start
        .container
        .security_context
        .as_ref()
        .and_then(|context| context.seccomp_profile.as_ref());
    let pod = start
        .pod
        .spec
        .as_ref()
        .and_then(|spec| spec.security_context.as_ref()?.seccomp_profile.as_ref());
    container
        .or(pod)
        .is_some_and(|profile| profile.type_ == "Unconfined")
}

/// What a pod may not ask for yet; silence would look like success.
pub(super) fn refuse_unsupported_pod(pod: &Pod) -> Result<(), Failure> {
    match pod.spec.as_ref().and_then(|spec| spec.host_users) {
        Some(false) => Err(Failure::config(
            "hostUsers false is not supported: containers have no user namespace of their own; remove it from the pod",
        )),
        _ => Ok(()),
    }
}

pub(super) fn refuse_unsupported(start: &Start<'_>) -> Result<(), Failure> {
    if security(start.container, |context| context.privileged) {
        return Err(Failure::config(
            "privileged containers are not supported; add the capabilities that the program needs",
        ));
    }
    let profile = start
        .container
        .security_context
        .as_ref()
        .and_then(|context| context.seccomp_profile.as_ref());
    if let Some(profile) = profile.filter(|profile| profile.type_ == "Localhost") {
        let path = profile.localhost_profile.as_deref().unwrap_or_default();
        return Err(Failure::config(format!(
            "seccompProfile {path} of type Localhost is not supported; use RuntimeDefault"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn container(value: serde_json::Value) -> Container {
        serde_json::from_value(value).expect("a container")
    }

    #[test]
    fn capabilities_are_dropped_and_added_as_asked() {
        let of = |value| {
            capabilities(&container(
                json!({ "name": "c", "securityContext": { "capabilities": value } }),
            ))
        };
        assert_eq!(of(json!({ "drop": ["ALL"] })), Ok(0));
        assert_eq!(
            of(json!({ "drop": ["ALL"], "add": ["NET_BIND_SERVICE"] })),
            Ok(1 << 10)
        );
        assert_eq!(
            of(json!({})).expect("default") & (1 << 21),
            0,
            "never SYS_ADMIN by itself"
        );
        assert!(of(json!({ "add": ["FLY"] })).is_err());
    }
}
