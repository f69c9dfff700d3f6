//! Starts a program in namespaces of its own: `clone3`, a list of prepared steps, `execve`.
//!
//! The list is made by `runtime::oci` in the main process; here it is only carried out. The
//! child is a fork of the small spawner process; it must not allocate, lock or panic, so every
//! string and structure is made before. Sources of mounts are opened before the root is changed
//! and attached after it: a symbolic link of the image can never lead out of the image.

use std::ffi::{CString, c_char, c_int, c_long};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::ptr;

use serde::{Deserialize, Serialize};

use super::check;
use super::child::{Failed, Stdio, User};

/// Most mounts that a container may have from outside.
pub(crate) const MOST_TREES: usize = 256;

/// One system call (or a fixed little sequence) of the child.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Step {
    /// `mount(2)`. An optional one may fail: the kernel may lack it.
    Mount {
        source: CString,
        target: CString,
        kind: CString,
        flags: u64,
        data: CString,
        optional: bool,
    },
    /// Keeps a copy of the mount at `source` for a later [`Step::Attach`] with the same slot. With
    /// `inside` not empty: of that path below it, which no link may lead out of.
    OpenTree {
        source: CString,
        inside: CString,
        slot: usize,
    },
    /// Puts a kept mount at `target`, which exists.
    Attach {
        slot: usize,
        target: CString,
        read_only: bool,
    },
    /// Makes every mount below a path read-only.
    ReadOnly { target: CString },
    /// Directory; one that exists is fine.
    MakeDir { path: CString, mode: u32 },
    /// Empty file to mount on; one that exists is fine.
    MakeFile { path: CString },
    /// Character device.
    MakeDevice {
        path: CString,
        mode: u32,
        major: u32,
        minor: u32,
    },
    /// Symbolic link; one that exists is fine.
    Link { target: CString, path: CString },
    /// Makes `root` the root directory and lets go of the old one.
    Pivot { root: CString },
    /// Permissions whatever the file mode mask says.
    Mode { path: CString, mode: u32 },
    /// The host name.
    Hostname(CString),
}

/// Everything the child does between `clone3` and `execve`.
pub(crate) struct ContainerPlan<'a> {
    /// Tried in order until one is there and can be executed.
    pub(crate) programs: Vec<CString>,
    pub(crate) args: Vec<CString>,
    pub(crate) env: Vec<CString>,
    pub(crate) directory: CString,
    pub(crate) steps: Vec<Step>,
    pub(crate) user: User,
    /// Bit set of the capabilities that remain in the bounding set; root's own when uid is 0.
    pub(crate) capabilities: u64,
    pub(crate) no_new_privileges: bool,
    /// Classic BPF program; empty for none.
    pub(crate) seccomp: Vec<libc::sock_filter>,
    pub(crate) network: Option<BorrowedFd<'a>>,
    /// Directory of a version 2 control group that the child is born in.
    pub(crate) cgroup: Option<BorrowedFd<'a>>,
    /// Descriptor of the process whose namespaces are entered, instead of making new ones.
    pub(crate) join: Option<BorrowedFd<'a>>,
    pub(crate) stdio: Stdio<'a>,
}

/// `struct clone_args` of the kernel (linux/sched.h), version 2.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// `struct mount_attr` of the kernel (linux/mount.h).
#[repr(C)]
#[derive(Default)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
const OPEN_TREE_CLONE: c_long = 1;
const AT_RECURSIVE: c_long = 0x8000;
const MOVE_MOUNT_F_EMPTY_PATH: c_long = 4;
const AT_EMPTY_PATH: c_long = 0x1000;
const MOUNT_ATTR_RDONLY: u64 = 1;
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

/// Where the child tells the step that failed: a page that it shares with the parent.
struct SharedPage(*mut Report);

#[derive(Clone, Copy)]
struct Report {
    /// Index into [`NAMES`], plus one; 0 while nothing failed.
    step: usize,
    errno: i32,
}

/// Steps by number, since a pointer to text would be another allocation to keep.
const NAMES: [&str; 19] = [
    "start a session for",
    "redirect the output of",
    "make a terminal for",
    "enter the network of",
    "mount a file system for",
    "open a volume of",
    "attach a volume to",
    "make a mount read-only for",
    "create a directory for",
    "create a file for",
    "create a device for",
    "create a link for",
    "change the root of",
    "set the host name of",
    "limit the capabilities of",
    "change the user of",
    "enter the working directory of",
    "filter the system calls of",
    "execute",
];

#[derive(Clone, Copy)]
enum Name {
    Session,
    Output,
    Terminal,
    Network,
    Mount,
    OpenTree,
    Attach,
    ReadOnly,
    MakeDir,
    MakeFile,
    MakeDevice,
    Link,
    Pivot,
    Hostname,
    Capabilities,
    User,
    Directory,
    Seccomp,
    Execute,
}

impl SharedPage {
    fn new() -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        // SAFETY: a fresh anonymous mapping; the result is checked before use.
        let page = unsafe {
            libc::mmap(
                ptr::null_mut(),
                size_of::<Report>(),
                protection,
                flags,
                -1,
                0,
            )
        };
        if page == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self(page.cast()))
    }

    fn read(&self) -> Report {
        // SAFETY: the mapping lives as long as `self`, is zeroed at first, and any bits are a
        // valid `Report`; the child may write it, hence volatile.
        unsafe { ptr::read_volatile(self.0) }
    }
}

impl Drop for SharedPage {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `new` with this size and nobody else unmaps it.
        unsafe { libc::munmap(self.0.cast(), size_of::<Report>()) };
    }
}

/// While it lives, children of this process are born in another pid namespace: only a parent can
/// choose that (`setns(2)`), and without it a command in a container would not find itself in the
/// container's `/proc`.
struct PidNamespace {
    own: File,
}

impl PidNamespace {
    fn enter(process: BorrowedFd<'_>) -> io::Result<Self> {
        let own = File::open("/proc/self/ns/pid")?;
        // SAFETY: a plain system call; the descriptor is open.
        check(unsafe { libc::setns(process.as_raw_fd(), libc::CLONE_NEWPID) })?;
        Ok(Self { own })
    }
}

impl Drop for PidNamespace {
    fn drop(&mut self) {
        // SAFETY: a plain system call; the descriptor is open.
        let back = check(unsafe { libc::setns(self.own.as_raw_fd(), libc::CLONE_NEWPID) });
        if back.is_err() {
            // Every later program would be born in a stranger's namespace: ending is safer, and
            // takes the pods along in order.
            std::process::abort();
        }
    }
}

/// Starts the program as the first process of new namespaces. Returns its pid, seen from here,
/// once `execve` has succeeded. Must be called from a process with one thread.
pub(crate) fn start(plan: &ContainerPlan<'_>) -> Result<i32, Failed> {
    let failed = |step, error: &io::Error| Failed {
        step,
        errno: error.raw_os_error().unwrap_or(libc::EIO),
    };
    let page = SharedPage::new().map_err(|error| failed("share memory with", &error))?;
    let args = pointers(&plan.args);
    let env = pointers(&plan.env);
    let namespaces = libc::CLONE_NEWNS
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWCGROUP;
    let namespaces = if plan.join.is_some() { 0 } else { namespaces };
    // CLONE_VFORK: this thread goes on when the child has called execve or has ended.
    let mut clone = CloneArgs {
        flags: namespaces as u64 | libc::CLONE_VFORK as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    if let Some(cgroup) = plan.cgroup {
        clone.flags |= CLONE_INTO_CGROUP;
        clone.cgroup = cgroup.as_raw_fd() as u64;
    }
    let _joined = plan
        .join
        .map(PidNamespace::enter)
        .transpose()
        .map_err(|error| failed("enter the process ids of", &error))?;
    // SAFETY: without CLONE_VM and with stack 0 this is a fork: the child has its own copy of
    // this process's memory and returns here with 0. The process has one thread, so no lock can
    // be held by another. The child only calls `child`, which never returns.
    let pid = unsafe {
        let pid = libc::syscall(libc::SYS_clone3, &raw const clone, size_of::<CloneArgs>());
        if pid == 0 {
            child(plan, &args, &env, page.0);
        }
        check(pid as i32).map_err(|error| failed("clone", &error))?
    };
    let report = page.read();
    if report.step != 0 {
        // SAFETY: the child has exited; its status is not wanted.
        unsafe { libc::waitpid(pid, ptr::null_mut(), 0) };
        return Err(Failed {
            step: NAMES[(report.step - 1) % NAMES.len()],
            errno: report.errno,
        });
    }
    Ok(pid)
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings
        .iter()
        .map(|s| s.as_ptr())
        .chain([ptr::null()])
        .collect()
}

/// # Safety
/// The caller must be the child of [`start`]; `args` and `env` end with null.
unsafe fn child(
    plan: &ContainerPlan<'_>,
    args: &[*const c_char],
    env: &[*const c_char],
    page: *mut Report,
) -> ! {
    // SAFETY: the caller vouches for the pointers; only system calls follow.
    unsafe {
        let step = match prepare(plan) {
            Ok(()) => {
                execute(plan, args, env);
                Name::Execute
            }
            Err(step) => step,
        };
        let errno = *libc::__errno_location();
        ptr::write_volatile(
            page,
            Report {
                step: step as usize + 1,
                errno,
            },
        );
        libc::_exit(127)
    }
}

/// As a shell searches `PATH`: a file that cannot be executed is remembered, a missing one is not.
///
/// # Safety
/// The caller must be the child of [`start`]; `args` and `env` end with null.
unsafe fn execute(plan: &ContainerPlan<'_>, args: &[*const c_char], env: &[*const c_char]) {
    let mut errno = libc::ENOENT;
    // SAFETY: the caller vouches for the pointers; errno is always accessible.
    unsafe {
        for program in &plan.programs {
            libc::execve(program.as_ptr(), args.as_ptr(), env.as_ptr());
            let this = *libc::__errno_location();
            if this != libc::ENOENT && this != libc::ENOTDIR {
                errno = this;
                if this != libc::EACCES {
                    break;
                }
            }
        }
        *libc::__errno_location() = errno;
    }
}

/// # Safety
/// The caller must be the child of [`start`].
unsafe fn prepare(plan: &ContainerPlan<'_>) -> Result<(), Name> {
    // SAFETY: plain system calls with integers or pointers into `plan`.
    unsafe {
        ok(libc::setsid(), Name::Session)?;
        // The parent is outside the pid namespace; this still makes us die with it.
        ok(
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL),
            Name::Session,
        )?;
        if let Stdio::Fds(fds) = &plan.stdio {
            for (number, fd) in fds.iter().enumerate() {
                ok(libc::dup2(fd.as_raw_fd(), number as RawFd), Name::Output)?;
            }
        }
        if let Some(process) = plan.join {
            // The pid namespace is the parent's affair: see `PidNamespace`.
            let kinds =
                libc::CLONE_NEWNS | libc::CLONE_NEWNET | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
            ok(
                libc::setns(process.as_raw_fd(), kinds | libc::CLONE_NEWCGROUP),
                Name::Network,
            )?;
            take_terminal(plan)?;
            return confine(plan);
        }
        if let Some(network) = plan.network {
            ok(
                libc::setns(network.as_raw_fd(), libc::CLONE_NEWNET),
                Name::Network,
            )?;
        }
        let private = libc::MS_REC | libc::MS_PRIVATE;
        ok(
            libc::mount(
                ptr::null(),
                c"/".as_ptr(),
                ptr::null(),
                private,
                ptr::null(),
            ),
            Name::Mount,
        )?;
        let mut trees = [-1; MOST_TREES];
        for step in &plan.steps {
            carry_out(step, &mut trees)?;
        }
        take_terminal(plan)?;
        confine(plan)
    }
}

/// In the container, so that the terminal is one of its own.
///
/// # Safety
/// The caller must be the child of [`start`].
unsafe fn take_terminal(plan: &ContainerPlan<'_>) -> Result<(), Name> {
    let Stdio::Terminal(console) = &plan.stdio else {
        return Ok(());
    };
    // SAFETY: the caller leads a session of its own, and the socket is open.
    let taken =
        unsafe { super::terminal::take(c"/dev/pts/ptmx", console.as_raw_fd(), plan.user.uid) };
    ok(taken, Name::Terminal)
}

/// Gives up what the program must not have.
///
/// # Safety
/// The caller must be the child of [`start`].
unsafe fn confine(plan: &ContainerPlan<'_>) -> Result<(), Name> {
    // SAFETY: plain system calls with integers or pointers into `plan`.
    unsafe {
        become_user(plan)?;
        ok(libc::chdir(plan.directory.as_ptr()), Name::Directory)?;
        if plan.no_new_privileges || !plan.seccomp.is_empty() {
            ok(
                libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
                Name::Seccomp,
            )?;
        }
        // The change of user cleared it.
        ok(
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL),
            Name::Session,
        )?;
        super::child::reset_signals();
        if !plan.seccomp.is_empty() {
            let program = libc::sock_fprog {
                len: plan.seccomp.len() as u16,
                filter: plan.seccomp.as_ptr().cast_mut(),
            };
            ok(
                libc::prctl(
                    libc::PR_SET_SECCOMP,
                    libc::SECCOMP_MODE_FILTER,
                    &raw const program,
                ),
                Name::Seccomp,
            )?;
        }
        Ok(())
    }
}

/// # Safety
/// The caller must be the child of [`start`].
unsafe fn carry_out(step: &Step, trees: &mut [c_int; MOST_TREES]) -> Result<(), Name> {
    // SAFETY: plain system calls with pointers to C strings that live in `step`.
    unsafe {
        match step {
            Step::Mount {
                source,
                target,
                kind,
                flags,
                data,
                optional,
            } => {
                let data = if data.is_empty() {
                    ptr::null()
                } else {
                    data.as_ptr().cast()
                };
                let mounted = libc::mount(
                    source.as_ptr(),
                    target.as_ptr(),
                    kind.as_ptr(),
                    *flags,
                    data,
                );
                if mounted == -1 && !optional {
                    Err(Name::Mount)
                } else {
                    Ok(())
                }
            }
            Step::OpenTree {
                source,
                inside,
                slot,
            } => {
                let fd = open_tree(source, inside);
                trees[*slot % MOST_TREES] = fd;
                ok(fd, Name::OpenTree)
            }
            Step::Attach {
                slot,
                target,
                read_only,
            } => {
                let fd = trees[*slot % MOST_TREES];
                if *read_only {
                    ok(
                        set_read_only(fd, c"".as_ptr(), AT_EMPTY_PATH),
                        Name::ReadOnly,
                    )?;
                }
                let flags = MOVE_MOUNT_F_EMPTY_PATH;
                let moved = libc::syscall(
                    libc::SYS_move_mount,
                    fd,
                    c"".as_ptr(),
                    libc::AT_FDCWD,
                    target.as_ptr(),
                    flags,
                );
                ok(moved as c_int, Name::Attach)
            }
            Step::ReadOnly { target } => ok(
                set_read_only(libc::AT_FDCWD, target.as_ptr(), 0),
                Name::ReadOnly,
            ),
            Step::MakeDir { path, mode } => {
                unless_exists(libc::mkdir(path.as_ptr(), *mode), Name::MakeDir)
            }
            Step::MakeFile { path } => {
                let fd = libc::open(
                    path.as_ptr(),
                    libc::O_CREAT | libc::O_RDONLY | libc::O_CLOEXEC,
                    0o644,
                );
                if fd >= 0 {
                    libc::close(fd);
                    return Ok(());
                }
                unless_exists(fd, Name::MakeFile)
            }
            Step::MakeDevice {
                path,
                mode,
                major,
                minor,
            } => {
                let device = libc::makedev(*major, *minor);
                ok(
                    libc::mknod(path.as_ptr(), libc::S_IFCHR | mode, device),
                    Name::MakeDevice,
                )?;
                ok(libc::chmod(path.as_ptr(), *mode), Name::MakeDevice)
            }
            Step::Link { target, path } => {
                unless_exists(libc::symlink(target.as_ptr(), path.as_ptr()), Name::Link)
            }
            Step::Pivot { root } => pivot(root),
            Step::Mode { path, mode } => ok(libc::chmod(path.as_ptr(), *mode), Name::MakeDir),
            Step::Hostname(name) => ok(
                libc::sethostname(name.as_ptr(), name.as_bytes().len()),
                Name::Hostname,
            ),
        }
    }
}

/// # Safety
/// The caller must be the child of [`start`].
unsafe fn open_tree(source: &CString, inside: &CString) -> c_int {
    let flags = OPEN_TREE_CLONE | AT_RECURSIVE | c_long::from(libc::O_CLOEXEC);
    // SAFETY: plain system calls with C strings that live until they return. The descriptors stay
    // open until execve, which closes them.
    unsafe {
        if inside.is_empty() {
            let path = source.as_ptr();
            return libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path, flags) as c_int;
        }
        let root = libc::open(source.as_ptr(), libc::O_PATH | libc::O_CLOEXEC);
        if root == -1 {
            return root;
        }
        let place = super::inside::open_place(root, inside);
        if place == -1 {
            return place;
        }
        let path = c"".as_ptr();
        libc::syscall(libc::SYS_open_tree, place, path, flags | AT_EMPTY_PATH) as c_int
    }
}

/// # Safety
/// The caller must be the child of [`start`].
unsafe fn pivot(root: &CString) -> Result<(), Name> {
    // SAFETY: plain system calls. The old root is mounted over the new one by pivot_root(".", ".")
    // and is what "." means until it is detached (pivot_root(2), notes).
    unsafe {
        ok(libc::chdir(root.as_ptr()), Name::Pivot)?;
        ok(
            libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) as c_int,
            Name::Pivot,
        )?;
        ok(libc::umount2(c".".as_ptr(), libc::MNT_DETACH), Name::Pivot)?;
        ok(libc::chdir(c"/".as_ptr()), Name::Pivot)
    }
}

/// # Safety
/// `path` must be a C string.
unsafe fn set_read_only(fd: c_int, path: *const c_char, flags: c_long) -> c_int {
    let attributes = MountAttr {
        attr_set: MOUNT_ATTR_RDONLY,
        ..MountAttr::default()
    };
    let size = size_of::<MountAttr>();
    // SAFETY: the structure lives until the call returns; the caller vouches for the path.
    unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd,
            path,
            flags | AT_RECURSIVE,
            &raw const attributes,
            size,
        ) as c_int
    }
}

/// Bounding set first (it needs the privilege), then the identity, then what root keeps.
///
/// # Safety
/// The caller must be the child of [`start`].
unsafe fn become_user(plan: &ContainerPlan<'_>) -> Result<(), Name> {
    // SAFETY: plain system calls; the structures live until each call returns.
    unsafe {
        for capability in 0..64_u64 {
            if plan.capabilities & (1 << capability) == 0 {
                // Fails with EINVAL past the kernel's last capability, which is fine.
                libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0);
            }
        }
        let User { uid, gid, groups } = &plan.user;
        let changed = libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) == 0
            && libc::syscall(libc::SYS_setresgid, *gid, *gid, *gid) == 0
            && libc::syscall(libc::SYS_setresuid, *uid, *uid, *uid) == 0;
        if !changed {
            return Err(Name::User);
        }
        if *uid == 0 {
            let header = [CAPABILITY_VERSION_3, 0];
            let (low, high) = (plan.capabilities as u32, (plan.capabilities >> 32) as u32);
            // Effective, permitted, inheritable; the low words first.
            let data = [low, low, 0, high, high, 0];
            let set = libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) as c_int;
            ok(set, Name::Capabilities)?;
        }
        Ok(())
    }
}

fn ok(result: c_int, step: Name) -> Result<(), Name> {
    if result == -1 { Err(step) } else { Ok(()) }
}

fn unless_exists(result: c_int, step: Name) -> Result<(), Name> {
    // SAFETY: errno is always readable.
    let errno = unsafe { *libc::__errno_location() };
    if result == -1 && errno != libc::EEXIST && errno != libc::EISDIR {
        Err(step)
    } else {
        Ok(())
    }
}
