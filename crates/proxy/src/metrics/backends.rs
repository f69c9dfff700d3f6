//! What the policies of backends have done, per backend.
//!
//! Only what has happened has a line, and only so many backends have lines of their own: the
//! others are summed under the name `other`, so that the number of series has a bound.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use routing::BackendId;
use scaling::{Cause, Limit, TrafficStats};

use super::text::escaped;

/// Backends with lines of their own.
const MOST: usize = 500;

/// Writes the lines.
pub(super) fn render(out: &mut String, mut all: Vec<(BackendId, TrafficStats)>) {
    all.retain(|(_, stats)| *stats != TrafficStats::default());
    // The same ones at each reading, as long as there are few enough.
    all.sort_by(|(one, _), (other, _)| one.0.cmp(&other.0));
    let mut rows: BTreeMap<&str, TrafficStats> = BTreeMap::new();
    for (number, (id, stats)) in all.iter().enumerate() {
        let name = if number < MOST { &*id.0 } else { "other" };
        add(rows.entry(name).or_default(), stats);
    }
    let ejections = rows.iter().flat_map(|(name, stats)| {
        let causes = Cause::ALL
            .into_iter()
            .map(|cause| (*name, cause.word(), stats.ejections[cause as usize]));
        causes.collect::<Vec<_>>()
    });
    labeled(
        out,
        (
            "suimon_gateway_ejections_total",
            "Endpoints ejected, by cause.",
        ),
        "cause",
        ejections,
    );
    let overflows = rows.iter().flat_map(|(name, stats)| {
        let limits = Limit::ALL
            .into_iter()
            .map(|limit| (*name, limit.label(), stats.overflows[limit as usize]));
        limits.collect::<Vec<_>>()
    });
    labeled(
        out,
        (
            "suimon_gateway_overflows_total",
            "Times that a limit of a backend was reached.",
        ),
        "limit",
        overflows,
    );
    let ejected = rows.iter().map(|(name, stats)| (*name, stats.ejected));
    gauge(
        out,
        (
            "suimon_gateway_endpoints_ejected",
            "Endpoints that are ejected now.",
        ),
        ejected,
    );
    let unhealthy = rows.iter().map(|(name, stats)| (*name, stats.unhealthy));
    gauge(
        out,
        (
            "suimon_gateway_endpoints_unhealthy",
            "Endpoints whose checks fail now.",
        ),
        unhealthy,
    );
}

fn add(row: &mut TrafficStats, stats: &TrafficStats) {
    row.ejected += stats.ejected;
    row.unhealthy += stats.unhealthy;
    for (sum, count) in row.ejections.iter_mut().zip(stats.ejections) {
        *sum += count;
    }
    for (sum, count) in row.overflows.iter_mut().zip(stats.overflows) {
        *sum += count;
    }
}

fn labeled<'r>(
    out: &mut String,
    (name, help): (&str, &str),
    label: &str,
    rows: impl Iterator<Item = (&'r str, &'static str, u64)>,
) {
    let mut rows = rows.filter(|(_, _, count)| *count > 0).peekable();
    if rows.peek().is_none() {
        return;
    }
    // Writing to a string cannot fail.
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} counter");
    for (backend, value, count) in rows {
        let backend = escaped(backend);
        let _ = writeln!(
            out,
            "{name}{{backend=\"{backend}\",{label}=\"{value}\"}} {count}"
        );
    }
}

fn gauge<'r>(
    out: &mut String,
    (name, help): (&str, &str),
    rows: impl Iterator<Item = (&'r str, u64)>,
) {
    let mut rows = rows.peekable();
    if rows.peek().is_none() {
        return;
    }
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge");
    for (backend, count) in rows {
        let _ = writeln!(out, "{name}{{backend=\"{}\"}} {count}", escaped(backend));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_lines_has_a_bound_and_nothing_is_lost() {
        let stats = TrafficStats {
            ejections: [1, 0, 0, 0, 0],
            ..TrafficStats::default()
        };
        let id = |number: usize| BackendId(format!("b{number:04}").into());
        let all = (0..700).map(|number| (id(number), stats.clone()));
        let mut out = String::new();
        render(&mut out, all.collect());
        let name = "suimon_gateway_ejections_total{";
        assert_eq!(
            out.lines().filter(|line| line.starts_with(name)).count(),
            MOST + 1
        );
        assert!(
            out.contains("{backend=\"other\",cause=\"consecutive_5xx\"} 200"),
            "{out}"
        );
        assert!(!out.contains("overflows"));
        let mut quiet = String::new();
        render(&mut quiet, vec![(id(1), TrafficStats::default())]);
        assert!(quiet.is_empty());
    }
}
