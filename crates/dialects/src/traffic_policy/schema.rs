//! The structural schema of the kind: what the API server checks and prunes by, and what
//! `kubectl explain` tells.
//!
//! It names every field that the reader asks for, and no other (a test compares them). Limits that
//! the reader has too stand in both: the schema refuses at once, the reader judges what was stored
//! before.

use serde_json::{Map, Value, json};

/// Times as Go writes them.
const TIME: &str = r"^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$";

/// `spec`.
pub(crate) fn spec() -> Value {
    let mut fields = vec![("targetRefs", targets())];
    fields.extend(of_requests());
    fields.extend(of_routes());
    fields.extend(of_services());
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

type Named = (&'static str, Value);

fn described(mut schema: Value, description: &str) -> Value {
    if !description.is_empty() {
        schema["description"] = json!(description);
    }
    schema
}

fn object(description: &str, fields: Vec<Named>) -> Value {
    let fields = fields.into_iter();
    let properties: Map<_, _> = fields
        .map(|(name, schema)| (name.to_owned(), schema))
        .collect();
    described(
        json!({"type": "object", "properties": properties}),
        description,
    )
}

fn list(description: &str, items: Value) -> Value {
    described(json!({"type": "array", "items": items}), description)
}

fn text(description: &str) -> Value {
    described(json!({"type": "string"}), description)
}

fn texts(description: &str) -> Value {
    list(description, text(""))
}

fn flag(description: &str) -> Value {
    described(json!({"type": "boolean"}), description)
}

fn time(description: &str) -> Value {
    described(json!({"type": "string", "pattern": TIME}), description)
}

fn whole(description: &str, least: i64) -> Value {
    let schema = json!({"type": "integer", "format": "int64", "minimum": least});
    described(schema, description)
}

fn status_code(description: &str) -> Value {
    let schema = json!({"type": "integer", "format": "int32", "minimum": 200, "maximum": 599});
    described(schema, description)
}

fn port(description: &str) -> Value {
    let schema = json!({"type": "integer", "format": "int32", "minimum": 1, "maximum": 65535});
    described(schema, description)
}

fn percent(description: &str) -> Value {
    described(
        json!({"type": "number", "minimum": 0, "maximum": 100}),
        description,
    )
}

fn above_zero(description: &str) -> Value {
    let schema = json!({"type": "number", "minimum": 0, "exclusiveMinimum": true});
    described(schema, description)
}

fn one_of(description: &str, values: &[&str]) -> Value {
    described(json!({"type": "string", "enum": values}), description)
}

fn map(description: &str) -> Value {
    let schema = json!({"type": "object", "additionalProperties": {"type": "string"}});
    described(schema, description)
}

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
    let fields = vec![
        ("status", status_code("The status.")),
        ("body", text("The body, as text.")),
        ("headers", map("Headers by name.")),
    ];
    ("response", object("What is answered instead.", fields))
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
        ("adaptiveConcurrency", concurrency()),
    ]
}

fn rate_limit() -> Value {
    let key = vec![
        ("client", flag("By the client's address.")),
        ("host", flag("By the host.")),
        ("path", flag("By the path.")),
        ("header", text("By this header.")),
        ("cookie", text("By this cookie.")),
        ("query", text("By this query parameter.")),
    ];
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
                list("A bucket for each value of these.", object("", key)),
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
        vec![
            ("name", text("For logs.")),
            ("headers", map("Headers that requests of it have.")),
            ("pathPrefix", text("What their path begins with.")),
            ("priority", above_zero("Its share, in proportion; 1.")),
            ("tokens", above_zero("What one request costs; 1.")),
            ("queueTimeout", time("The longest wait.")),
        ]
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

fn of_routes() -> Vec<Named> {
    let cors = vec![
        (
            "allowOrigins",
            texts("*, https://*.example.com or whole origins."),
        ),
        ("allowMethods", texts("")),
        ("allowHeaders", texts("")),
        ("exposeHeaders", texts("")),
        ("allowCredentials", flag("")),
        ("maxAge", time("")),
    ];
    let times = vec![
        ("request", time("The whole request.")),
        ("perTry", time("One try.")),
    ];
    let retries = vec![
        ("attempts", whole("Further tries; 1.", 0)),
        (
            "statuses",
            list(
                "Statuses that are tried again.",
                json!({
                    "type": "integer", "format": "int32", "minimum": 400, "maximum": 599,
                }),
            ),
        ),
        ("on", texts("Envoy's words.")),
        ("pause", time("The least pause; 25ms.")),
        ("maxPause", time("The longest pause.")),
        (
            "avoidTried",
            flag("Another endpoint, if there is one; true."),
        ),
    ];
    vec![
        ("cors", object("Which pages may ask.", cors)),
        ("timeouts", object("How long requests may take.", times)),
        ("retries", object("When requests are sent again.", retries)),
        ("externalAuthorization", external()),
        ("clientAddress", client()),
    ]
}

fn external() -> Value {
    let service = vec![("name", text("")), ("port", port(""))];
    let body = vec![
        (
            "maxBytes",
            described(
                json!({
                    "type": "integer", "format": "int64", "minimum": 0, "maximum": 4_294_967_295_u32,
                }),
                "The most that it sees; 8192.",
            ),
        ),
        (
            "partial",
            flag("It sees the beginning of a longer body, which is 413 otherwise."),
        ),
    ];
    object(
        "Another Service decides.",
        vec![
            ("service", object("In the policy's namespace.", service)),
            ("protocol", one_of("HTTP unless said.", &["HTTP", "GRPC"])),
            (
                "pathPrefix",
                text("Before the path of the request, over HTTP."),
            ),
            ("timeout", time("5s.")),
            ("failOpen", flag("Requests pass when it cannot be asked.")),
            ("statusOnError", status_code("403.")),
            ("requestHeaders", texts("Headers that it sees.")),
            (
                "upstreamHeaders",
                texts("Of its answer, set on the request; * is all."),
            ),
            (
                "clientHeaders",
                texts("Of its refusal, for the client; * is all."),
            ),
            ("body", object("It sees the body too.", body)),
        ],
    )
}

fn client() -> Value {
    object(
        "Which proxies in front may say who the client is.",
        vec![
            ("trustedHops", whole("So many of them.", 1)),
            ("trustedNetworks", texts("Those in these networks.")),
            ("header", text("X-Forwarded-For unless said.")),
        ],
    )
}

fn of_services() -> Vec<Named> {
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
    ];
    vec![
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

#[cfg(test)]
mod tests;
