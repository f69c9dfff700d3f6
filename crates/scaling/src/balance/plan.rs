//! Who may get requests now: the endpoints that are well, split by priority and locality.
//!
//! Pure: health in, shares of the traffic out. Made anew whenever an endpoint's health changes;
//! between two changes a request only draws a share.

use std::collections::BTreeMap;

use super::priority::{Level, loads};

/// An endpoint as far as the split of traffic goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    /// Its place in the list of endpoints.
    pub(crate) host: usize,
    pub(crate) priority: usize,
    pub(crate) group: usize,
    pub(crate) is_healthy: bool,
}

/// What a policy says about the split.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    /// In percent.
    pub(crate) overprovisioning: u32,
    /// In percent; 0 is never.
    pub(crate) panic_threshold: u32,
    /// Weights of the groups; empty if there is one group.
    pub(crate) groups: Vec<u32>,
}

/// Endpoints that share a part of the traffic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    /// Relative to the other shares; never 0.
    pub(crate) weight: u64,
    pub(crate) hosts: Vec<usize>,
}

/// Weights are whole numbers of this size per percent.
const UNIT: f64 = 1e6;

/// Splits the traffic. Empty if nobody may get any.
pub(crate) fn shares(candidates: &[Candidate], rules: &Rules) -> Vec<Share> {
    let mut levels: BTreeMap<usize, BTreeMap<usize, Group>> = BTreeMap::new();
    for candidate in candidates {
        let groups = levels.entry(candidate.priority).or_default();
        groups.entry(candidate.group).or_default().add(candidate);
    }
    let totals: Vec<_> = levels
        .values()
        .map(|groups| {
            groups.values().fold(Level::default(), |sum, group| Level {
                healthy: sum.healthy + group.healthy.len() as u32,
                total: sum.total + group.all.len() as u32,
            })
        })
        .collect();
    let loads = loads(&totals, rules.overprovisioning, rules.panic_threshold);
    let mut shares = Vec::new();
    for (groups, load) in levels.into_values().zip(loads) {
        let weights: Vec<_> = groups
            .iter()
            .map(|(number, group)| group.weight(*number, load.panics, rules))
            .collect();
        let sum: f64 = weights.iter().sum();
        for (group, weight) in groups.into_values().zip(weights) {
            let weight = (f64::from(load.percent) * UNIT * weight / sum) as u64;
            if weight > 0 {
                let hosts = if load.panics {
                    group.all
                } else {
                    group.healthy
                };
                shares.push(Share { weight, hosts });
            }
        }
    }
    shares
}

#[derive(Debug, Default)]
struct Group {
    all: Vec<usize>,
    healthy: Vec<usize>,
}

impl Group {
    fn add(&mut self, candidate: &Candidate) {
        self.all.push(candidate.host);
        if candidate.is_healthy {
            self.healthy.push(candidate.host);
        }
    }

    /// A group's weight falls once fewer than its overprovisioned share is healthy, and traffic
    /// goes to the other groups.
    fn weight(&self, number: usize, panics: bool, rules: &Rules) -> f64 {
        let own = rules.groups.get(number).copied().unwrap_or(1);
        let healthy = if panics {
            self.all.len()
        } else {
            self.healthy.len()
        };
        let part =
            f64::from(rules.overprovisioning) / 100.0 * healthy as f64 / self.all.len() as f64;
        f64::from(own) * part.min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(groups: &[u32], panic_threshold: u32) -> Rules {
        Rules {
            overprovisioning: 140,
            panic_threshold,
            groups: groups.to_vec(),
        }
    }

    /// Endpoints per (priority, group): how many there are, and how many of them are healthy.
    fn candidates(sets: &[(usize, usize, usize, usize)]) -> Vec<Candidate> {
        let mut all = Vec::new();
        for (priority, group, total, healthy) in sets {
            for number in 0..*total {
                all.push(Candidate {
                    host: all.len(),
                    priority: *priority,
                    group: *group,
                    is_healthy: number < *healthy,
                });
            }
        }
        all
    }

    /// Rounded percents and numbers of endpoints.
    fn split(sets: &[(usize, usize, usize, usize)], rules: &Rules) -> Vec<(u64, usize)> {
        let shares = shares(&candidates(sets), rules);
        let sum: u64 = shares.iter().map(|share| share.weight).sum();
        let percent = |weight| (weight * 100 + sum / 2) / sum;
        let parts = shares
            .iter()
            .map(|share| (percent(share.weight), share.hosts.len()));
        parts.collect()
    }

    #[test]
    fn priorities_need_no_numbers_without_gaps() {
        let none = rules(&[], 0);
        assert_eq!(
            split(&[(0, 0, 4, 2), (3, 0, 4, 4)], &none),
            [(70, 2), (30, 4)]
        );
        assert_eq!(split(&[(2, 0, 4, 4), (5, 0, 4, 4)], &none), [(100, 4)]);
        assert_eq!(split(&[(0, 0, 4, 0), (1, 0, 2, 1)], &none), [(100, 1)]);
    }

    #[test]
    fn nobody_well_is_nobody_unless_it_panics() {
        assert!(shares(&candidates(&[(0, 0, 3, 0)]), &rules(&[], 0)).is_empty());
        assert!(shares(&[], &rules(&[], 50)).is_empty());
        assert_eq!(split(&[(0, 0, 3, 0)], &rules(&[], 1)), [(100, 3)]);
        assert_eq!(split(&[(0, 0, 100, 1)], &rules(&[], 0)), [(100, 1)]);
    }

    #[test]
    fn localities_share_by_weight_and_by_what_is_left_of_them() {
        let rules = rules(&[80, 20], 0);
        assert_eq!(
            split(&[(0, 0, 4, 4), (0, 1, 9, 9)], &rules),
            [(80, 4), (20, 9)]
        );
        // 80 × 0.7 = 56 beside 20.
        assert_eq!(
            split(&[(0, 0, 4, 2), (0, 1, 9, 9)], &rules),
            [(74, 2), (26, 9)]
        );
        assert_eq!(split(&[(0, 0, 4, 0), (0, 1, 9, 9)], &rules), [(100, 9)]);
    }
}
