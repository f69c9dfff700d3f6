//! One module per command; each returns the exit code of a finished command.

mod apply;
mod delete;
mod deploy;
mod describe;
mod explain;
mod get;
mod image;
mod lint;
mod logs;
mod migrate;
mod routes;
mod up;

use std::process::ExitCode;

use crate::cli::{Cli, Command};

/// Runs the command that was asked for.
pub async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let access = cli.access;
    if !matches!(cli.command, Command::Up(_)) {
        crate::roles::start_logging(access.log.as_deref().unwrap_or("error"))?;
    }
    match cli.command {
        Command::Up(flags) => Box::pin(up::run(flags, &access)).await,
        Command::Deploy(flags) => deploy::run(flags, &access).await,
        Command::Apply(flags) => apply::run(flags, &access).await,
        Command::Get(flags) => get::run(flags, &access).await,
        Command::Describe(flags) => describe::run(flags, &access).await,
        Command::Delete(flags) => delete::run(flags, &access).await,
        Command::Logs(flags) => logs::run(flags, &access).await,
        Command::Image { command } => image::run(command, &access).await,
        Command::Routes(flags) => routes::run(flags, &access).await,
        Command::Explain(flags) => explain::run(flags, &access).await,
        Command::Lint(flags) => lint::run(&flags, &access),
        Command::Migrate(flags) => migrate::run(&flags, &access),
    }
}

/// `KIND NAME` or `KIND/NAME`, as kubectl takes them.
fn kind_and_name(kind: &str, name: Option<&str>) -> (String, Option<String>) {
    match (kind.split_once('/'), name) {
        (Some((kind, name)), None) => (kind.to_owned(), Some(name.to_owned())),
        _ => (kind.to_owned(), name.map(str::to_owned)),
    }
}
