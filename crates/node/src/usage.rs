//! How much processor time and memory pods and the machine use, for `kubectl top` and autoscaling.
//!
//! A rate needs two moments: a sample is kept every quarter of a minute, and a question compares
//! with the last one, or with the program's start. Containers are measured by their control
//! groups; programs of the process runtime by the processes of their session.

use std::collections::HashMap;
use std::fs;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kube::ResourceExt;
use tokio::time::Instant;

use crate::session::Sessions;
use crate::sys;

/// Between two samples, as Kubernetes' metrics-server.
const INTERVAL: Duration = Duration::from_secs(15);
/// A sample this young says little.
const YOUNG: Duration = Duration::from_secs(2);
/// The kernel counts processor time in hundredths of a second for programs (USER_HZ).
const TICK: Duration = Duration::from_millis(10);

/// What something has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Processor time since its start.
    pub(crate) cpu: Duration,
    /// Memory that cannot be taken from it now.
    pub(crate) memory_bytes: u64,
}

/// What something uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Billionths of a processor.
    pub cpu_nanos: u64,
    /// Processor time since its start.
    pub cpu_time: Duration,
    /// Memory that cannot be taken from it now.
    pub memory_bytes: u64,
}

/// What a pod uses, by container.
#[derive(Clone, Debug)]
pub struct PodUsage {
    pub pod: Arc<k8s_openapi::api::core::v1::Pod>,
    pub containers: Vec<(String, Usage)>,
    /// The time that the rates are about.
    pub window: Duration,
}

/// The processes of this machine, read once.
pub struct Processes {
    /// By session.
    used: HashMap<i32, Used>,
    /// Start of each process after the machine's.
    started: HashMap<i32, Duration>,
    uptime: Duration,
}

impl Processes {
    pub(crate) fn read() -> Self {
        let page = sys::page_bytes();
        let mut all = Self {
            used: HashMap::new(),
            started: HashMap::new(),
            uptime: uptime().unwrap_or_default(),
        };
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok())
            else {
                continue;
            };
            // It may have ended meanwhile.
            let text = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            if let Some(stat) = Stat::parse(&text) {
                let used = all.used.entry(stat.session).or_default();
                used.cpu += stat.cpu;
                used.memory_bytes += stat.pages * page;
                all.started.insert(pid, stat.started);
            }
        }
        all
    }

    /// What the processes of a session have used.
    pub(crate) fn session(&self, session: i32) -> Option<Used> {
        self.used.get(&session).copied()
    }

    fn age(&self, pid: i32) -> Duration {
        let started = self.started.get(&pid).copied();
        started.map_or(Duration::ZERO, |started| {
            self.uptime.saturating_sub(started)
        })
    }
}

/// The fields of `/proc/PID/stat` that matter here.
#[derive(Debug, PartialEq)]
struct Stat {
    session: i32,
    cpu: Duration,
    started: Duration,
    pages: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The name is in parentheses and may hold anything.
        let fields: Vec<_> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
        let ticks = |at: usize| Some(TICK * u32::try_from(number(at)?).unwrap_or(u32::MAX));
        Some(Self {
            session: fields.get(3)?.parse().ok()?,
            // Its own, and that of its children that have ended.
            cpu: ticks(11)? + ticks(12)? + ticks(13)? + ticks(14)?,
            started: ticks(19)?,
            pages: number(21)?,
        })
    }
}

fn uptime() -> Option<Duration> {
    let text = fs::read_to_string("/proc/uptime").ok()?;
    let seconds: f64 = text.split_whitespace().next()?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// One container's run.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Place {
    pod: String,
    container: String,
    pid: i32,
}

/// A moment.
struct Sample {
    at: Instant,
    containers: HashMap<Place, Used>,
    machine: Option<Used>,
}

/// Measures the pods of this machine. Clones share their samples.
#[derive(Clone)]
pub(crate) struct Meter {
    sessions: Sessions,
    last: Arc<Mutex<Option<Arc<Sample>>>>,
}

impl Meter {
    pub(crate) fn new(sessions: Sessions) -> Self {
        Self {
            sessions,
            last: Arc::default(),
        }
    }

    /// Keeps samples until dropped.
    pub(crate) async fn keep(self) -> std::convert::Infallible {
        loop {
            let meter = self.clone();
            let sample = tokio::task::spawn_blocking(move || meter.sample().1).await;
            if let Ok(sample) = sample {
                *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(sample));
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    fn sample(&self) -> (Processes, Sample) {
        let processes = Processes::read();
        let mut containers = HashMap::new();
        for context in self.sessions.all() {
            let (Ok(runtime), Some(sandbox)) = (&context.runtime, context.sandbox.get()) else {
                continue;
            };
            for run in context.all_running() {
                let container = context.container(run.index).name.clone();
                let pid = run.process.pid();
                let used = runtime.used(sandbox, &container, pid, &processes);
                if let Some(used) = used {
                    let pod = context.pod.uid().unwrap_or_default();
                    let place = Place {
                        pod,
                        container,
                        pid,
                    };
                    containers.insert(place, used);
                }
            }
        }
        let sample = Sample {
            at: Instant::now(),
            containers,
            machine: machine(),
        };
        (processes, sample)
    }

    fn last(&self, now: Instant) -> Option<Arc<Sample>> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.clone().filter(|sample| now - sample.at >= YOUNG)
    }

    /// What every pod uses that runs.
    pub(crate) fn pods(&self) -> Vec<PodUsage> {
        let (processes, now) = self.sample();
        let last = self.last(now.at);
        let mut pods = Vec::new();
        for context in self.sessions.all() {
            let uid = context.pod.uid().unwrap_or_default();
            let mut window = Duration::ZERO;
            let mut containers = Vec::new();
            for (place, used) in now.containers.iter().filter(|(place, _)| place.pod == uid) {
                let before = last.as_ref().and_then(|last| {
                    let used = last.containers.get(place)?;
                    Some((*used, now.at - last.at))
                });
                let (before, time) =
                    before.unwrap_or_else(|| (Used::default(), processes.age(place.pid)));
                window = window.max(time);
                containers.push((place.container.clone(), rate(before, *used, time)));
            }
            if !containers.is_empty() {
                containers.sort_by(|one, two| one.0.cmp(&two.0));
                let pod = Arc::clone(&context.pod);
                pods.push(PodUsage {
                    pod,
                    containers,
                    window,
                });
            }
        }
        pods
    }

    /// What the machine uses, and the time that the rate is about. `None` where it cannot be
    /// measured.
    pub(crate) fn machine(&self) -> Option<(Usage, Duration)> {
        let now = Instant::now();
        let used = machine()?;
        let last = self.last(now);
        let before = last.and_then(|last| Some((last.machine?, now - last.at)));
        let (before, time) =
            before.unwrap_or_else(|| (Used::default(), uptime().unwrap_or_default()));
        Some((rate(before, used, time), time))
    }
}

fn rate(before: Used, now: Used, time: Duration) -> Usage {
    let cpu = now.cpu.saturating_sub(before.cpu).as_secs_f64();
    let seconds = time.as_secs_f64().max(TICK.as_secs_f64());
    Usage {
        // Far below 2^52, so the conversion is exact enough.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        cpu_nanos: (cpu / seconds * 1e9) as u64,
        cpu_time: now.cpu,
        memory_bytes: now.memory_bytes,
    }
}

/// What the whole machine has used.
fn machine() -> Option<Used> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let memory = fs::read_to_string("/proc/meminfo").ok()?;
    machine_of(&stat, &memory)
}

fn machine_of(stat: &str, memory: &str) -> Option<Used> {
    let cpu = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<u64> = cpu
        .split_whitespace()
        .filter_map(|number| number.parse().ok())
        .collect();
    // user, nice, system, idle, iowait, irq, softirq, steal; what follows is in the first two.
    let busy: u64 = ticks.iter().take(8).sum::<u64>() - ticks.get(3)? - ticks.get(4)?;
    let kibibytes = |name: &str| {
        let rest = memory.lines().find_map(|line| line.strip_prefix(name))?;
        rest.split_whitespace().next()?.parse::<u64>().ok()
    };
    let used = kibibytes("MemTotal:")?.saturating_sub(kibibytes("MemAvailable:")?);
    Some(Used {
        cpu: Duration::from_millis(busy.saturating_mul(10)),
        memory_bytes: used * 1024,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_process_may_hold_anything() {
        let text = "42 (a) b (c) S 1 42 40 0 -1 4194560 1 2 3 4 10 20 3 4 20 0 1 0 500 1000 25 18446744073709551615";
        let expected = Stat {
            session: 40,
            cpu: Duration::from_millis(370),
            started: Duration::from_secs(5),
            pages: 25,
        };
        assert_eq!(Stat::parse(text), Some(expected));
        assert_eq!(Stat::parse("42 (cut) S 1"), None);
        assert_eq!(Stat::parse(""), None);
    }

    #[test]
    fn the_machine_is_busy_when_it_is_not_idle() {
        let stat = "cpu  100 0 50 1000 20 0 5 0 7 0\ncpu0 1 2\n";
        let memory = "MemTotal: 1000 kB\nMemFree: 10 kB\nMemAvailable: 600 kB\n";
        let expected = Used {
            cpu: Duration::from_millis(1550),
            memory_bytes: 400 * 1024,
        };
        assert_eq!(machine_of(stat, memory), Some(expected));
        assert_eq!(machine_of("", memory), None);
    }

    #[test]
    fn a_rate_is_what_was_used_in_the_time_between() {
        let at = |millis, memory_bytes| Used {
            cpu: Duration::from_millis(millis),
            memory_bytes,
        };
        let found = rate(at(1000, 5), at(4000, 7), Duration::from_secs(15));
        let expected = Usage {
            cpu_nanos: 200_000_000,
            cpu_time: Duration::from_secs(4),
            memory_bytes: 7,
        };
        assert_eq!(found, expected);
        // Started over: no rate, and nothing below zero.
        assert_eq!(rate(at(9, 0), at(1, 0), Duration::ZERO).cpu_nanos, 0);
    }
}
