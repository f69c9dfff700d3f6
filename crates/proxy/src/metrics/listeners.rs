//! Counters by listener.
//!
//! Each thread has its own of each listener, found in the entry that its connections came by, so
//! counting takes neither a search nor a lock. Binds come and go: there is a bound on how many names
//! are told apart, and those of binds that are gone are summed up when room is needed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Counter;
use super::text::escaped;

/// Names besides `other`.
const MOST: usize = 200;
const OTHER: &str = "other";

/// What one thread has counted at one listener.
// Two cache lines of distance to the next thread's.
#[repr(align(128))]
#[derive(Debug, Default)]
pub(crate) struct ListenerCounters {
    pub(crate) connections: Counter,
    pub(crate) connections_open: Counter,
    pub(crate) requests: Counter,
    pub(crate) tls_failures: Counter,
}

/// A name, what it tells, whether it is a counter or a gauge, and where it is.
type Column = (&'static str, &'static str, &'static str, fn(&Totals) -> u64);

/// Sums over threads.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    connections: u64,
    connections_open: u64,
    requests: u64,
    tls_failures: u64,
}

impl Totals {
    fn add(&mut self, counters: &ListenerCounters) {
        for (sum, counter) in [
            (&mut self.connections, &counters.connections),
            (&mut self.connections_open, &counters.connections_open),
            (&mut self.requests, &counters.requests),
            (&mut self.tls_failures, &counters.tls_failures),
        ] {
            *sum = sum.wrapping_add(counter.get());
        }
    }
}

/// All listeners. Clones are one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Listeners(Arc<Mutex<All>>);

#[derive(Debug, Default)]
struct All {
    /// By name; of every thread, and of every time that a bind was opened.
    named: BTreeMap<String, Vec<Arc<ListenerCounters>>>,
    /// Those that have no name of their own.
    other: Vec<Arc<ListenerCounters>>,
    /// What those counted that are gone, by name.
    gone: BTreeMap<String, Totals>,
}

impl Listeners {
    /// Counters of one thread at a listener of this name.
    pub(crate) fn of(&self, name: &str) -> Arc<ListenerCounters> {
        let counters = Arc::<ListenerCounters>::default();
        let mut all = self.lock();
        if !all.named.contains_key(name) && all.named.len() >= MOST {
            all.sum_up();
        }
        if all.named.contains_key(name) || all.named.len() < MOST {
            let place = all.named.entry(name.to_owned()).or_default();
            place.push(Arc::clone(&counters));
        } else {
            all.other.push(Arc::clone(&counters));
        }
        all.fold();
        counters
    }

    pub(crate) fn render(&self, out: &mut String) {
        let mut rows: BTreeMap<String, Totals> = BTreeMap::new();
        {
            let all = self.lock();
            for (name, totals) in &all.gone {
                rows.insert(name.clone(), *totals);
            }
            for (name, counters) in &all.named {
                let totals = rows.entry(name.clone()).or_default();
                counters.iter().for_each(|counters| totals.add(counters));
            }
            for counters in &all.other {
                rows.entry(OTHER.to_owned()).or_default().add(counters);
            }
        }
        let columns: [Column; 4] = [
            (
                "suimon_gateway_listener_connections_total",
                "Downstream connections served, by listener.",
                "counter",
                |totals| totals.connections,
            ),
            (
                "suimon_gateway_listener_connections",
                "Downstream connections open, by listener.",
                "gauge",
                |totals| totals.connections_open,
            ),
            (
                "suimon_gateway_listener_requests_total",
                "Requests that came in, by listener.",
                "counter",
                |totals| totals.requests,
            ),
            (
                "suimon_gateway_listener_tls_failures_total",
                "TLS handshakes that failed or took too long, by listener.",
                "counter",
                |totals| totals.tls_failures,
            ),
        ];
        for (name, help, kind, of) in columns {
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for (listener, totals) in &rows {
                let listener = escaped(listener);
                let _ = writeln!(out, "{name}{{listener=\"{listener}\"}} {}", of(totals));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, All> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl All {
    /// Keeps of counters that nobody counts with any more only what they say.
    fn fold(&mut self) {
        for (name, counters) in &mut self.named {
            let gone = &mut self.gone;
            counters.retain(|counters| {
                let is_used = Arc::strong_count(counters) > 1;
                if !is_used {
                    gone.entry(name.clone()).or_default().add(counters);
                }
                is_used
            });
        }
        let gone = &mut self.gone;
        self.other.retain(|counters| {
            let is_used = Arc::strong_count(counters) > 1;
            if !is_used {
                gone.entry(OTHER.to_owned()).or_default().add(counters);
            }
            is_used
        });
    }

    /// Makes room: what is gone has no name of its own any more.
    fn sum_up(&mut self) {
        self.fold();
        self.named.retain(|_, counters| !counters.is_empty());
        let mut other = self.gone.remove(OTHER).unwrap_or_default();
        self.gone.retain(|name, totals| {
            let is_named = self.named.contains_key(name);
            if !is_named {
                other.connections += totals.connections;
                other.requests += totals.requests;
                other.tls_failures += totals.tls_failures;
            }
            is_named
        });
        self.gone.insert(OTHER.to_owned(), other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests(listeners: &Listeners, name: &str) -> Option<u64> {
        let mut out = String::new();
        listeners.render(&mut out);
        let row = format!("suimon_gateway_listener_requests_total{{listener=\"{name}\"}} ");
        let found = out.lines().find_map(|line| line.strip_prefix(&row));
        found.map(|count| count.parse().expect("a number"))
    }

    #[test]
    fn threads_are_summed_and_a_bind_that_comes_back_counts_on() {
        let listeners = Listeners::default();
        let threads = [listeners.of("a"), listeners.of("a")];
        threads[0].requests.add(2);
        threads[1].requests.add(3);
        assert_eq!(requests(&listeners, "a"), Some(5));
        drop(threads);
        let again = listeners.of("a");
        again.requests.add(1);
        assert_eq!(requests(&listeners, "a"), Some(6));
    }

    #[test]
    fn names_are_bounded_and_nothing_is_lost() {
        let listeners = Listeners::default();
        let kept = listeners.of("kept");
        for number in 0..3 * MOST {
            listeners.of(&number.to_string()).requests.add(1);
            kept.requests.add(1);
        }
        let mut out = String::new();
        listeners.render(&mut out);
        let named = |line: &&str| line.starts_with("suimon_gateway_listener_requests_total{");
        assert!(out.lines().filter(named).count() <= MOST + 1);
        assert_eq!(requests(&listeners, "kept"), Some(3 * MOST as u64));
        let of = |line: &str| -> Option<u64> { line.rsplit_once(' ')?.1.parse().ok() };
        let all: u64 = out.lines().filter(named).filter_map(of).sum();
        assert_eq!(all, 6 * MOST as u64);
    }

    #[test]
    fn those_that_are_open_keep_their_names_and_later_ones_share_one() {
        let listeners = Listeners::default();
        let open: Vec<_> = (0..MOST + 5)
            .map(|number| listeners.of(&number.to_string()))
            .collect();
        open.iter().for_each(|counters| counters.requests.add(1));
        assert_eq!(requests(&listeners, "0"), Some(1));
        assert_eq!(requests(&listeners, OTHER), Some(5));
    }
}
