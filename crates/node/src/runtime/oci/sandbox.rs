//! What a container sees: root file system, devices, mounts, masks, capabilities. Pure: from a
//! description to the list of steps that the spawner carries out.
//!
//! The environment is that of the OCI runtime specification ("Linux Container Configuration")
//! and of Knative's runtime contract. Everything from outside is opened before the root is
//! changed and attached after it, so the image's symbolic links lead nowhere else.

use std::ffi::CString;
use std::path::{Path, PathBuf};

use crate::sys::container::Step;

/// A container to be made.
#[derive(Clone, Debug)]
pub(crate) struct Sandbox {
    pub(crate) root: Root,
    /// Empty directory that becomes the root.
    pub(crate) mount_point: PathBuf,
    pub(crate) hostname: String,
    /// Outermost first.
    pub(crate) binds: Vec<Bind>,
    pub(crate) read_only_root: bool,
    /// Version 1 controllers to show under /sys/fs/cgroup; empty for version 2.
    pub(crate) cgroup_v1: Vec<String>,
}

/// Where the files come from.
#[derive(Clone, Debug)]
pub(crate) enum Root {
    /// An unpacked image under a writable layer.
    Image {
        lower: PathBuf,
        upper: PathBuf,
        work: PathBuf,
    },
    /// One program and the system directories of the host, read-only, so that dynamically linked
    /// programs and scripts find what they need.
    Program {
        file: PathBuf,
        at: String,
        system: Vec<PathBuf>,
    },
}

/// A file or directory of the host in the container.
#[derive(Clone, Debug)]
pub(crate) struct Bind {
    pub(crate) source: PathBuf,
    /// Path below `source`, which no link may lead out of; empty for `source` itself.
    pub(crate) inside: PathBuf,
    /// Absolute path in the container.
    pub(crate) target: String,
    pub(crate) is_dir: bool,
    pub(crate) read_only: bool,
}

/// A path holds a NUL byte, or there are too many volumes.
#[derive(Debug, thiserror::Error)]
#[error("{0} cannot be a path in a container")]
pub(crate) struct BadPath(String);

const NO_SUID_DEV_EXEC: u64 = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;

/// Devices of the OCI runtime specification: path, major, minor.
const DEVICES: &[(&str, u32, u32)] = &[
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

const LINKS: &[(&str, &str)] = &[
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
    ("pts/ptmx", "/dev/ptmx"),
];

/// Hidden: they tell about the machine or let it be changed.
const MASKED_FILES: &[&str] = &[
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/sched_debug",
    "/proc/sysrq-trigger",
];
const MASKED_DIRS: &[&str] = &["/proc/acpi", "/proc/scsi", "/proc/asound", "/sys/firmware"];
const READ_ONLY: &[&str] = &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys"];

struct Builder {
    steps: Vec<Step>,
    slots: usize,
}

/// The steps that make the container, in order.
pub(crate) fn steps(sandbox: &Sandbox) -> Result<Vec<Step>, BadPath> {
    let mut builder = Builder {
        steps: Vec::new(),
        slots: 0,
    };
    let attached = builder.open_outside(sandbox)?;
    builder.root(sandbox)?;
    builder.kernel_file_systems(sandbox)?;
    builder.devices()?;
    for (slot, bind) in attached {
        builder.attach(slot, &bind)?;
    }
    builder.masks()?;
    builder.steps.push(Step::Hostname(c(&sandbox.hostname)?));
    if sandbox.read_only_root {
        builder.mount(
            "none",
            "/",
            "",
            libc::MS_REMOUNT | libc::MS_BIND | libc::MS_RDONLY,
            "",
            false,
        )?;
    }
    Ok(builder.steps)
}

impl Builder {
    /// Keeps everything that comes from outside, before the old root is gone.
    fn open_outside(&mut self, sandbox: &Sandbox) -> Result<Vec<(usize, Bind)>, BadPath> {
        let mut wanted = Vec::new();
        if let Root::Program { file, at, system } = &sandbox.root {
            for dir in system {
                let target = dir.display().to_string();
                wanted.push(Bind {
                    source: dir.clone(),
                    inside: PathBuf::new(),
                    target,
                    is_dir: dir.is_dir(),
                    read_only: true,
                });
            }
            wanted.push(Bind {
                source: file.clone(),
                inside: PathBuf::new(),
                target: at.clone(),
                is_dir: false,
                read_only: true,
            });
        }
        // A volume inside another volume's directory must come after it.
        let mut binds = sandbox.binds.clone();
        binds.sort_by_key(|bind| bind.target.split('/').count());
        wanted.extend(binds);
        let mut attached = Vec::new();
        for bind in wanted {
            let slot = self.slots;
            self.slots += 1;
            if slot >= crate::sys::container::MOST_TREES {
                return Err(BadPath(format!("volume number {slot}")));
            }
            self.steps.push(Step::OpenTree {
                source: path(&bind.source)?,
                inside: path(&bind.inside)?,
                slot,
            });
            attached.push((slot, bind));
        }
        Ok(attached)
    }

    fn root(&mut self, sandbox: &Sandbox) -> Result<(), BadPath> {
        let root = &sandbox.mount_point.display().to_string();
        match &sandbox.root {
            Root::Image { lower, upper, work } => {
                // The kernel splits options at commas and lower directories at colons.
                let escaped = |dir: &Path| {
                    dir.display()
                        .to_string()
                        .replace('\\', "\\\\")
                        .replace(',', "\\,")
                        .replace(':', "\\:")
                };
                let options = format!(
                    "lowerdir={},upperdir={},workdir={}",
                    escaped(lower),
                    escaped(upper),
                    escaped(work)
                );
                self.mount("overlay", root, "overlay", 0, &options, false)?;
            }
            Root::Program { .. } => self.mount(
                "tmpfs",
                root,
                "tmpfs",
                libc::MS_NOSUID,
                "mode=755,size=64m",
                false,
            )?,
        }
        self.steps.push(Step::Pivot { root: c(root)? });
        Ok(())
    }

    fn kernel_file_systems(&mut self, sandbox: &Sandbox) -> Result<(), BadPath> {
        for dir in ["/proc", "/sys", "/dev", "/etc", "/var", "/run"] {
            self.dir(dir, 0o755)?;
        }
        for dir in ["/tmp", "/var/log"] {
            self.dir(dir, 0o1777)?;
        }
        self.steps.push(Step::Mode {
            path: c("/tmp")?,
            mode: 0o1777,
        });
        self.mount("proc", "/proc", "proc", NO_SUID_DEV_EXEC, "", false)?;
        self.mount(
            "sysfs",
            "/sys",
            "sysfs",
            NO_SUID_DEV_EXEC | libc::MS_RDONLY,
            "",
            false,
        )?;
        if sandbox.cgroup_v1.is_empty() {
            self.mount(
                "cgroup",
                "/sys/fs/cgroup",
                "cgroup2",
                NO_SUID_DEV_EXEC | libc::MS_RDONLY,
                "",
                true,
            )?;
            return Ok(());
        }
        self.mount(
            "tmpfs",
            "/sys/fs/cgroup",
            "tmpfs",
            NO_SUID_DEV_EXEC,
            "mode=755",
            false,
        )?;
        for controller in &sandbox.cgroup_v1 {
            let dir = format!("/sys/fs/cgroup/{controller}");
            self.dir(&dir, 0o755)?;
            self.mount(
                "cgroup",
                &dir,
                "cgroup",
                NO_SUID_DEV_EXEC | libc::MS_RDONLY,
                controller,
                true,
            )?;
        }
        self.mount(
            "none",
            "/sys/fs/cgroup",
            "",
            libc::MS_REMOUNT | libc::MS_RDONLY | NO_SUID_DEV_EXEC,
            "mode=755",
            false,
        )
    }

    fn devices(&mut self) -> Result<(), BadPath> {
        self.mount(
            "tmpfs",
            "/dev",
            "tmpfs",
            libc::MS_NOSUID | libc::MS_STRICTATIME,
            "mode=755,size=65536k",
            false,
        )?;
        for (path, major, minor) in DEVICES {
            self.steps.push(Step::MakeDevice {
                path: c(path)?,
                mode: 0o666,
                major: *major,
                minor: *minor,
            });
        }
        for (target, path) in LINKS {
            self.steps.push(Step::Link {
                target: c(target)?,
                path: c(path)?,
            });
        }
        for dir in ["/dev/pts", "/dev/shm", "/dev/mqueue"] {
            self.dir(dir, 0o755)?;
        }
        let pts = libc::MS_NOSUID | libc::MS_NOEXEC;
        self.mount(
            "devpts",
            "/dev/pts",
            "devpts",
            pts,
            "newinstance,ptmxmode=0666,mode=0620",
            true,
        )?;
        self.mount(
            "shm",
            "/dev/shm",
            "tmpfs",
            NO_SUID_DEV_EXEC,
            "mode=1777,size=65536k",
            false,
        )?;
        self.mount(
            "mqueue",
            "/dev/mqueue",
            "mqueue",
            NO_SUID_DEV_EXEC,
            "",
            true,
        )
    }

    fn attach(&mut self, slot: usize, bind: &Bind) -> Result<(), BadPath> {
        let target = &bind.target;
        if !target.starts_with('/') || target.split('/').any(|part| part == "..") {
            return Err(BadPath(target.clone()));
        }
        let parents = target
            .char_indices()
            .filter(|(at, c)| *c == '/' && *at > 0)
            .map(|(at, _)| &target[..at]);
        for parent in parents {
            self.dir(parent, 0o755)?;
        }
        if bind.is_dir {
            self.dir(target, 0o755)?;
        } else {
            self.steps.push(Step::MakeFile { path: c(target)? });
        }
        self.steps.push(Step::Attach {
            slot,
            target: c(target)?,
            read_only: bind.read_only,
        });
        Ok(())
    }

    fn masks(&mut self) -> Result<(), BadPath> {
        for file in MASKED_FILES {
            self.mount("/dev/null", file, "", libc::MS_BIND, "", true)?;
        }
        for dir in MASKED_DIRS {
            self.mount(
                "tmpfs",
                dir,
                "tmpfs",
                libc::MS_RDONLY | NO_SUID_DEV_EXEC,
                "size=0k",
                true,
            )?;
        }
        for dir in READ_ONLY {
            self.mount(dir, dir, "", libc::MS_BIND | libc::MS_REC, "", true)?;
            let flags = libc::MS_BIND | libc::MS_REMOUNT | libc::MS_RDONLY | NO_SUID_DEV_EXEC;
            self.mount(dir, dir, "", flags, "", true)?;
        }
        Ok(())
    }

    fn mount(
        &mut self,
        source: &str,
        target: &str,
        kind: &str,
        flags: u64,
        data: &str,
        optional: bool,
    ) -> Result<(), BadPath> {
        self.steps.push(Step::Mount {
            source: c(source)?,
            target: c(target)?,
            kind: c(kind)?,
            flags,
            data: c(data)?,
            optional,
        });
        Ok(())
    }

    fn dir(&mut self, path: &str, mode: u32) -> Result<(), BadPath> {
        self.steps.push(Step::MakeDir {
            path: c(path)?,
            mode,
        });
        Ok(())
    }
}

fn c(text: &str) -> Result<CString, BadPath> {
    CString::new(text).map_err(|_| BadPath(text.to_owned()))
}

fn path(path: &Path) -> Result<CString, BadPath> {
    c(path
        .to_str()
        .ok_or_else(|| BadPath(path.display().to_string()))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sandbox(binds: Vec<Bind>) -> Sandbox {
        Sandbox {
            root: Root::Image {
                lower: "/images/a".into(),
                upper: "/pod/upper".into(),
                work: "/pod/work".into(),
            },
            mount_point: "/pod/root".into(),
            hostname: "pod".to_owned(),
            binds,
            read_only_root: false,
            cgroup_v1: Vec::new(),
        }
    }

    fn bind(target: &str) -> Bind {
        Bind {
            source: "/pod/volume".into(),
            inside: PathBuf::new(),
            target: target.to_owned(),
            is_dir: true,
            read_only: true,
        }
    }

    #[test]
    fn everything_from_outside_is_opened_before_the_root_changes_and_attached_after() {
        let steps = steps(&sandbox(vec![bind("/data/inner"), bind("/data")])).expect("good paths");
        let at = |wanted: fn(&Step) -> bool| steps.iter().position(wanted).expect("there");
        let pivot = at(|step| matches!(step, Step::Pivot { .. }));
        assert!(at(|step| matches!(step, Step::OpenTree { .. })) < pivot);
        let attached: Vec<_> = steps
            .iter()
            .enumerate()
            .filter_map(|(at, step)| match step {
                Step::Attach { target, .. } => Some((at > pivot, target.to_str().expect("text"))),
                _ => None,
            })
            .collect();
        assert_eq!(attached, [(true, "/data"), (true, "/data/inner")]);
    }

    #[test]
    fn a_volume_cannot_climb_out_of_the_container() {
        assert!(steps(&sandbox(vec![bind("/data/../../etc")])).is_err());
        assert!(steps(&sandbox(vec![bind("relative")])).is_err());
        assert!(steps(&sandbox(vec![bind("/nul\0")])).is_err());
    }
}
