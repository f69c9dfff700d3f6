//! Whether this process has as much memory as it may have (`limits.memory-bytes`): the gateway is
//! told, and serves nothing new meanwhile. Unless somebody says otherwise that is three quarters of
//! what the machine has, or the control group of this process.

use std::convert::Infallible;
use std::time::Duration;

use lifecycle::{Stage, Tasks};

use super::admin::resident_bytes;

/// How often memory is looked at once half of the limit is in use, and before.
const PAUSE: Duration = Duration::from_millis(250);
const LONG_PAUSE: Duration = Duration::from_secs(1);

/// Looks after the memory as long as requests are served.
pub fn watch(limit: Option<u64>, pressure: proxy::Pressure, tasks: &Tasks) {
    let Some(limit) = limit.or_else(standard) else {
        return;
    };
    let mut stop = tasks.shutdown(Stage::Requests);
    tasks.spawn("memory watch", Stage::Requests, async move {
        let (mut is_high, mut pause) = (false, LONG_PAUSE);
        loop {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.requested() => return Ok::<(), Infallible>(()),
            }
            let Some(resident) = resident_bytes() else {
                continue;
            };
            pause = if resident < limit / 2 {
                LONG_PAUSE
            } else {
                PAUSE
            };
            let is_now = is_short(is_high, resident, limit);
            if is_now != is_high {
                tracing::warn!(resident, limit, refusing = is_now, "limits.memory-bytes");
                pressure.set(is_now);
            }
            is_high = is_now;
        }
    });
}

/// What is enough for this machine; `None` where nobody tells how much it has.
fn standard() -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let groups = read("/proc/self/cgroup");
    let group = groups.lines().find_map(|line| line.strip_prefix("0::"));
    let group = group.map(|path| read(&format!("/sys/fs/cgroup{path}/memory.max")));
    of_machine(&read("/proc/meminfo"), &group.unwrap_or_default())
}

/// `meminfo` as the kernel shows it, and the `memory.max` of a control group (version 2), which may
/// say `max` or not be there.
fn of_machine(meminfo: &str, group: &str) -> Option<u64> {
    let total = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let total: u64 = total.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    let group = group.trim().parse().unwrap_or(u64::MAX);
    Some((total * 1024).min(group) / 4 * 3)
}

/// Once memory is short it stays so until a twentieth of the limit is free, lest it change with
/// every request.
fn is_short(before: bool, resident: u64, limit: u64) -> bool {
    let bound = if before { limit - limit / 20 } else { limit };
    resident >= bound
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_quarters_of_what_there_is_may_be_used() {
        let meminfo = "MemTotal:        8388608 kB\nMemFree:   1 kB\n";
        for (group, expected) in [("max\n", 6 << 30), ("", 6 << 30), ("4294967296\n", 3 << 30)] {
            assert_eq!(of_machine(meminfo, group), Some(expected));
        }
        assert_eq!(of_machine("", "max"), None);
    }

    #[test]
    fn memory_that_was_short_is_so_until_some_of_it_is_free() {
        assert!(!is_short(false, 99, 100));
        assert!(is_short(false, 100, 100));
        assert!(is_short(true, 96, 100));
        assert!(!is_short(true, 94, 100));
    }
}
