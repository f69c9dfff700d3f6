//! What commands print: tables for people, JSON or YAML for programs, errors in one form.

use std::fmt;
use std::io::{ErrorKind, Write};

use serde_json::Value;

use crate::cli::Encoding;

/// What a shell tells of a program that a closed pipe has ended.
const PIPE_CLOSED: i32 = 128 + 13;

/// Prints a line on standard output, as `println!` does. If nobody reads on (`| head`), the
/// command ends quietly.
macro_rules! say {
    () => { $crate::output::print(format_args!("\n")) };
    ($($text:tt)*) => { $crate::output::print(format_args!("{}\n", format_args!($($text)*))) };
}
pub(crate) use say;

/// Prints on standard output.
pub fn print(text: fmt::Arguments<'_>) {
    let Err(failure) = std::io::stdout().lock().write_fmt(text) else {
        return;
    };
    if failure.kind() != ErrorKind::BrokenPipe {
        error(&anyhow::Error::new(failure).context("cannot write to standard output"));
        std::process::exit(1);
    }
    std::process::exit(PIPE_CLOSED);
}

/// Prints an error with its causes, on standard error.
pub fn error(error: &anyhow::Error) {
    let mut stderr = std::io::stderr().lock();
    let _ = writeln!(stderr, "error: {error:#}");
}

/// Prints a line for people, on standard error, so that standard output stays for results.
pub fn note(text: &str) {
    let mut stderr = std::io::stderr().lock();
    let _ = writeln!(stderr, "{text}");
}

/// Prints a value for programs.
pub fn encoded(value: &Value, encoding: Encoding) -> anyhow::Result<()> {
    match encoding {
        Encoding::Json => say!("{}", serde_json::to_string_pretty(value)?),
        Encoding::Yaml => print(format_args!("{}", yaml(value)?)),
    }
    Ok(())
}

/// A value as YAML, ending with a line break.
pub fn yaml(value: &Value) -> anyhow::Result<String> {
    let mut text = serde_saphyr::to_string(value)?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

/// Prints rows under a header, columns three spaces apart, as kubectl does.
pub fn table(header: &[String], rows: &[Vec<String>]) {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells
            .chain(header.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    for row in std::iter::once(header).chain(rows.iter().map(Vec::as_slice)) {
        let cells: Vec<_> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        say!("{}", cells.join("   ").trim_end());
    }
}

/// Prints a `meta.k8s.io/v1 Table` of the API; `namespaced` adds the NAMESPACE column.
pub fn api_table(list: &Value, namespaced: bool) {
    let columns: Vec<(usize, &Value)> = list["columnDefinitions"]
        .as_array()
        .into_iter()
        .flatten()
        .enumerate()
        .filter(|(_, column)| column["priority"].as_i64().unwrap_or(0) == 0)
        .collect();
    let mut header: Vec<String> = columns
        .iter()
        .map(|(_, column)| column["name"].as_str().unwrap_or_default().to_uppercase())
        .collect();
    let mut rows = Vec::new();
    for row in list["rows"].as_array().into_iter().flatten() {
        let mut cells: Vec<String> = columns
            .iter()
            .map(|(index, _)| cell(&row["cells"][*index]))
            .collect();
        if namespaced {
            cells.insert(0, cell(&row["object"]["metadata"]["namespace"]));
        }
        rows.push(cells);
    }
    if namespaced {
        header.insert(0, "NAMESPACE".to_owned());
    }
    table(&header, &rows);
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
