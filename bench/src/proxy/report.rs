//! Rows of the table.

use super::load::Round;
use crate::stats::median;

/// A target in a case.
pub struct Row {
    pub case: String,
    pub target: String,
    /// What is counted.
    pub unit: &'static str,
    /// The size of a large body.
    pub bytes: Option<usize>,
    /// Its CPU time was not measured.
    pub is_free: bool,
    pub rounds: Vec<Round>,
    /// What this one is compared with is `ratio` times as expensive.
    pub ratio: Option<f64>,
    /// The same without the kernel's part.
    pub user_ratio: Option<f64>,
    pub note: String,
}

const HEAD: &str = "\
| case | | CPU µs each | of it user | µs per MB | per second | p50 ms | p99 ms | p99.9 ms | failed | suimon / it | user | |
|---|---|---|---|---|---|---|---|---|---|---|---|---|";

impl Row {
    pub fn of(&self, value: fn(&Round) -> f64) -> f64 {
        median(&self.rounds.iter().map(value).collect::<Vec<_>>())
    }

    pub fn cpu(&self) -> Option<f64> {
        (!self.is_free).then(|| self.of(|round| round.cpu_us))
    }

    /// The part of it that is not the kernel's.
    fn user(&self) -> Option<f64> {
        (!self.is_free).then(|| self.of(|round| round.user_us))
    }

    fn line(&self) -> String {
        let number = |value: Option<f64>, digits: usize| match value {
            Some(value) if value.is_finite() => format!("{value:.digits$}"),
            _ => "–".to_owned(),
        };
        let cpu = self.cpu();
        let mb = self.bytes.map(|bytes| bytes as f64 / (1024.0 * 1024.0));
        let per_mb = cpu.zip(mb).map(|(cpu, mb)| cpu / mb);
        let failed: u64 = self.rounds.iter().map(|round| round.failed).sum();
        let error = self.rounds.iter().find(|round| !round.error.is_empty());
        let note = [
            self.note.as_str(),
            error.map_or("", |round| round.error.as_str()),
        ];
        let note: Vec<&str> = note.into_iter().filter(|text| !text.is_empty()).collect();
        format!(
            "| {} | {} | {} a {} | {} | {} | {} | {} | {} | {} | {failed} | {} | {} | {} |",
            self.case,
            self.target,
            number(cpu, 1),
            self.unit,
            number(self.user(), 1),
            number(per_mb, 0),
            number(Some(self.of(|r| r.per_second)), 0),
            number(Some(self.of(|r| r.p50)), 2),
            number(Some(self.of(|r| r.p99)), 2),
            number(Some(self.of(|r| r.p999)), 2),
            number(self.ratio, 2),
            number(self.user_ratio, 2),
            note.join("; "),
        )
    }
}

/// Says how much suimon costs relative to each other target of its case.
pub fn compare(rows: &mut [Row]) {
    let ours = rows.iter().find(|row| row.target == "suimon");
    let Some((cpu, user)) = ours.and_then(|ours| ours.cpu().zip(ours.user())) else {
        return;
    };
    for row in rows.iter_mut().filter(|row| row.target != "suimon") {
        row.ratio = row.cpu().map(|its| cpu / its);
        row.user_ratio = row.user().map(|its| user / its);
    }
}

/// Markdown.
pub fn print(rows: &[Row]) {
    println!("{HEAD}");
    for row in rows {
        println!("{}", row.line());
    }
}
