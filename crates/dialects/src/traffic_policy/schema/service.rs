//! Sections for Services.

use serde_json::json;

use super::{Named, described, flag, list, object, one_of, percent, text, time, whole};

pub(super) fn of_services() -> Vec<Named> {
    let balancers = ["LeastRequest", "RoundRobin", "Random", "RingHash", "Maglev"];
    let cookie = vec![
        ("name", text("")),
        ("path", text("")),
        ("lifetime", time("")),
    ];
    let key = vec![
        ("client", flag("")),
        ("header", text("")),
        ("query", text("")),
        ("cookie", object("", cookie)),
    ];
    let balancer = vec![
        ("type", one_of("", &balancers)),
        (
            "hash",
            list("The first that a request has.", object("", key)),
        ),
        (
            "minRingSize",
            whole("Points on the ring, at least; 1024.", 1),
        ),
        ("maxRingSize", whole("At most; 8388608.", 1)),
        ("tableSize", whole("Of Maglev, a prime; 65537.", 2)),
    ];
    let start = vec![
        ("window", time("")),
        (
            "aggression",
            described(json!({"type": "number", "minimum": 1}), ""),
        ),
        ("minPercent", percent("")),
    ];
    let ejection = vec![
        ("consecutive5xx", whole("5.", 0)),
        ("consecutiveGatewayErrors", whole("", 0)),
        ("consecutiveLocalFailures", whole("", 0)),
        ("interval", time("10s.")),
        ("baseEjection", time("30s.")),
        ("maxEjection", time("300s.")),
        ("maxEjectedPercent", percent("10.")),
        ("minHealthyPercent", percent("")),
        ("alwaysEjectOne", flag("Whatever the percentage is; true.")),
        (
            "successRate",
            object("Far below the mean of all.", success_rate()),
        ),
        (
            "failurePercentage",
            object("Failing more often than this.", failure_percentage()),
        ),
    ];
    let probes = vec![
        ("time", time("Silence before the first probe.")),
        ("interval", time("Between two.")),
        ("probes", whole("Without an answer, they end it.", 1)),
    ];
    let connections = vec![
        ("max", whole("", 0)),
        ("maxPerEndpoint", whole("", 0)),
        ("maxPending", whole("", 0)),
        ("maxRequests", whole("", 0)),
        ("maxRetries", whole("", 0)),
        ("maxRequestsPerConnection", whole("", 0)),
        ("connectTimeout", time("")),
        ("idleTimeout", time("")),
        (
            "tcpKeepAlive",
            object("How silent connections are probed.", probes),
        ),
    ];
    let upstream = vec![
        ("request", time("The whole request.")),
        ("responseStart", time("Until an answer begins.")),
        ("idle", time("The longest silence while it flows.")),
    ];
    vec![
        (
            "upstreamTimeouts",
            object(
                "How long answers may take; what is not said has no limit.",
                upstream,
            ),
        ),
        (
            "loadBalancer",
            object("How an endpoint is chosen.", balancer),
        ),
        (
            "slowStart",
            object("New endpoints get less at first.", start),
        ),
        (
            "outlierEjection",
            object("Endpoints that fail are left out.", ejection),
        ),
        ("connections", object("Limits.", connections)),
    ]
}

fn success_rate() -> Vec<Named> {
    vec![
        ("minEndpoints", whole("5.", 0)),
        ("minRequests", whole("100.", 0)),
        (
            "stdevFactorThousandths",
            whole("Standard deviations below the mean, times 1000; 1900.", 0),
        ),
    ]
}

fn failure_percentage() -> Vec<Named> {
    vec![
        ("threshold", percent("85.")),
        ("minEndpoints", whole("5.", 0)),
        ("minRequests", whole("50.", 0)),
    ]
}
