//! `config-leader-election`: how replicas of Knative's controllers share the work. There is one
//! process here, so the keys are judged and reported as having no effect.

use std::time::Duration;

use super::reader::Reader;

pub(super) fn read(reader: &Reader<'_>) {
    const MOST: i64 = 10;
    const DURATIONS: [&str; 6] = [
        "lease-duration",
        "renew-deadline",
        "retry-period",
        "leaseDuration",
        "renewDeadline",
        "retryPeriod",
    ];
    let why = "one process has nobody to elect";
    for key in DURATIONS {
        reader.duration(key, Duration::ZERO);
        reader.without_effect(key, why);
    }
    let buckets = reader.integer("buckets", 1);
    reader.ensure((1..=MOST).contains(&buckets), "buckets", || {
        format!("buckets: value must be between 1 <= {buckets} <= {MOST}")
    });
    reader.without_effect("buckets", why);
    for (key, _) in reader.with_prefix("map-lease-prefix.") {
        reader.key_without_effect(key, why);
    }
}
