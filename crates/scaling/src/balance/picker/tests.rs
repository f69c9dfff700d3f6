//! Simulations: who gets how much, with requests that take time.

use std::cell::Cell;
use std::collections::BTreeSet;

use super::*;
use crate::balance::hash::hash;
use crate::balance::random::Xorshift;

struct Fake {
    number: usize,
    weight: u32,
    part: f64,
    load: Cell<u64>,
}

impl Host for Fake {
    fn weight(&self) -> u32 {
        self.weight
    }

    fn part(&self, _: u64) -> f64 {
        self.part
    }

    fn load(&self) -> u64 {
        self.load.get()
    }

    fn address(&self) -> String {
        format!("10.0.0.{}:80", self.number)
    }
}

fn hosts(weights: &[u32]) -> Vec<Fake> {
    let fake = |(number, weight): (usize, &u32)| Fake {
        number,
        weight: *weight,
        part: 1.0,
        load: Cell::new(0),
    };
    weights.iter().enumerate().map(fake).collect()
}

/// Sends 20,000 requests of which `at_once` are on their way, each as long as its host's `times`;
/// the share of each host and the most that one had at once.
fn run(balancer: &Balancer, hosts: &[Fake], at_once: usize, times: &[u64]) -> (Vec<f64>, u64) {
    const REQUESTS: u64 = 20_000;
    let mut random = Xorshift::new(42);
    let ramps = hosts.iter().any(|host| host.part < 1.0);
    let picker = Picker::new(balancer, hosts, ramps, &mut draw(&mut random));
    let (mut flying, mut counts, mut most) = (BTreeSet::new(), vec![0_u64; hosts.len()], 0);
    let mut now = 0;
    for request in 0..REQUESTS {
        while flying.len() >= at_once {
            let (end, _, host) = flying.pop_first().expect("requests are on their way");
            let host: &Fake = &hosts[host];
            host.load.set(host.load.get() - 1);
            now = end;
        }
        let host = picker
            .pick(hosts, &mut draw(&mut random), Some)
            .expect("a host");
        hosts[host].load.set(hosts[host].load.get() + 1);
        most = most.max(hosts[host].load.get());
        counts[host] += 1;
        flying.insert((now + times[host], request, host));
    }
    let share = |count| count as f64 / REQUESTS as f64;
    (counts.into_iter().map(share).collect(), most)
}

fn draw(random: &mut Xorshift) -> Draw<'_, Xorshift> {
    Draw {
        hash: None,
        now: 0,
        random,
    }
}

fn assert_shares(got: &[f64], expected: &[f64], within: f64) {
    let is_near = |(got, expected): (&f64, &f64)| (got - expected).abs() <= expected * within;
    assert!(
        got.iter().zip(expected).all(is_near),
        "{got:?} is not {expected:?}"
    );
}

#[test]
fn weights_are_kept_by_every_balancer_that_knows_them() {
    let weighted = [1, 3, 6];
    for balancer in [
        Balancer::RoundRobin,
        Balancer::LeastRequest,
        Balancer::Random,
        Balancer::Maglev { size: 65_537 },
        Balancer::RingHash {
            min: 65_536,
            max: 1 << 20,
        },
    ] {
        let (shares, _) = run(&balancer, &hosts(&weighted), 1, &[10; 3]);
        assert_shares(&shares, &[0.1, 0.3, 0.6], 0.05);
        let (shares, _) = run(&balancer, &hosts(&[2; 4]), 1, &[10; 4]);
        assert_shares(&shares, &[0.25; 4], 0.05);
    }
}

#[test]
fn the_fewest_requests_go_where_requests_take_longest() {
    let times = [10, 10, 10, 40];
    let (shares, most) = run(&Balancer::LeastRequest, &hosts(&[1; 4]), 32, &times);
    assert!(shares[3] < 0.15, "{shares:?}");
    assert!(most <= 16, "{most} at once");
    // Turns do not look: the slow one piles them up.
    let (shares, piled) = run(&Balancer::RoundRobin, &hosts(&[1; 4]), 32, &times);
    assert_shares(&shares, &[0.25; 4], 0.01);
    assert!(
        piled > most,
        "{piled} at once with turns, {most} with the fewest"
    );
}

#[test]
fn two_draws_level_what_one_does_not() {
    let even = [10; 16];
    let (_, least) = run(&Balancer::LeastRequest, &hosts(&[1; 16]), 64, &even);
    let (_, random) = run(&Balancer::Random, &hosts(&[1; 16]), 64, &even);
    assert!(least <= 8 && random > least, "{least} and {random} at once");
}

#[test]
fn a_new_endpoint_gets_the_part_that_it_has_grown_to() {
    for balancer in [Balancer::RoundRobin, Balancer::LeastRequest] {
        let mut hosts = hosts(&[1, 1, 1]);
        hosts[2].part = 0.1;
        let (shares, _) = run(&balancer, &hosts, 1, &[10; 3]);
        assert_shares(&shares, &[1.0 / 2.1, 1.0 / 2.1, 0.1 / 2.1], 0.05);
    }
}

#[test]
fn a_key_stays_with_its_endpoint_and_goes_to_the_next_if_that_refuses() {
    let hosts = hosts(&[1; 5]);
    for balancer in [
        Balancer::Maglev { size: 65_537 },
        Balancer::RingHash {
            min: 1024,
            max: 1 << 20,
        },
    ] {
        let mut random = Xorshift::new(3);
        let mut draw = Draw {
            hash: Some(hash(b"somebody")),
            now: 0,
            random: &mut random,
        };
        let picker = Picker::new(&balancer, &hosts, false, &mut draw);
        let first = picker.pick(&hosts, &mut draw, Some).expect("a host");
        assert!((0..9).all(|_| picker.pick(&hosts, &mut draw, Some) == Some(first)));
        let mut proposed = Vec::new();
        let second = picker.pick(&hosts, &mut draw, |at| {
            proposed.push(at);
            (at != first).then_some(at)
        });
        assert_eq!(proposed, [first, second.expect("another host")]);
        let none: Option<usize> = picker.pick(&hosts, &mut draw, |_| None);
        assert!(none.is_none());
    }
}

#[test]
fn nobody_is_picked_where_nobody_is() {
    for balancer in [
        Balancer::LeastRequest,
        Balancer::RoundRobin,
        Balancer::Random,
        Balancer::Maglev { size: 11 },
        Balancer::RingHash { min: 9, max: 9 },
    ] {
        let mut random = Xorshift::new(3);
        let mut draw = Draw {
            hash: Some(1),
            now: 0,
            random: &mut random,
        };
        let picker = Picker::new(&balancer, &hosts(&[]), false, &mut draw);
        assert_eq!(picker.pick(&hosts(&[]), &mut draw, Some), None);
    }
}
