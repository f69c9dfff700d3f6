//! Counters per route and backend.
//!
//! A request finds its counters in its compiled arm or route, without a search; each thread has
//! its own. There is a bound on how many sets there are: those of routes that are gone are summed
//! up as `other` when room is needed, so that nothing is lost.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use routing::model::{Activation, BackendId, RouteId};
use routing::{Backend, CompiledArm, CompiledRoute};

use super::text::escaped;
use super::{BUCKETS_MS, Counter};

/// Sets of counters besides `other`.
const MOST: usize = 2_000;
const OTHER: &str = "other";

/// What one thread has counted of one route and backend.
// Two cache lines of distance to the next thread's.
#[repr(align(128))]
#[derive(Debug, Default)]
pub(super) struct Outcomes {
    pub(super) responses: [Counter; 6],
    pub(super) buckets: [Counter; BUCKETS_MS.len() + 1],
    pub(super) micros: Counter,
}

impl Outcomes {
    /// A request ended with this status, after this time.
    pub(super) fn answered(&self, status: u16, took: Duration) {
        let class = usize::from(status / 100).min(5);
        self.responses[class].add(1);
        let micros = took.as_micros() as u64;
        let bucket = BUCKETS_MS
            .iter()
            .position(|bound| micros <= bound * 1_000)
            .unwrap_or(BUCKETS_MS.len());
        self.buckets[bucket].add(1);
        self.micros.add(micros);
    }
}

/// What the counters are about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Key {
    route: RouteId,
    /// `None` if the gateway answers itself.
    backend: Option<BackendId>,
}

/// The counters of one route and backend.
#[derive(Debug)]
pub(crate) struct Series {
    key: Key,
    activation: Option<Activation>,
    threads: Box<[Outcomes]>,
}

impl Series {
    pub(crate) fn answered(&self, thread: usize, status: u16, took: Duration) {
        if let Some(outcomes) = self.threads.get(thread) {
            outcomes.answered(status, took);
        }
    }

    pub(crate) fn route(&self) -> &RouteId {
        &self.key.route
    }

    pub(crate) fn backend(&self) -> Option<&BackendId> {
        self.key.backend.as_ref()
    }

    /// The revision behind the backend.
    pub(crate) fn activation(&self) -> Option<&Activation> {
        self.activation.as_ref()
    }
}

/// All counters of this kind.
#[derive(Debug)]
pub(crate) struct Registry {
    threads: usize,
    all: Mutex<All>,
}

#[derive(Debug)]
struct All {
    series: HashMap<Key, Arc<Series>>,
    other: Arc<Series>,
    /// What those counted that had to make room.
    gone: Totals,
}

/// Sums over threads.
#[derive(Clone, Debug, Default)]
struct Totals {
    responses: [u64; 6],
    buckets: [u64; BUCKETS_MS.len() + 1],
    micros: u64,
}

impl Totals {
    fn add(&mut self, series: &Series) {
        for outcomes in &series.threads {
            for (sum, count) in self.responses.iter_mut().zip(&outcomes.responses) {
                *sum += count.get();
            }
            for (sum, count) in self.buckets.iter_mut().zip(&outcomes.buckets) {
                *sum += count.get();
            }
            self.micros += outcomes.micros.get();
        }
    }

    fn is_empty(&self) -> bool {
        self.responses.iter().all(|count| *count == 0)
    }
}

impl Registry {
    pub(crate) fn new(threads: usize) -> Self {
        let key = Key {
            route: RouteId(OTHER.into()),
            backend: None,
        };
        Self {
            threads,
            all: Mutex::new(All {
                series: HashMap::new(),
                other: Arc::new(series(key, None, threads)),
                gone: Totals::default(),
            }),
        }
    }

    /// The counters of requests that a route answers itself.
    pub(crate) fn of_route(&self, route: &CompiledRoute) -> Option<Arc<Series>> {
        let fill = || self.find(route.id(), None, None);
        route.slot.shared_or_fill(fill)
    }

    /// The counters of requests that go to one arm of a route.
    pub(crate) fn of_arm(
        &self,
        route: &CompiledRoute,
        arm: &CompiledArm,
        backend: &Backend,
    ) -> Option<Arc<Series>> {
        let activation = backend.activation.as_ref();
        let fill = || self.find(route.id(), Some(&arm.backend), activation);
        arm.slot.shared_or_fill(fill)
    }

    fn lock(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Once per compiled route and arm.
    fn find(
        &self,
        route: &RouteId,
        backend: Option<&BackendId>,
        activation: Option<&Activation>,
    ) -> Arc<Series> {
        let key = Key {
            route: route.clone(),
            backend: backend.cloned(),
        };
        let mut all = self.lock();
        if let Some(known) = all.series.get(&key) {
            return Arc::clone(known);
        }
        if all.series.len() >= MOST {
            all.make_room();
        }
        if all.series.len() >= MOST {
            return Arc::clone(&all.other);
        }
        let made = Arc::new(series(key.clone(), activation.cloned(), self.threads));
        all.series.insert(key, Arc::clone(&made));
        made
    }

    pub(super) fn render(&self, out: &mut String) {
        let all = self.lock();
        let mut rows: Vec<_> = all.series.values().cloned().collect();
        let (other, mut gone) = (Arc::clone(&all.other), all.gone.clone());
        drop(all);
        gone.add(&other);
        rows.sort_by(|one, two| one.key.cmp(&two.key));
        let mut by_backend: BTreeMap<&str, Totals> = BTreeMap::new();
        let mut by_revision: BTreeMap<String, Totals> = BTreeMap::new();
        let mut requests = String::new();
        for row in &rows {
            let mut totals = Totals::default();
            totals.add(row);
            let backend = row.key.backend.as_ref().map_or("", |id| &*id.0);
            render_requests(&mut requests, &row.key.route.0, backend, &totals);
            if let Some(activation) = &row.activation {
                by_revision.entry(labels(activation)).or_default().add(row);
            }
            if row.key.backend.is_some() {
                by_backend.entry(backend).or_default().add(row);
            }
        }
        render_requests(&mut requests, OTHER, "", &gone);
        let name = "suimon_gateway_route_requests_total";
        // Writing to a string cannot fail, here and below.
        let _ = writeln!(
            out,
            "# HELP {name} Requests by route, backend and class of the answer's status.\n# TYPE {name} counter\n{requests}"
        );
        let by_backend = by_backend
            .into_iter()
            .map(|(backend, totals)| (format!("backend=\"{}\"", escaped(backend)), totals));
        let help = (
            "suimon_gateway_backend_request_duration_seconds",
            "From the head's arrival to the last byte, by backend.",
        );
        histograms(out, help, by_backend);
        // Knative's names, as OpenTelemetry's exporter for Prometheus writes them.
        let help = (
            "kn_serving_invocation_duration_seconds",
            "The same by revision, the time of a cold start included.",
        );
        histograms(out, help, by_revision.into_iter());
    }
}

impl All {
    /// Sums up what no compiled route counts with any more.
    fn make_room(&mut self) {
        let gone = &mut self.gone;
        self.series.retain(|_, series| {
            let is_used = Arc::strong_count(series) > 1;
            if !is_used {
                gone.add(series);
            }
            is_used
        });
    }
}

fn series(key: Key, activation: Option<Activation>, threads: usize) -> Series {
    Series {
        key,
        activation,
        threads: (0..threads).map(|_| Outcomes::default()).collect(),
    }
}

fn labels(activation: &Activation) -> String {
    format!(
        "k8s_namespace_name=\"{}\",kn_service_name=\"{}\",kn_configuration_name=\"{}\",kn_revision_name=\"{}\"",
        escaped(&activation.revision.namespace),
        escaped(&activation.service),
        escaped(&activation.configuration),
        escaped(&activation.revision.name),
    )
}

fn render_requests(out: &mut String, route: &str, backend: &str, totals: &Totals) {
    let (route, backend) = (escaped(route), escaped(backend));
    for (class, count) in totals.responses.iter().enumerate() {
        if *count > 0 {
            let _ = writeln!(
                out,
                "suimon_gateway_route_requests_total{{route=\"{route}\",backend=\"{backend}\",class=\"{class}xx\"}} {count}"
            );
        }
    }
}

fn histograms(
    out: &mut String,
    (name, help): (&str, &str),
    rows: impl Iterator<Item = (String, Totals)>,
) {
    let mut rows = rows.filter(|(_, totals)| !totals.is_empty()).peekable();
    if rows.peek().is_none() {
        return;
    }
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} histogram");
    for (labels, totals) in rows {
        let mut total = 0;
        for (bound, count) in BUCKETS_MS.iter().zip(&totals.buckets) {
            total += count;
            let le = *bound as f64 / 1_000.0;
            let _ = writeln!(out, "{name}_bucket{{{labels},le=\"{le}\"}} {total}");
        }
        total += totals.buckets[BUCKETS_MS.len()];
        let sum = totals.micros as f64 / 1_000_000.0;
        let _ = writeln!(
            out,
            "{name}_bucket{{{labels},le=\"+Inf\"}} {total}\n{name}_sum{{{labels}}} {sum}\n{name}_count{{{labels}}} {total}"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(number: usize) -> RouteId {
        RouteId(format!("r{number}").into())
    }

    #[test]
    fn the_number_of_sets_has_a_bound_and_no_count_is_lost() {
        let registry = Registry::new(1);
        let mut kept = Vec::new();
        for number in 0..3 * MOST {
            let series = registry.find(&route(number), None, None);
            series.answered(0, 200, Duration::from_millis(3));
            if number % 2 == 0 {
                kept.push(series);
            }
        }
        let mut out = String::new();
        registry.render(&mut out);
        let lines = out
            .lines()
            .filter(|line| line.starts_with("suimon_gateway_route_requests_total{"));
        let counts: Vec<u64> = lines
            .map(|line| {
                line.rsplit(' ')
                    .next()
                    .expect("a count")
                    .parse()
                    .expect("a number")
            })
            .collect();
        assert!(counts.len() <= MOST + 1, "{}", counts.len());
        assert_eq!(counts.iter().sum::<u64>(), 3 * MOST as u64);
    }

    #[test]
    fn a_route_that_is_compiled_again_goes_on_counting() {
        let registry = Registry::new(2);
        let backend = BackendId("shop/cart:80".into());
        for thread in [0, 1, 1] {
            let series = registry.find(&route(1), Some(&backend), None);
            series.answered(thread, 503, Duration::from_millis(30));
        }
        let mut out = String::new();
        registry.render(&mut out);
        for line in [
            "suimon_gateway_route_requests_total{route=\"r1\",backend=\"shop/cart:80\",class=\"5xx\"} 3",
            "suimon_gateway_backend_request_duration_seconds_bucket{backend=\"shop/cart:80\",le=\"0.025\"} 0",
            "suimon_gateway_backend_request_duration_seconds_bucket{backend=\"shop/cart:80\",le=\"0.05\"} 3",
            "suimon_gateway_backend_request_duration_seconds_count{backend=\"shop/cart:80\"} 3",
        ] {
            assert!(out.contains(line), "{line} is not in\n{out}");
        }
        assert!(!out.contains("kn_serving"));
    }
}
