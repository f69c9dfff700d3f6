//! Access logs: which requests get a line, of which shape, and where it goes.
//!
//! Two logs exist: the gateway's own, of every request, as its settings say; and that of requests
//! to revisions, which may change while the gateway runs. Lines are written by a thread of their
//! own; when it cannot keep up they are dropped and counted, and no request waits.

mod sink;

use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use accesslog::{Entry, Template};
use arc_swap::ArcSwap;
use lifecycle::Tasks;

use sink::Sink;
pub use sink::SinkError;

/// The gateway's own log.
#[derive(Clone, Debug, PartialEq)]
pub struct AccessLog {
    pub template: Template,
    pub destination: Destination,
    pub rule: Rule,
}

/// Where lines go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Destination {
    #[default]
    Stdout,
    /// Appended to, made if it does not exist.
    File(PathBuf),
}

/// Which requests get a line: those that one of the conditions holds for, and a share of the
/// others.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Share of the requests for which no condition holds, `0.0..=1.0`.
    pub sample: f64,
    /// Status from which on an answer has a line.
    pub min_status: Option<u16>,
    /// How long a request that has a line at least took.
    pub slower_than: Option<Duration>,
}

impl Rule {
    /// Every request.
    pub const ALL: Self = Self {
        sample: 1.0,
        min_status: None,
        slower_than: None,
    };

    /// `drawn` is a number in `0.0..1.0`.
    fn holds(&self, status: u16, took: Duration, drawn: f64) -> bool {
        self.min_status.is_some_and(|least| status >= least)
            || self.slower_than.is_some_and(|least| took >= least)
            || drawn < self.sample
    }
}

/// The log of requests to revisions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestLog {
    pub template: Template,
    /// Knative's own probes get lines too.
    pub probes: bool,
}

/// The logs that are in force. Clone freely.
#[derive(Clone, Debug)]
pub struct AccessLogs(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Spares requests the look at the rest.
    is_on: AtomicBool,
    logs: ArcSwap<Logs>,
    own: Option<Sink>,
    stdout: OnceLock<Sink>,
    tasks: Tasks,
}

/// What a request finds when it arrives, and keeps.
#[derive(Debug, Default)]
pub(crate) struct Logs {
    own: Option<AccessLog>,
    revisions: Option<RequestLog>,
}

/// What is known of a request for its line besides the entry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    /// It went to a revision.
    pub(crate) is_revision: bool,
    /// A probe that the gateway answered for a revision.
    pub(crate) is_probe: bool,
    /// A number in `0.0..1.0`.
    pub(crate) drawn: f64,
    /// Its route says which lines are written in place of the gateway's own.
    pub(crate) is_told: bool,
}

impl AccessLogs {
    /// # Errors
    /// [`SinkError`] if the file cannot be opened.
    pub fn start(own: Option<AccessLog>, tasks: &Tasks) -> Result<Self, SinkError> {
        let sink = match &own {
            Some(log) => Some(Sink::start(&log.destination, tasks)?),
            None => None,
        };
        Ok(Self(Arc::new(Shared {
            is_on: AtomicBool::new(own.is_some()),
            logs: ArcSwap::from_pointee(Logs {
                own,
                revisions: None,
            }),
            own: sink,
            stdout: OnceLock::new(),
            tasks: tasks.clone(),
        })))
    }

    /// Logs requests to revisions on standard output from now on, or no more.
    pub fn set_request_log(&self, log: Option<RequestLog>) {
        let own = self.0.logs.load().own.clone();
        if log.is_some() {
            self.open_stdout();
        }
        let is_on = own.is_some() || log.is_some();
        self.0.logs.store(Arc::new(Logs {
            own,
            revisions: log,
        }));
        self.0.is_on.store(is_on, Ordering::Release);
    }

    /// Gets ready for lines on standard output besides the gateway's own.
    pub(crate) fn open_stdout(&self) {
        if self.0.stdout.get().is_some() {
            return;
        }
        match Sink::start(&Destination::Stdout, &self.0.tasks) {
            // Another call may have been first.
            Ok(sink) => drop(self.0.stdout.set(sink)),
            Err(error) => tracing::error!(%error, "requests are not logged on standard output"),
        }
    }

    /// Whether the gateway has a log of its own.
    pub(crate) fn has_own(&self) -> bool {
        self.0.own.is_some()
    }

    /// Lines that were dropped since the start.
    pub fn dropped(&self) -> u64 {
        let sinks = self.0.own.iter().chain(self.0.stdout.get());
        sinks.map(Sink::dropped).sum()
    }

    /// What a request that arrives now is logged by, if by anything.
    pub(crate) fn current(&self) -> Option<Arc<Logs>> {
        let is_on = self.0.is_on.load(Ordering::Acquire);
        is_on.then(|| self.0.logs.load_full())
    }

    /// Writes the lines of a request. The values of `headers` are those of [`Logs::headers`].
    pub(crate) fn write(
        &self,
        logs: &Logs,
        entry: &Entry<'_>,
        headers: &[Vec<String>],
        outcome: Outcome,
    ) {
        let own = logs
            .own
            .as_ref()
            .map_or(0, |log| log.template.headers().len());
        let (own_headers, revision_headers) = headers.split_at(own.min(headers.len()));
        if let (Some(log), Some(sink)) = (&logs.own, &self.0.own)
            && !outcome.is_told
            && log.rule.holds(entry.status, entry.took, outcome.drawn)
        {
            let entry = Entry {
                headers: own_headers,
                ..*entry
            };
            with_line(&log.template, &entry, |line| sink.write(line));
        }
        if let (Some(log), Some(sink)) = (&logs.revisions, self.0.stdout.get())
            && outcome.is_revision
            && (log.probes || !outcome.is_probe)
        {
            let entry = Entry {
                headers: revision_headers,
                ..*entry
            };
            with_line(&log.template, &entry, |line| sink.write(line));
        }
    }

    /// Writes a line that a route asks for: with `template` and the values of its headers on
    /// standard output, or in the shape of the gateway's own log, whose headers come first in
    /// `own`.
    pub(crate) fn write_told(
        &self,
        entry: &Entry<'_>,
        template: Option<(&Template, &[Vec<String>])>,
        own: (Option<&Logs>, &[Vec<String>]),
    ) {
        let (logs, own_headers) = own;
        let log = logs.and_then(|logs| logs.own.as_ref());
        let found = match (template, log) {
            (Some(template), _) => Some((template, self.0.stdout.get())),
            (None, Some(log)) => Some(((&log.template, own_headers), self.0.own.as_ref())),
            (None, None) => None,
        };
        if let Some(((template, headers), Some(sink))) = found {
            let entry = Entry { headers, ..*entry };
            with_line(template, &entry, |line| sink.write(line));
        }
    }
}

impl Logs {
    /// Names of the request's fields that the lines need.
    pub(crate) fn headers(&self) -> impl Iterator<Item = &str> {
        let own = self.own.iter().flat_map(|log| log.template.headers());
        let revisions = self.revisions.iter().flat_map(|log| log.template.headers());
        own.chain(revisions).map(|name| &**name)
    }
}

/// Renders a line where the thread rendered the one before.
fn with_line(template: &Template, entry: &Entry<'_>, write: impl FnOnce(&str)) {
    thread_local! {
        static LINE: RefCell<String> = RefCell::default();
    }
    LINE.with_borrow_mut(|line| {
        line.clear();
        line.shrink_to(LONGEST_KEPT);
        template.render(line, entry);
        write(line);
    });
}

/// Bytes that a thread keeps for its next line.
const LONGEST_KEPT: usize = 4 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_takes_what_it_names_and_a_share_of_the_rest() {
        let rule = Rule {
            sample: 0.25,
            min_status: Some(500),
            slower_than: Some(Duration::from_secs(1)),
        };
        let quick = Duration::from_millis(1);
        assert!(rule.holds(500, quick, 0.9));
        assert!(rule.holds(200, Duration::from_secs(1), 0.9));
        assert!(rule.holds(200, quick, 0.2));
        assert!(!rule.holds(499, quick, 0.25));
        assert!(Rule::ALL.holds(200, quick, 0.999));
    }
}
