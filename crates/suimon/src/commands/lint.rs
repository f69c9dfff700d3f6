//! `suimon lint`: what the gateway would not serve as written, from files alone.

pub(super) mod trial;

use std::process::ExitCode;

use dialects::{Effect, foreign};
use publisher::{Finding, Report};
use serde_json::json;

use crate::cli;
use crate::manifest;
use crate::output;
use crate::output::say;

pub fn run(flags: &cli::Lint, access: &cli::Access) -> anyhow::Result<ExitCode> {
    let (documents, mistakes) = manifest::read_what_can_be(&flags.files)?;
    let mut objects: Vec<_> = documents.into_iter().map(|it| it.value).collect();
    let namespace = access.namespace.as_deref().unwrap_or("default");
    let tried = trial::all(&mut objects, namespace);
    let mut report = publisher::lint(objects, (namespace, flags.proxy_protocol), foreign::kinds());
    tried.join(&mut report);
    match flags.format.output {
        Some(encoding) => {
            let value = json!({
                "judged": report.judged,
                "findings": report.findings,
                "others": report.others,
                "unread": mistakes,
            });
            output::encoded(&value, encoding)?;
        }
        None => {
            for finding in &report.findings {
                say!("{}", line(finding));
            }
            for mistake in &mistakes {
                output::note(&format!("error: {mistake}"));
            }
            output::note(&summary(&report));
        }
    }
    let is_served = mistakes.is_empty() && !report.findings.iter().any(is_refused);
    Ok(if is_served {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What waits for something that is in no file may well be served.
pub(super) fn is_refused(finding: &Finding) -> bool {
    matches!(finding.effect, Effect::Refused | Effect::Conflict)
}

/// `KIND namespace/name: field: message`.
pub(super) fn line(finding: &Finding) -> String {
    let name = if finding.namespace.is_empty() {
        finding.name.clone()
    } else {
        format!("{}/{}", finding.namespace, finding.name)
    };
    let field = if finding.field.is_empty() {
        String::new()
    } else {
        format!("{}: ", finding.field)
    };
    format!("{} {name}: {field}{}", finding.kind, finding.message)
}

fn summary(report: &Report) -> String {
    let refused = report.findings.iter().filter(|it| is_refused(it)).count();
    let waiting = report.findings.len() - refused;
    let others: usize = report.others.values().sum();
    let mut text = format!("{} objects of a gateway: {refused} findings", report.judged);
    if waiting > 0 {
        text.push_str(&format!(", {waiting} names of what is in no file"));
    }
    if others > 0 {
        let kinds: Vec<_> = report.others.keys().map(String::as_str).collect();
        let kinds = kinds.join(", ");
        text.push_str(&format!(
            "; {others} of other kinds were not looked at: {kinds}"
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(effect: Effect, namespace: &str, field: &str) -> Finding {
        Finding {
            kind: "VirtualService".to_owned(),
            namespace: namespace.to_owned(),
            name: "shop".to_owned(),
            field: field.to_owned(),
            effect,
            reason: "FieldNotSupported".to_owned(),
            message: "no such thing".to_owned(),
        }
    }

    #[test]
    fn a_line_names_the_object_and_the_field() {
        assert_eq!(
            line(&finding(Effect::Refused, "default", "spec.http[0]")),
            "VirtualService default/shop: spec.http[0]: no such thing"
        );
        assert_eq!(
            line(&finding(Effect::Refused, "", "")),
            "VirtualService shop: no such thing"
        );
    }

    #[test]
    fn what_is_in_no_file_is_counted_apart() {
        let report = Report {
            findings: vec![
                finding(Effect::Refused, "a", "b"),
                finding(Effect::Waiting, "a", "c"),
            ],
            judged: 3,
            others: [("Deployment.apps".to_owned(), 2)].into(),
        };
        assert_eq!(
            summary(&report),
            "3 objects of a gateway: 1 findings, 1 names of what is in no file; 2 of other kinds were not looked at: Deployment.apps"
        );
    }
}
