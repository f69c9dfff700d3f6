//! The gateway's access log in the settings file: `access-log`.

use std::path::PathBuf;
use std::time::Duration;

use accesslog::Template;
use proxy::{AccessLog as Log, Destination, Rule};
use serde::Deserialize;

/// As written.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct AccessLog {
    format: Option<Format>,
    /// With `format: template` only.
    template: Option<String>,
    /// Standard output if there is none.
    file: Option<PathBuf>,
    sample: Option<f64>,
    min_status: Option<u16>,
    slower_than: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    Text,
    Json,
    Template,
}

impl AccessLog {
    /// What cannot be used is added to `mistakes`.
    pub(super) fn resolve(self, mistakes: &mut Vec<String>) -> Option<Log> {
        let mut wrong = |key: &str, why: String| mistakes.push(format!("access-log.{key}: {why}"));
        let implied = if self.template.is_some() {
            Format::Template
        } else {
            Format::Text
        };
        let format = self.format.unwrap_or(implied);
        let text = match (format, &self.template) {
            (Format::Template, Some(text)) => text,
            (Format::Template, None) => {
                wrong("template", "format: template needs one".to_owned());
                return None;
            }
            (Format::Text | Format::Json, Some(_)) => {
                let why = "only format: template takes one; leave one of the two out";
                wrong("template", why.to_owned());
                return None;
            }
            (Format::Text, None) => accesslog::TEXT,
            (Format::Json, None) => accesslog::JSON,
        };
        let template = Template::parse(text);
        if let Err(error) = &template {
            wrong("template", error.to_string());
        }
        if let Some(share) = self.sample.filter(|share| !(0.0..=1.0).contains(share)) {
            wrong("sample", format!("{share} is not within 0 to 1"));
        }
        if let Some(status) = self.min_status.filter(|it| !(100..=599).contains(it)) {
            wrong("min-status", format!("{status} is not within 100 to 599"));
        }
        let slower_than = self.slower_than.as_deref().and_then(|text| {
            let parsed: Result<Duration, _> = api::duration::parse(text);
            parsed
                .map_err(|error| wrong("slower-than", error.to_string()))
                .ok()
        });
        let has_condition = self.min_status.is_some() || self.slower_than.is_some();
        Some(Log {
            template: template.ok()?,
            destination: self.file.map_or(Destination::Stdout, Destination::File),
            rule: Rule {
                // With a condition, only what it holds for, unless asked otherwise.
                sample: self.sample.unwrap_or(if has_condition { 0.0 } else { 1.0 }),
                min_status: self.min_status,
                slower_than,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(text: &str) -> Result<Option<Log>, Vec<String>> {
        let read: AccessLog = serde_saphyr::from_str(text).expect("the shape of an access log");
        let mut mistakes = Vec::new();
        let log = read.resolve(&mut mistakes);
        if mistakes.is_empty() {
            Ok(log)
        } else {
            Err(mistakes)
        }
    }

    #[test]
    fn a_log_is_of_every_request_unless_it_has_a_condition() {
        let all = resolve("format: json").expect("valid").expect("a log");
        assert_eq!(
            (all.rule, all.destination),
            (Rule::ALL, Destination::Stdout)
        );
        let errors = resolve("{min-status: 500, slower-than: 1s, file: /tmp/x}");
        let errors = errors.expect("valid").expect("a log");
        let expected = Rule {
            sample: 0.0,
            min_status: Some(500),
            slower_than: Some(Duration::from_secs(1)),
        };
        assert_eq!(errors.rule, expected);
        assert_eq!(errors.destination, Destination::File("/tmp/x".into()));
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let check = |text: &str, key: &str| {
            let mistakes = resolve(text).expect_err(text);
            assert!(mistakes[0].starts_with(key), "{mistakes:?}");
        };
        check(
            "template: '{{.Request.Cookie}}'",
            "access-log.template: the field",
        );
        check("format: template", "access-log.template");
        check("{format: json, template: x}", "access-log.template");
        check("sample: 2", "access-log.sample");
        check("min-status: 20", "access-log.min-status");
        check("slower-than: soon", "access-log.slower-than");
    }
}
