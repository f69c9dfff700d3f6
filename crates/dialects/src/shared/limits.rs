//! Limits and times of a backend that several objects say something about.

use routing::model::{Limits, Timeouts};

/// Own limits, and those of another that are not said.
pub(crate) fn or(own: &Limits, other: &Limits) -> Limits {
    // A budget would be in force instead of the number that is said.
    let budget = other.retry_budget.filter(|_| own.retries.is_none());
    Limits {
        connections: own.connections.or(other.connections),
        pending: own.pending.or(other.pending),
        requests: own.requests.or(other.requests),
        retries: own.retries.or(other.retries),
        connections_per_endpoint: own
            .connections_per_endpoint
            .or(other.connections_per_endpoint),
        retry_budget: own.retry_budget.or(budget),
    }
}

/// The same of times.
pub(crate) fn times_or(own: Timeouts, other: Option<Timeouts>) -> Timeouts {
    let Some(other) = other else { return own };
    Timeouts {
        request: own.request.or(other.request),
        response_start: own.response_start.or(other.response_start),
        idle: own.idle.or(other.idle),
        ends_answer: own.ends_answer,
    }
}

#[cfg(test)]
mod tests {
    use routing::model::RetryBudget;

    use super::*;

    #[test]
    fn a_number_of_retries_is_not_lost_to_the_budget_of_another() {
        let budget = RetryBudget::Active {
            percent: 20,
            least: 3,
        };
        let other = Limits {
            pending: Some(1),
            retries: Some(9),
            retry_budget: Some(budget),
            ..Limits::default()
        };
        let own = Limits {
            retries: Some(2),
            ..Limits::default()
        };
        let expected = Limits {
            pending: Some(1),
            ..own.clone()
        };
        assert_eq!(or(&own, &other), expected);
        assert_eq!(or(&Limits::default(), &other), other);
    }
}
