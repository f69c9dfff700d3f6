//! The suite's report: its totals in a line each, and the page made from it under `docs`.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::Value;

/// Where the report stands under `docs/conformance`, named as the project names them.
const REPORT: &str = "gateway-api-standalone-report.yaml";
/// The same of the standard channel.
const STANDARD: &str = "gateway-api-standard-report.yaml";
const PAGE: &str = "gateway-api.md";
/// Where the page's hand-written end begins; it is kept.
const NOTES: &str = "## Notes";

/// A line per profile.
pub(super) fn totals(report: &str) -> Result<String> {
    let report = parse(report)?;
    let mut out = String::new();
    for profile in list(&report["profiles"]) {
        let name = profile["name"].as_str().unwrap_or_default();
        for part in ["core", "extended"] {
            let counts = &profile[part]["statistics"];
            if counts.is_object() {
                writeln!(out, "{name} {part}: {}", counted(counts))?;
            }
        }
    }
    Ok(out.trim_end().to_owned())
}

/// Writes the report and, of the experimental channel, its page.
pub(super) fn write(folder: &Path, channel: &str, report: &str) -> Result<()> {
    fs::create_dir_all(folder)?;
    let report = &sorted(report);
    if channel == "standard" {
        return Ok(fs::write(folder.join(STANDARD), report)?);
    }
    fs::write(folder.join(REPORT), report)?;
    let path = folder.join(PAGE);
    let before = fs::read_to_string(&path).unwrap_or_default();
    let notes = before.find(NOTES).map_or("", |at| &before[at..]);
    let text = format!("{}\n{notes}", page(&parse(report)?)?);
    fs::write(&path, text.trim_end().to_owned() + "\n")
        .with_context(|| format!("cannot write {}", path.display()))
}

/// The same with the profiles by name: the suite writes them in another order each time.
fn sorted(report: &str) -> String {
    const PROFILES: &str = "\nprofiles:\n";
    let Some(at) = report.find(PROFILES) else {
        return report.to_owned();
    };
    let (head, rest) = report.split_at(at + PROFILES.len());
    let (mut profiles, mut tail) = (Vec::<String>::new(), String::new());
    for line in rest.split_inclusive('\n') {
        match (profiles.last_mut(), line) {
            (_, line) if line.starts_with("- ") && tail.is_empty() => {
                profiles.push(line.to_owned());
            }
            (Some(profile), line) if line.starts_with(' ') && tail.is_empty() => {
                profile.push_str(line);
            }
            _ => tail.push_str(line),
        }
    }
    let name = |profile: &String| {
        let mut lines = profile.lines();
        let name = lines.find_map(|line| line.get(2..)?.strip_prefix("name: "));
        name.unwrap_or_default().to_owned()
    };
    profiles.sort_by_key(name);
    format!("{head}{}{tail}", profiles.concat())
}

fn parse(report: &str) -> Result<Value> {
    serde_saphyr::from_str(report).context("the report is not YAML")
}

fn page(report: &Value) -> Result<String> {
    let text = |pointer: &str| {
        let found = report.pointer(pointer).and_then(Value::as_str);
        found.unwrap_or_default().to_owned()
    };
    let mut out = String::new();
    writeln!(out, "# Gateway API conformance\n")?;
    writeln!(
        out,
        "Suite {} ({} channel), unmodified, against `suimon up` {}. \
         Run it with `cargo xtask conformance gateway-api`; with `--write` this page and \
         [the report]({REPORT}) are written again.\n",
        text("/gatewayAPIVersion"),
        text("/gatewayAPIChannel"),
        text("/implementation/version"),
    )?;
    writeln!(
        out,
        "| profile | tests | passed | failed | skipped | features |"
    )?;
    writeln!(out, "|---|---|---|---|---|---|")?;
    for profile in list(&report["profiles"]) {
        let name = profile["name"].as_str().unwrap_or_default();
        for part in ["core", "extended"] {
            let part_of = &profile[part];
            let counts = &part_of["statistics"];
            if !counts.is_object() {
                continue;
            }
            let count = |key: &str| counts[key].as_u64().unwrap_or_default();
            let supported = list(&part_of["supportedFeatures"]).len();
            let all = supported + list(&part_of["unsupportedFeatures"]).len();
            let features = if all == 0 {
                String::new()
            } else {
                format!("{supported} of {all}")
            };
            writeln!(
                out,
                "| {name} | {part} | {} | {} | {} | {features} |",
                count("Passed"),
                count("Failed"),
                count("Skipped"),
            )?;
        }
    }
    let all = |key: &str| {
        let mut names: Vec<String> = Vec::new();
        for profile in list(&report["profiles"]) {
            for part in ["core", "extended"] {
                names.extend(texts(&profile[part][key]));
            }
        }
        names.sort();
        names.dedup();
        names
    };
    for (title, names) in [
        ("Failed", all("failedTests")),
        ("Skipped", all("skippedTests")),
        ("Features that are not served", all("unsupportedFeatures")),
        (
            "Provisional tests that passed",
            texts(&report["succeededProvisionalTests"]),
        ),
    ] {
        let names = if names.is_empty() {
            "none".to_owned()
        } else {
            names.join(", ")
        };
        writeln!(out, "\n**{title}:** {names}.")?;
    }
    Ok(out)
}

fn counted(counts: &Value) -> String {
    let count = |key: &str| counts[key].as_u64().unwrap_or_default();
    let (passed, failed, skipped) = (count("Passed"), count("Failed"), count("Skipped"));
    format!("{passed} passed, {failed} failed, {skipped} skipped")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn texts(value: &Value) -> Vec<String> {
    let texts = list(value).iter().filter_map(Value::as_str);
    texts.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_says_what_failed_and_what_was_skipped() {
        let report = "gatewayAPIVersion: v9\nprofiles:\n- name: A\n  core:\n    \
                      statistics: {Passed: 2, Failed: 1, Skipped: 0}\n    \
                      failedTests: [One]\n";
        let page = page(&parse(report).expect("YAML")).expect("a page");
        assert!(page.contains("| A | core | 2 | 1 | 0 |  |"), "{page}");
        assert!(page.contains("**Failed:** One."), "{page}");
        assert!(page.contains("**Skipped:** none."), "{page}");
        assert_eq!(
            totals(report).expect("totals"),
            "A core: 2 passed, 1 failed, 0 skipped"
        );
    }

    #[test]
    fn profiles_are_written_by_name() {
        let report = "mode: m\nprofiles:\n- core:\n    result: success\n  name: B\n\
                      - core:\n    result: failure\n  name: A\nsucceededProvisionalTests:\n- One\n";
        let expected = "mode: m\nprofiles:\n- core:\n    result: failure\n  name: A\n\
                        - core:\n    result: success\n  name: B\nsucceededProvisionalTests:\n- One\n";
        assert_eq!(sorted(report), expected);
        assert_eq!(sorted(expected), expected);
    }
}
