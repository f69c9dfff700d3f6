//! What the API server counts, under the names that kube-apiserver has: dashboards look for them.
//!
//! A row per kind of request, made when the first one comes. The number of rows is bounded: beyond
//! it requests are counted under the resource `other`.

mod process;
mod text;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::Method;

use crate::crud::Call;
use crate::store::Store;
use crate::types::ResourceType;
pub(crate) use text::CONTENT_TYPE;

/// Rows of requests, and of watched kinds, at most.
const MOST_ROWS: usize = 2_000;
/// kube-apiserver's bounds of the duration buckets, in milliseconds.
const BUCKETS_MS: [u64; 23] = [
    5, 25, 50, 100, 200, 400, 600, 800, 1_000, 1_250, 1_500, 2_000, 3_000, 4_000, 5_000, 6_000,
    8_000, 10_000, 15_000, 20_000, 30_000, 45_000, 60_000,
];

/// All counts of a server.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    requests: Mutex<BTreeMap<About, Requests>>,
    /// Open watches and streams.
    long_running: Mutex<BTreeMap<About, Arc<AtomicI64>>>,
    /// By group, version and kind.
    watch_events: Mutex<BTreeMap<[String; 3], Arc<AtomicU64>>>,
}

/// Requests of one kind.
#[derive(Debug, Default)]
struct Requests {
    by_code: BTreeMap<u16, u64>,
    buckets: [u64; BUCKETS_MS.len()],
    count: u64,
    micros: u64,
}

/// What a request is about, in the words of the labels.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct About {
    verb: &'static str,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    scope: &'static str,
    dry_run: bool,
}

/// Counts a watch or a stream until it is dropped.
#[derive(Debug)]
pub(crate) struct LongRunning(Arc<AtomicI64>);

impl Drop for LongRunning {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Subresources whose requests are connections into a pod, a Service or a node.
const CONNECTED: &[&str] = &["attach", "exec", "portforward", "proxy"];

impl About {
    /// A request about a resource.
    pub(crate) fn call(call: &Call, method: &Method, apply: bool) -> Self {
        let collection = call.name.is_empty();
        let verb = match method.as_str() {
            _ if CONNECTED.contains(&call.subresource.as_str()) => "CONNECT",
            "GET" | "HEAD" if call.options.watch => "WATCH",
            "GET" | "HEAD" if collection => "LIST",
            "GET" | "HEAD" => "GET",
            "POST" => "POST",
            "PUT" => "PUT",
            "PATCH" if apply => "APPLY",
            "PATCH" => "PATCH",
            "DELETE" if collection => "DELETECOLLECTION",
            "DELETE" => "DELETE",
            _ => "other",
        };
        // Only names of the type table: what clients make up is no label.
        let known = call.kind.subresources.others.iter();
        let mut known = known.map(|(name, _)| *name).chain(["status", "scale"]);
        let subresource = known.find(|name| *name == call.subresource);
        Self {
            verb,
            group: call.kind.group.clone(),
            version: call.kind.version.clone(),
            resource: call.kind.plural.clone(),
            subresource: subresource.unwrap_or_default().to_owned(),
            scope: match (collection, call.namespace.is_empty()) {
                (false, _) => "resource",
                (true, false) => "namespace",
                (true, true) => "cluster",
            },
            dry_run: call.options.dry_run,
        }
    }

    /// A request about anything else: discovery, health, documents.
    pub(crate) fn path(method: &Method) -> Self {
        Self {
            verb: match method.as_str() {
                "GET" | "HEAD" => "GET",
                "POST" => "POST",
                _ => "other",
            },
            ..Self::default()
        }
    }

    fn labels(&self) -> String {
        format!(
            "component=\"apiserver\",dry_run=\"{}\",{}",
            if self.dry_run { "All" } else { "" },
            self.long_labels()
        )
    }

    /// The labels of long-running requests.
    fn long_labels(&self) -> String {
        let Self {
            verb,
            group,
            version,
            resource,
            subresource,
            scope,
            ..
        } = self;
        format!(
            "group=\"{group}\",resource=\"{resource}\",scope=\"{scope}\",subresource=\"{subresource}\",verb=\"{verb}\",version=\"{version}\""
        )
    }

    /// The row of a table that it is counted in.
    fn row<V>(&self, table: &BTreeMap<Self, V>) -> Self {
        if table.len() >= MOST_ROWS && !table.contains_key(self) {
            return self.other();
        }
        self.clone()
    }

    /// The same, where there are too many.
    fn other(&self) -> Self {
        Self {
            verb: self.verb,
            resource: "other".to_owned(),
            scope: self.scope,
            ..Self::default()
        }
    }
}

impl Metrics {
    /// A request was answered; `took` is `None` where the answer goes on for as long as it likes.
    pub(crate) fn answered(&self, about: &About, code: u16, took: Option<Duration>) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        // A row that is there needs no copy of its key.
        let row = match requests.get_mut(about) {
            Some(row) => row,
            None => {
                let key = about.row(&requests);
                requests.entry(key).or_default()
            }
        };
        *row.by_code.entry(code).or_default() += 1;
        let Some(took) = took else { return };
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        row.count += 1;
        row.micros = row.micros.saturating_add(micros);
        let bucket = BUCKETS_MS.iter().position(|bound| micros <= bound * 1_000);
        if let Some(bucket) = bucket {
            row.buckets[bucket] += 1;
        }
    }

    /// A watch or a stream begins.
    pub(crate) fn begin(&self, about: &About) -> LongRunning {
        let mut all = self
            .long_running
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // Not among these labels.
        let about = About {
            dry_run: false,
            ..about.clone()
        };
        let key = about.row(&all);
        let count = Arc::clone(all.entry(key).or_default());
        count.fetch_add(1, Ordering::Relaxed);
        LongRunning(count)
    }

    /// Where a watch of this kind counts what it sends.
    pub(crate) fn watch_events(&self, kind: &ResourceType) -> Arc<AtomicU64> {
        let mut all = self
            .watch_events
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut labels = [kind.group.clone(), kind.kind.clone(), kind.version.clone()];
        if all.len() >= MOST_ROWS && !all.contains_key(&labels) {
            labels = [String::new(), "other".to_owned(), String::new()];
        }
        Arc::clone(all.entry(labels).or_default())
    }

    /// Everything in the Prometheus text format.
    pub(crate) fn render(&self, store: &Store, inflight: (usize, usize)) -> String {
        let mut out = text::Text::default();
        self.render_requests(&mut out);
        out.head(
            "apiserver_current_inflight_requests",
            "Requests being served now, by kind.",
            "gauge",
        );
        for (kind, count) in [("readOnly", inflight.0), ("mutating", inflight.1)] {
            let labels = format!("request_kind=\"{kind}\"");
            out.line("apiserver_current_inflight_requests", &labels, count);
        }
        self.render_watches(&mut out);
        render_store(&mut out, store);
        process::render(&mut out);
        out.finish()
    }

    fn render_requests(&self, out: &mut text::Text) {
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let name = "apiserver_request_total";
        out.head(
            name,
            "Requests answered, by kind and status code.",
            "counter",
        );
        for (about, row) in requests.iter() {
            let labels = about.labels();
            for (code, count) in &row.by_code {
                out.line(name, &format!("code=\"{code}\",{labels}"), count);
            }
        }
        let name = "apiserver_request_duration_seconds";
        out.head(
            name,
            "Time from a request's head to its answer's, by kind.",
            "histogram",
        );
        for (about, row) in requests.iter().filter(|(_, row)| row.count > 0) {
            let labels = about.labels();
            let bucket = format!("{name}_bucket");
            let mut sum = 0;
            for (bound, count) in BUCKETS_MS.iter().zip(row.buckets) {
                sum += count;
                let bound = text::seconds(bound * 1_000);
                out.line(&bucket, &format!("{labels},le=\"{bound}\""), sum);
            }
            out.line(&bucket, &format!("{labels},le=\"+Inf\""), row.count);
            out.line(&format!("{name}_sum"), &labels, text::seconds(row.micros));
            out.line(&format!("{name}_count"), &labels, row.count);
        }
    }

    fn render_watches(&self, out: &mut text::Text) {
        let name = "apiserver_longrunning_requests";
        out.head(name, "Watches and streams that are open now.", "gauge");
        let open = self
            .long_running
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for (about, count) in open.iter() {
            let labels = format!("component=\"apiserver\",{}", about.long_labels());
            out.line(name, &labels, count.load(Ordering::Relaxed));
        }
        let name = "apiserver_watch_events_total";
        out.head(name, "Events sent to watching clients.", "counter");
        let events = self
            .watch_events
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for ([group, kind, version], count) in events.iter() {
            let labels = format!("group=\"{group}\",kind=\"{kind}\",version=\"{version}\"");
            out.line(name, &labels, count.load(Ordering::Relaxed));
        }
    }
}

fn render_store(out: &mut text::Text, store: &Store) {
    let counts = store.counts();
    let name = "apiserver_storage_objects";
    out.head(name, "Stored objects, by resource.", "gauge");
    for (resource, count) in counts.iter().take(MOST_ROWS) {
        out.line(name, &format!("resource=\"{resource}\""), count);
    }
    let name = "apiserver_resource_objects";
    out.head(name, "Stored objects, by group and resource.", "gauge");
    for (resource, count) in counts.iter().take(MOST_ROWS) {
        let (resource, group) = resource.split_once('.').unwrap_or((&**resource, ""));
        out.line(
            name,
            &format!("group=\"{group}\",resource=\"{resource}\""),
            count,
        );
    }
    if let Some(bytes) = store.file_bytes() {
        let name = "apiserver_storage_size_bytes";
        out.head(name, "Size of the store's file.", "gauge");
        out.line(name, "storage_cluster_id=\"suimon\"", bytes);
    }
    let (held, most) = store.room();
    let name = "suimon_apiserver_object_bytes";
    out.head(name, "Bytes that objects take in memory.", "gauge");
    out.line(name, "", held);
    if most < usize::MAX {
        let name = "suimon_apiserver_object_bytes_limit";
        out.head(name, "Bytes that objects may take in memory.", "gauge");
        out.line(name, "", most);
    }
    let name = "apiserver_storage_revision";
    out.head(name, "Newest revision of the store.", "gauge");
    out.line(name, "", store.revision());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Limits;

    fn about(resource: &str) -> About {
        About {
            verb: "GET",
            version: "v1".to_owned(),
            resource: resource.to_owned(),
            scope: "resource",
            ..About::default()
        }
    }

    fn lines(metrics: &Metrics, start: &str) -> Vec<String> {
        let text = metrics.render(&Store::in_memory(Limits::standard()), (1, 2));
        let lines = text.lines().filter(|line| line.starts_with(start));
        lines.map(str::to_owned).collect()
    }

    #[test]
    fn requests_are_counted_by_kind_and_code_and_timed() {
        let metrics = Metrics::default();
        let took = Some(Duration::from_millis(30));
        metrics.answered(&about("pods"), 200, took);
        metrics.answered(&about("pods"), 404, Some(Duration::from_secs(90)));
        let labels = "component=\"apiserver\",dry_run=\"\",group=\"\",resource=\"pods\",scope=\"resource\",subresource=\"\",verb=\"GET\",version=\"v1\"";
        assert_eq!(
            lines(&metrics, "apiserver_request_total{"),
            [
                format!("apiserver_request_total{{code=\"200\",{labels}}} 1"),
                format!("apiserver_request_total{{code=\"404\",{labels}}} 1"),
            ]
        );
        let buckets = lines(&metrics, "apiserver_request_duration_seconds_bucket{");
        let at = |bound: &str| {
            let le = format!("le=\"{bound}\"");
            let line = buckets.iter().find(|line| line.contains(&le));
            line.and_then(|line| line.rsplit(' ').next())
                .expect("a bucket")
        };
        assert_eq!(
            (at("0.025"), at("0.05"), at("60"), at("+Inf")),
            ("0", "1", "1", "2")
        );
        let sum = lines(&metrics, "apiserver_request_duration_seconds_sum{");
        assert!(sum[0].ends_with(" 90.03"), "{sum:?}");
    }

    #[test]
    fn the_number_of_rows_has_a_bound_and_nothing_is_lost() {
        let metrics = Metrics::default();
        for number in 0..MOST_ROWS + 7 {
            metrics.answered(&about(&format!("r{number}")), 200, None);
        }
        let lines = lines(&metrics, "apiserver_request_total{");
        assert_eq!(lines.len(), MOST_ROWS + 1);
        let other = lines.iter().find(|line| line.contains("\"other\""));
        assert!(other.is_some_and(|line| line.ends_with(" 7")), "{other:?}");
    }

    #[test]
    fn what_runs_long_is_counted_until_it_ends() {
        let metrics = Metrics::default();
        let open = metrics.begin(&about("pods"));
        let value = |metrics: &Metrics| {
            let line = lines(metrics, "apiserver_longrunning_requests{").concat();
            line.rsplit(' ').next().map(str::to_owned)
        };
        assert_eq!(value(&metrics).as_deref(), Some("1"));
        drop(open);
        assert_eq!(value(&metrics).as_deref(), Some("0"));
    }
}
