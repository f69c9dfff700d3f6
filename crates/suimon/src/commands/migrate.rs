//! `suimon migrate`: files for any gateway, as Gateway API objects and traffic policies.
//!
//! The objects go to standard output, to be applied; what became of each rule goes to standard
//! error, one line for each, and one for each part of it that is not the same.

use std::process::ExitCode;

use dialects::foreign;
use dialects::migrate::{Note, Verdict};
use serde_json::json;

use super::lint;
use crate::cli;
use crate::manifest;
use crate::output;

pub fn run(flags: &cli::Migrate, access: &cli::Access) -> anyhow::Result<ExitCode> {
    let documents = manifest::read(&flags.files)?;
    let mut objects: Vec<_> = documents.into_iter().map(|it| it.value).collect();
    let namespace = access.namespace.as_deref().unwrap_or("default");
    let place = (namespace, flags.class.as_str());
    let tried = lint::trial::all(&mut objects, namespace);
    let (migration, mut report) = publisher::migrate(objects, place, foreign::kinds());
    tried.join(&mut report);
    match flags.format.output {
        Some(encoding) => {
            let value = json!({
                "objects": migration.objects,
                "notes": migration.notes,
                "findings": report.findings,
            });
            output::encoded(&value, encoding)?;
        }
        None => {
            for object in &migration.objects {
                output::print(format_args!("---\n{}", output::yaml(object)?));
            }
            for finding in &report.findings {
                output::note(&format!("not read: {}", lint::line(finding)));
            }
            for note in &migration.notes {
                output::note(&line(note));
            }
        }
    }
    let is_whole = migration
        .notes
        .iter()
        .all(|it| matches!(it.verdict, Verdict::Kept | Verdict::Changed))
        && !report.findings.iter().any(lint::is_refused);
    Ok(if is_whole {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn line(note: &Note) -> String {
    let verdict = match note.verdict {
        Verdict::Kept => "kept",
        Verdict::LeftOut => "left out",
        Verdict::Lost => "lost",
        Verdict::Changed => "changed",
    };
    let origin = &note.origin;
    format!(
        "{verdict}: {} {}/{}: {}: {}",
        origin.kind, origin.namespace, origin.name, origin.field, note.message
    )
}
