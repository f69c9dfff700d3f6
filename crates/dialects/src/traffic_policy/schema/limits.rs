//! The section of limits that another Service keeps.

use serde_json::{Value, json};

use super::{described, flag, list, meant, object, one_of, port, status_code, text, time, whole};

pub(super) fn limits() -> Value {
    let service = vec![("name", text("")), ("port", port(""))];
    object(
        "Limits that another Service keeps for all gateways together.",
        vec![
            ("service", object("In the policy's namespace.", service)),
            ("domain", text("Whose limits are meant.")),
            ("timeout", time("20ms.")),
            ("failOpen", flag("Requests pass when it cannot be asked.")),
            ("statusOnError", status_code("500.")),
            ("hits", whole("How many requests one counts as.", 0)),
            (
                "quotaHeaders",
                flag("Answers have X-RateLimit-Limit, -Remaining and -Reset."),
            ),
            (
                "resourceExhausted",
                flag("The status of gRPC over the limit, in place of UNAVAILABLE."),
            ),
            (
                "descriptors",
                list("What the Service is told of a request.", described_by()),
            ),
        ],
    )
}

fn described_by() -> Value {
    let units = ["second", "minute", "hour", "day", "month", "year"];
    let limit = vec![
        ("requests", whole("So many in each unit.", 0)),
        ("unit", one_of("", &units)),
    ];
    object(
        "",
        vec![
            ("entries", list("In their order.", object("", entry()))),
            (
                "match",
                object("The requests that are described; all.", meant()),
            ),
            (
                "limit",
                object("In place of the one that the Service has.", limit),
            ),
        ],
    )
}

fn entry() -> Vec<super::Named> {
    let length = |most: u32| {
        let schema = json!({
            "type": "integer", "format": "int32", "minimum": 0, "maximum": most,
        });
        described(schema, "The length of the prefix.")
    };
    let network = vec![("ipv4", length(32)), ("ipv6", length(128))];
    vec![
        ("key", text("The entry's key; each kind has its usual one.")),
        ("value", text("A fixed value.")),
        (
            "header",
            text("The value of this header; also :authority, :method, :path, :scheme."),
        ),
        (
            "optional",
            flag("Without the header only the entry is left out, not the descriptor."),
        ),
        ("client", flag("The client's address.")),
        ("clientNetwork", object("The client's network.", network)),
        (
            "match",
            object("The value counts for these requests.", meant()),
        ),
        ("expect", flag("For the others if false.")),
    ]
}
