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

/// CPU time (user and system) that a process and its descendants have used, all threads.
pub fn cpu_time(pid: u32) -> anyhow::Result<Duration> {
    let mut ticks = 0;
    for pid in tree(pid) {
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
        ticks += tick(11) + tick(12);
    }
    // Linux reports 100 ticks a second to user space on every platform it runs on here.
    Ok(Duration::from_millis(ticks * 10))
}

/// Resident memory of a process and its descendants in KiB, shared pages counted once per sharer.
pub fn memory_kib(pid: u32) -> anyhow::Result<u64> {
    let mut total = 0;
    for pid in tree(pid) {
        let Ok(text) = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) else {
            continue;
        };
        let line = text
            .lines()
            .find(|line| line.starts_with("Pss:"))
            .context("no Pss in smaps_rollup")?;
        total += line
            .split_whitespace()
            .nth(1)
            .and_then(|kib| kib.parse::<u64>().ok())
            .unwrap_or(0);
    }
    Ok(total)
}

fn tree(root: u32) -> Vec<u32> {
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
