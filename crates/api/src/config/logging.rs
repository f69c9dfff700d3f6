//! `config-logging`: levels of Knative's components. One process logs by its own flags, so the
//! keys are judged and reported as having no effect.

use super::reader::Reader;

const LEVELS: [&str; 7] = ["debug", "info", "warn", "error", "dpanic", "panic", "fatal"];
const WHY: &str = "this process logs by its --log flag and RUST_LOG";

pub(super) fn read(reader: &Reader<'_>) {
    const LOGGER: &str = "zap-logger-config";
    if let Some(text) = reader.text(LOGGER)
        && !text.is_empty()
        && let Err(problem) = serde_json::from_str::<serde_json::Map<_, serde_json::Value>>(text)
    {
        reader.error(LOGGER, format!("{LOGGER} is no JSON object: {problem}"));
    }
    reader.without_effect(LOGGER, WHY);
    for (key, level) in reader.with_prefix("loglevel.") {
        // zap also takes capitals, and nothing for its default.
        if !level.is_empty() && !LEVELS.contains(&level.to_ascii_lowercase().as_str()) {
            reader.error(key, format!("invalid logging level: {level}"));
        }
        reader.key_without_effect(key, WHY);
    }
}
