//! What every Prometheus client library tells of its process, and which build it is.

use std::fs;

use super::text::{Text, seconds};

/// Kernel ticks per second in /proc (USER_HZ).
const TICKS: u64 = 100;

/// Writes what this system tells; nothing where it has no /proc.
pub(super) fn render(out: &mut Text) {
    let name = "kubernetes_build_info";
    out.head(name, "The version that this server speaks.", "gauge");
    let labels = "git_version=\"v1.36.0+suimon\",major=\"1\",minor=\"36\"";
    out.line(name, labels, 1);
    let Some(found) = fs::read_to_string("/proc/self/stat")
        .ok()
        .and_then(|text| Stat::parse(&text))
    else {
        return;
    };
    let name = "process_cpu_seconds_total";
    out.head(name, "Processor time of the process.", "counter");
    out.line(name, "", seconds(found.ticks * 1_000_000 / TICKS));
    if let Some(bytes) = resident_bytes() {
        let name = "process_resident_memory_bytes";
        out.head(name, "Memory of the process.", "gauge");
        out.line(name, "", bytes);
    }
    if let Some(boot) = boot_seconds() {
        let name = "process_start_time_seconds";
        out.head(name, "When the process started.", "gauge");
        out.line(
            name,
            "",
            seconds((boot * TICKS + found.started) * 1_000_000 / TICKS),
        );
    }
    if let Ok(files) = fs::read_dir("/proc/self/fd") {
        let name = "process_open_fds";
        out.head(name, "Open file descriptors.", "gauge");
        // The listing has one itself.
        out.line(name, "", files.count().saturating_sub(1));
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Stat {
    /// Processor time, in ticks.
    ticks: u64,
    /// After the machine's start, in ticks.
    started: u64,
}

impl Stat {
    /// The name in parentheses may hold anything.
    fn parse(text: &str) -> Option<Self> {
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
        Some(Self {
            ticks: number(11)? + number(12)?,
            started: number(19)?,
        })
    }
}

/// Resident memory; the size of the pages that `stat` counts differs between machines.
fn resident_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
    Some(kibibytes * 1024)
}

/// When the machine started, in seconds of the epoch.
fn boot_seconds() -> Option<u64> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_process_may_hold_anything() {
        let text = "42 (a) b) S 1 42 40 0 -1 4194560 1 2 3 4 10 20 3 4 20 0 1 0 500 1000 25 1";
        let expected = Stat {
            ticks: 30,
            started: 500,
        };
        assert_eq!(Stat::parse(text), Some(expected));
        assert_eq!(Stat::parse("cut"), None);
    }
}
