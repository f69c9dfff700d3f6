//! Whether this process has as much memory as it may have (`limits.memory-bytes`): the gateway is
//! told, and serves next to nothing new meanwhile. Unless somebody says otherwise that is three
//! quarters of what the machine has, or a control group of this process.
//!
//! What stays in use without requests is not given back by refusing them (docs/decisions/019).

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use lifecycle::{Stage, Tasks};
use tokio::time::Instant;

/// How often memory is looked at once half of the limit is in use, and before.
const PAUSE: Duration = Duration::from_millis(250);
const LONG_PAUSE: Duration = Duration::from_secs(1);
/// After this time without requests the allocator has given back what they held.
const SETTLED: Duration = Duration::from_secs(15);
/// So many requests in flight are next to none.
const FEW: u64 = 64;

/// Looks after the memory as long as requests are served.
pub fn watch(limit: Option<u64>, gateway: &proxy::Gateway, tasks: &Tasks) {
    let Some(limit) = limit.or_else(standard) else {
        return;
    };
    let (pressure, metrics) = (gateway.pressure().clone(), gateway.metrics().clone());
    let mut stop = tasks.shutdown(Stage::Requests);
    tasks.spawn("memory watch", Stage::Requests, async move {
        let (mut gauge, mut pause) = (Gauge::new(limit), LONG_PAUSE);
        loop {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.requested() => return Ok::<(), Infallible>(()),
            }
            let Some(used) = used() else {
                continue;
            };
            pause = if used < limit / 2 { LONG_PAUSE } else { PAUSE };
            let before = gauge.is_short();
            gauge.look(used, metrics.requests_open(), Instant::now());
            let is_now = gauge.is_short();
            if is_now != before {
                tracing::warn!(used, limit, refusing = is_now, "limits.memory-bytes");
                pressure.set(is_now);
            }
        }
    });
}

/// Objects where nobody tells how much memory there is: as much as etcd takes by default.
const OBJECTS_UNKNOWN: u64 = 2 << 30;
/// Objects may take this part of what the process may, bodies of writes that are worked on this.
const OBJECTS: u64 = 4;
const BODIES: u64 = 48;

/// What the API may take of the memory that this process may have.
pub fn api_bounds(limit: Option<u64>, object_bytes: Option<u64>) -> apiserver::Bounds {
    let limit = limit.or_else(standard);
    let objects = limit.map_or(OBJECTS_UNKNOWN, |limit| limit / OBJECTS);
    apiserver::Bounds {
        object_bytes: object_bytes.unwrap_or(objects),
        body_bytes: limit.map_or(u64::MAX, |limit| limit / BODIES),
        used: Arc::new(used),
        memory_bytes: limit.unwrap_or(u64::MAX),
        settings: [
            "raise limits.object-bytes in the file of `suimon up --config`",
            "give this process more memory, or raise limits.memory-bytes in the file of \
             `suimon up --config`",
        ],
    }
}

/// What the process holds now.
fn used() -> Option<u64> {
    held_bytes(&std::fs::read_to_string("/proc/self/status").ok()?)
}

/// What is in use, against what may be.
#[derive(Debug)]
struct Gauge {
    limit: u64,
    /// What is in use without requests, where that is about the limit or more; else 0.
    base: u64,
    /// When memory became short.
    since: Option<Instant>,
}

impl Gauge {
    fn new(limit: u64) -> Self {
        Self {
            limit,
            base: 0,
            since: None,
        }
    }

    fn is_short(&self) -> bool {
        self.since.is_some()
    }

    /// Requests may have an eighth of the limit beside what is in use without them; at five
    /// quarters of it all ends.
    fn ceiling(&self) -> u64 {
        let beside = self.base + self.limit / 8;
        beside.clamp(self.limit, self.limit / 4 * 5)
    }

    fn look(&mut self, used: u64, in_flight: u64, now: Instant) {
        if used < self.limit - self.limit / 20 {
            self.base = 0;
        }
        if !is_short(self.is_short(), used, self.ceiling()) {
            self.since = None;
            return;
        }
        let since = *self.since.get_or_insert(now);
        let is_settled = now.duration_since(since) >= SETTLED && in_flight <= FEW;
        if !is_settled || used <= self.base {
            return;
        }
        self.base = used;
        if used < self.ceiling() {
            self.since = None;
        }
        tracing::warn!(
            used,
            limit = self.limit,
            "limits.memory-bytes is used up without requests: what the API holds leaves them little; \
             raise it, give this process more memory, or delete objects"
        );
    }
}

/// Once memory is short it stays so until a twentieth of the limit is free, lest it change with
/// every request.
fn is_short(before: bool, used: u64, limit: u64) -> bool {
    let bound = if before { limit - limit / 20 } else { limit };
    used >= bound
}

/// What a process holds that the kernel cannot take from it: not the pages of files, its own code
/// among them.
fn held_bytes(status: &str) -> Option<u64> {
    let kib = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        let number = line.trim().strip_suffix("kB")?.trim_end();
        number.parse::<u64>().ok()
    };
    Some((kib("RssAnon:")? + kib("RssShmem:")?) * 1024)
}

/// What is enough for this machine; `None` where nobody tells how much it has.
fn standard() -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    of_machine(
        &read("/proc/meminfo")?,
        &read("/proc/self/cgroup").unwrap_or_default(),
        read,
    )
}

/// `meminfo` and `groups` as the kernel shows them. Of all control groups around this process, of
/// either version, the least limit counts; each may have none or not be to be seen from here.
fn of_machine(meminfo: &str, groups: &str, read: impl Fn(&str) -> Option<String>) -> Option<u64> {
    let total = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let total: u64 = total.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    let limits = groups.lines().flat_map(limits_of);
    let limits = limits.filter_map(|path| read(&path)?.trim().parse().ok());
    let least = limits.fold(total * 1024, u64::min);
    Some(least / 4 * 3)
}

/// Where the limits of the group of this line, and of those around it, would stand.
fn limits_of(line: &str) -> Vec<String> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
        return Vec::new();
    };
    let (places, file): (&[&str], _) = match controllers {
        "" => (&["/sys/fs/cgroup", "/sys/fs/cgroup/unified"], "memory.max"),
        all if all.split(',').any(|one| one == "memory") => {
            (&["/sys/fs/cgroup/memory"], "memory.limit_in_bytes")
        }
        _ => return Vec::new(),
    };
    let groups = std::path::Path::new(path).ancestors();
    groups
        .flat_map(|group| {
            let group = group.to_string_lossy();
            let group = group.trim_end_matches('/').to_owned();
            places
                .iter()
                .map(move |place| format!("{place}{group}/{file}"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_quarters_of_what_there_is_may_be_used() {
        let meminfo = "MemTotal:        8388608 kB\nMemFree:   1 kB\n";
        let check = |groups: &str, files: &[(&str, &str)], expected: u64| {
            let read = |path: &str| {
                let found = files.iter().find(|(name, _)| *name == path)?;
                Some(format!("{}\n", found.1))
            };
            assert_eq!(
                of_machine(meminfo, groups, read),
                Some(expected),
                "{groups}"
            );
        };
        check("", &[], 6 << 30);
        let own = "/sys/fs/cgroup/a/b/memory.max";
        let around = "/sys/fs/cgroup/a/memory.max";
        check("0::/a/b\n", &[(own, "max")], 6 << 30);
        check("0::/a/b\n", &[(own, "4294967296")], 3 << 30);
        let both = [(own, "max"), (around, "4294967296")];
        check("0::/a/b\n", &both, 3 << 30);
        // In a namespace of its own a group is the root.
        check(
            "0::/\n",
            &[("/sys/fs/cgroup/memory.max", "4294967296")],
            3 << 30,
        );
        let version1 = "5:cpu,memory:/a\n1:name=systemd:/b\n0::/\n";
        let of_1 = "/sys/fs/cgroup/memory/a/memory.limit_in_bytes";
        check(version1, &[(of_1, "268435456")], 192 << 20);
        // In a container of version 1 the path leads nowhere, and the root is its group.
        let of_root = "/sys/fs/cgroup/memory/memory.limit_in_bytes";
        check(version1, &[(of_root, "268435456")], 192 << 20);
        // That is how version 1 says that there is none.
        check(version1, &[(of_1, "9223372036854771712")], 6 << 30);
        assert_eq!(of_machine("", "", |_| None), None);
    }

    #[test]
    fn objects_and_bodies_get_their_part_of_it() {
        let bounds = api_bounds(Some(192 << 20), None);
        assert_eq!(
            (bounds.object_bytes, bounds.body_bytes),
            (48 << 20, 4 << 20)
        );
        let bounds = api_bounds(Some(192 << 20), Some(100 << 20));
        assert_eq!(bounds.object_bytes, 100 << 20);
        assert_eq!(bounds.memory_bytes, 192 << 20);
    }

    #[test]
    fn what_is_held_is_not_what_files_can_give_back() {
        let status = "VmRSS:\t  170000 kB\nRssAnon:\t   50000 kB\nRssFile:\t  119000 kB\n\
                      RssShmem:\t    1000 kB\n";
        assert_eq!(held_bytes(status), Some(51_000 * 1024));
        assert_eq!(held_bytes("VmRSS:\t  170000 kB\n"), None);
    }

    #[test]
    fn memory_that_was_short_is_so_until_some_of_it_is_free() {
        assert!(!is_short(false, 99, 100));
        assert!(is_short(false, 100, 100));
        assert!(is_short(true, 96, 100));
        assert!(!is_short(true, 94, 100));
    }

    /// A gauge with a limit of 1,000, and what it says after each look: seconds, used, in flight.
    fn check(looks: &[(u64, u64, u64, bool)]) {
        let (mut gauge, start) = (Gauge::new(1_000), Instant::now());
        for (at, used, in_flight, expected) in looks {
            gauge.look(*used, *in_flight, start + Duration::from_secs(*at));
            assert_eq!(gauge.is_short(), *expected, "{at} s: {used}, {gauge:?}");
        }
    }

    #[test]
    fn what_requests_hold_is_refused_until_it_is_given_back() {
        check(&[
            (0, 999, 500, false),
            (1, 1_000, 500, true),
            (10, 1_200, 500, true),
            // As long as they are in flight it is theirs.
            (40, 1_200, 500, true),
            (41, 949, 0, false),
        ]);
    }

    #[test]
    fn what_is_left_without_requests_is_no_reason_to_refuse_them() {
        check(&[
            (0, 1_050, 10, true),
            (14, 1_050, 10, true),
            (15, 1_050, 10, false),
            // Another eighth is for requests.
            (16, 1_170, 500, false),
            (17, 1_180, 500, true),
            (18, 1_090, 0, false),
            // Objects were deleted: the limit is what it was.
            (19, 900, 0, false),
            (20, 1_000, 0, true),
        ]);
    }

    #[test]
    fn there_is_an_end_to_what_may_be_used() {
        check(&[
            (0, 1_300, 0, true),
            (15, 1_300, 0, true),
            (60, 1_300, 0, true),
            (61, 1_180, 0, false),
        ]);
    }
}
