//! The structural schema of the kind: what the API server checks and prunes by, and what
//! `kubectl explain` tells.
//!
//! It names every field that the reader asks for, and no other (a test compares them). Limits that
//! the reader has too stand in both: the schema refuses at once, the reader judges what was stored
//! before.

mod limits;
mod ramp;
mod route;
mod service;
mod value;

use serde_json::{Map, Value, json};

use value::{
    above_zero, described, flag, list, map, object, one_of, percent, port, status_code, text,
    texts, time, whole,
};

/// `spec`.
pub(crate) fn spec() -> Value {
    let mut fields = vec![("targetRefs", targets())];
    fields.extend(of_requests());
    fields.extend(route::of_routes());
    fields.extend(service::of_services());
    let mut spec = object("What holds for requests to the targets.", fields);
    spec["required"] = json!(["targetRefs"]);
    spec
}

/// `status`.
pub(crate) fn status() -> Value {
    let reference = ["group", "kind", "namespace", "name"].map(|key| (key, text("")));
    let condition = vec![
        ("type", text("")),
        ("status", text("")),
        ("reason", text("")),
        ("message", text("")),
        ("observedGeneration", whole("", 0)),
        (
            "lastTransitionTime",
            json!({"type": "string", "format": "date-time"}),
        ),
    ];
    let ancestor = vec![
        ("ancestorRef", object("The target.", reference.into())),
        ("controllerName", text("Who says so.")),
        (
            "conditions",
            list("Accepted, and PartiallyInvalid.", object("", condition)),
        ),
    ];
    let ancestors = list("One entry for each target.", object("", ancestor));
    object("What became of the policy.", vec![("ancestors", ancestors)])
}

/// A field and its schema.
type Named = (&'static str, Value);

fn targets() -> Value {
    let kinds = ["Gateway", "HTTPRoute", "GRPCRoute", "Service"];
    let mut target = object(
        "",
        vec![
            (
                "group",
                text("gateway.networking.k8s.io, or empty for a Service."),
            ),
            ("kind", one_of("What the target is.", &kinds)),
            (
                "name",
                described(json!({"type": "string", "minLength": 1}), "Its name."),
            ),
            (
                "namespace",
                text("Not supported: targets are in the policy's own namespace."),
            ),
            (
                "sectionName",
                text("Not supported: a policy holds for all of its target."),
            ),
        ],
    );
    target["required"] = json!(["kind", "name"]);
    let mut targets = list("What the policy is attached to.", target);
    targets["minItems"] = json!(1);
    targets["maxItems"] = json!(16);
    targets
}

fn response() -> Named {
    ("response", object("What is answered instead.", answer()))
}

fn answer() -> Vec<Named> {
    vec![
        ("status", status_code("The status.")),
        ("body", text("The body, as text.")),
        ("headers", map("Headers by name.")),
    ]
}

fn of_requests() -> Vec<Named> {
    vec![
        (
            "rateLimits",
            list("Token buckets; each must have a token.", rate_limit()),
        ),
        ("circuitBreaker", breaker()),
        ("fault", fault()),
        ("jwt", tokens()),
        ("authorization", authorization()),
        ("quota", quota()),
        (
            "concurrencyLimits",
            list("Requests in flight; each must have a place.", in_flight()),
        ),
        ("adaptiveConcurrency", concurrency()),
        ("loadRamp", ramp::ramp()),
        ("requestLimits", request_limits()),
    ]
}

fn request_limits() -> Value {
    let fields = vec![
        ("maxBodyBytes", whole("Longer bodies are answered 413.", 0)),
        (
            "refuseUpgrades",
            flag("Requests to change the protocol are answered 403."),
        ),
    ];
    object("What a request may be.", fields)
}

/// Fields that say which requests are meant.
fn meant() -> Vec<Named> {
    vec![
        ("headers", map("Headers that requests of it have.")),
        ("notHeaders", map("Headers that they have not.")),
        ("pathPrefix", text("What their path begins with.")),
    ]
}

/// A part of a request.
fn key() -> Vec<Named> {
    vec![
        ("client", flag("By the client's address.")),
        ("host", flag("By the host.")),
        ("path", flag("By the path.")),
        ("header", text("By this header.")),
        ("cookie", text("By this cookie.")),
        ("query", text("By this query parameter.")),
    ]
}

fn rate_limit() -> Value {
    object(
        "",
        vec![
            ("requests", whole("So many come back in each interval.", 1)),
            ("interval", time("The interval.")),
            (
                "burst",
                whole("The most at once; as many as requests otherwise.", 1),
            ),
            (
                "per",
                list("A bucket for each value of these.", object("", key())),
            ),
            (
                "match",
                object("The requests that are counted; all.", meant()),
            ),
            (
                "perConnection",
                flag("Each connection has buckets of its own."),
            ),
            response(),
        ],
    )
}

fn in_flight() -> Value {
    object(
        "",
        vec![
            ("max", whole("So many are in flight; more are refused.", 1)),
            (
                "longest",
                time("A request that lasts longer is not counted any more; 60s."),
            ),
            (
                "per",
                list("A limit for each value of these.", object("", key())),
            ),
            (
                "match",
                object("The requests that are counted; all.", meant()),
            ),
            response(),
        ],
    )
}

fn breaker() -> Value {
    let slow = vec![
        ("after", time("A request that takes longer is slow.")),
        ("count", whole("So many slow ones open it.", 1)),
    ];
    object(
        "Opens for a time after too many slow or failed requests.",
        vec![
            (
                "errorPercent",
                described(
                    json!({
                        "type": "integer", "format": "int32", "minimum": 1, "maximum": 100,
                    }),
                    "Share of answers with 5xx that opens it.",
                ),
            ),
            ("slowRequests", object("Slow requests that open it.", slow)),
            ("averageAbove", time("A mean that opens it.")),
            ("window", time("What is counted; 10s.")),
            ("minRequests", whole("Nothing opens before so many; 10.", 0)),
            ("openFor", time("How long it stays open; 30s.")),
            response(),
        ],
    )
}

fn fault() -> Value {
    let delay = vec![
        ("duration", time("How long.")),
        ("percent", percent("Of how many; all.")),
    ];
    let abort = vec![
        ("status", status_code("The status.")),
        ("grpcStatus", whole("The gRPC status.", 0)),
        ("percent", percent("Of how many; all.")),
    ];
    object(
        "Failures on purpose.",
        vec![
            ("delay", object("Requests that wait.", delay)),
            ("abort", object("Requests that fail.", abort)),
        ],
    )
}

fn tokens() -> Value {
    let remote = vec![
        ("uri", text("http:// or https://.")),
        ("timeout", time("5s.")),
        ("refresh", time("How long keys are kept; 5m.")),
    ];
    let place = vec![
        ("header", text("A header.")),
        ("prefix", text("What is before the token in it.")),
        ("query", text("A query parameter.")),
        ("cookie", text("A cookie.")),
    ];
    let claim = vec![
        ("claim", text("The claim.")),
        ("header", text("The header that gets it.")),
    ];
    let provider = vec![
        ("issuer", text("Who issued the token.")),
        (
            "audiences",
            texts("One of these must be among the token's."),
        ),
        ("jwks", text("A JSON Web Key Set.")),
        ("remoteJwks", object("Where the keys are.", remote)),
        (
            "from",
            list("Where tokens are looked for.", object("", place)),
        ),
        ("forward", flag("The token is passed on.")),
        (
            "claimsToHeaders",
            list("Claims that are passed on.", object("", claim)),
        ),
        ("payloadHeader", text("The header that gets the payload.")),
        ("leeway", time("Allowed difference of clocks; 60s.")),
    ];
    object(
        "JSON Web Tokens.",
        vec![
            (
                "required",
                flag("Requests without a token are refused; true."),
            ),
            ("providers", list("Issuers.", object("", provider))),
        ],
    )
}

fn authorization() -> Value {
    object(
        "Who may do what, in rules as Istio's AuthorizationPolicy has them.",
        vec![
            ("deny", list("One that holds refuses.", rule())),
            ("allow", list("If it is there, one must hold.", rule())),
            ("audit", list("Only recorded.", rule())),
            response(),
        ],
    )
}

fn rule() -> Value {
    let both = |names: &[&'static str]| {
        let mut fields: Map<String, Value> = Map::new();
        for name in names {
            let (first, rest) = name.split_at(1);
            fields.insert((*name).to_owned(), texts(""));
            fields.insert(format!("not{}{rest}", first.to_uppercase()), texts(""));
        }
        json!({"type": "object", "properties": fields})
    };
    let source = both(&[
        "principals",
        "requestPrincipals",
        "namespaces",
        "serviceAccounts",
        "ipBlocks",
        "remoteIpBlocks",
        "trustDomains",
    ]);
    let operation = both(&["hosts", "ports", "methods", "paths"]);
    let condition = vec![
        ("key", text("What is compared.")),
        ("values", texts("")),
        ("notValues", texts("")),
    ];
    object(
        "",
        vec![
            ("from", list("", object("", vec![("source", source)]))),
            ("to", list("", object("", vec![("operation", operation)]))),
            ("when", list("", object("", condition))),
        ],
    )
}

fn quota() -> Value {
    let workload = || {
        let mut fields = meant();
        fields.extend([
            ("name", text("For logs.")),
            ("priority", above_zero("Its share, in proportion; 1.")),
            ("tokens", above_zero("What one request costs; 1.")),
            ("queueTimeout", time("The longest wait.")),
        ]);
        fields
    };
    object(
        "Requests wait for their turn, by the priorities of their workloads.",
        vec![
            ("requests", whole("So many are let in in each interval.", 1)),
            ("interval", time("The interval.")),
            ("burst", whole("The most at once.", 1)),
            ("maxWaiting", whole("The most that wait; 1000.", 0)),
            (
                "workloads",
                list("The first that matches counts.", object("", workload())),
            ),
            ("default", object("For the others.", workload())),
            response(),
        ],
    )
}

fn concurrency() -> Value {
    let least = vec![
        ("interval", time("Between two measurements; 60s.")),
        ("requests", whole("That a measurement takes; 50.", 1)),
        (
            "minConcurrency",
            whole("The limit meanwhile, and the lowest one; 3.", 1),
        ),
        (
            "jitterPercent",
            percent("What the interval is longer by, by chance; 15."),
        ),
        (
            "bufferPercent",
            percent("What requests may take longer by; 25."),
        ),
    ];
    object(
        "A limit on requests in flight that follows how long they take.",
        vec![
            (
                "percentile",
                percent("Which request of a window counts; 50."),
            ),
            ("max", whole("The highest limit; 1000.", 1)),
            ("update", time("The length of a window; 100ms.")),
            (
                "minRTT",
                object("How the least that requests take is measured.", least),
            ),
            response(),
        ],
    )
}

#[cfg(test)]
mod tests;
