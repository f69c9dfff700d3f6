//! Knative Ingresses, which controllers (and the networking conformance tests) write.

use serde_json::Value;

use super::report::{Report, indexed, join};
use crate::json;

pub(crate) fn validate(object: &Value, namespace: &str, report: &mut Report) {
    let spec = &object["spec"];
    if !json::says_something(spec) {
        return report.missing("spec".to_owned());
    }
    let rules = json::list(spec, "rules");
    if rules.is_empty() {
        report.missing("spec.rules".to_owned());
    }
    for (index, rule) in rules.iter().enumerate() {
        let base = indexed("spec", "rules", index);
        if !json::says_something(rule) {
            report.missing(base);
            continue;
        }
        let visibility = json::text(rule, "visibility");
        if !matches!(visibility, "" | "ExternalIP" | "ClusterLocal") {
            report.invalid(visibility, join(&base, "visibility"));
        }
        match json::present(rule, "http") {
            None => report.missing(join(&base, "http")),
            Some(http) if json::list(http, "paths").is_empty() => {
                report.missing(join(&base, "http.paths"))
            }
            Some(http) => {
                for (index, path) in json::list(http, "paths").iter().enumerate() {
                    self::path(
                        path,
                        namespace,
                        &indexed(&join(&base, "http"), "paths", index),
                        report,
                    );
                }
            }
        }
    }
    for (index, tls) in json::list(spec, "tls").iter().enumerate() {
        for field in ["secretName", "secretNamespace"] {
            if json::text(tls, field).is_empty() {
                report.missing(join(&indexed("spec", "tls", index), field));
            }
        }
    }
    let option = json::text(spec, "httpOption");
    if !matches!(option, "" | "Enabled" | "Redirected") {
        report.invalid(option, "spec.httpOption".to_owned());
    }
}

fn path(path: &Value, namespace: &str, base: &str, report: &mut Report) {
    let prefix = json::text(path, "path");
    if !prefix.is_empty() && !prefix.starts_with('/') {
        report.invalid(prefix, join(base, "path"));
    }
    let splits = json::list(path, "splits");
    if splits.is_empty() {
        return report.missing(join(base, "splits"));
    }
    let mut total = 0_i64;
    for (index, split) in splits.iter().enumerate() {
        let base = indexed(base, "splits", index);
        let percent = json::int(split, "percent").unwrap_or(0);
        if !(0..=100).contains(&percent) {
            report.invalid(percent, join(&base, "percent"));
        }
        total = total.saturating_add(percent);
        match json::text(split, "serviceNamespace") {
            "" => report.missing(join(&base, "serviceNamespace")),
            other if other != namespace => {
                let path = join(&base, "serviceNamespace");
                report.say("service namespace must match ingress namespace", &[path]);
            }
            _ => {}
        }
        if json::text(split, "serviceName").is_empty() {
            report.missing(join(&base, "serviceName"));
        }
        let port = split.get("servicePort").unwrap_or(&Value::Null);
        if port.as_str().unwrap_or_default().is_empty() && port.as_i64().unwrap_or(0) == 0 {
            report.missing(join(&base, "servicePort"));
        }
    }
    let unsaid = splits.len() == 1 && total == 0;
    if total != 100 && !unsaid {
        report.say(
            format!("traffic split percentage must total to 100, but was {total}"),
            &[join(base, "splits")],
        );
    }
}
