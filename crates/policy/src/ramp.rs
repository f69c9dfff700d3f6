//! A share of the requests that is accepted, which grows in steps: a load ramp.
//!
//! As Aperture's load ramp (its reference, "LoadRamp", and the blueprint "load-ramping"): the share
//! begins with the first step's target, keeps it for that step's duration, and then goes in a
//! straight line from each target to the next over the next one's duration. Once a second it is
//! decided whether it goes on, stays, or begins anew, by how long the requests of the last 30
//! seconds took on average. Without requests nothing is known, and it stays.

use std::time::Duration;

use crate::meter::Meter;

/// What a policy says.
#[derive(Clone, Debug, PartialEq)]
pub struct RampRule {
    /// How long it takes from the target before to this one, and the target in percent.
    pub steps: Vec<(Duration, f64)>,
    /// It goes on, if the drivers let it; otherwise it stays.
    pub is_started: bool,
    /// It is at its beginning, whatever else there is.
    pub is_reset: bool,
    /// One that says so is enough to go on, and one to begin anew, which comes first. Without any
    /// it goes on.
    pub drivers: Vec<DriverRule>,
}

/// What the mean of durations is compared with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DriverRule {
    /// It goes on while the mean is below this.
    pub forward: Option<Duration>,
    /// It begins anew when the mean is above this.
    pub reset: Option<Duration>,
}

/// Between two decisions.
const TICK: Duration = Duration::from_secs(1);
/// Seconds whose requests count.
const WINDOW: usize = 30;

/// The state of one ramp.
#[derive(Clone, Debug)]
pub struct Ramp {
    /// How much of the steps' durations has passed.
    position: Duration,
    /// When it was decided last.
    at: Duration,
    meters: Vec<Meter>,
}

impl Ramp {
    /// At its beginning.
    pub fn new(now: Duration) -> Self {
        Self {
            position: Duration::ZERO,
            at: now,
            meters: Vec::new(),
        }
    }

    /// The share of requests that is accepted now, in percent.
    pub fn percent(&mut self, rule: &RampRule, now: Duration) -> f64 {
        self.advance(rule, now);
        let mut left = self.position;
        let mut from = rule.steps.first().map_or(100.0, |(_, target)| *target);
        for (duration, target) in &rule.steps {
            if left < *duration {
                let part = left.as_secs_f64() / duration.as_secs_f64();
                return from + (target - from) * part;
            }
            left -= *duration;
            from = *target;
        }
        from
    }

    /// A request of this driver that went well has ended.
    pub fn ended(&mut self, rule: &RampRule, now: Duration, driver: usize, took: Duration) {
        self.advance(rule, now);
        if let Some(meter) = self.meters.get_mut(driver) {
            meter.add(took);
        }
    }

    /// When it was asked last.
    pub fn last_asked(&self) -> Duration {
        self.at
    }

    /// Decides for every second that has passed.
    fn advance(&mut self, rule: &RampRule, now: Duration) {
        let new = || Meter::new(WINDOW);
        self.meters.resize_with(rule.drivers.len(), new);
        let end = rule.steps.iter().map(|(duration, _)| *duration);
        let end = end.fold(Duration::ZERO, Duration::saturating_add);
        if rule.is_reset {
            self.position = Duration::ZERO;
        }
        while now >= self.at.saturating_add(TICK) {
            let passed = now.saturating_sub(self.at);
            // Where nothing is known any more, all that is left is one step.
            let is_known = self.meters.iter().any(|meter| meter.mean().is_some());
            let step = if is_known {
                TICK
            } else {
                Duration::from_secs(passed.as_secs())
            };
            self.at = self.at.saturating_add(step);
            self.position = match rule.decide(&self.meters) {
                Verdict::Reset => Duration::ZERO,
                Verdict::Stay => self.position,
                Verdict::Forward => self.position.saturating_add(step),
            };
            for meter in &mut self.meters {
                meter.forget();
            }
        }
        self.position = self.position.min(end);
    }
}

enum Verdict {
    Forward,
    Stay,
    Reset,
}

impl RampRule {
    fn decide(&self, meters: &[Meter]) -> Verdict {
        let means = meters.iter().map(Meter::mean).zip(&self.drivers);
        let known = || means.clone().filter_map(|(mean, rule)| Some((mean?, rule)));
        let is_over = known().any(|(mean, rule)| rule.reset.is_some_and(|most| mean > most));
        let is_under = known().any(|(mean, rule)| rule.forward.is_some_and(|most| mean < most));
        // Who names no threshold to go on below does not hold it back.
        let is_free = self.drivers.iter().all(|rule| rule.forward.is_none());
        match () {
            () if self.is_reset || is_over => Verdict::Reset,
            () if self.is_started && (is_free || is_under) => Verdict::Forward,
            () => Verdict::Stay,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const MS: Duration = Duration::from_millis(1);

    /// The example of the documentation: from 1 % to 100 % within five minutes.
    fn example() -> RampRule {
        RampRule {
            steps: vec![(Duration::ZERO, 1.0), (300 * SECOND, 100.0)],
            is_started: true,
            is_reset: false,
            drivers: vec![DriverRule {
                forward: Some(100 * MS),
                reset: Some(200 * MS),
            }],
        }
    }

    fn timed(steps: &[(u32, f64)]) -> RampRule {
        let steps = steps.iter();
        RampRule {
            steps: steps
                .map(|(time, target)| (*time * SECOND, *target))
                .collect(),
            drivers: Vec::new(),
            ..example()
        }
    }

    /// Serves requests that take so long, one every tenth of a second, for so many seconds.
    fn serve(ramp: &mut Ramp, rule: &RampRule, now: &mut Duration, seconds: u32, took: Duration) {
        for _ in 0..seconds * 10 {
            *now += SECOND / 10;
            ramp.ended(rule, *now, 0, took);
        }
    }

    #[test]
    fn without_drivers_it_follows_the_clock() {
        let rule = timed(&[(10, 5.0), (20, 25.0), (0, 50.0), (50, 100.0)]);
        let mut ramp = Ramp::new(Duration::ZERO);
        let check = |ramp: &mut Ramp, second: u32, expected: f64| {
            let percent = ramp.percent(&rule, second * SECOND);
            assert!((percent - expected).abs() < 1e-9, "{second}: {percent}");
        };
        for (second, expected) in [
            (0, 5.0),
            (9, 5.0),
            (10, 5.0),
            (20, 15.0),
            (29, 24.0),
            // A step without a duration is a jump.
            (30, 50.0),
            (55, 75.0),
            (80, 100.0),
            (100_000, 100.0),
        ] {
            check(&mut ramp, second, expected);
        }
        // Who asks rarely is told the same.
        check(&mut Ramp::new(Duration::ZERO), 55, 75.0);
    }

    #[test]
    fn it_may_go_down() {
        let rule = timed(&[(0, 80.0), (10, 20.0)]);
        let mut ramp = Ramp::new(Duration::ZERO);
        assert!((ramp.percent(&rule, 5 * SECOND) - 50.0).abs() < 1e-9);
        assert!((ramp.percent(&rule, 60 * SECOND) - 20.0).abs() < 1e-9);
    }

    #[test]
    fn it_goes_on_while_requests_are_quick_stays_while_they_are_not_and_falls_back() {
        let (rule, mut now) = (example(), Duration::ZERO);
        let mut ramp = Ramp::new(now);
        // Nobody came: nothing is known.
        now += 60 * SECOND;
        assert!((ramp.percent(&rule, now) - 1.0).abs() < 1e-9);
        serve(&mut ramp, &rule, &mut now, 150, 50 * MS);
        let half = ramp.percent(&rule, now);
        assert!((49.0..=51.0).contains(&half), "{half}");
        // Between both thresholds. The mean of the window follows within its length.
        serve(&mut ramp, &rule, &mut now, 30, 150 * MS);
        let held = ramp.percent(&rule, now);
        serve(&mut ramp, &rule, &mut now, 60, 150 * MS);
        assert!((ramp.percent(&rule, now) - held).abs() < 1e-9);
        serve(&mut ramp, &rule, &mut now, 30, 500 * MS);
        assert!((ramp.percent(&rule, now) - 1.0).abs() < 1e-9);
        // It begins anew as soon as the slow ones have left the window.
        serve(&mut ramp, &rule, &mut now, 340, 10 * MS);
        assert!((ramp.percent(&rule, now) - 100.0).abs() < 1e-9);
    }

    #[test]
    fn when_the_requests_stop_it_stays_once_the_window_is_empty() {
        let (rule, mut now) = (example(), Duration::ZERO);
        let mut ramp = Ramp::new(now);
        serve(&mut ramp, &rule, &mut now, 10, 50 * MS);
        let soon = ramp.percent(&rule, now + 31 * SECOND);
        assert!((13.0..=15.0).contains(&soon), "{soon}");
        assert!((ramp.percent(&rule, now + 3600 * SECOND) - soon).abs() < 1e-9);
    }

    #[test]
    fn it_is_paused_and_begun_anew_by_hand() {
        let mut rule = timed(&[(0, 0.0), (100, 100.0)]);
        let mut ramp = Ramp::new(Duration::ZERO);
        assert!((ramp.percent(&rule, 40 * SECOND) - 40.0).abs() < 1e-9);
        rule.is_started = false;
        assert!((ramp.percent(&rule, 90 * SECOND) - 40.0).abs() < 1e-9);
        rule.is_reset = true;
        assert!(ramp.percent(&rule, 91 * SECOND).abs() < 1e-9);
        (rule.is_started, rule.is_reset) = (true, false);
        assert!((ramp.percent(&rule, 101 * SECOND) - 10.0).abs() < 1e-9);
    }

    #[test]
    fn one_driver_is_enough_to_go_on_and_one_to_begin_anew() {
        let driver = |forward, reset| DriverRule {
            forward: Some(forward * MS),
            reset: Some(reset * MS),
        };
        let rule = RampRule {
            drivers: vec![driver(100, 1000), driver(10, 300)],
            ..example()
        };
        let run = |first: u32, second: u32| {
            let mut ramp = Ramp::new(Duration::ZERO);
            for number in 1..=100_u32 {
                ramp.ended(&rule, number * SECOND, 0, first * MS);
                ramp.ended(&rule, number * SECOND, 1, second * MS);
            }
            ramp.percent(&rule, 100 * SECOND)
        };
        assert!(run(50, 200) > 30.0);
        assert!(run(500, 5) > 30.0);
        assert!((run(500, 200) - 1.0).abs() < 1e-9);
        assert!((run(50, 400) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn a_service_that_grows_slower_with_load_is_ramped_as_far_as_it_can_bear() {
        // A simulation: a hundred requests a second are offered, and what is accepted takes the
        // longer the more it is. Above 40 a second they take more than the first threshold.
        let rule = RampRule {
            steps: vec![(Duration::ZERO, 5.0), (60 * SECOND, 100.0)],
            ..example()
        };
        let mut ramp = Ramp::new(Duration::ZERO);
        let (mut chance, mut now) = (0x2545_f491_u32, Duration::ZERO);
        let mut accepted_last = 0;
        for second in 0..600 {
            let mut accepted = 0;
            for _ in 0..100 {
                now += SECOND / 100;
                chance = chance.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let drawn = f64::from(chance >> 8) / f64::from(1 << 24);
                if drawn * 100.0 < ramp.percent(&rule, now) {
                    accepted += 1;
                    let took = Duration::from_secs_f64(0.002 * f64::from(accepted_last) + 0.02);
                    ramp.ended(&rule, now, 0, took);
                }
            }
            accepted_last = accepted;
            assert!(accepted <= 95, "{accepted} in second {second}");
        }
        let percent = ramp.percent(&rule, now);
        assert!((30.0..=75.0).contains(&percent), "{percent}");
    }
}
