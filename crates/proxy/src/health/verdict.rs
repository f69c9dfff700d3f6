//! What a row of checks says about an endpoint.

use routing::model::HealthCheck;

/// Before any check, an endpoint is well.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Verdict {
    is_down: bool,
    is_known: bool,
    /// Checks in a row that say the opposite.
    against: u32,
}

impl Verdict {
    pub(super) fn is_well(self) -> bool {
        !self.is_down
    }

    /// Takes in a check; the verdict, if it has changed.
    pub(super) fn take(&mut self, passes: bool, rules: &HealthCheck) -> Option<bool> {
        let is_first = !std::mem::replace(&mut self.is_known, true);
        if passes == self.is_well() {
            self.against = 0;
            return None;
        }
        self.against += 1;
        let needed = if passes {
            rules.healthy
        } else {
            rules.unhealthy
        };
        if self.against < needed && !is_first {
            return None;
        }
        self.against = 0;
        self.is_down = !passes;
        Some(passes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use routing::model::HealthKind;
    use std::time::Duration;

    #[test]
    fn the_first_check_decides_alone_and_later_ones_in_a_row() {
        let rules = HealthCheck {
            kind: HealthKind::Tcp,
            interval: Duration::from_secs(1),
            unhealthy_interval: None,
            timeout: Duration::from_secs(1),
            unhealthy: 3,
            healthy: 2,
            port: None,
        };
        let run = |checks: &str| -> String {
            let mut verdict = Verdict::default();
            let verdicts = checks.chars().map(|check| {
                verdict.take(check == '+', &rules);
                if verdict.is_well() { '+' } else { '-' }
            });
            verdicts.collect()
        };
        assert_eq!(run("-+-++"), "----+");
        assert_eq!(run("+--+---+"), "++++++--");
    }
}
