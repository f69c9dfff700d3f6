//! What one container is made of: its files, its command, its limits.

use std::fs;
use std::path::{Path, PathBuf};

use api::quantity::Quantity;
use k8s_openapi::api::core::v1::{Container, Pod};

use super::super::{DEFAULT_PATH, Failure, Start};
use super::cgroup::Limits;
use super::etc;
use super::sandbox::{Bind, Root};
use crate::sys;

/// Directories of one run of a container: every run begins with the image's files.
pub(super) struct Dirs {
    pub(super) root: PathBuf,
    upper: PathBuf,
    work: PathBuf,
}

impl Dirs {
    pub(super) fn make(pod: &Path, container: &str) -> std::io::Result<Self> {
        let base = pod.join("containers").join(container);
        if base.exists() {
            fs::remove_dir_all(&base)?;
        }
        let dirs = Self {
            root: base.join("root"),
            upper: base.join("upper"),
            work: base.join("work"),
        };
        for dir in [&dirs.root, &dirs.upper, &dirs.work] {
            fs::create_dir_all(dir)?;
        }
        Ok(dirs)
    }
}

/// Directories and files of the host that dynamically linked programs and scripts need.
const SYSTEM: &[&str] = &[
    "/bin",
    "/sbin",
    "/lib",
    "/lib64",
    "/usr",
    "/etc/ssl",
    "/etc/ld.so.cache",
    "/etc/alternatives",
    "/etc/passwd",
    "/etc/group",
    "/etc/nsswitch.conf",
    "/etc/localtime",
];

pub(super) fn root(start: &Start<'_>, command: &[String], dirs: &Dirs) -> Result<Root, Failure> {
    if let Some(lower) = start.image.layers.first() {
        let (upper, work) = (dirs.upper.clone(), dirs.work.clone());
        return Ok(Root::Image {
            lower: lower.clone(),
            upper,
            work,
        });
    }
    let Some(file) = &start.image.program else {
        return Err(Failure::create(
            "the image has neither files nor a program; add it to the image store again",
        ));
    };
    let at = start
        .image
        .config
        .entrypoint
        .first()
        .or_else(|| command.first())
        .cloned()
        .unwrap_or_default();
    let system = SYSTEM
        .iter()
        .map(PathBuf::from)
        .filter(|path| path.exists())
        .collect();
    Ok(Root::Program {
        file: file.clone(),
        at,
        system,
    })
}

/// Volumes, and the pod's own files in /etc.
pub(super) fn binds(start: &Start<'_>) -> Result<Vec<Bind>, Failure> {
    let mut binds = Vec::new();
    let file = |source: PathBuf, target: &str| Bind {
        source,
        inside: PathBuf::new(),
        target: target.to_owned(),
        is_dir: false,
        read_only: false,
    };
    for name in etc::FILES {
        binds.push(file(
            start.sandbox.directory.join(name),
            &format!("/etc/{name}"),
        ));
    }
    if start.termination_message.exists() {
        let path = start
            .container
            .termination_message_path
            .as_deref()
            .unwrap_or("/dev/termination-log");
        binds.push(file(start.termination_message.clone(), path));
    }
    for mount in start.mounts {
        let is_dir = sys::inside::is_dir(&mount.source, &mount.inside).map_err(|error| {
            Failure::config(format!(
                "cannot mount {} of {} at {}: {error}",
                mount.inside.display(),
                mount.source.display(),
                mount.target.display()
            ))
        })?;
        binds.push(Bind {
            source: mount.source.clone(),
            inside: mount.inside.clone(),
            target: mount.target.display().to_string(),
            is_dir,
            read_only: mount.read_only,
        });
    }
    Ok(binds)
}

/// What the kernel tells a program about its host's name. A pod in the machine's network has the
/// machine's.
pub(super) fn hostname(pod: &Pod) -> String {
    let in_host = pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true);
    let machine = in_host
        .then(|| fs::read_to_string("/proc/sys/kernel/hostname").ok())
        .flatten();
    match machine {
        Some(machine) => machine.trim().to_owned(),
        None => crate::hostname::of(pod).kernel,
    }
}

/// The files that a command's first word may mean in the container.
pub(super) fn candidates(
    command: &[String],
    env: &[(String, String)],
) -> Result<Vec<String>, Failure> {
    let name = command
        .first()
        .ok_or_else(|| Failure::config("neither the image nor the pod names a command"))?;
    if name.contains('/') {
        return Ok(vec![name.clone()]);
    }
    let path = env
        .iter()
        .find(|(key, _)| key == "PATH")
        .map_or(DEFAULT_PATH, |(_, value)| value);
    Ok(path
        .split(':')
        .map(|dir| format!("{}/{name}", dir.trim_end_matches('/')))
        .collect())
}

pub(super) fn limits(container: &Container) -> Result<Limits, Failure> {
    let resources = container.resources.as_ref();
    let read = |limit: bool, name: &str| {
        let list = resources.and_then(|r| {
            if limit {
                r.limits.as_ref()
            } else {
                r.requests.as_ref()
            }
        });
        let Some(quantity) = list.and_then(|list| list.get(name)) else {
            return Ok(None);
        };
        let parsed = Quantity::parse(&quantity.0).filter(|parsed| !parsed.is_negative());
        parsed.map(Some).ok_or_else(|| {
            Failure::config(format!(
                "resources: {name} {:?} is not a quantity",
                quantity.0
            ))
        })
    };
    let units = |quantity: Quantity| u64::try_from(quantity.units()).unwrap_or(0);
    let millis = |quantity: Quantity| u64::try_from(quantity.millis()).unwrap_or(0);
    let cpu = read(true, "cpu")?.map(millis);
    Ok(Limits {
        memory_bytes: read(true, "memory")?.map(units),
        cpu_millis: cpu,
        // Kubernetes: a limit without a request is also the request.
        cpu_request_millis: read(false, "cpu")?.map(millis).or(cpu),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn container(value: serde_json::Value) -> Container {
        serde_json::from_value(value).expect("a container")
    }

    #[test]
    fn resources_become_limits_and_a_bad_quantity_is_told() {
        let resources = |value| limits(&container(json!({ "name": "c", "resources": value })));
        let read =
            resources(json!({ "limits": { "memory": "128Mi", "cpu": "500m" } })).expect("read");
        assert_eq!(
            (read.memory_bytes, read.cpu_millis, read.cpu_request_millis),
            (Some(128 << 20), Some(500), Some(500))
        );
        assert!(resources(json!({ "limits": { "memory": "much" } })).is_err());
    }

    #[test]
    fn a_bare_command_is_searched_in_the_containers_path() {
        let env = [("PATH".to_owned(), "/a:/b/".to_owned())];
        assert_eq!(
            candidates(&["run".to_owned()], &env).expect("named"),
            ["/a/run", "/b/run"]
        );
        assert_eq!(
            candidates(&["./run".to_owned()], &env).expect("named"),
            ["./run"]
        );
        assert!(candidates(&[], &env).is_err());
    }
}
