//! The weight of an endpoint that is new, or back: a part of its own that grows over a window.

use std::time::Duration;

use routing::model::SlowStart;

/// What part of its weight an endpoint of this age has.
pub(crate) fn part(rules: &SlowStart, age: Duration) -> f64 {
    if age >= rules.window {
        return 1.0;
    }
    // The first second counts as a whole one, as in Envoy: nothing is not a part.
    let age = age.max(Duration::from_secs(1)).as_secs_f64();
    let grown = (age / rules.window.as_secs_f64()).min(1.0);
    let aggression = if rules.aggression > 0.0 {
        rules.aggression
    } else {
        1.0
    };
    let least = f64::from(rules.min_percent.min(100)) / 100.0;
    grown.powf(1.0 / aggression).max(least)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(aggression: f64) -> SlowStart {
        SlowStart {
            window: Duration::from_secs(100),
            aggression,
            min_percent: 10,
        }
    }

    fn at(rules: &SlowStart, seconds: u64) -> f64 {
        part(rules, Duration::from_secs(seconds))
    }

    #[test]
    fn the_part_grows_as_the_formula_says() {
        let linear = rules(1.0);
        assert_eq!([0, 5, 10].map(|age| at(&linear, age)), [0.1; 3]);
        assert_eq!([25, 50].map(|age| at(&linear, age)), [0.25, 0.5]);
        assert_eq!([100, 1_000].map(|age| at(&linear, age)), [1.0; 2]);
        // 0.25^(1/2), and 0.81^2.
        assert!((at(&rules(2.0), 25) - 0.5).abs() < 1e-9);
        assert!((at(&rules(0.5), 81) - 0.6561).abs() < 1e-9);
        assert_eq!(at(&rules(0.0), 50), 0.5);
    }

    #[test]
    fn no_window_is_no_slow_start() {
        let none = SlowStart {
            window: Duration::ZERO,
            ..rules(1.0)
        };
        assert_eq!(at(&none, 0), 1.0);
    }
}
