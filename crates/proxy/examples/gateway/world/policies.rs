//! A policy of every kind that lets the measured requests pass and asks nobody else.

use std::sync::Arc;
use std::time::Duration;

use routing::model::{
    AccessRule, Authorization, BackendPolicy, Balancer, Breaker, Cors, FilterSet, Filters, Guards,
    HeaderOps, LimitKey, Limits, Origins, OutlierDetection, Predicate, RateLimit, Respond, Retry,
    RetryWhen, Subject, Test, TextTest,
};

const SECOND: Duration = Duration::from_secs(1);

/// Of the backend: a balancer, limits and outlier detection.
pub(super) fn backend() -> BackendPolicy {
    BackendPolicy {
        balancer: Balancer::LeastRequest,
        limits: Limits {
            connections: Some(10_000),
            pending: Some(10_000),
            requests: Some(10_000),
            retries: Some(100),
            ..Limits::default()
        },
        outliers: Some(OutlierDetection {
            consecutive_5xx: 5,
            consecutive_gateway: 5,
            consecutive_local: None,
            interval: 10 * SECOND,
            base_ejection: 30 * SECOND,
            max_ejection: 300 * SECOND,
            max_ejection_percent: 10,
            always_eject_one: false,
            min_health_percent: 0,
            success_rate: None,
            failure_percentage: None,
        }),
        ..BackendPolicy::default()
    }
}

/// Of the route: CORS, retries, headers of answers, and guards.
pub(super) fn filters() -> Filters {
    Filters::from(FilterSet {
        response_headers: HeaderOps {
            set: vec![("x-served-by".into(), "suimon".into())],
            ..HeaderOps::default()
        },
        cors: Some(Arc::new(Cors {
            origins: vec![Origins::Exact("https://app.example".into())],
            methods: vec!["GET".into(), "POST".into()],
            headers: vec!["content-type".into()],
            expose: Vec::new(),
            credentials: false,
            max_age: 60 * SECOND,
        })),
        request_timeout: Some(30 * SECOND),
        retry: Some(Arc::new(Retry {
            attempts: 2,
            statuses: vec![502, 503, 504],
            on_failure: true,
            when: RetryWhen::default(),
            pause: Duration::from_millis(25),
            max_pause: Duration::from_millis(250),
            avoid_tried: true,
        })),
        guards: Some(Arc::new(guards())),
        ..FilterSet::default()
    })
}

fn guards() -> Guards {
    Guards {
        authorization: Some(Arc::new(Authorization {
            deny: vec![rule(
                "deny",
                text(Subject::Path, TextTest::Prefix, "/admin"),
            )],
            allow: Some(vec![rule(
                "allow",
                text(Subject::Method, TextTest::Exact, "GET"),
            )]),
            audit: Vec::new(),
            denied: None,
        })),
        rate_limits: vec![
            limit("all", Vec::new()),
            limit("client", vec![LimitKey::Client]),
        ],
        breakers: vec![Arc::new(Breaker {
            id: "breaker".into(),
            window: 10 * SECOND,
            open_for: 10 * SECOND,
            min_requests: 100,
            slow: None,
            average: None,
            error_percent: Some(50),
            respond: refusal(503),
        })],
        max_body: Some(10 * 1024 * 1024),
        ..Guards::default()
    }
}

fn rule(policy: &str, predicate: Predicate) -> AccessRule {
    AccessRule {
        policy: policy.into(),
        all: vec![vec![vec![predicate]]],
    }
}

fn text(subject: Subject, how: TextTest, value: &str) -> Predicate {
    Predicate {
        subject,
        test: Test::Text {
            how,
            value: value.into(),
            ignore_case: false,
        },
        negate: false,
        missing_is_empty: false,
    }
}

fn limit(id: &str, keys: Vec<LimitKey>) -> Arc<RateLimit> {
    Arc::new(RateLimit {
        id: id.into(),
        when: Vec::new(),
        keys,
        capacity: 10_000_000,
        fill: 10_000_000,
        interval: SECOND,
        per_connection: false,
        respond: refusal(429),
    })
}

fn refusal(status: u16) -> Respond {
    Respond {
        status,
        headers: Vec::new(),
        body: "".into(),
    }
}
