//! The filter of a container's system calls, as a classic BPF program.
//!
//! What is [`allowed`] passes, everything else answers EPERM, as in the default profiles of
//! container engines. `clone3` answers ENOSYS, so that C libraries fall back to `clone`, whose
//! flags can be read; so does what is newer than our list.

mod allowed;

use libc::sock_filter;

/// Namespace flags of `clone`.
const NEW_NAMESPACES: u32 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u32;

/// Execution domains that `personality` may set: Linux, with or without fixed addresses, 32-bit
/// names; and the value that only asks.
const DOMAINS: [u32; 5] = [0, 0x0008, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// Bit of the x32 calls of x86_64, which would slip past numbers.
#[cfg(target_arch = "x86_64")]
const X32: u32 = 0x4000_0000;

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: Option<u32> = Some(0xC000_003E);
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: Option<u32> = Some(0xC000_00B7);
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const ARCHITECTURE: Option<u32> = None;

/// Offsets in `struct seccomp_data` (linux/seccomp.h); arguments are little-endian here.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const FIRST_ARGUMENT: u32 = 16;

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const KILL: u32 = libc::SECCOMP_RET_KILL_PROCESS;

/// The filter; `None` on architectures whose numbers are not known here.
pub(crate) fn filter() -> Option<Vec<sock_filter>> {
    let architecture = ARCHITECTURE?;
    let mut program = vec![
        load(ARCH),
        jump_equal(architecture, 1, 0),
        answer(KILL),
        load(NUMBER),
    ];
    #[cfg(target_arch = "x86_64")]
    program.extend([jump_set(X32, 0, 1), answer(errno(libc::ENOSYS))]);
    program.extend([
        jump_equal(libc::SYS_clone3 as u32, 0, 1),
        answer(errno(libc::ENOSYS)),
    ]);
    program.extend([
        jump_equal(libc::SYS_clone as u32, 0, 4),
        load(FIRST_ARGUMENT),
        jump_set(NEW_NAMESPACES, 0, 1),
        answer(errno(libc::EPERM)),
        answer(ALLOW),
    ]);
    program.extend([
        jump_equal(libc::SYS_personality as u32, 0, 2 * DOMAINS.len() as u8 + 2),
        load(FIRST_ARGUMENT),
    ]);
    for domain in DOMAINS {
        program.extend([jump_equal(domain, 0, 1), answer(ALLOW)]);
    }
    program.push(answer(errno(libc::EPERM)));
    for (first, last) in ranges() {
        // Sorted: what is below this range and above the last one is in none.
        program.extend([
            jump_least(last + 1, 3, 0),
            jump_least(first, 0, 1),
            answer(ALLOW),
            answer(errno(libc::EPERM)),
        ]);
    }
    program.push(answer(errno(libc::ENOSYS)));
    Some(program)
}

/// Allowed numbers, and whatever runs of neighbors they make, in order.
fn ranges() -> Vec<(u32, u32)> {
    let lists = [allowed::COMMON, allowed::OLD, allowed::NEW];
    let mut numbers: Vec<u32> = lists.concat().into_iter().map(|n| n as u32).collect();
    numbers.sort_unstable();
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if number <= *last + 1 => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    debug_assert!(
        ranges
            .last()
            .is_some_and(|(_, last)| *last == allowed::LAST_KNOWN as u32)
    );
    ranges
}

fn errno(errno: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | (errno as u32 & libc::SECCOMP_RET_DATA)
}

fn load(offset: u32) -> sock_filter {
    instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset, 0, 0)
}

fn jump_equal(value: u32, if_true: u8, if_false: u8) -> sock_filter {
    instruction(
        libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
        value,
        if_true,
        if_false,
    )
}

fn jump_least(value: u32, if_true: u8, if_false: u8) -> sock_filter {
    instruction(
        libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K,
        value,
        if_true,
        if_false,
    )
}

fn jump_set(bits: u32, if_true: u8, if_false: u8) -> sock_filter {
    instruction(
        libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K,
        bits,
        if_true,
        if_false,
    )
}

fn answer(action: u32) -> sock_filter {
    instruction(libc::BPF_RET | libc::BPF_K, action, 0, 0)
}

fn instruction(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    }
}

#[cfg(test)]
mod tests {
    use libc::c_long;

    use super::*;

    /// A little machine for the instructions that `filter` uses.
    fn run(program: &[sock_filter], number: u32, arch: u32, first: u32) -> u32 {
        let (mut at, mut accumulator) = (0, 0);
        loop {
            let step = program[at];
            at += 1;
            let code = u32::from(step.code);
            if code == libc::BPF_RET | libc::BPF_K {
                return step.k;
            }
            if code == libc::BPF_LD | libc::BPF_W | libc::BPF_ABS {
                accumulator = match step.k {
                    NUMBER => number,
                    ARCH => arch,
                    FIRST_ARGUMENT => first,
                    other => panic!("offset {other}"),
                };
                continue;
            }
            let holds = if code == libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K {
                accumulator == step.k
            } else if code == libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K {
                accumulator >= step.k
            } else {
                accumulator & step.k != 0
            };
            at += usize::from(if holds { step.jt } else { step.jf });
        }
    }

    #[test]
    fn what_is_allowed_passes_and_everything_else_is_refused() {
        let (Some(program), Some(arch)) = (filter(), ARCHITECTURE) else {
            return;
        };
        let refused = errno(libc::EPERM);
        let result = |number: c_long, first| run(&program, number as u32, arch, first);
        for number in [allowed::COMMON, allowed::OLD, allowed::NEW].concat() {
            assert_eq!(result(number, 0), ALLOW, "{number}");
        }
        for number in [
            libc::SYS_mount,
            libc::SYS_bpf,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_io_uring_setup,
            libc::SYS_keyctl,
            libc::SYS_kexec_load,
            libc::SYS_process_vm_readv,
            libc::SYS_open_by_handle_at,
            libc::SYS_perf_event_open,
            libc::SYS_userfaultfd,
        ] {
            assert_eq!(result(number, 0), refused, "{number}");
        }
        assert_eq!(result(allowed::LAST_KNOWN + 1, 0), errno(libc::ENOSYS));
        assert_eq!(result(libc::SYS_personality, 0x2_0000), ALLOW);
        assert_eq!(result(libc::SYS_personality, 0x40_0000), refused);
        assert!(program.len() < 4096, "the kernel takes no more");
        assert_eq!(result(libc::SYS_clone, libc::CLONE_VM as u32), ALLOW);
        assert_eq!(result(libc::SYS_clone, libc::CLONE_NEWUSER as u32), refused);
        assert_eq!(result(libc::SYS_clone3, 0), errno(libc::ENOSYS));
        assert_eq!(run(&program, libc::SYS_read as u32, 0x4000_0003, 0), KILL);
    }
}
