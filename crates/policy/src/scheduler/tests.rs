//! What the scheduler's definition says, and simulations that show what it is for.

use super::*;
use std::collections::BTreeMap;

const SECOND: Duration = Duration::from_secs(1);
const TEN: Shares = Shares {
    capacity: 10.0,
    fill: 10.0,
    interval: SECOND,
};

fn ask(workload: &str, priority: f64, flow: u8) -> Ask {
    Ask {
        workload: workload.into(),
        priority,
        tokens: 1.0,
        flow,
    }
}

/// Clients that ask again as soon as they were served.
struct Client {
    ask: Ask,
    served: u64,
    since: Duration,
    waits: Vec<Duration>,
}

/// Runs all clients for a time. Every client is one connection.
fn simulate(shares: &Shares, clients: &mut [Client], length: Duration) {
    let mut scheduler = Scheduler::default();
    let mut holders: HashMap<u64, usize> = HashMap::new();
    let mut now = Duration::ZERO;
    let mut idle: Vec<usize> = (0..clients.len()).collect();
    while now < length {
        for at in std::mem::take(&mut idle) {
            clients[at].since = now;
            match scheduler.offer(shares, now, &clients[at].ask, 1000) {
                Offer::Admitted => {
                    clients[at].served += 1;
                    clients[at].waits.push(Duration::ZERO);
                    // It is served for a moment, so that others have their turn.
                    idle.push(at);
                }
                Offer::Waiting(ticket) => {
                    holders.insert(ticket, at);
                }
                Offer::Full => panic!("nobody is refused"),
            }
        }
        while let Some(ticket) = scheduler.admit(shares, now) {
            let at = holders.remove(&ticket).expect("a ticket that was given");
            clients[at].served += 1;
            let waited = now - clients[at].since;
            clients[at].waits.push(waited);
            idle.push(at);
        }
        now += match idle.is_empty() {
            true => scheduler.next(shares, now).expect("somebody waits"),
            false => Duration::from_micros(100),
        };
    }
}

fn clients(count: usize, ask: &Ask) -> Vec<Client> {
    let client = |_| Client {
        ask: ask.clone(),
        served: 0,
        since: Duration::ZERO,
        waits: Vec::new(),
    };
    (0..count).map(client).collect()
}

fn served(clients: &[Client]) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for client in clients {
        *sums.entry(client.ask.workload.to_string()).or_default() += client.served;
    }
    sums
}

fn median(clients: &[Client], workload: &str) -> Duration {
    let of = clients
        .iter()
        .filter(|client| *client.ask.workload == *workload);
    let mut waits: Vec<_> = of.flat_map(|client| client.waits.clone()).collect();
    waits.sort();
    waits[waits.len() / 2]
}

#[test]
fn ten_connections_each_of_two_priorities_share_the_rate_about_four_to_one() {
    let mut all = clients(10, &ask("guest", 50.0, 0));
    all.extend(clients(10, &ask("subscriber", 200.0, 0)));
    simulate(&TEN, &mut all, 30 * SECOND);
    let sums = served(&all);
    let (guest, subscriber) = (sums["guest"], sums["subscriber"]);
    let total = guest + subscriber;
    // A bucket that was full, and then ten a second.
    assert!((300..=311).contains(&total), "{sums:?}");
    let ratio = subscriber as f64 / guest as f64;
    assert!((3.0..=5.0).contains(&ratio), "{sums:?}");
    let (slow, quick) = (median(&all, "guest"), median(&all, "subscriber"));
    assert!(quick * 2 < slow, "{quick:?} {slow:?}");
}

#[test]
fn backlogged_workloads_get_their_shares_within_five_percent() {
    let mut all = Vec::new();
    for (workload, priority) in [("a", 1.0), ("b", 2.0), ("c", 5.0)] {
        all.extend(clients(40, &ask(workload, priority, 0)));
    }
    let shares = Shares {
        capacity: 1.0,
        fill: 100.0,
        interval: SECOND,
    };
    simulate(&shares, &mut all, 100 * SECOND);
    let sums = served(&all);
    let total: u64 = sums.values().sum();
    for (workload, share) in [("a", 1.0 / 8.0), ("b", 2.0 / 8.0), ("c", 5.0 / 8.0)] {
        let got = sums[workload] as f64 / total as f64;
        assert!((got / share - 1.0).abs() < 0.05, "{workload}: {sums:?}");
    }
}

#[test]
fn flows_of_one_workload_get_the_same_however_many_requests_each_has() {
    let mut all = clients(60, &ask("w", 1.0, 1));
    all.extend(clients(3, &ask("w", 1.0, 2)));
    let shares = Shares {
        capacity: 1.0,
        fill: 100.0,
        interval: SECOND,
    };
    simulate(&shares, &mut all, 60 * SECOND);
    let of = |flow| -> u64 {
        let own = all.iter().filter(|client| client.ask.flow == flow);
        own.map(|client| client.served).sum()
    };
    let (many, few) = (of(1) as f64, of(2) as f64);
    assert!((many / few - 1.0).abs() < 0.05, "{many} {few}");
}

#[test]
fn requests_of_one_flow_go_in_the_order_in_which_they_came() {
    let mut scheduler = Scheduler::default();
    let one = Shares {
        capacity: 1.0,
        fill: 1.0,
        interval: SECOND,
    };
    let request = ask("w", 1.0, 0);
    assert_eq!(
        scheduler.offer(&one, Duration::ZERO, &request, 9),
        Offer::Admitted
    );
    let tickets: Vec<_> = (0..3)
        .map(|_| scheduler.offer(&one, Duration::ZERO, &request, 9))
        .collect();
    let expected = [1, 2, 3].map(Offer::Waiting);
    assert_eq!(tickets, expected);
    assert_eq!(scheduler.admit(&one, SECOND / 2), None);
    assert_eq!(
        scheduler.next(&one, SECOND / 2),
        Some(SECOND / 2 + Duration::from_nanos(1))
    );
    assert!(scheduler.cancel(1));
    assert!(!scheduler.cancel(1));
    assert_eq!(scheduler.admit(&one, SECOND), Some(2));
    assert_eq!(scheduler.admit(&one, SECOND), None);
    assert_eq!(scheduler.admit(&one, 2 * SECOND), Some(3));
    assert_eq!(scheduler.next(&one, 2 * SECOND), None);
    assert!(!scheduler.is_idle(&one, 2 * SECOND));
    assert!(scheduler.is_idle(&one, 3 * SECOND));
}

#[test]
fn no_more_wait_than_allowed_and_a_dear_request_goes_when_the_bucket_is_full() {
    let mut scheduler = Scheduler::default();
    let dear = Ask {
        tokens: 25.0,
        ..ask("w", 1.0, 0)
    };
    assert_eq!(
        scheduler.offer(&TEN, Duration::ZERO, &dear, 1),
        Offer::Admitted
    );
    let plain = ask("w", 1.0, 0);
    assert_eq!(
        scheduler.offer(&TEN, Duration::ZERO, &plain, 1),
        Offer::Waiting(1)
    );
    assert_eq!(
        scheduler.offer(&TEN, Duration::ZERO, &plain, 1),
        Offer::Full
    );
    // 15 tokens of debt and its own.
    assert_eq!(scheduler.admit(&TEN, SECOND * 3 / 2), None);
    assert_eq!(scheduler.admit(&TEN, SECOND * 8 / 5), Some(1));
}

#[test]
fn numbers_that_make_no_sense_do_no_harm() {
    let mut scheduler = Scheduler::default();
    let none = Shares {
        capacity: 0.0,
        fill: 0.0,
        interval: Duration::ZERO,
    };
    for (priority, tokens) in [(f64::NAN, 1.0), (0.0, f64::INFINITY), (-1.0, -1.0)] {
        let request = Ask {
            tokens,
            ..ask("w", priority, 0)
        };
        let _ = scheduler.offer(&none, SECOND, &request, 10);
        let _ = scheduler.next(&none, SECOND);
        let _ = scheduler.admit(&none, SECOND);
    }
}
