//! Control groups of containers, version 1 and 2: limits as files, written before the start.
//!
//! A container is born in its groups (the spawner sees to that), so a limit holds from its
//! first instruction. Groups live under `suimon/<process>.<pod uid>-<container>-<run>`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::usage::Used;

const MOUNT: &str = "/sys/fs/cgroup";
/// Everything of ours is below this group.
const PARENT: &str = "suimon";
/// Version 1 controllers that hold a container.
const CONTROLLERS: [&str; 4] = ["cpu", "cpuacct", "memory", "pids"];
/// Processes and threads that a container may have.
const MOST_TASKS: u64 = 32_768;
/// Period of the CPU quota, in microseconds.
const PERIOD: u64 = 100_000;

/// Limits of one container; `None` means no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) memory_bytes: Option<u64>,
    /// CPU limit in thousandths of a core.
    pub(crate) cpu_millis: Option<u64>,
    /// CPU request in thousandths of a core: its weight when cores are scarce.
    pub(crate) cpu_request_millis: Option<u64>,
}

/// The groups of one container.
#[derive(Debug)]
pub(crate) struct Cgroup {
    dirs: Vec<PathBuf>,
    v2: bool,
}

impl Cgroup {
    /// Creates the groups and writes the limits. A controller that the machine lacks is skipped
    /// with a warning if a limit would need it.
    pub(crate) fn create(name: &str, limits: Limits) -> io::Result<Self> {
        let v2 = Path::new(MOUNT).join("cgroup.controllers").exists();
        let mut group = Self {
            dirs: Vec::new(),
            v2,
        };
        if v2 {
            let parent = Path::new(MOUNT).join(PARENT);
            fs::create_dir_all(&parent)?;
            for dir in [Path::new(MOUNT), &parent] {
                // Fails where it is enabled already or not offered; the limits' files will tell.
                let _ = fs::write(dir.join("cgroup.subtree_control"), "+cpu +memory +pids");
            }
            let dir = parent.join(name);
            fs::create_dir_all(&dir)?;
            group.dirs.push(dir);
        } else {
            for controller in Self::v1_controllers() {
                let dir = Path::new(MOUNT).join(controller).join(PARENT).join(name);
                fs::create_dir_all(&dir)?;
                group.dirs.push(dir);
            }
        }
        for (file, value) in files(v2, limits) {
            group.write(file, &value)?;
        }
        Ok(group)
    }

    /// Writes other limits. Memory that is in use is not taken away.
    pub(crate) fn resize(&self, limits: Limits) -> Result<(), String> {
        let used = self.used().map_or(0, |used| used.memory_bytes);
        if let Some(limit) = limits.memory_bytes.filter(|limit| *limit < used) {
            return Err(format!(
                "the memory limit ({limit} bytes) is below what the container uses ({used} bytes)"
            ));
        }
        for (file, value) in files(self.v2, limits) {
            self.write(file, &value)
                .map_err(|error| format!("cannot write {file}: {error}"))?;
        }
        Ok(())
    }

    /// The version 1 controllers of this machine that containers use; empty with version 2.
    pub(crate) fn v1_controllers() -> Vec<String> {
        if Path::new(MOUNT).join("cgroup.controllers").exists() {
            return Vec::new();
        }
        let there = CONTROLLERS
            .iter()
            .filter(|controller| Path::new(MOUNT).join(controller).join("tasks").exists());
        there.map(|controller| (*controller).to_owned()).collect()
    }

    /// Version 1: the files that a process enters the groups by.
    pub(crate) fn tasks_files(&self) -> Vec<PathBuf> {
        if self.v2 {
            Vec::new()
        } else {
            self.dirs.iter().map(|dir| dir.join("tasks")).collect()
        }
    }

    /// Version 2: the directory that a process is cloned into.
    pub(crate) fn clone_dir(&self) -> Option<PathBuf> {
        if self.v2 {
            self.dirs.first().cloned()
        } else {
            None
        }
    }

    /// Whether the kernel killed a process of the container for its memory.
    pub(crate) fn out_of_memory(&self) -> bool {
        let (file, field) = if self.v2 {
            ("memory.events", "oom_kill ")
        } else {
            ("memory.oom_control", "oom_kill ")
        };
        let texts = self
            .dirs
            .iter()
            .filter_map(|dir| fs::read_to_string(dir.join(file)).ok());
        texts
            .flat_map(|text| {
                let counts = text
                    .lines()
                    .filter_map(|line| line.strip_prefix(field)?.trim().parse::<u64>().ok());
                counts.collect::<Vec<_>>()
            })
            .any(|count| count > 0)
    }

    /// What the container has used; `None` where no controller counts it.
    pub(crate) fn used(&self) -> Option<Used> {
        let read = |file: &str| {
            let mut dirs = self.dirs.iter();
            dirs.find_map(|dir| fs::read_to_string(dir.join(file)).ok())
        };
        let (cpu, memory, inactive) = if self.v2 {
            let cpu = field(&read("cpu.stat")?, "usage_usec ")?;
            let inactive = field(&read("memory.stat")?, "inactive_file ")?;
            (cpu.saturating_mul(1000), read("memory.current")?, inactive)
        } else {
            let cpu = read("cpuacct.usage")?;
            let inactive = field(&read("memory.stat")?, "total_inactive_file ")?;
            (
                cpu.trim().parse().ok()?,
                read("memory.usage_in_bytes")?,
                inactive,
            )
        };
        let memory: u64 = memory.trim().parse().ok()?;
        Some(Used {
            cpu: Duration::from_nanos(cpu),
            memory_bytes: memory.saturating_sub(inactive),
        })
    }

    /// Ends every process in the groups.
    pub(crate) fn kill(&self) {
        if let Some(dir) = self.dirs.first() {
            kill_all(dir);
        }
    }

    fn write(&self, file: &str, value: &str) -> io::Result<()> {
        let Some(dir) = self.dirs.iter().find(|dir| dir.join(file).exists()) else {
            tracing::warn!(
                file,
                value,
                "this machine has no controller for a container's limit"
            );
            return Ok(());
        };
        fs::write(dir.join(file), value)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for dir in &self.dirs {
            // Busy for a moment after the last process, which a thread can wait for.
            if let Err(error) = fs::remove_dir(dir)
                && error.raw_os_error() == Some(libc::EBUSY)
            {
                let dir = dir.clone();
                let remover = std::thread::Builder::new().name("control-group".to_owned());
                if let Err(error) = remover.spawn(move || remove(&dir)) {
                    tracing::warn!(%error, "a control group stays behind");
                }
            }
        }
    }
}

/// How the names of a process's groups begin: by a number that it shares with no living process.
pub(crate) fn prefix(process: u8) -> String {
    format!("{process}.")
}

/// Removes the groups that an earlier process of this number left behind. What still runs in
/// them is on its way to its end: a killed process's containers are killed with it.
pub(crate) fn remove_left_over(process: u8) {
    for dir in left_over(process) {
        remove(&dir);
    }
}

/// The groups that there are of a number, of every controller.
pub(crate) fn left_over(process: u8) -> Vec<PathBuf> {
    let mount = Path::new(MOUNT);
    let of_controllers = CONTROLLERS.iter().map(|name| mount.join(name).join(PARENT));
    let parents = of_controllers.chain([mount.join(PARENT)]);
    let all = parents.flat_map(|parent| fs::read_dir(parent).into_iter().flatten().flatten());
    all.filter(|entry| {
        let name = entry.file_name();
        name.to_string_lossy().starts_with(&prefix(process)) && entry.path().is_dir()
    })
    .map(|entry| entry.path())
    .collect()
}

/// A group can be removed once it is empty, so its processes are ended first.
fn remove(dir: &Path) {
    const TRIES: u32 = 100;
    for _ in 0..TRIES {
        let removed = fs::remove_dir(dir);
        match removed {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(dir = %dir.display(), %error, "a control group stays behind");
                return;
            }
            _ => return,
        }
        kill_all(dir);
        std::thread::sleep(Duration::from_millis(10));
    }
    tracing::warn!(dir = %dir.display(), "a control group stays behind: its processes do not end");
}

fn kill_all(dir: &Path) {
    let inside = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    for pid in inside.lines().filter_map(|line| line.parse().ok()) {
        // Gone already is what was wanted.
        let _ = crate::sys::kill(pid, libc::SIGKILL);
    }
}

/// The number after `name` at the begin of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.trim().parse().ok()
}

/// File names and contents for the limits.
fn files(v2: bool, limits: Limits) -> Vec<(&'static str, String)> {
    let mut files = vec![("pids.max", MOST_TASKS.to_string())];
    let quota = limits
        .cpu_millis
        .map(|millis| (millis * PERIOD / 1000).max(1000));
    // Kubernetes' shares: 1024 per core, at least 2.
    let shares = limits
        .cpu_request_millis
        .map_or(2, |millis| (millis * 1024 / 1000).clamp(2, 262_144));
    if v2 {
        files.extend(
            limits
                .memory_bytes
                .map(|bytes| ("memory.max", bytes.to_string())),
        );
        files.extend(quota.map(|quota| ("cpu.max", format!("{quota} {PERIOD}"))));
        // The kernel's conversion of shares (2..262144) to weight (1..10000).
        files.push((
            "cpu.weight",
            (1 + (shares - 2) * 9999 / 262_142).to_string(),
        ));
    } else {
        files.extend(
            limits
                .memory_bytes
                .map(|bytes| ("memory.limit_in_bytes", bytes.to_string())),
        );
        files.extend(quota.map(|_| ("cpu.cfs_period_us", PERIOD.to_string())));
        files.extend(quota.map(|quota| ("cpu.cfs_quota_us", quota.to_string())));
        files.push(("cpu.shares", shares.to_string()));
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_become_the_files_of_each_version() {
        let limits = Limits {
            memory_bytes: Some(128 << 20),
            cpu_millis: Some(500),
            cpu_request_millis: Some(100),
        };
        let has = |v2, file: &str| {
            files(v2, limits)
                .into_iter()
                .find(|(name, _)| *name == file)
                .map(|(_, value)| value)
        };
        assert_eq!(has(true, "memory.max").as_deref(), Some("134217728"));
        assert_eq!(has(true, "cpu.max").as_deref(), Some("50000 100000"));
        assert_eq!(has(true, "cpu.weight").as_deref(), Some("4"));
        assert_eq!(has(false, "cpu.cfs_quota_us").as_deref(), Some("50000"));
        assert_eq!(has(false, "cpu.shares").as_deref(), Some("102"));
        assert_eq!(
            has(false, "memory.limit_in_bytes").as_deref(),
            Some("134217728")
        );
    }
}
