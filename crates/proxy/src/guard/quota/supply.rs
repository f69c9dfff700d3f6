//! Where the tokens of a quota come from.

use std::time::Duration;

use policy::{Aimd, AimdRule, Places, Scheduler, Shares};
use routing::model::{Latency, Supply};

/// What is known of the supply.
#[derive(Debug, Default)]
pub(super) struct Stock {
    pub(super) places: Places,
    aimd: Option<Aimd>,
}

impl Stock {
    /// What there is to share now.
    pub(super) fn shares(
        &mut self,
        scheduler: &mut Scheduler,
        supply: &Supply,
        now: Duration,
    ) -> Shares {
        match supply {
            Supply::Bucket {
                capacity,
                fill,
                interval,
            } => Shares {
                capacity: *capacity,
                fill: *fill,
                interval: *interval,
            },
            Supply::Places { most, longest } => {
                let taken = self.places.taken(*longest, now);
                scheduler.set(now, most - taken);
                still(*most)
            }
            Supply::Latency(latency) => match self.aimd(now).rate(&rule(latency), now) {
                Some(rate) => Shares {
                    capacity: rate.max(1.0),
                    fill: rate,
                    interval: Duration::from_secs(1),
                },
                None => {
                    scheduler.set(now, f64::MAX);
                    still(f64::MAX)
                }
            },
        }
    }

    /// A request comes that wants so many tokens.
    pub(super) fn wanted(&mut self, supply: &Supply, now: Duration, tokens: f64) {
        if let Supply::Latency(latency) = supply {
            self.aimd(now).wants(&rule(latency), now, tokens);
        }
    }

    /// A request goes. Its place, if it has one.
    pub(super) fn hold(&mut self, supply: &Supply, now: Duration, tokens: f64) -> Option<u64> {
        matches!(supply, Supply::Places { .. }).then(|| self.places.hold(now, tokens))
    }

    /// A request that was measured has its answer.
    pub(super) fn ended(&mut self, rule: &AimdRule, now: Duration, took: Duration) {
        self.aimd(now).ended(rule, now, took);
    }

    /// How long until there may be more without anybody giving something back.
    pub(super) fn next(&mut self, supply: &Supply, now: Duration) -> Option<Duration> {
        match supply {
            Supply::Bucket { .. } => None,
            Supply::Places { longest, .. } => self.places.next(*longest, now),
            Supply::Latency(_) => Some(self.aimd(now).next(now)),
        }
    }

    /// Whether a new one knows as much.
    pub(super) fn is_idle(&mut self, supply: &Supply, now: Duration) -> bool {
        match supply {
            Supply::Latency(latency) => self.aimd(now).is_idle(&rule(latency), now),
            Supply::Bucket { .. } | Supply::Places { .. } => self.places.is_empty(),
        }
    }

    fn aimd(&mut self, now: Duration) -> &mut Aimd {
        self.aimd.get_or_insert_with(|| Aimd::new(now))
    }
}

/// So many, of which none come back by themselves.
fn still(capacity: f64) -> Shares {
    Shares {
        capacity,
        fill: 0.0,
        interval: Duration::from_secs(1),
    }
}

pub(super) fn rule(latency: &Latency) -> AimdRule {
    AimdRule {
        tolerance: latency.tolerance,
        long_term: latency.long_term,
        slope: latency.slope,
        min_gradient: latency.min_gradient,
        max_gradient: latency.max_gradient,
        increment: latency.increment,
        max: latency.max,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy::{Ask, Offer};

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn while_requests_take_longer_than_usual_fewer_go_and_all_of_them_otherwise() {
        let latency = Latency {
            measured: Some(Vec::new()),
            tolerance: 1.25,
            long_term: 1800 * SECOND,
            slope: -1.0,
            min_gradient: 0.1,
            max_gradient: 1.0,
            increment: 0.025,
            max: 2.0,
        };
        let supply = Supply::Latency(latency.clone());
        let (mut stock, mut scheduler) = (Stock::default(), Scheduler::default());
        let ask = Ask {
            workload: "w".into(),
            priority: 1.0,
            tokens: 1.0,
            flow: 0,
        };
        // A hundred a second, nobody waits: how many go within this second.
        let mut second = |at: u32, took: Duration| {
            let mut admitted = 0;
            for part in 0..100 {
                let now = at * SECOND + part * SECOND / 100;
                stock.wanted(&supply, now, 1.0);
                let shares = stock.shares(&mut scheduler, &supply, now);
                if scheduler.offer(&shares, now, &ask, 0) == Offer::Admitted {
                    admitted += 1;
                    stock.ended(&rule(&latency), now, took);
                }
            }
            admitted
        };
        let quick = Duration::from_millis(10);
        assert!((0..120).all(|at| second(at, quick) == 100));
        let slow = (120..150).map(|at| second(at, 20 * quick)).last();
        assert!(slow < Some(50), "{slow:?}");
        let again = (150..1500).map(|at| second(at, quick)).last();
        assert_eq!(again, Some(100));
    }
}
