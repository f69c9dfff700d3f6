//! A revision's measurements under paused time.

use super::*;
use crate::report::{ReportReceiver, reports};

fn revision(name: &str) -> RevisionId {
    RevisionId {
        namespace: "default".into(),
        name: name.into(),
    }
}

/// The stats that wait to be read: average concurrency and requests.
fn stats(receiver: &mut ReportReceiver) -> Vec<(f64, f64)> {
    std::iter::from_fn(|| receiver.try_recv())
        .filter_map(|report| match report {
            Report::Stat {
                average_concurrency,
                requests,
                ..
            } => Some((average_concurrency, requests)),
            Report::Poke { .. }
            | Report::Busy { .. }
            | Report::Open { .. }
            | Report::Drained { .. } => None,
        })
        .collect()
}

async fn pass(milliseconds: u64) {
    tokio::time::advance(Duration::from_millis(milliseconds)).await;
}

#[tokio::test(start_paused = true)]
async fn concurrency_is_averaged_over_time_not_over_requests() {
    let (sender, mut receiver) = reports();
    let collector = Collector::new(sender);
    let meter = collector.meter(revision("a"));
    meter.enter();
    pass(250).await;
    meter.enter(); // two requests for half a second
    pass(500).await;
    meter.leave();
    meter.leave();
    pass(250).await;
    collector.report(PERIOD);
    assert_eq!(stats(&mut receiver), [(1.25, 2.0)]);
}

#[tokio::test(start_paused = true)]
async fn a_long_request_counts_in_every_period_and_an_idle_revision_in_none() {
    let (sender, mut receiver) = reports();
    let collector = Collector::new(sender);
    let meter = collector.meter(revision("a"));
    pass(123_456_789).await;
    meter.enter();
    for _ in 0..3 {
        pass(1000).await;
        collector.report(PERIOD);
    }
    meter.leave();
    pass(1000).await;
    collector.report(PERIOD);
    assert_eq!(stats(&mut receiver), [(1.0, 1.0), (1.0, 0.0), (1.0, 0.0)]);
    assert!(collector.lock().is_empty());
    meter.enter();
    pass(1000).await;
    collector.report(PERIOD);
    assert_eq!(stats(&mut receiver), [(1.0, 1.0)]);
}

/// The pokes that wait to be read: concurrency and requests.
fn pokes(receiver: &mut ReportReceiver) -> Vec<(u32, u32)> {
    std::iter::from_fn(|| receiver.try_recv())
        .filter_map(|report| match report {
            Report::Poke {
                concurrency,
                requests,
                ..
            } => Some((concurrency, requests)),
            Report::Stat { .. }
            | Report::Busy { .. }
            | Report::Open { .. }
            | Report::Drained { .. } => None,
        })
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_burst_is_told_each_time_it_has_doubled_and_the_stat_says_only_the_rest() {
    let (sender, mut receiver) = reports();
    let collector = Collector::new(sender);
    let meter = collector.meter(revision("a"));
    for _ in 0..20 {
        meter.enter();
        meter.poke();
    }
    // 1, 2, 4, 8 and 16 requests, each without those told before.
    assert_eq!(
        pokes(&mut receiver),
        [(1, 1), (1, 1), (2, 2), (4, 4), (8, 8)]
    );
    pass(1000).await;
    collector.report(PERIOD);
    assert_eq!(stats(&mut receiver), [(4.0, 4.0)]);
    // The next period starts anew: those who still wait are told by the first who comes.
    meter.enter();
    meter.poke();
    assert_eq!(pokes(&mut receiver), [(21, 1)]);
    pass(1000).await;
    collector.report(PERIOD);
    assert_eq!(stats(&mut receiver), [(0.0, 0.0)]);
}

#[tokio::test(start_paused = true)]
async fn a_poke_about_a_request_that_ended_soon_makes_no_negative_stat() {
    let (sender, mut receiver) = reports();
    let collector = Collector::new(sender);
    let meter = collector.meter(revision("a"));
    meter.enter();
    meter.poke();
    pass(250).await;
    meter.leave();
    pass(750).await;
    collector.report(PERIOD);
    assert_eq!(pokes(&mut receiver), [(1, 1)]);
    assert_eq!(stats(&mut receiver), []);
    meter.enter();
    meter.poke();
    pass(250).await;
    meter.leave();
    pass(750).await;
    while receiver.try_recv().is_some() {}
    collector.report(PERIOD);
    assert_eq!(stats(&mut receiver), [(0.0, 0.0)]);
}

#[tokio::test(start_paused = true)]
async fn sums_that_wrap_do_not_show() {
    let (sender, mut receiver) = reports();
    let collector = Collector::new(sender);
    let meter = collector.meter(revision("a"));
    // 2^44 µs are 203 days; go there, holding 1,000 requests across the edge.
    pass((1 << SUM_BITS) / 1000 - 1500).await;
    for _ in 0..1000 {
        meter.enter();
    }
    for _ in 0..3 {
        pass(1000).await;
        collector.report(PERIOD);
    }
    assert_eq!(
        stats(&mut receiver),
        [(1000.0, 1000.0), (1000.0, 0.0), (1000.0, 0.0)]
    );
}

#[test]
fn concurrent_requests_are_never_lost_or_counted_negative() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    let _guard = runtime.enter();
    let (sender, mut receiver) = reports();
    let collector = Collector::new(sender);
    let meter = collector.meter(revision("a"));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..20_000 {
                    meter.enter();
                    meter.leave();
                }
            });
        }
        for _ in 0..200 {
            collector.report(PERIOD);
        }
    });
    collector.report(PERIOD);
    collector.report(PERIOD);
    let seen = stats(&mut receiver);
    assert_eq!(
        seen.iter().map(|(_, requests)| requests).sum::<f64>(),
        80_000.0
    );
    assert!(
        seen.iter().all(|(average, _)| *average < 1000.0),
        "{seen:?}"
    );
    assert_eq!(meter.word.load(Ordering::SeqCst) & COUNT_MASK, 0);
}
