//! What a figure was measured on.

use std::time::Duration;

use anyhow::Context;

/// Prints processor, cores, memory and kernel.
pub fn print() -> anyhow::Result<()> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text
            .lines()
            .find(|line| line.starts_with(name))
            .unwrap_or_default()
            .to_owned();
        line.split_once(':')
            .map(|(_, value)| value.trim().to_owned())
            .unwrap_or_default()
    };
    let cpu = read("/proc/cpuinfo");
    let cores = std::thread::available_parallelism()?;
    println!(
        "machine: {cores} cores of {}, {}, Linux {}",
        field(&cpu, "model name"),
        field(&read("/proc/meminfo"), "MemTotal"),
        read("/proc/sys/kernel/osrelease").trim(),
    );
    Ok(())
}

/// CPU time, by whose code it was.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cpu {
    /// The program's own. Linux samples it with its clock's ticks.
    pub user: Duration,
    /// The kernel's on its behalf: sockets, mostly.
    pub system: Duration,
}

impl Cpu {
    /// What a process and its descendants have used, all threads, those that have ended included.
    pub fn of_all(pid: u32) -> Self {
        Self {
            user: ticks(tree(pid), &[11, 13]),
            system: ticks(tree(pid), &[12, 14]),
        }
    }

    /// What a process alone has used.
    pub fn of_one(pid: u32) -> Self {
        Self {
            user: ticks(vec![pid], &[11]),
            system: ticks(vec![pid], &[12]),
        }
    }

    pub fn total(self) -> Duration {
        self.user + self.system
    }

    /// What came since then.
    pub fn since(self, before: Self) -> Self {
        Self {
            user: self.user.saturating_sub(before.user),
            system: self.system.saturating_sub(before.system),
        }
    }
}

/// CPU time (user and system) that a process and its descendants have used.
pub fn cpu_time(pid: u32) -> anyhow::Result<Duration> {
    Ok(Cpu::of_all(pid).total())
}

/// The sum of these fields of `stat`, counted from the one behind the name.
fn ticks(pids: Vec<u32>, which: &[usize]) -> Duration {
    let mut ticks = 0;
    for pid in pids {
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
            continue;
        };
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .collect();
        let tick = |index: usize| {
            fields
                .get(index)
                .and_then(|field| field.parse::<u64>().ok())
                .unwrap_or(0)
        };
        ticks += which.iter().map(|index| tick(*index)).sum::<u64>();
    }
    // Linux reports 100 ticks a second to user space on every platform it runs on here.
    Duration::from_millis(ticks * 10)
}

/// Memory of a process and its descendants in KiB.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// Proportional set size: a shared page counts in parts.
    pub pss: u64,
    /// The part that is no file: heaps and stacks.
    pub anonymous: u64,
}

/// Memory of a process and its descendants.
pub fn memory(pid: u32) -> anyhow::Result<Memory> {
    let mut total = Memory::default();
    for pid in tree(pid) {
        let Ok(text) = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) else {
            continue;
        };
        let field = |name: &str| -> anyhow::Result<u64> {
            let line = text.lines().find(|line| line.starts_with(name));
            let line = line.with_context(|| format!("no {name} in smaps_rollup"))?;
            let kib = line.split_whitespace().nth(1);
            Ok(kib.and_then(|kib| kib.parse().ok()).unwrap_or(0))
        };
        total.pss += field("Pss:")?;
        total.anonymous += field("Pss_Anon:")?;
    }
    Ok(total)
}

/// A process and its descendants.
pub fn tree(root: u32) -> Vec<u32> {
    let mut found = vec![root];
    let mut at = 0;
    while let Some(pid) = found.get(at).copied() {
        at += 1;
        let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
            continue;
        };
        for task in tasks.flatten() {
            let children =
                std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            found.extend(
                children
                    .split_whitespace()
                    .filter_map(|pid| pid.parse::<u32>().ok()),
            );
        }
    }
    found
}
