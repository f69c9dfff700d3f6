//! Weighted round robin: earliest deadline first.
//!
//! Whoever is picked gets its next turn after the inverse of its weight, so that among any run of
//! picks each has its share, evenly spread. Weights are asked for at each turn, so they may
//! change between two.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::random::Random;

/// The turns of a number of endpoints, by their index.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    turns: BinaryHeap<Turn>,
    now: f64,
    count: u64,
}

#[derive(Debug)]
struct Turn {
    deadline: f64,
    /// Equal deadlines come in the order in which they were given.
    order: u64,
    host: usize,
}

impl Schedule {
    /// Turns of `hosts` endpoints, begun at a point by chance: gateways and threads that start
    /// together must not all send to the same endpoint.
    pub(crate) fn new(
        hosts: usize,
        weight: impl Fn(usize) -> f64,
        random: &mut impl Random,
    ) -> Self {
        let mut schedule = Self::default();
        for host in 0..hosts {
            schedule.add(host, weight(host));
        }
        for _ in 0..random.below(hosts as u64) {
            schedule.next(&weight);
        }
        schedule
    }

    /// Whose turn it is. `None` if there is nobody.
    pub(crate) fn next(&mut self, weight: impl Fn(usize) -> f64) -> Option<usize> {
        let turn = self.turns.pop()?;
        self.now = turn.deadline;
        self.add(turn.host, weight(turn.host));
        Some(turn.host)
    }

    fn add(&mut self, host: usize, weight: f64) {
        // Without a bound, a weight of nothing would never have another turn.
        let pause = 1.0 / weight.max(1e-6);
        self.count += 1;
        self.turns.push(Turn {
            deadline: self.now + pause,
            order: self.count,
            host,
        });
    }
}

impl Ord for Turn {
    /// The heap gives the greatest first.
    fn cmp(&self, other: &Self) -> Ordering {
        let by_deadline = other.deadline.total_cmp(&self.deadline);
        by_deadline.then(other.order.cmp(&self.order))
    }
}

impl PartialOrd for Turn {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Turn {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Turn {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::random::Xorshift;

    fn run(weights: &[f64], picks: usize) -> Vec<usize> {
        let weight = |host: usize| weights[host];
        let mut schedule = Schedule::new(weights.len(), weight, &mut Xorshift::new(1));
        (0..picks).filter_map(|_| schedule.next(weight)).collect()
    }

    #[test]
    fn equal_weights_take_turns() {
        let picks = run(&[1.0, 1.0, 1.0], 9);
        assert!(
            picks.windows(2).all(|pair| pair[1] == (pair[0] + 1) % 3),
            "{picks:?}"
        );
    }

    #[test]
    fn every_run_of_picks_has_the_shares_of_the_weights() {
        let picks = run(&[5.0, 1.0, 2.0], 800);
        for run in picks.chunks(80) {
            let count = |host| run.iter().filter(|picked| **picked == host).count();
            let counts = [count(0), count(1), count(2)];
            assert!((49..=51).contains(&counts[0]), "{counts:?}");
            assert!((9..=11).contains(&counts[1]), "{counts:?}");
        }
        // Evenly: the light one never comes twice in a row.
        assert!(picks.windows(2).all(|pair| pair != [1, 1]));
    }

    #[test]
    fn a_weight_of_nothing_is_picked_last_and_does_not_stop_the_others() {
        assert!(run(&[0.0, 1.0], 1_000).iter().all(|host| *host == 1));
        assert!(run(&[], 3).is_empty());
    }
}
