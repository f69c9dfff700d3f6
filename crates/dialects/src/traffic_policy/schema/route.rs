//! Sections for Gateways and routes.

use serde_json::{Value, json};

use super::limits;
use super::{
    Named, answer, described, flag, list, object, one_of, port, status_code, text, texts, time,
    whole,
};

pub(super) fn of_routes() -> Vec<Named> {
    let cors = vec![
        (
            "allowOrigins",
            texts("*, https://*.example.com or whole origins."),
        ),
        (
            "allowOriginRegexes",
            texts("Expressions that match whole origins."),
        ),
        ("allowOriginPrefixes", texts("What origins begin with.")),
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
        ("on", texts("Envoy's words, and failure.")),
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
        ("rateLimitService", limits::limits()),
        ("clientAddress", client()),
        ("rewritePath", rewrite()),
        ("headerTemplates", templates()),
        (
            "directResponse",
            object("Answered in place of what the rule does.", answer()),
        ),
    ]
}

fn rewrite() -> Value {
    object(
        "How the path is changed, where the rule does not.",
        vec![
            ("prefix", text("Elements that the path begins with.")),
            ("text", text("Characters that the path begins with.")),
            ("regex", text("What it finds is changed, every time.")),
            ("with", text("What is there then.")),
        ],
    )
}

fn templates() -> Value {
    let template = || {
        let fields = vec![
            ("name", text("The header.")),
            ("value", text("With %REQ(name)% and other variables.")),
            ("append", flag("Added to the values that are there.")),
        ];
        list("", object("", fields))
    };
    object(
        "Headers whose values depend on the request.",
        vec![("request", template()), ("response", template())],
    )
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
        (
            "asBytes",
            flag("As bytes in the message of gRPC, not as text; true."),
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
            (
                "recursive",
                flag("The last address that is not in the networks counts, not the last; true."),
            ),
            ("header", text("X-Forwarded-For unless said.")),
        ],
    )
}
