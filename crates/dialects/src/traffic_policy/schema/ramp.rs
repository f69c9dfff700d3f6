//! `loadRamp`.

use serde_json::Value;

use super::{flag, key, list, meant, object, percent, response, time};

pub(super) fn ramp() -> Value {
    let step = vec![
        (
            "duration",
            time("From the share before to this one; the first share is held for so long. 0s."),
        ),
        ("acceptPercent", percent("The share that is accepted then.")),
    ];
    object(
        "A share of the requests is accepted, which grows in steps.",
        vec![
            (
                "steps",
                list("The way that the share takes.", object("", step)),
            ),
            (
                "advanceBelow",
                time("It goes on while requests of the last 30 seconds take less on average."),
            ),
            (
                "restartAbove",
                time("It begins anew when they take more than this."),
            ),
            ("paused", flag("The share stays what it is.")),
            ("restart", flag("It is at its beginning, and stays there.")),
            (
                "per",
                list(
                    "Requests with the same values of these are accepted alike.",
                    object("", key()),
                ),
            ),
            (
                "match",
                object("The requests that are meant; all.", meant()),
            ),
            response(),
        ],
    )
}
